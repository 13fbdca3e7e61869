"""Where do the spans go? `SpanStore`: one SQLite file that many threads and processes may write.

A request costs one append to a deque; a daemon thread writes.
"""

from __future__ import annotations

import atexit
import json
import os
import sqlite3
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral
from operator import itemgetter
from pathlib import Path
from time import sleep  # by name: the thread may be older than gevent's patches
from typing import Any, TypeVar

from aiops_lab.checks import FieldError, check_number
from aiops_lab.logs import get_logger
from aiops_lab.record import database
from aiops_lab.record.forking import WAIT_S, FairLock, abandoned, survive_forks
from aiops_lab.record.moved import identity, open_anew, set_aside, size_of, wal_identity
from aiops_lab.record.reader import FOREVER, SpanReader, as_path
from aiops_lab.record.recorder import MAX_ERROR, MAX_STACK, OpenSpan
from aiops_lab.record.rows import SpanRows
from aiops_lab.spans import Span

# Rows in ``fresh`` at which they are sealed. More would make a seal cheaper, and each query slower,
# as it reads them all.
SEAL = 10_000

MIRROR_NS = 1_000_000_000  # age at which an open span gets a row
REST_S = 0.1  # between two writes at most, or as long as the write before took

MOST_STACKS = 2_000
"""Stack traces that wait for the disk, of 20,000 characters at most each. Raising it keeps more of
a flood of errors, and takes as much more memory while the file is locked."""

UPSERT = "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"

# The start of a span, Unix ns, by position: what instrumented apps put into `opened` can be read
# like a tuple.
start_of = itemgetter(Span._fields.index("start_ns"))

_log = get_logger(__name__)

_T = TypeVar("_T")
Load = Callable[[str, str], Any]


