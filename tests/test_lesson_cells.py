"""Cells are short, prompts hide their answer, figures have a text: in the lessons that are done."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from shop.course.questions import questions
from tests.test_notebooks import LESSONS

NOT_YET: tuple[str, ...] = ()
"""Lessons that have still to be brought to these rules; no lesson is added here."""

TEXTS_NOT_YET: tuple[str, ...] = ()
"""Lessons whose figures behind a prompt have still to be folded; no lesson is added here."""

MOST_LINES = 8
MEDIAN_LINES = 3
LEARNED = 5
FOLDED = {"hide-cell", "hide-output"}
TITLE = re.compile(r"<details><summary>After your guess(?:es)?: ")

ASKS = re.compile(r'\b(?:predict|check_answer)\("(\d\d\.\d+)", \.\.\.\)')
DONE = [path for path in LESSONS if path.name[:2] not in NOT_YET]


def complaints(notebook: NotebookNode, number: str) -> list[str]:
    """What breaks a rule in a lesson; an empty list is good."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    lengths = [lines(cell) for cell in code]
    found = [
        f"{cell.id} has {n} lines" for cell, n in zip(code, lengths, strict=True) if n > MOST_LINES
    ]
    if statistics.median(lengths) > MEDIAN_LINES:
        found.append(f"cells have a median of {statistics.median(lengths):g} lines")
    found += _prompts(notebook) + _titles(notebook) + _folds(code) + _figures(code)
    if number not in TEXTS_NOT_YET:
        found += _texts(notebook)
    asked = [name for cell in code for name in ASKS.findall(cell.source)]
    mine = [name for name in questions() if name.startswith(number)]
    if asked != mine:
        found.append(f"asks {asked}, its questions are {mine}")
    return found + _end(notebook)


