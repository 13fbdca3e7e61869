"""Sustained shifts: a small rise of the latency or of the failures that lasts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector, WindowRequests
from aiops_lab.detect.detectors.errors import error_spike
from aiops_lab.detect.detectors.latency import latency_anomaly
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity

SMALL_RATIO = 2.0
"""Up to this ratio a rise of the latency is small, and the severity low. Raising it makes more of
them low."""

SMALL_RISE = 0.1
"""Up to this rise of the share of failures, of all requests, it is small, and the severity low.
Raising it makes more of them low."""


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where the sequential test reports that latency or failures have risen, to stay.

    Windows that are slow or failing by themselves do not count.
    """
    compared = (windows["n"] >= s.min_window) & baselines["known"]
    slower = windows["risen"] & ~baselines["long_lived"]
    return (
        compared
        & (slower | windows["more_errors"])
        & ~latency_anomaly.decide(windows, baselines, s)
        & ~error_spike.decide(windows, baselines, s)
    )


def _evidence(row: Any) -> dict[str, Any]:
    """Return what has risen, from where to where (ms, or shares from 0 to 1), and for how long."""
    found = {"lasts_s": row.lasts_s}
    if row.risen and not row.baseline.long_lived:
        found["baseline_ms"] = row.steady_ms
        found["current_ms"] = row.lasting_ms
        found["deviation"] = row.lasting_ms / row.steady_ms
    if row.more_errors:
        found["baseline_error_rate"] = row.steady_error_rate
        found["error_rate"] = row.lasting_error_rate
    return found


def _severity(found: dict[str, Any]) -> str:
    """Return "low", or "medium" above `SMALL_RATIO` or `SMALL_RISE`."""
    return "medium" if _is_slow(found) or _is_failing(found) else "low"


def _is_slow(found: dict[str, Any]) -> bool:
    return found.get("deviation", 1.0) > SMALL_RATIO


def _is_failing(found: dict[str, Any]) -> bool:
    return found.get("error_rate", 0.0) - found.get("baseline_error_rate", 0.0) > SMALL_RISE


def _heading(found: dict[str, Any]) -> str:
    """Return what has risen, where it is not small."""
    if _is_failing(found):
        return "Lasting rise of failures"
    return "Lasting rise of latency" if _is_slow(found) else "Small lasting shift"


def _describe(found: dict[str, Any]) -> str:
    """Return the evidence in one line."""
    told = [f"for {found['lasts_s']:.0f} s"]
    if "deviation" in found:
        told.append(
            f"{found['current_ms']:.0f}ms (baseline: {found['baseline_ms']:.0f}ms, "
            f"{found['deviation']:.2f}x slower)"
        )
    if "error_rate" in found:
        told.append(
            f"{found['error_rate']:.1%} of requests failed "
            f"(baseline: {found['baseline_error_rate']:.1%})"
        )
    return ", ".join(told)


def _shows(requests: WindowRequests, found: dict[str, Any], s: Sensitivity) -> NDArray:
    """Return the failed requests, and those nearer to the risen latency than to the usual one."""
    shown = np.zeros(requests.failed.size, bool)
    if "error_rate" in found:
        shown |= requests.failed
    if "deviation" in found:
        middle = np.log(found["baseline_ms"] * found["current_ms"]) / 2
        shown |= requests.log_ms > middle
    return shown


sustained_shift = Detector(
    name="sustained_shift",
    title="Small lasting shift",
    column="shifted",
    decide=_decide,
    evidence=_evidence,
    severity=_severity,
    describe=_describe,
    size=("deviation", "error_rate"),
    heading=_heading,
    is_faint=True,
    lasts="lasts_s",
    shows=_shows,
    with_messages=True,
    halts_shift_test=False,
    mark=("green", "^"),
)
