"""How do the spans of a trace hang together, and where did its time go? Self time, critical path, service graph."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.baselines import compiled
from aiops_lab.spans import check
from aiops_lab.windows import Key, codes_of, each_kind, end_ns, failed, kinds, pair_codes, start_ns

_HASH = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads keys over a hash table (Knuth, TAOCP 6.4)


def names(keys: list[Key]) -> dict[Key, str]:
    """Return how each (service, endpoint) is shown: by its route, and by "service route" where two share one."""
    owners: dict[str, set[str]] = {}
    for service, endpoint in keys:
        owners.setdefault(endpoint, set()).add(service)
    return {(s, e): e if len(owners[e]) == 1 else f"{s} {e}" for s, e in keys}


# ---- who is whose parent


def parents(frame: pd.DataFrame) -> NDArray:
    """Return for each span the position of its parent in the frame, -1 for none or one that was not recorded.

    Ids are unique within their trace. Of several spans with the same id, the first one is the parent.
    """
    return _parents(frame)[0]


def _parents(frame: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Return what `parents` does, and which spans have an id that came before."""
    trace = _numbers(frame["trace_id"], 32)
    span = _numbers(frame["span_id"], 16)
    parent_text = frame["parent_id"]
    if not isinstance(parent_text.dtype, pd.StringDtype):
        parent_text = parent_text.astype(object)
    has_parent = parent_text.notna().to_numpy()
    parent = _numbers(parent_text.where(has_parent, "0" * 16), 16)
    if trace is None or span is None or parent is None:
        both = pd.concat([frame["span_id"].astype(object), parent_text[has_parent].astype(object)])
        codes = pd.factorize(both)[0].astype(np.uint64)
        span, parent = codes[: len(frame)], np.zeros(len(frame), dtype=np.uint64)
        parent[has_parent] = codes[len(frame) :]
        trace = pd.factorize(frame["trace_id"])[0].astype(np.uint64)
    return _join(span ^ (trace * _HASH), parent ^ (trace * _HASH), has_parent)


