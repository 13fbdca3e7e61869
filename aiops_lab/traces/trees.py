"""Where did the time of a trace go? Trees of spans, self time, critical path."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import compiled
from aiops_lab.spans import check
from aiops_lab.traces.encode import NEVER, EncodedSpans, end_ns, start_ns
from aiops_lab.traces.ids import copies_of, find_parents
from aiops_lab.traces.timing import Clocks, Timing, clocks_of, parents_in_time

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
    Series of float, ms, with the frame's index; NaN for spans that are still open, and for rows
    that tell a span again.

    Notes
    -----
    Trusts the clocks: of a child on another host whose clock is off, less lies within its parent,
    whose self time comes out too long. A call that nobody recorded is self time of its caller.
    """
    check(frame)
    start = start_ns(frame)
    end = end_ns(frame)
    covered = _covered(_in_time(start), start, end, find_parents(frame).position)
    own = frame["duration_ms"].to_numpy() - covered / 1e6
    own[copies_of(frame, start)] = np.nan
    return pd.Series(own, index=frame.index, name="self_ms")


def _in_time(start: NDArray) -> NDArray:
    """Return the positions of spans in the order of their starts."""
    if (start[1:] >= start[:-1]).all():
        return np.arange(start.size)
    return np.argsort(start, kind="stable")


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
            low = max(start[i], reach[p])
            high = min(end[i], end[p])
            if high > low:
                covered[p] += high - low
                reach[p] = high
    return covered


def self_time_ns(start: NDArray, end: NDArray, parent: NDArray) -> NDArray:
    """Return the self time (ns) of each span; all arrays have an entry a span, by its position.

    `parent` holds positions, -1 = none.
    """
    return end - start - _covered(_in_time(start), start, end, parent)


# ---- trees


class TraceTrees(NamedTuple):
    """All traces of a frame as trees of integers; times in ns, aligned and clipped to their
    ancestors.
    """

    parent: NDArray
    # position of the topmost span, -1 for spans that hang on no root (a cycle of parents)
    root: NDArray
    order: NDArray  # positions of all spans that hang on a root, parents before children
    start: NDArray
    end: NDArray
    first: NDArray  # children of i, latest end first: child[first[i]:first[i + 1]]
    child: NDArray
    server: NDArray
    log: NDArray
    failed: NDArray
    status: NDArray
    node: NDArray  # code in ``keys`` of the `EncodedSpans`


def are_roots(trees: TraceTrees) -> NDArray:
    """Return which spans are the topmost of their traces."""
    itself = np.arange(trees.root.size)
    return trees.root == itself


def calls_in(trees: TraceTrees) -> NDArray:
    """Return the positions of the calls: all spans with a parent but log lines."""
    has_parent = trees.parent >= 0
    return np.flatnonzero(has_parent & ~trees.log)


