"""What the lesson on metrics counts with: tables of metrics made from spans, incidents told by
metrics, and rules compared on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.numerics import wilson
from aiops_lab.traces.graph import service_graph
from shop.course.rivals import BEGIN_S, served_requests, shorter
from shop.virtual_time.scenario import BEGIN_NS
from shop.virtual_time.simulate import virtual

SECOND_0 = BEGIN_NS // 10**9
"""Second 0 of virtual time, in Unix seconds."""

_ALARM_S, _BEFORE_S, _AFTER_S = 2, 1, 14
"""An alarm comes this long after the fault begins; an incident is told from this long before the
fault begins until this long after; all in s."""

STATISTICS = {
    "latency": "Average",
    "requests": "Sum",
    "availability": "Average",
}

MetricsRule = Callable[[MetricsCase], str]


def per_interval(spans: pd.DataFrame, every_s: int = 10) -> pd.DataFrame:
    """Return mean latency (s), number of requests and availability (%) by interval.

    Returns
    -------
    DataFrame
        Index: start of the interval (Unix s). Columns: (node, metric, statistic), as PetShop has
        them; a node is an endpoint.
    """
    served = served_requests(spans)
    second = served["start"].astype("int64") // 10**9
    requests = pd.DataFrame(
        {
            "start": second // every_s * every_s,
            "node": served["endpoint"].astype(str),
            "s": served["duration_ms"] / 1e3,
            "up": (served["status"] < 500) * 100.0,
        }
    )
    groups = requests.groupby(["start", "node"])
    tables = {
        "latency": groups["s"].mean(),
        "requests": groups.size(),
        "availability": groups["up"].mean(),
    }
    wide = {(name, STATISTICS[name]): table.unstack() for name, table in tables.items()}
    by_metric = pd.concat(wide, axis=1)
    return by_metric.reorder_levels([2, 0, 1], axis=1)


def called_edges(spans: pd.DataFrame) -> list[tuple[str, str]]:
    """Return who calls whom, as pairs (caller, callee)."""
    graph = service_graph(spans)
    callers = graph["caller"].astype(str)
    callees = graph["callee"].astype(str)
    return list(zip(callers, callees, strict=True))


def incident(name: str, alarmed: str, seed: int = 5) -> MetricsCase:
    """Return a short incident of the catalogue as metrics tell it, with an alarm at its entry.

    Parameters
    ----------
    name : str
        The scenario.
    alarmed : str
        The entry whose alarm rings: for failures by its availability, else by its latency.
    seed : int
        Of the run.
    """
    scenario = shorter(name)
    spans = virtual(scenario, seed)
    table = per_interval(spans, every_s=1)
    fails = scenario.faults[0].kind in ("error", "shed")
    begin = SECOND_0 + int(BEGIN_S)
    told_from = begin - _BEFORE_S
    told_until = begin + _AFTER_S
    alarm = {
        "node": alarmed,
        "metric": "availability" if fails else "latency",
        "timestamp": float(begin + _ALARM_S),
    }
    return MetricsCase(
        name,
        "virtual",
        scenario.causes[0][1],
        table.loc[: told_from - 1],
        table.loc[told_from:told_until],
        called_edges(spans),
        alarm,
    )


def named_causes(cases: Sequence[MetricsCase], rules: Mapping[str, MetricsRule]) -> pd.DataFrame:
    """Return whom each rule names, by case, beside the truth."""
    names = [case.name for case in cases]
    truth = [str(case.truth) for case in cases]
    table = pd.DataFrame({"truth": truth}, index=names)
    for name, rule in rules.items():
        table[name] = list(map(rule, cases))
    return table


def proven_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many answers of each rule are right, of how many, and what share that proves: the
    ends of Wilson's interval of 95 %.
    """
    rows: dict[str, dict[str, Any]] = {}
    for rule in table.columns.drop("truth"):
        is_right = table[rule] == table["truth"]
        right = int(is_right.sum())
        low, high = wilson(right, len(table), 1.96)
        rows[str(rule)] = {
            "right": right,
            "of": len(table),
            "from": low,
            "to": high,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
