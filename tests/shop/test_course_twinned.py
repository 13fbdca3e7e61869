"""What the lesson on twins plays and reads: faults from second 20 on, and effects by entry."""

from __future__ import annotations

import pandas as pd
import pytest

import shop
from shop.course import twin_figures, twinned

plt = pytest.importorskip("matplotlib.pyplot")

PAYMENT = ("payment", "/payment")


@pytest.fixture(scope="module")
def effect() -> pd.DataFrame:
    return shop.twin(twinned.slow(PAYMENT, 400, rate=5), seed=1).effect


def test_the_effect_is_read_during_the_fault_and_at_one_entry(effect: pd.DataFrame) -> None:
    during = twinned.in_fault(effect, "/payment")
    assert set(during["extra_ms"].round(3)) == {400}
    assert set(during["entry"]) == {"/payment"}
    assert twinned.seconds_of(during).between(20, 58).all()


def test_a_broken_place_is_delayed_or_fails_in_half_of_its_requests() -> None:
    (delay,) = twinned.broken(PAYMENT, "delay").faults
    (error,) = twinned.broken(PAYMENT, "error", rate=2).faults
    assert (delay.start_s, delay.end_s, delay.duration_ms, delay.rate) == (20, 60, 300, 0.5)
    assert (error.kind, error.rate) == ("error", 0.5)
    assert twinned.broken(PAYMENT, "error", rate=2).rate == 2


def test_who_is_touched_is_named() -> None:
    assert twinned.touched_and_named("refused") == ({"/checkout"}, [{"/checkout"}])


def test_each_entry_has_its_picture_of_effects(effect: pd.DataFrame) -> None:
    twin_figures.effects(effect, twinned.seconds_of(effect), twinned.FAULT_S)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == sorted(effect["entry"].unique())
    assert sum(len(ax.lines[0].get_xdata()) for ax in axes) == len(effect)
    plt.close()


def test_estimates_and_paths_are_drawn_a_column_each() -> None:
    twin_figures.estimates(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}), truth=2)
    rows = plt.gca().lines
    assert [line.get_ydata()[0] for line in rows[:2]] == [0, 1]
    assert rows[2].get_xdata() == [2, 2]
    twin_figures.passed_on(pd.DataFrame({"all": [5.0, 100.0], "half": [2.5, 50.0]}, index=[5, 100]))
    lines = plt.gca().lines
    assert [line.get_ydata().tolist() for line in lines] == [[1, 1], [0.5, 0.5]]
    plt.close("all")
