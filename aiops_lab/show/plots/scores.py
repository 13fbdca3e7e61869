"""Figures of results: ledger, leaderboard, calibration, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator, PercentFormatter

from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SERIES,
    SKY,
    VERMILLION,
    dress,
    log_axis,
    plain_rows,
    three_digits,
)


def ledger(ledger: pd.DataFrame, ax: Axes | None = None, most: int = 9) -> Axes:
    """Draw where the excess at the entry originated: each bar starts where the one above it ended.

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
    names = list(rows["account"][:most])
    values = list(rows["excess"][:most])
    if len(rows) > most:
        names = [*names, f"{len(rows) - most} others"]
        values = [*values, rows["excess"][most:].sum()]
    ends = np.cumsum(values)
    total = float(ends[-1]) if len(ends) else 0.0
    entry = ledger.attrs.get("entry", "the entry")
    unit = ledger.attrs.get("unit", "")
    ax = dress(
        ax,
        (9, 1.2 + 0.4 * len(names)),
        f"Where the excess at {entry} originated",
        f"excess ({unit})",
        "",
    )
    for y, (value, end) in enumerate(zip(values, ends, strict=True)):
        look: dict[str, Any] = (
            {"color": VERMILLION} if value >= 0 else {"fc": "white", "ec": GREEN, "hatch": "////"}
        )
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
    """Draw how often each rule was right in each scenario: the darker the better, and the number
    says it, too.

    Parameters
    ----------
    table : DataFrame
        A row a (group, scenario), a column a rule, the best first: shares from 0 to 1, NaN = not
        tried.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Rules from top to bottom, scenarios from left to right, with a gap between groups; numbers
        in percent.
    """
    groups = list(dict.fromkeys(table.index.get_level_values(0)))
    ax = dress(ax, (16, 1.9 + 0.42 * table.shape[1]), "", "", "")
    ax.set_title(
        "How often each rule names a true cause, in percent; without a fault: says nothing",
        fontsize=18,
        loc="left",
    )
    edges = np.arange(table.shape[1] + 1) - 0.5
    left = 0.0
    ticks = list[float]()
    for group in groups:
        part = table.loc[[group]]
        x = left + np.arange(len(part) + 1)
        ax.pcolormesh(
            x, edges, part.to_numpy().T, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1.5
        )
        ax.text(left, -0.7, group, fontsize=15, fontweight="bold", va="bottom")
        for place, column in zip(x[:-1] + 0.5, part.to_numpy(), strict=True):
            _numbers(ax, place, column)
        ticks += list(x[:-1] + 0.5)
        left = x[-1] + 0.5
    ax.set_xticks(
        ticks,
        table.index.get_level_values(1),
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=14,
    )
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
    (BLUE, "s", (0, (5, 1.5))),
    (GREEN, "^", (0, (1, 1))),
    (ORANGE, "D", (0, (6, 1, 1, 1))),
    (PURPLE, "v", (0, (3, 1, 1, 1, 1, 1))),
    (SKY, "P", (0, (9, 2))),
)


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
        Columns size and rule, and `value` with its bounds `value`_low and `value`_high, all shares
        from 0 to 1.
    ax : Axes, optional
        Where to draw; default a new figure.
    value : str
        Which column.
    bold : sequence of str
        The one or two rules that the figure is about: thick, with their bounds.
    shown : sequence of str
        The rivals to tell apart, at most five; the same place gives the same look. All the others
        are light grey.

    Returns
    -------
    Axes
        x: size on a log scale; y: the share; each line has its name at its right end.
    """
    ax = dress(ax, (9, 5), "", "size of the fault", "")
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
                rows["size"],
                *bounds,
                color=look["color"],
                alpha=0.18 if rule == bold[0] else 0.07,
                lw=0,
                zorder=1,
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
    """Write the names beside the ends of their lines, lowest first, apart where they would lie on
    each other.
    """
    gap = 0.075
    floor = 0.0
    ceiling = 1.0
    heights = []
    for height, _, _ in ends:
        heights.append(max(height, floor))
        floor = heights[-1] + gap
    for place in reversed(range(len(heights))):  # back down from the upper edge
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - gap
    for (_, name, colour), height in zip(ends, heights, strict=True):
        ax.annotate(
            name,
            (x, height),
            (12, 0),
            textcoords="offset points",
            va="center",
            fontsize=15,
            color=colour,
            fontweight="bold" if colour in (VERMILLION, BLACK) else "normal",
            annotation_clip=False,
        )


def reliability(calibration: Any, ax: Axes | None = None) -> Axes:
    """Draw how often answers were right over how sure they were; on the diagonal words mean what
    they say.

    Parameters
    ----------
    calibration : Calibration
        As `aiops_lab.evaluate.calibration.calibration` returns it.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        Each point is a bin with its number of answers and its 95 % bounds; above the diagonal the
        answers are better than they claim to be.
    """
    ax = dress(ax, (6.5, 6), "", "how sure it said it was", "how often it was right")
    rows = calibration.table
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.5)
    ax.text(
        0.03, 0.1, "as sure as right", color=GREY, rotation=45, rotation_mode="anchor", fontsize=12
    )
    below = rows["right"] - rows["right_low"]
    above = rows["right_high"] - rows["right"]
    bars: Any = [below.clip(lower=0), above.clip(lower=0)]
    ax.errorbar(
        rows["confidence"],
        rows["right"],
        bars,
        color=BLUE,
        marker="o",
        ms=10,
        lw=2,
        capsize=5,
        clip_on=False,
    )
    for row in plain_rows(rows):
        ax.annotate(
            f"{row.n:,}",
            (row.confidence, row.right),
            (-12, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=13,
            color=BLUE,
        )
    c = calibration
    told = (
        f"{c.n:,} answers\nerror {c.ece:.2f}\nof a perfect model {c.ece_perfect:.2f}"
        if c.n
        else "no answers"
    )
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
        Columns recall and precision, as `aiops_lab.sweep` returns them; a row that found nothing
        has no precision and no point.
    ax : Axes, optional
        Where to draw; default a new figure.
    join : bool
        Whether to join the points in their order: for a sweep over one knob.

    Returns
    -------
    Axes
        x: recall, y: precision; the best place is the upper right corner.
    """
    ax = dress(
        ax, (6.5, 4.6), "Precision against recall", "recall: share of the faults found", "precision"
    )
    named = sweeps if isinstance(sweeps, Mapping) else {"": sweeps}
    for (name, rows), (colour, marker, style) in zip(named.items(), cycle(SERIES)):
        ls = style if join else ""
        ax.plot(
            rows["recall"],
            rows["precision"],
            marker,
            color=colour,
            ls=ls,
            ms=8,
            alpha=0.8,
            label=name,
        )
    ax.set(
        xlim=(-0.05, 1.05),
        ylim=(-0.05, 1.05),
        ylabel="precision: share of the incidents that are true",
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    if any(named):
        ax.legend(fontsize=10)
    return ax


def cost_curve(
    sweep: pd.DataFrame, knob: str, costs: Sequence[str], ax: Axes | None = None
) -> Axes:
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
    ax = dress(ax, (7, 4), f"Cost over {knob}", knob, "cost a day")
    log_axis(ax)
    rows = sweep.sort_values(knob, kind="stable")
    for name, (colour, marker, style) in zip(costs, cycle(SERIES)):
        ax.plot(rows[knob], rows[name], marker, color=colour, ls=style, ms=6, label=name)
        least = int(rows[name].argmin())
        ax.plot(
            rows[knob].iloc[[least]],
            rows[name].iloc[[least]],
            "o",
            mfc="none",
            mec=colour,
            ms=15,
            mew=2,
        )
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
    ax = dress(
        ax, (1.2 + 0.75 * table.shape[1], 1 + 0.5 * table.shape[0]), value.replace("_", " "), x, y
    )
    ax.grid(False)
    ax.imshow(numbers, cmap="cividis", origin="lower", aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        text = "–" if np.isnan(number) else three_digits(number)
        colour = "white" if number < middle else BLACK
        ax.text(column, row, text, ha="center", va="center", fontsize=10, color=colour)
    ax.set_xticks(range(table.shape[1]), [f"{knob:g}" for knob in table.columns])
    ax.set_yticks(range(table.shape[0]), [f"{knob:g}" for knob in table.index])
    return ax
