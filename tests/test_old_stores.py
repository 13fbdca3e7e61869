"""A store that earlier code made is brought up, and its incident and baselines go on.

In tests/old_stores are files as the code of each version of the tables wrote them, with a monitor
in the middle of an incident: /payment, which /checkout calls, takes 20 times as long.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.record.upkeep import store_info

STORES = sorted(Path(__file__).with_name("old_stores").glob("*.gz"))
BEGAN = pd.Timestamp("2026-11-29T10:00:00Z")


@pytest.mark.parametrize("packed", STORES, ids=lambda path: path.name.partition(".")[0])
def test_an_incident_of_an_old_store_goes_on(packed, tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    version = store_info(path).version
    with lab.SpanStore(path) as store:
        assert len(store.spans()) == 320
        monitor = lab.Monitor(store)
        (before,) = monitor.incidents()
        assert monitor.metrics(BEGAN + pd.Timedelta(170, unit="s"))["/payment"][
            "baseline_latency_ms"
        ]
        monitor.step(BEGAN + pd.Timedelta(200, unit="s"))
        (incident,) = monitor.incidents()
    assert incident.id == before.id
    assert incident.root_cause.endpoint == "/payment"
    assert {*incident.affected_endpoints} == {"/payment", "/checkout"}
    assert f"version_{version}" in packed.name
    assert store_info(path).version == 3
