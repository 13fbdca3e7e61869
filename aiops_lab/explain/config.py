"""Which numbers decide a verdict? The constants of root cause analysis by traces."""

from __future__ import annotations

from dataclasses import dataclass, fields

from aiops_lab.checks import FieldError, keep_numbers


@dataclass(frozen=True, kw_only=True)
class RcaConfig:
    """The constants of root cause analysis by traces, in one frozen value.

    Parameters
    ----------
    n_sigma : float
        Significance: how many standard errors an excess, or the growth of a deviation, must exceed.
        Higher: fewer suspects, and later ones. The default 3 leaves about one chance finding in
        700 comparisons.
    min_score : float
        Smallest score of a suspect, in usual requests of an entry. Higher: fewer suspects by
        excess, and more often an answer by deviations. 0.02 is two hundredths of a usual request.
    failure_weight : float
        How many usual requests one failed request costs. Higher: failures outrank delays. 5,
        because users notice a failure more than a delay.
    min_usual_ms : float
        An entry that usually takes less (ms) counts as if it took this. Higher: delays of fast
        entries weigh less. 10, because half a millisecond more of 2 ms hurts nobody.
    min_sd_ms : float
        Smallest standard deviation (ms) of an entry that is assumed when its requests are called
        slow. Higher: fewer slow requests. 0.1 is the jitter of a clock on a busy machine.
    min_success_share : float
        Smallest share of successes, from 0 to 1, in the variance of failures: an account may fail
        more than once a request. Higher: more noise where nearly all requests usually fail.
    similar_ratio : float
        Calls to several services are slow for one reason, their caller's, if the least prolonged
        takes at least this share of the most prolonged, from 0 to 1. Higher: edges count more often
        to the called endpoint.
    timeout_s : float
        Age (s) from which an open request is unanswered. Higher: unanswered requests are seen
        later. In a replay and in a monitor `Sensitivity.timeout_s` takes its place.
    long_lived_share : float
        An entry of whose usual requests a larger share, from 0 to 1, lasts longer than `timeout_s`
        keeps connections open on purpose (event streams, long polls): how long one lasts is no
        latency. Higher: slow entries have an excess of latency, and streams more often, too. 0.05,
        as for the detectors.
    timeout_ratio : float
        An open request must also be this many times as old as its endpoint's usual duration.
        Higher: more patience with slow endpoints. 5, as for the timeout detector.
    refused_ms : float
        A call without an answer that took less (ms) was refused by the called host, and counts to
        the called endpoint itself instead of the edge. Higher: more calls count as refused.
    usual_failure_share : float
        An endpoint that usually fails (or answers 4xx) in a larger share of its requests, from 0 to
        1, explains no failure of its callers. Higher: more endpoints can.
    call_quantile : float
        Quantile, from 0 to 1, of the usual number of calls of one request to one endpoint. The time
        of calls beyond it is the caller's own. Higher: more calls are usual.
    contention_ratio : float
        A service is contended when each of its requests keeps a worker this many times as long as
        usual; where they wait long, `degraded_ratio` more is enough. Higher: less excess is
        reassigned from those who wait to what they wait for.
    max_misfits : float
        Share of the requests, from 0 to 1, that may contradict a number of workers. Higher: fewer
        workers, longer waits. 0.02, because few servers are strictly first come, first served.
    wait_only_ratio : float
        Requests that wait, and beside the wait take at most this many times their usual own time,
        are slow because they wait, if they wait longer than that own time grew. Higher: more
        excess is reassigned.
    wait_only_margin : float
        Share of the mean wait, from 0 to 1, that is forgiven in this comparison, because the waits
        are estimates. Higher: more excess is reassigned.
    min_requests : int
        Fewer requests show no mean and no limit of what an endpoint can carry. Higher: endpoints
        are called degraded, or full, later.
    full_ratio : float
        An endpoint is full when it refuses requests at this share, from 0 to 1, of the most
        requests that it ever works on at once. Higher: fewer failures are reassigned.
    quantile : float
        Quantile, from 0 to 1, of the usual self times and of the usual values of a resource beyond
        which a value is unusual. Higher: fewer deviations.
    min_self_ms : float
        How far (ms) beyond its quantile a self time must lie. Higher: fewer deviations. 0.1,
        because what always took exactly as long may still vary a little.
    caller_weight : float
        Weight, from 0 to 1, of a deviation of an edge for its caller; for the called endpoint it is
        1. Used for deviations only: in the ledger an edge counts to one endpoint. Higher: callers
        are suspected more often.
    rarity_ratio : float
        A set of children is odd where it has become this many times more frequent. Higher: fewer
        odd shapes.
    min_count : int
        Observations that a deviation needs. Higher: fewer deviations in short incidents. 2, because
        one observation proves nothing.
    prior_requests : float
        Requests in which an account is taken to have failed as usual as all accounts together,
        beside those that were observed. Higher: failures of accounts that were seldom observed are
        deviations sooner. 20, of which one may fail before 5 % do.
    resource_margin : float
        How far beyond its usual quantile a resource must lie, in units of its usual size or spread.
        Higher: fewer deviations of resources.
    degraded_ratio : float
        Relative rise of an endpoint's mean duration from which it is degraded. Higher: fewer
        affected endpoints.
    degraded_ms : float
        Rise of an endpoint's mean duration (ms) from which it is degraded. Higher: fewer affected
        endpoints.
    degraded_share : float
        Rise of an endpoint's share of failures, from 0 to 1, from which it is degraded. Higher:
        fewer affected endpoints.
    min_unanswered : int
        Unanswered requests from which an endpoint is degraded. Higher: fewer affected endpoints. 3,
        because one lost request is no incident.
    max_traces : int
        Traces that a verdict lists. Higher: larger verdicts.
    max_samples : int
        Traces that a verdict shows in detail. Higher: longer explanations.

    Raises
    ------
    ValueError
        Names the field, the rule and the value. None may be above a billion (`checks.MOST`), or
        below a billionth (`checks.LEAST`).
    """

    n_sigma: float = 3.0
    min_score: float = 0.02
    failure_weight: float = 5.0
    min_usual_ms: float = 10.0
    min_sd_ms: float = 0.1
    min_success_share: float = 0.25
    similar_ratio: float = 0.3
    timeout_s: float = 5.0
    long_lived_share: float = 0.05
    timeout_ratio: float = 5.0
    refused_ms: float = 5.0
    usual_failure_share: float = 0.5
    call_quantile: float = 0.99
    contention_ratio: float = 1.5
    max_misfits: float = 0.02
    wait_only_ratio: float = 2.0
    wait_only_margin: float = 0.05
    min_requests: int = 5
    full_ratio: float = 0.9
    quantile: float = 0.95
    min_self_ms: float = 0.1
    caller_weight: float = 0.5
    rarity_ratio: float = 5.0
    min_count: int = 2
    prior_requests: float = 20.0
    resource_margin: float = 2.0
    degraded_ratio: float = 0.1
    degraded_ms: float = 3.0
    degraded_share: float = 0.02
    min_unanswered: int = 3
    max_traces: int = 1000
    max_samples: int = 5

    def __post_init__(self) -> None:
        keep_numbers(self, at_least={}, shares=_SHARES)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and not isinstance(value, int):
                raise FieldError(field.name, "must be a whole number", value)


_SHARES = {
    "min_success_share",
    "similar_ratio",
    "long_lived_share",
    "usual_failure_share",
    "call_quantile",
    "max_misfits",
    "wait_only_margin",
    "full_ratio",
    "quantile",
    "caller_weight",
    "degraded_share",
}
