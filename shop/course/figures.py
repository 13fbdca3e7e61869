"""Figures of the lessons on root causes: gaps, ledgers, rules side by side, and metrics."""

from __future__ import annotations

import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.numerics import wilson
from aiops_lab.show.plots.scores import ledger
from aiops_lab.show.plots.style import BLACK, BLUE, GREEN, GREY, VERMILLION, Look
from shop.course.cases import SILENT
from shop.course.drawing import new_axes, plain_ticks

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

RING: Look = {"marker": "o", "ls": "none", "color": BLUE, "mfc": "none", "mew": 1.5}
CROSS: Look = {"marker": "X", "ls": "none", "color": VERMILLION, "ms": 6}

LINE_LOOKS: tuple[Look, ...] = (
    {"color": BLUE, "ls": "-"},
    {"color": VERMILLION, "ls": "--"},
)

VERDICT_LOOKS: dict[str, Look] = {
    "right": {"marker": "o", "color": GREEN, "mfc": GREEN},
    "silent, but wrong": {"marker": "o", "color": BLACK, "mfc": "none"},
    "a wrong name": {"marker": "X", "color": VERMILLION, "mfc": VERMILLION},
}

ON_BARS: Look = {"bbox": {"fc": "white", "ec": "none", "pad": 1}}

N_SIGMA = 3.0
"""A share has grown for sure where its interval of so many standard errors is above the old one."""


def gaps(table: pd.DataFrame) -> None:
    """Draw edge gaps: a row an edge; the columns usual and now in ms."""
    ax = new_axes(7, 3.6)
    edges = table.index
    ax.plot(table["usual"], edges, label="usual", ms=9, **RING)
    ax.plot(table["now"], edges, label="now", **CROSS)
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
    reassigned = rows["excess"]
    said_by_spans = reassigned - rows["reassigned"]
    either = pd.concat([said_by_spans, reassigned], axis=1)
    size = either.abs().max(axis=1)
    largest = size.nlargest(3).index
    is_largest = rows.index.isin(largest)
    n_others = len(rows) - len(largest)
    shown = rows["account"].where(is_largest, f"{n_others} others")
    fig = plt.figure(figsize=(8, 5.5), layout="constrained")
    above, below = fig.subplots(2, 1, sharex=True)
    _one_ledger(above, "as the spans say", said_by_spans.groupby(shown).sum(), entry)
    _one_ledger(below, "with the wait reassigned", reassigned.groupby(shown).sum(), entry)


def _one_ledger(ax: Axes, title: str, excess: pd.Series, entry: str) -> None:
    rows = excess.rename("excess").reset_index()
    rows.attrs = {"entry": entry, "unit": "ms a request"}
    ledger(rows, ax=ax)
    ax.set_title(title, loc="left")


def verdict_grid(said: pd.DataFrame) -> None:
    """Draw what rules say of scenarios: a row a rule, a column a scenario, a mark a seed.

    `said`: rule, scenario, seed, named, cause and right, as `shop.course.rivals.side_by_side`
    returns them. The rule that is right most often is above; a line parts the scenarios in which
    nothing is broken from the others.
    """
    by_rule = said.groupby("rule")["right"]
    counted = by_rule.agg(["sum", "size"])
    ranked = counted.sort_values("sum", kind="stable")
    scenarios = said.drop_duplicates("scenario")
    x = _columns(said, scenarios["scenario"])
    y = ranked.index.get_indexer(pd.Index(said["rule"]))
    verdict = _verdicts(said)
    ax = new_axes(10, 4.4)
    for name, look in VERDICT_LOOKS.items():
        mine = verdict == name
        ax.plot(x[mine], y[mine], ls="none", ms=9, label=name, **look)
    n_broken = scenarios["cause"].ne(SILENT).sum()
    ax.axvline(n_broken - 0.5, color=GREY, ls=":")
    in_two_lines = scenarios["scenario"].str.replace(" ", "\n", n=1)
    ax.set_xticks(range(len(scenarios)), in_two_lines)
    labels = [f"{rule}: {right} of {n}" for rule, right, n in ranked.itertuples()]
    ax.set_yticks(range(len(ranked)), labels)
    ax.set_title("something is broken", loc="left")
    ax.set_title("nothing is", loc="right")
    below = (0.5, -0.14)
    ax.legend(loc="upper center", bbox_to_anchor=below, ncols=3)


def _columns(said: pd.DataFrame, scenarios: pd.Series) -> pd.Series:
    """Return where each row stands: in the column of its scenario, seeds 0.3 apart."""
    asked = pd.Index(said["scenario"])
    column = pd.Index(scenarios).get_indexer(asked)
    seeds = said["seed"].unique()
    middle = (len(seeds) - 1) / 2
    aside = {seed: 0.3 * (n - middle) for n, seed in enumerate(seeds)}
    return column + said["seed"].map(aside)


def _verdicts(said: pd.DataFrame) -> pd.Series:
    """Return for each row which of `VERDICT_LOOKS` it is."""
    words = {True: "right", False: "a wrong name"}
    verdict = said["right"].map(words)
    is_silent = said["named"] == SILENT
    return verdict.mask(~said["right"] & is_silent, "silent, but wrong")


