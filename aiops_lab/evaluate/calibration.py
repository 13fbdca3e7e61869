"""The agreement of stated confidences with how often the answers are right."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import nan

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from aiops_lab.numerics import wilson


@dataclass(frozen=True)
class Calibration:
    """The agreement of `n` confidences with the outcomes.

    ``brier``: mean squared distance of confidence from the outcome (0 or 1). ``ece``: expected
    calibration error, the mean distance of confidence from the share of right answers, bin by bin.
    ``ece_perfect`` and ``ece_perfect_high``: mean and 95th percentile of the ece that a perfectly
    calibrated model would show with as many answers. ``table``: one row for each bin that is not
    empty: low, high, n, confidence, right (share), and the 95 % bounds right_low, right_high
    (Wilson).
    """

    n: int
    brier: float
    ece: float
    ece_perfect: float
    ece_perfect_high: float
    table: pd.DataFrame = field(repr=False, compare=False)


def calibration(
    confidence: ArrayLike, right: ArrayLike, *, bins: int = 10, times: int = 500
) -> Calibration:
    """Compare the confidences of answers with the shares of right ones (Guo et al. 2017, arXiv
    1706.04599).

    Parameters
    ----------
    confidence : array of float, 0 to 1
        NaN for no answer: such rows are left out.
    right : array of bool
    bins : int
        Number of bins of equal width. Higher: a finer picture, fewer answers in each bin, and a
        larger error by chance.
    times : int
        Number of draws from the perfectly calibrated model. Higher: ``ece_perfect`` depends less on
        chance.

    Raises
    ------
    ValueError
        If a confidence is not between 0 and 1.
    """
    p, hit = _answers(confidence, right)
    is_answer = ~np.isnan(p)
    p, hit = p[is_answer], hit[is_answer]
    bin_of = (p * bins).astype(int)
    bin_of = np.minimum(bin_of, bins - 1)  # 1.0 belongs to the last one
    inside = bin_of[:, None] == np.arange(bins)
    is_full = inside.any(axis=0)
    inside = inside[:, is_full].astype(float)
    edges = np.linspace(0, 1, bins + 1)
    n = inside.sum(axis=0)
    total = p @ inside
    hits = hit @ inside
    low, high = wilson(hits, n, 1.96)
    columns = {
        "low": edges[:-1][is_full],
        "high": edges[1:][is_full],
        "n": n.astype(int),
        "confidence": total / n,
        "right": hits / n,
        "right_low": low,
        "right_high": high,
    }
    table = pd.DataFrame(columns)
    if p.size == 0:
        return Calibration(0, nan, nan, nan, nan, table)
    rng = np.random.default_rng(0)
    drawn = rng.random((times, p.size)) < p
    distances = np.abs(drawn @ inside - total)
    perfect = distances.sum(axis=1) / p.size
    distance = np.abs(hits - total).sum()
    squares = (p - hit) ** 2
    return Calibration(
        n=p.size,
        brier=float(np.mean(squares)),
        ece=float(distance / p.size),
        ece_perfect=float(perfect.mean()),
        ece_perfect_high=float(np.quantile(perfect, 0.95)),
        table=table,
    )


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> pd.DataFrame:
    """Return the share of wrong answers when only those with a high confidence are given (El-Yaniv
    & Wiener 2010, JMLR 11).

    Parameters
    ----------
    confidence, right
        As for `calibration`; NaN counts as a question without an answer.

    Returns
    -------
    DataFrame
        One row for each confidence that occurs, the highest first: threshold, answered (answers
        with at least this confidence), coverage (their share of the questions), risk (the share of
        wrong ones among them).
    """
    p, hit = _answers(confidence, right)
    questions = pd.DataFrame({"threshold": p, "wrong": 1 - hit})
    by_threshold = questions.dropna().groupby("threshold")["wrong"]
    counts = by_threshold.agg(["size", "sum"])
    upward = counts.sort_index(ascending=False).cumsum()
    answered = upward["size"]
    curve = answered.rename("answered").to_frame()
    curve["coverage"] = answered / max(p.size, 1)
    curve["risk"] = upward["sum"] / answered
    return curve.reset_index()


def _answers(confidence: ArrayLike, right: ArrayLike) -> tuple[NDArray, NDArray]:
    p = np.asarray(confidence, dtype=float)
    hit = np.asarray(right, dtype=float)
    if p.shape != hit.shape:
        raise ValueError(f"right must be as long as confidence, got {hit.shape} and {p.shape}")
    wrong = p[(p < 0) | (p > 1)]
    if wrong.size:
        raise ValueError(f"confidence must be between 0 and 1, got {wrong[0]}")
    return p, hit
