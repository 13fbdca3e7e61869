"""One story in the idiom of four tools reads as one frame."""

from __future__ import annotations

from pathlib import Path

import pytest

import aiops_lab as lab
from tests.support.columnar import plain

SAMPLES = Path(__file__).parents[2] / "data" / "formats"
FILES = sorted(file.name for file in SAMPLES.glob("orders.*"))

QUERY = "SELECT total FROM orders WHERE id = ?"
CANCELLED = "QueryCanceled: canceling statement due to timeout"

STORY = [
    ["shop", "/orders/{id}", "server", None, 200, None, "GET"],
    ["shop", "/payments/<id>", "client", "pay", 201, None, "POST"],
    ["pay", "/payments/{id}", "server", None, 201, None, "POST"],
    ["pay", QUERY, "client", "db:5432", 200, None, None],
    ["shop", "mails", "producer", "queue:9092", -1, None, None],
    ["mailer", "mails", "consumer", None, -1, None, None],
    ["shop", "/orders/{id}", "server", None, 502, None, "GET"],
    ["shop", "/payments/<id>", "client", "pay", 500, None, "POST"],
    ["pay", "/payments/{id}", "server", None, 500, CANCELLED, "POST"],
    ["pay", QUERY, "client", "db:5432", 500, CANCELLED, None],
    ["shop", "/v1/events", "client", "alerts.example.com", 0]
    + ["ConnectionError: connection refused", "POST"],
]
COLUMNS = ["service", "endpoint", "kind", "peer", "status", "error", "method"]


def read(name):
    if name.endswith(".binpb"):
        pytest.importorskip("opentelemetry.proto")
    return lab.read_spans(SAMPLES / name)


def test_there_is_a_sample_of_each_format_of_others():
    endings = {name.removeprefix("orders.") for name in FILES}
    assert endings == {"otlp.jsonl", "otlp.binpb", "jaeger.json", "zipkin.json"}


@pytest.mark.parametrize("name", FILES)
def test_each_tells_the_same_story(name):
    frame = read(name)
    told = frame.assign(status=frame["status"].fillna(-1))[COLUMNS]
    assert plain(told).to_numpy().tolist() == STORY
    assert frame.attrs["left_out"] == {}


@pytest.mark.parametrize("name", FILES)
def test_what_consumes_a_message_is_below_it_and_follows_from_it(name):
    consumer = plain(read(name)).iloc[5]
    assert consumer["parent_id"] == "8899aabbccddeeff"
    has_links = name != "orders.zipkin.json"
    assert consumer["links"] == ("8899aabbccddeeff" if has_links else None)


@pytest.mark.parametrize("name", FILES)
def test_calls_reach_the_services_that_answered(name):
    graph = lab.service_graph(read(name), by="service")
    calls = graph[["caller", "callee", "calls"]].to_numpy().tolist()
    assert ["shop", "pay", 2] in calls
    assert ["pay", "db:5432", 2] in calls


@pytest.mark.parametrize("name", FILES)
def test_the_statement_is_named_as_the_cause(name):
    frame = read(name)
    is_late = frame["trace_id"] == frame["trace_id"].iloc[6]
    suspects = lab.rank_root_causes(frame[~is_late], frame[is_late])
    assert (suspects[0].service, suspects[0].endpoint) == ("db:5432", QUERY)
