"""The waterfall of one trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.transforms import ScaledTranslation

from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Bar,
    draw_bars,
    dress,
    three_digits,
)


def waterfall(
    frame: pd.DataFrame, trace_id: str, ax: Axes | None = None, now: pd.Timestamp | None = None
) -> Axes:
    """Draw one trace: who called whom, how long each step took, and where the time was really
    spent.

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
        When the frame was read: open spans are drawn up to it and tell their age. Default: they are
        drawn up to the last moment that the trace itself knows, without an age.

    Returns
    -------
    Axes
        x: ms since the trace began; y: one row a span, in call order, indented by depth.

    Raises
    ------
    ValueError
        If the frame has no such trace.
    """
    bars = draw_bars(frame[frame["trace_id"] == trace_id], now)
    if not bars:
        raise ValueError(f"trace_id must be in the frame, got {trace_id!r}")
    ax = dress(
        ax, (9, 1.1 + 0.36 * len(bars)), f"Trace {trace_id[:8]}…", "ms since the trace began", ""
    )
    services = list(dict.fromkeys(bar.span.service for bar in bars))
    for y, bar in enumerate(bars):
        colour = (BLUE, GREEN, ORANGE, PURPLE, SKY)[services.index(bar.span.service) % 5]
        _draw_bar(ax, y, bar, colour, aged=now is not None)
    labels = [f"{'  ' * b.depth}{_span_name(b.span, len(services) > 1)}" for b in bars]
    # left-aligned in a font of fixed width, so that the indent can be seen
    ax.set_yticks(range(len(bars)), labels, ha="left", fontfamily="monospace", fontsize=9)
    ax.tick_params(axis="y", pad=5.8 * max(map(len, labels)) + 6, length=0)
    ax.set(ylim=(len(bars) - 0.4, -0.6), xlim=(0, max(bar.end for bar in bars) * 1.22 or 1))
    shades: list[tuple[str, dict[str, Any]]] = [
        ("own time", {"fc": GREY}),
        ("waiting for its calls", {"fc": GREY, "alpha": 0.3}),
    ]
    if any(bar.span.kind == "client" for bar in bars):
        shades.append(("call as its caller saw it", {"fc": "white", "ec": GREY, "hatch": "////"}))
    handles = [Patch(label=label, **look) for label, look in shades]
    # below the axis: long notes make the axes narrow, and beside the title there would be no room.
    # In inches, since a share of the height would depend on the number of bars
    fig = ax.get_figure(root=True)
    below = ax.transAxes + ScaledTranslation(0, -0.5, fig.dpi_scale_trans)  # type: ignore[union-attr]
    style: dict[str, Any] = {"ncols": 3, "fontsize": 9, "frameon": False, "borderaxespad": 0}
    ax.legend(
        handles=handles, loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=below, **style
    )
    return ax


def _span_name(span: Any, with_service: bool) -> str:
    arrow = "→ " if span.kind == "client" else ""
    return f"{arrow}{span.endpoint}{f' ({span.service})' if with_service else ''}"


def _draw_bar(ax: Axes, y: int, bar: Bar, colour: str, aged: bool) -> None:
    length = bar.end - bar.start
    if bar.span.kind == "client":
        ax.barh(y, length, left=bar.start, height=0.3, fc="white", ec=colour, hatch="////", lw=0.8)
    else:
        ax.barh(y, length, left=bar.start, height=0.62, color=colour)
        for start, end in bar.waits:  # light over a white ground: overlapping calls do not darken
            ax.barh(y, end - start, left=start, height=0.62, color="white")
            ax.barh(y, end - start, left=start, height=0.62, color=colour, alpha=0.3, lw=0)
    is_open = np.isnan(bar.span.duration_ms)
    failed = bar.span.status >= 500 or bar.span.error
    note = f"{three_digits(length)} ms"
    if is_open:
        note = f"still open after {note}" if aged else "still open"
        ax.plot([bar.end], [y], marker=">", color=colour, ms=11, clip_on=False)
    elif failed:
        note += f"  ✗ {bar.span.status or 'no answer'}"
    style: dict[str, Any] = (
        {"color": VERMILLION, "fontweight": "bold"} if failed else {"color": BLACK}
    )
    ax.annotate(
        note, (bar.end, y), (10, 0), textcoords="offset points", va="center", fontsize=9, **style
    )
