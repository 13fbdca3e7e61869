"""Figures of results: ledger, calibration, precision, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    SERIES,
    VERMILLION,
    Look,
    axis_label,
    dress,
    log_axis,
    note,
    three_digits,
    write_cell,
)

EXCESS_LOOK: Look = {"color": VERMILLION}
SAVING_LOOK: Look = {"fc": "white", "ec": GREEN, "hatch": "////"}

BINS_LOOK: Look = {
    "clip_on": False,
    "color": BLUE,
    "marker": "o",
    "ms": 10,
    "lw": 2,
    "capsize": 5,
}
NUMBERS_LOOK: Look = {"ha": "right", "va": "top", "fontsize": 13, "color": BLUE}


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
    excess = _largest(ledger.set_index("account")["excess"], most)
    n = len(excess)
    ends = excess.cumsum()
    total = float(excess.sum())
    entry = ledger.attrs.get("entry", "the entry")
    unit = ledger.attrs.get("unit", "")
    title = f"Where the excess at {entry} originated"
    height = 1.2 + 0.4 * n
    ax = dress(ax, (9, height), title, f"excess ({unit})")
    largest = max(abs(total), excess.abs().max())
    digits = 1 if largest >= 10 else 3
    for y, (value, end) in enumerate(zip(excess, ends, strict=True)):
        start = end - value
        look = EXCESS_LOOK if value >= 0 else SAVING_LOOK
        ax.barh(y, value, left=start, height=0.6, **look)
        to_the_next = y - 0.3, y + 1.3
        ax.plot([end, end], to_the_next, color=GREY, lw=0.8)
        right = max(end, start)
        note(ax, _signed(value, digits), (right, y), (5, 0), fontsize=10)
    ax.barh(n, total, height=0.6, color=BLUE)
    right = max(total, 0)
    note(ax, _signed(total, digits), (right, n), (5, 0), fontsize=10)
    names = [*map(str, excess.index), f"total at {entry}"]
    ax.set_yticks(range(n + 1), map(axis_label, names))
    ax.set_ylim(n + 0.6, -0.6)
    ax.axvline(0, color=BLACK, lw=0.8)
    lowest = min([0.0, *ends])
    highest = max([0.0, *ends])
    ax.set_xlim(1.15 * lowest, 1.15 * highest or 1.0)
    return ax


def _signed(value: float, digits: int) -> str:
    """Return a number with its sign; a minus is as long as that of the axis."""
    return f"{value:+,.{digits}f}".replace("-", "−")


def _largest(excess: pd.Series, most: int) -> pd.Series:
    """Return the `most` largest ones, then the sum of the others."""
    excess = excess.sort_values(key=lambda values: -values.abs(), kind="stable")
    rest = excess[most:]
    if rest.empty:
        return excess
    name = f"{len(rest)} others"
    others = pd.Series({name: rest.sum()})
    return pd.concat([excess[:most], others])


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
    ax.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1.5)
    along: Look = {"rotation": 45, "rotation_mode": "anchor"}
    ax.text(0.03, 0.1, "as sure as right", fontsize=12, color=GREY, **along)
    rows = calibration.table
    sure = rows["confidence"]
    right = rows["right"]
    below = right - rows["right_low"]
    above = rows["right_high"] - right
    bounds = np.clip([below, above], 0, None)
    ax.errorbar(sure, right, bounds, **BINS_LOOK)
    for n, x, y in zip(rows["n"], sure, right, strict=True):
        note(ax, f"{n:,}", (x, y), (-12, -6), **NUMBERS_LOOK)
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
    looks = cycle(SERIES)
    for name, rows in sweeps.items():
        colour, marker, _ = next(looks)
        label = axis_label(str(name))
        look: Look = {"color": colour, "ms": 8, "alpha": 0.8, "label": label}
        ax.plot(rows["recall"], rows["precision"], marker, **look)
    ax.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    _percent_axes(ax)
    ax.legend(fontsize=10)
    return ax


def cost_curve(
    sweep: pd.DataFrame,
    knob: str,
    costs: Sequence[str],
    ax: Axes | None = None,
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
    looks = cycle(SERIES)
    for name in costs:
        colour, marker, style = next(looks)
        label = axis_label(str(name))
        line: Look = {"color": colour, "ls": style, "ms": 6, "label": label}
        ax.plot(rows[knob], rows[name], marker, **line)
        least = rows.nsmallest(1, name)
        ring: Look = {"mfc": "none", "mec": colour, "ms": 15, "mew": 2}
        ax.plot(least[knob], least[name], "o", **ring)
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
    size = 1.2 + 0.75 * columns, 1 + 0.5 * rows
    ax = dress(ax, size, value.replace("_", " "), x, y)
    ax.grid(False)
    numbers = table.to_numpy()
    ax.imshow(numbers, cmap="cividis", origin="lower", aspect="auto")
    shown = sweep[value]
    middle = (shown.min() + shown.max()) / 2
    for (row, column), number in np.ndenumerate(numbers):
        text = "–" if np.isnan(number) else three_digits(number)
        colour = "white" if number < middle else BLACK
        write_cell(ax, column, row, text, colour, 10)
    ax.set_xticks(range(columns), map("{:g}".format, table.columns))
    ax.set_yticks(range(rows), map("{:g}".format, table.index))
    return ax
