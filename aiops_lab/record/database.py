"""How is the file of a store opened, written and locked? The tables, and SQLite's ways to fail.

Rows arrive in the table ``fresh``, which has no index. When it is long they move to ``spans``,
sorted by operation, so that the spans of an endpoint lie side by side there. The small table
``runs`` says which rows those are::

    fresh   b a c b a ...
            | sealed
    spans   a a b b c      runs   a: rows 1-2, ended 09:00:01 to 09:00:04
                                  b: rows 3-4, ended 09:00:00 to 09:00:03 ...

That finds an endpoint's last minutes about as fast as an index on (endpoint, time) would, for a
fraction of its bytes and of its writing.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

VERSION = 3  # of the tables; a file with a higher one was written by a later release
APPLICATION = 0x41494F50  # "AIOP": by this number SQLite tells the files of applications apart
OLDEST = 2  # version that `MIGRATION` brings up to this one
BUSY_S = 1.0  # how long one attempt waits for another process to finish its transaction
OPEN_S = 5.0  # how long opening and saving are tried

_T = TypeVar("_T")
Row = tuple[Any, ...]
ServedPlace = tuple[str, str]  # service and route

ROW = "op INTEGER, ended INTEGER, duration INTEGER, status INTEGER, ids BLOB, error TEXT"

SCHEMA = f"""
CREATE TABLE names (id INTEGER PRIMARY KEY, service TEXT, endpoint TEXT, kind TEXT, peer TEXT);
CREATE TABLE fresh ({ROW});
CREATE TABLE spans ({ROW});
CREATE TABLE runs (op INTEGER, max_ended INTEGER, min_ended INTEGER, first INTEGER, last INTEGER,
  PRIMARY KEY (op, max_ended, first)) WITHOUT ROWID;
CREATE TABLE open (writer INTEGER, op INTEGER, start INTEGER, status INTEGER, ids BLOB, error TEXT);
CREATE TABLE stacks (span TEXT PRIMARY KEY, text TEXT);
CREATE TABLE state (kind TEXT, key TEXT, value TEXT, PRIMARY KEY (kind, key));
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {OLDEST}
"""

TABLES = frozenset(("names", "fresh", "spans", "runs", "open", "stacks", "state"))
NEIGHBOURS = frozenset(("fault_log",))  # of this package; they may be there before the store is

LEAST_FILE = 512  # bytes of a database; SQLite takes a shorter file for an empty one

# From version 2 to 3. New columns come last, so that rows of one table still fit into another.
MIGRATION = (
    "ALTER TABLE names ADD COLUMN method TEXT",
    "ALTER TABLE names ADD COLUMN instance TEXT",
    "ALTER TABLE fresh ADD COLUMN first_byte INTEGER",
    "ALTER TABLE fresh ADD COLUMN links TEXT",
    "ALTER TABLE spans ADD COLUMN first_byte INTEGER",
    "ALTER TABLE spans ADD COLUMN links TEXT",
    "ALTER TABLE open ADD COLUMN first_byte INTEGER",
    "ALTER TABLE open ADD COLUMN links TEXT",
    f"PRAGMA user_version = {VERSION}",
)

_SPANS = """
SELECT s.op, s.ended - s.duration, s.duration, s.status, s.ids, s.error, first_byte, links
  FROM runs r CROSS JOIN spans s ON s.rowid BETWEEN r.first AND r.last
  WHERE r.op IN ops AND r.max_ended >= :since AND r.min_ended < :until
    AND s.ended >= :since AND s.ended < :until
    AND NOT (s.rowid <= :mark AND s.ended >= :marked_since AND s.ended < :marked_until)
    AND ({of_trace})
UNION ALL SELECT op, ended - duration, duration, status, ids, error, first_byte, links
  FROM fresh WHERE ended >= :since AND ended < :until AND op IN ops AND ({of_trace})
UNION ALL SELECT op, start, NULL, status, ids, error, first_byte, links
  FROM open WHERE start < :until AND op IN ops AND ({of_trace})
