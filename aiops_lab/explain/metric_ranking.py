"""How are accounts and deviations of metrics weighed to suspects?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.explain.familiarity import caution, lowered
from aiops_lab.explain.metric_columns import LATENCY, RESOURCE_KINDS, MetricColumn
from aiops_lab.explain.metric_confidence import LEARNED, TINY, confidence
from aiops_lab.explain.metric_config import MetricsConfig
from aiops_lab.explain.metric_deviations import by_node
from aiops_lab.explain.metric_frames import Metrics
from aiops_lab.explain.metric_origins import explained_parts, sure_parts
from aiops_lab.results import Suspect

_SHOWN = 5  # metrics of a suspect that deviate most
MIN_NODES = 2  # that must have a part in the trouble of their host
WAITS = "it may wait for another."
ENOUGH = 2 / 3  # part of the trouble that a suspect ought to explain
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
    by_cost = [part["times"] for part in parts]
    times = pd.concat(by_cost, axis=1).max(axis=1)
    table = pd.DataFrame({"score": score, "times": times})
    table = table.sort_index()
    table["share"] = _share(score)
    table["confidence"] = times / (times + config.noise_ratio)
    is_beyond = table["score"] > 0
    beyond = _descending(table[is_beyond], "score")
    # within the noise a cheap node is no better than a dear one
    within = _descending(table[~is_beyond], "times")
    ranked = pd.concat([beyond, within])
    ranked = ranked.assign(excess=1.0, deviation=0.0)
    return _suspects(ranked, ledgers)


def _descending(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the rows from the highest value to the lowest, equal ones as they are."""
    return table.sort_values(column, ascending=False, kind="stable")


def _suspects(
    ranked: pd.DataFrame,
    ledgers: list[MetricLedger],
    unusual: pd.DataFrame | None = None,
) -> list[Suspect]:
    found: list[Suspect] = []
    for row in ranked.itertuples():
        suspect = _suspect(str(row.Index), row, ledgers, unusual)
        found.append(suspect)
    return found


def _accounts(node: str, ledgers: list[MetricLedger]) -> tuple[dict[Any, Any], ...]:
    """Return the account of a node for each cost."""
    rows = []
    for ledger in ledgers:
        if node not in ledger.table.index:
            continue
        head = {"node": node, "metric": ledger.metric}
        account = ledger.table.loc[node].to_dict()
        rows.append(head | account)
    return tuple(rows)


def _scored(ledger: MetricLedger, is_alone: bool, config: MetricsConfig) -> pd.DataFrame:
    """Return score and times (own excess over noise) of each node with an own excess."""
    own = ledger.table["own"]
    noise = ledger.table["noise"]
    unit = 1.0 if is_alone else _unit(ledger, config)
    columns = {
        "score": (own - noise) / unit,
        "times": own / noise.clip(lower=TINY),
    }
    scored = pd.DataFrame(columns)
    return scored[own > 0]


def _unit(ledger: MetricLedger, config: MetricsConfig) -> float:
    """Return what a usual request costs: its mean latency, or a part of a failed request."""
    if ledger.metric != LATENCY:
        return 1 / max(config.failure_cost, TINY)
    table = ledger.table
    spent = table["usual"] * table["due"]
    total = float(spent.sum())
    requests = float(table["due"].sum())
    return total / requests if total > 0 else 1.0


def _total(scores: list[pd.Series]) -> pd.Series:
    """Return the sum of what exceeds the noise; of a node that never does, the best."""
    table = pd.concat(scores, axis=1)
    positive = table.clip(lower=0)
    beyond = positive.sum(axis=1)
    best = table.max(axis=1)
    return beyond.where(beyond > 0, best)


def _share(score: pd.Series) -> pd.Series:
    positive = score.clip(lower=0)
    total = max(positive.sum(), TINY)
    return positive / total


# ---- accounts and deviations


