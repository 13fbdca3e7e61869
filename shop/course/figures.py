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
from aiops_lab.show.plots.scores import ledger
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
from shop.course.cases import SILENT
from shop.course.drawing import new_axes, plain_ticks

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

CURVE_LOOKS = ((BLUE, "-"), (VERMILLION, "--"))

KIND_LOOKS = {"slow": ("o", GREEN), "errors": ("s", SKY), "deployment": ("X", BLACK)}

SET_LOOKS = ((BLUE, "o", -0.014, "right"), (VERMILLION, "X", 0.014, "left"))
"""Colour, marker, how far aside of its true place, so that no bar covers another, and on which
side its number stands.
"""

VERDICT_LOOKS = {
    "right": ("o", GREEN, GREEN),
    "silent, but wrong": ("o", BLACK, "none"),
    "a wrong name": ("X", VERMILLION, VERMILLION),
}

ON_BARS: Look = {"bbox": {"fc": "white", "ec": "none", "pad": 1}}

FEW_POINTS = 3
"""A curve of so few points has its first one labelled: the answers that are equally sure."""

HOLLOW: Look = {"mfc": "none", "mew": 1.5}


def gaps(table: pd.DataFrame) -> None:
    """Draw edge gaps: a row an edge; the columns usual and now in ms."""
    ax = new_axes(7, 3.6)
    edges = table.index
    ax.plot(table["usual"], edges, "o", color=BLUE, label="usual", ms=9, **HOLLOW)
    ax.plot(table["now"], edges, "X", color=VERMILLION, ms=6, label="now")
    ax.set_xscale("log")
    ax.set_xlabel("median edge gap (ms, log scale)")
    ax.set_title("Time on the way, edge by edge", loc="left")
    plain_ticks(ax, (2, 10, 50, 400))
    longest_ms = table["now"].max()
    row = int(table["now"].argmax())
    ax.text(longest_ms, row, f"  {longest_ms:.0f} ms", va="center")
    ax.set_xlim(right=3 * longest_ms)  # room for the label
    ax.grid(axis="x", color="#dddddd")
    ax.legend()


def two_ledgers(rows: pd.DataFrame, entry: str) -> None:
    """Draw the accounts of an entry twice: as the spans say, and with waits reassigned.

    `rows` has account, excess and reassigned, in ms a request. Both show the same accounts: the
    three that are largest in one of them, and the sum of the others.
    """
    _, (above, below) = plt.subplots(2, 1, figsize=(8, 5.5), sharex=True, layout="constrained")
    said_by_spans = rows["excess"] - rows["reassigned"]
    either = pd.concat([said_by_spans, rows["excess"]], axis=1).abs().max(axis=1)
    largest = either.nlargest(3).index
    shown = rows["account"].where(rows.index.isin(largest), f"{len(rows) - len(largest)} others")
    _one_ledger(above, "as the spans say", said_by_spans.groupby(shown).sum(), entry)
    _one_ledger(below, "with the wait reassigned", rows["excess"].groupby(shown).sum(), entry)


def _one_ledger(ax: Axes, title: str, excess: pd.Series, entry: str) -> None:
    rows = excess.rename("excess").reset_index()
    rows.attrs = {"entry": entry, "unit": "ms a request"}
    ledger(rows, ax=ax)
    ax.set_title(title, loc="left")


def reliabilities(
    panels: Mapping[str, Mapping[str, Calibration]], said: str = "it said it was"
) -> None:
    """Draw reliability diagrams side by side: in each up to two sets of answers, by name.

    `said`: whose answers they are, below the axis.
    """
    size = (5 * len(panels), 4.6)
    _, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    for ax, (title, found) in zip(axes[0], panels.items(), strict=True):
        ax.plot([0, 1], [0, 1], color=GREY, ls="--", label="as sure as right")
        for (name, each), look in zip(found.items(), SET_LOOKS, strict=False):
            _bins(ax, name, each, look)
        ax.set_title(title, loc="left")
        aside = "\n(the two sets are moved apart)" if len(found) > 1 else ""
        ax.set_xlabel(f"how sure {said}{aside}")
        ax.set_ylabel("share of right answers")
        ax.set_xlim(0, 1.15)  # room for the numbers at 1
        ax.set_ylim(-0.03, 1.06)
        ax.set_aspect("equal")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9)


