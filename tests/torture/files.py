"""What is done to the file of a store while the shop writes to it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import requests

from aiops_lab import SpanStore
from aiops_lab.record import database
from shop.live.running import Shop
from tests.torture.load import Load, count_lost, shop_under_load
from tests.torture.table import Row

HARM_S = 3.0
MOVED = 5


def answers(shop: Shop) -> bool:
    """Return whether incidents, faults and the page are answered within seconds."""
    paths = "/aiops/incidents", "/simulate/status", "/aiops/"
    found = [requests.get(shop.url + path, timeout=20).status_code for path in paths]
    return found == [200, 200, 200]


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Let no file of this process grow beyond the present size of a store."""
    import resource

    kind = resource.RLIMIT_FSIZE
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (path.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock the file as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA busy_timeout = 10000")
        db.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            db.execute("COMMIT")


def waited(folder: Path, thrown: str, harm: Callable[[Path], object]) -> Row:
    """Harm the file for some seconds; afterwards all spans must be there."""
    path = folder / "s.sqlite"
    with shop_under_load(path) as (shop, clients):
        with harm(path):  # type: ignore[attr-defined]
            time.sleep(HARM_S)
            is_answering = answers(shop)
        dropped = shop.store.dropped
    seen = "log; the spans wait in memory" if is_answering else "FAILED: no answer of /aiops"
    return _row(thrown, 1, clients, seen, count_lost(clients.sent, path) + dropped)


def disk_full(folder: Path) -> Row:
    """Let the disk be full for some seconds."""
    return waited(folder, f"disk full for {HARM_S:g} s", full_disk)


def database_locked(folder: Path) -> Row:
    """Let another program lock the file."""
    return waited(folder, f"database locked for {HARM_S:g} s", locked)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Let no store write to the file, as where its file system is mounted anew: root may always."""
    check = SpanStore._check_file
    refused = set()

    def refuse(self: SpanStore) -> None:
        check(self)
        self._db.execute("PRAGMA query_only = ON")
        refused.add(self)

    SpanStore._check_file = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        SpanStore._check_file = check  # type: ignore[method-assign]
        for store in refused:
            with store._write_lock:
                store._db.execute("PRAGMA query_only = OFF")


def file_read_only(folder: Path) -> Row:
    """Let the file be read-only for some seconds."""
    return waited(folder, f"file read-only for {HARM_S:g} s", read_only)


def deleted_in_use(folder: Path) -> Row:
    """Rename the file again and again, as logrotate does."""
    path = folder / "s.sqlite"
    files = [path]
    with shop_under_load(path) as (shop, clients):
        for number in range(MOVED):
            files.append(path.rename(folder / f"old{number}.sqlite"))
            time.sleep(1.5)
        told = requests.get(f"{shop.url}/aiops/metrics", timeout=20).json()
        is_counted = told.get("store_remade") == MOVED
    seen = "log; `store_remade` in /aiops/metrics" if is_counted else "FAILED: not counted"
    return _row("file renamed while in use", MOVED, clients, seen, count_lost(clients.sent, *files))


def truncated(folder: Path) -> Row:
    """Cut the file in half; what is recorded from then on must be there."""
    path = folder / "s.sqlite"
    with shop_under_load(path) as (shop, clients):
        shop.store.flush()
        shop.store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        time.sleep(1.0)
        os.truncate(path, path.stat().st_size // 2)
        cut = time.time()
        time.sleep(HARM_S)
        is_answering = answers(shop)
        is_told = shop.store.remade == 1
    seen = "log; the file is set aside" if is_answering and is_told else "FAILED: not noticed"
    later = [each for each in clients.sent if each.ended > cut]
    return _row("file cut off while in use", 1, clients, seen, count_lost(later, path))


def refused(folder: Path) -> Row:
    """Open what is no store of this release; it must stay as it is."""
    path = folder / "s.sqlite"
    wrong = []
    for name, make in _NO_STORES.items():
        path.unlink(missing_ok=True)
        make(path)
        before = path.read_bytes()
        try:
            SpanStore(path).close()
            wrong.append(name)
        except (ValueError, OSError):
            wrong += [name] * (path.read_bytes() != before)
    seen = f"FAILED: {', '.join(wrong)}" if wrong else "the error names the file and the rule"
    return Row(", ".join(_NO_STORES), len(_NO_STORES), seen)


def _other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE accounts (mine)")


def _newer(path: Path) -> None:
    SpanStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {database.VERSION + 1}")
        db.execute("PRAGMA journal_mode = DELETE")


def _truncated_before(path: Path) -> None:
    SpanStore(path).close()
    os.truncate(path, 5000)


_NO_STORES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"id,name\n" * 200),
    "a database of another program": _other_program,
    "a store of a newer version": _newer,
    "a truncated store": _truncated_before,
}


def _row(thrown: str, times: int, clients: Load, seen: str, lost: int) -> Row:
    return Row(thrown, times, seen, len(clients.sent), clients.unanswered, lost)


ALL = (disk_full, database_locked, file_read_only, deleted_in_use, truncated, refused)
