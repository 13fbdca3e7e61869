"""What is expected on cases that nobody here has looked at, beside what the seen ones reach.

Each expectation is a number of `docs/preregistration.md`, in the form in which it is checked from
outside. On the seen cases it is a fit: held there says little, missed says much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from aiops_lab.show import plots
from benchmarks._tables import Grid, Table

TOLD = "always the same"  # it knows the answers, so it is no rival
ALONE = "service, by traces alone"
OF_A_HOST = "node"  # Cloud-OpsBench's group of faults of a whole host

Measured = Iterator[tuple[str, float, float]]
"""What is measured, in percent or points: of what, how much is expected, how much there is."""


OTHER_KINDS = (
    "Nezha's TrainTicket by traces alone: 88.2 is expected of the 17 kept cases of another day, of "
    "which a ranker by traces alone is known to find 15. It is no forecast for wrong returns and "
    "exceptions, which are 24 of the 28 seen cases, and which leave their traces in log lines."
)


class Expectation(NamedTuple):
    """How the tables of a title are held to a number."""

    title: str
    measured: Callable[[Table], Measured]


def right_of(table: Table, least: float, what: str, system: str = "") -> Measured:
    """Yield the share of right answers of this package in percent, of all cases or of a system."""
    mine = [asked.system == system or not system for asked in table.asked]
    ours = table.right[table.rows[0].method]
    judged = [right for right, counts in zip(ours, mine, strict=True) if counts]
    if judged:
        yield what, least, 100 * sum(judged) / len(judged)


def beside_rivals(table: Table, together: float) -> Measured:
    """Yield on each system the share of right answers, expected as that of the best rival; and that
    of all faults of services.
    """
    frame = pd.DataFrame(table.right).assign(system=[asked.system for asked in table.asked])
    services = frame[frame["system"] != OF_A_HOST]
    ours = table.rows[0].method
    for system, some in services.groupby("system"):
        shares = 100 * some.drop(columns=["system", TOLD]).mean()
        best = shares.drop(ours)
        yield f"{system}: as {best.idxmax()}, the best rival", best.max(), shares[ours]
    yield "all faults of services", together, 100 * services[ours].mean()
    yield "with those of hosts", together, 100 * frame[ours].mean()


def silent_of(table: Table, least: float) -> Measured:
    """Yield the share of windows without a fault in which this package says nothing."""
    place = table.columns.index("silent, %")
    yield "silent on normal windows", least, _first_number(table.rows[0].others[place])


def replayed_of(table: Table) -> Measured:
    """Yield the share of slowdowns that a replay finds, and of those without an incident before."""
    found = dict(zip(table.columns, table.rows[0].others, strict=True))
    yield "slowdowns found by replay", 90.0, _first_number(found["found by replay, %"])
    yield "no incident before them", 100.0, _first_number(found["none before, %"])


def _first_number(told: str) -> float:
    """Return the estimate of a cell that shows an interval, too."""
    return float(told.split()[0])


def estimate_of(table: Table, least: float, what: str, row: int = 0) -> Measured:
    """Yield the estimate of a row."""
    yield what, least, table.rows[row].estimate.value


def profiles_of(table: Table) -> Measured:
    """Yield NAB's three profiles."""
    standard, others = table.rows[0].estimate.value, table.rows[0].others
    yield "standard profile", 66.0, standard
    yield "low FP", 61.0, float(others[0])
    yield "low FN", 70.0, float(others[1])


EXPECTATIONS = (
    Expectation("PetShop", partial(right_of, least=100 * 47 / 48, what="top-1")),
    Expectation("PetShop", partial(silent_of, least=95.0)),
    Expectation("Cloud-OpsBench", partial(beside_rivals, together=88.0)),
    Expectation("RCD", partial(right_of, least=100 * 22 / 23, what="top-1")),
    Expectation(
        "Nezha: traces alone",
        partial(right_of, least=100 * 27 / 29, what=ALONE, system="OnlineBoutique"),
    ),
    Expectation(
        "Nezha: traces alone",
        partial(right_of, least=100 * 15 / 17, what=ALONE, system="TrainTicket"),
    ),
    Expectation(
        "Nezha: traces, logs and metrics",
        partial(right_of, least=100 * 42 / 45, what="service, with everything"),
    ),
    Expectation("DeLag", partial(right_of, least=100.0, what="top-1")),
    Expectation("DeLag", replayed_of),
    Expectation("NAB", profiles_of),
    Expectation("WSD", partial(estimate_of, least=58.0, what="F1 of events")),
    Expectation("AIOPS", partial(estimate_of, least=45.0, what="F1 of events")),
    Expectation(
        "UCR", partial(estimate_of, least=45.0, what='right, method="matrix-profile"', row=1)
    ),
)


def expected(tables: Sequence[Table]) -> Grid | None:
    """Return each expectation beside what the tables reach; None where none applies."""
    rows = []
    for table in tables:
        for expectation in EXPECTATIONS:
            if table.title.startswith(expectation.title):
                found = expectation.measured(table)
                rows += [_row(table, *measured) for measured in found]
    if not rows:
        return None
    head = ["cases", "measure", "expected, at least", "reached", ""]
    names = [name for name, *_ in rows]
    frame = pd.DataFrame([cells for _, *cells in rows], pd.Index(names, name="set"), head)
    note = (
        "Expected on cases that nobody here has looked at; on those seen while tuning what is "
        "reached is a fit."
    )
    return Grid("What is expected of cases that were never looked at", frame, [note, OTHER_KINDS])


def picture(held: Grid) -> Figure:
    """Return what is reached as bars, each with a line at what is expected."""
    rows = held.frame[::-1]  # the first one on top
    expected = rows["expected, at least"].astype(float)
    reached = rows["reached"].astype(float)
    is_missed = rows[""] != "held"
    colours = np.where(is_missed, plots.VERMILLION, plots.BLUE)
    figure = Figure(figsize=(8.5, 0.3 * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(rows)), reached, color=colours, height=0.6)
    for bar, missed in zip(bars, is_missed, strict=True):
        bar.set_hatch("//" if missed else "")
        bar.set_edgecolor("white")
    axes.plot(expected, range(len(rows)), "|", color="black", markersize=13, markeredgewidth=2)
    systems = rows["cases"].str.partition(",")[0]
    is_day = systems.str.contains(r"\d{4}-\d\d-\d\d")
    named = rows.index + np.where(is_day, " " + systems.str.partition(" ")[0], "")
    axes.set_yticks(range(len(rows)), named + ": " + rows["measure"], fontsize=8)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% or points")
    for place, value in enumerate(reached):
        axes.annotate(f"{value:.0f}", (111, place), va="center", ha="right", fontsize=8)
    marks = [
        Patch(color=plots.BLUE, label="reached, held"),
        Patch(facecolor=plots.VERMILLION, edgecolor="white", hatch="//", label="reached, missed"),
        Line2D([], [], color="black", marker="|", linestyle="", markersize=12, label="expected"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _row(table: Table, what: str, least: float, reached: float) -> list[str]:
    held = "held" if reached >= least - 1e-9 else "**missed**"
    name = table.title.partition(":")[0]
    return [name, table.cases, what, f"{least:.1f}", f"{reached:.1f}", held]
