"""Which windows are unusual? Score each window against what was usual before it, then learn from
it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields
from math import erfc, lgamma, log, sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect import baselines as b
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.windows import Counts
from aiops_lab.numerics import compiled, wilson
from aiops_lab.results import Anomaly
from aiops_lab.spans import Key

RULES = ("slow", "failing", "hanging", "silent", "drifting")  # that a window can break


@compiled
def _chance(k: float, n: float, p: float) -> float:
    """Return the chance of at least k failures in n requests that fail with probability p: exact,
    as n may be 3.
    """
    if k <= n * p:
        return 1.0
    term = np.exp(
        lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p)
    )
    total = 0.0
    while k <= n and term > 1e-15:
        total += term
        term *= (n - k) / (k + 1) * p / (1 - p)
        k += 1
    return total


@compiled
def chance_of(z: float) -> float:
    """Return the chance that a normal variable exceeds its mean by `z` standard deviations: 1 in
    741 for 3.
    """
    return erfc(z / sqrt(2)) / 2


@compiled
def silence_limit(z: float) -> float:
    """Return how many requests must fail to come until the chance of none (Poisson) is as small as
    that of `z`.
    """
    return -log(max(chance_of(z), 1e-300))


_alpha, _wilson = compiled(b.alpha_of), compiled(wilson)

# of log milliseconds: a service that always takes exactly as long still varies by a tenth elsewhere
_MIN_SD = 0.1

_WARM_WINDOWS = 12  # windows before an envelope or a rate of arrivals is worth asking

# gains of the envelope: a creep must not be able to widen it as fast as it creeps
_OUT, _BACK = 0.03, 0.003

# the rate of arrivals is remembered so many times longer: an hour of bursts and gaps by default
_RATE = 12.0

# the fast average forgets ten times faster, but not sooner than in three windows
_FAST, _FAST_WINDOWS = 10.0, 3.0

_P99 = 2.326  # standard deviations from the mean of a normal distribution to its 99th percentile

# What the kernel writes down of one window and endpoint. Latencies are logarithms of milliseconds.
_ROW = np.dtype(
    [(name, "i8") for name in ("w", "code")]
    + [(name, "f8") for name in ("mean", "ratio", "z", "high_ms", "error_low", "error_chance")]
    + [(name, "f8") for name in ("fast", "gap", "gap_z", "stuck", "oldest_s", "given_up")]
    + [(name, "?") for name in ("judged", "learning", "known", *RULES, "abnormal")]
)

# As floats: for whole numbers the kernel would be compiled anew.
_Knobs = namedtuple("_Knobs", [knob.name for knob in fields(Sensitivity)])  # type: ignore[misc]


@compiled
def _judge(
    counts: Counts,
    order: NDArray,
    hour: NDArray,
    k: Any,
    state: NDArray,
    system: NDArray,
    out: NDArray,
    before: NDArray,
) -> int:
    """Judge each window in the order of time, then learn from it; return the number of rows
    written.

    `state` has the shape (endpoints, hours, fields), `before` takes a copy of its row as it was
    before it learned.
    """
    rows = 0
    start_s, window_s = counts.start_ns / 1e9, counts.window_ns / 1e9
    alpha = _alpha(window_s, _RATE * k.half_life_s)
    stuck, oldest_s = np.zeros(order.size), np.zeros(order.size)
    for w in range(hour.size):
        now = state[:, hour[w]]
        arrived = counts.arrivals[w].sum()
        activity = min(1.0, arrived / system[1]) if system[1] > 0 else 0.0
        _find_stuck(counts, w, now, k.timeout_s, stuck, oldest_s)
        for e in order:
            s, row = now[e], out[rows]
            row["w"], row["code"] = w, e
            row["stuck"], row["oldest_s"], row["given_up"] = (
                stuck[e],
                oldest_s[e],
                counts.given_up[w, e],
            )
            _take_in(s, counts, w, e, window_s, activity)
            _score(s, row, k, window_s)
            _apply_rules(s, row, k)
            before[rows] = s
            if row["judged"] or row["abnormal"]:
                rows += 1
            _learn_requests(s, row, start_s + w * window_s, k)
            if arrived > 0 and (s[b.COUNT] > 0 or counts.arrivals[w, e] > 0):
                _learn_arrivals(s, row, counts.arrivals[w, e], alpha)
            if row["abnormal"] and start_s + (w + 1) * window_s - s[b.SINCE] >= k.relearn_after_s:
                _accept_level(s)
        if arrived > 0:
            system[0] += 1.0
            system[1] += max(alpha, 1.0 / system[0]) * (arrived - system[1])
    return rows


@compiled
def _find_stuck(
    counts: Counts, w: int, now: NDArray, timeout_s: float, stuck: NDArray, oldest_s: NDArray
) -> None:
    """Count the requests of each endpoint that hang at the end of window w: older than 5 times its
    99th percentile.
    """
    stuck[:], oldest_s[:] = 0.0, 0.0
    for i in range(counts.stuck_ptr[w], counts.stuck_ptr[w + 1]):
        e, age_s = counts.stuck_code[i], counts.stuck_age_s[i]
        if age_s > max(timeout_s, 5e-3 * np.exp(now[e, b.MEAN] + _P99 * np.sqrt(now[e, b.VAR]))):
            stuck[e] += 1.0
            oldest_s[e] = max(oldest_s[e], age_s)


@compiled
def _take_in(s: NDArray, counts: Counts, w: int, e: int, window_s: float, activity: float) -> None:
    """Add a window to the pool that waits to be judged, and to the silence since the last request."""
    s[b.POOL_N] += counts.n[w, e]
    s[b.POOL_ERRORS] += counts.errors[w, e]
    s[b.POOL_TOTAL] += counts.total[w, e]
    s[b.POOL_SQUARES] += counts.squares[w, e]
    if s[b.POOL_N] > 0:
        s[b.POOL_S] += window_s
    if counts.arrivals[w, e] > 0:
        s[b.LONGEST] = max(s[b.LONGEST], s[b.SILENT])
        s[b.SILENT] = 0.0
    else:
        s[b.SILENT] += s[b.RATE] / max(1.0, s[b.RATE_VAR] / max(s[b.RATE], 1e-9)) * activity


@compiled
def _score(s: NDArray, row: Any, k: Any, window_s: float) -> None:
    """Compare the requests of the pool with what was usual; with too few of them nothing is
    unusual.
    """
    n, usual = s[b.POOL_N], s[b.MEAN]
    row["judged"] = n >= k.min_window
    row["mean"], row["ratio"], row["z"], row["high_ms"] = usual, 1.0, 0.0, 0.0
    row["error_low"], row["error_chance"] = 0.0, 1.0
    row["fast"], row["gap"], row["gap_z"] = s[b.FAST], 0.0, 0.0
    if not row["judged"]:
        return
    mean, sd, usual_ms = s[b.POOL_TOTAL] / n, max(np.sqrt(s[b.VAR]), _MIN_SD), np.exp(usual)
    row["mean"], row["ratio"], row["z"] = (
        mean,
        np.exp(mean - usual),
        (mean - usual) / (sd / np.sqrt(n)),
    )
    row["high_ms"] = max(
        np.exp(usual + k.z * sd / np.sqrt(n)), k.ratio * usual_ms, usual_ms + k.min_ms
    )
    row["error_low"] = _wilson(s[b.POOL_ERRORS], n, k.z)[0]
    row["error_chance"] = _chance(s[b.POOL_ERRORS], n, min(s[b.ERROR_RATE] + k.error_margin, 0.999))
    fast = _alpha(s[b.POOL_S], max(k.half_life_s / _FAST, _FAST_WINDOWS * window_s))
    slow = b.weight_of(n, s[b.COUNT] + n, _alpha(s[b.POOL_S], k.half_life_s))
    row["fast"] = mean if s[b.COUNT] == 0 else s[b.FAST] + fast * (mean - s[b.FAST])
    row["gap"] = row["fast"] - usual if s[b.COUNT] > 0 else 0.0
    # An average with weight a has the variance a / (2 - a) of a single value.
    row["gap_z"] = row["gap"] / (sd * np.sqrt((fast / (2 - fast) + slow / (2 - slow)) / n))


@compiled
def _apply_rules(s: NDArray, row: Any, k: Any) -> None:
    """Write down which rules the window breaks. The detectors below say what each of them is for."""
    row["learning"] = s[b.COUNT] < k.min_count
    row["known"] = not row["learning"] and s[b.WINDOWS] >= _WARM_WINDOWS
    compared, usual_ms = row["judged"] and not row["learning"], np.exp(s[b.MEAN])
    row["slow"] = (
        compared
        and row["ratio"] > k.ratio
        and row["z"] > k.z
        and np.exp(row["mean"]) - usual_ms > k.min_ms
    )
    row["failing"] = (
        compared
        and row["error_low"] > s[b.ERROR_RATE] + k.error_margin
        and row["error_chance"] < chance_of(k.z)
    )
    row["hanging"] = not row["learning"] and max(row["stuck"], row["given_up"]) >= k.min_window
    row["silent"] = (
        row["known"] and s[b.SILENT] > silence_limit(k.z) and s[b.SILENT] > 1.5 * s[b.LONGEST]
    )
    row["drifting"] = (
        row["judged"]
        and row["known"]
        and not row["slow"]
        and not row["failing"]
        and row["gap"] > log(k.drift)
        and row["gap_z"] > k.z
        and row["gap"] > 2 * s[b.HIGH] - s[b.LOW]
        and np.exp(row["fast"]) - usual_ms > k.min_ms
    )
    row["abnormal"] = (
        row["slow"] or row["failing"] or row["hanging"] or row["silent"] or row["drifting"]
    )


@compiled
def _learn_requests(s: NDArray, row: Any, start_s: float, k: Any) -> None:
    """Learn from the pool, now that the scores are written down; what is abnormal is learned apart."""
    if row["abnormal"] and np.isnan(s[b.SINCE]):
        s[b.SINCE] = start_s
        s[b.NEW_COUNT : b.NEW_RATE + 1] = 0.0
    if not row["judged"]:
        return
    n, mean = s[b.POOL_N], row["mean"]
    if not row["abnormal"]:
        s[b.SINCE] = np.nan
        s[b.LOW], s[b.HIGH] = b.envelope_step(s[b.LOW], s[b.HIGH], row["gap"], _OUT, _BACK)
    if not (row["slow"] or row["failing"] or row["hanging"]):
        s[b.FAST] = row["fast"]
    var = max(s[b.POOL_SQUARES] / n - mean * mean, 0.0)
    first = b.NEW_COUNT if row["abnormal"] else b.COUNT
    b.learn_requests(s, first, n, s[b.POOL_ERRORS], mean, var, _alpha(s[b.POOL_S], k.half_life_s))
    s[b.POOL_N : b.POOL_S + 1] = 0.0


@compiled
def _learn_arrivals(s: NDArray, row: Any, arrivals: float, alpha: float) -> None:
    windows, rate = (b.NEW_WINDOWS, b.NEW_RATE) if row["abnormal"] else (b.WINDOWS, b.RATE)
    s[windows] += 1.0
    mean, var = b.ewma_step(s[rate], s[b.RATE_VAR], arrivals, max(alpha, 1.0 / s[windows]))
    s[rate] = mean
    if not row["abnormal"]:
        s[b.RATE_VAR] = var


@compiled
def _accept_level(s: NDArray) -> None:
    """Take what was learned apart for the new normal: it has stayed for long enough."""
    if s[b.NEW_COUNT] > 0:
        s[b.COUNT : b.ERROR_RATE + 1] = s[b.NEW_COUNT : b.NEW_ERROR_RATE + 1]
    s[b.WINDOWS], s[b.RATE], s[b.SILENT], s[b.LONGEST] = s[b.NEW_WINDOWS], s[b.NEW_RATE], 0.0, 0.0
    s[b.FAST], s[b.LOW], s[b.HIGH], s[b.SINCE] = s[b.MEAN], 0.0, 0.0, np.nan


def judge(
    counts: Counts, keys: Sequence[Key], state: NDArray, system: NDArray, sensitivity: Sensitivity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score each window against the baselines before it, then let them learn: `state` and `system`
    move on.

    Returns
    -------
    windows, usual : DataFrames with the same index, a row for each judged window and endpoint
        What was seen, and what was usual before it. They are what a detector takes.

    Notes
    -----
    Columns of windows: window, end, service, endpoint; seconds (more than a window where small ones
    were pooled); n, errors, error_rate, error_low (Wilson), error_chance (of so many errors);
    latency_ms (geometric mean), ratio and z beside the baseline; stuck, oldest_s (requests without
    an answer, and the greatest age), given_up (by callers); missed, longest (requests due in this
    silence and in the longest before); fast_ms, gap, gap_z (the fast average, and how far its
    logarithm is above the slow one); baseline_ms, low_ms, high_ms, baseline_error_rate (usual);
    state (learning, normal, anomalous); slow, failing, hanging, silent, drifting (which of the
    package's `RULES` it breaks). Columns of usual: learning, known (long enough for silences and
    drifts), count (requests), latency_ms, sd_log (of the logarithm), error_rate, rate (requests a
    window), low, high (the envelope of gap).
    """
    s = sensitivity
    starts = counts.start_ns + np.arange(len(counts.n)) * counts.window_ns
    hour = starts // 3_600_000_000_000 % s.hours
    knobs = _Knobs(*map(float, astuple(s)))
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    by_hour = state.reshape(len(keys), s.hours, len(b.FIELDS))
    out, before = np.empty(counts.n.size, _ROW), np.empty((counts.n.size, len(b.FIELDS)))
    rows = _judge(counts, order, hour, knobs, by_hour, system, out, before)
    usual = dict(zip(b.FIELDS, before[:rows].T, strict=True))
    return _frames(out[:rows], usual, keys, starts, counts.window_ns, s.z)


