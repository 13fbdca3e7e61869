"""Timeouts: endpoints with requests that hang, or that their callers gave up."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector, WindowRequests
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where enough requests are stuck, or were given up by their callers.

    A request hangs because of its age. That no request arrives is another matter.
    """
    unanswered = np.maximum(windows["stuck"], windows["given_up"])
    awaited = ~baselines["learning"] & ~baselines["long_lived"]
    return awaited & (unanswered >= s.min_window)


def _evidence(row: Any) -> dict[str, Any]:
    """Return the age of the oldest open request (ms), and how many are open or were given up."""
    return {
        "age_ms": 1000 * row.oldest_s,
        "open_requests": row.stuck,
        "given_up_calls": row.given_up,
    }


def _describe(found: dict[str, Any]) -> str:
    """Return the evidence in one line."""
    if found["open_requests"] == 0:
        return f"{found['given_up_calls']} calls were given up by their callers"
    return (
        f"{found['open_requests']} requests without an answer, "
        f"the oldest for {found['age_ms'] / 1000:.1f} s"
    )


def _shows(requests: WindowRequests, found: dict[str, Any], s: Sensitivity) -> NDArray:
    """Return the open requests that are old enough to count as hanging."""
    return requests.age_s >= int(s.timeout_s * 1e9) / 1e9


timeout = Detector(
    name="timeout",
    title="Timeout",
    column="hanging",
    decide=_decide,
    evidence=_evidence,
    severity=lambda found: "high",
    describe=_describe,
    size=("age_ms",),
    shows=_shows,
    looks_at_open=True,
    mark=("black", "s"),
)
