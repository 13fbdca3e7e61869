"""Short incidents, and rules beside each other on them."""

from __future__ import annotations

import pandas as pd
import pytest

from shop.course import rivals
from shop.course.cases import played


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


def test_a_constant_answer_is_right_where_it_is_a_cause(two: pd.DataFrame) -> None:
    table = rivals.right_by_scenario(pd.concat([two, rivals.constant(two, "/payment")]))
    assert table.loc["always /payment"].to_dict() == {"delay": 1, "calm": 0, "all": 1}
    assert table["all"].tolist() == sorted(table["all"])


def test_a_delay_in_the_noise_is_met_with_silence_and_a_large_one_is_found() -> None:
    said = rivals.said_by_size((1, 32), (20,), ["ledger"]).set_index("ms")["said"]
    assert said.to_dict() == {1: "silent", 32: "right"}


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
