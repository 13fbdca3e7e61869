"""How sure may the ledger be? Learn its confidence from runs whose true cause is known: ``python -m
shop calibrate``.

Large faults in full daylight would teach that it is always right. So each scenario of the catalogue
comes at a random size, from a hundredth of its own up to all of it, with fewer customers and with
lost spans; beside them scenarios without a fault, deployments that take up to twice as long, and
random shops. A fault without effect is no fault: its run is left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aiops_lab.checks import FieldError, check_number
from aiops_lab.evaluate.calibration import Calibration, calibration
from aiops_lab.explain import confidence
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ranking import rank_root_causes
from aiops_lab.record.faults import Fault
from shop.catalogue import SCENARIOS
from shop.experiments.parallel import spread
from shop.recordings import check_folder, replacing
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.scenario import Scenario, VirtualFault
from shop.virtual_time.twins import twin, windows_of

CALIBRATION_SEED = 50_000

"""The seeds of the calibration are its own: tests use small ones, the leaderboard 1,000 and more.
"""

SHOP_SIZES = (8, 15, 30, 50)

"""Sizes of the random shops."""

SMALLER, FEWER, LOST = (-2.0, 0.0), (-1.3, 0.0), (0.0, 0.0, 0.3, 0.6)

"""Powers of ten by which faults and customers are fewer, and shares of spans that are lost."""

RANDOM_SHOPS = 8

"""For each seed, beside the scenarios of the catalogue."""

LARGER = {"deployment": (-1.0, 0.7)}

"""What comes at sizes of its own, also as powers of ten: a deployment that costs up to five times
20 %.
"""

AS_IT_IS = ("metastable",)

"""A smaller trigger may leave the shop in its good state: there is then no fault any more."""


class ScoredSuspect(NamedTuple):
    """What was said of one suspect: by excess or by deviations, score, share, and whether it is a
    true cause.
    """

    by: str
    score: float
    share: float
    right: bool


def resized(scenario: Scenario, size: float) -> Scenario:
    """Return a scenario whose faults and changes are `size` times as large, or strike so many fewer
    requests.
    """
    faults, changes = (
        tuple(_resized(f, size) for f in given) for given in (scenario.faults, scenario.changes)
    )
    return replace(scenario, faults=faults, changes=changes)


def _resized(fault: Fault, size: float) -> Fault:
    if isinstance(fault, VirtualFault) and fault.kind == "slow":
        return replace(fault, factor=1 + (fault.factor - 1) * size)
    if fault.duration_ms > 0:
        return replace(
            fault, duration_ms=fault.duration_ms * size, jitter_ms=fault.jitter_ms * size
        )
    return replace(fault, rate=fault.rate * size)


def _harder(scenario: Scenario, rng: random.Random) -> Scenario:
    rate = scenario.rate * 10 ** rng.uniform(*FEWER)
    lost = max(scenario.lost, rng.choice(LOST))
    size = 10 ** rng.uniform(*LARGER.get(scenario.name, SMALLER))
    return replace(resized(scenario, size), rate=rate, lost=lost)


def scored_suspects(run: tuple[str, int]) -> list[ScoredSuspect]:
    """Return what the ledger says of a scenario by name, or of a random shop (""), at a random
    size, best first.
    """
    name, seed = run
    rng = random.Random(f"{seed}/{name}/calibrate")
    scenario = SCENARIOS[name] if name else anywhere(layered(rng.choice(SHOP_SIZES), seed), seed)
    if name not in AS_IT_IS:
        scenario = _harder(scenario, rng)
    try:
        spans = twin(scenario, seed, progress=False).with_fault
    except FieldError as error:
        if error.field != "faults":
            raise
        return []  # the fault had no effect
    suspects = rank_root_causes(*windows_of(scenario, spans))
    return [ScoredSuspect(s.by, s.score, s.share, s.key in scenario.causes) for s in suspects]


def calibrate(
    seeds: int, path: str | Path | None = None, jobs: int | None = None, progress: bool = True
) -> Calibration:
    """Learn the confidence from two thirds of the seeds, check it on the others, and write it to a
    file.

    It is learned from all suspects, and checked on those that stand first.

    Parameters
    ----------
    seeds : int
        Runs of each scenario, at least 3.
    path : path, optional
        Where the curve goes; default the file that the package reads.
    jobs, progress
        As for `shop.experiments.parallel.spread`.

    Returns
    -------
    Calibration
        Of the seeds that were not learned from.

    Raises
    ------
    ValueError
        `seeds` is below 3, or `path` lies where no file can be written.
    """
    check_number("seeds", seeds, 3, 10_000)
    if not isinstance(seeds, int):
        raise FieldError("seeds", "must be a whole number", seeds)
    path = Path(path or confidence.FILE)
    check_folder("out", path.parent, path)
    names = [*SCENARIOS, *[""] * RANDOM_SHOPS]
    runs = [
        (name, CALIBRATION_SEED + 100 * n + k) for n in range(seeds) for k, name in enumerate(names)
    ]
    told = spread(scored_suspects, runs, jobs, unit="run", progress=progress)
    cut = len(names) * (2 * seeds // 3)
    learned = list(chain(*told[:cut]))
    others = [run[0] for run in told[cut:] if run]
    curves = {
        by: confidence.fit(*_columns(answer for answer in learned if answer.by == by))
        for by in confidence.BY
    }
    sure = np.array([curves[a.by](*_columns([a])[:2])[0] for a in others])
    check = calibration(sure, np.array([a.right for a in others]))
    known = {"learned_from": len(learned), "checked_on": check.n}
    error = {"error": round(check.ece, 4), "error_of_a_perfect_model": round(check.ece_perfect, 4)}
    weights = {
        by: dict(zip(confidence.TERMS, np.round(c.weights, 4).tolist(), strict=True))
        for by, c in curves.items()
    }
    table = (
        {"made_by": f"python -m shop calibrate --seeds {seeds}", "weights": weights} | known | error
    )
    with replacing(path) as part:
        part.write_text(json.dumps(table, indent=2) + "\n", "utf-8")
    return check


def _columns(scored_suspects: Iterable[ScoredSuspect]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    unit = {"excess": RcaConfig().min_score, "deviations": 1.0}
    rows = [(a.score / unit[a.by], a.share, a.right) for a in scored_suspects]
    scores, shares, right = np.array(rows, dtype=float).reshape(-1, 3).T
    return scores, shares, right > 0
