"""Comparison of the root-cause rules: every rule on every scenario, with many seeds.

A run is one scenario with one seed. Rules are given the windows to compare; the pipeline has to
detect the fault first. Weak faults and the deployment are in the tables by scenario and in no
total: their result is a curve over the size.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.evaluate.calibration import Calibration, calibration, risk_coverage
from aiops_lab.evaluate.scoring import estimate
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.numerics import wilson
from shop.catalogue import BY_SIZE, GROUPS, SCENARIOS
from shop.experiments.detection import DetectionResult, detection_results
from shop.experiments.fault_size import SIZED_KINDS, sized
from shop.experiments.parallel import spread
from shop.experiments.trials import PipelineResult, RuleResult, pipeline_result, rule_results
from shop.hard_scenarios import HARD_GROUPS
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import twin

LEADERBOARD_SEED = 1000

"""First seed of the leaderboard. Smaller ones are for tests and for tuning a rule."""

COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)

"""Shares of the runs that are answered, of which `confidences` returns the risk."""

ALL_GROUPS = GROUPS | HARD_GROUPS

"""The names of the scenarios of each group, those of the catalogue first."""

_GROUP_OF = {name: group for group, names in ALL_GROUPS.items() for name in names}


class Board(NamedTuple):
    """The results of all runs.

    ``runs``: a row a rule and run: group, and the fields of a `RuleResult`. ``pipeline``: a row a
    run of the pipeline: group, and the fields of a `PipelineResult`; empty without it. ``sizes``: a
    row a rule, size and seed: kind, size, and the fields of a `RuleResult`; empty without them.
    ``detection``: a row a detector and run: group, and the fields of a `DetectionResult`; empty
    where no detector of the user takes part.
    """

    runs: pd.DataFrame
    pipeline: pd.DataFrame
    sizes: pd.DataFrame
    detection: pd.DataFrame


def play(
    scenarios: Mapping[str, Scenario] = SCENARIOS,
    seeds: Iterable[int] = range(LEADERBOARD_SEED, LEADERBOARD_SEED + 3),
    rules: Mapping[str, RankingRule] = RULES,
    *,
    pipeline: bool = True,
    sizes: bool = True,
    detectors: Sequence[str] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Board:
    """Run every scenario with every seed, and return the results of every rule.

    Parameters
    ----------
    scenarios : mapping from name to Scenario
        Default: the catalogue.
    seeds : int
        Each is a run. More: narrower intervals.
    rules : mapping from name to function (reference, abnormal) -> list of Suspect
        Default: the classic rules and the ledger. Rules that other processes cannot import, such as
        those of a notebook, are run in this process alone.
    pipeline : bool
        Whether to run the whole pipeline, too, which takes a third of the time.
    sizes : bool
        Whether to run faults of graded size, too, which takes as long as the rest.
    detectors : str, optional
        Detectors of the user, as ``file.py:name`` or ``module:name``, to be compared with those of
        the package and baselines; empty: these alone. Default: no detectors are compared.
    jobs : int
        Number of processes; default one for each processor. Only the CPU times depend on it.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ValueError
        A rule or detector raises, or does not return a list of `Suspect` or `Anomaly`; the message
        names it.
    """
    seeds = list(seeds)
    tasks: list[Callable[[], Any]] = []
    if sizes:  # first, because each takes longest
        for seed, kind in product(seeds, SIZED_KINDS):
            tasks.append(partial(_sizes, kind, seed, rules))
    n = len(tasks)
    for scenario, seed in product(scenarios.values(), seeds):
        tasks.append(partial(_run, scenario, seed, rules, pipeline, detectors))
    if not _importable(rules):
        jobs = 1
    done = spread(_call, tasks, jobs, unit="run", progress=progress)
    played: list[Played] = done[n:]
    sized_results = chain(*done[:n])
    return Board(
        _frame(RuleResult, played, "rules"),
        _frame(PipelineResult, played, "pipeline"),
        pd.DataFrame(sized_results, columns=["kind", "size", *RuleResult._fields]),
        _frame(DetectionResult, played, "detection"),
    )


def _call(task: Callable[[], Any]) -> Any:
    return task()


class Played(NamedTuple):
    """The results of one run; empty lists of what was not asked for."""

    rules: list[RuleResult]
    pipeline: list[PipelineResult]
    detection: list[DetectionResult]


def _run(
    scenario: Scenario,
    seed: int,
    rules: Mapping[str, RankingRule],
    pipeline: bool,
    detectors: Sequence[str] | None,
) -> Played:
    if not pipeline and detectors is None:
        spans = virtual(scenario, seed, progress=False)
        return Played(rule_results(scenario, seed, spans, rules), [], [])
    pair = twin(scenario, seed, progress=False)
    played = Played(rule_results(scenario, seed, pair.with_fault, rules), [], [])
    if pipeline:
        played.pipeline.append(pipeline_result(scenario, seed, pair))
    if detectors is not None:
        played.detection.extend(detection_results(scenario, seed, pair, detectors))
    return played


def _frame(kind: type[NamedTuple], played: Iterable[Played], part: str) -> pd.DataFrame:
    """Return a row for each result of a kind, which is one part of each run."""
    rows = []
    for run in played:
        for result in getattr(run, part):
            rows.append((_group(result), *result))
    return pd.DataFrame(rows, columns=["group", *kind._fields])


def _sizes(kind: str, seed: int, rules: Mapping[str, RankingRule]) -> list[tuple[Any, ...]]:
    return [(kind, size, *result) for size, result in sized(kind, seed, rules)]


def _group(result: RuleResult | PipelineResult | DetectionResult) -> str:
    """Return the group of the scenario; of one outside the catalogue, whether it has a fault."""
    faults = result.faults if isinstance(result, DetectionResult) else result.causes
    otherwise = "faults" if faults else "no fault"
    return _GROUP_OF.get(result.scenario, otherwise)


def _importable(rules: Mapping[str, RankingRule]) -> bool:
    """Return whether other processes can import all the rules: not those of a notebook."""
    try:
        pickled = pickle.dumps(dict(rules))
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return b"__main__" not in pickled


# ---- the rules


def right(runs: pd.DataFrame) -> pd.Series:
    """Return for each run whether the first suspect is a true cause.

    Without a fault: whether there is no suspect.
    """
    with_fault = runs["causes"] > 0
    first = runs["rank"] == 1
    return first.where(with_fault, runs["silent"]).astype(bool)


def totals(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a rule, the best first: how often it was right, silent or wrong, and its cost.

    Over the faults, with complete or incomplete traces: n, top1, top3, mrr (mean reciprocal rank),
    each with its 95 % bounds _low and _high for other scenarios like these
    (`aiops_lab.evaluate.scoring.estimate`, whole scenarios resampled), exact (the first suspects
    are all the causes), silent (no suspect), wrong (the first suspect is no cause). quiet: share of
    the runs without a fault in which there is no suspect. cpu_ms: median over all runs.
    """
    has_fault = runs["causes"] > 0
    counted = runs[has_fault & (runs["group"] != BY_SIZE)]
    calm = runs[~has_fault & (runs["group"] != BY_SIZE)]
    cpu_s = runs.groupby("rule", sort=False)["cpu_s"].median()
    rows = {}
    for rule in cpu_s.index:
        mine = counted[counted["rule"] == rule]
        rows[rule] = _total(mine)
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("rule")
    table["quiet"] = calm.groupby("rule")["silent"].mean()
    table["cpu_ms"] = cpu_s * 1e3
    return table.sort_values(
        ["top1", "mrr", "quiet"],
        ascending=False,
        kind="stable",
        na_position="last",
    )


