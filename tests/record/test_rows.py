"""Rows of spans: names are replaced by the same numbers in all processes, unfit spans counted."""

from __future__ import annotations

import sqlite3

import pytest

from aiops_lab.record import database
from aiops_lab.record.rows import SpanRows
from aiops_lab.spans import Span


@pytest.fixture
def connection(tmp_path):
    db = database.open_database(tmp_path / "spans.sqlite")
    yield db
    db.close()


def span(endpoint: str, *, error: object = None) -> Span:
    identity = "0" * 31 + "1", "0" * 15 + "1", None
    return Span(*identity, "shop", endpoint, "server", None, 10, 5, 200, error)  # type: ignore[arg-type]


def written(connection, table: str) -> list[tuple]:
    return connection.execute(f"SELECT * FROM {table}").fetchall()


def test_two_writers_of_one_file_give_a_name_the_same_number(connection):
    one, other = SpanRows(), SpanRows()
    one.write(connection, [span("/a")], [], [])
    other.write(connection, [span("/b"), span("/a")], [], [])
    one.write(connection, [span("/b")], [], [])
    assert [row[0] for row in written(connection, "fresh")] == [1, 2, 1, 2]


def test_a_span_that_fits_no_column_is_counted_and_the_others_are_stored(connection):
    spans = [span("/a"), span("/a", error=3), span("/b")]
    assert SpanRows().write(connection, spans, [], []) == 1
    assert len(written(connection, "fresh")) == 2


def test_spans_with_an_error_and_without_stay_in_their_order(connection):
    errors = [None, "late", None, None, "broken"]
    SpanRows().write(connection, [span("/a", error=error) for error in errors], [], [])
    assert [row[5] for row in written(connection, "fresh")] == errors


def test_open_spans_of_a_writer_are_replaced_and_those_of_another_stay(connection):
    one, other = SpanRows(), SpanRows()
    one.write(connection, [], [], [span("/a")])
    other.write(connection, [], [], [span("/b")])
    one.write(connection, [], [], [])
    assert len(written(connection, "open")) == 1


def test_numbers_of_names_that_were_rolled_back_are_not_used(connection):
    rows = SpanRows()
    connection.execute("ALTER TABLE stacks RENAME TO gone")
    with pytest.raises(sqlite3.OperationalError, match="stacks"):
        rows.write(connection, [], [("1", "text")], [span("/a")])
    connection.execute("ALTER TABLE gone RENAME TO stacks")
    rows.write(connection, [span("/a")], [], [])
    (row,) = written(connection, "fresh")
    assert connection.execute("SELECT endpoint FROM names WHERE id = ?", row[:1]).fetchone() == (
        "/a",
    )
