"""Which node of a call graph made the alarmed one dear? Excess accounting on metrics, where there
are no spans.

What a node costs too much is partly its own and partly what its callees cost it. Take from each
node what its callees hand up, and what is left was born there: the ledger of `rca`, on sums over
intervals instead of single requests.

    caller    excess 40 s   <- 36 s passed on by the callee    own  4 s
    callee    excess 48 s   <- nothing below it                own 48 s   the suspect
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from aiops_lab.results import Suspect

METRICS = ("latency", "availability")

QUANTILE = 0.99

"""Own excess up to this quantile of normal windows is noise. Higher: weaker faults rank lower,
fewer false ones.
"""

LEAST = {"latency": 0.05, "availability": 2.0}

"""The least noise of a node: a part of all that it usually costs; failed requests, for one or two
prove nothing.
"""

UNKNOWN = 0.5

"""Noise of a node without normal data, as a part of all that it usually costs. Higher: it is blamed
later.
"""

WINDOWS = 20

"""Normal windows with traffic before the noise of a node counts as known."""

SURE = 3.0

"""Own excess in units of noise at which the confidence is one half. Higher: more silent on normal
windows.
"""

MAIN_PART = 0.5

"""An excess can excuse a node if it is at least this part of the node's own. Lower: more is excused
by little.
"""

SIMILAR_COSINE = 0.9

"""And if their rows run alike: the least cosine between them. Lower: more missing calls are
guessed.
"""


class Metrics(NamedTuple):
    """The cost of a request (s, or share of failures; NaN: not measured) and requests, each (rows,
    nodes).
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
    """What was too dear in each window: reference cost, requests, excess and what callees passed
    on, by node.
    """

    reference: NDArray  # (windows, nodes)
    requests: NDArray  # (windows, nodes)
    excess: NDArray  # (windows, rows, nodes)
    absorbed: NDArray  # (windows, edges): the callee's excess that this caller takes over
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
) -> list[Suspect]:
    """Return the nodes whose own cost rose, the likeliest cause of the alarm first.

    The cost of a request is its mean latency (s) or the share of failures, after
    ``target["metric"]``. Its reference is the dearer of what it was before the alarm and the median
    of `normal`, since levels drift between the two. The excess of a node is the sum of (cost -
    reference) x requests; its own excess is that less the excess of its callees, each shared among
    its callers by traffic; the score is the own excess beyond its 99th percentile in normal
    windows.

    Calls may be missing from `calls`: an excess that surfaces at no known caller must have surfaced
    at one that is not known. It is taken to be the node with the largest own excess that runs
    alike, is at most twice as large and is not itself called from there.

    Assumes that callers wait for their callees, and one fault at a time. A node that only answers
    faster or slower because its mix of requests changed looks like a fault.

    Parameters
    ----------
    normal, abnormal : DataFrame
        Index: start of the interval (Unix s), increasing. Columns: (node, metric, statistic); used
        are (node, "latency" in s or "availability" in percent, "Average") and (node, "requests",
        "Sum"). The alarm is in `abnormal`; its first row, and all but the last of those that end
        before the alarm, are what was before. Intervals without requests have no cost (NaN). Nodes
        may be missing from `normal`: for the noise of those, half of what they cost before the
        alarm is taken.
    calls : iterable of (caller, callee)
        Without cycles. Nodes that `abnormal` does not measure are bridged: what they call, their
        callers call.
    target : mapping
        The alarm: "node", "metric" ("latency" or "availability") and "timestamp" (Unix s).

    Returns
    -------
    list of Suspect
        Nodes with an own excess above 0, highest score first, equal scores by name. ``service`` is
        the node, ``score`` in seconds or failed requests (not above 0: within the noise), ``share``
        its part of all positive scores. ``confidence`` is r / (r + 3) with r = own excess over
        noise: one half where it is three times the noise, which fewer than 3 in 100 normal windows
        of PetShop reach. It is a scale, not learned from labels. ``evidence`` is the row of the
        node: usual, now (cost of a request), requests, excess, passed_on (by callees), bridged (by
        callees that `calls` does not know), own and noise.

    Raises
    ------
    ValueError
        For a frame with less than the needed rows or columns, an index that does not increase,
        values out of range, an unknown target or a cycle of calls: what, and which value.

    References
    ----------
    Measured on Hardt et al., "The PetShop Dataset", CLeaR 2024, arXiv 2311.04806. That a node is a
    cause when it is abnormal beyond what its callees explain is the idea of "anomaly traversal"
    there.

    Examples
    --------
    >>> columns = [(n, m, s) for n in ("front", "back") for m, s in (("latency", "Average"),
    ("requests", "Sum"))]
    >>> usual = pd.DataFrame([[0.3, 10, 0.1, 10]] * 30, range(0, 9000, 300),
    pd.MultiIndex.from_tuples(columns))
    >>> slow = usual.iloc[:3].copy()
    >>> slow.iloc[1:, [0, 2]] += 0.2
    >>> alarm = {"node": "front", "metric": "latency", "timestamp": 400}
    >>> [s.service for s in rank_from_metrics(usual, slow, [("front", "back")], alarm)]
    ['back']
    """
    metric, node, when = _checked_target(target)
    _check_frame("normal", normal, rows=1)
    _check_frame("abnormal", abnormal, rows=2)
    _check_steps(normal, abnormal)
    nodes = _nodes(abnormal, metric, node)
    now, usual = (
        _metrics("abnormal", abnormal, nodes, metric),
        _metrics("normal", normal, nodes, metric),
    )
    graph = _graph(calls, nodes)
    before = _rows_before(abnormal.index.to_numpy(dtype=float), when)
    typical = _median(usual.cost)
    books = _books(now, typical, graph, len(abnormal), before)
    noise = _noise(
        _books(usual, typical, graph, len(abnormal), before), books, metric, np.isfinite(typical)
    )
    bridged = _bridged(books, graph, nodes.index(node), noise)
    return _suspects(nodes, metric, now.cost[before:], now.requests[before:], books, bridged, noise)


