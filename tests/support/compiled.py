"""Compile what a replay needs: once, before several processes need it.

``python -m tests.support.compiled`` fills the cache on disk.
"""

from __future__ import annotations

from unittest.mock import patch

import aiops_lab as lab
from aiops_lab import numerics
from tests.support.made import Shop, fault

MUCH = 10**9  # values, more than any function takes as plain Python


def compile_a_replay() -> None:
    """Replay a small recording as if it were a long one."""
    frame = Shop(1, fault("/payment", 40, 60, status=500)).run(70)
    with patch.object(numerics, "_values_in", lambda arguments: MUCH):
        (incident,) = lab.replay(frame).incidents
    assert incident.root_cause.endpoint == "/payment"


if __name__ == "__main__":
    compile_a_replay()
