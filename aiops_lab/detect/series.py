"""How unusual is each point of a series, given its past alone? The envelopes of `baselines` on
three views.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiops_lab.detect.baselines import alpha_of, envelope_step, ewma_step
from aiops_lab.numerics import LARGEST, compiled, real_numbers

FAST, SLOW = 0.03, 0.003

"""Weight of a new value in the fast and the slow mean. Higher: they follow sooner, and what creeps
looks usual.
"""

OUT, BACK = 0.7, 3e-5

"""How far a bound moves to a value outside, and to one inside. `OUT` higher: the second such value
is less unusual; `BACK` higher: what was usual once is forgotten sooner, and the next such value
alarms again."""

WARM_UP = 100

"""Points without a score: the two means only part after 1 / FAST points, and their gap needs an
envelope too.
"""

HOLD = 50.0

"""Points after which the score to beat has halved. Higher: fewer alarms for one event, and weaker
later ones missed.
"""

ROUNDING = 2.0**-22

"""Differences up to this share of the values are rounding: four times what single precision loses.
Higher: small real changes of a large value are missed."""

SMALLEST = 1e-15

"""Differences up to this are rounding whatever the values: 0.1 + 0.2 - 0.3 is not quite 0."""


@compiled
def _outside(low: float, high: float, value: float, rounding: float) -> float:
    """Return how far `value` is outside [low, high]: x / (1 + x) for x widths of the band.

    0 inside, and where the distance is not above `rounding`.
    """
    away = max(value - high, low - value)
    return away / (away + (high - low)) if away > rounding else 0.0


@compiled
def _scores_kernel(values: NDArray, decay: float, scores: NDArray) -> int:
    """Fill `scores`; return where a value is too large, or -1."""
    n = 0
    fast = 0.0
    slow = 0.0
    hold = 0.0
    low = 0.0
    high = 0.0
    low_r = 0.0
    high_r = 0.0
    low_d = 0.0
    high_d = 0.0
    for i in range(values.size):
        value = values[i]
        scores[i] = 0.0
        if np.isnan(value):
            continue
        if abs(value) > LARGEST:
            return i
        n += 1
        if n == 1:
            fast = value
            slow = value
            low = value
            high = value
            continue
        residual = value - slow
        share = 1.0 / n
        fast, _ = ewma_step(fast, 0.0, value, max(FAST, share))
        slow, _ = ewma_step(slow, 0.0, value, max(SLOW, share))
        drift = fast - slow
        if n > WARM_UP:
            rounding = max(SMALLEST, ROUNDING * max(abs(value), abs(low), abs(high)))
            score = max(
                _outside(low, high, value, rounding),
                _outside(low_r, high_r, residual, rounding),
                _outside(low_d, high_d, drift, rounding),
            )
            hold *= decay
            if score > hold:
                scores[i] = hold = score
        low, high = envelope_step(low, high, value, OUT, BACK)
        low_r, high_r = envelope_step(low_r, high_r, residual, OUT, BACK)
        low_d, high_d = envelope_step(low_d, high_d, drift, OUT, BACK)
    return -1


def anomaly_scores(values: ArrayLike) -> NDArray:
    """Return how unusual each point of a series is, given the points before it: from 0 to 1.

    Three views of the stream each have an envelope [low, high]: the value, its residual against the
    slow mean before it, and fast mean minus slow mean. A point x widths outside an envelope scores
    x / (1 + x), the largest of the three; inside all of them it scores 0. After a score only a
    higher one counts, until the score to beat has decayed, so that one event is one alarm. The
    means are plain averages until 1 / n falls below their weights.

    The score of a point depends on no later one, and on no scale: a * values + b has the same
    scores for a other than 0, but for rounding. What rounding alone can change scores 0: a
    difference up to 2.4e-7 of the values (`ROUNDING`), or up to 1e-15. The first 100 points score
    0. An alarm at 0.1 (a ninth of a width outside) is raised by about 5 in 1,000 points of steady
    noise while the envelope is young (1,000 points), by fewer than 1 after 10,000.

    Assumes that what was seen once is usual: an envelope that is wide already hides what creeps
    inside it.

    Parameters
    ----------
    values : array-like, shape (n,)
        In order of time, evenly spaced: integers, floats, or a mixture of real numbers. NaN, None
        and NA score 0 and change nothing.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If `values` is not a one-dimensional series of real numbers (complex numbers, texts, times
        and durations are none), or one is infinite (or beyond 1e300).

    References
    ----------
    The setting is that of Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA
    2015, arXiv 1510.03336; the envelopes are this package's own, the recurrences West's (doi
    10.1145/359146.359153).

    Examples
    --------
    >>> values = [float(i % 2) for i in range(200)]
    >>> values[150] = 3.0
    >>> scores = anomaly_scores(values)
    >>> int(scores.argmax()), round(float(scores[150]), 2)
    (150, 0.83)
    """
    series = real_numbers(values)
    scores = np.empty_like(series)
    with np.errstate(over="ignore"):  # of values near LARGEST; the compiled kernel is silent, too
        bad = _scores_kernel(series, 1.0 - alpha_of(1.0, HOLD), scores)
    if bad >= 0:
        raise ValueError(
            f"values must be finite and within ±{LARGEST:g}, got {series[bad]} at {bad}"
        )
    return scores
