"""Which calls lack a span, and where that differs from usual, in traces drawn by hand."""

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.traces.encode import encode
from aiops_lab.traces.recorded import RecordedCalls, recorded_calls, timing_as_recorded
from aiops_lab.traces.timing import NO_TIMING
from tests.support.traces import span

TOP, ASKED = ("a", "/top"), ("b", "/x")
CALL, SERVED = (TOP, ASKED, False), (TOP, ASKED, True)


def encoded(*drawn):
    return encode(lab.to_frame([made for spans in drawn for made in spans]))


def ask(n, *, call=True, answer=True, call_ms=10, took_ms=8, status=200):
    """Return a request to service a, which calls service b; either span of the call may lack."""
    where = {"trace": n, "service": "a"}
    begin = 100 * n
    top = span(1, None, "/top", "server", begin, 50, **where)
    calling = span(2, 1, "/x", "client", begin + 1, call_ms, peer="b", status=status, **where)
    served = span(3, 2, "/x", "server", begin + 2, took_ms, trace=n, service="b")
    return [top, *[calling] * call, *[served] * answer]


def table(counts):
    """Return {edge: (calls, of them without a span)}."""
    rows = counts.itertuples(name=None)
    return {edge: (int(n), int(k)) for edge, n, k in rows}


def test_calls_that_were_answered_well_lack_the_span_of_who_served_them():
    calls = ask(1), ask(2, answer=False), ask(3, answer=False, status=399)
    served = recorded_calls(encoded(*calls)).served
    assert table(served) == {CALL: (3, 2)}


def test_a_call_without_a_good_answer_does_not_count():
    lost = ask(1, answer=False, status=400), ask(2, answer=False, status=0)
    still_open = ask(3, answer=False, call_ms=None)
    assert table(recorded_calls(encoded(*lost, still_open)).served) == {}


def test_served_calls_lack_the_span_of_the_call_where_only_their_caller_is_recorded():
    calls = ask(1), ask(2, call=False), ask(3, call=False), ask(4)[2:]
    assert table(recorded_calls(encoded(*calls)).requests) == {SERVED: (3, 2)}


def test_who_usually_serves_whom_may_be_known_from_elsewhere():
    hidden = encoded(ask(1, call=False))
    assert table(recorded_calls(hidden).requests) == {}
    assert table(recorded_calls(hidden, [SERVED]).requests) == {SERVED: (1, 1)}
    assert table(recorded_calls(hidden, [CALL, (("gone", "/"), ASKED, True)]).requests) == {}


def test_calls_by_nobody_known_and_calls_without_their_span_are_counted_side_by_side():
    lone_call = ask(2, call_ms=20)[1:]
    counted = recorded_calls(encoded(ask(1, call=False), lone_call), [SERVED]).requests
    assert table(counted) == {(None, ASKED, True): (1, 0), SERVED: (1, 1)}


# ---- unlike usual


def usual(share, edge=SERVED, n=1_000_000):
    """Return of one edge how often, of very many calls, a span is missing as usual."""
    counts = pd.DataFrame({"n": [n], "k": [share * n]}, pd.Index([edge], tupleize_cols=False))
    nothing = counts[:0]
    return RecordedCalls(nothing, counts) if edge[2] else RecordedCalls(counts, nothing)


def unanswered(n, k):
    """Return the spans of n calls, k of which reached nobody who is recorded."""
    return encoded(*(ask(number, answer=number > k) for number in range(1, n + 1)))


def uncalled(n, k):
    """Return the spans of n served calls, k of which lack the span of the call."""
    return encoded(*(ask(number, call=number > k) for number in range(1, n + 1)))


@pytest.mark.parametrize(("k", "cut"), [(10, frozenset()), (11, {CALL})])
def test_a_share_must_differ_by_more_than_a_tenth(k, cut):
    timing = timing_as_recorded(NO_TIMING, usual(0, CALL), unanswered(100, k))
    assert timing.cut == cut
    assert timing.hidden == frozenset()


@pytest.mark.parametrize(("n", "cut"), [(8, frozenset()), (10, {CALL})])
def test_a_share_must_differ_by_more_than_chance(n, cut):
    """At three standard errors, 0 of 8 may be a half (9 / 17), and 0 of 10 (9 / 19) is less."""
    timing = timing_as_recorded(NO_TIMING, usual(0.5, CALL), unanswered(n, 0))
    assert timing.cut == cut


@pytest.mark.parametrize(("k", "hidden"), [(2, frozenset()), (3, {CALL, SERVED})])
def test_calls_that_lack_their_own_spans_count_for_nothing(k, hidden):
    """Where none do as usual: 2 of 20 are no more than a tenth."""
    timing = timing_as_recorded(NO_TIMING, usual(0), uncalled(20, k))
    assert timing.hidden == hidden
    assert timing.cut == frozenset()


def test_what_was_clearly_not_waited_for_is_waited_for_nowhere():
    late = encoded(*(ask(n, took_ms=40) for n in range(1, 4)))
    assert timing_as_recorded(NO_TIMING, usual(0), late).left == {SERVED}
    before = NO_TIMING._replace(left=frozenset({CALL}))
    assert timing_as_recorded(before, usual(0), late).left == {SERVED, CALL}
