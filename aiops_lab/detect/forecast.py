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
_TIMES = 160  # crossing times that are tried at first, 6 % apart from each other
_FINER = 16  # that are tried between the neighbours of the best one, each time
_ROUNDS = 6  # how often: the last ones are less than a millionth of the time ahead apart
_LEAST_NOISE = 1e-6  # of the way to the threshold, so that rounding is not taken for noise


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
    if len(at) < MIN_POINTS:
        return None
    last = slice(-3, None)
    present = np.average(y[last], weights=w[last])
    if present >= threshold or not _may_rise(at, y, w):
        return None
    begin_s, end_s = at[0], at[-1]
    ahead_s = horizon_s
    if ahead_s is None:
        ahead_s = _HORIZON_SPANS * (end_s - begin_s)
    check_number("horizon_s", ahead_s, 0.001, 1e10)
    tried = end_s + ahead_s * np.geomspace(1e-3, _FARTHEST, _TIMES)
    rises = _rises(at, threshold - y, w, tried)

    residuals = rises.residuals
    degrees_of_freedom = len(at) - 3
    least_sd = _LEAST_NOISE * (threshold - y.min())
    noise = max(rises.least_loss / degrees_of_freedom, least_sd**2)
    follow = _widening(residuals)
    gain = _level_loss(y, w) - rises.least_loss
    gain_over_jump = _jump_loss(y, w) - rises.least_loss
    if gain <= MIN_GAIN * follow * noise:
        return None
    if gain_over_jump <= MIN_LEAD * noise:
        return None
    if rises.crosses_s > end_s + ahead_s:
        return None
    if _has_ended(residuals, noise):
        return None

    quantile = student_quantile((1 + coverage) / 2, np.array(degrees_of_freedom))
    allowance = SELECTION * follow * noise * quantile**2
    limit = rises.least_loss + allowance
    earliest_s, latest_s = _where_below(rises.crossings, rises.losses, limit)
    last_residual = residuals[-1] / np.sqrt(w[-1])
    fitted = y[-1] - last_residual
    per_s = (threshold - fitted) / (rises.crosses_s - end_s)
    return Forecast(
        crosses_s=float(rises.crosses_s),
        earliest_s=earliest_s,
        latest_s=latest_s,
        per_s=float(per_s),
    )


def _series(
    times_s: ArrayLike,
    values: ArrayLike,
    weights: ArrayLike | None,
) -> tuple[NDArray, NDArray, NDArray]:
    """Return times, values and weights without gaps, the weights 1 on average."""
    at = np.asarray(times_s, float)
    y = np.asarray(values, float)
    w = np.ones(y.shape) if weights is None else np.asarray(weights, float)
    if at.ndim != 1 or not at.shape == y.shape == w.shape:
        rule = "must have one value for each time"
        raise FieldError("values", rule, (at.shape, y.shape, w.shape))
    if (np.diff(at) <= 0).any():
        raise FieldError("times_s", "must increase", at)
    if (w < 0).any():
        raise FieldError("weights", "must be >= 0", w.min())
    kept = np.isfinite(at)
    kept &= np.isfinite(y)
    kept &= w > 0
    w = w[kept]
    if w.size:
        w = w / w.mean()
    return at[kept], y[kept], w


def _may_rise(at: NDArray, y: NDArray, w: NDArray) -> bool:
    """Return whether values and times go together at all, by two standard errors: it is quick."""
    t = at - np.average(at, weights=w)
    v = y - np.average(y, weights=w)
    together = (w * t * v).sum()
    t_squares = (w * t**2).sum()
    v_squares = (w * v**2).sum()
    share = together**2 / max(t_squares * v_squares, 1e-300)
    is_clear = share * (len(at) - 2) > 4 * (1 - share)
    return bool(together > 0 and is_clear)


class _Rises(NamedTuple):
    """The best rise to each crossing time, in the order of these times.

    ``losses``: its squared error. ``residuals``: of the best of all, each times the root of its
    weight.
    """

    crossings: NDArray
    losses: NDArray
    residuals: NDArray

    @property
    def least_loss(self) -> float:
        """The squared error of the best of all."""
        return self.losses.min()

    @property
    def crosses_s(self) -> float:
        """The crossing time of the best of all."""
        return self.crossings[self.losses.argmin()]


def _rises(at: NDArray, gaps: NDArray, w: NDArray, crossings: NDArray) -> _Rises:
    """Return the rises to the crossing times given, and to ever more around the best one.

    The gaps are what the values lack to the threshold.
    """
    losses, _ = _fits(at, gaps, w, crossings)
    for _ in range(_ROUNDS):
        best = int(losses.argmin())
        beside = crossings[max(best - 1, 0) : best + 2]
        first, *_, last = beside
        finer = np.linspace(first, last, _FINER + 2)[1:-1]
        finer_losses, _ = _fits(at, gaps, w, finer)
        crossings = np.concatenate([crossings, finer])
        losses = np.concatenate([losses, finer_losses])
        order = crossings.argsort()
        crossings = crossings[order]
        losses = losses[order]
    best = int(losses.argmin())
    _, residuals = _fits(at, gaps, w, crossings[[best]])
    return _Rises(crossings, losses, residuals)


