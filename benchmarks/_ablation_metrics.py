"""Root cause on metrics: what is each part of the accounts worth, and what do other constants do?

PetShop's training issues have one cause, so random shops of the virtual kind stand beside them:
their spans, summed up by endpoint and interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import aiops_lab as lab
import shop
from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.explain.metrics import MetricsConfig
from benchmarks import _petshop
from benchmarks._ablation import CONDITIONS, REMOVED, WHOLE, bar, family
from benchmarks._petshop import SILENT, Answer, Calls
from benchmarks._tables import Row, Table, share
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.scenario import BEGIN_NS, Scenario

SHOPS, SIZE, FIRST_SEED = 20, 30, 7000
SECONDS, ROW_S = 600, 10  # of normal days, and an interval's
SEEN_IN_METRICS = {
    "delay": "latency",
    "slow": "latency",
    "error": "availability",
    "shed": "availability",
}


def random_shops(shops: int = SHOPS, size: int = SIZE, progress: bool = False) -> list[MetricsCase]:
    """Return faults at random places of random shops, told by metrics: kinds that the endpoint's
    own metrics show.
    """
    scenarios = (anywhere(layered(size, FIRST_SEED + k), k) for k in range(100 * shops))
    known = (scenario for scenario in scenarios if scenario.faults[0].kind in SEEN_IN_METRICS)
    chosen = [next(known) for _ in range(shops)]
    return [
        _told(scenario, seed)
        for seed, scenario in bar(list(enumerate(chosen)), "random shops", progress)
    ]


def _told(scenario: Scenario, seed: int) -> MetricsCase:
    (fault,) = scenario.faults
    later = replace(fault, start_s=float(SECONDS), end_s=float(SECONDS + 4 * ROW_S))
    spans = shop.virtual(
        replace(scenario, faults=(later,), seconds=SECONDS + 5.0 * ROW_S, rate=10.0),
        seed,
        progress=False,
    )
    graph, metric, told = lab.service_graph(spans), SEEN_IN_METRICS[fault.kind], by_interval(spans)
    calls = list(graph[["caller", "callee"]].itertuples(index=False, name=None))
    abnormal = told.loc[SECONDS - ROW_S :]
    tops = sorted(set(graph["caller"]) - set(graph["callee"]))
    rose = _petshop.cost_of(abnormal, metric)[tops].diff().iloc[1:].max()
    alarm = {"node": rose.idxmax(), "metric": metric, "timestamp": SECONDS + 1.5 * ROW_S}
    (_, route), *_ = scenario.causes
    return MetricsCase(
        scenario.name, f"{seed}", route, told.loc[: SECONDS - ROW_S - 1], abnormal, calls, alarm
    )


def by_interval(spans: pd.DataFrame) -> pd.DataFrame:
    """Return metrics as `rank_from_metrics` takes them, by the start of the interval (s)."""
    served = spans[(spans["kind"] == "server") & spans["duration_ms"].notna()]
    start = (served["start"].astype("int64") - BEGIN_NS) // 10**9 // ROW_S * ROW_S
    groups = served.assign(up=(served["status"] < 500) * 100.0).groupby(
        [start.rename("start"), "endpoint"]
    )
    columns = {
        ("latency", "Average"): groups["duration_ms"].mean() / 1e3,
        ("availability", "Average"): groups["up"].mean(),
        ("requests", "Sum"): groups.size(),
    }
    frame = pd.concat({name: column.unstack() for name, column in columns.items()}, axis=1)
    return frame.reorder_levels([2, 0, 1], axis=1)


def paths_cut(cases: Sequence[MetricsCase]) -> Iterator[tuple[MetricsCase, Calls]]:
    """Return each case as often as its cause has a caller, each time with one of these calls
    withheld.
    """
    for case in cases:
        for call in _petshop.calls_of(case):
            if call[1] == case.truth:
                yield case, [other for other in _petshop.calls_of(case) if other != call]


def evenly(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Ask with every interval that has requests counting the same."""
    return _petshop.this_package(_one_request(normal), _one_request(abnormal), calls, target)


