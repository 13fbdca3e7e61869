"""Root cause on metrics as tools write them: Cloud-OpsBench and RCD's sock shop, by system and kind
of fault.

The windows without a fault are the second half of each case's normal part, with the first half as
what is usual. Silent is an empty answer, or one that its method does not vouch for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

import aiops_lab as lab
from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.explain.metric_columns import LATENCY
from aiops_lab.explain.metric_frames import read_frame
from benchmarks._petshop import SIGMAS, SILENT, Answer, first_of
from benchmarks._tables import Asked, Row, Table, share
from shop.experiments.text_tables import many

TITLES = {
    "cloudopsbench": "Cloud-OpsBench: metrics, calls and alerts",
    "rcd": "RCD's sock shop: metrics without a graph",
}

Ask = Callable[[MetricsCase], Answer]
TAIL = 0.9  # the least quantile of a tail latency
SMALL = 1e-9  # the least deviation by which is divided

# What the constants of this package were chosen on: the numbers of the cases.
SEEN_NUMBERS = {
    "boutique-infrastructure": (41, 44, 46),
    "boutique-performance": (1, 2, 4, 5, 7, 10, 11, 13, 15, 16, 17, 18, 20),
    "trainticket-performance": (
        *(1, 4, 5, 7, 8, 10, 11, 12, 13, 16, 19, 21, 22, 26, 27, 28, 29, 33, 36, 39, 43, 46, 47),
    ),
    "carts-cpu": (2,),
    "carts-mem": (1, 4),
    "catalogue-cpu": (1, 4),
    "catalogue-mem": (2, 4),
    "orders-cpu": (4, 5),
    "orders-mem": (1, 2, 3, 4, 5),
    "payment-cpu": (1, 4, 5),
    "payment-mem": (4, 5),
    "user-cpu": (1, 2, 3, 4, 5),
    "user-mem": (1, 2, 5),
}


def seen(case: MetricsCase) -> bool:
    """Return whether this package's constants were chosen while looking at the case."""
    kind, _, number = case.name.rpartition("/")[2].rpartition("-")
    return int(number) in SEEN_NUMBERS.get(kind, ())


class Method(NamedTuple):
    """A method to compare; `tuned`: on what."""

    name: str
    family: str
    ask: Ask
    tuned: str = "nothing"


# ---- who answers


def this_package(case: MetricsCase) -> Answer:
    """Ask `rank_from_metrics`."""
    return first_of(lab.rank_from_metrics(case.normal, case.abnormal, case.calls, case.target))


def at_random(case: MetricsCase) -> Answer:
    """Draw a node; equal cases, equal draws."""
    rng = np.random.default_rng(list(case.name.encode()))
    nodes = read_frame("abnormal", case.abnormal, 1).values.columns.unique(0)
    return Answer(str(rng.choice(sorted(nodes))))


def alerts_of(case: MetricsCase) -> dict[str, tuple[str, ...]]:
    """Return the alerts of a case; where the set has none, the metrics of each node whose mean lies
    more than three usual deviations away.
    """
    if case.alerts:
        return case.alerts
    normal, now = _both(case)
    z = ((now.mean() - normal.mean()) / normal.std(ddof=0).clip(lower=SMALL)).abs()
    roles = read_frame("normal", case.normal, 1).roles
    found: dict[str, tuple[str, ...]] = {}
    for column in z.index[z > SIGMAS]:
        found[column[0]] = (*found.get(column[0], ()), roles[column].kind)
    return found


def loudest_alarm(case: MetricsCase) -> Answer:
    """Blame the node with the most alerts."""
    alerts = alerts_of(case)
    if not alerts:
        return SILENT
    return Answer(max(sorted(alerts), key=lambda node: len(alerts[node])))


def deepest_alarm(case: MetricsCase) -> Answer:
    """Blame the node whose latency alerts while that of no callee does; of several the furthest
    from the entry. Without a call graph it has no answer.
    """
    alerts = alerts_of(case)
    slow = {n for n, kinds in alerts.items() if {"LATENCY_DEGRADATION", LATENCY} & set(kinds)}
    calls = case.calls or []
    known = sorted(slow & {node for call in calls for node in call})
    deepest = [n for n in known if not any(a == n and b in slow for a, b in calls)]
    depth = depths(calls)
    return Answer(max(deepest or known, key=lambda n: depth.get(n, 0))) if known else SILENT


