"""How often is such a suspect the cause, where deviations of metrics speak?

The confidence is a product. How likely a fault shows at this node: a logistic curve over how
unusual it is and how many normal intervals there were. How far it is ahead: its part of all
scores, each raised to a power, so that of two equal ones neither is above one half. And how much of
what is slow or fails it surely explains, see `metric_origins`.

How unusual a node is: the sum of the deviations of its metrics over the square root of their number
(Stouffer's rule), since systems measure two metrics of a node or nine.

``python -m benchmarks.confidence`` learned the weights from Cloud-OpsBench and RCD's sock shop,
with all of their normal data and little of it, half of the windows without a fault. Asked about a
system that was left out, the calibration error was .09 (boutique), .08 (TrainTicket) and .05 (sock
shop); of the answers at 0.8 or more 47 of 50, 61 of 62 and 76 of 76 were right. PetShop without its
calls measures no resources and is unlike all of these: .10, and no answer there reaches 0.8.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.explain.familiarity import Learned, Range

TINY = np.finfo(float).tiny


class MetricCurve(NamedTuple):
    """Weights of the confidence."""

    intercept: float = -3.87
    unusual: float = 5.89  # of log(1 + how unusual the node is)
    intervals: float = -4.04  # of 1 / sqrt(normal intervals): little data, little confidence
    power: float = 8.0  # of the scores: higher, and a small lead counts more


LEARNED = Learned(
    0.54,
    {
        "unusual": Range("the first suspect is unusual by", 0.0, 6.55),
        "intervals": Range("the normal intervals are", 5, inf),
        "resources": Range("the part of nodes with resource metrics is", 0.9, inf),
    },
)
"""Of the 494 answers that the curve was learned from. All nodes there have resource metrics: that a
tenth lack them says nothing yet.
"""


def confidence(
    unusual: pd.Series,
    score: pd.Series,
    intervals: int,
    curve: MetricCurve | None = None,
    *,
    explained: pd.Series | None = None,
) -> pd.Series:
    """Return the probability that each node is the cause, 0 to 1; they add up to at most 1.

    Parameters
    ----------
    unusual, score : Series by node
        How unusual a node is in all, and its score among the suspects.
    intervals : int
        Of the normal data.
    explained : Series by node, optional
        What each node surely explains, see `metric_origins`. None: 1 of each.

    Examples
    --------
    >>> nodes = pd.Series({"a": 4.0, "b": 1.0})
    >>> confidence(nodes, nodes / 4, 100).round(2).tolist()
    [0.99, 0.0]
    """
    curve = curve or MetricCurve()
    scarcity = 1 / np.sqrt(max(intervals, 1))
    known = curve.intercept + curve.intervals * scarcity
    logit = known + curve.unusual * np.log1p(unusual)
    shows = 1 / (1 + np.exp(-logit.clip(-50, 50)))
    leads = ahead(score, curve.power)
    if explained is None:
        return leads * shows
    return leads * shows * explained


def ahead(score: pd.Series, power: float) -> pd.Series:
    """Return the part of each score of all of them, raised to a power; 0 where all are."""
    highest = max(score.max(), TINY)
    parts = score.clip(lower=0) / highest
    raised = parts**power
    total = max(raised.sum(), TINY)
    return raised / total
