"""What did a request of each node cost, interval by interval, and how many requests were there?

A cost is a latency (s) or a share of failures. Where no mean of a latency is measured, it is
estimated from the quantiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.metric_frames import (
    ERROR_RATE,
    ERRORS,
    FAILURES,
    LATENCY,
    REQUESTS,
    SUCCESS,
    MetricColumn,
    Metrics,
)

_PERCENT_NAME = re.compile(r"availability|percent|pct", re.IGNORECASE)
_ROUNDING = 1e-9


AVAILABILITY = "availability"
COSTS = (LATENCY, AVAILABILITY)


class MetricTables(NamedTuple):
    """The mean cost of a request (s, or share of failures; NaN: not measured) and the number of
    requests, both of shape (rows, nodes).
    """

    cost: NDArray
    requests: NDArray


def kinds_of(metric: str) -> tuple[str, ...]:
    """Return the roles that tell a cost: ``"latency"``, else failures."""
    return (LATENCY,) if metric == LATENCY else FAILURES


def measured_nodes(metrics: Metrics, metric: str) -> list[str]:
    """Return the nodes whose cost and requests are measured, by name."""
    costs = {c[0] for c in metrics.columns if metrics.roles[c].kind in kinds_of(metric)}
    served = {c[0] for c in metrics.columns if metrics.roles[c].kind == REQUESTS}
    return sorted(costs & served)


def served_nodes(metrics: Metrics) -> set[str]:
    """Return the nodes that served at least one request."""
    columns = [c for c in metrics.columns if metrics.roles[c].kind == REQUESTS]
    return {column[0] for column in columns if (metrics.arrays[column] > 0).any()}


def has_estimates(metrics: Metrics) -> bool:
    """Return whether the mean latency of some node is estimated from quantiles."""
    columns = [c for c in metrics.columns if metrics.roles[c].kind == LATENCY]
    exact = {column[0] for column in columns if metrics.roles[column].quantile is None}
    return not exact.issuperset(column[0] for column in columns)


def tables(metrics: Metrics, nodes: Iterable[str], metric: str, percent: set[str]) -> MetricTables:
    """Return the costs and requests of `nodes`; what is not measured is NaN, and no requests.

    `percent` names the metrics whose shares are in percent.
    """
    served = [_requests(metrics, node) for node in nodes]
    costs = [
        _latency(metrics, node) if metric == LATENCY else _failures(metrics, node, percent)
        for node in nodes
    ]
    return MetricTables(np.column_stack(costs), np.column_stack(served))


def in_percent(*all_metrics: Metrics) -> set[str]:
    """Return the metrics whose shares are in percent: by their name, or since one is above 1."""
    names: set[str] = set()
    for metrics in all_metrics:
        for column in metrics.columns:
            if metrics.roles[column].kind not in (SUCCESS, ERROR_RATE):
                continue
            is_above = bool((metrics.arrays[column] > 1 + _ROUNDING).any())
            if is_above or _PERCENT_NAME.search(column[1]):
                names.add(column[1])
    return names


def _values(metrics: Metrics, column: MetricColumn) -> NDArray:
    return metrics.arrays[column] * metrics.roles[column].factor


def _requests(metrics: Metrics, node: str) -> NDArray:
    found = metrics.columns_of(node, [REQUESTS])
    if not found:
        return np.zeros(len(metrics.starts))
    column = found[0]
    length = metrics.step_s if metrics.roles[column].per_second else 1.0
    return np.nan_to_num(metrics.arrays[column]) * length


def _latency(metrics: Metrics, node: str) -> NDArray:
    """Return the mean latency (s): as measured, else from the quantiles."""
    found = metrics.columns_of(node, [LATENCY])
    means = [column for column in found if metrics.roles[column].quantile is None]
    if means:
        return _values(metrics, means[0])
    if not found:
        return np.full(len(metrics.starts), np.nan)
    ordered = sorted(found, key=lambda column: metrics.roles[column].quantile or 0.0)
    levels = [metrics.roles[column].quantile or 0.0 for column in ordered]
    return mean_of_quantiles(levels, np.array([_values(metrics, c) for c in ordered]))


def mean_of_quantiles(levels: list[float], values: NDArray) -> NDArray:
    """Return the mean of a distribution whose quantiles are `values`, shape (levels, n).

    The distribution is taken to be even between the quantiles, to begin at half of the lowest one
    and to end at the highest; what lies beyond is not known, so that the mean is rather too low.

    Examples
    --------
    >>> float(mean_of_quantiles([0.5, 0.9], np.array([[1.0], [3.0]]))[0])
    1.475
    """
    at = np.concatenate([[0.0], levels, [1.0]])
    known = np.vstack([values[:1] / 2, values, values[-1:]])
    middles = (known[1:] + known[:-1]) / 2
    return np.diff(at) @ middles


def _failures(metrics: Metrics, node: str, percent: set[str]) -> NDArray:
    """Return the share of failures, 0 to 1."""
    for kind in FAILURES:
        for column in metrics.columns_of(node, [kind]):
            values = metrics.arrays[column]
            if kind == ERRORS:
                return _share(values, _requests(metrics, node))
            share = values / 100.0 if column[1] in percent else values
            return 1.0 - share if kind == SUCCESS else share
    return np.full(len(metrics.starts), np.nan)


def _share(errors: NDArray, requests: NDArray) -> NDArray:
    share = np.divide(errors, requests, out=np.full(errors.shape, np.nan), where=requests > 0)
    return np.minimum(share, 1.0)
