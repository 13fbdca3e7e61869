"""Where things stand in the pictures of the page, by hand-made examples."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.show.page.pictures import chart, shares, waterfall_picture
from aiops_lab.show.page.service_graph import MOST_NODES, graph
from tests.support.made import BEGIN, MS

NOW = pd.Timestamp("2026-01-01T00:05:00Z")


def timeline(*rows):
    """(seconds before now, mean ms, share of failures) of each interval."""
    times = [NOW - pd.Timedelta(ago, "s") for ago, *_ in rows]
    index = pd.DatetimeIndex(times, tz="UTC")
    return pd.DataFrame(
        [row[1:] for row in rows],
        index,
        ["mean_ms", "failed"],
    )


def test_a_chart_scales_to_its_highest_value_and_breaks_where_nothing_was_answered():
    drawn = chart(timeline((300, 100, 0), (290, 50, 0), (100, 100, 0.5)), 20.0, NOW, 10)
    assert drawn.top_ms == pytest.approx(115)
    assert drawn.line == "M5.0 7.8h0L15.0 33.9M205.0 7.8h0"
    assert drawn.usual == pytest.approx(60 * (1 - 20 / 115), abs=0.1)
    assert drawn.failed == [(205.0, 30.0)]


def test_what_is_as_usual_fills_half_of_a_chart():
    drawn = chart(timeline((20, 10, 0), (10, 11, 0)), 10.0, NOW, 10)
    assert (drawn.top_ms, drawn.usual) == (20.0, 30.0)


def test_a_chart_of_nothing_is_empty():
    drawn = chart(timeline(), None, NOW, 10)
    assert (drawn.line, drawn.usual, drawn.failed) == ("", None, [])


def edge(caller, callee, calls=1, errors=0):
    return {"caller": caller, "callee": callee, "calls": calls, "errors": errors}


def columns(drawn):
    """The names in each column, from above."""
    found: dict[float, list[str]] = {}
    for box in sorted(drawn.boxes, key=lambda box: (box.x, box.y)):
        found.setdefault(box.x, []).append(box.name)
    return list(found.values())


def test_callers_stand_left_of_their_callees():
    drawn = graph(
        [edge("a", "c"), edge("a", "b"), edge("b", "c")],
        ["d"],
    )
    assert columns(drawn) == [["a", "d"], ["b"], ["c"]]
    assert {(a.edge["caller"], a.edge["callee"]) for a in drawn.arrows} == {
        ("a", "c"),
        ("a", "b"),
        ("b", "c"),
    }
    assert all(box.x + 150 < drawn.width for box in drawn.boxes)
    assert all(box.y + box.height < drawn.height for box in drawn.boxes)


def test_boxes_do_not_overlap():
    edges = [edge(f"a{n}", f"b{n % 3}") for n in range(9)]
    boxes = sorted(graph(edges, []).boxes, key=lambda box: (box.x, box.y))
    for above, below in zip(boxes, boxes[1:], strict=False):
        assert above.x < below.x or above.y + above.height < below.y


@pytest.mark.parametrize("loop", [[("a", "a")], [("a", "b"), ("b", "a")]])
def test_calls_in_a_circle_are_drawn_inside_the_picture(loop):
    drawn = graph([edge(*pair) for pair in loop], [])
    assert len(drawn.arrows) == len(loop)
    lowest = max(box.y + box.height for box in drawn.boxes)
    assert drawn.height > lowest + 44


def test_of_many_endpoints_those_with_most_calls_are_drawn():
    edges = [edge("front", f"e{n}", calls=n + 1) for n in range(100)]
    drawn = graph(edges, ["lonely"])
    assert len(drawn.boxes) == MOST_NODES
    assert drawn.left_out == 102 - MOST_NODES
    assert {"front", "e99"} <= {box.name for box in drawn.boxes}
    assert "e0" not in {box.name for box in drawn.boxes}


def span(id, parent, name, kind, start, ms, status=200, error=None):
    begin = BEGIN + int(start * MS)
    duration = None if ms is None else int(ms * MS)
    peer = "p" if kind == "client" else None
    ids = (
        "t" * 32,
        id * 16,
        parent and parent * 16,
    )
    return lab.Span(
        *ids,
        "shop",
        name,
        kind,
        peer,
        begin,
        duration,
        status,
        error,
    )


def test_a_waterfall_shows_call_and_callee_as_one_bar_and_own_time_apart():
    # ms    0   10        50    60     100
    # a     |own|  waiting | own |wait. |
    # b         |..........|
    # c (a call that nobody answered)   |
    trace = lab.to_frame(
        [
            span("a", None, "/a", "server", 0, 100),
            span("1", "a", "/b", "client", 10, 40),
            span("b", "1", "/b", "server", 10, 40, 500, "Boom: x"),
            span("c", "a", "/c", "client", 60, 40, 0),
        ]
    )
    drawn = waterfall_picture(trace, 9)
    assert [(bar.name, bar.depth) for bar in drawn.bars] == [("/a", 0), ("/b", 1), ("/c", 1)]
    first, second, third = drawn.bars
    assert first.own == [(0, 100), (500, 100)]
    assert (second.x, second.width, second.failed, second.error) == (100, 400, True, "Boom: x")
    assert (third.status, third.failed) == (0, True)
    assert (drawn.total_ms, drawn.left_out) == (100, 0)


def test_a_waterfall_marks_the_cause_and_where_a_failure_began_not_where_it_was_passed_on():
    trace = lab.to_frame(
        [
            span("a", None, "/a", "server", 0, 100, 502, "HTTP 502"),
            span("1", "a", "/b", "client", 10, 40, 500),
            span("b", "1", "/b", "server", 10, 40, 500, "Boom: x"),
            span("c", "b", "/c", "server", 20, 10),
        ]
    )
    drawn = waterfall_picture(trace, 9, ("shop", "POST /b")).bars
    assert [(bar.name, bar.is_cause) for bar in drawn] == [
        ("/a", False),
        ("/b", True),
        ("/c", False),
    ]
    assert [(bar.failed, bar.is_origin) for bar in drawn] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    assert not any(bar.is_cause for bar in waterfall_picture(trace, 9, ("other", "/b")).bars)


def test_a_call_that_nobody_answered_is_of_the_cause_that_was_called():
    trace = [span("a", None, "/a", "server", 0, 100, 504), span("1", "a", "/x", "client", 9, 9, 0)]
    drawn = waterfall_picture(lab.to_frame(trace), 9, ("p", "/x")).bars
    assert [(bar.is_cause, bar.is_origin) for bar in drawn] == [(False, False), (True, True)]


def test_a_long_waterfall_keeps_the_longest_spans():
    spans = [span("a", None, "/a", "server", 0, 100)]
    spans += [span(str(n), "a", f"/{n}", "server", 0, 10 * n) for n in range(1, 6)]
    drawn = waterfall_picture(lab.to_frame(spans), 3)
    assert sorted(bar.name for bar in drawn.bars) == ["/4", "/5", "/a"]
    assert drawn.left_out == 3


def test_a_span_that_is_still_open_reaches_to_the_end():
    trace = [span("a", None, "/a", "server", 0, None), span("b", "a", "/b", "server", 10, 40)]
    first, second = waterfall_picture(lab.to_frame(trace), 9).bars
    assert (first.ms, first.width, first.failed) == (None, 1000, False)
    assert second.ms == 40


def test_spans_whose_parents_are_missing_or_circular_do_no_harm():
    orphan = span("b", "x", "/b", "server", 10, 40)
    assert len(waterfall_picture(lab.to_frame([orphan]), 9).bars) == 1
    circle = [span("a", "b", "/a", "server", 0, 9), span("b", "a", "/b", "server", 0, 9)]
    assert len(waterfall_picture(lab.to_frame(circle), 9).bars) == 2


def test_shares_stand_on_a_common_zero_the_small_ones_together():
    rows = shares({"a": 60.0, "b": -20.0, "c": 20.0, "d": 0.1, "e": 0.2}, 3)
    assert [(row.name, row.value) for row in rows] == [
        ("a", 60),
        ("c", 20),
        ("b", -20),
        ("2 smaller", pytest.approx(0.3)),
    ]
    assert (rows[0].x, rows[0].width) == (25, 75)
    assert (rows[2].x, rows[2].width) == (0, 25)
    assert [row.name for row in shares({"a": 60.0, "b": 0.61, "c": 0.59}, 9)] == [
        "a",
        "b",
        "1 smaller",
    ]
    assert len(shares(dict.fromkeys("abcdef", 1.0), 3)) == 4
    assert shares({}, 3) == []
