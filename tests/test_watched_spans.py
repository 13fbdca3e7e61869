"""Which spans of a store a monitor takes in, and which it passes over or has judged already."""

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.watched_spans import WatchedSpans
from tests.support.played import at
from tests.support.traces import span

TEN, TWENTY = at(10).value, at(20).value


def server(n, begin_ms, duration_ms=50, **about):
    return span(n, None, "/pay", "server", begin_ms, duration_ms, trace=n, **about)


@pytest.fixture
def store(tmp_path):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        yield store


def add(store, *spans):
    for each in spans:
        store.add(each)
    store.flush()


def ids(frame: pd.DataFrame) -> list[int]:
    return [int(each, 16) for each in frame["span_id"]]


def test_impossible_spans_are_left_out_and_each_is_counted_once(store):
    add(store, server(1, 1_000), server(2, 2_000, status=1000), server(3, 15_000, status=1000))
    watched = WatchedSpans(store, {})
    assert ids(watched.new(None, TEN, None)) == [1]
    assert watched.passed_over == 1
    watched.new(None, TWENTY, TEN)
    assert watched.passed_over == 2
    assert ids(watched.between(None, None)) == [1]


def test_the_last_seconds_are_those_before_a_moment(store):
    add(store, server(1, 1_000), server(2, 8_000))
    assert ids(WatchedSpans(store, {}).last(5.0, at(10))) == [2]


@pytest.mark.parametrize(("until_s", "newest_s"), [(5, 2), (7, 7), (0.5, 0)])
def test_the_newest_moment_is_an_end_or_while_it_is_open_a_start(until_s, newest_s):
    frame = lab.to_frame([server(1, 1_000, 1_000), server(2, 6_000, 1_000)])
    found = WatchedSpans(None, {}).find_newest(frame, at(until_s).value)
    assert found == (at(newest_s).value if newest_s else 0)


def test_the_newest_moment_never_falls():
    watched = WatchedSpans(None, {"newest": TWENTY})
    assert watched.find_newest(lab.to_frame([server(1, 1_000)]), TEN) == TWENTY


def test_what_a_clock_ahead_had_judged_is_left_out_until_the_windows_are_past_it(store):
    add(store, server(1, 15_000))
    watched = WatchedSpans(store, {})
    watched.new(None, TWENTY, None)
    watched.find_newest(watched.between(None, None), TWENTY)
    watched.leave_out_judged(TWENTY, TEN)
    add(store, server(2, 16_000))
    assert ids(watched.between(None, None)) == [2]
    assert watched.newest_ns == TEN
    again = WatchedSpans(store, watched.to_record(TEN))
    assert ids(again.between(None, None)) == [2]
    again.to_record(TWENTY)
    assert ids(again.between(None, None)) == [1, 2]
