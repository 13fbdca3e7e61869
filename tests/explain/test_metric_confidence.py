import numpy as np
import pandas as pd
import pytest

from aiops_lab.explain.metric_confidence import LEARNED, MetricCurve, ahead, confidence


def sure(unusual=3.0, other=0.5, intervals=100, curve=None):
    """The confidence of the first of two nodes, whose scores are 1 and `other`."""
    nodes = pd.Series({"first": unusual, "other": unusual})
    return confidence(nodes, pd.Series({"first": 1.0, "other": other}), intervals, curve)["first"]


def test_the_confidence_is_whether_a_fault_shows_times_the_lead():
    for unusual, other, intervals in ((1.5, 0.9, 100), (1.0, 0.6, 9)):
        logit = -3.87 + 5.89 * np.log1p(unusual) - 4.04 / np.sqrt(intervals)
        expected = 1 / (1 + np.exp(-logit)) / (1 + other**8.0)
        assert sure(unusual, other, intervals) == pytest.approx(expected)
    assert sure(other=0.0, curve=MetricCurve(0.0, 0.0, 0.0, 1.0)) == 0.5


def test_more_normal_data_a_more_unusual_node_and_a_larger_lead_make_surer():
    assert sure(1.0, intervals=5) < sure(1.0, intervals=20) < sure(1.0, intervals=200)
    assert sure(0.5) < sure(1.0) < sure(2.0)
    assert sure(other=0.9) < sure(other=0.7) < sure(other=0.2)


def test_of_equal_suspects_none_is_above_its_part():
    assert sure(1000.0, other=1.0) == pytest.approx(0.5)
    assert ahead(pd.Series([2.0, 2.0, 0.0, -1.0]), 5.0).tolist() == [0.5, 0.5, 0.0, 0.0]
    assert ahead(pd.Series([0.0, 0.0]), 5.0).tolist() == [0.0, 0.0]


def test_what_was_learned_from_is_known():
    assert LEARNED.base_rate == 0.54
    bounds = {term: (known.low, known.high) for term, known in LEARNED.ranges.items()}
    assert bounds == {
        "unusual": (0.0, 6.55),
        "intervals": (5, np.inf),
        "resources": (0.9, np.inf),
    }
