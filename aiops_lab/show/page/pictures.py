"""Where is what in a picture? Charts, the service graph and waterfalls as numbers for templates.

Nothing here is drawn: a template writes the SVG, so that all names in it are escaped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.endpoints import split_method
from aiops_lab.spans import Key

# ---- latency of an endpoint

CHART = 300.0, 60.0
"""Width (a unit a second) and height of a chart in units of its own; the page stretches it."""

HEADROOM = 1.15  # of the highest value: the line does not touch the upper edge
LEAST_TOP = 2.0  # of the baseline: what is as usual shall look like it


class Chart(NamedTuple):
    """The latency of an endpoint over time. ``line`` is an SVG path, ``usual`` the height of the
    baseline (None where it is not known), ``failed`` holds (x, height) of each interval with
    failures, and ``top_ms`` is the value at the upper edge.
    """

    line: str
    usual: float | None
    failed: list[tuple[float, float]]
    top_ms: float
    width: float
    height: float
    interval: float


def chart(
    timeline: pd.DataFrame, usual_ms: float | None, until: pd.Timestamp, every_s: float
) -> Chart:
    """Return the chart of the rows of `Monitor.timeline`, for the 300 s before `until`."""
    width, height = CHART
    highest = HEADROOM * max(timeline["mean_ms"], default=0.0)
    top = max(highest, LEAST_TOP * (usual_ms or 0.0)) or 1.0

    def height_of(ms: float) -> float:
        return round(height * (1 - ms / top), 1)

    begun = pd.DatetimeIndex(timeline.index)
    middles = width + (begun - until).total_seconds() + every_s / 2
    x = [round(middle, 1) for middle in middles]
    line = _line(x, map(height_of, timeline["mean_ms"]), 3 * every_s)
    shares = [round(height * share, 1) for share in timeline["failed"]]
    failed = [(at, share) for at, share in zip(x, shares, strict=True) if share > 0]
    usual = None if usual_ms is None else height_of(usual_ms)
    return Chart(line, usual, failed, top, width, height, every_s)


def _line(x: Iterable[float], y: Iterable[float], longest: float) -> str:
    """Return an SVG path through some points, with a gap where two are far apart."""
    parts = []
    before = float("-inf")
    for at, height in zip(x, y, strict=True):
        is_near = at - before <= longest
        # a point of its own is drawn by its round end
        parts.append(f"L{at} {height}" if is_near else f"M{at} {height}h0")
        before = at
    return "".join(parts)


# ---- the service graph

COLUMN_WIDTH, ROW_HEIGHT = 285.0, 44.0
BOX = 150.0  # the width of a box
MARGIN = 12.0
MOST_NODES = 40

GraphEdge = Mapping[Any, Any]  # a row of `Monitor.graph`


class Box(NamedTuple):
    """An endpoint in the graph: its upper left corner and its size."""

    name: str
    x: float
    y: float
    height: float

    @property
    def bottom(self) -> float:
        """Where its lower edge is."""
        return self.y + self.height


class Arrow(NamedTuple):
    """A pair of the graph: its SVG path, where its label ends, and its row of the table."""

    path: str
    x: float
    y: float
    edge: GraphEdge


class GraphPicture(NamedTuple):
    """Boxes and arrows, the size of all, and how many endpoints are left out."""

    boxes: list[Box]
    arrows: list[Arrow]
    width: float
    height: float
    left_out: int


def graph(edges: Iterable[GraphEdge], names: Iterable[str]) -> GraphPicture:
    """Return the service graph, callers left of their callees.

    Parameters
    ----------
    edges : iterable of dict
        Rows of `Monitor.graph`.
    names : iterable of str
        Endpoints that are shown although nobody calls them. Of more than 40 those are shown that
        have most calls.
    """
    edges = list(edges)
    calls: dict[str, int] = dict.fromkeys(names, 0)
    for edge in edges:
        for name in _ends(edge):
            calls[name] = calls.get(name, 0) + edge["calls"]
    chosen = sorted(calls, key=lambda name: (-calls[name], name))[:MOST_NODES]
    edges = [each for each in edges if _ends(each).issubset(chosen)]
    by_name = _boxes(chosen, edges)
    arrows = _arrows(by_name, edges)
    boxes = [*by_name.values()]
    right = max((box.x + BOX for box in boxes), default=0.0)
    low = max((box.bottom for box in boxes), default=0.0)
    if any(_leads_back(edge, by_name) for edge in edges):
        low += ROW_HEIGHT
    left_out = len(calls) - len(chosen)
    return GraphPicture(boxes, arrows, right + MARGIN, low + MARGIN, left_out)


def _ends(edge: GraphEdge) -> set[str]:
    return {edge["caller"], edge["callee"]}


def _boxes(names: list[str], edges: list[GraphEdge]) -> dict[str, Box]:
    callers: dict[str, set[str]] = defaultdict(set)
    for edge in edges:
        callers[edge["callee"]].add(edge["caller"])
    depth = _depths(names, callers)
    boxes: dict[str, Box] = {}
    for column in range(max(depth.values(), default=-1) + 1):
        inside = [name for name in names if depth[name] == column]
        y = MARGIN
        for name in sorted(inside, key=lambda name: (_height(callers[name], boxes), name)):
            size = ROW_HEIGHT * max(1, len(callers[name] & boxes.keys()))
            boxes[name] = Box(name, MARGIN + COLUMN_WIDTH * column, y, size - 10)
            y += size
    return boxes


def _height(callers: set[str], boxes: Mapping[str, Box]) -> float:
    """Return the mean height of those that call an endpoint, so that few arrows cross."""
    return fmean([boxes[name].y for name in callers & boxes.keys()] or [0.0])


def _depths(names: list[str], callers: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the column of each name: one more than its callers', as far as there is no cycle."""
    depth: dict[str, int] = {}
    left = sorted(names)

    def waits_for(name: str) -> tuple[int, str]:
        return len(callers[name] - depth.keys() - {name}), name

    while left:
        first = min(left, key=waits_for)
        left.remove(first)
        above = [depth[name] for name in callers[first] & depth.keys()]
        depth[first] = 1 + max(above, default=-1)
    return depth


