"""Error spikes: windows with a larger share of failed requests than their baseline."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector, WindowRequests
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.numerics import normal_tail

CRITICAL_RATE = 0.5
"""Above this share of errors the severity is critical. Raising it makes that rarer."""

HIGH_RATE = 0.2
"""Above this share of errors the severity is high. Raising it makes that rarer."""


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where the share of errors is surely above the usual share plus a margin.

    By Wilson's lower bound, and by the exact chance of so many: with three requests the bound alone
    decides too early.
    """
    compared = (windows["n"] >= s.min_window) & ~baselines["learning"]
    above = windows["error_low"] > windows["baseline_error_rate"] + s.error_margin
    return compared & above & (windows["error_chance"] < normal_tail(s.z))


def _evidence(row: Any) -> dict[str, Any]:
    """Return the share of errors now and usually (0 to 1), errors and requests."""
    return {
        "error_rate": row.error_rate,
        "baseline_error_rate": row.baseline_error_rate,
        "errors": row.errors,
        "requests": row.n,
    }


def _severity(found: dict[str, Any]) -> str:
    """Return the severity by the raw share of errors."""
    if found["error_rate"] > CRITICAL_RATE:
        return "critical"
    return "high" if found["error_rate"] > HIGH_RATE else "medium"


def _describe(found: dict[str, Any]) -> str:
    """Return the evidence in one line."""
    return (
        f"{found['error_rate']:.0%} of requests failed "
        f"(baseline: {found['baseline_error_rate']:.0%})"
    )


def _shows(requests: WindowRequests, found: dict[str, Any], s: Sensitivity) -> NDArray:
    """Return the failed requests."""
    return requests.failed


error_spike = Detector(
    name="error_spike",
    title="Error spike",
    column="failing",
    decide=_decide,
    evidence=_evidence,
    severity=_severity,
    describe=_describe,
    size=("error_rate",),
    shows=_shows,
    with_messages=True,
    mark=("purple", "X"),
)
