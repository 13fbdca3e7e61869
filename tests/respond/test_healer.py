"""Remedies are called within their limits, mend the shop, and harm nobody but themselves."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pandas as pd
import pytest
import requests
from flask import Flask

import aiops_lab as lab
from aiops_lab.record.faults import Fault, FaultInjector
from aiops_lab.respond import healer as healer_module
from aiops_lab.respond import turns
from aiops_lab.respond.healer import Healer
from aiops_lab.respond.remedies import Remedy, RemedyCall
from aiops_lab.respond.remedy_log import RemedyLog, calls_for
from aiops_lab.show.api import simulate
from tests.support.incidents import LATER, MadeMonitor, incident
from tests.support.made import BEGIN, Shop
from tests.support.serving import serving, wait_for


@pytest.fixture
def store():
    with lab.SpanStore(":memory:") as store:
        yield store


def outcomes(store, id="INC-1"):
    return [(row["outcome"], row["about"]) for row in calls_for(store, id)]


class VirtualShop:
    """A shop in virtual time, whose faults are injected and cleared over HTTP."""

    def __init__(self, store):
        self.store = store
        self.injector = FaultInjector()
        self.monitor = lab.Monitor(store, lab.Sensitivity(resolve_after_s=60))
        self._made = Shop(1, self._effect)
        self._now_s = 0.0

    def _effect(self, endpoint, second):
        broken = any(each.fault.endpoint == endpoint for each in self.injector.active())
        return (0.0, 500) if broken else (0.0, 200)

    def run(self, seconds, healer):
        """Serve customers for so long, and look every ten seconds."""
        for _ in range(int(seconds / 10)):
            self._serve(10.0)
            now = pd.Timestamp(BEGIN, tz="UTC") + pd.Timedelta(self._now_s + 2, "s")
            self.monitor.step(now)
            assert healer.flush(30)

    def _serve(self, seconds):
        """Let requests come, five a second of each kind."""
        for n in range(int(seconds * 5)):
            for endpoint in ("/checkout", "/payment"):
                self._made.request(endpoint, self._now_s + n / 5)
        self._now_s += seconds
        for span in self._made.spans:
            self.store.add(span)
        self._made.spans.clear()
        self.store.flush()


@pytest.fixture
def shop(store):
    shop = VirtualShop(store)
    app = Flask(__name__)
    app.register_blueprint(simulate(shop.injector, [("shop", "/payment")]))
    with serving(app) as url:
        shop.url = url
        yield shop


def clear_at(url):
    def clear_faults(incident):
        answer = requests.post(f"{url}/simulate/clear", timeout=30)
        answer.raise_for_status()
        return answer.text.strip()

    return clear_faults


def break_payment(shop):
    shop.injector.inject(Fault("error", "shop", "/payment", rate=1.0))


def test_a_remedy_clears_the_fault_through_the_shops_own_api_and_the_incident_resolves(shop):
    mend = clear_at(shop.url)
    remedy = Remedy("clear", mend, ["error_spike"], endpoint="/payment", dry_run=False)
    with Healer(shop.monitor, [remedy]) as healer:
        shop.run(60, healer)
        break_payment(shop)
        shop.run(120, healer)
        (row,) = healer.status()
    (found,) = shop.monitor.incidents()
    assert shop.injector.active() == []
    assert found.root_cause.endpoint == "/payment"
    assert found.status == "resolved"
    assert outcomes(shop.store, found.id) == [("acted", '{"cleared":[1]}')]
    assert (row["acted"], row["would_have_acted"]) == (1, 0)


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({}, ("would have acted", "")),
        (
            {"dry_run": False, "min_confidence": 1.0},
            ("held back", "the confidence is below 100%"),
        ),
    ],
)
def test_in_a_dry_run_and_at_low_confidence_the_fault_stays(shop, options, outcome):
    remedy = Remedy("clear", clear_at(shop.url), endpoint="/payment", **options)
    with Healer(shop.monitor, [remedy]) as healer:
        shop.run(60, healer)
        break_payment(shop)
        shop.run(20, healer)
    (found,) = shop.monitor.incidents()
    assert len(shop.injector.active()) == 1
    assert found.status == "active"
    assert outcomes(shop.store, found.id) == [outcome]  # once, however often it is looked at


def never(incident):
    raise AssertionError("it must not be called")


def fail(incident):
    raise RuntimeError("password=hunter2")


def test_a_remedy_that_raises_is_noted_and_not_called_again_for_the_same(store):
    monitor = MadeMonitor(store, incident())
    calls = []
    good = Remedy("good", calls.append, dry_run=False)
    with Healer(monitor, [Remedy("bad", fail, dry_run=False), good]) as healer:
        assert healer.flush()
        assert healer.flush()
        bad, fine = healer.status()
    assert (bad["failed"], bad["acted"], fine["acted"]) == (1, 0, 1)
    assert bad["last_error"] == "RuntimeError: password=***"
    assert ("failed", "RuntimeError: password=***") in outcomes(store)
    assert len(calls) == 1


def test_a_remedy_that_hangs_is_noted_and_not_started_again(store):
    monitor = MadeMonitor(store, incident())
    begun, go = [], threading.Event()

    def hang(incident):
        begun.append(1)
        go.wait(60)

    remedy = Remedy("hang", hang, dry_run=False, timeout_s=0.02, cooldown_s=0)
    other = []
    with Healer(monitor, [remedy, Remedy("other", other.append, dry_run=False)]) as healer:
        wait_for(lambda: healer.status()[0]["failed"] == 1 and other)
        monitor.found[0].last_anomaly = LATER + pd.Timedelta("10s")
        assert not healer.flush(0.2)
        (row, _) = healer.status()
        assert row["is_busy"]
        assert len(begun) == 1
        assert ("failed", "has not returned after 0.02 s") in outcomes(store)
        go.set()
        wait_for(lambda: len(begun) == 2)  # it has returned, and the incident goes on


def test_of_a_flood_of_incidents_so_many_are_mended_and_the_rest_is_held_back(store):
    monitor = MadeMonitor(store, *[incident(n) for n in range(5)])
    calls = []
    remedy = Remedy("restart", calls.append, dry_run=False, most=2, cooldown_s=0)
    with Healer(monitor, [remedy]) as healer:
        assert healer.flush()
        (row,) = healer.status()
    assert len(calls) == 2
    assert (row["acted"], row["held_back"]) == (2, 3)
    assert outcomes(store, "INC-4") == [("held back", "it was called 2 times in 3600 s")]


def test_a_restart_neither_repeats_a_call_nor_forgets_the_limits(store):
    monitor = MadeMonitor(store, incident())
    calls = []
    remedy = Remedy("restart", calls.append, dry_run=False)
    for number in (1, 1, 2):
        monitor.found = [incident(number)]
        with Healer(monitor, [remedy]) as healer:
            assert healer.flush()
    assert len(calls) == 1  # the second incident came within the cool-down


def test_a_call_is_noted_before_it_is_made(store):
    seen = []
    remedy = Remedy("restart", lambda incident: seen.extend(outcomes(store)), dry_run=False)
    with Healer(MadeMonitor(store, incident()), [remedy]) as healer:
        assert healer.flush()
    assert seen == [("begun", "")]
    assert outcomes(store) == [("acted", "")]


def test_a_call_that_cannot_be_noted_is_not_made(store, monkeypatch, caplog):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(store, "update", full)
    with Healer(MadeMonitor(store, incident()), [Remedy("no", never, dry_run=False)]) as healer:
        wait_for(lambda: "disk full" in caplog.text)
        assert not healer.flush(0.01)
        monkeypatch.undo()


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        (lambda incident: incident.severity == "high", ("would have acted", "")),
        (lambda incident: False, None),
        (fail, ("held back", "its condition failed: RuntimeError: password=***")),
    ],
)
def test_a_condition_of_ones_own_is_asked_and_may_fail(store, matches, expected):
    with Healer(MadeMonitor(store, incident()), [Remedy("r", never, matches=matches)]) as healer:
        assert healer.flush()
        assert healer.flush()
    assert outcomes(store) == ([expected] if expected else [])


def test_a_condition_that_is_neither_true_nor_false_failed(store):
    remedy = Remedy("r", never, matches=lambda incident: pd.NA)
    with Healer(MadeMonitor(store, incident()), [remedy]) as healer:
        assert healer.flush()
    assert outcomes(store)[0][1].startswith("its condition failed: TypeError")


def test_what_a_remedy_returns_is_cut_and_holds_no_secret(store):
    def answer(incident):
        return "token=abcdef\n" + "x" * 900

    remedy = Remedy("r", answer, dry_run=False)
    with Healer(MadeMonitor(store, incident()), [remedy]) as healer:
        assert healer.flush()
    ((_, about),) = outcomes(store)
    assert about.startswith("token=***")
    assert len(about) < 310


def test_of_two_healers_on_one_store_one_calls(store):
    monitor = MadeMonitor(store, incident())
    calls = []
    remedy = Remedy("restart", calls.append, dry_run=False)
    with Healer(monitor, [remedy]) as one, Healer(monitor, [remedy]) as other:
        wait_for(lambda: calls)
        one.close()
        assert other.flush()
    assert len(calls) == 1


def test_close_ends_the_threads_and_leaves_the_monitor(store):
    monitor = MadeMonitor(store)
    healer = Healer(monitor, [Remedy("restart", never)])
    assert monitor.responders == [healer]
    healer.close()
    healer.close()
    assert monitor.responders == []
    assert "remedy restart" not in [each.name for each in threading.enumerate()]


@pytest.mark.parametrize(
    ("remedies", "told"),
    [
        ([print], "remedies must be a list of Remedy, got <built-in function print>"),
        ([Remedy("a", print), Remedy("a", print)], "remedies must have different names, got 'a'"),
    ],
)
def test_what_is_no_list_of_remedies_is_refused(store, remedies, told):
    with pytest.raises(ValueError, match=told):
        Healer(MadeMonitor(store), remedies)


def test_what_another_process_did_during_a_condition_is_not_done_again(store):
    def matches(found):
        row = RemedyCall(1, found.id, "r", "acted", "", LATER.value)
        RemedyLog(store, "r").save(row)
        return True

    remedy = Remedy("r", never, dry_run=False, matches=matches)
    with Healer(MadeMonitor(store, incident()), [remedy]) as healer:
        healer.flush(1)
    assert outcomes(store) == [("acted", "")]


@pytest.mark.parametrize("timeout_s", [60.0, 0.01], ids=["in time", "late"])
def test_the_turn_is_kept_while_a_remedy_may_return_soon(store, monkeypatch, timeout_s):
    monkeypatch.setattr(turns, "RENEW_SHARE", 0.0)
    monkeypatch.setattr(healer_module, "NOTICE_LOOK_S", 0.01)
    with hanging(store, timeout_s) as is_late:
        wait_for(lambda: timeout_s > 1 or is_late())
        since = store.record(turns.TURN, "remedy restart")["since"]
        wait_for(lambda: store.record(turns.TURN, "remedy restart")["since"] > since)


def test_a_call_that_never_returns_leaves_the_turn_to_another_process(store, monkeypatch):
    monkeypatch.setattr(turns, "TURN_S", 0.1)
    monkeypatch.setattr(healer_module, "NOTICE_LOOK_S", 0.01)
    with hanging(store, 0.01):
        other = turns.Turn(store, "remedy restart")
        wait_for(other.take)


@contextmanager
def hanging(store, timeout_s):
    """Yield whether a remedy counts as failed, which returns when the block ends."""
    called, go = threading.Event(), threading.Event()

    def slow(found):
        called.set()
        go.wait(60)

    remedy = Remedy("restart", slow, dry_run=False, timeout_s=timeout_s)
    with Healer(MadeMonitor(store, incident(1)), [remedy]) as healer:
        called.wait(60)
        yield lambda: [row["failed"] for row in healer.status()] == [1]
        go.set()
