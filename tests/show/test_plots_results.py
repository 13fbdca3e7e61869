"""Figures of results show the numbers they were given: ledgers, rules, confidences, sweeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from aiops_lab.show import plots
from tests.support.figures import extents, line_of, texts, x_names, y_names

pytestmark = pytest.mark.usefixtures("closed_figures")


def book(values: list[float]) -> pd.DataFrame:
    made = pd.DataFrame({"account": [f"account {v}" for v in values], "excess": values})
    made.attrs = {"unit": "ms per request", "entry": "/checkout"}
    return made


def test_the_bars_of_a_ledger_add_up_to_the_total() -> None:
    ax = plots.ledger(book([5.0, 100.0, -20.0]))
    assert extents(ax) == [(0, 0, 100), (1, 80, 100), (2, 80, 85), (3, 0, 85)]
    assert texts(ax) == ["+100.0", "−20.0", "+5.0", "+85.0"]
    assert y_names(ax)[-1] == "total at /checkout"
    assert ax.get_xlabel() == "excess (ms per request)"


def test_the_small_accounts_of_a_ledger_are_one_bar() -> None:
    ax = plots.ledger(book([100.0, 5.0, 4.0, -1.0]), most=2)
    assert y_names(ax)[2] == "2 others"
    assert extents(ax)[2:] == [(2, 105, 108), (3, 0, 108)]


def test_an_empty_ledger_is_a_total_of_nothing() -> None:
    assert extents(plots.ledger(book([]))) == [(0, 0, 0)]


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
    assert y_names(ax) == ["good", "poor"]
    assert ax.yaxis_inverted()
    assert x_names(ax) == [
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
    assert x_names(ax) == ["1%", "100%"]
    widths = {name: found.get_linewidth() for name, found in lines.items()}
    assert widths["ledger"] > widths["one"] == widths["two"] > widths["rest"]
    looks = [
        (lines[n].get_color(), lines[n].get_marker(), str(lines[n].get_linestyle()))
        for n in ("ledger", "one", "two")
    ]
    assert all(len(set(column)) == 3 for column in list(zip(*looks, strict=True))[:2])
    assert sorted(texts(ax)) == ["ledger", "one", "two"]
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
    assert {"12", "30", "42 answers\nerror 0.05\nof a perfect model 0.04"} <= set(texts(ax))
    (diagonal,) = [found for found in ax.lines if found.get_linestyle() == "--"]
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]


def test_no_answers_leave_the_diagonal_alone() -> None:
    nobody = calibrated(n=0, ece=np.nan, ece_perfect=np.nan, table=calibrated().table.iloc[:0])
    ax = plots.reliability(nobody)
    assert texts(ax) == ["as sure as right", "no answers"]


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
    assert x_names(ax) == ["1.5", "2", "3"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("ratio", "z")
    colours = {text.get_text(): text.get_color() for text in ax.texts}
    assert (colours["0.25"], colours["1,230"]) == ("white", plots.BLACK)


def test_a_ledger_leaves_its_accounts_untouched() -> None:
    given = book([1.0, 2.0])
    plots.ledger(given)
    pd.testing.assert_frame_equal(given, book([1.0, 2.0]))
