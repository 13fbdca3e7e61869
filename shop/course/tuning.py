"""Figures of lesson 03: what each window shows, what each setting costs, and who sees a change."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.pipeline import Report
from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    GREY,
    VERMILLION,
    Look,
    signs,
    write_cell,
)
from aiops_lab.show.plots.timeline import timeline
from shop.course.drawing import new_axes, plain_ticks

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

MAP_TITLES = {"missed": "faults missed", "false": "alarms false"}
"""Columns of a sweep, and what stands above their maps."""

OVER_LINES: Look = {"bbox": {"fc": "white", "ec": "none", "pad": 1}}


def effect_and_significance(
    calm: pd.DataFrame, broken: pd.DataFrame, faults: pd.DataFrame, ringed_ms: float
) -> None:
    """Draw windows by their ratio and z: those in which nothing was broken, and the others.

    The strongest window of each fault is labelled with the size of the fault; each window of the
    fault of `ringed_ms` has a ring.
    """
    ax = new_axes(8, 4.6)
    ax.axvline(3, color=GREY, ls="--")
    ax.axhline(3, color=GREY, ls="--")
    drawn = (
        ("nothing broken", calm, BLUE, "o"),
        ("true fault", broken, VERMILLION, "X"),
    )
    for label, windows, colour, marker in drawn:
        ax.semilogx(windows["ratio"], windows["z"], marker, color=colour, label=label)
    for fault in faults.itertuples():
        has_begun = broken["end"] > fault.start
        touched = has_begun & (broken["window"] < fault.end)
        mine = broken[touched]
        if fault.duration_ms == ringed_ms:
            name = f"fault of {ringed_ms:g} ms"
            ax.plot(mine["ratio"], mine["z"], "o", ms=13, mfc="none", mec=BLACK, label=name)
        strongest = mine.nlargest(1, "z")
        at = strongest["ratio"].iloc[0], strongest["z"].iloc[0]
        aside = {"xytext": (9, -4), "textcoords": "offset points", **OVER_LINES}
        ax.annotate(f"{fault.duration_ms:g} ms", at, **aside)
    ax.set(
        xlabel="effect size: ratio to the baseline (log scale)",
        ylabel="significance: z (standard errors)",
    )
    plain_ticks(ax, (0.5, 1, 2, 3, 8))
    ax.legend(loc="upper left")


def costs(swept: pd.DataFrame) -> None:
    """Draw what each setting costs as two maps: `swept` has z, ratio, missed and false."""
    _, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for ax, (column, title) in zip(axes, MAP_TITLES.items(), strict=True):
        _cost(ax, swept.pivot(index="z", columns="ratio", values=column))
        ax.set_title(title, loc="left")
        ax.set_xlabel("limit of the ratio")
    axes[0].set_ylabel("limit of z")


def _cost(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the numbers of a table, the dearer the darker."""
    numbers = table.to_numpy()
    dearest = numbers.max()
    ax.imshow(numbers, cmap="Blues", aspect="auto", vmin=0, vmax=dearest)
    for (row, column), number in np.ndenumerate(numbers):
        colour = "white" if number > dearest / 2 else BLACK
        write_cell(ax, column, row, f"{number}", colour, 11)
    rows, columns = table.shape
    ax.set_xticks(range(columns), map("{:g}".format, table.columns))
    ax.set_yticks(range(rows), map("{:g}".format, table.index))


def histories(replays: Mapping[str, Report]) -> None:
    """Draw four replays of one endpoint by their names, each sixth window with its alarms."""
    fig = plt.figure(figsize=(10.5, 5.4), layout="constrained")
    axes = fig.subplots(2, 2, sharex=True, sharey=True)
    for ax, (name, report) in zip(axes.flat, replays.items(), strict=True):
        shown = report.windows[::6]
        timeline(shown, report.anomalies, ax=ax, legend=False)
        ax.set_title(name, loc="left")
        ax.label_outer()
    fig.legend(**signs(*axes.flat), loc="outside right upper", frameon=False)
