"""What does each column of a table of metrics measure, and where?

Tools write names of columns as they like (`metric_columns`), by seconds or by times. Here all
become one shape: a row an interval by its start (s), and columns (node, metric, statistic), each
with a role.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.metric_columns import (
    COLUMN_LEVELS,
    ERROR_RATE,
    IGNORE,
    PRICED,
    SUCCESS,
    MetricColumn,
    Role,
    checked_roles,
    node_columns,
    settled_role,
)

_PERCENT = 100.0
_ROUNDED = 1e-9  # 100 % may be a little more, as a quotient
_NANOSECONDS = 1e9  # of a second
_LATEST_S = 4_102_444_800.0  # 2100-01-01
_BASIC_DATE = re.compile(r"(?:19|20)\d{6}")  # of ISO 8601, without hyphens


class Metrics(NamedTuple):
    """Metrics by the start of the interval: `values` has columns (node, metric, statistic)."""

    name: str  # of the argument
    starts: NDArray
    values: pd.DataFrame
    roles: dict[MetricColumn, Role]
    by_node: dict[str, list[MetricColumn]]  # the columns of each node
    arrays: dict[MetricColumn, NDArray]  # the same values; a frame with such labels is slow to read

    @property
    def columns(self) -> list[MetricColumn]:
        """The columns, in their order."""
        found: list[MetricColumn] = []
        for columns in self.by_node.values():
            found.extend(columns)
        return found

    @property
    def step_s(self) -> float:
        """The usual length of an interval (s); 1 where there is one row."""
        if len(self.starts) < 2:
            return 1.0
        steps = np.diff(self.starts)
        return float(np.median(steps))

    def columns_of(self, node: str, kinds: Iterable[str]) -> list[MetricColumn]:
        """Return the columns of a node that measure one of these kinds."""
        wanted = set(kinds)
        columns = self.by_node.get(node, ())
        return [column for column in columns if self.roles[column].kind in wanted]


def read_frame(
    name: str, frame: pd.DataFrame, rows: int, roles: Mapping[Any, str] | None = None
) -> Metrics:
    """Return a table of metrics in the one shape; errors name the argument `name`.

    Parameters
    ----------
    rows : int
        How many rows it must have.
    roles : mapping
        Of columns or metrics, where the names mislead: what each measures, one of `ROLES`.
    """
    _check_frame(name, frame, rows)
    settled = checked_roles(roles)
    starts = seconds(name, frame.index)
    _check_increases(name, frame.index, starts)
    columns = node_columns(name, frame.columns, settled)
    values = _numbers(name, frame, columns)
    told: dict[MetricColumn, Role] = {}
    by_node: dict[str, list[MetricColumn]] = {}
    for label, column in zip(frame.columns, columns, strict=True):
        role = settled_role(label, column, settled)
        told[column] = role
        of_node = by_node.setdefault(column[0], [])
        if role.kind != IGNORE:
            of_node.append(column)
    values = _finite(values, told)
    kept = [column for column in columns if told[column].kind != IGNORE]
    arrays = dict(zip(columns, values.to_numpy().T, strict=True))
    metrics = Metrics(name, starts, values[kept], told, by_node, arrays)
    _check_ranges(metrics)
    return metrics


def nodes_of(name: str, labels: pd.Index) -> set[str]:
    """Return the nodes that the names of a table's columns tell."""
    return {node for node, _, _ in node_columns(name, labels, {})}


