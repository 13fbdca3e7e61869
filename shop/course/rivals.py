"""What the lessons on the ledger and its rivals work with: short incidents, and rules side by side
on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from shop.catalogue import SCENARIOS
from shop.course.cases import SILENT, LessonCase, answers, played
from shop.course.waiting import steps
from shop.virtual_time.scenario import Scenario

BEGIN_S, END_S, _LENGTH_S = 40.0, 70.0, 80.0
"""When the fault of a short incident begins and ends, and how long it is recorded, in s."""

_RATE = 10.0
"""Requests a second of a short incident."""


def shorter(name: str, **changed: Any) -> Scenario:
    """Return a scenario of the catalogue whose fault is at work from second 40 to 70 of 80.

    Parameters
    ----------
    name : str
        Its name.
    **changed
        Numbers of its faults to replace, such as ``duration_ms=8``.
    """
    told = SCENARIOS[name]
    faults = [replace(f, start_s=BEGIN_S, end_s=END_S, **changed) for f in told.faults]
    changes = [replace(c, start_s=BEGIN_S, end_s=None) for c in told.changes]
    short = replace(told, faults=tuple(faults), changes=tuple(changes))
    return replace(short, seconds=_LENGTH_S, rate=_RATE)


def side_by_side(names: Iterable[str], seeds: Sequence[int], rules: Iterable[str]) -> pd.DataFrame:
    """Return what rules say of short incidents.

    Parameters
    ----------
    names : iterable of str
        Scenarios of the catalogue.
    seeds : sequence of int
        Each scenario is played once a seed.
    rules : iterable of str
        Names in `aiops_lab.explain.rules.RULES`.

    Returns
    -------
    DataFrame
        rule, scenario, seed, named (the first suspect, or "silent") and right (that is the first
        cause; of what is no fault: silence).
    """
    pairs = [(name, seed) for name in names for seed in seeds]
    asked = list(rules)
    tables = []
    for name, seed in steps(pairs, "incident"):
        said = _said(played(shorter(name), seed), asked)
        tables.append(said.assign(scenario=name, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _said(case: LessonCase, rules: Iterable[str]) -> pd.DataFrame:
    said = pd.DataFrame(answers(case, rules).items(), columns=["rule", "named"])
    return said.assign(right=said["named"] == case.cause)


def constant(table: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    """Return what a rule would say that always names the same endpoint: rows as those of
    `side_by_side`.
    """
    rows = table.drop_duplicates(["scenario", "seed"])[["scenario", "seed"]]
    right = [_is_cause(endpoint, name) for name in rows["scenario"]]
    return rows.assign(rule=f"always {endpoint}", named=endpoint, right=right)


def _is_cause(endpoint: str, scenario: str) -> bool:
    return any(at == endpoint for _, at in SCENARIOS[scenario].causes)


def right_by_scenario(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often each rule was right, by scenario in the order of the rows and in all; the
    worst rule first.
    """
    order = table["scenario"].unique()
    right = table.pivot_table("right", "rule", "scenario", "sum")[order].astype(int)
    right["all"] = right.sum(axis=1)
    return right.sort_values("all", kind="stable")


def said_by_size(
    sizes: Iterable[float], seeds: Sequence[int], rules: Sequence[str]
) -> pd.DataFrame:
    """Return what rules say of delays of /payment: ms, seed, rule, and said ("right", "wrong" or
    "silent").
    """
    pairs = [(ms, seed) for ms in sizes for seed in seeds]
    tables = []
    for ms, seed in steps(pairs, "incident"):
        said = _said(played(shorter("delay", duration_ms=ms), seed), rules)
        tables.append(said.assign(ms=ms, seed=seed))
    table = pd.concat(tables, ignore_index=True)
    verdict = table["right"].map({True: "right", False: "wrong"})
    return table.assign(said=verdict.mask(table["named"] == SILENT, SILENT))


def latency_by_interval(frame: pd.DataFrame, every: str = "10s") -> pd.DataFrame:
    """Return the mean latency in ms, a row an interval (in which requests ended), a column an
    endpoint.
    """
    served = frame[(frame["kind"] == "server") & frame["duration_ms"].notna()]
    end = served["start"] + pd.to_timedelta(served["duration_ms"], unit="ms")
    interval = end.dt.floor(every).rename("interval")
    return served.groupby([interval, "endpoint"])["duration_ms"].mean().unstack()


def slow_traces(case: LessonCase, entry: str) -> pd.Index:
    """Return the ids of the requests of an entry that took longer than 99 % of the usual ones."""
    limit = _served(case.usual.frame, entry)["duration_ms"].quantile(0.99)
    now = _served(case.now, entry)
    return pd.Index(now.loc[now["duration_ms"] > limit, "trace_id"])


def _served(frame: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    return frame[(frame["kind"] == "server") & (frame["endpoint"] == endpoint)]


def who_was_called(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of 0 and 1: a row a trace, a column an endpoint, 1 where the trace has it.

    Traces whose entry is not recorded are left out.
    """
    entered = frame.loc[frame["parent_id"].isna(), "trace_id"]
    served = frame[(frame["kind"] == "server") & frame["trace_id"].isin(entered)]
    calls = pd.crosstab(served["trace_id"].astype(str), served["endpoint"].astype(str))
    return calls.clip(upper=1)
