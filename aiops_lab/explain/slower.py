"""Which accounts became slower that were seldom observed? Student's test of their self times.

How many of a few self times exceed 95 % of a few usual ones proves nothing, not even if all do; how
far they exceed them may. The times are compared as logarithms, because they are skewed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import wilson


def log_times(self_ns: pd.Series, config: RcaConfig) -> pd.DataFrame:
    """Return of the logarithms of self times (ns), by account: their number n, mean and var.

    `min_self_ms` is added to each, so that a jitter of the clock is no multiple of nothing.
    """
    logs = np.log(self_ns / 1e6 + config.min_self_ms)
    return logs.groupby(level=0).agg(n="size", mean="mean", var="var")


def certainly_slower(usual: pd.DataFrame, now: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return which share (0 to 1) of the self time now is certainly more than usual, by account;
    0 where the account was observed so often that counting slow spans can tell.

    `usual` and `now` are `log_times`. The bound is that of Student's test for two samples of one
    variance (1908, doi 10.1093/biomet/6.1.1), at the probability of `n_sigma`.
    """
    both = now.join(usual.add_suffix("_usual"), how="inner")
    both = both[_are_few(both, config)]
    freedom = both["n"] + both["n_usual"] - 2
    squares = (both["n"] - 1) * both["var"] + (both["n_usual"] - 1) * both["var_usual"]
    se = np.sqrt(squares / freedom * (1 / both["n"] + 1 / both["n_usual"]))
    least = both["mean"] - both["mean_usual"] - student(config.n_sigma, freedom) * se
    return 1 - np.exp(-least.clip(lower=0.0))


def _are_few(both: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return of which accounts no number of slow spans could prove anything, though their usual
    times are known.
    """
    n = both["n"]
    usual_n = both["n_usual"]
    least_now, _ = wilson(n, n, config.n_sigma)
    _, most_usual = wilson((1 - config.quantile) * usual_n, usual_n, config.n_sigma)
    known = (usual_n >= config.min_requests) & (n >= config.min_count)
    return known & (least_now <= most_usual)


def student(z: float, freedom: pd.Series) -> pd.Series:
    """Return the quantile of Student's distribution at the probability of a normal `z`, for each
    number of degrees of freedom: Fisher's expansion (Cornish & Fisher 1938, doi 10.2307/1400905).
    """
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
