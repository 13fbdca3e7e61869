from math import inf

import numpy as np
import pytest

from aiops_lab.explain.familiarity import Learned, Range, caution, lowered, nearness

KNOWN = Learned(
    0.4, {"size": Range("the size is", 0.0, 10.0), "data": Range("the data are", 5, inf)}
)
INSIDE = {"size": 10.0, "data": 5}


@pytest.mark.parametrize(
    ("value", "near"), [(4.0, 1.0), (8.0, 1.0), (2.0, 0.5), (16.0, 0.5), (0.0, 0.0), (-1.0, 0.0)]
)
def test_a_value_is_as_near_as_its_ratio_to_the_bound(value, near):
    assert nearness(value, Range("x", 4.0, 8.0)) == near


def test_inside_of_what_was_learned_from_nothing_is_lowered_or_said():
    sure = np.array([0.0, 0.3, 1.0])
    assert lowered(sure, INSIDE, KNOWN).tolist() == sure.tolist()
    assert caution(INSIDE, KNOWN) == ""


def test_far_away_what_is_above_the_base_rate_counts_less():
    sure = np.array([0.3, 0.8])
    far = {"size": 20.0, "data": 5}
    assert lowered(sure, far, KNOWN) == pytest.approx([0.3, 0.6])
    assert lowered(sure, far | {"data": 1}, KNOWN) == pytest.approx([0.3, 0.44])


def test_what_is_unlike_is_said_with_the_bounds():
    told = caution({"size": 20.0, "data": 1}, KNOWN)
    assert told == (
        "Unlike anything that the confidence was learned from: the size is 20, at most 10 there; "
        "the data are 1, at least 5 there."
    )
