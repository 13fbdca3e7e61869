"""Part 1: self time and service graph beside pandas, polars and duckdb, with equal results."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

import aiops_lab as lab
from benchmarks._pandas import self_time_and_graph
from benchmarks.analysis import drawn, recording, with_random_ids
from benchmarks.ratios.measured import Measured, Work, middle, paired, spread

ROUNDS = {False: 5, True: 3}  # of a million spans, and of ten
GOAL = 3.0  # times the speed of pandas, on a frame as to_frame makes it
GOAL_OBJECTS = 1.0
GOAL_BYTES = 120  # of memory a span beyond the frame
Answer = tuple[pd.Series, pd.DataFrame]


def ours(frame: pd.DataFrame) -> Answer:
    """Return self time and service graph of this package."""
    return lab.self_time(frame), lab.service_graph(frame)


def spans_of(number: int) -> pd.DataFrame:
    """Return spans of random ids as `to_frame` makes them."""
    return drawn(number // 4, 200, 1000.0)


def plain_spans_of(number: int) -> pd.DataFrame:
    """Return spans of random ids as plain objects."""
    return with_random_ids(recording(number // 4, 200, 1000.0))


def must_be_equal(one: Answer, other: Answer) -> None:
    """End the program where two answers differ."""
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
    pd.testing.assert_frame_equal(one[1], other[1], check_dtype=False)


def number_of(large: bool) -> int:
    """Return how many spans a run looks at."""
    return 10_000_000 if large else 1_000_000


def titles(large: bool) -> tuple[str, ...]:
    """Return the titles of the speed and memory of a frame as `to_frame` makes it, and but for
    `large` of the speed with plain objects.
    """
    size = f"{number_of(large) / 1e6:g} million spans"
    made = (
        f"self time and graph, {size} as to_frame makes them: speed by that of pandas",
        f"memory of self time, then of graph, beyond the frame, {size}: the larger peak a span",
    )
    plain = f"self time and graph, {size} of plain objects: speed by that of pandas"
    return made if large else (*made, plain)


def titles_polars(large: bool) -> tuple[str]:
    """Return the title of the figure beside polars."""
    return (_beside("polars", number_of(large)),)


def titles_duckdb(large: bool) -> tuple[str]:
    """Return the title of the figure beside duckdb."""
    return (_beside("duckdb", number_of(large)),)


def _beside(name: str, number: int) -> str:
    return f"self time and graph, {number / 1e6:g} million spans: speed by that of {name}"


def measure(large: bool) -> Iterator[Measured]:
    """Measure beside pandas, on a frame as `to_frame` makes it and on plain objects."""
    by_kind, memory, *by_objects = titles(large)
    made = spans_of(number_of(large))
    yield _beside_pandas(by_kind, made, GOAL, ROUNDS[large])
    yield Measured(1, memory, _peak_bytes(made) / len(made), GOAL_BYTES, "B")
    for title in by_objects:
        plain = plain_spans_of(number_of(large))
        yield _beside_pandas(title, plain, GOAL_OBJECTS, ROUNDS[large])


def _beside_pandas(title: str, frame: pd.DataFrame, goal: float, rounds: int) -> Measured:
    must_be_equal(ours(frame.copy()), self_time_and_graph(frame))
    ratios = paired(
        lambda: _on(ours, frame.copy()), lambda: _on(self_time_and_graph, frame.copy()), rounds
    )
    return Measured(1, title, middle(ratios), goal, at_least=True, note=spread(ratios))


def _on(work: Any, frame: pd.DataFrame) -> Work:
    return lambda: work(frame)


def _peak_bytes(frame: pd.DataFrame) -> int:
    """Return the most memory that was taken beyond the frame, as tracemalloc sees it."""
    peaks = []
    for work in (lab.self_time, lab.service_graph):
        new = frame.copy()
        tracemalloc.start()
        work(new)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return max(peaks)


def beside_peer(name: str, number: int, rounds: int) -> Iterator[Measured]:
    """Measure beside polars or duckdb, each on one thread, with its own form of the same spans."""
    if name == "polars":
        from benchmarks.ratios import with_polars as peer
    else:
        from benchmarks.ratios import with_duckdb as peer  # type: ignore[no-redef]
    made = spans_of(number)
    table = peer.loaded(made)
    must_be_equal(ours(made.copy()), peer.self_time_and_graph(table))
    ratios = paired(
        lambda: _on(ours, made.copy()), lambda: _on(peer.self_time_and_graph, table), rounds
    )
    yield Measured(
        1, _beside(name, number), middle(ratios), 1.0, at_least=True, note=spread(ratios)
    )


def measure_polars(large: bool) -> Iterator[Measured]:
    """Yield the rows beside polars."""
    yield from beside_peer("polars", number_of(large), ROUNDS[large])


def measure_duckdb(large: bool) -> Iterator[Measured]:
    """Yield the rows beside duckdb."""
    yield from beside_peer("duckdb", number_of(large), ROUNDS[large])


if __name__ == "__main__":
    for row in beside_peer(sys.argv[1], int(sys.argv[2]), 3):
        print(row)
