"""What became worse: the ratios of a run against limits that are kept in a file.

Only ratios of two sides that were measured in one run are guarded, and counts that must be 0;
times depend on the machine. A limit is the goal, or where the goal is missed what was reached
when the limit was set, with a margin for a busy machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path

from benchmarks.ratios.measured import Measured

LIMITS = Path(__file__).with_name("limits.toml")


def limits(file: Path = LIMITS) -> dict[str, float]:
    """Return the limit of each guarded figure."""
    return {str(name): float(value) for name, value in tomllib.loads(file.read_text()).items()}


def worse(rows: Iterable[Measured], kept: dict[str, float] | None = None) -> list[str]:
    """Return a line a figure that is beyond its limit."""
    known = limits() if kept is None else kept
    told = []
    for row in rows:
        limit = known.get(row.what)
        if limit is None:
            continue
        beyond = row.value < limit if row.at_least else row.value > limit
        if beyond:
            told.append(f"{row.what}: {row.value:.3g}, limit {limit:.3g}")
    return told
