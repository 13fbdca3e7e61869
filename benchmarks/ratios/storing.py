"""Part 4: storing by an insert without an index, reading by time, retention beside a writer."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from aiops_lab import SpanStore
from aiops_lab.record.upkeep import prune_store
from benchmarks import storing
from benchmarks.ratios.measured import Measured, cpu_s

GOAL_CPU, GOAL_BYTES, GOAL_QUERY_MS, GOAL_BLOCKED_MS = 2.5, 95, 5.0, 50.0
GOAL_OPEN_MS = 100.0  # at once, for a person
PAUSE_S = 0.002  # between two spans of the writer beside a retention


def measure(large: bool) -> Iterator[Measured]:
    """Yield cost, size, query and opening of a store, and how long a retention blocks a writer."""
    number = 10_000_000 if large else 500_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = storing.compare(folder, number, 1000)
        size = f"{number / 1e6:g} million spans"
        title = f"CPU time of storing {size}, by an insert without an index"
        yield Measured(4, title, stored.store_us / stored.bare_us, GOAL_CPU)
        yield Measured(4, f"size of a stored span, {size}", stored.store_bytes, GOAL_BYTES, "B")
        title = f"last 5 minutes of one of 200 endpoints, {size}"
        yield Measured(4, title, stored.query_ms, GOAL_QUERY_MS, "CPU ms")
        path = folder / "spans.sqlite"
        took = min(cpu_s(lambda: SpanStore(path).close()) for _ in range(5))
        yield Measured(4, f"opening a store of {size}", 1e3 * took, GOAL_OPEN_MS, "CPU ms")
        blocked = _blocked_ms(path, storing.BEGIN_NS + int(number * storing.SPAN_S * 0.5e9))
        note = "half of the spans were deleted; longest call of add, on a clock"
        title = "longest time for which a retention held a writer"
        yield Measured(4, title, blocked, GOAL_BLOCKED_MS, "ms", note=note)


def _blocked_ms(path: Path, before_ns: int) -> float:
    """Return the longest time that adding a span took while older ones were deleted."""
    over = threading.Event()

    def prune() -> None:
        prune_store(path, before_ns=before_ns)
        over.set()

    worst = 0.0
    with SpanStore(path) as store:
        thread = threading.Thread(target=prune)
        thread.start()
        (span,) = next(storing._batches(1, 1))
        while not over.wait(PAUSE_S):
            begin = time.perf_counter()
            store.add(span)
            worst = max(worst, time.perf_counter() - begin)
        thread.join()
    return 1e3 * worst
