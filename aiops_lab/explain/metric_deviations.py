"""Which metrics of which node are unusual, whatever they measure?

A metric deviates by the distance between its median now and its usual median, in units of its usual
scatter (the interquartile range, as wide as Student's t says of so few intervals), or of a tenth of
its level where it hardly scattered. The level of a share of successes is that of the failures where
they are the rarer, at least 1 %: 90 % of successes are no small change. What lies beyond three
units counts, by its logarithm: a metric that is ten times as far out says more, but not ten times
as much. The deviation of a node is the sum over its metrics.

References
----------
Robust distances as evidence of a root cause: BARO (doi 10.1145/3660805), which takes the largest
one without a least scatter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.metric_columns import SUCCESS, MetricColumn
from aiops_lab.explain.metric_config import MetricsConfig
from aiops_lab.explain.metric_costs import in_percent
from aiops_lab.explain.metric_frames import Metrics
from aiops_lab.numerics import student_quantile

IQR_OF_NORMAL = 1.349  # the interquartile range of a normal distribution of deviation 1
TAIL = 0.995  # where the widths of t and of the normal distribution are compared

FAILING = 0.01
"""The least level that a share of successes is compared with. Higher: falls of successes are less
unusual."""


def deviations(
    usual: Metrics,
    now: Metrics,
    before: int,
    config: MetricsConfig,
    hosts: Collection[str] = (),
) -> pd.DataFrame:
    """Return a row a metric that both measure, index (node, metric, statistic): usual, now
    (medians), scales (signed distance), deviation (>= 0; 0: within `config.min_deviation`).

    Parameters
    ----------
    before : int
        How many intervals of `now` show the time before the alarm; they are left out.
    hosts : collection of str
        The nodes that are hosts, whose levels are compared among themselves: a host's memory may
        be in percent, that of a service in bytes.
    """
    measured = usual.values.columns
    both = measured.intersection(now.values.columns, sort=False)
    normal = usual.values[both]
    since = now.values[both].iloc[before:]
    whole = _wholes(usual, now)
    middle = normal.median()
    median_now = since.median()
    levels = _levels(_rarer(normal, whole), _rarer(since, whole), hosts)
    scale = _scales(normal, levels, config)
    distance = (median_now - middle) / scale.where(scale > 0)
    distance = distance.fillna(0.0)
    times = distance.abs() / config.min_deviation
    columns = {
        "usual": middle,
        "now": median_now,
        "scales": distance,
        "deviation": np.log(np.maximum(times, 1.0)),
    }
    return pd.DataFrame(columns)


def by_node(table: pd.DataFrame, nodes: Iterable[str]) -> pd.Series:
    """Return the deviation of each of `nodes`; 0 for what is not measured."""
    of_node = table["deviation"].groupby(level=0)
    total = of_node.sum()
    return total.reindex(list(nodes), fill_value=0.0)


def _wholes(usual: Metrics, now: Metrics) -> dict[MetricColumn, float]:
    """Return of each share of successes what no failure is: 1, or 100 in percent."""
    percent = in_percent(usual, now)
    found: dict[MetricColumn, float] = {}
    for column in usual.columns:
        if usual.roles[column].kind == SUCCESS:
            found[column] = 100.0 if column[1] in percent else 1.0
    return found


def _rarer(table: pd.DataFrame, whole: dict[MetricColumn, float]) -> pd.DataFrame:
    """Return the table with shares of failures in place of successes, unless these are the rarer;
    both are at least `FAILING`.
    """
    columns: list[Any] = table.columns.tolist()
    successes = [column for column in columns if column in whole]
    if not successes:
        return table
    table = table.copy()
    for column in successes:
        failing = whole[column] - table[column]
        rarer = failing.clip(upper=table[column])
        table[column] = rarer.clip(lower=FAILING * whole[column])
    return table


def _scales(normal: pd.DataFrame, levels: pd.Series, config: MetricsConfig) -> pd.Series:
    """Return the usual scatter of each metric, with a least one from its level."""
    low = normal.quantile(0.25)
    high = normal.quantile(0.75)
    count = normal.count()
    width = _width(count.to_numpy())
    scatter = (high - low) / IQR_OF_NORMAL * width
    least = config.relative_noise * levels
    return (scatter**2 + least**2) ** 0.5


def _width(count: NDArray) -> NDArray:
    """Return by how much wider t is than the normal distribution, for so many intervals."""
    freedom = np.maximum(count - 1, 1)
    unlimited = np.array([np.inf])
    normal = student_quantile(TAIL, unlimited)
    return student_quantile(TAIL, freedom) / normal


def _levels(normal: pd.DataFrame, since: pd.DataFrame, hosts: Collection[str]) -> pd.Series:
    """Return the level of each metric: of this node, or what is usual of the metric at all nodes,
    or at all hosts, if that is more; of a metric that is 0 everywhere, its largest median now.
    """
    own = normal.abs().median()
    metric = own.index.get_level_values(1)
    statistic = own.index.get_level_values(2)
    is_host = own.index.get_level_values(0).isin(list(hosts))
    kinds = [metric, statistic, is_host]
    of_kind = own.groupby(kinds)
    elsewhere = of_kind.transform("median")
    level = own.clip(lower=elsewhere)
    now_of_kind = since.median().abs().groupby(kinds)
    largest = now_of_kind.transform("max")
    return level.where(level > 0, largest)
