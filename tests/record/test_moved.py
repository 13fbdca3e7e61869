"""A store whose file is deleted or renamed while it is open goes on in a new one."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from aiops_lab import Span, SpanStore
from aiops_lab.record import moved
from tests.support.serving import wait_for

ROOT = Path(__file__).parents[2]
NEVER = 3600.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an open file cannot be moved there")


def span(number: int) -> Span:
    place = "shop", "/pay", "server", None
    return Span(f"{number:032x}", f"{number:016x}", None, *place, number * 10**9, 10**6, 200, None)


def ids(store: SpanStore) -> list[int]:
    return sorted(int(text, 16) for text in store.spans()["span_id"])


def move(path: Path, how: str) -> None:
    if how == "deleted":
        path.unlink()
        return
    path.rename(path.with_name("old.sqlite"))
    if how == "rotated":
        path.touch()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sqlite"


@pytest.mark.parametrize("how", ["deleted", "renamed", "rotated"])
def test_it_is_noticed_told_and_counted_and_nothing_later_is_lost(path, how, caplog):
    with SpanStore(path, flush_s=NEVER) as store:
        store.add(span(1))
        store.flush()
        store.save("incident", {"INC-1-1": {"id": "INC-1-1"}})
        move(path, how)
        store.add(span(2))
        with caplog.at_level(logging.WARNING):
            store.flush()
        assert "s.sqlite was deleted, renamed or cut off: it is made anew" in caplog.text
        assert (store.remade, store.dropped) == (1, 0)
        assert ids(store) == [2]
        assert [*store.load("incident")] == ["INC-1-1"]
    with SpanStore(path) as again:
        assert ids(again) == [2]
        assert [*again.load("incident")] == ["INC-1-1"]
    if how != "deleted":
        with SpanStore(path.with_name("old.sqlite")) as old:
            assert ids(old) == [1]


@pytest.mark.parametrize("size", [0, 100, 9000])
def test_a_file_that_is_cut_off_is_set_aside(path, size):
    with SpanStore(path, flush_s=NEVER) as store, SpanStore(path, flush_s=NEVER) as other:
        for number in range(100):
            store.add(span(number))
        store.flush()
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.flush()
        store.add(span(100))
        store.flush()
        os.truncate(path, size)
        for number, each in enumerate((store, other, store), 101):
            each.add(span(number))
            each.flush()
        assert ids(store) == [101, 102, 103]
        assert (store.remade, store.dropped) == (1, 0)
    (damaged,) = path.parent.glob("s.sqlite.damaged-*")
    assert damaged.stat().st_size >= size


def test_a_file_that_became_smaller_by_itself_stays(path):
    with SpanStore(path, flush_s=NEVER) as store:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE notes AS SELECT randomblob(100000)")
            db.commit()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            store.save("incident", {})
            before = path.stat().st_size
            db.execute("DROP TABLE notes")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            assert path.stat().st_size < before
        store.add(span(1))
        store.flush()
        assert (ids(store), store.remade) == ([1], 0)


def test_what_is_only_read_or_saved_notices_it_too(path):
    with SpanStore(path, flush_s=0.01) as reading, SpanStore(path, flush_s=NEVER) as saving:
        path.unlink()
        wait_for(lambda: reading.remade == 1)
        saving.save("incident", {"INC-1-1": {}})
        assert [*reading.load("incident")] == ["INC-1-1"]
        path.unlink()
        assert saving.update(lambda load: {"incident": {"INC-1-2": {}}})
        wait_for(lambda: reading.remade == 2)
        assert [*reading.load("incident")] == ["INC-1-1", "INC-1-2"]


def test_several_stores_of_one_file_go_on_in_one_new_file(path):
    with SpanStore(path, flush_s=NEVER) as first, SpanStore(path, flush_s=NEVER) as second:
        for number, store in enumerate((first, second)):
            store.add(span(number))
            store.flush()
        path.rename(path.with_name("old.sqlite"))
        for number, store in enumerate((first, second, first), 2):
            store.add(span(number))
            store.flush()
        assert ids(first) == ids(second) == [2, 3, 4]
    with SpanStore(path.with_name("old.sqlite")) as old:
        assert ids(old) == [0, 1]


WRITER = """
import sys, time
from aiops_lab import Span, SpanStore
from tests.record.test_moved import span
first = int(sys.argv[2])
with SpanStore(sys.argv[1], flush_s=0.02) as store:
    print("open", flush=True)
    for number in range(first, first + 400):
        store.add(span(number))
        time.sleep(0.002)
    assert store.dropped == 0, store.dropped
"""


def test_two_processes_that_write_meanwhile_lose_nothing_that_is_written_later(path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for first in (1000, 2000)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"open\n"
    with SpanStore(path, flush_s=NEVER) as store:
        wait_for(lambda: len(ids(store)) > 50)
    path.rename(path.with_name("old.sqlite"))
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    found: list[int] = []
    for name in ("old.sqlite", "s.sqlite"):
        with SpanStore(path.with_name(name)) as store:
            found += ids(store)
    assert sorted(found) == [*range(1000, 1400), *range(2000, 2400)]


def test_where_the_folder_is_gone_spans_wait_until_it_is_there(path):
    inner = path.parent / "inner" / "s.sqlite"
    inner.parent.mkdir()
    with SpanStore(inner, flush_s=NEVER) as store:
        inner.parent.rename(path.parent / "away")
        store.add(span(1))
        with pytest.raises(OSError, match="inner"):
            store.flush()
        inner.parent.mkdir()
        store.flush()
        assert (ids(store), store.dropped) == ([1], 0)


def test_what_is_there_and_is_no_store_stays_as_it_is(path):
    with SpanStore(path, flush_s=NEVER) as store:
        path.unlink()
        path.write_bytes(b"id,name\n" * 200)
        for ending in moved.BESIDE:
            moved.beside(path, ending).unlink(missing_ok=True)
        store.add(span(1))
        with pytest.raises(OSError, match=r"must stay where it is .* not a database"):
            store.flush()
        assert path.read_bytes() == b"id,name\n" * 200
        path.unlink()
