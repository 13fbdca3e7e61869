"""What did the metrics of a benchmark's case do? Folders of RCAEval and of OpenRCA, as frames.

RCAEval (https://github.com/phamquiluan/RCAEval) has a folder a case, ``adservice_cpu/1``, with a
table whose columns are ``service_metric`` and the second of the injection beside it. OpenRCA
(https://github.com/microsoft/OpenRCA) has a folder a day, ``Bank/telemetry/2021_03_04``, with long
tables (a row a value) and wide ones, and the failures of all days in ``Bank/record.csv``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.formats.sources import Limits, local_path, opened

RCAEVAL_TABLES = ("simple_metrics.csv", "simple_data.csv", "data.csv", "metrics.csv")
"""The metrics of a case: where there are several, the aggregated ones come first."""

INJECTED = "inject_time.txt"
RECORD = "record.csv"

# Columns of OpenRCA's three systems, of which each has names of its own.
TIMES = ("timestamp", "startTime")
NODES = ("cmdb_id", "service", "tc", "serviceName")
NAMES = ("kpi_name", "name")
VALUE = "value"
CODES = ("itemid", "bomc_id")  # of the system that measured

# The years to 5138 in seconds, and those since 1973 in milliseconds.
MILLISECONDS_FROM = 1e11

UNTOLD = "value"  # the statistic of a metric that tells none

_TIME = re.compile(r"time(\.\d+)?")  # some tables have it twice
_QUANTILE = re.compile(r"(.+)-(\d\d?)")
_CASE = re.compile(r"re\d\w*?_(.+)_\d+")  # as its copies in one folder are called

LEVELS = ["node", "metric", "statistic"]


class CaseMetrics(NamedTuple):
    """The metrics of a case.

    Attributes
    ----------
    normal, abnormal : DataFrame
        Index: start of the interval (Unix s), increasing. Columns: (node, metric, statistic), as
        their source names and measures them; the statistic is a quantile (``p50``), or ``value``.
    truth : DataFrame
        A row a fault that is recorded: node, fault (its kind or reason), start (UTC). None of it is
        in the frames.
    """

    normal: pd.DataFrame
    abnormal: pd.DataFrame
    truth: pd.DataFrame


def read_metrics(
    path: str | os.PathLike[str],
    since: float | None = None,
    until: float | None = None,
    step_s: float = 60,
) -> CaseMetrics:
    """Return the metrics of a case of RCAEval, or of a day of OpenRCA, before and during a fault.

    Parameters
    ----------
    path : path
        The folder of a case, with `inject_time.txt`, or of a day, with `metric/`.
    since, until : float, optional
        When the trouble began and ended (Unix s). Default: of RCAEval the injection and the end of
        the table; of OpenRCA the first failure on record and the next one, or the end of the day.
    step_s : float
        OpenRCA: the interval over which values are averaged, since each metric has times of its
        own. Default 60, at which most of them are measured. RCAEval's rows are taken as they are.

    Raises
    ------
    ValueError
        Names the folder, the file and the column.
    """
    folder = local_path(path)
    if not folder.is_dir():
        raise FieldError("path", "must be the folder of a case or of a day", str(path))
    check_number("step_s", step_s, 1, 86_400)
    if (folder / "metric").is_dir():
        values = _openrca(folder / "metric", step_s)
        truth = _record(folder.parent.parent / RECORD, values)
    else:
        values = _rcaeval(folder)
        truth = _injection(folder)
    since, until = _window(truth, since, until)
    start = values.index.to_numpy(dtype=float)
    is_abnormal = (start >= since) & (start < until)
    for name, count in (("before", (start < since).sum()), ("since", is_abnormal.sum())):
        if count == 0:
            raise FieldError("since", f"must leave rows {name} it in {folder.name}", since)
    return CaseMetrics(values[start < since], values[is_abnormal], truth)


def _window(truth: pd.DataFrame, since: float | None, until: float | None) -> tuple[float, float]:
    starts = truth["start"].astype("int64").to_numpy() / 1e9
    if since is None:
        if starts.size == 0:
            raise FieldError("since", "must be given where no fault is recorded", None)
        since = float(starts[0])
    check_number("since", since, 0, MILLISECONDS_FROM)
    if until is None:
        later = starts[starts > since]
        until = float(later[0]) if later.size else np.inf
    return since, until


def _truth(rows: list[tuple[str, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["node", "fault", "start"])
    seconds = pd.to_numeric(frame["start"])
    frame["start"] = pd.to_datetime(seconds, unit="s", utc=True).dt.as_unit("ns")
    return frame.sort_values("start", ignore_index=True)


def _table(file: Path) -> pd.DataFrame:
    """Return a CSV file, gzip or not."""
    with opened(file, Limits()) as source:
        try:
            return pd.read_csv(source.stream)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise ValueError(f"{file.name} must be CSV, got: {error}") from None


def _numbers(file: Path, column: pd.Series) -> pd.Series:
    """Return a column as numbers, NaN where it is empty."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if wrong.size:
        value = column.iloc[wrong[0]]
        place = f"{file.name}, line {wrong[0] + 2}"
        raise ValueError(f"{place}: {column.name} must be a number, got {value!r}")
    return numbers


