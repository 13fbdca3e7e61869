"""Figures over time: latency with its baseline, anomalies, incidents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREY,
    MARKS,
    ORANGE,
    SEVERITY_COLOURS,
    SKY,
    VERMILLION,
    YELLOW,
    draw_signs,
    dress,
    figure,
    interval_ends,
    log_axis,
    mark_of,
    name_of,
    plain_rows,
    shade_faults,
    time_axis,
)


def timeline(
    windows: pd.DataFrame,
    anomalies: Iterable[Any] = (),
    faults: Any = (),
    endpoint: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the latency of one endpoint over time, with what was expected and what was called
    abnormal.

    Parameters
    ----------
    windows : DataFrame
        One row per (window, service, endpoint), as in ``Report.windows``; without a column ``end``
        all windows are taken to be as long as the shortest.
    anomalies : iterable of Anomaly
        Each marks its window; those of other endpoints are left out.
    faults : DataFrame or iterable
        The truth: ``kind``, ``endpoint``, ``start`` and ``end`` of each fault; shaded.
    endpoint : str, optional
        Route, or "service route" where two services share one. Default: where the first anomaly is,
        else the first endpoint of `windows`.
    ax : Axes, optional
        Where to draw; default a new figure.
    legend : bool
        Whether to explain the signs beside the plot.

    Returns
    -------
    Axes
        x: time (UTC), each window drawn at its end, when its verdict was known; y: geometric mean
        latency of the window in ms, on a log scale.
    """
    anomalies = list(anomalies)
    rows = _rows_of(windows, anomalies, endpoint)
    ax = dress(ax, (9, 3.6), f"Latency of {name_of(rows)}", "time (UTC)", "latency (ms)")
    if rows.empty:
        return ax
    log_axis(ax)
    ax.margins(y=0.12)
    times = interval_ends(rows)
    ax.fill_between(
        times, rows["low_ms"], rows["high_ms"], color=SKY, alpha=0.35, lw=0, label="usual range"
    )
    ax.plot(times, rows["baseline_ms"], color=BLUE, ls="--", lw=1.5, label="baseline")
    ax.plot(times, rows["latency_ms"], color=BLACK, marker=".", lw=1.2, label="latency")
    learning = rows["latency_ms"].where(rows["state"] == "learning")
    if learning.notna().any():
        ax.plot(times, learning, "o", mfc="white", mec=GREY, ls="", label="learning")
    mark_of(ax, rows, anomalies, "latency_ms")
    shade_faults(ax, faults, times)
    if legend:
        signs = draw_signs([ax])
        ax.legend(
            signs.values(),
            signs.keys(),
            loc="upper left",
            bbox_to_anchor=(1, 1),
            fontsize=9,
            frameon=False,
        )
    return ax


