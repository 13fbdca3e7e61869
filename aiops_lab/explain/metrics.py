"""Which node caused an alarm, judged by metrics alone, without spans?

Two kinds of evidence. The ledger (`metric_ledger`) says where excess cost originated, where the
calls, the traffic and the latency or the failures of most nodes are known. The deviations
(`metric_deviations`) say which metrics of a node are unusual, whatever they measure. Where it is
known when the trouble began, with exact means and no resources, the ledger decides alone; without
calls the deviations do; else a node's score is the mean of its shares of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.checks import check_instance
from aiops_lab.explain.metric_calls import checked_calls
from aiops_lab.explain.metric_columns import LATENCY, RESOURCE_KINDS, role_of
from aiops_lab.explain.metric_config import MetricsConfig
from aiops_lab.explain.metric_costs import (
    COSTS,
    has_estimates,
    in_percent,
    kinds_of,
    measured_nodes,
    served_nodes,
    tables,
)
from aiops_lab.explain.metric_counters import as_rises
from aiops_lab.explain.metric_deviations import deviations
from aiops_lab.explain.metric_frames import Metrics, moment_s, read_frame
from aiops_lab.explain.metric_ledger import Window, account, graph_between
from aiops_lab.explain.metric_names import check_alarm, check_called, check_nodes, warn_of_names
from aiops_lab.explain.metric_onset import Reading, without_alarm
from aiops_lab.explain.metric_ranking import MetricLedger, by_both, by_ledger
from aiops_lab.results import Suspect

__all__ = ["MetricsConfig", "rank_from_metrics"]

ADJOINING = 2  # steps between two recordings that were one
SAME_STEP = 1.01  # by how many times lengths of intervals may differ


class Alarm(NamedTuple):
    """Where, what and when (Unix s) it was; the cost that it tells (one of `COSTS`, or None)."""

    node: str
    metric: str
    time_s: float
    cost: str | None


def rank_from_metrics(
    normal: pd.DataFrame,
    abnormal: pd.DataFrame,
    calls: Iterable[tuple[str, str]] | None = None,
    target: Mapping[str, Any] | None = None,
    *,
    roles: Mapping[Any, str] | None = None,
    placed: Mapping[str, str] | None = None,
    config: MetricsConfig | None = None,
) -> list[Suspect]:
    """Return the nodes that may have caused the trouble, the likeliest first.

    **The ledger.** The cost of a request is its mean latency (s; estimated from quantiles where no
    mean is measured) or the share of failures. Its reference is the median of `normal`, or its mean
    before the alarm where that is higher and `normal` is from another time, since levels drift. The
    excess of a node is the sum of (cost - reference) x the requests that were due: those served, or
    as many as before where a choking node serves far fewer. Its own excess is that less the excess
    of its callees, each shared among its callers by traffic; where latencies are quantiles, or
    resources are measured too, the callers may have waited up to twice as long as the callee
    measures. What exceeds the noise of normal windows counts.

    Calls may be missing from `calls`: an excess that appears at no known caller must have appeared
    at an unknown one. That is taken to be the node with the largest own excess whose course is
    similar, that is at most twice as large and that cannot be reached from there.

    **The deviations.** Each metric's distance from its usual median, see `metric_deviations`.

    **Together.** Where only means of latency or availability and requests are measured, `calls` are
    given, and it is known when the trouble began, by `target` or by what changes after the first
    row (`metric_onset`), the ledger decides alone. Without calls, or where less than half of the
    nodes of the graph have measured costs, the deviations decide alone. Else a node's score is the
    mean of its share of the excess beyond the noise and of its deviation as a part of the largest
    one; what a node owes to a callee that measures no requests is divided by how unusual the
    resources of the two are. The score is multiplied by a power of the part of all that is slow or
    fails that the node explains (`metric_origins`).

    Assumes that callers wait for their callees, and one fault at a time. A node whose cost changed
    only because its mix of requests did looks like a fault.

    Parameters
    ----------
    normal, abnormal : DataFrame
        Index: start of the interval (Unix s, or times; without a zone UTC), increasing. Columns:
        (node, metric, statistic), (node, metric), or names ``node_metric`` or ``node-metric``.
        Levels whose names tell another order, such as "metric" and "service", are read by them. Any
        metrics; their names say what they measure (latency, also quantiles such as ``p90latency``
        or ``latency-90``; requests or rps; availability, success_rate, errors; cpu, memory, ...).
        NaN: not measured. Nodes may be missing from `normal`: half of their cost before the alarm
        is taken for their noise.
    calls : iterable of (caller, callee), optional
        Or a table with the columns caller and callee, such as that of `service_graph`, a mapping of
        callers to their callees or of pairs to anything (how many calls, say), or a directed graph
        of networkx. May have cycles, whose calls back are left out. Nodes that `abnormal` does not
        measure are bridged: their callers are taken to call their callees. None: not known.
    target : mapping, optional
        The alarm: "node", "metric" (a latency or an availability: only its ledger is kept) and
        "timestamp" (Unix s, or a time). The first row of `abnormal`, and all but the last of those
        that end before it, show the time before. None: all rows are of the trouble. But where
        `normal` is from another time, an own excess beyond the first row of `config.noise_ratio`
        times its noise tells that this row shows the time before, unless in that row another node
        is as far beyond its noise already. Where nothing tells, drift may be taken for trouble, and
        confidences are halved. `metric_onset`.
    roles : mapping, optional
        Of columns or metrics whose names mislead: what they measure, one of
        `metric_columns.ROLES`; ``"ignore"`` leaves them out.
    placed : mapping, optional
        The host of each node. A host is a suspect where two or more of its nodes are.
    config : MetricsConfig, optional
        The constants. Default: those of `MetricsConfig`.

    Returns
    -------
    list of Suspect
        Highest score first, equal scores by name. ``service`` is the node. Of the ledger alone,
        ``score`` is the own excess beyond the noise in seconds or failed requests, or in usual
        requests where the alarm is of another metric (not above 0: within the noise, and in the
        order of own excess over noise); else 0 to 1. ``share`` is its part of all positive scores.
        ``confidence``: of the ledger alone r / (r + 3) with r = own excess over noise, a scale,
        less where no alarm tells since when (`metric_onset`); else learned, see
        `metric_confidence`, times the part of all that is slow or fails that the node surely
        explains (`metric_origins`); lowered, with a ``caution``, where the case is unlike all that
        it was learned from. ``by`` says which evidence weighed more. ``evidence`` has the account
        of the node for each cost: usual, now (cost of a request), requests, due, excess, passed_on
        (by callees), bridged (by callees that `calls` does not name), own and noise; and its most
        unusual metrics: usual, now, scales.

    Raises
    ------
    ValueError
        For a frame with less than the needed rows or columns, tables without a common node, an
        index that does not increase, values out of range, or an unknown target or role: what, and
        which value.

    Warns
    -----
    UnknownNameWarning
        `calls` or `placed` name a node, or `roles` a column, that neither table has and whose name
        is similar to one that they have.

    References
    ----------
    Measured on Hardt et al., "The PetShop Dataset", CLeaR 2024, arXiv 2311.04806. The idea that a
    node is a cause when it is abnormal beyond what its callees explain is the "anomaly traversal"
    there. Deviations: Pham et al., "BARO", doi 10.1145/3660805.

    Examples
    --------
    >>> columns = [(n, *m) for n in "ab" for m in (("latency", "Average"), ("requests", "Sum"))]
    >>> columns = pd.MultiIndex.from_tuples(columns)
    >>> normal = pd.DataFrame([[0.3, 10, 0.1, 10]] * 30, range(0, 9000, 300), columns)
    >>> slow = normal.iloc[:3].copy()
    >>> slow.iloc[1:, [0, 2]] += 0.2
    >>> alarm = {"node": "a", "metric": "latency", "timestamp": 400}
    >>> [s.service for s in rank_from_metrics(normal, slow, [("a", "b")], alarm)]
    ['b']
    """
    check_instance("config", config, MetricsConfig)
    config = config or MetricsConfig()
    alarm = None if target is None else _checked_target(target)
    least_rows = 1 if alarm is None else 2
    now = read_frame("abnormal", abnormal, least_rows, roles)
    usual = read_frame("normal", normal, 1, roles)
    hosts = _checked_hosts(placed)
    pairs = [] if calls is None else checked_calls(calls)
    check_nodes(usual, now)
    check_called(now, pairs)
    if alarm is not None:
        check_alarm(now, alarm.node, alarm.metric)
    labels = (*normal.columns, *abnormal.columns)
    warn_of_names(usual, now, labels, calls=pairs, placed=hosts, roles=roles)
    usual, now = as_rises(usual, now)
    _check_steps(normal=usual, abnormal=now)
    window = _window(usual, now, alarm)
    is_exact = _is_exact(now)
    reading = Reading([], window)
    if calls is not None:
        accounts = partial(_ledgers, usual, now, pairs, alarm, is_exact=is_exact, config=config)
        if alarm is None:
            reading = without_alarm(accounts, window, config)
        else:
            reading = Reading(accounts(window), window)
    ledgers, window, likely, drift = reading
    has_onset = alarm is not None or window.before > 0
    is_alone = is_exact and has_onset and not hosts
    if ledgers and is_alone:
        found = by_ledger(ledgers, len(ledgers) == 1, config)
        return [_less_sure(suspect, likely, drift) for suspect in found]
    return by_both(
        ledgers,
        deviations(usual, now, window.before, config, set(hosts.values())),
        now,
        pairs,
        hosts=hosts,
        intervals=len(usual.starts),
        likely=likely,
        drift=drift,
        config=config,
    )


# ---- input


def _checked_target(target: Mapping[str, Any]) -> Alarm:
    if not isinstance(target, Mapping):
        given = type(target).__name__
        raise ValueError(f"target must be a mapping with node, metric and timestamp, got {given}")
    for key in ("node", "metric", "timestamp"):
        if key not in target:
            raise ValueError(f"target must have {key!r}, got {sorted(target)}")
    metric = target["metric"]
    if not isinstance(metric, str):
        raise ValueError(f"target metric must be a name, got {metric!r}")
    start = moment_s("target timestamp", target["timestamp"])
    return Alarm(target["node"], metric, start, _cost_of(metric))


def _cost_of(metric: str) -> str | None:
    """Return the cost that a metric tells, one of `COSTS`, or None."""
    kind = role_of(metric).kind
    for cost in COSTS:
        if kind in kinds_of(cost):
            return cost
    return None


def _check_steps(normal: Metrics, abnormal: Metrics) -> None:
    """Refuse intervals of two lengths: costs of a minute and of an hour scatter differently."""
    if len(normal.starts) == 1 or len(abnormal.starts) == 1:
        return
    usual, now = normal.step_s, abnormal.step_s
    longer, shorter = max(usual, now), min(usual, now)
    if longer > SAME_STEP * shorter:
        rule = "normal and abnormal must have intervals of one length"
        raise ValueError(f"{rule}, got {usual:g} s and {now:g} s")


def _checked_hosts(placed: Mapping[str, str] | None) -> dict[str, str]:
    if placed is None:
        return {}
    if not isinstance(placed, Mapping):
        given = type(placed).__name__
        raise ValueError(f"placed must be a mapping, got {given}")
    for node, host in placed.items():
        if not isinstance(host, str):
            rule = "must be the name of a host"
            raise ValueError(f"placed[{node!r}] {rule}, got {host!r}")
    return dict(placed)


def _window(usual: Metrics, now: Metrics, alarm: Alarm | None) -> Window:
    """Return how many rows show the time before the alarm: a fault begins up to one interval before
    its alarm.
    """
    rows = len(now.starts)
    end_of_usual = usual.starts[-1] + usual.step_s
    gap = now.starts[0] - end_of_usual
    adjoins = abs(gap) <= ADJOINING * now.step_s
    if alarm is None:
        return Window(rows, 0, adjoins)
    shortest = np.diff(now.starts).min()
    ends = now.starts + shortest
    ended = int((ends <= alarm.time_s).sum())
    if ended == 0:
        return Window(rows, 0, adjoins)
    before = max(1, ended - 1)
    return Window(rows, min(before, rows - 1), adjoins)


def _less_sure(suspect: Suspect, likely: float, drift: str) -> Suspect:
    """Return the suspect of accounts that show trouble, not drift, this likely."""
    return replace(suspect, confidence=suspect.confidence * likely, caution=drift)


# ---- which evidence is there


def _is_exact(now: Metrics) -> bool:
    """Return whether nothing but means of costs and requests is measured."""
    roles = [now.roles[column] for column in now.columns]
    kinds = {role.kind for role in roles}
    has_resources = not kinds.isdisjoint(RESOURCE_KINDS)
    return not has_resources and not has_estimates(now)


def _ledgers(
    usual: Metrics,
    now: Metrics,
    calls: list[tuple[str, str]],
    alarm: Alarm | None,
    window: Window,
    *,
    is_exact: bool,
    config: MetricsConfig,
) -> list[MetricLedger]:
    """Return the accounts of the costs that are measured where it matters.

    Where the case `is_exact`, callers wait as long as their callees measure, no longer.
    """
    wanted = COSTS if alarm is None or alarm.cost is None else (alarm.cost,)
    percent = in_percent(usual, now)
    found = []
    for metric in wanted:
        nodes = _accountable(usual, now, metric, alarm)
        if not nodes or not _is_covered(nodes, now, calls):
            continue
        entry = None
        if alarm is not None and alarm.node in nodes:
            entry = nodes.index(alarm.node)
        graph = graph_between(calls, nodes, entry)
        is_latency = metric == LATENCY
        table = account(
            tables(now, nodes, metric, percent),
            tables(usual, nodes, metric, percent),
            nodes,
            graph,
            window,
            entry,
            is_latency=is_latency,
            waits_longer=is_latency and not is_exact,
            config=config,
        )
        found.append(MetricLedger(metric, table))
    return found


def _accountable(usual: Metrics, now: Metrics, metric: str, alarm: Alarm | None) -> list[str]:
    """Return the nodes whose costs are measured, of requests that there are."""
    nodes = measured_nodes(now, metric)
    is_alarming = alarm is not None and alarm.cost == metric
    if nodes and alarm is not None and is_alarming and alarm.node not in nodes:
        rule = f"abnormal must measure the {metric} and the requests of the target's node"
        raise ValueError(f"{rule}, got neither or one of them of {alarm.node!r}")
    usually = measured_nodes(usual, metric)
    if nodes and set(nodes).isdisjoint(usually):
        rule = f"normal must measure the {metric} of a node of abnormal"
        raise ValueError(f"{rule}, got none")
    served = served_nodes(now) | served_nodes(usual)
    return [node for node in nodes if node in served]


def _is_covered(nodes: list[str], now: Metrics, calls: list[tuple[str, str]]) -> bool:
    """Return whether at least half of the graph's nodes that have metrics have costs."""
    of_graph: set[str] = set()
    for call in calls:
        of_graph.update(call)
    measured = set(now.values.columns.unique(0))
    named = measured & of_graph
    covered = named & set(nodes)
    return 2 * len(covered) >= len(named)
