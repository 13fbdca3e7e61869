"""A thread that looks at incidents again and again, and ends in time."""

from __future__ import annotations

import threading
import time

from aiops_lab.respond import looker
from aiops_lab.respond.looker import Looker
from tests.support.serving import wait_for


def looking(look, over=lambda: False):
    found = Looker("looks", look, over)
    found.start()
    return found


def is_over():
    return not [each for each in threading.enumerate() if each.name == "looks"]


def soon():
    return time.monotonic() + 30


def test_flush_returns_once_a_later_look_had_nothing_to_do():
    answers = [0.0, 0.0, None]
    looks = []

    def look():
        looks.append(1)
        return answers.pop(0) if answers else None

    found = looking(look)
    assert found.flush(soon())
    done = len(looks)
    assert done >= 3
    assert found.flush(soon())
    assert len(looks) > done
    found.stop()
    found.join()
    assert is_over()
    assert not found.flush(soon())


def test_flush_gives_up_at_its_deadline():
    found = looking(lambda: 0.001)
    assert not found.flush(time.monotonic() + 0.01)
    found.stop()
    found.join()


def test_a_look_that_raises_is_logged_once_and_the_next_one_comes(caplog):
    answers = [ZeroDivisionError("no"), ZeroDivisionError("no"), None]

    def look():
        answer = answers.pop(0) if answers else None
        if answer is not None:
            raise answer

    found = looking(look)
    assert found.flush(soon())
    assert caplog.messages == ["a look at incidents failed: no"]
    found.stop()
    found.join()


def test_a_long_pause_ends_when_there_is_nothing_left_to_look_at(monkeypatch):
    monkeypatch.setattr(looker, "NOTICE_LOOK_S", 0.01)
    over = threading.Event()
    looks = []

    def look():
        looks.append(1)
        return 1e6

    looking(look, over.is_set)
    wait_for(lambda: looks)
    over.set()
    wait_for(is_over)
    assert len(looks) == 1


def test_nothing_makes_a_long_pause_shorter_but_the_end(monkeypatch):
    monkeypatch.setattr(looker, "NOTICE_LOOK_S", 0.01)
    looks = []

    def look():
        looks.append(1)
        return 1e6

    found = looking(look)
    assert not found.flush(time.monotonic() + 0.05)
    found.stop()
    found.join()
    assert is_over()
    assert len(looks) == 1
