"""How well is an endpoint? Its recent requests beside what is usual, and its open incidents.

The score is of five minutes: it falls slowly after a break, and rises slowly after it was mended.
The status is of now, by one rule, which `status_now` states; it never contradicts the incidents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.forecast import COVERAGE, MIN_POINTS, forecast_crossing
from aiops_lab.results import iso
from aiops_lab.traces.encode import EncodedSpans, is_failed


def served_by_endpoint(frame: pd.DataFrame, spans: EncodedSpans) -> Any:
    """Return the served requests of a spans frame, grouped by service and endpoint.

    `spans` is the frame encoded: an endpoint has its method there, where that distinguishes it.
    """
    nodes = spans.node[spans.server]
    rows = spans.row[spans.server]
    endpoints = [spans.keys[node][1] for node in nodes]
    served = frame.iloc[rows].assign(endpoint=endpoints)
    return served.groupby(["service", "endpoint"], observed=True)


HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
RECOVERING, LEARNING = "recovering", "learning"

LATELY_S = 60.0
"""Seconds without an anomaly, and with a healthy score, after which what was broken counts as
recovering. Raising it shows a mend later; with much less a fault that flickers seems mended."""

FORECAST_SPAN_S = 300.0
"""Seconds of traffic that a forecast looks back on. Raising it sees slower leaks."""

FORECAST_EVERY_S = 10.0
"""Seconds of each mean latency of a forecast."""


def health_of(
    requests: pd.DataFrame,
    usual_ms: float | None,
    now: pd.Timestamp,
    last_anomaly: pd.Timestamp | None,
) -> dict[str, Any]:
    """Return count, latency, errors and health of some requests to one endpoint.

    Parameters
    ----------
    requests : DataFrame
        Spans of the endpoint alone.
    usual_ms : float, optional
        Its baseline; None while that is learned.
    now : Timestamp
        Tells which of the requests are of the last minute.
    last_anomaly : Timestamp, optional
        When an open incident was seen at the endpoint last; None where no incident is open there.
    """
    closed = _closed(requests)
    average, error_rate = _figures(closed)
    found = health(average, usual_ms, error_rate)
    lately = health_lately(closed, usual_ms, now)
    quiet_s = None
    if last_anomaly is not None:
        quiet_s = (now - last_anomaly).total_seconds()
    found["status"] = status_now(found["status"], lately, quiet_s)
    statuses = closed["status"].value_counts().sort_index()
    return {
        "request_count": len(closed),
        "open_requests": len(requests) - len(closed),
        "avg_latency_ms": average,
        "error_rate": error_rate,
        "baseline_latency_ms": usual_ms,
        "status_distribution": {str(k): int(v) for k, v in statuses.items()},
        "health": found,
    }


def _closed(requests: pd.DataFrame) -> pd.DataFrame:
    """Return the requests that have ended."""
    has_ended = requests["duration_ms"].notna()
    return requests[has_ended]


def _ends_of(closed: pd.DataFrame) -> pd.Series:
    """Return when some requests ended."""
    duration = pd.to_timedelta(closed["duration_ms"], "ms")
    return closed["start"] + duration


def _figures(closed: pd.DataFrame) -> tuple[float | None, float]:
    """Return mean ms and share of failures of some answers."""
    if not len(closed):
        return None, 0.0
    mean_ms = closed["duration_ms"].mean()
    failed = is_failed(closed).mean()
    return float(mean_ms), float(failed)


def health_lately(closed: pd.DataFrame, usual_ms: float | None, now: pd.Timestamp) -> str | None:
    """Return the band of the answers of the last minute, None where there are none."""
    minute_ago = now - pd.Timedelta(LATELY_S, "s")
    recent = closed[_ends_of(closed) > minute_ago]
    if not len(recent):
        return None
    average, error_rate = _figures(recent)
    return health(average, usual_ms, error_rate)["status"]


def status_now(band: str, lately: str | None, quiet_s: float | None) -> str:
    """Return how an endpoint is now: the rule of the pills on the page and of the JSON.

    =====================================  ===================================================
    an open incident, its last anomaly     at least degraded; unhealthy where `band` is
    there younger than a minute
    the last minute healthy, no anomaly    recovering where an incident is open or `band` is
    in it                                  not healthy yet, else healthy
    any other                              `band`; where an incident is open, at least degraded
    =====================================  ===================================================

    Parameters
    ----------
    band : str
        That of the score of five minutes.
    lately : str, optional
        That of the last minute; None without an answer in it.
    quiet_s : float, optional
        Seconds since the last anomaly of an incident that is open there; None without one.
    """
    is_open = quiet_s is not None
    if band == LEARNING and not is_open:
        return band
    if lately == HEALTHY and (quiet_s is None or quiet_s >= LATELY_S):
        return RECOVERING if is_open or band != HEALTHY else HEALTHY
    return DEGRADED if is_open and band != UNHEALTHY else band


def health(average_ms: float | None, usual_ms: float | None, error_rate: float) -> dict[str, Any]:
    """Return the health of an endpoint: a score from 0 to 100 and its band.

    score = 100 (1 - error_rate) - 25 log2(average / usual), the second part only where the average
    is above the usual: each doubling costs 25 points. From 90 on it is healthy, from 60 on
    degraded, below unhealthy; without a baseline the band is "learning".
    """
    doublings = 0.0
    if average_ms and usual_ms:
        ratio = average_ms / usual_ms
        doublings = max(0.0, float(np.log2(ratio)))
    loss = 100.0 * error_rate + 25.0 * doublings
    inside = min(100.0, max(0.0, 100.0 - loss))
    score = round(inside, 1)
    band = LEARNING if usual_ms is None else _band(score)
    return {"health_score": score, "status": band}


def _band(score: float) -> str:
    if score >= 90:
        return HEALTHY
    return DEGRADED if score >= 60 else UNHEALTHY


def timeline_of(requests: pd.DataFrame, every_s: float) -> pd.DataFrame:
    """Return the answers of each interval of `every_s` seconds by their end: requests, mean_ms and
    failed (a share), indexed by the interval's start (UTC).
    """
    closed = _closed(requests)
    columns = {
        "ms": closed["duration_ms"],
        "failed": is_failed(closed),
    }
    start = _ends_of(closed).dt.floor(f"{every_s}s")
    intervals = pd.DataFrame(columns).groupby(start.rename("time"))
    return intervals.agg(requests=("ms", "size"), mean_ms=("ms", "mean"), failed=("failed", "mean"))


def latency_forecast(
    requests: pd.DataFrame, usual_ms: float | None, ratio: float
) -> dict[str, Any] | None:
    """Return when the mean latency of an endpoint crosses its threshold, if it rises steadily.

    That is ``threshold_ms`` (`ratio` times the usual), ``crosses_at``, ``earliest`` and ``latest``
    (times in UTC; None: perhaps not at all), ``coverage`` of that interval, and ``per_minute_ms``,
    how much it rises. None where no such rise is seen, as by `forecast_crossing`.

    Parameters
    ----------
    requests : DataFrame
        Spans of the endpoint alone, of the last `FORECAST_SPAN_S` seconds.
    usual_ms : float, optional
        Its baseline; None while that is learned.
    ratio : float
        Of the threshold to the baseline.
    """
    if usual_ms is None:
        return None
    closed = _closed(requests)
    if len(closed) < MIN_POINTS:
        return None
    at_s, means_ms, n = _means_by_interval(closed)
    threshold_ms = ratio * usual_ms
    found = forecast_crossing(at_s, means_ms, threshold_ms, weights=n)
    if found is None:
        return None
    is_bounded = np.isfinite(found.latest_s)
    return {
        "threshold_ms": threshold_ms,
        "crosses_at": _iso_of(found.crosses_s),
        "earliest": _iso_of(found.earliest_s),
        "latest": _iso_of(found.latest_s) if is_bounded else None,
        "coverage": COVERAGE,
        "per_minute_ms": 60 * found.per_s,
    }


def _means_by_interval(closed: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray]:
    """Return of each interval of `FORECAST_EVERY_S` the mean end (Unix s) and the mean latency (ms)
    of its answers, and how many these are; where there are none, its middle and 0.
    """
    ms = closed["duration_ms"].to_numpy(float)
    started = closed["start"].to_numpy("datetime64[ns]")
    ended_s = started.astype(np.int64) / 1e9 + ms / 1e3
    first = np.floor(ended_s.min() / FORECAST_EVERY_S)
    begin_s = FORECAST_EVERY_S * first
    since_s = ended_s - begin_s
    interval = (since_s // FORECAST_EVERY_S).astype(np.int64)
    n = np.bincount(interval)
    some = np.maximum(n, 1)
    means_s = np.bincount(interval, since_s) / some
    means_ms = np.bincount(interval, ms) / some
    middles_s = FORECAST_EVERY_S * (np.arange(n.size) + 0.5)
    at_s = begin_s + np.where(n > 0, means_s, middles_s)
    return at_s, means_ms, n


def _iso_of(seconds: float) -> str | None:
    moment = pd.Timestamp(round(seconds), unit="s", tz="UTC")
    return iso(moment)
