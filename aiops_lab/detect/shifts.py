"""Has a level moved a little, and stayed? A sequential test on latency and on failures.

Each endpoint has three cumulative sums (CUSUM; Page 1954, doi 10.1093/biomet/41.1-2.100) of
log-likelihood ratios: latency risen by the factor `shift`, latency fallen by it, and failures risen
by `error_shift`, each against a steady level. A sum is never below 0. It reaches the limit

    log(average run length in windows)

once in so many windows of steady traffic, or more rarely (Lorden 1971, doi
10.1214/aoms/1177693055). Half of the run length is spent on latency and half on failures.

A rise is compared with its mean so far, once that is more than `shift`: larger ones are found
sooner, and the bound holds, as each window is compared with earlier ones only (Lorden and Pollak
2005, doi 10.1214/009053605000000183).

Four things keep that promise where real traffic is not what the theorem assumes:

- The steady level is an estimate. All windows since a sum was last 0 must, taken together, also
  reach the limit when the uncertainty of that level is added to theirs.
- Means of windows vary more than their requests alone explain. The dispersion is learned from
  blocks of windows, and divides the sum of latencies.
- One window adds at most `1 / LEAST_WINDOWS` of the limit: what is over sooner does not last.
- The level is followed slowly, and a trend of it is allowed for (Brown's double exponential
  smoothing). While a sum is above 0, its windows wait. They are learned together once it is back at
  0, or at the latest after `WAIT` times `relearn_after_s`. If it reaches the limit, they are not.
"""

from __future__ import annotations

from math import exp, log, log1p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aiops_lab.detect import baselines as b
from aiops_lab.numerics import compiled, compiled_part

WEEK_S = 604_800.0
"""Seconds of a week."""

LEAST_WINDOWS = 3.0
"""Windows that a shift must last, at least. Raising it reports shifts later, and fewer of those
that are over soon."""

FOLLOW = 6.0
"""Half-lives of a baseline after which the steady level has followed half of a change. Raising it
makes the level surer, and takes a daily rise for a shift."""

RELEASE = 0.5
"""Share of the limit below which a shift that was reported is over. Raising it ends shifts sooner,
and lets one flicker."""

WAIT = 2.0
"""How many times `relearn_after_s` windows may wait until they are learned all the same. Raising it
finds shifts of quiet endpoints, and takes a daily rise for one."""

SMALL_MS = 0.3
"""Share of `min_ms` that a lasting rise must reach: a mean of many windows is surer than one
window. Raising it reports fewer shifts of fast endpoints."""

WORSE = 0.5
"""Share of the usual failures by which they must rise, if that is more than `error_shift`. Raising
it reports fewer shifts of endpoints that fail often."""

UNSEEN = 0.5
"""Failures that are added to those seen, as none seen does not mean that none occur. Raising it
reports later that an endpoint begins to fail."""

HIGHEST_RATE = 0.999
"""Share of failures that is compared with, at most, so that its odds stay finite."""

BLOCK_WINDOWS = 30.0
"""Windows of a block, from which the dispersion is learned. Raising it sees slower wandering, and
needs longer to learn it."""

BLOCKS = 100.0
"""Blocks that the dispersion remembers. Raising it makes it steadier."""

PRIOR_BLOCKS = 5.0
"""Blocks that the first assumption counts for. Raising it trusts few blocks less."""

PRIOR_DISPERSION = 2.0
"""Dispersion that is assumed at first. Raising it reports shifts after a short history later."""

WILD = 10.0
"""How many times the dispersion a single block counts, at most. Raising it lets one outlier hide
later shifts."""


@compiled_part
def limit_of(run_length_weeks: float, window_s: float) -> float:
    """Return the sum at which a shift is reported, so that both tests together have at least the
    run length.
    """
    windows = run_length_weeks * WEEK_S / window_s
    return max(log(2.0 * windows), 1.0)


@compiled_part
def shift_size(baseline: Any, knobs: Any) -> float:
    """Return the rise of log milliseconds that is looked for."""
    least_ms = SMALL_MS * knobs.min_ms
    share = least_ms * exp(-baseline["steady"])
    return max(log(knobs.shift), log1p(share))


@compiled_part
def dispersion_of(baseline: Any) -> float:
    """Return how many times more the means of windows vary than their requests alone explain."""
    blocks = min(baseline["blocks"], BLOCKS)
    total = baseline["dispersion"] * blocks + PRIOR_DISPERSION * PRIOR_BLOCKS
    return max(total / (blocks + PRIOR_BLOCKS), 1.0)