def _arrows(boxes: Mapping[str, Box], edges: list[GraphEdge]) -> list[Arrow]:
    incoming: dict[str, list[GraphEdge]] = defaultdict(list)
    for edge in edges:
        incoming[edge["callee"]].append(edge)
    arrows = []
    for name, calls in incoming.items():
        calls.sort(key=lambda edge: boxes[edge["caller"]].y)
        callee = boxes[name]
        for n, edge in enumerate(calls):
            caller = boxes[edge["caller"]]
            if _leads_back(edge, boxes):
                arrow = _arrow_back(caller, callee, edge)
            else:
                into = callee.height * (n + 0.5) / len(calls)
                arrow = _arrow(caller, callee, callee.y + into, edge)
            arrows.append(arrow)
    return arrows


def _leads_back(edge: GraphEdge, boxes: Mapping[str, Box]) -> bool:
    return boxes[edge["caller"]].x >= boxes[edge["callee"]].x


def _arrow(caller: Box, callee: Box, end: float, edge: GraphEdge) -> Arrow:
    """Return an arrow to the right, into the height `end`."""
    start = caller.x + BOX
    middle = caller.y + caller.height / 2
    level = callee.x - (COLUMN_WIDTH - BOX) + 22
    bend = _points((level, middle), (start, end), (level, end))
    path = f"M{_points((start, middle))}C{bend}L{_points((callee.x - 3, end))}"
    return Arrow(path, callee.x - 10, end - 5, edge)


def _arrow_back(caller: Box, callee: Box, edge: GraphEdge) -> Arrow:
    """Return an arrow to the left, or to where it began, that runs below both boxes."""
    start = caller.x + BOX / 2
    end = callee.x + BOX / 3
    low = max(caller.bottom, callee.bottom) + ROW_HEIGHT
    bend = _points((start, low), (end, low), (end, callee.bottom + 3))
    path = f"M{_points((start, caller.bottom))}C{bend}"
    middle = (start + end) / 2
    return Arrow(path, middle + BOX / 4, low - 10, edge)


def _points(*points: tuple[float, float]) -> str:
    """Return points as a part of an SVG path."""
    return " ".join(f"{x:.0f} {y:.0f}" for x, y in points)


# ---- one request

SCALE = 1000.0  # the length of a request in units of a waterfall


class SpanBar(NamedTuple):
    """A span in a waterfall. ``x`` and ``width`` are in thousandths of the request; ``own`` holds
    (x, width) of the time in which it waited for no other span. ``ms`` is None while it is open.
    ``is_cause``: it is of the cause of the incident; ``is_origin``: it failed, and nothing that it
    called did.
    """

    name: str
    service: str
    depth: int
    x: float
    width: float
    own: list[tuple[float, float]]
    ms: float | None
    status: int | None
    failed: bool
    error: str
    is_cause: bool
    is_origin: bool


class Waterfall(NamedTuple):
    """The spans of a request in the order of their calls, its length, and how many are left out."""

    bars: list[SpanBar]
    total_ms: float
    left_out: int


def waterfall_picture(trace: pd.DataFrame, most: int, cause: Key | None = None) -> Waterfall:
    """Return one trace as bars, the `most` longest ones; a call and what it calls are one bar.

    `cause` is the (service, endpoint) whose bars are marked.
    """
    rows = _Rows(trace, cause)
    bars = rows.bars()
    places = range(len(bars))
    longest = sorted(places, key=lambda n: -bars[n].width)[:most]
    shown = [bars[n] for n in sorted(longest)]
    return Waterfall(shown, rows.total_ms, len(bars) - len(shown))


