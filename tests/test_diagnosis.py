"""Whose requests an incident looks at, when other incidents are near."""

import gc
from dataclasses import replace
from functools import cache
from weakref import ref

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.incidents import Incident
from aiops_lab.diagnosis import Diagnosis
from aiops_lab.traces.encode import encode
from tests.support.made import Shop, fault, one_pool
from tests.support.played import at, play


def both(one, other):
    """The effect of two faults."""

    def effect(endpoint, second):
        added, status = one(endpoint, second)
        more, worse = other(endpoint, second)
        return added + more, max(status, worse)

    return effect


PAYMENT_FAILS = fault("/payment", 300, 600, 0.0, 500, 0.6)
INVENTORY_IS_SLOW = fault("/inventory", 400, 600, 300.0)


@cache
def overlapping() -> pd.DataFrame:
    return Shop(1, both(PAYMENT_FAILS, INVENTORY_IS_SLOW)).run(640)


def causes(incidents):
    return [(i.first_detected, i.root_cause.endpoint) for i in incidents]


def test_a_fault_beside_another_is_an_incident_of_its_own_with_its_own_cause():
    incidents = lab.replay(overlapping()).incidents
    assert causes(incidents) == [(at(310), "/payment"), (at(410), "/inventory")]
    assert [len(i.suspects) for i in incidents] == [1, 1]


@pytest.mark.parametrize("gap_s", [35, 280])
@pytest.mark.parametrize("first", ["/payment", "/inventory"])
def test_the_time_between_two_faults_does_not_matter(first, gap_s):
    second = {"/payment": "/inventory", "/inventory": "/payment"}[first]
    effect = both(
        fault(first, 300, 600, 0.0, 500, 0.6), fault(second, 300 + gap_s, 700, 0.0, 500, 0.6)
    )
    incidents = lab.replay(Shop(2, effect).run(700)).incidents
    assert [i.root_cause.endpoint for i in incidents] == [first, second]


def test_without_causes_both_are_one():
    assert len(lab.replay(overlapping(), causes=False).incidents) == 1


def places(incident):
    return {(a.type, a.endpoint) for a in incident.anomalies}


@cache
def one_after_the_other() -> pd.DataFrame:
    """/payment is slow, and two minutes after its end /inventory fails. /checkout calls both."""
    slow, failing = fault("/payment", 300, 420, 400.0), fault("/inventory", 540, 660, 0.0, 500, 0.8)
    return Shop(1, both(slow, failing)).run(700)


def test_the_victim_of_a_second_fault_belongs_to_the_incident_of_that():
    first, second = lab.replay(one_after_the_other()).incidents
    slow = "latency_anomaly"
    assert places(first) == {(slow, "/payment"), (slow, "/checkout")}
    assert places(second) == {("error_spike", "/inventory"), ("error_spike", "/checkout")}
    assert first.last_anomaly == at(420)


def test_live_the_victim_goes_where_the_replay_says(tmp_path):
    """Also if a new monitor takes over at each step."""

    class Monitors:
        def step(self, now):
            self.last = lab.Monitor(store)
            self.last.step(now)

    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        monitors = Monitors()
        play(store, monitors, one_after_the_other(), 60, 721)
        live = monitors.last.incidents()
        report = lab.replay(store.spans(), until=monitors.last.judged_until)
    assert len(live) == 2
    assert [i.to_record() for i in live] == [i.to_record() for i in report.incidents]


def test_after_a_long_fault_the_next_one_of_the_same_victim_has_a_cause():
    """The first fault fills all that could be usual: what was during it stands for it."""
    failing = fault("/inventory", 300, 1100, 0.0, 500, 0.6)
    slow = fault("/payment", 1140, 1300, 900.0)
    frame = Shop(1, both(failing, slow)).run(1300, mix=("/checkout",))
    _, second = lab.replay(frame, lab.Sensitivity(relearn_after_s=1e4)).incidents
    assert second.root_cause.endpoint == "/payment"


def test_beside_each_other_live_equals_replay(tmp_path):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        monitor = lab.Monitor(store)
        play(store, monitor, overlapping(), 60, 661)
        live = monitor.incidents()
        report = lab.replay(store.spans(), until=monitor.judged_until)
    assert len(live) == 2
    assert [i.to_record() for i in live] == [i.to_record() for i in report.incidents]


