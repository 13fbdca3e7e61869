"""Sixty incidents whose truth is known, and what rules say of them: the recording of lesson 13.

``python -m shop.course.verdicts data/verdicts.csv`` makes it anew, in a minute.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.explain.rules import RULES
from shop.course.cases import SILENT, LessonCase, played
from shop.course.waiting import steps
from shop.virtual_time.scenario import Scenario, VirtualFault

RUNS = 60
"""Enough to see what a bag of incidents does to a confidence, few enough to be played anew."""

_PLACES = [("payment", "/payment"), ("inventory", "/inventory"), ("checkout", "/checkout")]

ASKED_RULES = ("random", "first by end", "self-time z", "ledger")
"""The rules that are asked."""

DRAWS = "lesson 11"
"""With the seed, what all draws of a run depend on; another text gives other incidents."""

BROKEN_S = (45, 65)
"""When the fault or the deployment is at work, in seconds of a run of 70."""

DECIMALS = 6


def drawn_scenario(seed: int, deployments: float = 1 / 3) -> Scenario:
    """Return the scenario of a run: a slow endpoint, one that fails, or a deployment.

    An endpoint takes from a thirtieth of its usual time up to twice that time longer, or half of
    that share of its requests fails. A deployment is slow too, but on purpose: no fault.

    Parameters
    ----------
    seed : int
        Of the run.
    deployments : float
        The share of deployments. Higher: more answers are wrong.
    """
    rng = random.Random(f"{seed}/{DRAWS}")
    is_deployment = rng.random() < deployments
    kind = "deployment" if is_deployment else rng.choice(("slow", "errors"))
    place = rng.choice(_PLACES)
    size = 10 ** rng.uniform(-1.5, 0.3)
    start_s, end_s = BROKEN_S
    if kind == "errors":
        happens = VirtualFault("shed", *place, start_s, end_s, rate=size / 2)
    else:
        happens = VirtualFault("slow", *place, start_s, end_s, factor=1 + size)
    if kind == "deployment":
        return Scenario(kind, changes=(happens,), rate=15, seconds=70)
    return Scenario(kind, (place,), (happens,), rate=15, seconds=70)


def verdicts(case: LessonCase, rules: Sequence[str] = ASKED_RULES) -> pd.DataFrame:
    """Return what rules say of a case, a row a rule.

    Columns: rule, by (what the ledger goes by, or silence), score, share (of all suspects' scores),
    said (its confidence) and right; the last four are NaN in a silence.
    """
    rows = [{"rule": name, **_verdict(name, case)} for name in rules]
    return pd.DataFrame(rows)


def _verdict(rule: str, case: LessonCase) -> dict[str, Any]:
    suspects = RULES[rule](case.usual, case.now)
    if not suspects:
        return {"by": "silence"}
    first = suspects[0]
    is_right = first.name == case.cause and case.cause != SILENT
    return {
        "by": first.by,
        "score": first.score,
        "share": first.share,
        "said": first.confidence,
        "right": float(is_right),
    }


def answered(seeds: Iterable[int]) -> pd.DataFrame:
    """Return what the rules say in each of these runs, with its seed and kind."""
    tables = []
    for seed in steps(seeds, "run"):
        scenario = drawn_scenario(seed)
        case = played(scenario, seed)
        table = verdicts(case)
        table.insert(0, "kind", scenario.name)
        table.insert(0, "seed", seed)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def read_verdicts(path: str | Path) -> pd.DataFrame:
    """Return the recorded answers, as `answered` gives them (to six decimals)."""
    return pd.read_csv(path)


if __name__ == "__main__":
    table = answered(range(RUNS)).round(DECIMALS)
    table.to_csv(sys.argv[1], index=False, lineterminator="\n")