class _Rows:
    """The spans of a trace by parent, with times in ms after its start."""

    def __init__(self, trace: pd.DataFrame, cause: Key | None) -> None:
        self._cause = cause
        since = trace["start"].min()
        begin = (trace["start"] - since).dt.total_seconds() * 1e3
        ends = begin + trace["duration_ms"].fillna(0.0)
        self.total_ms = float(ends.max())
        end = ends.where(trace["duration_ms"].notna(), self.total_ms)
        self._spans: list[Any] = list(
            trace.assign(begin=begin, end=end).astype(object).itertuples(index=False)
        )
        self._spans.sort(key=lambda span: (span.begin, -span.end, span.span_id))
        known = {span.span_id for span in self._spans}
        self._below: dict[Any, list[Any]] = defaultdict(list)
        for span in self._spans:
            above = span.parent_id if span.parent_id in known else None
            self._below[above].append(span)

    def bars(self) -> list[SpanBar]:
        """Return the bars in the order of the calls, each below its caller."""
        found = []
        seen = set()
        # parents may be circular: then all are tops
        waiting = [(span, 0) for span in (*reversed(self._spans), *reversed(self._below[None]))]
        while waiting:
            span, depth = waiting.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            below = self._below[span.span_id]
            is_answered = span.kind == "client" and any(s.kind == "server" for s in below)
            if not is_answered:
                found.append(self._bar(span, depth))
            deeper = depth + (not is_answered)
            waiting += [(child, deeper) for child in reversed(below)]
        return found

    def _bar(self, span: Any, depth: int) -> SpanBar:
        scale = SCALE / (self.total_ms or 1.0)
        free = _free(span, self._below[span.span_id])
        own = [(low * scale, (high - low) * scale) for low, high in free]
        width = (span.end - span.begin) * scale
        error = span.error if isinstance(span.error, str) else ""
        status = None if pd.isna(span.status) else int(span.status)
        is_open = pd.isna(span.duration_ms)
        ms = None if is_open else float(span.duration_ms)
        place = span.endpoint, span.service, depth, span.begin * scale, width
        failed = _has_failed(span)
        is_origin = failed and not any(map(_has_failed, self._below[span.span_id]))
        return SpanBar(*place, own, ms, status, failed, error, _is_at(span, self._cause), is_origin)


def _has_failed(span: Any) -> bool:
    """Return whether a span has ended with an error, or without an answer."""
    if pd.isna(span.duration_ms):
        return False
    is_bad = not pd.isna(span.status) and (span.status >= 500 or span.status == 0)
    return bool(is_bad) or isinstance(span.error, str)


def _is_at(span: Any, cause: Key | None) -> bool:
    """Return whether a span is of a cause, or a call of it that recorded nothing itself."""
    if cause is None:
        return False
    service, endpoint = cause
    where = span.peer if span.kind == "client" else span.service
    return where == service and span.endpoint in (endpoint, split_method(endpoint)[1])


def _free(span: Any, below: list[Any]) -> list[tuple[float, float]]:
    """Return when a span did not wait for others, as (begin, end)."""
    free = []
    at = span.begin
    for child in sorted(below, key=lambda child: child.begin):
        begin = min(child.begin, span.end)
        if begin > at:
            free.append((at, begin))
        end = min(child.end, span.end)
        at = max(at, end)
    if span.end > at:
        free.append((at, span.end))
    return free


# ---- shares


SMALL = 0.01


class Share(NamedTuple):
    """A row of a bar chart: its value, and x and width of its bar in percent of the chart."""

    name: str
    value: float
    x: float
    width: float


def shares(values: Mapping[str, float], most: int) -> list[Share]:
    """Return values as bars from a common zero, the largest first, the rest as one bar.

    A value of less than a hundredth of the largest has no bar of its own.
    """
    by_name = sorted(values)
    names = sorted(by_name, key=lambda name: -abs(values[name]))
    least = SMALL * max(map(abs, values.values()), default=0.0)
    large = [name for name in names[:most] if abs(values[name]) >= least]
    rest = [values[name] for name in names[len(large) :]]
    large.sort()
    large.sort(key=lambda name: -values[name])
    rows = {name: values[name] for name in large}
    if rest:
        rows[f"{len(rest)} smaller"] = sum(rest)
    low = min([0.0, *rows.values()])
    high = max([0.0, *rows.values()])
    scale = 100.0 / ((high - low) or 1.0)
    return [_share(name, value, low, scale) for name, value in rows.items()]


def _share(name: str, value: float, low: float, scale: float) -> Share:
    """Return the bar of a value; `low` is at the left edge."""
    left = min(value, 0.0)
    return Share(name, value, (left - low) * scale, abs(value) * scale)
