from dataclasses import FrozenInstanceError, fields

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


def test_the_classic_rule_asks_for_no_significance():
    classic = lab.Sensitivity.classic()
    assert (classic.z, classic.ratio, classic.min_window) == (0.0, 3.0, 1)


def test_a_sensitivity_does_not_change():
    with pytest.raises(FrozenInstanceError):
        lab.Sensitivity().z = 5
