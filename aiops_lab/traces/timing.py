"""Which calls were waited for, and whose clock is ahead?

A child that lies outside its parent has either been left behind by it, or was timed by another
clock. Within one process there is one clock, so there it was left behind. Between two, lengths
tell: a caller that waited takes at least as long as its callee, whatever the clocks say. What fits
by its length is taken as waited for, and moved to where it fits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, EncodedSpans

LONGER, LONGER_NS = 1.5, 1_000_000
"""A callee that takes this many times as long as the call, and this much more, was not waited for:
neither two clocks nor the end of a body that is read later makes so much of a difference."""

OUTLIVES_NS = 1_000_000
"""A child that ends by so much after its parent, by the same clock, was not waited for. Less is
the order in which two spans happen to be closed."""

MOST_OF_AN_EDGE = 0.5
"""Share of an edge's calls that were not waited for, above which none of them counts as such."""

Edge = tuple[Key | None, Key, bool]
"""An edge of the traces: the endpoint above (None: nobody), the one of the span, and whether that
served it."""


Edges = frozenset[Edge]


class Timing(NamedTuple):
    """How callers and callees belong together.

    ``ahead``: by how many ns the clock of a called host is ahead of its caller's, by (caller,
    callee); a host is named by its instance, or where none is known by its service. ``left``: edges
    that are not waited for. Of calls that are not always recorded in full, what is missing
    somewhere is taken from nowhere: ``cut`` are those whose server spans are traces of their own,
    ``hidden`` those whose own spans count for nothing, so that their time is their caller's.
    """

    ahead: dict[tuple[str, str], int]
    left: Edges
    cut: Edges = frozenset()
    hidden: Edges = frozenset()


NO_TIMING = Timing({}, frozenset())


def learn_timing(spans: EncodedSpans) -> Timing:
    """Return how the times of callers and callees belong together in some spans."""
    timing = Timing({}, left_behind(spans))
    parent = parents_in_time(spans, timing)
    ahead = clock_offsets(spans, parent)
    return timing._replace(ahead=ahead)


# ---- what is not waited for


class ParentPairs(NamedTuple):
    """Spans with a parent, as arrays with an entry a pair."""

    child: NDArray
    parent: NDArray
    edge: NDArray  # code in ``edges``
    edges: list[Edge]


def left_behind(
    spans: EncodedSpans, pairs: ParentPairs | None = None, *, by_length: bool = False
) -> Edges:
    """Return the edges whose calls were not waited for, as a rule.

    These are messages, but for those that are handled while they are sent; what outlives its parent
    by the same clock; and what was served for clearly longer than the call took that asked for it.
    With `by_length` only the last. `pairs` holds `pairs_of` the spans, where it is known.
    """
    pairs = pairs_of(spans) if pairs is None else pairs
    child = pairs.child
    parent = pairs.parent
    has_ended = spans.end != NEVER
    closed = has_ended[child] & has_ended[parent]
    top = spans.tops()[child]
    in_circle = spans.ids.parent[top] >= 0
    has_failed = spans.failed[parent]
    served = spans.server[child]
    answered = closed & ~has_failed & ~in_circle
    is_hop = served & ~same_host(spans, child, parent)
    judged = is_hop & answered
    left = judged & _is_longer(spans, child, parent)
    if not by_length:
        outlives = _outlives(spans, child, parent)
        is_queued = spans.queued[child] | spans.queued[parent]
        message = served & is_queued
        inside = _same_service(spans, child, parent)
        same_clock = ~is_hop & answered
        handled_at_once = inside & closed & ~outlives
        judged |= message | same_clock
        left |= same_clock & outlives
        left |= message & ~handled_at_once
    return _edges_of_most(left, judged, pairs)


def _edges_of_most(left: NDArray, judged: NDArray, pairs: ParentPairs) -> Edges:
    """Return the edges of which more than `MOST_OF_AN_EDGE` of the judged pairs were left."""
    size = len(pairs.edges)
    n = np.bincount(pairs.edge[judged], minlength=size)
    k = np.bincount(pairs.edge[left], minlength=size)
    share = k / np.maximum(n, 1)
    codes = np.flatnonzero(share > MOST_OF_AN_EDGE)
    return frozenset(pairs.edges[code] for code in codes)


