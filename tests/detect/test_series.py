from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect import series
from tests.support import naive

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 1, 1500)
DAY = 10 + 3 * np.sin(np.arange(1500) * 2 * np.pi / 96) + 0.3 * NOISE
HEAVY = RNG.pareto(2.2, 1500)
SERIES = {
    "noise": NOISE,
    "day": DAY,
    "heavy tail": HEAVY,
    "walk": np.cumsum(NOISE),
    "counts": RNG.poisson(2.0, 1500),
}


def with_jump(size, at=1000, length=1500):
    values = NOISE.copy()
    values[at : at + length] += size
    return values


@pytest.mark.parametrize("name", SERIES)
def test_scores_equal_the_slow_version(name):
    values = SERIES[name].astype(float)
    values[[0, 7, 500, 501]] = np.nan
    values[700] += 30
    np.testing.assert_allclose(
        lab.anomaly_scores(values), naive.anomaly_scores(values), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", SERIES)
def test_the_future_changes_nothing(name):
    values = SERIES[name].astype(float)
    scores = lab.anomaly_scores(values)
    assert scores.any()
    for cut in (0, 1, 2, 101, 750, 1499):
        np.testing.assert_array_equal(lab.anomaly_scores(values[:cut]), scores[:cut])
    stormy = np.concatenate([values[:750], 1e6 * values[750:]])
    np.testing.assert_array_equal(lab.anomaly_scores(stormy)[:750], scores[:750])


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("scale", [1e-9, 7.0, -1.0, -3e12])
def test_the_scale_changes_nothing(name, scale):
    np.testing.assert_allclose(
        lab.anomaly_scores(scale * SERIES[name]),
        lab.anomaly_scores(SERIES[name]),
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("shift", [-50.0, 1000.0])
def test_the_level_changes_nothing(shift):
    np.testing.assert_allclose(
        lab.anomaly_scores(NOISE + shift), lab.anomaly_scores(NOISE), rtol=1e-6, atol=1e-9
    )


def test_scores_lie_between_0_and_1():
    scores = lab.anomaly_scores(np.concatenate([HEAVY, 1e300 * np.sign(NOISE)]))
    assert scores.min() >= 0
    assert 0.9 < scores.max() <= 1


def test_a_missing_value_scores_0_and_changes_nothing():
    gaps = np.insert(with_jump(9), [300, 1000, 1001, 1200], np.nan)
    scores = lab.anomaly_scores(gaps)
    assert (scores[np.isnan(gaps)] == 0).all()
    np.testing.assert_array_equal(scores[~np.isnan(gaps)], lab.anomaly_scores(with_jump(9)))
    assert not lab.anomaly_scores([np.nan] * 300).any()


def changed(level, other):
    values = np.full(3000, level)
    values[2000:2010] = other
    return lab.anomaly_scores(values)


@pytest.mark.parametrize(
    ("level", "other"),
    [
        (0.3, 0.1 + 0.2),
        (37.2, float(np.float32(37.2))),
        (-1e9 / 3, float(np.float32(-1e9 / 3))),
        (0.0, 0.1 + 0.2 - 0.3),
        (0.0, 0.9e-15),
        (0.1 + 0.2 - 0.3, 0.0),
    ],
)
def test_rounding_is_no_event(level, other):
    assert level != other
    assert not changed(level, other).any()


@pytest.mark.parametrize(
    ("level", "other"), [(0.3, 0.300001), (1e9, 1e9 + 1000), (0.0, 1.1e-15), (1e-12, 0.0)]
)
def test_small_changes_of_a_constant_series_are_events(level, other):
    assert changed(level, other).max() == 1


def test_rounding_on_a_noisy_series_changes_nothing():
    single = NOISE.astype(np.float32).astype(float)
    np.testing.assert_allclose(
        lab.anomaly_scores(single), lab.anomaly_scores(NOISE), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("level", [0.0, 0.1, -3e8])
def test_a_constant_series_scores_0(level):
    assert not lab.anomaly_scores(np.full(5000, level)).any()


def test_the_first_change_of_a_constant_series_is_certain():
    values = np.full(500, 0.1)
    values[400] = 0.2
    scores = lab.anomaly_scores(values)
    assert scores[400] == 1
    assert not scores[:400].any()


def test_the_warm_up_scores_0():
    values = NOISE.copy()
    values[50] = 1e6
    assert not lab.anomaly_scores(values)[:100].any()


@pytest.mark.parametrize("size", [12.0, -12.0])
@pytest.mark.parametrize("length", [1, 20, 500])
def test_an_event_alarms_once_and_at_once(size, length):
    alarms = np.flatnonzero(lab.anomaly_scores(with_jump(size, length=length))[900:1100] >= 0.1)
    assert alarms.tolist() == [100]


def test_the_score_stays_raised_while_the_level_is_unusual_and_halves_in_50_points_behind_it():
    scores = lab.anomaly_scores(with_jump(12, length=300))
    inside, behind = scores[1001:1300], scores[1301:1500]
    assert inside.min() == inside.max() > 0.08
    assert inside.max() < series.ALARM
    np.testing.assert_allclose(behind[50:], behind[:-50] / 2, atol=0.01)
    assert scores[900:1000].max() < 0.03


@pytest.mark.parametrize("before", [NOISE, [0.0]])
def test_what_lasts_becomes_usual(before):
    values = np.resize(before, 13000)
    values[5000:] += 12
    scores = lab.anomaly_scores(values)
    assert scores[5001:7500].min() > 0.08
    assert scores[12000:].mean() < 0.03


def test_after_the_hold_the_next_event_alarms_too():
    values = with_jump(12, at=600, length=5)
    values[1200:1205] += 25
    alarms = np.flatnonzero(lab.anomaly_scores(values) >= 0.1)
    assert {600, 1200} <= set(alarms.tolist())


def test_a_stronger_event_scores_higher():
    scores = [lab.anomaly_scores(with_jump(size, length=1))[1000] for size in (0, 6, 10, 20, 100)]
    assert scores == sorted(scores)
    assert scores[0] < 0.02
    assert scores[-1] > 0.9


def test_a_level_that_creeps_away_is_seen_by_the_means():
    creeping = NOISE.copy()
    creeping[1000:] += np.linspace(0, 2.5, 500)  # each value stays within what noise does
    assert (lab.anomaly_scores(creeping)[1000:] >= 0.2).any()
    assert not (lab.anomaly_scores(NOISE)[1000:] >= 0.2).any()


def test_what_recurs_in_a_quiet_hour_alarms_each_time_though_the_busy_hour_is_as_high():
    values = np.tile(np.repeat([0.0, 40.0], 720), 14) + np.resize(NOISE, 14 * 1440)
    spikes = 8 * 1440 + 360 + 720 * np.arange(0, 12, 2)
    values[spikes] += 35  # less than each busy hour has
    alarms = np.flatnonzero(lab.anomaly_scores(values) >= 0.1)
    assert set(spikes.tolist()) <= set(alarms.tolist())


def test_a_record_outdoes_what_only_stands_out_of_its_surroundings():
    values = np.resize(NOISE, 6000)
    values[[2000, 4000]] = 300.0
    values[5000] = 400.0
    first, second, record = lab.anomaly_scores(values)[[2000, 4000, 5000]]
    assert 0.1 <= second <= 0.11 < record < first


def test_squares_do_not_overflow():
    values = NOISE.copy()
    values[[600, 1200]] = 60.0
    scores = lab.anomaly_scores(1e200 * values)
    np.testing.assert_allclose(scores, lab.anomaly_scores(values), rtol=1e-6)


def test_an_alarm_is_a_record_or_8_usual_distances_from_the_surroundings():
    values = np.resize([1.0, -1.0], 4000)
    values[2000] = 60.0  # makes records rare: the residual's envelope is wide
    for distance, alarm in ((9.0, True), (7.5, False)):
        given = values.copy()
        usual = np.sqrt(np.mean((values[1:4000] - lab.ewma(values, 6.58)[0][:-1]) ** 2))
        given[3900] = distance * usual
        assert (lab.anomaly_scores(given)[3900] >= series.ALARM) == alarm


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match=r"method must be one of \['envelope'.*\], got 'median'"):
        lab.anomaly_scores(NOISE, method="median")
    with pytest.raises(ValueError, match=r"method must be one of .*, got \['envelope'\]"):
        lab.anomaly_scores(NOISE, method=["envelope"])


@pytest.mark.parametrize(("tail", "most"), [("normal", 1), ("lognormal", 2), ("pareto", 3)])
def test_one_threshold_keeps_quiet_on_unlike_series(tail, most):
    rng = np.random.default_rng(3)
    draw = {"normal": rng.normal, "lognormal": lambda size: rng.lognormal(0, 1, size)}
    draw["pareto"] = lambda size: rng.pareto(2.5, size)
    alarms = [(lab.anomaly_scores(draw[tail](size=5000))[750:] >= 0.1).sum() for _ in range(20)]
    assert np.sum(alarms) / (20 * 4250) < most / 1000


def test_input_stays_untouched_and_may_be_anything_like_an_array():
    values = with_jump(9)
    kept = values.copy()
    scores = lab.anomaly_scores(values)
    np.testing.assert_array_equal(values, kept)
    np.testing.assert_array_equal(lab.anomaly_scores(pd.Series(values)), scores)
    np.testing.assert_array_equal(lab.anomaly_scores(list(values)), scores)
    np.testing.assert_array_equal(lab.anomaly_scores(np.repeat(values, 2)[::2]), scores)
    assert scores.dtype == np.float64


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_short_series_scores_0(length):
    assert lab.anomaly_scores(NOISE[:length]).tolist() == [0.0] * length


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0, np.inf, 2.0], r"values must be finite and within ±1e\+300, got inf at 1"),
        ([1.0, 2.0, -np.inf], r"got -inf at 2"),
        ([1.0, 1e301], r"got 1e\+301 at 1"),
        ([[1.0, 2.0]], r"values must be one-dimensional, got shape \(1, 2\)"),
        (3.0, r"values must be one-dimensional, got shape \(\)"),
        (["a", "b"], r"values must be real numbers, got str32: \['a'\]"),
        ([None, {}], "values must be real numbers, got {}"),
        ([1.0, "2.0"], "values must be real numbers, got str"),
        ([1.0, None, "2.0"], "values must be real numbers, got '2.0'"),
        ([1.0, 2.0 + 3.0j], "values must be real numbers, got complex128"),
        (pd.date_range("2026-01-01", periods=3), "values must be real numbers, got datetime64"),
        (pd.to_timedelta([1, 2], unit="s"), "values must be real numbers, got timedelta64"),
        (pd.Series(["a", "b"], dtype="category"), "values must be real numbers, got 'a'"),
        ([10**400], "values must be within ±1e\\+300, got a larger integer"),
        ([[1.0], [2.0, 3.0]], "values must be one-dimensional, got rows of unlike lengths"),
    ],
)
def test_unusable_values_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        lab.anomaly_scores(values)


@pytest.mark.parametrize(
    "values",
    [
        pd.array([*NOISE, None], dtype="Float64"),
        [*NOISE.tolist(), None],
        [*map(Decimal, NOISE), pd.NA],
        pd.Series([*NOISE, np.nan], dtype=object),
    ],
)
def test_missing_values_may_be_written_in_several_ways(values):
    scores = lab.anomaly_scores(values)
    np.testing.assert_array_equal(scores, [*lab.anomaly_scores(NOISE), 0.0])
