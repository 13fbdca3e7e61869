"""/simulate over real HTTP: what it does, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
import requests

import shop
from shop.live.running import Shop

HUGE = 1_000_000


@pytest.fixture(scope="module")
def one() -> Iterator[Shop]:
    with shop.running() as running:
        yield running


@pytest.fixture(scope="module")
def many() -> Iterator[Shop]:
    with shop.running("many") as running:
        yield running


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("one", "many"):
        if name in request.fixturenames:
            request.getfixturevalue(name).clear()


def ask(method: str, url: str, **given: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=10, **given)  # type: ignore[arg-type]


def raw(url: str, text: bytes) -> tuple[int, bytes]:
    """Send bytes that no client library would, and return status and body."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as sock:
        sock.sendall(text)
        answer = http.client.HTTPResponse(sock)
        answer.begin()
        with answer:
            return answer.status, answer.read()


# ---- what it does


def test_the_seeds_delay_line_slows_the_endpoint_and_clear_mends_it(one: Shop) -> None:
    told = ask("POST", f"{one.url}/simulate/delay?endpoint=/inventory&duration=1000").json()[
        "fault"
    ]
    assert (told["kind"], told["endpoint"], told["service"]) == ("delay", "/inventory", "shop")
    assert (told["duration"], told["jitter"], told["ttl_s"], told["end"]) == (1000, 0, None, None)
    assert told["start"].endswith("Z")
    assert ask("GET", f"{one.url}/inventory").elapsed.total_seconds() > 1
    assert ask("POST", f"{one.url}/simulate/clear").json() == {"cleared": [told["id"]]}
    assert ask("GET", f"{one.url}/inventory").elapsed.total_seconds() < 1


def test_an_error_reaches_the_customer_as_json_and_checkout_as_502(one: Shop) -> None:
    ask("POST", f"{one.url}/simulate/error?endpoint=/payment&rate=1.0&status=507")
    failed = ask("POST", f"{one.url}/payment")
    assert failed.status_code == 507
    assert "error" in failed.json()
    checkout = ask("POST", f"{one.url}/checkout")
    assert checkout.status_code == 502
    assert checkout.json() == {"error": "/payment answered 507"}
    assert ask("GET", f"{one.url}/inventory").status_code == 200


def test_a_hang_ends_with_its_ttl(one: Shop) -> None:
    ask("POST", f"{one.url}/simulate/hang?endpoint=/health&ttl_s=0.3")
    answer = ask("GET", f"{one.url}/health")
    assert answer.status_code == 200
    assert 0.1 < answer.elapsed.total_seconds() < 30


@pytest.mark.parametrize(
    "given",
    [
        {"params": {"endpoint": "/payment", "duration": "12.5", "jitter": "1e1"}},
        {"json": {"endpoint": "/payment", "duration": 12.5, "jitter": 10}},
        {"json": {"endpoint": "/payment", "duration": "12.5", "jitter": 10.0}},
        {"data": '{"endpoint": "/payment", "duration": 12.5, "jitter": 10}'},
        {"params": {"endpoint": "/payment"}, "json": {"duration": 12.5, "jitter": 10}},
    ],
    ids=["query", "json", "json text", "json without its type", "query and json"],
)
def test_parameters_may_come_by_query_or_json(one: Shop, given: dict) -> None:
    told = ask("POST", f"{one.url}/simulate/delay", **given).json()["fault"]
    assert (told["duration"], told["jitter"]) == (12.5, 10)


def test_status_lists_what_is_in_force_and_what_can_be_broken(one: Shop) -> None:
    assert ask("GET", f"{one.url}/simulate/status").json()["active"] == []
    ask("POST", f"{one.url}/simulate/error?endpoint=/payment&rate=0.5&ttl_s=60")
    told = ask("GET", f"{one.url}/simulate/status").json()
    assert [(f["kind"], f["rate"], f["status"], f["ttl_s"]) for f in told["active"]] == [
        ("error", 0.5, 500, 60)
    ]
    assert {e["endpoint"] for e in told["endpoints"]} == {
        "/health",
        "/inventory",
        "/payment",
        "/checkout",
    }


