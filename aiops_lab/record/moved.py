"""What becomes of a store whose file is deleted, renamed or cut off while it is open? It is made
anew.

SQLite would go on writing to the file that nobody finds any more. The new one takes over the state
(incidents, baselines), and the old one, wherever it is now, keeps the spans that it had.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aiops_lab.record import database

BESIDE = ("-wal", "-shm")  # how SQLite calls the files beside a database

COPIED = "state", "INSERT OR IGNORE INTO state VALUES (?, ?, ?)"

HEADER_BYTES = 100
LARGEST_PAGE = 65_536  # bytes; does not fit into its field, where 1 stands for it

Identity = tuple[int, int] | None


def identity(path: Path) -> Identity:
    """Return what tells a file from others, whatever its name; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def set_aside(path: Path) -> None:
    """Rename a file that somebody cut off; one that VACUUM made smaller stays."""
    with _alone(path.parent):
        if _is_cut(path):
            path.rename(beside(path, f".damaged-{time.time_ns() // 1_000_000_000}"))


def _is_cut(path: Path) -> bool:
    """Return whether a database is smaller than its header says
    (https://sqlite.org/fileformat.html, 1.3).
    """
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    size = pages * (LARGEST_PAGE if page == 1 else page)
    return len(header) < HEADER_BYTES or size_of(path) < size


def wal_identity(path: Path) -> Identity:
    """Return the identity of the write-ahead log beside a database."""
    return identity(beside(path, BESIDE[0]))


def beside(path: Path, ending: str) -> Path:
    """Return the path of a file beside a database."""
    return path.with_name(path.name + ending)


def open_anew(path: Path, old: sqlite3.Connection, wal: Identity) -> sqlite3.Connection:
    """Return a connection to the file that is at a path now; it is made where there is none.

    Parameters
    ----------
    path : Path
    old : Connection
        To the file that was there before.
    wal : (int, int), optional
        The identity of the write-ahead log that it had.

    Raises
    ------
    OSError
        Another file was put there that is no store, or the folder is gone.
    """
    rule = f"{path} must stay where it is while it is open"
    with suppress(sqlite3.Error):  # what is left in the log goes to the old file
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with _alone(path.parent):
        is_new = not path.exists() or path.stat().st_size == 0
        if is_new:
            for ending in BESIDE:  # they belong to the old one
                beside(path, ending).unlink(missing_ok=True)
        elif wal is not None and wal_identity(path) == wal:
            raise OSError(f"{rule}, got: it was deleted or replaced")
        try:
            made = database.open_database(path)
        except ValueError as error:
            raise OSError(f"{rule}, got: it was deleted or replaced: {error}") from error
        if is_new:
            _copy_state(old, made)
    return made


def _copy_state(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    table, insert = COPIED
    with suppress(sqlite3.Error):
        rows = old.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall()
        with database.transaction(new):
            new.executemany(insert, rows)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process after the other work in a folder, where the system knows how."""
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be deleted
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
