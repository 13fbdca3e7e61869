"""What does a store hold? `SpanReader` reads its file and never writes to it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from aiops_lab.checks import FieldError
from aiops_lab.record import counting, database
from aiops_lab.record.forking import WAIT_S, FairLock, abandoned, survive_forks
from aiops_lab.record.frames import BLOCK_ROWS, FoundSpans, UnusualError

if TYPE_CHECKING:
    import pandas as pd

FOREVER = 2**63 - 1
_SQLITE = b"SQLite format 3"  # how the file of a store begins

_T = TypeVar("_T")


class SpanReader:
    """The spans, stack traces and state in the file of a `SpanStore`, read-only.

    The file may be of an older release, and another process may be writing to it.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    ValueError
        If the file is not a span store, or of a later version.
    OSError
        If the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path)
        self._file = self.path.absolute()  # a fork may be followed by a change of directory
        self._closed = False
        self._read_lock = FairLock()
        self._reader = database.open_to_read(self.path)
        survive_forks(self)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._closed = True
        if self._read_lock.is_held_here():  # by what a signal has interrupted
            return
        with self._read_lock:
            self._reader.close()

    def before_fork(self) -> None:
        """Wait until nothing is being read, and close the file."""
        self._is_held = self._read_lock.acquire(timeout=WAIT_S)
        if self._is_held:
            self._reader.close()

    def after_fork_in_parent(self) -> None:
        """Open the file again and go on."""
        if self._is_held:
            self._reopen()
            self._read_lock.release()

    def after_fork_in_child(self) -> None:
        """Open the file for this process."""
        abandoned.append(self._reader)
        self._read_lock = FairLock()
        self._reopen()

    def _reopen(self) -> None:
        if not self._closed:
            with suppress(OSError, ValueError):  # the next read says that the file is gone
                self._reader = database.open_to_read(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spans(
        self,
        since: Any = None,
        until: Any = None,
        endpoint: str | None = None,
        *,
        trace_id: str | None = None,
        without: tuple[int, int, int] = (-1, 0, 0),
    ) -> pd.DataFrame:
        """Return the spans frame of what is on disk (call `flush` first to have it all).

        Parameters
        ----------
        since, until
            Take the spans that ended at or after `since` and before `until`: Timestamp, datetime or
            ISO text, UTC if it names no zone; default: no limit. Open spans are taken if they began
            before `until`.
        endpoint
            A route, such as "/payment"; default: all.
        trace_id
            That of one trace; default: all.
        without
            What `SpanStore.mark` returned, and two moments (Unix ns): spans that were there then
            and ended between these are left out. Default: none.
        """
        self._check_open()
        if endpoint is not None and not isinstance(endpoint, str):
            raise ValueError(f"endpoint must be a route or None, got {endpoint!r}")
        if trace_id is not None and not isinstance(trace_id, str):
            raise ValueError(f"trace_id must be that of a trace or None, got {trace_id!r}")
        trace = None if trace_id is None else database.pack_trace(trace_id)
        limits = _limits(since, until, without) | {"endpoint": endpoint, "trace": trace}
        return self._frame(limits)

    def traces_of(
        self,
        places: Iterable[database.ServedPlace],
        since: Any = None,
        until: Any = None,
        *,
        without: tuple[int, int, int] = (-1, 0, 0),
    ) -> pd.DataFrame:
        """Return the spans that `spans` returns, of all traces that have one at some places; others
        may be among them.

        Parameters
        ----------
        places : iterable of (service, route)
        since, until, without
            As for `spans`.
        """
        self._check_open()
        limits = _limits(since, until, without) | {"endpoint": None, "trace": None}
        return self._frame(limits, frozenset(places))

    def _frame(
        self, limits: dict[str, Any], served: frozenset[database.ServedPlace] | None = None
    ) -> pd.DataFrame:
        """Return the spans within some limits, of all traces or of those with some places."""
        try:
            return self._frame_of(FoundSpans(), limits, served)
        except UnusualError:
            return self._frame_of(FoundSpans(as_objects=True), limits, served)

    def _frame_of(
        self,
        found: FoundSpans,
        limits: dict[str, Any],
        served: frozenset[database.ServedPlace] | None,
    ) -> pd.DataFrame:
        """Return what `found` takes. Raises `UnusualError`, unless it takes objects."""

        def select(db: sqlite3.Connection) -> list[database.Row]:
            return database.select_spans(
                db, self.path, limits, found.take, BLOCK_ROWS, served=served
            )

        return found.frame(self._ask(select))

    def count_outside(self, since: Any, until: Any) -> int:
        """Return how many spans on disk ended before `since`, or at or after `until`."""
        return self._count(database.COUNT_OUTSIDE, since, until)

    def count_roughly(self, since: Any, until: Any) -> int:
        """Return about how many spans ended between two moments, without looking at each."""
        return self._count(database.COUNT_SORTED, since, until)

    def _count(self, query: str, since: Any, until: Any) -> int:
        """Return the number that a query counts, of two moments."""
        limits = _two_moments(since, until)
        self._check_open()
        return self._ask(lambda db: db.execute(query, limits).fetchone()[0])

    def count_part(self, after: int, bounds_s: Sequence[float]) -> counting.Part:
        """Return the requests in the rows after one; `RequestCounter` adds them up."""
        self._check_open()
        return self._ask(lambda db: counting.count_part(db, after, bounds_s))

    def stack_of(self, span_id: str) -> str | None:
        """Return the stack trace stored for a span, or None."""
        rows = self._read("SELECT text FROM stacks WHERE span = ?", span_id)
        return rows[0][0] if rows else None

    def load(self, kind: str) -> dict[str, Any]:
        """Return all records of a kind by key, in the order in which keys were first saved."""
        rows = self._read("SELECT key, value FROM state WHERE kind = ? ORDER BY rowid", kind)
        return {key: json.loads(value) for key, value in rows}

    def record(self, kind: str, key: str) -> Any:
        """Return one record, None where there is none."""
        rows = self._read("SELECT value FROM state WHERE kind = ? AND key = ?", kind, key)
        return json.loads(rows[0][0]) if rows else None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the store must be open, got a call after close(): {self.path}")

    def _read(self, query: str, *values: object) -> list[database.Row]:
        self._check_open()
        return self._ask(lambda db: db.execute(query, values).fetchall())

    def _ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        # a signal handler reads while its thread does: SQLite lets it
        lock = nullcontext() if self._read_lock.is_held_here() else self._read_lock
        with lock:
            try:
                return question(self._reader)
            except sqlite3.DatabaseError as error:
                rule = f"{self.path} must be a span store that can be read"
                raise OSError(f"{rule}, got: {error}") from error


def spans_of(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the spans of a file of traces, as `read_spans` does, or of a store."""
    from aiops_lab.formats.files import read_spans

    if not _is_database(path):
        return read_spans(path)
    with SpanReader(path) as reader:
        return reader.spans()


def _is_database(path: str | os.PathLike[str]) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def as_path(path: Any) -> Path:
    """Return the path of a file; ValueError where it is none."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise FieldError("path", "must be the path of a file", path) from None
    if "\0" in name:
        raise FieldError("path", "must be the path of a file", name)
    return Path(name)


def _limits(since: Any, until: Any, without: tuple[int, int, int]) -> dict[str, Any]:
    """Return the times of spans as a query takes them."""
    mark, marked_since, marked_until = without
    return _two_moments(since, until) | {
        "mark": mark,
        "marked_since": marked_since,
        "marked_until": marked_until,
    }


def _two_moments(since: Any, until: Any) -> dict[str, Any]:
    """Return two moments as queries take them, in Unix ns."""
    return {
        "since": _nanoseconds("since", since, -FOREVER),
        "until": _nanoseconds("until", until, FOREVER),
    }


def _nanoseconds(name: str, value: Any, default: int) -> int:
    """Return a moment (a Timestamp or what makes one, UTC unless it names a zone) as Unix ns."""
    if value is None:
        return default
    import pandas as pd

    try:
        moment = pd.Timestamp(value)
        if moment is pd.NaT:
            raise ValueError("no time")
        if moment.tzinfo is None:
            moment = moment.tz_localize("UTC")
        return int(moment.as_unit("ns").value)
    except (ValueError, TypeError) as error:
        raise FieldError(name, "must be a time", value) from error
