"""The package's own CSV, and Parquet: the columns of the spans frame as they are.

The CSV has one row a span; of the optional columns it has those that the frame had. ``start`` is
ISO 8601 in UTC with nanoseconds, an empty cell is a missing value. Rows keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError, missing_extra
from aiops_lab.columns import text_column
from aiops_lab.formats.sources import Limits, Source
from aiops_lab.spans import COLUMNS, NAME_COLUMNS, OPTIONAL_COLUMNS, TEXT_COLUMNS, check

MAX_WHOLE = 2.0**53  # beyond it a float is no exact whole number

_BEFORE = pd.Timestamp("1700", tz="UTC")
_AFTER = pd.Timestamp("2200", tz="UTC")

MAX_MEAN_LENGTH = 100  # characters of a text; longer ones stay objects, which rows can share

MILLISECONDS = ("duration_ms", "first_byte_ms")

Convert = Callable[[pd.Series], pd.Series]


def columns_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a span that a frame has, in their order."""
    return [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in frame.columns]


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the parts of a table as one frame, its index 0..n-1."""
    if len(frames) == 1:
        return _with_texts(frames[0].reset_index(drop=True))
    frame = pd.concat(frames, ignore_index=True)
    status = _plain_status(frame["status"])
    return _with_texts(frame.assign(status=status))


def _plain_status(status: pd.Series) -> pd.Series:
    """Return int64 where no status is missing."""
    return status if status.isna().any() else status.astype("int64")


def _plain_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose texts are objects, None where one is missing."""
    texts = frame.columns.intersection([*TEXT_COLUMNS])
    frame = frame.astype(dict.fromkeys(texts, object))
    is_text = frame.columns.isin(texts)
    return frame.where(frame.notna() | ~is_text, None)


