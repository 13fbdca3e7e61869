"""How often is such a suspect the cause, where deviations of metrics speak?

The confidence is a product. How likely a fault shows at this node: a logistic curve over how
unusual it is and how many normal intervals there were. And how far it is ahead: its part of all
scores, each raised to a power, so that of two equal ones neither is above one half.

How unusual a node is: the sum of the deviations of its metrics over the square root of their number
(Stouffer's rule), since systems measure two metrics of a node or nine.

``python -m benchmarks.confidence`` learned the weights from Cloud-OpsBench and RCD's sock shop,
with all of their normal data and little of it, half of the windows without a fault. Asked about a
system that was left out, the calibration error was .13 (boutique), .06 (TrainTicket) and .06 (sock
shop); of the answers at 0.8 or more 52 of 64, 63 of 64 and 75 of 75 were right. PetShop without its
calls measures no resources and is unlike all of these: no answer there reaches 0.8.
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

    intercept: float = -4.39
    unusual: float = 6.04  # of log(1 + how unusual the node is)
    intervals: float = -3.40  # of 1 / sqrt(normal intervals): little data, little confidence
    power: float = 5.0  # of the scores: higher, and a small lead counts more


LEARNED = Learned(
    0.53,
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
    unusual: pd.Series, score: pd.Series, intervals: int, curve: MetricCurve | None = None
) -> pd.Series:
    """Return the probability that each node is the cause, 0 to 1; they add up to at most 1.

    Parameters
    ----------
    unusual, score : Series by node
        How unusual a node is in all, and its score among the suspects.
    intervals : int
        Of the normal data.

    Examples
    --------
    >>> nodes = pd.Series({"a": 4.0, "b": 1.0})
    >>> confidence(nodes, nodes / 4, 100).round(2).tolist()
    [0.99, 0.0]
    """
    curve = curve or MetricCurve()
    known = curve.intercept + curve.intervals / np.sqrt(max(intervals, 1))
    logit = known + curve.unusual * np.log1p(unusual)
    return ahead(score, curve.power) / (1 + np.exp(-logit.clip(-50, 50)))


def ahead(score: pd.Series, power: float) -> pd.Series:
    """Return the part of each score of all of them, raised to a power; 0 where all are."""
    raised = (score.clip(lower=0) / max(score.max(), TINY)) ** power
    return raised / max(raised.sum(), TINY)
