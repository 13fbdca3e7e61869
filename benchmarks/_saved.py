"""How do tables survive the command that made them? As JSON, so that pages are made of one run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

import pandas as pd

from benchmarks._tables import Asked, Estimate, Grid, Row, Table

PACKAGES = "numpy", "pandas", "numba", "river", "adtk", "dowhy", "sfr-pyrca"


def made_with() -> str:
    """Return the day, and the versions of Python and of what the figures depend on."""
    today = pd.Timestamp.now("UTC").date()
    there = [f"Python {python_version()}"]
    absent = []
    for name in PACKAGES:
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            absent.append(name)
    missing = f"; not installed: {', '.join(absent)}" if absent else ""
    return f"{today}, {', '.join(there)}{missing}"


class Saved(NamedTuple):
    """Tables, when and with what they were made, and of which public sets (None: not told)."""

    tables: list[Table]
    made: str
    sets: list[str] | None


def write(tables: Sequence[Table], made: str, sets: Sequence[str], path: Path) -> None:
    """Write tables, when and with what they were `made`, and of which public `sets`."""
    each = [_told(table) for table in tables]
    told = {"made": made, "sets": list(sets), "tables": each}
    path.write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")


def read(path: Path) -> Saved:
    """Return what a file holds."""
    told = json.loads(path.read_text("utf-8"))
    tables = [_table(each) for each in told["tables"]]
    return Saved(tables, told["made"], told.get("sets"))


def _told(table: Table) -> dict[str, Any]:
    told = vars(table) | {"rows": [row._asdict() for row in table.rows]}
    if table.beside is not None:
        grid = vars(table.beside)
        told["beside"] = grid | {"frame": table.beside.frame.to_dict("split")}
    return told


def _table(told: dict[str, Any]) -> Table:
    rows = [_row(row) for row in told["rows"]]
    asked = [Asked(*each) for each in told["asked"]]
    made = {"rows": rows, "asked": asked, "columns": tuple(told["columns"])}
    table = Table(**told | made)
    if told["beside"] is not None:
        frame = pd.DataFrame(**told["beside"]["frame"])
        table.beside = Grid(**told["beside"] | {"frame": frame})
    return table


def _row(told: dict[str, Any]) -> Row:
    estimate = Estimate(*told["estimate"])
    return Row(**told | {"estimate": estimate, "others": tuple(told["others"])})
