"""What OpenTelemetry's SDK and its instrumentations record reaches a sink or a store, as spans."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import flask
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.record import own_sink
from tests.support.serving import wait_for

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode

from aiops_lab.record.otel import SinkSpanExporter, SinkSpanProcessor

ROOT = Path(__file__).parents[2]
SLOW_STATEMENT = "SELECT price(id) FROM orders WHERE id = ?"


def providing(*processors, service="orders", **options):
    """A provider of tracers, which no other test sees."""
    resource = Resource.create({"service.name": service})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, **options)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


@pytest.fixture
def spans():
    return []


@pytest.fixture
def tracer(spans):
    return providing(SinkSpanProcessor(spans.append)).get_tracer("test")


@pytest.fixture
def store(tmp_path):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        yield store


def order(tracer):
    """An order: a failed payment, a cancelled statement, a message and its consumer."""
    begin = tracer.start_as_current_span
    call = {
        "http.request.method": "POST",
        "url.full": "http://pay:8080/pay/77",
        "server.address": "pay",
        "server.port": 8080,
        "http.response.status_code": 503,
    }
    query = {"db.system.name": "postgresql", "db.query.text": "SELECT a FROM t WHERE id = 7"}
    served = {"http.request.method": "GET", "http.route": "/orders/{id}", "tags": ("a", "b")}
    with begin("GET /orders/{id}", kind=SpanKind.SERVER, attributes=served):
        with begin("POST", kind=SpanKind.CLIENT, attributes=call) as client:
            client.set_status(StatusCode.ERROR)
        with (
            pytest.raises(TimeoutError),
            begin("SELECT", kind=SpanKind.CLIENT, attributes=query),
        ):
            raise TimeoutError("cancelled")
        mail = {"messaging.system": "kafka", "messaging.destination.name": "mail"}
        with begin("mail publish", kind=SpanKind.PRODUCER, attributes=mail) as sent:
            link = Link(sent.get_span_context())
    with begin("mail process", kind=SpanKind.CONSUMER, attributes=mail, links=[link]):
        pass


# What becomes of a span.


def test_spans_are_named_by_convention(tracer, spans):
    order(tracer)
    call, query, sent, served, received = spans
    assert {span.service for span in spans} == {"orders"}
    assert (served.kind, served.endpoint, served.method) == ("server", "/orders/{id}", "GET")
    assert (served.status, served.parent_id) == (200, None)
    assert (call.endpoint, call.peer, call.status) == ("/pay/<id>", "pay:8080", 503)
    assert (call.trace_id, call.parent_id) == (served.trace_id, served.span_id)
    assert (query.endpoint, query.peer) == ("SELECT a FROM t WHERE id = ?", "postgresql")
    assert (query.status, query.error) == (500, "TimeoutError: cancelled")
    assert (sent.kind, sent.endpoint, sent.peer) == ("producer", "mail", "kafka")
    assert (received.kind, received.links) == ("consumer", (sent.span_id,))


def test_the_store_takes_all_that_the_sdk_has(store):
    order(providing(SinkSpanProcessor(store)).get_tracer("test"))
    store.flush()
    frame = lab.check(store.spans())
    assert len(frame) == 5


@pytest.mark.parametrize(
    ("told", "instance"),
    [({}, socket.gethostname()), ({"host.name": "h"}, "h"), ({"service.instance.id": "i"}, "i")],
)
def test_the_instance_is_that_of_the_resource_or_the_host(spans, told, instance):
    provider = TracerProvider(resource=Resource(told), shutdown_on_exit=False)
    provider.add_span_processor(SinkSpanProcessor(spans.append))
    order(provider.get_tracer("test"))
    assert {(span.service, span.instance) for span in spans} == {("unknown_service", instance)}


def test_live_spans_equal_those_of_an_exported_file(tmp_path):
    encoder = pytest.importorskip("opentelemetry.exporter.otlp.proto.common.trace_encoder")
    spans, memory = [], InMemorySpanExporter()
    provider = providing(SinkSpanProcessor(spans.append))
    provider.add_span_processor(BatchSpanProcessor(memory))
    order(provider.get_tracer("test"))
    provider.force_flush()
    provider.shutdown()
    file = tmp_path / "spans.otlp"
    exported = encoder.encode_spans(memory.get_finished_spans())
    file.write_bytes(exported.SerializeToString())
    read = lab.read_spans(file)
    live = lab.to_frame(spans)
    live["instance"] = read["instance"]
    read.attrs.clear()
    pd.testing.assert_frame_equal(live, read, check_dtype=False)


def test_batches_reach_the_sink(spans):
    provider = providing(BatchSpanProcessor(SinkSpanExporter(spans.append)))
    order(provider.get_tracer("test"))
    provider.force_flush()
    assert len(spans) == 5
    provider.shutdown()


def test_a_called_service_is_named_by_its_address(spans):
    processor = SinkSpanProcessor(spans.append, peers={"pay:8080": "payment"})
    order(providing(processor).get_tracer("test"))
    assert [span.peer for span in spans if span.kind == "client"] == ["payment", "postgresql"]


def test_a_list_is_no_route(tracer, spans):
    tracer.start_span("/list", kind=SpanKind.SERVER, attributes={"http.route": ("/a", "/b")}).end()
    assert spans[0].endpoint == "/list"


def test_endpoints_without_a_route_are_limited(tracer, spans):
    for number in range(505):
        with tracer.start_as_current_span(f"job {number}x{number}"):
            pass
    assert len({span.endpoint for span in spans}) == 501
    assert spans[-1].endpoint == "(other)"


def test_what_cannot_be_used_is_counted(spans):
    processor = SinkSpanProcessor(spans.append)
    tracer = providing(processor).get_tracer("test")
    tracer.start_span("late", start_time=10**18).end(10**18 - 1)
    assert spans == []
    assert processor.exporter.left_out == {"that end before they start": 1}


class RecordOnly(Sampler):
    """Records spans, for processors that count them, and has none of them exported."""

    def should_sample(self, *arguments, **options):
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self):
        return "RecordOnly"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordOnly()])
def test_a_span_that_is_not_sampled_is_not_recorded(store, sampler):
    provider = providing(SinkSpanProcessor(store), sampler=sampler)
    with provider.get_tracer("test").start_as_current_span("quiet"):
        assert store.opened == {}
    store.flush()
    assert len(store.spans()) == 0


# Open spans.


def test_a_span_is_visible_while_it_is_open(store):
    tracer = providing(SinkSpanProcessor(store)).get_tracer("test")
    begun = time.time_ns() - 5 * 10**9  # so that it is old enough to be written while open
    served = {"http.route": "/slow", "http.request.method": "GET"}
    span = tracer.start_span("GET", kind=SpanKind.SERVER, attributes=served, start_time=begun)
    wait_for(lambda: store.spans()["endpoint"].tolist() == ["/slow"])
    assert lab.check(store.spans())["duration_ms"].isna().all()
    span.end()
    wait_for(lambda: store.spans()["duration_ms"].notna().tolist() == [True])
    assert store.opened == {}


def test_a_statement_that_is_told_after_the_begin_names_the_open_span(store):
    tracer = providing(SinkSpanProcessor(store)).get_tracer("test")
    with tracer.start_as_current_span("SELECT", kind=SpanKind.CLIENT) as span:
        span.set_attribute("db.statement", "SELECT 1")
        (opened,) = store.opened.values()
        assert lab.Span(*opened).endpoint == "SELECT ?"
    assert store.opened == {}


# The contract of exporters.


def test_a_sink_that_fails_harms_nobody():
    def fail(span):
        raise OSError("disk full")

    processor = SinkSpanProcessor(fail)
    with providing(processor).get_tracer("test").start_as_current_span("job"):
        pass
    assert processor.exporter.recorder.failed == 1


def test_a_sink_that_hangs_holds_few_threads(monkeypatch):
    monkeypatch.setattr(own_sink, "SINK_PATIENCE_S", 0.01)
    go, asked = threading.Event(), []

    def hang(span):
        asked.append(span)
        go.wait(60)

    processor = SinkSpanProcessor(hang)
    tracer = providing(processor).get_tracer("test")
    threads = [threading.Thread(target=lambda: tracer.start_span("job").end()) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_for(lambda: processor.exporter.recorder.failed == 3)
    assert len(asked) == own_sink.MOST_AT_ONCE
    go.set()
    for thread in threads:
        thread.join(60)


def test_a_failed_export_is_reported(spans):
    memory = InMemorySpanExporter()
    provider = providing(BatchSpanProcessor(memory))
    order(provider.get_tracer("test"))
    provider.force_flush()
    provider.shutdown()
    finished = memory.get_finished_spans()
    assert SinkSpanExporter(spans.append).export(finished) is SpanExportResult.SUCCESS
    assert SinkSpanExporter(spans.pop).export(finished) is SpanExportResult.FAILURE


def test_after_shutdown_nothing_is_taken_and_the_store_stays_open(store):
    processor = SinkSpanProcessor(store)
    provider = providing(processor)
    order(provider.get_tracer("test"))
    provider.shutdown()
    assert len(store.spans()) == 5  # flushed
    assert processor.exporter.export([]) is SpanExportResult.FAILURE
    processor.shutdown()
    store.flush()


def test_a_flush_reaches_the_store(store):
    provider = providing(SinkSpanProcessor(store))
    order(provider.get_tracer("test"))
    assert provider.force_flush(5000)
    assert len(store.spans()) == 5


def test_a_flush_that_fails_is_reported_and_not_raised(tmp_path):
    store = lab.SpanStore(tmp_path / "spans.sqlite")
    processor = SinkSpanProcessor(store)
    store.close()
    assert not processor.force_flush()
    processor.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_records_its_own_spans_only(store):
    provider = providing(SinkSpanProcessor(store))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("parent") as span:
        child = os.fork()
        if child == 0:
            with tracer.start_as_current_span("child"):
                pass
            span.end()
            provider.force_flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    provider.force_flush()
    assert sorted(store.spans()["endpoint"]) == ["child", "parent"]


def test_without_the_sdk_the_package_is_named():
    code = """