def lines(cell: NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def _prompts(notebook: NotebookNode) -> list[str]:
    """Between a prompt and the folded text that reads the answer, what is printed is folded."""
    found = []
    open_prompt = False
    for cell in notebook.cells:
        tags = FOLDED.intersection(cell.metadata.get("tags", []))
        if cell.source.startswith("predict("):
            open_prompt = True
        elif cell.source.startswith("<details><summary>After your guess"):
            open_prompt = False
        elif open_prompt and cell.cell_type == "code" and cell.outputs and not tags:
            found.append(f"{cell.id} shows an answer")
        elif open_prompt and cell.source.startswith("## "):
            found.append(f"{cell.id} begins before the answer has been read")
            open_prompt = False
    return found


def _texts(notebook: NotebookNode) -> list[str]:
    """A figure's text says in the source what is seen: behind a prompt the source is folded too."""
    found = []
    open_prompt = False
    for cell in notebook.cells:
        if cell.source.startswith("predict("):
            open_prompt = True
        elif cell.source.startswith(("<details><summary>After your guess", "## ")):
            open_prompt = False
        elif not open_prompt or "hide-cell" in cell.metadata.get("tags", []):
            continue
        elif "drawing.show(" in cell.source:
            found.append(f"{cell.id} says what its figure shows")
    return found


def _titles(notebook: NotebookNode) -> list[str]:
    """What is seen above a folded answer is seen before the guess: it holds no word of it."""
    return [f"{c.id} has a title above the answer" for c in notebook.cells if TITLE.match(c.source)]


def _folds(code: list[NotebookNode]) -> list[str]:
    """Assertions are folded, and what is folded in the book is folded in JupyterLab."""
    found = []
    for cell in code:
        tags = set(cell.metadata.get("tags", []))
        in_jupyter = bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        if cell.source.startswith("assert") and "hide-input" not in tags:
            found.append(f"{cell.id} asserts and is not folded")
        if in_jupyter != bool(tags & {"hide-input", "hide-cell"}):
            found.append(f"{cell.id} is not folded alike everywhere")
    return found


def _figures(code: list[NotebookNode]) -> list[str]:
    found = []
    for cell in code:
        for output in cell.outputs:
            if "image/png" not in output.get("data", {}):
                continue
            alt = output.metadata.get("image/png", {}).get("alt", "")
            if not alt or cell.metadata.get("mystnb", {}).get("image", {}).get("alt") != alt:
                found.append(f"{cell.id} has a figure without a text")
    return found


def _end(notebook: NotebookNode) -> list[str]:
    texts = [c.source for c in notebook.cells if c.source.startswith("## What you have learned")]
    points = [len(re.findall(r"^- ", text, re.MULTILINE)) for text in texts]
    return [] if points == [LEARNED] else [f"says in {points} points what was learned"]


@pytest.mark.parametrize("path", DONE, ids=lambda path: path.stem)
def test_a_lesson_that_is_done_keeps_the_rules(path: Path) -> None:
    notebook = nbformat.read(path, 4)
    assert complaints(notebook, path.name[:2]) == []
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "\nbegin()" in first.source  # before the imports, which take long


def test_the_list_of_lessons_to_do_names_lessons_that_exist_and_have_no_question() -> None:
    numbers = [path.name[:2] for path in LESSONS]
    assert set(NOT_YET) <= set(numbers)
    assert {name[:2] for name in questions()} <= set(numbers)


def small() -> NotebookNode:
    """A lesson that keeps the rules."""
    picture = new_output("display_data", {"image/png": "x"}, metadata={"image/png": {"alt": "x"}})
    five = new_output("stream", text="5")
    every = [name for name in questions() if name.startswith("00")]
    cells = [
        new_code_cell(f'predict("{every[0]}", ...)', id="asks"),
        new_code_cell("5", id="answers", metadata={"tags": ["hide-output"]}, outputs=[five]),
        new_markdown_cell("<details><summary>After your guess</summary>5</details>", id="reads"),
        new_code_cell("draw()", id="draws", outputs=[picture]),
        new_code_cell("assert 1", id="claims", metadata={"tags": ["hide-input"]}),
        *(new_code_cell(f'check_answer("{name}", ...)', id=f"c{name[3:]}") for name in every[1:]),
        new_markdown_cell("## What you have learned\n" + "\n- so" * 5, id="ends"),
    ]
    cells[3].metadata["mystnb"] = {"image": {"alt": "x"}}
    cells[4].metadata["jupyter"] = {"source_hidden": True}
    return new_notebook(cells=cells)


def longer(notebook: NotebookNode, by: int) -> None:
    for cell in notebook.cells[-9:-1]:
        cell.source += "\n1" * by


BREAKS: dict[str, Callable[[NotebookNode], object]] = {
    "draws has 9 lines": lambda n: n.cells[3].update(source="\n\n".join("123456789")),
    "cells have a median of 4 lines": lambda n: longer(n, 3),
    "answers shows an answer": lambda n: n.cells[1].metadata.clear(),
    "reads begins before the answer has been read": lambda n: n.cells[2].update(source="## So"),
    "answers says what its figure shows": lambda n: n.cells[1].update(source='drawing.show("5")'),
    "reads has a title above the answer": lambda n: n.cells[2].update(
        source="<details><summary>After your guess: 5</summary></details>"
    ),
    "claims is not folded alike everywhere": lambda n: n.cells[4].metadata.pop("jupyter"),
    "draws has a figure without a text": lambda n: n.cells[3].metadata.clear(),
    "says in [4] points what was learned": lambda n: n.cells[-1].update(
        source=n.cells[-1].source[:-5]
    ),
}


def test_a_small_lesson_keeps_the_rules() -> None:
    assert complaints(small(), "00") == []


@pytest.mark.parametrize("complaint", BREAKS)
def test_what_breaks_a_rule_is_named(complaint: str) -> None:
    notebook = small()
    BREAKS[complaint](notebook)
    assert complaints(notebook, "00") == [complaint]


def test_a_question_that_is_not_asked_is_named() -> None:
    notebook = small()
    notebook.cells.pop(5)
    assert complaints(notebook, "00")[0].startswith("asks ['00.1', '00.3',")
