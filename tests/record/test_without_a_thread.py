"""A store whose writer has no thread, as in a browser: `add` writes each full batch itself."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from aiops_lab import SpanStore
from aiops_lab.record import store as module
from tests.support.traces import span


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def refused(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module._WriterThread, "start", refused)
    return tmp_path / "spans.sqlite"


def rows(path: Path) -> int:
    """Return how many spans the file holds."""
    file = sqlite3.connect(path)
    counts = [file.execute(f"select count(*) from {table}") for table in ("fresh", "spans")]
    n = sum(int(count.fetchone()[0]) for count in counts)
    file.close()
    return n


def test_after_a_batch_that_failed_the_next_one_is_written(path: Path) -> None:
    spans = [span(n, None, "/x", "server", n, 1) for n in range(1, 21)]
    with SpanStore(path, batch=10) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        for each in spans[:10]:
            store.add(each)
        other.execute("rollback")
        other.close()
        for each in spans[10:]:
            store.add(each)
        assert rows(path) == 20


def test_a_finalizer_may_add_a_span_during_a_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = [span(n, None, "/x", "server", n, 1) for n in range(1, 21)]
    with SpanStore(path, batch=10) as store:
        late, write = spans[10:], store._rows.write

        def interrupted(*arguments: object, **options: object) -> object:
            while late:
                store.add(late.pop())
            return write(*arguments, **options)

        monkeypatch.setattr(store._rows, "write", interrupted)
        for each in spans[:10]:
            store.add(each)
        store.flush()
        assert rows(path) == 20