"""
_OF_ONE = ":trace IS NULL OR substr(ids, 1, length(:trace)) = :trace"
SELECT = f"""
WITH ops AS (SELECT id FROM names WHERE :endpoint IS NULL OR endpoint = :endpoint)
{_SPANS.format(of_trace=_OF_ONE)}
"""

# The spans of all traces in which one of some operations is. Ids that are kept as text come before
# all blobs: such spans are taken, too; and all there are, where the traces have such ids.
_OF_SOME = """substr(ids, 1, 16) IN (SELECT trace FROM some) OR ids < x''
      OR (SELECT max(trace < x'') FROM some)"""
SELECT_TRACES = f"""
WITH ops AS (SELECT id FROM names),
some(trace) AS (
  SELECT substr(ids, 1, 16)
    FROM runs r CROSS JOIN spans s ON s.rowid BETWEEN r.first AND r.last
    WHERE r.op IN ({{codes}}) AND r.max_ended >= :since AND r.min_ended < :until
      AND s.ended >= :since AND s.ended < :until
  UNION SELECT substr(ids, 1, 16)
    FROM fresh WHERE ended >= :since AND ended < :until AND op IN ({{codes}})
  UNION SELECT substr(ids, 1, 16) FROM open WHERE start < :until AND op IN ({{codes}}))
{_SPANS.format(of_trace=_OF_SOME)}
"""
COUNT_OUTSIDE = """
SELECT (SELECT count(*) FROM fresh WHERE ended < :since OR ended >= :until) + (
  SELECT count(*) FROM runs r CROSS JOIN spans s ON s.rowid BETWEEN r.first AND r.last
  WHERE (r.min_ended < :since OR r.max_ended >= :until)
    AND (s.ended < :since OR s.ended >= :until))
"""
COUNT_SORTED = """
SELECT coalesce(sum(last - first + 1), 0) FROM runs
  WHERE max_ended >= :since AND min_ended < :until
"""
SELECT_TABLES = (
    "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'"
)
LAST_ROWS = (
    "SELECT coalesce(max(rowid), 0) FROM spans",
    "SELECT coalesce(max(rowid), 0) FROM fresh",
)
SELECT_NAMES = "SELECT id, service, endpoint, kind, peer, method, instance FROM names"

# What SQLite and this package raise for a value that no column can hold.
UNFIT = (
    TypeError,
    ValueError,
    OverflowError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
)

# Primary result codes that a second attempt does not change.
HOPELESS = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def connect(path: Path | str, *, uri: bool = False) -> sqlite3.Connection:
    """Return a connection without implicit transactions, for use in any thread."""
    # Not sqlite3.connect: instrumentations replace that, and would record what the store writes.
    return sqlite3.Connection(
        path, uri=uri, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )


def open_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that cannot write to a store, which may be of an older version.

    Raises
    ------
    ValueError
        The file is not a store, or of a later version.
    OSError
        The file cannot be opened.
    """
    if not path.is_file():
        raise FileNotFoundError(f"path must be the file of a span store, got {path}")
    db = retry(lambda: connect(f"{path.absolute().as_uri()}?mode=ro", uri=True), path)
    rule = f"path must be a span store, got {path}"
    try:
        if retry(lambda: _check_owner(db, path), path) == 0:
            raise ValueError(f"{rule}: it has no tables of one")
    except BaseException as error:
        db.close()
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        raise ValueError(f"{rule}: {error}") from error
    return db


def read_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a store's tables, 0 where there are none.

    Raises
    ------
    ValueError
        This release cannot read them.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != 0 and not OLDEST <= version <= VERSION:
        rule = f"path must be a span store of version {OLDEST} to {VERSION}"
        raise ValueError(f"{rule}, got version {version} in {path}")
    return version


def _check_owner(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of a store's tables, 0 in a new file.

    Raises
    ------
    ValueError
        The database is another program's, or of another release.
    """
    version = read_version(db, path)
    tables = {name for (name,) in db.execute(SELECT_TABLES)}
    rule = f"path must be a span store or a new file, got {path}"
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if application not in (0, APPLICATION):  # stores of earlier releases have 0
        raise ValueError(f"{rule}: it is the file of application {application:#x}")
    is_own = tables >= TABLES if version else tables <= NEIGHBOURS
    if not is_own:
        raise ValueError(f"{rule}: it has the tables of another program, and no tables of a store")
    return version


def select_spans(
    db: sqlite3.Connection,
    path: Path,
    limits: dict[str, Any],
    take: Callable[[list[Row]], object],
    block: int,
    *,
    served: Collection[ServedPlace] | None = None,
) -> list[Row]:
    """Let `take` have the rows of spans within some limits, `block` at once; return the rows of
    names that they refer to.

    Of all traces in which a place of `served` is, and of more; default: of all. What tables of
    version 2 do not have is NULL.
    """
    is_old = read_version(db, path) == OLDEST
    select_names = f"{SELECT_NAMES} WHERE :endpoint IS NULL OR endpoint = :endpoint"
    if is_old:
        select_names = select_names.replace("method, instance", "NULL, NULL")
    query = SELECT
    if served is not None:
        names = db.execute(select_names, limits)
        codes = [code for code, *place, _, _, _, _ in names if tuple(place) in served]
        query = SELECT_TRACES.format(codes=", ".join(map(str, codes)))
    if is_old:
        query = query.replace("first_byte, links", "NULL, NULL")
    with closing(db.execute(query, limits)) as found:
        while rows := found.fetchmany(block):
            take(rows)
    return db.execute(select_names, limits).fetchall()


def reopen(path: Path) -> sqlite3.Connection:
    """Return a connection to a store that was open before."""
    db = connect(path)
    with suppress(sqlite3.Error):  # then it is FULL: slower, and as safe
        db.execute("PRAGMA synchronous = NORMAL")
    return db


def open_database(path: Path) -> sqlite3.Connection:
    """Return a connection to a store, whose tables are made or brought up to this version.

    Raises
    ------
    ValueError
        The file is not a database, or a store of another version.
    OSError
        The file cannot be opened for writing.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"path must be a file, got {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path must lie in an existing directory, got {path}")
    rule = f"path must be an SQLite database or a new file, got {path}"
    if path.exists() and 0 < path.stat().st_size < LEAST_FILE:
        raise ValueError(f"{rule}: file is not a database")
    make_private(path)
    db = retry(lambda: connect(path), path)
    try:
        retry(lambda: _prepare(db, path), path)
    except BaseException as error:
        db.close()
        if not isinstance(error, sqlite3.DatabaseError):
            raise
        raise ValueError(f"{rule}: {error}") from error
    return db


