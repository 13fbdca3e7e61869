"""Spans drawn by hand, and figures with a text for those who cannot see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.show.plots.style import BLUE, VERMILLION
from aiops_lab.show.plots.trace import waterfall
from aiops_lab.spans import Span, to_frame
from aiops_lab.traces.trees import self_time
from shop.virtual_time.scenario import BEGIN_NS

try:
    import matplotlib.pyplot as plt
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

NS_IN_MS = 1_000_000

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
        BEGIN_NS + round(start * NS_IN_MS),
        round((end - start) * NS_IN_MS),
        200,
        None,
    )


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


def show(alt: str) -> None:
    """Show the current figure with a text that says what it shows, and close it.

    Parameters
    ----------
    alt : str
        The text, for readers who do not see the figure.
    """
    fig: Any = plt.gcf()
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
