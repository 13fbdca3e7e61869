"""How are accounts and deviations of metrics weighed to suspects?"""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.explain.metric_confidence import TINY, confidence
from aiops_lab.explain.metric_config import MetricsConfig
from aiops_lab.explain.metric_deviations import by_node
from aiops_lab.explain.metric_frames import LATENCY, RESOURCE_KINDS, MetricColumn, Metrics
from aiops_lab.results import Suspect

SHOWN = 5  # metrics of a suspect that deviate most
CallPairs = list[tuple[str, str]]


class MetricLedger(NamedTuple):
    """The accounts of a cost (latency or availability), a row a node."""

    metric: str
    table: pd.DataFrame


# ---- the ledger alone


def by_ledger(ledgers: list[MetricLedger], is_alone: bool, config: MetricsConfig) -> list[Suspect]:
    """Return the nodes with an own excess.

    Parameters
    ----------
    is_alone : bool
        One cost is asked for, and scores are in its unit; else in usual requests.
    """
    parts = [_scored(ledger, is_alone, config) for ledger in ledgers]
    score = _total([part["score"] for part in parts])
    times = pd.concat([part["times"] for part in parts], axis=1).max(axis=1)
    table = pd.DataFrame({"score": score, "times": times}).sort_index()
    table["share"] = _share(score)
    table["confidence"] = times / (times + config.noise_ratio)
    is_beyond = table["score"] > 0
    beyond = table[is_beyond].sort_values("score", ascending=False, kind="stable")
    # within the noise a cheap node is no better than a dear one
    within = table[~is_beyond].sort_values("times", ascending=False, kind="stable")
    ranked = pd.concat([beyond, within]).assign(excess=1.0, deviation=0.0)
    return [_suspect(str(row.Index), row, ledgers) for row in ranked.itertuples()]


def _accounts(node: str, ledgers: list[MetricLedger]) -> tuple[dict[Any, Any], ...]:
    """Return the account of a node for each cost."""
    rows = []
    for ledger in ledgers:
        if node in ledger.table.index:
            head = {"node": node, "metric": ledger.metric}
            rows.append(head | ledger.table.loc[node].to_dict())
    return tuple(rows)


def _scored(ledger: MetricLedger, is_alone: bool, config: MetricsConfig) -> pd.DataFrame:
    """Return score and times (own excess over noise) of each node with an own excess."""
    table = ledger.table
    own = table["own"]
    unit = 1.0 if is_alone else _unit(ledger, config)
    score = (own - table["noise"]) / unit
    times = own / table["noise"].clip(lower=TINY)
    return pd.DataFrame({"score": score, "times": times})[own > 0]


def _unit(ledger: MetricLedger, config: MetricsConfig) -> float:
    """Return what a usual request costs: its mean latency, or a part of a failed request."""
    if ledger.metric != LATENCY:
        return 1 / max(config.failure_cost, TINY)
    table = ledger.table
    spent = float((table["usual"] * table["due"]).sum())
    requests = float(table["due"].sum())
    return spent / requests if spent > 0 else 1.0


def _total(scores: list[pd.Series]) -> pd.Series:
    """Return the sum of what exceeds the noise; of a node that never does, the best."""
    table = pd.concat(scores, axis=1)
    beyond = table.clip(lower=0).sum(axis=1)
    return beyond.where(beyond > 0, table.max(axis=1))


def _share(score: pd.Series) -> pd.Series:
    positive = score.clip(lower=0)
    return positive / max(positive.sum(), TINY)


# ---- accounts and deviations


