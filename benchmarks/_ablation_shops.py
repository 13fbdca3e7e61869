"""Root cause on traces of virtual shops: what is each kind of evidence worth where it is hard?

Public traces hold no failures, and the catalogue is answered by any evidence: so the harder
scenarios are asked, and shops of kinds that `benchmarks.unseen` draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import shop
from aiops_lab.explain.ledger import Comparison, compare
from aiops_lab.explain.reference import learn
from benchmarks._ablation import REMOVED, bar, family
from benchmarks._ablation_traces import PARTS, ranked
from benchmarks._tables import Row, Table, share
from benchmarks._unseen_faults import KINDS
from shop.hard_scenarios import HARD_SCENARIOS
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.twins import windows_of

HARD_SEED = 20_000
SEEDS = (101, 102)  # of each kind of unseen shops
AT_ONCE = "repeated calls at once"
MORE_SEEDS = (*range(103, 109), *range(201, 209))  # of calls made again at once
SLOW_TO_DRAW = ("metastable", "metastable below queues")  # left out: each tries up to 200 shops


def scenarios() -> Iterator[tuple[str, Scenario, int]]:
    """Yield what is asked: its column, the scenario and the seed."""
    for scenario in HARD_SCENARIOS.values():
        yield "harder scenarios", scenario, HARD_SEED
    for kind, draw in KINDS.items():
        for seed in () if kind in SLOW_TO_DRAW else SEEDS:
            yield "unseen shops", draw(seed), seed
    for seed in MORE_SEEDS:
        yield AT_ONCE, KINDS[AT_ONCE](seed), seed


def table(progress: bool = False) -> Table:
    """Return how often each is right with one part left out."""
    asked = list(scenarios())
    opened = [
        (column, _opened(*which), which[0]) for column, *which in bar(asked, "shops", progress)
    ]
    columns = tuple(dict.fromkeys(column for column, *_ in opened))
    rows = []
    for name, how in PARTS.items():
        right: dict[str, list[bool]] = {column: [] for column in columns}
        for column, case, scenario in opened:
            right[column].append(_is_right(case, scenario, how))
        counted = tuple(f"{sum(each)} of {len(each)}" for each in right.values())
        every = [one for each in right.values() for one in each]
        rate = share(sum(every), len(every))
        rows.append(Row(name, family(name, REMOVED), rate, None, "", counted))
    notes = [
        "Right: the first suspect is a cause; where nothing is at fault, nobody is suspected. "
        "The symptoms are asked where the ledger is silent. Resources are not given here."
    ]
    told = f"{len(asked)} runs, the windows given"
    return Table("Traces: one part removed, harder shops", told, "right, %", rows, columns, notes)


def _opened(scenario: Scenario, seed: int) -> Comparison:
    before, now = windows_of(scenario, shop.virtual(scenario, seed, progress=False))
    return compare(learn(before), now)


def _is_right(case: Comparison, scenario: Scenario, how: dict[str, Any]) -> bool:
    keys = ranked(case, **how)
    return keys[0] in scenario.causes if keys else not scenario.causes
