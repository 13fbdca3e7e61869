"""The lessons are whole and are really compared: an unexecuted notebook passes nbval, so this looks
closer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.support.scripts import ROOT, script

LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 700_000

execute = script("execute")


def complaints(path: Path) -> list[str]:
    """What is wrong with a saved notebook; an empty list is good."""
    notebook = nbformat.v4.reads(path.read_text("utf-8"))  # as it is: nbformat.read would repair it
    found = [] if path.stat().st_size < MOST_BYTES else [f"larger than {MOST_BYTES} bytes"]
    if notebook.nbformat != 4 or notebook.nbformat_minor < 5:
        return [*found, "older than nbformat 4.5: its cells have no ids"]
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not python3")
    if "widgets" in notebook.metadata:
        found.append("stores widget state")
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        found.append("a cell has no id of its own")
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("was not run once from top to bottom")
    return found + [complaint for cell in notebook.cells for complaint in _cell_complaints(cell)]


def _cell_complaints(cell: NotebookNode) -> list[str]:
    found = [f"cell {cell.id} stores execution times"] if "execution" in cell.metadata else []
    errors = any(output.output_type == "error" for output in cell.get("outputs", []))
    if errors and "raises-exception" not in cell.metadata.get("tags", []):
        found.append(f"cell {cell.id} ends with an error")
    return found


def nbval(*paths: Path) -> subprocess.CompletedProcess[str]:
    """Compare some notebooks with what they print, in one process, as a start takes seconds."""
    flags = [
        *("-p", "tests.support.nbval_start"),
        "--nbval",
        "--nbval-current-env",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    config = ROOT / "notebooks" / "sanitize.cfg"
    files = [str(path) for path in paths]
    command = [sys.executable, "-m", "pytest", *flags, f"--nbval-sanitize-with={config}", *files]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=clean, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small notebook, run and saved by the script; its text."""
    path = tmp_path_factory.mktemp("lesson") / "lesson.ipynb"
    cells = [
        new_markdown_cell("# How much is it?", id="title"),
        new_code_cell("20 + 22", id="answer"),
        new_code_cell("print('at 127.0.0.1:5000, 2026-01-01T10:00:00Z')", id="noise"),
        new_code_cell(
            "raise ValueError('so')", id="raises", metadata={"tags": ["raises-exception"]}
        ),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    execute.execute(path)
    return path.read_text("utf-8")


def written(folder: Path, text: str) -> Path:
    path = folder / "lesson.ipynb"
    path.write_text(text, "utf-8")
    return path


def changed(text: str, change: Callable[[NotebookNode], object]) -> str:
    notebook = nbformat.v4.reads(text)
    change(notebook)
    return nbformat.v4.writes(notebook)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_whole(path: Path) -> None:
    assert complaints(path) == []


def test_a_notebook_that_the_script_saved_is_whole(saved: str, tmp_path: Path) -> None:
    assert complaints(written(tmp_path, saved)) == []
    assert [cell.id for cell in nbformat.reads(saved, 4).cells] == [
        "title",
        "answer",
        "noise",
        "raises",
    ]


def test_a_second_run_saves_the_same_bytes(saved: str, tmp_path: Path) -> None:
    path = written(tmp_path, saved)
    execute.execute(path)
    assert path.read_text("utf-8") == saved


def test_a_cell_that_raises_stops_the_run_and_saves_nothing(saved: str, tmp_path: Path) -> None:
    text = changed(saved, lambda n: n.cells[3].metadata.clear())
    path = written(tmp_path, text)
    with pytest.raises(CellExecutionError, match="ValueError"):
        execute.execute(path)
    assert path.read_text("utf-8") == text


WRONGS: dict[str, Callable[[NotebookNode], object]] = {
    "was not run once from top to bottom": lambda n: n.cells[1].update(
        execution_count=None, outputs=[]
    ),
    "cell raises ends with an error": lambda n: n.cells[3].metadata.clear(),
    "cell answer stores execution times": lambda n: n.cells[1].metadata.update(
        execution={"x": "y"}
    ),
    "its kernel is not python3": lambda n: n.metadata.kernelspec.update(name="conda-env-py"),
    "stores widget state": lambda n: n.metadata.update(widgets={}),
    "a cell has no id of its own": lambda n: n.cells[1].update(id="title"),
    f"larger than {MOST_BYTES} bytes": lambda n: n.cells[0].update(source="x" * MOST_BYTES),
}


@pytest.mark.parametrize("complaint", WRONGS)
def test_a_notebook_that_is_not_whole_is_refused(
    complaint: str, saved: str, tmp_path: Path
) -> None:
    assert complaints(written(tmp_path, changed(saved, WRONGS[complaint]))) == [complaint]


def test_a_file_that_is_missing_is_named_in_one_line() -> None:
    command = [sys.executable, str(ROOT / "notebooks" / "execute.py"), "02_normal.ipynb"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert "there is no notebook 02_normal.ipynb" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_the_lessons_that_the_texts_name_exist() -> None:
    named = re.findall(r"execute\.py (\S+\.ipynb)", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert named
    assert all((ROOT / "notebooks" / name).is_file() for name in named)


def test_doubled_and_missing_ids_are_made_from_the_text() -> None:
    notebook = new_notebook(
        cells=[new_code_cell("1", id="a"), new_code_cell("2"), new_code_cell("3")]
    )
    notebook.cells[1]["id"] = "a"
    del notebook.cells[2]["id"]
    execute.tidy(notebook)
    first = [cell.id for cell in notebook.cells]
    execute.tidy(notebook)
    assert first[0] == "a"
    assert len(set(first)) == 3
    assert [cell.id for cell in notebook.cells] == first


def test_the_script_takes_out_what_an_editor_left() -> None:
    notebook = new_notebook(
        cells=[new_code_cell("1", metadata={"execution": {"x": "y"}, "tags": ["hint"]})]
    )
    notebook.metadata.update(widgets={}, language_info={"version": "3.12.1"})
    execute.tidy(notebook)
    assert notebook.cells[0].metadata == {"tags": ["hint"]}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info


def test_of_a_widget_the_text_is_kept_and_of_a_figure_the_text_is_copied() -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "Guess"}
    alt = {"image/png": {"alt": "A line."}}
    outputs = [
        nbformat.v4.new_output("display_data", widget),
        nbformat.v4.new_output("display_data", {"image/png": "x"}, metadata=alt),
    ]
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[each]) for each in outputs])
    execute.tidy(notebook)
    shown, drawn = notebook.cells
    assert shown.outputs[0].data == {"text/plain": "Guess"}
    assert drawn.metadata == {"mystnb": {"image": {"alt": "A line."}}}


