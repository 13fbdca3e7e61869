"""How fast is virtual time, and how often is the ledger right in it? ``python -m benchmarks.virtual [--seeds N]``.

The speed of the seed's shop and of a week at one request a second (CPU time, memory); then every scenario of the
catalogue, and random shops of 50 endpoints, with the windows given: right, silent, or wrong, over N seeds.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter

import aiops_lab as lab
import shop
from shop.scenario import Scenario
from shop.twins import windows_of
from shop.worlds import anywhere, layered

UNSEEN = 1000
"""Seeds from here on: the tests use small ones."""


def speed() -> None:
    """Print spans a CPU second, and what a week takes."""
    scenario = Scenario("clean", rate=50, seconds=2000)
    shop.virtual(scenario, 0, progress=False)
    begin = time.process_time()
    spans = len(shop.virtual(scenario, 1, progress=False))
    print(f"the seed's shop: {spans} spans, {spans / (time.process_time() - begin):,.0f} a CPU second")
    week, begin = Scenario("week", rate=1, seconds=7 * 86_400, daily=0.5), time.process_time()
    spans = sum(len(part) for part in shop.stream(week, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"a week at 1 request/s: {spans} spans in {time.process_time() - begin:.1f} CPU s, peak {peak:.0f} MB in all")


def verdict(scenario: Scenario, seed: int) -> str:
    """Return whether the ledger was right, silent or wrong."""
    suspects = lab.rank_root_causes(*windows_of(scenario, shop.twin(scenario, seed, progress=False).with_fault))
    first = [(suspect.service, suspect.endpoint) for suspect in suspects][: max(len(scenario.causes), 1)]
    if set(first) == set(scenario.causes):
        return "right"
    return "wrong" if first else "silent"


def main() -> None:
    """Print the speed, then the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each scenario (default 3)")
    seeds = parser.parse_args().seeds
    speed()
    print(f"\n{'scenario':22}{'right':>6}{'silent':>7}{'wrong':>6}   of {seeds}")
    for scenario in shop.SCENARIOS.values():
        told = Counter(verdict(scenario, UNSEEN + n) for n in range(seeds))
        print(f"{scenario.name:22}{told['right']:6}{told['silent']:7}{told['wrong']:6}", flush=True)
    told = Counter(verdict(anywhere(layered(50, UNSEEN + n), n), n) for n in range(5 * seeds))
    print(f"{'50 endpoints':22}{told['right']:6}{told['silent']:7}{told['wrong']:6}   of {5 * seeds}")


if __name__ == "__main__":
    main()
