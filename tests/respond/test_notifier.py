"""Who is told, in what order, and what happens while a receiver fails, hangs or hangs up."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.respond import turns
from aiops_lab.respond.notifier import NoticeLimits, Notifier
from tests.support.incidents import LATER, MadeMonitor, incident
from tests.support.made import BEGIN, Shop, fault
from tests.support.receiver import receiving
from tests.support.serving import wait_for
from tests.test_monitor import fill

ROOT = Path(__file__).parents[2]
FAST = NoticeLimits(first_retry_s=0.001, last_retry_s=0.01)
TITLE = "Error spike detected in /pay"


@pytest.fixture
def store():
    with lab.SpanStore(":memory:") as store:
        yield store


def at(seconds):
    return pd.Timestamp(BEGIN, tz="UTC") + pd.Timedelta(seconds, "s")


def test_opened_acknowledged_and_resolved_arrive_in_order(store):
    fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(220))
    monitor = lab.Monitor(store)
    with receiving() as receiver, Notifier(monitor, [receiver.url], server="http://x") as notifier:
        monitor.step(at(160))
        assert notifier.flush()
        (found,) = monitor.incidents()
        monitor.acknowledge(found.id, at(170))
        assert notifier.flush()
        monitor.resolve(found.id, at(200))
        assert notifier.flush()
        assert notifier.flush()  # nothing twice
    what = ("", " (acknowledged)", " (resolved)")
    assert receiver.titles == [f"{found.title}{each}" for each in what]
    for each in receiver.arrived:
        assert "Cause: /payment (service shop), confidence" in each["message"]
        assert f"http://x/aiops/page/incidents/{found.id}" in each["message"]


def test_a_restart_does_not_tell_again_what_was_told(store):
    monitor = MadeMonitor(store, incident(1), incident(2, "resolved"))
    with receiving() as receiver:
        for _ in range(3):
            with Notifier(monitor, [receiver.url]) as notifier:
                assert notifier.flush()
        assert receiver.titles == [TITLE]
        monitor.found[0] = incident(1, "resolved")
        with Notifier(monitor, [receiver.url]) as notifier:
            assert notifier.flush()
    assert receiver.titles == [TITLE, f"{TITLE} (resolved)"]


@pytest.mark.parametrize(
    ("mode", "reason"), [("fails", "error=500"), ("hangs_up", "Connection error")]
)
def test_what_a_receiver_refuses_arrives_once_it_works(store, mode, reason, caplog):
    monitor = MadeMonitor(store, incident(1))
    with receiving() as receiver, Notifier(monitor, [receiver.url], limits=FAST) as notifier:
        receiver.mode = mode
        wait_for(lambda: receiver.asked >= 3)
        (row,) = notifier.status()
        assert (row["to"], row["sent"], row["waiting"]) == ("json", 0, 1)
        assert row["failures"] >= 1
        assert reason in row["last_error"]
        monitor.found[0] = incident(1, "acknowledged", acknowledged_at=LATER)
        asked = receiver.asked
        wait_for(lambda: receiver.asked >= asked + 2)
        receiver.mode = "works"
        assert notifier.flush()
        (row,) = notifier.status()
        assert (row["sent"], row["waiting"]) == (1, 0)
    assert len(receiver.arrived) == 1  # its present state, not its history
    failures = [each for each in caplog.messages if "is tried again" in each]
    assert 1 <= len(failures) <= 2
    assert "S3CRET" not in caplog.text + str(row)


def test_a_receiver_that_hangs_delays_neither_steps_nor_other_receivers(store):
    fill(store, Shop(1, fault("/payment", 120, 180, status=500)).run(220))
    monitor = lab.Monitor(store)
    arrived = []
    limits = NoticeLimits(timeout_s=0.02, first_retry_s=0.001, last_retry_s=0.01)
    with receiving() as receiver:
        receiver.mode = "hangs"
        url = f"{receiver.url}?rto=50"
        with Notifier(monitor, [url, arrived.append], limits=limits) as notifier:
            monitor.step(at(160))
            wait_for(lambda: receiver.asked == 1 and len(arrived) == 1)
            monitor.step(at(220))  # while the receiver hangs
            monitor.resolve(arrived[0].incident_id, at(230))
            wait_for(lambda: len(arrived) == 2)
            wait_for(lambda: "has not returned" in (notifier.status()[0]["last_error"] or ""))
            assert not notifier.flush(0.1)
            assert notifier.status()[0]["failures"] == 1
            assert receiver.asked == 1  # not asked again meanwhile
            assert receiver.arrived == []
            receiver.mode = "works"
            receiver.released.set()
            assert notifier.flush()
            assert receiver.asked == 2
    assert [each["title"].partition("(")[2] for each in receiver.arrived] == ["", "resolved)"]
    assert [each.event for each in arrived] == ["opened", "resolved"]


def test_a_function_that_raises_is_tried_again_and_the_next_notice_is_not_held_up(store):
    monitor = MadeMonitor(store, incident(1), incident(2))
    arrived = []

    def only_the_second(notice):
        if notice.incident_id == "INC-1":
            raise RuntimeError("password=hunter2")
        arrived.append(notice.incident_id)

    with Notifier(monitor, [only_the_second], limits=FAST) as notifier:
        wait_for(lambda: arrived == ["INC-2"])
        (row,) = notifier.status()
    assert row["to"] == "function (only_the_second)"
    assert row["last_error"] == "RuntimeError: password=***"


def test_one_that_comes_back_again_and_again_is_not_told_each_time(store):
    monitor = MadeMonitor(store)
    arrived = []
    with Notifier(monitor, [arrived.append]) as notifier:
        for status in ("active", "resolved") * 4:
            monitor.found = [incident(1, status)]
            assert notifier.flush()
    assert [each.event for each in arrived] == ["opened", "resolved", "reopened"]


def test_of_a_flood_the_worst_are_told_and_the_rest_is_summed_up(store):
    worst = incident(50, severity="critical")
    monitor = MadeMonitor(store, *[incident(n) for n in range(50)], worst)
    arrived = []
    limits = NoticeLimits(most=3, per_s=1e6)
    with Notifier(monitor, [arrived.append], limits=limits) as notifier:
        assert notifier.flush()
        monitor.found.append(incident(51))
        assert not notifier.flush(0.01)  # it waits for room
        (row,) = notifier.status()
    assert [each.incident_id for each in arrived] == ["INC-50", "INC-0", ""]
    assert arrived[2].title == "49 more notices of incidents"
    assert (row["sent"], row["summarized"], row["waiting"]) == (3, 49, 1)


def test_one_that_became_part_of_another_is_told_so_once(store):
    monitor = MadeMonitor(store, incident(1), incident(2), incident(3, "resolved"))
    arrived = []
    with Notifier(monitor, [arrived.append]) as notifier:
        assert notifier.flush()
        monitor.merged["INC-2"] = "INC-1"
        monitor.found = [monitor.found[0]]
        assert notifier.flush()
        assert notifier.flush()
    assert [each.title for each in arrived[2:]] == ["INC-2 is part of INC-1 now"]


def test_of_two_notifiers_on_one_store_one_tells(store):
    monitor = MadeMonitor(store, incident(1))
    arrived = []
    with Notifier(monitor, [arrived.append]) as one, Notifier(monitor, [arrived.append]) as other:
        assert one.flush() or other.flush()
        one.close()
        assert other.flush()
        monitor.found[0] = incident(1, "resolved")
        assert other.flush()
    assert [each.event for each in arrived] == ["opened", "resolved"]


def test_a_store_that_cannot_be_read_delays_the_notices(store, monkeypatch):
    monitor = MadeMonitor(store, incident(1))
    arrived = []
    locked = threading.Event()

    def incidents():
        if not locked.is_set():
            locked.set()
            raise OSError("database is locked")
        return monitor.found

    monkeypatch.setattr(monitor, "incidents", incidents)
    with Notifier(monitor, [arrived.append]) as notifier:
        assert notifier.flush()
    assert len(arrived) == 1


def test_what_arrived_is_not_told_again_although_the_store_could_not_note_it(store, monkeypatch):
    monitor = MadeMonitor(store, incident(1))
    arrived = []

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(store, "update", full)
    with Notifier(monitor, [arrived.append]) as notifier:
        assert notifier.flush()
        assert notifier.flush()
        monkeypatch.undo()
    assert len(arrived) == 1


def threads_to(name):
    return [each for each in threading.enumerate() if each.name == f"to {name}"]


def test_close_ends_the_threads_and_leaves_the_monitor(store):
    monitor = MadeMonitor(store)
    with receiving() as receiver:
        notifier = Notifier(monitor, [receiver.url])
        assert monitor.responders == [notifier]
        assert len(threads_to("json")) == 1
        notifier.close()
        notifier.close()
    assert threads_to("json") == []
    assert monitor.responders == []


def test_the_threads_end_when_the_store_is_closed():
    with lab.SpanStore(":memory:") as store:
        Notifier(MadeMonitor(store), [lambda notice: None])
        assert len(threads_to("function (<lambda>)")) == 1
    wait_for(lambda: threads_to("function (<lambda>)") == [])


def test_a_program_ends_although_a_receiver_hangs(tmp_path):
    code = f"""
