"""What does it cost to store a span? CPU against an insert without any index, bytes on disk, time
of a query.

    python -m benchmarks.storing [--spans 1000000] [--batch 1000] [--folder DIR]

Both sides write the same spans in the same batches, WAL and synchronous NORMAL. The bare side gets
its rows ready made (integer codes, ids as bytes): it only inserts. This project's side starts from
`Span`s and includes everything: the append, the encoding, both threads, the sorting. CPU time of
the process; least of `REPEATS` for the query.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aiops_lab import Span, SpanStore

ENDPOINTS = 200
SPAN_S = 0.8e-3  # a span every 0.8 ms: five minutes of 200 endpoints are 375,000 spans
BEGIN_NS = 1_767_225_600_000_000_000  # 2026-01-01
REPEATS = 20
BARE = """CREATE TABLE bare (service INTEGER, endpoint INTEGER, kind INTEGER,
  peer INTEGER, start INTEGER,
    duration INTEGER, status INTEGER, trace BLOB, span BLOB, parent BLOB, error TEXT)"""


class Stored(NamedTuple):
    """CPU microseconds and bytes a span, of this project and of a bare insert; the query."""

    store_us: float
    bare_us: float
    store_bytes: float
    bare_bytes: float
    query_ms: float
    rows: int


def main() -> None:
    """Run both sides in turns on the same spans and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=1_000_000, help="how many (default 1,000,000)")
    parser.add_argument(
        "--batch", type=int, default=1000, help="spans in a transaction (default 1,000)"
    )
    parser.add_argument("--folder", type=Path, help="where the files go for the time of the run")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        show(compare(Path(folder), asked.spans, asked.batch))
    print(f"{asked.spans:,} spans, {ENDPOINTS} endpoints, batches of {asked.batch:,}")


def show(stored: Stored) -> None:
    """Print CPU, bytes and query time."""
    print(
        f"CPU a span    {stored.store_us:6.2f} us   without index {stored.bare_us:6.2f} us   ratio "
        f"{stored.store_us / stored.bare_us:.2f}"
    )
    print(f"bytes a span  {stored.store_bytes:6.1f}      without index {stored.bare_bytes:6.1f}")
    print(
        f"last 5 minutes of one endpoint: {stored.query_ms:.2f} ms CPU for a frame of "
        f"{stored.rows:,} rows"
    )


def compare(folder: Path, spans: int, batch: int) -> Stored:
    """Store so many spans in a folder in both ways, in turn; the store stays there."""
    bare = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", BARE):
        bare.execute(statement)
    with SpanStore(folder / "spans.sqlite") as store:
        bare_s = store_s = 0.0
        for chunk in _batches(spans, batch):
            bare_s += _insert_bare(bare, chunk)
            store_s += _insert_store(store, chunk)
        query_ms, rows = _query(store, spans)
    bare.close()
    store_bytes, bare_bytes = (
        Path(folder, name).stat().st_size / spans for name in ("spans.sqlite", "bare.sqlite")
    )
    each = 1e6 / spans
    return Stored(each * store_s, each * bare_s, store_bytes, bare_bytes, query_ms, rows)


def _batches(spans: int, batch: int) -> Iterator[list[Span]]:
    rng = random.Random(0)
    for begin in range(0, spans, batch):
        yield [_span(rng, i) for i in range(begin, min(spans, begin + batch))]


def _span(rng: random.Random, i: int) -> Span:
    parent = f"{rng.getrandbits(64):016x}" if i % 4 else None
    error = "ConnectionError: refused" if i % 100 == 0 else None
    endpoint, duration_ns = (
        f"/endpoint/{rng.randrange(ENDPOINTS)}",
        int(rng.lognormvariate(17, 0.5)),
    )
    ended_ns = BEGIN_NS + int(i * SPAN_S * 1e9)
    ids = f"{rng.getrandbits(128):032x}", f"{rng.getrandbits(64):016x}", parent
    status = 502 if error else 200
    return Span(
        *ids, "shop", endpoint, "server", None, ended_ns - duration_ns, duration_ns, status, error
    )


def _insert_bare(db: sqlite3.Connection, spans: list[Span]) -> float:
    rows = [
        (1, int(s.endpoint[10:]), 1, None, s.start_ns, s.duration_ns, s.status)
        + (
            bytes.fromhex(s.trace_id),
            bytes.fromhex(s.span_id),
            s.parent_id and bytes.fromhex(s.parent_id),
            s.error,
        )
        for s in spans
    ]
    begun = time.process_time()
    db.execute("BEGIN IMMEDIATE")
    db.executemany("INSERT INTO bare VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    db.execute("COMMIT")
    return time.process_time() - begun


def _insert_store(store: SpanStore, spans: list[Span]) -> float:
    begun = time.process_time()
    for span in spans:
        store.add(span)
    store.flush()
    return time.process_time() - begun


def _query(store: SpanStore, spans: int) -> tuple[float, int]:
    import pandas as pd

    until = pd.Timestamp(BEGIN_NS + int(spans * SPAN_S * 1e9), tz="UTC")
    took = []
    for _ in range(REPEATS):
        begun = time.process_time()
        frame = store.spans(
            since=until - pd.Timedelta(minutes=5), until=until, endpoint="/endpoint/7"
        )
        took.append(time.process_time() - begun)
    return 1e3 * min(took), len(frame)


if __name__ == "__main__":
    main()