def test_what_may_differ_passes_nbval_and_one_corrupted_number_fails(
    saved: str, tmp_path: Path
) -> None:
    assert '"42"' in saved
    texts = {
        "later": saved.replace("127.0.0.1:5000, 2026-01-01T10", "127.0.0.1:41234, 2027-05-05T11"),
        "corrupted": saved.replace('"42"', '"43"'),
    }
    assert saved not in texts.values()
    for name, text in texts.items():
        (tmp_path / f"{name}.ipynb").write_text(text, "utf-8")
    run = nbval(*tmp_path.glob("*.ipynb"))
    assert run.returncode == 1, run.stdout
    assert "1 failed, 5 passed" in run.stdout
    assert "'43' == '42'" in run.stdout


# ---- the map of the course

MAP = ROOT / "notebooks" / "README.md"
ROW = re.compile(
    r"^\| \[(\d\d)\]\(([^)]+)\) \| (.+?) \| .+ \| (\d+) \| ([a-z, ]+) \|$", re.MULTILINE
)
RUNS_ON = {
    "live": r"shop\.running\(",
    "virtual": r"\b(?:virtual|twin|stream|played|five_weeks)\(",
    "data": r"\.\./data/",
}


WORDS_A_MINUTE, LINES_A_MINUTE, FIGURES_A_MINUTE = 180, 10, 2
OFF_MINUTES = 5
"""How far a lesson's minutes may be from the estimate."""
SOLVED_BY_THE_READER = "14"


def estimated_minutes(path: Path) -> float:
    """How long a lesson takes up to its exercises: to read, to guess and to look."""
    cells = nbformat.read(path, 4).cells
    end = next(n for n, cell in enumerate(cells) if cell.source.startswith("## Exercises"))
    words = sum(len(c.source.split()) for c in cells[:end] if c.cell_type == "markdown")
    code = [cell for cell in cells[:end] if cell.cell_type == "code"]
    read = [cell.source for cell in code if "hide-input" not in cell.metadata.get("tags", [])]
    lines = sum(bool(line.strip()) for source in read for line in source.splitlines())
    guesses = sum(source.startswith("predict(") for source in read)
    figures = sum("image/png" in output.get("data", {}) for c in code for output in c.outputs)
    looking = guesses + figures / FIGURES_A_MINUTE
    return words / WORDS_A_MINUTE + lines / LINES_A_MINUTE + looking


def header(path: Path) -> tuple[int, set[str]]:
    """The minutes that a lesson promises, and what its code runs on."""
    cells = nbformat.read(path, 4).cells
    minutes = re.search(r"\*\*Time:?\*\*:? (\d+) minutes", cells[0].source)
    assert minutes, path.name
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return int(minutes[1]), {name for name, pattern in RUNS_ON.items() if re.search(pattern, code)}


def test_the_map_of_the_course_has_a_row_for_each_lesson_and_no_other() -> None:
    rows = ROW.findall(MAP.read_text("utf-8"))
    assert [name for _, name, *_ in rows] == [path.name for path in LESSONS]
    assert all(name.startswith(f"{number}_") for number, name, *_ in rows)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_map_says_what_the_lesson_says(path: Path) -> None:
    (row,) = [row for row in ROW.findall(MAP.read_text("utf-8")) if row[1] == path.name]
    title = nbformat.read(path, 4).cells[0].source.splitlines()[0]
    question = row[2].replace("`", "")
    assert question.lower() in title.replace("`", "").lower()
    assert question.endswith("?")
    assert (int(row[3]), set(row[4].split(", "))) == header(path)
    if path.name[:2] != SOLVED_BY_THE_READER:
        assert int(row[3]) == pytest.approx(estimated_minutes(path), abs=OFF_MINUTES)


def test_what_the_map_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)]+)\)", MAP.read_text("utf-8"))
    assert len(links) > len(LESSONS)
    assert all((MAP.parent / link).exists() for link in links)


GLOSSARY = ROOT / "notebooks" / "GLOSSARY.md"


def test_each_term_of_the_glossary_is_one_sentence_with_a_lesson_that_has_the_word() -> None:
    lines = [line for line in GLOSSARY.read_text("utf-8").splitlines() if line.startswith("- **")]
    assert len(lines) > 30
    for line in lines:
        assert re.fullmatch(r"- \*\*[^*]+\*\*: [^.]*( \(\[\d\d\]\([^)]+\)\))?\.", line), line
        term = re.findall(r"\*\*(.+?)\*\*", line)[0].split(",")[0]
        for name in re.findall(r"\]\(([^)]+)\)", line):
            assert term.lower() in words_of(GLOSSARY.parent / name), line


def words_of(path: Path) -> str:
    """The text of a lesson in small letters, without marks and line breaks."""
    text = " ".join(cell.source for cell in nbformat.read(path, 4).cells)
    return " ".join(text.replace("*", "").lower().split())
