"""Where is what in a picture? Charts, waterfalls and bars as numbers for templates.

Nothing here is drawn: a template writes the SVG, so that all names in it are escaped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
    timeline: pd.DataFrame,
    usual_ms: float | None,
    until: pd.Timestamp,
    every_s: float,
) -> Chart:
    """Return the chart of the rows of `Monitor.timeline`, for the 300 s before `until`."""
    width, height = CHART
    highest = HEADROOM * max(timeline["mean_ms"], default=0.0)
    least_top = LEAST_TOP * (usual_ms or 0.0)
    top = max(highest, least_top) or 1.0

    def height_of(ms: float) -> float:
        return round(height * (1 - ms / top), 1)

    begun = pd.DatetimeIndex(timeline.index)
    begun_s = (begun - until).total_seconds()
    middles = width + begun_s + every_s / 2
    x = [round(middle, 1) for middle in middles]
    heights = map(height_of, timeline["mean_ms"])
    shares = [round(height * share, 1) for share in timeline["failed"]]
    marks = zip(x, shares, strict=True)
    return Chart(
        line=_line(x, heights, longest=3 * every_s),
        usual=None if usual_ms is None else height_of(usual_ms),
        failed=[(at, share) for at, share in marks if share > 0],
        top_ms=top,
        width=width,
        height=height,
        interval=every_s,
    )


def _line(x: Iterable[float], y: Iterable[float], longest: float) -> str:
    """Return an SVG path through some points, with a gap where two are far apart."""
    parts = []
    before = float("-inf")
    for at, height in zip(x, y, strict=True):
        if at - before <= longest:
            parts.append(f"L{at} {height}")
        else:  # a point of its own is drawn by its round end
            parts.append(f"M{at} {height}h0")
        before = at
    return "".join(parts)


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
    by_width = sorted(places, key=lambda n: -bars[n].width)
    shown = [bars[n] for n in sorted(by_width[:most])]
    left_out = len(bars) - len(shown)
    return Waterfall(shown, rows.total_ms, left_out)


class _Rows:
    """The spans of a trace by parent, with times in ms after its start."""

    def __init__(self, trace: pd.DataFrame, cause: Key | None) -> None:
        self._cause = cause
        since = trace["start"].min()
        duration_ms = trace["duration_ms"]
        begin = (trace["start"] - since).dt.total_seconds() * 1e3
        ends = begin + duration_ms.fillna(0.0)
        self.total_ms = float(ends.max())
        end = ends.where(duration_ms.notna(), self.total_ms)
        rows = trace.assign(begin=begin, end=end).astype(object)
        self._spans: list[Any] = list(rows.itertuples(index=False))
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
        tops = [*reversed(self._spans), *reversed(self._below[None])]
        waiting = [(span, 0) for span in tops]
        while waiting:
            span, depth = waiting.pop()
            if span.span_id in seen:
                continue
            seen.add(span.span_id)
            below = self._below[span.span_id]
            is_call = span.kind == "client"
            is_answered = is_call and any(child.kind == "server" for child in below)
            if not is_answered:
                found.append(self._bar(span, depth))
                depth += 1
            waiting += [(child, depth) for child in reversed(below)]
        return found

    def _bar(self, span: Any, depth: int) -> SpanBar:
        scale = SCALE / (self.total_ms or 1.0)
        below = self._below[span.span_id]
        own = []
        for low, high in _free(span, below):
            own.append((low * scale, (high - low) * scale))
        failed = _has_failed(span)
        was_handed_a_failure = any(map(_has_failed, below))
        error = span.error if isinstance(span.error, str) else ""
        is_open = pd.isna(span.duration_ms)
        has_no_status = pd.isna(span.status)
        return SpanBar(
            name=span.endpoint,
            service=span.service,
            depth=depth,
            x=span.begin * scale,
            width=(span.end - span.begin) * scale,
            own=own,
            ms=None if is_open else float(span.duration_ms),
            status=None if has_no_status else int(span.status),
            failed=failed,
            error=error,
            is_cause=_is_at(span, self._cause),
            is_origin=failed and not was_handed_a_failure,
        )


def _has_failed(span: Any) -> bool:
    """Return whether a span has ended with an error, or without an answer."""
    if pd.isna(span.duration_ms):
        return False
    if isinstance(span.error, str):
        return True
    if pd.isna(span.status):
        return False
    return bool(span.status >= 500 or span.status == 0)


def _is_at(span: Any, cause: Key | None) -> bool:
    """Return whether a span is of a cause, or a call of it that recorded nothing itself."""
    if cause is None:
        return False
    service, endpoint = cause
    _, route = split_method(endpoint)
    where = span.peer if span.kind == "client" else span.service
    return where == service and span.endpoint in (endpoint, route)


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
    largest = max(map(abs, values.values()), default=0.0)
    least = SMALL * largest
    large = [name for name in names[:most] if abs(values[name]) >= least]
    rest = [values[name] for name in names[len(large) :]]
    in_order = sorted(large, key=lambda name: (-values[name], name))
    rows = {name: values[name] for name in in_order}
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
