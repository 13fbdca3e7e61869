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
    waits_longer: bool,
    config: MetricsConfig,
) -> pd.DataFrame:
    """Return the ledger: a row a node with usual, now (cost of a request), requests, due, excess,
    passed_on, bridged, own and noise.

    Parameters
    ----------
    target : int or None
        The node that alarms: where an excess may leave the graph. None: nodes without callers.
    is_latency, waits_longer : bool
        The cost is a latency; and callers may wait longer than their callee measures.
    """
    typical = pd.DataFrame(usual.cost).median().to_numpy()
    level = pd.DataFrame(usual.requests).median().to_numpy()
    call_ratio = config.max_call_ratio if waits_longer else 1.0
    rule = SharingRule(call_ratio, config.min_served)
    interval = Window(1, 0, True)
    costs = _costs(now, typical, level, graph, window, rule)
    known = _costs(usual, typical, level, graph, window, rule)
    single = _costs(usual, typical, level, graph, interval, rule)
    noise = _noise(known, single, costs, typical, is_latency, window, config=config)
    bridged = _bridged(costs, graph, target, noise, config)
    since = slice(window.before, None)
    cost_now = _mean_cost(now.cost[None, since], now.requests[None, since])
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


def graph_between(
    calls: Iterable[tuple[str, str]], nodes: list[str], target: int | None = None
) -> Graph:
    """Return the calls between `nodes`, with paths through other nodes contracted to one call.

    Of a cycle the calls that lead back, towards where requests enter or to the node that alarms
    (`target`), are left out.
    """
    callees = _callees(calls)
    position = {node: k for k, node in enumerate(nodes)}
    named = callees.keys() | set[str]().union(*callees.values())
    if named and position.keys().isdisjoint(named):
        first = next(iter(callees))
        rule = "calls must name nodes of abnormal"
        raise ValueError(f"{rule}, got only others, such as {first!r}")
    size = len(nodes)
    edges = np.zeros((size, size), dtype=bool)
    for node, k in position.items():
        for callee in _nearest(node, callees, position):
            edges[k, position[callee]] = True
    np.fill_diagonal(edges, False)
    edges &= ~_back(edges, target)
    callers, called = np.nonzero(edges)
    return Graph(callers, called, _reach(edges))


