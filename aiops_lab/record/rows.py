"""How does a span become a row? `SpanRows` writes spans of one process into the tables."""

from __future__ import annotations

import math
import secrets
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from itertools import chain, groupby
from operator import index
from typing import Any

from aiops_lab.record import database
from aiops_lab.record.recorder import OpenSpan
from aiops_lab.spans import Span, link_text

# By the length of a row. What most spans do not have is left out, because for None the module
# sqlite3 looks for an adapter each time.
INSERT = {
    5: "INSERT INTO fresh (op, ended, duration, status, ids) VALUES",
    8: "INSERT INTO fresh VALUES",
}
INSERT_STACK = {2: "INSERT OR REPLACE INTO stacks VALUES"}
INSERT_OPEN = {8: "INSERT INTO open VALUES"}
INSERT_NAME = "INSERT INTO names VALUES (NULL, ?, ?, ?, ?, ?, ?)"

# Rows that one statement inserts: half the CPU time of one row a statement. More gains nothing, and
# an older SQLite takes at most 999 values at once.
ROWS_AT_ONCE = 50

# Of service, endpoint, kind, peer, method and instance.
NAME_TYPES = str, str, str, str | None, str | None, str | None

_from_hex = bytearray.fromhex  # looked up once, not once a span

_WIDTH = len(Span._fields)
_UNKNOWN = None, None, None, None  # the last fields of a tuple that leaves them out


class SpanRows:
    """Rows of ended and of open spans, whose names are replaced by numbers.

    The numbers of names are kept between two writes; `forget_names` has to be called when the file
    is another one.
    """

    def __init__(self) -> None:
        self._codes: dict[database.Row, int] = {}
        self._writer = secrets.randbits(62)  # marks own open spans; a process id can come again

    def write(
        self,
        connection: sqlite3.Connection,
        done: list[Span | OpenSpan],
        stacks: list[tuple[str, str]],
        waiting: list[Span],
    ) -> int:
        """Insert all in one transaction; return how many ended spans were refused."""
        try:
            with database.transaction(connection) as db:
                db.execute("DELETE FROM open WHERE writer = ?", (self._writer,))
                self._insert(db, INSERT_OPEN, self._open_row, waiting)
                self._insert(db, INSERT_STACK, _same, stacks)
                return self._insert(db, INSERT, self._ended_row, done)
        except BaseException:
            self.forget_names()  # some may be of names that were rolled back
            raise

    def forget_names(self) -> None:
        """Look the numbers of names up again in the file."""
        self._codes.clear()

    def _insert(
        self,
        db: sqlite3.Connection,
        statements: dict[int, str],
        row: Callable[[sqlite3.Connection, Any], database.Row],
        items: list[Any],
    ) -> int:
        """Insert all items; return how many were refused because no table can hold their values."""
        refused = 0
        db.execute("SAVEPOINT items")
        try:
            rows = [row(db, item) for item in items]
            for length, alike in groupby(rows, len):
                _insert_rows(db, statements[length], list(alike), length)
        except database.UNFIT:
            db.execute("ROLLBACK TO items")
            self.forget_names()
            mended = [_without_nan(item) for item in items]
            if mended != items:
                refused = self._insert(db, statements, row, mended)
            elif len(items) > 1:
                refused = sum(self._insert(db, statements, row, [item]) for item in items)
            else:
                refused = 1
        db.execute("RELEASE items")
        return refused

    def _ended_row(self, db: sqlite3.Connection, span: Span | OpenSpan) -> database.Row:
        """Return the row of a span; one of an instrumented app has no error, and fields that fit.

        Its values are read one by one: no tuple, and nothing to check.
        """
        if not isinstance(span, OpenSpan):
            return self._row(db, span)
        recorder, parent = span.recorder, span.parent_id
        # fmt: off
        name = (recorder.service, span.endpoint, span.kind, span.peer, span.method,
                recorder.instance)
        # fmt: on
        name_code = self._codes.get(name) or self._code(db, name)
        length, first = span.duration_ns, span.first_byte_ns
        ended = span.start_ns + length
        digits = span.trace_id + span.span_id
        ids = _from_hex(digits if parent is None else digits + parent)
        if first is None:
            return name_code, ended, length, span.status, ids
        return name_code, ended, length, span.status, ids, None, first, None

    def _row(self, db: sqlite3.Connection, span: Span) -> database.Row:
        if len(span) != _WIDTH:
            span = (*span, *_UNKNOWN)  # type: ignore[assignment]
        # fmt: off
        (trace, own, parent, service, endpoint, kind, peer, start, length, code,
         error, method, instance, first, links) = span
        # fmt: on
        name = service, endpoint, kind, peer, method, instance
        name_code = self._codes.get(name) or self._code(db, name)
        # SQLite would keep a float, and whoever reads the file would fail
        if type(length) is not int:
            length = _whole(length)
        if type(code) is not int:
            code = _whole(code)
        first = None if first is None else index(first)
        ended = index(start) + (length or 0)
        if error is not None and not isinstance(error, str):
            raise TypeError("error")
        packed = database.pack_ids(trace, own, parent)
        if error is None and first is None and not links:
            return name_code, ended, length, code, packed
        link = link_text(links) if links else None
        return name_code, ended, length, code, packed, error, first, link

    def _open_row(self, db: sqlite3.Connection, span: Span) -> database.Row:
        code, start, _, *rest = self._row(db, span)
        missing = [None] * (5 - len(rest))
        return self._writer, code, start, *rest, *missing

    def _code(self, db: sqlite3.Connection, name: database.Row) -> int:
        """Return the number of a name, the same in all processes: the file is locked meanwhile."""
        for part, right in zip(name, NAME_TYPES, strict=True):
            if not isinstance(part, right):
                raise TypeError("names")
        new = db.execute("SELECT * FROM names WHERE id > ?", (len(self._codes),))
        self._codes.update({tuple(other): code for code, *other in new})
        if name not in self._codes:
            cursor = db.execute(INSERT_NAME, name)
            self._codes[name] = cursor.lastrowid or 0
        return self._codes[name]


def _insert_rows(db: sqlite3.Connection, insert: str, rows: list[database.Row], width: int) -> None:
    """Insert rows of one length, many by one statement."""
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    statement = _statement(insert, width, ROWS_AT_ONCE)
    for begin in range(0, whole, ROWS_AT_ONCE):
        values = chain.from_iterable(rows[begin : begin + ROWS_AT_ONCE])
        db.execute(statement, tuple(values))
    db.executemany(_statement(insert, width, 1), rows[whole:])


@lru_cache(maxsize=8)
def _statement(insert: str, width: int, rows: int) -> str:
    row = ", ".join("?" * width)
    return insert + ", ".join([f" ({row})"] * rows)


def _whole(value: Any) -> int | None:
    """Return a whole number as Python's own, None as it is; TypeError for all else."""
    return None if value is None else index(value)


def _same(_: sqlite3.Connection, stack: tuple[str, str]) -> database.Row:
    return stack


def _without_nan(item: Any) -> Any:
    """Return a span with None in place of NaN, as a frame's row has it; all else as it is."""
    if not isinstance(item, Span):
        return item
    return Span._make(None if _is_nan(value) else value for value in item)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