def _numbers(ids: pd.Series, digits: int) -> NDArray | None:
    """Return hexadecimal ids as 64 bits, None if they are something else."""
    if isinstance(ids.dtype, pd.CategoricalDtype):
        values = _numbers(pd.Series(ids.cat.categories, dtype=object), digits)
        return None if values is None else values[ids.cat.codes.to_numpy()]
    texts = ids.tolist()
    try:
        raw = bytes.fromhex("".join(texts))
    except (ValueError, TypeError):
        return None
    known = isinstance(ids.dtype, pd.StringDtype)  # then pandas counts faster
    if (ids.str.len() != digits).any() if known else set(map(len, texts)) - {digits}:
        return None
    if 2 * len(raw) != digits * len(texts):  # blanks among the digits
        return None
    *high, low = np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(-1, digits // 16).T
    return low ^ (high[0] * _HASH + high[0]) if high else low


@compiled
def _join(keys: NDArray, wanted: NDArray, has: NDArray) -> tuple[NDArray, NDArray]:
    size = 1
    while size < 2 * keys.size + 2:
        size *= 2
    mask = np.uint64(size - 1)
    factor = np.uint64(0x9E3779B97F4A7C15)
    shift = np.uint64(20)
    table = np.full(size, -1, dtype=np.int64)
    found = np.full(wanted.size, -1, dtype=np.int64)
    again = np.zeros(keys.size, dtype=np.bool_)
    for i in range(keys.size):
        slot = ((keys[i] * factor) >> shift) & mask
        while table[slot] >= 0 and keys[table[slot]] != keys[i]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = i
        else:
            again[i] = True
    for i in range(wanted.size):
        if has[i]:
            slot = ((wanted[i] * factor) >> shift) & mask
            while table[slot] >= 0 and keys[table[slot]] != wanted[i]:
                slot = (slot + np.uint64(1)) & mask
            if table[slot] != i:
                found[i] = table[slot]
    return found, again


# ---- self time


def self_time(frame: pd.DataFrame) -> pd.Series:
    """Return the self time of each span: its duration less the union of its children's intervals.

    Children are clipped to their parent, and time in which several ran at once counts once, so that a self time is
    never negative.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.

    Returns
    -------
    Series of float, ms, with the frame's index; NaN for spans that are still open.

    Notes
    -----
    Trusts the clocks: a child on another host whose clock is ahead hides time of its parent.
    """
    check(frame)
    start, end, parent = start_ns(frame), end_ns(frame), parents(frame)
    covered = _covered(np.argsort(start, kind="stable"), start, end, parent)
    own = frame["duration_ms"].to_numpy() - covered / 1e6
    return pd.Series(own, index=frame.index, name="self_ms")


@compiled
def _covered(order: NDArray, start: NDArray, end: NDArray, parent: NDArray) -> NDArray:
    """Return the nanoseconds of each span that its children cover: one pass in the order of their starts."""
    covered = np.zeros(start.size, dtype=np.int64)
    reach = start.copy()  # up to where the span is covered
    for i in order:
        p = parent[i]
        if p >= 0:
            low, high = max(start[i], reach[p]), min(end[i], end[p])
            if high > low:
                covered[p] += high - low
                reach[p] = high
    return covered


def own_ns(trees: Forest) -> NDArray:
    """Return the self time of each span in ns, after clocks were aligned and children clipped."""
    covered = _covered(np.argsort(trees.start, kind="stable"), trees.start, trees.end, trees.parent)
    return trees.end - trees.start - covered


# ---- the service graph


def service_graph(frame: pd.DataFrame, by: str = "endpoint") -> pd.DataFrame:
    """Return who calls whom, one row a pair.

    A call is a server span with a server span above it (the client span between them counts to the call), or a
    client span whose call never arrived. Its duration is what the caller saw.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    by : {"endpoint", "service"}
        What the nodes are. Endpoints are named by their route, and by "service route" where two services share one.

    Returns
    -------
    DataFrame with the columns caller, callee, calls, errors, p50_ms, p95_ms, sorted by caller and callee.

    Raises
    ------
    ValueError
        If `by` is something else.
    """
    if by not in ("endpoint", "service"):
        raise ValueError(f"by must be 'endpoint' or 'service', got {by!r}")
    calls = calls_of(check(frame))
    shown = names(calls.keys) if by == "endpoint" else {key: key[0] for key in calls.keys}
    labels, place = np.unique(np.array([shown[key] for key in calls.keys], dtype=object), return_inverse=True)
    pair = place[calls.caller] * max(labels.size, 1) + place[calls.callee]
    order = np.lexsort((calls.duration_ms, pair))
    pairs, first, n = np.unique(pair[order], return_index=True, return_counts=True)
    ms = calls.duration_ms[order]
    closed = np.add.reduceat(~np.isnan(ms), first) if n.size else n
    caller, callee = np.divmod(pairs, max(labels.size, 1))
    return pd.DataFrame({
        "caller": labels[caller],
        "callee": labels[callee],
        "calls": n,
        "errors": np.add.reduceat(calls.failed[order].astype(np.int64), first) if n.size else n,
        "p50_ms": _quantile(ms, first, closed, 0.5),
        "p95_ms": _quantile(ms, first, closed, 0.95),
    })  # fmt: skip


def _quantile(values: NDArray, first: NDArray, n: NDArray, q: float) -> NDArray:
    """Return a quantile of each run of sorted values, interpolated between neighbours; NaN for empty runs."""
    at = q * np.maximum(n - 1, 0)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(n - 1, 0))
    lower, upper = values[first + low], values[first + high]
    return np.where(n > 0, lower + (at - low) * (upper - lower), np.nan)


class Calls(NamedTuple):
    """The calls between server spans as arrays, one entry a call; ``keys[code]`` is a (service, endpoint)."""

    keys: list[Key]
    caller: NDArray  # code
    callee: NDArray  # code
    start: NDArray  # Unix ns, where the call arrived (or left, if it never did)
    duration_ms: NDArray  # as the caller saw it
    failed: NDArray


