"""Which requests show an anomaly? Their traces, and for failures some of their messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.detector_calls import DetectorCalls
from aiops_lab.detect.detectors import AnyDetector, Detector
from aiops_lab.detect.detectors.detector import WindowRequests
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.results import Anomaly
from aiops_lab.spans import Key

_MOST_TRACES, _MOST_MESSAGES = 50, 3  # that an anomaly carries

_MOST_IN_A_TRACE = 3  # requests of one anomaly, unless a client sends many under one trace


class Evidence:
    """The requests of a recording, as what shows the anomalies that were found in it.

    Parameters
    ----------
    recording : Recording
    windows : DataFrame
        The judged windows, as `scoring.judge` returns them.
    calls : DetectorCalls
        How a detector is asked which requests show its anomalies.
    sensitivity : Sensitivity
        ``window_s`` and ``correlation_s`` are used.
    names_at : function (Unix ns) -> dict
        How the endpoints are shown that were known at a moment.
    """

    def __init__(
        self,
        recording: Recording,
        windows: pd.DataFrame,
        calls: DetectorCalls,
        sensitivity: Sensitivity,
        names_at: Callable[[int], dict[Key, str]],
    ) -> None:
        self._recording = recording
        self._requests = recording.requests
        self._frame = recording.spans.source.frame
        self._calls = calls
        self._sensitivity = sensitivity
        self._names_at = cache(names_at)
        self._ends = recording.requests.end[recording.by_end]
        self._between = cache(self._find_between)  # many anomalies have the same window
        self._seconds = _pooled_seconds(windows, sensitivity.window_s)

    def attach_all(self, by_detector: Sequence[tuple[AnyDetector, Anomaly]]) -> list[Anomaly]:
        """Return the anomalies with their names, their traces and, for failures, some messages."""
        if not by_detector:
            return []
        ends = pd.DatetimeIndex([anomaly.end for _, anomaly in by_detector])
        ends_ns = ends.as_unit("ns").asi8.tolist()
        rows = []
        for (detector, anomaly), until in zip(by_detector, ends_ns, strict=True):
            shown = self._shows(detector, anomaly, until)
            rows.append(np.sort(self._requests.row[shown]))  # of the frame, in order
        named = []
        traces = self._traces(rows)
        for (_, anomaly), until, seen in zip(by_detector, ends_ns, traces, strict=True):
            named.append(self._named(anomaly, until, seen))
        failing = [n for n, (detector, _) in enumerate(by_detector) if _tells_messages(detector)]
        messages = self._messages([rows[n] for n in failing])
        for n, errors in zip(failing, messages, strict=True):
            evidence = named[n].evidence | {"sample_errors": errors}
            named[n] = replace(named[n], evidence=evidence)
        return named

    def _traces(self, rows: list[NDArray]) -> list[list[str]]:
        """Return the trace of each of the first rows of each anomaly, all looked up at once."""
        first = [row[:_MOST_TRACES] for row in rows]
        looked_up = self._frame["trace_id"].iloc[np.concatenate(first)]
        return _split(looked_up, first)

    def _messages(self, rows: list[NDArray]) -> list[list[str]]:
        """Return the first different errors of each anomaly; "HTTP 503" where no text was
        recorded.
        """
        if not rows:
            return []
        every_row = np.concatenate(rows)
        requests = self._frame[["status", "error"]].iloc[every_row]
        status = "HTTP " + requests["status"].astype(str)
        texts = requests["error"].astype(object).fillna(status)
        different = [list(dict.fromkeys(some)) for some in _split(texts, rows)]
        return [some[:_MOST_MESSAGES] for some in different]

    def _named(self, anomaly: Anomaly, until: int, traces: list[str]) -> Anomaly:
        """Return an anomaly with its name and the traces that show it, one entry a request."""
        number = Counter(traces)
        crowded = [trace for trace, n in number.items() if n > _MOST_IN_A_TRACE]
        return replace(
            anomaly,
            name=self._names_at(until).get(anomaly.key, anomaly.endpoint),
            traces=anomaly.traces or tuple(number),
            crowded=tuple(sorted(crowded)),
        )

    def _shows(self, detector: AnyDetector, anomaly: Anomaly, until: int) -> NDArray:
        """Return the requests that show an anomaly; for a plain function, all of its window."""
        requests = self._requests
        node = self._recording.keys.get(anomaly.key, -1)
        if not isinstance(detector, Detector):
            return self._ended(anomaly, node, until)
        if detector.looks_at_open:
            is_open = requests.end >= until
            mine = np.flatnonzero((requests.node == node) & is_open)
        else:
            mine = self._ended(anomaly, node, until)
        seen = WindowRequests(
            failed=requests.failed[mine],
            log_ms=self._recording.log_ms[mine],
            age_s=(until - requests.start[mine]) / 1e9,
        )
        chosen = self._calls.shows(detector, seen, anomaly.evidence, self._sensitivity)
        return mine[chosen]

    def _ended(self, anomaly: Anomaly, node: int, until: int) -> NDArray:
        """Return the requests of an endpoint that ended in the window of an anomaly."""
        s = self._sensitivity
        place = anomaly.window, anomaly.service, anomaly.endpoint
        seconds = min(self._seconds.get(place, s.window_s), s.correlation_s)
        since = until - int(seconds * 1e9)
        ended = self._recording.by_end[self._between(since, until)]
        return ended[self._requests.node[ended] == node]

    def _find_between(self, since: int, until: int) -> slice:
        """Return where the requests lie, in the order of their ends, that ended between."""
        low, high = np.searchsorted(self._ends, [since, until])
        return slice(low, high)


def _pooled_seconds(windows: pd.DataFrame, window_s: float) -> dict[tuple[Any, ...], float]:
    """Return the length of each pooled window by (window, service, endpoint): all others are as
    long as the knob says.
    """
    at = np.flatnonzero(windows["seconds"] != window_s)
    names = ("window", "service", "endpoint", "seconds")
    pooled = (windows[name].array.take(at) for name in names)
    *place, seconds = (values.to_numpy().tolist() for values in pooled)
    return dict(zip(zip(*place, strict=True), seconds, strict=True))


def _tells_messages(detector: AnyDetector) -> bool:
    return isinstance(detector, Detector) and detector.with_messages


def _split(values: pd.Series, rows: list[NDArray]) -> list[list[str]]:
    """Return the values that were looked up for several arrays of rows, a list for each."""
    each = iter(values.tolist())
    return [list(islice(each, row.size)) for row in rows]
