"""Figures of results: ledger, leaderboard, calibration, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Look,
    dress,
    literal,
    log_axis,
    note,
    three_digits,
)

MAX_LABEL = 50
"""Characters of a name beside an axis."""

EXCESS_LOOK: Look = {"color": VERMILLION}
SAVING_LOOK: Look = {"fc": "white", "ec": GREEN, "hatch": "////"}


def ledger(ledger: pd.DataFrame, ax: Axes | None = None, most: int = 9) -> Axes:
    """Draw where the excess at the entry originated, as a waterfall of bars.

    Each bar starts where the one above it ended.

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
    excess = ledger.set_index("account")["excess"]
    excess = excess.sort_values(key=lambda values: -values.abs(), kind="stable")
    rest = excess[most:]
    if len(rest):
        others = pd.Series({f"{len(rest)} others": rest.sum()})
        excess = pd.concat([excess[:most], others])
    n = len(excess)
    ends = excess.cumsum()
    total = float(excess.sum())
    entry, unit = ledger.attrs.get("entry", "the entry"), ledger.attrs.get("unit", "")
    title = f"Where the excess at {entry} originated"
    ax = dress(ax, (9, 1.2 + 0.4 * n), title, f"excess ({unit})")
    digits = 1 if max(abs(total), excess.abs().max()) >= 10 else 3
    for y, (value, end) in enumerate(zip(excess, ends, strict=True)):
        look = EXCESS_LOOK if value >= 0 else SAVING_LOOK
        ax.barh(y, value, left=end - value, height=0.6, **look)
        ax.plot([end, end], [y - 0.3, y + 1.3], color=GREY, lw=0.8)
        note(ax, f"{value:+,.{digits}f}", (max(end, end - value), y), (5, 0), fontsize=10)
    ax.barh(n, total, height=0.6, color=BLUE)
    note(ax, f"{total:+,.{digits}f}", (max(total, 0), n), (5, 0), fontsize=10)
    names = [*map(str, excess.index), f"total at {entry}"]
    ax.set_yticks(range(n + 1), map(_label, names))
    ax.set_ylim(n + 0.6, -0.6)
    ax.axvline(0, color=BLACK, lw=0.8)
    ax.set_xlim(1.15 * min([0.0, *ends]), 1.15 * max([0.0, *ends]) or 1.0)
    return ax


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
    left, ticks = 0.0, list[float]()
    for group, part in table.groupby(level=0, sort=False):
        x = left + np.arange(len(part) + 1)
        middles = (x[:-1] + 0.5).tolist()
        y = np.arange(rules + 1) - 0.5
        ax.pcolormesh(x, y, part.T, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1.5)
        ax.text(left, -0.7, _label(str(group)), fontsize=15, fontweight="bold", va="bottom")
        for (place, rule), share in np.ndenumerate(part.to_numpy()):
            if not np.isnan(share):
                colour = "white" if share > 0.6 else BLACK
                _write_cell(ax, middles[place], rule, f"{100 * share:.0f}", colour, 12)
        ticks += middles
        left = x[-1] + 0.5
    scenarios = map(_label, table.index.get_level_values(1).map(str))
    ax.set_xticks(ticks, scenarios, fontsize=14, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(rules), map(_label, table.columns.map(str)), fontsize=16)
    ax.set(xlim=(-0.1, left - 0.4), ylim=(rules - 0.5, -1.5))
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def _label(name: str) -> str:
    """Return a name as it stands beside an axis, cut so that it leaves room for the figure."""
    return literal(name, MAX_LABEL)


def _write_cell(ax: Axes, x: float, y: float, text: str, colour: str, size: int) -> None:
    ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=size)


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
        ax.plot(rows["size"], rows[value], label=_label(name), clip_on=False, **look)
        if name in bold:
            alpha = 0.18 if name == bold[0] else 0.07
            low, high = rows[f"{value}_low"], rows[f"{value}_high"]
            ax.fill_between(
                rows["size"], low, high, color=look["color"], alpha=alpha, lw=0, zorder=1
            )
        if name in looks:
            ends[name] = float(rows[value].iloc[-1])
    sizes = table["size"].drop_duplicates().tolist()
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{100 * size:,.3g}%" for size in sizes], fontsize=13)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.02, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0%", "", "50%", "", "100%"], fontsize=13)
    for name, height in _apart(ends, bold).items():
        note(
            ax,
            _label(name),
            (max(sizes), height),
            (12, 0),
            fontsize=15,
            annotation_clip=False,
            color=looks[name]["color"],
            weight="bold" if name in bold else "normal",
        )
    return ax


