"""Do the arguments of `rank_from_metrics` name what the tables have?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiops_lab.explain.metric_columns import OTHER, role_of
from aiops_lab.explain.metric_frames import Metrics
from aiops_lab.known_names import (
    known_instead,
    misspelt,
    shown_names,
    warn_of_unknown,
)


def check_nodes(usual: Metrics, now: Metrics) -> None:
    """Raise ValueError where normal and abnormal have no node in common."""
    if set(usual.by_node).isdisjoint(now.by_node):
        rule = f"normal must measure a node of abnormal, which has {shown_names(now.by_node)}"
        raise ValueError(f"{rule}, got {shown_names(usual.by_node)}")


def check_alarm(now: Metrics, node: str, metric: str) -> None:
    """Raise ValueError about a node that abnormal lacks; warn of a metric that nobody knows."""
    if node not in now.by_node:
        nodes = sorted(now.by_node)
        guess = known_instead(node, nodes)
        raise ValueError(
            f"target node must be one of abnormal's {len(nodes)} nodes, got {node!r}; {guess}"
        )
    if role_of(metric).kind != OTHER:
        return
    metrics = {column[1] for column in now.by_node[node]}
    told = f"target: abnormal does not measure, for {node!r}, the metric"
    warn_of_unknown(told, [metric], metrics)


def check_called(now: Metrics, calls: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError where there are calls, and none of them is of a node of abnormal."""
    called = _called(calls)
    if called and called.isdisjoint(now.by_node):
        first = min(called)
        rule = "calls must name nodes of abnormal, got only others, such as"
        raise ValueError(f"{rule} {first!r}; {known_instead(first, now.by_node)}")


def warn_of_names(
    usual: Metrics,
    now: Metrics,
    labels: Iterable[Any],
    *,
    calls: Iterable[tuple[str, str]],
    placed: Iterable[str],
    roles: Mapping[Any, str] | None,
) -> None:
    """Warn of nodes in `calls` and `placed`, and of columns in `roles`, that neither table has.

    Arguments may serve many tables, and what is not measured may call, so that only
    names count that are `misspelt`.

    Parameters
    ----------
    labels
        The names of the columns as the user wrote them.
    """
    nodes = {*usual.by_node, *now.by_node}
    rule = "neither table has metrics of the node"
    called = misspelt(_called(calls), nodes)
    warn_of_unknown(f"calls: {rule}", called, nodes)
    hosted = misspelt(placed, nodes)
    warn_of_unknown(f"placed: {rule}", hosted, nodes)
    if not roles:
        return
    meant = {_as_text(label) for label in labels}
    for node, metric, statistic in (*usual.roles, *now.roles):
        keys = (metric, (node, metric), (metric, statistic), (node, metric, statistic))
        meant.update(map(_as_text, keys))
    named = misspelt(map(_as_text, roles), meant)
    told = "roles: neither table has the column or metric"
    warn_of_unknown(told, named, meant)


def _called(calls: Iterable[tuple[str, str]]) -> set[str]:
    return {node for call in calls for node in call}


def _as_text(key: Any) -> str:
    """Return a name of a column, or of its parts, as text."""
    return key if isinstance(key, str) else repr(key)
