"""Copy the lessons: for students, without the solutions; or solved, with each solution as a cell
that runs.

    python notebooks/copies.py students          into students/: no solutions, no outputs
    python notebooks/copies.py students OUT      into a folder of your choice
    python notebooks/copies.py lab               into my_lessons/: what `make lab` opens, no outputs
    python notebooks/copies.py solved            into solved/: what `make test` runs

A copy for students keeps the hints and loses the outputs: "predict first" is idle where the answer
is already on the page. `--outputs` keeps them, for those who read without a kernel. A copy for the
lab keeps the folded solutions too, and the map of the course lies beside the lessons. The lessons
read `../data`, so a folder beside `notebooks/` needs nothing else; elsewhere, copy `data/` beside
it. Files that are there already are left alone unless you say `--force`: somebody may have worked
in them. `lab` adds what is missing, the other two then write nothing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

# jsonschema would compile a grammar of IRIs for two seconds; no schema of notebooks asks for it
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

import nbformat  # noqa: E402
from nbformat import NotebookNode  # noqa: E402

HERE = Path(__file__).resolve().parent
SOLUTION = re.compile(r"\n*<details><summary>Solution</summary>(.*?)</details>", re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def without_solutions(notebook: NotebookNode, outputs: bool = False) -> None:
    """Take the folded solutions out of a notebook, and what its cells printed unless `outputs` is
    true.
    """
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("", cell.source)
    if not outputs:
        without_outputs(notebook)


def without_outputs(notebook: NotebookNode) -> None:
    """Take out what the cells of a notebook printed."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)


def with_solutions(notebook: NotebookNode) -> None:
    """Put the code of each folded solution into a cell of its own, behind the text that holds it.

    The new cells have no execution count, so that nbval runs them and compares nothing: they must
    only not raise.
    """
    notebook.cells = [copy for cell in notebook.cells for copy in (cell, *_solved(cell))]


def solutions(cell: NotebookNode) -> list[list[str]]:
    """For each folded solution of a cell, its blocks of Python code; an empty list where it is
    prose only.
    """
    if cell.cell_type != "markdown":
        return []
    return [CODE.findall(text) for text in SOLUTION.findall(cell.source)]


def _solved(cell: NotebookNode) -> list[NotebookNode]:
    code = [block for blocks in solutions(cell) for block in blocks]
    return [
        nbformat.v4.new_code_cell(text.strip(), id=f"{cell.id}-{n}")
        for n, text in enumerate(code, 1)
    ]


def copy_lessons(
    out: Path, change: Callable[[NotebookNode], None], force: bool = False, add: bool = False
) -> list[Path]:
    """Write a changed copy of each lesson into the folder `out`; give their paths.

    With `add` copies that are there already stay as they are, without an error.

    Raises
    ------
    ValueError
        `out` is the lessons' own folder or lies in it.
    FileExistsError
        A copy is there already, and `force` and `add` are false; then nothing is written.
    """
    if out.resolve().is_relative_to(HERE):
        raise ValueError(f"out must not lie in {HERE.name}/, where the lessons are, got {out}")
    lessons = sorted(HERE.glob("*.ipynb"))
    there = [path.name for path in lessons if (out / path.name).exists()]
    if there and not force and not add:
        raise FileExistsError(f"{out / there[0]} exists already; --force overwrites it")
    out.mkdir(parents=True, exist_ok=True)
    for path in lessons:
        if path.name in there and not force:
            continue
        notebook = nbformat.v4.reads(path.read_text("utf-8"))
        change(notebook)
        nbformat.validate(notebook)
        (out / path.name).write_text(
            nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n"
        )
    return [out / path.name for path in lessons]


def copy_map(out: Path) -> None:
    """Copy the map of the course, its glossary and pictures; their links lead to the lessons."""
    for name in ("README.md", "GLOSSARY.md"):
        shutil.copy(HERE / name, out)
    shutil.copytree(HERE / "images", out / "images", dirs_exist_ok=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Copy the lessons, without their solutions or with them as cells."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    students = kinds.add_parser("students", help="no solutions and no outputs; hints stay")
    students.add_argument("--outputs", action="store_true", help="keep what the cells printed")
    lab = kinds.add_parser("lab", help="no outputs, and the map of the course; solutions stay")
    solved = kinds.add_parser(
        "solved", help="each solution's code as a cell behind its exercise; outputs stay"
    )
    folders = {"students": students, "my_lessons": lab, "solved": solved}
    for name, kind in folders.items():
        kind.add_argument(
            "out",
            nargs="?",
            type=Path,
            default=HERE.parent / name,
            help=f"a folder (default {name}/)",
        )
        kind.add_argument(
            "--force", action="store_true", help="overwrite copies that are there already"
        )
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()

    def for_students(notebook: NotebookNode) -> None:
        without_solutions(notebook, arguments.outputs)

    changes = {"students": for_students, "lab": without_outputs, "solved": with_solutions}
    is_lab = arguments.kind == "lab"
    try:
        change = changes[arguments.kind]
        written = copy_lessons(arguments.out, change, arguments.force, add=is_lab)
        if is_lab:
            copy_map(arguments.out)
    except (ValueError, OSError) as error:
        print(f"copies.py: {error}", file=sys.stderr)
        return 1
    print(f"{len(written)} lessons in {arguments.out}")
    if not (arguments.out.resolve().parent / "data").is_dir():
        print(f"they read ../data: copy the project's data/ beside {arguments.out.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