def by_both(
    ledgers: list[MetricLedger],
    unusual: pd.DataFrame,
    now: Metrics,
    calls: CallPairs,
    *,
    hosts: dict[str, str],
    intervals: int,
    likely: float,
    drift: str,
    config: MetricsConfig,
) -> list[Suspect]:
    """Return the nodes with an excess beyond the noise or an unusual metric.

    Without ledgers the deviations decide alone. Scores are from 0 to 1. `intervals`: of the normal
    data. `likely`: how likely the accounts show trouble rather than drift, `drift`: why not.
    """
    table = _evidence(ledgers, unusual, now, calls, config)
    table = with_hosts(table, hosts, calls)
    table["score"] = table["deviation"]
    if ledgers:
        both = table["excess"] + table["deviation"]
        table["score"] = both / 2
    explained = explained_parts(unusual, now, calls, hosts)
    table["explained"] = explained.reindex(table.index, fill_value=1.0)
    # a host explains what no one of its nodes does
    power = 1.0 if hosts else config.explained_power
    table["score"] *= table["explained"] ** power
    table["share"] = _share(table["score"])
    sure = sure_parts(unusual, now, calls, hosts)
    table["sure"] = sure.reindex(table.index, fill_value=1.0)
    certain = table["explained"] * table["sure"] * likely
    table["confidence"] = confidence(
        table["unusual"],
        table["score"],
        intervals,
        explained=certain,
    )
    is_suspect = table["score"] > 0
    suspected = table[is_suspect].sort_index()
    if suspected.empty:
        return []
    ranked = _descending(suspected, "score")
    first = ranked.iloc[0]
    terms = {
        "unusual": float(first["unusual"]),
        "intervals": intervals,
        "resources": _resource_part(unusual, now),
        "explained": float(certain[ranked.index[0]]),
    }
    ranked["confidence"] = lowered(ranked["confidence"].to_numpy(), terms, LEARNED)
    elsewhere = _elsewhere(first["explained"])
    cautions = [caution(terms, LEARNED), elsewhere, _unsure(first["sure"]), drift]
    told = " ".join(filter(None, cautions))
    found: list[Suspect] = []
    for suspect in _suspects(ranked, ledgers, unusual):
        found.append(replace(suspect, terms=terms, caution=told))
    return found


def _elsewhere(explained: float) -> str:
    """Return in words that much of the trouble is not explained, "" where it is."""
    if explained >= ENOUGH:
        return ""
    share = 1 - explained
    rule = "is where nobody waits for it; what they share, such as a host, may be the cause"
    return f"Of all that is slow or fails {share:.0%} {rule}."


def _unsure(sure: float) -> str:
    """Return in words that a suspect may only wait for another, "" where it is surely slow."""
    if sure >= 1:
        return ""
    return f"Nobody told who calls it, and only its latency or failures are unusual: {WAITS}"


def _evidence(
    ledgers: list[MetricLedger],
    unusual: pd.DataFrame,
    now: Metrics,
    calls: CallPairs,
    config: MetricsConfig,
) -> pd.DataFrame:
    """Return a row a node: its share of the excess beyond the noise, its deviation as a part of
    the largest one, and how unusual it is in all.
    """
    nodes = sorted(now.values.columns.unique(0))
    deviation = by_node(unusual, nodes)
    largest = max(deviation.max(), TINY)
    columns = {
        "excess": 0.0,
        "deviation": deviation / largest,
        "unusual": deviation / _measured(unusual, nodes) ** 0.5,
    }
    table = pd.DataFrame(columns)
    if not ledgers:
        return table
    for suspect in by_ledger(ledgers, len(ledgers) == 1, config):
        if suspect.score > 0:
            table.loc[suspect.service, "excess"] = suspect.share
    table["excess"] = _with_unmeasured(table["excess"], ledgers, unusual, now, calls)
    return table


def _measured(unusual: pd.DataFrame, nodes: list[str]) -> pd.Series:
    """Return how many metrics of each node are compared, at least 1."""
    of_node = unusual.groupby(level=0)
    return of_node.size().reindex(nodes, fill_value=1)


def _resource_part(unusual: pd.DataFrame, now: Metrics) -> float:
    """Return which part of the nodes have resource metrics.

    What costs a caller time shows at all callers; what a node uses shows there alone.
    """
    nodes = unusual.index.unique(0)
    used = {node for node, *_ in _resources(unusual, now)}
    count = max(len(nodes), 1)
    return len(used) / count


def _resources(unusual: pd.DataFrame, now: Metrics) -> list[MetricColumn]:
    """Return the columns that tell what a node uses."""
    columns = unusual.index
    return [column for column in columns if now.roles[column].kind in RESOURCE_KINDS]


