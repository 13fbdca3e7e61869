"""A receiver of OTLP over HTTP: what is taken, what is refused, and how the answers look."""

from __future__ import annotations

import gzip
import io
import json
import time

import pytest
import requests
from flask import Flask

from aiops_lab import SpanStore, instrument
from aiops_lab.show import api, otlp
from aiops_lab.show import body as body_of_request
from aiops_lab.show.otlp import otlp_receiver
from tests.support.serving import serving

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}
LIMIT = 5_000


def request_of(*changes: dict, service: str = "orders") -> dict:
    """An ``ExportTraceServiceRequest`` as JSON, a span of 5 ms for each of the changes."""
    spans = []
    for number, change in enumerate(changes or ({},), 1):
        start = time.time_ns() - 5_000_000
        span = {
            "traceId": f"{number:032x}",
            "spanId": f"{number:016x}",
            "name": "GET /orders",
            "kind": 2,
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(start + 5_000_000),
        }
        spans.append(span | change)
    name = {"key": "service.name", "value": {"stringValue": service}}
    element = {"resource": {"attributes": [name]}, "scopeSpans": [{"spans": spans}]}
    return {"resourceSpans": [element]}


def protobuf_of(*durations_ms: int) -> bytes:
    message = trace_service.ExportTraceServiceRequest()
    element = message.resource_spans.add()
    attribute = element.resource.attributes.add()
    attribute.key, attribute.value.string_value = "service.name", "orders"
    scope = element.scope_spans.add()
    for number, duration in enumerate(durations_ms, 1):
        start = time.time_ns()
        span = scope.spans.add(name="GET /orders", kind=2, start_time_unix_nano=start)
        span.trace_id, span.span_id = number.to_bytes(16, "big"), number.to_bytes(8, "big")
        span.end_time_unix_nano = start + duration * 1_000_000
    return message.SerializeToString()


@pytest.fixture
def store():
    with SpanStore(":memory:") as opened:
        yield opened


@pytest.fixture
def post(store):
    """A function that posts to a receiver of the store."""
    app = Flask("receiver")
    app.register_blueprint(otlp_receiver(store, token="secret", limit_bytes=LIMIT))
    with serving(app) as url, requests.Session() as session:

        def send(body, headers, token="secret"):
            headers = {"Authorization": f"Bearer {token}"} | headers
            data = body if isinstance(body, bytes) or hasattr(body, "send") else json.dumps(body)
            return session.post(f"{url}/v1/traces", data=data, headers=headers, timeout=10)

        yield send


def recorded(store):
    store.flush()
    return store.spans()


def message_of(answer) -> str:
    assert answer.headers["Content-Type"] == "application/json"
    return answer.json()["message"]


def test_spans_as_json_are_in_the_store(post, store):
    answer = post(request_of(), JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    (span,) = recorded(store).itertuples()
    assert (span.service, span.endpoint, span.duration_ms) == ("orders", "/orders", 5.0)


def test_spans_as_protobuf_are_in_the_store(post, store):
    answer = post(protobuf_of(5, 7), PROTOBUF)
    assert answer.headers["Content-Type"] == "application/x-protobuf"
    got = trace_service.ExportTraceServiceResponse.FromString(answer.content)
    assert got == trace_service.ExportTraceServiceResponse()
    assert [*recorded(store)["duration_ms"]] == [5.0, 7.0]


def test_a_packed_body_is_unpacked(post, store):
    packed = gzip.compress(json.dumps(request_of()).encode())
    assert post(packed, JSON | {"Content-Encoding": "gzip"}).status_code == 200
    assert len(recorded(store)) == 1


def test_gzip_files_that_follow_each_other_are_one_body(post, store):
    text = json.dumps(request_of()).encode()
    packed = gzip.compress(text[:20]) + gzip.compress(text[20:])
    assert post(packed, JSON | {"Content-Encoding": "gzip"}).status_code == 200
    assert len(recorded(store)) == 1


def test_an_empty_body_is_no_gzip_stream(post):
    assert post(b"", PROTOBUF | {"Content-Encoding": "gzip"}).status_code == 400


def test_attributes_of_a_wrong_type_and_unknown_kinds_cost_no_other_span(post, store):
    wrong = {"attributes": [{"key": "aiops_lab.peer", "value": {"boolValue": [1]}}]}
    assert post(request_of({}, wrong), JSON).status_code == 200
    assert len(recorded(store)) == 2
    message = trace_service.ExportTraceServiceRequest.FromString(protobuf_of(5))
    message.resource_spans[0].scope_spans[0].spans[0].kind = -7
    assert post(message.SerializeToString(), PROTOBUF).status_code == 200
    assert len(recorded(store)) == 2


def test_many_objects_in_few_bytes_are_refused(post, monkeypatch):
    monkeypatch.setattr(otlp, "MOST_OBJECTS", 3)
    answer = post(request_of({}, {}, {}), JSON)
    assert (answer.status_code, message_of(answer)) == (
        413,
        "body must have at most 3 objects, got more",
    )


def test_a_body_in_chunks_is_read(post, store):
    text = json.dumps(request_of()).encode()
    chunks = (part for part in (text[:100], text[100:]))
    assert post(chunks, JSON).status_code == 200
    assert len(recorded(store)) == 1


def test_an_empty_request_is_answered(post):
    assert post({}, JSON).json() == {}
    assert post(b"", PROTOBUF).status_code == 200


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traceId": "0" * 32}, "1 without an id"),
        ({"endTimeUnixNano": "0"}, "1 without an end"),
        ({"startTimeUnixNano": "1"}, "1 with a start outside 1990 to 2100"),
        ({"kind": 77}, "1 of an unknown kind"),
        (
            {"attributes": [{"key": "aiops_lab.endpoint", "value": {"intValue": "5"}}]},
            "1 with attributes aiops_lab.… of a wrong type",
        ),
        (
            {"attributes": [{"key": "aiops_lab.status", "value": {"intValue": 1 << 70}}]},
            "1 with attributes aiops_lab.… of a wrong type",
        ),
    ],
)
def test_what_cannot_be_used_is_rejected_with_the_reason(post, store, change, reason):
    answer = post(request_of({}, change), JSON)
    assert answer.status_code == 200
    partial = {"rejectedSpans": "1", "errorMessage": reason}
    assert answer.json() == {"partialSuccess": partial}
    assert len(recorded(store)) == 1
    assert post(request_of({"spanId": "00ff"}), JSON).json() == {}


