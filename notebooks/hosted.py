"""The lessons without an installation: copies for a browser and for Colab, and badges.

    python notebooks/hosted.py lite OUT                copies for JupyterLite, as `make lite` uses
    python notebooks/hosted.py colab OUT OWNER/NAME    copies for Google Colab
    python notebooks/hosted.py badges OWNER/NAME       put the badges into README.md

A copy begins with a cell that installs what the lesson needs. It holds no outputs, but the folded
solutions. OWNER/NAME is the repository on GitHub; the copies for Colab belong on its branch
`colab`, the site on its pages: `.github/workflows/pages.yml` does both.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import copies  # noqa: E402
from nbformat import NotebookNode  # noqa: E402
from nbformat.v4 import new_code_cell  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]

LITE = """\
import sqlite3  # named here so that the browser fetches it

%pip install -q "aiops-lab[plots,shop]" ipywidgets"""

PYODIDE = {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}

COLAB = """\
import importlib.util

if importlib.util.find_spec("shop") is None:  # once: the package, and the data of the lessons
    !git clone -q --depth 1 https://github.com/{repository} aiops-lab
    %pip install -q "./aiops-lab[fast,plots,shop]" ipywidgets
    %cd -q aiops-lab/notebooks"""

FIRST = "00_a_shop_in_your_kernel.ipynb"

BADGES = {
    "Open in your browser": (
        "https://{owner}.github.io/{name}/lite/lab/index.html?path=lessons/README.md",
        "https://img.shields.io/badge/run-in%20your%20browser-f5a252",
    ),
    "Open in Binder": (
        "https://mybinder.org/v2/gh/{owner}/{name}/HEAD?urlpath=lab/tree/notebooks/README.md",
        "https://mybinder.org/badge_logo.svg",
    ),
    "Open in Colab": (
        f"https://colab.research.google.com/github/{{owner}}/{{name}}/blob/colab/{FIRST}",
        "https://colab.research.google.com/assets/colab-badge.svg",
    ),
}

BETWEEN = re.compile(r"(?<=<!-- badges -->).*?(?=<!-- end of badges -->)", re.DOTALL)


def badges(repository: str) -> str:
    """Return a line of Markdown: a badge for each place where the lessons run.

    Raises
    ------
    ValueError
        `repository` is not OWNER/NAME.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"repository must be OWNER/NAME, got {repository!r}")
    owner, name = repository.split("/")
    lines = [
        f"[![{title}]({picture})]({link.format(owner=owner, name=name)})"
        for title, (link, picture) in BADGES.items()
    ]
    return " ".join(lines)


def begin_with(notebook: NotebookNode, source: str) -> None:
    """Put a cell before the first code cell of a lesson, and take out what its cells printed."""
    copies.without_outputs(notebook)
    if source == LITE:
        notebook.metadata["kernelspec"] = PYODIDE
    kinds = [cell.cell_type for cell in notebook.cells]
    notebook.cells.insert(kinds.index("code"), new_code_cell(source, id="install"))


def copy_hosted(out: Path, source: str) -> list[Path]:
    """Write a copy of each lesson that begins with the cell `source`, with the map; return them."""
    written = copies.copy_lessons(out, lambda notebook: begin_with(notebook, source), force=True)
    copies.copy_map(out)
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description="Lessons that run without an installation.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    lite = kinds.add_parser("lite", help="copies for JupyterLite, with the data beside them")
    colab = kinds.add_parser("colab", help="copies for Google Colab")
    shown = kinds.add_parser("badges", help="put the badges into README.md")
    for kind in (lite, colab):
        kind.add_argument("out", type=Path)
    for kind in (colab, shown):
        kind.add_argument("repository", help="OWNER/NAME on GitHub")
    arguments = parser.parse_args()
    try:
        if arguments.kind == "lite":
            copy_hosted(arguments.out / "lessons", LITE)
            shutil.copytree(ROOT / "data", arguments.out / "data", dirs_exist_ok=True)
            return 0
        line = badges(arguments.repository)
        if arguments.kind == "colab":
            copy_hosted(arguments.out, COLAB.format(repository=arguments.repository))
            return 0
    except (ValueError, OSError) as error:
        print(f"hosted.py: {error}", file=sys.stderr)
        return 1
    readme = ROOT / "README.md"
    readme.write_text(BETWEEN.sub(line, readme.read_text("utf-8")), "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
