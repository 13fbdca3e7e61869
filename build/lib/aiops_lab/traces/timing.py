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


class Timing(NamedTuple):
    """How callers and callees belong together.

    ``ahead``: by how many ns the clock of a called host is ahead of its caller's, by (caller,
    callee); a host is named by its instance, or where none is known by its service. ``left``: edges
    that are not waited for. Of calls that are not always recorded in full, what is missing
    somewhere is taken from nowhere: ``cut`` are those whose server spans are traces of their own,
    ``hidden`` those whose own spans count for nothing, so that their time is their caller's.
    """

    ahead: dict[tuple[str, str], int]
    left: frozenset[Edge]
    cut: frozenset[Edge] = frozenset()
    hidden: frozenset[Edge] = frozenset()


NO_TIMING = Timing({}, frozenset())


def learn_timing(spans: EncodedSpans) -> Timing:
    """Return how the times of callers and callees belong together in some spans."""
    left = left_behind(spans)
    timing = Timing({}, left)
    return timing._replace(ahead=clock_offsets(spans, parents_in_time(spans, timing)))


# ---- what is not waited for


class ParentPairs(NamedTuple):
    """Spans with a parent, as arrays with an entry a pair."""

    child: NDArray
    parent: NDArray
    edge: NDArray  # code in ``edges``
    edges: list[Edge]


def left_behind(spans: EncodedSpans, *, by_length: bool = False) -> frozenset[Edge]:
    """Return the edges whose calls were not waited for, as a rule.

    These are messages, but for those that are handled while they are sent; what outlives its parent
    by the same clock; and what was served for clearly longer than the call took that asked for it.
    With `by_length` only the last.
    """
    pairs = pairs_of(spans)
    child, parent = pairs.child, pairs.parent
    end = np.minimum(spans.end, spans.first_byte)
    closed = (spans.end[child] != NEVER) & (spans.end[parent] != NEVER)
    answered = closed & ~spans.failed[parent]
    duration = end - spans.start
    limit = LONGER * duration[parent] + LONGER_NS
    hop = spans.server[child] & ~same_host(spans, child, parent)
    answered &= spans.ids.parent[spans.tops()[child]] < 0  # not in a circle
    judged = hop & answered
    left = judged & (duration[child] > limit)
    if not by_length:
        outlives = _outlives(spans, child, parent)
        message = spans.server[child] & (spans.queued[child] | spans.queued[parent])
        inside = spans.service[child] == spans.service[parent]
        judged |= message | (~hop & answered)
        left |= (~hop & answered & outlives) | (message & ~(inside & closed & ~outlives))
    n = np.bincount(pairs.edge[judged], minlength=len(pairs.edges))
    share = np.bincount(pairs.edge[left], minlength=n.size) / np.maximum(n, 1)
    return frozenset(pairs.edges[code] for code in np.flatnonzero(share > MOST_OF_AN_EDGE))


def _outlives(spans: EncodedSpans, child: NDArray, parent: NDArray) -> NDArray:
    """Return which children end after their parents, or begin no sooner than these end."""
    later = spans.end[child] > spans.end[parent]
    by_much = spans.end[child] - OUTLIVES_NS > spans.end[parent]
    return later & (by_much | (spans.start[child] >= spans.end[parent]))


def same_host(spans: EncodedSpans, child: NDArray, parent: NDArray) -> NDArray:
    """Return which children were certainly timed by the clock of their parents.

    By their instances where both are known. Else what a service does by itself runs where its
    parent ran, and what it serves may have come from another instance.
    """
    host = spans.source.hosts[0][spans.row]
    known = (host[child] >= 0) & (host[parent] >= 0)
    own = (spans.service[child] == spans.service[parent]) & ~spans.server[child]
    return np.where(known, host[child] == host[parent], own)


