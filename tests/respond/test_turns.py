"""Of several processes one acts for a store, and what ends or is late is replaced."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import aiops_lab as lab
from aiops_lab import processes
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


def test_processes_of_two_containers_with_one_host_name_are_not_mistaken(store, monkeypatch):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with monkeypatch.context() as there:
        there.setattr(processes, "process_host", lambda: "shop pid:[7]")
        there.setattr(os, "getpid", lambda: process.pid)  # its number means nothing here
        assert Turn(store, "tell").take()
    assert not Turn(store, "tell").take()


def test_a_turn_is_renewed_in_good_time_and_not_more_often(store, monkeypatch):
    first = Turn(store, "tell")
    first.take()
    taken = store.record(TURN, "tell")
    first.keep()
    assert store.record(TURN, "tell") == taken
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    first.keep()
    assert store.record(TURN, "tell")["since"] > taken["since"]


def test_a_turn_that_another_process_has_is_not_kept(store, monkeypatch):
    first, second = Turn(store, "tell"), Turn(store, "tell")
    first.take()
    first.end()
    second.take()
    monkeypatch.setattr(turns, "RENEW_SHARE", 0.0)
    assert not first.keep()
    first.end()
    assert not first.take()


def test_a_turn_that_was_lost_is_asked_for_no_more_often_than_it_is_renewed(store, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], time=time.time)
    monkeypatch.setattr(turns, "time", clock)
    first = Turn(store, "tell")
    Turn(store, "tell").take()
    now[0] = turns.TURN_S
    asked = []
    monkeypatch.setattr(store, "update", asked.append)
    for _ in range(5):
        first.keep()
    assert len(asked) == 1


def test_records_are_saved_without_taking_the_turn_of_another_process(store):
    first, second = Turn(store, "tell"), Turn(store, "tell")
    first.take()
    second.save({"told": {"INC-1": "late"}})
    assert store.record("told", "INC-1") == "late"
    assert first.take()
    assert not second.take()


def test_who_saves_records_stays_the_one_who_acts(store):
    first, second = Turn(store, "tell"), Turn(store, "tell")
    first.save({"told": {"INC-1": "now"}})
    assert not second.take()


def test_a_store_that_cannot_be_written_ends_no_wait(store, monkeypatch):
    first = Turn(store, "tell")
    first.take()
    monkeypatch.setattr(turns, "RENEW_SHARE", 0.0)
    store.close()
    first.keep()
