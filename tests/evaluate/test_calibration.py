"""Calibration and risk, by hand and by chance."""

import math

import numpy as np
import pytest

from aiops_lab.evaluate.calibration import calibration, risk_coverage
from aiops_lab.numerics import wilson


def test_calibration_by_hand():
    found = calibration([0.15, 0.15, 0.95, 0.95], [False, True, True, True])
    assert found.brier == pytest.approx((0.15**2 + 0.85**2 + 2 * 0.05**2) / 4)
    assert found.ece == pytest.approx(abs(0.5 - 0.15) * 2 / 4 + abs(1.0 - 0.95) * 2 / 4)
    assert found.table["n"].tolist() == [2, 2]
    assert found.table["right"].tolist() == [0.5, 1.0]
    assert found.table["confidence"].tolist() == pytest.approx([0.15, 0.95])
    low, high = wilson(np.array([1.0, 2.0]), np.array([2.0, 2.0]), 1.96)
    assert found.table["right_low"].tolist() == pytest.approx(low)
    assert found.table["right_high"].tolist() == pytest.approx(high)


def test_a_perfect_model_errs_by_chance_and_less_the_more_it_is_asked():
    rng = np.random.default_rng(1)
    few, many = [calibration(p, rng.random(p.size) < p) for p in (rng.random(50), rng.random(5000))]
    assert few.ece_perfect > 3 * many.ece_perfect > 0
    assert few.ece < 1.5 * few.ece_perfect_high
    assert many.ece < 1.5 * many.ece_perfect_high
    boasting = calibration(np.full(200, 0.98), rng.random(200) < 0.5)
    assert boasting.ece > 5 * boasting.ece_perfect_high


def test_the_error_of_a_perfect_model_by_hand():
    """Two answers at 0.5: both right or both wrong, each with 1/4, gives 0.5; else 0. The mean is
    1/4.
    """
    found = calibration([0.5, 0.5], [True, False], times=20_000)
    assert found.ece_perfect == pytest.approx(0.25, abs=0.01)
    # at 0.2: both right, with 1/25, gives 0.8; one right, with 8/25, 0.3; both wrong 0.2
    found = calibration([0.2, 0.2], [True, False], times=20_000)
    assert found.ece_perfect_high == pytest.approx(0.3)


def test_ten_bins_and_five_hundred_draws_unless_told_otherwise():
    rng = np.random.default_rng(3)
    p, right = rng.random(40), rng.random(40) < 0.5
    assert calibration(p, right) == calibration(p, right, bins=10, times=500)
    table = calibration([0.05, 0.15], [True, True]).table
    assert table["low"].tolist() == pytest.approx([0.0, 0.1])
    assert table["high"].tolist() == pytest.approx([0.1, 0.2])


def test_silence_is_no_claim_and_full_confidence_has_a_bin():
    assert calibration([math.nan, 1.0], [False, True]).n == 1
    assert calibration([math.nan, 1.0], [False, True]).ece == 0.0
    assert calibration([math.nan, 1.0], [False, True]).table["n"].tolist() == [1]
    nothing = calibration([], [])
    assert nothing.n == 0
    assert math.isnan(nothing.ece)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 1.5"):
        calibration([1.5], [True])
    with pytest.raises(ValueError, match="right must be as long as confidence"):
        calibration([0.5], [True, False])


def test_risk_against_coverage_by_hand():
    curve = risk_coverage([0.9, 0.8, 0.8, math.nan], [True, False, True, False])
    assert curve["threshold"].tolist() == [0.9, 0.8]
    assert curve["answered"].tolist() == [1, 3]
    assert curve["coverage"].tolist() == [0.25, 0.75]
    assert curve["risk"].tolist() == [0.0, 1 / 3]
    assert risk_coverage([math.nan], [True]).empty