def test_partial_success_as_protobuf(post):
    answer = post(protobuf_of(5, -7), PROTOBUF)
    partial = trace_service.ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message == "1 that end before they start"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "body must be JSON"),
        (b"\xff\xfe\x00", "body must be JSON"),
        (b"[" * 4_900, "body must be JSON"),
        ([], "body must be an object"),
        ({"resourceSpans": 5}, "resourceSpans must be an array, got 5"),
        (request_of({"traceId": "x"}), "scopeSpans[0].spans[0].traceId must be at most 32"),
    ],
)
def test_json_that_cannot_be_read_is_a_status_400(post, store, body, sentence):
    answer = post(body, JSON)
    assert answer.status_code == 400
    assert message_of(answer).startswith(sentence)
    assert answer.json()["code"] == 3
    assert recorded(store).empty


def test_protobuf_that_cannot_be_read_is_a_status_400(post):
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    answer = post(b"\x0a\xff", PROTOBUF)
    assert answer.status_code == 400
    status = status_pb2.Status.FromString(answer.content)
    assert status.code == 3
    assert status.message.startswith("body must be an ExportTraceServiceRequest")


@pytest.mark.parametrize("cut", [b"no gzip", gzip.compress(b"{}", mtime=0)[:-9]])
def test_gzip_that_is_damaged_is_refused(post, cut):
    assert post(cut, JSON | {"Content-Encoding": "gzip"}).status_code == 400


def test_a_body_is_bounded_as_sent_and_as_unpacked(post):
    large = b" " * (LIMIT + 1)
    assert post(large, JSON).status_code == 413
    chunks = (part for part in (large, b"{}"))
    assert post(chunks, JSON).status_code == 413
    bomb = gzip.compress(b"0" * 3_000_000)
    assert len(bomb) < LIMIT
    answer = post(bomb, JSON | {"Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert message_of(answer) == f"body must be at most {LIMIT} bytes when unpacked, got more"


def test_the_limits_of_an_app_are_for_its_other_requests(store, monkeypatch):
    monkeypatch.setattr(body_of_request, "BODY_MAX", 10)
    app = Flask("receiver")
    app.config["MAX_CONTENT_LENGTH"] = 10
    api.json_errors(app)
    app.add_url_rule("/", view_func=lambda: "", methods=["POST"])
    app.register_blueprint(otlp_receiver(store))
    client = app.test_client()
    assert client.post("/v1/traces", json=request_of()).status_code == 200
    assert client.post("/", json=request_of()).status_code == 413
    assert len(recorded(store)) == 1


def test_no_more_than_the_limit_is_unpacked(monkeypatch):
    sizes = []
    real = otlp.zlib.decompressobj

    class Watched:
        def __init__(self, **options):
            self.inner = real(**options)

        def decompress(self, body, size):
            sizes.append(size)
            return self.inner.decompress(body, size)

    monkeypatch.setattr(otlp.zlib, "decompressobj", Watched)
    app = Flask("receiver")
    headers = {"Content-Encoding": "gzip"}
    with app.test_request_context(headers=headers), pytest.raises(Exception, match="at most 9"):
        otlp._unpacked(gzip.compress(b"0" * 100), 9)
    assert sizes == [10]


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, JSON | {"Content-Encoding": "br"}],
)
def test_what_is_neither_json_nor_protobuf_is_a_415(post, headers):
    answer = post(request_of(), headers)
    assert answer.status_code == 415
    assert "must be" in message_of(answer)


