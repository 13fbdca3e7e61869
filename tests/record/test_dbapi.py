"""A traced connection does what the connection does, and records each statement without values."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import sqlite3
import threading
from contextlib import closing

import flask
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.record.dbapi import describe_without_values

SLEEP_S = 0.2
SLOW_STATEMENT = "SELECT price(id) FROM orders WHERE id = ?"


@pytest.fixture
def spans():
    return []


@pytest.fixture
def connection(spans, tmp_path):
    with closing(sqlite3.connect(tmp_path / "orders.db", check_same_thread=False)) as original:
        original.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        original.executemany("INSERT INTO orders (name) VALUES (?)", [["Ann"], ["Bob"], ["Cy"]])
        original.commit()
        yield lab.trace_connection(original, spans.append, "shop")


def endpoints(spans):
    return [span.endpoint for span in spans]


# What is recorded.


def test_a_statement_is_a_client_span_of_the_service(connection, spans):
    rows = connection.execute("SELECT name FROM orders WHERE id = ?", [2]).fetchall()
    assert rows == [("Bob",)]
    (span,) = spans
    assert span.endpoint == "SELECT name FROM orders WHERE id = ?"
    assert (span.service, span.kind, span.peer) == ("shop", "client", "sqlite")
    assert (span.status, span.error, span.parent_id) == (200, None, None)


def test_the_peer_can_be_named(connection, spans):
    named = lab.trace_connection(connection.__wrapped__, spans.append, peer="orders-db")
    named.execute("SELECT 1").fetchall()
    assert spans[0].peer == "orders-db"


def test_outside_of_a_request_each_statement_is_a_trace(connection, spans):
    for _ in range(2):
        connection.execute("SELECT 1").fetchall()
    assert len({span.trace_id for span in spans}) == 2


def test_a_statement_is_the_child_of_the_current_request(connection, spans):
    app = flask.Flask("shop")
    app.add_url_rule("/", "index", lambda: str(connection.execute("SELECT 7").fetchone()[0]))
    lab.instrument(app, spans.append, "shop")
    assert app.test_client().get("/").text == "7"
    statement, request = spans
    assert (statement.parent_id, statement.trace_id) == (request.span_id, request.trace_id)


@pytest.mark.parametrize(
    ("run", "endpoint"),
    [
        (lambda c: c.execute("DELETE FROM orders WHERE id = 7"), "DELETE FROM orders WHERE id = ?"),
        (
            lambda c: c.executemany("DELETE FROM orders WHERE id = ?", [[1], [2]]),
            "DELETE FROM orders WHERE id = ?",
        ),
        (lambda c: c.executescript("BEGIN; SELECT 5; COMMIT"), "BEGIN; SELECT ?; COMMIT"),
        (lambda c: c.execute(""), "(empty)"),
    ],
)
@pytest.mark.parametrize("through", [lambda c: c, lambda c: c.cursor()], ids=["direct", "cursor"])
def test_what_has_no_rows_is_recorded_at_once(connection, spans, run, endpoint, through):
    run(through(connection))
    assert endpoints(spans) == [endpoint]


@pytest.mark.parametrize(
    "fetch",
    [
        lambda c: [c.fetchone() for _ in range(4)],
        lambda c: [c.fetchmany(2) for _ in range(3)],
        lambda c: c.fetchall(),
        lambda c: list(c),
        lambda c: c.close(),
        lambda c: c.execute("DELETE FROM orders"),
    ],
    ids=["fetchone", "fetchmany", "fetchall", "iteration", "close", "execute"],
)
def test_a_query_is_recorded_when_its_rows_are_done(connection, spans, fetch):
    cursor = connection.cursor()
    assert cursor.execute("SELECT name FROM orders") is cursor
    assert spans == []
    fetch(cursor)
    assert endpoints(spans)[0] == "SELECT name FROM orders"
    cursor.close()
    assert endpoints(spans).count("SELECT name FROM orders") == 1


def test_a_query_whose_cursor_is_dropped_is_recorded(connection, spans):
    connection.execute("SELECT name FROM orders").fetchone()
    gc.collect()
    assert len(spans) == 1


def test_the_time_is_that_of_the_rows_but_not_of_their_reader(connection, spans):
    pause = threading.Event()
    connection.create_function("slow", 1, lambda value: pause.wait(SLEEP_S))
    for _ in connection.execute("SELECT slow(id) FROM orders"):
        pause.wait(2 * SLEEP_S)
    busy_s = spans[0].duration_ns / 1e9
    assert 3 * SLEEP_S <= busy_s < 6 * SLEEP_S


def test_an_error_is_raised_unchanged_and_recorded(connection, spans):
    with pytest.raises(sqlite3.OperationalError, match="^no such table: nowhere$"):
        connection.cursor().execute("SELECT * FROM nowhere")
    (span,) = spans
    assert (span.status, span.error) == (500, "OperationalError: no such table: nowhere")


def test_an_error_while_rows_are_fetched_is_recorded_once(connection, spans):
    cursor = connection.execute(
        "SELECT abs(CASE id WHEN 3 THEN ? ELSE id END) FROM orders", [-(2**63)]
    )
    assert cursor.fetchone() == (1,)
    with pytest.raises(sqlite3.OperationalError, match="overflow"):
        cursor.fetchone()
    assert [span.status for span in spans] == [500]
    cursor.close()
    assert len(spans) == 1


def test_the_end_of_a_transaction_is_recorded(connection, spans):
    connection.commit()  # no transaction
    with connection as entered:
        entered.execute("DELETE FROM orders")
    assert entered is connection
    connection.execute("DELETE FROM orders")
    connection.rollback()
    connection.execute("DELETE FROM orders")
    connection.commit()
    delete = "DELETE FROM orders"
    assert endpoints(spans) == [delete, "COMMIT", delete, "ROLLBACK", delete, "COMMIT"]


def test_a_failed_block_is_rolled_back(connection, spans):
    def fail():
        with connection:
            connection.execute("DELETE FROM orders")
            connection.execute("DELETE FROM nowhere")

    with pytest.raises(sqlite3.OperationalError):
        fail()
    assert endpoints(spans)[-1] == "ROLLBACK"
    assert len(connection.execute("SELECT * FROM orders").fetchall()) == 3


# Values.


SECRET = "Zoe-4711"


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("INSERT INTO orders (name) VALUES (?)", [SECRET]),
        ("INSERT INTO orders (name) VALUES (:name)", {"name": SECRET}),
        (f"INSERT INTO orders (name) VALUES ('{SECRET}')", []),
        (f'SELECT * FROM orders WHERE name = "{SECRET}"', []),
        (f'SELECT * FROM orders WHERE name IN ("Ann", "{SECRET}")', []),
        (f"SELECT * FROM orders -- {SECRET}", []),
        (f"SELECT {SECRET}'", []),
        (f"SELECT * FROM orders WHERE '{SECRET}'  '{SECRET}'", []),
        (f"SELECT json_extract('{SECRET}', '$')", []),
        ("SELECT json_extract(?, '$')", [SECRET]),
    ],
)
def test_no_value_is_stored(connection, statement, values, tmp_path):
    path = tmp_path / "spans.sqlite"
    with lab.SpanStore(path) as store:
        traced = lab.trace_connection(connection.__wrapped__, store)
        for _ in range(2):  # the second time a name is there already
            try:
                traced.execute(statement, values).fetchall()
            except sqlite3.Error:
                continue
        store.flush()
        assert len(store.spans()) == 2
    written = b"".join(file.read_bytes() for file in tmp_path.glob("spans.sqlite*"))
    assert b"4711" not in written


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("UNIQUE constraint failed: orders.name", "UNIQUE constraint failed: orders.name"),
        ("duplicate key\nDETAIL: Key (name)=(Zoe) already exists.", "duplicate key"),
        ("Duplicate entry 'O'Hara' for key 'name'", "Duplicate entry ?"),
        ("can't reach 'db' at 10.0.0.7:5432", "can't reach ? at ?"),
        ('invalid input syntax for type date: "Zoe', "invalid input syntax for type date: ?"),
        ("", ""),
    ],
)
def test_the_message_of_an_error_keeps_no_value(message, kept):
    assert describe_without_values(ValueError(message)) == f"ValueError: {kept}"


# All else is as without it.


def test_attributes_are_those_of_the_connection(connection):
    connection.row_factory = sqlite3.Row
    assert connection.__wrapped__.row_factory is sqlite3.Row
    row = connection.execute("SELECT id, name FROM orders").fetchone()
    assert row["name"] == "Ann"
    assert connection.total_changes == 3
    cursor = connection.cursor()
    cursor.arraysize = 2
    cursor.execute("INSERT INTO orders (name) VALUES ('Di')")
    assert (cursor.lastrowid, cursor.rowcount, cursor.__wrapped__.arraysize) == (4, 1, 2)
    assert cursor.connection is connection
    assert not hasattr(cursor, "callproc")
    assert not hasattr(connection, "nothing_like_this")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_copied_as_the_connection_cannot(connection, copied):
    for original in (connection.__wrapped__, connection, connection.cursor()):
        with pytest.raises(TypeError, match="cannot pickle 'sqlite3"):
            copied(original)


def test_a_proxy_without_a_connection_has_no_attributes(connection):
    empty = object.__new__(type(connection))
    assert not hasattr(empty, "row_factory")


def test_a_procedure_is_named_by_its_call(spans):
    class Cursor:
        description = None

        def callproc(self, name, values=()):
            return values

    class Connection:
        def cursor(self):
            return Cursor()

        commit = rollback = cursor

    connection = lab.trace_connection(Connection(), spans.append, peer="db")
    assert connection.cursor().callproc("refund", [7]) == [7]
    connection.commit()
    assert endpoints(spans) == ["CALL refund", "COMMIT"]


def test_pandas_reads_from_a_traced_connection(connection, spans):
    frame = pd.read_sql("SELECT name FROM orders WHERE id < ?", connection, params=[3])
    assert frame["name"].tolist() == ["Ann", "Bob"]
    assert endpoints(spans) == ["SELECT name FROM orders WHERE id < ?"]


def test_threads_share_a_connection(connection, spans):
    def read() -> None:
        for _ in range(50):
            connection.cursor().execute("SELECT 1").fetchall()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert endpoints(spans) == ["SELECT ?"] * 200


def test_a_sink_that_fails_harms_no_statement(connection):
    def fail(span):
        raise RuntimeError("full")

    traced = lab.trace_connection(connection.__wrapped__, fail)
    assert traced.execute("SELECT 1").fetchall() == [(1,)]


def test_a_statement_that_runs_is_among_the_open_spans(connection, tmp_path):
    begun, go_on = threading.Event(), threading.Event()

    def wait(value):
        begun.set()
        go_on.wait(5)

    connection.create_function("wait", 1, wait)
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        traced = lab.trace_connection(connection.__wrapped__, store)
        thread = threading.Thread(target=lambda: traced.execute("SELECT wait(1)").fetchall())
        thread.start()
        assert begun.wait(5)
        assert [span[4] for span in store.opened.values()] == ["SELECT wait(?)"]
        go_on.set()
        thread.join()
        assert store.opened == {}


def test_an_unread_query_is_not_open_for_ever(connection, tmp_path):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        cursor = lab.trace_connection(connection.__wrapped__, store).execute("SELECT 1")
        assert store.opened == {}
        cursor.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_record_the_parents_statement(connection, tmp_path):
    path = tmp_path / "ended"
    sink = path.open("a", buffering=1)
    with sink:
        traced = lab.trace_connection(connection.__wrapped__, lambda span: sink.write("x\n"))
        cursor = traced.execute("SELECT name FROM orders")
        child = os.fork()
        if child == 0:
            cursor._end()
            os._exit(0)
        os.waitpid(child, 0)
        cursor._end()
    assert path.read_text() == "x\n"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((None, print), r"connection must be a DB-API connection, .* got NoneType"),
        ((sqlite3, print), r"connection must be a DB-API connection, .* got module"),
        ((sqlite3.connect(":memory:"), None), r"sink must be a callable"),
        ((sqlite3.connect(":memory:"), print, ""), r"service must be a non-empty text"),
    ],
)
def test_what_is_no_connection_is_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        lab.trace_connection(*arguments)


def test_an_asynchronous_connection_is_refused():
    class Asynchronous:
        def cursor(self):
            pass

        async def commit(self):
            pass

    with pytest.raises(ValueError, match="must not be asynchronous, got Asynchronous"):
        lab.trace_connection(Asynchronous(), print)


# What it is for.


def orders_app(path, store, slow):
    """A service whose one statement sleeps while `slow` is set."""
    app = flask.Flask("orders")

    def connect():
        connection = sqlite3.connect(path)
        connection.create_function("price", 1, lambda id: slow.wait_if_set() or id)
        return lab.trace_connection(connection, store, "orders")

    @app.get("/orders/<int:id>")
    def order(id):
        with closing(connect()) as db:
            name = db.execute("SELECT name FROM orders WHERE id = ?", [id]).fetchone()
            price = db.execute("SELECT price(id) FROM orders WHERE id = ?", [id]).fetchone()
        return {"name": name[0], "price": price[0]}

    @app.get("/names")
    def names():
        with closing(connect()) as db:
            return [row[0] for row in db.execute("SELECT name FROM orders")]

    return lab.instrument(app, store, "orders")


class Slow:
    def __init__(self):
        self.on = False

    def wait_if_set(self):
        if self.on:
            threading.Event().wait(0.1)


def spread(frame):
    """A frame whose traces begin half a second apart, so that windows hold equally many."""
    first = frame.groupby("trace_id", sort=False)["start"].transform("min")
    number = frame["trace_id"].factorize()[0]
    begin = frame["start"].min() + pd.to_timedelta(number * 0.5, unit="s")
    moved = frame.assign(start=begin + (frame["start"] - first))
    return moved.sort_values(["start", "span_id"], ignore_index=True)


@pytest.fixture
def watched(connection, tmp_path):
    """Frames of requests before, and of all with those whose statement is slow."""
    slow = Slow()
    frames = []
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        client = orders_app(tmp_path / "orders.db", store, slow).test_client()
        for slow.on in (False, True):
            for _ in range(30 if slow.on else 80):
                assert client.get("/orders/2").json["name"] == "Bob"
                assert client.get("/names").status_code == 200
            store.flush()
            frames.append(store.spans())
    return frames


def test_a_slow_statement_is_named_as_the_cause(watched):
    normal, both = watched
    abnormal = both[~both["span_id"].isin(normal["span_id"])].reset_index(drop=True)
    suspect = lab.rank_root_causes(normal, abnormal)[0]
    assert (suspect.service, suspect.endpoint) == ("sqlite", SLOW_STATEMENT)


def test_a_replay_names_the_slow_statement(watched):
    report = lab.replay(spread(watched[1]), lab.Sensitivity(min_ms=50))
    (incident,) = report.incidents
    assert incident.affected_endpoints == ["/orders/<int:id>"]
    suspect = incident.root_cause
    assert (suspect.service, suspect.endpoint) == ("sqlite", SLOW_STATEMENT)
