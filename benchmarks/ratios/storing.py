"""Part 4: storing by an insert without an index, reading by time, retention beside a writer."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from aiops_lab import SpanStore
from aiops_lab.record.upkeep import prune_store
from benchmarks import storing
from benchmarks.ratios.measured import Measured, cpu_s

GOAL_CPU, GOAL_BYTES, GOAL_QUERY_MS, GOAL_BLOCKED_MS = 2.5, 95, 5.0, 50.0
GOAL_OPEN_MS = 100.0  # at once, for a person
PAUSE_S = 0.002  # between two spans of the writer beside a retention
LONGEST_S = 600.0  # for which a flush is tried


def titles(large: bool) -> tuple[str, str, str, str, str]:
    """Return the titles of cost, size, query and opening, and of the wait beside a retention."""
    size = f"{_number(large) / 1e6:g} million spans"
    return (
        f"CPU time of storing {size}, by an insert without an index",
        f"size of a stored span, {size}",
        f"last 5 minutes of one of 200 endpoints, {size}",
        f"opening a store of {size}",
        f"longest flush of a writer while a retention deletes half of {size}",
    )


def _number(large: bool) -> int:
    return 10_000_000 if large else 500_000


def measure(large: bool) -> Iterator[Measured]:
    """Yield cost, size, query and opening of a store, and how long a retention blocks a writer."""
    cost, size, query, opening, wait = titles(large)
    number = _number(large)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stored = storing.compare(folder, number, 1000)
        yield Measured(4, cost, stored.store_us / stored.bare_us, GOAL_CPU)
        yield Measured(4, size, stored.store_bytes, GOAL_BYTES, "B")
        yield Measured(4, query, stored.query_ms, GOAL_QUERY_MS, "CPU ms")
        path = folder / "spans.sqlite"
        took = min(cpu_s(lambda: SpanStore(path).close()) for _ in range(5))
        yield Measured(4, opening, 1e3 * took, GOAL_OPEN_MS, "CPU ms")
        before_ns = storing.BEGIN_NS + int(number * storing.SPAN_S * 0.5e9)
        waits = waits_beside(path, lambda: prune_store(path, before_ns=before_ns), number)
        note = f"on a clock; {waits.flushes} flushes, the longest add {waits.add_ms:.2g} ms"
        yield Measured(4, wait, waits.flush_ms, GOAL_BLOCKED_MS, "ms", note=note)


class Waits(NamedTuple):
    """The longest flush and the longest add of a writer, and how many flushes there were."""

    flush_ms: float
    add_ms: float
    flushes: int


def waits_beside(path: Path, work: Callable[[], object], number: int = 0) -> Waits:
    """Return how long a writer of a store waits for the disk while something is done to the file.

    It adds a span, later than `number` others, and waits until that is on the disk, again and
    again. The thread that writes for an application waits as long; who adds a span does not.
    """
    rng = random.Random(1)
    add_s: list[float] = []
    flush_s: list[float] = []
    with SpanStore(path) as store, ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        while not (add_s and done.done()):
            span = storing._span(rng, number + len(add_s))
            begin = time.perf_counter()
            store.add(span)
            added = time.perf_counter()
            store.flush(LONGEST_S)
            add_s.append(added - begin)
            flush_s.append(time.perf_counter() - added)
            time.sleep(PAUSE_S)
        done.result()
    return Waits(1e3 * max(flush_s), 1e3 * max(add_s), len(flush_s))
