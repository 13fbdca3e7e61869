"""Latency spikes: windows that are slower than their baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector, WindowRequests
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity

HIGH_RATIO = 5.0
"""From this ratio on the severity is high. Raising it makes high severities rarer."""


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where the latency is above its baseline by ratio, by significance and in ms.

    The test is on the mean of log milliseconds: latencies are skewed to the right, their logarithms
    hardly. It errs where these have two modes (cache hit or miss) and a window has few requests:
    there, slow windows arise by chance. The ratio must also hold against answers without an error:
    when errors end that were answered at once, nothing has become slower.
    """
    compared = (windows["n"] >= s.min_window) & ~baselines["learning"]
    compared &= ~baselines["long_lived"]
    large = (windows["ratio"] > s.ratio) & (windows["ratio_ok"] > s.ratio)
    significant = windows["z"] > s.z
    rise_ms = windows["latency_ms"] - windows["baseline_ms"]
    return compared & large & significant & (rise_ms > s.min_ms)


def _evidence(row: Any) -> dict[str, Any]:
    """Return the latency now and usually (ms), their ratio and z."""
    return {
        "baseline_ms": row.baseline_ms,
        "current_ms": row.latency_ms,
        "deviation": row.ratio,
        "z": row.z,
    }


def _severity(found: dict[str, Any]) -> str:
    """Return "high" above `HIGH_RATIO`, else "medium"."""
    return "high" if found["deviation"] > HIGH_RATIO else "medium"


def _describe(found: dict[str, Any]) -> str:
    """Return the evidence in one line."""
    return (
        f"{found['current_ms']:.0f}ms (baseline: {found['baseline_ms']:.0f}ms, "
        f"{found['deviation']:.1f}x slower)"
    )


def _shows(requests: WindowRequests, found: dict[str, Any], s: Sensitivity) -> NDArray:
    """Return the requests that are themselves slower than the ratio allows."""
    return requests.log_ms > np.log(s.ratio * found["baseline_ms"])


latency_anomaly = Detector(
    name="latency_anomaly",
    title="Latency spike",
    column="slow",
    decide=_decide,
    evidence=_evidence,
    severity=_severity,
    describe=_describe,
    size=("deviation",),
    shows=_shows,
    mark=("vermillion", "o"),
)
