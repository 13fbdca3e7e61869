import json
from dataclasses import FrozenInstanceError, asdict, fields
from fractions import Fraction

import numpy as np
import pytest

import aiops_lab as lab


@pytest.mark.parametrize("knob", [f.name for f in fields(lab.Sensitivity) if f.name != "seasonal"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "3", None, True])
def test_a_bad_value_is_refused_with_knob_rule_and_value(knob, value):
    with pytest.raises(ValueError, match=rf"{knob} must be .*, got {value!r}"):
        lab.Sensitivity(**{knob: value})


def test_a_window_of_no_length_is_refused():
    with pytest.raises(ValueError, match="window_s must be >= 0.001"):
        lab.Sensitivity(window_s=0)


def test_numbers_of_numpy_are_numbers():
    assert lab.Sensitivity(min_count=np.int64(30), z=np.float64(2)).min_count == 30


def test_seasonal_is_a_switch():
    with pytest.raises(ValueError, match="seasonal must be True or False, got 'no'"):
        lab.Sensitivity(seasonal="no")


def test_the_defaults_are_the_documented_ones():
    """Seconds, milliseconds, counts and ratios that the lessons and the results were made with."""
    assert asdict(lab.Sensitivity()) == {
        "z": 3.0,
        "ratio": 3.0,
        "half_life_s": 300.0,
        "window_s": 10.0,
        "min_count": 20,
        "min_window": 3,
        "correlation_s": 300.0,
        "relearn_after_s": 900.0,
        "resolve_after_s": 600.0,
        "grace_s": 1.0,
        "min_ms": 10.0,
        "error_margin": 0.05,
        "shift": 1.2,
        "error_shift": 0.02,
        "run_length_weeks": 100.0,
        "timeout_s": 5.0,
        "seasonal": False,
    }


def test_the_classic_rule_asks_for_no_significance():
    assert lab.Sensitivity.classic() == lab.Sensitivity(
        z=0.0,
        ratio=3.0,
        min_count=1,
        min_window=1,
        min_ms=0.0,
        error_margin=0.2,
        shift=1e9,
        error_shift=1.0,
    )


@pytest.mark.parametrize(
    ("knob", "least"),
    [
        *((name, 0.0) for name in ("z", "grace_s", "min_ms", "error_margin")),
        *((name, 1) for name in ("ratio", "min_count", "min_window")),
        ("shift", 1.01),
        ("error_shift", 0.001),
        ("run_length_weeks", 0.01),
        ("window_s", 0.001),
    ],
)
def test_a_knob_may_be_its_least_and_no_less(knob, least):
    assert getattr(lab.Sensitivity(**{knob: least}), knob) == least
    with pytest.raises(ValueError, match=f"{knob} must be >= {least:g}, got"):
        lab.Sensitivity(**{knob: least - 0.0001})


@pytest.mark.parametrize("knob", ["half_life_s", "correlation_s", "relearn_after_s", "timeout_s"])
def test_a_length_of_time_is_above_zero(knob):
    with pytest.raises(ValueError, match=f"{knob} must be > 0, got 0"):
        lab.Sensitivity(**{knob: 0})
    assert getattr(lab.Sensitivity(**{knob: 0.0001}), knob) == 0.0001


def test_there_is_a_baseline_an_hour_where_seasons_are_known():
    assert (lab.Sensitivity().hours, lab.Sensitivity(seasonal=True).hours) == (1, 24)


def test_a_sensitivity_does_not_change():
    with pytest.raises(FrozenInstanceError):
        lab.Sensitivity().z = 5


@pytest.mark.parametrize("knob", [f.name for f in fields(lab.Sensitivity) if f.name != "seasonal"])
@pytest.mark.parametrize("value", [2e9, 1e308, 10**400, Fraction(10**400)])
def test_a_knob_beyond_a_billion_is_refused(knob, value):
    with pytest.raises(ValueError, match=rf"{knob} must be <= 1e\+09, got ") as caught:
        lab.Sensitivity(**{knob: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [np.float32(4), np.uint8(4), Fraction(4)])
def test_knobs_are_kept_as_numbers_of_python(value):
    knobs = lab.Sensitivity(z=value, min_count=np.int64(30))
    assert json.loads(json.dumps(asdict(knobs)))["z"] == 4
    assert knobs == lab.Sensitivity(z=4.0, min_count=30)


@pytest.mark.parametrize("knob", [f.name for f in fields(lab.Sensitivity) if f.name != "seasonal"])
def test_a_knob_of_a_billion_works(knob, calm):
    report = lab.replay(calm, lab.Sensitivity(**{knob: 1e9}))
    assert report.incidents == []


@pytest.fixture(scope="module")
def calm():
    """Three minutes of one endpoint."""
    start = 1_790_000_000 * 10**9
    ids = [(f"{n + 1:032x}", f"{n + 1:016x}") for n in range(180)]
    spans = [
        lab.Span(*pair, None, "shop", "/a", "server", None, start + n * 10**9, 10**7, 200, None)
        for n, pair in enumerate(ids)
    ]
    return lab.to_frame(spans)
