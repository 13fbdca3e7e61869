"""How do spans lie in files? Parquet by time, a trace never split, on any file system."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob
from itertools import groupby
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError, check_number, missing_extra
from aiops_lab.spans import COLUMNS, NAME_COLUMNS, OPTIONAL_COLUMNS, check, to_frame
from aiops_lab.traces.encode import end_ns, start_ns

ROW_GROUP = 65_536
"""Rows that are read at once where some minutes are asked for. Smaller groups read less, and make
files larger."""

_PART = re.compile(r"(.*part-\d+)-\d+\.parquet")

_PARTITION = "part-{number:012d}-{turn}.parquet"


class Partition(NamedTuple):
    """Files that together hold whole traces: the paths, with the protocol where they have one."""

    files: tuple[str, ...]


# ---- writing


def write_partitions(
    spans: pd.DataFrame | Iterable[pd.DataFrame],
    folder: str | os.PathLike[str],
    *,
    seconds: float = 3600.0,
    late_s: float = 3600.0,
) -> list[Partition]:
    """Return the partitions of a folder into which spans were written.

    A trace is in the partition of the time at which its first span began. Spans that come with a
    later frame go where their trace is, into a further file.

    Parameters
    ----------
    spans : DataFrame or iterable of DataFrame
        Spans frames, in the order of time. Only one at a time is in memory.
    folder : path
        A folder, or an address of fsspec, such as ``s3://bucket/spans``. Made where there is none.
    seconds : float
        What a partition covers, default an hour. Longer ones need more memory on a worker (about
        a kilobyte a span), shorter ones share more windows.
    late_s : float
        How long the traces of a partition are remembered after its end, default an hour. Raising
        it takes memory, about 150 bytes a trace. What comes later begins a trace of its own.

    Raises
    ------
    ValueError
        A frame is none of spans, or the folder holds partitions already.
    ImportError
        pyarrow is not installed; for an address fsspec.
    """
    check_number("seconds", seconds, 1, 1e9)
    check_number("late_s", late_s, 0, 1e9)
    if partitions_of(_pattern(folder)):
        raise FieldError("folder", "must hold no partitions yet", str(folder))
    step = int(seconds * 1e9)
    remembered = ceil(late_s / seconds) + 1
    known: dict[int, dict[str, None]] = {}  # by number of a partition: its traces
    written: list[str] = []
    try:
        for turn, frame in enumerate([spans] if isinstance(spans, pd.DataFrame) else spans):
            number = _numbers(check(frame), step, known)
            for each in np.unique(number).tolist():
                part = frame[number == each]
                known.setdefault(each, {}).update(dict.fromkeys(part["trace_id"]))
                written.append(f"{folder}/{_PARTITION.format(number=each, turn=turn)}")
                _write(part, written[-1])
            if len(number):  # the median: one clock that is ahead must not end all memory
                oldest = int(np.median(number)) - remembered
                known = {each: known[each] for each in known if each >= oldest}
    except BaseException:  # half a recording would be read as a whole one
        for path in written:
            _remove(path)
        raise
    return partitions_of(_pattern(folder))


def _pattern(folder: str | os.PathLike[str]) -> str:
    return f"{escape(os.fspath(folder))}/part-*.parquet"


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        if "://" not in path:
            os.remove(path)
        else:
            system, name = _fsspec().core.url_to_fs(path)
            system.rm(name)


def _numbers(frame: pd.DataFrame, step: int, known: dict[int, dict[str, None]]) -> NDArray:
    """Return the number of the partition of each span: that of its trace."""
    trace, names = pd.factorize(frame["trace_id"])
    first = np.full(len(names), np.iinfo(np.int64).max)
    np.minimum.at(first, trace, start_ns(frame))
    number = first // step
    for each, traces in known.items():
        number[np.fromiter((name in traces for name in names), bool, len(names))] = each
    return number[trace]


def _write(frame: pd.DataFrame, path: str) -> None:
    pyarrow, parquet = _pyarrow()
    columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in frame.columns]
    table = pyarrow.Table.from_pandas(in_order(frame[columns]), preserve_index=False)
    if "://" not in path:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with _opened(path, "wb") as file:
        parquet.write_table(table, file, row_group_size=ROW_GROUP)


# ---- reading


def partitions_of(pattern: str | os.PathLike[str]) -> list[Partition]:
    """Return the partitions that a pattern names, such as ``spans/*.parquet``, in order.

    Files of `write_partitions` that belong together are one partition; any other file is one by
    itself, and must hold whole traces.
    """
    if not isinstance(pattern, str | os.PathLike):
        raise FieldError(
            "pattern", "must be a path or an address, such as spans/*.parquet", pattern
        )
    text = os.fspath(pattern)
    if "://" in text:
        system, _, paths = _fsspec().get_fs_token_paths(text)
        files = [system.unstrip_protocol(path) for path in paths if system.exists(path)]
    else:
        files = glob(text)

    def place(file: str) -> str:
        found = _PART.fullmatch(file)
        return found[1] if found else file

    by_place = groupby(sorted(files), place)
    return [Partition(tuple(part)) for _, part in by_place]


def read_partition(
    partition: Partition, since_ns: int | None = None, until_ns: int | None = None
) -> pd.DataFrame:
    """Return the spans frame of a partition; with two moments (Unix ns) the spans that ended at or
    after the first, or are open, and began before the second.

    Raises
    ------
    ValueError
        A file is no Parquet file of spans.
    OSError
        A file cannot be read.
    """
    frames = [_read(file, since_ns, until_ns) for file in partition.files]
    return stacked(frames)


def read_spans_of(pattern: str | os.PathLike[str]) -> pd.DataFrame:
    """Return all spans of a pattern in one frame, as a single process replays them."""
    partitions = partitions_of(pattern)
    if not partitions:
        raise FieldError("pattern", "must name files of Parquet", os.fspath(pattern))
    return stacked([read_partition(partition) for partition in partitions])


def _read(path: str, since_ns: int | None, until_ns: int | None) -> pd.DataFrame:
    pyarrow, parquet = _pyarrow()
    try:
        with _opened(path, "rb") as opened:
            there = set(parquet.read_schema(opened).names)
            opened.seek(0)
            names = [name for name in NAME_COLUMNS if name in there]
            file = parquet.ParquetFile(opened, read_dictionary=names)
            columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in there]
            if since_ns is None or until_ns is None:
                return _spans_of(file.read(columns), path)
            times = _times_of(file.read(["start", "duration_ms"]).to_pandas())
            inside = _overlap(times, since_ns, until_ns)
            size = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            group = np.repeat(np.arange(len(size)), size)
            wanted = np.unique(group[inside])
            table = file.read_row_groups(wanted.tolist(), columns)
            return _spans_of(table, path)[inside[np.isin(group, wanted)]]
    except (pyarrow.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be Parquet of spans, got: {error}") from None


def _spans_of(table: Any, path: str) -> pd.DataFrame:
    frame = _times_of(table.to_pandas())
    try:
        return check(frame)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _times_of(frame: pd.DataFrame) -> pd.DataFrame:
    if "start" in frame and isinstance(frame["start"].dtype, pd.DatetimeTZDtype):
        frame["start"] = frame["start"].dt.tz_convert("UTC").dt.as_unit("ns")
    return frame


def _overlap(frame: pd.DataFrame, since_ns: int, until_ns: int) -> NDArray:
    return (end_ns(frame) >= since_ns) & (start_ns(frame) < until_ns)


# ---- frames


def stacked(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return several spans frames as one, in the order of `to_frame`."""
    return in_order(below_each_other(frames))


def below_each_other(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return several frames below each other; categories stay what they are."""
    if not frames:
        return to_frame([])
    some = [frame for frame in frames if len(frame)] or frames[:1]
    if len(some) == 1:
        return some[0].reset_index(drop=True)
    present = set().union(*(frame.columns for frame in some))
    made = {}
    for name in (*COLUMNS, *OPTIONAL_COLUMNS):
        if name in present:
            parts = [frame.get(name) for frame in some]
            made[name] = _joined(parts, some)
    return pd.DataFrame(made)


def _joined(columns: list[pd.Series | None], frames: list[pd.DataFrame]) -> Any:
    known = [column for column in columns if column is not None]
    if len(known) == len(columns) and all(isinstance(c.dtype, pd.CategoricalDtype) for c in known):
        return pd.api.types.union_categoricals(known)
    filled = [
        pd.Series([None] * len(frame), dtype=object) if column is None else column
        for column, frame in zip(columns, frames, strict=True)
    ]
    return pd.concat(filled, ignore_index=True)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame in the order of `to_frame`: by start, and where that is equal by their ids."""
    start = start_ns(frame)
    order = np.argsort(start, kind="stable")
    same = np.diff(start[order]) == 0
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if tied.size:
        at = order[tied]
        ids = [frame[name].iloc[at].to_numpy(dtype=str) for name in ("kind", "trace_id", "span_id")]
        order[tied] = at[np.lexsort((*ids, start[at]))]
    if (np.diff(order) == 1).all():
        return frame.reset_index(drop=True)
    return frame.take(order).reset_index(drop=True)


# ---- files


@contextmanager
def _opened(path: str, mode: str) -> Iterator[Any]:
    if "://" not in path:
        with open(path, mode) as file:
            yield file
        return
    with _fsspec().open(path, mode) as file:
        yield file


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    return pyarrow, parquet


def _fsspec() -> Any:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    return fsspec