def _frames(
    found: NDArray,
    usual: dict[str, NDArray],
    keys: Sequence[Key],
    starts: NDArray,
    window_ns: int,
    z: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    service, endpoint = np.array(keys, dtype=object).reshape(-1, 2)[found["code"]].T
    window = pd.DatetimeIndex(starts[found["w"]], tz="UTC")
    n, learning, seen = usual["pool_n"], found["learning"], usual["count"] > 0
    usual_ms = np.where(seen, np.exp(usual["mean"]), np.nan)
    sd = np.maximum(np.sqrt(usual["var"]), _MIN_SD)
    spread = np.exp(-sd * z / np.sqrt(np.maximum(n, 1)))
    windows = pd.DataFrame(
        {
            "window": window,
            "end": window + pd.Timedelta(window_ns, unit="ns"),
            "service": pd.array(service, dtype="str"),
            "endpoint": pd.array(endpoint, dtype="str"),
            "seconds": usual["pool_s"],
            "n": n.astype(int),
            "errors": usual["pool_errors"].astype(int),
            "error_rate": usual["pool_errors"] / np.maximum(n, 1),
            "baseline_error_rate": usual["error_rate"],
            "latency_ms": np.where(n > 0, np.exp(found["mean"]), np.nan),
            "baseline_ms": usual_ms,
            "low_ms": usual_ms * spread,
            "high_ms": np.where(learning | (found["high_ms"] == 0), np.nan, found["high_ms"]),
            "state": np.where(
                learning, "learning", np.where(found["abnormal"], "anomalous", "normal")
            ),
            "ratio": np.where(seen, found["ratio"], np.nan),
            "z": np.where(seen, found["z"], np.nan),
            "stuck": found["stuck"].astype(int),
            "given_up": found["given_up"].astype(int),
            "missed": usual["silent"],
            "longest": usual["longest"],
            "fast_ms": np.exp(found["fast"]),
            **{
                name: found[name]
                for name in ("error_low", "error_chance", "oldest_s", "gap", "gap_z", *RULES)
            },
        }
    )
    baselines = pd.DataFrame(
        {
            "learning": learning,
            "known": found["known"],
            "count": usual["count"].astype(int),
            "latency_ms": usual_ms,
            "sd_log": sd,
            **{name: usual[name] for name in ("error_rate", "rate", "low", "high")},
        }
    )
    return windows, baselines


# The detectors. Each takes the two frames of `judge` and returns what it finds, in their order.
Detector = Callable[[pd.DataFrame, pd.DataFrame, Sensitivity], list[Anomaly]]


def latency_anomaly(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find windows slower than usual, both by effect size (ratio) and by significance (z).

    The test is on the mean of log milliseconds: latencies are skewed to the right, their logarithms
    hardly. It errs where these have two modes (cache hit or miss) and a window few requests: chance
    alone makes slow windows there.
    """
    return [
        _anomaly(
            "latency_anomaly",
            w,
            "high" if w.ratio > 5 else "medium",
            baseline_ms=w.baseline_ms,
            current_ms=w.latency_ms,
            deviation=w.ratio,
            z=w.z,
        )
        for w in _breaking("slow", windows)
    ]


def error_spike(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find windows whose share of errors is surely above the usual share plus a margin.

    By Wilson's lower bound, and by the exact chance of so many: at three requests the bound alone
    is too eager.
    """
    return [
        _anomaly(
            "error_spike",
            w,
            _error_severity(w.error_rate),
            error_rate=w.error_rate,
            baseline_error_rate=w.baseline_error_rate,
            errors=w.errors,
            requests=w.n,
        )
        for w in _breaking("failing", windows)
    ]


def timeout(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find endpoints with requests that hang, or that their callers gave up on. Hanging is an age,
    not an absence.
    """
    return [
        _anomaly(
            "timeout",
            w,
            "high",
            age_ms=1000 * w.oldest_s,
            open_requests=w.stuck,
            given_up_calls=w.given_up,
        )
        for w in _breaking("hanging", windows)
    ]


def traffic_drop(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find endpoints that no request reaches although the Poisson tail says that some should have
    come.

    What is due is scaled by the traffic of the whole system, at most 1: in a quiet night nobody is
    missing. It is also divided by the endpoint's own index of dispersion, so that bursts are no
    promise, and must exceed the longest silence so far by half. The price: when all traffic stops
    at once, this detector is silent.
    """
    return [
        _anomaly("traffic_drop", w, "medium", expected_requests=w.missed, requests=0)
        for w in _breaking("silent", windows)
    ]


def latency_drift(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find a sustained creep too small for the ratio: fast minus slow average, outside of its usual
    envelope.
    """
    return [
        _anomaly(
            "latency_drift",
            w,
            "medium",
            baseline_ms=w.baseline_ms,
            current_ms=w.fast_ms,
            deviation=w.fast_ms / w.baseline_ms,
        )
        for w in _breaking("drifting", windows)
    ]


DETECTORS: tuple[Detector, ...] = (
    latency_anomaly,
    error_spike,
    timeout,
    traffic_drop,
    latency_drift,
)


def _breaking(rule: str, windows: pd.DataFrame) -> Iterable[Any]:
    rows = np.flatnonzero(windows[rule])
    if rows.size == 0:
        return ()
    records: list[Any] = windows.iloc[rows].to_dict("records")
    return [SimpleNamespace(**record) for record in records]


def _anomaly(kind: str, window: Any, severity: str, **evidence: Any) -> Anomaly:
    return Anomaly(
        kind, window.service, window.endpoint, window.window, window.end, severity, evidence
    )


def _error_severity(rate: float) -> str:
    return "critical" if rate > 0.5 else "high" if rate > 0.2 else "medium"
