"""Where do the spans go? `SpanStore`: one SQLite file that many threads and processes may write at
once.

A request pays one append to a deque; a daemon thread writes. Its rows go to the table ``fresh``,
which has no index, and every `SEAL` rows it moves them to ``spans``, sorted by operation, so that
the spans of an endpoint lie side by side there. The tiny table ``runs`` says which rows those are::

    fresh   b a c b a ...   | sealed:  spans   a a b b c      runs   a: rows 1-2, ended 09:00:01 to
            09:00:04
                            |                                        b: rows 3-4, ended 09:00:00 to
                                                                     09:00:03 ...

That finds an endpoint's last minutes about as fast as an index on (endpoint, time) would, for a
fraction of its bytes and of its writing.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aiops_lab.spans import Span, to_frame

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2  # of the tables; a file with another one was written by another release

# rows in ``fresh``: more make a seal cheaper, and each query slower, as it scans them all
SEAL = 10_000

MIRROR_NS = 1_000_000_000  # age at which an open span is worth a row

BUSY_S = 1.0  # how long one attempt waits for another process to finish its transaction

OPEN_S = 5.0  # how long construction and `save` try

FOREVER = 2**63 - 1

T = TypeVar("T")

ROW = "op INTEGER, ended INTEGER, duration INTEGER, status INTEGER, ids BLOB, error TEXT"

SCHEMA = (
    "CREATE TABLE names (id INTEGER PRIMARY KEY, service TEXT, endpoint TEXT, kind TEXT, peer TEXT)",
    f"CREATE TABLE fresh ({ROW})",
    f"CREATE TABLE spans ({ROW})",
    "CREATE TABLE runs (op INTEGER, max_ended INTEGER, min_ended INTEGER, first INTEGER, last INTEGER,"
    " PRIMARY KEY (op, max_ended, first)) WITHOUT ROWID",
    "CREATE TABLE open (writer INTEGER, op INTEGER, start INTEGER, status INTEGER, ids BLOB, error TEXT)",
    "CREATE TABLE stacks (span TEXT PRIMARY KEY, text TEXT)",
    "CREATE TABLE state (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key))",
    f"PRAGMA user_version = {VERSION}",
)

INSERT = "INSERT INTO fresh VALUES (?, ?, ?, ?, ?, ?)"

INSERT_STACK = "INSERT OR REPLACE INTO stacks VALUES (?, ?)"

INSERT_OPEN = "INSERT INTO open VALUES (?, ?, ?, ?, ?, ?)"

SELECT = """
WITH ops AS (SELECT id FROM names WHERE :endpoint IS NULL OR endpoint = :endpoint)
SELECT s.op, s.ended - s.duration, s.duration, s.status, s.ids, s.error
  FROM runs r CROSS JOIN spans s ON s.rowid BETWEEN r.first AND r.last
  WHERE r.op IN ops AND r.max_ended >= :since AND r.min_ended < :until AND s.ended >= :since AND s.ended < :until
UNION ALL SELECT op, ended - duration, duration, status, ids, error
  FROM fresh WHERE ended >= :since AND ended < :until AND op IN ops
