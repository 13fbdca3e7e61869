"""Faults of RCD's sock shop as cases: cpu and memory of 13 services, without a call graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_lab.datasets.cases import Case, MetricsCase, ReadCases
from aiops_lab.datasets.files import NUMBERS, check_kinds, csv_table, wrong

if TYPE_CHECKING:
    import pandas as pd

SOCK_SHOP = "sockshop"


def read_rcd(directory: Path) -> ReadCases:
    """Return a case for each fault; none is left out.

    Normal and abnormal were recorded days apart, a row a second.
    """
    return list(_cases(directory)), []


def _cases(directory: Path) -> Iterator[Case]:
    folders = filter(Path.is_dir, directory.glob("*-*-*"))
    for folder in sorted(folders):
        service, fault, _ = folder.name.rsplit("-", 2)
        yield MetricsCase(
            name=f"{SOCK_SHOP}/{folder.name}",
            group=SOCK_SHOP,
            truth=service,
            normal=_metrics(folder, "normal"),
            abnormal=_metrics(folder, "anomalous"),
            calls=None,
            target=None,
            fault=fault,
        )


def _metrics(folder: Path, name: str) -> pd.DataFrame:
    """Return ``service_metric`` columns by time (Unix s)."""
    plain = folder / f"{name}.csv"
    path = plain if plain.is_file() else plain.with_suffix(".csv.gz")
    frame = csv_table(path, ("time",)).set_index("time")
    if frame.empty:
        raise wrong(path, "has no rows")
    check_kinds(path, frame, dict.fromkeys(frame.columns, NUMBERS))
    if not (frame.index.is_monotonic_increasing and frame.index.is_unique):
        raise wrong(path, "intervals must be in order, each once")
    return frame
