"""The waterfall of a trace shows the spans it was given."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from aiops_lab.show import plots
from aiops_lab.spans import Span, to_frame
from tests.support.figures import START, extents, light, texts, y_names

pytestmark = pytest.mark.usefixtures("closed_figures")


TRACE = "ab" * 16


def waterfall(spans: list[Span], now: pd.Timestamp | None = None) -> plt.Axes:
    return plots.waterfall(to_frame(spans), TRACE, now=now)


def at_ms(ms: float) -> pd.Timestamp:
    return pd.Timestamp(ms, unit="ms", tz="UTC")


def span(
    key: int, parent: int, endpoint: str, kind: str, start: int, ms: int | None, status: int = 200
) -> Span:
    """Times in ms; 0 = no parent."""
    parent_id = f"{parent:016x}" if parent else None
    duration = None if ms is None else ms * 10**6
    return Span(
        TRACE,
        f"{key:016x}",
        parent_id,
        "shop",
        endpoint,
        kind,
        None,
        start * 10**6,
        duration,
        status,
        None,
    )


# /checkout   0 ------------------------------- 100
#   → /payment   10 ------------------ 80
#     /payment     20 ------------ 70
TRACED = [
    span(1, 0, "/checkout", "server", 0, 100, 502),
    span(2, 1, "/payment", "client", 10, 70, 500),
    span(3, 2, "/payment", "server", 20, 50, 500),
]


def test_a_waterfall_stands_in_call_order_with_an_indent() -> None:
    ax = waterfall(TRACED)
    names = y_names(ax)
    assert names == ["/checkout", "  → /payment", "    /payment"]
    assert {(0, 0, 100), (1, 10, 80), (2, 20, 70)} <= set(extents(ax))


def test_waiting_is_light_and_own_time_is_not() -> None:
    ax = waterfall(TRACED)
    assert light(ax) == [(0, 10, 80)]


def test_calls_that_overlap_are_one_wait_and_others_are_several() -> None:
    calls = [(10, 40), (20, 20), (70, 50)]  # the last one ends after its caller
    spans = [span(n, 1, "/b", "server", *call) for n, call in enumerate(calls, 2)]
    ax = waterfall([span(1, 0, "/a", "server", 0, 100), *spans])
    assert light(ax) == [(0, 10, 50), (0, 70, 100)]


def test_of_a_span_with_thousands_of_calls_the_longest_are_drawn() -> None:
    calls = [span(n, 1, "/b", "server", 2 * n, 1 if n % 50 else 3) for n in range(2, 5_000)]
    ax = waterfall([span(1, 0, "/a", "server", 0, 10_000), *calls])
    assert ax.get_title(loc="left").endswith(", the 150 longest of 4,999 spans")
    assert texts(ax).count("3 ms") == 99
    assert light(ax) == [(0, 4, 9_999)]  # nobody could see the gaps of 1 ms


def test_an_error_is_named_and_a_good_span_is_not() -> None:
    notes = texts(waterfall(TRACED))
    assert notes == ["100 ms  ✗ 502", "70 ms  ✗ 500", "50 ms  ✗ 500"]
    good = [s._replace(status=200) for s in TRACED]
    assert "✗" not in "".join(texts(waterfall(good)))


def test_an_open_span_ends_with_the_trace_and_says_so() -> None:
    spans = [*TRACED[:2], TRACED[2]._replace(duration_ns=None, status=0)]
    ax = waterfall(spans)
    assert (2, 20, 100) in extents(ax)
    assert ax.texts[2].get_text() == "still open"


def test_an_open_span_seen_from_outside_tells_its_age() -> None:
    spans = [s._replace(duration_ns=None, status=0) for s in TRACED]
    ax = waterfall(spans, now=at_ms(3_000))
    assert {(0, 0, 3000), (2, 20, 3000)} <= set(extents(ax))
    notes = [f"still open after {ms} ms" for ms in ("3,000", "2,990", "2,980")]
    assert texts(ax) == notes


def test_a_finished_span_ends_where_it_ended_whenever_it_is_seen() -> None:
    late = waterfall(TRACED, now=at_ms(3_000))
    assert extents(late) == extents(waterfall(TRACED))


def test_long_notes_do_not_push_the_legend_into_the_title() -> None:
    spans = [s._replace(endpoint=s.endpoint * 4, duration_ns=None, status=0) for s in TRACED]
    ax = waterfall(spans, now=at_ms(10**7))
    fig = ax.get_figure(root=True)
    assert fig
    fig.canvas.draw()
    legend = ax.get_legend()
    assert legend
    drawn: Any = ax
    boxes = [part.get_window_extent() for part in (drawn._left_title, drawn.xaxis.label)]
    assert not any(box.overlaps(legend.get_window_extent()) for box in boxes)


def test_a_span_without_its_parent_stands_at_the_left() -> None:
    ax = waterfall(TRACED[1:])
    assert y_names(ax) == ["→ /payment", "  /payment"]


def chain(spans: int, top: str | None = None) -> pd.DataFrame:
    """Return a trace in which each span calls the next one; `top` is the parent of the first."""
    ids = [f"{n:016x}" for n in range(spans)]
    parents = [top, *ids[:-1]]
    start = START.value
    given = "shop", "/a", "server", None
    rows = [
        Span(TRACE, ids[n], parents[n], *given, start + n, 10**6, 200, None) for n in range(spans)
    ]
    return to_frame(rows)


def test_a_deep_trace_is_drawn_down_to_what_can_be_read() -> None:
    ax = plots.waterfall(chain(5_000), TRACE)
    labels = y_names(ax)
    assert len(labels) == 150
    assert max(map(len, labels)) < 100
    assert ax.get_title(loc="left").endswith(", the 150 longest of 5,000 spans")


@pytest.mark.parametrize("top", [f"{0:016x}", f"{4:016x}"])
def test_spans_in_a_cycle_of_parents_are_drawn_once(top: str) -> None:
    ax = plots.waterfall(chain(5, top), TRACE)
    assert len(ax.get_yticklabels()) == 5


def test_an_unknown_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="trace_id must be in the frame"):
        plots.waterfall(to_frame(TRACED), "00" * 16)


def test_a_waterfall_leaves_its_spans_untouched() -> None:
    given = to_frame(TRACED)
    plots.waterfall(given, TRACE)
    pd.testing.assert_frame_equal(given, to_frame(TRACED))