def calls_of(frame: pd.DataFrame) -> Calls:
    """Return the calls between server spans: answered ones, and client spans whose call never arrived."""
    parent = parents(frame)
    server, client, _ = each_kind(frame)
    above = _server_above(parent, server)
    through = np.where(server, parent, -1)
    through[(through >= 0) & ~client[through]] = -1
    answered = np.zeros(len(frame), dtype=bool)
    answered[through[through >= 0]] = True
    lost = client & ~answered & frame["peer"].notna().to_numpy()
    rows = np.flatnonzero((server | lost) & (above >= 0))
    seen = np.where(through[rows] >= 0, through[rows], rows)
    bad = failed(frame)
    keys: dict[Key, int] = {}
    code = np.full(len(frame), -1)
    (service, services), (endpoint, endpoints) = pd.factorize(frame["service"]), pd.factorize(frame["endpoint"])
    code[server] = pair_codes((service[server], services), (endpoint[server], endpoints), keys)
    if lost.any():
        code[lost] = codes_of(frame["peer"][lost], called_endpoints(frame, keys)[lost], keys)
    return Calls(
        list(keys), code[above[rows]], code[rows], start_ns(frame)[rows], frame["duration_ms"].to_numpy()[seen],
        bad[rows] | bad[seen],
    )  # fmt: skip


def called_endpoints(frame: pd.DataFrame, keys: Iterable[Key]) -> pd.Series:
    """Return the endpoints, with the paths of client spans folded to the routes that the called service is known for.

    A client sees ``/orders/17`` where the service has the route ``/orders/<id>``.
    """
    routes = {key for key in keys if "<" in key[1]}
    if not routes or not (client := kinds(frame, "client")).any():
        return frame["endpoint"]
    patterns = [(service, route, _pattern(route)) for service, route in sorted(routes)]

    @cache
    def fold(peer: object, path: str) -> str:
        return next((r for s, r, pattern in patterns if s == peer and pattern.fullmatch(path)), path)

    folded = frame["endpoint"].astype(object)
    folded[client] = [fold(*call) for call in zip(frame["peer"][client], frame["endpoint"][client], strict=True)]
    return folded


def _pattern(route: str) -> re.Pattern[str]:
    """Return what a route of Flask matches: a parameter is anything without a slash, ``path`` parameters anything."""
    pattern = re.escape(re.sub(r"<path:[^>]*>", "\0", re.sub(r"<(?!path:)[^>]*>", "\1", route)))
    return re.compile(pattern.replace("\0", ".+").replace("\1", "[^/]+"))


@compiled
def _server_above(parent: NDArray, server: NDArray) -> NDArray:
    above = np.full(parent.size, -1, dtype=np.int64)
    for i in range(parent.size):
        p, steps = parent[i], 0
        while p >= 0 and not server[p] and steps < parent.size:  # a cycle of parents ends here too
            p, steps = parent[p], steps + 1
        above[i] = p if p >= 0 and server[p] else -1
    return above


# ---- the critical path


class Coded(NamedTuple):
    """A spans frame as integers, made once for all that is asked of it; times in Unix ns."""

    parent: NDArray  # position of the parent, -1 = none
    start: NDArray
    end: NDArray  # `NEVER` = still open
    server: NDArray
    client: NDArray
    log: NDArray
    failed: NDArray
    status: NDArray
    node: NDArray  # code of what the span is about: its own endpoint (server, log), the called one (client)
    service: NDArray  # code in `services`
    services: list[str]


