"""Errors that are answered at once do not make the latency afterwards look like a rise."""

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from tests.support.made import Shop


def rejecting(status, since=600.0, until=1200.0, share=0.25):
    """A client sends requests that /payment refuses within a millisecond."""
    frame = Shop(1).run(1500, mix=("/payment",))
    second = (frame["start"] - frame["start"].iloc[0]).dt.total_seconds()
    refused = (frame["endpoint"] == "/payment") & (frame["kind"] == "server")
    refused &= frame["parent_id"].isna() & second.between(since, until)
    refused &= np.random.default_rng(1).random(len(frame)) < share
    return frame.assign(
        status=frame["status"].where(~refused, status),
        duration_ms=frame["duration_ms"].where(~refused, 1.0),
    )


@pytest.mark.parametrize("share", [0.15, 0.25, 0.6, 0.9])
def test_when_a_bad_client_stops_nothing_has_become_slower(share):
    assert lab.replay(rejecting(400, share=share), causes=False).anomalies == []


def test_fast_failures_are_an_error_spike_and_no_lasting_shift_follows():
    found = lab.replay(rejecting(503), causes=False).anomalies
    assert {a.type for a in found} == {"error_spike"}


@pytest.mark.parametrize("status", [200, 500, 504])
def test_what_becomes_slow_beside_fast_errors_is_still_slow(status):
    """Answers, or failures that take long, while a client goes on to be refused."""
    frame = rejecting(400, until=1500.0)
    second = (frame["start"] - frame["start"].iloc[0]).dt.total_seconds()
    usual = (second > 1200.0) & (frame["duration_ms"] > 1.0)
    frame["duration_ms"] = frame["duration_ms"].where(~usual, frame["duration_ms"] * 20)
    frame["status"] = frame["status"].where(~usual, status)
    found = lab.replay(frame, causes=False).anomalies
    assert found[0].window >= frame["start"].iloc[0] + pd.Timedelta("1190s")
    assert "latency_anomaly" in {a.type for a in found}


def test_errors_that_are_slow_are_slow_though_answers_are_as_usual():
    frame = rejecting(504, share=0.9)
    frame["duration_ms"] = frame["duration_ms"].where(frame["status"] != 504, 900.0)
    found = lab.replay(frame, causes=False).anomalies
    assert {a.type for a in found} == {"error_spike", "latency_anomaly"}
