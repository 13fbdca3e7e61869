"""OpenTelemetry's semantic conventions, old names and new ones, as the analysis has them."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.formats.conventions import ReportedSpan, attributes_of, to_span
from aiops_lab.formats.statements import MAX_SHAPE, shape_of
from tests.support.columnar import plain

NS = 1_767_225_600_000_000_000  # 2026-01-01


def span(kind="client", name="name", failed=False, message="", exception=None, **attributes):
    plain = {key.replace("__", "."): value for key, value in attributes.items()}
    reported = ReportedSpan(
        "1" * 32,
        "2" * 16,
        None,
        name,
        kind,
        NS,
        1000,
        plain,
        failed=failed,
        message=message,
        exception=exception,
    )
    return to_span(reported)


@pytest.mark.parametrize(
    ("kind", "name", "attributes", "endpoint"),
    [
        ("server", "GET /a/{id}", {"http.route": "/a/{id}", "url.path": "/a/7"}, "/a/{id}"),
        ("server", "GET", {"http.target": "/a/7?x=1"}, "/a/<id>"),
        ("server", "GET", {"http.url": "http://a:1/b/77/c?d"}, "/b/<id>/c"),
        ("server", "HTTP GET /dispatch", {}, "/dispatch"),
        ("server", "GET /orders/17", {}, "/orders/<id>"),
        ("server", "x", {"rpc.service": "shop.Cart", "rpc.method": "Add"}, "/shop.Cart/Add"),
        ("server", "x", {"rpc.method": "shop.Cart/Add"}, "/shop.Cart/Add"),
        ("client", "GET", {"url.full": "https://u:p@pay:8443/v1/charges/991"}, "/v1/charges/<id>"),
        ("client", "GET", {"url.template": "/v1/{id}", "url.full": "http://pay/v1/7"}, "/v1/{id}"),
        ("client", "SELECT shop", {"db.statement": "SELECT 1"}, "SELECT ?"),
        ("client", "x", {"db.query.text": "GET user:17"}, "GET user:?"),
        ("client", "x", {"db.operation": "find", "db.mongodb.collection": "carts"}, "find carts"),
        ("client", "x", {"db.operation.name": "SELECT"}, "SELECT"),
        ("client", "x", {"db.query.summary": "SELECT users"}, "SELECT users"),
        ("client", "redis SET", {"db.system": "redis"}, "redis SET"),
        ("client", "SELECT 'Ann', 7", {"db.system": "mysql"}, "SELECT ?, ?"),
        ("internal", "GET /orders/17", {"db.system": "couchdb"}, "GET /orders/?"),
        ("client", "", {"db.system.name": "mysql"}, "(unnamed)"),
        ("producer", "mail publish", {"messaging.destination.name": "mail"}, "mail"),
        ("consumer", "mail process", {"messaging.destination": "mail"}, "mail"),
        ("consumer", "x", {"messaging.destination.template": "mail.{id}"}, "mail.{id}"),
        ("internal", "work", {"http.route": "/a"}, "work"),
        ("internal", "", {}, "(unnamed)"),
    ],
)
def test_the_endpoint_is_what_behaves_alike(kind, name, attributes, endpoint):
    assert span(kind, name, **attributes).endpoint == endpoint


@pytest.mark.parametrize(
    ("attributes", "peer"),
    [
        ({"peer.service": "pay", "server.address": "10.0.0.1"}, "pay"),
        ({"service.peer.name": "pay"}, "pay"),
        ({"server.address": "pay", "server.port": 8080}, "pay:8080"),
        ({"net.peer.name": "pay", "net.peer.port": "8080"}, "pay:8080"),
        ({"http.host": "pay:8080", "server.port": 8080}, "pay:8080"),
        ({"http.url": "http://user:secret@pay:8080/a"}, "pay:8080"),
        ({"db.system": "sqlite"}, "sqlite"),
        ({"db.system.name": "postgresql", "server.address": "db"}, "db"),
        ({"http.url": "http://[bad"}, None),
        ({}, None),
    ],
)
def test_the_peer_is_the_called_service_or_its_address(attributes, peer):
    assert span("client", **attributes).peer == peer


def test_what_serves_has_no_peer():
    assert span("server", **{"peer.service": "caller"}).peer is None


@pytest.mark.parametrize(
    ("kind", "failed", "attributes", "status"),
    [
        ("server", False, {"http.response.status_code": 204}, 204),
        ("server", False, {"http.status_code": "404"}, 404),
        ("client", True, {"rpc.grpc.status_code": 14}, 503),
        ("client", True, {"rpc.grpc.status_code": 4}, 504),
        ("server", False, {"rpc.grpc.status_code": 0}, 200),
        ("client", True, {"grpc.status_code": "DEADLINE_EXCEEDED"}, 504),
        ("client", True, {"http.status_code": 200, "grpc.status_code": "14"}, 503),
        ("client", True, {"http.status_code": 502, "grpc.status_code": "14"}, 502),
        ("client", True, {"rpc.response.status_code": "UNAVAILABLE"}, 503),
        ("client", True, {"url.full": "http://a/b"}, 0),  # no answer came
        ("client", True, {"db.statement": "SELECT 1"}, 500),
        ("server", True, {"http.route": "/a"}, 500),
        ("server", False, {"http.status_code": 0}, 200),
        ("server", False, {"http.status_code": "teapot"}, 200),
        ("server", False, {}, 200),
        ("internal", False, {}, None),
        ("consumer", True, {}, 500),
    ],
)
def test_every_status_is_one_of_http(kind, failed, attributes, status):
    assert span(kind, failed=failed, **attributes).status == status


@pytest.mark.parametrize(
    ("failed", "message", "exception", "attributes", "error"),
    [
        (True, "boom", None, {}, "boom"),
        (True, "boom", None, {"error.type": "java.net.SocketTimeoutException"},
         "SocketTimeoutException: boom"),
        (True, "ValueError: boom", {"exception.type": "ValueError", "exception.message": "boom"},
         {}, "ValueError: boom"),
        (True, "", {"exception.type": "a.b.ReadTimeout"}, {}, "ReadTimeout"),
        (True, "", None, {"error.type": "503", "http.status_code": 503}, None),
        (True, "", None, {"http.status_code": 404}, None),  # an answer: 404 is no failure
        (True, "", None, {"http.status_code": 200}, "ERROR"),  # a failure that was stated
        (False, "", {"exception.type": "Handled"}, {}, None),
    ],
)  # fmt: skip
def test_an_error_is_what_was_stated(failed, message, exception, attributes, error):
    told = span("server", "n", failed, message, exception, **attributes)
    assert told.error == error


def test_a_404_of_a_client_is_no_failure():
    assert (
        span("client", failed=True, **{"http.status_code": 404, "error.type": "404"}).error is None
    )


def test_methods_are_those_of_http():
    assert span("server", **{"http.request.method": "get"}).method == "GET"
    assert span("server", **{"http.method": "BREW"}).method == "_OTHER"


def test_attributes_are_written_by_convention_and_of_this_package_only_where_they_must_be():
    plain = span("server", **{"http.route": "/a", "http.request.method": "GET"})
    assert set(attributes_of(plain).attributes) == {
        "http.route",
        "http.request.method",
        "http.response.status_code",
    }
    odd = plain._replace(status=0)
    assert attributes_of(odd).attributes["aiops_lab.status"] == 0
    assert to_span(attributes_of(odd)) == odd


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        ("select a from t where b='x' and c=-1.5e3", "select a from t where b=? and c=?"),
        ("SELECT '-- no comment' /* secret 17 */ FROM t1", "SELECT ? FROM t1"),
        ("SELECT 1 -- don't\nFROM t", "SELECT ? FROM t"),
        ("SELECT $1, :name, %s, %(x)s, @p1, ?", "SELECT ?, ?, ?, ?, ?, ?"),
        ("SELECT a::int FROM t", "SELECT a::int FROM t"),
        ("SELECT $tag$ secret 'x' $tag$", "SELECT ?"),
        ("INSERT INTO t VALUES (1,'a'),\n(2,'b')", "INSERT INTO t VALUES (?)"),
        ("SELECT 'never closed", "SELECT ?"),
        ("SELECT 'never closed\\", "SELECT ?"),
        (r"SELECT 'it\'s secret', 'x'", "SELECT ?"),
        (r"SELECT 'C:\\', a", "SELECT ?, a"),
        ("SELECT x'0aff', .5", "SELECT ?, ?"),
        ('a = "secret" AND "t"."a" = "u"."b"', 'a = ? AND "t"."a" = "u"."b"'),
        ('a LIKE "x%" OR "b" IN ("x", "y")', 'a LIKE ? OR "b" IN (?)'),
        ('INSERT INTO t ("a", "b") VALUES (1, "x")', 'INSERT INTO t ("a", "b") VALUES (?)'),
        ('UPDATE t SET "a" = "x", "b" = 2', 'UPDATE t SET "a" = ?, "b" = ?'),
        (r'name = "O\"Hara" AND x = 1', "name = ? AND x = ?"),
        ('VALUES (NULL, "hunter2"), (TRUE, "a")', "VALUES (?)"),
        ('SELECT MD5("hunter2")', "SELECT MD5(?)"),
        ('ALTER USER x IDENTIFIED BY "hunter2"', "ALTER USER x IDENTIFIED BY ?"),
        ('n BETWEEN "ann" AND "bob" ORDER BY "n"', 'n BETWEEN ? AND ? ORDER BY "n"'),
        ('{"email": "bob@x.com", "pin": "17"}', '{"email": ?, "pin": ?}'),
        ('"t"."x" = 1 AND "t"."y" = 2 AND "z" > 3', '"t"."x" = ? AND "t"."y" = ? AND "z" > ?'),
        ("", ""),
    ],
)
def test_the_shape_of_a_statement_has_no_values(statement, shape):
    assert shape_of(statement) == shape
    assert shape_of(shape) == shape


@pytest.mark.parametrize(
    ("statement", "endpoint"), [("set session:9f8 hunter2", "SET"), (" ", "redis call")]
)
def test_of_redis_only_the_command_is_kept(statement, endpoint):
    attributes = {"db.system": "redis", "db.statement": statement}
    assert (
        to_span(ReportedSpan("t", "s", None, "redis call", "client", 0, 1, attributes)).endpoint
        == endpoint
    )


def test_sending_an_answer_of_status_502_is_no_failure():
    sent = {"asgi.event.type": "http.response.start", "http.status_code": 502}
    told = span("internal", "GET / http send", failed=True, **sent)
    assert (told.status, told.error) == (None, None)
    assert span("server", failed=True, **sent).status == 502
    lost = {"exception.type": "OSError", "exception.message": "gone"}
    assert span("internal", failed=True, exception=lost, **sent).error == "OSError: gone"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("Key (email)=(a@b) already exists.\nDETAIL: a@b", "Key (email)? already exists."),
        ("Key (a, b)=(ann, a@b", "Key (a, b)?"),
        ("The duplicate key value is (ann@shop.org).", "The duplicate key value ?."),
        ("Duplicate entry 'a@b' for key 'email'", "Duplicate entry ?"),
        ('E11000 dup key: { email: "a@b" }', "E11000 dup key: { email: ? }"),
        ("canceling statement due to timeout", "canceling statement due to timeout"),
        ("(sqlite3.Error) can't open", "(sqlite3.Error) can't open"),
    ],
)
def test_the_message_of_a_database_has_no_values(message, kept):
    query = {"db.system.name": "postgresql", "error.type": "Error"}
    assert span(failed=True, message=message, **query).error == f"Error: {kept}"
    told = {"exception.type": "pg.Error", "exception.message": message}
    assert span(failed=True, exception=told, **query).error == f"Error: {kept}"
    other = span(failed=True, message=message, **{"error.type": "Error"})
    assert other.error == f"Error: {message}"


def test_a_long_statement_costs_no_time_and_is_cut():
    assert len(shape_of("SELECT " + "a, " * 10**6)) == MAX_SHAPE
    assert len(shape_of("'" * 10**6)) <= MAX_SHAPE


# ---- whom a call reached


def zipkin(*rows):
    keys = ("id", "parentId", "kind", "localEndpoint", "remoteEndpoint")
    spans = []
    for number, (*row, trace) in enumerate(rows):
        fields = {key: value for key, value in zip(keys, row, strict=True) if value}
        fields["localEndpoint"] = {"serviceName": fields["localEndpoint"]}
        if "remoteEndpoint" in fields:
            fields["remoteEndpoint"] = {"ipv4": fields["remoteEndpoint"], "port": 80}
        times = {"timestamp": NS // 1000 + number, "duration": 10}
        spans.append({"traceId": trace, "name": "get", **fields, **times})
    return lab.read_spans(io.BytesIO(json.dumps(spans).encode()))


def test_a_call_names_the_service_that_answered():
    frame = zipkin(
        ("a", None, "CLIENT", "shop", "10.0.0.1", "1"),
        ("b", "a", "SERVER", "pay", None, "1"),
        ("c", None, "CLIENT", "shop", "10.0.0.1", "2"),  # its answer was not recorded
        ("d", None, "CLIENT", "mail", "10.0.0.1", "3"),  # of another service: not known
    )
    assert plain(frame).set_index("span_id")["peer"].str.strip("0").to_dict() == {
        f"{'a':0>16}": "pay",
        f"{'b':0>16}": None,
        f"{'c':0>16}": "pay",
        f"{'d':0>16}": "10.0.0.1:8",
    }


def test_an_address_that_reached_two_services_stays_an_address():
    frame = zipkin(
        ("a", None, "CLIENT", "shop", "10.0.0.1", "1"),
        ("b", "a", "SERVER", "pay", None, "1"),
        ("c", None, "CLIENT", "shop", "10.0.0.1", "2"),
        ("d", "c", "SERVER", "stock", None, "2"),
        ("e", None, "CLIENT", "shop", "10.0.0.1", "3"),
    )
    peers = frame.loc[frame["kind"] == "client", "peer"]
    assert [*peers] == ["pay", "stock", "10.0.0.1:80"]


def test_the_halves_of_a_zipkin_call_stay_two_spans_and_find_each_other():
    frame = zipkin(
        ("a", None, "SERVER", "shop", None, "1"),
        ("b", "a", "CLIENT", "shop", "10.0.0.1", "1"),
        ("b", "a", "SERVER", "pay", None, "1"),
        ("c", "b", None, "pay", None, "1"),
    )
    assert len(frame) == 4
    assert frame.loc[frame["kind"] == "client", "peer"].tolist() == ["pay"]
    graph = lab.service_graph(frame, by="service")
    assert graph[["caller", "callee", "calls"]].to_numpy().tolist() == [["shop", "pay", 1]]


def test_a_span_that_was_sent_again_counts_once():
    rows = [("a", None, "SERVER", "shop", None, "1")] * 2
    frame = zipkin(*rows)
    frame["start"] = frame["start"].iloc[0]
    assert len(pd.concat([frame, frame])) == 4