def make_private(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none.

    SQLite gives the files beside it the same mode. A file that is there keeps its own.
    """
    with suppress(OSError):  # SQLite says why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file, and add to those of an older version what they lack.

    A refused file stays as it is, so WAL mode is set afterwards.
    """
    with transaction(db):
        version = _check_owner(db, path)
        for statement in SCHEMA.split(";") if version == 0 else ():
            db.execute(statement)
        for statement in MIGRATION if version < VERSION else ():
            db.execute(statement)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")


def retry(work: Callable[[], _T], path: Path, seconds: float | None = None) -> _T:
    """Return what `work` returns, tried again until `seconds` (default `OPEN_S`) have passed.

    Raises
    ------
    OSError
        The last attempt failed, or the first in a way that waiting does not change.
    """
    deadline = time.monotonic() + (OPEN_S if seconds is None else seconds)
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            is_hopeless = error.sqlite_errorcode & 0xFF in HOPELESS
            if is_hopeless or time.monotonic() >= deadline:
                rule = f"{path} must be a span store that can be written"
                raise OSError(f"{rule}, got: {error}") from error
        time.sleep(0.02)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Commit what the block writes, or take it all back where it raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def seal(db: sqlite3.Connection, last_row: int | None = None) -> None:
    """Move the rows of ``fresh``, up to one of them, to ``spans``, sorted by operation."""
    with transaction(db):
        last = db.execute(LAST_ROWS[0]).fetchone()
        upto = {"last": 2**62 if last_row is None else last_row}
        rows = "SELECT * FROM fresh WHERE rowid <= :last ORDER BY op, ended"
        db.execute(f"INSERT INTO spans {rows}", upto)
        db.execute(
            "INSERT INTO runs SELECT op, max(ended), min(ended), min(rowid), max(rowid)"
            " FROM spans WHERE rowid > ? GROUP BY op",
            last,
        )
        if last_row is None:
            db.execute("DELETE FROM fresh")  # without a condition a tenth of the time
        else:
            db.execute("DELETE FROM fresh WHERE rowid <= :last", upto)


def last_rows(db: sqlite3.Connection) -> tuple[int, int]:
    """Return the last row of ``spans`` and that of ``fresh``, 0 where there is none."""
    spans, fresh = (db.execute(query).fetchone()[0] for query in LAST_ROWS)
    return spans, fresh


def pack_ids(trace: str, span: str, parent: str | None) -> bytearray | str:
    """Return the three ids of a span as their bytes; as JSON text where they are of another kind.

    Not as `bytes`: for those the module sqlite3 looks for an adapter each time.

    The usual ids are lower-case hexadecimal of 32, 16 and 16 digits; the parent may be missing.
    """
    digits = trace + span if parent is None else trace + span + parent
    is_usual = parent is None or len(parent) == 16
    if is_usual and len(trace) == 32 and len(span) == 16:
        try:
            ids = bytearray.fromhex(digits)
        except ValueError:
            pass
        else:
            if ids.hex() == digits:  # not so with capitals; faster than a regular expression
                return ids
    # half a character is refused by SQLite only where it is not escaped
    return json.dumps([trace, span, parent], ensure_ascii=False)


def pack_trace(trace: str) -> bytearray | str:
    """Return how what `pack_ids` returns begins for the spans of a trace."""
    packed = pack_ids(trace, "0" * 16, None)
    return packed[:16] if isinstance(packed, bytearray) else packed[: packed.index('", "0') + 2]


def unpack_ids(ids: bytes | str) -> tuple[str, str, str | None]:
    """Return (trace_id, span_id, parent_id) as `pack_ids` took them."""
    if isinstance(ids, str):
        return tuple(json.loads(ids))
    text = ids.hex()
    return text[:32], text[32:48], text[48:] or None