def _bins(ax: Axes, name: str, found: Calibration, look: tuple[str, str, float, str]) -> None:
    """Draw each bin as a point with its 95 % bounds and its number of answers; no line joins
    them, as bins of few answers make no trend.
    """
    colour, marker, aside, align = look
    rows = found.table
    x = np.minimum(rows["confidence"] + aside, 1)
    right = rows["right"]
    bounds = np.clip([right - rows["right_low"], rows["right_high"] - right], 0, None)
    counted = f"{found.n:,} answers, error {found.ece:.2f}, of a perfect model "
    label = f"{name}: {counted}{found.ece_perfect:.2f}"
    ax.errorbar(x, right, bounds, fmt=marker, color=colour, capsize=3, ms=7, label=label)
    for n, left, top in zip(rows["n"], x, right, strict=True):
        at = left + 1.5 * aside
        number = ax.text(at, top, f"{n:,}", ha=align, va="center", color=colour)
        number.set_bbox({"fc": "white", "ec": "none", "pad": 0.5})  # over the diagonal


def curves_and_answers(
    answers: pd.DataFrame, curves: Mapping[str, Callable[[NDArray, NDArray], NDArray]]
) -> None:
    """Draw curves of confidence over the score, right answers above them and wrong ones below.

    `answers` has score (a multiple of the least), kind and right; curves take scores and shares.
    Answers lie in three rows, so that none covers another.
    """
    ax = new_axes(9, 4)
    scores = np.geomspace(1, 200, 100)
    shares = np.ones(100)
    for (name, curve), (colour, style) in zip(curves.items(), CURVE_LOOKS, strict=False):
        confidence = curve(scores, shares)
        ax.semilogx(scores, confidence, color=colour, ls=style, label=name)
    by_size = answers.sort_values("score")
    aside = np.resize([-0.06, 0.0, 0.06], len(by_size))
    heights = np.where(by_size["right"], 1.15, -0.15) + aside
    for name, low in {"right answers": 1.03, "wrong answers": -0.27}.items():
        ax.axhspan(low, low + 0.24, color=GREY, alpha=0.15, lw=0)
        ax.text(1, low + 0.12, name, va="center")
    for kind, (marker, colour) in KIND_LOOKS.items():
        mine = by_size["kind"] == kind
        of_kind = by_size.loc[mine, "score"]
        ax.plot(of_kind, heights[mine], marker, label=kind, ms=8, mfc="none", color=colour)
    ax.set_xlabel("score, as a multiple of the least one (log scale)")
    ax.set_ylabel("probability of being right")
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_ylim(-0.27, 1.27)
    plain_ticks(ax, (1, 2, 5, 10, 40, 100))
    ax.legend(loc="center right")


