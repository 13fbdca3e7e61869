"""How do the issues of PetShop become cases? Metrics and a call graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.cases import Case, MetricsCase
from aiops_lab.datasets.files import read_csv, read_json, wrong

if TYPE_CHECKING:
    import pandas as pd

MINUTE_5 = 300  # seconds of a PetShop interval

ISSUE_ROWS = 5  # and the rows of an issue

# what `rank_from_metrics` reads of a node; PetShop has four quantiles of latency besides
NODE_METRICS = (("latency", "Average"), ("requests", "Sum"), ("availability", "Average"))

FALLBACK = "low_traffic"  # whose fault-free data is used for a scenario without its own


def read_petshop(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    root = directory / "dataset" if (directory / "dataset").is_dir() else directory
    scenarios = [
        p
        for p in sorted(root.iterdir())
        if p.is_dir() and (_issues(p) or (p / "graph.csv").exists())
    ]
    normal = {
        p.name: _metrics(p / "noissue/metrics.csv") for p in scenarios if (p / "noissue").is_dir()
    }
    return [case for scenario in scenarios for case in _issues_of(scenario, normal)], []


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
        name = "/".join(folder.parts[-3:])
        yield MetricsCase(name, scenario.name, cause, normal, abnormal, calls, target)


def _issues(scenario: Path) -> list[Path]:
    """Return the folders of issues; issue_10 comes after issue_9."""
    found = [p for p in scenario.glob("*/issue_*") if p.is_dir()]
    return sorted(found, key=lambda p: (p.parent.name, len(p.name), p.name))


def _call_graph(path: Path) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the (caller, callee) of the 0/1 matrix, and all nodes."""
    graph = read_csv(path, index_col=0)
    if graph.empty or list(graph.index) != list(graph.columns):
        raise wrong(path, "rows and columns must be the same nodes, in the same order")
    if not graph.isin([0, 1]).all(axis=None):
        raise wrong(path, "must hold 0 and 1 only")
    calls = [
        (str(a), str(b))
        for a, row in zip(graph.index, graph.to_numpy(), strict=True)
        for b, edge in zip(graph.columns, row, strict=True)
        if edge
    ]
    return calls, set(graph.index)


def _metrics(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Return (node, metric, statistic) by start of the interval; NaN where there was no traffic."""
    from pandas.api.types import is_numeric_dtype

    frame = read_csv(path, header=[0, 1, 2], index_col=0)
    if frame.columns.nlevels != 3:
        raise wrong(path, "must have three header rows: node, metric, statistic")
    for column, dtype in frame.dtypes.items():
        if not is_numeric_dtype(dtype):
            raise wrong(path, f"column {column!r} must be numbers, got {dtype}")
    if not is_numeric_dtype(frame.index.dtype) or frame.index.hasnans:
        raise wrong(
            path,
            f"the first column must be Unix seconds, got {frame.index.dtype} or missing values",
        )
    if not frame.index.is_monotonic_increasing or not frame.index.is_unique:
        raise wrong(path, "intervals must be in order, each once")
    if len(frame) == 0 or (rows is not None and len(frame) != rows):
        raise wrong(path, f"must have {rows or 'some'} rows, got {len(frame)}")
    _check_metrics(path, frame)
    return frame


def _check_metrics(path: Path, frame: pd.DataFrame) -> None:
    wanted = [(node, *metric) for node in frame.columns.unique(0) for metric in NODE_METRICS]
    for lacking in (column for column in wanted if column not in frame.columns):
        raise wrong(path, f"lacks the column {lacking!r}")
    outside = (frame < 0) | (frame == float("inf"))
    outside |= frame.gt(100) & (frame.columns.get_level_values(1) == "availability")
    if outside.any(axis=None):
        column = frame.columns[outside.any()][0]
        raise wrong(path, f"column {column!r} must be >= 0 and finite, availability <= 100")
    if frame.loc[:, [c[1] == "requests" for c in frame.columns]].isna().any(axis=None):
        raise wrong(path, "requests must not be missing (0 where there was no traffic)")


def _target(path: Path, abnormal: pd.DataFrame, nodes: set[str]) -> tuple[dict[str, Any], str]:
    """Return the alarm and the node that is its cause."""
    issue = read_json(path)
    try:
        target = {key: issue["target"][key] for key in ("node", "metric", "agg", "timestamp")}
        cause = issue["root_cause"]["node"]
        begin = float(target["timestamp"])
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(
            path, f"must have target (node, metric, agg, timestamp) and root_cause.node ({error!r})"
        ) from error
    column = (target["node"], target["metric"], target["agg"])
    if column not in abnormal.columns:
        raise wrong(path, f"target {column!r} is no column of metrics.csv")
    if cause not in nodes:
        raise wrong(path, f"root_cause.node {cause!r} is no node of graph.csv")
    if not abnormal.index[0] <= begin < abnormal.index[-1] + MINUTE_5:
        raise wrong(path, f"target.timestamp {target['timestamp']} lies outside of metrics.csv")
    return target, cause
