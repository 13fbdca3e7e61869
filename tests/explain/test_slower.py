"""Of what was seldom observed, only how much slower it became can prove anything."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.slower import certainly_slower, log_times, one_of_many, student
from tests.support.lines import Drawing

CONFIG = RcaConfig()


def share(usual_ms, now_ms) -> float | None:
    """Return the share of some self times that is certainly more, None where it is not asked."""
    usual, now = (
        log_times(pd.Series(np.multiply(ms, 1e6), index=[7] * len(ms)), CONFIG)
        for ms in (usual_ms, now_ms)
    )
    found = certainly_slower(usual, now, CONFIG)
    return None if found.empty else found.loc[7]


USUAL = [30, 31, 29, 33, 28, 30, 32]


def test_a_few_far_longer_times_are_certainly_longer():
    assert share(USUAL, [60, 62, 58, 61]) == pytest.approx(0.4387, abs=1e-4)


def test_a_few_a_little_longer_times_prove_nothing():
    assert share(USUAL, [33, 32, 34, 31]) == 0
    assert share(USUAL, [20, 19, 21, 20]) == 0


def test_times_that_differ_much_anyhow_prove_less():
    assert share([10, 90, 30, 55, 20, 28, 41], [60, 62, 58, 61]) == 0


@pytest.mark.parametrize(("usual_n", "n"), [(4, 4), (7, 3), (100, 20)])
def test_too_few_times_and_times_enough_to_count_are_not_asked(usual_n, n):
    assert share((USUAL * 20)[:usual_n], [60, 62, 58, 61, 60] * (n // 5) + [60] * (n % 5)) is None


def test_a_jitter_of_the_clock_is_no_multiple_of_nothing():
    assert share([0.001, 0.002] * 4, [0.01, 0.012, 0.011, 0.012]) < 0.1


def window(dice: np.random.Generator, n: int, spread: float) -> pd.DataFrame:
    """Return the logarithms of ``n`` self times of each of eight accounts, around 20 ms."""
    ms = 20 * np.exp(spread * dice.standard_normal(8 * n))
    return log_times(pd.Series(ms * 1e6, index=np.repeat(np.arange(8), n)), CONFIG)


@pytest.mark.parametrize(("spread", "n"), [(0.1, 4), (0.5, 4)])
def test_times_that_only_scatter_more_than_usual_are_hardly_ever_called_longer(spread, n):
    dice = np.random.default_rng(1)
    pairs = [(window(dice, 20, 0.1), window(dice, n, spread)) for _ in range(25)]
    found = [certainly_slower(usual, now, CONFIG).max() > 0 for usual, now in pairs]
    assert sum(found) <= 1


def test_the_more_accounts_are_asked_the_more_each_must_differ():
    usual, now = (
        log_times(pd.Series(np.multiply(ms * 8, 1e6), index=np.repeat(range(8), len(ms))), CONFIG)
        for ms in (USUAL, [60, 62, 58, 61])
    )
    assert certainly_slower(usual, now, CONFIG).unique() == pytest.approx([0.4164], abs=1e-4)
    assert one_of_many(50.0, 8) == 50.0  # its chance is no number but 0


def test_times_that_never_differ_are_certainly_longer_when_they_are():
    assert share([30] * 7, [60] * 4) == pytest.approx(1 - 30.1 / 60.1)
    assert share([30] * 7, [30] * 4) == 0


def test_rounding_makes_no_constant_time_longer():
    """The mean of nine logarithms of 38.1 ms is not quite that of ten."""
    assert share([38] * 10, [38] * 9) == 0


@pytest.mark.parametrize(("freedom", "exact"), [(5, 5.507), (9, 4.094), (30, 3.270), (1000, 3.007)])
def test_the_quantile_is_that_of_students_table(freedom, exact):
    assert student(3.0, pd.Series([freedom])).item() == pytest.approx(exact, rel=0.02)


def rarely(seed: int, n: int, rare_ms: float) -> pd.DataFrame:
    """Return requests of one service that calls none, of which ``n`` are of a rare endpoint."""
    drawing = Drawing(seed)
    for k in range(400):
        trace, t = drawing.request()
        (span,) = drawing.ids(1)
        rare = k % (400 // n) == 0
        place = ("web", "/rare" if rare else "/often", "server", None)
        drawing.add((trace, span, None), place, t, drawing.about(rare_ms if rare else 40))
    return drawing.frame()


def test_a_rare_endpoint_that_costs_all_customers_together_little_is_named():
    usual = rarely(1, 8, 20)
    (first,) = lab.rank_root_causes(usual, rarely(2, 4, 50))
    assert (first.endpoint, first.by) == ("/rare", "deviations")
    assert first.terms["observations"] == 4
    assert "the account was seldom observed, its spans are 4, at least 9 there" in first.caution
    assert first.confidence < 0.5
    assert lab.rank_root_causes(usual, rarely(2, 4, 20)) == []
