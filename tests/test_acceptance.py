"""What was taken as normal by hand can be taken back: the levels are those of before."""

from __future__ import annotations

import pytest

import aiops_lab as lab
from aiops_lab.detect.grouping import IllegalMoveError
from tests.support.made import Shop, fault
from tests.test_monitor import at, fill


@pytest.fixture
def store(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(2, fault("/payment", 200, 900, added_ms=500)).run(420))
        yield store


def usual_ms(monitor):
    return monitor._pipeline.usual_ms(("shop", "/payment"), 0)


def test_after_it_was_taken_back_the_level_is_abnormal_again(store):
    monitor = lab.Monitor(store)
    monitor.step(at(260))
    (incident,) = monitor.incidents()
    before = usual_ms(monitor)
    monitor.accept(incident.id, at(261))
    monitor.step(at(272))
    assert usual_ms(monitor) > 5 * before
    assert monitor.may_undo(incident, at(280))
    lab.Monitor(store).undo_accept(incident.id, at(280))  # in another process
    assert monitor.incident(incident.id).status == "active"
    monitor.step(at(290))
    assert usual_ms(monitor) == pytest.approx(before, rel=0.05)
    monitor.step(at(310))
    (incident,) = lab.Monitor(store).incidents()
    assert incident.status == "active"
    assert incident.last_anomaly >= at(300)
    assert [event.what for event in incident.history][-2:] == [
        "accepted",
        "acceptance taken back",
    ]
    for kind in ("accepted", "taken_back", "level_before"):
        assert store.load(kind) == {incident.id: None}


def test_what_is_taken_back_before_the_next_step_was_never_normal(store):
    monitor = lab.Monitor(store)
    monitor.step(at(260))
    (incident,) = monitor.incidents()
    before = usual_ms(monitor)
    monitor.accept(incident.id, at(261))
    monitor.undo_accept(incident.id, at(262))
    monitor.step(at(280))
    assert usual_ms(monitor) == pytest.approx(before, rel=0.05)
    assert monitor.incident(incident.id).last_anomaly >= at(270)


def test_what_was_not_accepted_cannot_be_taken_back(store):
    monitor = lab.Monitor(store)
    monitor.step(at(260))
    (incident,) = monitor.incidents()
    monitor.resolve(incident.id, at(261))
    with pytest.raises(IllegalMoveError, match="was not accepted as normal"):
        monitor.undo_accept(incident.id, at(262))
    assert store.load("taken_back") == {}
    with pytest.raises(KeyError):
        monitor.undo_accept("INC-1-1", at(262))