def _apart(ends: dict[str, float], bold: Sequence[str], gap: float = 0.075) -> dict[str, float]:
    """Return a height for the name of each line, near its end, `gap` apart and inside the axes.

    Of equal ends those in bold come at the margin, at their lines.
    """

    def order(name: str) -> tuple[float, int, str]:
        outwards = 1 if ends[name] > 0.5 else -1
        return ends[name], outwards * (name in bold), name

    names = sorted(ends, key=order)
    steps = gap * np.arange(len(names))
    heights = np.array([ends[name] for name in names]) - steps
    heights = np.maximum.accumulate(heights).clip(0) + steps
    # back down from the upper edge
    heights = np.minimum(heights, 1 - steps[::-1])
    return dict(zip(names, heights, strict=True))


def reliability(calibration: Any, ax: Axes | None = None) -> Axes:
    """Draw how often answers were right over their stated confidence.

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
        answers are right more often than their confidence says.
    """
    ax = dress(ax, (6.5, 6), "", "how sure it said it was", "how often it was right")
    rows = calibration.table
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.5)
    ax.text(
        0.03, 0.1, "as sure as right", fontsize=12, color=GREY, rotation=45, rotation_mode="anchor"
    )
    x, y = rows["confidence"], rows["right"]
    bounds = np.clip([y - rows["right_low"], rows["right_high"] - y], 0, None)
    ax.errorbar(x, y, bounds, clip_on=False, color=BLUE, marker="o", ms=10, lw=2, capsize=5)
    for n, left, top in zip(rows["n"], x, y, strict=True):
        note(ax, f"{n:,}", (left, top), (-12, -6), ha="right", va="top", fontsize=13, color=BLUE)
    text = "no answers"
    if calibration.n:
        perfect = f"of a perfect model {calibration.ece_perfect:.2f}"
        text = f"{calibration.n:,} answers\nerror {calibration.ece:.2f}\n{perfect}"
    ax.text(0.03, 0.97, text, va="top", fontsize=14, transform=ax.transAxes)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    _percent_axes(ax)
    ax.xaxis.label.set_fontsize(15)
    ax.yaxis.label.set_fontsize(15)
    ax.tick_params(labelsize=13)
    return ax


def _percent_axes(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))


def precision_recall(sweeps: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Draw how much is found against how much of what is found is true.

    Parameters
    ----------
    sweeps : mapping from name to DataFrame
        Columns recall and precision, as `aiops_lab.sweep` returns them; a row that found nothing
        has no precision and no point.
    ax : Axes, optional
        Where to draw; default a new figure.

    Returns
    -------
    Axes
        x: recall, y: precision; the best place is the upper right corner.
    """
    labels = "recall: share of the faults found", "precision: share of the incidents that are true"
    ax = dress(ax, (6.5, 4.6), "Precision against recall", *labels)
    for (name, rows), (colour, marker, _) in zip(sweeps.items(), cycle(SERIES)):
        look: Look = {"color": colour, "ms": 8, "alpha": 0.8, "label": _label(str(name))}
        ax.plot(rows["recall"], rows["precision"], marker, **look)
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    _percent_axes(ax)
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
        label = _label(str(name))
        ax.plot(rows[knob], rows[name], marker, color=colour, ls=style, ms=6, label=label)
        least = rows.nsmallest(1, name)
        ax.plot(least[knob], least[name], "o", mfc="none", mec=colour, ms=15, mew=2)
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
    table = sweep.pivot(index=y, columns=x, values=value).astype(float)
    rows, columns = table.shape
    numbers = table.to_numpy()
    middle = (sweep[value].min() + sweep[value].max()) / 2
    ax = dress(ax, (1.2 + 0.75 * columns, 1 + 0.5 * rows), value.replace("_", " "), x, y)
    ax.grid(False)
    ax.imshow(numbers, cmap="cividis", origin="lower", aspect="auto")
    for (row, column), number in np.ndenumerate(numbers):
        text = "–" if np.isnan(number) else three_digits(number)
        colour = "white" if number < middle else BLACK
        _write_cell(ax, column, row, text, colour, 10)
    ax.set_xticks(range(columns), map("{:g}".format, table.columns))
    ax.set_yticks(range(rows), map("{:g}".format, table.index))
    return ax
