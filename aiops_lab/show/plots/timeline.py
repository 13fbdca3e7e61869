"""Figures over time: latency with its baseline, anomalies, incidents."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from aiops_lab.checks import FieldError, shorten
from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    FAULT_LOOK,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    Look,
    draw_marks,
    dress,
    figure,
    interval_ends,
    known_ends,
    legend_beside,
    literal,
    log_axis,
    mark_of,
    plain_rows,
    shade_faults,
    signs,
    time_axis,
)

SEVERITY_LOOKS: dict[str, Look] = {
    "info": {"fc": "white", "hatch": ""},
    "low": {"fc": GREY, "hatch": ""},
    "medium": {"fc": SKY, "hatch": ""},
    "high": {"fc": ORANGE, "hatch": "//"},
    "critical": {"fc": VERMILLION, "hatch": "xx"},
}


def timeline(
    windows: pd.DataFrame,
    anomalies: Iterable[Any] = (),
    faults: Any = (),
    endpoint: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the latency of one endpoint over time, with its usual range and its anomalies.

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
    ax = dress(ax, (9, 3.6), f"Latency of {_name(rows)}", "time (UTC)", "latency (ms)")
    if rows.empty:
        return ax
    log_axis(ax)
    ax.margins(y=0.12)
    times = interval_ends(rows)
    shade: Look = {"color": SKY, "alpha": 0.35, "lw": 0, "label": "usual range"}
    ax.fill_between(times, rows["low_ms"], rows["high_ms"], **shade)
    baseline = rows["baseline_ms"]
    latency = rows["latency_ms"]
    ax.plot(times, baseline, color=BLUE, ls="--", lw=1.5, label="baseline")
    ax.plot(times, latency, color=BLACK, marker=".", lw=1.2, label="latency")
    is_learning = rows["state"] == "learning"
    if latency[is_learning].notna().any():
        learning = latency.where(is_learning)
        ax.plot(times, learning, "o", mfc="white", mec=GREY, label="learning")
    draw_marks(ax, rows, anomalies, latency.fillna(baseline))
    shade_faults(ax, faults, times)
    if legend:
        legend_beside(ax)
    return ax


def overview(windows: pd.DataFrame, anomalies: Iterable[Any] = (), faults: Any = ()) -> Figure:
    """Draw every endpoint: its `timeline` and below it the share of its requests that failed.

    Error spikes are marked below only: on the latency, which often falls while requests fail, they
    would seem to say that it was too fast.

    Returns
    -------
    Figure
        For each endpoint, in the order of the columns service and endpoint, two Axes: latency, then
        errors.
    """
    spikes: dict[bool, list[Any]] = {True: [], False: []}
    for anomaly in anomalies:
        spikes[anomaly.type == "error_spike"].append(anomaly)
    groups = list(windows.groupby(["service", "endpoint"], observed=True))
    columns = 1 if len(groups) == 1 else 2
    blocks = max(1, -(-len(groups) // columns))
    width = 6.5 * columns
    height = 3.4 * blocks + 0.6
    fig = figure((width, height))
    ratios = [2.2, 1] * blocks
    grid = fig.add_gridspec(2 * blocks, columns, height_ratios=ratios)
    latency: Axes | None = None
    for place, ((_, endpoint), rows) in enumerate(groups):
        block, column = divmod(place, columns)
        above = grid[2 * block, column]
        below = grid[2 * block + 1, column]
        latency = fig.add_subplot(above, sharex=latency, sharey=latency)
        errors = fig.add_subplot(below, sharex=latency)
        timeline(rows, spikes[False], faults, str(endpoint), latency, legend=False)
        latency.set_title(literal(_name(rows)), loc="left")
        latency.set_xlabel("")
        latency.tick_params(labelbottom=False)
        error_share(rows.sort_values("window"), spikes[True], faults, errors)
        if place < len(groups) - columns:
            errors.set_xlabel("")
    if groups:
        fig.legend(**signs(*fig.axes), loc="outside lower center", ncols=4, fontsize=10)
    return fig


def incidents(incidents: Any, faults: Any = (), ax: Axes | None = None) -> Axes:
    """Draw incidents over time, a row each; above them the faults, if they are given.

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
    times = _times(found, plain_rows(faults))
    true = known_ends(faults, times.max(), sizes=True)
    height = 1.4 + 0.45 * (len(found) + len(true))
    ax = dress(ax, (9, height), "Incidents", "time (UTC)")
    if times.empty:
        return ax
    names = []
    for y, (name, start, end) in enumerate(true):
        ax.barh(y, end - start, left=start, height=0.6, label="true fault", **FAULT_LOOK)
        names.append(name)
    for y, incident in enumerate(found, len(true)):
        _draw_incident(ax, y, incident)
        names.append(literal(incident.title.replace(" detected in ", ", ")))
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.use_sticky_edges = False  # else the first bar would begin on the axis
    ax.margins(x=0.02)
    time_axis(ax, times)
    legend_beside(ax)
    return ax


