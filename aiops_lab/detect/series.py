"""How unusual is each point of a series, given its past alone? Records of two views that remember
everything, and one view that forgets; below the alarms, how far an event reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiops_lab.detect.baselines import alpha_of
from aiops_lab.detect.shape import shape_scores
from aiops_lab.numerics import LARGEST, ROUNDING, compiled_after, compiled_part, real_numbers

ALARM = 0.1
"""Score from which on a point is worth an alarm, one for all series. Higher: fewer alarms, later
ones."""

FAST, SLOW = 0.1, 0.003
"""Weight of a new value in the fast and the slow mean. Higher: they follow sooner, and what creeps
looks usual.
"""

SPREAD = 2e-4
"""Weight of a new distance in the usual one, and of a new value in the usual level. Higher: a busy
hour soon looks usual, and an event that lasts fades sooner; lower: what recurs every week keeps
alarming."""

RESIDUAL, DRIFT = 20.0, 1.5
"""Odds of a record that is one width of the envelope beyond it. Higher: smaller records alarm; the
residual does so 0.6 % of the width beyond, the drift 7 %, as its envelope is narrower."""

LOCAL, USUAL = 0.11, 2.4
"""Score of a point that is no record but infinitely far from its surroundings, and how many usual
distances score nothing; `ALARM` is reached at 8 of them. `LOCAL` higher: nearer points alarm, and
outdo small records; `USUAL` higher: fewer alarms."""

WARM_UP = 100
"""Points without a score: the two means only part after 1 / FAST points, and their gap needs an
envelope too.
"""

HOLD = 50.0
"""Points after which the score to beat has halved, and what an event leaves once the level is usual
again. Higher: fewer alarms for one event, and weaker later ones missed.
"""

EXTENT = 0.09
"""Score of a point that belongs to an event but raises no alarm, at most. Below `ALARM`: no alarm
depends on it; the nearer, the more of what would alarm at a lower threshold is one event."""

SMALLEST = 1e-15
"""Differences up to this are rounding whatever the values: 0.1 + 0.2 - 0.3 is not quite 0."""


@compiled_part
def _beyond(low: float, high: float, value: float, rounding: float) -> float:
    """Return how far `value` is outside [low, high], in widths; 0 inside, and within rounding."""
    away = max(value - high, low - value)
    if not away > rounding:
        return 0.0
    return away / max(high - low, SMALLEST * away)


@compiled_part
def _standing_out(distance: float, usual: float, rounding: float) -> float:
    """Return how far a distance is beyond `USUAL` usual ones: 0 within, almost 1 far away."""
    limit = USUAL * usual
    if not distance > max(rounding, limit):
        return 0.0
    share = limit / distance
    return 1.0 - share * share


@compiled_part
def _limited(step: float, usual: float, rounding: float) -> float:
    """Return a step of at most `USUAL` usual ones, so that an event hardly changes what is usual;
    all of it where nothing has changed before.
    """
    if usual <= rounding:
        return step
    limit = USUAL * usual
    return min(max(step, -limit), limit)


@compiled_part
def _root_mean_square(usual: float, distance: float, weight: float) -> float:
    """Return the root of the weighted mean of two squares, which neither overflows nor vanishes."""
    largest = max(usual, distance)
    if largest == 0.0:
        return 0.0
    usual /= largest
    distance /= largest
    return largest * math.sqrt((1.0 - weight) * usual * usual + weight * distance * distance)


@compiled_after(100_000)  # of which each takes five microseconds
def _scores_kernel(values: NDArray, decay: float, scores: NDArray) -> None:
    """Fill `scores`."""
    n = 0
    fast = 0.0
    slow = 0.0
    usual = 0.0
    largest = 0.0
    hold = 0.0
    level = 0.0
    around_level = 0.0
    extent = 0.0
    low_r = 0.0
    high_r = 0.0
    low_d = 0.0
    high_d = 0.0
    for i in range(values.size):
        value = values[i]
        scores[i] = 0.0
        if np.isnan(value):
            continue
        n += 1
        if n == 1:
            fast = value
            slow = value
            level = value
        share = 1.0 / n
        largest = max(largest, abs(value))
        distance = abs(value - fast)
        residual = value - slow
        from_level = value - level
        fast += max(FAST, share) * (value - fast)
        slow += max(SLOW, share) * residual
        drift = fast - slow
        if n > WARM_UP:
            rounding = max(SMALLEST, ROUNDING * largest)
            odds = max(
                RESIDUAL * _beyond(low_r, high_r, residual, rounding),
                DRIFT * _beyond(low_d, high_d, drift, rounding),
            )
            record = odds / (1.0 + odds)
            local = _standing_out(distance, usual, rounding)
            away = _standing_out(abs(from_level), around_level, rounding)
            hold *= decay
            if away == 0.0:
                extent *= decay
            from_level = _limited(from_level, around_level, rounding)
            extent = max(extent, record, local)
            scores[i] = EXTENT * extent
            score = max(record, LOCAL * local)
            if score > hold:
                hold = score
                if score > EXTENT:
                    scores[i] = score
        low_r = min(low_r, residual)
        high_r = max(high_r, residual)
        low_d = min(low_d, drift)
        high_d = max(high_d, drift)
        weight = max(SPREAD, share)
        usual = _root_mean_square(usual, distance, weight)
        level += weight * from_level
        around_level = _root_mean_square(around_level, abs(from_level), weight)


def anomaly_scores(values: ArrayLike, method: str = "envelope") -> NDArray:
    """Return how unusual each point of a series is, given the points before it: from 0 to 1.

    By default an alarm is worth raising from 0.1 on (`aiops_lab.detect.series.ALARM`), and lower
    scores tell how far an event reaches. The score of an alarm is the largest of three views:

    - Two remember everything: the residual of a point against the slow mean before it, and the
      drift, fast mean minus slow mean. Each has an envelope, the smallest and the largest so far. A
      record x widths beyond it has odds of 20 x (residual) or 1.5 x (drift), and scores odds / (1 +
      odds).
    - One forgets: the distance of a point from the fast mean before it, in root mean squares of the
      distances so far (weighted: of about the last 5,000). Up to 2.4 of them score 0, 8 score 0.1,
      infinitely many 0.11. What stands out of its surroundings alarms each time that it recurs,
      though it was seen before; a record outdoes it.

    After an alarm only a higher score raises another, until the score to beat has decayed (by half
    in 50 points), so that one event is one alarm. All other points score 0.09 times what is left of
    the event: 1 - (2.4 / z)^2 of z root mean squares from the fast mean, or what a record scores.
    It stays while the value is more than 2.4 root mean squares from its usual level (a mean of
    about the last 5,000 points, to which a farther value counts as no more than that), and
    decays by half in 50 points when the value is back. So a level that stays becomes usual: 5 of
    its standard deviations after 900 points, 12 after 2,800, sooner in a young series. A threshold
    of 0.08 marks whole events, not only where they begin. The means are plain averages until 1 / n
    falls below their weights.

    The score of a point depends on no later one, and on no scale: a * values + b has the same
    scores for a other than 0, but for rounding. What rounding alone can change is no event: a
    difference up to 2.4e-7 of the values (`ROUNDING`), or up to 1e-15. The first 100 points score
    0. Steady normal noise raises about 6 alarms in 1,000 points while the envelopes are young
    (1,000 points), 0.5 after that and 0.1 after 10,000; independent draws with heavy tails
    (log-normal, Pareto) raise about 2 in 1,000 for good.

    Assumes evenly spaced points. What grows slower than the slow mean follows is not seen, nor a
    wrong shape of usual size: ``method="matrix-profile"`` asks how far the last points are from the
    most similar earlier ones, the mean taken off (a left matrix profile). Its windows fade with 0.3
    periods, so that what is wrong shows at once; the period is where the autocorrelation of the
    past peaks, found after 1,000, 2,000, 4,000 ... points. A squared distance d scores d / (d +
    variance so far); the first 1,000 points score 0. Such scores order the points of one series:
    there is no threshold for all series.

    Parameters
    ----------
    values : array-like, shape (n,)
        In order of time, evenly spaced: integers, floats, or a mixture of real numbers. NaN, None
        and NA score 0 and change nothing.
    method : str, default "envelope"
        ``"envelope"``: as above, 40 million points a second, whatever the length.
        ``"matrix-profile"``: for shapes that repeat, such as heartbeats. 100,000 points a second in
        series of 15,000; half of it for each doubling, until at 50,000 points it looks back no
        further. Without numba it is hundreds of times slower.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If `values` is not a one-dimensional series of real numbers (complex numbers, texts, times
        and durations are none), or one is infinite (or beyond 1e300; 1e150 for
        the matrix profile), or `method` is unknown.

    References
    ----------
    The setting is that of Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", ICMLA
    2015, arXiv 1510.03336; the views are this package's own. Left matrix profiles for anomalies: Lu
    et al., "Matrix Profile XXIV" (DAMP), KDD 2022, doi 10.1145/3534678.3539271; fading windows in
    place of square ones are this package's own.

    Examples
    --------
    >>> values = [float(i % 2) for i in range(200)]
    >>> values[150] = 3.0
    >>> scores = anomaly_scores(values)
    >>> int(scores.argmax()), round(float(scores[150]), 2)
    (150, 0.95)
    """
    if not isinstance(method, str) or method not in SCORERS:
        raise ValueError(f"method must be one of {sorted(SCORERS)}, got {method!r}")
    series = real_numbers(values)
    too_large = np.abs(series) > LARGEST
    if too_large.any():
        bad = int(np.argmax(too_large))
        raise ValueError(
            f"values must be finite and within ±{LARGEST:g}, got {series[bad]} at {bad}"
        )
    return SCORERS[method](series)


def _envelope(series: NDArray) -> NDArray:
    scores = np.empty_like(series)
    with np.errstate(over="ignore"):  # of values near LARGEST; the compiled kernel is silent, too
        _scores_kernel(series, 1.0 - alpha_of(1.0, HOLD), scores)
    return scores


SCORERS: dict[str, Callable[[NDArray], NDArray]] = {
    "envelope": _envelope,
    "matrix-profile": shape_scores,
}
