"""How fast is virtual time, and how often is the ledger right in large random shops? ``python -m
benchmarks.virtual``.

The speed of the seed's shop and of a week at one request a second (CPU time, memory); then random
shops of 50 endpoints with the windows given: right, silent, or wrong. For the catalogue and the
other rules: ``python -m shop leaderboard``.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter

import shop
from aiops_lab.explain.rules import RULES
from shop.experiments.leaderboard import LEADERBOARD_SEED
from shop.experiments.trials import rule_results
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.scenario import Scenario


def speed() -> None:
    """Print spans a CPU second, and what a week takes."""
    scenario = Scenario("clean", rate=50, seconds=2000)
    shop.virtual(scenario, 0, progress=False)
    begin = time.process_time()
    spans = len(shop.virtual(scenario, 1, progress=False))
    print(
        f"the seed's shop: {spans} spans, {spans / (time.process_time() - begin):,.0f} a CPU second"
    )
    week, begin = Scenario("week", rate=1, seconds=7 * 86_400, daily=0.5), time.process_time()
    spans = sum(len(part) for part in shop.stream(week, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1e6 if sys.platform == "darwin" else 1e3
    )
    print(
        f"a week at 1 request/s: {spans} spans in {time.process_time() - begin:.1f} CPU s, peak "
        f"{peak:.0f} MB in all"
    )


def verdict(seed: int) -> str:
    """Return whether the ledger was right, silent or wrong in a random shop."""
    scenario = anywhere(layered(50, LEADERBOARD_SEED + seed), seed)
    # the twin makes sure that the fault did something
    spans = shop.twin(scenario, seed, progress=False).with_fault
    (trial,) = rule_results(scenario, seed, spans, {"ledger": RULES["ledger"]})
    return "right" if trial.exact else "silent" if trial.silent else "wrong"


def main() -> None:
    """Print the speed, then the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=15, help="random shops (default 15)")
    seeds = parser.parse_args().seeds
    speed()
    told = Counter(verdict(seed) for seed in range(seeds))
    print(
        f"{seeds} shops of 50 endpoints: {told['right']} right, {told['silent']} silent, "
        f"{told['wrong']} wrong"
    )


if __name__ == "__main__":
    main()
