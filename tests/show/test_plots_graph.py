"""The picture of a service graph shows the calls it was given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aiops_lab.show import plots

pytestmark = pytest.mark.usefixtures("closed_figures")


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
