"""How far is each window from its baseline? Windows are scored, then decided, then learned.

The order matters. A window is scored against the baseline before it. Then the detectors decide
whether it is abnormal. Only then does the baseline learn. An abnormal window does not change it;
its level is learned separately, and replaces the baseline if it lasts.

The kernel scores and learns, and is told which windows are abnormal. The detectors decide from
whole columns. So `judge` alternates: it scores all windows as if none were abnormal, lets the
detectors decide, scores again every endpoint with a changed decision, and repeats this until no
decision changes. A window's score depends on earlier windows only, so each round makes at least one
more window final. The result is the same as if the windows had been processed one after the other.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from math import exp, isnan, log, sqrt
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect import baselines as b
from aiops_lab.detect import judged
from aiops_lab.detect.plain_records import TakesDicts, as_dicts
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.shifts import accept_steady, learn_shift, score_shift
from aiops_lab.detect.windows import Counts
from aiops_lab.numerics import SOON, compiled, compiled_after, compiled_part, log_gamma, wilson
from aiops_lab.spans import Key

Columns = Mapping[str, Any]
"""Arrays by the name of the column, or a DataFrame."""

RATE_MEMORY = 12.0
"""Half-lives after which an arrival rate weighs half: by default an hour of bursts and gaps.
Raising it makes the expected number of requests steadier."""

P99 = 2.326
"""Standard deviations from the mean of a normal distribution to its 99th percentile."""

STUCK_FACTOR = 5.0
"""How many times its own 99th percentile a request may take before it counts as stuck. Raising it
reports hanging requests of slow endpoints later."""

LARGEST_RATE = 0.999
"""Share of errors that is compared with, at most, so that its odds stay finite."""

LARGEST_EXPONENT = 700.0
"""Logarithm of the highest latency limit in ms, just below where doubles overflow."""

SCORES = np.dtype(
    [
        ("mean", "f8"),  # of log milliseconds
        ("ratio", "f8"),  # geometric mean over baseline
        ("z", "f8"),
        ("ratio_ok", "f8"),  # against answers without an error
        ("high_ms", "f8"),  # from here on a latency would be abnormal
        ("error_low", "f8"),  # Wilson's lower bound of the share of errors
        ("error_chance", "f8"),  # chance of so many errors at the usual share plus the margin
        ("rise", "f8"),  # evidence that the latency has risen, to stay
        ("rise_on", "f8"),  # 1 where that is reported
        ("rise_gap", "f8"),  # log milliseconds above the steady level since then
        ("fall", "f8"),  # evidence that the latency has fallen
        ("surplus", "f8"),  # evidence that more requests fail than before
        ("surplus_on", "f8"),  # 1 where that is reported
        ("surplus_rate", "f8"),  # share of failures since then
        ("stuck", "f8"),  # requests without an answer
        ("oldest_s", "f8"),  # age of the oldest of them
        ("given_up", "f8"),  # calls that their callers gave up
    ]
)

# As floats: for whole numbers the kernel would be compiled again.
Knobs = namedtuple("Knobs", [knob.name for knob in fields(Sensitivity)])  # type: ignore[misc]

for _part in (b.alpha_of, wilson, log_gamma):
    compiled_part(_part)


class Held(NamedTuple):
    """Where learning is held still, arrays of shape (windows, endpoints).

    ``abnormal``: the baseline learns apart. ``jumped``: the test of lasting shifts waits, too.
    """

    abnormal: NDArray
    jumped: NDArray


Decide = Callable[[Columns, Columns, Sensitivity], dict[str, NDArray]]
"""From the columns of windows and baselines to what each detector decides, by column."""


@compiled_part
def error_chance(k: float, n: float, p: float) -> float:
    """Return the exact chance of at least k failures in n requests that fail with probability p.

    1 where k is no more than expected. Exact, as n may be 3.
    """
    if k <= n * p:
        return 1.0
    ways = log_gamma(n + 1) - log_gamma(k + 1) - log_gamma(n - k + 1)
    log_chance = ways + k * log(p) + (n - k) * log(1 - p)
    term = exp(log_chance)
    total = 0.0
    while k <= n and term > 1e-15:
        total += term
        term *= (n - k) / (k + 1) * p / (1 - p)
        k += 1
    return total


# ---- the kernel


def _walk_plainly(
    counts: Counts, plan: Any, knobs: Any, state: NDArray, scores: NDArray, before: NDArray
) -> None:
    """Do what `_walk` does, as plain Python."""
    with as_dicts(state) as states, as_dicts(scores) as scored:
        _walk_records(counts, plan, knobs, states, scored, TakesDicts(before))


@compiled_after(SOON, plainly=_walk_plainly)
def _walk(
    counts: Counts, plan: Any, knobs: Any, state: NDArray, scores: NDArray, before: NDArray
) -> None:
    """Score each window of some endpoints in the order of time, then learn from it."""
    _walk_records(counts, plan, knobs, state, scores, before)


@compiled_part
def _walk_records(
    counts: Counts, plan: Any, knobs: Any, state: Any, scores: Any, before: Any
) -> None:
    """Score each window of some endpoints in the order of time, then learn from it.

    `state` has the shape (endpoints, hours), `scores` and `before` (windows, endpoints); `before`
    takes a copy of each baseline as it was when its window was scored.
    """
    window_s = counts.window_ns / 1e9
    alpha = b.alpha_of(window_s, RATE_MEMORY * knobs.half_life_s)
    for w in range(plan.hour.size):
        now = state[:, plan.hour[w]]
        start_s = counts.starts[w] / 1e9
        end_s = start_s + window_s
        _find_stuck(counts, w, now, plan, knobs.timeout_s, scores[w])
        for e in plan.endpoints:
            baseline = now[e]
            score = scores[w, e]
            score["given_up"] = float(counts.given_up[w, e])
            _pool(baseline, counts, w, e, float(plan.activity[w]))
            judged = baseline["pool_n"] >= knobs.min_window
            _score(baseline, score, knobs, window_s, judged)
            before[w, e] = baseline
            abnormal = plan.held.abnormal[w, e]
            if abnormal and isnan(baseline["abnormal_since"]):
                b.begin_abnormal(baseline, start_s)
            if judged:
                jumped = plan.held.jumped[w, e]
                _learn(baseline, score, knobs, window_s, abnormal, jumped)
            arrivals = float(counts.arrivals[w, e])
            if plan.arrived[w] > 0 and (baseline["count"] > 0 or arrivals > 0):
                if abnormal:
                    b.learn_arrivals_apart(baseline, arrivals, alpha)
                else:
                    b.learn_arrivals(baseline, arrivals, alpha)
            lasts_s = end_s - baseline["abnormal_since"]
            if abnormal and lasts_s >= knobs.relearn_after_s:
                b.accept_level(baseline)
                accept_steady(baseline)
            _wait(baseline, float(counts.skipped[w]), window_s)


@compiled_part
def _find_stuck(
    counts: Counts, w: int, now: NDArray, plan: Any, timeout_s: float, scores: NDArray
) -> None:
    """Count the requests of each endpoint that are stuck at the end of window w.

    Not of those that are not scored again: their baselines have learned this window already.
    """
    for e in plan.endpoints:
        score = scores[e]
        score["stuck"] = 0.0
        score["oldest_s"] = 0.0
    for i in range(counts.stuck_ptr[w], counts.stuck_ptr[w + 1]):
        e = counts.stuck_code[i]
        if not plan.is_scored[e]:
            continue
        age_s = counts.stuck_age_s[i]
        baseline = now[e]
        score = scores[e]
        p99_ms = exp(baseline["mean"] + P99 * sqrt(baseline["var"]))
        if age_s > max(timeout_s, STUCK_FACTOR * 1e-3 * p99_ms):
            score["stuck"] += 1.0
            score["oldest_s"] = max(score["oldest_s"], age_s)


@compiled_part
def _pool(baseline: Any, counts: Counts, w: int, e: int, activity: float) -> None:
    """Add a window to the pool that waits to be judged, and to the silence so far."""
    baseline["pool_n"] += float(counts.n[w, e])
    baseline["pool_errors"] += float(counts.errors[w, e])
    baseline["pool_total"] += float(counts.total[w, e])
    baseline["pool_squares"] += float(counts.squares[w, e])
    baseline["pool_ok_n"] += float(counts.ok_n[w, e])
    baseline["pool_ok_total"] += float(counts.ok_total[w, e])
    baseline["pool_long"] += float(counts.long[w, e])
    baseline["pool_aged"] += float(counts.aged[w, e])
    _wait(baseline, 1.0, counts.window_ns / 1e9)
    if counts.arrivals[w, e] > 0:
        baseline["longest"] = max(baseline["longest"], baseline["silent"])
        baseline["silent"] = 0.0
    else:
        rate = baseline["rate"]
        dispersion = baseline["rate_var"] / max(rate, 1e-9)
        baseline["silent"] += rate / max(1.0, dispersion) * activity


@compiled_part
def _wait(baseline: Any, windows: float, window_s: float) -> None:
    """Let the pool wait for more requests during some windows.

    Whole windows are counted, so that the seconds are the same however many there are in one step.
    """
    if baseline["pool_n"] > 0:
        waited = float(np.rint(baseline["pool_s"] / window_s))
        baseline["pool_s"] = (waited + windows) * window_s


@compiled_part
def _score(baseline: Any, score: Any, knobs: Any, window_s: float, judged: bool) -> None:
    """Compare the requests of the pool with the baseline; too few of them have neutral scores."""
    usual = baseline["mean"]
    score["mean"] = usual
    score["ratio"] = 1.0
    score["z"] = 0.0
    score["ratio_ok"] = 1.0
    score["high_ms"] = 0.0
    score["error_low"] = 0.0
    score["error_chance"] = 1.0
    if not judged:
        score_shift(baseline, score, knobs, window_s, False)
        return
    n = baseline["pool_n"]
    mean = baseline["pool_total"] / n
    gap = mean - usual
    sd = max(sqrt(baseline["var"]), b.MIN_SD)
    score["mean"] = mean
    score["ratio"] = exp(gap)
    score["z"] = gap / (sd / sqrt(n))
    score["ratio_ok"] = _ratio_to_ok(baseline)
    usual_ms = exp(usual)
    by_chance = usual + knobs.z * sd / sqrt(n)
    by_chance_ms = exp(min(by_chance, LARGEST_EXPONENT))
    score["high_ms"] = max(by_chance_ms, knobs.ratio * usual_ms, usual_ms + knobs.min_ms)
    errors = baseline["pool_errors"]
    rate = min(baseline["error_rate"] + knobs.error_margin, LARGEST_RATE)
    score["error_low"] = wilson(errors, n, knobs.z)[0]
    score["error_chance"] = error_chance(errors, n, rate)
    warm = baseline["windows"] >= b.WARM_WINDOWS
    known = warm and baseline["count"] >= knobs.min_count
    score_shift(baseline, score, knobs, window_s, known)


@compiled_part
def _ratio_to_ok(baseline: Any) -> float:
    """Return how many times slower the pool is than answers without an error usually are: its own
    such answers, or its errors, whichever are slower.

    Where many errors were answered at once, the latency of all requests rises when they end. This
    ratio does not.
    """
    if baseline["ok_count"] == 0:
        return np.inf
    slowest = -np.inf
    n_errors = baseline["pool_n"] - baseline["pool_ok_n"]
    if n_errors > 0:
        slowest = (baseline["pool_total"] - baseline["pool_ok_total"]) / n_errors
    if baseline["pool_ok_n"] > 0:
        slowest = max(slowest, b.pool_ok_mean(baseline))
    return exp(slowest - baseline["slow"])


@compiled_part
def _learn(
    baseline: Any, score: Any, knobs: Any, window_s: float, abnormal: bool, jumped: bool
) -> None:
    """Learn from the pool and empty it; what is abnormal is learned apart."""
    if not abnormal:
        baseline["abnormal_since"] = np.nan
    if not jumped:
        learn_shift(baseline, score, knobs, window_s)
    alpha = b.alpha_of(baseline["pool_s"], knobs.half_life_s)
    if abnormal:
        b.learn_requests_apart(baseline, alpha)
    else:
        b.learn_requests(baseline, alpha)
    baseline["pool_n"] = 0.0
    baseline["pool_errors"] = 0.0
    baseline["pool_total"] = 0.0
    baseline["pool_squares"] = 0.0
    baseline["pool_ok_n"] = 0.0
    baseline["pool_ok_total"] = 0.0
    baseline["pool_long"] = 0.0
    baseline["pool_aged"] = 0.0
    baseline["pool_s"] = 0.0


class ScoringPlan(NamedTuple):
    """Which endpoints are scored, and what is known of each window before that."""

    endpoints: NDArray  # codes
    is_scored: NDArray  # by code
    hour: NDArray  # of the day, 0 without seasons
    arrived: NDArray  # requests of all endpoints together
    held: Held
    activity: NDArray  # traffic of all endpoints relative to what is usual, at most 1


@compiled
def _activity(arrived: NDArray, alpha: float, system: NDArray) -> NDArray:
    """Return the relative traffic of each window, and learn the usual one in `system`.

    `system` holds the number of windows with traffic, and their mean number of requests.
    """
    activity = np.zeros(arrived.size)
    for w in range(arrived.size):
        n = arrived[w]
        if system[1] > 0:
            activity[w] = min(1.0, n / system[1])
        if n > 0:
            system[0] += 1.0
            weight = max(alpha, 1.0 / system[0])
            system[1] += weight * (n - system[1])
    return activity


# ---- scoring and deciding in turn


def judge(
    counts: Counts,
    keys: Sequence[Key],
    state: NDArray,
    system: NDArray,
    sensitivity: Sensitivity,
    *,
    decide: Decide,
    jumps: Sequence[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score each window, decide, then learn; `state` and `system` are updated in place.

    Parameters
    ----------
    counts : Counts
        Requests by window and endpoint.
    keys : sequence of (service, endpoint)
        By code.
    state : array of `baselines.BASELINE`, shape (endpoints * hours,)
    system : array, shape (2,)
        Windows with traffic, and the mean number of requests in one.
    sensitivity : Sensitivity
    decide : function (windows, baselines, sensitivity) -> dict from column to bool array
        What the detectors decide. The columns that it takes and returns are arrays of shape
        (windows, endpoints). Where any is True the window is abnormal: the baseline does not
        learn from it.
    jumps : sequence of str
        Those of the columns in which a True also halts the test of lasting shifts.

    Returns
    -------
    windows, baselines : DataFrames with the same index
        What was seen, and the baseline before it, a row for each window and endpoint that has at
        least `min_window` requests or is abnormal. They are what a detector takes.

    Notes
    -----
    A request belongs to the window in which it ended; only `arrivals` counts by the start. `decide`
    is given all windows, with fewer than `min_window` requests too: a detector that needs that many
    must compare `n` itself.

    Columns of windows

    - `window`, `end`, `service`, `endpoint`: only in the frames, not in what `decide` takes.
    - `seconds`: the time counted, more than a window where small windows were pooled.
    - `arrivals`: requests that started in this window. All other counts are of the pool: this
      window, joined with earlier ones if it has fewer than `min_window` requests.
    - `n`, `errors`, `error_rate`: requests that ended, failures among them, their share (0 to 1).
    - `error_low`: Wilson's lower bound of that share. `error_chance`: chance of so many errors.
    - `latency_ms`: geometric mean of the latencies of these requests. `ratio`, `z`: how far it is
      above that of the baseline.
    - `ratio_ok`: how many times slower than usual answers without an error; of such answers or of
      the errors, whichever are slower.
    - `stuck`, `oldest_s`: requests without an answer, and the greatest age among them.
    - `given_up`: calls that their callers gave up.
    - `missed`, `longest`: requests due in this silence, and in the longest silence before it.
    - `steady_ms`, `steady_error_rate`: the steady levels of answers without an error and of
      failures, from which lasting shifts are measured. `rise`, `surplus`: evidence that the latency
      and the failures are above them, as log-likelihood ratios (see `shifts`).
    - `risen`, `more_errors`: whether that is reported; `lasting_ms`, `lasting_error_rate`: the
      levels since the evidence began; `lasts_s`: the seconds since then.
    - `baseline_ms`, `low_ms`, `high_ms`, `baseline_error_rate`: what is usual.
    - `state`: learning, normal or anomalous; and for each detector a column with its decision.

    Columns of baselines

    - `learning`: fewer than `min_count` requests were learned; nothing can be compared yet.
    - `known`: at least `baselines.WARM_WINDOWS` windows were learned as well. Silences and lasting
      shifts need them, because they are judged by what differs between windows.
    - `long_lived`: so many requests last longer than `timeout_s` that their length is no latency:
      event streams and long polls.
    - `count`: requests learned. `latency_ms`: geometric mean of the latencies learned before this
      window, recent ones weighing more: the `baseline_ms` of windows. `sd_log`: standard deviation
      of the logarithms of the milliseconds.
    - `error_rate`: share of errors, 0 to 1.
    - `rate`, `rate_var`: mean and variance of the arrivals in a window of `window_s`.

    The windows that `counts` skips change nothing but `seconds`, if what `decide` says of the
    window before them, in which nothing happens either, is False: whoever calls this checks that.
    """
    knobs = Knobs(*map(float, astuple(sensitivity)))
    arrived = counts.arrivals.sum(axis=1)
    rate_half_life_s = RATE_MEMORY * sensitivity.half_life_s
    alpha = b.alpha_of(counts.window_ns / 1e9, rate_half_life_s)
    activity = _activity(arrived, alpha, system)
    hour = counts.starts // 3_600_000_000_000 % sensitivity.hours
    by_hour = state.reshape(len(keys), sensitivity.hours)
    begin = by_hour.copy()
    shape = counts.n.shape
    scores = np.zeros(shape, SCORES)
    before = np.zeros(shape, b.BASELINE)
    held = Held(np.zeros(shape, bool), np.zeros(shape, bool))
    todo = np.arange(len(keys))
    while True:
        by_hour[todo] = begin[todo]
        is_scored = np.isin(np.arange(len(keys)), todo)
        plan = ScoringPlan(todo, is_scored, hour, arrived, held, activity)
        _walk(counts, plan, knobs, by_hour, scores, before)
        windows, usual = judged.columns(scores, before, sensitivity)
        windows["arrivals"] = counts.arrivals
        decided = decide(windows, usual, sensitivity)
        now = Held(_any(decided, decided, shape), _any(decided, jumps, shape))
        changed = (now.abnormal != held.abnormal) | (now.jumped != held.jumped)
        held = now
        todo = np.flatnonzero(changed.any(axis=0))
        if todo.size == 0:
            break
    windows |= decided
    shown = (windows["n"] >= sensitivity.min_window) | held.abnormal
    windows["abnormal"] = held.abnormal
    return judged.frames(windows, usual, shown, keys, counts)


def _any(decided: Columns, names: Iterable[str], shape: tuple[int, ...]) -> NDArray:
    """Return where any of some decisions is True."""
    some = np.zeros(shape, bool)
    for name in names:
        some |= decided[name]
    return some
