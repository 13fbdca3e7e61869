"""The requests of a window that show an anomaly: traces, messages and a name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.detector_calls import DetectorCalls
from aiops_lab.detect.detectors import Detector
from aiops_lab.detect.evidence import Evidence
from aiops_lab.detect.recording import Recording
from tests.support.played import at
from tests.support.traces import span

S = lab.Sensitivity()
NO_WINDOWS = pd.DataFrame(columns=["window", "service", "endpoint", "seconds"])
SECOND_WINDOW = lab.Anomaly("busy", "shop", "/pay", at(10), at(20))


def of_each_trace(n: int, in_a_trace: int = 1, **about) -> list[lab.Span]:
    """Return requests to /pay that end in the second window, in traces of their own."""
    return [
        span(k + 1, None, "/pay", "server", 11_000 + k, 50, trace=k // in_a_trace + 1, **about)
        for k in range(n)
    ]


def server(n: int, begin_ms: float, duration_ms: float | None = 50) -> lab.Span:
    return span(n, None, "/pay", "server", begin_ms, duration_ms, trace=n)


def attached(spans, detector=len, anomaly=SECOND_WINDOW, windows=NO_WINDOWS):
    recording = Recording(lab.to_frame(spans), {})
    evidence = Evidence(
        recording, windows, DetectorCalls([detector]), S, lambda moment: {("shop", "/pay"): "Pay"}
    )
    return evidence.attach_all([(detector, anomaly)])[0]


def made(**parts) -> Detector:
    about = {"title": "Busy", "column": "busy", "evidence": vars, "describe": str}
    return Detector(name="busy", decide=lambda *_: np.ones(1, bool), **about, **parts)


def test_an_anomaly_carries_fifty_traces_and_the_name_that_is_shown():
    anomaly = attached(of_each_trace(60))
    assert anomaly.traces == tuple(f"{k + 1:032x}" for k in range(50))
    assert anomaly.name == "Pay"


def test_traces_that_a_detector_named_stay():
    named = replace(SECOND_WINDOW, traces=("a",))
    assert attached(of_each_trace(3), anomaly=named).traces == ("a",)


def test_more_than_three_requests_crowd_a_trace():
    assert attached(of_each_trace(3, in_a_trace=3)).crowded == ()
    assert attached(of_each_trace(4, in_a_trace=4)).crowded == (f"{1:032x}",)


def test_only_what_ended_in_the_window_shows_an_anomaly():
    spans = [server(7, 9_940, 59.9), server(8, 9_940, 60), server(9, 19_950)]
    assert attached(spans).traces == (f"{8:032x}",)


@pytest.mark.parametrize(("seconds", "shown"), [(10.0, [1]), (20.0, [1, 2]), (1e4, [1, 2, 3])])
def test_a_pooled_window_reaches_back_but_not_beyond_the_correlation_time(seconds, shown):
    begun_ms = {1: 11_000, 2: 1_000, 3: -279_900, 4: -280_100}
    spans = [server(n, begin) for n, begin in begun_ms.items()]
    row = {"window": at(10), "service": "shop", "endpoint": "/pay", "seconds": seconds}
    traces = attached(spans, windows=pd.DataFrame([row])).traces
    assert sorted(traces) == [f"{n:032x}" for n in shown]


def test_of_failures_the_first_three_different_messages_are_told():
    texts = ["a", "a", None, "b", "c"]
    spans = [
        each._replace(error=text, status=503)
        for each, text in zip(of_each_trace(5), texts, strict=True)
    ]
    told = attached(spans, made(with_messages=True)).evidence
    assert told == {"sample_errors": ["a", "HTTP 503", "b"]}
    assert attached(spans, made()).evidence == {}


def test_a_detector_says_which_requests_show_its_anomaly_by_their_age_too():
    ages = []

    def old(requests, evidence, s):
        ages.extend(requests.age_s.tolist())
        return requests.age_s > 5

    open_ = [server(1, 10_000, None), server(2, 18_000, None)]
    anomaly = attached([*open_, *of_each_trace(1)], made(shows=old, looks_at_open=True))
    assert anomaly.traces == (f"{1:032x}",)
    assert ages == [10.0, 2.0]
