"""The waterfall of one trace."""

from __future__ import annotations

from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from aiops_lab.checks import FieldError
from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Look,
    dress,
    literal,
    note,
    plain_rows,
    three_digits,
)

MOST_BARS = 150  # a taller picture can neither be read nor, beyond 65,000 pixels, be written
SMALLEST_GAP = 1 / 2_000  # of the length of a span; smaller gaps between calls cannot be seen
MOST_INDENT = 30  # levels; deeper spans are not indented further

SERVICE_COLOURS = (BLUE, GREEN, ORANGE, PURPLE, SKY)
FAILED_LOOK: Look = {"color": VERMILLION, "weight": "bold"}


def waterfall(
    frame: pd.DataFrame, trace_id: str, ax: Axes | None = None, now: pd.Timestamp | None = None
) -> Axes:
    """Draw the spans of one trace: their calls, their durations and their self times.

    Dark is a span's own time, light is waiting for its callees. Client spans are thin and hatched:
    what shows of them beside their server span is the way there and back. An arrow: still open.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    trace_id : str
        The trace to draw.
    ax : Axes, optional
        Where to draw; default a new figure.
    now : Timestamp, optional
        When the frame was read: open spans are drawn up to it, with their age. Default: they are
        drawn up to the last moment that the trace itself contains, without an age.

    Returns
    -------
    Axes
        x: ms since the trace began; y: one row a span, in call order, indented by depth. Of a trace
        of more than 150 spans, the 150 longest; the title says of how many.

    Raises
    ------
    ValueError
        If the frame has no such trace.
    """
    is_of_trace = frame["trace_id"] == trace_id
    all_bars = _bars(frame[is_of_trace], now)
    if not all_bars:
        raise FieldError("trace_id", "must be in the frame", trace_id)
    bars = _longest(all_bars)
    title = f"Trace {trace_id[:8]}…"
    if len(all_bars) > MOST_BARS:
        title += f", the {MOST_BARS} longest of {len(all_bars):,} spans"
    height = 1.1 + 0.36 * len(bars)
    ax = dress(ax, (9, height), title, "ms since the trace began")
    services = dict.fromkeys(bar.span.service for bar in bars)
    colours = dict(zip(services, cycle(SERVICE_COLOURS)))
    for y, bar in enumerate(bars):
        colour = colours[bar.span.service]
        _draw_bar(ax, y, bar, colour)
        _draw_note(ax, y, bar.span, colour, with_age=now is not None)
    has_several = len(services) > 1
    _name_rows(ax, [_label(bar, with_service=has_several) for bar in bars])
    last = max(bar.span.ends for bar in bars)
    ax.set_xlim(0, 1.22 * last or 1)
    has_calls = any(bar.span.kind == "client" for bar in bars)
    _legend(ax, with_calls=has_calls)
    return ax


def _name_rows(ax: Axes, labels: list[str]) -> None:
    """Write a label beside each row, the first one above.

    They are left-aligned in a font of fixed width, so that the indent can be seen.
    """
    n = len(labels)
    ax.set_yticks(range(n), labels, ha="left", fontfamily="monospace", fontsize=9)
    longest = max(map(len, labels))
    ax.tick_params(axis="y", pad=5.8 * longest + 6, length=0)
    ax.set_ylim(n - 0.4, -0.6)


class _Bar(NamedTuple):
    span: Any  # begins and ends: ms since the trace began
    depth: int
    calls: list[Any]  # its child spans

    @property
    def length(self) -> float:
        """How long the span lasts, in ms."""
        return self.span.ends - self.span.begins


def _bars(trace: pd.DataFrame, now: pd.Timestamp | None) -> list[_Bar]:
    """Return the spans in call order.

    A span whose parent is missing has depth 0, and so has the first of a cycle of parents.
    """
    trace = trace.sort_values(["start", "span_id"]).reset_index(drop=True)
    millisecond = pd.Timedelta("1ms")
    begin = trace["start"].min()
    start = (trace["start"] - begin) / millisecond
    end = start + trace["duration_ms"]
    seen = max(start.max(), end.max())
    if now is not None:
        seen = (now - begin) / millisecond
    end = end.fillna(start.clip(lower=seen))
    spans = plain_rows(trace.assign(begins=start, ends=end))
    calls: dict[str | None, list[Any]] = {span.span_id: [] for span in spans}
    roots: list[Any] = []
    for span in spans:
        siblings = calls.get(span.parent_id, roots)
        siblings.append(span)
    bars: dict[int, _Bar] = {}
    for top in (*roots, *spans):
        waiting = [(top, 0)]
        while waiting:
            span, depth = waiting.pop()
            if span.Index in bars:
                continue
            below = calls[span.span_id]
            bars[span.Index] = _Bar(span, depth, below)
            waiting += [(child, depth + 1) for child in reversed(below)]
    return list(bars.values())


