"""Is a metastable failure still kept up where it began? ``python -m benchmarks.kept_up
[--seeds N] [--first SEED] [--kind KIND ...] [--jobs N]``.

Only a simulator knows this truth. Each shop of `benchmarks.unseen` runs once more, and from the
beginning of the window on nobody repeats a call of the endpoint that counts as the cause. Where
then at most half as many requests suffer, this endpoint keeps the failure up. Elsewhere the
overload has moved on, or a queue is only worked off: nothing in the window depends on what began
it. The table tells how often this package names the endpoint in each of the two.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

import shop
from aiops_lab.explain.rules import RULES
from aiops_lab.numerics import wilson
from benchmarks._tables import Z_95
from benchmarks._unseen_faults import KINDS, suffering
from benchmarks.unseen import FIRST, SEEDS
from shop.experiments.parallel import spread
from shop.experiments.trials import rule_results
from shop.virtual_time.parts import PendingCall
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.simulate import Run
from shop.virtual_time.twins import effect_of

METASTABLE = "metastable", "metastable below queues"


class WithoutRetries(Run):
    """A run in which nobody repeats a call of the causes, from the beginning of the window on."""

    def _end_call(self, at: int, asked: PendingCall, *outcome: Any) -> None:
        call = asked.call
        since_s, _ = self.scenario.interval()
        if at >= since_s * 1e6 and call.place in self.scenario.causes:
            asked.call = replace(call, retries=0)
        super()._end_call(at, asked, *outcome)


def judged(case: tuple[str, int]) -> dict[str, Any]:
    """Return of the shop of a (kind, seed) whether its cause keeps the failure up, and whether it
    is named.
    """
    kind, seed = case
    scenario = KINDS[kind](seed)
    spans = shop.virtual(scenario, seed, progress=False)
    (result,) = rule_results(scenario, seed, spans, {"ledger": RULES["ledger"]})
    as_it_was = _suffering(Run, scenario, seed)
    without = _suffering(WithoutRetries, scenario, seed)
    keeps = without <= as_it_was / 2
    return {"kind": kind, "seed": seed, "kept up by it": keeps, "named": result.rank == 1}


def _suffering(run: type[Run], scenario: Scenario, seed: int) -> float:
    calm = Run(replace(scenario, faults=(), causes=()), seed)
    faulty = run(scenario, seed)
    effect = effect_of(faulty.spans(False), calm.spans(False), scenario, seed)
    return suffering(effect, scenario)


def table(shops: pd.DataFrame) -> pd.DataFrame:
    """Return in how many shops the cause is named, by kind and by whether it keeps the failure up,
    with 95 % intervals.
    """
    groups = shops.groupby(["kind", "kept up by it"])["named"]
    counts = groups.agg(["sum", "size"])
    low, high = wilson(counts["sum"].to_numpy(), counts["size"].to_numpy(), Z_95)
    low = np.maximum(low, 0.0)  # of none it is 0, but for rounding
    return counts.assign(low=low, high=high).rename(columns={"sum": "named", "size": "shops"})


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a row a shop, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="shops of a kind (default 8)")
    parser.add_argument("--first", type=int, default=FIRST, help="the first seed (default 101)")
    parser.add_argument("--kind", action="append", choices=METASTABLE, help="only this kind")
    parser.add_argument("--jobs", type=int, help="processes (default: one for each processor)")
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.seeds)
    cases = [(kind, seed) for kind in given.kind or METASTABLE for seed in seeds]
    shops = pd.DataFrame(spread(judged, cases, given.jobs, unit="shop"))
    print(shops.to_string(index=False))
    print(table(shops).round(2))


if __name__ == "__main__":
    main()
