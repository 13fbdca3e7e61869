"""The constants of `rank_from_metrics`, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from aiops_lab.checks import check_number


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """The constants of `rank_from_metrics`.

    Parameters
    ----------
    quantile : float, 0 to 1
        Own excess up to this quantile of the normal windows is noise. Default 0.99: one window in a
        hundred is noisier. Higher: fewer false suspects, and weak faults rank lower.
    min_latency_share : float
        The least noise of a latency, as a share of the node's usual cost. Default 0.05: nobody
        looks for the cause of a rise by a twentieth. Higher: weak faults rank lower.
    min_failures : float
        The least noise of an availability, in failed requests. Default 2: one failure, or two,
        prove nothing. Higher: rare failures rank lower.
    unknown_share : float
        The noise of a node without normal data, as a share of its usual cost. Default 0.5. Higher:
        such a node ranks lower.
    min_windows : int
        Normal windows with requests from which the noise of a node is known. Default 20: fewer say
        little of the tail, and the noise is that of Student's t over the normal intervals. Higher:
        t is used for more nodes.
    min_intervals : int
        Normal intervals with requests from which t is used. Default 5. Higher: `unknown_share` is
        used for more nodes.
    noise_ratio : float
        Own excess, in units of noise, at which the confidence is one half. Default 3: fewer than 3
        in 100 normal windows of PetShop reach it. Higher: all confidences are lower.
    min_size_ratio : float
        A call that is missing from the graph is assumed only where the callee's excess is at least
        this part of the caller's own. Default 0.5. Lower: more calls are assumed.
    min_cosine : float
        And only where the cosine between the two excesses over the intervals is at least this.
        Default 0.9. Lower: more calls are assumed. Above 1: none.
    max_call_ratio : float
        How many times the excess that a callee measures its callers may have waited for it. Default
        2: quantiles hide the slowest requests, and the callee does not see the network, the
        connection and retries. Higher: callers are excused more. 1: an excess is passed on as the
        callee measures it. Where only means and requests are measured an excess is always passed
        on as it is measured: no other evidence would speak for the caller.
    min_served : float
        Served requests above this part of the expected ones are no fall; below it, the expected
        ones are priced. Default 0.8: traffic has its ups and downs. Lower: a choking node is
        cheaper.
    failure_cost : float
        What a failed request costs in usual requests, where latency and failures are added up.
        Default 10. Higher: failures decide.
    explained_power : float
        The power of the part of all that is slow or fails that a node explains, by which its score
        is multiplied. Default 0.3: of two nodes that are about as unusual the one whose callers are
        all that is slow comes first. Where hosts are given it is 1. Higher: a node that is slow
        beside others ranks lower. 0: what it explains counts nothing.
    relative_noise : float
        The least scale of a metric's deviation, as a share of its level, or of the level that this
        metric has at the other nodes. Default 0.1: a metric that stood still still has some noise.
        Higher: only large changes count.
    min_deviation : float
        Deviations up to this many scales count nothing. Default 3, as of the detectors. Higher:
        fewer metrics count.

    Raises
    ------
    FieldError
        A value is no number or out of its range.
    """

    quantile: float = 0.99
    min_latency_share: float = 0.05
    min_failures: float = 2.0
    unknown_share: float = 0.5
    min_windows: int = 20
    min_intervals: int = 5
    noise_ratio: float = 3.0
    min_size_ratio: float = 0.5
    min_cosine: float = 0.9
    max_call_ratio: float = 2.0
    min_served: float = 0.8
    failure_cost: float = 10.0
    explained_power: float = 0.3
    relative_noise: float = 0.1
    min_deviation: float = 3.0

    def __post_init__(self) -> None:
        for field in fields(self):
            highest = 1 if field.name == "quantile" else np.inf
            check_number(field.name, getattr(self, field.name), 0, highest)
