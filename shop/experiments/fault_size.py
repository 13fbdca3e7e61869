"""Results of the rules by the size of a fault, from invisible to obvious.

The same delay is also run as a deployment, which is no fault: by size alone the two cannot be
distinguished.

A fault that is always at one endpoint would favour a rule that always names this endpoint. So the
endpoint changes with the seed: as many seeds as the market has endpoints use each of them once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.rules import RankingRule
from aiops_lab.record.faults import Fault
from shop.experiments.trials import RuleResult, ask
from shop.scenario_parts import END, START
from shop.shops import MARKET, MARKET_MIX
from shop.virtual_time.scenario import Place, Scenario, VirtualFault
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import windows_of

SIZED_KINDS = ("delay", "errors", "change")

"""The faults that come in sizes; a change is a deployment, which is no fault."""

DELAYS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

"""Extra duration, as a share of the usual duration of the customers' requests that call the
endpoint.
"""

RATES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0)

"""Share of the requests that fail."""

CALM = Scenario("calm", topology=MARKET, mix=MARKET_MIX, window=(START, END), seconds=END + 5)


@dataclass(frozen=True)
class Stage:
    """What all sizes of a fault have in common: its place, and the run without it.

    Attributes
    ----------
    seed : int
        Of the run.
    place : tuple of (service, endpoint)
        Of the fault.
    usual_ms : float
        Mean duration of the customers' requests that call this endpoint.
    reference : Reference
        Of the time before the fault.
    outcomes : DataFrame
        `request_outcomes` without the fault.
    """

    seed: int
    place: Place
    usual_ms: float
    reference: Reference
    outcomes: pd.DataFrame

    def scenario(self, kind: str, size: float) -> Scenario:
        """Return the market with a fault, or a change, of this size at the place."""
        more_ms = size * self.usual_ms
        named = replace(CALM, name=f"{kind} {size:g}")
        if kind == "change":
            own_ms = MARKET.at(*self.place).median_ms
            factor = 1 + more_ms / own_ms
            change = VirtualFault("slow", *self.place, start_s=START, factor=factor)
            return replace(named, changes=(change,))
        if kind == "errors":
            fault = Fault("error", *self.place, START, END, rate=size)
        else:
            fault = Fault("delay", *self.place, START, END, more_ms)
        return replace(named, causes=(self.place,), faults=(fault,))


def stage(seed: int) -> Stage:
    """Return the place of the fault and the run without it, for this seed."""
    endpoints = MARKET.endpoints
    place = endpoints[seed % len(endpoints)].place
    calm = virtual(CALM, seed, progress=False)
    before, _ = windows_of(CALM, calm)
    return Stage(seed, place, usual_ms(before, place), learn(before), request_outcomes(calm))


def request_outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return trace id, duration and status of the customers' requests, in order.

    Two runs with the same seed have equal outcomes where the fault affects no request.
    """
    roots = frame[frame["parent_id"].isna()]
    return roots[["trace_id", "duration_ms", "status"]].reset_index(drop=True)


def usual_ms(frame: pd.DataFrame, place: Place) -> float:
    """Return the mean duration, in ms, of the customers' requests that call an endpoint."""
    service, endpoint = place
    is_there = (frame["service"] == service) & (frame["endpoint"] == endpoint)
    is_server = frame["kind"] == "server"
    served = frame[is_there & is_server]
    roots = frame[frame["parent_id"].isna()]
    is_calling = roots["trace_id"].isin(served["trace_id"])
    calling = roots[is_calling]
    return float(np.mean(calling["duration_ms"]))


def sized(
    kind: str, seed: int, rules: Mapping[str, RankingRule]
) -> Iterator[tuple[float, RuleResult]]:
    """Yield (size, result) of each rule for all sizes of a kind of fault; for a change, of the
    ledger only.

    A size at which this seed's fault affects no request is left out: there is nothing to find.
    """
    before = stage(seed)
    asked = {"ledger": rules["ledger"]} if kind == "change" else rules
    for size in RATES if kind == "errors" else DELAYS:
        scenario = before.scenario(kind, size)
        spans = virtual(scenario, seed, progress=False)
        if request_outcomes(spans).equals(before.outcomes):
            continue
        _, now = windows_of(scenario, spans)
        for result in ask(scenario, seed, before.reference, now, asked):
            yield size, result
