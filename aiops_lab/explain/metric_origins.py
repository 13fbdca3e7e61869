"""How much of what is slow or fails would one node explain?

Who waits for a slow node is slow, too, and what the slow node itself calls is not. So of all that
is slow or fails a node explains its own part and that of its callers, of their callers, and so on.
Where much is slow elsewhere, something that they share is the likelier cause: a host, a network, a
call that nobody told of.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from aiops_lab.explain.metric_deviations import by_node
from aiops_lab.explain.metric_frames import (
    ERROR_RATE,
    ERRORS,
    LATENCY,
    SUCCESS,
    MetricColumn,
    Metrics,
)

RISES = (LATENCY, ERRORS, ERROR_RATE)

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
    nodes = sorted({*unusual.index.unique(0), *hosts.values()})
    worse = [column for column in unusual.index if _is_worse(column, unusual, now)]
    cost = by_node(unusual.loc[worse], nodes)
    parts = pd.Series(1.0, nodes)
    total = float(cost.sum())
    if total <= 0:
        return parts
    callers = _callers(calls)
    named = set(callers).union(*callers.values())
    for node in nodes:
        mine = [placed for placed, host in hosts.items() if host == node]
        starts = {node, *mine} & named
        if starts:
            waiting = _waiting(starts, callers)
            known = cost.index.intersection(sorted(waiting))
            parts[node] = float(cost[known].sum()) / total
    return parts


def _is_worse(column: MetricColumn, unusual: pd.DataFrame, now: Metrics) -> bool:
    """Return whether a metric says that requests are slow or fail."""
    kind = now.roles[column].kind
    scales = unusual["scales"][column]
    if kind == SUCCESS:
        return bool(scales < 0)
    return kind in RISES and bool(scales > 0)


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
