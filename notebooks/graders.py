"""The checked exercises for the graders that courses use: nbgrader and Otter.

    python notebooks/graders.py nbgrader OUT    a course: OUT/source/02_normal_baselines/….ipynb
    python notebooks/graders.py otter OUT       OUT/02_normal_baselines/: the notebook, and tests/

A cell ``check_answer("02.11", ...)`` becomes one for the student, ``answer_02_11 = ...``, and one
that marks it: a point where `check_answer` says that it is right. Hints stay, solutions and outputs
go. No answer stands in these files; whoever marks needs the package. Exercises without a check are
for people to mark.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import copies  # noqa: E402
import nbformat  # noqa: E402
from nbformat import NotebookNode  # noqa: E402
from nbformat.v4 import new_code_cell  # noqa: E402

CHECK = re.compile(r'check_answer\("(\d\d\.\d+)", \.\.\.\)')
POINTS = 1

NBGRADER_SCHEMA = 3  # of its metadata

NBGRADER_CONFIG = """\
c = get_config()
c.CourseDirectory.course_id = "aiops-lab"
c.ClearSolutions.code_stub = {"python": "# put your answer in place of the dots"}
"""

OTTER_TEST = """\
OK_FORMAT = True

test = {{
    "name": "{name}",
    "points": {points},
    "suites": [{{"cases": [{{"code": ">>> bool({marked})\\nTrue"}}], "type": "doctest"}}],
}}
"""


def variable(question: str) -> str:
    """Return the name that holds a student's answer: ``answer_02_10`` for ``02.10``."""
    return f"answer_{question.replace('.', '_')}"


def marked(question: str) -> str:
    """Return the expression that is true where the student's answer is right."""
    return f"check_answer('{question}', {variable(question)}).right"


def for_nbgrader(notebook: NotebookNode) -> None:
    """Make of each check a cell that nbgrader empties for students, and one that it marks."""
    copies.without_solutions(notebook)
    cells = (made for cell in notebook.cells for made in _nbgrader_cells(cell))
    notebook.cells = list(cells)


def _nbgrader_cells(cell: NotebookNode) -> Iterator[NotebookNode]:
    found = CHECK.fullmatch(cell.source.strip())
    yield cell
    if not found:
        return
    question = found[1]
    name = variable(question)
    emptied = "### BEGIN SOLUTION\n### END SOLUTION"
    yield _graded(f"{name} = ...\n{emptied}", name, solution=True)
    yield _graded(f"assert {marked(question)}", f"test_{name}", solution=False)


def _graded(source: str, name: str, solution: bool) -> NotebookNode:
    about = {"grade_id": name, "schema_version": NBGRADER_SCHEMA, "cell_type": "code"}
    about |= {"solution": solution, "grade": not solution, "locked": not solution, "task": False}
    if not solution:
        about["points"] = POINTS
    return new_code_cell(source, id=name.replace("_", "-"), metadata={"nbgrader": about})


def for_otter(notebook: NotebookNode) -> dict[str, str]:
    """Add cells for the answers, and one that checks each; return the test files by name."""
    copies.without_solutions(notebook)
    tests = {}
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        found = CHECK.fullmatch(cell.source.strip())
        if not found:
            continue
        question = found[1]
        name = variable(question)
        tests[f"{name}.py"] = OTTER_TEST.format(name=name, points=POINTS, marked=marked(question))
        cells.append(new_code_cell(f"{name} = ...  # your answer", id=name.replace("_", "-")))
        check = f'import otter\n\notter.Notebook(tests_dir="tests").check("{name}")'
        cells.append(new_code_cell(check, id=f"check-{name.replace('_', '-')}"))
    notebook.cells = cells
    return tests


def export(kind: str, out: Path) -> list[Path]:
    """Write every lesson for one of the graders into the folder `out`; return the notebooks."""
    out.mkdir(parents=True, exist_ok=True)
    if kind == "nbgrader":
        (out / "nbgrader_config.py").write_text(NBGRADER_CONFIG, "utf-8")
    written = []
    for path in sorted(copies.HERE.glob("*.ipynb")):
        folder = (out / "source" if kind == "nbgrader" else out) / path.stem
        notebook = nbformat.v4.reads(path.read_text("utf-8"))
        tests = for_otter(notebook) if kind == "otter" else for_nbgrader(notebook) or {}
        nbformat.validate(notebook)
        (folder / "tests" if tests else folder).mkdir(parents=True, exist_ok=True)
        for name, text in tests.items():
            (folder / "tests" / name).write_text(text, "utf-8")
        written.append(folder / path.name)
        written[-1].write_text(nbformat.writes(notebook) + "\n", "utf-8", newline="\n")
    return written


def main() -> int:
    parser = argparse.ArgumentParser(description="The checked exercises for nbgrader and Otter.")
    parser.add_argument("kind", choices=["nbgrader", "otter"])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    print(f"{len(export(arguments.kind, arguments.out))} lessons in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
