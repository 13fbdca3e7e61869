"""How does this package stand beside its best rivals? A panel a public set, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks._tables import Row, Table, picture

OURS = "this package"
TOLD = "always the same"  # it knows the answers, so it is no rival
RIVALS = 3


def overview(tables: Sequence[Table]) -> Figure:
    """Return a panel a table: this package, and the rivals that reach most."""
    return picture([_best_of(table) for table in tables], columns=3)


def _best_of(table: Table) -> Table:
    ours = [row for row in table.rows if row.family == OURS]
    others = [row for row in table.rows if row.family != OURS and row.method != TOLD]
    best_first = sorted(others, key=_estimate, reverse=True)
    rows = [*ours, *best_first[:RIVALS]]
    name, _, of_what = table.title.partition(": ")
    return Table(name, f"{of_what}\n{table.cases.partition(', seen')[0]}", table.measure, rows)


def _estimate(row: Row) -> float:
    return row.estimate.value
