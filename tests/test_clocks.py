"""The clock of a monitor, and those of the spans, do what clocks do: detection goes on."""

import pandas as pd
import pytest

import aiops_lab as lab
from tests.support.made import Shop, fault
from tests.support.played import at, to_spans

HOUR_S = 3600
YEAR_S = 365 * 86_400


@pytest.fixture
def store(tmp_path):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        yield store


def traffic(seed, seconds, begin=0.0, effect=None):
    """Spans of a shop, with ids of their own, moved by `begin` seconds."""
    shop = Shop(seed, effect)
    shop.run(seconds)
    moved = [_moved(span, f"{seed:x}", int(begin * 1e9)) for span in shop.spans]
    return lab.to_frame(moved)


def _moved(span, digit, by_ns):
    parent = span.parent_id and digit + span.parent_id[1:]
    return span._replace(
        trace_id=digit + span.trace_id[1:],
        span_id=digit + span.span_id[1:],
        parent_id=parent,
        start_ns=span.start_ns + by_ns,
    )


def hand_over(store, frame):
    for row in to_spans(frame):
        store.add(lab.Span(*row))
    store.flush()


def step_through(monitor, first, last, by=10):
    """All incidents that any step between two seconds returned."""
    return [incident for t in range(first, last + 1, by) for incident in monitor.step(at(t))]


def learned(monitor):
    """How many requests of /payment the monitor has learned from."""
    code = monitor._pipeline.keys["shop", "/payment"]
    return monitor._pipeline.state[code]["count"]


@pytest.mark.parametrize(("ahead_s", "restart"), [(HOUR_S, True), (YEAR_S, False)])
def test_a_minute_of_a_clock_that_is_ahead_blinds_nobody(store, ahead_s, restart):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 300))
    step_through(monitor, 201, 301, by=50)
    hand_over(store, traffic(2, 60, 300 + ahead_s))
    step_through(monitor, 331 + ahead_s, 361 + ahead_s, by=30)
    assert monitor.judged_until == at(360 + ahead_s)
    if restart:
        monitor = lab.Monitor(store)
    slow = fault("/payment", 20, 100, added_ms=3000)
    hand_over(store, traffic(3, 100, 360, slow))
    found = step_through(monitor, 371, 461, by=30)
    assert {i.root_cause.endpoint for i in found} == {"/payment"}
    assert at(380) < found[0].first_detected <= at(400)
    (change,) = monitor.clock_changes
    assert change == (at(371), at(360 + ahead_s), at(370))


def test_a_step_back_of_an_hour_judges_the_hour(store, caplog):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 300, HOUR_S))
    monitor.step(at(HOUR_S + 301))
    before = learned(monitor)
    slow = fault("/payment", 120, 200, added_ms=3000)
    hand_over(store, traffic(2, 300, 301, slow))
    found = step_through(monitor, 301, 621, by=40)
    assert at(420) < found[0].first_detected <= at(440)
    assert "the clock went back to" in caplog.text
    assert before < learned(monitor)


def test_windows_that_come_again_are_not_learned_twice(store):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 600))
    monitor.step(at(601))
    before = learned(monitor)
    monitor.step(at(301))
    assert monitor.judged_until == at(300)
    monitor.step(at(601))
    assert monitor.judged_until == at(600)
    assert learned(monitor) == before
    hand_over(store, traffic(2, 60, 600))
    monitor.step(at(661))
    assert learned(monitor) > before


def test_an_open_incident_of_the_future_ends_where_it_was_seen_last(store):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 300, YEAR_S, fault("/payment", 200, 300, added_ms=3000)))
    (old,) = monitor.step(at(YEAR_S + 291))
    assert old.status == "active"
    hand_over(store, traffic(2, 300, 0, fault("/payment", 200, 300, added_ms=3000)))
    new = step_through(monitor, 11, 291, by=40)[-1]
    old = monitor.incident(old.id)
    assert (old.status, old.resolved_at) == ("resolved", old.last_anomaly)
    assert new.id != old.id
    assert at(200) < new.first_detected <= new.last_anomaly <= at(290)
    assert new.root_cause.endpoint == "/payment"


@pytest.mark.parametrize("far", ["2027-01-01", "2099-12-31T23:59:59"])
def test_a_now_far_ahead_moves_no_window_for_good(store, far):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 300))
    monitor.step(at(301))
    monitor.step(pd.Timestamp(far, tz="UTC"))
    assert monitor.judged_until < at(HOUR_S)
    hand_over(store, traffic(2, 300, 300, fault("/payment", 20, 200, added_ms=3000)))
    found = step_through(monitor, 311, 401, by=30)
    assert at(320) < found[0].first_detected <= at(340)


