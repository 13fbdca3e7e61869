"""Calibration: how far the confidences can be believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from aiops_lab.numerics import wilson

# ---- confidence


@dataclass(frozen=True)
class Calibration:
    """How far `n` confidences can be believed.

    ``brier``: mean squared distance of confidence from the outcome (0 or 1). ``ece``: expected
    calibration error, the mean distance of confidence from the share of right answers, bin by bin.
    ``ece_perfect`` and ``ece_perfect_high``: mean and 95th percentile of the ece that a perfect
    model would show with so many answers. ``table``: a row a bin: low, high, n, confidence, right,
    and the 95 % bounds right_low, right_high (Wilson).
    """

    n: int
    brier: float
    ece: float
    ece_perfect: float
    ece_perfect_high: float
    table: pd.DataFrame = field(repr=False, compare=False)


def calibration(
    confidence: ArrayLike, right: ArrayLike, *, bins: int = 10, times: int = 500, seed: int = 0
) -> Calibration:
    """Compare how sure the answers were with how often they were right (Guo et al. 2017, arXiv
    1706.04599).

    Parameters
    ----------
    confidence : array of float, 0 to 1
        NaN for no answer: such rows are left out.
    right : array of bool
    bins : int
        Of equal width. More: a finer picture of fewer answers each, and a larger error by chance.
    times : int
        How often a perfect model is drawn.

    Raises
    ------
    ValueError
        If a confidence is not between 0 and 1.
    """
    p, hit = _answers(confidence, right)
    hit = hit[~np.isnan(p)]
    p = p[~np.isnan(p)]
    place = np.minimum((p * bins).astype(int), bins - 1)
    inside = (place[:, None] == np.arange(bins)).astype(float)
    n, sure = inside.sum(axis=0), p @ inside

    def ece(outcomes: NDArray) -> NDArray:
        return np.abs(outcomes @ inside - sure).sum(axis=-1) / max(p.size, 1)

    perfect = ece((np.random.default_rng(seed).random((times, p.size)) < p).astype(float))
    full = n > 0
    low, high = wilson((hit @ inside)[full], n[full], 1.96)
    edges = np.linspace(0, 1, bins + 1)
    table = pd.DataFrame(
        {
            "low": edges[:-1][full],
            "high": edges[1:][full],
            "n": n[full].astype(int),
            "confidence": sure[full] / n[full],
            "right": (hit @ inside)[full] / n[full],
            "right_low": low,
            "right_high": high,
        }
    )
    if p.size == 0:
        return Calibration(0, nan, nan, nan, nan, table)
    brier, high_ece = float(np.mean((p - hit) ** 2)), float(np.quantile(perfect, 0.95))
    return Calibration(p.size, brier, float(ece(hit)), float(perfect.mean()), high_ece, table)


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> pd.DataFrame:
    """Return how often the answers are wrong when only the surest are given (El-Yaniv & Wiener
    2010, JMLR 11).

    Parameters
    ----------
    confidence, right
        As for `calibration`; NaN is never answered, and counts as a question.

    Returns
    -------
    DataFrame
        A row for each confidence that occurs, from the surest: threshold, answered (answers at
        least so sure), coverage (their share of the questions), risk (the share of wrong ones among
        them). Equal confidences come together.
    """
    p, hit = _answers(confidence, right)
    given = pd.DataFrame({"threshold": p, "wrong": 1 - hit}).dropna()
    groups: Any = (
        given.groupby("threshold")["wrong"]
        .agg(["size", "sum"])
        .sort_index(ascending=False)
        .cumsum()
    )
    coverage, risk = groups["size"] / max(p.size, 1), groups["sum"] / groups["size"]
    return (
        groups.assign(answered=groups["size"], coverage=coverage, risk=risk)
        .drop(columns=["size", "sum"])
        .reset_index()
    )


def _answers(confidence: ArrayLike, right: ArrayLike) -> tuple[NDArray, NDArray]:
    p, hit = np.asarray(confidence, dtype=float), np.asarray(right, dtype=float)
    if p.shape != hit.shape:
        raise ValueError(f"right must be as long as confidence, got {hit.shape} and {p.shape}")
    wrong = p[(p < 0) | (p > 1)]
    if wrong.size:
        raise ValueError(f"confidence must be between 0 and 1, got {wrong[0]}")
    return p, hit
