"""How easily does the machine call something abnormal? Every knob, with its unit, default and
reason.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiops_lab.checks import FieldError, keep_numbers


@dataclass(frozen=True)
class Sensitivity:
    """All the knobs of the pipeline, in one frozen value.

    Parameters
    ----------
    z : float
        Significance: how many standard errors a window must lie above its baseline. Higher: fewer
        alarms. The default 3 leaves one chance alarm in 741 windows if log latencies are normal,
        more where they are not; the effect size then has to agree. Also asked of failures and
        silences.
    ratio : float
        Effect size: how many times slower than usual. Higher: only large slowdowns alarm. 3 is the
        usual rule.
    half_life_s : float
        Seconds after which an observation weighs half as much in a baseline. Higher: a steadier,
        slower baseline.
    window_s : float
        Length of a window in seconds. Higher: fewer, surer and later verdicts.
    min_count : int
        Requests that a baseline must have seen before anything is called an anomaly.
    min_window : int
        Requests that a window must have to be judged; a smaller one is pooled with the next. Also
        the number of unanswered requests that make a timeout: one lost request is no incident.
    correlation_s : float
        Seconds after its last anomaly during which an incident takes in linked anomalies.
    relearn_after_s : float
        Seconds after which a level that stays is accepted as the new normal.
    resolve_after_s : float
        Seconds without an anomaly after which an incident resolves itself. An unanswered request
        older than this is taken for lost, not for hanging.
    grace_s : float
        Seconds to wait after the end of a window for spans that are still on their way.
    min_ms : float
        Smallest rise in milliseconds that counts, whatever its ratio: on a busy machine 2 ms become
        7 ms by chance.
    error_margin : float
        How far the share of errors must lie above its baseline, from 0 to 1, beyond chance.
    shift : float
        How many times slower a lasting rise is that the sequential test looks for. A smaller rise
        is found later, and one below the root of it never. Higher: only larger ones are reported.
        1.2 is found within minutes at 10 requests/s.
    error_shift : float
        Rise of the share of errors that the same test looks for, from 0 to 1. Higher: only larger
        ones are reported. 0.02 is less than `error_margin`, which one window must exceed.
    run_length_weeks : float
        Average run length: weeks of steady traffic until that test reports a shift of an endpoint
        where there is none, and until a silence that is chance is reported as a drop of its
        traffic. Higher: fewer false alarms, and a little later. 100 weeks are one a week in a
        system of 100 endpoints.
    timeout_s : float
        Age in seconds from which an unanswered request counts as hanging (or 5 times the endpoint's
        own 99th percentile, if that is longer).
    seasonal : bool
        Keep a baseline of its own for each hour of the day (UTC). Each hour then has to be learned
        by itself.

    Raises
    ------
    ValueError
        Names the knob, the rule and the value. None may be above a billion (`checks.MOST`).
    """

    z: float = 3.0
    ratio: float = 3.0
    half_life_s: float = 300.0
    window_s: float = 10.0
    min_count: int = 20
    min_window: int = 3
    correlation_s: float = 300.0
    relearn_after_s: float = 900.0
    resolve_after_s: float = 600.0
    grace_s: float = 1.0
    min_ms: float = 10.0
    error_margin: float = 0.05
    shift: float = 1.2
    error_shift: float = 0.02
    run_length_weeks: float = 100.0
    timeout_s: float = 5.0
    seasonal: bool = False

    def __post_init__(self) -> None:
        keep_numbers(self, at_least=_AT_LEAST)
        if not isinstance(self.seasonal, bool):
            raise FieldError("seasonal", "must be True or False", self.seasonal)

    @property
    def hours(self) -> int:
        """How many baselines an endpoint has: one for each hour of the day, or one for all."""
        return 24 if self.seasonal else 1

    @classmethod
    def classic(cls) -> Sensitivity:
        """Return the simple rule: three times the baseline, at once, however few the requests.

        No significance (z = 0), no smallest rise, one request makes a window and a baseline. Small
        shifts that last are not looked for.
        """
        return cls(
            z=0.0,
            min_count=1,
            min_window=1,
            min_ms=0.0,
            error_margin=0.2,
            shift=1e9,
            error_shift=1.0,
        )


_AT_LEAST = {
    "z": 0,
    "grace_s": 0,
    "min_ms": 0,
    "error_margin": 0,
    "window_s": 0.001,
    "ratio": 1,
    "min_count": 1,
    "min_window": 1,
    "shift": 1.01,
    "error_shift": 0.001,
    "run_length_weeks": 0.01,
}
"""The smallest values of the knobs that need not only be above 0."""