def _total(mine: pd.DataFrame) -> dict[str, float]:
    rank = mine["rank"].to_numpy()
    is_named = rank > 0
    reciprocal = 1 / np.maximum(rank, 1)
    measures = {
        "top1": rank == 1,
        "top3": is_named & (rank <= 3),
        "mrr": np.where(is_named, reciprocal, 0),
    }
    row: dict[str, float] = {"n": len(mine)}
    for name, values in measures.items():
        mean = estimate(values, mine["scenario"])
        row[name] = mean.value
        row[f"{name}_low"] = mean.low
        row[f"{name}_high"] = mean.high
    wrong = (rank != 1) & ~mine["silent"]
    row["exact"] = mine["exact"].mean()
    row["silent"] = mine["silent"].mean()
    row["wrong"] = wrong.mean()
    return row


def by_scenario(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a (group, scenario), a column a rule, the best first: how often it was `right`.

    The first row, of the group "all", is top1 of `totals`.
    """
    keys = ["group", "scenario"]
    judged = runs.assign(right=right(runs))
    shares = judged.pivot_table(index=keys, columns="rule", values="right", sort=False)
    first = pd.MultiIndex.from_tuples([("all", "faults that count")])
    top1 = totals(runs)[["top1"]]
    total = top1.T.set_axis(first)
    single = _in_order(shares)[total.columns]
    return pd.concat([total, single]).rename_axis(keys)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the groups in the order of the catalogue."""
    order = {group: n for n, group in enumerate(("all", *ALL_GROUPS))}
    return table.sort_index(
        level="group",
        key=lambda group: group.map(order),
        sort_remaining=False,
        kind="stable",
    )


def confidences(runs: pd.DataFrame, rule: str = "ledger") -> tuple[Calibration, pd.DataFrame]:
    """Return the calibration of a rule's confidence, and its risk by coverage.

    Over the runs with a fault that count in `totals`, and those without a fault in which the rule
    names a suspect.

    Returns
    -------
    Calibration
    DataFrame
        A row for each of `COVERAGES` and for all answers: coverage (the share of the runs that is
        answered, the most confident first), answered, threshold (the least confidence), risk (the
        share of wrong answers).
    """
    mine = runs[runs["rule"] == rule]
    has_fault = mine["causes"] > 0
    mine = mine[has_fault | ~mine["silent"]]
    if "group" in mine:
        mine = mine[mine["group"] != BY_SIZE]
    sure = mine["confidence"]
    hit = mine["rank"] == 1
    curve = risk_coverage(sure, hit)
    rows = []
    for least in COVERAGES:
        reached = curve[curve["coverage"] >= least]
        if len(reached):
            rows.append(reached.head(1))
    table = pd.concat([*rows, curve.tail(1)])
    return calibration(sure, hit), table.drop_duplicates(ignore_index=True)


# ---- the pipeline


def pipeline_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return the results of the pipeline: a row a (group, scenario), first the sums of all.

    Of all runs: runs, detected (share), right (share that was detected and of which every incident
    names a true cause first), named (share of the causes that were named), false_runs (share with
    an incident that matches no fault), false_per_hour (such incidents). Of the detected ones:
    median_s and worst_s (seconds from the start of the fault to the end of the first window with an
    anomaly of it), first (the detectors of this anomaly, those of most runs), jaccard and exact (of
    the affected endpoints). change: of the runs with noted changes and an incident, the share in
    which the verdicts point at the right ones.
    """
    keys = ["group", "scenario"]
    rows = {key: _summary(runs) for key, runs in results.groupby(keys, sort=False)}
    counted = results[results["group"] != BY_SIZE]
    has_fault = counted["causes"] > 0
    totals_of = {
        "faults that count": counted[has_fault],
        "without a fault": counted[~has_fault],
    }
    for name, runs in totals_of.items():
        if len(runs):
            rows["all", name] = _summary(runs)
    index = pd.MultiIndex.from_tuples(rows, names=keys)
    table = pd.DataFrame(rows.values(), index)
    return _in_order(table)


def _summary(runs: pd.DataFrame) -> dict[str, Any]:
    detected = runs[runs["incidents"] > 0]
    faulty = runs[runs["causes"] > 0]
    is_detected = faulty["incidents"] > 0
    is_right = faulty["rank"] == 1
    false_incidents = runs["false_incidents"]
    is_false = false_incidents > 0
    hours = runs["hours"].sum()
    return {
        "runs": len(runs),
        "detected": is_detected.mean(),
        "median_s": detected["detect_s"].median(),
        "worst_s": detected["detect_s"].max(),
        "first": detected["detector"].mode().get(0, ""),
        "right": is_right.mean(),
        "named": faulty["named"].fillna(0.0).mean(),
        "jaccard": detected["jaccard"].mean(),
        "exact": detected["exact"].astype(float).mean(),
        "false_runs": is_false.mean(),
        "false_per_hour": false_incidents.sum() / hours,
        "change": runs["change"].mean(),
    }


# ---- the size of a fault


def by_size(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return a row a (kind, size, rule): n runs, and the shares right, wrong and silent.

    Each share has 95 % bounds (Wilson), _low and _high. For a change, which is no fault, "right"
    means no suspect, and "wrong" means that the rule names one.
    """
    keys = ["kind", "size", "rule"]
    good = right(sizes)
    silent = sizes["silent"]
    judged = sizes[keys].assign(right=good, wrong=~good & ~silent, silent=silent, n=1)
    groups = judged.groupby(keys, sort=False)
    table: Any = groups.sum().reset_index()
    n = table["n"].to_numpy(dtype=float)
    for name in ("right", "wrong", "silent"):
        k = table[name].to_numpy(dtype=float)
        low, high = wilson(k, n, 1.96)
        table[f"{name}_low"] = low
        table[f"{name}_high"] = high
        table[name] = k / n
    return table
