"""How many requests did each endpoint serve? Counts that grow with a store, read bit by bit.

Rows that lie in the table ``spans`` never change, so they are counted once. Those of ``fresh``,
some ten thousand at most, are counted anew each time: they move to ``spans`` later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from aiops_lab.endpoints import split_method
from aiops_lab.record.database import LAST_ROWS, SELECT_NAMES
from aiops_lab.spans import MAX_DURATION_MS, SERVING

if TYPE_CHECKING:
    from aiops_lab.record.reader import SpanReader

STEP = 100_000
"""Rows that one query counts, some 0.1 s. Raising it makes other readers of the store wait
longer."""

OTHER_ENDPOINTS = "(other)"  # the endpoint of all that come after the first ones

_LONGEST_NS = int(MAX_DURATION_MS * 1e6)  # what is longer is cut, so that no sum is too large

_FAILED = "status >= 500 OR status = 0 OR error IS NOT NULL"  # as `traces.encode.is_failed`

_COUNT = """
SELECT op, {bucket} AS bucket, count(*), sum({failed}), sum({duration} / 1000)
  FROM {table} WHERE rowid > :after AND rowid <= :upto
    AND op IN (SELECT id FROM names WHERE kind IN {kinds})
  GROUP BY op, bucket
"""

CountedRow = tuple[
    int, int, int, int, int
]  # code of the name, bucket, requests, failed, microseconds


class EndpointName(NamedTuple):
    """An endpoint in words; the method is "" where it is not known."""

    service: str
    method: str
    endpoint: str


class RequestCounts:
    """The requests of an endpoint.

    Attributes
    ----------
    buckets : list of int
        Requests by duration: at most the first bound, more than that and at most the second, …;
        the last ones are above all bounds.
    failed : int
        Those with a 5xx, without an answer, or with an exception.
    duration_us : int
        The sum of all durations. Whole microseconds, as a sum of floats could shrink.
    """

    def __init__(self, size: int) -> None:
        self.buckets = [0] * size
        self.failed = 0
        self.duration_us = 0

    def add(self, bucket: int, n: int, failed: int, duration_us: int) -> None:
        """Add some requests of one bucket."""
        self.buckets[bucket] += n
        self.failed += failed
        self.duration_us += duration_us


class Part(NamedTuple):
    """The requests in some rows of a store."""

    last: int  # row of ``spans``
    upto: int  # row of ``spans``, up to which they are counted
    sealed: list[CountedRow]
    fresh: list[CountedRow] | None  # None where rows of ``spans`` are left
    names: dict[int, EndpointName]


def count_part(db: sqlite3.Connection, after: int, bounds_s: Sequence[float]) -> Part:
    """Return the requests in the rows of ``spans`` after one, and in ``fresh``."""
    db.execute("BEGIN")  # nothing moves between the tables meanwhile
    try:
        (last,) = db.execute(LAST_ROWS[0]).fetchone()
        upto = min(last, after + STEP)
        limits = {"after": after, "upto": upto}
        sealed = db.execute(_query("spans", bounds_s), limits).fetchall()
        fresh = None
        if upto == last:
            every = {"after": -1, "upto": 2**62}
            fresh = db.execute(_query("fresh", bounds_s), every).fetchall()
        rows = db.execute(f"{SELECT_NAMES} ORDER BY id").fetchall()
    finally:
        if db.in_transaction:  # not after some errors
            db.execute("COMMIT")
    names = {code: _place(*rest) for code, *rest in rows}
    return Part(last, upto, sealed, fresh, names)


def _query(table: str, bounds_s: Sequence[float]) -> str:
    steps = [f"WHEN duration <= {round(s * 1e9)} THEN {i}" for i, s in enumerate(bounds_s)]
    bucket = f"CASE {' '.join(steps)} ELSE {len(bounds_s)} END"
    duration = f"max(0, min(duration, {_LONGEST_NS}))"
    return _COUNT.format(
        bucket=bucket, failed=_FAILED, duration=duration, table=table, kinds=SERVING
    )


def _place(
    service: str, endpoint: str, kind: str, peer: str | None, method: str | None, _: str | None
) -> EndpointName:
    named, route = split_method(endpoint)
    return EndpointName(service, method or named, route)


class RequestCounter:
    """Counts the requests in a store, from its first row on. Safe to use from several threads.

    After a restart the counts are the same: they are those of the store. Only where its file is
    replaced by another one do they begin anew.

    Parameters
    ----------
    store : SpanReader
    bounds_s : sequence of float
        The upper bounds of the buckets of durations, in seconds, rising.
    most_endpoints : int
        How many endpoints, the first ones, are told apart; the others are counted together.
    """

    def __init__(self, store: SpanReader, bounds_s: Sequence[float], most_endpoints: int) -> None:
        self._store = store
        self._bounds_s = bounds_s
        self._most = most_endpoints
        self._lock = Lock()
        self._begin()

    def _begin(self) -> None:
        self._upto = 0
        self._sealed: dict[tuple[int, int], list[int]] = {}

    def read(self) -> dict[EndpointName, RequestCounts]:
        """Return the counts of each endpoint, in the order in which they came.

        It costs the rows since the last call. Raises OSError where the store cannot be read.
        """
        with self._lock:
            while True:
                part = self._store.count_part(self._upto, self._bounds_s)
                if part.last < self._upto:
                    self._begin()
                    continue
                self._keep(part)
                if part.fresh is not None:
                    return self._by_place(part.names, part.fresh)

    def _keep(self, part: Part) -> None:
        self._upto = part.upto
        for code, bucket, *counts in part.sealed:
            before = self._sealed.get((code, bucket), [0, 0, 0])
            self._sealed[code, bucket] = [a + b for a, b in zip(before, counts, strict=True)]

    def _by_place(
        self, names: dict[int, EndpointName], fresh: Iterable[CountedRow]
    ) -> dict[EndpointName, RequestCounts]:
        sealed = [(*cell, *counts) for cell, counts in self._sealed.items()]
        rows = [*sealed, *fresh]
        served = {row[0] for row in rows}
        shown = list(dict.fromkeys(names[code] for code in names if code in served))
        told_apart = set(shown[: self._most])
        counts: dict[EndpointName, RequestCounts] = {}
        for code, bucket, n, failed, duration_us in sorted(rows):
            place = names[code]
            if place not in told_apart:
                place = EndpointName("", "", OTHER_ENDPOINTS)
            if place not in counts:
                counts[place] = RequestCounts(len(self._bounds_s) + 1)
            counts[place].add(bucket, n, failed, duration_us)
        return counts
