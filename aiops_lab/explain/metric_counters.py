"""Which metrics count since a start, and how much did they count in each interval?

A counter, such as ``http_requests_total``, only rises, and begins at 0 again when its process does.
Its level says how long that process has run; what it rose by says what happened.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.metric_frames import MetricColumn, Metrics

MIN_RISES = 5  # in a row: values that only scatter rise so once in 700 times
_COUNTER_NAME = re.compile(r"(?:^|[-_.])(?:total|count|counter)$", re.IGNORECASE)


def as_rises(usual: Metrics, now: Metrics) -> tuple[Metrics, Metrics]:
    """Return both with what each counter rose by in an interval instead of what it says.

    A counter is what is named one (total, count, counter) and rises in both tables, with a restart
    at less than half at times. The first interval of each table is not known.
    """
    counters = [column for column in usual.columns if _is_counter(column, usual, now)]
    if not counters:
        return usual, now
    return _with_rises(usual, counters), _with_rises(now, counters)


def _is_counter(column: MetricColumn, usual: Metrics, now: Metrics) -> bool:
    _, metric, _ = column
    if column not in now.arrays or not _COUNTER_NAME.search(metric):
        return False
    normal = _known(usual.arrays[column])
    steps = np.diff(normal)
    if (steps > 0).sum() < MIN_RISES:
        return False
    return _only_rises(normal) and _only_rises(_known(now.arrays[column]))


def _known(values: NDArray) -> NDArray:
    return values[~np.isnan(values)]


def _only_rises(values: NDArray) -> bool:
    """Return whether values never fall but to less than half."""
    before, after = values[:-1], values[1:]
    rises = after >= before
    restarts = (after >= 0) & (2 * after < before)
    return bool((rises | restarts).all() and 2 * restarts.sum() < len(values))


def _with_rises(metrics: Metrics, counters: list[MetricColumn]) -> Metrics:
    values = metrics.values.copy()
    arrays = dict(metrics.arrays)
    for column in counters:
        risen = rises_of(metrics.starts, metrics.arrays[column], metrics.step_s)
        arrays[column] = risen
        values[column] = risen
    return metrics._replace(values=values, arrays=arrays)


def rises_of(starts: NDArray, values: NDArray, step_s: float) -> NDArray:
    """Return by how much a counter rose in each interval; NaN in the first, and where it is NaN.

    What was counted over missing intervals is spread evenly over them.

    Examples
    --------
    >>> rises_of(np.arange(5.0), np.array([10.0, 12.0, 1.0, np.nan, 7.0]), 1.0)
    array([nan,  2.,  1., nan,  3.])
    """
    risen = np.full(values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    before, after = values[known[:-1]], values[known[1:]]
    counted = np.where(after >= before, after - before, after)
    steps = np.diff(starts[known]) / step_s
    risen[known[1:]] = counted / steps
    return risen
