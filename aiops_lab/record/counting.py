"""How many requests did each endpoint serve? Counts that grow with a store, read bit by bit.

Rows that lie in the table ``spans`` never change, so they are counted once. Those of ``fresh``,
some ten thousand at most, are counted anew each time: they move to ``spans`` later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from aiops_lab.endpoints import split_method
from aiops_lab.record.database import LAST_ROWS, SELECT_NAMES
from aiops_lab.spans import MAX_DURATION_MS, SERVING

STEP = 100_000
"""Rows that one query counts, some 0.1 s. Raising it makes other readers of the store wait
longer."""

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
