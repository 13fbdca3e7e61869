"""Figures of the lessons on traces that lie, on twins and on confidence."""

from __future__ import annotations

import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.show.plots.scores import ledger
from aiops_lab.show.plots.style import BLUE, VERMILLION, Look

try:
    import matplotlib.pyplot as plt
except ModuleNotFoundError as error:
    raise missing_extra(error) from error


def gaps(table: pd.DataFrame) -> None:
    """Draw edge gaps: a row an edge; the columns usual and now in ms."""
    _, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    hollow: Look = {"mfc": "none", "ms": 9, "mew": 1.5}
    ax.plot(table["usual"], table.index, "o", color=BLUE, label="usual", **hollow)
    ax.plot(table["now"], table.index, "X", color=VERMILLION, ms=6, label="now")
    ax.set(xscale="log", xlabel="median edge gap (ms, log scale)")
    ax.set_title("Time on the way, edge by edge", loc="left")
    ax.set_xticks([2, 10, 50, 400], ["2", "10", "50", "400"])
    ax.minorticks_off()
    ax.grid(axis="x", color="#dddddd")
    ax.legend()


def two_ledgers(rows: pd.DataFrame, entry: str) -> None:
    """Draw the accounts of an entry twice: as the spans say, and with waits reassigned.

    `rows` has account, excess and reassigned, in ms a request.
    """
    _, axes = plt.subplots(2, 1, figsize=(8, 5.5), sharex=True, layout="constrained")
    believed = rows.assign(excess=rows["excess"] - rows["reassigned"])
    titled = {"as the spans say": believed, "with the wait reassigned": rows.copy()}
    for ax, (title, shown) in zip(axes, titled.items(), strict=True):
        shown.attrs = {"entry": entry, "unit": "ms a request"}
        ledger(shown, ax=ax, most=3).set_title(title, loc="left")