def test_without_the_package_of_messages_json_is_asked_for(post, monkeypatch):
    monkeypatch.setattr(otlp, "_messages", lambda: None)
    answer = post(protobuf_of(5), PROTOBUF)
    assert answer.status_code == 415
    assert 'pip install -e ".[formats]"' in message_of(answer)
    assert post(request_of(), JSON).status_code == 200


def test_without_the_token_nothing_is_taken(post, store):
    answer = post(request_of(), JSON, token="Secret")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert post(request_of(), JSON | {"Authorization": "Basic secret"}).status_code == 401
    assert post(request_of(), JSON | {"Authorization": "Bearer é"}).status_code == 401
    assert recorded(store).empty


@pytest.mark.parametrize("header", ["Origin", "Host"])
def test_a_page_of_somebody_else_is_refused(post, store, header):
    value = {"Origin": "http://evil.example", "Host": "evil.example"}[header]
    answer = post(request_of(), JSON | {header: value})
    assert answer.status_code == 403
    assert message_of(answer).startswith(f"{header} must be")
    assert post(request_of(), JSON | {"Origin": "null"}).status_code == 403
    assert recorded(store).empty
    own = {"Origin": "http://localhost:5000", "Host": "localhost:5000"}
    assert post(request_of(), JSON | own).status_code == 200
    beside = own | {"Origin": "http://localhost:3000"}  # of another program on this machine
    assert post(request_of(), JSON | beside).status_code == 403


def test_a_page_of_the_public_address_sends_traces_behind_a_proxy_with_its_own_host(store):
    app = Flask("receiver")
    app.register_blueprint(otlp_receiver(store, public_url="https://lab.example"))
    sent = {"path": "/v1/traces", "method": "POST", "json": request_of()}
    for origin, status in ("https://lab.example", 200), ("http://lab.example", 403):
        assert app.test_client().open(**sent, headers={"Origin": origin}).status_code == status


class Kept(io.BytesIO):
    def close(self):
        pass


def test_a_refused_body_is_read_so_that_its_sender_reads_the_answer(store):
    app = Flask("receiver")
    app.register_blueprint(otlp_receiver(store, limit_bytes=LIMIT))
    stream = Kept(b" " * 100_000)
    answer = app.test_client().post(
        "/v1/traces", input_stream=stream, content_length=100_000, content_type="application/json"
    )
    assert answer.status_code == 413
    assert stream.tell() == 100_000


def test_a_full_store_asks_to_send_again(store, post, monkeypatch):
    monkeypatch.setattr(SpanStore, "room", 1)
    answer = post(request_of({}, {}), JSON)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert recorded(store).empty
    assert post(request_of(), JSON).status_code == 200


def test_room_is_what_the_buffer_takes():
    with SpanStore(":memory:", flush_s=600, batch=5, capacity=5) as store:
        assert store.room == 5
        spans = request_of()
        app = Flask("receiver")
        app.register_blueprint(otlp_receiver(store))
        app.test_client().post("/v1/traces", json=spans)
        assert store.room == 4


def test_the_receiver_is_no_traffic(store):
    app = Flask("lab")
    app.register_blueprint(otlp_receiver(store))
    client = instrument(app, store, "lab").test_client()
    assert client.post("/v1/traces", json=request_of()).status_code == 200
    assert [*recorded(store)["service"]] == ["orders"]


def test_other_methods_are_a_405_in_json(post, store):
    app = Flask("receiver")
    app.register_blueprint(otlp_receiver(store))
    assert app.test_client().get("/v1/traces").status_code == 405


@pytest.mark.parametrize(
    ("name", "value"),
    [("token", ""), ("token", 5), ("limit_bytes", 0), ("hosts", "localhost")],
)
def test_a_wrong_parameter_is_named(store, name, value):
    with pytest.raises(ValueError, match=name):
        otlp_receiver(store, **{name: value})
