from functools import partial

import numpy as np
import pytest

import aiops_lab as lab
from aiops_lab.detect import shape
from tests.support import naive

RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 1, 3000)
BEATS = np.tile(np.concatenate([np.hanning(15), np.zeros(25)]), 75) + 0.02 * NOISE
scores_of = partial(lab.anomaly_scores, method="matrix-profile")


def with_wrong_beat(at=2400):
    values = BEATS.copy()
    values[at : at + 15] = 0.6 + 0.02 * NOISE[:15]  # no higher than any beat
    return values


def test_a_beat_of_another_shape_is_found_at_once():
    scores = scores_of(with_wrong_beat())
    assert 2400 <= scores.argmax() < 2430
    assert scores.max() > 3 * scores[1000:2400].max()
    assert lab.anomaly_scores(with_wrong_beat())[2400:2430].max() < 0.2


def test_a_beat_that_is_missing_is_found():
    values = BEATS.copy()
    values[2400:2415] = 0.02 * NOISE[:15]
    assert 2400 <= scores_of(values).argmax() < 2440


def test_what_was_seen_before_is_usual():
    values = with_wrong_beat()
    values[1600:1615] = values[2400:2415]
    scores = scores_of(values)
    assert 1600 <= scores.argmax() < 1630
    assert scores[2400:2430].max() < scores.max() / 2


@pytest.mark.parametrize("values", [BEATS, NOISE, np.cumsum(NOISE)], ids=["beats", "noise", "walk"])
def test_distances_equal_those_of_windows_weighed_by_hand(values):
    """The package forgets the start of a window after 10 fades: 5e-5 of its weight."""
    near = values[700:1730] + 3.0
    np.testing.assert_allclose(
        scores_of(near)[1000:], naive.shape_scores(near)[1000:], rtol=2e-3, atol=2e-4
    )
    assert not scores_of(near)[:1000].any()


def test_the_period_is_that_of_the_highest_peak_of_the_autocorrelation():
    assert shape.period_of(BEATS[:1000]) in (40, 80, 120, 160, 200, 240)
    for values in (BEATS[:1000], NOISE[:1000], np.cumsum(NOISE[:1000]), np.arange(1000.0)):
        assert shape.period_of(values) == naive.peak_of_autocorrelation(values)
    assert shape.period_of(np.arange(1000.0)) == 50
    assert shape.period_of(np.zeros(1000)) == 50


def test_a_period_is_that_of_the_last_32768_points():
    def wave(points, period):
        return np.sin(2 * np.pi * np.arange(points) / period)

    past = np.concatenate([100 * wave(40_000, 90), wave(2**15, 25)])
    assert shape.period_of(past) % 25 == 0
    assert shape.period_of(past[:-5000]) % 25 != 0


def test_a_mean_that_wanders_far_off_is_no_shape():
    """A window keeps 10 fades, so that a level of 1,000 is gone from it."""
    values = BEATS + np.repeat([0.0, 1000.0], 1500)
    scores = scores_of(values)
    assert scores[1700:].max() < 0.05


def test_the_future_changes_nothing():
    values = with_wrong_beat()
    scores = scores_of(values)
    for cut in (1, 999, 1000, 1001, 2000, 2001, 2410):
        np.testing.assert_array_equal(scores_of(values[:cut]), scores[:cut])


@pytest.mark.parametrize("scale", [1e-6, -1.0, 3e12])
def test_neither_scale_nor_level_changes_anything(scale):
    np.testing.assert_allclose(
        scores_of(scale * (BEATS + 5)), scores_of(BEATS), rtol=1e-4, atol=1e-7
    )


def test_missing_values_score_0_and_change_nothing():
    gaps = np.insert(with_wrong_beat(), [300, 1000, 2405], np.nan)
    scores = scores_of(gaps)
    assert (scores[np.isnan(gaps)] == 0).all()
    np.testing.assert_array_equal(scores[~np.isnan(gaps)], scores_of(with_wrong_beat()))


@pytest.mark.parametrize("level", [0.0, 0.1, -3e8])
def test_a_constant_series_scores_0_until_it_changes(level):
    values = np.full(1800, level)
    assert not scores_of(values).any()
    values[1500] += max(abs(level), 1.0)
    assert scores_of(values).argmax() == 1500
    assert scores_of(values)[1500] > 0.9


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_short_series_scores_0(length):
    assert scores_of(BEATS[:length]).tolist() == [0.0] * length


def test_values_whose_squares_are_infinite_are_refused():
    with pytest.raises(ValueError, match=r"within ±1e\+150 for this method, got 1e\+151 at 3"):
        scores_of([1.0, np.nan, 2.0, 1e151])
