"""Issues of PetShop as cases: metrics, a call graph and the cause."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.cases import Case, MetricsCase, ReadCases
from aiops_lab.datasets.files import (
    NUMBERS,
    check_kinds,
    csv_table,
    raise_first,
    read_json,
    wrong,
)

if TYPE_CHECKING:
    import pandas as pd

INTERVAL_S = 300  # of PetShop's metrics

ISSUE_ROWS = 5  # intervals of an issue

# what `rank_from_metrics` reads of a node; PetShop has four quantiles of latency besides
NODE_METRICS = (("latency", "Average"), ("requests", "Sum"), ("availability", "Average"))

FALLBACK = "low_traffic"  # whose fault-free data is used for a scenario without its own


def read_petshop(directory: Path) -> ReadCases:
    """Return a case for each issue; none is left out."""
    root = directory
    if (directory / "dataset").is_dir():
        root = directory / "dataset"
    folders = sorted(root.iterdir())
    scenarios = [p for p in folders if _issues(p) or (p / "graph.csv").exists()]
    normals = {}
    for scenario in scenarios:
        without_issue = scenario / "noissue"
        if without_issue.is_dir():
            normals[scenario.name] = _metrics(without_issue / "metrics.csv")
    cases: list[Case] = []
    for scenario in scenarios:
        cases += _issues_of(scenario, normals)
    return cases, []


def _issues_of(scenario: Path, normals: dict[str, pd.DataFrame]) -> Iterator[Case]:
    calls, nodes = _call_graph(scenario / "graph.csv")
    issues = _issues(scenario)
    if not issues:
        missing = scenario / "*" / "issue_*"
        raise FileNotFoundError(f"{scenario} holds no issues: {missing} is missing")
    normal = normals.get(scenario.name, normals.get(FALLBACK))
    if normal is None:
        missing = scenario / "noissue/metrics.csv"
        raise FileNotFoundError(f"{missing} is missing, and {FALLBACK}'s too")
    for folder in issues:
        abnormal = _metrics(folder / "metrics.csv", ISSUE_ROWS)
        target, cause = _target(folder / "target.json", abnormal, nodes)
        yield MetricsCase(
            name="/".join(folder.parts[-3:]),
            group=scenario.name,
            truth=cause,
            normal=normal,
            abnormal=abnormal,
            calls=calls,
            target=target,
        )


def _issues(scenario: Path) -> list[Path]:
    """Return the folders of issues; issue_10 comes after issue_9."""
    found = [p for p in scenario.glob("*/issue_*") if p.is_dir()]
    return sorted(found, key=lambda p: (p.parent.name, len(p.name), p.name))


def _call_graph(path: Path) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the (caller, callee) of the 0/1 matrix, and all nodes."""
    import numpy as np

    graph = csv_table(path, index_col=0)
    names = list(graph.index)
    if graph.empty or names != list(graph.columns):
        raise wrong(path, "rows and columns must be the same nodes, in the same order")
    if not graph.isin([0, 1]).all(axis=None):
        raise wrong(path, "must hold 0 and 1 only")
    names = [*map(str, names)]
    called = np.argwhere(graph == 1)
    calls = [(names[caller], names[callee]) for caller, callee in called]
    return calls, set(names)


def _metrics(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Return (node, metric, statistic) by start of the interval; NaN where there was no traffic."""
    frame = csv_table(path, header=[0, 1, 2], index_col=0)
    if frame.columns.nlevels != 3:
        raise wrong(path, "must have three header rows: node, metric, statistic")
    if rows is None and len(frame) == 0:
        raise wrong(path, "must have some rows, got 0")
    if rows is not None and len(frame) != rows:
        raise wrong(path, f"must have {rows} rows, got {len(frame)}")
    check_kinds(path, frame, dict.fromkeys(frame.columns, NUMBERS))
    raise_first(path, _metric_problems(frame))
    return frame


def _metric_problems(frame: pd.DataFrame) -> Iterator[str]:
    intervals = frame.index
    if intervals.dtype.kind not in "fiu" or intervals.hasnans:
        yield f"the first column must be Unix seconds, got {intervals.dtype} or missing values"
    if not intervals.is_monotonic_increasing or not intervals.is_unique:
        yield "intervals must be in order, each once"
    for node, metric in product(frame.columns.unique(0), NODE_METRICS):
        column = node, *metric
        if column not in frame.columns:
            yield f"lacks the column {column!r}"
    metrics = frame.columns.get_level_values(1)
    is_percent = metrics == "availability"
    outside = (frame < 0) | (frame == float("inf"))
    outside |= frame.gt(100) & is_percent
    if outside.any(axis=None):
        wrong_columns = frame.columns[outside.any()]
        yield f"column {wrong_columns[0]!r} must be >= 0 and finite, availability <= 100"
    requests = frame.loc[:, metrics == "requests"]
    if requests.isna().any(axis=None):
        yield "requests must not be missing (0 where there was no traffic)"


def _target(path: Path, abnormal: pd.DataFrame, nodes: set[str]) -> tuple[dict[str, Any], str]:
    """Return the alarm and the node that is its cause."""
    issue = read_json(path)
    try:
        told = issue["target"]
        target = {key: told[key] for key in ("node", "metric", "agg", "timestamp")}
        cause = issue["root_cause"]["node"]
        begin = float(target["timestamp"])
    except (KeyError, TypeError, ValueError) as error:
        rule = "must have target (node, metric, agg, timestamp) and root_cause.node"
        raise wrong(path, f"{rule} ({error!r})") from error
    column = target["node"], target["metric"], target["agg"]
    if column not in abnormal.columns:
        raise wrong(path, f"target {column!r} is no column of metrics.csv")
    if cause not in nodes:
        raise wrong(path, f"root_cause.node {cause!r} is no node of graph.csv")
    first = abnormal.index[0]
    last = abnormal.index[-1]
    if not first <= begin < last + INTERVAL_S:
        raise wrong(path, f"target.timestamp {begin:.0f} lies outside of metrics.csv")
    return target, cause
