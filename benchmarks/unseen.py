"""Who names the origin of faults in shops that nobody tuned on? ``python -m benchmarks.unseen
[--seeds N] [--first SEED] [--kind KIND ...] [--jobs N] [--out FILE.md]``.

Each seed makes another shop for each kind of fault: topology, traffic, time-outs, retries and
workers are drawn (`benchmarks._unseen_faults`). The windows before and during the fault are given.
Right is who names the endpoint of the fault first; where nothing is at fault, who is silent.
``entry`` always names the entry with most failures, and ``random`` anything.

Seeds below 100 were looked at while the package was made: report later ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import shop
from aiops_lab.explain.rules import RULES
from benchmarks._groups import grid_of
from benchmarks._tables import markdown
from benchmarks._unseen_faults import KINDS
from shop.experiments.parallel import spread
from shop.experiments.trials import RuleResult, rule_results

FIRST = 101
SEEDS = 8
METHODS = {
    "aiops_lab": "ledger",
    "walk down": "walk down",
    "deepest error": "deepest error",
    "self-time z": "self-time z",
    "total z": "total z",
    "BARO": "BARO",
    "entry": "entry",
    "random": "random",
}
"""The rules that are asked, by their names in the table."""


def judged(case: tuple[str, int]) -> dict[str, bool]:
    """Return which method is right on the shop of a (kind, seed)."""
    kind, seed = case
    scenario = KINDS[kind](seed)
    spans = shop.virtual(scenario, seed, progress=False)
    rules = {name: RULES[rule] for name, rule in METHODS.items()}
    return {result.rule: _is_right(result) for result in rule_results(scenario, seed, spans, rules)}


def _is_right(result: RuleResult) -> bool:
    return result.rank == 1 if result.causes else result.silent


def compared(kinds: Sequence[str], seeds: Sequence[int], jobs: int | None = None) -> pd.DataFrame:
    """Return a row a shop: system, kind, and of each method whether it was right."""
    cases = [(kind, seed) for kind in kinds for seed in seeds]
    right = pd.DataFrame(spread(judged, cases, jobs, unit="shop"))
    named = [kind for kind, _ in cases]
    right.insert(0, "kind", named)
    right.insert(0, "system", "virtual shops")
    return right


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="shops of a kind (default 8)")
    parser.add_argument("--first", type=int, default=FIRST, help="the first seed (default 101)")
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="this kind (repeat for more)"
    )
    parser.add_argument("--jobs", type=int, help="processes (default: one for each processor)")
    parser.add_argument("--out", type=Path, help="a file for the table, as markdown")
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.seeds)
    table = compared(given.kind or list(KINDS), seeds, given.jobs)
    title = f"Unseen virtual shops, seeds {seeds[0]} to {seeds[-1]}"
    text = markdown([grid_of(title, table)], "# Unseen virtual shops")
    print(text)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
