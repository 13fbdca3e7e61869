"""Faults of Cloud-OpsBench as cases: metrics, a call graph, the alerts and the cause.

A case is a folder ``SYSTEM-CATEGORY-NUMBER`` with four files of the benchmark: metrics.csv (gzip or
not), metadata.json, alert.json, and calls.json, which holds the pairs (caller, callee) of the first
answer of the tool GetServiceDependencies in its tool_cache.json. Only some of its cases have
metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab.datasets.cases import Case, MetricsCase, ReadCases
from aiops_lab.datasets.files import NUMBERS, check_kinds, csv_table, read_json, wrong

if TYPE_CHECKING:
    import pandas as pd

HOST_FAULT = "node"  # the group of faults of a whole host


class _Alerts(NamedTuple):
    """When the first began and the last ended, and what was unusual where."""

    begin: pd.Timestamp
    end: pd.Timestamp
    told: dict[str, tuple[str, ...]]


def read_cloudopsbench(directory: Path) -> ReadCases:
    """Return a case for each fault with metrics, and those without by name.

    What lies before the first alert is usual, what lies within the alerts unusual; the recovery
    after them is left out.
    """
    files = [*directory.glob("*/metadata.json"), *directory.glob("*/metrics.csv*")]
    folders = sorted({path.parent for path in files})
    with_metrics = [folder for folder in folders if any(folder.glob("metrics.csv*"))]
    left_out = [folder.name for folder in folders if folder not in with_metrics]
    return [_case(folder) for folder in with_metrics], left_out


def _case(folder: Path) -> Case:
    path, *_ = sorted(folder.glob("metrics.csv*"))
    metrics = _metrics(path)
    alerts = _alerts(folder / "alert.json")
    is_host, cause, fault = _truth(folder / "metadata.json")
    system, _, _ = folder.name.partition("-")
    is_before = metrics.index < alerts.begin
    is_during = ~is_before & (metrics.index <= alerts.end)
    before, during = metrics[is_before], metrics[is_during]
    for name, rows in (("before", before), ("during", during)):
        if rows.empty:
            raise wrong(path, f"must have rows {name} the alerts, which begin at {alerts.begin}")
    return MetricsCase(
        name=folder.name,
        group=HOST_FAULT if is_host else system,
        truth=cause,
        normal=before,
        abnormal=during,
        calls=_calls(folder / "calls.json"),
        target=None,
        fault=fault,
        alerts=alerts.told,
    )


def _metrics(path: Path) -> pd.DataFrame:
    """Return ``service-metric`` columns by time; latencies are quantiles in ms."""
    import pandas as pd

    frame = csv_table(path, ("time",), encoding="utf-8-sig")
    try:
        moments = pd.to_datetime(frame.pop("time"))
        times = pd.DatetimeIndex(moments, name="time")
    except (ValueError, TypeError) as error:
        raise wrong(path, f"column 'time' must hold times ({error})") from error
    check_kinds(path, frame, dict.fromkeys(frame.columns, NUMBERS))
    is_in_order = times.is_monotonic_increasing and times.is_unique
    if times.hasnans or not is_in_order:
        raise wrong(path, "intervals must be in order, each once")
    return frame.set_axis(times)


def _truth(path: Path) -> tuple[bool, str, str]:
    """Return whether the cause is a host, its name, and the kind of fault."""
    told = read_json(path)
    try:
        result = told["result"]
        kind, _, name = result["fault_object"].partition("/")
        return kind == "node", name, result["root_cause"]
    except (KeyError, TypeError, AttributeError) as error:
        raise wrong(path, f"must have result.fault_object and root_cause ({error!r})") from error


def _calls(path: Path) -> list[tuple[str, str]]:
    told = read_json(path)
    if not isinstance(told, list):
        raise wrong(path, "must be a list of pairs (caller, callee)")
    try:
        return [(str(caller), str(callee)) for caller, callee in told]
    except (TypeError, ValueError) as error:
        raise wrong(path, f"must be a list of pairs (caller, callee) ({error})") from error


def _alerts(path: Path) -> _Alerts:
    told = read_json(path)
    try:
        alerts = [_alert(alert) for alert in told["alerts"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        rule = "must have alerts, each with a name, time_range and evidence"
        raise wrong(path, f"{rule} ({error!r})") from error
    if not alerts:
        raise wrong(path, "must have at least one alert")
    begin = min(alert.begin for alert in alerts)
    end = max(alert.end for alert in alerts)
    merged: dict[str, tuple[str, ...]] = {}
    for alert in alerts:
        for node, kinds in alert.told.items():
            merged[node] = (*merged.get(node, ()), *kinds)
    return _Alerts(begin, end, merged)


def _alert(alert: dict[str, Any]) -> _Alerts:
    import pandas as pd

    begin, end = map(pd.Timestamp, alert["time_range"].split(" ~ "))
    kinds = tuple(_kinds(alert["evidence"]))
    node = alert.get("entity_name", alert["name"])
    return _Alerts(begin, end, {node: kinds})


def _kinds(evidence: list[str]) -> Iterator[str]:
    """Yield what was unusual, such as LATENCY_DEGRADATION: the words before the numbers."""
    for line in evidence:
        yield line.partition(" ")[0]