import threading
import aiops_lab as lab
from aiops_lab.respond import turns
from aiops_lab.respond.notifier import Notifier
from tests.support.incidents import MadeMonitor, incident
asked = threading.Event()
def hang(notice):
    asked.set()
    threading.Event().wait()
store = lab.SpanStore({str(tmp_path / "s.sqlite")!r})
notifier = Notifier(MadeMonitor(store, incident(1)), [hang])
asked.wait(30)
print("ends")
"""
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "ends\n", "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"quiet_s": -1}, "quiet_s must be a number between 0 and 1e"),
        ({"most": 0}, "most must be a whole number between 1 and"),
        ({"per_s": 0}, "per_s must be"),
        ({"first_retry_s": 0}, "first_retry_s must be"),
        ({"first_retry_s": 9, "last_retry_s": 8}, "last_retry_s must be a number between 9 and"),
        ({"timeout_s": 0}, "timeout_s must be"),
    ],
)
def test_a_limit_that_breaks_its_rule_is_refused_by_name(wrong, told):
    with pytest.raises(ValueError, match=told):
        NoticeLimits(**wrong)


def test_the_turn_is_kept_while_a_receiver_is_told(store, monkeypatch):
    monkeypatch.setattr(turns, "RENEW_SHARE", 0.0)
    monitor = MadeMonitor(store, incident(1))
    asked, go = threading.Event(), threading.Event()

    def slow(notice):
        asked.set()
        go.wait(60)

    with Notifier(monitor, [slow]):
        asked.wait(60)
        name = "notices to function (slow)"
        since = store.record(turns.TURN, name)["since"]
        wait_for(lambda: store.record(turns.TURN, name)["since"] > since)
        go.set()
