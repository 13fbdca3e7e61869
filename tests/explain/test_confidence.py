"""A confidence is a promise: of answers that are 80 % sure, four in five are right."""

import json

import numpy as np
import pytest

from aiops_lab.evaluate.calibration import calibration
from aiops_lab.explain import confidence
from shop.catalogue import SCENARIOS
from shop.experiments import calibrate


def answers(n: int, weights: tuple[float, ...], seed: int):
    rng = np.random.default_rng(seed)
    scores, shares = np.exp(rng.uniform(0, 4, n)), rng.uniform(0.2, 1, n)
    right = rng.random(n) < confidence.Curve(weights)(scores, shares)
    return scores, shares, right


def test_a_curve_by_hand():
    curve = confidence.Curve((0.0, 1.0, 2.0))
    # at the least score with no share: even odds; odds of e to the power of log 3 + 2 / 2 = 3 e
    assert curve(np.array([1.0, 3.0]), np.array([0.0, 0.5])).tolist() == pytest.approx(
        [0.5, 3 * np.e / (1 + 3 * np.e)]
    )


def test_the_fit_finds_the_curve_that_made_the_answers():
    made_by = (-2.0, 1.0, 1.5)
    found = confidence.fit(*answers(20_000, made_by, seed=1))
    assert found.weights == pytest.approx(made_by, abs=0.2)


def test_on_answers_that_it_has_not_seen_the_error_is_that_of_a_perfect_model():
    curve = confidence.fit(*answers(4_000, (-2.0, 1.0, 1.5), seed=1))
    scores, shares, right = answers(4_000, (-2.0, 1.0, 1.5), seed=2)
    told = calibration(curve(scores, shares), right)
    assert told.ece <= 2 * told.ece_perfect_high


def test_answers_that_are_all_right_give_a_finite_curve():
    scores, shares, _ = answers(200, (0.0, 0.0, 0.0), seed=1)
    sure = confidence.fit(scores, shares, np.ones(200, dtype=bool))(scores, shares)
    assert np.isfinite(sure).all()
    assert sure.min() > 0.9


def test_small_weights_are_preferred_by_a_hundredth():
    """Ten of ten answers are right: 10 (1 - p) = 0.01 w, where the penalty balances the fit."""
    ones = np.ones(10)
    constant, *others = confidence.fit(ones, 0 * ones, ones).weights
    p = 1 / (1 + np.exp(-constant))
    assert 10 * (1 - p) == pytest.approx(0.01 * constant)
    assert others == [0.0, 0.0]


@pytest.mark.parametrize(
    ("by", "scores"), [("excess", (1.0, 10.0, 100.0)), ("deviations", (0.05, 0.2, 0.8))]
)
def test_the_curve_that_ships_grows_with_the_score_and_tells_how_it_was_made(by, scores):
    curve = confidence.shipped(by)
    sure = curve(np.array(scores), np.ones(3))
    assert (np.diff(sure) >= 0).all()
    assert 0.5 < sure[0] <= sure[2] < 1
    table = json.loads(confidence.CONFIDENCE_FILE.read_text("utf-8"))
    assert table["made_by"].startswith("python -m shop calibrate --seeds ")
    assert table["error"] < 0.05


def test_a_curve_is_learned_written_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "RANDOM_SHOPS", 0)
    monkeypatch.setattr(
        calibrate, "SCENARIOS", {n: SCENARIOS[n] for n in ("delay", "hang", "deployment")}
    )
    file = tmp_path / "curve.json"
    told = calibrate.calibrate(3, file, jobs=1, progress=False)
    table = json.loads(file.read_text("utf-8"))
    assert table["checked_on"] == told.n > 0
    assert [list(table["weights"][by]) for by in confidence.BY] == [list(confidence.TERMS)] * 2
    assert list(tmp_path.iterdir()) == [file]


def test_a_smaller_fault_is_smaller_in_time_or_strikes_fewer_requests():
    (delay,) = calibrate.resized(SCENARIOS["jitter"], 0.1).faults
    assert (delay.duration_ms, delay.jitter_ms, delay.rate) == (30, 30, 1)
    (slow,) = calibrate.resized(SCENARIOS["processor"], 0.5).faults
    assert slow.factor == 3
    (errors,) = calibrate.resized(SCENARIOS["flaky"], 0.5).faults
    assert errors.rate == 0.15
    (change,) = calibrate.resized(SCENARIOS["deployment"], 0.5).changes
    assert change.factor == 1.1


@pytest.mark.parametrize(
    ("seeds", "out", "message"),
    [
        (2, "c.json", "seeds must be a number between 3 and"),
        (3.5, "c.json", "seeds must be a whole number, got 3.5"),
        (3, "no/c.json", "out must be in a folder that exists"),
    ],
)
def test_what_cannot_be_learned_or_written_is_refused_first(tmp_path, seeds, out, message):
    with pytest.raises(ValueError, match=message):
        calibrate.calibrate(seeds, tmp_path / out)


def test_a_larger_score_never_makes_less_sure():
    scores, shares, right = answers(500, (2.0, -1.0, 0.5), seed=1)
    weights = confidence.fit(scores, shares, right).weights
    assert weights[1] == 0
