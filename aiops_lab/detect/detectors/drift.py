"""Latency drifts: a rise that lasts but is too small for a latency spike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector, WindowRequests
from aiops_lab.detect.detectors.errors import error_spike
from aiops_lab.detect.detectors.latency import latency_anomaly
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where the fast average is above the slow one, outside of its usual envelope.

    Above by ratio, by significance and in ms; and above the envelope by as much as it is wide.
    Windows that are slow or failing by themselves do not count.
    """
    compared = (windows["n"] >= s.min_window) & baselines["known"]
    compared &= ~baselines["long_lived"]
    gap = windows["gap"]
    large = (gap > np.log(s.drift)) & (windows["gap_z"] > s.z)
    outside = gap > 2 * baselines["high"] - baselines["low"]
    rise_ms = windows["fast_ms"] - windows["slow_ms"]
    drifts = compared & large & outside & (rise_ms > s.min_ms)
    return (
        drifts
        & ~latency_anomaly.decide(windows, baselines, s)
        & ~error_spike.decide(windows, baselines, s)
    )


def _evidence(row: Any) -> dict[str, Any]:
    """Return the fast and the slow average (ms), and their ratio."""
    return {
        "baseline_ms": row.slow_ms,
        "current_ms": row.fast_ms,
        "deviation": row.fast_ms / row.slow_ms,
    }


def _describe(found: dict[str, Any]) -> str:
    """Return the evidence in one line."""
    return (
        f"{found['current_ms']:.0f}ms (baseline: {found['baseline_ms']:.0f}ms, "
        f"{found['deviation']:.2f}x slower)"
    )


def _shows(requests: WindowRequests, found: dict[str, Any], s: Sensitivity) -> NDArray:
    """Return the requests that are themselves slower than the drift."""
    return requests.log_ms > np.log(s.drift * found["baseline_ms"])


latency_drift = Detector(
    name="latency_drift",
    title="Latency drift",
    column="drifting",
    decide=_decide,
    evidence=_evidence,
    describe=_describe,
    size="deviation",
    shows=_shows,
    holds_fast_average=False,
    mark=("green", "^"),
)
