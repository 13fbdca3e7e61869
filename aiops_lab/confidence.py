"""How sure may the ledger be of a suspect? As sure as it was right in runs whose true cause is known.

``confidence.json`` holds a logistic curve over score and share; ``python -m shop calibrate`` learns it from the virtual
shop. A share of votes is no confidence: a rule that is wrong for a reason is wrong in every trace. The curve that ships
was learned from first suspects only: of the later ones it says too much.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("confidence.json")
TERMS = ("1", "log score", "share")
"""What the curve is over: the logarithm of the score as a multiple of the least one, and the share of all scores."""

RIDGE = 0.01
"""How much the fit prefers small weights, so that runs in which every answer is right do not drive them to infinity."""


class Curve(NamedTuple):
    """A logistic curve: the weight of each of `TERMS`."""

    weights: tuple[float, ...]

    def __call__(self, scores: NDArray, shares: NDArray) -> NDArray:
        """Return the probability that each suspect is a true cause."""
        return 1 / (1 + np.exp(-_design(scores, shares) @ np.array(self.weights)))


def _design(scores: NDArray, shares: NDArray) -> NDArray:
    return np.column_stack([np.ones(len(scores)), np.log(scores), shares])


def fit(scores: NDArray, shares: NDArray, right: NDArray, steps: int = 50) -> Curve:
    """Learn a curve from answers whose truth is known (logistic regression by Newton's method).

    Parameters
    ----------
    scores, shares : arrays, shape (n,)
        Of the first suspects; a score as a multiple of the least one.
    right : array of bool, shape (n,)
    """
    x, y = _design(scores, shares), np.asarray(right, dtype=float)
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (y - p) - RIDGE * weights
        bend = (x.T * (p * (1 - p))) @ x + RIDGE * np.eye(x.shape[1])
        weights += np.linalg.solve(bend, slope)
    return Curve(tuple(map(float, weights)))


@cache
def shipped() -> Curve:
    """Return the curve that comes with the package."""
    table: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return Curve(tuple(table["weights"][term] for term in TERMS))
