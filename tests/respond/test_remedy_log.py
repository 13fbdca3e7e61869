"""What remedies did is kept with the incident."""

from __future__ import annotations

import pytest

import aiops_lab as lab
from aiops_lab.respond import remedy_log
from aiops_lab.respond.remedies import RemedyCall
from aiops_lab.respond.remedy_log import RemedyLog, calls_for

AT = 1_767_225_600_000_000_000


@pytest.fixture
def store():
    with lab.SpanStore(":memory:") as store:
        yield store


def call(ns, incident="INC-1", remedy="restart", outcome="acted", about="done"):
    return RemedyCall(AT + ns, incident, remedy, outcome, about, 0)


def test_a_remedy_reads_its_calls_for_all_incidents_in_the_order_of_time(store):
    log = RemedyLog(store, "restart")
    for each in (call(3, "INC-2"), call(1), call(2)):
        log.save(each)
    RemedyLog(store, "scale").save(call(0, remedy="scale"))
    assert log.read() == [call(1), call(2), call(3, "INC-2")]


def test_the_row_of_a_call_is_replaced_when_it_ends(store):
    log = RemedyLog(store, "restart")
    log.save(call(1, outcome="begun"))
    log.save(call(1))
    assert log.read() == [call(1)]


def test_the_last_rows_are_kept(store, monkeypatch):
    monkeypatch.setattr(remedy_log, "MOST_CALLS", 2)
    log = RemedyLog(store, "restart")
    for ns in range(4):
        log.save(call(ns))
    assert log.read() == [call(2), call(3)]


def test_what_was_held_back_drops_no_call(store, monkeypatch):
    monkeypatch.setattr(remedy_log, "MOST_CALLS", 1)
    log = RemedyLog(store, "restart")
    for ns in range(6):
        log.save(call(ns, outcome="acted" if ns < 3 else "held back"))
    assert [row.ns - AT for row in log.read()] == [2, 5]


def test_an_incident_has_the_calls_of_all_remedies(store):
    RemedyLog(store, "restart").save(call(2_000_000_000))
    RemedyLog(store, "restart").save(call(3, "INC-11"))
    RemedyLog(store, "scale").save(call(1_000_000_000, remedy="scale", outcome="failed"))
    first, second = calls_for(store, "INC-1")
    assert first == {
        "time": "2026-01-01T00:00:01.000000Z",
        "incident": "INC-1",
        "remedy": "scale",
        "outcome": "failed",
        "about": "done",
    }
    assert (second["remedy"], second["outcome"]) == ("restart", "acted")
    assert calls_for(store, "INC-2") == []
