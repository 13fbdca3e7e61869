"""A steady rise is seen, with the time at which it crosses; all else is not called one."""

from __future__ import annotations

import numpy as np
import pytest

from aiops_lab.detect import forecast
from aiops_lab.detect.forecast import forecast_crossing

AT = np.arange(30) * 10.0
NOISE = np.random.default_rng(4).normal(size=30)


def rise(begins_s, per_s=0.1):
    return 50 + per_s * np.maximum(AT - begins_s, 0)


def crossing(values, threshold=100.0, **more):
    return forecast_crossing(AT, values, threshold, **more)


@pytest.mark.parametrize("begins_s", [0, 100, 200])
def test_a_rise_from_any_time_crosses_where_its_line_does(begins_s):
    found = crossing(rise(begins_s) + 0.3 * NOISE, coverage=0.95)
    true_s = begins_s + 50 / 0.1
    assert found.crosses_s == pytest.approx(true_s, rel=0.1)
    assert found.earliest_s < found.crosses_s < found.latest_s
    assert found.earliest_s < true_s < found.latest_s
    assert found.per_s == pytest.approx(0.1, rel=0.15)


def test_more_noise_makes_the_interval_wider_and_then_there_is_no_forecast():
    widths = []
    for size in (0.5, 1.0, 2.0):
        found = crossing(rise(0) + size * NOISE)
        widths.append(found.latest_s - found.earliest_s)
    assert widths == sorted(widths)
    assert crossing(rise(0) + 20 * NOISE) is None


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3, 1.0])
def test_intervals_hold_the_true_time_as_often_as_said_however_little_noise(noise):
    rng, draws, held = np.random.default_rng(1), 25, 0
    for true_s in rng.uniform(350, 1200, draws):
        begins_s = rng.uniform(0, 100)
        values = rise(begins_s) + noise * rng.normal(size=30)
        found = crossing(values, 50 + 0.1 * (true_s - begins_s))
        assert found is not None
        held += found.earliest_s <= true_s <= found.latest_s
    assert 0.6 * draws <= held < draws


def test_the_crossing_of_a_line_without_noise_is_exact():
    for begins_s in (0.0, 87.3):
        found = crossing(rise(begins_s))
        assert found.crosses_s == pytest.approx(begins_s + 500, abs=0.01)
        assert found.earliest_s < begins_s + 500 < found.latest_s < found.earliest_s + 0.1


def test_a_higher_coverage_makes_the_interval_wider():
    narrow, wide = (crossing(rise(0) + NOISE, coverage=share) for share in (0.5, 0.95))
    assert wide.earliest_s < narrow.earliest_s < narrow.latest_s < wide.latest_s
    assert wide.crosses_s == narrow.crosses_s


NO_RISE = {
    "steady": 50 + NOISE,
    "falls": 150 - rise(0) + NOISE,
    "jumps": 50 + 30 * (AT > 150) + NOISE,
    "has jumped a moment ago": 50 + 30 * (AT > 250) + NOISE,
    "rose, and has stopped": np.minimum(rise(0, 0.15), 75) + 0.3 * NOISE,
    "is above already": 60 + rise(0) + NOISE,
    "has crossed": rise(0, 0.4) + NOISE,
    "crosses too far ahead": rise(0, 0.015) + 0.1 * NOISE,
}


@pytest.mark.parametrize("what", NO_RISE)
def test_there_is_no_forecast_of_what_does_not_rise_to_the_threshold_soon(what):
    assert crossing(NO_RISE[what]) is None


def test_how_far_ahead_is_the_callers_to_say():
    slow = rise(0, 0.015) + 0.1 * NOISE
    assert crossing(slow, horizon_s=4000).crosses_s == pytest.approx(50 / 0.015, rel=0.2)
    assert crossing(rise(0) + NOISE, horizon_s=100) is None


def test_too_few_values_say_nothing():
    values = rise(0) + 0.3 * NOISE
    some = forecast.MIN_POINTS
    assert forecast_crossing(AT[: some - 1], values[: some - 1], 80.0) is None
    assert forecast_crossing(AT[:some], values[:some], 80.0) is not None
    gaps = np.where(np.arange(30) < some - 1, values, np.nan)
    assert crossing(gaps, 80.0) is None
    assert crossing(np.full(30, np.nan)) is None


def test_a_value_of_few_requests_counts_for_little():
    values = rise(0) + 0.3 * NOISE
    weights = np.ones(30)
    values[7], weights[7] = 90, 0.001
    found = crossing(values, weights=weights)
    assert found.crosses_s == pytest.approx(500, rel=0.1)


def test_the_unit_of_the_values_does_not_matter():
    values = rise(100) + 0.3 * NOISE
    one, other = crossing(values), crossing(values * 1e-6, 100e-6)
    assert other[:3] == pytest.approx(one[:3])


@pytest.mark.parametrize(
    ("times", "values", "more", "told"),
    [
        (AT, AT[1:], {}, "values must have one value for each time"),
        (AT, AT, {"weights": AT[1:]}, "values must have one value for each time"),
        (AT[::-1], AT, {}, "times_s must increase"),
        (AT, AT, {"weights": -AT}, "weights must be >= 0"),
        (AT, AT, {"coverage": 1.0}, "coverage must be a number between 0.5 and 0.99"),
        (AT, rise(0), {"horizon_s": 0}, "horizon_s must be"),
    ],
)
def test_what_breaks_a_rule_is_named(times, values, more, told):
    with pytest.raises(ValueError, match=told):
        forecast_crossing(times, values, 1e4, **more)
