"""Is a case like those from which a confidence was learned?

A curve that was learned from some systems is a guess far from them. Each range holds what was seen
of one number. Where a case lies outside, what its confidence has above the base rate counts less:
half at twice the highest value or half the lowest, a tenth at ten times. It is never raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNLIKE = "Unlike anything that the confidence was learned from"


class Range(NamedTuple):
    """The lowest and the highest value that was learned from, and what the number is called.

    `high` is infinite where more can only help, `low` 0 where less can.
    """

    name: str
    low: float = 0.0
    high: float = inf


class Learned(NamedTuple):
    """What a confidence was learned from: ranges by term, and how often an answer was right."""

    base_rate: float
    ranges: Mapping[str, Range]


def nearness(value: float, known: Range) -> float:
    """Return how near a value is to a range: 1 inside, else the ratio to the bound, 0 to 1.

    Examples
    --------
    >>> [nearness(value, Range("x", 5, 10)) for value in (5, 20, 1, 0)]
    [1.0, 0.5, 0.2, 0.0]
    """
    if value < known.low:
        return max(value, 0.0) / known.low
    return known.high / value if value > known.high else 1.0


def lowered(confidence: NDArray, terms: Mapping[str, float], learned: Learned) -> NDArray:
    """Return the confidences as far as they hold for such a case.

    Parameters
    ----------
    terms : mapping
        The case's value of each term of `learned`.
    """
    near = 1.0
    for term, known in learned.ranges.items():
        near *= nearness(terms[term], known)
    above = np.maximum(confidence - learned.base_rate, 0.0)
    return confidence - above * (1 - near)


def caution(terms: Mapping[str, float], learned: Learned) -> str:
    """Return in words what a case is unlike in, "" where it lies within all ranges."""
    found = []
    for term, known in learned.ranges.items():
        value = terms[term]
        if value < known.low:
            found.append(f"{known.name} {value:.3g}, at least {known.low:.3g} there")
        if value > known.high:
            found.append(f"{known.name} {value:.3g}, at most {known.high:.3g} there")
    return f"{UNLIKE}: {'; '.join(found)}." if found else ""