@compiled_part
def _added(total: float, step: float, limit: float) -> float:
    """Return a cumulative sum after one more window."""
    most = limit / LEAST_WINDOWS
    return max(total + min(max(step, -most), most), 0.0)


@compiled_part
def _reported(on: float, total: float, evidence: float, limit: float) -> float:
    """Return 1 where a shift is reported with this window, else 0.

    Once reported, it stays until its sum has fallen below the share `RELEASE` of the limit.
    """
    if on > 0:
        return 1.0 if total >= RELEASE * limit else 0.0
    return 1.0 if min(total * (1.0 + 1e-9), evidence) >= limit else 0.0


@compiled_part
def score_shift(baseline: Any, score: Any, knobs: Any, window_s: float, known: bool) -> None:
    """Add the pool to the sums, in `score`; before the baseline is `known` they stay at 0."""
    limit = limit_of(knobs.run_length_weeks, window_s)
    _neutral(baseline, score)
    if known and baseline["pool_ok_n"] > 0 and baseline["steady_n"] > 0:
        _score_latency(baseline, score, knobs, limit)
    if known and baseline["steady_requests"] > 0:
        _score_failures(baseline, score, knobs, limit)


@compiled_part
def _neutral(baseline: Any, score: Any) -> None:
    """Set the scores of a window that says nothing."""
    score["rise"] = 0.0
    score["rise_on"] = 0.0
    score["rise_gap"] = 0.0
    score["fall"] = 0.0
    score["surplus"] = 0.0
    score["surplus_on"] = 0.0
    score["surplus_rate"] = baseline["steady_error_rate"]


@compiled_part
def _variance(baseline: Any) -> float:
    """Return the variance of log milliseconds inside a window, as of one request."""
    return max(baseline["steady_var"], b.MIN_SD * b.MIN_SD)


@compiled_part
def _score_latency(baseline: Any, score: Any, knobs: Any, limit: float) -> None:
    """Add the latency of the answers without an error.

    Errors are left out because many are answered at once: when they end, the latency would seem to
    rise.
    """
    n = baseline["pool_ok_n"]
    gap = b.pool_ok_mean(baseline) - baseline["steady"]
    var = _variance(baseline) * dispersion_of(baseline)
    least = shift_size(baseline, knobs)
    lag = max(baseline["steady"] - baseline["steady_lagged"], 0.0)
    usual_gap = baseline["rise_sum"] / max(baseline["rise_n"], 1.0)
    size = max(least, usual_gap - lag)
    rise_step = size * n * (gap - lag - size / 2) / var
    fall_step = least * n * (-gap - least / 2) / var
    rise = _added(baseline["rise"], rise_step, limit)
    score["fall"] = _added(baseline["fall"], fall_step, limit)
    compared = baseline["rise_n"] + n
    mean_gap = (baseline["rise_sum"] + n * gap) / compared
    both = 1.0 / (1.0 / compared + 1.0 / baseline["steady_n"])
    evidence = size * both * (mean_gap - lag - size / 2) / var
    now = _reported(baseline["rise_on"], rise, evidence, limit)
    score["rise"] = min(rise, limit) if now > 0 else rise
    score["rise_on"] = now
    score["rise_gap"] = mean_gap


@compiled_part
def _score_failures(baseline: Any, score: Any, knobs: Any, limit: float) -> None:
    """Add the failures among all requests."""
    n = baseline["pool_n"]
    errors = baseline["pool_errors"]
    known = baseline["steady_requests"]
    usual = (baseline["steady_error_rate"] * known + UNSEEN) / (known + 1.0)
    margin = max(knobs.error_shift, WORSE * usual)
    more = min(usual + margin, HIGHEST_RATE)
    if more <= usual:
        return
    step = _ratio(errors, n, usual, more)
    surplus = _added(baseline["surplus"], step, limit)
    compared = baseline["surplus_n"] + n
    every = baseline["surplus_errors"] + errors
    ratio = _ratio(every, compared, usual, more)
    evidence = ratio * known / (known + compared)
    now = _reported(baseline["surplus_on"], surplus, evidence, limit)
    score["surplus"] = min(surplus, limit) if now > 0 else surplus
    score["surplus_on"] = now
    score["surplus_rate"] = every / compared


