"""How events of labelled series are counted: small cases by hand, and a slow count."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import _events

INSIDE = _events.labels([(3, 5)], 10)


def scores(*rows: int, size: int = 10) -> np.ndarray:
    given = np.zeros(size)
    given[list(rows)] = 0.5
    return given


@pytest.mark.parametrize(
    ("rows", "found", "false"),
    [
        ((), 0, 0),
        ((4,), 1, 0),
        ((3, 5), 1, 0),
        ((2, 6), 0, 2),
        ((2, 3), 1, 0),  # a run that reaches into the event
        ((0, 1, 7, 8, 9), 0, 2),
        ((0, 4, 9), 1, 2),
    ],
)
def test_events_are_found_and_runs_of_alarms_are_false(
    rows: tuple[int, ...], found: int, false: int
) -> None:
    assert _events.count(scores(*rows), INSIDE, 0.5) == (found, false, 1)
    assert _events.count(scores(*rows), INSIDE, 0.51) == (0, 0, 1)


def test_f1_is_over_all_series_together() -> None:
    series = [(scores(2, 4), INSIDE), (scores(0), INSIDE), (scores(), np.zeros(10, dtype=bool))]
    counts = _events.at(series, 0.5)
    assert counts == (1, 2, 2)
    assert counts.f1 == pytest.approx(2 / (1 + 2 + 2))
    assert _events.at([(scores(), np.zeros(10, dtype=bool))], 0.5).f1 == 0


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_a_slow_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alarms, inside = rng.uniform(size=(2, 300)) > 0.7
    events, false = [], 0
    for is_event, flags in ((True, inside), (False, alarms)):
        run: list[int] = []
        for row in range(301):
            if row < 300 and flags[row]:
                run.append(row)
            elif run:
                if is_event:
                    events.append(any(alarms[each] for each in run))
                else:
                    false += not any(inside[each] for each in run)
                run = []
    assert _events.count(alarms.astype(float), inside, 1.0) == (sum(events), false, len(events))


def test_the_best_threshold_is_no_worse_than_any_quantile() -> None:
    rng = np.random.default_rng(0)
    given = rng.uniform(size=5000)
    inside = _events.labels([(100, 120), (4000, 4010)], 5000)
    given[[110, 4005, 4006]] = 2.0
    counts, threshold = _events.best([(given, inside)])
    assert counts == (2, 0, 2)
    assert 1.0 < threshold <= 2.0
    assert _events.best([(np.zeros(50), np.zeros(50, dtype=bool))]) == ((0, 0, 0), np.inf)


@pytest.mark.parametrize(("row", "right"), [(399, False), (400, True), (604, True), (605, False)])
def test_the_highest_score_must_be_within_100_points(row: int, right: bool) -> None:
    assert _events.right(scores(row, size=1000), _events.labels([(500, 504)], 1000)) == right
