"""Retries that keep a failure up, and an endpoint that has nothing to do with it."""

from __future__ import annotations

from dataclasses import replace

from aiops_lab.record.faults import Fault
from benchmarks import kept_up
from shop.topology import Call, Endpoint, Topology
from shop.virtual_time.scenario import Place, Scenario
from shop.virtual_time.simulate import Run

ROWS: Place = ("store", "/rows")


def test_what_is_kept_up_by_retries_ends_without_them() -> None:
    web = Endpoint("web", "/web", calls=(Call(*ROWS, timeout_s=0.2, retries=4),))
    topology = Topology((web, Endpoint(*ROWS, median_ms=20)), "web")
    slow = Fault("delay", *ROWS, start_s=5.0, end_s=6.0, duration_ms=500.0)
    how = {"mix": {"/web": 1.0}, "rate": 18.0, "workers": {"store": 1}}
    times = {"window": (7.0, 47.0), "seconds": 47.0}
    scenario = Scenario("store", (ROWS,), (slow,), topology=topology, **how, **times)
    assert kept_up._suffering(Run, scenario, 1) > 0.9
    assert kept_up._suffering(kept_up.WithoutRetries, scenario, 1) < 0.1
    other = replace(scenario, causes=(web.place,))
    assert kept_up._suffering(kept_up.WithoutRetries, other, 1) > 0.9