UNION ALL SELECT op, start, NULL, status, ids, error FROM open WHERE start < :until AND op IN ops
"""

UNFIT = (
    TypeError,
    ValueError,
    OverflowError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
)

HOPELESS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)

log = logging.getLogger(__name__)


class SpanStore:
    """Spans, stack traces, incidents and baselines in one SQLite file (WAL, synchronous NORMAL).

    Several processes may write to one file, each through a store of its own (make it after a fork).
    A process that is killed loses at most the last `flush_s`. Requests that it had open stay in the
    file as open spans: nobody saw them end.

    Parameters
    ----------
    path
        The file; made where there is none. ``":memory:"`` means a temporary file that `close`
        deletes.
    flush_s
        Seconds between two writes, default 0.5: what a crash may cost. Raising it saves little.
    batch
        Spans that start a write at once, default 1,000, where the cost of a transaction no longer
        shows.
    capacity
        Spans held while the disk cannot take them, default 100,000 (about 50 MB). Beyond, the
        newest are dropped and counted in `dropped`.

    Attributes
    ----------
    opened
        Spans that began and have not ended, by span_id. Those older than 1 s are written as rows
        without a duration and replaced when they end. Hand the ended span over first, then take it
        out of here.
    dropped
        How many spans were lost, because the buffer was full or because no table can hold their
        values.
    path
        Where the file is.

    Raises
    ------
    ValueError
        If a parameter breaks its rule, the file is not a database, not a span store, or of a later
        version.
    OSError
        If the file cannot be opened for writing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        flush_s: float = 0.5,
        batch: int = 1000,
        capacity: int = 100_000,
    ) -> None:
        _check("flush_s", flush_s, 0 < flush_s <= 3600, "> 0 and <= 3600")
        _check("batch", batch, batch >= 1, ">= 1")
        _check("capacity", capacity, capacity >= batch, f">= batch ({batch})")
        self._temporary = tempfile.TemporaryDirectory() if os.fspath(path) == ":memory:" else None
        self.path = Path(self._temporary.name, "spans.sqlite") if self._temporary else Path(path)
        self.opened: dict[str, Span] = {}
        self._flush_s, self._batch, self._capacity = flush_s, batch, capacity
        self._buffer: deque[Span] = deque()
        self._stacks: deque[tuple[str, str]] = deque()
        self.dropped = 0
        self._drop_lock, self._write_lock, self._read_lock = (
            threading.Lock(),
            threading.Lock(),
            threading.Lock(),
        )
        self._codes: dict[tuple[str, str, str, str | None], int] = {}
        self._writer = secrets.randbits(62)  # whose open spans; a process id would come round again
        self._mirrored = False
        self._closed = False
        self._wake = threading.Event()
        self._db = _open(self.path)
        self._reader = _connect(self.path)
        self._thread = threading.Thread(
            target=self._run, name=f"SpanStore {self.path.name}", daemon=True
        )
        self._thread.start()
        atexit.register(self.close)

    def add(self, span: Span) -> None:
        """Take a span. Costs a request one append: no lock, no disk; raises ValueError after
        `close`.

        One that is still open (no duration) goes to `opened`, until the same span_id comes with its
        end.
        """
        if span.duration_ns is None:
            self._check_open()
            self.opened[span.span_id] = span
            return
        waiting = len(self._buffer)
        if waiting >= self._capacity:
            self._drop()
            return
        self._buffer.append(span)
        if waiting + 1 == self._batch:
            self._wake.set()
        # Asked after the append: either the last write of close() saw this span, or it is refused
        # here.
        if self._closed:
            self._refuse(span)

    __call__ = add

    def stack(self, span_id: str, text: str) -> None:
        """Keep the full stack trace of the exception that ended a span."""
        self._check_open()
        if len(self._stacks) < self._capacity:
            self._stacks.append((span_id, text))

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return when all spans handed over before are on disk, and all spans in `opened` are
        mirrored.

        Raises
        ------
        OSError
            If the disk is still full or the file still locked after `timeout_s` seconds (default
            10). The spans stay in the buffer and are tried again.
        """
        self._check_open()
        _retry(lambda: self._write(FOREVER), timeout_s, self.path)

    def close(self) -> None:
        """Write what is left and end the thread. A second call does nothing; also called when
        Python exits.
        """
        with self._drop_lock:
            closed, self._closed = self._closed, True
        if closed:
            return
        atexit.unregister(self.close)
        self._wake.set()
        self._thread.join()
        try:
            _retry(lambda: self._write(FOREVER), OPEN_S, self.path)
        finally:
            with self._write_lock, self._read_lock:
                self._db.close()
                self._reader.close()
            self._drop(len(self._buffer))
            if self._temporary:
                self._temporary.cleanup()

    def __enter__(self) -> SpanStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def spans(
        self, since: Any = None, until: Any = None, endpoint: str | None = None
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
        """
        self._check_open()
        if endpoint is not None and not isinstance(endpoint, str):
            raise ValueError(f"endpoint must be a route or None, got {endpoint!r}")
        limits = {
            "since": _nanoseconds("since", since, -FOREVER),
            "until": _nanoseconds("until", until, FOREVER),
        }
        with self._read_lock:
            rows = self._reader.execute(SELECT, {**limits, "endpoint": endpoint}).fetchall()
            names = self._reader.execute(
                "SELECT service, endpoint, kind, peer FROM names ORDER BY id"
            ).fetchall()
        return to_frame(
            # ids of names are 1, 2, 3, ...
            (*_unpack(ids), *names[op - 1], start, duration, status, error)
            for op, start, duration, status, ids, error in rows
        )

    def stack_of(self, span_id: str) -> str | None:
        """Return the stack trace kept for a span, or None."""
        rows = self._read("SELECT text FROM stacks WHERE span = ?", span_id)
        return rows[0][0] if rows else None

    def save(self, kind: str, records: dict[str, object]) -> None:
        """Keep each record as JSON under (kind, key), replacing what was there, in one transaction."""
        self._check_open()
        upsert = (
            "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
        )
        rows = [(kind, key, json.dumps(value)) for key, value in records.items()]

        def write() -> None:
            with self._write_lock, _transaction(self._db) as db:
                db.executemany(upsert, rows)

        _retry(write, OPEN_S, self.path)

    def load(self, kind: str) -> dict[str, Any]:
        """Return all records of a kind by key, in the order in which their keys were first saved."""
        rows = self._read("SELECT key, value FROM state WHERE kind = ? ORDER BY rowid", kind)
        return {key: json.loads(value) for key, value in rows}

    def _drop(self, count: int = 1) -> None:
        with self._drop_lock:
            self.dropped += count

    def _refuse(self, span: Span) -> None:
        with self._write_lock:  # before or after the last write, not during it
            if span not in self._buffer:
                return  # the last write took it
            self._buffer.remove(span)
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the store must be open, got a call after close(): {self.path}")

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        self._check_open()
        with self._read_lock:
            return self._reader.execute(query, values).fetchall()

    def _run(self) -> None:
        """Write every flush_s seconds, or as soon as a batch is full; after an error, try again
        next time.
        """
        troubled = told = False
        while not self._closed:
            if troubled or len(self._buffer) < self._batch:
                self._wake.wait(self._flush_s)
                self._wake.clear()
            try:
                self._write(time.time_ns() - MIRROR_NS)
                troubled = False
            except Exception as error:
                if not troubled:
                    log.warning("%s takes no spans, they wait: %s", self.path, error)
                troubled = True
            if self.dropped and not told:
                log.warning("%s: spans are being dropped, see SpanStore.dropped", self.path)
                told = True

    def _write(self, begun_before: int) -> None:
        """Move the buffer to disk and renew the mirrors of this store's open spans, in one
        transaction.
        """
        with self._write_lock:
            # First what is open, then what has ended: a span that ends in between is in both, never
            # in neither.
            opened, done, stacks = self.opened.copy(), list(self._buffer), list(self._stacks)
            ended = {span.span_id for span in done} & opened.keys() if opened else ()
            waiting = [s for key, s in opened.items() if key not in ended and s[7] < begun_before]
            if done or stacks or waiting or self._mirrored:
                self._drop(self._store(done, stacks, waiting))
                self._mirrored = bool(waiting)
            for key in ended:
                # the request's thread may be about to do that; until then it is in both
                self.opened.pop(key, None)
            for queue, written in ((self._buffer, done), (self._stacks, stacks)):
                for _ in written:
                    queue.popleft()
            self._seal()

    def _store(self, done: list[Span], stacks: list[tuple[str, str]], waiting: list[Span]) -> int:
        try:
            with _transaction(self._db) as db:
                db.execute("DELETE FROM open WHERE writer = ?", (self._writer,))
                self._insert(INSERT_OPEN, self._open_row, waiting)
                self._insert(INSERT_STACK, tuple, stacks)
                return self._insert(INSERT, self._row, done)
        except BaseException:
            self._codes.clear()  # some may be of names that were rolled back
            raise

    def _insert(
        self, statement: str, row: Callable[[Any], tuple[object, ...]], items: list[Any]
    ) -> int:
        """Insert all items; return how many were refused because no table can hold their values."""
        refused = 0
        self._db.execute("SAVEPOINT items")
        try:
            self._db.executemany(statement, [row(item) for item in items])
        except UNFIT:
            self._db.execute("ROLLBACK TO items")
            self._codes.clear()
            refused = (
                1
                if len(items) == 1
                else sum(self._insert(statement, row, [item]) for item in items)
            )
        self._db.execute("RELEASE items")
        return refused

    def _row(self, span: Span) -> tuple[object, ...]:
        trace, key, parent, _, _, _, _, start, duration, status, error = span
        ended = start + (duration or 0)
        code = self._codes.get(span[3:7]) or self._code(span[3:7])
        return code, ended, duration, status, _pack(trace, key, parent), error

    def _open_row(self, span: Span) -> tuple[object, ...]:
        code, start, _, *rest = self._row(span)
        return self._writer, code, start, *rest

    def _code(self, name: tuple[str, str, str, str | None]) -> int:
        """Return the number of a name; the write lock on the file keeps it the same in all
        processes.
        """
        known = self._db.execute("SELECT * FROM names WHERE id > ?", (len(self._codes),))
        self._codes.update({tuple(key): code for code, *key in known})
        if name not in self._codes:
            self._codes[name] = (
                self._db.execute("INSERT INTO names VALUES (NULL, ?, ?, ?, ?)", name).lastrowid or 0
            )
        return self._codes[name]

    def _seal(self) -> None:
        """Move ``fresh`` to ``spans``, sorted, once it is long enough; a failure only leaves it for
        the next time.
        """
        if (self._db.execute("SELECT max(rowid) FROM fresh").fetchone()[0] or 0) < SEAL:
            return
        with suppress(sqlite3.OperationalError), _transaction(self._db) as db:
            last = db.execute("SELECT coalesce(max(rowid), 0) FROM spans").fetchone()
            db.execute("INSERT INTO spans SELECT * FROM fresh ORDER BY op, ended")
            db.execute(
                "INSERT INTO runs SELECT op, max(ended), min(ended), min(rowid), max(rowid)"
                " FROM spans WHERE rowid > ? GROUP BY op",
                last,
            )
            db.execute("DELETE FROM fresh")


