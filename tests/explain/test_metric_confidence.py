import numpy as np
import pandas as pd
import pytest

from aiops_lab.explain.metric_confidence import MetricCurve, confidence


def sure(deviation=6.0, other=1.0, intervals=100, curve=None):
    """The confidence of the first of two nodes whose scores are as their deviations."""
    both = pd.Series({"first": deviation, "other": other})
    return confidence(both, both / deviation, intervals, curve)["first"]


def test_the_curve_is_logistic_in_its_three_terms():
    for deviation, other, intervals in ((6.0, 1.0, 100), (2.0, 1.5, 9)):
        ahead = np.log((deviation + 0.5) / (other + 0.5))
        logit = -4.52 + 2.85 * np.log1p(deviation) + 1.32 * ahead - 5.87 / np.sqrt(intervals)
        assert sure(deviation, other, intervals) == pytest.approx(1 / (1 + np.exp(-logit)))
    assert sure(curve=MetricCurve(0.0, 0.0, 0.0, 0.0)) == 0.5


def test_more_normal_data_a_larger_deviation_and_a_larger_lead_make_surer():
    assert sure(intervals=5) < sure(intervals=20) < sure(intervals=200)
    assert sure(2.0) < sure(4.0) < sure(8.0)
    assert sure(other=5.0) < sure(other=2.0) < sure(other=0.0)


def test_a_node_behind_the_first_is_less_sure_and_one_alone_has_no_rival():
    both = pd.Series({"first": 9.0, "second": 8.0})
    found = confidence(both, both, 100)
    assert found["second"] < found["first"]
    assert confidence(both[:1], both[:1], 100)["first"] > found["first"]
