"""A function that raises, hangs or ends its thread costs itself only."""

from __future__ import annotations

import sys
import threading

import pytest

from aiops_lab.respond.isolated import Isolated
from tests.support.serving import wait_for


def isolated(timeout_s=30.0):
    stop = threading.Event()
    return Isolated(timeout_s, stop), stop


def test_what_returns_gives_its_value():
    calls, _ = isolated()
    assert calls.call(lambda: 42) == (42, "")
    assert not calls.is_busy


def fail():
    raise RuntimeError("no answer from https://ann:hunter2@host/\x1b[2J" + "x" * 900)


@pytest.mark.parametrize(
    ("work", "told"), [(fail, "RuntimeError: no answer"), (sys.exit, "SystemExit")]
)
def test_what_raises_gives_its_error_without_secrets(work, told):
    calls, _ = isolated()
    value, error = calls.call(work)
    assert value is None
    assert error.startswith(told)
    assert "hunter2" not in error
    assert "\x1b" not in error
    assert len(error) < 310


def test_what_hangs_is_given_up_and_not_called_again_until_it_has_returned():
    calls, _ = isolated(0.01)
    go = threading.Event()
    begun: list[int] = []

    def hang():
        begun.append(1)
        go.wait(60)

    assert calls.call(hang) == (None, "has not returned after 0.01 s")
    assert calls.is_busy
    assert calls.call(hang) == (None, "not called, as the call before has not returned")
    assert len(begun) == 1
    go.set()
    wait_for(lambda: not calls.is_busy)
    assert calls.call(lambda: 1) == (1, "")


def test_at_the_end_of_the_program_nothing_is_waited_for():
    calls, stop = isolated(1e6)
    go = threading.Event()
    threading.Timer(0.01, stop.set).start()
    assert calls.call(lambda: go.wait(60)) == (None, "given up, as the program ends")
    go.set()


def test_while_it_waits_it_does_what_is_to_be_done_meanwhile():
    calls, _ = isolated()
    go = threading.Event()
    assert calls.call(go.wait, meanwhile=go.set) == (True, "")