# ---- what comes in


def _checked_target(target: Mapping[str, Any]) -> tuple[str, str, float]:
    if not isinstance(target, Mapping):
        raise ValueError(f"target must be a mapping, got {type(target).__name__}")
    missing = [key for key in ("node", "metric", "timestamp") if key not in target]
    if missing:
        raise ValueError(f"target must have {missing[0]!r}, got {sorted(target)}")
    if target["metric"] not in METRICS:
        raise ValueError(f"target metric must be one of {list(METRICS)}, got {target['metric']!r}")
    when = target["timestamp"]
    if (
        isinstance(when, bool)
        or not isinstance(when, (int, float, np.number))
        or not np.isfinite(when)
    ):
        raise ValueError(f"target timestamp must be a number of seconds, got {when!r}")
    return target["metric"], target["node"], float(when)


def _check_frame(name: str, frame: pd.DataFrame, rows: int) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} must be a DataFrame, got {type(frame).__name__}")
    if frame.columns.nlevels != 3:
        raise ValueError(
            f"{name} must have columns (node, metric, statistic), got {frame.columns.nlevels} levels"
        )
    if not frame.columns.is_unique:
        raise ValueError(
            f"{name} must have each column once, got {frame.columns[frame.columns.duplicated()][0]} twice"
        )
    if len(frame) < rows:
        raise ValueError(f"{name} must have at least {rows} interval(s), got {len(frame)}")
    index = frame.index
    if (
        not pd.api.types.is_numeric_dtype(index.dtype)
        or not np.isfinite(index.to_numpy(dtype=float)).all()
    ):
        raise ValueError(
            f"{name} must be indexed by Unix seconds, got {index.dtype} from {index[0]}"
        )
    late = np.flatnonzero(np.diff(index.to_numpy(dtype=float)) <= 0)
    if late.size:
        raise ValueError(
            f"{name} index must increase, got {index[late[0]]} before {index[late[0] + 1]}"
        )


def _check_steps(normal: pd.DataFrame, abnormal: pd.DataFrame) -> None:
    """Costs of a minute and of an hour scatter differently: one cannot be the measure of the other."""
    steps = [
        float(np.median(np.diff(frame.index.to_numpy(dtype=float))))
        for frame in (normal, abnormal)
        if len(frame) > 1
    ]
    if max(steps) > 1.01 * min(steps):
        raise ValueError(
            f"normal and abnormal must have intervals of one length, got {steps[0]:g} s and {steps[1]:g} s"
        )


def _nodes(abnormal: pd.DataFrame, metric: str, target: str) -> list[str]:
    """Return the nodes that `abnormal` measures; the target must be one of them."""
    known = set(abnormal.columns.get_level_values(0))
    if target not in known:
        raise ValueError(
            f"target node must be one of abnormal's {len(known)} nodes, got {target!r}"
        )
    if (target, metric, "Average") not in abnormal.columns:
        raise ValueError(f"abnormal must have the column {(target, metric, 'Average')}")
    return sorted(node for node in known if (node, metric, "Average") in abnormal.columns)


