"""Scenarios of the lesson on twins, and what is read off their effects."""

from __future__ import annotations

from typing import Any

import pandas as pd

from aiops_lab.record.faults import Fault
from aiops_lab.replaying import replay
from shop.catalogue import SCENARIOS
from shop.virtual_time.scenario import BEGIN_NS, Place, Scenario
from shop.virtual_time.twins import affected, twin

FAULT_S = (20, 60)
"""When the faults are at work, in seconds of a run."""

LET_GO_S = 58
"""Requests that began later may be held by a fault that is taken away meanwhile."""


def slow(place: Place, ms: float, **others: Any) -> Scenario:
    """Return a run of 70 s in which a place takes `ms` longer from second 20 to 60.

    `others`: further values of the scenario.
    """
    start_s, end_s = FAULT_S
    _, endpoint = place
    return Scenario(
        f"slow {endpoint}",
        (place,),
        (Fault("delay", *place, start_s, end_s, ms),),
        seconds=70,
        **others,
    )


def broken(place: Place, kind: str, **others: Any) -> Scenario:
    """Return a run of 60 s with a fault at a place from second 20 on: ``"delay"`` (300 ms),
    ``"error"`` or ``"hang"`` (half of the requests).
    """
    start_s, end_s = FAULT_S
    _, endpoint = place
    fault = Fault(
        kind,
        *place,
        start_s,
        end_s,
        duration_ms=300 if kind == "delay" else 0.0,
        rate=0.5,
    )
    return Scenario(f"{kind} at {endpoint}", (place,), (fault,), seconds=60, **others)


def seconds_of(frame: pd.DataFrame) -> pd.Series:
    """Return the starts of spans or requests in seconds of the virtual clock."""
    since_begin_ns = frame["start"].astype("int64") - BEGIN_NS
    return since_begin_ns / 1e9


def in_fault(effect: pd.DataFrame, entry: str) -> pd.DataFrame:
    """Return the requests at an entry that the fault held as long as it could."""
    since_s, _ = FAULT_S
    is_during = seconds_of(effect).between(since_s, LET_GO_S)
    is_asked = effect["entry"] == entry
    return effect[is_during & is_asked]


def touched_and_named(name: str) -> tuple[set[str], list[set[str]]]:
    """Return whom a scenario of the catalogue touched, and whom each of its incidents names."""
    scenario = SCENARIOS[name]
    pair = twin(scenario, seed=1)
    places = affected(pair, *scenario.interval())
    touched = {endpoint for _, endpoint in places}
    incidents = replay(pair.with_fault).incidents
    named = [set(incident.affected_endpoints) for incident in incidents]
    return touched, named
