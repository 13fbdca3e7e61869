"""What students get holds no solution, and what `make test` runs holds every one, in the kernel of
its lesson.
"""

from __future__ import annotations

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from shop.course import check_answer
from tests.support.scripts import script
from tests.test_notebooks import LESSONS, ROOT, execute, nbval

EXERCISES = """## Exercises

**1. Redo.** How much is 20 + 22?

<details><summary>Hint</summary>

Count with your fingers.
</details>

<details><summary>Solution</summary>

Two blocks:

```python
total = 20 + 22
```

and

```python
assert total == answer
```
</details>

**2. Research.** Why?

<details><summary>Hint</summary>Think.</details>
<details><summary>Solution</summary>

Nobody knows.
</details>
"""


copies = script("copies")
hosted = script("hosted")
graders = script("graders")


def lesson(exercises: str = EXERCISES) -> NotebookNode:
    cells = [
        new_code_cell("answer = 42\nanswer", id="answer"),
        new_markdown_cell(exercises, id="exercises"),
    ]
    return new_notebook(cells=[*cells, new_markdown_cell("Read next", id="next")])


def complaints(notebook: NotebookNode) -> list[str]:
    """What is wrong with a lesson's exercises; an empty list is good."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    exercises = [
        part for text in texts for part in re.split(r"^(?=\*\*\d\. )", text, flags=re.MULTILINE)[1:]
    ]
    found = [] if len(exercises) >= 3 else [f"{len(exercises)} exercises, three are promised"]
    for n, text in enumerate(exercises, 1):
        folds = re.findall(r"^<details><summary>(\w+)</summary>", text, flags=re.MULTILINE)
        if (
            folds != ["Hint", "Solution"]
            or text.count("</details>") != 2
            or len(copies.SOLUTION.findall(text)) != 1
        ):
            found.append(f"exercise {n} folds {folds}")
    blocks = sum(text.count("```python") for text in texts)
    runnable = sum(len(code) for cell in notebook.cells for code in copies.solutions(cell))
    return (
        found
        if blocks == runnable
        else [*found, f"{blocks - runnable} blocks of Python that nothing runs"]
    )


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_three_exercises_with_hint_and_solution(path: Path) -> None:
    assert complaints(nbformat.read(path, 4)) == []


def test_a_lesson_without_them_is_named() -> None:
    third = EXERCISES.replace("## Exercises", "").replace("**1. Redo.**", "**3. Vary.**")
    whole = EXERCISES + third.split("**2.")[0]
    assert complaints(lesson(whole)) == []
    assert complaints(lesson()) == ["2 exercises, three are promised"]
    assert complaints(lesson(whole.replace("<summary>Hint", "<summary>Help", 1))) == [
        "exercise 1 folds ['Help', 'Solution']"
    ]
    assert (
        complaints(lesson(whole.replace("Solution", "Answer", 1)))[0]
        == "exercise 1 folds ['Hint', 'Answer']"
    )
    assert complaints(lesson(whole + "\n```python\nlost = 1\n```")) == [
        "1 blocks of Python that nothing runs"
    ]


def test_students_get_hints_and_neither_solutions_nor_outputs() -> None:
    notebook = lesson()
    notebook.cells[0].update(
        execution_count=1, outputs=[nbformat.v4.new_output("stream", text="42")]
    )
    copies.without_solutions(notebook)
    text = notebook.cells[1].source
    assert text.startswith(
        "## Exercises\n\n**1. Redo.** How much is 20 + 22?\n\n<details><summary>Hint</summary>"
    )
    assert "Count with your fingers." in text
    assert text.endswith(
        "**2. Research.** Why?\n\n<details><summary>Hint</summary>Think.</details>\n"
    )
    assert all(word not in text for word in ("Solution", "total", "Two blocks", "Nobody"))
    assert (notebook.cells[0].outputs, notebook.cells[0].execution_count) == ([], None)


def test_the_lab_gets_the_map_and_lessons_without_outputs_and_keeps_what_somebody_wrote(
    tmp_path: Path, in_process
) -> None:
    worked_in = tmp_path / LESSONS[0].name
    worked_in.write_text("my notes", "utf-8")
    assert in_process("lab", tmp_path) == (0, "")
    assert worked_in.read_text("utf-8") == "my notes"
    assert (tmp_path / "README.md").read_text("utf-8").startswith("# The course")
    other = tmp_path / LESSONS[1].name
    assert "<summary>Solution" in other.read_text("utf-8")
    code = [cell for cell in nbformat.read(other, 4).cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code)
    links = re.findall(r"\]\(((?:\d\d_|GLOSS)[^)]+)\)", (tmp_path / "README.md").read_text("utf-8"))
    assert "GLOSSARY.md" in links
    assert all((tmp_path / link).exists() for link in links)


def test_outputs_stay_on_request() -> None:
    notebook = lesson()
    notebook.cells[0].update(
        execution_count=1, outputs=[nbformat.v4.new_output("stream", text="42")]
    )
    copies.without_solutions(notebook, outputs=True)
    assert notebook.cells[0].execution_count == 1
    assert notebook.cells[0].outputs[0].text == "42"


def test_each_block_of_a_solution_becomes_a_cell_behind_its_exercise() -> None:
    notebook = lesson()
    copies.with_solutions(notebook)
    assert [cell.id for cell in notebook.cells] == [
        "answer",
        "exercises",
        "exercises-1",
        "exercises-2",
        "next",
    ]
    assert [cell.source for cell in notebook.cells[2:4]] == [
        "total = 20 + 22",
        "assert total == answer",
    ]
    nbformat.validate(notebook)


def test_a_solution_that_raises_fails_nbval(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.ipynb", tmp_path / "wrong.ipynb"
    nbformat.write(lesson(), right)
    execute.execute(right)
    executed = nbformat.read(right, 4)
    for path, claim in {right: "total == answer", wrong: "total == answer + 1"}.items():
        notebook = deepcopy(executed)
        notebook.cells[1].source = EXERCISES.replace("total == answer", claim)
        copies.with_solutions(notebook)
        nbformat.write(notebook, path)
    run = nbval(right, wrong)
    assert run.returncode == 1, run.stdout
    assert "1 failed, 5 passed" in run.stdout
    assert "assert total == answer + 1" in run.stdout


def test_the_command_writes_every_lesson_for_students(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "class"
    line = [sys.executable, str(ROOT / "notebooks" / "copies.py"), "students", str(out)]
    run = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout.splitlines()[0]) == (0, f"{len(LESSONS)} lessons in {out}")
    assert "copy the project's data/ beside class/" in run.stdout
    assert sorted(path.name for path in out.iterdir()) == [path.name for path in LESSONS]
    for path in out.iterdir():
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        assert "Solution" not in path.read_text("utf-8")
        assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call what the command calls; return its exit code and what it wrote to stderr."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["copies.py", *map(str, arguments)])
        return copies.main(), capsys.readouterr().err

    return run


def test_the_command_overwrites_neither_the_lessons_nor_what_somebody_wrote(
    tmp_path: Path, in_process
) -> None:
    before = [path.read_bytes() for path in LESSONS]
    for folder in (
        ROOT / "notebooks",
        ROOT / "notebooks" / "copies",
        ROOT / "shop" / ".." / "notebooks",
    ):
        with pytest.raises(
            ValueError, match="out must not lie in notebooks/, where the lessons are, got "
        ):
            copies.copy_lessons(folder, copies.without_solutions, force=True)
    code, err = in_process("students", ROOT / "notebooks", "--force")
    assert (code, err[:35]) == (1, "copies.py: out must not lie in note")
    assert [path.read_bytes() for path in LESSONS] == before
    assert not (ROOT / "notebooks" / "copies").exists()

    worked_in = tmp_path / LESSONS[-1].name
    worked_in.write_text("my notes", "utf-8")
    code, err = in_process("students", tmp_path)
    assert (code, worked_in.read_text("utf-8")) == (1, "my notes")
    assert f"{worked_in} exists already" in err
    assert list(tmp_path.iterdir()) == [worked_in]
    assert in_process("students", tmp_path, "--force")[0] == 0
    assert worked_in.read_text("utf-8") != "my notes"


def test_the_command_says_what_it_can_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, code in {("students", "--help"): 0, ("teachers",): 2}.items():
        monkeypatch.setattr(sys, "argv", ["copies.py", *words])
        with pytest.raises(SystemExit) as ended:
            copies.main()
        assert ended.value.code == code
    told = capsys.readouterr().out
    assert all(word in told for word in ("--outputs", "--force", "students/"))


def test_a_hosted_copy_first_installs_what_it_needs(tmp_path: Path) -> None:
    cell = hosted.COLAB.format(repository="ann/lab")
    for path in hosted.copy_hosted(tmp_path, cell):
        code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert code[0].source == cell
        assert "begin()" in code[1].source
        assert not any(cell.outputs for cell in code)
    assert "https://github.com/ann/lab " in cell
    assert (tmp_path / hosted.FIRST).exists()


def test_badges_lead_to_a_repository_and_stand_in_the_readme() -> None:
    line = hosted.badges("ann/lab")
    assert "https://mybinder.org/v2/gh/ann/lab/HEAD" in line
    assert "https://ann.github.io/lab/lite/lab/index.html" in line
    assert "/github/ann/lab/blob/colab/00_a_shop" in line
    assert hosted.BETWEEN.search((ROOT / "README.md").read_text("utf-8"))
    with pytest.raises(ValueError, match="repository must be OWNER/NAME, got 'lab'"):
        hosted.badges("lab")


@pytest.mark.parametrize("kind", ["nbgrader", "otter"])
def test_graders_get_an_answer_and_a_mark_for_each_checked_exercise(
    kind: str, tmp_path: Path
) -> None:
    (path,) = [p for p in graders.export(kind, tmp_path) if p.name.startswith("02_")]
    text = path.read_text("utf-8")
    assert "Solution</summary>" not in text
    asked = graders.CHECK.findall("".join(c.source for c in nbformat.read(path, 4).cells))
    assert len(asked) == 4
    for question in asked:
        name = graders.variable(question)
        assert f"{name} = ..." in text
        assert name in (text if kind == "nbgrader" else marks_of(path.parent, name))


def marks_of(folder: Path, name: str) -> str:
    return (folder / "tests" / f"{name}.py").read_text("utf-8")


def test_what_marks_an_answer_is_true_where_it_is_right() -> None:
    code = graders.marked("02.12")
    told = {
        str(answer): eval(code, {"check_answer": check_answer, "answer_02_12": answer})
        for answer in ([5, 12], [12, 5])
    }
    assert told == {"[5, 12]": True, "[12, 5]": False}