def _check_frame(name: str, frame: pd.DataFrame, rows: int) -> None:
    """Refuse what is no table of at least so many rows, each column once."""
    if not isinstance(frame, pd.DataFrame):
        given = type(frame).__name__
        raise ValueError(f"{name} must be a DataFrame, got {given}")
    labels = frame.columns
    if not labels.is_unique:
        twice = labels[labels.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    count = len(frame)
    if count < rows:
        rule = f"must have at least {rows} interval(s)"
        raise ValueError(f"{name} {rule}, got {count}")


def _check_increases(name: str, index: pd.Index, starts: NDArray) -> None:
    is_late = np.diff(starts) <= 0
    if not is_late.any():
        return
    first = int(is_late.argmax())
    earlier, later = index[first], index[first + 1]
    raise ValueError(f"{name} index must increase, got {earlier} before {later}")


def seconds(name: str, index: pd.Index) -> NDArray:
    """Return the starts of the intervals as Unix s; times without a zone are taken for UTC.

    A text of eight digits is a date, if all texts are.

    Examples
    --------
    >>> seconds("normal", pd.Index(["1970-01-01T00:01:00Z", "1970-01-01T01:02:00+01:00"])).tolist()
    [60.0, 120.0]
    """
    numbers = _numbers_of_seconds(index)
    if numbers is None:
        rule = "must be indexed by Unix seconds or times"
        first = index[int(np.argmax(_parsed(index).isna()))]
        raise ValueError(f"{name} {rule}, got {index.dtype} from {first}")
    _check_unit(f"{name} index", numbers)
    return numbers


def _numbers_of_seconds(index: pd.Index) -> NDArray | None:
    """Return times as Unix s; None where one is no time."""
    told = _parsed(index)
    if isinstance(told, pd.DatetimeIndex) and not told.hasnans:
        is_without_zone = told.tz is None
        moments = told.tz_localize("UTC") if is_without_zone else told
        nanoseconds = moments.as_unit("ns").asi8
        return nanoseconds / _NANOSECONDS
    is_complex = pd.api.types.is_complex_dtype(told.dtype)
    if pd.api.types.is_numeric_dtype(told.dtype) and not is_complex:
        numbers = told.to_numpy(dtype=float, na_value=np.nan)
        if np.isfinite(numbers).all():
            return numbers
    return None


def _check_unit(name: str, numbers: NDArray) -> None:
    """Refuse milliseconds and nanoseconds."""
    if len(numbers) and numbers.max() > _LATEST_S:
        rule = "must be Unix seconds before the year 2100"
        raise ValueError(f"{name} {rule}, got {numbers.max():.0f}: another unit?")


def _parsed(index: pd.Index) -> pd.Index:
    """Return an index of numbers or times where it holds them as texts (ISO 8601), as objects or as
    periods; else the index.
    """
    if isinstance(index, pd.PeriodIndex):
        return index.to_timestamp()
    is_text = pd.api.types.is_string_dtype(index.dtype)
    if not is_text and not pd.api.types.is_object_dtype(index.dtype):
        return index
    parsers: tuple[Any, ...] = (_basic_dates, pd.to_numeric, _iso_times)
    for parse in parsers:
        with suppress(ValueError, TypeError):
            return pd.Index(parse(index))
    return index


def _basic_dates(index: pd.Index) -> pd.DatetimeIndex:
    """Return the dates of texts such as "20240131"; ValueError where one is none."""
    if not all(isinstance(each, str) and _BASIC_DATE.fullmatch(each) for each in index):
        raise ValueError("no dates")
    return pd.to_datetime(index, utc=True, format="%Y%m%d")


def _iso_times(index: pd.Index) -> pd.DatetimeIndex:
    return pd.to_datetime(index, utc=True, format="ISO8601")


def moment_s(name: str, moment: Any) -> float:
    """Return a time as Unix s; ValueError names the argument `name`."""
    is_truth = isinstance(moment, (bool, np.bool_))
    if np.ndim(moment) == 0 and moment is not None and not is_truth:
        numbers = None
        with suppress(ValueError):  # beyond what nanoseconds can tell, as the year 3000
            numbers = _numbers_of_seconds(pd.Index([moment]))
        if numbers is not None:
            _check_unit(name, numbers)
            return float(numbers[0])
    rule = "must be a time or a number of seconds"
    raise ValueError(f"{name} {rule}, got {moment!r}")


# ---- numbers


def _numbers(name: str, frame: pd.DataFrame, columns: list[MetricColumn]) -> pd.DataFrame:
    """Return the table as numbers, with columns (node, metric, statistic)."""
    labels = pd.MultiIndex.from_tuples(columns, names=COLUMN_LEVELS)
    if not labels.is_unique:
        twice = labels[labels.duplicated()][0]
        raise ValueError(f"{name} must have each column once, got {twice} twice")
    try:
        table = frame.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        wrong = _first_without_numbers(frame, columns)
        rule = "must hold numbers in the column"
        raise ValueError(f"{name} {rule} {wrong}") from None
    return pd.DataFrame(table, columns=labels)


def _finite(values: pd.DataFrame, roles: Mapping[MetricColumn, Role]) -> pd.DataFrame:
    """Return the table with infinite values as not measured, but for costs and requests."""
    is_infinite = np.isinf(values.to_numpy())
    columns: list[Any] = values.columns.tolist()
    is_priced = [roles[column].kind in PRICED for column in columns]
    is_infinite[:, is_priced] = False
    return values.mask(is_infinite) if is_infinite.any() else values


def _first_without_numbers(frame: pd.DataFrame, columns: list[MetricColumn]) -> MetricColumn:
    given = zip(columns, frame.items(), strict=True)
    wrong = [column for column, (_, values) in given if not _is_numeric(values)]
    return wrong[0]


def _is_numeric(values: pd.Series) -> bool:
    try:
        values.to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        return False
    return True


def _check_ranges(metrics: Metrics) -> None:
    """Refuse impossible costs and requests. Other metrics may hold anything."""
    for column in metrics.columns:
        kind = metrics.roles[column].kind
        if kind not in PRICED:
            continue
        is_share = kind in (SUCCESS, ERROR_RATE)
        highest = _PERCENT if is_share else np.inf
        rounded = highest * (1 + _ROUNDED)
        values = metrics.arrays[column]
        is_wrong = (values < 0) | (values > rounded) | np.isinf(values)
        if is_wrong.any():
            got = values[is_wrong][0]
            rule = f"must be finite, from 0 to {highest:g}"
            hint = f"; if it is no {kind}, name what it is in roles"
            raise ValueError(f"{metrics.name} column {column} {rule}, got {got}{hint}")
