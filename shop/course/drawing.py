"""Spans drawn by hand, and figures with a text for those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.results import Anomaly
from aiops_lab.show.plots.style import BLUE, GREY, VERMILLION
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
    return BEGIN_NS + round(start_ms * _NS_IN_MS), round((end_ms - start_ms) * _NS_IN_MS)


def step_medians(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the median duration and self time of each step in ms, by the step's name.

    A step is an endpoint, or with an arrow a call of one.
    """
    arrow = np.where(frame["kind"] == "client", "→ ", "")
    step = arrow + frame["endpoint"].astype(str)
    times = {"duration": frame["duration_ms"], "self": self_time(frame)}
    return pd.DataFrame({"step": step, **times}).groupby("step").median()


def waterfalls(traces: Mapping[str, tuple[pd.DataFrame, str]], until_ms: float = 0.0) -> None:
    """Draw traces below each other on one axis of time.

    Parameters
    ----------
    traces : mapping of title to (spans frame, trace_id)
        The traces, from top to bottom; each gets room for its spans.
    until_ms : float
        Where the axis ends; default 0: where the longest trace does.
    """
    spans = [max(2, int((frame["trace_id"] == name).sum())) for frame, name in traces.values()]
    fig, axes = plt.subplots(
        len(traces),
        figsize=(9, 1.2 + 0.32 * sum(spans)),
        height_ratios=spans,
        sharex=True,
        layout="constrained",
    )
    for ax, (title, (frame, trace_id)) in zip(axes, traces.items(), strict=True):
        waterfall(frame, trace_id, ax=ax).set_title(title, loc="left")
    for ax in axes[:-1]:
        ax.set_xlabel("")
        ax.get_legend().remove()  # one is enough
    if until_ms:
        axes[-1].set_xlim(0, until_ms)


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


def looks(seconds: Sequence[float], finished: Sequence[int], ages_s: Sequence[float]) -> None:
    """Draw what repeated looks at a store have seen: finished spans, and the oldest open one's age.

    Parameters
    ----------
    seconds : sequence of float
        When each look was, in s.
    finished : sequence of int
        How many spans had ended by then.
    ages_s : sequence of float
        The age of the oldest open span in s; 0 = none is open.
    """
    at, age = np.asarray(seconds), np.asarray(ages_s)
    fig, (above, below) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
    above.step(at, finished, "o-", where="post", color=BLUE)
    below.plot(at[age > 0], age[age > 0], "o-", color=VERMILLION, label="one is open")
    below.plot(at[age == 0], age[age == 0], "s", color=BLUE, label="none is open")
    above.set(ylabel="finished\n(spans)")
    below.set(ylabel="age of the\noldest open (s)", xlabel="seconds since the order came in")
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
    numbered = enumerate(zip(begins, noise, strict=True), first)
    return [_call(n, endpoint, at, ms_at(at), times) for n, (at, times) in numbered]


def _call(n: int, endpoint: str, at_s: float, ms: float | None, times: float) -> Span:
    took_ns = None if ms is None else int(ms * times * 1e6)
    begin_ns = BEGIN_NS + int(at_s * 1e9)
    ids = f"{n:032x}", f"{n:016x}", None
    return Span(*ids, "shop", endpoint, "server", None, begin_ns, took_ns, 200, None)


def first_alarms(anomalies: Iterable[Anomaly], since_s: float) -> pd.DataFrame:
    """Return the first alarm of each endpoint and type: seconds after `since_s`, a second of the
    virtual clock, and how many requests were due.
    """
    rows = [
        (a.endpoint, a.type, _second(a.end) - since_s, a.evidence.get("expected_requests"))
        for a in anomalies
    ]
    columns = ["endpoint", "alarm", "after_s", "due"]
    return pd.DataFrame(rows, columns=columns).groupby(["endpoint", "alarm"]).min()


def _second(time: pd.Timestamp) -> float:
    return (time.value - BEGIN_NS) / 1e9


def label_sizes(ax: Axes, faults: pd.DataFrame) -> None:
    """Write the size of each delay above it: `faults` has start, end and duration_ms."""
    where: Any = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "top"}
    rows: list[dict[str, Any]] = faults.to_dict("records")  # type: ignore[assignment]
    for fault in rows:
        middle = fault["start"] + (fault["end"] - fault["start"]) / 2
        ax.text(middle, 0.98, f"{fault['duration_ms']:g} ms", fontsize=8, **where)


def effect_and_significance(calm: pd.DataFrame, broken: pd.DataFrame) -> None:
    """Draw windows by their ratio and z: those in which nothing was broken, and the others."""
    fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    ax.semilogx(calm["ratio"], calm["z"], "o", color=BLUE, label="nothing broken")
    ax.semilogx(broken["ratio"], broken["z"], "X", color=VERMILLION, label="true fault")
    ax.axvline(3, color=GREY, ls="--")
    ax.axhline(3, color=GREY, ls="--")
    ax.set_xlabel("effect size: ratio to the baseline (log scale)")
    ax.set_ylabel("significance: z (standard errors)")
    ax.set_xticks([0.5, 1, 2, 3, 8], ["0.5", "1", "2", "3", "8"])
    ax.minorticks_off()
    ax.legend()
