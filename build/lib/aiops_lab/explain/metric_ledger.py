"""Where did the excess cost of a call graph originate, by sums over intervals?

The cost of a node in excess of its usual cost is partly its own and partly that of its callees.
Subtract from each node what its callees pass on, and what is left originated there.

    caller    excess 40 s   <- 36 s passed on by the callee    own  4 s
    callee    excess 48 s   <- no callee                       own 48 s   the suspect
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from aiops_lab.explain.metric_config import MetricsConfig
from aiops_lab.explain.metric_costs import MetricTables
from aiops_lab.numerics import student_quantile


class Graph(NamedTuple):
    """Calls between measured nodes, by position, and which node reaches which (nodes, nodes),
    itself included.
    """

    caller: NDArray
    callee: NDArray
    reach: NDArray


class MetricCosts(NamedTuple):
    """The costs of each window: reference, requests, excess, and the part of it that callees passed
    on.
    """

    reference: NDArray  # (windows, nodes): cost of a request
    requests: NDArray  # (windows, nodes): that were served
    due: NDArray  # (windows, nodes): that were served or would have been
    excess: NDArray  # (windows, rows, nodes)
    absorbed: NDArray  # (windows, edges): the callee's excess that appears in this caller's
    passed_on: NDArray  # (windows, nodes)

    @property
    def total(self) -> NDArray:
        return self.excess.sum(axis=1)

    @property
    def own(self) -> NDArray:
        return self.total - self.passed_on


class Window(NamedTuple):
    """How the intervals of `abnormal` divide: how many there are, how many of them show the time
    before the alarm, and whether `normal` ends where they begin.
    """

    rows: int
    before: int
    adjoins: bool


class SharingRule(NamedTuple):
    """How much longer callers may wait than their callee measures, and which part of the expected
    requests is no fall.
    """

    call_ratio: float
    min_served: float


def account(
    now: MetricTables,
    usual: MetricTables,
    nodes: list[str],
    graph: Graph,
    window: Window,
    target: int | None,
    *,
    is_latency: bool,
    is_estimated: bool,
    config: MetricsConfig,
) -> pd.DataFrame:
    """Return the ledger: a row a node with usual, now (cost of a request), requests, due, excess,
    passed_on, bridged, own and noise.

    Parameters
    ----------
    target : int or None
        The node that alarms: where an excess may leave the graph. None: nodes without callers.
    is_latency, is_estimated : bool
        The cost is a latency; and its means are estimated from quantiles.
    """
    typical = pd.DataFrame(usual.cost).median().to_numpy()
    level = pd.DataFrame(usual.requests).median().to_numpy()
    rule = SharingRule(config.max_call_ratio if is_estimated else 1.0, config.min_served)
    costs = _costs(now, typical, level, graph, window, rule)
    known = _costs(usual, typical, level, graph, window, rule)
    single = _costs(usual, typical, level, graph, Window(1, 0, True), rule)
    noise = _noise(known, single, costs, typical, is_latency, window, config=config)
    bridged = _bridged(costs, graph, target, noise, config)
    before = window.before
    cost_now = _mean_cost(now.cost[None, before:], now.requests[None, before:])
    columns = {
        "usual": costs.reference[0],
        "now": cost_now[0],
        "requests": costs.requests[0],
        "due": costs.due[0],
        "excess": costs.total[0],
        "passed_on": costs.passed_on[0],
        "bridged": bridged,
        "own": costs.own[0] - bridged,
        "noise": noise,
    }
    return pd.DataFrame(columns, nodes)


def graph_between(calls: Iterable[tuple[str, str]], nodes: list[str]) -> Graph:
    """Return the calls between `nodes`, with paths through other nodes contracted to one call.

    Of a cycle the calls that lead back, towards where requests enter, are left out.
    """
    callees = _callees(calls)
    position = {node: k for k, node in enumerate(nodes)}
    named = callees.keys() | set[str]().union(*callees.values())
    if named and position.keys().isdisjoint(named):
        first = next(iter(callees))
        raise ValueError(f"calls must name nodes of abnormal, got only others, such as {first!r}")
    edges = np.zeros((len(nodes), len(nodes)), dtype=bool)
    for node, k in position.items():
        nearest = [position[callee] for callee in _nearest(node, callees, position)]
        edges[k, nearest] = True
    np.fill_diagonal(edges, False)
    edges &= ~_back(edges)
    caller, callee = np.nonzero(edges)
    return Graph(caller, callee, _reach(edges))


def checked_calls(calls: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the calls as a list of pairs of names; raise ValueError about the first that is
    none.
    """
    if isinstance(calls, str) or not isinstance(calls, Iterable):
        raise ValueError(f"calls must be pairs (caller, callee), got {calls!r}")
    pairs = list(calls)
    for call in pairs:
        if not isinstance(call, (tuple, list)) or list(map(type, call)) != [str, str]:
            raise ValueError(f"calls must be pairs (caller, callee), got {call!r}")
    return [(caller, callee) for caller, callee in pairs]


