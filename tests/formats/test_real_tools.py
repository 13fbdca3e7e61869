"""What OpenTelemetry's own SDK exports is read: the same spans from protobuf, and from its JSON."""

from __future__ import annotations

import struct

import pandas as pd
import pytest

import aiops_lab as lab

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.common")

from google.protobuf.json_format import MessageToJson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, StatusCode

from tests.support.columnar import plain


def tracer(service, exporter):
    attributes = {"service.name": service, "service.instance.id": f"{service}-1"}
    provider = TracerProvider(resource=Resource.create(attributes))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


@pytest.fixture(scope="module")
def request_():
    """An ExportTraceServiceRequest of an order whose payment's statement was cancelled."""
    exporter = InMemorySpanExporter()
    shop, pay = tracer("shop", exporter), tracer("pay", exporter)
    order = {"http.request.method": "GET", "http.route": "/orders/{id}"}
    call = {
        "http.request.method": "POST",
        "url.full": "http://pay:8080/pay/77",
        "server.address": "pay",
        "server.port": 8080,
        "http.response.status_code": 503,
        "error.type": "503",
    }
    served = {"http.route": "/pay/{id}", "http.response.status_code": 503}
    query = {"db.system.name": "postgresql", "db.query.text": "SELECT a FROM t WHERE id = 7"}
    mail = {"messaging.system": "kafka", "messaging.destination.name": "mail"}
    begin = shop.start_as_current_span
    with begin("GET /orders/{id}", kind=SpanKind.SERVER, attributes=order):
        with begin("POST", kind=SpanKind.CLIENT, attributes=call) as client:
            client.set_status(StatusCode.ERROR)
            with (
                pay.start_as_current_span("POST", kind=SpanKind.SERVER, attributes=served),
                pytest.raises(TimeoutError),
                pay.start_as_current_span("SELECT", kind=SpanKind.CLIENT, attributes=query),
            ):
                raise TimeoutError("canceling statement")
        with begin("mail publish", kind=SpanKind.PRODUCER, attributes=mail) as sent:
            link = Link(sent.get_span_context())
    with begin("mail process", kind=SpanKind.CONSUMER, attributes=mail, links=[link]):
        pass
    return encode_spans(exporter.get_finished_spans())


@pytest.fixture(scope="module")
def frame(request_, tmp_path_factory):
    file = tmp_path_factory.mktemp("otlp") / "spans"
    file.write_bytes(request_.SerializeToString())
    return lab.read_spans(file)


def test_services_endpoints_and_peers_are_named(frame):
    named = plain(frame[["service", "endpoint", "kind", "peer", "instance"]])
    assert named.to_numpy().tolist() == [
        ["shop", "/orders/{id}", "server", None, "shop-1"],
        ["shop", "/pay/<id>", "client", "pay", "shop-1"],
        ["pay", "/pay/{id}", "server", None, "pay-1"],
        ["pay", "SELECT a FROM t WHERE id = ?", "client", "postgresql", "pay-1"],
        ["shop", "mail", "producer", "kafka", "shop-1"],
        ["shop", "mail", "consumer", None, "shop-1"],
    ]


def test_statuses_errors_and_links_are_told(frame):
    assert frame["status"].fillna(-1).tolist() == [200, 503, 503, 500, -1, -1]
    assert frame["error"].iloc[3] == "TimeoutError: canceling statement"
    assert frame["error"].notna().sum() == 1
    assert frame["links"].iloc[5] == frame["span_id"].iloc[4]


def test_its_json_and_the_collectors_file_have_the_same_spans(request_, frame, tmp_path):
    data = request_.SerializeToString()
    framed = struct.pack(">I", len(data)) + data
    files = {
        "json": MessageToJson(request_).encode(),  # with ids in base64
        "framed": framed,
        "appended": data + data,  # sent again: the copies count once
        "framed twice": framed + framed,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        pd.testing.assert_frame_equal(lab.read_spans(tmp_path / name), frame)


def test_what_was_written_here_is_a_message_of_the_protocol(frame, tmp_path):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    lab.write_spans(frame, tmp_path / "x.binpb")
    message = ExportTraceServiceRequest.FromString((tmp_path / "x.binpb").read_bytes())
    scopes = [scope for element in message.resource_spans for scope in element.scope_spans]
    assert sum(len(scope.spans) for scope in scopes) == len(frame)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x0a\xff\xff\xff\xff\xff\xff", "must be a length of protobuf"),
        (b"\x0a\x05\xff\xff\xff\xff\xff", "must be ResourceSpans, got"),
        (b"\x0a\x00\x12\x00", r"must be resource_spans of OTLP, got b'\\x12'"),
        (b"\x0a\xff\xff\xff\xff\x0f", "must have no message of more than"),
        (b"\x00\x00\x00\x09\x0a\x02", "must have 2 more bytes: it is cut off"),
    ],
)
def test_a_damaged_message_is_refused_with_the_byte(content, told, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match=f"^x, byte [0-9]+, {told}"):
        lab.read_spans(tmp_path / "x")
