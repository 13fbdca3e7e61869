"""What was told stands in the store; of several processes one tells."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aiops_lab as lab
from aiops_lab.respond import told_records
from aiops_lab.respond.notices import Told
from aiops_lab.respond.told_records import SENDER, ToldRecords

TOLD = Told("active", "high", True, 5)


@pytest.fixture
def store():
    with lab.SpanStore(":memory:") as store:
        yield store


def test_what_was_told_is_known_to_others_for_this_target_only(store):
    ToldRecords(store, "json").save({"INC-1": TOLD})
    for records, known in [(ToldRecords(store, "json"), TOLD), (ToldRecords(store, "jso"), None)]:
        assert records.of("INC-1") == known
        assert records.load().get("INC-1") == known


def test_one_at_a_time_tells_until_it_gives_its_turn_back(store):
    first, second = ToldRecords(store, "json"), ToldRecords(store, "json")
    assert first.take_turn()
    assert not second.take_turn()
    assert ToldRecords(store, "slack").take_turn()
    second.end_turn()  # it has none
    assert first.take_turn()
    assert not second.take_turn()
    first.end_turn()
    assert second.take_turn()
    assert not first.take_turn()


def test_who_is_late_loses_its_turn(store, monkeypatch):
    first, second = ToldRecords(store, "json"), ToldRecords(store, "json")
    first.take_turn()
    monkeypatch.setattr(told_records, "SENDER_S", 0.0)
    assert second.take_turn()


def test_a_sender_from_the_future_counts_as_late(store):
    first, second = ToldRecords(store, "json"), ToldRecords(store, "json")
    first.take_turn()
    sender = store.record(SENDER, "json")
    store.save(SENDER, {"json": sender | {"since": sender["since"] + 1e6}})
    assert second.take_turn()


def test_a_process_that_was_killed_is_replaced_at_once(store):
    first = ToldRecords(store, "json")
    first.take_turn()
    sender = store.record(SENDER, "json")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    host, _, name = sender["holder"]
    store.save(SENDER, {"json": sender | {"holder": [host, process.pid, name]}})
    assert ToldRecords(store, "json").take_turn()
