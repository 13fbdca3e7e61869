"""Which requests show an anomaly? Their traces, and for failures some of their messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

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
        self._frame = recording.spans.source.frame
        self._calls = calls
        self._sensitivity = sensitivity
        self._names_at = cache(names_at)
        self._ends = recording.requests.end[recording.by_end]
        # Of pooled windows only: all others are as long as the knob says.
        pooled = windows[windows["seconds"] != sensitivity.window_s]
        by_place = pooled.set_index(["window", "service", "endpoint"])
        self._seconds = by_place["seconds"].to_dict()

    def attach_all(self, by_detector: Sequence[tuple[AnyDetector, Anomaly]]) -> list[Anomaly]:
        """Return the anomalies with their names, their traces and, for failures, some messages."""
        ends = pd.DatetimeIndex([anomaly.end for _, anomaly in by_detector])
        ends_ns = ends.as_unit("ns").asi8.tolist()
        pairs = zip(by_detector, ends_ns, strict=True)
        return [self._attach(detector, anomaly, until) for (detector, anomaly), until in pairs]

    def _attach(self, detector: AnyDetector, anomaly: Anomaly, until: int) -> Anomaly:
        row = np.sort(self._recording.requests.row[self._shows(detector, anomaly, until)])
        number = Counter(self._frame["trace_id"].iloc[row[:_MOST_TRACES]].tolist())
        crowded = sorted(trace for trace, n in number.items() if n > _MOST_IN_A_TRACE)
        evidence = anomaly.evidence
        if isinstance(detector, Detector) and detector.with_messages:
            requests = self._frame[["status", "error"]].iloc[row]
            evidence = evidence | {"sample_errors": _messages(requests)}
        names = self._names_at(until)
        return replace(
            anomaly,
            evidence=evidence,
            name=names.get(anomaly.key, anomaly.endpoint),
            traces=anomaly.traces or tuple(number),
            crowded=tuple(crowded),
        )

    def _shows(self, detector: AnyDetector, anomaly: Anomaly, until: int) -> NDArray:
        """Return the requests that show an anomaly; for a plain function, all of its window."""
        requests = self._recording.requests
        node = self._recording.keys.get(anomaly.key, -1)
        if not isinstance(detector, Detector):
            return self._ended(anomaly, node, until)
        if detector.looks_at_open:
            mine = np.flatnonzero((requests.node == node) & (requests.end >= until))
        else:
            mine = self._ended(anomaly, node, until)
        age_s = (until - requests.start[mine]) / 1e9
        seen = WindowRequests(requests.failed[mine], self._recording.log_ms[mine], age_s)
        return mine[self._calls.shows(detector, seen, anomaly.evidence, self._sensitivity)]

    def _ended(self, anomaly: Anomaly, node: int, until: int) -> NDArray:
        """Return the requests of an endpoint that ended in the window of an anomaly."""
        s = self._sensitivity
        place = anomaly.window, anomaly.service, anomaly.endpoint
        seconds = min(self._seconds.get(place, s.window_s), s.correlation_s)
        since = until - int(seconds * 1e9)
        low, high = np.searchsorted(self._ends, [since, until])
        mine = self._recording.by_end[low:high]
        return mine[self._recording.requests.node[mine] == node]


def _messages(requests: pd.DataFrame) -> list[str]:
    """Return the first different errors of some requests; "HTTP 503" where no text was recorded."""
    status = "HTTP " + requests["status"].astype(str)
    messages = requests["error"].astype(object).fillna(status)
    return list(messages.unique()[:_MOST_MESSAGES])