def depths(calls: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the least number of calls that lead from a node without callers to each node, by the
    furthest of these entries.
    """
    entries = sorted({a for a, _ in calls} - {b for _, b in calls})
    found: dict[str, int] = {}
    for entry in entries:
        distance = {entry: 0}
        level = [entry]
        while level:
            level = [b for a, b in calls if a in level and b not in distance]
            distance |= dict.fromkeys(level, max(distance.values()) + 1)
        for node, steps in distance.items():
            found[node] = max(found.get(node, 0), steps)
    return found


def mean_z(case: MetricsCase) -> Answer:
    """Blame the node with the largest mean of |z| over its metrics."""
    normal, now = _both(case)
    z = ((now.mean() - normal.mean()) / normal.std(ddof=0).clip(lower=SMALL)).abs()
    return _first(z.groupby(level=0).mean())


def mean_z_with_floor(case: MetricsCase) -> Answer:
    """Do the same with a deviation of at least a twentieth of the level."""
    normal, now = _both(case)
    least = 0.05 * normal.mean().abs()
    scale = (normal.var() + least**2) ** 0.5
    z = ((now.mean() - normal.mean()) / scale.clip(lower=SMALL)).abs()
    return _first(z.groupby(level=0).mean())


def tail_z(case: MetricsCase) -> Answer:
    """Blame the node with the largest z of a tail latency."""
    told = read_frame("normal", case.normal, 1)
    tails = [c for c in told.columns if _is_tail(told.roles[c].kind, told.roles[c].quantile)]
    if not tails:
        return SILENT
    normal, now = (frame[tails] for frame in _both(case))
    z = (now.mean() - normal.mean()) / normal.std(ddof=0).clip(lower=SMALL)
    return _first(z.groupby(level=0).max())


def _is_tail(kind: str, quantile: float | None) -> bool:
    return kind == LATENCY and quantile is not None and quantile >= TAIL


def baro(case: MetricsCase) -> Answer:
    """Blame by BARO's robust score: the largest rise above the usual median, in IQRs (doi
    10.1145/3660805).

    As its authors' package does it: metrics that are constant on one side are left out, memory is
    in MB, and an IQR of 0 counts as 1, so that the unit decides there.
    """
    normal, now = _both(case)
    varied = (normal.nunique() > 1) & (now.nunique() > 1)
    normal, now = _in_mb(normal.loc[:, varied]), _in_mb(now.loc[:, varied])
    iqr = normal.quantile(0.75) - normal.quantile(0.25)
    rise = (now - normal.median()).max() / iqr.where(iqr > 0, 1.0)
    return _first(rise.groupby(level=0).max())


def _in_mb(frame: pd.DataFrame) -> pd.DataFrame:
    is_memory = frame.columns.get_level_values(1) == "mem"
    return frame.div(np.where(is_memory, 1e6, 1.0))


def _both(case: MetricsCase) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return normal and abnormal with columns (node, metric, statistic) that both have."""
    normal = read_frame("normal", case.normal, 1).values
    now = read_frame("abnormal", case.abnormal, 1).values
    both = normal.columns.intersection(now.columns)
    return normal[both], now[both]


def _first(scores: pd.Series) -> Answer:
    scores = scores.dropna().sort_index()
    return SILENT if scores.empty else Answer(str(scores.idxmax()), bool(scores.max() > SIGMAS))


def always(node: str) -> Ask:
    """Return a method that knows one answer."""
    return lambda case: Answer(node)


METHODS = (
    Method("deepest alarm", "classic rule", deepest_alarm),
    Method("z of tail latency", "classic rule", tail_z),
    Method("mean z over metrics", "classic rule", mean_z),
    Method("mean z with a floor", "classic rule", mean_z_with_floor),
    Method("BARO", "classic rule", baro),
    Method("loudest alarm", "baseline", loudest_alarm),
    Method("random", "baseline", at_random),
)


# ---- how they are judged


def parts(cases: Sequence[MetricsCase]) -> dict[str, list[MetricsCase]]:
    """Return the cases by system and kind of fault."""
    found: dict[str, list[MetricsCase]] = {}
    for case in cases:
        kind = case.fault.replace("_", " ")
        found.setdefault(f"{case.group}, {kind}" if kind else case.group, []).append(case)
    return dict(sorted(found.items()))


def quiet(case: MetricsCase) -> MetricsCase:
    """Return a case without a fault: the halves of the normal part, without the alerts."""
    half = len(case.normal) // 2
    usual, calm = case.normal.iloc[:half], case.normal.iloc[half:]
    return replace(case, normal=usual, abnormal=calm, alerts={})


def table(
    title: str,
    part: str,
    cases: Sequence[MetricsCase],
    tuned: str,
    own: Sequence[Method] = (),
) -> Table:
    """Return all methods on the same cases, those of the user (`own`) among them."""
    ((commonest, _),) = Counter(sorted(case.truth for case in cases)).most_common(1)
    told = Method("always the same", "baseline", always(commonest), "the answers")
    asked = (Method("aiops_lab", "this package", this_package, tuned), *own, *METHODS, told)
    groups = parts(cases)
    judged = {method.name: _right(method, cases) for method in asked}
    rows = [_row(method, cases, groups, *judged[method.name]) for method in asked]
    notes = [
        "Silent: share of the fault-free windows (second half of each case's normal part, the "
        "first half as usual) without a suspect that the method vouches for.",
        "The alerts are those of the data set; where it has none, and in windows without a fault, "
        "the metrics whose mean lies more than three usual deviations away.",
        "Of a fault of a whole host no method is told which services it runs.",
    ]
    columns = (*groups, "silent, %")
    asked_of = [Asked(case.group, case.fault.replace("_", " ")) for case in cases]
    right = {name: list(found.values()) for name, (found, _) in judged.items()}
    told_of = f"{many(len(cases), 'fault')}, {part}"
    return Table(title, told_of, "top-1, %", rows, columns, notes, asked_of, right)


def _right(method: Method, cases: Sequence[MetricsCase]) -> tuple[dict[str, bool], float]:
    """Return whether a method is right on each case, and the CPU seconds a case."""
    begin = time.process_time()
    right = {case.name: method.ask(case).node == case.truth for case in cases}
    return right, (time.process_time() - begin) / len(cases)


def _row(
    method: Method,
    cases: Sequence[MetricsCase],
    groups: dict[str, list[MetricsCase]],
    right: dict[str, bool],
    cpu_s: float,
) -> Row:
    silent = sum(not method.ask(quiet(case)).speaks for case in cases)
    counted = [
        f"{sum(right[case.name] for case in some)} of {len(some)}" for some in groups.values()
    ]
    others = (*counted, str(share(silent, len(cases))))
    estimate = share(sum(right.values()), len(cases))
    return Row(method.name, method.family, estimate, cpu_s, method.tuned, others)
