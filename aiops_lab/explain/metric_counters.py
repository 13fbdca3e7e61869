"""Which metrics count since a start, and how much did they count in each interval?

A counter, such as ``http_requests_total``, only rises, and begins at 0 again when its process does.
Its level says how long that process has run; what it rose by says what happened. Prometheus writes
a latency as such counters: ``duration_seconds_sum``, ``_count``, and a ``_bucket`` a limit.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.metric_columns import LATENCY, OTHER, MetricColumn
from aiops_lab.explain.metric_frames import Metrics

MIN_RISES = 5  # in a row: values that only scatter rise so once in 700 times
_COUNTER_NAME = re.compile(
    r"(?P<stem>.*?)(?:^|[-_.])"
    r"(?:(?P<part>total|count|counter|sum)|(?P<bucket>bucket)(?:[^a-z](?:[^a-z]|l?e|inf)*)?)",
    re.IGNORECASE | re.DOTALL,
)


class _Named(NamedTuple):
    """What the name of a column says: which counter of which metric, such as the sum of one."""

    node: str
    stem: str
    part: str


def as_rises(usual: Metrics, now: Metrics) -> tuple[Metrics, Metrics]:
    """Return both with what each counter rose by in an interval instead of what it says.

    A counter is what is named one (total, count, counter, sum, bucket) and rises in both tables,
    with a restart at less than half at times. A sum beside a count of the same metric becomes the
    mean of an interval, missing where nothing was counted; a sum without one tells no latency of a
    request. The first interval of each table is not known.
    """
    counts = _counts(usual, now)
    if not counts:
        return usual, now
    return _with_rises(usual, counts), _with_rises(now, counts)


def _counts(usual: Metrics, now: Metrics) -> dict[MetricColumn, MetricColumn | None]:
    """Return the counters; of a sum, the count that it is divided by."""
    names = {column: name for column in usual.columns if (name := _named(column))}
    both = [column for column in names if column in now.arrays]
    counters = {column for column in both if _is_counter(column, usual, now)}
    counted = {names[column]: column for column in counters}
    found: dict[MetricColumn, MetricColumn | None] = {}
    for column in both:
        name = names[column]
        count = counted.get(name._replace(part="count"))
        is_lone = column in counters and bool(_COUNTER_NAME.fullmatch(column[1]))
        is_of_count = name.part == "bucket" and count is not None
        if name.part == "sum" and count and _is_sum(column, count, usual, now):
            found[column] = count
            found.setdefault(count, None)
        elif is_lone or is_of_count:
            found[column] = None
    return found


def _named(column: MetricColumn) -> _Named | None:
    """Return what a name of a counter says.

    Examples
    --------
    >>> _named(("cart", "duration_seconds_sum", "value"))
    _Named(node='cart', stem='duration_seconds', part='sum')
    >>> _named(("cart", "duration_seconds_bucket", "0.5")).part
    'bucket'
    >>> _named(("cart", "duration_seconds", "count")).stem
    'duration_seconds'
    """
    node, metric, statistic = column
    found = _COUNTER_NAME.fullmatch(metric) or _COUNTER_NAME.fullmatch(f"{metric}_{statistic}")
    if not found:
        return None
    part = found["part"] or found["bucket"]
    return _Named(node, found["stem"].lower(), part.lower())


def _is_counter(column: MetricColumn, usual: Metrics, now: Metrics) -> bool:
    normal = _known(usual.arrays[column])
    steps = np.diff(normal)
    if (steps > 0).sum() < MIN_RISES:
        return False
    return _only_rises(normal) and _only_rises(_known(now.arrays[column]))


def _known(values: NDArray) -> NDArray:
    return values[~np.isnan(values)]


def _only_rises(values: NDArray) -> bool:
    """Return whether values never fall but to less than half."""
    before = values[:-1]
    after = values[1:]
    rises = after >= before
    is_low = 2 * after < before
    restarts = is_low & (after >= 0)
    explained = rises | restarts
    is_seldom = 2 * restarts.sum() < len(values)
    return bool(is_seldom and explained.all())


def _is_sum(column: MetricColumn, count: MetricColumn, usual: Metrics, now: Metrics) -> bool:
    """Return whether values never fall but where they or their count began again."""
    for metrics in (usual, now):
        sums = metrics.arrays[column]
        counts = metrics.arrays[count]
        is_unknown = np.isnan(sums) | np.isnan(counts)
        sums = sums[~is_unknown]
        counts = counts[~is_unknown]
        falls = np.diff(sums) < 0
        unexplained = falls & ~_begins(sums, counts)
        if unexplained.any():
            return False
    return True


def _begins(sums: NDArray, counts: NDArray) -> NDArray:
    """Return of each value but the first whether both began again at 0 before it."""
    count_falls = np.diff(counts) < 0
    sum_halves = 2 * sums[1:] < sums[:-1]
    return count_falls | sum_halves


def _with_rises(metrics: Metrics, found: dict[MetricColumn, MetricColumn | None]) -> Metrics:
    values = metrics.values.copy()
    arrays = dict(metrics.arrays)
    roles = dict(metrics.roles)
    for column, count in found.items():
        told = metrics.arrays[column]
        if count is None:
            risen = rises_of(metrics.starts, told, metrics.step_s)
            if roles[column].kind == LATENCY:  # a time that all requests took together
                roles[column] = roles[column]._replace(kind=OTHER)
        else:
            risen = mean_rises_of(told, metrics.arrays[count])
        arrays[column] = risen
        values[column] = risen
    return metrics._replace(values=values, arrays=arrays, roles=roles)


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


def mean_rises_of(sums: NDArray, counts: NDArray) -> NDArray:
    """Return the mean of what was counted in each interval; NaN in the first, where one of both is
    NaN, and where nothing was counted. Both began at 0 again where one of them fell.

    Examples
    --------
    >>> mean_rises_of(np.array([9.0, 10.0, 10.0, 12.0]), np.array([5.0, 9.0, 9.0, 4.0]))
    array([ nan, 0.25,  nan, 3.  ])
    """
    means = np.full(sums.shape, np.nan)
    known = np.flatnonzero(~np.isnan(sums) & ~np.isnan(counts))
    begins = _begins(sums[known], counts[known])
    summed, counted = (_from(values[known], begins) for values in (sums, counts))
    is_any = counted > 0
    means[known[1:][is_any]] = summed[is_any] / counted[is_any]
    return means


def _from(values: NDArray, begins: NDArray) -> NDArray:
    """Return by how much values rose, from 0 where they began again."""
    return np.where(begins, values[1:], np.diff(values))
