"""When a monitor steps, and that one step that fails does not end it."""

from __future__ import annotations

import logging
import threading

import pytest

from aiops_lab.show.stepping import stepping, until_next_step
from tests.support.serving import wait_for


@pytest.mark.parametrize(
    ("now", "waits"), [(1000.0, 1.05), (1001.0, 0.05), (1001.1, 9.95), (1009.0, 2.05)]
)
def test_a_step_comes_when_a_window_has_just_become_ready(now, waits):
    assert until_next_step(now, interval_s=10.0, grace_s=1.0) == pytest.approx(waits)


def test_steps_go_on_after_one_that_failed_and_end_with_the_block(caplog):
    steps = []

    def step() -> None:
        steps.append(1)
        if len(steps) == 1:
            raise RuntimeError("no space left")

    with caplog.at_level(logging.ERROR), stepping(step, 0.001, 0.0):
        wait_for(lambda: len(steps) >= 3)
    assert "the monitor's step failed" in caplog.text
    assert "no space left" in caplog.text
    assert "monitor" not in {thread.name for thread in threading.enumerate()}
