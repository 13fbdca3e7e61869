"""Recordings without kinds: what answers another service serves a request."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.scale.replaying import replay_partitions
from aiops_lab.traces.encode import encode
from aiops_lab.traces.graph import service_graph
from aiops_lab.traces.kinds import with_kinds
from tests.support.traces import span


def chain(number: int, kind: str = "internal", *, slow_ms: float = 0, error: str | None = None):
    """Return a request, one a second: gateway -> orders -> pay, which takes 20 ms."""
    begin, first = 1000 * number, 10 * number
    pay = 20 + number % 5 + slow_ms
    about = {"status": 200 if kind == "server" else None, "error": error, "trace": number}
    return [
        span(first, None, "ask", kind, begin, pay + 9, service="gateway", **about),
        span(first + 1, first, "place", kind, begin + 2, pay + 6, service="orders", **about),
        span(first + 2, first + 1, "charge", kind, begin + 4, pay, service="pay", **about),
    ]


def requests(first: int, last: int, kind: str = "internal", **fault) -> pd.DataFrame:
    return lab.to_frame([s for n in range(first, last) for s in chain(n, kind, **fault)])


def test_services_that_call_each_other_without_kinds_are_told_apart():
    graph = service_graph(requests(1, 31), by="service")
    pairs = [*zip(graph["caller"], graph["callee"], graph["calls"], strict=True)]
    assert pairs == [("gateway", "orders", 30), ("orders", "pay", 30)]


@pytest.mark.parametrize("fault", [{"slow_ms": 200}, {"error": "KeyError: card"}])
def test_an_incident_without_kinds_is_seen_and_explained(fault):
    frame = pd.concat([requests(1, 301), requests(301, 361, **fault)], ignore_index=True)
    (incident,) = lab.replay(frame).incidents
    assert incident.root_cause.service == "pay"


def test_a_step_of_a_service_a_job_of_its_own_and_what_is_below_a_log_serve_nobody():
    about = {"kind": "internal", "status": None}
    made = [
        span(1, None, "/a", start_ms=0, duration_ms=90, service="a", **about),
        span(2, 1, "work", start_ms=1, duration_ms=9, service="a", **about),
        span(3, 2, "work", start_ms=2, duration_ms=5, service="b", **about),
        span(4, 3, "work", start_ms=3, duration_ms=2, service="b", **about),
        span(5, 4, "logging", "log", 3, 0, service="b", status=None),
        span(6, 5, "work", start_ms=3, duration_ms=1, service="c", **about),
        span(7, None, "nightly", start_ms=0, duration_ms=9, service="b", trace=2, **about),
    ]
    spans = encode(lab.to_frame(made))
    serves = spans.texts("span_id", spans.server.nonzero()[0])
    assert [int(number, 16) for number in serves] == [1, 3]


def test_recorded_kinds_are_not_changed():
    made = [
        span(1, None, "/a", "server", 0, 20, service="web"),
        span(2, 1, "render", "internal", 1, 9, service="templates", status=None),
        span(3, 2, "escape", "internal", 2, 5, service="text", status=None),
    ]
    frame = lab.to_frame(made)
    assert with_kinds(frame) is frame


def test_a_root_that_failed_before_it_called_is_a_request_as_well():
    alone = span(99, None, "ask", "internal", 5, 3, service="gateway", trace=9, status=None)
    kinds = with_kinds(lab.to_frame([*chain(1), alone]))["kind"]
    assert kinds.tolist() == ["server"] * 4


def test_cycles_of_parents_end():
    about = {"kind": "internal", "status": None}
    made = [
        span(1, 3, "x", start_ms=0, duration_ms=9, service="a", **about),
        span(2, 1, "y", start_ms=1, duration_ms=5, service="a", **about),
        span(3, 2, "z", start_ms=2, duration_ms=5, service="b", **about),
    ]
    assert with_kinds(lab.to_frame(made))["kind"].tolist() == ["server", "internal", "server"]


def test_many_files_without_kinds_give_the_incidents_of_one_frame(tmp_path: Path):
    pytest.importorskip("pyarrow")
    frame = pd.concat([requests(1, 301), requests(301, 361, slow_ms=200)], ignore_index=True)
    lab.write_spans(frame[:450], tmp_path / "1.parquet")  # 150 requests
    lab.write_spans(frame[450:].reset_index(drop=True), tmp_path / "2.parquet")
    (expected,) = lab.replay(frame).incidents
    (incident,) = replay_partitions(tmp_path / "*.parquet", progress=False).incidents
    for name in ("id", "title", "first_detected", "affected_endpoints"):
        assert getattr(incident, name) == getattr(expected, name)
    assert incident.root_cause.support == expected.root_cause.support
