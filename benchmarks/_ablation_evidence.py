"""Root cause on metrics of any kind: what is each part of the ranking worth, on each system?

A part goes by a constant at its end, by leaving out its metrics, or by withholding the calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd

import aiops_lab as lab
from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.explain.metric_columns import FAILURES, LATENCY, RESOURCE_KINDS
from aiops_lab.explain.metric_frames import read_frame
from aiops_lab.explain.metrics import MetricsConfig
from benchmarks._ablation import REMOVED, WHOLE, bar, family
from benchmarks._metrics import Ask, parts, quiet
from benchmarks._petshop import HALF, SILENT, Answer
from benchmarks._tables import Row, Table, share

FAR = 1e12  # beyond all deviations
NONE = 1e-9  # below all


def asked(case: MetricsCase, config: MetricsConfig | None = None) -> Answer:
    """Ask `rank_from_metrics` with other constants."""
    suspects = lab.rank_from_metrics(
        case.normal, case.abnormal, case.calls, case.target, config=config
    )
    if not suspects:
        return SILENT
    first = suspects[0]
    return Answer(first.service, first.score > 0 and first.confidence >= HALF)


def without_calls(case: MetricsCase) -> Answer:
    """Ask by deviations alone."""
    suspects = lab.rank_from_metrics(case.normal, case.abnormal)
    return Answer(suspects[0].service, suspects[0].confidence >= HALF) if suspects else SILENT


def without(kinds: Sequence[str], case: MetricsCase) -> Answer:
    """Ask without the metrics of some kinds."""
    normal, now = (_less(kinds, frame) for frame in (case.normal, case.abnormal))
    try:
        suspects = lab.rank_from_metrics(normal, now, case.calls, case.target)
    except ValueError:  # no columns are left
        return SILENT
    return Answer(suspects[0].service, suspects[0].confidence >= HALF) if suspects else SILENT


def _less(kinds: Sequence[str], frame: pd.DataFrame) -> pd.DataFrame:
    read = read_frame("normal", frame, 1)
    kept = [column for column in read.columns if read.roles[column].kind not in kinds]
    return read.values[kept].set_axis(frame.index)


def _other(**constants: Any) -> Ask:
    return partial(asked, config=MetricsConfig(**constants))


PARTS: dict[str, Ask] = {
    WHOLE: asked,
    "without the accounts (no calls)": without_calls,
    "without the deviations": _other(min_deviation=FAR),
    "without requests that were due": _other(min_served=0.0),
    "without a longer wait of callers": _other(max_call_ratio=1.0),
    "without a least scatter": _other(relative_noise=NONE),
    "a least deviation of 1, not 3": _other(min_deviation=1.0),
    "without what a node explains": _other(explained_power=0.0),
    "without bridging": _other(min_cosine=2.0),
    "without noise of few intervals": _other(min_intervals=10**6),
    "without failures": partial(without, FAILURES),
    "without resources": partial(without, RESOURCE_KINDS),
    "without latency": partial(without, (LATENCY,)),
}


def table(title: str, cases: Sequence[MetricsCase], progress: bool) -> Table:
    """Return how many faults of each system and kind stay right without each part."""
    groups = parts(cases)
    rows = [
        _row(name, ask, cases, groups) for name, ask in bar(list(PARTS.items()), title, progress)
    ]
    where = f"{len(cases)} faults, seen while tuning"
    columns = (*groups, "silent, %")
    return Table(f"{title}: one part removed", where, "top-1, %", rows, columns)


def _row(
    name: str, ask: Ask, cases: Sequence[MetricsCase], groups: dict[str, list[MetricsCase]]
) -> Row:
    right = {case.name: ask(case).node == case.truth for case in cases}
    silent = sum(not ask(quiet(case)).speaks for case in cases)
    counted = [
        f"{sum(right[case.name] for case in some)} of {len(some)}" for some in groups.values()
    ]
    others = (*counted, str(share(silent, len(cases))))
    estimate = share(sum(right.values()), len(cases))
    return Row(name, family(name, REMOVED), estimate, None, "", others)
