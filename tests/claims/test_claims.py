"""Would a wrong claim be noticed? On demand (`make test-claims`): wrong ones are planted in copies
of the lessons.

Each plant changes one thing, a threshold, a seed, a rule, a size or a stored number, and nbval has
to refuse the copy: by an output that differs or by an assertion at the lesson's end. The copies
without a plant have to pass, and they run with another hash seed and in another time zone than the
one in which the lessons were saved.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

from tests.test_copies import copies
from tests.test_notebooks import LESSONS, ROOT

pytestmark = pytest.mark.claims
# a quarter of an hour off the whole hours
ELSEWHERE = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu"}
HELD = ("Cell outputs differ", "AssertionError")


class Plant(NamedTuple):
    lesson: str
    what: str
    old: str
    new: str
    stored: bool = False  # in what a cell printed, not in its code


PLANTS = (
    Plant(
        "00",
        "another size",
        '("c", "b", "server", "/payment", 12, 57)',
        '("c", "b", "server", "/payment", 12, 52)',
    ),
    Plant(
        "01",
        "another header",
        "trace_id, parent_id, flags = header",
        "parent_id, trace_id, flags = header",
    ),
    Plant("02", "another half-life", "freeze, half_life=6)", "freeze, half_life=12)"),
    Plant(
        "02",
        "a stored number",
        "at the end usual is 479 ms",
        "at the end usual is 497 ms",
        stored=True,
    ),
    Plant("03", "another threshold", "n / (n + 3**2) for n", "n / (n + 2**2) for n"),
    Plant(
        "03",
        "another count",
        "lab.score(eager, faults, slack_s=0)",
        "lab.score(eager, faults, slack_s=60)",
    ),
    Plant(
        "04",
        "another seed",
        "graded(seed) for seed in steps((1, 2, 3)",
        "graded(seed) for seed in steps((4, 2, 3)",
    ),
    Plant("04", "another rule", '{"detectors": (latency_anomaly,)}', '{"detectors": (above(60),)}'),
    Plant("05", "another season", "**hourly, seasonal=seasonal)", "**hourly, seasonal=False)"),
    Plant(
        "06",
        "another correlation window",
        "found[0] - group[-1][0] <= 300",
        "found[0] - group[-1][0] <= 500",
    ),
    Plant(
        "06",
        "links without causes",
        "replayed(spans, pair, causes=True)",
        "replayed(spans, pair, causes=False)",
    ),
    Plant(
        "07",
        "a swapped rule",
        'z_of(usual, now, lambda frame: frame["duration_ms"])',
        "z_of(usual, now, lab.self_time)",
    ),
    Plant("08", "another clock", "(0, 24, 122, 142)", "(0, 24, 126, 146)"),
    Plant("09", "another size", "(80, 72, 70, 50)", "(80, 72, 68, 50)"),
    Plant("09", "other seeds", "(11, 12)", "(13, 14)"),
    Plant("10", "another count", "sixty(stopping=24)", "sixty(stopping=26)"),
    Plant("11", "another seed", '"slow parallel child"), seed=1', '"slow parallel child"), seed=2'),
    Plant("12", "another size", "slow(PAYMENT, 400), seed=1)", "slow(PAYMENT, 300), seed=1)"),
    Plant("12", "other seeds", "steps(range(40),", "steps(range(40, 80),"),
    Plant("13", "other runs to learn from", 'mine["seed"] < 30]', 'mine["seed"] < 40]'),
    Plant("13", "another limit", "speak_from = 1 - SILENT / WRONG", "speak_from = SILENT / WRONG"),
    Plant("14", "another threshold", "if score > 0.1]", "if score > 20]"),
    Plant("14", "another scenario", '"B": "fhetr"', '"B": "qrynl"'),
)


def lesson(number: str) -> Path:
    (path,) = [path for path in LESSONS if path.name.startswith(f"{number}_")]
    return path


def planted(plant: Plant, folder: Path) -> Path:
    """Write a copy of a lesson with one change; that changes nothing is an error."""
    notebook = nbformat.read(lesson(plant.lesson), 4)
    holders = [c for c in notebook.cells if c.cell_type == "code"]
    if plant.stored:
        holders = [output for cell in holders for output in cell.outputs if "text" in output]
    key = "text" if plant.stored else "source"
    assert sum(holder[key].count(plant.old) for holder in holders) == 1, (
        f"{plant.old!r} does not stand there once"
    )
    for holder in holders:
        holder[key] = holder[key].replace(plant.old, plant.new)
    path = folder / lesson(plant.lesson).name
    nbformat.write(notebook, path)
    return path


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    config = ROOT / "notebooks" / "sanitize.cfg"
    flags = [
        "--nbval",
        "--nbval-current-env",
        f"--nbval-sanitize-with={config}",
        "--nbval-cell-timeout=120",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *flags,
        "-qx",
        "-p",
        "no:cacheprovider",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [*command, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean | ELSEWHERE,
        timeout=400,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as notebooks/ is: with the recordings beside it."""
    shutil.copytree(ROOT / "data", tmp_path / "data")
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.lesson}: {plant.what}")
def test_a_wrong_claim_is_noticed(plant: Plant, folder: Path) -> None:
    run = nbval(planted(plant, folder))
    assert run.returncode == 1, f"nobody noticed\n{run.stdout}"
    assert any(word in run.stdout for word in HELD), run.stdout


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_and_its_solutions_hold_with_another_hash_seed_and_elsewhere(
    path: Path, folder: Path
) -> None:
    notebook = nbformat.read(path, 4)
    copies.with_solutions(notebook)
    nbformat.write(notebook, folder / path.name)
    run = nbval(folder / path.name)
    assert run.returncode == 0, run.stdout


def test_a_plant_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="does not stand there once"):
        planted(Plant("02", "", "no such text", "x"), tmp_path)
