"""The figures show the numbers they were given. Looks at what was plotted, never at pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import num2date

from aiops_lab.detect.detectors import DETECTORS, Detector
from aiops_lab.results import ANOMALY_KINDS
from aiops_lab.show import plots
from aiops_lab.show.plots.style import COLOURS, mark_of
from aiops_lab.spans import Span, to_frame

START = pd.Timestamp("2026-01-01T10:00:00Z")
TRACE = "ab" * 16


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def second(n: float) -> pd.Timestamp:
    return START + pd.Timedelta(seconds=n)


def windows(endpoints: tuple[str, ...] = ("/checkout", "/payment")) -> pd.DataFrame:
    """Six windows of 10 s an endpoint: learning, normal, normal, slow, unanswered, normal."""
    latency = [100.0, 100.0, 110.0, 900.0, np.nan, 100.0]
    state = ["learning", "normal", "normal", "anomalous", "anomalous", "normal"]
    made = {
        "latency_ms": latency,
        "error_rate": [0, 0, 0, 0.5, 0, 0],
        "state": state,
        "n": [9, 9, 9, 9, 0, 9],
        "baseline_ms": 100.0,
        "low_ms": 60.0,
        "high_ms": 160.0,
        "window": [second(10 * i) for i in range(6)],
    }
    return pd.concat([pd.DataFrame(made).assign(service="shop", endpoint=e) for e in endpoints])


def anomaly(kind: str, at: float, endpoint: str = "/payment") -> SimpleNamespace:
    return SimpleNamespace(type=kind, service="shop", endpoint=endpoint, window=second(at))


FAULTS = pd.DataFrame(
    [{"kind": "delay", "endpoint": "/payment", "start": second(31), "end": second(50)}]
)


def line(ax: plt.Axes, label: str) -> tuple[list[float], list[float]]:
    """Seconds since START, and heights, of the line with this label."""
    (found,) = [made for made in ax.lines if made.get_label() == label]
    seconds = [
        (t - START).total_seconds() for t in num2date(ax.convert_xunits(found.get_xdata(orig=True)))
    ]
    return [round(s, 3) for s in seconds], list(found.get_ydata())


def test_a_timeline_shows_each_window_at_its_end() -> None:
    ax = plots.timeline(windows(), endpoint="/payment")
    times, latency = line(ax, "latency")
    assert times == [10, 20, 30, 40, 50, 60]
    assert latency[:4] == [100, 100, 110, 900]
    assert line(ax, "baseline")[1] == [100] * 6
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time on 2026-01-01 (UTC)", "latency (ms)")


def test_a_pooled_window_is_drawn_at_its_own_end() -> None:
    rows = windows(("/payment",)).iloc[:3]
    rows = rows.assign(end=[second(10), second(20), second(50)])
    ax = plots.timeline(rows, [anomaly("latency_anomaly", 20)])
    assert line(ax, "latency")[0] == [10, 20, 50]
    assert line(ax, "latency anomaly") == ([50], [110])


def test_an_anomaly_is_marked_on_its_window() -> None:
    ax = plots.timeline(windows(), [anomaly("latency_anomaly", 30)])
    assert line(ax, "latency anomaly") == ([40], [900])


def test_each_type_of_anomaly_has_a_mark_of_its_own() -> None:
    ax = plots.timeline(windows(), [anomaly("latency_anomaly", 30), anomaly("error_spike", 20)])
    assert line(ax, "latency anomaly") == ([40], [900])
    assert line(ax, "error spike") == ([30], [110])
    assert len({mark_of(detector.name) for detector in DETECTORS}) == len(DETECTORS)


def test_a_detector_of_the_user_has_its_own_mark() -> None:
    Detector(
        name="made_up",
        title="Made up",
        column="made_up",
        decide=lambda windows, baselines, sensitivity: windows["n"] > 0,
        evidence=lambda row: {},
        describe=lambda evidence: "",
        mark=("sky", "P"),
    )
    try:
        ax = plots.timeline(windows(), [anomaly("made_up", 30)])
        (marked,) = [each for each in ax.lines if each.get_label() == "made up"]
        assert (marked.get_color(), marked.get_marker()) == (plots.SKY, "P")
    finally:
        del ANOMALY_KINDS["made_up"]


def test_a_type_that_nobody_registered_is_marked_in_grey() -> None:
    ax = plots.timeline(windows(), [anomaly("of_yore", 30)])
    (marked,) = [each for each in ax.lines if each.get_label() == "of yore"]
    assert marked.get_color() == plots.GREY


def test_the_colours_that_a_detector_may_name_are_those_there_are() -> None:
    told = re.search(r"Colours are (.*?) \(Okabe", " ".join(str(Detector.__doc__).split()))
    assert told is not None
    assert set(re.split(r", | and ", told[1])) == COLOURS.keys()


def test_an_anomaly_of_another_endpoint_is_not_marked() -> None:
    ax = plots.timeline(
        windows(), [anomaly("latency_anomaly", 30, "/checkout")], endpoint="/payment"
    )
    assert "latency anomaly" not in [made.get_label() for made in ax.lines]


def test_a_window_without_an_answer_is_marked_on_its_baseline() -> None:
    assert line(plots.timeline(windows(), [anomaly("timeout", 40)]), "timeout") == ([50], [100])


def test_the_learning_windows_are_hollow() -> None:
    times, latency = line(plots.timeline(windows()), "learning")
    assert [t for t, y in zip(times, latency, strict=True) if y == y] == [10]


@pytest.mark.parametrize("faults", [FAULTS, list(FAULTS.itertuples())])
def test_a_true_fault_is_shaded_from_start_to_end(faults: object) -> None:
    (span,) = plots.timeline(windows(), faults=faults).patches
    left, right = (num2date(x) for x in (span.get_x(), span.get_x() + span.get_width()))
    assert span.get_label() == "true fault: delay at /payment"
    assert abs(left - second(31)) < pd.Timedelta("1ms")
    assert abs(right - second(50)) < pd.Timedelta("1ms")


def test_without_faults_nothing_is_shaded() -> None:
    assert not plots.timeline(windows()).patches


def test_a_fault_that_goes_on_is_shaded_to_the_end() -> None:
    (span,) = plots.timeline(windows(), faults=FAULTS.assign(end=pd.NaT)).patches
    assert abs(num2date(span.get_x() + span.get_width()) - second(60)) < pd.Timedelta("1ms")


def test_an_unknown_endpoint_is_refused() -> None:
    with pytest.raises(ValueError, match="endpoint must be one of"):
        plots.timeline(windows(), endpoint="/pay")


def test_rings_are_smaller_where_many_would_bury_the_line() -> None:
    few = windows(("/payment",))
    later = [few.assign(window=few["window"] + pd.Timedelta(n, "min")) for n in range(80)]
    sizes = []
    for rows in (few, pd.concat(later, ignore_index=True)):
        ax = plots.timeline(rows, [anomaly("latency_anomaly", 30)])
        (ring,) = [made for made in ax.lines if made.get_label() == "latency anomaly"]
        sizes.append((ring.get_markersize(), ring.get_markeredgewidth()))
    assert sizes == [(12, 2), (6, 1)]


def test_no_windows_give_an_empty_timeline() -> None:
    assert not plots.timeline(windows()[:0]).lines


@pytest.mark.parametrize("minutes", [0.2, 1.7, 2.9, 17, 119, 170, 2_879, 80_000])
def test_the_time_axis_finds_its_ticks(minutes: float) -> None:
    rows = windows(("/payment",))
    rows["window"] = [second(60 * minutes * i / 5) for i in range(6)]
    fig = plots.overview(rows)
    fig.canvas.draw()  # warnings are errors: the locator warns when it has no interval
    labels = [label.get_text() for label in fig.axes[1].get_xticklabels()]
    assert len(labels) >= 2


def test_an_overview_is_left_to_the_notebook_to_show_once() -> None:
    plots.overview(windows())
    assert plt.get_fignums() == []


def test_a_figure_draws_into_the_axes_it_is_given() -> None:
    ax = plt.figure().add_subplot()
    assert plots.timeline(windows(), ax=ax) is ax


def test_the_overview_has_latency_and_errors_of_every_endpoint() -> None:
    fig = plots.overview(windows(("/a", "/b", "/c")), [anomaly("error_spike", 30, "/b")], FAULTS)
    assert [ax.get_title(loc="left") for ax in fig.axes[::2]] == [
        "/a (shop)",
        "/b (shop)",
        "/c (shop)",
    ]
    assert line(fig.axes[3], "failed share")[1] == [0, 0, 0, 0.5, 0, 0]
    assert line(fig.axes[3], "error spike") == ([40], [0.5])
    assert "error spike" not in [made.get_label() for made in fig.axes[1].lines]
    assert "error spike" not in [made.get_label() for made in fig.axes[2].lines]
    labels = [text.get_text() for text in fig.legends[0].texts]
    assert len(labels) == len(set(labels))


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


def extents(ax: plt.Axes) -> list[tuple[float, float, float]]:
    """(row, left, right) of each bar, in the order in which they were drawn."""
    boxes = [bar.get_bbox() for bar in ax.patches]
    return [(round((b.ymin + b.ymax) / 2), round(b.xmin, 6), round(b.xmax, 6)) for b in boxes]


def test_a_waterfall_stands_in_call_order_with_an_indent() -> None:
    ax = plots.waterfall(to_frame(TRACED), TRACE)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["/checkout", "  → /payment", "    /payment"]
    assert {(0, 0, 100), (1, 10, 80), (2, 20, 70)} <= set(extents(ax))


def test_waiting_is_light_and_own_time_is_not() -> None:
    ax = plots.waterfall(to_frame(TRACED), TRACE)
    assert light(ax) == [(0, 10, 80)]


def light(ax: plt.Axes) -> list[tuple[float, float, float]]:
    """(row, left, right) of the times that spans wait for their calls."""
    drawn = [part for part in ax.collections if part.get_alpha()]
    boxes = [path.get_extents() for part in drawn for path in part.get_paths()]
    return [(round((b.ymin + b.ymax) / 2), round(b.xmin, 6), round(b.xmax, 6)) for b in boxes]


def test_calls_that_overlap_are_one_wait_and_others_are_several() -> None:
    calls = [(10, 40), (20, 20), (70, 50)]  # the last one ends after its caller
    spans = [span(n, 1, "/b", "server", *call) for n, call in enumerate(calls, 2)]
    ax = plots.waterfall(to_frame([span(1, 0, "/a", "server", 0, 100), *spans]), TRACE)
    assert light(ax) == [(0, 10, 50), (0, 70, 100)]


def test_of_a_span_with_thousands_of_calls_the_longest_are_drawn() -> None:
    calls = [span(n, 1, "/b", "server", 2 * n, 1 if n % 50 else 3) for n in range(2, 5_000)]
    ax = plots.waterfall(to_frame([span(1, 0, "/a", "server", 0, 10_000), *calls]), TRACE)
    assert ax.get_title(loc="left").endswith(", the 150 longest of 4,999 spans")
    assert [text.get_text() for text in ax.texts].count("3 ms") == 99
    assert light(ax) == [(0, 4, 9_999)]  # nobody could see the gaps of 1 ms


def test_an_error_is_named_and_a_good_span_is_not() -> None:
    notes = [text.get_text() for text in plots.waterfall(to_frame(TRACED), TRACE).texts]
    assert notes == ["100 ms  ✗ 502", "70 ms  ✗ 500", "50 ms  ✗ 500"]
    good = [s._replace(status=200) for s in TRACED]
    assert "✗" not in "".join(
        text.get_text() for text in plots.waterfall(to_frame(good), TRACE).texts
    )


def test_an_open_span_ends_with_the_trace_and_says_so() -> None:
    spans = [*TRACED[:2], TRACED[2]._replace(duration_ns=None, status=0)]
    ax = plots.waterfall(to_frame(spans), TRACE)
    assert (2, 20, 100) in extents(ax)
    assert ax.texts[2].get_text() == "still open"


def test_an_open_span_seen_from_outside_tells_its_age() -> None:
    spans = [s._replace(duration_ns=None, status=0) for s in TRACED]
    ax = plots.waterfall(to_frame(spans), TRACE, now=pd.Timestamp(3_000, unit="ms", tz="UTC"))
    assert {(0, 0, 3000), (2, 20, 3000)} <= set(extents(ax))
    notes = [f"still open after {ms} ms" for ms in ("3,000", "2,990", "2,980")]
    assert [text.get_text() for text in ax.texts] == notes


def test_a_finished_span_ends_where_it_ended_whenever_it_is_seen() -> None:
    frame = to_frame(TRACED)
    late = pd.Timestamp(3_000, unit="ms", tz="UTC")
    assert extents(plots.waterfall(frame, TRACE, now=late)) == extents(
        plots.waterfall(frame, TRACE)
    )


def test_long_notes_do_not_push_the_legend_into_the_title() -> None:
    spans = [s._replace(endpoint=s.endpoint * 4, duration_ns=None, status=0) for s in TRACED]
    ax = plots.waterfall(to_frame(spans), TRACE, now=pd.Timestamp(10**7, unit="ms", tz="UTC"))
    fig = ax.get_figure(root=True)
    assert fig
    fig.canvas.draw()
    legend = ax.get_legend()
    assert legend
    drawn: Any = ax
    boxes = [part.get_window_extent() for part in (drawn._left_title, drawn.xaxis.label)]
    assert not any(box.overlaps(legend.get_window_extent()) for box in boxes)


def test_a_span_without_its_parent_stands_at_the_left() -> None:
    ax = plots.waterfall(to_frame(TRACED[1:]), TRACE)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["→ /payment", "  /payment"]


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
    labels = [label.get_text() for label in ax.get_yticklabels()]
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


COLUMNS = ["caller", "callee", "calls", "errors", "p50_ms", "p95_ms"]


def test_the_graph_puts_callers_left_of_their_callees() -> None:
    rows = [
        (None, "/a", 9, 0, 5.0, 9.0),
        ("/a", "/b", 7, 1, 3.0, 4.0),
        ("/b", "/c", 1_200, 0, 2.0, 3.0),
    ]
    ax = plots.call_graph(pd.DataFrame(rows, columns=COLUMNS))
    texts = {text.get_text(): text.get_position()[0] for text in ax.texts if text.get_text()}
    assert texts["/a"] < texts["/b"] < texts["/c"]
    assert {"7 calls, p50 3 ms\n1 error", "1,200 calls, p50 2 ms\n0 errors"} <= set(texts)


def test_a_call_back_runs_below_the_boxes() -> None:
    rows = [
        ("/a", "/b", 7, 1, 3.0, 4.0),
        ("/b", "/a", 1, 0, 2.0, 3.0),
        ("/a", "/a", 2, 0, 2.0, 3.0),
    ]
    ax = plots.call_graph(pd.DataFrame(rows, columns=COLUMNS))
    heights = {text.get_text().split(",")[0]: text.get_position()[1] for text in ax.texts}
    assert len(ax.patches) == 2
    assert (
        heights["/a"]
        == heights["/b"]
        == heights["7 calls"]
        > heights["1 call"]
        > heights["2 calls"]
    )


# of the market of the virtual shop: thirteen endpoints, three columns, /home calls past /similar
CALLS = [
    ("/charge", "/transfer"),
    ("/home", "/products"),
    ("/home", "/similar"),
    ("/order", "/cart"),
    ("/order", "/charge"),
    ("/order", "/price"),
    ("/order", "/reserve"),
    ("/order", "/send"),
    ("/reserve", "/shelf"),
    ("/search", "/find"),
    ("/similar", "/products"),
]


def market(calls: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(
        [(*call, 10_000 + CALLS.index(call), 100, 20.5, 30.0) for call in calls], columns=COLUMNS
    )


def test_no_label_of_a_graph_lies_on_another_or_on_a_line() -> None:
    ax = plots.call_graph(market(CALLS))
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) == 13 + len(CALLS)
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    for line in ax.lines:
        corners = ax.transData.transform(line.get_xydata())
        slanted = [
            (a, b) for a, b in zip(corners, corners[1:], strict=False) if abs(a[1] - b[1]) > 1
        ]
        points = [a + (b - a) * share for a, b in slanted for share in np.linspace(0.01, 0.99, 99)]
        assert not any(box.contains(*point) for box in boxes for point in points)


def test_a_call_past_a_column_crosses_no_box() -> None:
    ax = plots.call_graph(market(CALLS))
    (past,) = [line for line in ax.lines if len(line.get_xdata()) > 3]
    (height,) = set(past.get_ydata()[1:3])
    names = {t.get_text(): t.get_position() for t in ax.texts if t.get_text().startswith("/")}
    beside = [y for x, y in names.values() if x == names["/similar"][0]]
    assert min(abs(height - y) for y in beside) > 0.3


def test_a_graph_is_drawn_alike_whatever_the_order_of_its_rows() -> None:
    def places(calls: list[tuple[str, str]]) -> dict[str, tuple[float, float]]:
        return {
            text.get_text(): text.get_position()
            for text in plots.call_graph(market(calls)).texts
            if text.get_text()
        }

    assert places(CALLS) == places(CALLS[::-1])


def test_no_calls_give_an_empty_graph() -> None:
    assert not plots.call_graph(pd.DataFrame([], columns=COLUMNS)).patches


def book(values: list[float]) -> pd.DataFrame:
    made = pd.DataFrame({"account": [f"account {v}" for v in values], "excess": values})
    made.attrs = {"unit": "ms per request", "entry": "/checkout"}
    return made


def test_the_bars_of_a_ledger_add_up_to_the_total() -> None:
    ax = plots.ledger(book([5.0, 100.0, -20.0]))
    assert extents(ax) == [(0, 0, 100), (1, 80, 100), (2, 80, 85), (3, 0, 85)]
    assert [t.get_text() for t in ax.texts] == ["+100.0", "−20.0", "+5.0", "+85.0"]
    assert [t.get_text() for t in ax.get_yticklabels()][-1] == "total at /checkout"
    assert ax.get_xlabel() == "excess (ms per request)"


def test_the_small_accounts_of_a_ledger_are_one_bar() -> None:
    ax = plots.ledger(book([100.0, 5.0, 4.0, -1.0]), most=2)
    assert [t.get_text() for t in ax.get_yticklabels()][2] == "2 others"
    assert extents(ax)[2:] == [(2, 105, 108), (3, 0, 108)]


def test_an_empty_ledger_is_a_total_of_nothing() -> None:
    assert extents(plots.ledger(book([]))) == [(0, 0, 0)]


def test_the_figures_leave_what_they_were_given_untouched() -> None:
    given, traced, accounts = windows(), to_frame(TRACED), book([1.0, 2.0])
    copies = given.copy(), traced.copy(), accounts.copy()
    plots.overview(given, [], FAULTS)
    plots.waterfall(traced, TRACE)
    plots.ledger(accounts)
    for before, after in zip(copies, (given, traced, accounts), strict=True):
        pd.testing.assert_frame_equal(before, after)


# ---- leaderboard, sizes, confidence


def shares() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples(
        [("all", "faults"), ("faults", "delay"), ("faults", "hang"), ("no fault", "calm")]
    )
    return pd.DataFrame(
        {"good": [0.95, 1.0, 0.9, 1.0], "poor": [0.2, 0.4, 0.0, np.nan]}, index=index
    )


def test_the_leaderboard_says_each_share_twice_by_its_number_and_by_its_colour() -> None:
    ax = plots.leaderboard(shares())
    numbers = {
        (round(t.get_position()[0], 3), t.get_position()[1]): t
        for t in ax.texts
        if t.get_text().isdigit()
    }
    assert {place: t.get_text() for place, t in numbers.items()} == {
        (0.5, 0): "95",
        (2.0, 0): "100",
        (3.0, 0): "90",
        (4.5, 0): "100",
        (0.5, 1): "20",
        (2.0, 1): "40",
        (3.0, 1): "0",
    }
    assert numbers[2.0, 0].get_color() == "white"
    assert numbers[2.0, 1].get_color() == plots.BLACK
    drawn = [mesh.get_array() for mesh in ax.collections]
    assert [np.ma.filled(values, -1).tolist() for values in drawn] == [
        [[0.95], [0.2]],
        [[1.0, 0.9], [0.4, 0.0]],
        [[1.0], [-1]],
    ]


def test_the_leaderboard_has_the_best_rule_on_top_and_a_name_above_each_group() -> None:
    ax = plots.leaderboard(shares())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["good", "poor"]
    assert ax.yaxis_inverted()
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "faults",
        "delay",
        "hang",
        "calm",
    ]
    heads = {t.get_text(): t.get_position() for t in ax.texts if t.get_position()[1] < -0.5}
    assert list(heads) == ["all", "faults", "no fault"]
    assert [x for x, _ in heads.values()] == [0, 1.5, 4]


def curves(**ends: float) -> pd.DataFrame:
    """A line a rule, from 0 at a size of 1 % to its end at one of 100 %."""
    rows = [(size, rule, y) for rule, end in ends.items() for size, y in ((0.01, 0.0), (1.0, end))]
    table = pd.DataFrame(rows, columns=["size", "rule", "right"])
    return table.assign(right_low=table["right"] / 2, right_high=table["right"])


def drawn(ax: plt.Axes) -> dict[str, plt.Line2D]:
    return {str(found.get_label()): found for found in ax.lines}


def test_a_size_curve_puts_one_rule_in_front_tells_some_apart_and_leaves_the_rest_in_grey() -> None:
    ax = plots.size_curve(curves(ledger=1.0, one=0.6, two=0.3, rest=0.1), shown=("one", "two"))
    lines = drawn(ax)
    assert {name: found.get_ydata()[-1] for name, found in lines.items()} == {
        "ledger": 1,
        "one": 0.6,
        "two": 0.3,
        "rest": 0.1,
    }
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1%", "100%"]
    widths = {name: found.get_linewidth() for name, found in lines.items()}
    assert widths["ledger"] > widths["one"] == widths["two"] > widths["rest"]
    looks = [
        (lines[n].get_color(), lines[n].get_marker(), str(lines[n].get_linestyle()))
        for n in ("ledger", "one", "two")
    ]
    assert all(len(set(column)) == 3 for column in list(zip(*looks, strict=True))[:2])
    assert sorted(t.get_text() for t in ax.texts) == ["ledger", "one", "two"]
    assert all(t.get_color() == lines[t.get_text()].get_color() for t in ax.texts)
    (band,) = ax.collections
    assert band.get_paths()[0].get_extents().y1 == 1.0


def test_names_at_equal_ends_lie_apart_and_inside_and_the_one_in_front_has_the_margin() -> None:
    for end, outermost in ((1.0, max), (0.0, min)):
        ax = plots.size_curve(curves(ledger=end, a=end, b=end, c=end), shown=("a", "b", "c"))
        heights = {t.get_text(): t.xy[1] for t in ax.texts}  # type: ignore[attr-defined]
        ordered = sorted(heights.values())
        assert all(high - low >= 0.07 for low, high in zip(ordered, ordered[1:], strict=False))
        assert heights["ledger"] == outermost(ordered) == pytest.approx(end)
        assert ordered[-1] <= 1


def test_another_column_and_two_rules_can_be_in_front() -> None:
    table = curves(fault=1.0, change=0.5).rename(
        columns=lambda name: name.replace("right", "speaks")
    )
    ax = plots.size_curve(table, value="speaks", bold=("fault", "change"))
    assert [t.get_fontweight() for t in ax.texts] == ["bold", "bold"]
    assert drawn(ax)["fault"].get_linestyle() != drawn(ax)["change"].get_linestyle()
    assert len(ax.collections) == 2


def calibrated(**changes: object) -> SimpleNamespace:
    rows = [(12, 0.55, 0.5, 0.25, 0.75), (30, 0.95, 1.0, 0.88, 1.0)]
    table = pd.DataFrame(rows, columns=["n", "confidence", "right", "right_low", "right_high"])
    return SimpleNamespace(
        **{"n": 42, "ece": 0.051, "ece_perfect": 0.042, "table": table} | changes
    )


def test_a_reliability_diagram_shows_each_bin_with_its_bounds_and_its_number_of_answers() -> None:
    ax = plots.reliability(calibrated())
    (points,) = [found for found in ax.lines if found.get_marker() == "o"]
    assert list(points.get_xdata()) == [0.55, 0.95]
    assert list(points.get_ydata()) == [0.5, 1.0]
    bars: Any
    (bars,) = [c for c in ax.collections if hasattr(c, "get_segments")]
    assert [[end[1] for end in bar] for bar in bars.get_segments()] == [[0.25, 0.75], [0.88, 1.0]]
    texts = [t.get_text() for t in ax.texts]
    assert {"12", "30", "42 answers\nerror 0.05\nof a perfect model 0.04"} <= set(texts)
    (diagonal,) = [found for found in ax.lines if found.get_linestyle() == "--"]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]


def test_no_answers_leave_the_diagonal_alone() -> None:
    nobody = calibrated(n=0, ece=np.nan, ece_perfect=np.nan, table=calibrated().table.iloc[:0])
    ax = plots.reliability(nobody)
    assert [t.get_text() for t in ax.texts] == ["as sure as right", "no answers"]


# ---- sweeps and incidents


SWEEP = pd.DataFrame(
    {
        "ratio": [3.0, 1.5, 2.0],
        "z": [3.0, 3.0, 3.0],
        "recall": [0.2, 0.8, 0.5],
        "precision": [np.nan, 0.4, 1.0],
        "few pages": [90.0, 30.0, 10.0],
        "no misses": [9.0, 1.0, 5.0],
    }
)


def test_precision_stands_over_recall_and_what_found_nothing_has_no_point() -> None:
    ax = plots.precision_recall({"mine": SWEEP, "other": SWEEP[1:]})
    recall, precision = line_of(ax, "mine")
    assert recall == [0.2, 0.8, 0.5]
    assert precision[1:] == [0.4, 1.0]
    assert np.isnan(precision[0])
    assert line_of(ax, "other") == ([0.8, 0.5], [0.4, 1.0])
    looks = {(made.get_color(), made.get_marker(), made.get_linestyle()) for made in ax.lines}
    assert [len({look[n] for look in looks}) for n in range(3)] == [2, 2, 1]
    assert all(line_style == "None" for _, _, line_style in looks)
    legend = ax.get_legend()
    assert legend
    assert [text.get_text() for text in legend.texts] == ["mine", "other"]


def test_the_cheapest_setting_is_ringed_for_each_price() -> None:
    ax = plots.cost_curve(SWEEP, "ratio", ["few pages", "no misses"])
    assert line_of(ax, "few pages") == ([1.5, 2.0, 3.0], [30.0, 10.0, 90.0])
    rings = [
        (next(iter(made.get_xdata())), next(iter(made.get_ydata())))
        for made in ax.lines
        if made.get_markersize() == 15
    ]
    assert rings == [(2.0, 10.0), (1.5, 1.0)]


def test_a_heat_map_has_a_number_for_each_pair_and_a_dash_for_none() -> None:
    both = pd.concat([SWEEP, SWEEP.assign(z=4.0, precision=[0.25, 0.25, 1234.0])])
    ax = plots.heat_map(both, "ratio", "z", "precision")
    cells = {text.get_position(): text.get_text() for text in ax.texts}
    assert cells == {
        (0, 0): "0.4",
        (1, 0): "1",
        (2, 0): "–",
        (0, 1): "0.25",
        (1, 1): "1,230",
        (2, 1): "0.25",
    }
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1.5", "2", "3"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("ratio", "z")
    colours = {text.get_text(): text.get_color() for text in ax.texts}
    assert (colours["0.25"], colours["1,230"]) == ("white", plots.BLACK)


def line_of(ax: plt.Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [made for made in ax.lines if made.get_label() == label]
    return list(found.get_xdata()), list(found.get_ydata())


def incident(**given: object) -> SimpleNamespace:
    episode = (second(30), second(60))
    seen = [
        SimpleNamespace(type="error_spike", end=second(40)),
        SimpleNamespace(type="timeout", end=second(50)),
    ]
    plain = {
        "severity": "high",
        "title": "Error spike detected in /payment",
        "episodes": [episode],
        "anomalies": seen,
        "last_anomaly": episode[1],
        "acknowledged_at": None,
        "resolved_at": None,
    }
    return SimpleNamespace(**plain | given)


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_incident_is_a_bar_below_the_faults(wrapped: bool) -> None:
    found = [incident()]
    ax = plots.incidents(SimpleNamespace(incidents=found) if wrapped else found, FAULTS)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "delay at /payment",
        "Error spike, /payment",
    ]
    bars = [(round(bar.get_y() + bar.get_height() / 2), *bar_s(bar)) for bar in ax.patches]
    assert bars == [(0, 31, 50), (1, 30, 60)]
    assert line(ax, "error spike") == ([40], [1])
    assert line(ax, "timeout") == ([50], [1])


SIZES = {
    "delay of 400 ms at /a": {"kind": "delay", "duration_ms": 400.0, "rate": 1.0},
    "error of 80 % at /a": {"kind": "error", "duration_ms": 0.0, "rate": 0.8},
    "error of 100 % at /a": {"kind": "error", "duration_ms": float("nan"), "rate": 1.0},
    "hang at /a": {"kind": "hang", "duration_ms": 0.0, "rate": 1.0},
    "slow of 1.4 times at /a": {"kind": "slow", "duration_ms": 0.0, "factor": 1.4},
}


@pytest.mark.parametrize("name", SIZES)
def test_a_fault_above_the_incidents_carries_its_size(name: str) -> None:
    fault = SimpleNamespace(endpoint="/a", start=second(31), end=second(50), **SIZES[name])
    ax = plots.incidents([incident()], [fault])
    assert ax.get_yticklabels()[0].get_text() == name


def bar_s(bar: Any) -> tuple[float, ...]:
    left, width = bar.get_x(), bar.get_width()
    return tuple(round((num2date(x) - START).total_seconds(), 3) for x in (left, left + width))


def test_a_reopened_incident_has_two_bars_and_tells_its_moves() -> None:
    episodes = [(second(30), second(60)), (second(100), second(110))]
    moves = {"acknowledged_at": second(45), "resolved_at": second(170)}
    ax = plots.incidents([incident(episodes=episodes, last_anomaly=second(110), **moves)])
    assert [bar_s(bar) for bar in ax.patches] == episodes_s(episodes)
    assert line(ax, "acknowledged") == ([45], [0])
    assert line(ax, "resolved") == ([170], [0])


def episodes_s(episodes: list[tuple[pd.Timestamp, pd.Timestamp]]) -> list[tuple[float, float]]:
    return [((a - START).total_seconds(), (b - START).total_seconds()) for a, b in episodes]


def test_each_severity_has_a_colour_and_a_hatch_of_its_own() -> None:
    ax = plots.incidents([incident(severity=s) for s in ("medium", "high", "critical")])
    assert len({bar.get_hatch() for bar in ax.patches}) == 3
    assert len({bar.get_facecolor() for bar in ax.patches}) == 3


def test_no_incidents_give_an_empty_timeline_of_incidents() -> None:
    assert not plots.incidents([]).patches


def test_an_overview_of_nothing_is_an_empty_figure() -> None:
    assert plots.overview(windows().iloc[:0]).axes == []


def told(kind: str) -> SimpleNamespace:
    """Return an incident at /payment, which makes /checkout worse."""
    return SimpleNamespace(
        affected_endpoints=["/payment", "/checkout"],
        main_anomaly=anomaly(kind, 30),
        root_cause=SimpleNamespace(name="/payment", endpoint="/payment"),
        first_detected=second(40),
    )


def test_the_story_of_an_incident_has_a_panel_for_each_affected_endpoint_and_its_ledger() -> None:
    rows = windows(("/checkout", "/health", "/payment"))
    ledger = pd.DataFrame({"account": ["/payment own time"], "excess": [800.0]})
    ledger.attrs.update(entry="/checkout", unit="ms per request")
    marks = [anomaly("latency_anomaly", 30)]
    fig = plots.story(rows, told("latency_anomaly"), marks, FAULTS, ledger)
    cause, worse, waterfall = fig.axes
    assert cause.get_title(loc="left") == "Latency of /payment (shop)"
    assert worse.get_title(loc="left") == "Latency of /checkout (shop)"
    assert [each.get_text() for each in cause.texts] == ["incident, cause: /payment"]
    assert [each.get_text() for each in worse.texts] == ["incident"]
    for panel in (cause, worse):
        (mark,) = [line for line in panel.lines if line.get_label() == "incident detected"]
        assert mark.get_xdata()[0] == second(40)
    assert [each.get_text() for each in waterfall.get_yticklabels()][-1] == "total at /checkout"


def test_the_story_of_failures_shows_the_share_that_failed_and_no_ledger_without_one() -> None:
    fig = plots.story(windows(), told("error_spike"), [anomaly("error_spike", 30)])
    assert len(fig.axes) == 2
    (line,) = [each for each in fig.axes[0].lines if each.get_label() == "failed share"]
    assert list(line.get_ydata()) == [0, 0, 0, 0.5, 0, 0]


@pytest.mark.parametrize("kind", ["error_spike", "latency_anomaly"])
def test_a_story_of_an_endpoint_without_windows_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="must"):
        plots.story(windows(("/payment",)), told(kind))
