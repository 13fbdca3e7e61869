"""Twelve more recordings for lesson 04, on which its settings were counted beforehand.

``python -m shop.course.elsewhere`` counts them anew and writes elsewhere.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.detect.detectors import latency_anomaly
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.evaluate.scoring import score
from aiops_lab.replaying import replay
from shop.course.counting import alarm_where, graded
from shop.course.waiting import steps

COUNTED_FILE = Path(__file__).with_name("elsewhere.csv")

SEEDS = range(21, 33)

BASE = Sensitivity(correlation_s=60, resolve_after_s=70)

RATIOS = (1.25, 1.5, 1.75, 2, 3)

ZS = (1, 2, 3, 4)

LIMITS_MS = (60, 65, 70, 75, 85, 100, 150, 200)

COUNTS = ("pages", "missed_minutes", "precision", "recall", "hours")


def counted_before() -> pd.DataFrame:
    """Return what was counted beforehand: a row for each recording (seed) and setting (name)."""
    return pd.read_csv(COUNTED_FILE)


def count_one(seed: int) -> pd.DataFrame:
    """Return the rows of one recording, counted now."""
    spans, faults = graded(seed)
    rows = []
    for name, how in _settings():
        report = replay(spans, how.pop("sensitivity", BASE), causes=False, **how)
        found = score(report, faults)
        counts = {column: getattr(found, column) for column in COUNTS}
        rows.append({"seed": seed, "name": name, **counts})
    return pd.DataFrame(rows)


def _settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each setting's name, and how a recording is replayed with it."""
    for ratio in RATIOS:
        for z in ZS:
            sensitivity = replace(BASE, ratio=ratio, z=z)
            how = {"sensitivity": sensitivity, "detectors": (latency_anomaly,)}
            yield f"ratio {ratio:g}, z {z:g}", how
    for limit_ms in LIMITS_MS:
        yield f"limit {limit_ms}", {"detectors": (_above(limit_ms),)}
    yield "all", {}


def _above(limit_ms: float) -> Any:
    def which(windows: pd.DataFrame) -> pd.Series:
        is_payment = windows["endpoint"] == "/payment"
        return is_payment & (windows["latency_ms"] > limit_ms)

    return alarm_where(which)


if __name__ == "__main__":
    tables = [count_one(seed) for seed in steps(SEEDS, "recording")]
    pd.concat(tables).round(4).to_csv(COUNTED_FILE, index=False, lineterminator="\n")
