"""Workers that are busy with requests that are usually not made: not who waits for them is the
cause, but who makes the requests.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab.explain import queueing
from aiops_lab.explain.attribution import ROUNDING_NS, _calls
from aiops_lab.explain.ledger import Comparison, compare
from aiops_lab.explain.pauses import with_pauses
from aiops_lab.explain.queueing import EXTRA, NEEDED, REPEATED
from aiops_lab.explain.ranking import rank_suspects
from aiops_lab.record.faults import Fault
from aiops_lab.traces.trees import critical_path
from shop.topology import Call, Endpoint, Topology
from shop.virtual_time.scenario import Place, Scenario, VirtualFault
from shop.virtual_time.twins import windows_of
from tests.explain.test_ranking import conserves
from tests.support.made import BEGIN, MS

ROWS: Place = ("store", "/rows")
STOCK: Place = ("store", "/stock")


def store(fault: Fault, rows: Call, **fields) -> Scenario:
    """Return a store with few workers, of which web asks for rows and desk for stock."""
    asking = (
        Endpoint("web", "/web", calls=(rows,)),
        Endpoint("desk", "/desk", calls=(Call(*STOCK, timeout_s=2.0),)),
    )
    asked = tuple(Endpoint(*place, median_ms=20) for place in (ROWS, STOCK))
    fields |= {
        "mix": {"/web": 0.5, "/desk": 0.5},
        "faults": (fault,),
        "causes": ((fault.service, fault.endpoint),),
    }
    return Scenario("store", topology=Topology(asking + asked, "web"), **fields)


@cache
def many_at_once() -> Comparison:
    """Return a time in which web asks for rows seven times at once; the rows then wait."""
    how = {"times": 7, "at_once": True, "start_s": 60.0, "end_s": 90.0}
    fault = VirtualFault("repeat", "web", "/web", **how)
    workers = {"store": 2}
    return explained(store(fault, Call(*ROWS), rate=20.0, seconds=95.0, workers=workers))


@cache
def asked_again() -> Comparison:
    """Return a time after a slow one, in which web still gives up and asks again."""
    fault = Fault("delay", *ROWS, start_s=60.0, end_s=70.0, duration_ms=500.0)
    rows = Call(*ROWS, timeout_s=0.25, retries=4)
    how = {"workers": {"store": 1}, "window": (80.0, 110.0)}
    return explained(store(fault, rows, rate=22.0, seconds=115.0, **how))


def given_up_at_the_gate() -> Comparison:
    """Return such a time behind a gate with few workers: customers give up while they wait for
    these, so that none of their time is spent in the store.
    """
    rows, stock = Call(*ROWS, timeout_s=0.25, retries=4), Call(*STOCK)
    endpoints = (
        Endpoint("web", "/web", calls=(Call("gate", "/gate", timeout_s=0.6),)),
        Endpoint("desk", "/desk", calls=(Call("gate", "/ask", timeout_s=0.6),)),
        Endpoint("gate", "/gate", calls=(rows,)),
        Endpoint("gate", "/ask", calls=(stock,)),
        *(Endpoint(*place, median_ms=20) for place in (ROWS, STOCK)),
    )
    fault = Fault("delay", *ROWS, start_s=60.0, end_s=70.0, duration_ms=500.0)
    still = store(fault, rows, rate=20.0, window=(80.0, 110.0), seconds=115.0)
    workers = {"store": 1, "gate": 16}
    return explained(replace(still, topology=Topology(endpoints, "web"), workers=workers))


def explained(scenario: Scenario) -> Comparison:
    normal, abnormal = windows_of(scenario, shop.virtual(scenario, 1))
    return compare(lab.learn(normal), abnormal)


def test_the_wait_for_workers_that_serve_too_many_calls_is_their_callers() -> None:
    comparison = many_at_once()
    conserves(comparison.ledger)
    rows = comparison.ledger.rows.set_index(["entry", "account"])
    assert rows.loc[("/desk", "/stock own time"), "reassigned"] < -10
    assert [suspect.key for suspect in rank_suspects(comparison)] == [("web", "/web")]


def test_the_wait_for_workers_that_serve_repeated_calls_is_that_of_who_is_asked_again() -> None:
    comparison = asked_again()
    conserves(comparison.ledger)
    rows = comparison.ledger.rows.query("not masked").set_index(["entry", "account"])
    assert rows.loc[("/desk", "/stock own time"), "excess"] == pytest.approx(0)
    assert rows.loc[("/desk", "/rows own time"), "reassigned"] > 1000
    assert rank_suspects(comparison)[0].key == ROWS


def test_failures_of_who_waits_are_those_of_who_is_asked_again() -> None:
    comparison = asked_again()
    rows = comparison.ledger.rows.query("unit == 'failures' and not masked")
    excess = rows.set_index(["entry", "account"])["excess"]
    assert excess["/desk", "/stock itself"] == pytest.approx(0)
    assert excess["/desk", "/rows itself"] > 0.9


def test_who_waits_for_calls_that_are_needed_was_given_up_if_it_answers_well() -> None:
    now = service("store", asked_again())
    failing = now.each.loc[now.each["failed"], "account"].unique()
    after = now._replace(away=pd.Series([1e15], index=[0]))
    found = queueing.find_contention(usual(asked_again()), after, lab.RcaConfig())
    assert found is not None
    assert found.given_up.size
    assert found.given_up.tolist() == [each for each in found.waiting if each not in failing]


def test_a_gate_whose_workers_all_wait_hides_no_busy_store_behind_it() -> None:
    assert [suspect.key for suspect in rank_suspects(given_up_at_the_gate())] == [ROWS]


def test_calls_that_are_repeated_because_others_wait_are_no_cause() -> None:
    after = service("store", asked_again())._replace(away=pd.Series([1e15], index=[0]))
    found = queueing.find_contention(usual(asked_again()), after, lab.RcaConfig())
    assert found is not None
    assert found.share.index.tolist() == [0]


def contention(comparison: Comparison) -> queueing.Contention:
    after = service("store", comparison)
    found = queueing.find_contention(usual(comparison), after, comparison.config)
    assert found is not None
    return found


def service(name: str, comparison: Comparison) -> queueing.ServiceRequests:
    found = queueing.service_requests(name, comparison)
    assert found is not None
    return found


def usual(comparison: Comparison) -> queueing.ServiceRequests | None:
    return comparison.reference.requests_of("store")


def test_requests_that_arrive_at_once_are_in_the_order_in_which_they_are_served() -> None:
    each = service("store", many_at_once()).each
    waits = queueing._wait(each, lab.RcaConfig())
    works_ms = (each["own"] - waits) / MS
    assert works_ms.mean() == pytest.approx(22, abs=2)  # the work of 20 ms, and the network


def test_needless_requests_are_counted_per_request_of_the_others() -> None:
    usually = requests(extra=[NEEDED] * 4)
    now = requests(extra=[NEEDED, NEEDED, 7, 7])
    more = queueing._more_needless(usually, now, EXTRA)
    assert more.to_dict() == {7: 100.0}
    assert queueing._more_needless(now, now, EXTRA).to_dict() == {7: 0.0}
    assert queueing._more_needless(usually, now, REPEATED).to_dict() == {}


def requests(extra: list[int]) -> pd.DataFrame:
    """Return requests of one endpoint that keep a worker for 100 ns."""
    columns = {"account": 0, "start": 0, "end": 100, EXTRA: extra, REPEATED: NEEDED}
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("begins", "repeats"),
    [(0, False), (20 * MS - ROUNDING_NS - 1, False), (20 * MS - ROUNDING_NS, True)],
)
def test_a_call_repeats_one_that_had_failed_when_it_began(begins: int, repeats: bool) -> None:
    def span(k: int, parent: str | None, kind: str, start: int, status: int) -> lab.Span:
        place = ("web", "/rows" if parent else "/web", kind, "store" if parent else None)
        return lab.Span("1" * 32, f"{k:016x}", parent, *place, BEGIN + start, 20 * MS, status, None)

    calls = [span(2, f"{1:016x}", "client", 0, 503), span(3, f"{1:016x}", "client", begins, 200)]
    trees = lab.learn(lab.to_frame([span(1, None, "server", 0, 200), *calls])).trees
    assert np.sort(_calls(trees).repeats).tolist() == [False, repeats]


def test_repeated_calls_count_by_how_often_each_caller_repeats_them() -> None:
    repeated = [7, 7, 7, 7, 8, 8, NEEDED]
    now = pd.DataFrame({REPEATED: repeated, "asked_by": [1, 1, 2, 2, 3, 4, 5]})
    times = pd.Series([100.0, 200.0], index=[7, 8])
    again = queueing._by_attempts(times, now)  # 7 is repeated twice by each who repeats it
    assert again.to_dict() == {7: 150.0, 8: 150.0}
    nobody = times.iloc[:0]
    assert queueing._by_attempts(nobody, now).empty


@pytest.mark.parametrize(
    ("wait_ms", "work_ms", "waits"),
    [(14.0, 35.0, False), (16.0, 35.0, True), (0.0, 19.0, False), (1.0, 19.0, True)],
)
def test_who_works_longer_than_it_waits_does_not_only_wait(
    wait_ms: float, work_ms: float, waits: bool
) -> None:
    now = pd.DataFrame({"account": 3, "wait": wait_ms, "work": work_ms, "failed": False}, index=[0])
    found = queueing._only_waits(now, pd.Series({3: 20.0}), lab.RcaConfig())
    assert found.to_dict() == {3: waits}


@pytest.mark.parametrize(("wait", "least"), [(49.0, 50.0), (51.0, 10.0)])
def test_from_which_growth_a_service_is_contended_depends_on_the_wait(
    wait: float, least: float
) -> None:
    got = queueing._least_growth(100.0, np.array([wait]), lab.RcaConfig())
    assert got == pytest.approx(least)


def test_a_failed_call_keeps_its_caller_until_it_is_repeated() -> None:
    def span(k: int, parent: str | None, start: int, end: int, status: int = 200) -> lab.Span:
        where = ("/rows", "client", "store") if parent else ("/web", "server", None)
        times = BEGIN + start * MS, (end - start) * MS
        return lab.Span("1" * 32, f"{k:016x}", parent, "web", *where, *times, status, None)

    web = f"{1:016x}"
    calls = [span(2, web, 10, 30, 503), span(3, web, 80, 90), span(4, web, 95, 100)]
    trees = lab.learn(lab.to_frame([span(1, None, 0, 110), *calls])).trees
    repeats = np.zeros(4, dtype=bool)
    calls_made = _calls(trees)
    repeats[calls_made.span] = calls_made.repeats
    span_at, ns = critical_path(with_pauses(trees, repeats))
    assert dict(zip(trees.start[span_at] // MS - BEGIN // MS, ns / MS, strict=True)) == {
        0: 25,
        10: 70,
        80: 10,
        95: 5,
    }
    assert with_pauses(trees, np.zeros(4, dtype=bool)) is trees