def pairs_of(spans: EncodedSpans) -> ParentPairs:
    """Return the spans that have a parent, log lines left out, and the edges that they are."""
    parent = spans.ids.parent
    child = np.flatnonzero((parent >= 0) & ~spans.log)
    above = spans.server_above[child]
    nobody = len(spans.keys)
    caller = np.where(above >= 0, spans.node[above], nobody)
    shape = nobody + 1, max(nobody, 1), 2
    code = np.ravel_multi_index((caller, spans.node[child], spans.server[child]), shape)
    edge, distinct = pd.factorize(code)
    keys = [*spans.keys, None]
    edges: list[Edge] = [
        (keys[caller], spans.keys[node], bool(served))
        for caller, node, served in zip(*np.unravel_index(distinct, shape), strict=True)
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
    alone = _of(timing.left, pairs)
    cut = np.zeros(parent.size, dtype=bool)
    cut[pairs.child[_of(timing.cut, pairs)]] = True
    hidden = np.zeros(parent.size, dtype=bool)
    calls = _of(timing.hidden, pairs)
    served = spans.server[pairs.child]
    hidden[pairs.parent[calls & served]] = True
    hidden[pairs.child[calls & ~served]] = True
    hidden &= spans.client
    apart = (cut | hidden)[pairs.parent] & served
    parent[pairs.child[alone | apart]] = -1
    parent[hidden] = np.flatnonzero(hidden)
    return parent


def _of(edges: frozenset[Edge], pairs: ParentPairs) -> NDArray:
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
    host, names = spans.source.hosts
    host = host[spans.row]
    return np.where(host >= 0, host + len(spans.services), spans.service), spans.services + names


def clock_offsets(spans: EncodedSpans, parent: NDArray) -> dict[tuple[str, str], int]:
    """Return by how many ns a called host's clock is ahead of its caller's, for pairs where it
    must be. `parent` holds the position of who waited for each span.

    The median distance of the midpoints of server and client span (Cristian 1989, doi
    10.1007/BF01784024), used only where the typical server span sticks out of its client span:
    elsewhere the clocks agree well enough.
    """
    closed = spans.end != NEVER
    answered = spans.client & closed
    below = spans.server & closed & (parent >= 0)
    callee = np.flatnonzero(below & answered[parent])
    callee = callee[~same_host(spans, callee, parent[callee])]
    caller = parent[callee]
    before = spans.start[caller] - spans.start[callee]
    after = spans.end[callee] - spans.end[caller]
    host, name = host_labels(spans)
    pairs = pd.DataFrame(
        {
            "caller": host[caller],
            "callee": host[callee],
            "out": np.maximum(before, after),
            "ahead": (after - before) // 2,
        }
    )
    typical = pairs.groupby(["caller", "callee"]).median()
    sure = typical[typical["out"] > 0].reset_index()
    rows = zip(sure["caller"], sure["callee"], sure["ahead"], strict=True)
    return {(name[caller], name[callee]): int(ns) for caller, callee, ns in rows}


class Clocks(NamedTuple):
    """By how many ns each span's clock is ahead of its parent's, and which may be moved to fit."""

    ahead: NDArray
    movable: NDArray


def clocks_of(spans: EncodedSpans, parent: NDArray, timing: Timing) -> Clocks:
    """Return what is known of the clocks; `parent` holds the position of who waited for each."""
    return Clocks(_ahead(spans, parent, timing), _movable(spans, parent))


def _ahead(spans: EncodedSpans, parent: NDArray, timing: Timing) -> NDArray:
    """Return by how many ns the clock of each server span is ahead of its parent's."""
    ahead = np.zeros(parent.size, dtype=np.int64)
    if not timing.ahead:
        return ahead
    host, names = host_labels(spans)
    code = {name: code for code, name in enumerate(names)}
    below = spans.server & (parent >= 0)
    for (caller, callee), ns in timing.ahead.items():
        from_caller = host[parent] == code.get(caller, -1)
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
    child = np.flatnonzero(spans.server & closed & (parent >= 0) & answered[parent])
    host, _ = host_labels(spans)
    movable[child] = host[child] != host[parent[child]]
    return movable
