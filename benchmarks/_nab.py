"""NAB's score: how good are anomaly scores where early alarms are worth more and false ones cost?
Small and exact.

Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA 2015, arXiv 1510.03336. A
row alarms when its score reaches a threshold; there is one threshold for all files and each
profile, the best one afterwards. Of a window only its best alarm counts, which is the earliest::

    row             0    1    2    3    4    5    6    7    8    9
    window                    [--------------]
    alarm earns               1.00 .97  .86  .56
    or costs        1    1                        .68  .93  .99  1.00

The window has W = 4 rows, its last one is r = 5. An alarm in it earns
tanh(2.5 (r - row + 1) / W) / tanh(2.5). One behind it is false and costs
tanh(2.5 (row - r) / (W - 1)), in units of A_FP: in full from three lengths W - 1 behind a window
on, and where no window came before. A window without an alarm costs A_FN. 0 is never to alarm, 100
is perfect. A difference of two points between two detectors is within the noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from aiops_lab.datasets.cases import unscored

STEEP = 2.5
FAR = 3.0  # window lengths behind a window where a false alarm costs in full

# a file's scores, its windows as (first row, last row)
Series = tuple[np.ndarray, Sequence[tuple[int, int]]]


class Profile(NamedTuple):
    """What a false alarm and a missed window cost; a window found at its first row earns 1."""

    false_alarm: float
    missed: float


PROFILES = {"standard": Profile(0.11, 1), "low_FP": Profile(0.22, 1), "low_FN": Profile(0.11, 2)}


class Score(NamedTuple):
    """What a threshold reaches. `threshold` is infinite where it is best never to alarm."""

    score: float
    threshold: float
    found: int  # windows with an alarm, of `windows`
    windows: int
    false_alarms: int  # alarms in `usual_rows`, the scored rows outside of all windows
    usual_rows: int


class _Gains(NamedTuple):
    """A scored row, by falling score: what it adds when the threshold falls to its score."""

    score: np.ndarray
    earns: np.ndarray  # more than the rows of its window that scored higher
    finds: np.ndarray  # 1 where it is the first of its window to alarm
    costs: np.ndarray  # as a false alarm, in units of A_FP
    outside: np.ndarray  # 1 outside of all windows


def best(series: Iterable[Series]) -> dict[str, Score]:
    """Return the best score of each profile, over all thresholds.

    Parameters
    ----------
    series : iterable of (scores, windows)
        Of each file, the score of each row in [0, 1] and the windows as (first row, last row), both
        included, in order. The first rows of a file (15 %, at most 750) are not scored, nor is a
        window that lies in them.

    Raises
    ------
    ValueError
        There is no window, a score is not finite, or a window lies outside of its file.
    """
    gains = _gains(series)
    # rows that score the same alarm together
    is_last = np.append(np.diff(gains.score) != 0, True)
    last = np.flatnonzero(is_last)
    return {name: _best(gains, last, profile) for name, profile in PROFILES.items()}


def at(series: Iterable[Series], threshold: float) -> dict[str, Score]:
    """Return what a given threshold reaches, by profile. Parameters and errors as of `best`."""
    gains = _gains(series)
    alarms = int(np.count_nonzero(gains.score >= threshold))
    return {name: _score(gains, alarms, threshold, profile) for name, profile in PROFILES.items()}


def by_file(
    series: Iterable[Series], threshold: float, profile: Profile
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each file adds to the score: 100 * gained.sum() / ((1 + profile.missed) *
    windows.sum()) is it.
    """
    gained = []
    windows = []
    for scores, marked in series:
        gains = _file(np.asarray(scores, dtype=float), list(marked))
        alarms = gains.score >= threshold
        worth = _worth(gains, profile)
        gained.append(worth[alarms].sum())
        windows.append(gains.finds.sum())
    return np.array(gained), np.array(windows)


def _worth(gains: _Gains, profile: Profile) -> np.ndarray:
    """Return what an alarm at each row adds to the score."""
    found = profile.missed * gains.finds
    false = profile.false_alarm * gains.costs
    return gains.earns + found - false


def _best(gains: _Gains, last: np.ndarray, profile: Profile) -> Score:
    total = np.cumsum(_worth(gains, profile))[last]
    if len(total) == 0 or total.max() <= 0:
        return _score(gains, 0, np.inf, profile)
    row = last[np.argmax(total)]
    return _score(gains, int(row) + 1, float(gains.score[row]), profile)


def _score(gains: _Gains, alarms: int, threshold: float, profile: Profile) -> Score:
    """Return the score of alarming at the first `alarms` rows of `gains`."""
    alarming = _Gains(*(column[:alarms] for column in gains))
    windows = int(gains.finds.sum())
    found = int(alarming.finds.sum())
    missed = profile.missed * (windows - found)
    false = profile.false_alarm * alarming.costs.sum()
    raw = alarming.earns.sum() - missed - false
    never = -profile.missed * windows
    score = 100 * (raw - never) / (windows - never)
    return Score(
        score=float(score),
        threshold=threshold,
        found=found,
        windows=windows,
        false_alarms=int(alarming.outside.sum()),
        usual_rows=int(gains.outside.sum()),
    )


def _gains(series: Iterable[Series]) -> _Gains:
    parts = [_file(np.asarray(scores, dtype=float), list(windows)) for scores, windows in series]
    if sum(part.finds.sum() for part in parts) == 0:
        raise ValueError("series must have at least one window that is scored")
    gains = _Gains(*map(np.concatenate, zip(*parts, strict=True)))
    order = np.argsort(-gains.score, kind="stable")
    return _Gains(*(column[order] for column in gains))


def _file(scores: np.ndarray, windows: list[tuple[int, int]]) -> _Gains:
    """Return the gains of a file's scored rows, in order of the rows."""
    for wrong in scores[~np.isfinite(scores)]:
        raise ValueError(f"scores must be finite, got {wrong}")
    n = len(scores)
    begin = unscored(n)
    rows = np.arange(n)
    gains = _Gains(scores, np.zeros(n), np.zeros(n), np.ones(n), np.ones(n))
    before = -1
    for first, last in windows:
        if not before < first <= last < n:
            rule = f"must be in order and within {n} rows"
            raise ValueError(f"windows {rule}, got {(first, last)}")
        before = last
        if last < begin:
            continue
        size = last - first + 1
        inside = rows[max(first, begin) : last + 1]
        behind = rows[last + 1 :]
        gains.outside[inside] = 0
        gains.costs[inside] = 0
        gains.costs[behind] = _cost_behind(behind - last, size)
        by_score = np.argsort(-scores[inside], kind="stable")
        falling = inside[by_score]
        earned = _earned(last - falling + 1, size)
        reached = np.maximum.accumulate(earned)
        gains.earns[falling] = np.diff(reached, prepend=0)
        gains.finds[falling[0]] = 1
    return _Gains(*(column[begin:] for column in gains))


def _earned(rows_left: np.ndarray, size: int) -> np.ndarray:
    return np.tanh(STEEP * rows_left / size) / np.tanh(STEEP)


def _cost_behind(behind: np.ndarray, size: int) -> np.ndarray:
    if size == 1:
        return np.ones(len(behind))  # no length to measure in: everything is far
    lengths = behind / (size - 1)
    return np.where(lengths > FAR, 1.0, np.tanh(STEEP * lengths))
