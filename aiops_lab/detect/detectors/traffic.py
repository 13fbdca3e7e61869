"""Traffic drops: endpoints that no request reaches although some were due."""

from __future__ import annotations

from math import log
from typing import Any

from numpy.typing import NDArray

from aiops_lab.detect.detectors.detector import Detector
from aiops_lab.detect.scoring import Columns
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.shifts import WEEK_S
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


def silence_run_limit(run_length_weeks: float, window_s: float) -> float:
    """Return how many requests must be due until, by chance, none comes once in the run length.

    A window can be the last one before a silence, and it is with the probability e⁻ᵐ that then no
    request comes of m that are due. So this is the log of the windows in the run length. That is a
    bound: a silence can only be as long as whole windows, and not every window can begin one.

    Examples
    --------
    >>> round(silence_run_limit(100, window_s=10), 1)
    15.6
    """
    return log(run_length_weeks * WEEK_S / window_s)


def _decide(windows: Columns, baselines: Columns, s: Sensitivity) -> NDArray:
    """Return where the requests that were due and did not come are too many for chance: in one
    silence (`z`), and in as many as there are in the run length.

    What is due is scaled by the traffic of the whole system, at most 1: in a quiet night no request
    is missing. It is also divided by the endpoint's own index of dispersion, so that bursts do not
    raise what is expected. The price: when all traffic stops at once, no drop is reported.
    """
    of_all = silence_run_limit(s.run_length_weeks, s.window_s)
    significant = windows["missed"] > max(silence_limit(s.z), of_all)
    unusual = windows["missed"] > LONGEST_FACTOR * windows["longest"]
    return baselines["known"] & significant & unusual


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
    size=("expected_requests",),
    halts_shift_test=False,
    mark=("blue", "v"),
)