def _is_longer(spans: EncodedSpans, child: NDArray, parent: NDArray) -> NDArray:
    """Return which children take clearly longer than their parents, until their answers begin."""
    end = np.minimum(spans.end, spans.first_byte)
    duration = end - spans.start
    limit = LONGER * duration[parent] + LONGER_NS
    return duration[child] > limit


def _outlives(spans: EncodedSpans, child: NDArray, parent: NDArray) -> NDArray:
    """Return which children end after their parents, or begin no sooner than these end."""
    end = spans.end[child]
    end_of_parent = spans.end[parent]
    later = end > end_of_parent
    by_much = end - OUTLIVES_NS > end_of_parent
    begins_after = spans.start[child] >= end_of_parent
    return later & (by_much | begins_after)


def same_host(spans: EncodedSpans, child: NDArray, parent: NDArray) -> NDArray:
    """Return which children were certainly timed by the clock of their parents.

    By their instances where both are known. Else what a service does by itself runs where its
    parent ran, and what it serves may have come from another instance.
    """
    hosts, _ = spans.source.hosts
    host = hosts[spans.row]
    callee = host[child]
    caller = host[parent]
    known = (callee >= 0) & (caller >= 0)
    by_itself = _same_service(spans, child, parent) & ~spans.server[child]
    return np.where(known, callee == caller, by_itself)


def _same_service(spans: EncodedSpans, child: NDArray, parent: NDArray) -> NDArray:
    return spans.service[child] == spans.service[parent]


def pairs_of(spans: EncodedSpans) -> ParentPairs:
    """Return the spans that have a parent, log lines left out, and the edges that they are."""
    parent = spans.ids.parent
    has_parent = parent >= 0
    child = np.flatnonzero(has_parent & ~spans.log)
    above = spans.server_above[child]
    nobody = len(spans.keys)
    node_above = spans.node[above]
    caller = np.where(above >= 0, node_above, nobody)
    callee = spans.node[child]
    served = spans.server[child]
    shape = nobody + 1, max(nobody, 1), 2
    code = np.ravel_multi_index((caller, callee, served), shape)
    edge, distinct = pd.factorize(code)
    keys = [*spans.keys, None]
    parts = np.unravel_index(distinct, shape)
    edges: list[Edge] = [
        (keys[caller], spans.keys[callee], bool(served))
        for caller, callee, served in zip(*parts, strict=True)
    ]
    return ParentPairs(child, parent[child], edge, edges)


def parents_in_time(spans: EncodedSpans, timing: Timing) -> NDArray:
    """Return the position of the parent that waited for each span, -1 for none.

    A span that counts for nothing is its own parent, so that it hangs on no root.
    """
    parent = spans.ids.parent.copy()
    if not (timing.left or timing.cut or timing.hidden):
        return parent
    pairs = pairs_of(spans)
    child = pairs.child
    alone = _of(timing.left, pairs)
    served = spans.server[child]
    is_cut = _of(timing.cut, pairs)
    cut = np.zeros(parent.size, dtype=bool)
    cut[child[is_cut]] = True
    hidden = np.zeros(parent.size, dtype=bool)
    calls = _of(timing.hidden, pairs)
    hidden[pairs.parent[calls & served]] = True
    hidden[child[calls & ~served]] = True
    hidden &= spans.client
    has_no_call = (cut | hidden)[pairs.parent]
    apart = has_no_call & served
    parent[child[alone | apart]] = -1
    parent[hidden] = np.flatnonzero(hidden)
    return parent


def _of(edges: Edges, pairs: ParentPairs) -> NDArray:
    """Return which pairs are of one of these edges."""
    chosen = np.array([edge in edges for edge in pairs.edges], dtype=bool)
    return chosen[pairs.edge]


# ---- clocks


