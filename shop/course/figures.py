"""Figures of the lessons on root causes, from traces that lie on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import missing_extra
from aiops_lab.evaluate.calibration import Calibration
from aiops_lab.numerics import wilson
from aiops_lab.show.plots.scores import ledger, reliability
from aiops_lab.show.plots.style import (
    BLACK,
    BLUE,
    FAULT_LOOK,
    GREEN,
    GREY,
    SERIES,
    SKY,
    VERMILLION,
    Look,
)

try:
    import matplotlib.pyplot as plt
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

CURVE_LOOKS = ((BLUE, "-"), (VERMILLION, "--"))

KIND_LOOKS = {"slow": ("o", GREEN), "errors": ("s", SKY), "deployment": ("X", BLACK)}


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
    longest_ms = table["now"].max()
    row = int(table["now"].argmax())
    ax.text(longest_ms, row, f"  {longest_ms:.0f} ms", va="center")
    ax.set_xlim(right=3 * longest_ms)  # room for the label
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


def reliabilities(found: Mapping[str, Calibration]) -> None:
    """Draw reliability diagrams, two in a row, with the numbers of each above it."""
    columns = min(len(found), 2)
    rows = -(-len(found) // columns)
    size = (4.6 * columns, 4.6 * rows)
    figure = plt.figure(figsize=size, layout="constrained")
    for n, (title, each) in enumerate(found.items(), start=1):
        ax = figure.add_subplot(rows, columns, n)
        reliability(each, ax)
        diagonal, numbers = ax.texts[0], ax.texts[-1]
        diagonal.set(position=(0.01, 0.06), fontsize=10)  # where whiskers are rare
        text = numbers.get_text().replace("\n", ", ")
        numbers.remove()
        ax.set_title(f"{title}\n{text}", fontsize=11, loc="left")
        ax.set_xlabel("how sure it said it was", fontsize=11)
        ax.set_ylabel("how often it was right", fontsize=11)
        ax.tick_params(labelsize=10)


def curves_and_answers(
    answers: pd.DataFrame, curves: Mapping[str, Callable[[NDArray, NDArray], NDArray]]
) -> None:
    """Draw curves of confidence over the score, and each answer at 1 (right) or 0 (wrong).

    `answers` has score (a multiple of the least), kind and right; curves take scores and shares.
    """
    _, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    grid = np.geomspace(1, 200, 100)
    for (name, curve), (colour, style) in zip(curves.items(), CURVE_LOOKS, strict=False):
        ax.semilogx(grid, curve(grid, np.ones(100)), color=colour, ls=style, label=name)
    for kind, (marker, colour) in KIND_LOOKS.items():
        at = answers[answers["kind"] == kind]
        look: Look = {"ms": 8, "mfc": "none", "color": colour}
        ax.plot(at["score"], at["right"], marker, label=f"{kind}: right (1) or wrong (0)", **look)
    ax.set_xlabel("score, as a multiple of the least one (log scale)")
    ax.set_ylabel("probability of being right")
    ax.set_ylim(-0.06, 1.06)
    ax.legend(loc="center right")


def risks(curves: Mapping[str, pd.DataFrame]) -> None:
    """Draw the risk of each rule over its coverage, as `risk_coverage` returns them."""
    _, ax = plt.subplots(figsize=(10, 4), layout="constrained")
    for (name, curve), (colour, marker, style) in zip(curves.items(), cycle(SERIES)):
        look: Look = {"color": colour, "marker": marker[0], "ls": style, "ms": 4}
        ax.plot(curve["coverage"], curve["risk"], label=name, **look)
    ax.set_xlabel("coverage: share of the runs that get an answer, the surest first")
    ax.set_ylabel("risk: share of wrong answers")
    ax.set(xlim=(0, 1.02), ylim=(-0.03, 1.03))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def shares_over_size(says: pd.DataFrame) -> None:
    """Draw the share of right answers over the size of a fault, rule by rule, with 95 % Wilson
    intervals.

    `says`: ms, rule and said, as `shop.course.rivals.said_by_size` returns them, of at most two
    rules.
    """
    _, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    looks = zip(("o-", "X--"), (BLUE, VERMILLION), strict=True)
    for n, (rule, rows) in enumerate(says.groupby("rule", sort=False)):
        groups = rows["said"].eq("right").groupby(rows["ms"])
        share = groups.mean()
        low, high = wilson(groups.sum(), groups.size(), 1.96)
        reach = [share - low, high - share]
        style, colour = next(looks)
        aside = share.index * 1.07**n  # so that no interval covers another
        ax.errorbar(aside, share, reach, fmt=style, color=colour, capsize=3, label=rule)
    ax.set(xscale="log", xlabel="added delay (ms, log scale)", ylabel="share of right answers")
    sizes = sorted(says["ms"].unique())
    ax.set_xticks(sizes, [f"{ms:g}" for ms in sizes])
    ax.minorticks_off()
    ax.legend()


def sure_growth(before: tuple[int, int], now: tuple[int, int], z: float = 3.0) -> None:
    """Draw what k of n prove before and now, as intervals at `z` standard errors, and the gap
    between them.
    """
    _, ax = plt.subplots(figsize=(7, 2), layout="constrained")
    shown = {"before": (before, BLUE, "o"), "now": (now, VERMILLION, "X")}
    ends = {}
    for y, (name, ((k, n), colour, marker)) in enumerate(shown.items()):
        ends[name] = low, high = wilson(k, n, z)
        ax.plot([low, high], [y, y], color=colour, lw=3)
        ax.plot(k / n, y, marker, color=colour, ms=9)
    ax.axvspan(ends["before"][1], ends["now"][0], color=GREEN, alpha=0.3, label="grown for sure")
    labels = [f"{name}: {k} of {n}" for name, ((k, n), *_) in shown.items()]
    ax.set_yticks([0, 1], labels)
    ax.set(xlabel="share of orders that stop", xlim=(-0.02, 1), ylim=(-0.6, 1.6))
    ax.legend()


def effects(effect: pd.DataFrame, seconds: pd.Series, fault_s: tuple[float, float]) -> None:
    """Draw the extra time of each request over the second in which it began, entry by entry."""
    entries = effect.groupby("entry")
    _, axes = plt.subplots(1, len(entries), figsize=(10, 2.8), sharey=True, layout="constrained")
    for ax, (entry, rows) in zip(axes, entries, strict=True):
        ax.axvspan(*fault_s, alpha=0.3, **FAULT_LOOK)
        colour = VERMILLION if rows["changed"].any() else BLUE
        ax.plot(seconds[rows.index], rows["extra_ms"], ".", color=colour, ms=4)
        ax.set(title=entry, xlabel="began in second", xticks=(0, 20, 40, 60))
    axes[0].set_ylabel("extra time (ms)")


def estimates(table: pd.DataFrame, truth: float) -> None:
    """Draw estimates of an effect in ms, a row of points for each column, and the truth."""
    _, ax = plt.subplots(figsize=(8, 2), layout="constrained")
    for y, (name, (colour, marker, _)) in enumerate(zip(table, SERIES, strict=False)):
        ax.plot(table[name], [y] * len(table), marker, color=colour, alpha=0.6)
    ax.axvline(truth, color=GREY, ls="--")
    ax.set_yticks(range(table.shape[1]), table.columns)
    ax.set_ylim(-0.6, table.shape[1] - 0.4)
    ax.set_xlabel(f"estimated effect (ms); the truth is {truth:g}")


def passed_on(curves: pd.DataFrame) -> None:
    """Draw which part of a delay reaches the entry: an index of delays in ms, a column a path."""
    _, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    sizes = curves.index.to_numpy()
    for name, (colour, marker, style) in zip(curves, SERIES, strict=False):
        look: Look = {"color": colour, "marker": marker, "ls": style, "label": name}
        ax.semilogx(sizes, curves[name] / sizes, **look)
    ax.set_xlabel("delay at the callee (ms, log scale)")
    ax.set_ylabel("ms at the entry per ms of delay")
    ax.set_xticks(sizes, [f"{size:,g}" for size in sizes])
    ax.set_ylim(0, 1.1)
    ax.minorticks_off()
    ax.legend()


def excess_and_own(table: pd.DataFrame) -> None:
    """Draw the excess and the own excess of each node: the columns excess and own."""
    _, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
    hollow: Look = {"mfc": "none", "ms": 10, "mew": 1.5}
    ax.plot(table["excess"], table.index, "o", color=BLUE, label="excess", **hollow)
    ax.plot(table["own"], table.index, "X", color=VERMILLION, ms=6, label="own excess")
    ax.set_xlabel("request-seconds more than usual")
    ax.grid(axis="x", color="#dddddd")
    ax.invert_yaxis()
    ax.legend()


def metric_lines(latency: pd.DataFrame, fault_s: float) -> None:
    """Draw the latency of nodes over time, and where the fault begins.

    `latency` in s: a row an interval of a second from second 0 on, a column a node.
    """
    _, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    looks = zip(latency.columns, (BLUE, VERMILLION), ("-", "--"), strict=True)
    for node, colour, style in looks:
        ax.plot(range(len(latency)), latency[node] * 1e3, style, color=colour, label=node)
    ax.axvline(fault_s, color=BLACK, ls=":", label="the network gets slow")
    ax.set(xlabel="second", ylabel="mean latency (ms)", ylim=(0, None))
    ax.legend(loc="upper left")


def requests_of_customers(
    frames: Mapping[str, pd.DataFrame], to_explain_s: Mapping[str, tuple[float, float]]
) -> None:
    """Draw each request of a customer by when it began, how long it took, and whether it failed;
    four recordings, with the time that is to be explained.
    """
    fig = plt.figure(figsize=(11, 5.5), layout="constrained")
    axes = fig.subplots(2, 2, sharex=True, sharey=True)
    for ax, (name, frame) in zip(axes.flat, frames.items(), strict=True):
        asked = frame[frame["parent_id"].isna() & frame["duration_ms"].notna()]
        second = (asked["start"] - frame["start"].min()).dt.total_seconds()
        bad = asked["status"] >= 500
        ms = asked["duration_ms"]
        ax.semilogy(second[~bad], ms[~bad], ".", ms=2, color=BLUE, label="answered")
        ax.semilogy(second[bad], ms[bad], "x", ms=4, color=VERMILLION, label="failed")
        ax.axvspan(*to_explain_s[name], color=GREY, alpha=0.15, label="to be explained")
        ax.set_title(name, loc="left")
    for ax in axes[1]:
        ax.set_xlabel("second of the run")
    for ax in axes[:, 0]:
        ax.set_ylabel("request (ms, log scale)")
    axes[0, 0].legend(loc="upper left", markerscale=2)


def lost_share(effect: pd.DataFrame, entry: str, fault_s: tuple[float, float]) -> pd.Series:
    """Draw which share of an entry's requests failed only because of the fault, every 10 s; return
    the shares.

    `effect`: of a twin.
    """
    second = (effect["start"] - effect["start"].min()).dt.total_seconds()
    lost = effect["failed_with"] & ~effect["failed_without"]
    mine = effect["entry"] == entry
    share = lost[mine].groupby(second[mine] // 10 * 10).mean()
    _, ax = plt.subplots(figsize=(9, 3.2), layout="constrained")
    ax.step(share.index, share, where="post", color=VERMILLION, marker="o", ms=4)
    ax.axvspan(*fault_s, label="the fault is there", **FAULT_LOOK)
    ax.set(xlabel="second of the run", ylabel="share that failed\nonly because of the fault")
    ax.set_ylim(-0.03, 1.03)
    ax.legend(loc="upper left")
    return share
