"""What is in a store, and what is old enough to go? `store_info` counts, `prune_store` deletes."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
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

_OF_SERVICE = ":service IS NULL OR op IN (SELECT id FROM names WHERE service = :service)"

DeletionLimits = dict[str, object]

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

    Incidents and baselines stay. Others may be writing to the store meanwhile.

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
    known = [each.service for each in store_info(path).services]
    if service is not None and service not in known:
        raise FieldError("service", f"must be one of {', '.join(known)}", service)
    file = as_path(path)
    size = _size(file)
    limits: DeletionLimits = {
        "before": FOREVER if before_ns is None else before_ns,
        "service": service,
    }
    with closing(database.open_database(file)) as db, _damage_told(file):
        deleted = database.retry(lambda: _delete(db, limits), file)
        is_in_use = not _compact(db)
    return Pruned(deleted, max(0, size - _size(file)), is_in_use)


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


def _delete(db: sqlite3.Connection, limits: DeletionLimits) -> int:
    """Delete rows and what belongs to them, in one transaction; return how many spans."""
    deleted = 0
    with database.transaction(db):
        for table, moment in _MOMENTS.items():
            where = f"WHERE {moment} < :before AND ({_OF_SERVICE})"
            failed = f"SELECT ids FROM {table} {where} AND error IS NOT NULL"
            spans = [(_span_id(ids),) for (ids,) in db.execute(failed, limits)]
            db.executemany("DELETE FROM stacks WHERE span = ?", spans)
            deleted += db.execute(f"DELETE FROM {table} {where}", limits).rowcount
        _narrow_runs(db)
    return deleted


def _span_id(ids: bytes | str) -> str:
    return ids.hex()[32:48] if isinstance(ids, bytes) else str(json.loads(ids)[1])


def _narrow_runs(db: sqlite3.Connection) -> None:
    """Let ``runs`` say where the rows are that are left."""
    runs = db.execute("SELECT op, first, last FROM runs").fetchall()
    db.execute("DELETE FROM runs")
    rows = "SELECT ?, max(ended), min(ended), min(rowid), max(rowid) FROM spans"
    insert = f"INSERT INTO runs {rows} WHERE rowid BETWEEN ? AND ? HAVING count(*) > 0"
    db.executemany(insert, runs)


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