def _callees(calls: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    callees: dict[str, set[str]] = {}
    for caller, callee in calls:
        callees.setdefault(caller, set()).add(callee)
    return callees


def _nearest(node: str, callees: dict[str, set[str]], position: dict[str, int]) -> set[str]:
    """Return the measured nodes that `node` calls, or leads to through nodes that are not."""
    found: set[str] = set()
    seen = {node}
    waiting = [node]
    while waiting:
        for callee in callees.get(waiting.pop(), set()) - seen:
            seen.add(callee)
            if callee in position:
                found.add(callee)
            else:
                waiting.append(callee)
    return found


def _back(edges: NDArray) -> NDArray:
    """Return which calls of a cycle lead back: not further from where requests enter."""
    reach = _reach(edges)
    in_cycle = edges & reach.T
    if not in_cycle.any():
        return in_cycle
    depth = _depths(edges)
    return in_cycle & (depth[None, :] <= depth[:, None])


def _reach(edges: NDArray) -> NDArray:
    """Return which node reaches which, itself included."""
    reach = edges | np.eye(len(edges), dtype=bool)
    for _ in range(len(edges).bit_length()):
        reach = (reach.astype(float) @ reach) > 0
    return reach


def _depths(edges: NDArray) -> NDArray:
    """Return the least number of calls from a node without callers; where every node has one, from
    that with the most callees.
    """
    depth = np.full(len(edges), np.inf)
    level = np.array(~edges.any(axis=0))
    if not level.any():
        level[edges.sum(axis=1).argmax()] = True
    for step in range(len(edges)):
        depth[level & np.isinf(depth)] = step
        level = edges[level].any(axis=0) & np.isinf(depth)
    return depth


# ---- accounts


def _costs(
    metrics: MetricTables,
    typical: NDArray,
    level: NDArray,
    graph: Graph,
    window: Window,
    rule: SharingRule,
) -> MetricCosts:
    """Return the costs of every window, of whose rows the first `before` show the time before."""
    cost, requests = (_windows(table, window.rows) for table in metrics)
    before = window.before
    earlier = _mean_cost(cost[:, :before], requests[:, :before])
    reference = np.broadcast_to(typical, earlier.shape)
    if not window.adjoins:  # levels drift between the two
        reference = np.fmax(earlier, typical)
    served = requests[:, before:]
    expected = _level(requests[:, :before], level, window)
    due = np.where(np.isfinite(cost[:, before:]), _due(served, expected, rule.min_served), 0.0)
    excess = np.nan_to_num((cost[:, before:] - reference[:, None]) * due)
    total = excess.sum(axis=1)
    positive = np.maximum(total, 0)
    passed_up = _shares(due.sum(axis=1), graph) * positive[:, graph.callee]
    absorbed = np.minimum(passed_up, positive[:, graph.caller])
    measured = _sums(passed_up, graph.caller, len(typical))
    passed_on = np.clip(total, measured, rule.call_ratio * measured)
    return MetricCosts(reference, served.sum(axis=1), due.sum(axis=1), excess, absorbed, passed_on)


def _due(served: NDArray, expected: NDArray, min_served: float) -> NDArray:
    """Return the requests that were served, and where much fewer were than `expected`, those."""
    rows = served.shape[1]
    has_fallen = served.sum(axis=1) < min_served * rows * expected
    return np.where(has_fallen[:, None], np.maximum(served, expected[:, None]), served)


def _level(before: NDArray, level: NDArray, window: Window) -> NDArray:
    """Return the requests that are due in an interval, shape (windows, nodes): as many as came
    before the alarm, or usually.
    """
    if window.before == 0 or window.adjoins:
        return np.broadcast_to(level, (len(before), level.size))
    return before.mean(axis=1)


def _windows(table: NDArray, rows: int) -> NDArray:
    if len(table) < rows:
        return np.empty((0, rows, table.shape[1]))
    return np.moveaxis(sliding_window_view(table, rows, axis=0), -1, 1)


def _mean_cost(cost: NDArray, requests: NDArray) -> NDArray:
    """Return the mean cost of a request over the rows (the second axis), NaN without requests."""
    measured = np.where(np.isfinite(cost), requests, 0.0)
    total = measured.sum(axis=1)
    spent = (np.nan_to_num(cost) * measured).sum(axis=1)
    return np.divide(spent, total, out=np.full(total.shape, np.nan), where=total > 0)


def _shares(served: NDArray, graph: Graph) -> NDArray:
    """Return the part of the callee's requests that comes from this caller; a call has at most as
    many as either serves.
    """
    traffic = np.minimum(served[:, graph.caller], served[:, graph.callee])
    total = _sums(traffic, graph.callee, served.shape[1])[:, graph.callee]
    return np.divide(traffic, total, out=np.zeros_like(traffic), where=total > 0)


def _sums(values: NDArray, nodes: NDArray, size: int) -> NDArray:
    """Return the sum of the edges' `values` at each of their `nodes`, window by window."""
    return values @ np.eye(size)[nodes]


def _noise(
    windows: MetricCosts,
    intervals: MetricCosts,
    costs: MetricCosts,
    typical: NDArray,
    is_latency: bool,
    window: Window,
    *,
    config: MetricsConfig,
) -> NDArray:
    """Return the own excess of each node up to which it is noise.

    Of few normal windows: the quantile of Student's t over the normal intervals, as if all
    intervals of the window deviated alike.
    """
    spent = np.nan_to_num(costs.reference[0]) * costs.due[0]
    least = config.min_latency_share * spent if is_latency else config.min_failures
    noise = np.maximum(config.unknown_share * spent, least)
    count = (intervals.requests > 0).sum(axis=0)
    some = np.isfinite(typical) & (count >= max(config.min_intervals, 2))
    if some.any():
        spread = np.where(intervals.requests > 0, intervals.own, np.nan)[:, some].T
        deviation = np.array([np.nanstd(row, ddof=1) for row in spread])
        times = student_quantile(config.quantile, count[some] - 1)
        rows = window.rows - window.before
        smallest = np.broadcast_to(least, noise.shape)[some]
        noise[some] = np.maximum(times * deviation * rows, smallest)
    known = np.isfinite(typical) & ((windows.requests > 0).sum(axis=0) >= config.min_windows)
    if known.any():
        noisy = np.quantile(windows.own, config.quantile, axis=0)
        noise = np.where(known, np.maximum(noisy, least), noise)
    return noise


def _bridged(
    costs: MetricCosts, graph: Graph, target: int | None, noise: NDArray, config: MetricsConfig
) -> NDArray:
    """Return how much of each node's own excess comes from callees that the calls do not name.

    An excess that appears at no caller, other than the target's, has left the known graph; it is
    assigned to the node where it most likely entered again.
    """
    total = costs.total[0]
    own = costs.own[0].copy()
    reach = graph.reach.copy()
    lost = np.maximum(total, 0) - _sums(costs.absorbed, graph.callee, total.size)[0]
    lost[target if target is not None else _entries(graph)] = 0.0
    similar = _cosines(costs.excess[0]) >= config.min_cosine
    bridged = np.zeros_like(own)
    for node in np.argsort(-lost, kind="stable"):
        possible = similar[node] & (lost[node] >= config.min_size_ratio * own)
        callers = np.flatnonzero(possible & (own > noise) & ~reach[node])
        if lost[node] <= noise[node] or callers.size == 0:
            continue
        caller = callers[np.argmax(own[callers])]
        part = min(lost[node], own[caller])
        bridged[caller] += part
        own[caller] -= part
        reach[reach[:, caller]] |= reach[node]
    return bridged


def _entries(graph: Graph) -> NDArray:
    """Return which nodes nobody calls."""
    is_called = np.zeros(len(graph.reach), dtype=bool)
    is_called[graph.callee] = True
    return ~is_called


def _cosines(excess: NDArray) -> NDArray:
    """Return the cosine between the courses of any two nodes: 1 for one course, 0 for disjoint."""
    length = np.sqrt((excess**2).sum(axis=0))
    unit = np.divide(excess, length, out=np.zeros_like(excess), where=length > 0)
    return unit.T @ unit
