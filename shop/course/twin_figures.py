"""Figures of the lessons on twins and of the capstone: what a fault did to the requests."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.show.plots.style import BLUE, FAULT_LOOK, GREY, SERIES, VERMILLION
from shop.course.drawing import new_axes, plain_ticks

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ModuleNotFoundError as error:
    raise missing_extra(error) from error


def effects(effect: pd.DataFrame, seconds: pd.Series, fault_s: tuple[float, float]) -> None:
    """Draw the extra time of each request over the second in which it began, entry by entry."""
    entries = effect.groupby("entry")
    fig = plt.figure(figsize=(10, 2.8), layout="constrained")
    axes = fig.subplots(1, len(entries), sharey=True)
    for ax, (entry, rows) in zip(axes, entries, strict=True):
        ax.axvspan(*fault_s, alpha=0.3, **FAULT_LOOK)
        is_changed = rows["changed"].any()
        colour = VERMILLION if is_changed else BLUE
        began_s = seconds[rows.index]
        ax.plot(began_s, rows["extra_ms"], ".", color=colour, ms=4)
        ax.set(title=entry, xlabel="began in second", xticks=(0, 20, 40, 60))
    axes[0].set_ylabel("extra time (ms)")


def estimates(table: pd.DataFrame, truth: float) -> None:
    """Draw estimates of an effect in ms, a row of points for each column, and the truth."""
    ax = new_axes(8, 2)
    rows = range(table.shape[1])
    for y, name, (colour, marker, _) in zip(rows, table, SERIES, strict=False):
        found = table[name]
        at_height = [y] * len(table)
        ax.plot(found, at_height, marker, color=colour, alpha=0.6)
    ax.axvline(truth, color=GREY, ls="--")
    ax.set_yticks(rows, table.columns)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.set_xlabel(f"estimated effect (ms); the truth is {truth:g}")


def struck_and_not(effect: pd.DataFrame, seconds: pd.Series) -> None:
    """Draw the extra time of each request, struck or not, over the second in which it began."""
    ax = new_axes(7, 3)
    is_struck = effect["struck"]
    for rows, colour, marker, label in (
        (is_struck, VERMILLION, "x", "struck"),
        (~is_struck, BLUE, ".", "not struck"),
    ):
        ax.plot(seconds[rows], effect["extra_ms"][rows], marker, color=colour, ms=5, label=label)
    ax.set(xlabel="began in second", ylabel="extra time (ms)")
    ax.legend(loc="upper left")


def passed_on(curves: pd.DataFrame) -> None:
    """Draw which part of a delay reaches the entry: an index of delays in ms, a column a path."""
    ax = new_axes(7, 3.4)
    sizes = curves.index.to_numpy()
    for name, (colour, marker, style) in zip(curves, SERIES, strict=False):
        share = curves[name] / sizes
        ax.semilogx(sizes, share, color=colour, marker=marker, ls=style, label=name, alpha=0.7)
    ax.set_xlabel("delay at the callee (ms, log scale)")
    ax.set_ylabel("ms at the entry per ms of delay")
    plain_ticks(ax, sizes)
    ax.set_ylim(0, 1.1)
    ax.legend()


def requests_of_customers(
    frames: Mapping[str, pd.DataFrame], to_explain_s: Mapping[str, tuple[float, float]]
) -> None:
    """Draw each request of a customer by when it began, how long it took, and whether it failed;
    four recordings, with the time that is to be explained.
    """
    fig = plt.figure(figsize=(11, 5.5), layout="constrained")
    axes = fig.subplots(2, 2, sharex=True, sharey=True)
    for ax, (name, frame) in zip(axes.flat, frames.items(), strict=True):
        _answered_and_failed(ax, frame)
        ax.axvspan(*to_explain_s[name], color=GREY, alpha=0.15, label="to be explained")
        ax.set_title(name, loc="left")
    for ax in axes[1]:
        ax.set_xlabel("second of the run")
    for ax in axes[:, 0]:
        ax.set_ylabel("request (ms, log scale)")
    axes[0, 0].legend(loc="upper left", markerscale=2)


def _answered_and_failed(ax: Axes, frame: pd.DataFrame) -> None:
    """Draw the closed requests at the entries by when they began and how long they took."""
    is_root = frame["parent_id"].isna()
    is_closed = frame["duration_ms"].notna()
    asked = frame[is_root & is_closed]
    second = _second_of(asked["start"], frame)
    ms = asked["duration_ms"]
    bad = asked["status"] >= 500
    ax.semilogy(second[~bad], ms[~bad], ".", ms=2, color=BLUE, label="answered")
    ax.semilogy(second[bad], ms[bad], "x", ms=4, color=VERMILLION, label="failed")


def _second_of(start: pd.Series, frame: pd.DataFrame) -> pd.Series:
    """Return times in seconds since the first row of a frame began."""
    since = start - frame["start"].min()
    return since.dt.total_seconds()


def lost_share(effect: pd.DataFrame, entry: str, fault_s: tuple[float, float]) -> pd.Series:
    """Draw which share of an entry's requests failed only because of the fault, every 10 s; return
    the shares.

    `effect`: of a twin.
    """
    second = _second_of(effect["start"], effect)
    ten_seconds = second // 10 * 10
    lost = effect["failed_with"] & ~effect["failed_without"]
    mine = effect["entry"] == entry
    by_time = lost[mine].groupby(ten_seconds[mine])
    share = by_time.mean()
    ax = new_axes(9, 3.2)
    ax.step(share.index, share, where="post", color=VERMILLION, marker="o", ms=4)
    ax.axvspan(*fault_s, label="the fault is there", **FAULT_LOOK)
    ax.set(
        xlabel="second of the run",
        ylabel="share that failed\nonly because of the fault",
        ylim=(-0.03, 1.03),
    )
    ax.legend(loc="upper left")
    return share
