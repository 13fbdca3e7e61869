"""Which accounts became slower that were seldom observed? Welch's test of their self times.

How many of a few self times exceed 95 % of a few usual ones proves nothing, not even if all do; how
far they exceed them may. The times are compared as logarithms, because they are skewed. A few times
now and many usual ones may scatter differently, so neither variance stands for the other.

Of 20 usual times and four now, of which nothing but the scatter changed, 0.3 to 0.4 % are called
slower before the correction for the number of accounts, instead of 0.13 %: four times show their
own variance badly.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import ROUNDING, normal_tail, wilson

FEWEST = 4
"""Times of an account, usual and now, that its variance is estimated from at least. Of two or three
without any change, Welch's test at 0.13 % calls 2.3 or 0.8 % slower. Higher: fewer accounts that
were seldom observed are asked.
"""


def log_times(self_ns: pd.Series, config: RcaConfig) -> pd.DataFrame:
    """Return of the logarithms of self times (ns), by account: their number n, mean and var.

    `min_self_ms` is added to each, so that a jitter of the clock is no multiple of nothing.
    """
    self_ms = self_ns / 1e6
    logs = np.log(self_ms + config.min_self_ms)
    by_account = logs.groupby(level=0)
    return by_account.agg(n="size", mean="mean", var="var")


def certainly_slower(usual: pd.DataFrame, now: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return which share (0 to 1) of the self time now is certainly more than usual, by account;
    0 where the account was observed so often that counting slow spans can tell.

    `usual` and `now` are `log_times`. The bound has the standard error and the degrees of freedom
    of Welch (1947, doi 10.1093/biomet/34.1-2.28), at the probability of `n_sigma` divided by the
    number of accounts that are asked (Bonferroni).
    """
    both = now.join(usual.add_suffix("_usual"), how="inner")
    both = both[_can_be_asked(both, config)]
    n = both["n"]
    usual_n = both["n_usual"]
    square = both["var"] / n
    square_usual = both["var_usual"] / usual_n
    freedom = _freedom(square, n, square_usual, usual_n)
    z = one_of_many(config.n_sigma, len(both))
    standard_error = np.sqrt(square + square_usual)
    longer = both["mean"] - both["mean_usual"]
    least = longer - student(z, freedom) * standard_error
    larger = np.maximum(both["mean"].abs(), both["mean_usual"].abs())
    is_more = least > ROUNDING * larger
    return 1 - np.exp(-least.where(is_more, 0.0))


def _freedom(
    square: pd.Series, n: pd.Series, square_usual: pd.Series, usual_n: pd.Series
) -> pd.Series:
    """Return the degrees of freedom (Welch and Satterthwaite) of two squared standard errors."""
    part = square**2 / (n - 1)
    usual_part = square_usual**2 / (usual_n - 1)
    freedom = (square + square_usual) ** 2 / (part + usual_part)
    return freedom.fillna(n - 1.0)  # nothing scatters


def _can_be_asked(both: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return of which accounts only the times can prove anything, and enough are known."""
    n = both["n"]
    usual_n = both["n_usual"]
    known = usual_n >= max(config.min_requests, FEWEST)
    enough = n >= max(config.min_count, FEWEST)
    return known & enough & are_few(n, usual_n, config)


def are_few(n: Any, usual_n: Any, config: RcaConfig) -> Any:
    """Return whether no number of slow spans among `n` could prove anything against `usual_n`;
    both are numbers, or columns of numbers.
    """
    least_now, _ = wilson(n, n, config.n_sigma)
    usual_k = (1 - config.quantile) * usual_n
    _, most_usual = wilson(usual_k, usual_n, config.n_sigma)
    return least_now <= most_usual


def one_of_many(z: float, comparisons: int) -> float:
    """Return the normal quantile at which one of many comparisons exceeds it by chance as seldom as
    a single one exceeds `z`: the probability divided by their number (Bonferroni).

    Examples
    --------
    >>> [round(one_of_many(3.0, n), 3) for n in (1, 8, 100)]
    [3.0, 3.585, 4.197]
    """
    chance = normal_tail(z) / max(comparisons, 1)
    chance = max(chance, 1e-300)
    quantile = -NormalDist().inv_cdf(chance)
    return max(z, quantile)


def student(z: float, freedom: pd.Series) -> pd.Series:
    """Return the quantile of Student's distribution at the probability of a normal `z`, for each
    number of degrees of freedom, by the approximation of Wallace (1959, Annals of Mathematical
    Statistics 30(4), 1121-1130). With few degrees of freedom it is too high: with three by 6 % at a
    `z` of 3, by 23 % at 4.2.
    """
    normal = z * (8 * freedom + 3) / (8 * freedom + 1)
    exponent = (normal**2 / freedom).clip(upper=700.0)
    return np.sqrt(freedom * np.expm1(exponent))
