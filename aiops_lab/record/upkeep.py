"""What is in a store, and what is old enough to go? `store_info` counts, `prune_store` deletes."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import sleep  # by name: tests write in the pauses
from typing import NamedTuple

from aiops_lab.checks import FieldError
from aiops_lab.record import database
from aiops_lab.record.moved import BESIDE, beside
from aiops_lab.record.reader import FOREVER, as_path

_COUNT = """
SELECT n.service, sum(t.n), min(t.first), max(t.last) FROM names n JOIN (
  SELECT op, count(*) AS n, min(ended) AS first, max(ended) AS last FROM spans GROUP BY op
  UNION ALL SELECT op, count(*), min(ended), max(ended) FROM fresh GROUP BY op
) t ON t.op = n.id GROUP BY n.service ORDER BY n.service
"""

_SERVICES = """
SELECT DISTINCT service FROM names WHERE id IN (SELECT op FROM runs UNION SELECT op FROM fresh)
ORDER BY service
"""

_OF_SERVICE = ":service IS NULL OR op IN (SELECT id FROM names WHERE service = :service)"

# The next run with rows that are old enough. Its rows are sorted by their end.
_NEXT_RUN = f"""
SELECT op, max_ended, first, last FROM runs
WHERE (op, max_ended, first) > (:op, :max_ended, :first) AND min_ended < :before
  AND ({_OF_SERVICE})
ORDER BY op, max_ended, first LIMIT 1
"""
_INSERT_LEFT = """
INSERT INTO runs SELECT ?, max(ended), min(ended), min(rowid), max(rowid) FROM spans
WHERE rowid BETWEEN ? AND ? HAVING count(*) > 0
"""
_INSERT_REST = """
INSERT INTO runs SELECT ?, ?, ended, rowid, ? FROM spans
WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT 1
"""

# A transaction is short and the pause is longer: SQLite has no queue, a writer that waits asks
# 1, 3, 8, 18, 33 ms after it came. After some ms a busy machine takes the processor away from who
# holds the lock, so transactions of 5 ms last 8 there, one in ten 15.
_SLICE_S = 0.001
_PAUSE_S = 0.02
_STEP_ROWS = 200  # between two looks at the clock

# Pages of the write-ahead log above which all are moved into the file at once, though writers wait
# for that. From 1,000 on each commit moves pages: that of a writer would, for tens of ms.
_MOST_PAGES = 500

DeletionLimits = dict[str, object]
_Place = tuple[int, ...]  # of the last row or run that was looked at
_Step = Callable[[_Place], tuple[int, _Place | None]]

# How the moment of a row is called, in each table that holds spans.
_MOMENTS = {"spans": "ended", "fresh": "ended", "open": "start"}


class ServiceInfo(NamedTuple):
    """The spans of a service that have ended; the first and the last end, Unix ns."""

    service: str
    spans: int
    first_ns: int
    last_ns: int


class StoreInfo(NamedTuple):
    """What a store holds."""

    version: int
    size_bytes: int  # with the write-ahead log
    spans: int
    open_spans: int
    stacks: int
    incidents: int
    services: list[ServiceInfo]

    @property
    def first_ns(self) -> int | None:
        """When the first span ended, Unix ns; None where there is none."""
        return min((each.first_ns for each in self.services), default=None)

    @property
    def last_ns(self) -> int | None:
        """When the last span ended, Unix ns; None where there is none."""
        return max((each.last_ns for each in self.services), default=None)


class Pruned(NamedTuple):
    """What was deleted, and the bytes by which the file became smaller."""

    spans: int
    freed_bytes: int
    is_in_use: bool  # then the file keeps its size, and what is free in it is used again


def store_info(path: str | os.PathLike[str]) -> StoreInfo:
    """Return what a store holds: counts, sizes and times.

    Raises
    ------
    ValueError
        The file is no store.
    OSError
        It cannot be read.
    """
    file = as_path(path)
    with closing(database.open_to_read(file)) as db, _damage_told(file):
        services = [ServiceInfo(*row) for row in db.execute(_COUNT)]
        opened, stacks, incidents = (
            db.execute(f"SELECT count(*) FROM {what}").fetchone()[0]
            for what in ("open", "stacks", "state WHERE kind = 'incident'")
        )
        version = database.read_version(db, file)
    spans = sum(each.spans for each in services)
    return StoreInfo(version, _size(file), spans, opened, stacks, incidents, services)


def prune_store(
    path: str | os.PathLike[str], *, before_ns: int | None = None, service: str | None = None
) -> Pruned:
    """Delete spans of a store: those that are older than a time, of a service, or both.

    Incidents and baselines stay. Others may be writing to the store meanwhile: spans go in many
    short transactions. What interrupts it leaves a store that is whole, and another call goes on.

    Parameters
    ----------
    path : path
    before_ns : int, optional
        Those go that ended (of those that are open: began) before it, Unix ns. Default: of any age.
    service : str, optional
        Those of one service go. Default: of all.

    Raises
    ------
    ValueError
        Neither is given, the store has no such service, or the file is no store.
    OSError
        It cannot be written.
    """
    if before_ns is None and service is None:
        raise FieldError("prune", "must be told an age or a service", None)
    file = as_path(path)
    known = _services(file)
    if service is not None and service not in known:
        raise FieldError("service", f"must be one of {', '.join(known)}", service)
    size = _size(file)
    limits: DeletionLimits = {
        "before": FOREVER if before_ns is None else before_ns,
        "service": service,
    }
    with closing(database.open_database(file)) as db, _damage_told(file):
        deleted = _delete(db, file, limits)
        is_in_use = not _compact(db)
    return Pruned(deleted, max(0, size - _size(file)), is_in_use)


def _services(path: Path) -> list[str]:
    """Return the services of the spans of a store, without looking at each span."""
    with closing(database.open_to_read(path)) as db, _damage_told(path):
        return [name for (name,) in db.execute(_SERVICES)]


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """Raise OSError, which names the file, where pages of it are damaged."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OSError(f"{path} must be a span store that is whole, got: {error}") from error


