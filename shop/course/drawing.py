"""Spans drawn by hand, and figures with a text for those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.results import Anomaly
from aiops_lab.show.plots.style import BLACK, BLUE, GREEN, VERMILLION
from aiops_lab.show.plots.trace import waterfall
from aiops_lab.spans import Span, to_frame
from aiops_lab.traces.trees import self_time
from shop.virtual_time.scenario import BEGIN_NS

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

_NS_IN_MS = 1_000_000

_NS_IN_S = 1_000_000_000

DrawnSpan = tuple[str, str | None, str, str, float, float]


def drawn_spans(
    rows: Iterable[DrawnSpan], service: str = "shop", trace_id: str = "t"
) -> pd.DataFrame:
    """Return a spans frame of one trace that was drawn by hand.

    Parameters
    ----------
    rows : iterable of (span_id, parent_id, kind, endpoint, start, end)
        The spans; start and end in ms since the request came in.
    service : str
        The service of all spans, which calls itself.
    trace_id : str
        The id of the trace.
    """
    return to_frame(_drawn(row, service, trace_id) for row in rows)


def _drawn(row: DrawnSpan, service: str, trace_id: str) -> Span:
    span_id, parent_id, kind, endpoint, start, end = row
    return Span(
        trace_id,
        span_id,
        parent_id,
        service,
        endpoint,
        kind,
        service if kind == "client" else None,
        *start_and_duration(start, end),
        200,
        None,
    )


def start_and_duration(start_ms: float, end_ms: float) -> tuple[int, int]:
    """Return when a span begins that was drawn by hand, in Unix ns, and how long it lasts, in ns.

    Both times are given in ms since virtual second 0.
    """
    start_ns = round(start_ms * _NS_IN_MS)
    lasted_ns = round((end_ms - start_ms) * _NS_IN_MS)
    return BEGIN_NS + start_ns, lasted_ns


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of this size in inches."""
    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def step_medians(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the median duration and self time of each step in ms, by the step's name.

    A step is an endpoint, or with an arrow a call of one.
    """
    arrow = np.where(frame["kind"] == "client", "→ ", "")
    times = pd.DataFrame(
        {
            "step": arrow + frame["endpoint"].astype(str),
            "duration": frame["duration_ms"],
            "self": self_time(frame),
        }
    )
    return times.groupby("step").median()


def waterfalls(
    traces: Mapping[str, tuple[pd.DataFrame, str]], until_ms: float = 0.0, one_axis: bool = True
) -> list[Axes]:
    """Return the axes of traces that are drawn below each other.

    Parameters
    ----------
    traces : mapping of title to (spans frame, trace_id)
        The traces, from top to bottom; each gets room for its spans.
    until_ms : float
        Where the axis ends; default 0: behind the longest trace and its note.
    one_axis : bool
        Whether all share one axis of time; otherwise each trace has its own.
    """
    heights = [_rows_of(*trace) for trace in traces.values()]
    _, axes = plt.subplots(
        len(traces),
        figsize=(9, 1.2 + 0.32 * sum(heights)),
        height_ratios=heights,
        sharex=one_axis,
        layout="constrained",
    )
    ends_ms = []
    for ax, (title, trace) in zip(axes, traces.items(), strict=True):
        waterfall(*trace, ax=ax).set_title(title, loc="left")
        _, end_ms = ax.get_xlim()
        ends_ms.append(end_ms)
    for ax in axes[:-1]:
        ax.set_xlabel("")
        ax.get_legend().remove()  # one is enough
    if until_ms:
        axes[-1].set_xlim(0, until_ms)
    elif one_axis:
        axes[-1].set_xlim(0, max(ends_ms))
    return list(axes)


def stretch(ax: Axes, row: float, span_ms: tuple[float, float], text: str) -> None:
    """Draw an arrow with two heads over a stretch of time, in or between rows of a waterfall.

    Parameters
    ----------
    ax : Axes
        A waterfall.
    row : float
        Where: 0 = the first row, 0.5 = between it and the second.
    span_ms : (float, float)
        From when to when, in ms since the trace began.
    text : str
        What is written in its middle.
    """
    start_ms, end_ms = span_ms
    look = {"arrowstyle": "<->", "color": VERMILLION, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (start_ms, row), (end_ms, row), arrowprops=look)
    middle_ms = (start_ms + end_ms) / 2
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    ax.text(middle_ms, row, text, ha="center", va="center", fontsize=9, bbox=box)


def point_out(ax: Axes, row: float, times_ms: Sequence[float]) -> None:
    """Draw a triangle above a row of a waterfall at each of these times, in ms since it began."""
    ax.plot(times_ms, [row - 0.45] * len(times_ms), "v", color=VERMILLION, ms=6, clip_on=False)


def _rows_of(frame: pd.DataFrame, trace_id: str) -> int:
    """Return for how many spans a waterfall has room: those of the trace, and at least two."""
    is_shown = frame["trace_id"] == trace_id
    return max(2, int(is_shown.sum()))


def show(alt: str, figure: Figure | None = None) -> None:
    """Show a figure with a text that says what it shows, and close it.

    Parameters
    ----------
    alt : str
        The text, for readers who do not see the figure.
    figure : Figure, optional
        Default the current one.
    """
    fig = figure or plt.gcf()
    try:
        from IPython.display import display
    except ImportError:
        plt.show()
    else:
        display(fig, metadata={"image/png": {"alt": alt}})
    plt.close(fig)


def looks(
    seconds: Sequence[float],
    finished: Sequence[int],
    ages_s: Sequence[float],
    hang_ends_s: float,
) -> None:
    """Draw what repeated looks at a store have seen: finished spans, and the oldest open one's age.

    Parameters
    ----------
    seconds : sequence of float
        When each look was, in s.
    finished : sequence of int
        How many spans had ended by then.
    ages_s : sequence of float
        The age of the oldest open span in s; 0 = none is open.
    hang_ends_s : float
        When the hang ended, in s: a dashed line.
    """
    _, (above, below) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
    above.step(seconds, finished, "o-", where="post", color=BLUE)
    above.set_ylabel("finished\n(spans)")
    ages = pd.Series(list(ages_s), index=list(seconds))
    some = ages[ages > 0]
    none = ages[ages == 0]
    below.plot(some.index, some, "o-", color=VERMILLION, label="one is open")
    below.plot(none.index, none, "s", color=GREEN, label="none is open")
    for ax in (above, below):
        ax.axvline(hang_ends_s, color=BLACK, ls="--", lw=1, label="the hang ends")
    below.set_ylabel("age of the\noldest open (s)")
    below.set_xlabel("seconds since the order came in")
    below.legend()


def calls(
    endpoint: str, until_s: float, ms_at: Callable[[float], float | None], every_s: float = 1.0
) -> list[Span]:
    """Return spans of an endpoint that is called at regular intervals, from virtual second 0 on.

    Parameters
    ----------
    endpoint : str
        Its route.
    until_s : float
        When the calls end, in s.
    ms_at : function
        The usual duration in ms of a call at a second; None = it is never answered. Durations
        scatter around it (sd 0.25 of the logarithm).
    every_s : float
        Seconds between two calls; default 1.
    """
    rng = np.random.default_rng(0)
    begins = np.arange(0, until_s, every_s)
    noise = np.exp(0.25 * rng.standard_normal(len(begins)))
    first = crc32(endpoint.encode()) << 32
    spans = []
    for n, (at_s, times) in enumerate(zip(begins, noise, strict=True), first):
        ms = ms_at(at_s)
        took_ns = None if ms is None else int(ms * times * _NS_IN_MS)
        begin_ns = BEGIN_NS + int(at_s * _NS_IN_S)
        spans.append(lone_span(n, endpoint, begin_ns, took_ns))
    return spans


def lone_span(n: int, endpoint: str, begin_ns: int, took_ns: int | None) -> Span:
    """Return the one span of trace number `n`: an endpoint of the shop that answers 200."""
    return Span(
        f"{n:032x}",
        f"{n:016x}",
        None,
        "shop",
        endpoint,
        "server",
        None,
        begin_ns,
        took_ns,
        200,
        None,
    )


def first_alarms(anomalies: Iterable[Anomaly], since_s: float) -> pd.DataFrame:
    """Return the first alarm of each endpoint and type: seconds after `since_s`, a second of the
    virtual clock, and how many requests were due.
    """
    rows = [
        (
            each.endpoint,
            each.type,
            _second(each.end) - since_s,
            each.evidence.get("expected_requests"),
        )
        for each in anomalies
    ]
    alarms = pd.DataFrame(rows, columns=["endpoint", "alarm", "after_s", "due"])
    return alarms.groupby(["endpoint", "alarm"]).min()


def _second(time: pd.Timestamp) -> float:
    return (time.value - BEGIN_NS) / _NS_IN_S


def label_sizes(ax: Axes, faults: pd.DataFrame) -> None:
    """Write the size of each delay above it: `faults` has start, end and duration_ms."""
    half = (faults["end"] - faults["start"]) / 2
    middles = faults["start"] + half
    for middle, ms in zip(middles, faults["duration_ms"], strict=True):
        ax.text(
            middle,
            0.98,
            f"{ms:g} ms",
            fontsize=8,
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
        )


def plain_ticks(ax: Axes, numbers: Iterable[float]) -> None:
    """Mark these numbers on the axis x, written out, and nothing between them."""
    told = {number: f"{number:,g}" for number in numbers}
    ax.set_xticks(list(told), list(told.values()))
    ax.minorticks_off()