def test_one_fault_can_be_cleared_by_its_id(one: Shop) -> None:
    first = ask("POST", f"{one.url}/simulate/hang?endpoint=/payment").json()["fault"]["id"]
    second = ask("POST", f"{one.url}/simulate/hang?endpoint=/health").json()["fault"]["id"]
    assert ask("POST", f"{one.url}/simulate/clear?id={first}").json() == {"cleared": [first]}
    assert [f["id"] for f in ask("GET", f"{one.url}/simulate/status").json()["active"]] == [second]
    assert ask("POST", f"{one.url}/simulate/clear?id={first}").status_code == 404


def test_the_front_breaks_a_service_on_another_port(many: Shop) -> None:
    told = ask("POST", f"{many.url}/simulate/error?endpoint=/payment&rate=1").json()["fault"]
    assert told["service"] == "payment"
    assert ask("POST", f"{many.urls['payment']}/payment").status_code == 500
    assert ask("POST", f"{many.url}/checkout").status_code == 502


def test_the_truth_is_logged_with_start_and_end(one: Shop) -> None:
    before = len(one.truth.faults())
    ask("POST", f"{one.url}/simulate/delay?endpoint=/payment&duration=5")
    ask("POST", f"{one.url}/simulate/clear")
    new = one.truth.faults().iloc[before:]
    assert new["kind"].tolist() == ["delay"]
    assert new["end"].notna().all()


# ---- what it refuses

