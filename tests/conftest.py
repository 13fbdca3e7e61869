"""What all tests share: the order of the files, and one small analysis before the first test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import aiops_lab as lab
from aiops_lab import numerics
from aiops_lab.results import ANOMALY_KINDS
from tests.support.made import Shop, fault

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then the lessons, then all others; their tests keep theirs."""
    items.sort(key=lambda item: _place(item.path))


def _place(path: Path) -> int:
    if path.name in LONGEST:
        return LONGEST.index(path.name)
    return len(LONGEST) + (path.suffix != ".ipynb")


MUCH = 10**9  # values, more than any function takes as plain Python


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    """What is compiled after some work is so now, and not while a client waits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numerics, "_values_in", lambda arguments: MUCH)
        (incident,) = lab.replay(Shop(1, fault("/payment", 40, 60, status=500)).run(70)).incidents
    assert incident.root_cause.endpoint == "/payment"


@pytest.fixture(autouse=True)
def _own_kinds(_compiled: None) -> Iterator[None]:
    """What a detector of a test registers is gone after it."""
    before = dict(ANOMALY_KINDS)
    yield
    ANOMALY_KINDS.clear()
    ANOMALY_KINDS.update(before)