def _with_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of objects with its texts as `to_frame` makes them, but for long ones."""
    made = {}
    for name in frame.columns.intersection([*TEXT_COLUMNS]):
        values = frame[name].tolist()
        if _are_short(values):
            made[name] = text_column(values)
    return frame.assign(**made)


def _are_short(values: list[str | None]) -> bool:
    """Return whether texts may be copied: Parquet may hold a long one once for a million rows."""
    length = sum(map(len, filter(None, values)))
    return length <= MAX_MEAN_LENGTH * len(values)


# ---- CSV


def csv_frames(source: Source, size: int) -> Iterator[pd.DataFrame]:
    """Yield the frames of a CSV file, `size` rows each; the last one may be shorter.

    Raises
    ------
    ValueError
        Names the file, the line and the column.
    """
    columns = (*COLUMNS, *OPTIONAL_COLUMNS)
    options: dict[str, Any] = {
        "dtype": object,
        "keep_default_na": False,
        "na_values": {column: [""] for column in columns},
        "chunksize": size,
    }
    try:
        with pd.read_csv(source.stream, **options) as parts:
            lines = 1  # so many are read: the header
            for part in parts:
                yield _converted(part, source.name, lines)
                lines += len(part) + int(_breaks(part).sum())
    except pd.errors.ParserError as error:
        _, _, told = str(error).rpartition("C error: ")
        told = told.strip().replace(" in line ", " in row ")  # a cell may have several lines
        raise ValueError(f"{source.name} must be CSV, got: {told}") from None
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise ValueError(f"{source.name} must be UTF-8, got byte 0x{wrong:02x}") from None


def _converted(part: pd.DataFrame, name: str, lines: int) -> pd.DataFrame:
    converts: dict[str, Convert] = {"start": _times, "status": _statuses}
    converts |= dict.fromkeys(MILLISECONDS, _numbers)
    rules = {"start": "a time (ISO 8601)", "status": "a whole number"}
    frame = part.copy()
    for column in part.columns.intersection([*converts]):
        texts = part[column]
        values = converts[column](texts)
        is_wrong = values.isna() & texts.notna()
        if is_wrong.any():
            first = int(is_wrong.to_numpy().argmax())
            rule = rules.get(column, "a number")
            place = f"{name}, line {_lines(part, lines)[first]}"
            raise ValueError(f"{place}: {column} must be {rule}, got {texts.iloc[first]!r}")
        frame[column] = values
    return _checked(_plain_texts(frame), name, _lines(part, lines))


def _lines(part: pd.DataFrame, read: int) -> NDArray:
    """Return the line on which each row begins, after so many lines."""
    breaks = _breaks(part)
    breaks_before = np.cumsum(breaks) - breaks
    rows_before = np.arange(len(part))
    return read + 1 + rows_before + breaks_before


def _breaks(part: pd.DataFrame) -> NDArray:
    """Return how many line breaks the texts of each row hold."""
    total = np.zeros(len(part), dtype="int64")
    for name in part.columns.intersection([*NAME_COLUMNS]):
        texts = part[name].fillna("")
        if "\n" in "".join(texts):  # seldom, and much faster than to count
            total += texts.str.count("\n").to_numpy("int64")
    return total


def _checked(frame: pd.DataFrame, name: str, lines: NDArray) -> pd.DataFrame:
    try:
        check(frame.set_axis(lines))
    except ValueError as error:
        told, _, line = str(error).rpartition(" in row ")
        place = f"{name}, line {line}" if told else name
        raise ValueError(f"{place}: {told or error}") from None
    return frame


def _times(texts: pd.Series) -> pd.Series:
    times = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    return _nanoseconds(times)


def _nanoseconds(times: pd.Series) -> pd.Series:
    """Return times in UTC to the nanosecond, NaT where one cannot be."""
    is_possible = (times > _BEFORE) & (times < _AFTER)
    return times.where(is_possible).dt.as_unit("ns")


def _numbers(texts: pd.Series) -> pd.Series:
    # Python reads back exactly what it wrote
    return texts.map(_number).astype("float64")


def _number(text: Any) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _statuses(texts: pd.Series) -> pd.Series:
    numbers = pd.to_numeric(texts, errors="coerce").astype("Float64")
    is_whole = (numbers == numbers.round()) & (numbers.abs() < MAX_WHOLE)
    whole = numbers.where(is_whole)
    return _plain_status(whole.astype("Int64"))


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """Return a spans frame as CSV."""
    frame = check(frame)[columns_of(frame)]
    start = [moment.isoformat(timespec="nanoseconds") for moment in frame["start"]]
    return frame.assign(start=start).to_csv(index=False, lineterminator="\n").encode()


# ---- Parquet


def parquet_frames(source: Source, size: int, limits: Limits) -> Iterator[pd.DataFrame]:
    """Yield the frames of a Parquet file, at most `size` rows each.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    ValueError
        The file is damaged, or holds more than the limits say.
    """
    parquet = _parquet()
    if source.path is None:
        raise ValueError(f"{source.name} must be a file on disk that is not compressed by gzip")
    from pyarrow import ArrowException

    seen = 0
    rows = 0
    try:
        columns = _flat_columns(parquet.read_schema(source.path))
        # as a dictionary a text that comes again takes no memory: a small file may hold it a
        # million times
        texts = [name for name in TEXT_COLUMNS if name in columns]
        with parquet.ParquetFile(source.path, read_dictionary=texts) as file:
            for batch in file.iter_batches(size, columns=columns):
                seen += batch.nbytes
                if seen > limits.max_bytes:
                    rule = f"must be at most max_bytes={limits.max_bytes:,} bytes unpacked"
                    raise ValueError(f"{source.name} {rule}, got more")
                frame = batch.replace_schema_metadata().to_pandas()
                begin, rows = rows, rows + len(frame)
                yield _from_arrow(frame.set_axis(range(begin, rows)), source.name)
    except (ArrowException, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"{source.name} must be Parquet, got: {error}") from None
    except FieldError as error:
        raise ValueError(f"{source.name}: {error}") from None


def _flat_columns(schema: Any) -> list[str]:
    """Return the columns of a span that a file has; FieldError where one holds lists or records."""
    from pyarrow.types import is_nested

    columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in schema.names]
    for name in columns:
        field = f"column {name!r}"
        first, *others = schema.get_all_field_indices(name)
        if others:
            raise FieldError(field, "must be there once", 1 + len(others))
        kind = schema.types[first]
        if is_nested(kind):
            raise FieldError(field, "must hold plain values", kind)
    return columns


def _from_arrow(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    frame = _plain_texts(frame)
    if "start" in frame:
        start = frame["start"]
        if isinstance(start.dtype, pd.DatetimeTZDtype):
            frame["start"] = _nanoseconds(start.dt.tz_convert("UTC"))
    if "status" in frame and _are_numbers(frame["status"]):
        frame["status"] = _statuses(frame["status"])
    try:
        return check(frame)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _are_numbers(column: pd.Series) -> bool:
    types = pd.api.types
    return types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype)


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a spans frame as Parquet.

    Raises
    ------
    ImportError
        pyarrow is not installed.
    """
    parquet = _parquet()
    import pyarrow

    spans = check(frame)[columns_of(frame)]
    table = pyarrow.Table.from_pandas(_plain_texts(spans), preserve_index=False)
    parquet.write_table(table, path)


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    return parquet