def _fits(at: NDArray, gaps: NDArray, w: NDArray, crossings: NDArray) -> tuple[NDArray, NDArray]:
    """Return the squared error of the best rise to each crossing time, and the weighted residuals
    of the best of all.

    A rise is a level up to its begin, then a line that is at the threshold at the crossing time:
    the gap is that of the level, times the share of the way that is left.
    """
    begins = _begins(at, gaps, w, crossings)
    ways_s = crossings - begins
    left_s = np.maximum(at, begins[:, :, None])  # by begin, crossing and time: a large array
    np.subtract(crossings[:, None], left_s, out=left_s)
    shares = np.divide(left_s, ways_s[:, :, None], out=left_s)
    together = shares @ (w * gaps)
    level_gap = together / (shares**2 @ w)
    errors = (w * gaps**2).sum() - level_gap * together
    best = np.unravel_index(errors.argmin(), errors.shape)
    fitted_gaps = level_gap[best] * shares[best]
    residuals = np.sqrt(w) * (fitted_gaps - gaps)
    least_errors = np.maximum(errors.min(axis=0), 0.0)
    return least_errors, residuals


def _begins(at: NDArray, gaps: NDArray, w: NDArray, crossings: NDArray) -> NDArray:
    """Return the begins of which one is the best for a crossing time, in a column for each.

    They are the times, and between each two of them the place where the mean of the values before
    meets the line of the values after, as long as it lies there.
    """
    splits = len(at) - MIN_RISING - 1
    last_level = at[:splits]
    first_rising = at[1 : splits + 1]
    tried = at[: splits + 1]
    samples = np.repeat(tried[:, None], len(crossings), axis=1)
    gaps_before = (w * gaps).cumsum()
    weights_before = w.cumsum()
    level_gap = gaps_before[:splits] / weights_before[:splits]
    left_s = crossings[:, None] - at
    rises = _sums_to_the_end(w * left_s * gaps)
    squares = _sums_to_the_end(w * left_s**2)
    per_s = np.maximum(rises / squares, 1e-300)
    per_s = per_s[:, 1 : splits + 1]
    with np.errstate(over="ignore"):  # a line that hardly rises begins long ago
        way_s = level_gap / per_s
        meets = crossings[:, None] - way_s
    between = np.clip(meets, last_level, first_rising)
    return np.concatenate([samples, between.T])


def _sums_to_the_end(values: NDArray) -> NDArray:
    """Return for each value of each row the sum of it and of all after it."""
    backwards = values[:, ::-1]
    sums = backwards.cumsum(axis=1)
    return sums[:, ::-1]


def _level_loss(y: NDArray, w: NDArray) -> float:
    """Return the squared error of one level."""
    apart = y - np.average(y, weights=w)
    return float((w * apart**2).sum())


def _jump_loss(y: NDArray, w: NDArray) -> float:
    """Return the squared error of the best two levels, one after the other."""
    losses = []
    for split in range(2, len(y) - 1):
        before = _level_loss(y[:split], w[:split])
        after = _level_loss(y[split:], w[split:])
        losses.append(before + after)
    return min(losses)


def _widening(residuals: NDArray) -> float:
    """Return by how much the variance of a mean grows as neighbours are alike, 1 or more."""
    neighbours = (residuals[1:] * residuals[:-1]).sum()
    squares = (residuals**2).sum()
    alike = neighbours / max(squares, 1e-300)
    rho = min(max(alike, 0.0), 0.9)
    return float((1 + rho) / (1 - rho))


def _where_below(crossings: NDArray, losses: NDArray, limit: float) -> tuple[float, float]:
    """Return between which crossing times the loss is below a limit; infinite where it stays so.

    Between two of them the root of what it exceeds the least by is taken for a line, as it is one
    where the loss is a parabola.
    """
    roots = np.sqrt(losses - losses.min())
    limit_root = np.sqrt(limit - losses.min())
    inside = np.flatnonzero(roots <= limit_root)
    first, last = inside[0], inside[-1]
    earliest_s = crossings[first]
    latest_s = np.inf
    if first > 0:
        falling = [first, first - 1]  # so that the roots increase, as np.interp wants it
        earliest_s = np.interp(limit_root, roots[falling], crossings[falling])
    if last < len(crossings) - 1:
        rising = [last, last + 1]
        latest_s = np.interp(limit_root, roots[rising], crossings[rising])
    return float(earliest_s), float(latest_s)


def _has_ended(residuals: NDArray, noise: float) -> bool:
    """Return whether the last values lie below the rise: it goes on no more."""
    last = residuals[-MIN_RISING:]
    error = np.sqrt(noise / len(last))
    return bool(last.mean() < -2 * error)