def _longest(bars: list[_Bar]) -> list[_Bar]:
    """Return the `MOST_BARS` longest spans, still in call order."""
    lengths = np.array([bar.length for bar in bars])
    by_length = np.argsort(-lengths, kind="stable")
    shown = sorted(by_length[:MOST_BARS])
    return [bars[n] for n in shown]


def _label(bar: _Bar, with_service: bool) -> str:
    arrow = "→ " if bar.span.kind == "client" else ""
    service = f" ({bar.span.service})" if with_service else ""
    indent = "  " * min(bar.depth, MOST_INDENT)
    return indent + arrow + literal(bar.span.endpoint + service)


def _draw_bar(ax: Axes, y: int, bar: _Bar, colour: str) -> None:
    begin = bar.span.begins
    if bar.span.kind == "client":
        look: Look = {
            "height": 0.3,
            "fc": "white",
            "ec": colour,
            "hatch": "////",
            "lw": 0.8,
        }
        ax.barh(y, bar.length, left=begin, **look)
        return
    ax.barh(y, bar.length, left=begin, height=0.62, color=colour)
    waits = _waits(bar) if bar.calls else []
    if not waits:
        return
    # light over a white ground
    rows = y - 0.31, 0.62
    ax.broken_barh(waits, rows, color="white")
    ax.broken_barh(waits, rows, color=colour, alpha=0.3, lw=0)


def _waits(bar: _Bar) -> list[tuple[float, float]]:
    """Return when a span waited for its calls, as (start, length) in ms, in order and disjoint."""
    begin, end = bar.span.begins, bar.span.ends
    calls = np.array([(call.begins, call.ends) for call in bar.calls])
    start, stop = calls.clip(begin, end).T
    order = np.argsort(start)
    start = start[order]
    reach = np.maximum.accumulate(stop[order])
    gap = start[1:] - reach[:-1]
    is_apart = gap > SMALLEST_GAP * (end - begin)
    first = start[np.append(True, is_apart)]
    last = reach[np.append(is_apart, True)]
    spells = zip(first, last, strict=True)
    return [(low, high - low) for low, high in spells if high > low]


def _draw_note(ax: Axes, y: int, span: Any, colour: str, with_age: bool) -> None:
    length = span.ends - span.begins
    text = f"{three_digits(length)} ms"
    failed = span.status >= 500 or isinstance(span.error, str)
    if pd.isna(span.duration_ms):
        text = f"still open after {text}" if with_age else "still open"
        ax.plot(span.ends, y, marker=">", color=colour, ms=11, clip_on=False)
    elif failed:
        text = f"{text}  ✗ {span.status or 'no answer'}"
    look = FAILED_LOOK if failed else {"color": BLACK}
    note(ax, text, (span.ends, y), (10, 0), fontsize=9, **look)


def _legend(ax: Axes, with_calls: bool) -> None:
    handles = [
        Patch(fc=GREY, label="own time"),
        Patch(fc=GREY, alpha=0.3, label="waiting for its calls"),
    ]
    if with_calls:
        call = Patch(fc="white", ec=GREY, hatch="////", label="call as its caller saw it")
        handles.append(call)
    # below the axis: long notes make the axes narrow, and beside the title there would be no room.
    # In inches, since a share of the height would depend on the number of bars
    fig: Any = ax.get_figure(root=True)
    half_an_inch_down = ScaledTranslation(0, -0.5, fig.dpi_scale_trans)
    place: Look = {
        "loc": "upper right",
        "bbox_to_anchor": (1, 0),
        "bbox_transform": ax.transAxes + half_an_inch_down,
        "borderaxespad": 0,
    }
    ax.legend(handles=handles, ncols=3, fontsize=9, frameon=False, **place)