def risks(curves: Mapping[str, pd.DataFrame]) -> None:
    """Draw the risk of each rule over its coverage, as `risk_coverage` returns them."""
    ax = new_axes(10, 4)
    looks = cycle(SERIES)
    for name, curve in curves.items():
        colour, marker, style = next(looks)
        ax.plot(
            curve["coverage"],
            curve["risk"],
            label=name,
            color=colour,
            marker=marker,
            ls=style,
            ms=4,
        )
        if len(curve) <= FEW_POINTS:
            first = curve.iloc[0]
            text = f"{name}: {first['answered']:.0f} at once"
            ax.text(first["coverage"], first["risk"] - 0.07, text)
    ax.set_xlabel("coverage: share of the runs that get an answer, the surest first")
    ax.set_ylabel("risk: share of wrong answers")
    ax.set_xlim(0, 1.02)
    ax.set_ylim(-0.03, 1.03)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def verdict_grid(said: pd.DataFrame) -> None:
    """Draw what rules say of scenarios: a row a rule, a column a scenario, a mark a seed.

    `said`: rule, scenario, seed, named, cause and right, as `shop.course.rivals.side_by_side`
    returns them. The rule that is right most often is above; a line parts the scenarios in which
    nothing is broken from the others.
    """
    ax = new_axes(10, 4.4)
    ranked = said.groupby("rule")["right"].agg(["sum", "size"]).sort_values("sum", kind="stable")
    scenarios = said.drop_duplicates("scenario")
    seeds = said["seed"].unique()
    aside = {seed: 0.3 * (n - (len(seeds) - 1) / 2) for n, seed in enumerate(seeds)}
    column = pd.Index(scenarios["scenario"]).get_indexer(pd.Index(said["scenario"]))
    x = column + said["seed"].map(aside)
    y = ranked.index.get_indexer(pd.Index(said["rule"]))
    verdict = said["right"].map({True: "right", False: "a wrong name"})
    verdict = verdict.mask(~said["right"] & (said["named"] == SILENT), "silent, but wrong")
    for name, (marker, colour, fill) in VERDICT_LOOKS.items():
        mine = verdict == name
        ax.plot(x[mine], y[mine], marker, color=colour, mfc=fill, ms=9, label=name)
    ax.axvline(scenarios["cause"].ne(SILENT).sum() - 0.5, color=GREY, ls=":")
    ax.set_xticks(range(len(scenarios)), scenarios["scenario"].str.replace(" ", "\n", n=1))
    ax.set_yticks(range(len(ranked)), [f"{r}: {k} of {n}" for r, k, n in ranked.itertuples()])
    ax.set_title("something is broken", loc="left")
    ax.set_title("nothing is", loc="right")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def named_by_size(says: pd.DataFrame, cause: str) -> None:
    """Draw whom rules name over the size of a fault of `cause`, side by side: the number of runs.

    `says`: ms, rule and named, as `shop.course.rivals.said_by_size` returns them.
    """
    looks = {cause: (GREEN, ""), "nobody": ("white", ""), "another": (VERMILLION, "//")}
    who = says["named"].replace(SILENT, "nobody")
    who = who.where(who.isin([*looks]), "another")
    rules = says["rule"].unique()
    size = (4.5 * len(rules), 3.2)
    _, axes = plt.subplots(1, len(rules), figsize=size, sharey=True, layout="constrained")
    for ax, rule in zip(axes, rules, strict=True):
        mine = says["rule"] == rule
        counts = pd.crosstab(says["ms"][mine], who[mine]).reindex(columns=[*looks], fill_value=0)
        at = [f"{ms:g}" for ms in counts.index]
        below = counts.cumsum(axis=1) - counts
        for name, (colour, hatch) in looks.items():
            n = counts[name]
            bars = ax.bar(at, n, bottom=below[name], fc=colour, hatch=hatch, ec=BLACK, label=name)
            ax.bar_label(bars, n.astype(str).where(n > 0, ""), label_type="center", **ON_BARS)
        ax.set_title(rule, loc="left")
        ax.set_xlabel("added delay (ms)")
    axes[0].set_ylabel("runs")
    axes[-1].legend(title="named", loc="center left", bbox_to_anchor=(1, 0.5))


def sure_growth(before: tuple[int, int], now: tuple[int, int], z: float = 3.0) -> None:
    """Draw what k of n prove before and now, as intervals at `z` standard errors, and the gap
    between them.
    """
    ax = new_axes(7, 2)
    _, highest_before = _proven(ax, 0, before, z, (BLUE, "o"))
    lowest_now, _ = _proven(ax, 1, now, z, (VERMILLION, "X"))
    ax.axvspan(highest_before, lowest_now, color=GREEN, alpha=0.3, label="grown for sure")
    labels = [
        f"before: {before[0]} of {before[1]}",
        f"now: {now[0]} of {now[1]}",
    ]
    ax.set_yticks([0, 1], labels)
    ax.set_xlabel("share of orders that stop")
    ax.set_xlim(-0.02, 1)
    ax.set_ylim(-0.6, 1.6)
    ax.legend()


