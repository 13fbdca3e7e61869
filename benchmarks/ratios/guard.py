"""What became worse: the ratios of a run against limits that are kept in a file.

Only ratios of two sides that were measured in one run are guarded, and counts that must be 0;
times depend on the machine. A limit is the goal, or where the goal is missed what was reached
when the limit was set, with a margin for a busy machine. The file has a table for the usual sizes
and one for the large ones.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from benchmarks.ratios.measured import Measured

LIMITS = Path(__file__).with_name("limits.toml")


def limits(large: bool, file: Path = LIMITS) -> dict[str, float]:
    """Return the limit of each guarded figure of a run."""
    kept = tomllib.loads(file.read_text("utf-8"))["large" if large else "usual"]
    return {str(name): float(value) for name, value in kept.items()}


def missing(rows: Iterable[Measured], kept: dict[str, float]) -> list[str]:
    """Return a line a guarded figure that was not measured."""
    known = {row.what for row in rows}
    return [f"{name}: not measured, limit {kept[name]:.3g}" for name in kept if name not in known]


def worse(rows: Iterable[Measured], kept: dict[str, float]) -> list[str]:
    """Return a line a figure that is beyond its limit, or is no number."""
    told = []
    for row in rows:
        limit = kept.get(row.what)
        if limit is None:
            continue
        is_within = row.value >= limit if row.at_least else row.value <= limit
        if not is_within:
            told.append(f"{row.what}: {row.value:.3g}, limit {limit:.3g}")
    return told
