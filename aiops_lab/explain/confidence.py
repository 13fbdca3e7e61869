"""How often is such a suspect a true cause? A confidence learned from runs with a known cause.

``confidence.json`` holds two logistic curves over score and share, for suspects by excess and for
those by deviations; ``python -m shop calibrate`` learns them from the virtual shop, from first
suspects and later ones. A share of votes is no confidence: a rule that is wrong for a reason is
wrong in every trace.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_FILE = Path(__file__).with_name("confidence.json")

TERMS = ("1", "log score", "share")

"""What a curve is over: the logarithm of the score (of excess as a multiple of the least), the
share of all scores.
"""

BY = ("excess", "deviations")

"""Suspects of these two kinds have a curve of their own: their scores are in different units."""

RIDGE = 0.01

"""How much the fit prefers small weights, so that runs in which every answer is right do not drive
them to infinity.
"""


NEWTON_STEPS = 50
"""Steps of Newton's method; the last ones change nothing."""


class Curve(NamedTuple):
    """A logistic curve: the weight of each of `TERMS`."""

    weights: tuple[float, ...]

    def __call__(self, scores: NDArray, shares: NDArray) -> NDArray:
        """Return the probability that each suspect is a true cause."""
        return _probability(_design(scores, shares), np.array(self.weights))


def _design(scores: NDArray, shares: NDArray) -> NDArray:
    return np.column_stack([np.ones(len(scores)), np.log(scores), shares])


def _probability(x: NDArray, weights: NDArray) -> NDArray:
    return 1 / (1 + np.exp(-x @ weights))


def fit(scores: NDArray, shares: NDArray, right: NDArray) -> Curve:
    """Learn a curve from answers whose truth is known (logistic regression by Newton's method).

    A larger score never makes less sure.

    Parameters
    ----------
    scores, shares : arrays, shape (n,)
        Of suspects of one kind.
    right : array of bool, shape (n,)
    """
    x = _design(scores, shares)
    y = np.asarray(right, dtype=float)
    weights = _logistic(x, y)
    if weights[1] < 0:  # wrong later suspects, the echoes of a large fault, score high, too
        without_score = x[:, ::2]
        weights = np.insert(_logistic(without_score, y), 1, 0.0)
    return Curve(tuple(map(float, weights)))


def _logistic(x: NDArray, y: NDArray) -> NDArray:
    n_weights = x.shape[1]
    ridge = RIDGE * np.eye(n_weights)
    weights = np.zeros(n_weights)
    for _ in range(NEWTON_STEPS):
        p = _probability(x, weights)
        variance = p * (1 - p)
        slope = x.T @ (y - p) - RIDGE * weights
        bend = (x.T * variance) @ x + ridge
        weights += np.linalg.solve(bend, slope)
    return weights


@cache
def shipped(by: str = "excess") -> Curve:
    """Return the curve that comes with the package, for suspects of one kind of `BY`."""
    table: dict[str, Any] = json.loads(CONFIDENCE_FILE.read_text("utf-8"))
    return Curve(tuple(table["weights"][by][term] for term in TERMS))