def build_trees(
    spans: EncodedSpans,
    until_ns: int,
    timing: Timing,
    tops: NDArray | None = None,
    passed: NDArray | None = None,
) -> TraceTrees:
    """Return the traces as they stood at `until_ns` (Unix ns): what was open then ends there.

    What nobody waited for, by `timing`, is a trace of its own, and so are the spans in `tops` (a
    mask). The spans in `passed` (a mask) count for nothing. A trace whose root tells when its
    answer began ends there; what begins later, while the answer is sent, is a trace of its own.
    """
    parent = parents_in_time(spans, timing)
    if tops is not None:
        parent[tops] = -1
    if passed is not None:
        parent[passed] = np.flatnonzero(passed)
    start = spans.start.copy()
    recorded_end = np.minimum(spans.end, until_ns)
    end = recorded_end.copy()
    _end_at_first_byte(spans, parent, end)
    clocks = clocks_of(spans, parent, timing)
    first, child = _children(parent, end)
    root, order = _align(parent, first, child, clocks, start, end)
    if (end != recorded_end).any():
        first, child = _children(parent, end)
    return TraceTrees(
        parent=parent,
        root=root,
        order=order,
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


def with_ends(trees: TraceTrees, end: NDArray) -> TraceTrees:
    """Return the trees with other ends of their spans."""
    first, child = _children(trees.parent, end)
    return trees._replace(end=end, first=first, child=child)


def _end_at_first_byte(spans: EncodedSpans, parent: NDArray, end: NDArray) -> None:
    """End, in place, each trace where its root's answer began; part from it what begins later."""
    began = np.maximum(spans.first_byte, spans.start)
    streamed = (parent < 0) & (began < end) & ~spans.log
    if not streamed.any():
        return
    until = np.where(streamed, began, NEVER)
    root = _roots(parent)
    late = (parent >= 0) & (spans.start >= until[root])
    apart = late & ~late[parent]
    end[streamed] = began[streamed]
    parent[apart] = -1


def _roots(parent: NDArray) -> NDArray:
    """Return the position of the topmost span above each span; in a cycle, one of it."""
    root = np.where(parent < 0, np.arange(parent.size), parent)
    for _ in range(parent.size.bit_length()):  # each turn doubles the distance, cycles end too
        root = root[root]
    return root


def _children(parent: NDArray, end: NDArray) -> tuple[NDArray, NDArray]:
    """Return the children of each span in compressed rows, latest end first, ties by position."""
    below = np.flatnonzero(parent >= 0)
    above = parent[below]
    child = below[np.lexsort((-end[below], above))]
    number = np.bincount(above, minlength=parent.size)
    return np.append(0, np.cumsum(number)), child


def _align(
    parent: NDArray,
    first: NDArray,
    child: NDArray,
    clocks: Clocks,
    start: NDArray,
    end: NDArray,
) -> tuple[NDArray, NDArray]:
    """Shift clocks and clip children to their parents, in place; return roots and order.

    A movable child that fits into its parent by length is moved to where it fits.
    """
    root = np.full(parent.size, -1, dtype=np.int64)
    shift = np.zeros(parent.size, dtype=np.int64)
    level = np.flatnonzero(parent < 0)
    end[level] = np.maximum(end[level], start[level])
    root[level] = level
    order = [level]
    while level.size:
        c = _children_of(level, first, child)
        i = parent[c]
        low = start[i]
        high = end[i]
        ahead = shift[i] + clocks.ahead[c]
        begin = start[c] - ahead
        finish = end[c] - ahead
        fits = clocks.movable[c] & (finish - begin <= high - low)
        late = np.where(fits, np.maximum(finish - high, 0), 0)
        early = np.where(fits, np.maximum(low - (begin - late), 0), 0)
        moved = late - early
        shift[c] = ahead + moved
        start[c] = np.clip(begin - moved, low, high)
        end[c] = np.clip(finish - moved, start[c], high)
        root[c] = root[i]
        order.append(c)
        level = c
    return root, np.concatenate(order)


def _children_of(level: NDArray, first: NDArray, child: NDArray) -> NDArray:
    """Return the children of some spans, one span after the other."""
    begin = first[level]
    number = first[level + 1] - begin
    before = np.cumsum(number) - number
    places = np.repeat(begin - before, number)
    return child[places + np.arange(places.size)]


def levels_of(trees: TraceTrees) -> list[NDArray]:
    """Return the positions of all spans that hang on a root by their depth, the roots first."""
    number = np.diff(trees.first)
    levels = []
    begin = 0
    end = int(np.count_nonzero(are_roots(trees)))
    while begin < end:
        level = trees.order[begin:end]
        levels.append(level)
        begin = end
        end += int(number[level].sum())
    return levels


# ---- the critical path


def critical_path(trees: TraceTrees) -> tuple[NDArray, NDArray]:
    """Return the critical path of every trace as (position of the span, ns that the request waited
    for it).

    The entries of a trace add up to the duration of its root, to the nanosecond. Every moment
    belongs to one span: to the child that ended last before it, or to the span itself. That of a
    client span is its edge gap, that of a server span its own time.

        parent    |=====|.............|==|      = self time
        child a         |-------|               only up to the start of b
        child b              |========|         ended last, so the parent waited for it

    After Yang & Miller's critical path (ICDCS 1988) as CRISP draws it (USENIX ATC 2022); the split
    is by waiting, so what ran in the shade of a later child is not counted.
    """
    own = _waited_ns(trees)
    span = np.flatnonzero(own)
    return span, own[span]


def _waited_ns(trees: TraceTrees) -> NDArray:
    """Return for how many ns the request waited for each span itself."""
    # when the request waited for a span: not at all, until the level of its parent says otherwise
    low = trees.start.copy()
    high = trees.start.copy()
    roots = trees.parent < 0
    high[roots] = trees.end[roots]
    takes_time = ~trees.log & (trees.end > trees.start)
    next_start = _next_start(trees, takes_time)
    own = np.zeros(low.size, dtype=np.int64)
    for level in levels_of(trees):
        own[level] += high[level] - low[level]
        c = _children_of(level, trees.first, trees.child)
        i = trees.parent[c]
        since = np.maximum(trees.start[c], low[i])
        waits_until = np.clip(next_start[c], low[i], high[i])
        until = np.minimum(trees.end[c], waits_until)
        waited = takes_time[c] & (until > since)
        c = c[waited]
        low[c] = since[waited]
        high[c] = until[waited]
        np.subtract.at(own, i[waited], high[c] - low[c])
    return own


def _next_start(trees: TraceTrees, takes_time: NDArray) -> NDArray:
    """Return when the first begins of the siblings that end after each span: those among them that
    take time; `NEVER` without any.
    """
    start = np.where(takes_time, trees.start, NEVER)[trees.child]
    family = trees.parent[trees.child]
    earliest = pd.Series(start).groupby(family).cummin()
    is_last = np.diff(family, prepend=-1) != 0
    next_start = np.full(trees.root.size, NEVER)
    next_start[trees.child] = np.where(is_last, NEVER, np.roll(earliest, 1))
    return next_start
