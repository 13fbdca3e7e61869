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
EXTREMES = {0.0: "min", 1.0: "max"}
_LABEL = re.compile(  # in quotes of either kind, which may hold braces, commas and escapes
    r"""\s*([\w.]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')\s*"""
)
_SERIES = re.compile(rf"([\w:.]+)\{{({_LABEL.pattern}(?:,{_LABEL.pattern})*,?\s*)\}}")
_ESCAPED = re.compile(r"\\(.)")

Series = tuple[str, dict[str, str]]  # metric and labels


def is_series(name: str) -> bool:
    """Return whether a name of a column is a metric with labels in braces."""
    return _SERIES.fullmatch(name) is not None


def series_columns(name: str, series: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return (node, metric, statistic) of each series; errors name the argument `name`.

    Of the labels beside the node's, the statistic has those by which series of one metric differ at
    some node. A label that a series does not have is empty, as in Prometheus.

    Examples
    --------
    >>> series_columns("normal", ['rps{pod="a",zone="x"}', 'lat{pod="a",zone="x",quantile="0.9"}'])
    [('a', 'rps', 'value'), ('a', 'lat', 'p90')]
    """
    told = [_parts(name, each) for each in series]
    key = _node_label(name, [labels for _, labels in told])
    differing = _differing(told, key)
    columns: list[tuple[str, str, str]] = []
    for metric, labels in told:
        telling = [x for x in labels if x == QUANTILE or (metric, x) in differing]
        statistic = " ".join(_said(label, labels[label]) for label in telling)
        columns.append((labels[key], metric, statistic or NO_STATISTIC))
    return columns


def _differing(told: Sequence[Series], key: str) -> set[tuple[str, str]]:
    """Return (metric, label) where series of the metric differ in the label at one node."""
    of_node: dict[tuple[str, str], list[dict[str, str]]] = {}
    for metric, labels in told:
        of_node.setdefault((metric, labels[key]), []).append(labels)
    found: set[tuple[str, str]] = set()
    for (metric, _), several in of_node.items():
        for label in set().union(*several):
            values = {labels.get(label, "") for labels in several}
            if len(values) > 1:
                found.add((metric, label))
    return found


def _parts(name: str, series: str) -> Series:
    found = _SERIES.fullmatch(series)
    if not found:
        raise ValueError(f"{name} must have labels in all names or in none, got {series!r}")
    labels: dict[str, str] = {}
    for label, double, single in _LABEL.findall(found[2]):
        labels[label] = _ESCAPED.sub(r"\1", double or single)
    return found[1], labels


def _node_label(name: str, labels: Sequence[Mapping[str, str]]) -> str:
    for key in NODE_LABELS:
        if all(key in each for each in labels):
            return key
    rule = f"must have one label in all names that tells the node, one of {', '.join(NODE_LABELS)}"
    raise ValueError(f"{name} {rule}, got {sorted(labels[0])}")


def _said(label: str, value: str) -> str:
    """Return the value, of a quantile as p90; those of 0 and 1 are min and max."""
    if label != QUANTILE:
        return value
    try:
        level = float(value)
    except ValueError:
        return value
    if level in EXTREMES:
        return EXTREMES[level]
    digits = f"{level:f}".rstrip("0").partition(".")[2]
    return f"p{digits:0<2}"
