"""How unlike is the shape of the last points to every shape before it? A left matrix profile whose
windows fade.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiops_lab.detect.baselines import LARGEST_SQUARED
from aiops_lab.numerics import ROUNDING, compiled, compiled_after, compiled_part

FIRST = 1000
"""Points without a score, from which the first period is found. Lower: scores sooner, and from a
period that little proves. The period is found anew after 2, 4, 8 ... times as many."""

FADE = 0.3
"""Periods after which a point weighs 1 / e in a window. Higher: longer shapes count, and an anomaly
shows later."""

SHORTEST, REPEATS = 8, 4
"""The shortest period in points, and how often the longest fits into the past. `SHORTEST` higher:
noise has no period; `REPEATS` higher: long periods must be seen more often."""

PERIOD_UNKNOWN = 50
"""The period of what has none, such as a trend. Higher: longer shapes."""

PAST = 2**15
"""Points of the past that a period is found from, at most. Higher: slower, steadier."""

LOOK_BACK = 50_000
"""Points that a shape is compared with, at most. Higher: slower; what was seen stays usual for
longer."""

FORGOTTEN = 10.0
"""Fades after which the start of a window weighs nothing (1 / 20,000). Higher: slower."""

FULL = 3.0
"""Fades that an earlier window has to hold, to be one. Higher: the first points count less."""


def shape_scores(series: NDArray) -> NDArray:
    """Return how unlike each point's window is to the most similar earlier one, from 0 to 1.

    Parameters
    ----------
    series : array, shape (n,)
        Floats; NaN scores 0 and changes nothing.

    Raises
    ------
    ValueError
        A value is beyond ±1e150: its square would be infinite.
    """
    scores = np.zeros_like(series)
    there = np.flatnonzero(~np.isnan(series))
    values = series[there]
    too_large = there[np.abs(values) > LARGEST_SQUARED]
    if too_large.size:
        at = int(too_large[0])
        rule = f"values must be within ±{LARGEST_SQUARED:g} for this method"
        raise ValueError(f"{rule}, got {series[at]} at {at}")
    if values.size > FIRST:
        scores[there] = _scores(values)
    return scores


def _scores(values: NDArray) -> NDArray:
    squares = np.zeros_like(values)
    begin = FIRST
    while begin < values.size:
        end = min(2 * begin, values.size)
        period = period_of(values[:begin])
        squares[begin:end] = _squares(values[:end], begin, period)
        begin = end
    largest = np.maximum.accumulate(np.abs(values))
    rounding = ROUNDING * largest
    is_far = squares > rounding**2
    scores = np.zeros_like(values)
    return np.divide(squares, squares + _variances(values), out=scores, where=is_far)


def _variances(values: NDArray) -> NDArray:
    """Return the variance of all values up to each one."""
    centred = values - values[:FIRST].mean()
    n = np.arange(1, values.size + 1)
    mean = np.cumsum(centred) / n
    mean_square = np.cumsum(centred**2) / n
    return np.maximum(mean_square - mean**2, 0.0)


def period_of(past: NDArray) -> int:
    """Return the lag in points at which the autocorrelation of `past` peaks highest.

    Lags from 8 to a quarter of the past are compared (at most its last 32,768 points); 50 where
    there is no peak.
    """
    recent = past[-PAST:]
    centred = recent - recent.mean()
    lags = centred.size // REPEATS + 1
    padded = 2 ** int(np.ceil(np.log2(2 * centred.size)))
    spectrum = np.abs(np.fft.rfft(centred, padded)) ** 2
    products = np.fft.irfft(spectrum)[:lags]
    pairs = np.arange(centred.size, 0, -1)[:lags]  # of n points, n - lag
    similar = products / pairs
    rises = np.diff(similar) > 0
    is_peak = rises[:-1] & ~rises[1:]
    peaks = np.flatnonzero(is_peak) + 1
    peaks = peaks[peaks >= SHORTEST]
    if not peaks.size:
        return PERIOD_UNKNOWN
    highest = np.argmax(similar[peaks])
    return int(peaks[highest])


def _squares(values: NDArray, begin: int, period: int) -> NDArray:
    """Return the squared distance of each window that ends at `begin` or later to its nearest."""
    fade = max(FADE * period, 1.0)
    decay = float(np.exp(-1.0 / fade))
    gaps = np.empty_like(values)
    variances = np.empty_like(values)
    _windows(values, decay, gaps, variances)
    squares = np.zeros(values.size - begin)
    reach = np.array([FULL * fade, FORGOTTEN * fade]).astype(np.int64)
    # the latest first: what lies `lag` points before a point then follows it in memory
    gaps = gaps[::-1].copy()
    variances = variances[::-1].copy()
    _profile(gaps, variances, decay, period, reach, squares)
    return squares


@compiled
def _windows(values: NDArray, decay: float, gaps: NDArray, variances: NDArray) -> None:
    """Fill in how far each point is from the mean of the fading window before it, and the variance
    of the window that ends with it.
    """
    mean = values[0]
    variance = 0.0
    for i in range(values.size):
        gap = values[i] - mean
        mean += (1.0 - decay) * gap
        variance = decay * (variance + (1.0 - decay) * gap * gap)
        gaps[i] = gap
        variances[i] = variance


@compiled_after(1_000)  # of which each is compared with all before
def _profile(
    gaps: NDArray,
    variances: NDArray,
    decay: float,
    period: int,
    reach: NDArray,
    squares: NDArray,
) -> None:
    """Fill in the squared distances of the last windows; `gaps` and `variances` have the latest
    first.

    The squared distance of two windows is variance + variance - 2 x covariance. The covariances are
    carried on from point to point, one for each lag, by the recurrence of the variance.
    """
    newest = gaps.size - 1
    begin = gaps.size - squares.size
    covariances = np.zeros(min(gaps.size, LOOK_BACK))
    for i in range(max(begin - reach[1], 0), gaps.size):
        here = newest - i
        lags = min(i + 1, LOOK_BACK)
        _carry_on(covariances[:lags], gaps[here : here + lags], decay)
        last = min(i - reach[0], lags)
        if i < begin or last <= period:
            continue
        earlier = variances[here + period : here + last]
        best = _nearest(covariances[period:last], earlier)
        squares[i - begin] = max(variances[here] - best, 0.0)


@compiled_part
def _carry_on(covariances: NDArray, gaps: NDArray, decay: float) -> None:
    weight = decay * (1.0 - decay) * gaps[0]
    for lag in range(covariances.size):
        covariances[lag] = decay * covariances[lag] + weight * gaps[lag]


@compiled_part
def _nearest(covariances: NDArray, variances: NDArray) -> float:
    """Return the largest 2 x covariance - variance of the earlier windows."""
    best = -np.inf
    for lag in range(covariances.size):
        near = 2.0 * covariances[lag] - variances[lag]
        if near > best:
            best = near
    return best
