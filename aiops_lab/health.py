"""How well is an endpoint? Its recent requests beside what is usual, as a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.traces.encode import EncodedSpans, is_failed


def served_by_endpoint(frame: pd.DataFrame, spans: EncodedSpans) -> Any:
    """Return the served requests of a spans frame, grouped by service and endpoint.

    `spans` is the frame encoded: an endpoint has its method there, where that distinguishes it.
    """
    endpoints = [spans.keys[node][1] for node in spans.node[spans.server]]
    served = frame.iloc[spans.row[spans.server]].assign(endpoint=endpoints)
    return served.groupby(["service", "endpoint"], observed=True)


def health_of(requests: pd.DataFrame, usual_ms: float | None) -> dict[str, Any]:
    """Return count, latency, errors and health of some requests to one endpoint."""
    closed = requests[requests["duration_ms"].notna()]
    average = None
    error_rate = 0.0
    if len(closed):
        average = float(closed["duration_ms"].mean())
        error_rate = float(is_failed(closed).mean())
    statuses = closed["status"].value_counts().sort_index()
    return {
        "request_count": len(closed),
        "open_requests": len(requests) - len(closed),
        "avg_latency_ms": average,
        "error_rate": error_rate,
        "baseline_latency_ms": usual_ms,
        "status_distribution": {str(k): int(v) for k, v in statuses.items()},
        "health": health(average, usual_ms, error_rate),
    }


def health(average_ms: float | None, usual_ms: float | None, error_rate: float) -> dict[str, Any]:
    """Return the health of an endpoint: a score from 0 to 100 and its band.

    score = 100 (1 - error_rate) - 25 log2(average / usual), the second part only where the average
    is above the usual: each doubling costs 25 points. From 90 on it is healthy, from 60 on
    degraded, below unhealthy; without a baseline the band is "learning".
    """
    slower = 0.0
    if average_ms and usual_ms:
        slower = max(0.0, float(np.log2(average_ms / usual_ms)))
    loss = 100.0 * error_rate + 25.0 * slower
    score = round(min(100.0, max(0.0, 100.0 - loss)), 1)
    band = "healthy" if score >= 90 else "degraded" if score >= 60 else "unhealthy"
    return {"health_score": score, "status": "learning" if usual_ms is None else band}


def timeline_of(requests: pd.DataFrame, every_s: float) -> pd.DataFrame:
    """Return the answers of each interval of `every_s` seconds by their end: requests, mean_ms and
    failed (a share), indexed by the interval's start (UTC).
    """
    closed = requests[requests["duration_ms"].notna()]
    ended = closed["start"] + pd.to_timedelta(closed["duration_ms"], "ms")
    answers = pd.DataFrame({"ms": closed["duration_ms"], "failed": is_failed(closed)})
    intervals = answers.groupby(ended.dt.floor(f"{every_s}s").rename("time"))
    return intervals.agg(requests=("ms", "size"), mean_ms=("ms", "mean"), failed=("failed", "mean"))
