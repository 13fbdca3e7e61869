"""What is usual? The EWMA recurrences and envelopes: one kernel for a stream and for a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiops_lab.checks import FieldError, real_number
from aiops_lab.numerics import compiled, compiled_part, real_numbers


@compiled_part
def ewma_step(mean: float, var: float, value: float, alpha: float) -> tuple[float, float]:
    """Return mean and variance after one more value with weight `alpha` (West 1979, doi
    10.1145/359146.359153).

    The variance is taken around the moving mean, so it also grows when the level moves.
    """
    gap = value - mean
    step = alpha * gap
    return mean + step, (1.0 - alpha) * (var + gap * step)


@compiled
def _ewma_kernel(values: NDArray, alpha: float, mean: NDArray, var: NDArray) -> None:
    m = np.nan
    v = 0.0
    for i in range(values.size):
        if not np.isnan(values[i]):
            if np.isnan(m):
                m = values[i]
            else:
                m, v = ewma_step(m, v, values[i], alpha)
        mean[i] = m
        var[i] = np.nan if np.isnan(m) else v


def alpha_of(elapsed: float, half_life: float) -> float:
    """Return the weight of an observation that stands for `elapsed` units of time: 1 -
    2^(-elapsed/half_life).
    """
    return 1.0 - float(np.exp2(-elapsed / half_life))


def ewma(values: ArrayLike, half_life: float) -> tuple[NDArray, NDArray]:
    """Return the exponentially weighted moving mean and variance of a series.

    The weight of a point halves with each `half_life` points that follow it. The first value starts
    the mean, with variance 0; a NaN changes nothing. Equal to pandas' ``ewm(halflife=…,
    adjust=False, ignore_na=True)`` with ``mean()`` and ``var(bias=True)``.

    Parameters
    ----------
    values : array-like, shape (n,)
    half_life : float
        In points, > 0. Higher: smoother and later.

    Returns
    -------
    mean, var : arrays, shape (n,)
        ``mean[i]`` and ``var[i]`` know the values up to and including i.

    Raises
    ------
    ValueError
        If `values` is not a one-dimensional series of real numbers within ±1e150, or `half_life` is
        not a positive number.

    Examples
    --------
    With a half-life of one point, each new value weighs one half:

    >>> mean, var = ewma([0, 4, 4], half_life=1)
    >>> mean.tolist(), var.tolist()
    ([0.0, 2.0, 3.0], [0.0, 4.0, 3.0])
    """
    series = real_numbers(values)
    points = real_number("half_life", half_life)
    if not points > 0:
        raise FieldError("half_life", "must be > 0", half_life)
    too_large = series[np.abs(series) > LARGEST_SQUARED]
    if too_large.size:
        raise FieldError("values", f"must be within ±{LARGEST_SQUARED:g}", float(too_large[0]))
    mean = np.empty_like(series)
    var = np.empty_like(series)
    _ewma_kernel(series, alpha_of(1.0, min(points, LONGEST)), mean, var)
    return mean, var


LONGEST = 1e300
"""Points of the longest half-life that is told from an infinite one: with either, nothing is
learned after the first value."""

LARGEST_SQUARED = 1e150
"""The square of a larger value would be infinite, and so would the variance."""

FIELDS = (
    "count",  # requests learned from
    "mean",  # of log milliseconds
    "var",  # of log milliseconds
    "error_rate",  # share of errors, 0 to 1
    "windows",  # windows learned from
    "rate",  # requests that arrive in a window
    "rate_var",  # their variance
    "steady",  # level that lasting shifts are measured from: log milliseconds, without errors
    "rise",  # sum of evidence that this level has risen
    "fall",  # that it has fallen
    "abnormal_since",  # Unix s, NaN while normal
    "new_count",  # the level since then, learned apart: as above
    "new_mean",
    "new_var",
    "new_error_rate",
    "new_windows",
    "new_rate",
    "pool_n",  # requests of small windows that wait to be judged together
    "pool_errors",
    "pool_total",  # sum of log milliseconds
    "pool_squares",  # sum of their squares
    "pool_s",  # seconds
    "silent",  # requests that should have come since the last one came
    "longest",  # the largest such number so far
    "long_share",  # share of requests that took longer than timeout_s
    "new_long_share",
    "new_rate_var",
    "ok_count",  # answers without an error learned from
    "slow",  # slow mean of their log milliseconds
    "new_ok_count",
    "new_slow",
    "pool_ok_n",  # such answers in the pool
    "pool_ok_total",  # sum of their log milliseconds
    "pool_long",  # such requests in the pool
    "pool_aged",  # requests in the pool that have ended or become that old
    "steady_n",  # answers that the steady level is worth
    "steady_lagged",  # slow mean of the steady level: as far behind as that is behind a trend
    "steady_var",  # of log milliseconds, inside a window
    "steady_error_rate",  # steady share of failures
    "steady_requests",  # requests that this share is worth
    "dispersion",  # of the means of blocks of windows
    "blocks",  # blocks it was learned from
    "block_windows",  # windows of the present block
    "block_n",  # answers in it
    "block_sum",  # sum of their log milliseconds above the steady level
    "rise_on",  # 1 while a rise of latency is reported
    "rise_n",  # answers since the sum of the rise was last 0
    "rise_sum",  # sum of their log milliseconds above the steady level
    "rise_s",  # seconds
    "fall_n",  # answers since the sum of the fall was last 0
    "fall_sum",  # sum of their log milliseconds
    "surplus",  # sum of evidence that more requests fail
    "surplus_on",  # 1 while that is reported
    "surplus_n",  # requests since this sum was last 0
    "surplus_errors",  # failures among them
    "surplus_s",  # seconds
)
"""What a baseline holds, in the order in which a store keeps it."""

BASELINE = np.dtype([(name, "f8") for name in FIELDS])
"""One baseline as a record, for arrays that the compiled kernel can change in place."""

WARM_WINDOWS = 12
"""Windows that a baseline must have learned before lasting shifts are looked for and its rate of
arrivals is used. Raising it delays the detectors of lasting shifts and silences."""

LONG_LIVED = 0.05
"""Share of requests longer than ``timeout_s`` from which on an endpoint keeps connections open on
purpose (event streams, long polls): how long one lasts is then no latency. Raising it reports more
latencies of slow endpoints, and more closed streams as if they were slow."""

MIN_SD = 0.1
"""Standard deviation of log milliseconds, at least: a latency that was always the same still varies
by a tenth elsewhere. Raising it makes z smaller for steady endpoints."""

MEMORY = 100.0
"""Requests that a baseline remembers at least, however few arrive in a half-life. Raising it makes
the baselines of quiet endpoints slower and steadier."""

LONG_MEMORY = 1000.0
"""Requests that the share of long requests remembers at least: rare ones need more. Raising it
makes that share steadier."""


def fresh(rows: int) -> NDArray:
    """Return `rows` baselines that have seen nothing, an array of `BASELINE` records."""
    state = np.zeros(rows, BASELINE)
    state["abnormal_since"] = np.nan
    return state


def to_rows(state: NDArray) -> list[list[float]]:
    """Return baselines as a store keeps them: a list of numbers a baseline, as in `FIELDS`."""
    return [list(row) for row in state.tolist()]


def from_rows(rows: list[list[float]], size: int) -> NDArray:
    """Return `size` baselines from what `to_rows` gave; fresh ones where these do not fit.

    They do not fit if they were learned with another setting of ``seasonal``. Fields that a row
    lacks, because an earlier version wrote it, are 0.
    """
    if len(rows) != size or not rows:
        return fresh(size)
    missing = len(FIELDS) - len(rows[0])
    return np.array([(*row, *[0.0] * missing) for row in rows], BASELINE)


@compiled_part
def weight_of(n: float, count: float, alpha: float, memory: float) -> float:
    """Return the weight of n requests in an average of `count`, for a window of weight `alpha`.

    Until the moving average has seen enough, the weight is the share of the window in all requests
    so far, so that a cold start is a plain average and not a memory of the first window. A quiet
    endpoint forgets by requests, `memory` at least, not by time: the spread of few requests is too
    uncertain.
    """
    return max(min(alpha, n / memory), n / count)


@compiled_part
def pool_var(baseline: Any) -> float:
    """Return the variance of log milliseconds among the requests of the pool."""
    mean = baseline["pool_total"] / baseline["pool_n"]
    return max(baseline["pool_squares"] / baseline["pool_n"] - mean * mean, 0.0)


@compiled_part
def pool_ok_mean(baseline: Any) -> float:
    """Return the mean log milliseconds of the answers without an error in the pool."""
    return baseline["pool_ok_total"] / baseline["pool_ok_n"]


@compiled_part
def pool_long_share(baseline: Any) -> float:
    """Return the share of long requests among those of the pool that have ended or become long."""
    return baseline["pool_long"] / max(baseline["pool_aged"], 1.0)


@compiled_part
def learn_requests(baseline: Any, alpha: float) -> None:
    """Learn the requests of the pool: their number, errors, latencies, and how many were long."""
    n = baseline["pool_n"]
    mean = baseline["pool_total"] / n
    baseline["count"] += n
    weight = weight_of(n, baseline["count"], alpha, MEMORY)
    moved = ewma_step(baseline["mean"], baseline["var"], mean, weight)
    baseline["mean"] = moved[0]
    baseline["var"] = moved[1] + weight * pool_var(baseline)
    baseline["error_rate"] += weight * (baseline["pool_errors"] / n - baseline["error_rate"])
    if baseline["pool_ok_n"] > 0:
        baseline["ok_count"] += baseline["pool_ok_n"]
        weight = weight_of(baseline["pool_ok_n"], baseline["ok_count"], alpha, MEMORY)
        baseline["slow"] += weight * (pool_ok_mean(baseline) - baseline["slow"])
    weight = weight_of(n, baseline["count"], alpha, LONG_MEMORY)
    baseline["long_share"] += weight * (pool_long_share(baseline) - baseline["long_share"])


@compiled_part
def learn_requests_apart(baseline: Any, alpha: float) -> None:
    """Learn an abnormal pool into the level that may become the new normal."""
    n = baseline["pool_n"]
    mean = baseline["pool_total"] / n
    baseline["new_count"] += n
    weight = weight_of(n, baseline["new_count"], alpha, MEMORY)
    moved = ewma_step(baseline["new_mean"], baseline["new_var"], mean, weight)
    baseline["new_mean"] = moved[0]
    baseline["new_var"] = moved[1] + weight * pool_var(baseline)
    errors = baseline["pool_errors"] / n
    baseline["new_error_rate"] += weight * (errors - baseline["new_error_rate"])
    if baseline["pool_ok_n"] > 0:
        baseline["new_ok_count"] += baseline["pool_ok_n"]
        weight = weight_of(baseline["pool_ok_n"], baseline["new_ok_count"], alpha, MEMORY)
        baseline["new_slow"] += weight * (pool_ok_mean(baseline) - baseline["new_slow"])
    long_share = pool_long_share(baseline)
    weight = weight_of(n, baseline["new_count"], alpha, LONG_MEMORY)
    baseline["new_long_share"] += weight * (long_share - baseline["new_long_share"])


@compiled_part
def learn_arrivals(baseline: Any, arrivals: float, alpha: float) -> None:
    """Learn how many requests arrived in a normal window."""
    baseline["windows"] += 1.0
    weight = max(alpha, 1.0 / baseline["windows"])
    moved = ewma_step(baseline["rate"], baseline["rate_var"], arrivals, weight)
    baseline["rate"] = moved[0]
    baseline["rate_var"] = moved[1]


@compiled_part
def learn_arrivals_apart(baseline: Any, arrivals: float, alpha: float) -> None:
    """Learn how many requests arrived in an abnormal window."""
    baseline["new_windows"] += 1.0
    weight = max(alpha, 1.0 / baseline["new_windows"])
    moved = ewma_step(baseline["new_rate"], baseline["new_rate_var"], arrivals, weight)
    baseline["new_rate"] = moved[0]
    baseline["new_rate_var"] = moved[1]


@compiled_part
def begin_abnormal(baseline: Any, start_s: float) -> None:
    """Start to learn a level apart, from the window that starts at `start_s` (Unix s)."""
    baseline["abnormal_since"] = start_s
    baseline["new_count"] = 0.0
    baseline["new_mean"] = 0.0
    baseline["new_var"] = 0.0
    baseline["new_error_rate"] = 0.0
    baseline["new_long_share"] = 0.0
    baseline["new_ok_count"] = 0.0
    baseline["new_slow"] = 0.0
    baseline["new_windows"] = 0.0
    baseline["new_rate"] = 0.0
    baseline["new_rate_var"] = 0.0


@compiled_part
def accept_level(baseline: Any) -> None:
    """Take the level that was learned apart as the new normal: it has stayed for long enough."""
    if baseline["new_count"] > 0:
        baseline["count"] = baseline["new_count"]
        baseline["mean"] = baseline["new_mean"]
        baseline["var"] = baseline["new_var"]
        baseline["error_rate"] = baseline["new_error_rate"]
        baseline["long_share"] = baseline["new_long_share"]
    if baseline["new_ok_count"] > 0:
        baseline["ok_count"] = baseline["new_ok_count"]
        baseline["slow"] = baseline["new_slow"]
    baseline["windows"] = baseline["new_windows"]
    baseline["rate"] = baseline["new_rate"]
    baseline["rate_var"] = baseline["new_rate_var"]
    baseline["silent"] = 0.0
    baseline["longest"] = 0.0
    baseline["abnormal_since"] = np.nan