import sys
sys.modules["opentelemetry.sdk"] = None
try:
    import aiops_lab.record.otel
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert 'pip install -e ".[otel]"' in run.stdout


# Real instrumentations.


@pytest.fixture
def orders(tmp_path):
    """The path of a database with one order."""
    path = tmp_path / "orders.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("INSERT INTO orders (name) VALUES ('Ann')")
        connection.commit()
    return path


@pytest.fixture
def instrumented_sqlite():
    """Function that instruments sqlite3 for a provider, until the end of the test."""
    module = pytest.importorskip("opentelemetry.instrumentation.sqlite3")
    instrumentor = module.SQLite3Instrumentor()
    yield lambda provider: instrumentor.instrument(tracer_provider=provider)
    instrumentor.uninstrument()


def orders_app(path, provider, slow):
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.flask")
    app = flask.Flask("orders")
    instrumentation.FlaskInstrumentor().instrument_app(app, tracer_provider=provider)

    def price(id):
        slow.wait(0.1)
        return id

    @app.get("/orders/<int:id>")
    def order(id):
        with closing(sqlite3.connect(path)) as connection:
            connection.create_function("price", 1, price)
            cursor = connection.cursor()
            cursor.execute("SELECT name FROM orders WHERE id = ?", [id])
            name = cursor.fetchone()[0]
            cursor.execute("SELECT price(id) FROM orders WHERE id = ?", [id])
            return {"name": name, "price": cursor.fetchone()[0]}

    return app


