"""How often something may be done."""

from __future__ import annotations

from aiops_lab.respond.limits import Backoff, RateLimit


def test_there_is_room_again_once_the_first_is_so_long_ago():
    now = [0.0]
    rate = RateLimit(2, 10.0, lambda: now[0])
    assert rate.room() == 2
    rate.take()
    now[0] = 4.0
    rate.take()
    assert rate.room() == 0
    now[0] = 9.9
    assert rate.room() == 0
    now[0] = 10.0
    assert rate.room() == 1
    now[0] = 14.0
    assert rate.room() == 2


def test_the_pause_doubles_up_to_the_last_and_begins_anew():
    backoff = Backoff(1.0, 5.0)
    assert [backoff.fail() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.succeed()
    assert backoff.fail() == 1
