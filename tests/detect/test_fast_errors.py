"""Errors that are answered at once do not make the latency afterwards look like a rise."""

import numpy as np
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


@pytest.mark.parametrize("share", [0.15, 0.25])
def test_when_a_bad_client_stops_there_is_no_drift(share):
    assert lab.replay(rejecting(400, share=share), causes=False).anomalies == []


def test_fast_failures_are_an_error_spike_and_no_drift_follows():
    found = lab.replay(rejecting(503), causes=False).anomalies
    assert {a.type for a in found} == {"error_spike"}
