"""Which node of a call graph caused an alarm, judged by metrics alone, without spans?

The cost of a node in excess of its usual cost is partly its own and partly that of its callees.
Subtract from each node what its callees pass on, and what is left originated there: the ledger of
`rank_root_causes`, on sums over intervals instead of single requests.

    caller    excess 40 s   <- 36 s passed on by the callee    own  4 s
    callee    excess 48 s   <- no callee                       own 48 s   the suspect
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from aiops_lab.checks import check_number
from aiops_lab.results import Suspect

METRICS = ("latency", "availability")


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """The constants of `rank_from_metrics`.

    Parameters
    ----------
    quantile : float, 0 to 1
        Own excess up to this quantile of the normal windows is noise. Default 0.99: one window in a
        hundred is noisier. Higher: fewer false suspects, and weak faults rank lower.
    min_latency_share : float
        The least noise of a latency, as a share of the node's usual cost. Default 0.05: nobody
        looks for the cause of a rise by a twentieth. Higher: weak faults rank lower.
    min_failures : float
        The least noise of an availability, in failed requests. Default 2: one failure, or two,
        prove nothing. Higher: rare failures rank lower.
    unknown_share : float
        The noise of a node without enough normal data, as a share of its usual cost. Default 0.5.
        Higher: such a node ranks lower.
    min_windows : int
        Normal windows with requests from which the noise of a node is known. Default 20: fewer say
        little of the tail. Higher: `unknown_share` is used for more nodes.
    noise_ratio : float
        Own excess, in units of noise, at which the confidence is one half. Default 3: fewer than 3
        in 100 normal windows of PetShop reach it. Higher: all confidences are lower.
    min_size_ratio : float
        A call that is missing from the graph is assumed only where the callee's excess is at least
        this part of the caller's own. Default 0.5. Lower: more calls are assumed.
    min_cosine : float
        And only where the cosine between the two excesses over the intervals is at least this.
        Default 0.9. Lower: more calls are assumed. Above 1: none.

    Raises
    ------
    FieldError
        A value is no number or out of its range.
    """

    quantile: float = 0.99
    min_latency_share: float = 0.05
    min_failures: float = 2.0
    unknown_share: float = 0.5
    min_windows: int = 20
    noise_ratio: float = 3.0
    min_size_ratio: float = 0.5
    min_cosine: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            highest = 1 if field.name == "quantile" else np.inf
            check_number(field.name, getattr(self, field.name), 0, highest)


class MetricTables(NamedTuple):
    """The mean cost of a request (s, or share of failures; NaN: not measured) and the number of
    requests, both of shape (rows, nodes).
    """

    cost: NDArray
    requests: NDArray


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
    requests: NDArray  # (windows, nodes)
    excess: NDArray  # (windows, rows, nodes)
    absorbed: NDArray  # (windows, edges): the callee's excess that appears in this caller's
    passed_on: NDArray  # (windows, nodes)

    @property
    def total(self) -> NDArray:
        return self.excess.sum(axis=1)

    @property
    def own(self) -> NDArray:
        return self.total - self.passed_on


def rank_from_metrics(
    normal: pd.DataFrame,
    abnormal: pd.DataFrame,
    calls: Iterable[tuple[str, str]],
    target: Mapping[str, Any],
    *,
    config: MetricsConfig | None = None,
) -> list[Suspect]:
    """Return the nodes whose own cost rose, the likeliest cause of the alarm first.

    The cost of a request is its mean latency (s) or the share of failures, after
    ``target["metric"]``. Its reference is the higher of its mean before the alarm and the median of
    `normal`, since levels drift between the two. The excess of a node is the sum of (cost -
    reference) x requests; its own excess is that less the excess of its callees, each shared among
    its callers by traffic; the score is the own excess beyond its 99th percentile in normal
    windows.

    Calls may be missing from `calls`: an excess that appears at no known caller must have appeared
    at an unknown one. That is taken to be the node with the largest own excess whose course is
    similar, that is at most twice as large and that cannot be reached from there.

    Assumes that callers wait for their callees, and one fault at a time. A node whose cost changed
    only because its mix of requests did looks like a fault.

    Parameters
    ----------
    normal, abnormal : DataFrame
        Index: start of the interval (Unix s), increasing. Columns: (node, metric, statistic); used
        are (node, "latency" in s or "availability" in percent, "Average") and (node, "requests",
        "Sum"). The alarm is in `abnormal`; its first row, and all but the last of those that end
        before the alarm, show the time before. Intervals without requests have no cost (NaN). Nodes
        may be missing from `normal`: half of their cost before the alarm is taken for their noise.
    calls : iterable of (caller, callee)
        Without cycles. Nodes that `abnormal` does not measure are bridged: their callers are taken
        to call their callees.
    target : mapping
        The alarm: "node", "metric" ("latency" or "availability") and "timestamp" (Unix s).
    config : MetricsConfig, optional
        The constants. Default: those of `MetricsConfig`.

    Returns
    -------
    list of Suspect
        Nodes with an own excess above 0, highest score first, equal scores by name. ``service`` is
        the node, ``score`` in seconds or failed requests (not above 0: within the noise), ``share``
        its part of all positive scores. ``confidence`` is r / (r + 3) with r = own excess over
        noise: one half where it is three times the noise, which fewer than 3 in 100 normal windows
        of PetShop reach. It is a scale, not learned from labels. ``evidence`` is the row of the
        node: usual, now (cost of a request), requests, excess, passed_on (by callees), bridged (by
        callees that `calls` does not name), own and noise.

    Raises
    ------
    ValueError
        For a frame with less than the needed rows or columns, an index that does not increase,
        values out of range, an unknown target or a cycle of calls: what, and which value.

    References
    ----------
    Measured on Hardt et al., "The PetShop Dataset", CLeaR 2024, arXiv 2311.04806. The idea that a
    node is a cause when it is abnormal beyond what its callees explain is the "anomaly traversal"
    there.

    Examples
    --------
    >>> columns = [(n, *m) for n in "ab" for m in (("latency", "Average"), ("requests", "Sum"))]
    >>> columns = pd.MultiIndex.from_tuples(columns)
    >>> normal = pd.DataFrame([[0.3, 10, 0.1, 10]] * 30, range(0, 9000, 300), columns)
    >>> slow = normal.iloc[:3].copy()
    >>> slow.iloc[1:, [0, 2]] += 0.2
    >>> alarm = {"node": "a", "metric": "latency", "timestamp": 400}
    >>> [s.service for s in rank_from_metrics(normal, slow, [("a", "b")], alarm)]
    ['b']
    """
    config = config or MetricsConfig()
    metric, node, alarm_s = _checked_target(target)
    _check_frame("normal", normal, rows=1)
    _check_frame("abnormal", abnormal, rows=2)
    _check_steps(normal, abnormal)
    nodes = _nodes(abnormal, metric, node)
    now = _metrics("abnormal", abnormal, nodes, metric)
    usual = _metrics("normal", normal, nodes, metric)
    graph = _graph(calls, nodes)
    before = _rows_before(_starts(abnormal), alarm_s)
    typical = pd.DataFrame(usual.cost).median().to_numpy()
    costs = _costs(now, typical, graph, len(abnormal), before)
    normal_costs = _costs(usual, typical, graph, len(abnormal), before)
    noise = _noise(normal_costs, costs, metric, np.isfinite(typical), config)
    bridged = _bridged(costs, graph, nodes.index(node), noise, config)
    cost_now = _mean_cost(now.cost[None, before:], now.requests[None, before:])
    evidence = {
        "usual": costs.reference[0],
        "now": cost_now[0],
        "requests": costs.requests[0],
        "excess": costs.total[0],
        "passed_on": costs.passed_on[0],
        "bridged": bridged,
        "own": costs.own[0] - bridged,
        "noise": noise,
    }
    return _suspects(pd.DataFrame(evidence, nodes), metric, config)


# ---- input


def _checked_target(target: Mapping[str, Any]) -> tuple[str, str, float]:
    if not isinstance(target, Mapping):
        raise ValueError(f"target must be a mapping, got {type(target).__name__}")
    for key in ("node", "metric", "timestamp"):
        if key not in target:
            raise ValueError(f"target must have {key!r}, got {sorted(target)}")
    metric = target["metric"]
    alarm_s = target["timestamp"]
    if metric not in METRICS:
        raise ValueError(f"target metric must be one of {list(METRICS)}, got {metric!r}")
    is_number = isinstance(alarm_s, (int, float, np.number)) and not isinstance(alarm_s, bool)
    if not is_number or not np.isfinite(alarm_s):
        raise ValueError(f"target timestamp must be a number of seconds, got {alarm_s!r}")
    return metric, target["node"], float(alarm_s)


def _check_frame(name: str, frame: pd.DataFrame, rows: int) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} must be a DataFrame, got {type(frame).__name__}")
    columns = frame.columns
    index = frame.index
    if columns.nlevels != 3:
        rule = "must have columns (node, metric, statistic)"
        raise ValueError(f"{name} {rule}, got {columns.nlevels} levels")
    if not columns.is_unique:
        twice = columns[columns.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    if len(frame) < rows:
        raise ValueError(f"{name} must have at least {rows} interval(s), got {len(frame)}")
    if not pd.api.types.is_numeric_dtype(index.dtype) or not np.isfinite(_starts(frame)).all():
        rule = "must be indexed by Unix seconds"
        raise ValueError(f"{name} {rule}, got {index.dtype} from {index[0]}")
    late = np.flatnonzero(np.diff(_starts(frame)) <= 0)
    if late.size:
        first = late[0]
        raise ValueError(
            f"{name} index must increase, got {index[first]} before {index[first + 1]}"
        )


def _starts(frame: pd.DataFrame) -> NDArray:
    return frame.index.to_numpy(dtype=float)


def _check_steps(normal: pd.DataFrame, abnormal: pd.DataFrame) -> None:
    """Refuse intervals of two lengths: costs of a minute and of an hour scatter differently."""
    if len(normal) == 1:
        return
    steps = [float(np.median(np.diff(_starts(frame)))) for frame in (normal, abnormal)]
    if max(steps) > 1.01 * min(steps):
        rule = "normal and abnormal must have intervals of one length"
        raise ValueError(f"{rule}, got {steps[0]:g} s and {steps[1]:g} s")


def _nodes(abnormal: pd.DataFrame, metric: str, target: str) -> list[str]:
    """Return the nodes that `abnormal` measures; the target must be one of them."""
    named = abnormal.columns.unique(0)
    if target not in named:
        rule = f"must be one of abnormal's {len(named)} nodes"
        raise ValueError(f"target node {rule}, got {target!r}")
    measured = [node for node in named if (node, metric, "Average") in abnormal.columns]
    if target not in measured:
        raise ValueError(f"abnormal must have the column {(target, metric, 'Average')}")
    return sorted(measured)


def _metrics(name: str, frame: pd.DataFrame, nodes: list[str], metric: str) -> MetricTables:
    measured = [node for node in nodes if (node, metric, "Average") in frame.columns]
    if not measured:
        rule = f"must have a column (node, {metric!r}, 'Average') of a node of abnormal"
        raise ValueError(f"{name} {rule}, got none")
    for node in measured:
        if (node, "requests", "Sum") not in frame.columns:
            raise ValueError(f"{name} must have the column {(node, 'requests', 'Sum')}")
    requests = np.nan_to_num(_table(name, frame, nodes, "requests", "Sum"))
    value = _table(name, frame, nodes, metric, "Average")
    return MetricTables(1.0 - value / 100.0 if metric == "availability" else value, requests)


def _table(
    name: str, frame: pd.DataFrame, nodes: list[str], metric: str, statistic: str
) -> NDArray:
    """Return the values of one metric, shape (rows, nodes), NaN where they are missing."""
    columns = pd.MultiIndex.from_product([nodes, [metric], [statistic]])
    try:
        table = frame.reindex(columns=columns).to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers in the columns {(metric, statistic)}") from None
    highest = 100.0 if metric == "availability" else np.inf
    rounded = highest * (1 + 1e-9)  # 100 % may be a little more, as a quotient
    row, column = np.nonzero((table < 0) | (table > rounded) | np.isinf(table))
    if row.size:
        rule = f"must be finite, from 0 to {highest:g}"
        raise ValueError(
            f"{name} column {columns[column[0]]} {rule}, got {table[row[0], column[0]]}"
        )
    return table


def _graph(calls: Iterable[tuple[str, str]], nodes: list[str]) -> Graph:
    """Return the calls between `nodes`, with paths through other nodes contracted to one call."""
    callees = _callees(calls)
    position = {node: k for k, node in enumerate(nodes)}
    below: dict[str, set[int]] = {}  # the nearest measured nodes that a node leads to
    reach = np.eye(len(nodes), dtype=bool)
    edges: list[tuple[int, int]] = []
    for node in _callees_first(callees):
        onward = [{position[c]} if c in position else below[c] for c in callees.get(node, ())]
        below[node] = set[int]().union(*onward)
        if node in position:
            caller = position[node]
            nearest = sorted(below[node])
            reach[caller] |= reach[nearest].any(axis=0)
            edges += [(caller, callee) for callee in nearest]
    if callees and position.keys().isdisjoint(below):
        first = next(iter(callees))
        raise ValueError(f"calls must name nodes of abnormal, got only others, such as {first!r}")
    caller_callee = np.array(sorted(edges), dtype=int).reshape(-1, 2)
    return Graph(caller_callee[:, 0], caller_callee[:, 1], reach)


def _callees(calls: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    if isinstance(calls, str) or not isinstance(calls, Iterable):
        raise ValueError(f"calls must be pairs (caller, callee), got {calls!r}")
    callees: dict[str, set[str]] = {}
    for call in calls:
        if not isinstance(call, (tuple, list)) or list(map(type, call)) != [str, str]:
            raise ValueError(f"calls must be pairs (caller, callee), got {call!r}")
        callees.setdefault(call[0], set()).add(call[1])
    return callees


def _callees_first(callees: dict[str, set[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(callees).static_order())
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise ValueError(f"calls must have no cycle, got {cycle}") from None


def _rows_before(starts: NDArray, alarm_s: float) -> int:
    """Return how many rows show the time before the alarm: a fault begins up to one interval before
    its alarm.
    """
    ended = int((starts + np.diff(starts).min() <= alarm_s).sum())
    return min(max(1, ended - 1), len(starts) - 1)


# ---- accounts


def _costs(
    metrics: MetricTables, typical: NDArray, graph: Graph, rows: int, before: int
) -> MetricCosts:
    """Return the costs of every window of `rows` rows, of which the first `before` show the time
    before.
    """
    cost, requests = (_windows(table, rows) for table in metrics)
    reference = np.fmax(_mean_cost(cost[:, :before], requests[:, :before]), typical)
    requests_after = requests[:, before:]
    excess = np.nan_to_num((cost[:, before:] - reference[:, None]) * requests_after)
    served = requests_after.sum(axis=1)
    positive = np.maximum(excess.sum(axis=1), 0)
    passed_up = _shares(served, graph) * positive[:, graph.callee]
    absorbed = np.minimum(passed_up, positive[:, graph.caller])
    passed_on = _sums(passed_up, graph.caller, len(typical))
    return MetricCosts(reference, served, excess, absorbed, passed_on)


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
    normal: MetricCosts, costs: MetricCosts, metric: str, measured: NDArray, config: MetricsConfig
) -> NDArray:
    """Return the own excess of each node up to which it is noise."""
    spent = np.nan_to_num(costs.reference[0]) * costs.requests[0]
    least = config.min_latency_share * spent if metric == "latency" else config.min_failures
    unknown = np.maximum(config.unknown_share * spent, least)
    if len(normal.requests) == 0:
        return unknown
    known = measured & ((normal.requests > 0).sum(axis=0) >= config.min_windows)
    noise = np.maximum(np.quantile(normal.own, config.quantile, axis=0), least)
    return np.where(known, noise, unknown)


def _bridged(
    costs: MetricCosts, graph: Graph, target: int, noise: NDArray, config: MetricsConfig
) -> NDArray:
    """Return how much of each node's own excess comes from callees that the calls do not name.

    An excess that appears at no caller, other than the target's, has left the known graph; it is
    assigned to the node where it most likely entered again.
    """
    total = costs.total[0]
    own = costs.own[0].copy()
    reach = graph.reach.copy()
    lost = np.maximum(total, 0) - _sums(costs.absorbed, graph.callee, total.size)[0]
    lost[target] = 0.0
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


def _cosines(excess: NDArray) -> NDArray:
    """Return the cosine between the courses of any two nodes: 1 for one course, 0 for disjoint."""
    length = np.sqrt((excess**2).sum(axis=0))
    unit = np.divide(excess, length, out=np.zeros_like(excess), where=length > 0)
    return unit.T @ unit


# ---- output


def _suspects(evidence: pd.DataFrame, metric: str, config: MetricsConfig) -> list[Suspect]:
    """Return the nodes with an own excess; `evidence` is sorted by name, for equal scores."""
    own = evidence["own"]
    noise = evidence["noise"]
    score = own - noise
    positive = score.clip(lower=0)
    share = positive / max(positive.sum(), np.finfo(float).tiny)
    confidence = own / (own + config.noise_ratio * noise)
    table = evidence.assign(score=score, confidence=confidence, share=share)
    ranked = table[own > 0].sort_values("score", ascending=False, kind="stable")
    suspects = []
    for node, row in zip(ranked.index.tolist(), ranked.to_dict("records"), strict=True):
        numbers = {name: row.pop(name) for name in ("score", "confidence", "share")}
        told = {"node": node, "metric": metric} | row
        suspects.append(Suspect(node, "", name=node, evidence=(told,), **numbers))
    return suspects
