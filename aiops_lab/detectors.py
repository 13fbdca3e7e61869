"""Which windows are unusual? Score each window against what was usual before it, then learn from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import erfc, lgamma, log, sqrt
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab import baselines as b
from aiops_lab.baselines import compiled
from aiops_lab.sensitivity import Sensitivity
from aiops_lab.windows import Counts, Key

SEVERITIES = ("medium", "high", "critical")  # in rising order


@dataclass(frozen=True)
class Anomaly:
    """One endpoint behaved unusually in one window.

    ``window`` and ``end`` bound the window (Timestamps, UTC), ``evidence`` holds the numbers that led to the
    verdict, ``name`` is the endpoint as shown, and ``traces`` are the trace_ids of requests that show it.
    """

    type: str
    service: str
    endpoint: str
    window: pd.Timestamp
    end: pd.Timestamp
    severity: str = "medium"
    evidence: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    traces: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.service, self.endpoint

    @property
    def description(self) -> str:
        """The anomaly in one line."""
        return _DESCRIPTIONS.get(self.type, _describe_other)(self.evidence)

    def to_dict(self) -> dict[str, Any]:
        """Return the anomaly as the HTTP interface shows it."""
        shown = {"type": self.type, "endpoint": self.name or self.endpoint, "service": self.service}
        return shown | {"severity": self.severity, "window": iso(self.window)} | self.evidence


def iso(moment: pd.Timestamp | None) -> str | None:
    """Return an ISO 8601 time in UTC with microseconds and a Z, None for no time."""
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _describe_other(evidence: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in evidence.items())


_DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "latency_anomaly": lambda e: (
        f"Latency spike: {e['current_ms']:.0f}ms (baseline: {e['baseline_ms']:.0f}ms, {e['deviation']:.1f}x slower)"
    ),
    "error_spike": lambda e: (
        f"Error spike: {e['error_rate']:.0%} of requests failed (baseline: {e['baseline_error_rate']:.0%})"
    ),
    "timeout": lambda e: (
        f"Timeout: {e['open_requests']} requests without an answer, the oldest for {e['age_ms'] / 1000:.1f} s"
        if e["open_requests"]
        else f"Timeout: {e['given_up_calls']} calls were given up by their callers"
    ),
    "traffic_drop": lambda e: f"Traffic drop: no requests where {e['expected_requests']:.0f} were due",
    "latency_drift": lambda e: (
        f"Latency drift: {e['current_ms']:.0f}ms (baseline: {e['baseline_ms']:.0f}ms, {e['deviation']:.2f}x slower)"
    ),
}
TITLES = {
    "latency_anomaly": "Latency spike",
    "error_spike": "Error spike",
    "timeout": "Timeout",
    "traffic_drop": "Traffic drop",
    "latency_drift": "Latency drift",
}

# The rules, each once, in operators that work on one number (in the kernel) and on columns (in the detectors).


def _slow(ratio: Any, z: Any, rise_ms: Any, min_ratio: float, min_z: float, min_ms: float) -> Any:
    return (ratio > min_ratio) & (z > min_z) & (rise_ms > min_ms)


def _failing(error_low: Any, error_chance: Any, usual_rate: Any, margin: float, chance: float) -> Any:
    return (error_low > usual_rate + margin) & (error_chance < chance)


def _stuck(unanswered: Any, enough: float) -> Any:
    return unanswered >= enough


def _silent(missed: Any, longest: Any, limit: float) -> Any:
    return (missed > limit) & (missed > 1.5 * longest)


def _drifting(gap: Any, gap_z: Any, low: Any, high: Any, rise_ms: Any, min_gap: float, z: float, min_ms: float) -> Any:
    return (gap > min_gap) & (gap_z > z) & (gap > 2 * high - low) & (rise_ms > min_ms)


def wilson(k: Any, n: Any, z: float) -> tuple[Any, Any]:
    """Return the bounds of a share k/n at `z` standard errors (Wilson 1927, doi 10.1080/01621459.1927.10502953).

    Examples
    --------
    Three failures in three requests prove less than thirty in thirty:

    >>> [round(wilson(n, n, 3)[0], 2) for n in (3, 30)]
    [0.25, 0.77]
    """
    share = k / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return middle - half, middle + half


@compiled
def _chance(k: float, n: float, p: float) -> float:
    """Return the chance of at least k failures in n requests that fail with probability p: exact, as n may be 3."""
    if k <= n * p:
        return 1.0
    term = np.exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log(1 - p))
    total = 0.0
    while k <= n and term > 1e-15:
        total += term
        term *= (n - k) / (k + 1) * p / (1 - p)
        k += 1
    return total


_slow_k, _failing_k, _stuck_k = compiled(_slow), compiled(_failing), compiled(_stuck)
_silent_k, _drifting_k, _wilson_k = compiled(_silent), compiled(_drifting), compiled(wilson)

_MIN_SD = 0.1  # of log milliseconds: a service that always takes exactly as long still varies by a tenth elsewhere
_WARM_WINDOWS = 12  # windows before an envelope or a rate of arrivals is worth asking
_OUT, _BACK = 0.03, 0.003  # gains of the envelope: a creep must not be able to widen it as fast as it creeps
_RATE = 12.0  # the rate of arrivals is remembered so many times longer: an hour of bursts and gaps by default
_FAST, _FAST_WINDOWS = 10.0, 3.0  # the fast average forgets ten times faster, but not sooner than in three windows
_P99 = 2.326  # standard deviations from the mean of a normal distribution to its 99th percentile
HOURS = 24

OUT = (
    "w", "code", "seconds", "n", "errors", "mean", "ratio", "z", "error_low", "error_chance", "stuck", "given_up",
    "oldest_s", "missed", "longest", "gap", "gap_z", "low", "high", "fast", "learning", "abnormal", "base_count",
    "base_mean", "base_sd", "base_error_rate", "base_rate", "base_high", "base_windows",
)  # fmt: skip


@compiled
def _judge(
    state: NDArray, system: NDArray, hour: NDArray, start_s: float, window_s: float, n: NDArray, errors: NDArray,
    total: NDArray, squares: NDArray, arrivals: NDArray, given_up: NDArray, stuck_ptr: NDArray, stuck_code: NDArray,
    stuck_age_s: NDArray, hours: int, z: float, ratio: float, half_life_s: float, min_count: float,
    min_window: float, relearn_after_s: float, min_ms: float, margin: float, min_gap: float, timeout_s: float,
    chance: float, out: NDArray,
) -> int:  # fmt: skip
    """Judge each window in the order of time, then learn from it; return the number of rows written to `out`."""
    rows = 0
    width = n.shape[1]
    stuck = np.zeros(width)
    oldest = np.zeros(width)
    alpha = 1.0 - 2.0 ** (-window_s / (_RATE * half_life_s))
    silence = -log(max(chance, 1e-300))
    for w in range(n.shape[0]):
        arrived = arrivals[w].sum()
        activity = min(1.0, arrived / system[1]) if system[1] > 0 else 0.0
        stuck[:] = 0.0
        oldest[:] = 0.0
        for k in range(stuck_ptr[w], stuck_ptr[w + 1]):
            e = stuck_code[k]
            s = state[e * hours + hour[w]]
            limit = max(timeout_s, 5e-3 * np.exp(s[b.MEAN] + _P99 * np.sqrt(s[b.VAR])))
            if stuck_age_s[k] > limit:
                stuck[e] += 1.0
                oldest[e] = max(oldest[e], stuck_age_s[k])
        for e in range(width):
            s = state[e * hours + hour[w]]
            s[b.POOL_N] += n[w, e]
            s[b.POOL_ERRORS] += errors[w, e]
            s[b.POOL_TOTAL] += total[w, e]
            s[b.POOL_SQUARES] += squares[w, e]
            if s[b.POOL_N] > 0:
                s[b.POOL_S] += window_s
            if arrivals[w, e] > 0:
                s[b.LONGEST] = max(s[b.LONGEST], s[b.SILENT])
                s[b.SILENT] = 0.0
            else:
                s[b.SILENT] += s[b.RATE] / max(1.0, s[b.RATE_VAR] / max(s[b.RATE], 1e-9)) * activity
            learning = s[b.COUNT] < min_count
            judged = s[b.POOL_N] >= min_window
            unanswered = max(stuck[e], given_up[w, e])
            is_stuck = not learning and _stuck_k(unanswered, min_window)
            known = not learning and s[b.WINDOWS] >= _WARM_WINDOWS
            is_silent = known and _silent_k(s[b.SILENT], s[b.LONGEST], silence)

            mean, var = s[b.MEAN], 0.0
            score, error_low, error_chance, gap, gap_z, fast = 0.0, 0.0, 1.0, 0.0, 0.0, s[b.FAST]
            sd = max(np.sqrt(s[b.VAR]), _MIN_SD)
            high_ms = 0.0
            is_slow, is_failing, is_drifting = False, False, False
            if judged:
                count = s[b.POOL_N]
                mean = s[b.POOL_TOTAL] / count
                var = max(s[b.POOL_SQUARES] / count - mean * mean, 0.0)
                score = (mean - s[b.MEAN]) / (sd / np.sqrt(count))
                error_low = _wilson_k(s[b.POOL_ERRORS], count, z)[0]
                error_chance = _chance(s[b.POOL_ERRORS], count, min(s[b.ERROR_RATE] + margin, 0.999))
                usual_ms = np.exp(s[b.MEAN])
                high_ms = max(np.exp(s[b.MEAN] + z * sd / np.sqrt(count)), ratio * usual_ms, usual_ms + min_ms)
                if not learning:
                    rise = np.exp(mean) - usual_ms
                    is_slow = _slow_k(np.exp(mean - s[b.MEAN]), score, rise, ratio, z, min_ms)
                    is_failing = _failing_k(error_low, error_chance, s[b.ERROR_RATE], margin, chance)
                fast_alpha = 1.0 - 2.0 ** (-s[b.POOL_S] / max(half_life_s / _FAST, _FAST_WINDOWS * window_s))
                fast = mean if s[b.COUNT] == 0 else s[b.FAST] + fast_alpha * (mean - s[b.FAST])
                gap = fast - s[b.MEAN] if s[b.COUNT] > 0 else 0.0
                slow_alpha = max(
                    min(1.0 - 2.0 ** (-s[b.POOL_S] / half_life_s), count / b.MEMORY), count / (s[b.COUNT] + count)
                )
                # An average with weight a has the variance a / (2 - a) of a single value.
                gap_z = gap / (sd * np.sqrt((fast_alpha / (2 - fast_alpha) + slow_alpha / (2 - slow_alpha)) / count))
                if known and not is_slow and not is_failing:
                    rise = np.exp(fast) - usual_ms
                    is_drifting = _drifting_k(gap, gap_z, s[b.LOW], s[b.HIGH], rise, min_gap, z, min_ms)
            abnormal = is_slow or is_failing or is_stuck or is_silent or is_drifting

            if judged or abnormal:
                row = out[rows]
                rows += 1
                row[0], row[1], row[2], row[3], row[4] = w, e, s[b.POOL_S], s[b.POOL_N], s[b.POOL_ERRORS]
                row[5], row[6], row[7], row[8] = mean, np.exp(mean - s[b.MEAN]), score, error_low
                row[9], row[10], row[11], row[12] = error_chance, stuck[e], given_up[w, e], oldest[e]
                row[13], row[14], row[15], row[16] = s[b.SILENT], s[b.LONGEST], gap, gap_z
                row[17], row[18], row[19], row[20], row[21] = s[b.LOW], s[b.HIGH], fast, learning, abnormal
                row[22], row[23], row[24], row[25] = s[b.COUNT], s[b.MEAN], sd, s[b.ERROR_RATE]
                row[26], row[27], row[28] = s[b.RATE], high_ms, s[b.WINDOWS]

            # Learn, now that the score is written down. An abnormal window is learned apart.
            first, windows, rate = b.COUNT, b.WINDOWS, b.RATE
            if abnormal:
                if np.isnan(s[b.SINCE]):
                    s[b.SINCE] = start_s + w * window_s
                    s[b.NEW_COUNT : b.NEW_RATE + 1] = 0.0
                first, windows, rate = b.NEW_COUNT, b.NEW_WINDOWS, b.NEW_RATE
            elif judged:
                s[b.SINCE] = np.nan
            if judged:
                pool_alpha = 1.0 - 2.0 ** (-s[b.POOL_S] / half_life_s)
                if not abnormal:
                    s[b.LOW], s[b.HIGH] = b.envelope_step(s[b.LOW], s[b.HIGH], gap, _OUT, _BACK)
                b.learn_requests(s, first, s[b.POOL_N], s[b.POOL_ERRORS], mean, var, pool_alpha)
                if not (is_slow or is_failing or is_stuck):
                    s[b.FAST] = fast
                s[b.POOL_N : b.POOL_S + 1] = 0.0
            if arrived > 0 and (s[b.COUNT] > 0 or arrivals[w, e] > 0):
                s[windows] += 1.0
                weight = max(alpha, 1.0 / s[windows])
                if abnormal:
                    s[rate] += weight * (arrivals[w, e] - s[rate])
                else:
                    s[rate], s[b.RATE_VAR] = b.ewma_step(s[rate], s[b.RATE_VAR], arrivals[w, e], weight)
            if abnormal and start_s + (w + 1) * window_s - s[b.SINCE] >= relearn_after_s:
                if s[b.NEW_COUNT] > 0:
                    s[b.COUNT : b.ERROR_RATE + 1] = s[b.NEW_COUNT : b.NEW_ERROR_RATE + 1]
                s[b.WINDOWS], s[b.RATE], s[b.SILENT], s[b.LONGEST] = s[b.NEW_WINDOWS], s[b.NEW_RATE], 0.0, 0.0
                s[b.FAST], s[b.LOW], s[b.HIGH], s[b.SINCE] = s[b.MEAN], 0.0, 0.0, np.nan
        if arrived > 0:
            system[0] += 1.0
            system[1] += max(alpha, 1.0 / system[0]) * (arrived - system[1])
    return rows


def chance_of(z: float) -> float:
    """Return the chance that a normal variable exceeds its mean by `z` standard deviations: 1 in 741 for 3."""
    return erfc(z / sqrt(2)) / 2


def silence_limit(z: float) -> float:
    """Return how many requests must fail to come until the chance of none (Poisson) is as small as that of `z`."""
    return -log(max(chance_of(z), 1e-300))


def judge(
    counts: Counts, keys: Sequence[Key], state: NDArray, system: NDArray, sensitivity: Sensitivity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score each window against the baselines before it, then let them learn: `state` and `system` move on.

    Returns
    -------
    windows, baselines : DataFrames with the same index, a row for each judged window and endpoint
        What was seen, and what was usual before. They are what a detector takes.
    """
    s = sensitivity
    hours = HOURS if s.seasonal else 1
    starts = counts.start_ns + np.arange(counts.n.shape[0]) * counts.window_ns
    hour = starts // 3_600_000_000_000 % hours
    out = np.empty((counts.n.size, len(OUT)))
    # As floats: for whole numbers the kernel would be compiled anew.
    knobs = map(float, (
        s.z, s.ratio, s.half_life_s, s.min_count, s.min_window, s.relearn_after_s, s.min_ms, s.error_margin,
        log(s.drift), s.timeout_s, chance_of(s.z),
    ))  # fmt: skip
    start_s, window_s = counts.start_ns / 1e9, counts.window_ns / 1e9
    rows = _judge(state, system, hour, start_s, window_s, *counts[2:], hours, *knobs, out)
    return _frames(out[:rows], counts, keys, starts, s.z)