def _size(path: Path) -> int:
    files = path, beside(path, BESIDE[0])  # the other one holds no data
    return sum(each.stat().st_size for each in files if each.exists())


def _delete(db: sqlite3.Connection, path: Path, limits: DeletionLimits) -> int:
    """Delete rows and what belongs to them; return how many spans.

    In short transactions, so that no writer waits long; the store is whole after each. Spans move
    from ``open`` to ``fresh`` and from there to ``spans``, so none passes by.
    """
    deleted = 0
    for table in ("open", "fresh"):
        (end,) = db.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").fetchone()
        deleted += _in_slices(db, path, partial(_delete_unsorted, db, table, limits, end), (0,))
    return deleted + _in_slices(db, path, partial(_delete_of_run, db, limits), (-1, 0, 0))


def _in_slices(db: sqlite3.Connection, path: Path, step: _Step, place: _Place) -> int:
    """Call `step` until it knows no next place; return how many spans were deleted."""
    deleted = 0
    following: _Place | None = place
    while following is not None:
        count, following = database.retry(partial(_slice, db, step, following), path)
        deleted += count
        if following is not None:
            _empty_log(db)
            sleep(_PAUSE_S)
    return deleted


def _empty_log(db: sqlite3.Connection) -> None:
    """Move what was written into the file, so that no writer has to.

    No writer waits for that. Where one commits meanwhile, the log is not empty and goes on growing,
    until the rest is moved while writers wait for these few pages; not while anybody reads.
    """
    with suppress(sqlite3.OperationalError):  # as on a full disk: it is tried again
        _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if pages > _MOST_PAGES:
            db.execute("PRAGMA busy_timeout = 0")
            db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    db.execute(f"PRAGMA busy_timeout = {round(1e3 * database.BUSY_S)}")


def _slice(db: sqlite3.Connection, step: _Step, place: _Place) -> tuple[int, _Place | None]:
    """Take steps in one transaction for a short time; return what they deleted, and the place."""
    with database.transaction(db):
        end_s = time.perf_counter() + _SLICE_S
        deleted, following = step(place)
        while following is not None and time.perf_counter() < end_s:
            count, following = step(following)
            deleted += count
    return deleted, following


def _delete_unsorted(
    db: sqlite3.Connection, table: str, limits: DeletionLimits, end: int, place: _Place
) -> tuple[int, _Place | None]:
    """Delete among the next rows of a table, up to row `end`; return how many, and the place."""
    (after,) = place
    rows = f"SELECT rowid FROM {table} WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
    found = db.execute(f"SELECT max(rowid) FROM ({rows})", (after, end, _STEP_ROWS))
    (last,) = found.fetchone()
    if last is None:
        return 0, None
    return _delete_rows(db, table, limits, (after + 1, last)), (last,)


def _delete_of_run(
    db: sqlite3.Connection, limits: DeletionLimits, place: _Place
) -> tuple[int, _Place | None]:
    """Delete at the beginning of the next run and shorten it; return how many, and the place."""
    op, max_ended, first = place
    after = {"op": op, "max_ended": max_ended, "first": first}
    run = db.execute(_NEXT_RUN, limits | after).fetchone()
    if run is None:
        return 0, None
    op, max_ended, first, last = run
    end = min(last, first + _STEP_ROWS - 1)
    deleted = _delete_rows(db, "spans", limits, (first, end))
    # At once: the row numbers of what is deleted at the end of the table come again.
    db.execute("DELETE FROM runs WHERE op = ? AND max_ended = ? AND first = ?", run[:3])
    db.execute(_INSERT_LEFT, (op, first, end))
    db.execute(_INSERT_REST, (op, max_ended, last, end + 1, last))
    return deleted, (op, max_ended, first)


def _delete_rows(
    db: sqlite3.Connection, table: str, limits: DeletionLimits, rows: tuple[int, int]
) -> int:
    """Delete what is within limits from one row to another, with stack traces; return how many."""
    within = limits | {"first": rows[0], "last": rows[1]}
    where = f"WHERE rowid BETWEEN :first AND :last AND {_MOMENTS[table]} < :before"
    where += f" AND ({_OF_SERVICE})"
    failed = db.execute(f"SELECT ids FROM {table} {where} AND error IS NOT NULL", within)
    spans = [(_span_id(ids),) for (ids,) in failed]
    db.executemany("DELETE FROM stacks WHERE span = ?", spans)
    return db.execute(f"DELETE FROM {table} {where}", within).rowcount


def _span_id(ids: bytes | str) -> str:
    return ids.hex()[32:48] if isinstance(ids, bytes) else str(json.loads(ids)[1])


def _compact(db: sqlite3.Connection) -> bool:
    """Give free pages back to the disk; False where others have the file open."""
    try:
        db.execute("PRAGMA journal_mode = DELETE")  # only who is alone may leave WAL
    except sqlite3.OperationalError:
        return False
    with database.transaction(db):  # VACUUM numbers rows anew, so they must be without gaps
        db.execute("INSERT INTO fresh SELECT * FROM spans")
        db.execute("DELETE FROM spans")
        db.execute("DELETE FROM runs")
    database.seal(db)
    db.execute("VACUUM")
    db.execute("PRAGMA journal_mode = WAL")
    return True
