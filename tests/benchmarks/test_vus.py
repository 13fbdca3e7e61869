"""VUS-PR by its authors' package: which series are asked, what each method's row holds."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from aiops_lab.datasets.cases import SeriesCase
from benchmarks import vus

THERE = importlib.util.find_spec("vus")


def case(name: str, rows: int, *windows: tuple[int, int]) -> SeriesCase:
    values = np.random.default_rng(rows).normal(size=rows)
    for first, last in windows:
        values[first : last + 1] += 9
    return SeriesCase(name, "g", windows, values, None, learning=50)


CASES = [
    case("long", 300, (200, 205)),
    case("short", 200, (100, 102), (150, 151)),
    case("known before", 120, (10, 20)),
    case("calm", 100),
]


def test_the_shortest_series_with_a_scored_anomaly_are_asked() -> None:
    assert [each.name for each in vus.some_of(CASES, 5)] == ["short", "long"]
    assert [each.name for each in vus.some_of(CASES, 1)] == ["short"]


def test_a_method_is_judged_on_the_scored_part_with_the_window_of_the_whole() -> None:
    asked = []

    def judge(scores: np.ndarray, labels: np.ndarray, window: int) -> float:
        asked.append((len(scores), int(labels.sum()), window))
        return len(asked) / 100

    made = vus.table(CASES[:2], judge, len).splitlines()
    assert asked[:2] == [(250, 6, 300), (150, 5, 200)]
    assert made[2] == "| anomaly_scores | 1.5 | 1.2 to 1.8 |"
    assert len(made) == 2 + len(vus.METHODS)


@pytest.mark.skipif(bool(THERE), reason="the package is installed")
def test_without_the_package_it_says_what_installs_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert vus.main([]) == 2
    assert "make peers installs it" in capsys.readouterr().err
