"""What do the endpoints do at present? Their requests of the last five minutes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from aiops_lab.endpoints import display_names
from aiops_lab.health import health_of, latency_forecast, served_by_endpoint, timeline_of
from aiops_lab.pipeline import Pipeline
from aiops_lab.spans import Key
from aiops_lab.traces.graph import service_graph
from aiops_lab.watched_spans import WatchedSpans

_RECENT_S = 300.0  # what /aiops/metrics looks back on


class RecentTraffic:
    """The requests of the last five minutes, with what a pipeline knows of their endpoints.

    Parameters
    ----------
    spans : WatchedSpans
    pipeline : Pipeline
    """

    def __init__(self, spans: WatchedSpans, pipeline: Pipeline) -> None:
        self._spans = spans
        self._pipeline = pipeline

    def served(self, now: pd.Timestamp) -> Any:
        """Return the served requests, grouped by (service, endpoint)."""
        recent = self._spans.last(_RECENT_S, now)
        return served_by_endpoint(recent, self._pipeline.encode(recent))

    def metrics(
        self, served: Any, last_anomalies: dict[Key, pd.Timestamp], now: pd.Timestamp
    ) -> dict[Key, dict[str, Any]]:
        """Return the health of each endpoint as `health_of` does, with the ``forecast``.

        `served` are the requests as of `now` (UTC).
        """
        usual_ms = partial(self._pipeline.usual_ms, hour=now.hour)
        ratio = self._pipeline.sensitivity.ratio
        found = {}
        for key, rows in served:
            usual = usual_ms(key)
            metrics = health_of(rows, usual, now, last_anomalies.get(key))
            metrics["forecast"] = latency_forecast(rows, usual, ratio)
            found[key] = metrics
        return found

    def timeline(self, now: pd.Timestamp, every_s: float) -> dict[str, pd.DataFrame]:
        """Return what each endpoint answered, by name: see `timeline_of`."""
        served = self.served(now)
        names = display_names(served.groups)
        return {names[key]: timeline_of(rows, every_s) for key, rows in served}

    def graph(self, now: pd.Timestamp) -> pd.DataFrame:
        """Return the service graph."""
        return service_graph(self._spans.last(_RECENT_S, now))