def test_a_slow_statement_of_an_instrumented_service_is_the_cause(
    orders, store, instrumented_sqlite
):
    provider = providing(SinkSpanProcessor(store))
    instrumented_sqlite(provider)
    slow = threading.Event()
    slow.set()
    client = orders_app(orders, provider, slow).test_client()
    frames = []
    for requests, is_slow in ((40, False), (20, True)):
        if is_slow:
            slow.clear()
        for _ in range(requests):
            assert client.get("/orders/1").json == {"name": "Ann", "price": 1}
        provider.force_flush()
        frames.append(store.spans())
    normal, both = frames
    abnormal = both[~both["span_id"].isin(normal["span_id"])].reset_index(drop=True)
    suspect = lab.rank_root_causes(normal, abnormal)[0]
    assert (suspect.service, suspect.endpoint) == ("sqlite", SLOW_STATEMENT)


def test_what_the_store_writes_is_not_recorded(tmp_path, instrumented_sqlite):
    spans = []
    provider = providing(SinkSpanProcessor(spans.append))
    instrumented_sqlite(provider)
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        order(providing(SinkSpanProcessor(store)).get_tracer("test"))
        store.flush()
        assert len(store.spans()) == 5
        assert type(store._db) is sqlite3.Connection
    assert spans == []
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.cursor().execute("SELECT 1")
    assert len(spans) == 1
