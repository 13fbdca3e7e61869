"""How small may a fault be? The same fault from a size that nobody can see to one that nobody can
miss.

Beside it the same change as a deployment: a new normal that is no fault. By size alone nobody can
tell them apart.

A fault at one place only would reward the rule that always names this place. So the place is
another one with each seed, in turn; with as many seeds as the market has endpoints, each had its
turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.record.faults import Fault
from shop.catalogue import END, MARKET, MARKET_MIX, START
from shop.experiments.trials import RuleResult, ask
from shop.virtual_time.scenario import Place, Scenario, VirtualFault
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import windows_of

SIZED_KINDS = ("delay", "errors", "change")

DELAYS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

"""How much longer, as a share of what the customers' requests that come by the place usually take.
"""

RATES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0)

"""Which share of the requests fails."""

CALM = Scenario("calm", topology=MARKET, mix=MARKET_MIX, window=(START, END), seconds=END + 5)


@dataclass(frozen=True)
class Stage:
    """The day before the fault, which is the same whatever its size: where it will strike, and what
    is usual.
    """

    seed: int
    place: Place
    usual_ms: float
    reference: Reference
    outcomes: pd.DataFrame
    """What customers get, also while the fault is there, if it strikes none of them."""

    def scenario(self, kind: str, size: float) -> Scenario:
        """Return the market with a fault, or a change, of some size at the place."""
        more_ms = size * self.usual_ms
        named = replace(CALM, name=f"{kind} {size:g}")
        if kind == "change":
            factor = 1 + more_ms / MARKET.at(*self.place).median_ms
            return replace(
                named, changes=(VirtualFault("slow", *self.place, start_s=START, factor=factor),)
            )
        numbers: Any = {"rate": size} if kind == "errors" else {"duration_ms": more_ms}
        fault = Fault(
            "error" if kind == "errors" else "delay",
            *self.place,
            start_s=START,
            end_s=END,
            **numbers,
        )
        return replace(named, causes=(self.place,), faults=(fault,))


def stage(seed: int) -> Stage:
    """Return the day before."""
    place = MARKET.endpoints[seed % len(MARKET.endpoints)].place
    calm = virtual(CALM, seed, progress=False)
    before, _ = windows_of(CALM, calm)
    return Stage(seed, place, usual_ms(before, place), learn(before), request_outcomes(calm))


def request_outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what each customer got, and when: equal in two runs with the same seed where a fault
    strikes nobody.
    """
    return frame.loc[frame["parent_id"].isna(), ["trace_id", "duration_ms", "status"]].reset_index(
        drop=True
    )


def usual_ms(frame: pd.DataFrame, place: Place) -> float:
    """Return how long the customers' requests that come by a place take on average."""
    there = (
        (frame["service"] == place[0])
        & (frame["endpoint"] == place[1])
        & (frame["kind"] == "server")
    )
    touched = frame["trace_id"].isin(frame.loc[there, "trace_id"])
    return float(np.mean(frame.loc[touched & frame["parent_id"].isna(), "duration_ms"]))


def sized(
    kind: str, seed: int, rules: Mapping[str, RankingRule] = RULES
) -> Iterator[tuple[float, RuleResult]]:
    """Yield (size, result) of each rule over all sizes of a kind; of a change only the ledger is
    asked.

    A size at which no request is struck with this seed is left out: silence there is no miss, and
    no answer is right.
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
