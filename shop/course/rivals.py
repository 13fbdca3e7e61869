"""What the lessons on the ledger and its rivals work with: short incidents, and rules side by side
on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd

from aiops_lab.explain.rules import RULES
from shop.catalogue import SCENARIOS
from shop.course.cases import SILENT, LessonCase, played
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
        rule, scenario, seed, named (the first suspect, or "silent"), cause (the first one, or
        "silent" where nothing is broken), right (named is the cause) and lot (how likely a lot
        among all whom the rule suspects is right).
    """
    pairs = list(product(names, seeds))
    asked = list(rules)
    tables = []
    for name, seed in steps(pairs, "incident"):
        case = played(shorter(name), seed)
        said = _said(case, asked)
        said["scenario"] = name
        said["seed"] = seed
        tables.append(said)
    return pd.concat(tables, ignore_index=True)


def _said(case: LessonCase, rules: Iterable[str]) -> pd.DataFrame:
    """Return a row a rule: whom it names, and whether that is right."""
    said = pd.DataFrame([{"rule": rule, **_answer(case, rule)} for rule in rules])
    said["cause"] = case.cause
    said["right"] = said["named"] == case.cause
    return said


def _answer(case: LessonCase, rule: str) -> dict[str, object]:
    suspects = RULES[rule](case.usual, case.now)
    names = [suspect.name for suspect in suspects] or [SILENT]
    return {"named": names[0], "lot": names.count(case.cause) / len(names)}


def constant(table: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    """Return what a rule would say that always names the same endpoint: rows as those of
    `side_by_side`.
    """
    rows = table[["scenario", "seed", "cause"]].drop_duplicates()
    right = rows["cause"] == endpoint
    return rows.assign(rule=f"always {endpoint}", named=endpoint, right=right)


def right_by_scenario(table: pd.DataFrame) -> pd.DataFrame:
    """Return how often each rule was right, by scenario in the order of the rows and in all; the
    worst rule first.
    """
    sums = table.pivot_table("right", index="rule", columns="scenario", aggfunc="sum")
    order = table["scenario"].unique()
    right = sums[order].astype(int)
    right["all"] = right.sum(axis=1)
    return right.sort_values("all", kind="stable")


def said_by_size(
    sizes: Iterable[float],
    seeds: Sequence[int],
    rules: Sequence[str],
) -> pd.DataFrame:
    """Return what rules say of delays of /payment: ms, seed, rule, and named (an endpoint or
    "silent").

    At a size of 0 nothing is broken.
    """
    pairs = list(product(sizes, seeds))
    tables = []
    for ms, seed in steps(pairs, "incident"):
        case = played(shorter("delay", duration_ms=ms), seed)
        said = _said(case, rules)
        tables.append(said.assign(ms=ms, seed=seed))
    table = pd.concat(tables, ignore_index=True)
    return table[["ms", "seed", "rule", "named"]]


def latency_by_interval(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean latency in ms, a row for each 10 s (in which requests ended), a column an
    endpoint.
    """
    served = served_requests(frame)
    took = pd.to_timedelta(served["duration_ms"], unit="ms")
    end = served["start"] + took
    interval = end.dt.floor("10s").rename("interval")
    groups = served.groupby([interval, "endpoint"])
    mean_ms = groups["duration_ms"].mean()
    return mean_ms.unstack()


def served_requests(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the server spans that have ended."""
    is_server = frame["kind"] == "server"
    has_ended = frame["duration_ms"].notna()
    return frame[is_server & has_ended]


def slow_traces(case: LessonCase, entry: str) -> pd.Index:
    """Return the ids of the requests of an entry that took longer than 99 % of the usual ones."""
    usual = _served(case.usual.frame, entry)
    now = _served(case.now, entry)
    limit = usual["duration_ms"].quantile(0.99)
    slow = now[now["duration_ms"] > limit]
    return pd.Index(slow["trace_id"])


def _served(frame: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    is_server = frame["kind"] == "server"
    is_at_endpoint = frame["endpoint"] == endpoint
    return frame[is_server & is_at_endpoint]


def who_was_called(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of 0 and 1: a row a trace, a column an endpoint, 1 where the trace has it.

    Traces whose entry is not recorded are left out.
    """
    is_root = frame["parent_id"].isna()
    entered = frame.loc[is_root, "trace_id"]
    served = frame[frame["kind"] == "server"]
    counted = served[served["trace_id"].isin(entered)]
    traces = counted["trace_id"].astype(str)
    endpoints = counted["endpoint"].astype(str)
    calls = pd.crosstab(traces, endpoints)
    return calls.clip(upper=1)
