"""Of several processes one acts for a store, and what ends or is late is replaced."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aiops_lab as lab
from aiops_lab.respond import turns
from aiops_lab.respond.turns import TURN, Turn


@pytest.fixture
def store():
    with lab.SpanStore(":memory:") as store:
        yield store


def test_one_at_a_time_acts_until_it_gives_its_turn_back(store):
    first, second = Turn(store, "tell"), Turn(store, "tell")
    assert first.take()
    assert not second.take()
    assert Turn(store, "mend").take()
    second.end()  # it has none
    assert not second.take()
    assert first.take()
    first.end()
    assert second.take()
    assert not first.take()


def test_who_is_late_loses_its_turn(store, monkeypatch):
    first, second = Turn(store, "tell"), Turn(store, "tell")
    first.take()
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    assert second.take()


def test_a_holder_from_the_future_counts_as_late(store):
    first, second = Turn(store, "tell"), Turn(store, "tell")
    first.take()
    holder = store.record(TURN, "tell")
    store.save(TURN, {"tell": holder | {"since": holder["since"] + 1e6}})
    assert second.take()


def test_a_process_that_was_killed_is_replaced_at_once(store):
    first = Turn(store, "tell")
    first.take()
    holder = store.record(TURN, "tell")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    host, _, name = holder["holder"]
    store.save(TURN, {"tell": holder | {"holder": [host, process.pid, name]}})
    assert Turn(store, "tell").take()