def _check(name: str, value: float, fits: bool, rule: str) -> None:
    if not fits:
        raise ValueError(f"{name} must be {rule}, got {value}")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _open(path: Path) -> sqlite3.Connection:
    """Return a connection to a store whose tables exist."""
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be a file, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in an existing directory, got {path}")
    db = _retry(lambda: _connect(path), OPEN_S, path)
    try:
        _retry(lambda: _prepare(db, path), OPEN_S, path)
    except sqlite3.DatabaseError as error:
        db.close()
        raise ValueError(
            f"path must be an SQLite database or a new file, got {path}: {error}"
        ) from error
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables, unless they are there. What is refused stays as it is: WAL mode, too, is set
    afterwards.
    """
    with _transaction(db):
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise ValueError(
                f"path must be a span store of version {VERSION}, got version {version} in {path}"
            )
        for statement in SCHEMA if version == 0 else ():
            db.execute(statement)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")


def _retry(work: Callable[[], T], seconds: float, path: Path) -> T:
    """Try until it works, the time is over, or it is clear that waiting does not help."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF in HOPELESS or time.monotonic() >= deadline:
                raise OSError(
                    f"{path} must be a span store that can be written, got: {error}"
                ) from error
        time.sleep(0.02)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _pack(trace: str, span: str, parent: str | None) -> bytes | str:
    """Return the three ids as their bytes in a row, or as JSON text where they are not of the usual
    kind.
    """
    text = trace + span + (parent or "")
    try:
        ids = bytes.fromhex(text)
    except ValueError:
        ids = b""
    if (
        ids.hex() == text
        and len(trace) == 32
        and len(span) == 16
        and (parent is None or len(parent) == 16)
    ):
        return ids
    return json.dumps([trace, span, parent])


def _unpack(ids: bytes | str) -> tuple[str, str, str | None]:
    if isinstance(ids, str):
        return tuple(json.loads(ids))
    text = ids.hex()
    return text[:32], text[32:48], text[48:] or None


def _nanoseconds(name: str, value: Any, default: int) -> int:
    if value is None:
        return default
    import pandas as pd

    try:
        stamp = pd.Timestamp(value)
        if stamp is pd.NaT:
            raise ValueError("not a time")
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp
        return int(stamp.as_unit("ns").value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} must be a time, got {value!r}") from error