@compiled_part
def _ratio(errors: float, n: float, usual: float, more: float) -> float:
    """Return the log-likelihood ratio of a share of failures to a smaller one."""
    of_error = log(more / usual)
    of_answer = log((1.0 - more) / (1.0 - usual))
    return errors * of_error + (n - errors) * of_answer


# ---- learning


@compiled_part
def share_of(n: float, known: float, alpha: float, memory: float) -> float:
    """Return the weight of n requests in a mean that is worth `known`."""
    return max(min(alpha, n / memory), n / (known + n))


@compiled_part
def known_after(known: float, n: float, weight: float) -> float:
    """Return how many requests a weighted mean is worth after n more: its variance is that of a
    plain mean of so many.
    """
    if known <= 0:
        return n
    rest = 1.0 - weight
    return 1.0 / (rest * rest / known + weight * weight / n)


@compiled_part
def learn_shift(baseline: Any, score: Any, knobs: Any, window_s: float) -> None:
    """Take in the pool: it waits, or is learned with all that waited before it."""
    if baseline["pool_ok_n"] > 0:
        _learn_spread(baseline, knobs)
        _learn_latency(baseline, score, knobs)
        _follow_fall(baseline, score, limit_of(knobs.run_length_weeks, window_s))
    _learn_failures(baseline, score, knobs)


@compiled_part
def _alpha(seconds: float, knobs: Any) -> float:
    return 1.0 - float(np.exp2(-seconds / (FOLLOW * knobs.half_life_s)))


@compiled_part
def _learn_spread(baseline: Any, knobs: Any) -> None:
    """Learn the variance of log milliseconds inside a window.

    A window with errors is left out once the variance is known: many errors are answered at once.
    """
    n = baseline["pool_n"]
    mixed = baseline["pool_ok_n"] < n
    if n < 2 or (mixed and baseline["steady_var"] > 0):
        return
    alpha = _alpha(baseline["pool_s"], knobs)
    weight = share_of(n, baseline["steady_n"], alpha, b.MEMORY)
    var = b.pool_var(baseline) * n / (n - 1.0)
    baseline["steady_var"] += weight * (var - baseline["steady_var"])


@compiled_part
def _learn_latency(baseline: Any, score: Any, knobs: Any) -> None:
    n = baseline["pool_ok_n"]
    mean = b.pool_ok_mean(baseline)
    if baseline["steady_n"] <= 0:
        baseline["steady"] = mean
        baseline["steady_lagged"] = mean
    gap = mean - baseline["steady"]
    over = baseline["rise_on"] > score["rise_on"]
    baseline["rise"] = score["rise"]
    baseline["rise_on"] = score["rise_on"]
    baseline["rise_n"] += n
    baseline["rise_sum"] += n * gap
    baseline["rise_s"] += baseline["pool_s"]
    if over:
        clear_rise(baseline)
    elif score["rise_on"] > 0:
        _clear_block(baseline)
    else:
        _learn_block(baseline, n, gap)
        if score["rise"] <= 0 or baseline["rise_s"] >= WAIT * knobs.relearn_after_s:
            _learn_level(baseline, knobs)


@compiled_part
def _learn_block(baseline: Any, n: float, gap: float) -> None:
    """Learn how much the mean of a block varies, for each block without a rise at its end."""
    baseline["block_windows"] += 1.0
    baseline["block_n"] += n
    baseline["block_sum"] += n * gap
    if baseline["block_windows"] < BLOCK_WINDOWS or baseline["rise"] > 0:
        return
    total = baseline["block_sum"]
    var = _variance(baseline)
    square = total * total / (var * baseline["block_n"])
    square = min(square, WILD * dispersion_of(baseline))
    baseline["blocks"] = min(baseline["blocks"] + 1.0, BLOCKS)
    baseline["dispersion"] += (square - baseline["dispersion"]) / baseline["blocks"]
    _clear_block(baseline)


@compiled_part
def _learn_level(baseline: Any, knobs: Any) -> None:
    """Learn the windows that waited, together with the last one."""
    n = baseline["rise_n"]
    alpha = _alpha(baseline["rise_s"], knobs)
    weight = share_of(n, baseline["steady_n"], alpha, b.MEMORY)
    baseline["steady"] += weight * baseline["rise_sum"] / n
    behind = baseline["steady"] - baseline["steady_lagged"]
    baseline["steady_lagged"] += weight * behind
    baseline["steady_n"] = known_after(baseline["steady_n"], n, weight)
    clear_rise(baseline)


