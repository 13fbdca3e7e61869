"""What all tests share: the order of the files, and one small analysis before the first test."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.doctest import DoctestModule

from aiops_lab.results import ANOMALY_KINDS
from tests.support.compiled import compile_a_replay

# Longest first: with several workers none is left at the end with a long file. Any order is right.
LONGEST = (
    "04_how_good_is_a_detector.ipynb",
    "14_capstone.ipynb",
    "12_twins.ipynb",
    "07_root_cause_time_and_structure.ipynb",
    "test_live.py",
    "test_commands.py",
    "06_from_anomalies_to_incidents.ipynb",
    "test_catalogue.py",
    "test_leaderboard.py",
    "test_clocks.py",
    "test_metrics.py",
    "test_forking.py",
    "test_virtual.py",
    "test_recordings.py",
    "test_nezha.py",
    "test_monitor.py",
    "test_diagnosis.py",
    "test_ranking.py",
    "test_golden.py",
    "test_copies.py",
    "test_turns.py",
    "test_names_from_outside.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Let each worker collect in another order: what one has compiled, the others only read."""
    gc.disable()  # until all is collected: nothing becomes garbage meanwhile
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    paths = [path for argument in config.args for path in _entries(argument)]
    number = int(worker["workerid"].removeprefix("gw"))
    first = len(paths) * number // worker["workercount"]
    config.args[:] = paths[first:] + paths[:first]


def _entries(argument: str) -> list[str]:
    """Return what lies in a folder, or what else was named."""
    folder = Path(argument)
    if not folder.is_dir():
        return [argument]
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() or _is_collected(path)]
    return [str(path) for path in inside if path.name != "__pycache__"]


def _is_collected(path: Path) -> bool:
    return path.suffix in (".py", ".ipynb")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for docstring examples in the packages only: the tests have none."""
    collectors = yield
    return [found for found in collectors if not isinstance(found, DoctestModule)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then the lessons, then all others; their tests keep theirs."""
    items.sort(key=lambda item: (_place(item.path), item.path))


def _place(path: Path) -> int:
    if path.name in LONGEST:
        return LONGEST.index(path.name)
    return len(LONGEST) + (path.suffix != ".ipynb")


def pytest_collection_finish() -> None:
    """Spare the garbage collector all that was collected: it lives as long as the tests."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)  # a young object seldom is garbage: look after many, not 700


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """What is compiled after some work is so now, and not while a client waits."""
    compile_a_replay()


@pytest.fixture(autouse=True)
def _own_kinds(_compiled: None) -> Iterator[None]:
    """What a detector of a test registers is gone after it."""
    before = dict(ANOMALY_KINDS)
    yield
    ANOMALY_KINDS.clear()
    ANOMALY_KINDS.update(before)
