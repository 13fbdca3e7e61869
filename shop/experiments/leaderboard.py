"""Which rule is best, and where does each fail? Every rule over every scenario, with many seeds.

A run is one scenario with one seed. Rules get the windows given; the pipeline has to find them.
Weak faults and the deployment are in the tables by scenario and in no total: what they tell is a
curve over their size.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.evaluate.calibration import Calibration, calibration, risk_coverage
from aiops_lab.evaluate.scoring import estimate
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.numerics import wilson
from shop.catalogue import BY_SIZE, GROUPS, SCENARIOS
from shop.experiments.fault_size import SIZED_KINDS, sized
from shop.experiments.parallel import spread
from shop.experiments.trials import PipelineResult, RuleResult, pipeline_result, rule_results
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import twin

LEADERBOARD_SEED = 1000

"""Seeds from here on: the tests, and whoever tunes a rule, use smaller ones."""

COVERAGES = (0.5, 0.7, 0.8, 0.9, 1.0)

_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


class Board(NamedTuple):
    """What came out.

    ``runs``: a row a rule and run: group, and the fields of a `RuleResult`. ``pipeline``: a row a
    run of the pipeline: group, and the fields of a `PipelineResult`; empty without it. ``sizes``: a
    row a rule, size and seed: kind, size, and the fields of a `RuleResult`; empty without them.
    """

    runs: pd.DataFrame
    pipeline: pd.DataFrame
    sizes: pd.DataFrame


def play(
    scenarios: Mapping[str, Scenario] = SCENARIOS,
    seeds: Iterable[int] = range(LEADERBOARD_SEED, LEADERBOARD_SEED + 3),
    rules: Mapping[str, RankingRule] = RULES,
    *,
    pipeline: bool = True,
    sizes: bool = True,
    jobs: int | None = None,
    progress: bool = True,
) -> Board:
    """Run every scenario with every seed, and ask every rule.

    Parameters
    ----------
    scenarios : mapping from name to Scenario
        Default: the catalogue.
    seeds : int
        Each is a run. More: narrower intervals.
    rules : mapping from name to function (reference, abnormal) -> list of Suspect
        Default: the classic rules and the ledger. Rules that other processes cannot import, such as
        those of a notebook, are tried in this process alone.
    pipeline : bool
        Whether to run the whole pipeline, too, which takes a third of the time.
    sizes : bool
        Whether to run faults of graded size, too, which takes as long as the rest.
    jobs : int
        Processes; default as many as there are processors. The result does not depend on it, but
        for the CPU times.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ValueError
        Names the rule that raises or answers something else than a list of `Suspect`.
    """
    seeds = list(seeds)
    tasks: list[Callable[[], Any]] = []
    if sizes:  # first, because each takes longest
        tasks += [partial(_sizes, kind, seed, rules) for seed in seeds for kind in SIZED_KINDS]
    n = len(tasks)
    tasks += [
        partial(_run, scenario, seed, rules, pipeline)
        for scenario in scenarios.values()
        for seed in seeds
    ]
    done = spread(_call, tasks, jobs if _travels(rules) else 1, unit="run", progress=progress)
    runs = [(_group(t), *t) for told, _ in done[n:] for t in told]
    results = [(_group(found), *found) for _, found in done[n:] if found is not None]
    return Board(
        pd.DataFrame(runs, columns=["group", *RuleResult._fields]),
        pd.DataFrame(results, columns=["group", *PipelineResult._fields]),
        pd.DataFrame(
            [row for rows in done[:n] for row in rows],
            columns=["kind", "size", *RuleResult._fields],
        ),
    )


def _call(task: Callable[[], Any]) -> Any:
    return task()


def _run(
    scenario: Scenario, seed: int, rules: Mapping[str, RankingRule], pipeline: bool
) -> tuple[list[RuleResult], PipelineResult | None]:
    if not pipeline:
        return rule_results(scenario, seed, virtual(scenario, seed, progress=False), rules), None
    pair = twin(scenario, seed, progress=False)
    return rule_results(scenario, seed, pair.with_fault, rules), pipeline_result(
        scenario, seed, pair
    )


def _sizes(kind: str, seed: int, rules: Mapping[str, RankingRule]) -> list[tuple[Any, ...]]:
    return [(kind, size, *result) for size, result in sized(kind, seed, rules)]


def _group(row: RuleResult | PipelineResult) -> str:
    return _GROUP_OF.get(row.scenario, "faults" if row.causes else "no fault")


def _travels(rules: Mapping[str, RankingRule]) -> bool:
    """Return whether another process can import all the rules; of a notebook's own it would know
    only the names.
    """
    try:
        return b"__main__" not in pickle.dumps(dict(rules))
    except (pickle.PicklingError, AttributeError, TypeError):
        return False


# ---- the rules


def right(runs: pd.DataFrame) -> pd.Series:
    """Return whether the first suspect is a true cause; where there is no fault, whether the rule
    was silent.
    """
    return (runs["rank"] == 1).where(runs["causes"] > 0, runs["silent"]).astype(bool)


def totals(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a rule, the best first: how often it was right, silent or wrong, and what it
    costs.

    Over the faults, with the telemetry good or bad: n, top1, top3, mrr (mean reciprocal rank), each
    with its 95 % bounds _low and _high (`aiops_lab.evaluate.scoring.estimate`, whole scenarios
    resampled: what other ones may bring), exact (all causes and nothing else in front), silent,
    wrong (the first suspect is no cause). quiet: how often it was silent where there is no fault.
    cpu_ms: median of an answer, over all runs.
    """
    counted = runs[(runs["causes"] > 0) & (runs["group"] != BY_SIZE)]
    calm = runs[runs["group"] == "no fault"]
    cpu_ms = runs.groupby("rule", sort=False)["cpu_s"].median() * 1e3
    rows = [
        _total(counted[counted["rule"] == rule])
        | {"rule": rule, "quiet": calm.loc[calm["rule"] == rule, "silent"].mean(), "cpu_ms": ms}
        for rule, ms in cpu_ms.items()
    ]
    table = pd.DataFrame(rows).set_index("rule")
    return table.sort_values(
        ["top1", "mrr", "quiet"], ascending=False, kind="stable", na_position="last"
    )


