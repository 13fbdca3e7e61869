"""Counts of served requests, read bit by bit from a real store."""

import sqlite3

import pytest

import aiops_lab as lab
from aiops_lab.record import counting
from aiops_lab.record.counting import EndpointName
from aiops_lab.record.request_counter import OTHER_ENDPOINTS, RequestCounter

BOUNDS_S = (0.01, 0.1)
SECOND = 1_000_000_000


def span(n, endpoint="/a", ms=5.0, **fields):
    place = ("s", endpoint, "server", None)
    times = (1_767_225_600 * SECOND + n, None if ms is None else int(ms * 1e6))
    made = lab.Span(f"{n:032x}", f"{n:016x}", None, *place, *times, 200, None, method="GET")
    return made._replace(**fields)


@pytest.fixture
def store(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        yield store


def put(store, *spans):
    for each in spans:
        store.add(each)
    store.flush()


def seal(store):
    store.mark(store.position())


def counts(store, most_endpoints=10):
    return RequestCounter(store, BOUNDS_S, most_endpoints).read()


A = EndpointName("s", "GET", "/a")


def test_a_duration_at_a_bound_is_in_its_bucket(store):
    put(store, *(span(n, ms=ms) for n, ms in enumerate([1, 10, 10.001, 100, 100.001])))
    found = counts(store)[A]
    assert found.buckets == [2, 2, 1]
    assert found.duration_us == 221_002


def test_a_5xx_no_answer_and_an_exception_are_failures_and_a_4xx_is_none(store):
    answers = [(200, None), (499, None), (500, None), (0, None), (200, "ValueError: x")]
    put(store, *(span(n, status=s, error=e) for n, (s, e) in enumerate(answers)))
    assert counts(store)[A].failed == 3


def test_calls_and_open_requests_are_not_counted(store):
    put(store, span(1), span(2, kind="client", peer="p"), span(3, ms=None), span(4, kind="log"))
    assert {place: sum(c.buckets) for place, c in counts(store).items()} == {A: 1}


def test_rows_are_counted_once_before_and_after_they_are_sealed(store):
    counter = RequestCounter(store, BOUNDS_S, 10)
    totals = []
    for n in range(6):
        put(store, span(2 * n), span(2 * n + 1))
        totals.append(sum(counter.read()[A].buckets))
        if n % 2:
            seal(store)
            totals.append(sum(counter.read()[A].buckets))
    assert totals == [2, 4, 4, 6, 8, 8, 10, 12, 12]
    assert sum(counts(store)[A].buckets) == 12  # after a restart


def test_many_rows_are_counted_in_steps(store, monkeypatch):
    monkeypatch.setattr(counting, "STEP", 3)
    put(store, *map(span, range(10)))
    seal(store)
    put(store, span(10))
    assert sum(counts(store)[A].buckets) == 11


@pytest.fixture
def counted(store):
    """Return a counter that has read four rows of the store."""
    put(store, *map(span, range(4)))
    seal(store)
    counter = RequestCounter(store, BOUNDS_S, 10)
    counter.read()
    return counter


def change(store, statement):
    with sqlite3.connect(store.path) as db:
        db.execute(statement)
    db.close()


def test_what_was_counted_is_not_read_again(store, counted):
    change(store, "UPDATE spans SET status = 500")
    assert counted.read()[A].failed == 0
    assert counts(store)[A].failed == 4


def test_a_store_that_lost_its_rows_is_counted_anew(store, counted):
    change(store, "DELETE FROM spans WHERE rowid > 1")
    assert sum(counted.read()[A].buckets) == 1


def test_endpoints_after_the_first_ones_are_counted_together(store):
    put(store, *(span(n, f"/{n % 5}") for n in range(10)))
    found = counts(store, most_endpoints=2)
    assert [place.endpoint for place in found] == ["/0", "/1", OTHER_ENDPOINTS]
    assert sum(found[EndpointName("", "", OTHER_ENDPOINTS)].buckets) == 6


def test_the_method_is_not_a_part_of_the_endpoint(store):
    put(store, span(1, "POST /a", method=None), span(2, "queue", kind="consumer", method=None))
    assert set(counts(store)) == {EndpointName("s", "POST", "/a"), EndpointName("s", "", "queue")}


def test_a_duration_that_cannot_be_does_not_break_the_sum(store):
    put(store, *(span(n, duration_ns=2**62) for n in range(5)))
    assert counts(store)[A].duration_us == 5 * 30 * 86_400_000_000
