"""What is usual? The EWMA recurrences and envelopes: one kernel for a stream and for a batch."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiops_lab.numerics import compiled


@compiled
def ewma_step(mean: float, var: float, value: float, alpha: float) -> tuple[float, float]:
    """Return mean and variance after one more value with weight `alpha` (West 1979, doi
    10.1145/359146.359153).

    The variance is taken around the moving mean, so it also grows when the level moves.
    """
    gap = value - mean
    step = alpha * gap
    return mean + step, (1.0 - alpha) * (var + gap * step)


@compiled
def envelope_step(
    low: float, high: float, value: float, out: float, back: float
) -> tuple[float, float]:
    """Return the band [low, high] after one more value: it widens fast (gain `out`) and narrows
    slowly (`back`).
    """
    high += (out if value > high else back) * (value - high)
    low += (out if value < low else back) * (value - low)
    return low, high


@compiled
def _ewma_kernel(values: NDArray, alpha: float, mean: NDArray, var: NDArray) -> None:
    m, v = np.nan, 0.0
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
    return 1.0 - 2.0 ** (-elapsed / half_life)


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
        If `values` is not one-dimensional or `half_life` is not a positive number.

    Examples
    --------
    With a half-life of one point, each new value weighs one half:

    >>> mean, var = ewma([0, 4, 4], half_life=1)
    >>> mean.tolist(), var.tolist()
    ([0.0, 2.0, 3.0], [0.0, 4.0, 3.0])
    """
    series = np.asarray(values, dtype=np.float64)
    if isinstance(half_life, bool) or not isinstance(half_life, Real):
        raise ValueError(f"half_life must be a number, got {half_life!r}")
    if series.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got shape {series.shape}")
    if not half_life > 0:
        raise ValueError(f"half_life must be > 0, got {half_life}")
    mean, var = np.empty_like(series), np.empty_like(series)
    _ewma_kernel(series, alpha_of(1.0, half_life), mean, var)
    return mean, var


# One row of state a baseline. A plain float array, so that the kernel can run on it and a store can
# keep it.
FIELDS = (
    "count",  # requests learned from
    "mean",
    "var",  # of log milliseconds
    "error_rate",  # share of errors
    # windows learned from; requests that arrive in one, and their variance
    "windows",
    "rate",
    "rate_var",
    "fast",
    "low",
    "high",  # fast mean of log milliseconds, and the envelope of fast minus slow
    "abnormal_since",  # Unix s, NaN while normal
    # the level since then
    "new_count",
    "new_mean",
    "new_var",
    "new_error_rate",
    "new_windows",
    "new_rate",
    # small windows waiting for company
    "pool_n",
    "pool_errors",
    "pool_total",
    "pool_squares",
    "pool_s",
    # requests that should have come since the last one came; the most there ever were
    "silent",
    "longest",
)

(
    COUNT,
    MEAN,
    VAR,
    ERROR_RATE,
    WINDOWS,
    RATE,
    RATE_VAR,
    FAST,
    LOW,
    HIGH,
    SINCE,
    NEW_COUNT,
    NEW_MEAN,
    NEW_VAR,
    NEW_ERROR_RATE,
    NEW_WINDOWS,
    NEW_RATE,
    POOL_N,
    POOL_ERRORS,
    POOL_TOTAL,
    POOL_SQUARES,
    POOL_S,
    SILENT,
    LONGEST,
) = range(len(FIELDS))


def fresh(rows: int) -> NDArray:
    """Return the state of `rows` baselines that have seen nothing, shape (rows, len(FIELDS))."""
    state = np.zeros((rows, len(FIELDS)))
    state[:, SINCE] = np.nan
    return state


MEMORY = 100.0  # requests that a baseline remembers at least, however few come in a half-life


@compiled
def weight_of(n: float, count: float, alpha: float) -> float:
    """Return the weight of n requests in an average that has then seen `count`, for a window of
    weight `alpha`.

    Until the moving average has seen enough, the weight is the window's share of all requests so
    far, so that a cold start is a plain average and not a memory of the first window. A quiet
    endpoint forgets by requests, not by time: the spread of a handful of requests is no measure of
    anything.
    """
    return max(min(alpha, n / MEMORY), n / count)


@compiled
def learn_requests(
    row: NDArray, first: int, n: float, errors: float, mean: float, var: float, alpha: float
) -> None:
    """Fold one window's requests into the group (count, mean, var, error_rate) that begins at
    ``row[first]``.
    """
    row[first] += n
    weight = weight_of(n, row[first], alpha)
    row[first + 1], row[first + 2] = ewma_step(row[first + 1], row[first + 2], mean, weight)
    row[first + 2] += weight * var
    row[first + 3] += weight * (errors / n - row[first + 3])