def _callees(calls: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    callees: dict[str, set[str]] = {}
    for caller, callee in calls:
        of_caller = callees.setdefault(caller, set())
        of_caller.add(callee)
    return callees


def _nearest(node: str, callees: dict[str, set[str]], position: dict[str, int]) -> set[str]:
    """Return the measured nodes that `node` calls, or leads to through nodes that are not."""
    found: set[str] = set()
    seen = {node}
    waiting = [node]
    while waiting:
        passed = waiting.pop()
        for callee in callees.get(passed, set()) - seen:
            seen.add(callee)
            if callee in position:
                found.add(callee)
            else:
                waiting.append(callee)
    return found


def _back(edges: NDArray, target: int | None) -> NDArray:
    """Return which calls of a cycle lead back: not further from where requests enter, or from the
    target.
    """
    reach = _reach(edges)
    in_cycle = edges & reach.T
    if not in_cycle.any():
        return in_cycle
    depth = _depths(edges, target)
    of_callee = depth[None, :]
    of_caller = depth[:, None]
    return in_cycle & (of_callee <= of_caller)


def _reach(edges: NDArray) -> NDArray:
    """Return which node reaches which, itself included."""
    size = len(edges)
    reach = edges | np.eye(size, dtype=bool)
    for _ in range(size.bit_length()):
        paths = reach.astype(float) @ reach
        reach = paths > 0
    return reach


def _depths(edges: NDArray, target: int | None) -> NDArray:
    """Return the least number of calls from a node without callers or the target; where there is
    neither, from the node with the most callees.
    """
    size = len(edges)
    depth = np.full(size, np.inf)
    is_called = edges.any(axis=0)
    level = np.array(~is_called)
    if target is not None:
        level[target] = True
    elif is_called.all():
        callees = edges.sum(axis=1)
        level[callees.argmax()] = True
    for step in range(size):
        depth[level & np.isinf(depth)] = step
        is_next = edges[level].any(axis=0)
        level = is_next & np.isinf(depth)
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
    costs = _windows(metrics.cost, window.rows)
    requests = _windows(metrics.requests, window.rows)
    earlier = requests[:, : window.before]
    served = requests[:, window.before :]
    cost = costs[:, window.before :]
    cost_earlier = _mean_cost(costs[:, : window.before], earlier)
    reference = np.broadcast_to(typical, cost_earlier.shape)
    if not window.adjoins:  # levels drift between the two
        reference = np.fmax(cost_earlier, typical)
    expected = _level(earlier, level, window)
    due = _due(served, expected, rule.min_served)
    due[~np.isfinite(cost)] = 0.0
    excess = np.nan_to_num((cost - reference[:, None]) * due)
    total = excess.sum(axis=1)
    requests_due = due.sum(axis=1)
    absorbed, measured = _passed(total, requests_due, graph)
    return MetricCosts(
        reference,
        served.sum(axis=1),
        requests_due,
        excess,
        absorbed,
        passed_on=np.clip(total, measured, rule.call_ratio * measured),
    )


def _passed(total: NDArray, due: NDArray, graph: Graph) -> tuple[NDArray, NDArray]:
    """Return what of each call's excess appears in its caller's, shape (windows, edges), and what
    the callees of each node measure for it, shape (windows, nodes).
    """
    positive = np.maximum(total, 0)
    of_callee = positive[:, graph.callee]
    of_caller = positive[:, graph.caller]
    passed_up = _shares(due, graph) * of_callee
    absorbed = np.minimum(passed_up, of_caller)
    nodes = total.shape[1]
    return absorbed, _sums(passed_up, graph.caller, nodes)


def _due(served: NDArray, expected: NDArray, min_served: float) -> NDArray:
    """Return the requests that were served, and where much fewer were than `expected`, those."""
    rows = served.shape[1]
    least = min_served * rows * expected
    has_fallen = served.sum(axis=1) < least
    at_least_expected = np.maximum(served, expected[:, None])
    return np.where(has_fallen[:, None], at_least_expected, served)


def _level(before: NDArray, level: NDArray, window: Window) -> NDArray:
    """Return the requests that are due in an interval, shape (windows, nodes): as many as came
    before the alarm, or usually.
    """
    if window.before == 0 or window.adjoins:
        shape = (len(before), level.size)
        return np.broadcast_to(level, shape)
    return before.mean(axis=1)


def _windows(table: NDArray, rows: int) -> NDArray:
    """Return all runs of so many rows, shape (windows, rows, nodes)."""
    if len(table) < rows:
        nodes = table.shape[1]
        return np.empty((0, rows, nodes))
    views = sliding_window_view(table, rows, axis=0)
    return np.moveaxis(views, -1, 1)


def _mean_cost(cost: NDArray, requests: NDArray) -> NDArray:
    """Return the mean cost of a request over the rows (the second axis), NaN without requests."""
    measured = np.where(np.isfinite(cost), requests, 0.0)
    spent = np.nan_to_num(cost) * measured
    total = measured.sum(axis=1)
    mean = np.full(total.shape, np.nan)
    np.divide(spent.sum(axis=1), total, out=mean, where=total > 0)
    return mean


def _shares(served: NDArray, graph: Graph) -> NDArray:
    """Return the part of the callee's requests that comes from this caller; a call has at most as
    many as either serves.
    """
    by_caller = served[:, graph.caller]
    by_callee = served[:, graph.callee]
    traffic = np.minimum(by_caller, by_callee)
    nodes = served.shape[1]
    of_node = _sums(traffic, graph.callee, nodes)
    total = of_node[:, graph.callee]
    share = np.zeros_like(traffic)
    np.divide(traffic, total, out=share, where=total > 0)
    return share


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
    reference = np.nan_to_num(costs.reference[0])
    spent = reference * costs.due[0]
    is_known = np.isfinite(typical)
    least = np.full(spent.shape, config.min_failures)
    if is_latency:
        least = config.min_latency_share * spent
    noise = np.maximum(config.unknown_share * spent, least)

    is_active = intervals.requests > 0
    some = is_known & (is_active.sum(axis=0) >= max(config.min_intervals, 2))
    if some.any():
        rows = window.rows - window.before
        noisy = _noise_of_few(intervals, some, config.quantile) * rows
        noise[some] = np.maximum(noisy, least[some])

    with_requests = (windows.requests > 0).sum(axis=0)
    many = is_known & (with_requests >= config.min_windows)
    if many.any():
        noisy = np.quantile(windows.own, config.quantile, axis=0)
        noise = np.where(many, np.maximum(noisy, least), noise)
    return noise


def _noise_of_few(intervals: MetricCosts, nodes: NDArray, quantile: float) -> NDArray:
    """Return the quantile of Student's t of the own excess of an interval, of the chosen nodes."""
    is_active = intervals.requests[:, nodes] > 0
    count = is_active.sum(axis=0)
    own = np.where(is_active, intervals.own[:, nodes], np.nan)
    deviation = np.array([np.nanstd(of_node, ddof=1) for of_node in own.T])
    times = student_quantile(quantile, count - 1)
    return times * deviation


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
    found_at_callers = _sums(costs.absorbed, graph.callee, total.size)[0]
    lost = np.maximum(total, 0) - found_at_callers
    where_it_leaves = _entries(graph) if target is None else target
    lost[where_it_leaves] = 0.0
    similar = _cosines(costs.excess[0]) >= config.min_cosine
    bridged = np.zeros_like(own)
    for node in np.argsort(-lost, kind="stable"):
        if lost[node] <= noise[node]:
            continue
        is_large = lost[node] >= config.min_size_ratio * own
        is_beyond = own > noise
        possible = similar[node] & is_large & is_beyond & ~reach[node]
        if not possible.any():
            continue
        callers = np.flatnonzero(possible)
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
    squares = excess**2
    length = np.sqrt(squares.sum(axis=0))
    unit = np.zeros_like(excess)
    np.divide(excess, length, out=unit, where=length > 0)
    return unit.T @ unit
