"""Which calls were waited for, and whose clock is ahead, in traces drawn by hand."""

import numpy as np
import pytest

import aiops_lab as lab
from aiops_lab.traces.encode import encode
from aiops_lab.traces.timing import (
    NO_TIMING,
    Timing,
    clock_offsets,
    clocks_of,
    host_labels,
    learn_timing,
    left_behind,
    pairs_of,
    same_host,
)
from tests.support.traces import MS, ask_another, span

TOP, ASKED = ("a", "/top"), ("b", "/x")
SERVED = (TOP, ASKED, True)
NS = 1e-6  # ms


def encoded(*drawn):
    """Return the spans of some traces, in the order of their starts."""
    return encode(lab.to_frame([made for spans in drawn for made in spans]))


def at(made, instance):
    return made._replace(instance=instance)


# ---- what is not waited for


def ask(n, call_ms=10, served_ms=8, status=200):
    """Return a call from service a to service b."""
    where = {"trace": n, "service": "a"}
    begin = 1000 * n
    return [
        span(1, None, "/top", "server", begin, 100, **where),
        span(2, 1, "/x", "client", begin + 1, call_ms, peer="b", status=status, **where),
        span(3, 2, "/x", "server", begin + 2, served_ms, trace=n, service="b"),
    ]


@pytest.mark.parametrize("by_length", [False, True])
def test_what_takes_half_as_long_again_as_its_call_and_a_millisecond_was_waited_for(by_length):
    assert left_behind(encoded(ask(1, 10, 16)), by_length=by_length) == frozenset()
    assert left_behind(encoded(ask(1, 10, 16 + NS)), by_length=by_length) == {SERVED}


def test_a_call_without_an_answer_tells_nothing_of_waiting():
    still_open = ask(1, 10, None), ask(1, None, 50), ask(1, 10, 50, status=0)
    assert {left_behind(encoded(spans)) for spans in still_open} == {frozenset()}


def test_a_call_is_compared_up_to_the_first_byte_of_its_answer():
    asked = ask(1, 10, 50)
    asked[2] = asked[2]._replace(first_byte_ns=12 * MS)
    assert left_behind(encoded(asked)) == frozenset()


@pytest.mark.parametrize(("late", "left"), [(2, frozenset()), (3, {SERVED})])
def test_most_calls_of_an_edge_decide_for_all(late, left):
    calls = [ask(n, 10, 50 if n <= late else 8) for n in (1, 2, 3, 4)]
    assert left_behind(encoded(*calls)) == left


def test_spans_in_a_circle_tell_nothing_of_waiting():
    circle = [
        span(1, 2, "/x", "client", 0, 10, service="a", peer="b"),
        span(2, 1, "/x", "server", 1, 50, service="b"),
    ]
    assert left_behind(encoded(circle)) == frozenset()


@pytest.mark.parametrize(
    ("begin_ms", "end_ms", "left"),
    [
        (10, 51, False),
        (10, 51 + NS, True),
        (50 - NS, 51, False),
        (50, 50 + NS, True),
        (50, 50, False),
    ],
)
def test_what_ends_a_millisecond_later_or_begins_after_its_parent_outlives_it(
    begin_ms, end_ms, left
):
    """By one clock. A span that begins and ends with its parent's end does not."""
    work = span(2, 1, "work", "internal", begin_ms, round(end_ms - begin_ms, 6), service="a")
    spans = encoded([span(1, None, "/top", "server", 0, 50, service="a"), work])
    assert left_behind(spans) == ({(TOP, ("a", "work"), False)} if left else frozenset())
    assert left_behind(spans, by_length=True) == frozenset()


def message(worker, begin_ms, work_ms):
    """Return the spans of a request that sends a message; it is answered after 50 ms."""
    return [
        span(1, None, "/top", "server", 0, 50, service="a"),
        span(2, 1, "mail", "producer", 10, 20, service="a", peer="queue"),
        span(3, 2, "mail", "consumer", begin_ms, work_ms, service=worker),
    ]


@pytest.mark.parametrize(
    ("worker", "begin_ms", "work_ms", "waited"),
    [("a", 12, 10, True), ("a", 40, 10, False), ("a", 12, None, False), ("b", 12, 10, False)],
)
def test_only_a_message_that_is_handled_while_it_is_sent_was_waited_for(
    worker, begin_ms, work_ms, waited
):
    edge = TOP, (worker, "mail"), True
    left = left_behind(encoded(message(worker, begin_ms, work_ms)))
    assert left == (frozenset() if waited else {edge})


# ---- edges


def test_an_edge_is_who_is_above_what_is_called_and_whether_that_served():
    spans = encoded(
        [
            span(1, None, "/a", "client", 0, 50, service="front", peer="shop"),
            span(2, 1, "/a", "server", 1, 40),
            span(3, 2, "/b", "client", 2, 9, peer="shop"),
            span(4, 2, "a line", "log", 3, 0),
            span(5, 3, "/b", "server", 4, 5),
        ]
    )
    pairs = pairs_of(spans)
    a, b = ("shop", "/a"), ("shop", "/b")
    assert pairs.child.tolist() == [1, 2, 4]
    assert pairs.parent.tolist() == [0, 1, 2]
    assert [pairs.edges[code] for code in pairs.edge] == [
        (None, a, True),
        (a, b, False),
        (a, b, True),
    ]