DELAY, ERROR, HANG = (
    "/simulate/delay?endpoint=/payment",
    "/simulate/error?endpoint=/payment",
    "/simulate/hang",
)
BAD = [
    ("negative", "POST", f"{DELAY}&duration=-1", 400, "duration"),
    ("NaN", "POST", f"{DELAY}&duration=NaN", 400, "duration"),
    ("infinite", "POST", f"{DELAY}&duration=inf", 400, "duration"),
    ("minus infinity", "POST", f"{DELAY}&duration=-Infinity", 400, "duration"),
    ("huge", "POST", f"{DELAY}&duration=1e300", 400, "duration"),
    ("overflowing", "POST", f"{DELAY}&duration=1e999", 400, "duration"),
    ("a minute too long", "POST", f"{DELAY}&duration=60001", 400, "duration"),
    ("thousands of digits", "POST", f"{DELAY}&duration={'9' * 5000}", 400, "duration"),
    ("missing number", "POST", DELAY, 400, "duration"),
    ("empty number", "POST", f"{DELAY}&duration=", 400, "duration"),
    ("blank number", "POST", f"{DELAY}&duration=%20", 400, "duration"),
    ("text for a number", "POST", f"{DELAY}&duration=soon", 400, "duration"),
    ("hexadecimal", "POST", f"{DELAY}&duration=0x10", 400, "duration"),
    ("underscores", "POST", f"{DELAY}&duration=1_000", 400, "duration"),
    ("unit", "POST", f"{DELAY}&duration=2000ms", 400, "duration"),
    ("comma", "POST", f"{DELAY}&duration=1,5", 400, "duration"),
    ("full-width digits", "POST", f"{DELAY}&duration={quote('１００')}", 400, "duration"),
    ("Arabic digits", "POST", f"{DELAY}&duration={quote('٣٤')}", 400, "duration"),
    ("null byte", "POST", f"{DELAY}&duration=1%00", 400, "duration"),
    ("repeated", "POST", f"{DELAY}&duration=1&duration=2", 400, "duration"),
    ("repeated endpoint", "POST", f"{DELAY}&endpoint=/health&duration=1", 400, "endpoint"),
    ("negative jitter", "POST", f"{DELAY}&duration=1&jitter=-1", 400, "jitter"),
    ("unknown parameter", "POST", f"{DELAY}&duration=1&colour=red", 400, "parameter"),
    ("rate of a delay", "POST", f"{DELAY}&duration=1&rate=1", 400, "parameter"),
    ("missing endpoint", "POST", "/simulate/delay?duration=1", 400, "endpoint"),
    ("empty endpoint", "POST", "/simulate/delay?endpoint=&duration=1", 400, "endpoint"),
    ("unknown endpoint", "POST", "/simulate/delay?endpoint=/nowhere&duration=1", 400, "endpoint"),
    (
        "endpoint without slash",
        "POST",
        "/simulate/delay?endpoint=payment&duration=1",
        400,
        "endpoint",
    ),
    (
        "control plane as endpoint",
        "POST",
        "/simulate/delay?endpoint=/simulate/clear&duration=1",
        400,
        "endpoint",
    ),
    (
        "path traversal",
        "POST",
        "/simulate/delay?endpoint=/../../etc/passwd&duration=1",
        400,
        "endpoint",
    ),
    (
        "SQL",
        "POST",
        f"/simulate/hang?endpoint={quote(chr(39) + '; DROP TABLE spans; --')}",
        400,
        "endpoint",
    ),
    ("markup", "POST", f"{HANG}?endpoint={quote('<script>alert(1)</script>')}", 400, "endpoint"),
    ("emoji", "POST", f"{HANG}?endpoint={quote('/💳')}", 400, "endpoint"),
    (
        "right-to-left",
        "POST",
        f"{HANG}?endpoint={quote(chr(0x202E) + '/payment')}",
        400,
        "endpoint",
    ),
    ("broken UTF-8", "POST", f"{HANG}?endpoint=/payment%ff%fe", 400, "endpoint"),
    ("lone surrogate", "POST", f"{HANG}?endpoint=/payment%ed%a0%80", 400, "endpoint"),
    ("null byte in endpoint", "POST", f"{HANG}?endpoint=/payment%00", 400, "endpoint"),
    ("rate above 1", "POST", f"{ERROR}&rate=1.5", 400, "rate"),
    ("negative rate", "POST", f"{ERROR}&rate=-0.1", 400, "rate"),
    ("rate in percent", "POST", f"{ERROR}&rate=80%25", 400, "rate"),
    ("NaN rate", "POST", f"{ERROR}&rate=nan", 400, "rate"),
    ("missing rate", "POST", ERROR, 400, "rate"),
    ("status that is no error", "POST", f"{ERROR}&rate=1&status=200", 400, "status"),
    ("half a status", "POST", f"{ERROR}&rate=1&status=500.5", 400, "status"),
    ("infinite status", "POST", f"{ERROR}&rate=1&status=1e999", 400, "status"),
    ("no ttl", "POST", f"{HANG}?endpoint=/payment&ttl_s=0", 400, "ttl_s"),
    ("negative ttl", "POST", f"{HANG}?endpoint=/payment&ttl_s=-3", 400, "ttl_s"),
    ("huge ttl", "POST", f"{HANG}?endpoint=/payment&ttl_s=1e12", 400, "ttl_s"),
    ("unknown service", "POST", f"{HANG}?endpoint=/payment&service=nobody", 400, "service"),
    ("id that is no number", "POST", "/simulate/clear?id=all", 400, "id"),
    ("half an id", "POST", "/simulate/clear?id=1.5", 400, "id"),
    ("unknown id", "POST", "/simulate/clear?id=999999999999999999999", 404, "id"),
    ("parameter of status", "GET", "/simulate/status?verbose=1", 400, "parameter"),
    ("GET for POST", "GET", f"{DELAY}&duration=1", 405, "method"),
    ("POST for GET", "POST", "/simulate/status", 405, "method"),
    ("DELETE", "DELETE", "/simulate/clear", 405, "method"),
    ("GET a payment", "GET", "/payment", 405, "method"),
    ("unknown kind", "POST", "/simulate/earthquake", 404, "path"),
    ("unknown path", "GET", "/nowhere", 404, "path"),
    ("odd unicode path", "GET", f"/{quote('💥')}%00%ff", 404, "path"),
    ("a megabyte of query", "POST", f"{DELAY}&duration=1&x={'x' * HUGE}", 414, "query"),
    ("a megabyte for a GET", "GET", f"/health?{'x' * HUGE}", 414, "query"),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "field"), [b[1:] for b in BAD], ids=[b[0] for b in BAD]
)
def test_bad_input_is_refused_with_field_rule_and_value(
    one: Shop, method: str, path: str, status: int, field: str
) -> None:
    answer = ask(method, one.url + path)
    told = answer.json()
    assert answer.status_code == status
    assert told["field"] == field
    assert told["error"].startswith(f"{field} {told['rule']}, got ")
    assert "value" in told
    assert len(answer.content) < 1000
    assert one.injector.active() == []


