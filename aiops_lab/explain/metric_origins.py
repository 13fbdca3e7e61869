"""How much of what is slow or fails would one node explain?

Who waits for a slow node is slow, too, and what the slow node itself calls is not. So of all that
is slow or fails a node explains its own part and that of its callers, of their callers, and so on.
Where much is slow elsewhere, something that they share is the likelier cause: a host, a network, a
call that nobody told of.

Where the calls are not known, nobody knows who waits for whom. What a node uses, such as processor
time, still tells it from its callers; a latency alone does not.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from aiops_lab.explain.metric_columns import (
    ERROR_RATE,
    ERRORS,
    FAILURES,
    LATENCY,
    OTHER,
    REQUESTS,
    SUCCESS,
    MetricColumn,
    role_of,
)
from aiops_lab.explain.metric_deviations import by_node
from aiops_lab.explain.metric_frames import Metrics

RISES = (LATENCY, ERRORS, ERROR_RATE)
SHARED = (LATENCY, REQUESTS, *FAILURES)  # what a fault changes at the callers, too

_CallPairs = Iterable[tuple[str, str]]


def explained_parts(
    unusual: pd.DataFrame,
    now: Metrics,
    calls: _CallPairs,
    hosts: dict[str, str],
) -> pd.Series:
    """Return the part of all that is slow or fails that each node explains, 0 to 1.

    It is 1 where nothing is slow, and for nodes that are in no call, since nobody knows who waits
    for them. A host explains what its nodes do.

    Parameters
    ----------
    unusual : DataFrame
        Of `metric_deviations.deviations`.
    hosts : dict
        The host of each node.

    Examples
    --------
    Of the callees x and y of a only one is the cause, and y does not wait for x:

    >>> from aiops_lab.explain.metric_frames import read_frame
    >>> columns = pd.MultiIndex.from_product([["a", "x", "y"], ["latency"], ["p90"]])
    >>> now = read_frame("abnormal", pd.DataFrame([[9.0, 9.0, 9.0]], columns=columns), 1)
    >>> unusual = pd.DataFrame({"scales": 50.0, "deviation": [2.0, 1.0, 1.0]}, columns)
    >>> explained_parts(unusual, now, [("a", "x"), ("a", "y")], {}).to_dict()
    {'a': 0.5, 'x': 0.75, 'y': 0.75}
    """
    cost = _costs(unusual, now, hosts)
    parts = pd.Series(1.0, cost.index)
    total = float(cost.sum())
    if total <= 0:
        return parts
    named = _named(calls)
    callers = _callers(calls)
    for node in cost.index:
        starts = _with_placed(node, hosts) & named
        if starts:
            waiting = _waiting(starts, callers)
            known = cost.index.intersection(sorted(waiting))
            parts[node] = float(cost[known].sum()) / total
    return parts


def sure_parts(
    unusual: pd.DataFrame,
    now: Metrics,
    calls: _CallPairs,
    hosts: dict[str, str],
) -> pd.Series:
    """Return the part of what `explained_parts` says that is sure of each node, 0 to 1.

    It is 1 for nodes whose calls are known, and where what the node itself uses is unusual. Of
    another node nobody knows whether it is slow or waits: sure is its own part of all that is slow
    or fails. Where no node's use is measured, each of n slow nodes is as likely: 1 / n.

    Examples
    --------
    >>> from aiops_lab.explain.metric_frames import read_frame
    >>> columns = pd.MultiIndex.from_product([["a", "x"], ["latency"], ["p90"]])
    >>> now = read_frame("abnormal", pd.DataFrame([[9.0, 9.0]], columns=columns), 1)
    >>> unusual = pd.DataFrame({"scales": 50.0, "deviation": [3.0, 1.0]}, columns)
    >>> sure_parts(unusual, now, [], {}).to_dict()
    {'a': 0.5, 'x': 0.5}
    """
    cost = _costs(unusual, now, hosts)
    parts = pd.Series(1.0, cost.index)
    total = float(cost.sum())
    if total <= 0:
        return parts
    named = _named(calls)
    used = [column for column in unusual.index if _is_own(column, now)]
    strain = by_node(unusual.loc[used], cost.index)
    slow = int((cost > 0).sum())
    for node in cost.index:
        placed = _with_placed(node, hosts)
        mine = sorted(placed.intersection(cost.index))
        is_known = not named.isdisjoint(mine)
        if is_known or strain[mine].sum() > 0:
            continue
        parts[node] = float(cost[mine].sum()) / total if used else 1 / slow
    return parts


def _costs(unusual: pd.DataFrame, now: Metrics, hosts: dict[str, str]) -> pd.Series:
    """Return how slow each node is, or how it fails, in the order of the names."""
    nodes = sorted({*unusual.index.unique(0), *hosts.values()})
    worse = [column for column in unusual.index if _is_worse(column, unusual, now)]
    return by_node(unusual.loc[worse], nodes)


def _with_placed(node: str, hosts: dict[str, str]) -> set[str]:
    """Return a node and, of a host, what it runs."""
    return {node} | {placed for placed, host in hosts.items() if host == node}


def _is_own(column: MetricColumn, now: Metrics) -> bool:
    """Return whether a metric tells what its node does, whoever calls or is called."""
    _, metric, _ = column
    kind = now.roles[column].kind
    if kind == OTHER:
        kind = role_of(metric).kind  # the highest latency, say
    return kind not in SHARED


def _is_worse(column: MetricColumn, unusual: pd.DataFrame, now: Metrics) -> bool:
    """Return whether a metric says that requests are slow or fail."""
    kind = now.roles[column].kind
    scales = unusual["scales"][column]
    if kind == SUCCESS:
        return bool(scales < 0)
    return kind in RISES and bool(scales > 0)


def _named(calls: _CallPairs) -> set[str]:
    """Return the nodes that call or are called."""
    return {node for pair in calls for node in pair}


def _callers(calls: _CallPairs) -> dict[str, set[str]]:
    """Return who calls each node."""
    callers: dict[str, set[str]] = {}
    for caller, callee in calls:
        of_callee = callers.setdefault(callee, set())
        of_callee.add(caller)
    return callers


def _waiting(starts: set[str], callers: dict[str, set[str]]) -> set[str]:
    """Return the nodes that wait for one of `starts`, these included."""
    found = set(starts)
    new = set(starts)
    while new:
        above = [callers.get(node, set()) for node in new]
        new = set[str]().union(*above) - found
        found |= new
    return found