# ---- RCAEval


def _rcaeval(folder: Path) -> pd.DataFrame:
    files = [folder / name for name in RCAEVAL_TABLES if (folder / name).is_file()]
    if not files:
        found = sorted(item.name for item in folder.iterdir())[:8]
        rule = f"must hold metric/ or one of {', '.join(RCAEVAL_TABLES)}"
        raise FieldError("path", rule, found)
    table = _table(files[0])
    if "time" not in table:
        raise FieldError(files[0].name, "must have the column time", [*table][:8])
    named = [str(name) for name in table if not _TIME.fullmatch(str(name))]
    columns = {_column(name): _numbers(files[0], table[name]) for name in named}
    values = pd.DataFrame(columns)
    values.columns = pd.MultiIndex.from_tuples([*columns], names=LEVELS)
    return _in_order(values.set_axis(_numbers(files[0], table["time"]).to_numpy()))


def _column(name: str) -> tuple[str, str, str]:
    """Return node, metric and statistic of a column's name.

    Examples
    --------
    >>> _column("ts-order-service_latency-90"), _column("adservice_cpu")
    (('ts-order-service', 'latency', 'p90'), ('adservice', 'cpu', 'value'))
    """
    node, _, metric = name.partition("_")
    match = _QUANTILE.fullmatch(metric)
    return (node, match[1], f"p{match[2]}") if match else (node, metric or UNTOLD, UNTOLD)


def _in_order(values: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by time; of several at one time the last counts."""
    values = values[values.index.notna()]
    values = values[~values.index.duplicated(keep="last")]
    return values.sort_index()


def _injection(folder: Path) -> pd.DataFrame:
    """Return the fault that the folder's name tells, at the time in `inject_time.txt`."""
    file = folder / INJECTED
    if not file.is_file():
        return _truth([])
    text = file.read_text("utf-8").strip()
    try:
        seconds = float(text.split()[0])
    except (ValueError, IndexError):
        raise FieldError(f"{INJECTED} of {folder.name}", "must be Unix seconds", text) from None
    named = folder.resolve()
    case = named.parent.name if named.name.isdigit() else named.name
    match = _CASE.fullmatch(case)
    node, _, fault = (match[1] if match else case).rpartition("_")
    return _truth([(node, fault, seconds)] if node else [("", fault, seconds)])


# ---- OpenRCA


def _openrca(folder: Path, step_s: float) -> pd.DataFrame:
    parts = [part for file in sorted(folder.glob("*.csv*")) for part in _long(file)]
    if not parts:
        raise FieldError("path", "must hold CSV files of metrics in metric/", folder.parent.name)
    rows = pd.concat(parts, ignore_index=True)
    times = rows["time"].to_numpy(dtype=float)
    seconds = np.where(times < MILLISECONDS_FROM, times, times / 1000)
    rows["time"] = seconds // step_s * step_s
    keys = ["time", "node", "metric"]
    means = rows.groupby(keys, observed=True, sort=True)["value"].mean()
    values = means.unstack(["node", "metric"]).sort_index(axis=1)
    pairs = [(str(pair[0]), str(pair[1]), UNTOLD) for pair in values.columns.to_list()]
    values.columns = pd.MultiIndex.from_tuples(pairs, names=LEVELS)
    return values.rename_axis(index=None)


def _long(file: Path) -> Iterator[pd.DataFrame]:
    """Yield the values of a file as rows: time, node, metric, value."""
    table = _table(file)
    time, node = _first(file, table, TIMES), _first(file, table, NODES)
    if VALUE in table:
        measured: dict[Any, pd.Series] = {None: table[VALUE]}
        names: Any = table[_first(file, table, NAMES)].astype("category")
    else:
        rest = [name for name in table if name not in (time, node, *CODES)]
        measured = {name: table[name] for name in rest}
    for metric, column in measured.items():
        columns: dict[str, Any] = {
            "time": _numbers(file, table[time]),
            "node": table[node].astype(str),
            "metric": names if metric is None else metric,
            "value": _numbers(file, column),
        }
        yield pd.DataFrame(columns).dropna(subset=["time"])


def _first(file: Path, table: pd.DataFrame, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table:
            return name
    raise FieldError(file.name, f"must have one of the columns {', '.join(names)}", [*table][:8])


def _record(file: Path, values: pd.DataFrame) -> pd.DataFrame:
    """Return the failures on record in the time of the metrics."""
    if not file.is_file():
        return _truth([])
    table = _table(file)
    for name in ("component", "reason", "timestamp"):
        _first(file, table, (name,))
    seconds = _numbers(file, table["timestamp"])
    inside = seconds.between(values.index[0], values.index[-1])
    rows = zip(table["component"], table["reason"], seconds, strict=True)
    chosen = [row for row, is_inside in zip(rows, inside, strict=True) if is_inside]
    return _truth(chosen)