def named_by_size(says: pd.DataFrame, cause: str) -> None:
    """Draw whom rules name over the size of a fault of `cause`, side by side: the number of runs.

    `says`: ms, rule and named, as `shop.course.rivals.said_by_size` returns them.
    """
    looks: dict[str, Look] = {
        cause: {"fc": GREEN},
        "nobody": {"fc": "white"},
        "another": {"fc": VERMILLION, "hatch": "//"},
    }
    who = says["named"].replace(SILENT, "nobody")
    who = who.where(who.isin([*looks]), "another")
    rules = says["rule"].unique()
    width = 4.5 * len(rules)
    fig = plt.figure(figsize=(width, 3.2), layout="constrained")
    axes = fig.subplots(1, len(rules), sharey=True)
    for ax, rule in zip(axes, rules, strict=True):
        mine = says["rule"] == rule
        counted = pd.crosstab(says["ms"][mine], who[mine]).rename(index="{:g}".format)
        _stacked_bars(ax, counted.reindex(columns=[*looks], fill_value=0), looks)
        ax.set_title(rule, loc="left")
        ax.set_xlabel("added delay (ms)")
    axes[0].set_ylabel("runs")
    axes[-1].legend(title="named", loc="center left", bbox_to_anchor=(1, 0.5))


def _stacked_bars(ax: Axes, counts: pd.DataFrame, looks: dict[str, Look]) -> None:
    """Draw a bar a row with a part a column, and the number of each part that is not empty."""
    below = counts.cumsum(axis=1) - counts
    for name, look in looks.items():
        n = counts[name]
        bars = ax.bar(counts.index, n, bottom=below[name], ec=BLACK, label=name, **look)
        numbers = n.astype(str).where(n > 0, "")
        ax.bar_label(bars, numbers, label_type="center", **ON_BARS)


def sure_growth(before: tuple[int, int], now: tuple[int, int]) -> None:
    """Draw what k of n prove before and now, as intervals at `N_SIGMA` standard errors, and the gap
    between them.
    """
    ax = new_axes(7, 2)
    _, highest_before = _proven(ax, 0, before, (BLUE, "o"))
    lowest_now, _ = _proven(ax, 1, now, (VERMILLION, "X"))
    gap = f"grown for sure: {lowest_now - highest_before:.3f}"
    ax.axvspan(highest_before, lowest_now, color=GREEN, alpha=0.3, label=gap)
    ax.text(highest_before, -0.15, f"{highest_before:.3f}", ha="center", va="top")
    ax.text(lowest_now, 1.15, f"{lowest_now:.3f}", ha="center", va="bottom")
    labels = [
        f"before: {before[0]} of {before[1]}",
        f"now: {now[0]} of {now[1]}",
    ]
    ax.set_yticks([0, 1], labels)
    ax.set(xlabel="share of orders that stop", xlim=(-0.02, 0.65), ylim=(-0.6, 1.6))
    ax.legend(loc="lower right")


def _proven(
    ax: Axes, y: int, counted: tuple[int, int], look: tuple[str, str]
) -> tuple[float, float]:
    """Draw the share k of n at height `y`, and return the ends of its interval."""
    k, n = counted
    colour, marker = look
    low, high = wilson(k, n, N_SIGMA)
    ax.plot([low, high], [y, y], color=colour, lw=3)
    ax.plot(k / n, y, marker, color=colour, ms=9)
    return low, high


def lost_spans(table: pd.DataFrame) -> None:
    """Draw what becomes of a calm recording that loses spans: in how many draws somebody innocent
    is named, and how many of the spans that are left are orphans.

    `table`: a row a draw with lost (a text), named (an endpoint or "nobody") and orphans (a share).
    """
    looks: dict[str, Look] = {
        "nobody": {"fc": "white"},
        "an innocent": {"fc": VERMILLION, "hatch": "//"},
    }
    who = table["named"].where(table["named"] == "nobody", "an innocent")
    in_order = table["lost"].unique()
    counted = pd.crosstab(table["lost"], who).reindex(index=in_order, columns=[*looks])
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    _stacked_bars(left, counted.fillna(0).astype(int), looks)
    left.set(xlabel="spans lost", ylabel="draws")
    left.legend(title="named", loc="center left", bbox_to_anchor=(1, 0.5))
    right.plot(table["lost"], 100 * table["orphans"], ls="none", marker="o", color=BLUE, mfc="none")
    right.margins(x=0.3)
    right.set(xlabel="spans lost", ylabel="orphans (% of the spans)", ylim=(0, None))


def excess_and_own(table: pd.DataFrame) -> None:
    """Draw the excess and the own excess of each node: the columns excess and own."""
    ax = new_axes(7, 3.8)
    nodes = table.index
    ax.plot(table["excess"], nodes, label="excess", ms=10, **RING)
    ax.plot(table["own"], nodes, label="own excess", **CROSS)
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
    for node, look in zip(latency.columns, LINE_LOOKS, strict=True):
        ms = latency[node] * 1e3
        ax.plot(seconds, ms, label=node, **look)
    ax.axvline(fault_s, color=BLACK, ls=":", label="the network gets slow")
    ax.set(xlabel="second", ylabel="mean latency (ms)", ylim=(0, None))
    ax.legend(loc="upper left")
