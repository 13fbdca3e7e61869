"""Scenarios in the layouts of benchmarks: a case of RCAEval, a day of OpenRCA.

RCAEval: ``FOLDER/payment_delay/1/`` with ``data.csv``, ``inject_time.txt`` and ``traces.csv``
(https://github.com/phamquiluan/RCAEval). OpenRCA: ``FOLDER/record.csv`` and
``FOLDER/telemetry/2026_01_01/`` with ``metric/`` and ``trace/``
(https://github.com/microsoft/OpenRCA). ``FOLDER/truth.json`` has all that is true, and
``FOLDER/changes.csv`` what was changed on purpose. Times are UTC.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.explain.changes import Change
from aiops_lab.formats.writing import replacing
from aiops_lab.numerics import unix_ns
from shop.virtual_time.scenario import virtual_moment

STEP_S = 1  # as in RCAEval's tables


Truth = dict[str, Any]


def service_metrics(spans: pd.DataFrame) -> pd.DataFrame:
    """Return what each service served in each second.

    Parameters
    ----------
    spans : DataFrame
        A spans frame; the spans of servers that ended are counted when they ended.

    Returns
    -------
    DataFrame
        Index: Unix s, each second from the first to the last. Columns ``service_load`` (requests),
        ``service_latency-50`` and ``service_latency-90`` (quantiles in s), ``service_error`` (share
        of requests that failed, 0 to 1). A second without requests has a load and an error of 0,
        and the latency of the second before.
    """
    is_server = spans["kind"] == "server"
    has_ended = spans["duration_ms"].notna()
    served = spans[is_server & has_ended]
    start_ms = served["start"].astype("int64") // 10**6
    end_ms = start_ms + served["duration_ms"]
    second = (end_ms // 1000).astype("int64")
    failed = (served["status"] == 0) | (served["status"] >= 500)
    rows = pd.DataFrame(
        {
            "second": second,
            "service": served["service"],
            "latency": served["duration_ms"] / 1000,
            "error": failed.astype(float),
        }
    )
    grouped = rows.groupby(["second", "service"])
    tables = {
        "load": grouped.size(),
        "latency-50": grouped["latency"].quantile(0.5),
        "latency-90": grouped["latency"].quantile(0.9),
        "error": grouped["error"].mean(),
    }
    seconds = range(second.min(), second.max() + 1, STEP_S)
    columns: dict[str, pd.Series] = {}
    for metric, values in tables.items():
        by_service = values.unstack("service").reindex(seconds)
        if metric.startswith("latency"):
            filled = by_service.ffill().bfill()
        else:
            filled = by_service.fillna(0)
        for service, column in filled.items():
            columns[f"{service}_{metric}"] = column
    table = pd.DataFrame(columns)[sorted(columns)]
    return table.rename_axis(index="time")


# ---- layouts


def write_rcaeval(folder: Path, spans: pd.DataFrame, truth: Truth) -> None:
    """Write a case of RCAEval; it has one faulty service, which the folder's name tells."""
    services = {service for service, _ in truth["causes"]}
    if len(services) != 1:
        rule = "must have one faulty service for rcaeval"
        raise FieldError("scenario", rule, truth["name"])
    (service,) = services
    kind = truth["faults"][0]["kind"]
    case = folder / f"{service}_{kind}" / "1"
    case.mkdir(parents=True)
    metrics = service_metrics(spans)
    metrics.to_csv(case / "data.csv", lineterminator="\n")
    injected = _unix_s(truth["window"][0])
    told = case / "inject_time.txt"
    told.write_text(f"{injected}\n", "utf-8", newline="\n")
    start_us = spans["start"].astype("int64") // 1000
    duration_us = (spans["duration_ms"] * 1000).round()
    table = pd.DataFrame(
        {
            "time": start_us // 10**6,
            "traceID": spans["trace_id"],
            "spanID": spans["span_id"],
            "serviceName": spans["service"],
            "operationName": spans["endpoint"],
            "startTime": start_us,
            "duration": duration_us.astype("Int64"),
            "statusCode": spans["status"],
            "parentSpanID": spans["parent_id"],
        }
    )
    _write_csv(case / "traces.csv", table)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _unix_s(time: str) -> int:
    """Return a time in whole seconds since 1970."""
    return unix_ns(pd.Timestamp(time)) // 10**9