def _frames(
    out: NDArray, counts: Counts, keys: Sequence[Key], starts: NDArray, z: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    place = {key: rank for rank, key in enumerate(sorted(keys))}
    rank = np.array([place[key] for key in keys], dtype=np.int64)
    out = out[np.lexsort((rank[out[:, 1].astype(int)], out[:, 0]))]
    col = dict(zip(OUT, out.T, strict=True))
    code = col["code"].astype(int)
    names = np.array(keys, dtype=object).reshape(-1, 2)
    window = pd.to_datetime(starts[col["w"].astype(int)], utc=True)
    learning, abnormal = col["learning"] > 0, col["abnormal"] > 0
    usual_ms = np.where(col["base_count"] > 0, np.exp(col["base_mean"]), np.nan)
    spread = np.exp(-col["base_sd"] * z / np.sqrt(np.maximum(col["n"], 1)))
    windows = pd.DataFrame({
        "window": window,
        "end": window + pd.Timedelta(counts.window_ns, unit="ns"),
        "service": pd.array(names[code, 0], dtype="str"),
        "endpoint": pd.array(names[code, 1], dtype="str"),
        "seconds": col["seconds"],
        "n": col["n"].astype(int),
        "errors": col["errors"].astype(int),
        "error_rate": col["errors"] / np.maximum(col["n"], 1),
        "latency_ms": np.where(col["n"] > 0, np.exp(col["mean"]), np.nan),
        "baseline_ms": usual_ms,
        "low_ms": usual_ms * spread,
        "high_ms": np.where(learning | (col["base_high"] == 0), np.nan, col["base_high"]),
        "state": np.where(learning, "learning", np.where(abnormal, "anomalous", "normal")),
        "ratio": np.where(col["base_count"] > 0, col["ratio"], np.nan),
        "z": np.where(col["base_count"] > 0, col["z"], np.nan),
        "error_low": col["error_low"],
        "error_chance": col["error_chance"],
        "stuck": col["stuck"].astype(int),
        "given_up": col["given_up"].astype(int),
        "oldest_s": col["oldest_s"],
        "missed": col["missed"],
        "longest": col["longest"],
        "gap": col["gap"],
        "gap_z": col["gap_z"],
        "fast_ms": np.exp(col["fast"]),
    })  # fmt: skip
    usual = pd.DataFrame({
        "learning": learning,
        "known": col["base_windows"] >= _WARM_WINDOWS,
        "count": col["base_count"].astype(int),
        "latency_ms": usual_ms,
        "sd_log": col["base_sd"],
        "error_rate": col["base_error_rate"],
        "rate": col["base_rate"],
        "low": col["low"],
        "high": col["high"],
    })  # fmt: skip
    return windows, usual


# The detectors. Each takes the two frames of `judge` and returns what it finds, in their order.
Detector = Callable[[pd.DataFrame, pd.DataFrame, Sensitivity], list[Anomaly]]


def latency_anomaly(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find windows slower than usual, both by effect size (ratio) and by significance (z).

    The test is on the mean of log milliseconds: latencies are skewed to the right, their logarithms hardly. It errs
    where these have two modes (cache hit or miss) and a window few requests: chance alone makes slow windows there.
    """
    return [
        _anomaly("latency_anomaly", w, "high" if w.ratio > 5 else "medium", {
            "baseline_ms": u.latency_ms, "current_ms": w.latency_ms, "deviation": w.ratio, "z": w.z,
        })
        for w, u in _pairs(windows, usual, _is_slow(windows, usual, s))
    ]  # fmt: skip


def error_spike(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find windows whose share of errors is surely above the usual share plus a margin.

    By Wilson's lower bound, and by the exact chance of so many: at three requests the bound alone is too eager.
    """
    return [
        _anomaly("error_spike", w, _error_severity(w.error_rate), {
            "error_rate": w.error_rate, "baseline_error_rate": u.error_rate, "errors": w.errors, "requests": w.n,
        })
        for w, u in _pairs(windows, usual, _is_failing(windows, usual, s))
    ]  # fmt: skip


def timeout(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find endpoints with requests that hang, or that their callers gave up on. Hanging is an age, not an absence."""
    unanswered = np.maximum(_of(windows, "stuck"), _of(windows, "given_up"))
    found = _stuck(unanswered, s.min_window) & ~_of(usual, "learning")
    return [
        _anomaly("timeout", w, "high", {
            "age_ms": 1000 * w.oldest_s, "open_requests": w.stuck, "given_up_calls": w.given_up,
        })
        for w, u in _pairs(windows, usual, found)
    ]  # fmt: skip


def traffic_drop(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find endpoints that no request reaches although the Poisson tail says that some should have come.

    What is due is scaled by the traffic of the whole system, at most 1: in a quiet night nobody is missing. It is
    also divided by the endpoint's own index of dispersion, so that bursts are no promise, and must exceed the longest
    silence so far by half. The price: when all traffic stops at once, this detector is silent.
    """
    found = _silent(_of(windows, "missed"), _of(windows, "longest"), silence_limit(s.z)) & _of(usual, "known")
    return [
        _anomaly("traffic_drop", w, "medium", {"expected_requests": w.missed, "requests": 0})
        for w, u in _pairs(windows, usual, found)
    ]


def latency_drift(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> list[Anomaly]:
    """Find a sustained creep too small for the ratio: fast minus slow average, outside of its usual envelope."""
    rise_ms = _of(windows, "fast_ms") - _of(usual, "latency_ms")
    low, high = _of(usual, "low"), _of(usual, "high")
    found = _drifting(_of(windows, "gap"), _of(windows, "gap_z"), low, high, rise_ms, log(s.drift), s.z, s.min_ms)
    found &= _of(usual, "known") & ~_is_slow(windows, usual, s) & ~_is_failing(windows, usual, s)
    return [
        _anomaly("latency_drift", w, "medium", {
            "baseline_ms": u.latency_ms, "current_ms": w.fast_ms, "deviation": w.fast_ms / u.latency_ms,
        })
        for w, u in _pairs(windows, usual, found)
    ]  # fmt: skip


DETECTORS: tuple[Detector, ...] = (latency_anomaly, error_spike, timeout, traffic_drop, latency_drift)


def _is_slow(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> NDArray:
    rise_ms = _of(windows, "latency_ms") - _of(usual, "latency_ms")
    slow = _slow(_of(windows, "ratio"), _of(windows, "z"), rise_ms, s.ratio, s.z, s.min_ms)
    return slow & ~_of(usual, "learning")


def _is_failing(windows: pd.DataFrame, usual: pd.DataFrame, s: Sensitivity) -> NDArray:
    usually, chance = _of(usual, "error_rate"), chance_of(s.z)
    failing = _failing(_of(windows, "error_low"), _of(windows, "error_chance"), usually, s.error_margin, chance)
    return failing & ~_of(usual, "learning")


def _of(frame: pd.DataFrame, column: str) -> NDArray:
    return frame[column].to_numpy()


def _pairs(windows: pd.DataFrame, usual: pd.DataFrame, found: NDArray) -> Any:
    rows = np.flatnonzero(found)
    return zip(windows.iloc[rows].itertuples(), usual.iloc[rows].itertuples(), strict=True) if rows.size else ()


def _anomaly(kind: str, window: Any, severity: str, evidence: dict[str, Any]) -> Anomaly:
    return Anomaly(kind, window.service, window.endpoint, window.window, window.end, severity, evidence)


def _error_severity(rate: float) -> str:
    return "critical" if rate > 0.5 else "high" if rate > 0.2 else "medium"
