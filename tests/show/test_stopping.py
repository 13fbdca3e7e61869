"""How a command notices that it is to stop."""

from __future__ import annotations

import os
import signal
import time

import pytest

from aiops_lab.show.stopping import Stop

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # so that the handler runs here


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_handler_before_comes_back(number):
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop.asked
        send(number)
        assert stop.asked
    assert signal.getsignal(number) is before


def test_only_the_first_signal_interrupts_and_only_if_that_was_asked_for():
    with Stop() as stop:
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            stop.interrupt()
        send(signal.SIGTERM)
    with Stop() as stop:
        stop.interrupt()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        send(signal.SIGINT)
