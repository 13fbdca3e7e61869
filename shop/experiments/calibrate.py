"""Calibration of the ledger's confidence on runs with known causes: ``python -m shop calibrate``.

Runs with large faults only would yield a confidence that is too high. So each scenario of the
catalogue is run at a random size, from a hundredth of its own size to all of it, with less traffic
and with lost spans; further runs are scenarios without a fault, deployments that make an endpoint
take up to twice as long, and random shops. A run in which the fault has no effect is left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
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
from aiops_lab.formats.writing import replacing
from aiops_lab.record.faults import Fault
from shop.catalogue import SCENARIOS
from shop.experiments.parallel import spread
from shop.recordings import check_folder
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.scenario import Scenario, VirtualFault
from shop.virtual_time.twins import twin, windows_of

CALIBRATION_SEED = 50_000

"""First seed of the calibration. Tests use small seeds, the leaderboard those from 1,000 on."""

SHOP_SIZES = (8, 15, 30, 50)

"""Sizes of the random shops, in endpoints."""

FAULT_EXPONENTS = (-2.0, 0.0)

"""Range of the power of ten by which faults are scaled: a hundredth to the whole size."""

RATE_EXPONENTS = (-1.3, 0.0)

"""Range of the power of ten by which the request rate is scaled: a twentieth to the whole rate."""

LOST_SHARES = (0.0, 0.0, 0.3, 0.6)

"""Shares of lost spans, one of which is drawn for each run."""

RANDOM_SHOPS = 8

"""Runs of random shops for each seed, in addition to the scenarios of the catalogue."""

OWN_EXPONENTS = {"deployment": (-1.0, 0.7)}

"""Scenarios with a range of their own, also in powers of ten: up to five times the 20 % of the
deployment.
"""

NOT_RESIZED = ("metastable",)

"""A smaller trigger may leave the shop in its good state, in which it has no fault."""


class ScoredSuspect(NamedTuple):
    """One suspect: by excess or by deviations, score, share, and whether it is a true cause."""

    by: str
    score: float
    share: float
    right: bool


def resized(scenario: Scenario, size: float) -> Scenario:
    """Return a scenario whose faults and changes are `size` times as large.

    Extra durations are scaled; where there are none, the share of the requests that fail.
    """
    faults = [_resized(fault, size) for fault in scenario.faults]
    changes = [_resized(change, size) for change in scenario.changes]
    return replace(scenario, faults=tuple(faults), changes=tuple(changes))


def _resized(fault: Fault, size: float) -> Fault:
    if isinstance(fault, VirtualFault) and fault.kind == "slow":
        more = (fault.factor - 1) * size
        return replace(fault, factor=1 + more)
    if fault.duration_ms > 0:
        return replace(
            fault,
            duration_ms=fault.duration_ms * size,
            jitter_ms=fault.jitter_ms * size,
        )
    return replace(fault, rate=fault.rate * size)


def _harder(scenario: Scenario, rng: random.Random) -> Scenario:
    """Return the scenario with a smaller fault, less traffic and lost spans, all drawn."""
    traffic = 10 ** rng.uniform(*RATE_EXPONENTS)
    lost = rng.choice(LOST_SHARES)
    exponents = OWN_EXPONENTS.get(scenario.name, FAULT_EXPONENTS)
    size = 10 ** rng.uniform(*exponents)
    return replace(
        resized(scenario, size),
        rate=scenario.rate * traffic,
        lost=max(scenario.lost, lost),
    )


def scored_suspects(run: tuple[str, int]) -> list[ScoredSuspect]:
    """Return the suspects of the ledger in one run, best first.

    `run` is (name, seed): a scenario of the catalogue at a random size; "" is a random shop. A run
    in which the fault had no effect has no suspects.
    """
    name, seed = run
    rng = random.Random(f"{seed}/{name}/calibrate")
    scenario = SCENARIOS[name] if name else _random_scenario(rng, seed)
    if name not in NOT_RESIZED:
        scenario = _harder(scenario, rng)
    try:
        spans = twin(scenario, seed, progress=False).with_fault
    except FieldError as error:
        if error.field != "faults":
            raise
        return []  # the fault had no effect
    usual, now = windows_of(scenario, spans)
    scored = []
    for suspect in rank_root_causes(usual, now):
        is_cause = suspect.key in scenario.causes
        scored.append(ScoredSuspect(suspect.by, suspect.score, suspect.share, is_cause))
    return scored


def _random_scenario(rng: random.Random, seed: int) -> Scenario:
    size = rng.choice(SHOP_SIZES)
    topology = layered(size, seed)
    return anywhere(topology, seed)


def calibrate(
    seeds: int,
    path: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Calibration:
    """Learn the confidence from two thirds of the seeds, check it on the others, and write it.

    It is learned from all suspects, and checked on the first suspect of each run.

    Parameters
    ----------
    seeds : int
        Runs of each scenario, at least 3.
    path : path, optional
        The JSON file to write; default the one that the package reads.
    jobs, progress
        As for `shop.experiments.parallel.spread`.

    Returns
    -------
    Calibration
        Of the seeds that were not learned from.

    Raises
    ------
    ValueError
        `seeds` is below 3, or no file can be written at `path`.
    """
    check_number("seeds", seeds, 3, 10_000)
    if not isinstance(seeds, int):
        raise FieldError("seeds", "must be a whole number", seeds)
    path = Path(path or confidence.CONFIDENCE_FILE)
    check_folder("out", path.parent, path)
    runs = [run for n in range(seeds) for run in _runs(n)]
    suspects = spread(scored_suspects, runs, jobs, unit="run", progress=progress)
    learned_seeds = 2 * seeds // 3
    cut = len(_runs(0)) * learned_seeds
    learned = list(chain(*suspects[:cut]))
    checked = [ranked[0] for ranked in suspects[cut:] if ranked]
    curves = {by: _fitted(learned, by) for by in confidence.BY}
    predicted = [_predicted(curves, first) for first in checked]
    is_right = [first.right for first in checked]
    check = calibration(np.array(predicted), np.array(is_right))
    table = {
        "made_by": f"python -m shop calibrate --seeds {seeds}",
        "weights": {by: _weights(curve) for by, curve in curves.items()},
        "learned_from": len(learned),
        "checked_on": check.n,
        "error": round(check.ece, 4),
        "error_of_a_perfect_model": round(check.ece_perfect, 4),
    }
    with replacing(path) as part:
        text = json.dumps(table, indent=2)
        part.write_text(f"{text}\n", "utf-8")
    return check


def _runs(n: int) -> list[tuple[str, int]]:
    """Return (name, seed) of each run of the n-th round: the catalogue and the random shops."""
    names = [*SCENARIOS, *[""] * RANDOM_SHOPS]
    first = CALIBRATION_SEED + 100 * n
    return [(name, seed) for seed, name in enumerate(names, first)]


def _fitted(learned: list[ScoredSuspect], by: str) -> confidence.Curve:
    mine = [suspect for suspect in learned if suspect.by == by]
    scores, shares, right = _columns(mine)
    return confidence.fit(scores, shares, right)


def _predicted(curves: Mapping[str, confidence.Curve], suspect: ScoredSuspect) -> float:
    curve = curves[suspect.by]
    score, share, _ = _columns([suspect])
    return curve(score, share)[0]


def _weights(curve: confidence.Curve) -> dict[str, float]:
    weights = np.round(curve.weights, 4).tolist()
    return dict(zip(confidence.TERMS, weights, strict=True))


def _columns(suspects: Iterable[ScoredSuspect]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores (1 = the least that is reported), shares, and which are true causes."""
    unit = {
        "excess": RcaConfig().min_score,
        "deviations": 1.0,
    }
    rows = []
    for suspect in suspects:
        score = suspect.score / unit[suspect.by]
        rows.append((score, suspect.share, suspect.right))
    columns = np.array(rows, dtype=float).reshape(-1, 3)
    scores, shares, right = columns.T
    return scores, shares, right > 0
