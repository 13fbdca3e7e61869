"""How is a comparison shown? Rows with intervals, as markdown and as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aiops_lab.numerics import wilson
from aiops_lab.show import plots
from shop.experiments.text_tables import latex_table

Z_95 = 1.96
LOOKS = {  # of each family: colour and marker
    "this package": (plots.BLUE, "o"),
    "part removed": (plots.SKY, "d"),
    "conditions": (plots.GREEN, "v"),
    "classic rule": (plots.ORANGE, "s"),
    "peer": (plots.VERMILLION, "^"),
    "your own": (plots.PURPLE, "P"),
    "baseline": (plots.BLACK, "x"),
}


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} ({self.low:.1f}–{self.high:.1f})"


class Row(NamedTuple):
    """What one method reaches. ``others`` fills the table's further columns; ``cpu_s`` is a case's,
    None: not timed.
    """

    method: str
    family: str
    estimate: Estimate
    cpu_s: float | None
    tuned: str
    others: tuple[str, ...] = ()


class Asked(NamedTuple):
    """A case of a table: its system, and the kind of its fault ("": none is named)."""

    system: str
    kind: str


@dataclass
class Table:
    """Rows over the same ``cases``. ``measure`` heads the estimates, ``columns`` what `Row.others`
    hold. ``asked``: the cases; ``right``: of each method, whether it was right on each of them;
    both empty where a case is not simply right or wrong. ``beside``: the same by system where it
    cannot be counted from these.
    """

    title: str
    cases: str
    measure: str
    rows: list[Row]
    columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list, repr=False)
    right: dict[str, list[bool]] = field(default_factory=dict, repr=False)
    beside: Grid | None = None


def share(k: float, n: float) -> Estimate:
    """Return k of n in percent, with Wilson's interval.

    Examples
    --------
    >>> str(share(9, 10))
    '90.0 (59.6–98.2)'
    """
    low, high = wilson(k, n, Z_95)
    return Estimate(100 * k / n, max(100 * float(low), 0.0), 100 * float(high))


@dataclass
class Grid:
    """A table of text that has no common measure: a row a group, a column a method."""

    title: str
    frame: pd.DataFrame
    notes: list[str] = field(default_factory=list)


Shown = Table | Grid


def frame_of(shown: Shown) -> pd.DataFrame:
    """Return a table as text: its index holds the rows' names."""
    if isinstance(shown, Grid):
        return shown.frame
    timed = any(row.cpu_s is not None for row in shown.rows)
    last = ["CPU s a case", "tuned on"][: 2 * timed]
    head = ["", f"{shown.measure} (95 %)", *shown.columns, *last]
    rows = [_cells(row, len(shown.columns))[: len(head)] for row in shown.rows]
    names = [row.method for row in shown.rows]
    return pd.DataFrame(rows, pd.Index(names, name="method"), head)


def _cells(row: Row, width: int) -> list[str]:
    others = [*row.others, *[""] * (width - len(row.others))]
    cpu = "" if row.cpu_s is None else f"{row.cpu_s:.2g}"
    return [row.family, str(row.estimate), *others, cpu, row.tuned]


def markdown(tables: Iterable[Shown], head: str) -> str:
    """Return all tables, each with its notes, as one text."""
    return "\n\n".join([head, *(_markdown(table) for table in tables)]) + "\n"


def _markdown(shown: Shown) -> str:
    frame = frame_of(shown)
    head = [str(frame.index.name or ""), *frame.columns]
    rows = [[_bold(shown, str(name)), *cells] for name, *cells in frame.itertuples()]
    lines = [head, ["---"] * len(head), *rows]
    text = [f"## {shown.title}"]
    if isinstance(shown, Table):
        text.append(shown.cases[:1].upper() + shown.cases[1:] + ".")
    text.append("\n".join("| " + " | ".join(cells) + " |" for cells in lines))
    notes = "\n".join(f"* {note}" for note in shown.notes)
    return "\n\n".join([*text, *([notes] if notes else [])])


def _bold(shown: Shown, name: str) -> str:
    if isinstance(shown, Grid):
        return name
    ours = {row.method for row in shown.rows if row.family == "this package"}
    return f"**{name}**" if name in ours else name


def latex(tables: Iterable[Shown]) -> str:
    """Return all tables as LaTeX: `pandas.DataFrame.to_latex`, for the package booktabs. Notes are
    comments above each.
    """
    return "\n".join(map(_latex, tables))


def _latex(shown: Shown) -> str:
    bold = frame_of(shown)
    frame = bold.rename(index=_plain).map(_plain)
    caption = shown.title + (f" ({shown.cases})" if isinstance(shown, Table) else "")
    return latex_table(frame, caption, shown.notes)


def _plain(text: object) -> str:
    """Return a text without the signs of bold ones in markdown."""
    return str(text).replace("**", "")


def picture(tables: Sequence[Table], columns: int = 2) -> Figure:
    """Return the estimates as a figure, a panel a table."""
    figure = Figure(layout="constrained")
    rows = -(-len(tables) // columns)
    heights = [
        max(len(t.rows) for t in tables[i * columns : (i + 1) * columns]) + 4 for i in range(rows)
    ]
    figure.set_size_inches(6.6 * columns, 0.26 * sum(heights) + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    for axes, table in zip(panels.flat, tables, strict=False):
        _panel(axes, table)
    for axes in panels.flat[len(tables) :]:
        axes.set_axis_off()
    families = [f for f in LOOKS if any(row.family == f for table in tables for row in table.rows)]
    marks = [
        Line2D([], [], color=LOOKS[f][0], marker=LOOKS[f][1], linestyle="", label=f)
        for f in families
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(families), frameon=False)
    return figure


def _panel(axes: Axes, table: Table) -> None:
    for place, row in enumerate(table.rows):
        colour, marker = LOOKS[row.family]
        axes.hlines(place, row.estimate.low, row.estimate.high, color=colour, linewidth=2)
        axes.plot(row.estimate.value, place, marker, color=colour, markersize=7)
    axes.set_yticks(range(len(table.rows)), [row.method for row in table.rows])
    axes.set(ylim=(len(table.rows) - 0.4, -0.6), xlim=(-2, 102), xlabel=table.measure)
    axes.set_title(f"{table.title}\n{table.cases}", fontsize=9, loc="left")
    axes.grid(axis="x", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