def _one_request(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    requests = frame.columns.get_level_values(1) == "requests"
    frame.loc[:, requests] = (frame.loc[:, requests] > 0).astype(float)
    return frame


def no_callees(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Ask without a call graph, and without guessing one."""
    return no_bridges(normal, abnormal, [], target)


def no_bridges(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Ask with no missing call guessed: no two courses have a cosine of 2."""
    config = MetricsConfig(min_cosine=2.0)
    return _petshop.this_package(normal, abnormal, calls, target, config=config)


def no_noise(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Take the largest own excess, whatever is usual of it."""
    suspects = lab.rank_from_metrics(normal, abnormal, calls, target)
    return Answer(max(suspects, key=lambda s: s.evidence[0]["own"]).service) if suspects else SILENT


def no_before(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Compare with the normal median alone, not with what was before the alarm."""
    abnormal = abnormal.copy()
    measured = abnormal.columns[abnormal.columns.get_level_values(1) != "requests"]
    abnormal.loc[abnormal.index[0], measured] = np.nan
    return _petshop.this_package(normal, abnormal, calls, target)


def no_alarm(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Ask without telling what alarmed, and when."""
    return _petshop.first_of(lab.rank_from_metrics(normal, abnormal, calls))


PARTS: dict[str, _petshop.Ask] = {
    WHOLE: _petshop.this_package,
    "without request weighting": evenly,
    "without callee subtraction": no_callees,
    "without bridging": no_bridges,
    "without noise": no_noise,
    "without the time before the alarm": no_before,
    "without the alarm": no_alarm,
}
OTHER_CONSTANTS = (
    ("quantile", 0.95, 0.999),
    ("noise_ratio", 2.0, 4.0),
    ("min_cosine", 0.8, 0.95),
)


def petshop(cases: Sequence[MetricsCase], progress: bool) -> list[Table]:
    """Return what each part of the metric accounts is worth, and what other constants do."""
    shops = random_shops(progress=progress)
    parts = [
        _row(name, ask, cases, shops, REMOVED)
        for name, ask in bar(PARTS.items(), "metric parts", progress)
    ]
    others = [parts[0]]
    for constant, value in bar(
        [(c, v) for c, *both in OTHER_CONSTANTS for v in both], "constants", progress
    ):
        name = f"{constant} {value:g} instead of {getattr(MetricsConfig(), constant):g}"
        config = replace(MetricsConfig(), **{constant: value})
        ask = partial(_petshop.this_package, config=config)
        others.append(_row(name, ask, cases, shops, CONDITIONS))
    where = f"PetShop, {len(cases)} issues seen while tuning, and {SHOPS} random shops"
    columns = ("random shops, whole", "PetShop", "with edges dropped, %", "silent, %")
    measure = "random shops, a call to the cause withheld, %"
    notes = [
        f"Random shops: {SHOPS} of the virtual kind with {SIZE} endpoints and one fault each, told "
        "by metrics; each call to the cause withheld in turn. PetShop's training issues have one "
        "cause, with nobody slow below it: what callees are subtracted for does not show there.",
    ]
    return [
        Table("Metrics: one part removed", where, measure, parts, columns, notes),
        Table("Metrics: other constants", where, measure, others, columns),
    ]


def _row(
    name: str,
    ask: _petshop.Ask,
    cases: Sequence[MetricsCase],
    shops: Sequence[MetricsCase],
    kind: str,
) -> Row:
    judged, whole = _petshop.judge(ask, cases), _petshop.judge(ask, shops, whole=False)
    cut = [
        ask(*_petshop.question(case, calls)).node == case.truth for case, calls in paths_cut(shops)
    ]
    counted = (f"{k} of {n}" for k, n in (whole.right, judged.right))
    rates = (f"{100 * k / n:.1f}" for k, n in (judged.dropped, judged.silent))
    return Row(name, family(name, kind), share(sum(cut), len(cut)), None, "", (*counted, *rates))