def write_openrca(folder: Path, spans: pd.DataFrame, truth: Truth) -> None:
    """Write a day of OpenRCA, with each fault in the record of failures."""
    day = spans["start"].min().strftime("%Y_%m_%d")
    metric_folder = folder / "telemetry" / day / "metric"
    trace_folder = folder / "telemetry" / day / "trace"
    metric_folder.mkdir(parents=True)
    trace_folder.mkdir()
    wide = service_metrics(spans)
    table = wide.melt(ignore_index=False, value_name="value").reset_index()
    names = table["variable"].str.rpartition("_")
    metrics = pd.DataFrame(
        {
            "timestamp": table["time"],
            "cmdb_id": names[0],
            "kpi_name": names[2],
            "value": table["value"],
        }
    )
    _write_csv(metric_folder / "metric_service.csv", metrics)
    traces = pd.DataFrame(
        {
            "timestamp": spans["start"].astype("int64") // 10**6,
            "cmdb_id": spans["service"],
            "parent_id": spans["parent_id"],
            "span_id": spans["span_id"],
            "trace_id": spans["trace_id"],
            "duration": spans["duration_ms"],
        }
    )
    _write_csv(trace_folder / "trace_span.csv", traces)
    _write_csv(folder / "record.csv", _record(truth))


def _record(truth: Truth) -> pd.DataFrame:
    rows = [
        {
            "level": "service",
            "component": fault["service"],
            "timestamp": _unix_s(fault["start"]),
            "datetime": f"{pd.Timestamp(fault['start']):%Y-%m-%d %H:%M:%S}",
            "reason": fault["kind"],
        }
        for fault in truth["faults"]
    ]
    columns = ["level", "component", "timestamp", "datetime", "reason"]
    return pd.DataFrame(rows, columns=columns)


LAYOUTS: dict[str, Callable[[Path, pd.DataFrame, Truth], None]] = {
    "rcaeval": write_rcaeval,
    "openrca": write_openrca,
}
"""Writers of whole folders by the name of the format."""


# ---- what was changed, as a pipeline of deployments notes it


def write_changes(file: Path, truth: Truth) -> None:
    """Write a row for each noted change: time, service, what. Without any, remove an older file."""
    noted = truth.get("noted", [])
    if not noted:
        file.unlink(missing_ok=True)
        return
    rows = []
    for each in noted:
        moment = virtual_moment(each["second"])
        rows.append((moment, each["service"], each["what"]))
    table = pd.DataFrame(rows, columns=list(Change._fields))
    with replacing(file) as beside:
        _write_csv(beside, table)


# ---- a folder, whole or not at all


def check_folder_is_free(path: str | Path) -> None:
    """Raise `FieldError` unless a new folder can be made at this path."""
    folder = Path(path)
    if folder.exists():
        is_empty = folder.is_dir() and not any(folder.iterdir())
        if not is_empty:
            rule = "must be a folder that does not exist or is empty"
            raise FieldError("file", rule, str(path))
    if not folder.absolute().parent.is_dir():
        raise FieldError("file", "must be in a folder that exists", str(path))


def write_folder(path: str | Path, spans: pd.DataFrame, truth: Truth, form: str) -> None:
    """Write a scenario as a folder of `LAYOUTS`, whole or not at all."""
    folder = Path(path).absolute()
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        inside = part / "out"
        inside.mkdir()
        LAYOUTS[form](inside, spans, truth)
        facts = {
            **truth,
            "format": form,
            "zone": "UTC",
            "unit": "s",
        }
        text = json.dumps(facts, indent=2, default=str)
        told = inside / "truth.json"
        told.write_text(f"{text}\n", "utf-8", newline="\n")
        write_changes(inside / "changes.csv", truth)
        if folder.exists():
            folder.rmdir()  # Windows replaces no folder, not even an empty one
        os.replace(inside, folder)
    finally:
        shutil.rmtree(part)