# ---- clocks


def test_instances_tell_whether_two_spans_have_one_clock():
    spans = encoded(
        [
            span(1, None, "/a", "server", 0, 50, instance="one"),
            span(2, 1, "/a", "server", 1, 40, instance="one"),
            span(3, 1, "work", "internal", 2, 30, instance="two"),
        ]
    )
    child, parent = np.array([1, 2, 0]), np.array([0, 0, 2])
    assert same_host(spans, child, parent).tolist() == [True, False, False]


def test_where_an_instance_is_not_known_only_own_work_has_the_same_clock():
    spans = encoded(
        [
            span(1, None, "/a", "server", 0, 50),
            span(2, 1, "/a", "server", 1, 40),
            span(3, 1, "work", "internal", 2, 30),
            span(4, 1, "work", "internal", 3, 30, service="other"),
            span(5, 1, "work", "internal", 4, 30, instance="one"),
        ]
    )
    child, parent = np.array([1, 2, 3, 4, 2]), np.array([0, 0, 0, 0, 4])
    assert same_host(spans, child, parent).tolist() == [False, True, False, True, True]


def test_a_host_is_named_by_its_instance_or_else_by_its_service():
    spans = encoded([span(1, None, "/a", "server", 0, 50), at(ask(1)[2], "one")])
    host, names = host_labels(spans)
    assert [names[code] for code in host] == ["shop", "b on one"]


def offsets_of(*calls):
    spans = encoded(*calls)
    return clock_offsets(spans, spans.ids.parent)


def test_a_clock_is_ahead_by_the_median_distance_of_midpoints():
    calls = [
        ask_another(10 * n, "a", "b", 100 * n, shift) for n, shift in enumerate([30, 70, 31], 1)
    ]
    behind = [ask_another(100 + n, "a", "c", 100 * n, -50) for n in (0, 10, 20)]
    assert offsets_of(*calls, *behind) == {("a", "b"): 31 * MS, ("a", "c"): -50 * MS}


def test_a_clock_that_fits_is_left_alone():
    """The server span may be off the middle by 10 ms: then it still lies in its client span."""
    assert offsets_of(ask_another(1, "a", "b", 0, 10)) == {}
    assert offsets_of(ask_another(1, "a", "b", 0, 11)) == {("a", "b"): 11 * MS}


def test_only_answered_calls_tell_about_clocks():
    first = ask_another(1, "a", "b", 0, 50)
    late = ask_another(10, "a", "b", 100, 90)
    open_client = [late[0], late[1]._replace(duration_ns=None), late[2]]
    open_server = [late[0], late[1], late[2]._replace(duration_ns=None)]
    direct = [late[0], late[2]._replace(parent_id=late[0].span_id)]
    for others in (open_client, open_server, direct, []):
        assert offsets_of(first, others) == {("a", "b"): 50 * MS}


def test_the_clock_of_each_server_span_below_another_host_is_ahead():
    spans = encoded(
        ask_another(1, "a", "b", 0, 0),
        ask_another(11, "a", "c", 100, 0),
        ask_another(21, "c", "b", 200, 0),
    )
    ahead = {("a", "b"): 5, ("a", "gone"): 7, ("gone", "c"): 8}
    clocks = clocks_of(spans, spans.ids.parent, Timing(ahead, frozenset()))
    assert clocks.ahead.tolist() == [0, 0, 5, 0, 0, 0, 0, 0, 0]
    clocks = clocks_of(spans, spans.ids.parent, NO_TIMING)
    assert clocks.ahead.tolist() == [0] * 9


def test_a_root_has_nobody_whose_clock_it_could_be_ahead_of():
    """The last span is another service's: a root must not be taken for its child."""
    spans = encoded([span(1, None, "/b", "server", 0, 9, service="b")], ask(1)[:1])
    clocks = clocks_of(spans, spans.ids.parent, Timing({("a", "b"): 5}, frozenset()))
    assert clocks.ahead.tolist() == [0, 0]
    assert clocks.movable.tolist() == [False, False]


def test_what_another_host_served_may_be_moved_if_the_call_was_answered():
    asked = ask(1), ask(2, status=0), ask(3, None), ask(4, 10, None)
    same = [made._replace(service="a") for made in ask(5)]
    two = [at(made, name) for made, name in zip(same, "112", strict=True)]
    cases = {"answered": asked[0], "two instances": two}
    others = {"failed": asked[1], "open": asked[2], "not served": asked[3], "own": same}
    for name, made in (cases | others).items():
        spans = encoded(made)
        movable = clocks_of(spans, spans.ids.parent, NO_TIMING).movable
        assert movable.tolist() == [False, False, name in cases], name


def test_clocks_are_learnt_from_the_calls_that_were_waited_for():
    calls = ask_another(1, "a", "b", 0, 30), ask_another(11, "a", "c", 100, 500, ms=200)
    timing = learn_timing(encoded(*calls))
    assert timing.ahead == {("a", "b"): 30 * MS}
    assert timing.left == {(TOP, ("c", "/x"), True)}