def host_labels(spans: EncodedSpans) -> tuple[NDArray, list[str]]:
    """Return the host whose clock timed each span, and what the hosts are called.

    Returns
    -------
    host : array of int, an entry a span
        Position in `names`.
    names : list of str
        A host is an instance, called ``"service on instance"``. Spans that tell no instance have
        their service as host: all of its spans are then taken to have one clock.
    """
    instances, names = spans.source.hosts
    instance = instances[spans.row]
    is_known = instance >= 0
    code = instance + len(spans.services)
    host = np.where(is_known, code, spans.service)
    return host, spans.services + names


def clock_offsets(spans: EncodedSpans, parent: NDArray) -> dict[tuple[str, str], int]:
    """Return by how many ns a called host's clock is ahead of its caller's, for pairs where it
    must be. `parent` holds the position of who waited for each span.

    The median distance of the midpoints of server and client span (Cristian 1989, doi
    10.1007/BF01784024), used only where the typical server span sticks out of its client span:
    elsewhere the clocks agree well enough.
    """
    caller, callee = _answered_calls(spans, parent)
    before = spans.start[caller] - spans.start[callee]
    after = spans.end[callee] - spans.end[caller]
    out = np.maximum(before, after)
    if not (out > 0).any():  # nothing sticks out
        return {}
    host, name = host_labels(spans)
    columns = {
        "caller": host[caller],
        "callee": host[callee],
        "out": out,
        "ahead": (after - before) // 2,
    }
    calls = pd.DataFrame(columns)
    typical = calls.groupby(["caller", "callee"]).median()
    sure = typical[typical["out"] > 0]
    rows = sure["ahead"].reset_index().itertuples(index=False)
    return {(name[caller], name[callee]): int(ns) for caller, callee, ns in rows}


def _answered_calls(spans: EncodedSpans, parent: NDArray) -> tuple[NDArray, NDArray]:
    """Return the positions of client and server span of the calls between two hosts that ended."""
    closed = spans.end != NEVER
    answered = spans.client & closed
    has_parent = parent >= 0
    below = spans.server & closed & has_parent
    by_answered = answered[parent]
    callee = np.flatnonzero(below & by_answered)
    is_inside = same_host(spans, callee, parent[callee])
    callee = callee[~is_inside]
    return parent[callee], callee


class Clocks(NamedTuple):
    """By how many ns each span's clock is ahead of its parent's, and which may be moved to fit."""

    ahead: NDArray
    movable: NDArray


def clocks_of(spans: EncodedSpans, parent: NDArray, timing: Timing) -> Clocks:
    """Return what is known of the clocks; `parent` holds the position of who waited for each."""
    ahead = _ahead(spans, parent, timing)
    return Clocks(ahead, _movable(spans, parent))


def _ahead(spans: EncodedSpans, parent: NDArray, timing: Timing) -> NDArray:
    """Return by how many ns the clock of each server span is ahead of its parent's."""
    ahead = np.zeros(parent.size, dtype=np.int64)
    if not timing.ahead:
        return ahead
    host, names = host_labels(spans)
    host_above = host[parent]
    code = {name: code for code, name in enumerate(names)}
    below = spans.server & (parent >= 0)
    for (caller, callee), ns in timing.ahead.items():
        from_caller = host_above == code.get(caller, -1)
        to_callee = host == code.get(callee, -1)
        ahead[below & from_caller & to_callee] = ns
    return ahead


def _movable(spans: EncodedSpans, parent: NDArray) -> NDArray:
    """Return which spans were timed by another clock than their parents, who waited for them: they
    may be moved to where they fit.

    What a service serves itself counts as timed by its own clock, unless the instances differ.
    """
    movable = np.zeros(parent.size, dtype=bool)
    closed = spans.end != NEVER
    answered = closed & ~spans.failed
    has_parent = parent >= 0
    served = spans.server & closed & has_parent
    by_answered = answered[parent]
    child = np.flatnonzero(served & by_answered)
    host, _ = host_labels(spans)
    host_above = host[parent]
    movable[child] = host[child] != host_above[child]
    return movable
