"""Short incidents, and rules beside each other on them."""

from __future__ import annotations

import pandas as pd
import pytest

from shop.course import figures, rivals
from shop.course.cases import played

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def two() -> pd.DataFrame:
    return rivals.side_by_side(["delay", "calm"], (1,), ["walk down", "ledger"])


def test_a_short_incident_has_its_fault_from_second_40_to_70() -> None:
    (fault,) = rivals.shorter("delay", duration_ms=8).faults
    assert (fault.start_s, fault.end_s, fault.duration_ms) == (40, 70, 8)
    (change,) = rivals.shorter("deployment").changes
    assert (change.start_s, change.end_s) == (40, None)


def test_silence_is_right_where_nothing_is_broken(two: pd.DataFrame) -> None:
    right = two.set_index(["rule", "scenario"])["right"].to_dict()
    assert right["ledger", "calm"]
    assert right["ledger", "delay"]
    assert right["walk down", "delay"]
    assert not right["walk down", "calm"]


def test_a_lot_is_right_as_often_as_the_cause_is_among_those_that_are_suspected(
    two: pd.DataFrame,
) -> None:
    lot = two.set_index(["rule", "scenario"])["lot"].to_dict()
    assert (lot["ledger", "calm"], lot["ledger", "delay"]) == (1, 1)
    assert (lot["walk down", "calm"], lot["walk down", "delay"]) == (0, 1 / 2)


def test_the_grid_has_a_mark_for_each_answer(two: pd.DataFrame) -> None:
    figures.verdict_grid(two)
    ax = plt.gca()
    marks = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in ax.lines[:3]}
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "walk down: 1 of 2",
        "ledger: 2 of 2",
    ]
    assert marks == {
        "right": [(0, 0), (0, 1), (1, 1)],
        "silent, but wrong": [],
        "a wrong name": [(1, 0)],
    }


def test_bars_say_how_many_runs_name_whom() -> None:
    named = ["/payment", "silent", "/stock"]
    says = pd.DataFrame({"ms": [4, 4, 8], "rule": "ledger", "named": named})
    figures.named_by_size(pd.concat([says, says.assign(rule="other")]), "/payment")
    bars = {each.get_label(): [bar.get_height() for bar in each] for each in plt.gca().containers}
    assert bars == {"/payment": [1, 0], "nobody": [1, 0], "another": [0, 1]}


def test_a_constant_answer_is_right_where_it_is_a_cause(two: pd.DataFrame) -> None:
    table = rivals.right_by_scenario(pd.concat([two, rivals.constant(two, "/payment")]))
    assert table.loc["always /payment"].to_dict() == {"delay": 1, "calm": 0, "all": 1}
    assert table["all"].tolist() == sorted(table["all"])


def test_a_delay_in_the_noise_is_met_with_silence_and_a_large_one_is_found() -> None:
    named = rivals.said_by_size((1, 32), (20,), ["ledger"]).set_index("ms")["named"]
    assert named.to_dict() == {1: "silent", 32: "/payment"}


def test_who_is_called_by_slow_orders_only() -> None:
    edge = played(rivals.shorter("network edge"))
    called = rivals.who_was_called(edge.now)
    slow = called[called.index.isin(rivals.slow_traces(edge, "/order"))]
    assert len(slow) > 100
    assert slow["/price"].all()
    assert set(called.to_numpy().ravel()) == {0, 1}


def test_latencies_are_means_by_interval_of_the_end() -> None:
    frame = played(rivals.shorter("delay")).usual.frame
    table = rivals.latency_by_interval(frame)
    assert len(table) == 4
    assert table["/payment"].between(40, 60).all()


def test_bars_say_how_many_draws_name_an_innocent() -> None:
    draws = pd.DataFrame(
        {
            "lost": ["5%", "10%", "10%"],
            "named": ["nobody", "/checkout", "/inventory"],
            "orphans": [0.03, 0.06, 0.07],
        }
    )
    figures.lost_spans(draws)
    left, right = plt.gcf().axes
    heights = [[bar.get_height() for bar in bars] for bars in left.containers]
    assert [label.get_text() for label in left.get_xticklabels()] == ["5%", "10%"]
    assert heights == [[1, 0], [0, 2]]
    assert right.lines[0].get_ydata().tolist() == pytest.approx([3, 6, 7])
