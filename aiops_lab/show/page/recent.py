"""What do the endpoints do at present? Figures of the last five minutes, read at most once in two
seconds however many pages are open.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aiops_lab.health import DEGRADED, HEALTHY, LEARNING, RECOVERING, UNHEALTHY
from aiops_lab.show.page.pictures import Chart, chart
from aiops_lab.show.trouble import trouble_text

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

EVERY_S = 10.0
"""Seconds of an interval of a chart, as long as a window by default. Raising it shows less."""

KEEP_S = 2.0
"""Seconds for which figures are shown again before they are read anew. Raising it costs less, and
shows older figures."""

BANDS = UNHEALTHY, DEGRADED, RECOVERING, LEARNING, HEALTHY  # the worst first


class EndpointFigures(NamedTuple):
    """An endpoint: its name, its row of `Monitor.metrics`, its chart, and its answers a minute."""

    name: str
    metrics: dict[str, Any]
    chart: Chart
    per_minute: float

    @property
    def forecast(self) -> dict[str, Any] | None:
        """When its latency crosses the threshold, None where it does not rise steadily."""
        return self.metrics["forecast"]

    @property
    def band(self) -> str:
        """Its health in a word."""
        return self.metrics["health"]["status"]


class Recent(NamedTuple):
    """What was read at a time: endpoints, the worst first, and the rows of `Monitor.graph`.
    ``problem`` says why it is older than it should be, "" where it is not.
    """

    time: pd.Timestamp
    endpoints: list[EndpointFigures]
    edges: list[dict[Hashable, Any]]
    problem: str = ""

    def endpoint(self, name: str) -> EndpointFigures:
        """Return an endpoint by its name; KeyError if it answered nothing of late."""
        return {each.name: each for each in self.endpoints}[name]


class RecentFigures:
    """Reads `Recent` for all threads that ask."""

    def __init__(self, monitor: Monitor, clock: Callable[[], pd.Timestamp]) -> None:
        self._monitor = monitor
        self._clock = clock
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._last: Recent | None = None

    def read(self) -> Recent:
        """Return the figures of now, or of at most two seconds ago.

        Where the store cannot be read they are the last ones that could be, with the problem.
        """
        with self._lock:
            if time.monotonic() - self._read_at < KEEP_S and self._last is not None:
                return self._last
            try:
                self._last = self._read()
            except OSError as error:
                self._last = self._stale(error)
            self._read_at = time.monotonic()
            return self._last

    def _read(self) -> Recent:
        now = self._clock()
        metrics = self._monitor.metrics(now)
        timelines = self._monitor.timeline(now, EVERY_S)
        minutes = _observed_minutes(timelines.values(), now)
        endpoints = []
        for name in metrics.keys() & timelines.keys():
            row = metrics[name]
            drawn = chart(timelines[name], row["baseline_latency_ms"], now, EVERY_S)
            endpoints.append(EndpointFigures(name, row, drawn, row["request_count"] / minutes))
        endpoints.sort(key=lambda each: (BANDS.index(each.band), each.name))
        edges = self._monitor.graph(now).to_dict("records")
        problem = self._monitor.unwritten
        return Recent(now, endpoints, edges, problem and trouble_text(problem))

    def _stale(self, error: OSError) -> Recent:
        last = self._last or Recent(self._clock(), [], [])
        return last._replace(problem=trouble_text(error))


def _observed_minutes(timelines: Iterable[pd.DataFrame], now: pd.Timestamp) -> float:
    """Return since when anything has been answered, in minutes, an interval at least."""
    begins = [rows.index[0] for rows in timelines if len(rows)]
    seconds = (now - min(begins, default=now)).total_seconds()
    return max(seconds, EVERY_S) / 60.0