def _proven(
    ax: Axes, y: int, counted: tuple[int, int], z: float, look: tuple[str, str]
) -> tuple[float, float]:
    """Draw the share k of n at height `y`, and return the ends of its interval."""
    k, n = counted
    colour, marker = look
    low, high = wilson(k, n, z)
    ax.plot([low, high], [y, y], color=colour, lw=3)
    ax.plot(k / n, y, marker, color=colour, ms=9)
    return low, high


def effects(effect: pd.DataFrame, seconds: pd.Series, fault_s: tuple[float, float]) -> None:
    """Draw the extra time of each request over the second in which it began, entry by entry."""
    entries = effect.groupby("entry")
    _, axes = plt.subplots(1, len(entries), figsize=(10, 2.8), sharey=True, layout="constrained")
    for ax, (entry, rows) in zip(axes, entries, strict=True):
        ax.axvspan(*fault_s, alpha=0.3, **FAULT_LOOK)
        colour = VERMILLION if rows["changed"].any() else BLUE
        began_s = seconds[rows.index]
        ax.plot(began_s, rows["extra_ms"], ".", color=colour, ms=4)
        ax.set_title(entry)
        ax.set_xlabel("began in second")
        ax.set_xticks((0, 20, 40, 60))
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


def passed_on(curves: pd.DataFrame) -> None:
    """Draw which part of a delay reaches the entry: an index of delays in ms, a column a path."""
    ax = new_axes(7, 3.4)
    sizes = curves.index.to_numpy()
    for name, (colour, marker, style) in zip(curves, SERIES, strict=False):
        ax.semilogx(sizes, curves[name] / sizes, color=colour, marker=marker, ls=style, label=name)
    ax.set_xlabel("delay at the callee (ms, log scale)")
    ax.set_ylabel("ms at the entry per ms of delay")
    plain_ticks(ax, sizes)
    ax.set_ylim(0, 1.1)
    ax.legend()


def excess_and_own(table: pd.DataFrame) -> None:
    """Draw the excess and the own excess of each node: the columns excess and own."""
    ax = new_axes(7, 3.8)
    nodes = table.index
    ax.plot(table["excess"], nodes, "o", color=BLUE, label="excess", ms=10, **HOLLOW)
    ax.plot(table["own"], nodes, "X", color=VERMILLION, ms=6, label="own excess")
    ax.set_xlabel("request-seconds more than usual")
    ax.grid(axis="x", color="#dddddd")
    ax.invert_yaxis()
    ax.legend()


def metric_lines(latency: pd.DataFrame, fault_s: float) -> None:
    """Draw the latency of nodes over time, and where the fault begins.

    `latency` in s: a row an interval of a second from second 0 on, a column a node.
    """
    ax = new_axes(7, 3.4)
    seconds = range(len(latency))
    for node, (colour, style) in zip(latency.columns, CURVE_LOOKS, strict=True):
        ms = latency[node] * 1e3
        ax.plot(seconds, ms, style, color=colour, label=node)
    ax.axvline(fault_s, color=BLACK, ls=":", label="the network gets slow")
    ax.set_xlabel("second")
    ax.set_ylabel("mean latency (ms)")
    ax.set_ylim(0, None)
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
    is_asked = frame["parent_id"].isna() & frame["duration_ms"].notna()
    asked = frame[is_asked]
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
    share = lost[mine].groupby(ten_seconds[mine]).mean()
    ax = new_axes(9, 3.2)
    ax.step(share.index, share, where="post", color=VERMILLION, marker="o", ms=4)
    ax.axvspan(*fault_s, label="the fault is there", **FAULT_LOOK)
    ax.set_xlabel("second of the run")
    ax.set_ylabel("share that failed\nonly because of the fault")
    ax.set_ylim(-0.03, 1.03)
    ax.legend(loc="upper left")
    return share
