"""Where did the time of a trace go? Trees of spans, self time, critical path, clock offsets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import compiled
from aiops_lab.spans import check
from aiops_lab.traces.encode import NEVER, EncodedSpans, end_ns, parse_ids, start_ns

# ---- self time


def self_time(frame: pd.DataFrame) -> pd.Series:
    """Return the self time of each span: its duration less the union of its children's intervals.

    Children are clipped to their parent, and time in which several ran at once counts once, so that
    a self time is never negative.

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
    start, end = start_ns(frame), end_ns(frame)
    order = np.argsort(start, kind="stable")
    covered = _covered(order, start, end, parse_ids(frame).parent)
    own = frame["duration_ms"].to_numpy() - covered / 1e6
    return pd.Series(own, index=frame.index, name="self_ms")


@compiled
def _covered(order: NDArray, start: NDArray, end: NDArray, parent: NDArray) -> NDArray:
    """Return the nanoseconds of each span that its children cover: one pass in the order of their
    starts.
    """
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


def self_time_ns(spans: TraceTrees | EncodedSpans) -> NDArray:
    """Return the self time of each span in ns, as `self_time` does; all spans must have an end."""
    order = np.argsort(spans.start, kind="stable")
    return spans.end - spans.start - _covered(order, spans.start, spans.end, spans.parent)


class TraceTrees(NamedTuple):
    """All traces of a frame as trees of integers; times in ns, aligned and clipped to their
    ancestors.
    """

    parent: NDArray
    # position of the topmost span, -1 for spans that hang on no root (a cycle of parents)
    root: NDArray
    start: NDArray
    end: NDArray
    first: NDArray  # children of i, latest end first: child[first[i]:first[i + 1]]
    child: NDArray
    server: NDArray
    log: NDArray
    failed: NDArray
    status: NDArray
    node: NDArray  # code in ``keys`` of the `EncodedSpans`


def build_trees(
    spans: EncodedSpans,
    until_ns: int,
    offsets: dict[tuple[str, str], int],
    tops: NDArray | None = None,
) -> TraceTrees:
    """Return the traces as they stood at `until_ns` (Unix ns): what was open then ends there.

    `offsets` holds by how many ns the clock of a called service is ahead of its caller's, by
    (caller, called). The spans in `tops` (a mask) become roots of their own.
    """
    # a span that comes twice is its own parent: it hangs on no root, and counts for nothing
    parent = np.where(spans.repeated, np.arange(spans.parent.size), spans.parent)
    if tops is not None:
        parent[tops] = -1
    start, end = spans.start.copy(), np.minimum(spans.end, until_ns)
    ahead = _ahead(spans, parent, offsets)
    first, child = _children(parent, end)
    ended = end.copy()
    root = _align(parent, first, child, ahead, start, end)
    if (end != ended).any():
        first, child = _children(parent, end)
    return TraceTrees(
        parent=parent,
        root=root,
        start=start,
        end=end,
        first=first,
        child=child,
        server=spans.server,
        log=spans.log,
        failed=spans.failed,
        status=spans.status,
        node=spans.node,
    )


def _ahead(spans: EncodedSpans, parent: NDArray, offsets: dict[tuple[str, str], int]) -> NDArray:
    """Return by how many ns the clock of each server span is ahead of its parent's."""
    ahead = np.zeros(parent.size, dtype=np.int64)
    below = spans.server & (parent >= 0)
    for (caller, called), ns in offsets.items():
        if caller in spans.services and called in spans.services:
            above = spans.service[parent] == spans.services.index(caller)
            here = spans.service == spans.services.index(called)
            ahead[below & above & here] = ns
    return ahead


def _children(parent: NDArray, end: NDArray) -> tuple[NDArray, NDArray]:
    """Return the children of each span in compressed rows, latest end first, ties by position."""
    below = np.flatnonzero(parent >= 0)
    order = below[np.lexsort((-end[below], parent[below]))]
    return np.append(0, np.cumsum(np.bincount(parent[below], minlength=parent.size))), order


@compiled
def _align(
    parent: NDArray, first: NDArray, child: NDArray, ahead: NDArray, start: NDArray, end: NDArray
) -> NDArray:
    """Shift clocks and clip children to their parents, top down and in place; return each span's
    root.
    """
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
def critical_path(trees: TraceTrees) -> tuple[NDArray, NDArray]:
    """Return the critical path of every trace as (position of the span, ns that the request waited
    for it).

    The entries of a trace add up to the duration of its root, to the nanosecond. Every moment
    belongs to one span; that of a client span is its edge gap, that of a server span its own time.
    After Yang & Miller's critical path (ICDCS 1988) as CRISP draws it (USENIX ATC 2022); the split
    is by waiting, so what ran in the shade of a later child is not counted.
    """
    size = trees.root.size
    span = np.empty(size, dtype=np.int64)
    ns = np.empty(size, dtype=np.int64)
    stack = np.empty(size, dtype=np.int64)
    bounds = np.empty((size, 2), dtype=np.int64)
    written = 0
    for i in range(size):
        if trees.root[i] == i:
            written += _walk(trees, i, span[written:], ns[written:], stack, bounds)
    return span[:written], ns[:written]


@compiled
def _walk(
    trees: TraceTrees, top: int, span: NDArray, ns: NDArray, stack: NDArray, bounds: NDArray
) -> int:
    """Split the time of span `top`, walked backwards from its end; return the number of entries
    written.

    At each moment the request waits for one span: the child that ended last before it, or the span
    itself.

        parent    |=====|.............|==|      = self time
        child a         |-------|               only up to the start of b
        child b              |========|         ended last, so the parent waited for it
    """
    written, depth = 0, 1
    stack[0], bounds[0, 0], bounds[0, 1] = top, trees.start[top], trees.end[top]
    while depth > 0:
        depth -= 1
        i, low, t = stack[depth], bounds[depth, 0], bounds[depth, 1]
        own = np.int64(0)
        for k in range(trees.first[i], trees.first[i + 1]):
            c = trees.child[k]
            until, since = min(trees.end[c], t), max(trees.start[c], low)
            if trees.log[c] or until <= since:
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


def clock_offsets(spans: EncodedSpans) -> dict[tuple[str, str], int]:
    """Return by how many ns a called service's clock is ahead of its caller's, for pairs where it
    must be.

    The median distance of the midpoints of server and client span (Cristian 1989, doi
    10.1007/BF01784024), used only where the typical server span sticks out of its client span:
    elsewhere the clocks agree well enough.
    """
    closed, start, end = spans.end != NEVER, spans.start, spans.end
    below = spans.server & ~spans.repeated & (spans.parent >= 0)
    called = np.flatnonzero(below & closed)
    called = called[(spans.client & closed)[spans.parent[called]]]
    up = spans.parent[called]
    pairs = pd.DataFrame(
        {
            "caller": spans.service[up],
            "called": spans.service[called],
            "out": np.maximum(start[up] - start[called], end[called] - end[up]),
            "ahead": (start[called] + end[called] - start[up] - end[up]) // 2,
        }
    )
    middle = pairs.groupby(["caller", "called"]).median()
    name = spans.services
    return {(name[a], name[b]): int(ahead) for (a, b), out, ahead in middle.itertuples() if out > 0}
