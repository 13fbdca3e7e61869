"""Where the time of a trace went, in traces drawn by hand."""

import numpy as np
import pandas as pd

import aiops_lab as lab
from aiops_lab.traces import encode, trees
from aiops_lab.traces.timing import NO_TIMING, Timing
from tests.support.made import BEGIN
from tests.support.traces import CHECKOUT, MS, ask_another, span


def test_self_time_of_a_trace_drawn_by_hand():
    own = lab.self_time(lab.to_frame(CHECKOUT))
    assert own.tolist() == [22.0, 4.0, 46.0, 2.0, 26.0]


def test_overlapping_children_are_not_counted_twice():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 100),
            span(2, 1, "/b", "client", 10, 50),
            span(3, 1, "/c", "client", 30, 50),
        ]
    )
    assert lab.self_time(frame)[0] == 30.0


def test_a_child_that_outlives_its_parent_is_clipped():
    frame = lab.to_frame(
        [span(1, None, "/a", "server", 0, 100), span(2, 1, "/b", "server", 60, 500)]
    )
    assert lab.self_time(frame).tolist() == [60.0, 500.0]


def test_an_open_child_covers_the_rest_of_its_parent():
    frame = lab.to_frame(
        [span(1, None, "/a", "server", 0, 100), span(2, 1, "/b", "server", 60, None)]
    )
    own = lab.self_time(frame)
    assert own[0] == 60.0
    assert np.isnan(own[1])


def test_self_time_keeps_the_order_and_index_of_its_frame():
    frame = lab.to_frame(CHECKOUT)
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(lab.self_time(shuffled).sort_index(), lab.self_time(frame))


def test_a_cycle_of_parents_ends():
    frame = lab.to_frame(
        [span(1, 2, "/a", "client", 0, 10, peer="x"), span(2, 1, "/b", "client", 0, 10, peer="y")]
    )
    assert lab.service_graph(frame).empty
    forest = trees.build_trees(encode.encode(frame), 2 * 10**18, NO_TIMING)
    assert (forest.root == -1).all()
    assert trees.critical_path(forest)[0].size == 0


def test_no_spans_have_no_self_time():
    assert lab.self_time(lab.to_frame([])).empty


def path_of(spans, until_ms=1000, offsets=None, tops=()):
    """Return the milliseconds of each span on the critical path."""
    encoded = encode.encode(lab.to_frame(spans))
    mask = np.isin(np.arange(len(spans)), tops)
    timing = Timing(offsets or {}, frozenset())
    built = trees.build_trees(encoded, BEGIN + until_ms * MS, timing, mask)
    position, ns = trees.critical_path(built)
    rows = encoded.row[position].tolist()
    return {row: part / MS for row, part in zip(rows, ns.tolist(), strict=True)}


def test_the_critical_path_of_a_trace_drawn_by_hand():
    assert path_of(CHECKOUT) == {0: 22, 1: 4, 2: 46, 3: 2, 4: 26}


def test_a_request_waits_for_the_child_that_ends_last():
    """The other child counts up to its start only; one that ended before that counts as a whole."""
    spans = [
        span(1, None, "/a", "server", 0, 100),
        span(2, 1, "/b", "server", 10, 60),
        span(3, 1, "/c", "server", 50, 40),
        span(4, 1, "/d", "server", 60, 20),
    ]
    assert path_of(spans) == {0: 20, 1: 40, 2: 40}


def test_children_that_outlive_their_parent_end_with_it_and_the_first_counts():
    spans = [
        span(1, None, "/a", "server", 0, 100),
        span(2, 1, "/b", "server", 10, 110),
        span(3, 1, "/c", "server", 50, 150),
    ]
    assert path_of(spans) == {0: 10, 1: 90}


def test_log_lines_take_no_time():
    spans = [span(1, None, "/a", "server", 0, 100), span(2, 1, "/line", "log", 10, 50)]
    assert path_of(spans) == {0: 100}


def test_what_is_open_ends_when_the_recording_does():
    spans = [span(1, None, "/a", "server", 0, None), span(2, 1, "/b", "server", 10, None)]
    assert path_of(spans, until_ms=30) == {0: 10, 1: 20}


def test_a_top_is_a_root_of_its_own():
    spans = [span(1, None, "/a", "server", 0, 100), span(2, 1, "/b", "server", 10, 50)]
    assert path_of(spans, tops=[1]) == {0: 100, 1: 50}


def test_two_spans_with_one_id_are_two_spans():
    spans = [
        span(1, None, "/a", "server", 0, 100),
        span(2, 1, "/b", "server", 10, 50),
        span(2, 1, "/b", "server", 70, 20),
    ]
    assert path_of(spans) == {0: 30, 1: 50, 2: 20}


def test_clocks_are_set_right_before_time_is_counted():
    spans = ask_another(1, "a", "b", 0, 500)
    spans.append(span(9, 3, "/y", "server", 525, 5, trace=1, service="b"))
    right = {0: 20, 1: 20, 2: 15, 3: 5}
    assert path_of(spans, offsets={("a", "b"): 500 * MS}) == right
    assert path_of(spans, offsets={("a", "b"): 500 * MS, ("b", "a"): MS, ("x", "b"): MS}) == right
    assert path_of(spans) == right  # what fits by its length is moved to where it fits


def test_what_is_longer_than_its_call_is_clipped_and_not_moved():
    """A call that got no answer ended before its callee did: that is no matter of clocks."""
    spans = ask_another(1, "a", "b", 0, 25, ms=30)
    spans[1] = spans[1]._replace(status=0)
    assert path_of(spans) == {0: 20, 1: 35, 2: 5}
    assert path_of(ask_another(1, "a", "b", 0, 25, ms=50)) == {0: 20, 1: 35, 2: 5}


# ---- streamed answers


def streamed(made, ms):
    return made._replace(first_byte_ns=ms * MS)


def test_a_trace_ends_where_its_answer_began_and_what_begins_later_is_another():
    spans = [
        streamed(span(1, None, "/a", "server", 0, 100), 30),
        span(2, 1, "/b", "server", 10, 10),
        span(3, 1, "/c", "server", 25, 20),
        span(4, 1, "/d", "server", 30, 30),
        span(5, 4, "/e", "server", 40, 5),
    ]
    assert path_of(spans) == {0: 15, 1: 10, 2: 5, 3: 25, 4: 5}


def test_only_the_answer_of_a_root_ends_its_trace():
    spans = [
        span(1, None, "/a", "server", 0, 100),
        streamed(span(2, 1, "/b", "server", 10, 80), 20),
        span(3, 2, "/c", "server", 50, 20),
    ]
    assert path_of(spans) == {0: 20, 1: 60, 2: 20}


def test_an_answer_that_begins_after_the_end_is_no_earlier_end():
    spans = [streamed(span(1, None, "/a", "server", 0, 50), 90), span(2, 1, "/b", "server", 10, 20)]
    assert path_of(spans) == {0: 30, 1: 20}
