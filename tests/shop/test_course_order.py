"""A missing name leads to the cell that makes it; what was stopped is told in a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from shop.course.order import ABOVE, STOPPED, missing_cell, names_of, tell_in
from shop.course.waiting import count_in

IMPORTS, MAKES, USES = "import math", "def half(x):\n    return x / 2", "half(math.pi)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a lesson of three cells and of another notebook, which one is in."""
    cells = [
        new_markdown_cell("# How much is half?"),
        new_code_cell(IMPORTS),
        new_markdown_cell("Some words.\n\n## By hand"),
        new_code_cell(MAKES),
        new_code_cell(USES),
        new_code_cell("half = 3"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01.ipynb")
    nbformat.write(new_notebook(cells=[new_code_cell("half = 1")]), tmp_path / "02.ipynb")
    (tmp_path / "03.ipynb").write_text("{", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    made = InteractiveShell()
    tell_in(made)
    yield made
    made.history_manager.end_session()


def test_the_cell_that_makes_the_name_is_named_with_its_heading(folder: Path) -> None:
    told = missing_cell("half", [IMPORTS, USES], folder)
    assert told.splitlines()[0].endswith("under “By hand”, which has not been run:")
    assert "    def half(x):" in told
    assert told.endswith(ABOVE)


@pytest.mark.parametrize(
    ("name", "ran"),
    [
        ("half", [IMPORTS, MAKES, USES]),
        ("third", [IMPORTS, USES]),
        ("half", [IMPORTS, "half(2)"]),
        ("half", []),
    ],
)
def test_nothing_is_told_where_no_cell_is_missing(name: str, ran: list[str], folder: Path) -> None:
    assert missing_cell(name, ran, folder) == ""


def test_nothing_is_told_where_there_is_no_lesson(tmp_path: Path) -> None:
    assert missing_cell("half", [USES], tmp_path) == ""


def test_names_are_those_made_outside_of_functions() -> None:
    made = names_of("import a.b, c as d\nfor e in f:\n    g = 1\ndef h(i):\n    j = 1")
    assert made == {"a", "d", "e", "g", "h"}
    assert names_of("%matplotlib inline") == set()


def test_a_name_error_in_a_lesson_says_which_cell_to_run(
    folder: Path, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell(IMPORTS, store_history=True)
    assert isinstance(shell.run_cell(USES, store_history=True).error_in_exec, NameError)
    told = capsys.readouterr()
    assert "name 'half' is not defined" in told.out
    assert "def half(x):" in told.err


def test_what_was_stopped_is_told_in_a_line(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell("raise KeyboardInterrupt", store_history=True)
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert capsys.readouterr() == ("", STOPPED + "\n")


def test_a_lesson_that_is_begun_twice_counts_its_seconds_once(shell: InteractiveShell) -> None:
    before = len(shell.events.callbacks["pre_run_cell"])
    count_in(shell)
    count_in(shell)
    assert len(shell.events.callbacks["pre_run_cell"]) == before + 1
