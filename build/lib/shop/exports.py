"""Scenarios in the layouts of benchmarks: a case of RCAEval, a day of OpenRCA.

RCAEval: ``FOLDER/payment_delay/1/`` with ``data.csv``, ``inject_time.txt`` and ``traces.csv``
(https://github.com/phamquiluan/RCAEval). OpenRCA: ``FOLDER/record.csv`` and
``FOLDER/telemetry/2026_01_01/`` with ``metric/`` and ``trace/``
(https://github.com/microsoft/OpenRCA). ``FOLDER/truth.json`` has all that is true. Times are UTC.
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
from aiops_lab.numerics import unix_ns

STEP_S = 1  # as in RCAEval's tables
SERVED_METRICS = ("load", "latency-50", "latency-90", "error")

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
    served = spans[(spans["kind"] == "server") & spans["duration_ms"].notna()]
    ended = served["start"].astype("int64") // 10**6 + served["duration_ms"]
    second = (ended // 1000).astype("int64")
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
    tables = (
        grouped.size(),
        grouped["latency"].quantile(0.5),
        grouped["latency"].quantile(0.9),
        grouped["error"].mean(),
    )
    seconds = range(second.min(), second.max() + 1, STEP_S)
    columns: dict[str, pd.Series] = {}
    for metric, values in zip(SERVED_METRICS, tables, strict=True):
        for service, column in values.unstack("service").reindex(seconds).items():
            is_latency = metric.startswith("latency")
            filled = column.ffill().bfill() if is_latency else column.fillna(0)
            columns[f"{service}_{metric}"] = filled
    return pd.DataFrame(columns)[sorted(columns)].rename_axis(index="time")


# ---- layouts


def write_rcaeval(folder: Path, spans: pd.DataFrame, truth: Truth) -> None:
    """Write a case of RCAEval; it has one faulty service, which the folder's name tells."""
    services = dict.fromkeys(service for service, _ in truth["causes"])
    if len(services) != 1:
        raise FieldError("scenario", "must have one faulty service for rcaeval", truth["name"])
    kind = truth["faults"][0]["kind"]
    case = folder / f"{[*services][0]}_{kind}" / "1"
    case.mkdir(parents=True)
    service_metrics(spans).to_csv(case / "data.csv", lineterminator="\n")
    injected = unix_ns(pd.Timestamp(truth["window"][0])) // 10**9
    (case / "inject_time.txt").write_text(f"{injected}\n", "utf-8", newline="\n")
    start_us = spans["start"].astype("int64") // 1000
    table = pd.DataFrame(
        {
            "time": start_us // 10**6,
            "traceID": spans["trace_id"],
            "spanID": spans["span_id"],
            "serviceName": spans["service"],
            "operationName": spans["endpoint"],
            "startTime": start_us,
            "duration": (spans["duration_ms"] * 1000).round().astype("Int64"),
            "statusCode": spans["status"],
            "parentSpanID": spans["parent_id"],
        }
    )
    table.to_csv(case / "traces.csv", index=False, lineterminator="\n")


def write_openrca(folder: Path, spans: pd.DataFrame, truth: Truth) -> None:
    """Write a day of OpenRCA, with each fault in the record of failures."""
    day = spans["start"].min().strftime("%Y_%m_%d")
    telemetry = folder / "telemetry" / day
    (telemetry / "metric").mkdir(parents=True)
    (telemetry / "trace").mkdir()
    table = service_metrics(spans).melt(ignore_index=False, value_name="value").reset_index()
    names = table["variable"].str.rpartition("_")
    metrics = pd.DataFrame(
        {
            "timestamp": table["time"],
            "cmdb_id": names[0],
            "kpi_name": names[2],
            "value": table["value"],
        }
    )
    metrics.to_csv(telemetry / "metric" / "metric_service.csv", index=False, lineterminator="\n")
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
    traces.to_csv(telemetry / "trace" / "trace_span.csv", index=False, lineterminator="\n")
    _record(truth).to_csv(folder / "record.csv", index=False, lineterminator="\n")


def _record(truth: Truth) -> pd.DataFrame:
    rows = [
        {
            "level": "service",
            "component": fault["service"],
            "timestamp": unix_ns(pd.Timestamp(fault["start"])) // 10**9,
            "datetime": f"{pd.Timestamp(fault['start']):%Y-%m-%d %H:%M:%S}",
            "reason": fault["kind"],
        }
        for fault in truth["faults"]
    ]
    return pd.DataFrame(rows, columns=["level", "component", "timestamp", "datetime", "reason"])


LAYOUTS: dict[str, Callable[[Path, pd.DataFrame, Truth], None]] = {
    "rcaeval": write_rcaeval,
    "openrca": write_openrca,
}
"""Writers of whole folders by the name of the format."""


# ---- a folder, whole or not at all


def check_folder_is_free(path: str | Path) -> None:
    """Raise `FieldError` unless a new folder can be made at this path."""
    folder = Path(path)
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free:
        raise FieldError("file", "must be a folder that does not exist or is empty", str(path))
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
        written = {"format": form, "zone": "UTC", "unit": "s"}
        text = json.dumps(truth | written, indent=2, default=str) + "\n"
        (inside / "truth.json").write_text(text, "utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()  # Windows replaces no folder, not even an empty one
        os.replace(inside, folder)
    finally:
        shutil.rmtree(part)
