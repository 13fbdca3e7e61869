"""The parameters of a request, each by the rule of its kind."""

from __future__ import annotations

import pytest

from aiops_lab.checks import FieldError
from aiops_lab.show.given import is_true, number, one_of, required, whole


@pytest.mark.parametrize("value", ["2000", " 0.8 ", ".5", "+1e3", 7, 0.25])
def test_a_number_is_a_plain_decimal(value):
    assert number("duration", value) == float(value)


@pytest.mark.parametrize("value", ["", "nan", "inf", "0x10", "1_000", "١", True, None, [1]])
def test_what_is_no_plain_decimal_is_no_number(value):
    with pytest.raises(FieldError, match="duration must be a number"):
        number("duration", value)


def test_a_whole_number_has_no_fraction():
    assert (whole("id", "7"), whole("id", 7.0)) == (7, 7)
    with pytest.raises(FieldError, match="id must be a whole number"):
        whole("id", "7.5")


def test_a_choice_is_one_of_its_names():
    assert one_of("kind", "b", ("a", "b")) == "b"
    for wrong in ("c", None, ["a"]):
        with pytest.raises(FieldError, match="kind must be one of a, b"):
            one_of("kind", wrong, ("a", "b"))


def test_true_is_said_as_text_or_in_json_and_not_by_default():
    said = [is_true("accept", {"accept": value}) for value in (True, "true", False, "false")]
    assert said == [True, True, False, False]
    assert not is_true("accept", {})
    with pytest.raises(FieldError, match="accept must be one of true, false"):
        is_true("accept", {"accept": "yes"})


def test_what_must_be_given_is_named():
    assert required({"rate": 1}, "rate") == 1
    with pytest.raises(FieldError, match="rate must be given"):
        required({}, "rate")
