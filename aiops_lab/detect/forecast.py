"""When does a level that rises steadily cross its threshold? With an interval, or not at all.

Three stories of a series are compared by least squares: it stays at one level, it jumps once, or it
stays and then rises along a line that goes on to the threshold. Only where the last one is clearly
the best is there a forecast. Its interval holds the crossing times with which a line fits nearly as
well (profile likelihood): G. A. F. Seber and C. J. Wild, *Nonlinear Regression*, 1989, sections
5.9.2 and 9.3. Residuals that follow each other widen it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiops_lab.checks import FieldError, check_number
from aiops_lab.numerics import student_quantile

MIN_POINTS = 12
"""Values without which nothing is said: two minutes in intervals of ten seconds. Raising it says
nothing for longer after a start."""

MIN_RISING = 6
"""Of the last values, so many belong to the rise at least. Raising it sees a rise later."""

MIN_GAIN = 25.0
"""How much better a rise fits than one level, as an F ratio: five standard errors. Raising it makes
forecasts rarer, both false and true ones."""

MIN_LEAD = 4.0
"""How much better a rise fits than a jump, in variances of the noise: e to the half of it is how
many times as likely the values are. Raising it makes forecasts after a jump rarer, and later."""

SELECTION = 1.25
"""A factor of the variance: where a rise is clear enough for a forecast, noise added to it. From
leaks with other seeds than those whose coverage is reported. Raising it makes intervals wider."""

COVERAGE = 0.8
"""Share of intervals that hold the true time, if the rise goes on as it does. Raising it makes them
wider."""

_HORIZON_SPANS = 6.0  # times the length of the series; further ahead a line is a guess
_FARTHEST = 20.0  # times the horizon: an interval that reaches so far has no end
_TIMES = 160  # crossing times that are tried, 6 % apart from each other


class Forecast(NamedTuple):
    """The time at which a rising level crosses a threshold, in the seconds of its series.

    With the share of `COVERAGE` it lies from ``earliest_s`` to ``latest_s``, which is infinite
    where it may not cross it at all. ``per_s`` is how much it rises in a second.
    """

    crosses_s: float
    earliest_s: float
    latest_s: float
    per_s: float


def forecast_crossing(
    times_s: ArrayLike,
    values: ArrayLike,
    threshold: float,
    *,
    weights: ArrayLike | None = None,
    coverage: float = COVERAGE,
    horizon_s: float | None = None,
) -> Forecast | None:
    """Return when a level that rises steadily crosses a threshold; None where that is not to be
    seen: no rise, a jump, a rise that has ended, or a crossing too far ahead or in the past.

    Assumes that the rise goes on along a line, and that the values scatter around it by much the
    same; it errs where the growth speeds up (the crossing comes earlier).

    Parameters
    ----------
    times_s, values : array_like, shape (n,)
        A metric, at increasing times in seconds; values that are NaN are left out.
    threshold : float
        In the unit of the values, above the present level.
    weights : array_like, shape (n,), optional
        How much each value counts, such as the requests of which it is the mean. Default: the same.
    coverage : float
        Of the interval, 0.5 to 0.99; default 0.8.
    horizon_s : float, optional
        How far ahead a crossing may lie. Default: six times the length of the series.

    Raises
    ------
    ValueError
        The arrays differ in length, times do not increase, a weight is negative, or a parameter
        breaks its rule.

    Examples
    --------
    >>> import numpy as np
    >>> minutes = np.arange(20.0)
    >>> memory = np.maximum(minutes, 5) * 10 + np.tile([-1, 1], 10)
    >>> found = forecast_crossing(60 * minutes, memory, 300)
    >>> round(found.crosses_s / 60), found.earliest_s < found.crosses_s < found.latest_s
    (30, True)
    >>> forecast_crossing(60 * minutes, np.tile([50, 52], 10), 300) is None
    True
    """
    check_number("coverage", coverage, 0.5, 0.99)
    at, y, w = _series(times_s, values, weights)
    if len(at) < MIN_POINTS or np.average(y[-3:], weights=w[-3:]) >= threshold:
        return None
    if not _may_rise(at, y, w):
        return None
    ahead_s = _HORIZON_SPANS * (at[-1] - at[0]) if horizon_s is None else horizon_s
    check_number("horizon_s", ahead_s, 0.001, 1e10)
    crossings = at[-1] + ahead_s * np.geomspace(1e-3, _FARTHEST, _TIMES)
    losses, residuals = _fits(at, y, w, threshold, crossings)
    best = int(losses.argmin())
    noise = losses[best] / (len(at) - 3)
    follow = _widening(residuals)
    gain = _level_loss(y, w) - losses[best]
    than_jump = _jump_loss(y, w) - losses[best]
    if gain <= MIN_GAIN * follow * noise or than_jump <= MIN_LEAD * noise:
        return None
    if crossings[best] > at[-1] + ahead_s or _has_ended(residuals, noise):
        return None
    reach = student_quantile((1 + coverage) / 2, np.array(len(at) - 3)) ** 2
    limit = losses[best] + SELECTION * follow * noise * reach
    earliest_s, latest_s = _where_below(crossings, losses, limit)
    fitted = y[-1] - residuals[-1] / np.sqrt(w[-1])
    per_s = (threshold - fitted) / (crossings[best] - at[-1])
    return Forecast(*map(float, (crossings[best], earliest_s, latest_s, per_s)))


def _series(
    times_s: ArrayLike, values: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray, NDArray, NDArray]:
    """Return times, values and weights without gaps, the weights 1 on average."""
    at, y = np.asarray(times_s, float), np.asarray(values, float)
    w = np.ones(y.shape) if weights is None else np.asarray(weights, float)
    if at.ndim != 1 or not at.shape == y.shape == w.shape:
        rule = "must have one value for each time"
        raise FieldError("values", rule, (at.shape, y.shape, w.shape))
    if (np.diff(at) <= 0).any():
        raise FieldError("times_s", "must increase", at)
    if (w < 0).any():
        raise FieldError("weights", "must be >= 0", w.min())
    kept = np.isfinite(at) & np.isfinite(y) & (w > 0)
    at, y, w = at[kept], y[kept], w[kept]
    return at, y, w / w.mean() if len(w) else w


def _may_rise(at: NDArray, y: NDArray, w: NDArray) -> bool:
    """Return whether values and times go together at all, by two standard errors: it is quick."""
    t, v = at - np.average(at, weights=w), y - np.average(y, weights=w)
    together = (w * t * v).sum()
    share = together**2 / max((w * t**2).sum() * (w * v**2).sum(), 1e-300)
    return bool(together > 0 and share * (len(at) - 2) > 4 * (1 - share))


def _fits(
    at: NDArray, y: NDArray, w: NDArray, threshold: float, crossings: NDArray
) -> tuple[NDArray, NDArray]:
    """Return the squared error of the best rise to each crossing time, and the weighted residuals
    of the best of all.

    A rise is a level up to one of the times, then a line that is at the threshold at the crossing
    time. With the share h of the way to the threshold it is level (1 - h) + threshold h.
    """
    begins = at[:-MIN_RISING]
    lengths = crossings[None, :, None] - begins[:, None, None]
    h = np.maximum(0.0, at - begins[:, None, None]) / lengths  # by begin, crossing and time
    rest = y - threshold * h
    level = (w * (1 - h) * rest).sum(axis=2) / (w * (1 - h) ** 2).sum(axis=2)
    residuals = np.sqrt(w) * (rest - level[:, :, None] * (1 - h))
    errors = (residuals**2).sum(axis=2)
    begin, crossing = np.unravel_index(errors.argmin(), errors.shape)
    return errors.min(axis=0), residuals[begin, crossing]


def _level_loss(y: NDArray, w: NDArray) -> float:
    """Return the squared error of one level."""
    return float((w * (y - np.average(y, weights=w)) ** 2).sum())


def _jump_loss(y: NDArray, w: NDArray) -> float:
    """Return the squared error of the best two levels, one after the other."""
    splits = range(2, len(y) - 1)
    return min(_level_loss(y[:k], w[:k]) + _level_loss(y[k:], w[k:]) for k in splits)


def _widening(residuals: NDArray) -> float:
    """Return by how much the variance of a mean grows as neighbours are alike, 1 or more."""
    alike = (residuals[1:] * residuals[:-1]).sum() / max((residuals**2).sum(), 1e-300)
    rho = min(max(alike, 0.0), 0.9)
    return float((1 + rho) / (1 - rho))


def _where_below(crossings: NDArray, losses: NDArray, limit: float) -> tuple[float, float]:
    """Return between which crossing times the loss is below a limit; infinite where it stays so."""
    inside = np.flatnonzero(losses <= limit)
    first, last = inside[0], inside[-1]
    earliest_s, latest_s = crossings[first], np.inf
    if first > 0:
        pair = slice(first - 1, first + 1)
        earliest_s = np.interp(limit, losses[pair][::-1], crossings[pair][::-1])
    if last < _TIMES - 1:
        pair = slice(last, last + 2)
        latest_s = np.interp(limit, losses[pair], crossings[pair])
    return float(earliest_s), float(latest_s)


def _has_ended(residuals: NDArray, noise: float) -> bool:
    """Return whether the last values lie below the rise: it goes on no more."""
    last = residuals[-MIN_RISING:]
    return bool(last.mean() < -2 * np.sqrt(noise / len(last)))
