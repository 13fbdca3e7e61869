import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect import baselines
from tests.support import naive

SERIES = np.random.default_rng(0).normal(5, 2, 200)


@pytest.mark.parametrize("half_life", [0.5, 1, 7, 1000])
def test_ewma_equals_pandas_and_the_definition(half_life):
    mean, var = lab.ewma(SERIES, half_life)
    window = pd.Series(SERIES).ewm(halflife=half_life, adjust=False)
    np.testing.assert_allclose(mean, window.mean(), rtol=1e-12)
    np.testing.assert_allclose(var, window.var(bias=True), rtol=1e-9, atol=1e-12)
    naive_mean, naive_var = naive.ewma(SERIES[:40], half_life)
    np.testing.assert_allclose(mean[:40], naive_mean, rtol=1e-10)
    np.testing.assert_allclose(var[:40], naive_var, rtol=1e-8, atol=1e-10)


def test_a_missing_value_changes_nothing():
    values = np.array([np.nan, 1.0, np.nan, 3.0, np.nan])
    mean, var = lab.ewma(values, 1)
    window = pd.Series(values).ewm(halflife=1, adjust=False, ignore_na=True)
    np.testing.assert_allclose(mean, window.mean())
    assert np.isnan(var[0])
    assert var[1:].tolist() == [0, 0, 1, 1]


def test_the_weight_of_a_value_halves_after_one_half_life():
    pulse = np.zeros(30)
    pulse[5] = 1.0
    mean, _ = lab.ewma(pulse, half_life=8)
    assert mean[13] == pytest.approx(mean[5] / 2)


def test_ewma_does_not_look_ahead():
    mean, var = lab.ewma(SERIES, 10)
    half_mean, half_var = lab.ewma(SERIES[:100], 10)
    assert (mean[:100] == half_mean).all()
    assert (var[:100] == half_var).all()


@pytest.mark.parametrize("half_life", [0, -1, float("nan")])
def test_a_half_life_that_is_not_positive_is_refused_by_name(half_life):
    with pytest.raises(ValueError, match="half_life must be > 0, got"):
        lab.ewma([1.0], half_life)


def test_a_table_is_no_series():
    with pytest.raises(ValueError, match="one-dimensional"):
        lab.ewma(np.zeros((2, 2)), 1)


def test_no_values_give_no_means():
    mean, var = lab.ewma([], 1)
    assert mean.size == var.size == 0


def test_a_cold_start_is_a_plain_average():
    row = baselines.fresh(1)[0]
    for n, mean in [(10, 2.0), (30, 4.0)]:
        row["pool_n"] = n
        row["pool_total"] = n * mean
        row["pool_squares"] = n * mean**2
        baselines.learn_requests(row, 1e-9)
    assert row["mean"] == pytest.approx((10 * 2 + 30 * 4) / 40)


def test_the_kernels_also_run_as_plain_python():
    plain = baselines._ewma_kernel.__wrapped__
    mean, var = np.empty(50), np.empty(50)
    plain(SERIES[:50], baselines.alpha_of(1, 5), mean, var)
    np.testing.assert_array_equal(mean, lab.ewma(SERIES[:50], 5)[0])


def test_baselines_of_an_earlier_version_are_read_and_new_fields_are_0():
    old = baselines.fresh(2)
    old["mean"] = [3.0, 4.0]
    rows = [row[:-4] for row in baselines.to_rows(old)]
    read = baselines.from_rows(rows, 2)
    assert read["mean"].tolist() == [3.0, 4.0]
    assert not read["long_share"].any()
    assert len(baselines.from_rows(rows, 3)) == 3
    assert not baselines.from_rows(rows, 3)["mean"].any()


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (["a", "b"], "values must be real numbers"),
        ([1.0, 2j], "values must be real numbers"),
        (pd.date_range("2026-01-01", periods=3), "values must be real numbers"),
        ([1.0, np.inf], r"values must be within ±1e\+150, got inf"),
        ([1.0, -1e300], r"values must be within ±1e\+150, got -1e\+300"),
    ],
)
def test_values_that_have_no_mean_are_refused(values, rule):
    with pytest.raises(ValueError, match=rule):
        lab.ewma(values, 3)
