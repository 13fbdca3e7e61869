"""What does it look like? Figures in one style: colours that everybody can tell apart, plus a
marker.

Each function takes an optional ``ax``, returns it, and draws what it is given: nothing is decided
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import MINUTELY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from aiops_lab.detect.detectors import DETECTORS

# Okabe and Ito's palette
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"

YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

GREY = "#777777"

# each type of anomaly has a colour and a shape, so that a copy in grey still tells them apart
COLOURS = {
    "black": BLACK,
    "orange": ORANGE,
    "sky": SKY,
    "green": GREEN,
    "yellow": YELLOW,
    "blue": BLUE,
    "vermillion": VERMILLION,
    "purple": PURPLE,
    "grey": GREY,
}

MARKS = {detector.name: (COLOURS[detector.mark[0]], detector.mark[1]) for detector in DETECTORS}

SERIES = (
    (BLUE, "o", "-"),
    (VERMILLION, "X", "--"),
    (GREEN, "^", ":"),
    (PURPLE, "s", "-."),
    (ORANGE, "D", "-"),
    (BLACK, "v", "--"),
)

SEVERITY_COLOURS = {"medium": (SKY, ""), "high": (ORANGE, "//"), "critical": (VERMILLION, "xx")}


def figure(size: tuple[float, float], dpi: float = 100) -> Figure:
    """Return an empty figure that pyplot has let go of: a notebook shows it once, as what the cell
    returns.
    """
    fig = plt.figure(figsize=size, dpi=dpi, layout="constrained")
    plt.close(fig)
    return fig


def dress(ax: Axes | None, size: tuple[float, float], title: str, x: str, y: str) -> Axes:
    ax = ax or plt.subplots(figsize=size, layout="constrained")[1]
    ax.set_title(title, fontsize=12, loc="left")
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    ax.tick_params(labelsize=10)
    ax.grid(axis="x" if not y else "both", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def log_axis(ax: Axes) -> None:
    """Make y logarithmic, with plain numbers beside it."""
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def three_digits(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"  # but never 1e+03


def plain_rows(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples())


def name_of(rows: pd.DataFrame) -> str:
    pairs = sorted(set(zip(rows["service"], rows["endpoint"], strict=True)))
    return " and ".join(f"{endpoint} ({service})" for service, endpoint in pairs) or "nothing"


def mark_of(ax: Axes, rows: pd.DataFrame, anomalies: Iterable[Any], column: str) -> None:
    # a window in which nothing was answered has no latency: its mark stands on the baseline
    heights = rows[column].fillna(rows["baseline_ms"] if column == "latency_ms" else 0.0)
    keys = zip(rows["service"], rows["endpoint"], rows["window"], strict=True)
    at = dict(zip(keys, zip(interval_ends(rows), heights, strict=True), strict=True))
    for kind, (colour, marker) in MARKS.items():
        places = [(a.service, a.endpoint, a.window) for a in anomalies if a.type == kind]
        known = [at[key] for key in places if key in at]
        if known:
            x, y = zip(*known, strict=True)
            # a ring, so that a second mark on the same window shows inside it
            fill: dict[str, Any] = (
                {"mfc": "none", "ms": 12, "mew": 2}
                if marker == "o"
                else {"mec": BLACK, "mew": 0.6, "ms": 10}
            )
            ax.plot(x, y, marker, color=colour, label=kind.replace("_", " "), zorder=5, **fill)


def interval_ends(rows: pd.DataFrame) -> pd.Series:
    if "end" in rows:
        return rows["end"]
    starts = rows["window"].drop_duplicates().sort_values()
    return rows["window"] + (starts.diff().min() if len(starts) > 1 else pd.Timedelta(0))


def shade_faults(ax: Axes, faults: Any, times: pd.Series) -> None:
    for fault in plain_rows(faults) if isinstance(faults, pd.DataFrame) else faults:
        end = times.max() if pd.isna(fault.end) else fault.end
        label = f"true fault: {fault.kind} at {fault.endpoint}"
        ax.axvspan(
            fault.start,
            end,
            fc=YELLOW,
            ec=ORANGE,
            alpha=0.35,
            hatch="..",
            lw=0.5,
            zorder=0,
            label=label,
        )
    time_axis(ax, times)


def time_axis(ax: Axes, times: pd.Series) -> None:
    inches = ax.bbox.width / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    locator = AutoDateLocator(minticks=2, maxticks=max(5, round(inches)))
    # by default no 2: eight minutes would get one tick
    locator.intervald[MINUTELY] = [1, 2, 5, 10, 15, 30]
    ax.xaxis.set_major_locator(locator)
    # whole times on every tick: a bare "30" would leave the reader to guess its unit
    clock = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"]
    formatter = ConciseDateFormatter(
        locator,
        tz="UTC",
        formats=clock,
        zero_formats=["", "%Y", "%Y-%m", "%m-%d", *clock[4:]],
        show_offset=False,
    )
    ax.xaxis.set_major_formatter(formatter)
    if len(times) and times.min().date() == times.max().date():
        ax.set_xlabel(f"time on {times.min():%Y-%m-%d} (UTC)")


def draw_signs(axes: Iterable[Axes]) -> dict[str, Any]:
    """Each label once, in the order in which it was drawn."""
    found = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    signs: dict[str, Any] = {}
    for handle, label in found:
        signs.setdefault(label, handle)
    return signs


class Bar(NamedTuple):
    span: Any
    depth: int
    start: float  # ms since the trace began
    end: float
    waits: list[tuple[float, float]]  # the children, clipped


def draw_bars(trace: pd.DataFrame, now: pd.Timestamp | None) -> list[Bar]:
    """The spans of one trace in call order. A span whose parent is missing stands at the left."""
    spans = plain_rows(trace.sort_values(["start", "span_id"]))
    if not spans:
        return []
    begin = spans[0].start
    starts = {s.span_id: (s.start - begin).total_seconds() * 1e3 for s in spans}
    ends = {s.span_id: starts[s.span_id] + s.duration_ms for s in spans}
    last = float(np.nanmax([*ends.values(), *starts.values()]))
    seen = last if now is None else (now - begin).total_seconds() * 1e3
    ends = {key: max(seen, starts[key]) if np.isnan(end) else end for key, end in ends.items()}
    children: dict[Any, list[Any]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in starts else None, []).append(span)

    def walk(parent: Any, depth: int) -> Iterator[Bar]:
        for span in children.get(parent, []):
            start = starts[span.span_id]
            end = ends[span.span_id]
            below = [(starts[c.span_id], ends[c.span_id]) for c in children.get(span.span_id, [])]
            waits = [(max(a, start), min(b, end)) for a, b in below if min(b, end) > max(a, start)]
            yield Bar(span, depth, start, end, waits)
            yield from walk(span.span_id, depth + 1)

    return list(walk(None, 0))


def endpoint_colour(edge: Any) -> str:
    return VERMILLION if edge.errors else BLACK