@pytest.mark.parametrize("clients", [1, 4])
def test_one_trace_for_all_requests_of_a_client_decides_nothing(clients):
    """Each client sends one ``traceparent`` with everything; two services fail at once."""
    effect = both(fault("/payment", 300, 360, 400.0), fault("/health", 300, 360, 400.0))
    shop = Shop(3, effect)
    frame = shop.run(400, mix=("/payment", "/inventory", "/health"))
    is_entry = frame["parent_id"].isna()
    number = frame["trace_id"].map(lambda trace: int(trace, 16) // 2 % clients + 1)
    frame["trace_id"] = number.map("{:032x}".format)
    frame["parent_id"] = frame["parent_id"].astype(object).where(~is_entry, "b" * 16)
    incidents = lab.replay(frame).incidents
    assert sorted(i.root_cause.endpoint for i in incidents) == ["/health", "/payment"]


def test_a_long_incident_elsewhere_leaves_the_usual_requests_to_others():
    effect = both(fault("/health", 100, 1500, 400.0), fault("/payment", 1400, 1460, 400.0))
    frame = Shop(4, effect).run(1480)
    incidents = lab.replay(frame, lab.Sensitivity(relearn_after_s=1e5)).incidents
    assert causes(incidents) == [(at(110), "/health"), (at(1410), "/payment")]


def slower_everywhere(endpoint, second):
    """The effect of 20 s at /payment, and of a small rise at /inventory and above from then on."""
    added_ms = {"/checkout": 9.0, "/inventory": 6.0}.get(endpoint, 0.0) if second >= 430 else 0.0
    is_slow = endpoint == "/payment" and 420 <= second < 440
    return added_ms + 500.0 * is_slow, 200


def test_what_began_during_another_fault_names_its_own_cause():
    """The lasting shift began at 430 s, when /checkout still waited for /payment."""
    frame = Shop(0, slower_everywhere).run(500, 16.0, mix=("/checkout", "/health"))
    first, second = lab.replay(frame, lab.Sensitivity(window_s=2, min_count=10)).incidents
    assert second.started < first.last_anomaly
    assert second.keys == {("shop", "/inventory"), ("shop", "/checkout")}
    assert [i.root_cause.endpoint for i in (first, second)] == ["/payment", "/inventory"]
    assert second.affected_endpoints == ["/inventory", "/checkout"]


def test_what_is_called_less_is_no_origin_of_failures_beside_another_fault():
    slow, failing = fault("/inventory", 300, 330, 300.0), fault("/checkout", 390, 500, 0.0, 500)
    frame = Shop(1, both(slow, failing)).run(500, mix=("/checkout", "/health"))
    first, second = lab.replay(frame).incidents
    assert ("traffic_drop", "/payment") in places(second)
    assert second.beside == [first.id]
    assert second.root_cause.endpoint == "/checkout"


@cache
def waiting():
    """Return the spans and the only incident of a pool of three workers."""
    frame = one_pool(3)
    (found,) = lab.replay(frame).incidents
    return frame, found


def test_who_waits_for_workers_that_others_keep_busy_is_in_their_incident():
    """No call and no trace links /home with /shelf."""
    _, found = waiting()
    assert found.root_cause.key == ("warehouse", "/shelf")
    assert ("front", "/home") in found.keys
    assert found.affected_endpoints == ["/shelf", "/order", "/home"]


def test_endpoints_of_one_service_that_are_slow_by_themselves_are_two_incidents():
    """Though both wait for the workers that the other keeps busy."""
    found = lab.replay(one_pool(5, home_ms=1000.0)).incidents
    keys = {each.root_cause.key for each in found}
    assert len(found) == 2
    assert keys == {("front", "/home"), ("warehouse", "/shelf")}


def incident(name, started, last, **fields):
    return Incident(name, at(started + 10), at(started), at(last), **fields)


def test_an_incident_is_ranked_once_in_each_of_its_states():
    spans = encode(overlapping())
    mine, _ = lab.replay(overlapping()).incidents
    ranked = []
    diagnosis = Diagnosis(lab.Sensitivity(), {mine.id: mine}, lambda *_: ranked.append(1) or [])
    for _ in range(2):
        diagnosis.causes(mine, lambda *_: spans)
        diagnosis.verdict(mine, lambda *_: spans)
    assert len(ranked) == 1
    mine.last_anomaly -= pd.Timedelta("10s")
    diagnosis.causes(mine, lambda *_: spans)
    assert len(ranked) == 2
    diagnosis.forget()
    diagnosis.causes(mine, lambda *_: spans)
    assert len(ranked) == 3
    diagnosis.causes(mine, lambda *_: spans, {mine.root_cause.key: "another name"})
    assert len(ranked) == 4


def test_the_requests_of_a_few_incidents_are_kept():
    frame, mine = waiting()
    spans = encode(frame)
    held = []
    diagnosis = Diagnosis(lab.Sensitivity(), {}, lambda usual, _: held.append(ref(usual)) or [])
    for n in range(6):
        diagnosis.causes(replace(mine, id=f"INC-{n}"), lambda *_: spans)
    gc.collect()
    assert [usual() is None for usual in held] == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("last", "beside", "until"),
    [
        (250, None, 250),  # as of the last anomaly
        (700, None, 300),  # not beyond what could be usual by then
        (250, 180, 180),  # not beyond the beginning of another fault
        (250, 90, 250),  # which began before the present episode
    ],
)
def test_a_verdict_looks_at_no_more_of_an_incident(last, beside, until):
    mine = incident("INC-1-1", 100, last)
    others = {} if beside is None else {"INC-2-1": incident("INC-2-1", beside, 900)}
    for other in others.values():
        other.beside = [mine.id]
    knobs = lab.Sensitivity(relearn_after_s=200, half_life_s=100)
    diagnosis = Diagnosis(knobs, {mine.id: mine} | others)
    assert diagnosis.bounds(mine) == (at(100 - 2 * 100 - 60).value, at(until).value)