def overview(
    windows: pd.DataFrame,
    anomalies: Iterable[Any] = (),
    faults: Any = (),
    fig: Figure | None = None,
) -> Figure:
    """Draw every endpoint: its `timeline` and below it the share of its requests that failed.

    Error spikes are marked below only: on the latency, which often falls while requests fail, they
    would seem to say that it was too fast.

    Returns
    -------
    Figure
        For each endpoint, in the order of the columns service and endpoint, two Axes: latency, then
        errors.
    """
    anomalies = list(anomalies)
    names = windows[["service", "endpoint"]].drop_duplicates().sort_values(["service", "endpoint"])
    columns = 1 if len(names) == 1 else 2
    blocks = max(1, -(-len(names) // columns))
    fig = fig or figure((6.5 * columns, 3.4 * blocks + 0.6))
    fig.set_layout_engine("constrained")
    grid = fig.add_gridspec(2 * blocks, columns, height_ratios=[2.2, 1] * blocks)
    first: Axes | None = None
    for i, (service, endpoint) in enumerate(zip(names["service"], names["endpoint"], strict=True)):
        rows = windows[(windows["service"] == service) & (windows["endpoint"] == endpoint)]
        top = 2 * (i // columns)
        column = i % columns
        latency = fig.add_subplot(grid[top, column], sharex=first, sharey=first)
        errors = fig.add_subplot(grid[top + 1, column], sharex=latency)
        here = [a for a in anomalies if (a.service, a.endpoint) == (service, endpoint)]
        timeline(
            rows, [a for a in here if a.type != "error_spike"], faults, ax=latency, legend=False
        )
        latency.set_title(name_of(rows), loc="left")
        latency.set_xlabel("")
        latency.tick_params(labelbottom=False)
        _error_share(rows.sort_values("window"), here, faults, errors)
        if i < len(names) - columns:
            errors.set_xlabel("")
        first = first or latency
    signs = draw_signs(fig.axes)
    fig.legend(signs.values(), signs.keys(), loc="outside lower center", ncols=4, fontsize=10)
    return fig


def incidents(incidents: Any, faults: Any = (), ax: Axes | None = None) -> Axes:
    """Draw incidents over time, a row each, with what was detected when; above them the faults, if
    they are known.

    Parameters
    ----------
    incidents : Report or iterable of Incident
    faults : DataFrame or iterable
        The truth: ``kind``, ``endpoint``, ``start`` and ``end`` of each fault.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        x: time (UTC); y: a row a fault, then a row an incident. A bar is an episode, from the first
        anomalous window to the end of the last one; a dotted line leads to its resolution. Marks
        stand where an anomaly was detected first.
    """
    found = list(getattr(incidents, "incidents", incidents))
    true = plain_rows(faults) if isinstance(faults, pd.DataFrame) else list(faults)
    ax = dress(ax, (9, 1.4 + 0.45 * (len(found) + len(true))), "Incidents", "time (UTC)", "")
    if not found and not true:
        return ax
    moments = [m for i in found for episode in i.episodes for m in episode] + [
        i.resolved_at for i in found
    ]
    times = pd.Series(
        [m for m in [*moments, *(t for f in true for t in (f.start, f.end))] if pd.notna(m)]
    )
    for y, fault in enumerate(true):
        end = times.max() if pd.isna(fault.end) else fault.end
        look: dict[str, Any] = {
            "fc": YELLOW,
            "ec": ORANGE,
            "hatch": "..",
            "lw": 0.5,
            "label": "true fault",
        }
        ax.barh(y, end - fault.start, left=fault.start, height=0.6, **look)
    for y, incident in enumerate(found, len(true)):
        _draw_incident(ax, y, incident)
    names = [f"{f.kind} at {f.endpoint}" for f in true] + [
        i.title.replace(" detected in ", ", ") for i in found
    ]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.use_sticky_edges = False  # else the first bar would begin on the axis
    ax.margins(x=0.02)
    time_axis(ax, times)
    signs = draw_signs([ax])
    ax.legend(
        signs.values(),
        signs.keys(),
        loc="upper left",
        bbox_to_anchor=(1, 1),
        fontsize=9,
        frameon=False,
    )
    return ax


def _rows_of(windows: pd.DataFrame, anomalies: Sequence[Any], endpoint: str | None) -> pd.DataFrame:
    if endpoint is None and len(windows):
        endpoint = anomalies[0].endpoint if anomalies else windows["endpoint"].iloc[0]
    both = windows["service"].astype(str) + " " + windows["endpoint"].astype(str)
    rows = windows[(windows["endpoint"] == endpoint) | (both == endpoint)]
    if rows.empty and len(windows):
        raise ValueError(
            f"endpoint must be one of {sorted(set(windows['endpoint']))}, got {endpoint!r}"
        )
    return rows.sort_values("window")


def _error_share(rows: pd.DataFrame, anomalies: list[Any], faults: Any, ax: Axes) -> None:
    dress(ax, (9, 2), "", "time (UTC)", "errors")
    times = interval_ends(rows)
    ax.plot(times, rows["error_rate"], color=VERMILLION, marker=".", lw=1.2, label="failed share")
    mark_of(ax, rows, [a for a in anomalies if a.type == "error_spike"], "error_rate")
    shade_faults(ax, faults, times)
    ax.set_ylim(-0.12, 1.15)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_incident(ax: Axes, y: int, incident: Any) -> None:
    colour, hatch = SEVERITY_COLOURS.get(incident.severity, (GREY, ""))
    for start, end in incident.episodes:
        look: dict[str, Any] = {"fc": colour, "ec": BLACK, "hatch": hatch, "lw": 0.6, "alpha": 0.7}
        ax.barh(
            y, end - start, left=start, height=0.5, label=f"incident, {incident.severity}", **look
        )
    if incident.resolved_at is not None:
        ax.plot([incident.last_anomaly, incident.resolved_at], [y, y], ":", color=GREY, lw=1.5)
        ax.plot([incident.resolved_at], [y], "|", color=BLACK, ms=14, mew=2, label="resolved")
    if incident.acknowledged_at is not None:
        ax.plot(
            [incident.acknowledged_at], [y], "d", mfc="white", mec=BLACK, ms=9, label="acknowledged"
        )
    for anomaly in incident.anomalies:
        kind, marker = MARKS.get(anomaly.type, (GREY, "o"))
        look = {"mfc": kind, "mec": BLACK, "mew": 0.6, "ms": 8}
        ax.plot(
            [anomaly.end],
            [y],
            marker,
            ls="",
            label=anomaly.type.replace("_", " "),
            zorder=5,
            **look,
        )