class SpanStore(SpanReader):
    """Spans, stack traces, incidents and baselines in one SQLite file (WAL, synchronous NORMAL).

    Several processes may write to one file. A store may be made before a fork, too: then the child
    goes on with a connection, a buffer and a thread of its own, and the parent writes what was
    there. A process that is killed loses at most the last `flush_s`, and so does a child that ends
    with ``os._exit``. Requests that it had open stay in the
    file as open spans, because their end was not recorded.

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
        Spans held in memory while they cannot be written, default 100,000 (45 to 65 MB, and what
        their errors take). Further ones are dropped and counted in `dropped`.

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
    remade
        How often the file was made anew, because it had been deleted, renamed or cut off.
    problem
        Why what was recorded waits: the disk did not take it at the last attempt. "" where it did.
    failed_s
        When an attempt failed last, on the clock of `time.monotonic`.

    Raises
    ------
    ValueError
        If a parameter breaks its rule, the file is not a database, not a span store, or of a later
        version.
    OSError
        If the file cannot be opened for writing.
    """

    _in_use = False  # the connections, by other threads, in the moment of a fork

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        flush_s: float = 0.5,
        batch: int = 1000,
        capacity: int = 100_000,
    ) -> None:
        check_number("flush_s", flush_s, 0.001, 3600)
        check_number("batch", batch, 1, 1e9)
        check_number("capacity", capacity, batch, 1e9)
        self._temporary = None
        path = as_path(path)
        if str(path) == ":memory:":
            self._temporary = tempfile.TemporaryDirectory()
            path = Path(self._temporary.name, "spans.sqlite")
        self.path = path
        self._file = self.path.absolute()  # a fork may be followed by a change of directory
        self.opened: dict[str, Span] = {}
        self._flush_s = flush_s
        self._batch = batch
        self._capacity = capacity
        self._closed = False
        self._begin()
        self._db = database.open_database(self.path)
        self._reader = database.connect(self.path)
        self.remade = 0
        self._note_file()
        self._start()
        _log.info("%s is open, written every %g s", self.path, flush_s)
        atexit.register(self.close)
        survive_forks(self)

    def _begin(self) -> None:
        """Begin with nothing to write, in this process."""
        self.dropped = 0
        self.problem = ""
        self.failed_s = float("-inf")
        self._buffer: deque[Span | OpenSpan] = deque()
        self._stacks: deque[tuple[str, str]] = deque()
        self._drop_lock = threading.RLock()  # a finalizer may add a span anywhere
        self._write_lock = FairLock()
        self._read_lock = FairLock()
        self._rows = SpanRows()
        self._mirrored = False
        self._wake = threading.Event()
        self._process = os.getpid()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        """Start the thread that writes, once.

        Where Python has no threads, as in a browser, `add` writes each full batch itself.
        """
        with self._drop_lock:
            if self._thread is not None:
                return
            name = f"SpanStore {self.path.name}"
            thread = self._thread = _WriterThread(target=self._run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._thread = None

    def add(self, span: Span) -> None:
        """Take a span, at the cost of one append: no lock, no disk.

        Of a longer error its first 1,000 characters are kept, as of one that is recorded: what
        waits for the disk is bounded by their number, and so must be what each takes.

        One without a duration is still open and goes to `opened`, until the same span_id comes with
        its end. Raises ValueError after `close`, and where it is no `Span`.
        """
        try:
            is_open = span.duration_ns is None
            error = span.error
        except AttributeError:
            raise FieldError("span", "must be a Span", span) from None
        if error is not None and type(error) is str and len(error) > MAX_ERROR:
            span = Span(*span)._replace(error=error[:MAX_ERROR])
        if is_open:
            self._check_open()
            if isinstance(span.start_ns, Integral) and isinstance(span.span_id, str):
                self.opened[span.span_id] = span
            else:
                self._drop()  # no table can hold it
            return
        self.add_ended(span)

    __call__ = add

    def add_ended(self, span: Span | OpenSpan) -> None:
        """Take a span that has ended and whose error is short: one of an instrumented app as it is.

        Its row is made by the thread that writes.
        """
        waiting = len(self._buffer)
        if waiting >= self._capacity:
            self._drop()
            return
        self._buffer.append(span)
        if self._thread is None:
            self._start()
        if (waiting + 1) % self._batch == 0:
            self._wake.set()
            if self._thread is None and not self._write_lock.is_held_here():
                self._attempt(quiet=False)
        # Read after the append: either the last write of close() sees this span, or it is refused
        # here.
        if self._closed:
            self._refuse(span)

    @property
    def room(self) -> int:
        """How many spans the buffer takes before it drops any."""
        return self._capacity - len(self._buffer)

    def stack(self, span_id: str, text: str) -> None:
        """Store the stack trace of the exception that ended a span, 20,000 characters at most; none
        while many wait.
        """
        self._check_open()
        if len(self._stacks) < min(self._capacity, MOST_STACKS):
            self._stacks.append((span_id, text[:MAX_STACK]))

    def flush(self, timeout_s: float = 10.0) -> None:
        """Return when all spans handed over before are on disk, and all spans in `opened` are
        mirrored.

        Raises
        ------
        OSError
            If the disk is still full or the file still locked after `timeout_s` seconds (default
            10). The spans stay in the buffer and are tried again.
        """
        check_number("timeout_s", timeout_s, 0, 1e9)
        self._check_open()
        self._retry(lambda: self._write_or_say_why(FOREVER), timeout_s)

    def close(self) -> None:
        """Write what is left and end the thread. A second call does nothing; also called when
        Python exits.

        A signal handler that is called while its own thread reads or writes cannot wait for that:
        then the store stays open until Python exits.
        """
        if self._write_lock.is_held_here() or self._read_lock.is_held_here():
            _log.warning("%s is in use by this very thread: it is closed at exit", self.path)
            return
        with self._drop_lock:
            closed = self._closed
            self._closed = True
        if closed:
            return
        atexit.unregister(self.close)
        if os.getpid() != self._process:  # after a fork that called no hook there is no thread
            _log.warning("%s: the spans of a child that forked unnoticed are lost", self.path)
            return
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._retry(lambda: self._write_or_say_why(FOREVER))
        finally:
            with self._write_lock, self._read_lock:
                self._db.close()
                self._reader.close()
            self._drop(len(self._buffer))
            _log.info("%s is closed, %d spans were dropped", self.path, self.dropped)
            if self._temporary:
                self._temporary.cleanup()

    def before_fork(self) -> None:
        """Wait until nothing is being written or read, and close the file."""
        locks = self._write_lock, self._read_lock, self._drop_lock
        self._held = [lock for lock in locks if lock.acquire(timeout=WAIT_S)]
        self._in_use = len(self._held) < len(locks)
        if not self._in_use:
            self._db.close()
            self._reader.close()

    def after_fork_in_parent(self) -> None:
        """Open the file again and go on."""
        if not self._in_use:
            self._reopen()
        for lock in self._held:
            lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew; what waited is written by the parent, and its open requests are its own."""
        self._begin()
        self.opened.clear()
        abandoned.extend((self._db, self._reader))
        if self._in_use and not self._closed:
            self._closed = True
            _log.warning("%s was in use during the fork: this process records nothing", self.path)
        if self._temporary is not None:
            self._temporary._finalizer.detach()  # type: ignore[attr-defined]
            self._temporary = None
        self._reopen()
        # Under gevent a thread is a greenlet, and its loop begins anew only after this.
        if not self._closed and "gevent" not in threading.Lock.__module__:
            self._start()

    def _reopen(self) -> None:
        if not self._closed:
            self._db = database.reopen(self._file)
            self._reader = database.connect(self._file)

    def save(self, kind: str, records: dict[str, object]) -> None:
        """Store each record as JSON under (kind, key), in one transaction.

        A record that is already there is replaced.
        """
        self._check_open()
        rows = [(kind, key, json.dumps(value)) for key, value in records.items()]

        def write() -> None:
            with self._write_lock:
                self._check_file()
                with database.transaction(self._db) as db:
                    db.executemany(UPSERT, rows)

        self._retry(write)

    def update(
        self,
        change: Callable[[Load], dict[str, dict[str, object]] | None],
        timeout_s: float | None = None,
    ) -> bool:
        """Read some records and store others, in one transaction.

        `change` is given a function (kind, key) -> record or None, and returns what to store, by
        kind and key; None: nothing. It may be called again where the file was locked: until
        `timeout_s` seconds have passed, default 5. Returns whether anything was to be stored.
        """
        self._check_open()

        def load(kind: str, key: str) -> Any:
            query = "SELECT value FROM state WHERE kind = ? AND key = ?"
            found = self._db.execute(query, (kind, key)).fetchone()
            return None if found is None else json.loads(found[0])

        def write() -> bool:
            with self._write_lock:
                self._check_file()
                with database.transaction(self._db) as db:
                    records = change(load)
                    for kind, by_key in (records or {}).items():
                        rows = [(kind, key, json.dumps(value)) for key, value in by_key.items()]
                        db.executemany(UPSERT, rows)
            return records is not None

        return self._retry(write, timeout_s)

    def _retry(self, work: Callable[[], _T], seconds: float | None = None) -> _T:
        """Return what `work` returns; OSError where the file cannot be written, or is damaged."""
        try:
            return database.retry(work, self.path, seconds)
        except sqlite3.DatabaseError as error:
            rule = f"{self.path} must be a span store that can be written"
            raise OSError(f"{rule}, got: {error}") from error

    def position(self) -> tuple[int, int]:
        """Return how far the file is written; `mark` takes it."""
        self._check_open()
        with self._write_lock:
            return database.last_rows(self._db)

    def mark(self, position: tuple[int, int]) -> int:
        """Return a number that tells the spans that were on disk at a position from later ones.

        Where rows have been sorted meanwhile, up to `SEAL` of the last ones count as later.
        """
        self._check_open()
        sealed, fresh = position
        with self._write_lock:
            if database.last_rows(self._db)[0] == sealed:
                database.seal(self._db, fresh)
                return database.last_rows(self._db)[0]
        return sealed

    def _drop(self, count: int = 1) -> None:
        with self._drop_lock:
            self.dropped += count

    def _refuse(self, span: Span | OpenSpan) -> None:
        if self._write_lock.is_held_here():
            return  # a finalizer added it in the middle of the last write: close() counts it
        with self._write_lock:  # before or after the last write, not during it
            if span not in self._buffer:
                return  # the last write took it
            self._buffer.remove(span)
        self._check_open()

    def _run(self) -> None:
        """Write every flush_s seconds, or soon after a batch is full; repeat what failed."""
        failing = told = False
        while not self._closed:
            if failing or len(self._buffer) < self._batch:
                self._wake.wait(self._flush_s)
                self._wake.clear()
            began = time.perf_counter()
            failing = not self._attempt(quiet=failing)
            # half of the time the file is free: SQLite has no queue for the processes that wait
            sleep(min(time.perf_counter() - began, REST_S))
            if self.dropped and not told:
                _log.warning("%s: spans are being dropped, see SpanStore.dropped", self.path)
                told = True

    def _attempt(self, quiet: bool) -> bool:
        """Write what waits and return whether that worked; log why not, unless `quiet`."""
        try:
            self._write_or_say_why(time.time_ns() - MIRROR_NS, look=True)
        except Exception as error:
            if not quiet:
                _log.warning("%s takes no spans, they wait: %s", self.path, error)
            return False
        return True

    def _write_or_say_why(self, begun_before: int, *, look: bool = False) -> None:
        """Do what `_write` does, and take down in `problem` whether that worked.

        `look` says whether the file is looked at where there is nothing to write, too.
        """
        try:
            if look:
                with self._write_lock:
                    self._check_file()
            self._write(begun_before)
        except Exception as error:
            self.problem, self.failed_s = str(error), time.monotonic()
            raise
        self.problem = ""

    def _write(self, begun_before: int) -> None:
        """Move the buffer to disk and renew the rows of this store's open spans.

        That is one transaction. Open spans get a row if they began before `begun_before`, Unix ns.
        """
        with self._write_lock:
            # First the open spans, then those that ended: a span that ends in between is in both,
            # never in neither.
            opened = self.opened.copy()
            done = list(self._buffer)
            stacks = list(self._stacks)
            ended = _ids(done) & opened.keys() if opened else set()
            for key in ended:
                del opened[key]
            waiting = [span for span in opened.values() if start_of(span) < begun_before]
            if done or stacks or waiting or self._mirrored:
                self._check_file()
                self._drop(self._rows.write(self._db, done, stacks, waiting))
                self._mirrored = bool(waiting)
            for key in ended:
                # the request's thread may be about to do that; until then it is in both
                self.opened.pop(key, None)
            _drop_first(self._buffer, len(done))
            _drop_first(self._stacks, len(stacks))
            self._seal()

    def _note_file(self) -> None:
        """Note what tells the file that is open from others."""
        with suppress(sqlite3.Error):
            database.last_rows(self._db)  # the first reading makes the write-ahead log
        self._identity = identity(self._file)
        self._wal = wal_identity(self._file)
        self._size = size_of(self._file)

    def _check_file(self) -> None:
        """Make the file anew where it is gone: SQLite would go on writing to it, for nobody."""
        if identity(self._file) == self._identity:
            before, self._size = self._size, size_of(self._file)
            self._wal = wal_identity(self._file) or self._wal
            if self._size >= before:
                return
            set_aside(self._file)
        if identity(self._file) == self._identity:
            return
        db = open_anew(self._file, self._db, self._wal)
        with self._read_lock:
            for connection in (self._db, self._reader):
                connection.close()
            self._db = db
            self._reader = database.connect(self._file)
        self._rows.forget_names()
        self._note_file()
        self.remade += 1
        _log.warning("%s was deleted, renamed or cut off: it is made anew", self.path)

    def _seal(self) -> None:
        """Sort ``fresh`` away once it is long enough; a failure leaves it for the next time."""
        rows = self._db.execute("SELECT max(rowid) FROM fresh").fetchone()[0]
        if (rows or 0) >= SEAL:
            with suppress(sqlite3.OperationalError):
                database.seal(self._db)


class _WriterThread(threading.Thread):
    """A thread that ends in silence although gevent was made to replace threads meanwhile.

    So does gunicorn with ``--preload`` and gevent, after the fork. Then a thread that is older is
    not found under its number when it ends.
    """

    def _delete(self) -> None:
        with suppress(KeyError):
            super()._delete()  # type: ignore[misc]


def _ids(spans: list[Span | OpenSpan]) -> set[str]:
    """Return the ids of spans that have one; the others have no row."""
    return {span.span_id for span in spans if isinstance(span.span_id, str)}


def _drop_first(queue: deque[Any], count: int) -> None:
    for _ in range(count):
        queue.popleft()
