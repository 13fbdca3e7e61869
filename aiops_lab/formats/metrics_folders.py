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

NANOSECONDS = 1e9  # of a second
HEADER_LINES = 1
_SHOWN = 8  # files or columns that a message names

_TIME_COLUMN = "time"

NOT_CSV = (
    pd.errors.ParserError,
    pd.errors.EmptyDataError,
    UnicodeDecodeError,
)

_Column = tuple[str, str, str]  # node, metric, statistic
_Fault = tuple[str, str, float]  # node, kind, start (Unix s)

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
    is_normal = start < since
    is_abnormal = ~is_normal & (start < until)
    for side, chosen in (("before", is_normal), ("since", is_abnormal)):
        if not chosen.any():
            rule = f"must leave rows {side} it in {folder.name}"
            raise FieldError("since", rule, since)
    return CaseMetrics(values[is_normal], values[is_abnormal], truth)


def _window(truth: pd.DataFrame, since: float | None, until: float | None) -> tuple[float, float]:
    """Return from when until when (Unix s) rows are abnormal."""
    nanoseconds = truth["start"].astype("int64")
    starts = nanoseconds.to_numpy() / NANOSECONDS
    if since is None:
        if starts.size == 0:
            rule = "must be given where no fault is recorded"
            raise FieldError("since", rule, None)
        since = float(starts[0])
    check_number("since", since, 0, MILLISECONDS_FROM)
    if until is not None:
        return since, until
    later = starts[starts > since]
    if later.size == 0:
        return since, np.inf
    return since, float(later[0])


def _truth(rows: list[_Fault]) -> pd.DataFrame:
    """Return the recorded faults by their start."""
    frame = pd.DataFrame(rows, columns=["node", "fault", "start"])
    seconds = pd.to_numeric(frame["start"])
    start = pd.to_datetime(seconds, unit="s", utc=True)
    frame["start"] = start.dt.as_unit("ns")
    return frame.sort_values("start", ignore_index=True)


def _table(file: Path) -> pd.DataFrame:
    """Return a CSV file, gzip or not."""
    with opened(file, Limits()) as source:
        try:
            return pd.read_csv(source.stream)
        except NOT_CSV as error:
            message = f"{file.name} must be CSV, got: {error}"
            raise ValueError(message) from None


def _numbers(file: Path, column: pd.Series) -> pd.Series:
    """Return a column as numbers, NaN where it is empty."""
    numbers = pd.to_numeric(column, errors="coerce")
    is_wrong = numbers.isna() & column.notna()
    if not is_wrong.any():
        return numbers
    first = int(is_wrong.to_numpy().argmax())
    value = column.iloc[first]
    line = first + 1 + HEADER_LINES
    rule = f"{column.name} must be a number"
    raise ValueError(f"{file.name}, line {line}: {rule}, got {value!r}")


# ---- RCAEval


def _rcaeval(folder: Path) -> pd.DataFrame:
    """Return the table of a case, with columns (node, metric, statistic)."""
    file = _table_of_case(folder)
    table = _table(file)
    if _TIME_COLUMN not in table:
        rule = f"must have the column {_TIME_COLUMN}"
        raise FieldError(file.name, rule, _some(table))
    columns: dict[_Column, pd.Series] = {}
    for name in map(str, table):
        if _TIME.fullmatch(name):
            continue
        columns[_column(name)] = _numbers(file, table[name])
    values = pd.DataFrame(columns)
    values.columns = pd.MultiIndex.from_tuples(list(columns), names=LEVELS)
    times = _numbers(file, table[_TIME_COLUMN])
    values = values.set_axis(times.to_numpy())
    return _in_order(values)


def _table_of_case(folder: Path) -> Path:
    """Return the file that holds the metrics of a case."""
    for name in RCAEVAL_TABLES:
        file = folder / name
        if file.is_file():
            return file
    found = sorted(item.name for item in folder.iterdir())
    rule = f"must hold metric/ or one of {', '.join(RCAEVAL_TABLES)}"
    raise FieldError("path", rule, found[:_SHOWN])


def _some(table: pd.DataFrame) -> list[str]:
    """Return the first columns of a table, for a message."""
    names = list(map(str, table))
    return names[:_SHOWN]


