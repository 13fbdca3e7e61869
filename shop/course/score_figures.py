"""Figures of lesson 04: what is found against what is true, dice beside detectors, and a night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from aiops_lab.show import plots
from aiops_lab.show.plots.style import BLACK, BLUE, GREY, SERIES, VERMILLION
from shop.course.drawing import new_axes, plain_ticks

_ASIDE = 0.006
"""By how much of the recall a series stands beside the next, so that none hides another."""


def of_dice(curves: pd.DataFrame, best: float) -> None:
    """Draw the F1 of dice by the share of the windows in which they alarm, beside the `best`.

    `curves` has the columns "by points", "adjusted", "5 % are below" and "5 % are above".
    """
    shown = curves.set_axis([f"{share:.0%}" for share in curves.index])
    ax = new_axes(7, 4)
    low, high = shown["5 % are below"], shown["5 % are above"]
    ax.fill_between(shown.index, low, high, color=VERMILLION, alpha=0.2, label="90 % of the throws")
    ax.plot(shown["adjusted"], "X--", color=VERMILLION, label="dice, point-adjusted (mean)")
    ax.plot(shown["by points"], "o-", color=BLUE, label="dice, by points (mean)")
    ax.axhline(best, color=BLACK, ls=":", label="all detectors, point-adjusted")
    ax.set(xlabel="share of the windows with an alarm", ylabel="F1", ylim=(0, 1))
    ax.legend()


def trade_off(sweeps: Mapping[str, pd.DataFrame]) -> None:
    """Draw precision against recall, hollow and joined, each series a little beside the others.

    A series with a `ratio` and z = 2 is labelled with its ratios.
    """
    shifted = {}
    for n, (name, rows) in enumerate(sweeps.items()):
        aside = (n - len(sweeps) / 2) * _ASIDE
        shifted[name] = rows.assign(recall=rows["recall"] + aside)
    ax = plots.precision_recall(shifted)
    for line, (_, _, dashes) in zip(ax.lines, SERIES, strict=False):
        line.set(fillstyle="none", linestyle=dashes, linewidth=1)
    for name, rows in shifted.items():
        if not name.endswith("z = 2"):
            continue
        for row in rows.itertuples():
            at = row.recall, row.precision
            ax.annotate(
                f"{row.ratio:g}",
                at,
                xytext=(-8, -12),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )
    ax.legend(loc="lower left", fontsize=9)


def at_night(curves: Mapping[str, pd.Series], marked: float) -> None:
    """Draw precision over the faults a week (the index), with a line at `marked` a week."""
    ax = new_axes(7, 4)
    for (name, precision), (colour, marker, _) in zip(curves.items(), SERIES, strict=False):
        ax.loglog(precision.index, precision, marker=marker, color=colour, label=name)
    ax.axvline(marked, color=GREY, ls=":", label=f"{marked:g} a week")
    ax.set(xlabel="faults a week (log scale)", ylabel="precision, at least (log scale)")
    plain_ticks(ax, _index_of(curves))
    shares = (0.001, 0.01, 0.1, 1)
    ax.set_yticks(shares, [f"{share:.1%}" for share in shares])
    ax.legend(loc="lower right")


def _index_of(curves: Mapping[str, pd.Series]) -> Sequence[float]:
    first = next(iter(curves.values()))
    return tuple(first.index)
