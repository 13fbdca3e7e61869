"""NAB's score on series counted by hand, and against a slow reading of its protocol."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import _nab
from tests.support import naive


def row_scores(rows: int, alarms: dict[int, float]) -> np.ndarray:
    scores = np.zeros(rows)
    for row, score in alarms.items():
        scores[row] = score
    return scores


def standard(scores: np.ndarray, *windows: tuple[int, int], threshold: float = 0.5) -> float:
    return _nab.at([(scores, windows)], threshold)["standard"].score


# 20 rows, of which the first three are not scored; a window of four rows, 8 to 11


def test_the_first_row_of_each_window_alone_is_perfect() -> None:
    series = [(row_scores(20, {8: 1.0, 15: 1.0}), [(8, 11), (15, 16)]), (np.zeros(20), [])]
    for score in _nab.best(series).values():
        assert score == (100.0, 1.0, 2, 2, 0, 11 - 0 + 17)


def test_never_to_alarm_is_nought() -> None:
    for score in _nab.at([(np.zeros(20), [(8, 11)])], 0.5).values():
        assert score == (0.0, 0.5, 0, 1, 0, 13)


@pytest.mark.parametrize(("row", "left"), [(8, 4), (9, 3), (10, 2), (11, 1)])
def test_a_later_alarm_earns_less(row: int, left: int) -> None:
    worth = math.tanh(2.5 * left / 4) / math.tanh(2.5)
    assert standard(row_scores(20, {row: 1}), (8, 11)) == pytest.approx(100 * (worth + 1) / 2)


def test_only_the_earliest_alarm_of_a_window_counts() -> None:
    assert standard(row_scores(20, {9: 1, 10: 1, 11: 1}), (8, 11)) == standard(
        row_scores(20, {9: 1}), (8, 11)
    )


@pytest.mark.parametrize(
    ("row", "cost"),
    [
        (7, 1.0),
        (3, 1.0),
        (12, math.tanh(2.5 / 3)),
        (14, math.tanh(2.5)),
        (20, math.tanh(7.5)),
        (21, 1.0),
        (24, 1.0),
    ],
)
def test_a_false_alarm_costs_more_the_farther_it_is_behind_a_window(row: int, cost: float) -> None:
    # found at its first row, less the false alarm; the window's length is 3, so row 20 is just
    # three lengths behind
    score = standard(row_scores(25, {8: 1, row: 1}), (8, 11))
    assert score == pytest.approx(100 * (1 - 0.11 * cost + 1) / 2, abs=1e-12)


def test_a_false_alarm_is_measured_from_the_last_window_before_it() -> None:
    alone = standard(row_scores(25, {8: 1, 14: 1, 16: 1}), (8, 11), (14, 15))
    assert alone == pytest.approx(100 * (2 - 0.11 * math.tanh(2.5) + 2) / 4)


def test_behind_a_window_of_one_row_every_false_alarm_costs_in_full() -> None:
    assert standard(row_scores(20, {8: 1, 9: 1}), (8, 8)) == pytest.approx(100 * (1 - 0.11 + 1) / 2)


def test_the_first_rows_are_not_scored_windows_included() -> None:
    scores = row_scores(20, {0: 1, 1: 1, 2: 1, 8: 1})
    assert _nab.at([(scores, [(1, 2), (8, 11)])], 0.5)["standard"] == (100.0, 0.5, 1, 1, 0, 13)


def test_no_more_than_750_rows_go_unscored() -> None:
    score = _nab.at([(row_scores(10_000, {749: 1, 750: 1}), [(800, 803)])], 0.5)["standard"]
    assert (score.false_alarms, score.usual_rows) == (1, 10_000 - 750 - 4)


def test_rows_with_the_same_score_alarm_together() -> None:
    # at 0.9 there is one false alarm and nothing found; at 0.7 the window, at the price of three
    # false alarms
    scores = row_scores(20, {3: 0.9, 4: 0.7, 5: 0.7, 8: 0.7})
    best = _nab.best([(scores, [(8, 11)])])
    assert best["standard"].threshold == 0.7
    assert best["standard"].score == pytest.approx(100 * (1 - 0.33 + 1) / 2)
    assert best["low_FP"].score == pytest.approx(100 * (1 - 0.66 + 1) / 2)
    assert best["low_FN"].score == pytest.approx(100 * (1 - 0.33 + 2) / 3)


def test_where_alarms_only_cost_it_is_best_never_to_alarm() -> None:
    scores = row_scores(200, dict.fromkeys(range(30, 100), 1.0))
    assert _nab.best([(scores, [(150, 160)])])["standard"] == (0.0, math.inf, 0, 1, 0, 159)


def test_one_threshold_serves_all_files() -> None:
    found = (row_scores(20, {8: 0.6}), [(8, 11)])
    noisy = (row_scores(20, {3: 0.8, 4: 0.8}), [])
    assert _nab.best([found, noisy])["standard"].score == pytest.approx(100 * (1 - 0.22 + 1) / 2)


@st.composite
def files(draw: st.DrawFn):
    rows = draw(st.integers(4, 40))
    scores = draw(
        st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=rows, max_size=rows)
    )
    limits = sorted(draw(st.sets(st.integers(0, rows - 1), max_size=6)))
    windows = list(zip(limits[::2], limits[1::2], strict=False))
    return np.array(scores), [*windows, *([(limits[-1], limits[-1])] if len(limits) % 2 else [])]


@settings(max_examples=200, deadline=None)
@given(st.lists(files(), min_size=1, max_size=4))
def test_the_score_is_that_of_the_slow_reading(series) -> None:
    if not any(
        last >= int(0.15 * len(scores)) for scores, windows in series for _, last in windows
    ):
        with pytest.raises(ValueError, match="at least one window"):
            _nab.best(series)
        return
    thresholds = [math.inf, *np.unique(np.concatenate([scores for scores, _ in series]))]
    best = _nab.best(series)
    for name, profile in _nab.PROFILES.items():
        slow = {threshold: naive.nab_score(series, threshold, *profile) for threshold in thresholds}
        for threshold in thresholds:
            assert _nab.at(series, threshold)[name].score == pytest.approx(
                slow[threshold], abs=1e-9
            )
        assert best[name].score == pytest.approx(max(slow.values()), abs=1e-9)
        assert slow[best[name].threshold] == pytest.approx(max(slow.values()), abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "windows", "words"),
    [
        ([0.0, math.nan, 0.0], [(1, 1)], "finite, got nan"),
        ([0.0] * 9, [(5, 9)], "within 9 rows"),
        ([0.0] * 9, [(5, 4)], "in order"),
        ([0.0] * 9, [(5, 6), (6, 7)], "in order"),
        ([0.0] * 9, [], "at least one window"),
    ],
)
def test_what_cannot_be_scored_is_an_error(scores, windows, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _nab.best([(scores, windows)])


def test_no_files_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one window"):
        _nab.best([])
