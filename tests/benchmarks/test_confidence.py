"""What the check of confidence on systems left out learns, on answers that are drawn."""

import numpy as np
import pytest

from aiops_lab.explain.metric_confidence import MetricCurve
from benchmarks.confidence import HOME, AskedSuspect, fit, learned_from, predicted, taught_by_others

TRUE = MetricCurve(-3.0, 4.0, -2.0, 3)


def drawn(system, n, seed, right=None):
    """Return n answers with a clear lead or a small one, right as often as `TRUE` says."""
    rng = np.random.default_rng(seed)
    found = []
    for faulty in rng.random(n) < 0.7:
        terms = {
            "unusual": float(rng.exponential(2.0)),
            "intervals": int(rng.integers(5, 50)),
            "resources": 1.0,
            "explained": float(rng.uniform(0.3, 1.0)),
        }
        scores = np.array([1.0, rng.uniform(0.1, 1.0)])
        answer = AskedSuspect(system, bool(faulty), False, 0.0, terms, scores)
        hit = rng.random() < predicted(TRUE, [answer])[0] if right is None else right
        found.append(answer._replace(right=bool(hit)))
    return found


def test_the_fit_finds_the_curve_by_which_answers_were_drawn():
    answers = drawn("any", 600, 1)
    told = predicted(fit(answers), answers)
    assert np.abs(told - predicted(TRUE, answers)).mean() < 0.05


def test_ranges_are_those_of_the_answers_and_open_where_more_can_only_help():
    answers = drawn("any", 50, 2)
    learned = learned_from(answers)
    unusual, intervals = learned.ranges["unusual"], learned.ranges["intervals"]
    assert unusual[1:] == (0.0, max(answer.terms["unusual"] for answer in answers))
    assert intervals[1:] == (min(answer.terms["intervals"] for answer in answers), np.inf)
    assert learned.base_rate == pytest.approx(np.mean([answer.right for answer in answers]))


def test_what_others_teach_does_not_depend_on_the_system_left_out():
    answers = {name: drawn(name, 60, seed) for seed, name in enumerate(HOME)}
    contrary = answers | {"boutique": drawn("boutique", 60, 9, right=False)}
    first, second = (taught_by_others("boutique", some) for some in (answers, contrary))
    assert first == second
    assert taught_by_others("sockshop", answers) != taught_by_others("sockshop", contrary)
