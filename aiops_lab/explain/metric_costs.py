"""What did a request of each node cost, interval by interval, and how many requests were there?

A cost is a latency (s) or a share of failures. Where no mean of a latency is measured, it is
estimated from the quantiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.metric_columns import (
    ERROR_RATE,
    ERRORS,
    FAILURES,
    LATENCY,
    REQUESTS,
    SUCCESS,
    MetricColumn,
)
from aiops_lab.explain.metric_frames import Metrics

_PERCENT_NAME = re.compile(r"percent|pct", re.IGNORECASE)
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
    costs = _nodes_with(metrics, kinds_of(metric))
    served = _nodes_with(metrics, (REQUESTS,))
    return sorted(costs & served)


def _nodes_with(metrics: Metrics, kinds: tuple[str, ...]) -> set[str]:
    columns = _columns_with(metrics, kinds)
    return {node for node, *_ in columns}


def _columns_with(metrics: Metrics, kinds: tuple[str, ...]) -> list[MetricColumn]:
    roles = metrics.roles
    return [column for column in metrics.columns if roles[column].kind in kinds]


def served_nodes(metrics: Metrics) -> set[str]:
    """Return the nodes that served at least one request."""
    served: set[str] = set()
    for column in _columns_with(metrics, (REQUESTS,)):
        requests = metrics.arrays[column]
        if (requests > 0).any():
            served.add(column[0])
    return served


def has_estimates(metrics: Metrics) -> bool:
    """Return whether the mean latency of some node is estimated from quantiles."""
    with_latency: set[str] = set()
    exact: set[str] = set()
    for column in _columns_with(metrics, (LATENCY,)):
        node = column[0]
        with_latency.add(node)
        if metrics.roles[column].quantile is None:
            exact.add(node)
    return exact != with_latency


def tables(metrics: Metrics, nodes: Iterable[str], metric: str, percent: set[str]) -> MetricTables:
    """Return the costs and requests of `nodes`; what is not measured is NaN, and no requests.

    `percent` names the metrics whose shares are in percent.
    """
    served: list[NDArray] = []
    costs: list[NDArray] = []
    for node in nodes:
        is_latency = metric == LATENCY
        cost = _latency(metrics, node) if is_latency else _failures(metrics, node, percent)
        costs.append(cost)
        served.append(_requests(metrics, node))
    return MetricTables(np.column_stack(costs), np.column_stack(served))


def in_percent(*all_metrics: Metrics) -> set[str]:
    """Return the metrics whose shares are in percent: by their name, or since one is above 1."""
    names: set[str] = set()
    for metrics in all_metrics:
        for column in _columns_with(metrics, (SUCCESS, ERROR_RATE)):
            metric = column[1]
            shares = metrics.arrays[column]
            is_above = bool((shares > 1 + _ROUNDING).any())
            if is_above or _PERCENT_NAME.search(metric):
                names.add(metric)
    return names


def _values(metrics: Metrics, column: MetricColumn) -> NDArray:
    role = metrics.roles[column]
    return metrics.arrays[column] * role.factor


def _requests(metrics: Metrics, node: str) -> NDArray:
    found = metrics.columns_of(node, [REQUESTS])
    if not found:
        return np.zeros(len(metrics.starts))
    column = found[0]
    requests = np.nan_to_num(metrics.arrays[column])
    if metrics.roles[column].per_second:
        return requests * metrics.step_s
    return requests


def _latency(metrics: Metrics, node: str) -> NDArray:
    """Return the mean latency (s): as measured, else from the quantiles."""
    by_level: list[tuple[float, NDArray]] = []
    for column in metrics.columns_of(node, [LATENCY]):
        values = _values(metrics, column)
        quantile = metrics.roles[column].quantile
        if quantile is None:
            return values
        by_level.append((quantile, values))
    if not by_level:
        return np.full(len(metrics.starts), np.nan)
    by_level.sort(key=itemgetter(0))
    levels = [level for level, _ in by_level]
    quantiles = [values for _, values in by_level]
    return mean_of_quantiles(levels, np.array(quantiles))


def mean_of_quantiles(levels: list[float], values: NDArray) -> NDArray:
    """Return the mean of a distribution whose quantiles are `values`, shape (levels, n).

    The distribution is taken to be even between the quantiles, to begin at half of the lowest one
    and to end at the highest; what lies beyond is not known, so that the mean is rather too low.

    Examples
    --------
    >>> float(mean_of_quantiles([0.5, 0.9], np.array([[1.0], [3.0]]))[0])
    1.475
    """
    at = np.array([0.0, *levels, 1.0])
    lowest = values[:1] / 2
    highest = values[-1:]
    known = np.vstack([lowest, values, highest])
    middles = (known[1:] + known[:-1]) / 2
    return np.diff(at) @ middles


def _failures(metrics: Metrics, node: str, percent: set[str]) -> NDArray:
    """Return the share of failures, 0 to 1."""
    for kind in FAILURES:
        found = metrics.columns_of(node, [kind])
        if not found:
            continue
        column = found[0]
        values = metrics.arrays[column]
        if kind == ERRORS:
            return _share(values, _requests(metrics, node))
        is_percent = column[1] in percent
        share = values / 100.0 if is_percent else values
        return 1.0 - share if kind == SUCCESS else share
    return np.full(len(metrics.starts), np.nan)


def _share(errors: NDArray, requests: NDArray) -> NDArray:
    share = np.full(errors.shape, np.nan)
    np.divide(errors, requests, out=share, where=requests > 0)
    return np.minimum(share, 1.0)