def coded(frame: pd.DataFrame, keys: dict[Key, int]) -> Coded:
    """Return `frame` as integers; `keys` (codes of the endpoints) grows by those that are new.

    A span with an id that came before is its own parent here: it hangs on no root, and counts for nothing.
    """
    server, client, log = each_kind(frame)
    (service, services), endpoint = pd.factorize(frame["service"]), pd.factorize(frame["endpoint"])
    node = np.empty(len(frame), dtype=np.int64)
    node[~client] = pair_codes((service[~client], services), (endpoint[0][~client], endpoint[1]), keys)
    peers = frame["peer"] if isinstance(frame["peer"].dtype, pd.StringDtype) else frame["peer"].astype(object)
    called, peer = called_endpoints(frame, keys), pd.factorize(peers.fillna("?"))
    endpoint = endpoint if called is frame["endpoint"] else pd.factorize(called)
    node[client] = pair_codes((peer[0][client], peer[1]), (endpoint[0][client], endpoint[1]), keys)
    parent, again = _parents(frame)
    return Coded(
        np.where(again, np.arange(again.size), parent), start_ns(frame), end_ns(frame), server, client, log,
        failed(frame), frame["status"].to_numpy(), node, service, [str(name) for name in services],
    )  # fmt: skip


def part_of(spans: Coded, tops: NDArray) -> tuple[Coded, NDArray]:
    """Return the spans of a mask with all that hangs below them, and where they stand in `spans`."""
    state = tops.astype(np.int64)  # 0 unknown, 1 below, 2 not
    _below(spans.parent, state)
    row = np.flatnonzero(state == 1)
    place = np.full(tops.size + 1, -1)  # the last entry is the place of "no parent", which is -1
    place[row] = np.arange(row.size)
    columns = {name: getattr(spans, name)[row] for name in Coded._fields if name not in ("parent", "services")}
    return spans._replace(parent=place[spans.parent[row]], **columns), row


@compiled
def _below(parent: NDArray, state: NDArray) -> None:
    """Find out of which spans that are unknown the parent's parent, and so on, is one that is below."""
    for i in range(parent.size):
        p = i
        while p >= 0 and state[p] == 0:
            state[p] = 2  # for now; a cycle of parents ends here
            p = parent[p]
        if p >= 0 and state[p] == 1:
            p = i
            while state[p] == 2:
                state[p] = 1
                p = parent[p]


class Forest(NamedTuple):
    """All traces of a frame as trees of integers; times in ns, aligned and clipped to their ancestors."""

    parent: NDArray
    root: NDArray  # position of the topmost span, -1 for spans that hang on no root (a cycle of parents)
    start: NDArray
    end: NDArray
    first: NDArray  # children of i, latest end first: child[first[i]:first[i + 1]]
    child: NDArray
    server: NDArray
    log: NDArray
    failed: NDArray
    status: NDArray
    node: NDArray  # as in `Coded`


def forest(spans: Coded, until_ns: int, offsets: dict[tuple[str, str], int], tops: NDArray | None = None) -> Forest:
    """Return the traces as they stood at `until_ns` (Unix ns): what was open then ends there.

    `offsets` holds by how many ns the clock of a called service is ahead of its caller's, by (caller, called). The
    spans in `tops` (a mask) become roots of their own.
    """
    parent = spans.parent if tops is None else np.where(tops, -1, spans.parent)
    start, end = spans.start.copy(), np.minimum(spans.end, until_ns)
    ahead = _ahead(spans, parent, offsets)
    first, child = _children(parent, end)
    ended = end.copy()
    root = _align(parent, first, child, ahead, start, end)
    if (end != ended).any():
        first, child = _children(parent, end)
    return Forest(
        parent, root, start, end, first, child, spans.server, spans.log, spans.failed, spans.status, spans.node
    )


def _ahead(spans: Coded, parent: NDArray, offsets: dict[tuple[str, str], int]) -> NDArray:
    """Return by how many ns the clock of each server span is ahead of its parent's."""
    ahead = np.zeros(parent.size, dtype=np.int64)
    place = {name: code for code, name in enumerate(spans.services)}
    table = np.zeros((len(place), len(place)), dtype=np.int64)
    for (caller, called), ns in offsets.items():
        if caller in place and called in place:
            table[place[caller], place[called]] = ns
    below = np.flatnonzero(spans.server & (parent >= 0))
    ahead[below] = table[spans.service[parent[below]], spans.service[below]]
    return ahead


