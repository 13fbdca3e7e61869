"""When does a monitor look at the traffic? In the background, shortly after a window has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from aiops_lab.background import in_background
from aiops_lab.logs import get_logger

_log = get_logger(__name__)

JUST_AFTER_S = 0.05  # after the end of a window and the grace period


@contextmanager
def stepping(step: Callable[[], object], interval_s: float, grace_s: float) -> Iterator[None]:
    """Call `step` every `interval_s` seconds while the block runs.

    What it raises is logged; one failed step must not end the monitoring.
    """

    def watch(stop: Event) -> None:
        while not stop.wait(until_next_step(time.time(), interval_s, grace_s)):
            try:
                step()
            except Exception:
                _log.exception("the monitor's step failed")

    with in_background("monitor", watch):
        yield


def until_next_step(now_s: float, interval_s: float, grace_s: float) -> float:
    """Return the seconds until shortly after the next window is ready for analysis."""
    return interval_s - (now_s - grace_s - JUST_AFTER_S) % interval_s
