"""Several monitors on one store: in threads, in processes, and after a crash in mid-step."""

import multiprocessing
import os
import shutil
import threading

import pytest

import aiops_lab as lab
from aiops_lab.detect.grouping import IllegalMoveError
from tests.support.made import Shop, fault
from tests.support.played import at, to_spans

DEADLINE_S = 120
STEPS = range(60, 231, 10)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A store of three minutes and more, which no monitor has seen."""
    path = tmp_path_factory.mktemp("recorded") / "spans.sqlite"
    frame = Shop(1, fault("/payment", 120, 180, added_ms=3000.0)).run(220)
    with lab.SpanStore(path) as store:
        for row in to_spans(frame):
            store.add(lab.Span(*row))
    return path


@pytest.fixture
def path(recorded, tmp_path):
    """A store of a test's own with the same spans."""
    return shutil.copy(recorded, tmp_path)


def watch(path, seconds=STEPS, together=None):
    """Step a monitor through some seconds; it lives until all that are `together` have done so.

    A monitor that is behind one that has ended would take its own clock for one that went back.
    """
    with lab.SpanStore(path) as store:
        monitor = lab.Monitor(store)
        for second in seconds:
            monitor.step(at(second))
        if together is not None:
            together.wait(DEADLINE_S)


def records(path):
    with lab.SpanStore(path) as store:
        monitor = lab.Monitor(store)
        every = [i.to_record() for i in monitor.incidents()]
        replayed = lab.replay(store.spans(), until=monitor.judged_until).incidents
        return every, [i.to_record() for i in replayed]


def test_taking_turns_they_find_what_one_finds(path):
    with lab.SpanStore(path) as store, lab.SpanStore(path) as other:
        first, second = lab.Monitor(store), lab.Monitor(other)
        for t in STEPS:
            one, two = (first, second) if t % 20 else (second, first)
            changed = one.step(at(t))
            seen = two.step(at(t))
            assert [i.to_record() for i in seen] == [i.to_record() for i in changed]
        assert first.incidents() == second.incidents()
        assert first.judged_until == second.judged_until
    live, replayed = records(path)
    assert live == replayed
    assert len(live) == 1


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_at_the_same_time_they_find_what_one_finds(path, kind):
    spawn = multiprocessing.get_context("spawn")
    make = threading.Thread if kind == "threads" else spawn.Process
    together = threading.Barrier(2) if kind == "threads" else spawn.Barrier(2)
    workers = [make(target=watch, args=(str(path), STEPS, together)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE_S)
        assert not worker.is_alive()
    watch(path, [231])
    live, replayed = records(path)
    assert live == replayed
    assert len(live) == 1


def test_what_somebody_does_in_one_is_seen_in_the_other_at_once(path):
    with lab.SpanStore(path) as store, lab.SpanStore(path) as other:
        first, second = lab.Monitor(store), lab.Monitor(other)
        (incident,) = first.step(at(170))
        assert second.incident(incident.id).status == "active"
        second.acknowledge(incident.id, at(171))
        assert first.incident(incident.id).status == "acknowledged"
        with pytest.raises(IllegalMoveError, match="cannot become acknowledged"):
            first.acknowledge(incident.id, at(172))
        first.step(at(181))
        assert first.incident(incident.id).status == "acknowledged"
        first.resolve(incident.id, at(182))
        assert [i.id for i in second.incidents("resolved")] == [incident.id]
        with pytest.raises(IllegalMoveError, match="is resolved"):
            second.resolve(incident.id, at(183))


def crash_in_a_step(path):
    store = lab.SpanStore(path)
    monitor = lab.Monitor(store)
    monitor._pipeline.advance = lambda *_: os._exit(1)
    monitor.step(at(150))


def test_after_a_crash_in_a_step_another_goes_on_at_once(path):
    worker = multiprocessing.get_context("spawn").Process(target=crash_in_a_step, args=(path,))
    worker.start()
    worker.join(DEADLINE_S)
    assert worker.exitcode == 1
    with lab.SpanStore(path) as store:
        assert store.record("monitor", "lease") is not None
        (incident,) = lab.Monitor(store).step(at(151))
    assert incident.root_cause.endpoint == "/payment"


def elsewhere(store, until):
    """A lease that a monitor of another host holds."""
    lease = {"holder": ["elsewhere", 1, "x"], "until": until.value}
    store.save("monitor", {"lease": lease})


def test_while_another_host_judges_a_step_only_reads(path, caplog):
    with lab.SpanStore(path) as store:
        monitor = lab.Monitor(store)
        elsewhere(store, at(200))
        with caplog.at_level("INFO", logger="aiops_lab"):
            assert monitor.step(at(150)) == []
        assert monitor.judged_until is None
        assert "another monitor judges" in caplog.text
        assert monitor.step(at(201))


def test_a_lease_of_a_clock_that_was_ahead_is_none(path):
    with lab.SpanStore(path) as store:
        elsewhere(store, at(10**7))
        assert lab.Monitor(store).step(at(150))


def test_a_step_that_lost_its_turn_stores_nothing(path):
    with lab.SpanStore(path) as store:
        monitor = lab.Monitor(store)
        pipeline = monitor._pipeline
        advance = pipeline.advance

        def slow(*arguments):
            elsewhere(store, at(200))
            return advance(*arguments)

        pipeline.advance = slow
        assert monitor.step(at(150)) == []
        assert monitor.incidents() == []
        assert store.load("incident") == {}


def test_what_is_done_by_hand_during_a_step_is_kept(path):
    with lab.SpanStore(path) as store, lab.SpanStore(path) as other:
        monitor, hand = lab.Monitor(store), lab.Monitor(other)
        (incident,) = monitor.step(at(150))
        pipeline = monitor._pipeline
        advance = pipeline.advance

        def slow(*arguments):
            hand.acknowledge(incident.id, at(151))
            return advance(*arguments)

        pipeline.advance = slow
        monitor.step(at(171))
        assert monitor.incident(incident.id).status == "acknowledged"
        assert "acknowledged" in [e.what for e in monitor.incident(incident.id).history]
        assert hand.incident(incident.id).to_record() == monitor.incident(incident.id).to_record()