def _children(parent: NDArray, end: NDArray) -> tuple[NDArray, NDArray]:
    """Return the children of each span in compressed rows, latest end first, ties by position."""
    below = np.flatnonzero(parent >= 0)
    order = below[np.lexsort((-end[below], parent[below]))]
    return np.append(0, np.cumsum(np.bincount(parent[below], minlength=parent.size))), order


@compiled
def _align(parent: NDArray, first: NDArray, child: NDArray, ahead: NDArray, start: NDArray, end: NDArray) -> NDArray:
    """Shift clocks and clip children to their parents, top down and in place; return each span's root."""
    root = np.full(parent.size, -1, dtype=np.int64)
    shift = np.zeros(parent.size, dtype=np.int64)
    stack = np.empty(parent.size, dtype=np.int64)
    depth = 0
    for i in range(parent.size):
        if parent[i] < 0:
            end[i] = max(end[i], start[i])
            root[i] = i
            stack[depth] = i
            depth += 1
    while depth > 0:
        depth -= 1
        i = stack[depth]
        for k in range(first[i], first[i + 1]):
            c = child[k]
            shift[c] = shift[i] + ahead[c]
            start[c] = min(max(start[c] - shift[c], start[i]), end[i])
            end[c] = min(max(end[c] - shift[c], start[c]), end[i])
            root[c] = root[i]
            stack[depth] = c
            depth += 1
    return root


@compiled
def _walk(first: NDArray, child: NDArray, log: NDArray, start: NDArray, end: NDArray, top: int, low: int, high: int,
          span: NDArray, ns: NDArray, stack: NDArray, bounds: NDArray) -> int:  # fmt: skip
    """Split [low, high] of span `top`, walked backwards from its end; return the number of entries written.

    At each moment the request waits for one span: the child that ended last before it, or the span itself.

        parent    |=====|.............|==|      = self time
        child a         |-------|               only up to the start of b
        child b              |========|         ended last, so the parent waited for it
    """
    written, depth = 0, 1
    stack[0], bounds[0, 0], bounds[0, 1] = top, low, high
    while depth > 0:
        depth -= 1
        i, low, t = stack[depth], bounds[depth, 0], bounds[depth, 1]
        own = np.int64(0)
        for k in range(first[i], first[i + 1]):
            c = child[k]
            until, since = min(end[c], t), max(start[c], low)
            if log[c] or until <= since:
                continue
            own += t - until
            stack[depth], bounds[depth, 0], bounds[depth, 1] = c, since, until
            depth += 1
            t = since
        own += t - low
        if own > 0:
            span[written], ns[written] = i, own
            written += 1
    return written


@compiled
def _partition(first: NDArray, child: NDArray, log: NDArray, start: NDArray, end: NDArray, root: NDArray,
               limit: int) -> tuple[NDArray, NDArray]:  # fmt: skip
    span = np.empty(limit, dtype=np.int64)
    ns = np.empty(limit, dtype=np.int64)
    stack = np.empty(limit, dtype=np.int64)
    bounds = np.empty((limit, 2), dtype=np.int64)
    written = 0
    for i in range(root.size):
        if root[i] == i:
            written += _walk(first, child, log, start, end, i, start[i], end[i], span[written:], ns[written:],
                             stack, bounds)  # fmt: skip
    return span[:written], ns[:written]


def partition(trees: Forest) -> tuple[NDArray, NDArray]:
    """Return the critical path of every trace as (position of the span, ns that the request waited for it).

    The entries of a trace add up to the duration of its root, to the nanosecond. Every moment belongs to one span;
    that of a client span is its edge gap, that of a server span its own time. After Yang & Miller's critical path
    (ICDCS 1988) as CRISP draws it (USENIX ATC 2022); the split is by waiting, so what ran in the shade of a later
    child is not counted.
    """
    return _partition(trees.first, trees.child, trees.log, trees.start, trees.end, trees.root, trees.root.size + 1)