def _metrics(name: str, frame: pd.DataFrame, nodes: list[str], metric: str) -> Metrics:
    known = set(frame.columns)
    if not any((n, metric, "Average") in known for n in nodes):
        raise ValueError(
            f"{name} must have a column (node, {metric!r}, 'Average') of a node of abnormal, got none"
        )
    odd = [
        n for n in nodes if (n, metric, "Average") in known and (n, "requests", "Sum") not in known
    ]
    if odd:
        raise ValueError(f"{name} must have the column {(odd[0], 'requests', 'Sum')}")
    cost = _table(
        name, frame, nodes, metric, "Average", 100.0 if metric == "availability" else np.inf
    )
    requests = np.nan_to_num(_table(name, frame, nodes, "requests", "Sum", np.inf))
    return Metrics(1.0 - cost / 100.0 if metric == "availability" else cost, requests)


def _table(
    name: str, frame: pd.DataFrame, nodes: list[str], metric: str, statistic: str, top: float
) -> NDArray:
    columns = [(node, metric, statistic) for node in nodes]
    values = frame.reindex(columns=pd.MultiIndex.from_tuples(columns))
    try:
        table = values.to_numpy(dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers in the columns {(metric, statistic)}") from None
    row, column = np.nonzero((table < 0) | (table > top * (1 + 1e-9)) | np.isinf(table))
    if row.size:
        bad = table[row[0], column[0]]
        raise ValueError(
            f"{name} column {columns[column[0]]} must be finite, from 0 to {top:g}, got {bad}"
        )
    return table


def _graph(calls: Iterable[tuple[str, str]], nodes: list[str]) -> Graph:
    """Return the calls between `nodes`, with paths through other nodes drawn together to one call."""
    callees: dict[str, set[str]] = {}
    if isinstance(calls, str) or not isinstance(calls, Iterable):
        raise ValueError(f"calls must be pairs (caller, callee), got {calls!r}")
    for call in calls:
        if (
            not isinstance(call, (tuple, list))
            or len(call) != 2
            or not all(isinstance(n, str) for n in call)
        ):
            raise ValueError(f"calls must be pairs (caller, callee), got {call!r}")
        callees.setdefault(call[0], set()).add(call[1])
    place = {node: k for k, node in enumerate(nodes)}
    below: dict[str, set[int]] = {}  # the nearest measured nodes that a node leads to
    reach = np.eye(len(nodes), dtype=bool)
    for node in _callees_first(callees):
        onward = ({place[c]} if c in place else below[c] for c in callees.get(node, ()))
        below[node] = set[int]().union(*onward)
        if node in place:
            reach[place[node]] |= reach[sorted(below[node])].any(axis=0)
    if callees and not any(node in place for node in below):
        raise ValueError(
            f"calls must name nodes of abnormal, got only others, such as {next(iter(callees))!r}"
        )
    edges = np.array(
        sorted((place[n], c) for n in below if n in place for c in below[n]), dtype=int
    ).reshape(-1, 2)
    return Graph(edges[:, 0], edges[:, 1], reach)


def _callees_first(callees: dict[str, set[str]]) -> list[str]:
    try:
        return list(TopologicalSorter(callees).static_order())
    except CycleError as error:
        raise ValueError(
            f"calls must have no cycle, got {' -> '.join(map(str, error.args[1][::-1]))}"
        ) from None


def _rows_before(starts: NDArray, when: float) -> int:
    """Return how many rows show what was before the alarm: a fault begins up to one interval before
    its alarm.
    """
    ended = int((starts + np.diff(starts).min() <= when).sum())
    return min(max(1, ended - 1), len(starts) - 1)


def _median(cost: NDArray) -> NDArray:
    """Return the median of each column, NaN where a node was never measured."""
    known = np.isfinite(cost).any(axis=0)
    typical = np.full(cost.shape[1], np.nan)
    typical[known] = np.nanmedian(cost[:, known], axis=0)
    return typical


# ---- the accounts


def _books(metrics: Metrics, typical: NDArray, graph: Graph, rows: int, before: int) -> MetricCosts:
    """Return the books of every window of `rows` rows, of which the first `before` show what was
    before.
    """
    cost, requests = (_windows(table, rows) for table in metrics)
    reference = np.fmax(_mean_cost(cost[:, :before], requests[:, :before]), typical)
    excess = np.nan_to_num((cost[:, before:] - reference[:, None]) * requests[:, before:])
    served = requests[:, before:].sum(axis=1)
    handed_up = _shares(served, graph) * np.maximum(excess.sum(axis=1), 0)[:, graph.callee]
    room = np.maximum(excess.sum(axis=1), 0)[:, graph.caller]
    passed_on = _sums(handed_up, graph.caller, served.shape[1])
    return MetricCosts(reference, served, excess, np.minimum(handed_up, room), passed_on)


def _windows(table: NDArray, rows: int) -> NDArray:
    if len(table) < rows:
        return np.empty((0, rows, table.shape[1]))
    return np.moveaxis(sliding_window_view(table, rows, axis=0), -1, 1)


def _mean_cost(cost: NDArray, requests: NDArray) -> NDArray:
    """Return the mean cost of a request over the rows (the second axis), NaN where there was none."""
    weight = np.where(np.isfinite(cost), requests, 0.0)
    total = weight.sum(axis=1)
    spent = (np.nan_to_num(cost) * weight).sum(axis=1)
    return np.divide(spent, total, out=np.full(total.shape, np.nan), where=total > 0)


def _shares(served: NDArray, graph: Graph) -> NDArray:
    """Return the part of the callee's requests that comes from this caller; no call is more than
    either serves.
    """
    traffic = np.minimum(served[:, graph.caller], served[:, graph.callee])
    total = _sums(traffic, graph.callee, served.shape[1])[:, graph.callee]
    return np.divide(traffic, total, out=np.zeros_like(traffic), where=total > 0)


def _sums(values: NDArray, nodes: NDArray, size: int) -> NDArray:
    """Return the sum of the edges' `values` at each of their `nodes`, window by window."""
    sums = np.zeros((len(values), size))
    np.add.at(sums.T, nodes, values.T)
    return sums


def _noise(normal: MetricCosts, books: MetricCosts, metric: str, measured: NDArray) -> NDArray:
    """Return the own excess of each node that says nothing."""
    spent = np.nan_to_num(books.reference[0]) * books.requests[0]
    least = LEAST[metric] * (spent if metric == "latency" else np.ones_like(spent))
    unknown = np.maximum(UNKNOWN * spent, least)
    if len(normal.requests) == 0:
        return unknown
    known = measured & ((normal.requests > 0).sum(axis=0) >= WINDOWS)
    return np.where(known, np.maximum(np.quantile(normal.own, QUANTILE, axis=0), least), unknown)


def _bridged(books: MetricCosts, graph: Graph, target: int, noise: NDArray) -> NDArray:
    """Return how much of each node's own excess comes from callees that the calls do not name.

    An excess that no caller shows, the target's aside, has left the known graph; it goes where it
    came in again.
    """
    total, own, reach = books.total[0], books.own[0].copy(), graph.reach.copy()
    lost = np.maximum(total, 0) - _sums(books.absorbed, graph.callee, total.size)[0]
    lost[target] = 0.0
    alike = _cosines(books.excess[0])
    bridged = np.zeros_like(own)
    for node in np.argsort(-lost, kind="stable"):
        if lost[node] <= noise[node]:
            continue
        same = (alike[node] >= SIMILAR_COSINE) & (lost[node] >= MAIN_PART * own)
        callers = np.flatnonzero(same & (own > noise) & ~reach[node])
        if callers.size == 0:
            continue
        caller = callers[np.argmax(own[callers])]
        part = min(lost[node], own[caller])
        bridged[caller] += part
        own[caller] -= part
        reach[reach[:, caller]] |= reach[node]
    return bridged


def _cosines(excess: NDArray) -> NDArray:
    """Return how alike the rows of any two nodes run: 1 the same course, 0 none in common."""
    length = np.sqrt((excess**2).sum(axis=0))
    unit = np.divide(excess, length, out=np.zeros_like(excess), where=length > 0)
    return unit.T @ unit


# ---- what goes out


def _suspects(
    nodes: list[str],
    metric: str,
    cost: NDArray,
    requests: NDArray,
    books: MetricCosts,
    bridged: NDArray,
    noise: NDArray,
) -> list[Suspect]:
    own = books.own[0] - bridged
    score = own - noise
    table = {
        "usual": books.reference[0],
        "now": _mean_cost(cost[None], requests[None])[0],
        "requests": books.requests[0],
        "excess": books.total[0],
        "passed_on": books.passed_on[0],
        "bridged": bridged,
        "own": own,
        "noise": noise,
    }
    positive = np.maximum(score, 0)
    share = positive / max(positive.sum(), np.finfo(float).tiny)
    # nodes are sorted: equal scores go by name
    best = [k for k in np.argsort(-score, kind="stable") if own[k] > 0]
    return [
        Suspect(
            service=nodes[k],
            endpoint="",
            name=nodes[k],
            score=float(score[k]),
            confidence=float(own[k] / (own[k] + SURE * noise[k])),
            share=float(share[k]),
            evidence=(
                {"node": nodes[k], "metric": metric}
                | {name: float(v[k]) for name, v in table.items()},
            ),
        )
        for k in best
    ]
