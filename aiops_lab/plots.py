"""What does it look like? Figures in one style: colours that everybody can tell apart, plus a marker.

Each function takes an optional ``ax``, returns it, and draws what it is given: nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import MINUTELY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from matplotlib.transforms import ScaledTranslation

# Okabe and Ito's palette
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#777777"

# each type of anomaly has a colour and a shape, so that a copy in grey still tells them apart
MARKS = {
    "latency_anomaly": (VERMILLION, "o"),
    "error_spike": (PURPLE, "X"),
    "timeout": (BLACK, "s"),
    "traffic_drop": (BLUE, "v"),
    "latency_drift": (GREEN, "^"),
}

_SERIES = (
    (BLUE, "o", "-"), (VERMILLION, "X", "--"), (GREEN, "^", ":"), (PURPLE, "s", "-."),
    (ORANGE, "D", "-"), (BLACK, "v", "--"),
)  # fmt: skip
_SEVERITIES = {"medium": (SKY, ""), "high": (ORANGE, "//"), "critical": (VERMILLION, "xx")}


def timeline(
    windows: pd.DataFrame,
    anomalies: Iterable[Any] = (),
    faults: Any = (),
    endpoint: str | None = None,
    ax: Axes | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the latency of one endpoint over time, with what was expected and what was called abnormal.

    Parameters
    ----------
    windows : DataFrame
        One row per (window, service, endpoint), as in ``Report.windows``; without a column ``end`` all windows
        are taken to be as long as the shortest.
    anomalies : iterable of Anomaly
        Each marks its window; those of other endpoints are left out.
    faults : DataFrame or iterable
        The truth: ``kind``, ``endpoint``, ``start`` and ``end`` of each fault; shaded.
    endpoint : str, optional
        Route, or "service route" where two services share one. Default: where the first anomaly is, else
        the first endpoint of `windows`.
    ax : Axes, optional
        Where to draw; default a new figure.
    legend : bool
        Whether to explain the signs beside the plot.

    Returns
    -------
    Axes
        x: time (UTC), each window drawn at its end, when its verdict was known; y: geometric mean latency of
        the window in ms, on a log scale.
    """
    anomalies = list(anomalies)
    rows = _rows_of(windows, anomalies, endpoint)
    ax = _dress(ax, (9, 3.6), f"Latency of {_name(rows)}", "time (UTC)", "latency (ms)")
    if rows.empty:
        return ax
    _log_axis(ax)
    ax.margins(y=0.12)
    times = _ends(rows)
    ax.fill_between(times, rows["low_ms"], rows["high_ms"], color=SKY, alpha=0.35, lw=0, label="usual range")
    ax.plot(times, rows["baseline_ms"], color=BLUE, ls="--", lw=1.5, label="baseline")
    ax.plot(times, rows["latency_ms"], color=BLACK, marker=".", lw=1.2, label="latency")
    learning = rows["latency_ms"].where(rows["state"] == "learning")
    if learning.notna().any():
        ax.plot(times, learning, "o", mfc="white", mec=GREY, ls="", label="learning")
    _mark(ax, rows, anomalies, "latency_ms")
    _shade(ax, faults, times)
    if legend:
        signs = _signs([ax])
        ax.legend(signs.values(), signs.keys(), loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
    return ax


def overview(
    windows: pd.DataFrame, anomalies: Iterable[Any] = (), faults: Any = (), fig: Figure | None = None
) -> Figure:
    """Draw every endpoint: its `timeline` and below it the share of its requests that failed.

    Error spikes are marked below only: on the latency, which often falls while requests fail, they would seem to
    say that it was too fast.

    Returns
    -------
    Figure
        For each endpoint, in the order of the columns service and endpoint, two Axes: latency, then errors.
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
        top, column = 2 * (i // columns), i % columns
        latency = fig.add_subplot(grid[top, column], sharex=first, sharey=first)
        errors = fig.add_subplot(grid[top + 1, column], sharex=latency)
        here = [a for a in anomalies if (a.service, a.endpoint) == (service, endpoint)]
        timeline(rows, [a for a in here if a.type != "error_spike"], faults, ax=latency, legend=False)
        latency.set_title(_name(rows), loc="left")
        latency.set_xlabel("")
        latency.tick_params(labelbottom=False)
        _error_share(rows.sort_values("window"), here, faults, errors)
        if i < len(names) - columns:
            errors.set_xlabel("")
        first = first or latency
    signs = _signs(fig.axes)
    fig.legend(signs.values(), signs.keys(), loc="outside lower center", ncols=4, fontsize=10)
    return fig


def waterfall(frame: pd.DataFrame, trace_id: str, ax: Axes | None = None, now: pd.Timestamp | None = None) -> Axes:
    """Draw one trace: who called whom, how long each step took, and where the time was really spent.

    Dark is a span's own time, light is waiting for its callees. Client spans are thin and hatched: what shows
    of them beside their server span is the way there and back. An arrow: still open.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    trace_id : str
        The trace to draw.
    ax : Axes, optional
        Where to draw; default a new figure.
    now : Timestamp, optional
        When the frame was read: open spans are drawn up to it and tell their age. Default: they are drawn up to
        the last moment that the trace itself knows, without an age.

    Returns
    -------
    Axes
        x: ms since the trace began; y: one row a span, in call order, indented by depth.

    Raises
    ------
    ValueError
        If the frame has no such trace.
    """
    bars = _bars(frame[frame["trace_id"] == trace_id], now)
    if not bars:
        raise ValueError(f"trace_id must be in the frame, got {trace_id!r}")
    ax = _dress(ax, (9, 1.1 + 0.36 * len(bars)), f"Trace {trace_id[:8]}…", "ms since the trace began", "")
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
    # below the axis: long notes make the axes narrow, and beside the title there would be no room. In inches,
    # since a share of the height would depend on the number of bars
    fig = ax.get_figure(root=True)
    below = ax.transAxes + ScaledTranslation(0, -0.5, fig.dpi_scale_trans)  # type: ignore[union-attr]
    style: dict[str, Any] = {"ncols": 3, "fontsize": 9, "frameon": False, "borderaxespad": 0}
    ax.legend(handles=handles, loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=below, **style)
    return ax


def service_graph(graph: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw who calls whom: callers left, callees right, each arrow with its calls, median and errors.

    Parameters
    ----------
    graph : DataFrame
        Columns caller, callee, calls, errors, p50_ms and p95_ms, as `aiops_lab.service_graph` returns it.
        A caller that is missing means a request from outside.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Red and dashed: calls that failed.
    """
    edges = graph[graph["caller"].notna()]
    nodes, chains = _layout([*graph["caller"].dropna(), *graph["callee"]], edges)
    low, high = min((n.low for n in nodes.values()), default=0), max((n.high for n in nodes.values()), default=1)
    back = [edge for edge in _records(edges) if (edge.caller, edge.callee) not in chains]
    bottom, right = low - _CALL * (len(back) + 0.5 * bool(back)), max((n.x for n in nodes.values()), default=0)
    ax = _dress(ax, (max(9, 3.4 * right / _COLUMN + 3), 1 + 0.85 * (high - bottom)), "Who calls whom", "", "")
    ax.axis("off")
    for name, node in nodes.items():
        if isinstance(name, str):
            _draw_node(ax, name, node)
    for edge in _records(edges):
        if chain := chains.get((edge.caller, edge.callee)):
            _draw_call(ax, [nodes[n] for n in chain], chain, edge)
    for n, edge in enumerate(back, 1):
        _draw_call_back(ax, nodes[edge.caller], nodes[edge.callee], low - _CALL * n, edge)
    ax.set(xlim=(-0.6, right + (1.4 if back else 0.6)), ylim=(bottom, high))
    return ax


def ledger(ledger: pd.DataFrame, ax: Axes | None = None, most: int = 9) -> Axes:
    """Draw where the excess at the entry was born: each bar starts where the one above it ended.

    Parameters
    ----------
    ledger : DataFrame
        Columns ``account`` and ``excess``; attrs ``unit`` and ``entry``.
    ax : Axes, optional
        Where to draw; default a new figure.
    most : int
        Accounts to show, the largest first; the rest is added up in one bar.

    Returns
    -------
    Axes
        The last bar is the total at the entry: the sum of all the others.
    """
    rows = ledger.sort_values("excess", key=lambda excess: -excess.abs(), kind="stable")
    names, values = list(rows["account"][:most]), list(rows["excess"][:most])
    if len(rows) > most:
        names, values = [*names, f"{len(rows) - most} others"], [*values, rows["excess"][most:].sum()]
    ends = np.cumsum(values)
    total = float(ends[-1]) if len(ends) else 0.0
    entry, unit = ledger.attrs.get("entry", "the entry"), ledger.attrs.get("unit", "")
    ax = _dress(ax, (9, 1.2 + 0.4 * len(names)), f"Where the excess at {entry} was born", f"excess ({unit})", "")
    for y, (value, end) in enumerate(zip(values, ends, strict=True)):
        look: dict[str, Any] = {"color": VERMILLION} if value >= 0 else {"fc": "white", "ec": GREEN, "hatch": "////"}
        ax.barh(y, value, left=end - value, height=0.6, **look)
        ax.plot([end, end], [y - 0.3, y + 1.3], color=GREY, lw=0.8)
    ax.barh(len(names), total, height=0.6, color=BLUE)
    digits = 1 if max([abs(total), *np.abs(values)]) >= 10 else 3
    for y, (value, end) in enumerate(zip([*values, total], [*ends, total], strict=True)):
        ax.annotate(
            f"{value:+,.{digits}f}",
            (max(end, end - value), y),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    ax.set_yticks(range(len(names) + 1), [*names, f"total at {entry}"])
    ax.set_ylim(len(names) + 0.6, -0.6)
    ax.axvline(0, color=BLACK, lw=0.8)
    ax.set_xlim(min([0.0, *ends * 1.15]), max([0.0, *ends * 1.15]) or 1.0)
    return ax


def leaderboard(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how often each rule was right in each scenario: the darker the better, and the number says it, too.

    Parameters
    ----------
    table : DataFrame
        A row a (group, scenario), a column a rule, the best first: shares from 0 to 1, NaN = not tried.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Rules from top to bottom, scenarios from left to right, with a gap between groups; numbers in percent.
    """
    groups = list(dict.fromkeys(table.index.get_level_values(0)))
    ax = _dress(ax, (16, 1.9 + 0.42 * table.shape[1]), "", "", "")
    ax.set_title(
        "How often each rule names a true cause, in percent; without a fault: says nothing", fontsize=18, loc="left"
    )
    edges, left, ticks = np.arange(table.shape[1] + 1) - 0.5, 0.0, list[float]()
    for group in groups:
        part = table.loc[[group]]
        x = left + np.arange(len(part) + 1)
        ax.pcolormesh(x, edges, part.to_numpy().T, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1.5)
        ax.text(left, -0.7, group, fontsize=15, fontweight="bold", va="bottom")
        for place, column in zip(x[:-1] + 0.5, part.to_numpy(), strict=True):
            _numbers(ax, place, column)
        ticks += list(x[:-1] + 0.5)
        left = x[-1] + 0.5
    ax.set_xticks(ticks, table.index.get_level_values(1), rotation=45, ha="right", rotation_mode="anchor", fontsize=14)
    ax.set_yticks(range(table.shape[1]), table.columns, fontsize=16)
    ax.set(xlim=(-0.1, left - 0.4), ylim=(table.shape[1] - 0.5, -1.5))
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def _numbers(ax: Axes, x: float, column: Iterable[float]) -> None:
    for y, value in enumerate(column):
        if not np.isnan(value):
            colour = "white" if value > 0.6 else BLACK
            ax.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=12, color=colour)


# a colour, a marker and a line for each of the rivals that are told apart
RIVALS: tuple[tuple[str, str, Any], ...] = (
    (BLUE, "s", (0, (5, 1.5))), (GREEN, "^", (0, (1, 1))), (ORANGE, "D", (0, (6, 1, 1, 1))),
    (PURPLE, "v", (0, (3, 1, 1, 1, 1, 1))), (SKY, "P", (0, (9, 2))),
)  # fmt: skip


def size_curve(
    table: pd.DataFrame,
    ax: Axes | None = None,
    value: str = "right",
    bold: Sequence[str] = ("ledger",),
    shown: Sequence[str] = (),
) -> Axes:
    """Draw a share over the size of a fault, a line a rule.

    Parameters
    ----------
    table : DataFrame
        Columns size and rule, and `value` with its bounds `value`_low and `value`_high, all shares from 0 to 1.
    ax : Axes, optional
        Where to draw; default a new figure.
    value : str
        Which column.
    bold : sequence of str
        The one or two rules that the figure is about: thick, with their bounds.
    shown : sequence of str
        The rivals to tell apart, at most five; the same place gives the same look. All the others are light grey.

    Returns
    -------
    Axes
        x: size on a log scale; y: the share; each line has its name at its right end.
    """
    ax = _dress(ax, (9, 5), "", "size of the fault", "")
    looks: dict[str, dict[str, Any]] = {
        rule: {"color": c, "marker": m, "ls": ls, "lw": 2.2, "ms": 7, "zorder": 3}
        for rule, (c, m, ls) in zip(shown, RIVALS, strict=False)
    }
    thick = ((VERMILLION, "-", 4.5), (BLACK, (0, (3, 1)), 2.5))
    looks |= {
        rule: {"color": c, "marker": "o", "ls": ls, "lw": lw, "ms": 2 * lw, "zorder": 4}
        for rule, (c, ls, lw) in zip(bold, thick, strict=False)
    }
    ends = []
    for rule, rows in table.groupby("rule", sort=False):
        look = looks.get(str(rule), {"color": "#cfcfcf", "lw": 1.2, "zorder": 2})
        ax.plot(rows["size"], rows[value], label=str(rule), clip_on=False, **look)
        if rule in bold:
            bounds = rows[f"{value}_low"], rows[f"{value}_high"]
            ax.fill_between(
                rows["size"], *bounds, color=look["color"], alpha=0.18 if rule == bold[0] else 0.07, lw=0, zorder=1
            )
        if rule in looks:
            ends.append((float(rows[value].iloc[-1]), str(rule), look["color"]))
    sizes = table["size"].drop_duplicates().tolist()
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{100 * size:,.3g}%" for size in sizes], fontsize=13)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.02, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "", "50%", "", "100%"], fontsize=13)
    # of equal ends those in bold stand at the margin, which is where their lines are
    ends.sort(key=lambda end: (end[0], (end[1] in bold) * (1 if end[0] > 0.5 else -1), end[1]))
    _name_ends(ax, ends, float(table["size"].max()))
    return ax


def _name_ends(ax: Axes, ends: list[tuple[float, str, str]], x: float) -> None:
    """Write the names beside the ends of their lines, lowest first, apart where they would lie on each other."""
    gap, floor, ceiling = 0.075, 0.0, 1.0
    heights = []
    for height, _, _ in ends:
        heights.append(max(height, floor))
        floor = heights[-1] + gap
    for place in reversed(range(len(heights))):  # back down from the upper edge
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - gap
    for (_, name, colour), height in zip(ends, heights, strict=True):
        ax.annotate(
            name, (x, height), (12, 0), textcoords="offset points", va="center", fontsize=15, color=colour,
            fontweight="bold" if colour in (VERMILLION, BLACK) else "normal", annotation_clip=False,
        )  # fmt: skip


def reliability(calibration: Any, ax: Axes | None = None) -> Axes:
    """Draw how often answers were right over how sure they were; on the diagonal words mean what they say.

    Parameters
    ----------
    calibration : Calibration
        As `aiops_lab.evaluation.calibration` returns it.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Each point is a bin with its number of answers and its 95 % bounds; above the diagonal the answers are better
        than they claim to be.
    """
    ax = _dress(ax, (6.5, 6), "", "how sure it said it was", "how often it was right")
    rows = calibration.table
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.5)
    ax.text(0.03, 0.1, "as sure as right", color=GREY, rotation=45, rotation_mode="anchor", fontsize=12)
    below, above = rows["right"] - rows["right_low"], rows["right_high"] - rows["right"]
    bars: Any = [below.clip(lower=0), above.clip(lower=0)]
    ax.errorbar(rows["confidence"], rows["right"], bars, color=BLUE, marker="o", ms=10, lw=2, capsize=5, clip_on=False)
    for row in _records(rows):
        ax.annotate(f"{row.n:,}", (row.confidence, row.right), (-12, -6), textcoords="offset points", ha="right",
                    va="top", fontsize=13, color=BLUE)  # fmt: skip
    c = calibration
    told = f"{c.n:,} answers\nerror {c.ece:.2f}\nof a perfect model {c.ece_perfect:.2f}" if c.n else "no answers"
    ax.text(0.03, 0.97, told, va="top", fontsize=14, transform=ax.transAxes)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
        axis.label.set_fontsize(15)
    ax.tick_params(labelsize=13)
    return ax


def precision_recall(
    sweeps: pd.DataFrame | Mapping[str, pd.DataFrame], ax: Axes | None = None, join: bool = False
) -> Axes:
    """Draw how much is found against how much of what is found is true.

    Parameters
    ----------
    sweeps : DataFrame, or mapping from name to DataFrame
        Columns recall and precision, as `aiops_lab.sweep` returns them; a row that found nothing has no precision
        and no point.
    ax : Axes, optional
        Where to draw; default a new figure.
    join : bool
        Whether to join the points in their order: for a sweep over one knob.

    Returns
    -------
    Axes
        x: recall, y: precision; the best place is the upper right corner.
    """
    ax = _dress(ax, (6.5, 4.6), "Precision against recall", "recall: share of the faults found", "precision")
    named = sweeps if isinstance(sweeps, Mapping) else {"": sweeps}
    for (name, rows), (colour, marker, style) in zip(named.items(), cycle(_SERIES)):
        ls = style if join else ""
        ax.plot(rows["recall"], rows["precision"], marker, color=colour, ls=ls, ms=8, alpha=0.8, label=name)
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), ylabel="precision: share of the incidents that are true")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    if any(named):
        ax.legend(fontsize=10)
    return ax


def cost_curve(sweep: pd.DataFrame, knob: str, costs: Sequence[str], ax: Axes | None = None) -> Axes:
    """Draw what each setting of a knob costs, for several prices, and ring the cheapest of each.

    Parameters
    ----------
    sweep : DataFrame
        A row a setting: the column `knob`, and one for each of `costs`.
    knob : str
        What was moved.
    costs : sequence of str
        Columns; their names are the legend.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        x: the knob; y: cost, on a log scale.
    """
    ax = _dress(ax, (7, 4), f"Cost over {knob}", knob, "cost a day")
    _log_axis(ax)
    rows = sweep.sort_values(knob, kind="stable")
    for name, (colour, marker, style) in zip(costs, cycle(_SERIES)):
        ax.plot(rows[knob], rows[name], marker, color=colour, ls=style, ms=6, label=name)
        least = int(rows[name].argmin())
        ax.plot(rows[knob].iloc[[least]], rows[name].iloc[[least]], "o", mfc="none", mec=colour, ms=15, mew=2)
    ax.legend(fontsize=10)
    return ax


def heat_map(sweep: pd.DataFrame, x: str, y: str, value: str, ax: Axes | None = None) -> Axes:
    """Draw a sweep over two knobs as a table of shades, with the number in each cell.

    Parameters
    ----------
    sweep : DataFrame
        A row for each pair of settings: the columns `x`, `y` and `value`.
    x, y, value : str
        The knob that runs to the right, the one that runs upwards, and what is shown.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Light is high. A setting without a value stays white, with a dash.
    """
    table = sweep.pivot(index=y, columns=x, values=value)
    numbers = table.to_numpy(dtype=float)
    middle = (np.nanmin(numbers) + np.nanmax(numbers)) / 2 if np.isfinite(numbers).any() else 0.0
    ax = _dress(ax, (1.2 + 0.75 * table.shape[1], 1 + 0.5 * table.shape[0]), value.replace("_", " "), x, y)
    ax.grid(False)
    ax.imshow(numbers, cmap="cividis", origin="lower", aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        text = "–" if np.isnan(number) else _three_digits(number)
        colour = "white" if number < middle else BLACK
        ax.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)
    ax.set_xticks(range(table.shape[1]), [f"{knob:g}" for knob in table.columns])
    ax.set_yticks(range(table.shape[0]), [f"{knob:g}" for knob in table.index])
    return ax


def incidents(incidents: Any, faults: Any = (), ax: Axes | None = None) -> Axes:
    """Draw incidents over time, a row each, with what was detected when; above them the faults, if they are known.

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
        x: time (UTC); y: a row a fault, then a row an incident. A bar is an episode, from the first anomalous window to
        the end of the last one; a dotted line leads to its resolution. Marks stand where an anomaly was detected first.
    """
    found = list(getattr(incidents, "incidents", incidents))
    true = _records(faults) if isinstance(faults, pd.DataFrame) else list(faults)
    ax = _dress(ax, (9, 1.4 + 0.45 * (len(found) + len(true))), "Incidents", "time (UTC)", "")
    if not found and not true:
        return ax
    moments = [m for i in found for episode in i.episodes for m in episode] + [i.resolved_at for i in found]
    times = pd.Series([m for m in [*moments, *(t for f in true for t in (f.start, f.end))] if pd.notna(m)])
    for y, fault in enumerate(true):
        end = times.max() if pd.isna(fault.end) else fault.end
        look: dict[str, Any] = {"fc": YELLOW, "ec": ORANGE, "hatch": "..", "lw": 0.5, "label": "true fault"}
        ax.barh(y, end - fault.start, left=fault.start, height=0.6, **look)
    for y, incident in enumerate(found, len(true)):
        _draw_incident(ax, y, incident)
    names = [f"{f.kind} at {f.endpoint}" for f in true] + [i.title.replace(" detected in ", ", ") for i in found]
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.use_sticky_edges = False  # else the first bar would begin on the axis
    ax.margins(x=0.02)
    _time_axis(ax, times)
    signs = _signs([ax])
    ax.legend(signs.values(), signs.keys(), loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, frameon=False)
    return ax


def figure(size: tuple[float, float], dpi: float = 100) -> Figure:
    """Return an empty figure that pyplot has let go of: a notebook shows it once, as what the cell returns."""
    fig = plt.figure(figsize=size, dpi=dpi, layout="constrained")
    plt.close(fig)
    return fig


def _dress(ax: Axes | None, size: tuple[float, float], title: str, x: str, y: str) -> Axes:
    ax = ax or plt.subplots(figsize=size, layout="constrained")[1]
    ax.set_title(title, fontsize=12, loc="left")
    ax.set_xlabel(x, fontsize=11)
    ax.set_ylabel(y, fontsize=11)
    ax.tick_params(labelsize=10)
    ax.grid(axis="x" if not y else "both", color="#dddddd", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _log_axis(ax: Axes) -> None:
    """Make y logarithmic, with plain numbers beside it."""
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _three_digits(number: float) -> str:
    return f"{float(f'{number:.3g}'):,g}"  # but never 1e+03


def _records(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples())


def _name(rows: pd.DataFrame) -> str:
    pairs = sorted(set(zip(rows["service"], rows["endpoint"], strict=True)))
    return " and ".join(f"{endpoint} ({service})" for service, endpoint in pairs) or "nothing"


def _rows_of(windows: pd.DataFrame, anomalies: Sequence[Any], endpoint: str | None) -> pd.DataFrame:
    if endpoint is None and len(windows):
        endpoint = anomalies[0].endpoint if anomalies else windows["endpoint"].iloc[0]
    both = windows["service"].astype(str) + " " + windows["endpoint"].astype(str)
    rows = windows[(windows["endpoint"] == endpoint) | (both == endpoint)]
    if rows.empty and len(windows):
        raise ValueError(f"endpoint must be one of {sorted(set(windows['endpoint']))}, got {endpoint!r}")
    return rows.sort_values("window")


def _mark(ax: Axes, rows: pd.DataFrame, anomalies: Iterable[Any], column: str) -> None:
    # a window in which nothing was answered has no latency: its mark stands on the baseline
    heights = rows[column].fillna(rows["baseline_ms"] if column == "latency_ms" else 0.0)
    keys = zip(rows["service"], rows["endpoint"], rows["window"], strict=True)
    at = dict(zip(keys, zip(_ends(rows), heights, strict=True), strict=True))
    for kind, (colour, marker) in MARKS.items():
        places = [(a.service, a.endpoint, a.window) for a in anomalies if a.type == kind]
        known = [at[key] for key in places if key in at]
        if known:
            x, y = zip(*known, strict=True)
            # a ring, so that a second mark on the same window shows inside it
            fill: dict[str, Any] = (
                {"mfc": "none", "ms": 12, "mew": 2} if marker == "o" else {"mec": BLACK, "mew": 0.6, "ms": 10}
            )
            ax.plot(x, y, marker, color=colour, label=kind.replace("_", " "), zorder=5, **fill)


def _ends(rows: pd.DataFrame) -> pd.Series:
    if "end" in rows:
        return rows["end"]
    starts = rows["window"].drop_duplicates().sort_values()
    return rows["window"] + (starts.diff().min() if len(starts) > 1 else pd.Timedelta(0))


def _shade(ax: Axes, faults: Any, times: pd.Series) -> None:
    for fault in _records(faults) if isinstance(faults, pd.DataFrame) else faults:
        end = times.max() if pd.isna(fault.end) else fault.end
        label = f"true fault: {fault.kind} at {fault.endpoint}"
        ax.axvspan(fault.start, end, fc=YELLOW, ec=ORANGE, alpha=0.35, hatch="..", lw=0.5, zorder=0, label=label)
    _time_axis(ax, times)


def _time_axis(ax: Axes, times: pd.Series) -> None:
    inches = ax.bbox.width / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    locator = AutoDateLocator(minticks=2, maxticks=max(5, round(inches)))
    locator.intervald[MINUTELY] = [1, 2, 5, 10, 15, 30]  # by default no 2: eight minutes would get one tick
    ax.xaxis.set_major_locator(locator)
    # whole times on every tick: a bare "30" would leave the reader to guess its unit
    clock = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"]
    formatter = ConciseDateFormatter(
        locator, tz="UTC", formats=clock, zero_formats=["", "%Y", "%Y-%m", "%m-%d", *clock[4:]], show_offset=False
    )
    ax.xaxis.set_major_formatter(formatter)
    if len(times) and times.min().date() == times.max().date():
        ax.set_xlabel(f"time on {times.min():%Y-%m-%d} (UTC)")


def _error_share(rows: pd.DataFrame, anomalies: list[Any], faults: Any, ax: Axes) -> None:
    _dress(ax, (9, 2), "", "time (UTC)", "errors")
    times = _ends(rows)
    ax.plot(times, rows["error_rate"], color=VERMILLION, marker=".", lw=1.2, label="failed share")
    _mark(ax, rows, [a for a in anomalies if a.type == "error_spike"], "error_rate")
    _shade(ax, faults, times)
    ax.set_ylim(-0.12, 1.15)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def _signs(axes: Iterable[Axes]) -> dict[str, Any]:
    """Each label once, in the order in which it was drawn."""
    found = [pair for ax in axes for pair in zip(*ax.get_legend_handles_labels(), strict=True)]
    signs: dict[str, Any] = {}
    for handle, label in found:
        signs.setdefault(label, handle)
    return signs


class _Bar(NamedTuple):
    span: Any
    depth: int
    start: float  # ms since the trace began
    end: float
    waits: list[tuple[float, float]]  # the children, clipped


def _bars(trace: pd.DataFrame, now: pd.Timestamp | None) -> list[_Bar]:
    """The spans of one trace in call order. A span whose parent is missing stands at the left."""
    spans = _records(trace.sort_values(["start", "span_id"]))
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

    def walk(parent: Any, depth: int) -> Iterator[_Bar]:
        for span in children.get(parent, []):
            start, end = starts[span.span_id], ends[span.span_id]
            below = [(starts[c.span_id], ends[c.span_id]) for c in children.get(span.span_id, [])]
            waits = [(max(a, start), min(b, end)) for a, b in below if min(b, end) > max(a, start)]
            yield _Bar(span, depth, start, end, waits)
            yield from walk(span.span_id, depth + 1)

    return list(walk(None, 0))


def _span_name(span: Any, with_service: bool) -> str:
    arrow = "→ " if span.kind == "client" else ""
    return f"{arrow}{span.endpoint}{f' ({span.service})' if with_service else ''}"


def _draw_bar(ax: Axes, y: int, bar: _Bar, colour: str, aged: bool) -> None:
    length = bar.end - bar.start
    if bar.span.kind == "client":
        ax.barh(y, length, left=bar.start, height=0.3, fc="white", ec=colour, hatch="////", lw=0.8)
    else:
        ax.barh(y, length, left=bar.start, height=0.62, color=colour)
        for start, end in bar.waits:  # light over a white ground: overlapping calls do not darken
            ax.barh(y, end - start, left=start, height=0.62, color="white")
            ax.barh(y, end - start, left=start, height=0.62, color=colour, alpha=0.3, lw=0)
    is_open, failed = np.isnan(bar.span.duration_ms), bar.span.status >= 500 or bar.span.error
    note = f"{_three_digits(length)} ms"
    if is_open:
        note = f"still open after {note}" if aged else "still open"
        ax.plot([bar.end], [y], marker=">", color=colour, ms=11, clip_on=False)
    elif failed:
        note += f"  ✗ {bar.span.status or 'no answer'}"
    style: dict[str, Any] = {"color": VERMILLION, "fontweight": "bold"} if failed else {"color": BLACK}
    ax.annotate(note, (bar.end, y), (10, 0), textcoords="offset points", va="center", fontsize=9, **style)


_COLUMN, _CALL = 2.6, 0.5  # from one column to the next, and the height of a call's label
_LEVEL = 0.86 - _COLUMN  # from a box to where the calls that come in begin to run level


class _Node(NamedTuple):
    """A name in the service graph, or where a long call passes a column."""

    x: float
    low: float
    high: float
    calls: list[Any]  # the chains of the calls that come in, from above

    @property
    def y(self) -> float:
        return (self.low + self.high) / 2

    @property
    def half(self) -> float:
        """Half the height of its box, which grows with the calls that come in."""
        return 0.22 + _CALL * max(len(self.calls) - 1, 0) / 2

    def port(self, chain: Any) -> float:
        """At what height a call comes in."""
        return self.y + _CALL * ((len(self.calls) - 1) / 2 - self.calls.index(chain))


def _layout(names: list[str], edges: pd.DataFrame) -> tuple[dict[Any, _Node], dict[tuple[str, str], tuple[Any, ...]]]:
    """Each name in a column of its depth, and the columns that each call passes, with few crossings.

    After Sugiyama, Tagawa & Toda 1981 (doi 10.1109/TSMC.1981.4308636): a call that skips a column takes a place in it,
    and a column is sorted by the middle of its neighbours.
    """
    graph = nx.DiGraph(zip(edges["caller"], edges["callee"], strict=True))
    graph.add_nodes_from(names)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    while not nx.is_directed_acyclic_graph(graph):  # a call back: drawn, but not counted for the columns
        graph.remove_edge(*nx.find_cycle(graph)[-1][:2])
    columns: list[list[Any]] = [sorted(layer) for layer in nx.topological_generations(graph)]
    depth = {name: x for x, column in enumerate(columns) for name in column}
    chains = {(a, b): (a, *((a, b, x) for x in range(depth[a] + 1, depth[b])), b) for a, b in sorted(graph.edges)}
    for chain in chains.values():
        for passed in chain[1:-1]:
            columns[passed[2]].append(passed)
    near = nx.Graph()
    near.add_nodes_from(names)
    for chain in chains.values():
        nx.add_path(near, chain)
    for _ in range(4):  # to the right and back
        for x in range(1, len(columns)):
            _uncross(columns[x], columns[x - 1], near)
        for x in range(len(columns) - 1, 0, -1):
            _uncross(columns[x - 1], columns[x], near)
    return _placed(columns, chains), chains


def _uncross(column: list[Any], beside: list[Any], near: nx.Graph) -> None:
    """Sort a column by the middle of each one's neighbours in the column beside it; who has none there stays."""
    place = {node: y for y, node in enumerate(beside)}
    middle = {node: float(y) for y, node in enumerate(column)}
    for node in column:
        found = [place[n] for n in near[node] if n in place]
        middle[node] = float(np.mean(found)) if found else middle[node]
    column.sort(key=middle.__getitem__)


def _placed(columns: list[list[Any]], chains: Mapping[Any, tuple[Any, ...]]) -> dict[Any, _Node]:
    nodes: dict[Any, _Node] = {}
    for x, column in enumerate(columns):
        calls = [[c for c in chains.values() if c[-1] == node] for node in column]
        heights = [
            max(1.0, 0.5 + _CALL * len(c)) if isinstance(n, str) else _CALL for n, c in zip(column, calls, strict=True)
        ]
        top = sum(heights) / 2
        for node, incoming, height in zip(column, calls, heights, strict=True):
            incoming.sort(key=lambda chain: -nodes[chain[-2]].y)
            nodes[node] = _Node(_COLUMN * x, top - height, top, incoming)
            top -= height
    return nodes


def _draw_node(ax: Axes, name: str, node: _Node) -> None:
    corner = node.x - 0.4, node.y - node.half + 0.06
    box = FancyBboxPatch(corner, 0.8, 2 * node.half - 0.12, boxstyle="round,pad=0.06", fc="white", ec=BLUE, lw=1.5)
    ax.add_patch(box).set_zorder(2.5)  # over the calls back
    ax.text(node.x, node.y, name.replace(" ", "\n", 1), ha="center", va="center", fontsize=11)


def _draw_call(ax: Axes, nodes: list[_Node], chain: Any, edge: Any) -> None:
    """Draw a call from column to column. Its last stretch runs level and carries the label: no two labels meet."""
    first, last = nodes[0], nodes[-1]
    y, head = last.port(chain), last.x - 0.46
    points = [(first.x + 0.46, first.y)]
    points += [(node.x + side, node.y) for node in nodes[1:-1] for side in (_LEVEL, 0.46)]
    _draw_line(ax, [*points, (last.x + _LEVEL, y), (head, y)], edge)
    _label(ax, head - 0.1, y, edge, "right")


def _draw_call_back(ax: Axes, caller: _Node, callee: _Node, lane: float, edge: Any) -> None:
    """Draw a call to the left, or to itself, along a lane below all boxes."""
    start, end = caller.x + 0.2, callee.x - 0.2
    _draw_line(ax, [(start, caller.y), (start, lane), (end, lane), (end, callee.y - callee.half)], edge)
    _label(ax, start + 0.1, lane, edge, "left")


def _draw_line(ax: Axes, points: list[tuple[float, float]], edge: Any) -> None:
    look: dict[str, Any] = {"ls": "--" if edge.errors else "-", "color": _colour(edge), "lw": 1.3}
    ax.plot(*zip(*points[:-1], strict=True), **look)
    arrow = look | {"arrowstyle": "-|>", "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", points[-1], points[-2], arrowprops=arrow)


def _label(ax: Axes, x: float, y: float, edge: Any, side: str) -> None:
    calls, errors = (f"{n:,} {what}{'s' * (n != 1)}" for n, what in ((edge.calls, "call"), (edge.errors, "error")))
    text = f"{calls}, p50 {edge.p50_ms:,.3g} ms\n{errors}"
    ax.text(x, y, text, ha=side, va="center", fontsize=9, color=_colour(edge), linespacing=1.7)


def _colour(edge: Any) -> str:
    return VERMILLION if edge.errors else BLACK


def _draw_incident(ax: Axes, y: int, incident: Any) -> None:
    colour, hatch = _SEVERITIES.get(incident.severity, (GREY, ""))
    for start, end in incident.episodes:
        look: dict[str, Any] = {"fc": colour, "ec": BLACK, "hatch": hatch, "lw": 0.6, "alpha": 0.7}
        ax.barh(y, end - start, left=start, height=0.5, label=f"incident, {incident.severity}", **look)
    if incident.resolved_at is not None:
        ax.plot([incident.last_anomaly, incident.resolved_at], [y, y], ":", color=GREY, lw=1.5)
        ax.plot([incident.resolved_at], [y], "|", color=BLACK, ms=14, mew=2, label="resolved")
    if incident.acknowledged_at is not None:
        ax.plot([incident.acknowledged_at], [y], "d", mfc="white", mec=BLACK, ms=9, label="acknowledged")
    for anomaly in incident.anomalies:
        kind, marker = MARKS.get(anomaly.type, (GREY, "o"))
        look = {"mfc": kind, "mec": BLACK, "mew": 0.6, "ms": 8}
        ax.plot([anomaly.end], [y], marker, ls="", label=anomaly.type.replace("_", " "), zorder=5, **look)