@compiled_part
def _follow_fall(baseline: Any, score: Any, limit: float) -> None:
    """Take a lower level as the steady one as soon as it is sure: better needs no report."""
    baseline["fall"] = score["fall"]
    if score["fall"] <= 0:
        baseline["fall_n"] = 0.0
        baseline["fall_sum"] = 0.0
        return
    baseline["fall_n"] += baseline["pool_ok_n"]
    baseline["fall_sum"] += baseline["pool_ok_total"]
    if score["fall"] < limit * (1.0 - 1e-9):
        return
    baseline["steady"] = baseline["fall_sum"] / baseline["fall_n"]
    baseline["steady_lagged"] = baseline["steady"]
    baseline["steady_n"] = baseline["fall_n"]
    clear_latency(baseline)


@compiled_part
def _learn_failures(baseline: Any, score: Any, knobs: Any) -> None:
    over = baseline["surplus_on"] > score["surplus_on"]
    baseline["surplus"] = score["surplus"]
    baseline["surplus_on"] = score["surplus_on"]
    baseline["surplus_n"] += baseline["pool_n"]
    baseline["surplus_errors"] += baseline["pool_errors"]
    baseline["surplus_s"] += baseline["pool_s"]
    if over:
        clear_surplus(baseline)
    elif score["surplus_on"] > 0:
        return
    elif score["surplus"] <= 0 or baseline["surplus_s"] >= WAIT * knobs.relearn_after_s:
        _learn_error_rate(baseline, knobs)


@compiled_part
def _learn_error_rate(baseline: Any, knobs: Any) -> None:
    """Learn the share of failures of the windows that waited, together with the last one."""
    n = baseline["surplus_n"]
    known = baseline["steady_requests"]
    alpha = _alpha(baseline["surplus_s"], knobs)
    weight = share_of(n, known, alpha, b.LONG_MEMORY)
    share = baseline["surplus_errors"] / n
    baseline["steady_error_rate"] += weight * (share - baseline["steady_error_rate"])
    baseline["steady_requests"] = known_after(known, n, weight)
    clear_surplus(baseline)


@compiled_part
def accept_steady(baseline: Any) -> None:
    """Take the level that was learned apart as the steady one."""
    if baseline["new_ok_count"] > 0:
        baseline["steady"] = baseline["new_slow"]
        baseline["steady_lagged"] = baseline["new_slow"]
        baseline["steady_n"] = baseline["new_ok_count"]
    if baseline["new_count"] > 0:
        baseline["steady_error_rate"] = baseline["new_error_rate"]
        baseline["steady_requests"] = baseline["new_count"]
    clear_latency(baseline)
    clear_surplus(baseline)


@compiled
def accept_levels(state: NDArray, rows: NDArray) -> None:
    """Take what is abnormal now in some rows of `state` as normal; the others stay as they are."""
    for i in rows:
        baseline = state[i]
        if not np.isnan(baseline["abnormal_since"]):
            b.accept_level(baseline)
            accept_steady(baseline)


@compiled_part
def clear_latency(baseline: Any) -> None:
    """Begin the sums of latency anew."""
    clear_rise(baseline)
    _clear_block(baseline)
    baseline["fall"] = 0.0
    baseline["fall_n"] = 0.0
    baseline["fall_sum"] = 0.0


@compiled_part
def clear_rise(baseline: Any) -> None:
    """Begin the sum of a rise anew."""
    baseline["rise"] = 0.0
    baseline["rise_on"] = 0.0
    baseline["rise_n"] = 0.0
    baseline["rise_sum"] = 0.0
    baseline["rise_s"] = 0.0


@compiled_part
def _clear_block(baseline: Any) -> None:
    baseline["block_windows"] = 0.0
    baseline["block_n"] = 0.0
    baseline["block_sum"] = 0.0


@compiled_part
def clear_surplus(baseline: Any) -> None:
    """Begin the sum of failures anew."""
    baseline["surplus"] = 0.0
    baseline["surplus_on"] = 0.0
    baseline["surplus_n"] = 0.0
    baseline["surplus_errors"] = 0.0
    baseline["surplus_s"] = 0.0
