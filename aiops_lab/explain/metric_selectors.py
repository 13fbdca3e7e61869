"""Which node and metric does a series of Prometheus tell: ``cpu_seconds_total{service="cart"}``?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

NODE_LABELS = (
    "service",
    "service_name",
    "app",
    "workload",
    "deployment",
    "container",
    "pod",
    "job",
    "instance",
)
"""Labels that name a node; the first that all series of a table have counts."""

NO_STATISTIC = "value"  # the statistic of a metric that tells none
QUANTILE = "quantile"
_SERIES = re.compile(r"(?P<metric>[\w:.]+)\{(?P<labels>[^{}]*=[^{}]*)\}")
_LABEL = re.compile(r'(\w+)\s*=\s*"([^"]*)"')


def is_series(name: str) -> bool:
    """Return whether a name of a column is a metric with labels in braces."""
    return _SERIES.fullmatch(name) is not None


def series_columns(name: str, series: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (node, metric, statistic) of each series; errors name the argument `name`.

    Of the labels beside the node's, the statistic has those by which series of one metric differ.

    Examples
    --------
    >>> series_columns("normal", ['rps{pod="a",zone="x"}', 'lat{pod="a",zone="x",quantile="0.9"}'])
    [('a', 'rps', 'value'), ('a', 'lat', 'p90')]
    """
    told = [_parts(name, each) for each in series]
    key = _node_label(name, [labels for _, labels in told])
    values: dict[tuple[str, str], set[str]] = {}
    for metric, labels in told:
        for label, value in labels.items():
            values.setdefault((metric, label), set()).add(value)
    columns: list[tuple[str, str, str]] = []
    for metric, labels in told:
        others = [label for label in labels if label != key]
        telling = [x for x in others if x == QUANTILE or len(values[metric, x]) > 1]
        statistic = " ".join(_said(label, labels[label]) for label in telling)
        columns.append((labels[key], metric, statistic or NO_STATISTIC))
    return columns


def _parts(name: str, series: str) -> tuple[str, dict[str, str]]:
    found = _SERIES.fullmatch(series)
    if not found:
        raise ValueError(f"{name} must have labels in all names or in none, got {series!r}")
    return found["metric"], dict(_LABEL.findall(found["labels"]))


def _node_label(name: str, labels: Sequence[Mapping[str, str]]) -> str:
    for key in NODE_LABELS:
        if all(key in each for each in labels):
            return key
    rule = f"must have one label in all names that tells the node, one of {', '.join(NODE_LABELS)}"
    raise ValueError(f"{name} {rule}, got {sorted(labels[0])}")


def _said(label: str, value: str) -> str:
    """Return the value, of a quantile as p90."""
    if label != QUANTILE:
        return value
    digits = value.partition(".")[2]
    return f"p{digits:0<2}"
