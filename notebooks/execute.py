"""Run the lessons from top to bottom and save them so that a second run changes as little as
possible.

    python notebooks/execute.py                      every lesson
    python notebooks/execute.py FILE …               these

Cell ids stay as they are (a missing or doubled one is made from its cell's text); execution times,
widget state and the exact version of Python are left out. A cell that raises stops the run, unless
it is tagged `raises-exception`; then nothing is saved.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

# as in copies.py: two seconds for a grammar that no notebook needs
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

HERE = Path(__file__).parent


def execute(path: Path, timeout: int = 120) -> None:
    """Run one notebook in its own folder and save it in place, with no guess of anybody's in it."""
    # nbformat.read would give doubled ids random new ones
    notebook = nbformat.v4.reads(path.read_text("utf-8"))
    tidy(notebook)
    NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute(env={**os.environ, "AIOPS_LAB_GUESSES": os.devnull})
    tidy(notebook)
    nbformat.validate(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave out what differs between two honest runs; give each cell an id of its own."""
    notebook.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)
    taken: set[str] = set()
    for cell in notebook.cells:
        cell.metadata = {
            k: v
            for k, v in cell.metadata.items()
            if k not in ("execution", "collapsed", "scrolled")
        }
        _copy_alt(cell)
        _drop_widgets(cell)
        cell["id"] = _own_id(cell, taken)
        taken.add(cell["id"])


def _copy_alt(cell: nbformat.NotebookNode) -> None:
    """Copy the text of a cell's figure to where the documentation site looks for it."""
    cell.metadata.pop("mystnb", None)
    for output in cell.get("outputs", []):
        alt = output.get("metadata", {}).get("image/png", {}).get("alt")
        if alt:
            cell.metadata["mystnb"] = {"image": {"alt": alt}}


def _drop_widgets(cell: nbformat.NotebookNode) -> None:
    """Leave a widget's text alone: without its kernel a page can only show that."""
    for output in cell.get("outputs", []):
        if "text/plain" in output.get("data", {}):
            output["data"].pop("application/vnd.jupyter.widget-view+json", None)


def _own_id(cell: nbformat.NotebookNode, taken: set[str]) -> str:
    own, text = cell.get("id"), cell.source
    while not own or own in taken:
        own = hashlib.sha256(text.encode()).hexdigest()[:8]
        text += " "
    return str(own)


def _lesson(name: str) -> Path:
    """Find a notebook from the current folder or from notebooks/; what is missing is an error of
    one line.
    """
    for path in (Path(name), HERE / name):
        if path.is_file():
            return path
    raise argparse.ArgumentTypeError(
        f"there is no notebook {name}, neither here nor in {HERE.name}/"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the lessons and save them with their outputs."
    )
    parser.add_argument(
        "notebook", nargs="*", type=_lesson, help="default: every lesson in notebooks/"
    )
    parser.add_argument(
        "--timeout", type=int, default=120, help="seconds a cell may take (default 120)"
    )
    arguments = parser.parse_args()
    for path in arguments.notebook or sorted(HERE.glob("*.ipynb")):
        began = time.monotonic()
        execute(path.resolve(), arguments.timeout)
        print(f"{path.name}: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