def _total(mine: pd.DataFrame) -> dict[str, float]:
    rank = mine["rank"].to_numpy()
    measures = {
        "top1": rank == 1,
        "top3": (rank > 0) & (rank <= 3),
        "mrr": np.where(rank > 0, 1 / np.maximum(rank, 1), 0),
    }
    row: dict[str, float] = {"n": len(mine)}
    for name, values in measures.items():
        mean = estimate(values, mine["scenario"])
        row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
    wrong = (rank != 1) & ~mine["silent"]
    return row | {
        "exact": mine["exact"].mean(),
        "silent": mine["silent"].mean(),
        "wrong": wrong.mean(),
    }


def by_scenario(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a (group, scenario), a column a rule, the best first: how often it was `right`.

    The first row, of the group "all", is top1 of `totals`.
    """
    shares = runs.assign(right=right(runs)).pivot_table(
        index=["group", "scenario"], columns="rule", values="right", sort=False
    )
    total = totals(runs)[["top1"]].T.set_axis(
        pd.MultiIndex.from_tuples([("all", "faults that count")])
    )
    return pd.concat([total, _in_order(shares)[total.columns]]).rename_axis(["group", "scenario"])


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the groups in the order of the catalogue."""
    order = {group: n for n, group in enumerate(("all", *GROUPS))}
    return table.sort_index(
        level="group", key=lambda group: group.map(order), sort_remaining=False, kind="stable"
    )


def confidences(runs: pd.DataFrame, rule: str = "ledger") -> tuple[Calibration, pd.DataFrame]:
    """Return how far a rule's confidence can be believed, and how often it is wrong when only the
    surest answers count.

    Over the runs with a fault that count in `totals`, and those without one in which it spoke all
    the same.

    Returns
    -------
    Calibration
    DataFrame
        coverage (the share of the questions that is answered, the surest first, or all the answers
        there are), answered, threshold, risk (the share of wrong ones).
    """
    mine = runs[(runs["rule"] == rule) & ((runs["causes"] > 0) | ~runs["silent"])]
    if "group" in mine:
        mine = mine[mine["group"] != BY_SIZE]
    sure = mine["confidence"]
    hit = mine["rank"] == 1
    curve = risk_coverage(sure, hit)
    rows = [curve[curve["coverage"] >= least].head(1) for least in COVERAGES]
    reached = pd.concat([*(row for row in rows if len(row)), curve.tail(1)]).drop_duplicates(
        ignore_index=True
    )
    return calibration(sure, hit), reached


# ---- the pipeline


def pipeline_table(results: pd.DataFrame) -> pd.DataFrame:
    """Return a row a (group, scenario), first all the faults that count, and all without one: what
    the pipeline made.

    Of all runs: runs, detected (share), right (share that was detected and of which every incident
    names a true cause first), named (share of the causes that were named), false_runs (share with
    an incident that tells of no fault), false_per_hour (such incidents). Of the detected ones:
    median_s and worst_s (from the start of the fault to the end of the first window that tells of
    it), first (the detectors that most often saw it first), jaccard and exact (of the affected
    endpoints).
    """
    rows = {key: _found(group) for key, group in results.groupby(["group", "scenario"], sort=False)}
    told = results[results["group"] != BY_SIZE]
    for name, some in (
        ("faults that count", told[told["causes"] > 0]),
        ("without a fault", told[told["causes"] == 0]),
    ):
        if len(some):
            rows["all", name] = _found(some)
    return _in_order(
        pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows, names=["group", "scenario"]))
    )


def _found(runs: pd.DataFrame) -> dict[str, Any]:
    told = runs[runs["incidents"] > 0]
    faulty = runs[runs["causes"] > 0]
    return {
        "runs": len(runs),
        "detected": (faulty["incidents"] > 0).mean(),
        "median_s": told["detect_s"].median(),
        "worst_s": told["detect_s"].max(),
        "first": told["detector"].mode().get(0, ""),
        "right": (faulty["rank"] == 1).mean(),
        "named": faulty["named"].fillna(0.0).mean(),
        "jaccard": told["jaccard"].mean(),
        "exact": told["exact"].astype(float).mean(),
        "false_runs": (runs["false_incidents"] > 0).mean(),
        "false_per_hour": runs["false_incidents"].sum() / runs["hours"].sum(),
    }


# ---- the size of a fault


def by_size(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return a row a (kind, size, rule): n runs, and the shares right, wrong and silent, with 95 %
    bounds (Wilson).

    Of a change, which is no fault, "right" is silent and "wrong" is that the rule speaks.
    """
    keys = ["kind", "size", "rule"]
    good = right(sizes)
    told = sizes[keys].assign(
        right=good, wrong=~good & ~sizes["silent"], silent=sizes["silent"], n=1
    )
    table: Any = told.groupby(keys, sort=False).sum().reset_index()
    for name in ("right", "wrong", "silent"):
        k = table[name].to_numpy(dtype=float)
        n = table["n"].to_numpy(dtype=float)
        table[f"{name}_low"], table[f"{name}_high"] = wilson(k, n, 1.96)
        table[name] = k / n
    return table