def _times(found: list[Any], true: list[Any]) -> pd.Series:
    moments: list[Any] = []
    for incident in found:
        moments += [incident.resolved_at, *chain(*incident.episodes)]
    for fault in true:
        moments += [fault.start, fault.end]
    return pd.Series(moments, dtype="datetime64[ns, UTC]").dropna()


def _name(rows: pd.DataFrame) -> str:
    places = zip(rows["service"], rows["endpoint"], strict=True)
    names = [f"{endpoint} ({service})" for service, endpoint in sorted(set(places))]
    return " and ".join(names) or "nothing"


def _rows_of(windows: pd.DataFrame, anomalies: list[Any], endpoint: str | None) -> pd.DataFrame:
    if windows.empty:
        return windows
    if endpoint is None:
        endpoint = windows["endpoint"].iloc[0]
        if anomalies:
            endpoint = anomalies[0].endpoint
    return endpoint_windows(windows, endpoint)


def endpoint_windows(windows: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    """Return the windows of an endpoint, a route or "service route", in the order of time."""
    services = windows["service"].astype(str)
    endpoints = windows["endpoint"].astype(str)
    is_route = windows["endpoint"] == endpoint
    is_name = services + " " + endpoints == endpoint
    rows = windows[is_route | is_name]
    if rows.empty:
        choices = sorted(set(windows["endpoint"]))
        raise FieldError("endpoint", f"must be one of {shorten(choices, 400)}", endpoint)
    return rows.sort_values("window")


def error_share(rows: pd.DataFrame, spikes: list[Any], faults: Any, ax: Axes) -> None:
    """Draw into `ax` the share of an endpoint's requests that failed; `rows` are its windows."""
    dress(ax, (9, 2), "", "time (UTC)", "errors")
    times = interval_ends(rows)
    ax.plot(times, rows["error_rate"], color=VERMILLION, marker=".", lw=1.2, label="failed share")
    draw_marks(ax, rows, spikes, rows["error_rate"])
    shade_faults(ax, faults, times)
    ax.set_ylim(-0.12, 1.15)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw_incident(ax: Axes, y: int, incident: Any) -> None:
    look = SEVERITY_LOOKS[incident.severity]
    label = f"incident, {incident.severity}"
    bar: Look = {"height": 0.5, "ec": BLACK, "lw": 0.6, "alpha": 0.7}
    for start, end in incident.episodes:
        ax.barh(y, end - start, left=start, label=label, **bar, **look)
    resolved = incident.resolved_at
    if resolved is not None:
        since = incident.last_anomaly
        ax.plot([since, resolved], [y, y], ":", color=GREY, lw=1.5)
        ax.plot(resolved, y, "|", color=BLACK, ms=14, mew=2, label="resolved")
    acknowledged = incident.acknowledged_at
    if acknowledged is not None:
        ax.plot(acknowledged, y, "d", mfc="white", mec=BLACK, ms=9, label="acknowledged")
    edge: Look = {"mec": BLACK, "mew": 0.6, "ms": 8, "zorder": 5}
    for anomaly in incident.anomalies:
        colour, marker = mark_of(anomaly.type)
        label = anomaly.type.replace("_", " ")
        ax.plot(anomaly.end, y, marker, label=label, mfc=colour, **edge)