def _suspect(
    node: str, row: Any, ledgers: list[MetricLedger], unusual: pd.DataFrame | None = None
) -> Suspect:
    evidence = _accounts(node, ledgers)
    if unusual is not None:
        evidence += _deviating(node, unusual)
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
    deviating = mine[mine["deviation"] > 0]
    most = deviating.nlargest(_SHOWN, "deviation")
    values = most.to_dict("records")
    rows = []
    for column, row in zip(most.index, values, strict=True):
        head = {"node": node, "metric": told(column)}
        rows.append(head | row)
    return tuple(rows)


def told(column: MetricColumn) -> str:
    """Return a column's metric, with the statistic where one is told."""
    _, metric, statistic = column
    if statistic in ("value", ""):
        return metric
    return f"{metric} {statistic}"


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
    measured = set[str]()
    for ledger in ledgers:
        measured.update(ledger.table.index)
    resources = _resources(unusual, now)
    strain = by_node(unusual.loc[resources], excess.index)
    divided = excess.copy()
    owing = set(excess.index[excess > 0])
    for caller in measured & owing:
        called = {callee for other, callee in calls if other == caller}
        hidden = called & set(strain.index) - measured
        total = strain[caller] + strain[sorted(hidden)].sum()
        if total <= 0:
            continue
        for node in sorted(hidden):
            part = excess[caller] * strain[node] / total
            divided[node] += part
            divided[caller] -= part
    return divided


def with_hosts(table: pd.DataFrame, hosts: dict[str, str], calls: CallPairs) -> pd.DataFrame:
    """Return the table (excess, deviation, unusual, by node) with a row a host.

    Of a host's fault all of its nodes have a part: it gets the sum of theirs times how even they
    are (`evenness`), so that one node alone, or one with an echo, is no host. Of a node's deviation
    counts what is beyond that of its callees and beyond the mean elsewhere, for callers everywhere
    deviate with their callee. A host's own metrics count if they deviate more.
    """
    placed = pd.Series(hosts, dtype=object).reindex(table.index)
    is_host = table.index.isin(set(hosts.values()))
    nodes = table[~is_host]
    beyond = _beyond_callees(nodes["deviation"], calls)
    told = table.copy()
    for host in sorted(set(placed.dropna())):
        is_here = placed[nodes.index] == host
        mine = nodes[is_here]
        parts = _beyond_elsewhere(beyond, is_here)
        suffers = (mine["excess"] > 0) | (parts > 0)
        if suffers.sum() < MIN_NODES:
            continue
        nothing = pd.Series(0.0, table.columns)
        own = table.loc[host] if host in table.index else nothing
        deviation = parts.sum() * evenness(parts)
        count = max(len(mine), 1)
        unusual = mine["unusual"].sum() / count**0.5
        values = {
            "excess": mine["excess"].sum() * evenness(mine["excess"]),
            "deviation": max(own["deviation"], deviation),
            "unusual": max(own["unusual"], unusual),
        }
        told.loc[host] = pd.Series(values)
    largest = told["deviation"].max()
    told["deviation"] /= max(largest, 1.0)
    return told


def _beyond_elsewhere(beyond: pd.Series, is_here: pd.Series) -> pd.Series:
    """Return by how much each node of a host deviates more than the mean of all others."""
    others = beyond[~is_here]
    elsewhere = 0.0 if others.empty else others.mean()
    return (beyond[is_here] - elsewhere).clip(lower=0)


def _beyond_callees(deviation: pd.Series, calls: CallPairs) -> pd.Series:
    """Return by how much each node deviates more than the callee that deviates most."""
    explained = dict.fromkeys(deviation.index, 0.0)
    for caller, callee in calls:
        if caller not in explained or callee not in explained:
            continue
        most = max(explained[caller], deviation[callee])
        explained[caller] = most
    beyond = deviation - pd.Series(explained)
    return beyond.clip(lower=0)


def evenness(parts: pd.Series) -> float:
    """Return how evenly something is spread over n parts: from 1 / n, where one has all of it, to 1
    (Jain's index, arXiv cs/9809099); 0 where there is nothing.

    Examples
    --------
    >>> evenness(pd.Series([3.0, 3.0])), evenness(pd.Series([3.0, 0.0]))
    (1.0, 0.5)
    """
    squares = float((parts**2).sum())
    if squares <= 0:
        return 0.0
    total = float(parts.sum())
    return total**2 / (len(parts) * squares)