BODIES = [
    ("malformed JSON", b'{"endpoint": "/payment", ', "application/json", 400),
    ("JSON list", b'[{"endpoint": "/payment"}]', "application/json", 400),
    ("JSON text", b'"endpoint"', "application/json", 400),
    ("JSON NaN", b'{"endpoint": "/payment", "duration": NaN}', "application/json", 400),
    ("JSON infinity", b'{"endpoint": "/payment", "duration": Infinity}', "application/json", 400),
    ("JSON true", b'{"endpoint": "/payment", "duration": true}', "application/json", 400),
    ("JSON null", b'{"endpoint": "/payment", "duration": null}', "application/json", 400),
    (
        "JSON list for a number",
        b'{"endpoint": "/payment", "duration": [1]}',
        "application/json",
        400,
    ),
    ("JSON number for text", b'{"endpoint": 7, "duration": 1}', "application/json", 400),
    (
        "JSON digits",
        b'{"endpoint": "/payment", "duration": ' + b"9" * 4000 + b"}",
        "application/json",
        400,
    ),
    (
        "JSON more digits",
        b'{"endpoint": "/payment", "duration": ' + b"9" * 6000 + b"}",
        "application/json",
        400,
    ),
    (
        "JSON repeated",
        b'{"endpoint": "/payment", "duration": 1, "duration": 2}',
        "application/json",
        400,
    ),
    ("JSON nested", b"[" * 30_000, "application/json", 400),
    ("JSON that is no UTF-8", b'{"endpoint": "\xff"}', "application/json", 400),
    ("JSON surrogate", rb'{"endpoint": "\ud800", "duration": 1}', "application/json", 400),
    ("binary", bytes(range(256)), "application/octet-stream", 400),
    ("broken multipart", b"--x\r\nnothing", "multipart/form-data; boundary=x", 415),
    (
        "form",
        b"endpoint=/payment&duration=1",
        "application/x-www-form-urlencoded",
        415,
    ),
    ("empty form", b"", "application/x-www-form-urlencoded", 415),
    ("plain text", b'{"endpoint": "/payment", "duration": 1}', "text/plain", 415),
    ("two megabytes", b"x" * 2 * HUGE, "application/json", 413),
]


@pytest.mark.parametrize(
    ("body", "kind", "status"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
def test_a_bad_body_is_refused_as_json(one: Shop, body: bytes, kind: str, status: int) -> None:
    answer = ask("POST", f"{one.url}/simulate/delay", data=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "field", "rule", "value"}
    assert len(answer.content) < 1000
    assert one.injector.active() == []


def test_the_same_parameter_by_query_and_by_body_is_refused(one: Shop) -> None:
    answer = ask("POST", f"{one.url}{DELAY}&duration=1", json={"duration": 2})
    assert (answer.status_code, answer.json()["field"]) == (400, "duration")


@pytest.mark.parametrize(
    "text",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /hea\x00lth HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /health?\x00\xff HTTP/1.1\r\nHost: x\r\nX: \x00\r\nConnection: close\r\n\r\n",
        b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /payment HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST /payment HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\nConnection: close\r\n\r\n",
        b"POST /payment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
        b"\r\nzz\r\nabc\r\n0\r\n\r\n",
        b"POST /simulate/delay HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b'Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\n{"a":\r\n0\r\n\r\n',
        b"GET http://elsewhere.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::bad\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_hardly_http_is_answered_without_a_500(one: Shop, text: bytes) -> None:
    status, _ = raw(one.url, text)
    assert status < 500


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": 1.5}, "quantity"),
        ({"item": "unicorn"}, "item"),
        ({"item": ["mug"]}, "item"),
        ({"amount": -1}, "amount"),
        ({"amount": "1e999"}, "amount"),
        ({"card": "1234"}, "parameter"),
    ],
)
def test_a_bad_order_is_refused_too(one: Shop, body: dict, field: str) -> None:
    answer = ask("POST", f"{one.url}/checkout", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_after_all_of_that_the_shop_goes_on(one: Shop) -> None:
    answer = ask("POST", f"{one.url}/checkout", json={"item": "lamp", "quantity": 2})
    assert answer.status_code == 200
    assert json.loads(answer.content)["amount"] == 84.0