def _column(name: str) -> _Column:
    """Return node, metric and statistic of a column's name.

    Examples
    --------
    >>> _column("ts-order-service_latency-90"), _column("adservice_cpu")
    (('ts-order-service', 'latency', 'p90'), ('adservice', 'cpu', 'value'))
    """
    node, _, metric = name.partition("_")
    match = _QUANTILE.fullmatch(metric)
    if match is None:
        return node, metric or UNTOLD, UNTOLD
    measured, quantile = match.groups()
    return node, measured, f"p{quantile}"


def _in_order(values: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by time; of several at one time the last counts."""
    timed = values[values.index.notna()]
    is_earlier = timed.index.duplicated(keep="last")
    return timed[~is_earlier].sort_index()


def _injection(folder: Path) -> pd.DataFrame:
    """Return the fault that the folder's name tells, at the time in `inject_time.txt`."""
    file = folder / INJECTED
    if not file.is_file():
        return _truth([])
    text = file.read_text("utf-8").strip()
    try:
        first, *_ = text.split()
        seconds = float(first)
    except ValueError:
        place = f"{INJECTED} of {folder.name}"
        raise FieldError(place, "must be Unix seconds", text) from None
    node, fault = _named_fault(folder.resolve())
    return _truth([(node, fault, seconds)])


def _named_fault(folder: Path) -> tuple[str, str]:
    """Return node ("" where none is told) and kind of the fault that a folder's name tells."""
    has_number = folder.name.isdigit()
    case = folder.parent.name if has_number else folder.name
    match = _CASE.fullmatch(case)
    told = match[1] if match else case
    node, _, fault = told.rpartition("_")
    return node, fault


# ---- OpenRCA


def _openrca(folder: Path, step_s: float) -> pd.DataFrame:
    """Return the means of all metrics by interval, with columns (node, metric, statistic)."""
    parts: list[pd.DataFrame] = []
    for file in sorted(folder.glob("*.csv*")):
        parts.extend(_long(file))
    if not parts:
        rule = "must hold CSV files of metrics in metric/"
        raise FieldError("path", rule, folder.parent.name)
    rows = pd.concat(parts, ignore_index=True)
    times = rows["time"].to_numpy(dtype=float)
    is_seconds = times < MILLISECONDS_FROM
    seconds = np.where(is_seconds, times, times / 1000)
    rows["time"] = seconds // step_s * step_s
    keys = ["time", "node", "metric"]
    groups = rows.groupby(keys, observed=True, sort=True)
    means = groups["value"].mean()
    values = means.unstack(["node", "metric"])
    values = values.sort_index(axis=1)
    pairs: list[Any] = values.columns.to_list()
    columns = [(str(node), str(metric), UNTOLD) for node, metric in pairs]
    values.columns = pd.MultiIndex.from_tuples(columns, names=LEVELS)
    return values.rename_axis(index=None)


def _long(file: Path) -> Iterator[pd.DataFrame]:
    """Yield the values of a file as rows: time, node, metric, value."""
    table = _table(file)
    time = _first(file, table, TIMES)
    node = _first(file, table, NODES)
    for metric, column in _measured(file, table, {time, node, *CODES}):
        columns: dict[str, Any] = {
            "time": _numbers(file, table[time]),
            "node": table[node].astype(str),
            "metric": metric,
            "value": _numbers(file, column),
        }
        rows = pd.DataFrame(columns)
        yield rows.dropna(subset=["time"])


def _measured(file: Path, table: pd.DataFrame, others: set[str]) -> Iterator[tuple[Any, pd.Series]]:
    """Yield the metric of each row, or of all, and its values: a long table has them in one
    column, a wide one in every column but `others`.
    """
    if VALUE in table:
        names = table[_first(file, table, NAMES)]
        yield names.astype("category"), table[VALUE]
        return
    for name in table:
        if name not in others:
            yield name, table[name]


def _first(file: Path, table: pd.DataFrame, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table:
            return name
    rule = f"must have one of the columns {', '.join(names)}"
    raise FieldError(file.name, rule, _some(table))


def _record(file: Path, values: pd.DataFrame) -> pd.DataFrame:
    """Return the failures on record in the time of the metrics."""
    if not file.is_file():
        return _truth([])
    table = _table(file)
    for name in ("component", "reason", "timestamp"):
        _first(file, table, (name,))
    seconds = _numbers(file, table["timestamp"])
    first = values.index[0]
    last = values.index[-1]
    inside = table[seconds.between(first, last)]
    rows = zip(inside["component"], inside["reason"], seconds[inside.index], strict=True)
    return _truth(list(rows))
