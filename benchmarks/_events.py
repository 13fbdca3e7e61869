"""Events of labelled series: which are found, and how many alarms are false? Small and exact.

A point alarms when its score reaches the threshold. An event is a run of labelled points, an alarm
a run of alarming points::

    row         0 1 2 3 4 5 6 7 8 9
    event             [-----]
    alarm         [-]       [---] [     one false alarm (row 2), one event found, one false (9)

An event is found when at least one of its points alarms; an alarm is false when none of its points
is labelled. Only the part behind the one for learning counts, and an event or alarm that reaches
into it begins there. F1 = 2 found / (found + false + events), over all series together; 0 where
nothing is found. There are no tolerances: an alarm a point after the event is false.

The archive of UCR has one event a series and asks for the highest score alone: right within
100 points of the event (the first of equal scores).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

NEAR = 100  # points, of UCR's archive

# scores of the scored part, and its labels as true or false
Series = tuple[np.ndarray, np.ndarray]


class Counts(NamedTuple):
    """What a threshold reaches."""

    found: int
    false: int
    events: int

    @property
    def f1(self) -> float:
        """2 found / (found + false + events)."""
        total = self.found + self.false + self.events
        return 2 * self.found / max(total, 1)


def labels(windows: Iterable[tuple[int, int]], rows: int) -> np.ndarray:
    """Return which of `rows` lie in a window (first row, last row)."""
    inside = np.zeros(rows, dtype=bool)
    for first, last in windows:
        inside[first : last + 1] = True
    return inside


def runs(alarms: np.ndarray) -> list[tuple[int, int]]:
    """Return (first row, last row) of each run of True."""
    padded = np.concatenate([[0], alarms.astype(int), [0]])
    steps = np.diff(padded)
    begins = np.flatnonzero(steps > 0)
    ends = np.flatnonzero(steps < 0) - 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def count(scores: np.ndarray, inside: np.ndarray, threshold: float) -> Counts:
    """Return the counts of one series."""
    alarms = scores >= threshold
    events = runs(inside)
    found = _touched(events, alarms)
    alarm_runs = runs(alarms)
    false = len(alarm_runs) - _touched(alarm_runs, inside)
    return Counts(found, false, len(events))


def _touched(spells: Iterable[tuple[int, int]], rows: np.ndarray) -> int:
    """Return how many spells have a row that is True."""
    return sum(bool(rows[first : last + 1].any()) for first, last in spells)


def by_series(series: Sequence[Series], threshold: float) -> np.ndarray:
    """Return the counts of each series, shape (series, 3)."""
    return np.array([count(scores, inside, threshold) for scores, inside in series])


def at(series: Sequence[Series], threshold: float) -> Counts:
    """Return the counts of all series."""
    total = by_series(series, threshold).sum(axis=0)
    return Counts(*total.tolist())


def best(series: Sequence[Series]) -> tuple[Counts, float]:
    """Return the counts with the highest F1 of 60 thresholds, and the threshold.

    The thresholds are quantiles of all scores, from 1 alarming point in 100,000 to 2 in 100.
    """
    every = np.concatenate([scores for scores, _ in series])
    alarming = np.geomspace(1e-5, 0.02, 60)
    thresholds = np.unique(np.quantile(every, 1 - alarming))
    thresholds = thresholds[thresholds > every.min()]
    if thresholds.size == 0:
        return at(series, np.inf), np.inf
    counts = [at(series, threshold) for threshold in thresholds]
    f1 = [each.f1 for each in counts]
    place = int(np.argmax(f1))
    return counts[place], float(thresholds[place])


def right(scores: np.ndarray, inside: np.ndarray) -> bool:
    """Return whether the highest score lies within 100 points of the event."""
    place = int(np.argmax(scores))
    first = max(place - NEAR, 0)
    around = inside[first : place + NEAR + 1]
    return bool(around.any())
