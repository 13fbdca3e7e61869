"""Figures of rules compared with each other: the leaderboard, and shares over a fault's size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Look,
    axis_label,
    dress,
    note,
    write_cell,
)


def leaderboard(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how often each rule was right in each scenario, as a colour and as a number.

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
    rules = table.shape[1]
    ax = dress(ax, (16, 1.9 + 0.42 * rules))
    title = "How often each rule names a true cause, in percent; without a fault: says nothing"
    ax.set_title(title, fontsize=18, loc="left")
    left = 0.0
    ticks: list[float] = []
    for group, part in table.groupby(level=0, sort=False):
        x = left + np.arange(len(part) + 1)
        _draw_group(ax, str(group), part, x)
        ticks += (x[:-1] + 0.5).tolist()
        left = x[-1] + 0.5
    scenarios = table.index.get_level_values(1).map(str)
    slanted: Look = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(ticks, map(axis_label, scenarios), fontsize=14, **slanted)
    names = table.columns.map(str)
    ax.set_yticks(range(rules), map(axis_label, names), fontsize=16)
    ax.set_xlim(-0.1, left - 0.4)
    ax.set_ylim(rules - 0.5, -1.5)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def _draw_group(ax: Axes, name: str, part: pd.DataFrame, x: np.ndarray) -> None:
    """Draw the cells of one group of scenarios below its name; `x` are their bounds."""
    rules = part.shape[1]
    y = np.arange(rules + 1) - 0.5
    cells: Look = {
        "cmap": "Blues",
        "vmin": 0,
        "vmax": 1,
        "edgecolors": "white",
        "lw": 1.5,
    }
    ax.pcolormesh(x, y, part.T, **cells)
    ax.text(x[0], -0.7, axis_label(name), fontsize=15, fontweight="bold", va="bottom")
    middles = (x[:-1] + 0.5).tolist()
    for (place, rule), share in np.ndenumerate(part.to_numpy()):
        if np.isnan(share):
            continue
        percent = f"{100 * share:.0f}"
        colour = "white" if share > 0.6 else BLACK
        write_cell(ax, middles[place], rule, percent, colour, 12)


# looks of the rivals that are told apart
RIVALS: tuple[Look, ...] = (
    {"color": BLUE, "marker": "s", "ls": (0, (5, 1.5))},
    {"color": GREEN, "marker": "^", "ls": (0, (1, 1))},
    {"color": ORANGE, "marker": "D", "ls": (0, (6, 1, 1, 1))},
    {"color": PURPLE, "marker": "v", "ls": (0, (3, 1, 1, 1, 1, 1))},
    {"color": SKY, "marker": "P", "ls": (0, (9, 2))},
)
RIVAL_LOOK = {"lw": 2.2, "ms": 7, "zorder": 3}
BOLD_LOOKS: tuple[Look, ...] = (
    {"color": VERMILLION, "ls": "-", "lw": 4.5, "ms": 9, "marker": "o", "zorder": 4},
    {"color": BLACK, "ls": (0, (3, 1)), "lw": 2.5, "ms": 5, "marker": "o", "zorder": 4},
)
GREY_LOOK: Look = {"color": "#cfcfcf", "lw": 1.2, "zorder": 2}

TICKS = {0: "0%", 0.25: "", 0.5: "50%", 0.75: "", 1: "100%"}
NAME_GAP = 0.075  # of the height of the axes, so that no name of a line covers another


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
    ax = dress(ax, (9, 5), "", "size of the fault")
    looks = {rule: look | RIVAL_LOOK for rule, look in zip(shown, RIVALS, strict=False)}
    looks |= zip(bold, BOLD_LOOKS, strict=False)
    ends = {}
    for rule, rows in table.groupby("rule", sort=False):
        name = str(rule)
        look = looks.get(name, GREY_LOOK)
        shares = rows[value]
        ax.plot(rows["size"], shares, label=axis_label(name), clip_on=False, **look)
        if name in bold:
            low = rows[f"{value}_low"]
            high = rows[f"{value}_high"]
            shade: Look = {
                "color": look["color"],
                "alpha": 0.18 if name == bold[0] else 0.07,
                "lw": 0,
                "zorder": 1,
            }
            ax.fill_between(rows["size"], low, high, **shade)
        if name in looks:
            ends[name] = float(shares.iloc[-1])
    sizes = table["size"].drop_duplicates().tolist()
    percents = [f"{100 * size:,.3g}%" for size in sizes]
    ax.set_xscale("log")
    ax.set_xticks(sizes, percents, fontsize=13)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.02, 1.02)
    ax.set_yticks([*TICKS], [*TICKS.values()], fontsize=13)
    for name, height in _apart(ends, bold).items():
        end = max(sizes), height
        look = {
            "fontsize": 15,
            "annotation_clip": False,
            "color": looks[name]["color"],
            "weight": "bold" if name in bold else "normal",
        }
        note(ax, axis_label(name), end, (12, 0), **look)
    return ax


def _apart(ends: dict[str, float], bold: Sequence[str]) -> dict[str, float]:
    """Return a height for the name of each line, near its end, `NAME_GAP` apart and inside the
    axes.

    Of equal ends those in bold come at the margin, at their lines.
    """

    def order(name: str) -> tuple[float, int, str]:
        end = ends[name]
        outwards = 1 if end > 0.5 else -1
        return end, outwards * (name in bold), name

    names = sorted(ends, key=order)
    in_order = np.array([ends[name] for name in names])
    steps = NAME_GAP * np.arange(len(names))
    heights = np.maximum.accumulate(in_order - steps)
    heights = heights.clip(0) + steps
    # back down from the upper edge
    highest = 1 - steps[::-1]
    heights = np.minimum(heights, highest)
    return dict(zip(names, heights, strict=True))