def test_small_steps_back_change_nothing(store):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 300))
    monitor.step(at(301))
    assert monitor.step(at(293)) == []
    assert monitor.judged_until == at(300)
    assert monitor.clock_changes == []


@pytest.mark.parametrize(
    ("now", "rule"),
    [
        (pd.NaT, "must be a time in the years 1990 to 2100, got NaT"),
        (pd.Timestamp("1970-01-01", tz="UTC"), "in the years 1990 to 2100, got .*1970"),
        (pd.Timestamp("2262-01-01"), "in the years 1990 to 2100, got .*2262"),
        ("9999-12-31", "must be a time.*got '9999-12-31'"),
        ("tomorrow or so", "must be a time, got 'tomorrow or so'"),
    ],
)
def test_a_now_that_cannot_be_is_refused(store, now, rule):
    with pytest.raises(ValueError, match=rule):
        lab.Monitor(store).step(now)


def test_a_now_of_any_zone_is_the_same_moment(tmp_path):
    judged = []
    for name, now in {
        "naive": pd.Timestamp("2026-01-01T00:05:01"),
        "utc": at(301),
        "east": at(301).tz_convert("Asia/Tokyo"),
    }.items():
        with lab.SpanStore(tmp_path / name) as store:
            monitor = lab.Monitor(store)
            hand_over(store, traffic(1, 300))
            monitor.step(now)
            judged.append(monitor.judged_until)
    assert judged == [at(300)] * 3


S = 10**9
BAD_TIMES = {
    "1677": (-(2**63), 10**6),
    "1970": (0, 10**6),
    "2262": (2**63 - 2 * 10**6, 10**6),
    "thirty years long": (at(250).value, 10**18),
    "began 40 days ago": (at(250).value - 40 * 86_400 * S, 40 * 86_400 * S),
    "a year ahead": (at(250 + YEAR_S).value, 10**6),
}


def test_a_span_of_an_impossible_time_is_counted_and_passed_over(store):
    monitor = lab.Monitor(store)
    hand_over(store, traffic(1, 200))
    monitor.step(at(201))
    hand_over(store, traffic(2, 150, 200, fault("/payment", 60, 150, added_ms=3000)))
    place = "shop", "/payment", "server", None
    found = []
    for n, (name, times) in enumerate(BAD_TIMES.items(), 1):
        store.add(lab.Span(f"{n:032x}", f"{n:016x}", None, *place, *times, 200, None))
        found += monitor.step(at(211 + 10 * n))
        assert monitor.passed_over == n, f"{name} is not passed over"
        assert monitor.judged_until == at(210 + 10 * n), f"{name} moved the windows"
    found += monitor.step(at(351))
    assert at(260) < found[0].first_detected <= at(280)
    assert monitor.passed_over == len(BAD_TIMES)
    assert lab.Monitor(store).passed_over == len(BAD_TIMES)


BAD_VALUES = {
    "another kind": {"kind": "batch"},
    "no kind": {"kind": ""},
    "no status": {"status": None},
    "a status of another protocol": {"status": 14},
    "a status that is too large": {"status": 1000},
    "a negative duration": {"duration_ns": -1},
    "an answer before the request": {"first_byte_ns": -1},
    "before 1990": {"start_ns": 1},
}


@pytest.mark.parametrize("values", BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_span_that_check_would_refuse_is_counted_once_and_stops_no_monitor(store, values):
    place = "shop", "/x", "server", None
    bad = lab.Span("b" * 32, "b" * 16, None, *place, at(100).value, 10**6, 200, None)
    store.add(bad._replace(**values))
    hand_over(store, traffic(1, 200))
    monitor = lab.Monitor(store)
    monitor.step(at(201))
    monitor.step(at(301))
    assert monitor.judged_until == at(300)
    assert monitor.passed_over == 1
    assert "/x" not in monitor.metrics(at(301))


@pytest.mark.parametrize("wrong", [None, 5, "spans.sqlite", pd.DataFrame()])
def test_a_monitor_of_no_store_is_refused(wrong):
    with pytest.raises(ValueError, match="store must be a SpanStore, got"):
        lab.Monitor(wrong)
