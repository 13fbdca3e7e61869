"""Traffic drops: endpoints that no request reaches although some were due."""

from __future__ import annotations

from math import log
from typing import Any

from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.numerics import normal_tail

LONGEST_FACTOR = 1.5
"""How many times the longest silence so far must be exceeded. Raising it reports fewer drops."""


def silence_limit(z: float) -> float:
    """Return how many requests must be due until none is as unlikely as `z` (Poisson).

    Examples
    --------
    >>> round(silence_limit(3), 1)
    6.6
    """
    return -log(max(normal_tail(z), 1e-300))


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where the requests that were due and did not come are too many for chance.

    What is due is scaled by the traffic of the whole system, at most 1: in a quiet night no request
    is missing. It is also divided by the endpoint's own index of dispersion, so that bursts do not
    raise what is expected. The price: when all traffic stops at once, no drop is reported.
    """
    by_chance = windows["missed"] > silence_limit(s.z)
    unusual = windows["missed"] > LONGEST_FACTOR * windows["longest"]
    return baselines["known"] & by_chance & unusual


def _evidence(row: Any) -> dict[str, Any]:
    """Return how many requests were due, and that none came."""
    return {"expected_requests": row.missed, "requests": 0}


def _describe(found: dict[str, Any]) -> str:
    """Return the evidence in one line."""
    return f"no requests where {found['expected_requests']:.0f} were due"


traffic_drop = Detector(
    name="traffic_drop",
    title="Traffic drop",
    column="silent",
    decide=_decide,
    evidence=_evidence,
    describe=_describe,
    size="expected_requests",
    halts_shift_test=False,
    mark=("blue", "v"),
)