def by_both(
    ledgers: list[MetricLedger],
    unusual: pd.DataFrame,
    now: Metrics,
    calls: CallPairs,
    *,
    hosts: dict[str, str],
    intervals: int,
    config: MetricsConfig,
) -> list[Suspect]:
    """Return the nodes with an excess beyond the noise or an unusual metric.

    Without ledgers the deviations decide alone. Scores are from 0 to 1. `intervals`: of the normal
    data.
    """
    nodes = sorted(now.values.columns.unique(0))
    total = by_node(unusual, nodes)
    deviation = total / max(total.max(), TINY)
    table = pd.DataFrame({"excess": 0.0, "deviation": deviation})
    if ledgers:
        suspects = by_ledger(ledgers, len(ledgers) == 1, config)
        known = {suspect.service: suspect for suspect in suspects if suspect.score > 0}
        table["excess"] = pd.Series({node: s.share for node, s in known.items()}, dtype=float)
        table = table.fillna({"excess": 0.0})
        table["excess"] = _with_unmeasured(table["excess"], ledgers, unusual, now, calls)
        table["score"] = (table["excess"] + table["deviation"]) / 2
    else:
        table["score"] = table["deviation"]
    table["confidence"] = confidence(total, table["score"], intervals)
    table = _with_hosts(table, hosts)
    table["share"] = _share(table["score"])
    ranked = table[table["score"] > 0].sort_index()
    ranked = ranked.sort_values("score", ascending=False, kind="stable")
    return [_suspect(str(row.Index), row, ledgers, unusual) for row in ranked.itertuples()]


def _suspect(
    node: str, row: Any, ledgers: list[MetricLedger], unusual: pd.DataFrame | None = None
) -> Suspect:
    unusual_rows = () if unusual is None else _deviating(node, unusual)
    evidence = (*_accounts(node, ledgers), *unusual_rows)
    by = "excess" if row.excess > row.deviation else "deviations"
    return Suspect(
        node,
        "",
        row.score,
        row.confidence,
        evidence=evidence,
        name=node,
        share=row.share,
        by=by,
    )


def _deviating(node: str, unusual: pd.DataFrame) -> tuple[dict[Any, Any], ...]:
    """Return the metrics of a node that deviate, the most unusual ones."""
    if node not in unusual.index.get_level_values(0):
        return ()
    mine = unusual.loc[[node]]
    most = mine[mine["deviation"] > 0].nlargest(SHOWN, "deviation")
    rows = []
    for column, row in zip(most.index, most.to_dict("records"), strict=True):
        rows.append({"node": node, "metric": told(column)} | row)
    return tuple(rows)


def told(column: MetricColumn) -> str:
    """Return a column's metric, with the statistic where one is told."""
    return column[1] if column[2] in ("value", "") else f"{column[1]} {column[2]}"


def _with_unmeasured(
    excess: pd.Series,
    ledgers: list[MetricLedger],
    unusual: pd.DataFrame,
    now: Metrics,
    calls: CallPairs,
) -> pd.Series:
    """Return the shares of the excess, with those of callees whose costs nobody measures: what
    their caller owes is divided by how unusual the resources of the two are.
    """
    measured = set[str]().union(*(ledger.table.index for ledger in ledgers))
    resources = [column for column in unusual.index if now.roles[column].kind in RESOURCE_KINDS]
    strain = by_node(unusual.loc[resources], excess.index)
    divided = excess.copy()
    for caller in measured & set(excess.index[excess > 0]):
        hidden = {b for a, b in calls if a == caller and b in strain.index} - measured
        total = strain[caller] + strain[sorted(hidden)].sum()
        for node in sorted(hidden) if total > 0 else ():
            divided[node] += excess[caller] * strain[node] / total
            divided[caller] -= excess[caller] * strain[node] / total
    return divided


def _with_hosts(table: pd.DataFrame, hosts: dict[str, str]) -> pd.DataFrame:
    """Return the table with a row a host of which two or more nodes are suspects.

    Its excess is theirs, times the part of its nodes that have one; its deviation is the mean of
    theirs, or its own if that is more.
    """
    table = table.copy()
    nodes = pd.Series(hosts, dtype=object).reindex(table.index).dropna()
    for host, placed in table.loc[nodes.index].groupby(nodes):
        both = placed[["excess", "deviation", "score"]]
        part = (both > 0).mean()
        if (placed["score"] > 0).sum() < 2:
            continue
        own = table.loc[host] if host in table.index else pd.Series(0.0, table.columns)
        excess = placed["excess"].sum() * part["excess"]
        deviation = max(own["deviation"], placed["deviation"].mean())
        score = (excess + deviation) / 2 if table["excess"].any() else deviation
        sure = max(own["confidence"], placed["confidence"].max())
        values = {"excess": excess, "deviation": deviation, "score": score, "confidence": sure}
        table.loc[host, list(values)] = list(values.values())
    return table
