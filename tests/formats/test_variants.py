"""JSON as other tools write it, beside what their specification says."""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab

NS = 1_767_225_600_000_000_000  # 2026-01-01
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def read(*documents: Any) -> pd.DataFrame:
    text = "\n".join(map(json.dumps, documents))
    return lab.read_spans(io.BytesIO(text.encode()))


def otlp(status: Any = None) -> dict[str, Any]:
    span = {
        "traceId": TRACE,
        "spanId": "00f067aa0ba902b7",
        "name": "GET /a",
        "kind": 2,
        "startTimeUnixNano": str(NS),
        "endTimeUnixNano": str(NS + 5),
        "attributes": [{"key": "http.status_code", "value": status or {"intValue": "200"}}],
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([[otlp(), {"resourceSpans": []}]], id="an array of documents"),
        pytest.param([{"trace": otlp()}], id="the second interface of Tempo"),
        pytest.param([{"resourceMetrics": [{}]}, otlp(), {"resourceLogs": []}], id="metrics first"),
    ],
)
def test_spans_are_found_in_what_stands_around_them(documents: list[Any]) -> None:
    assert read(*documents)["span_id"].tolist() == ["00f067aa0ba902b7"]


def test_a_file_of_metrics_is_no_file_of_spans() -> None:
    with pytest.raises(ValueError, match="got an object with .'resourceMetrics'."):
        read({"resourceMetrics": [{}]})


@pytest.mark.parametrize("value", [{"doubleValue": 503.0}, {"stringValue": "503"}])
def test_a_status_is_a_number_however_it_is_written(value: dict[str, Any]) -> None:
    assert read(otlp(value))["status"].tolist() == [503]


def zipkin(trace: str, number: int, parent: int | None = None) -> dict[str, Any]:
    fields = {"traceId": trace, "id": f"{number:016x}", "kind": "SERVER", "name": "a"}
    if parent is not None:
        fields["parentId"] = f"{parent:016x}"
    return {**fields, "timestamp": NS // 1000 + number, "duration": 10}


def test_a_trace_whose_id_one_service_cut_to_64_bits_is_one() -> None:
    frame = read([zipkin(TRACE, 1), zipkin(TRACE[16:], 2, parent=1), zipkin("77", 3)])
    assert frame["trace_id"].tolist() == [TRACE, TRACE, f"{0x77:032x}"]


def test_of_two_traces_that_end_alike_none_takes_a_cut_one() -> None:
    other = "f" * 16 + TRACE[16:]
    frame = read([zipkin(TRACE, 1), zipkin(other, 2), zipkin(TRACE[16:], 3)])
    assert frame["trace_id"].nunique() == 3


def test_what_a_span_refers_to_in_another_trace_is_no_parent() -> None:
    def reference(trace: str, number: int) -> dict[str, Any]:
        return {"refType": "CHILD_OF", "traceID": trace, "spanID": f"{number:x}"}

    span = {
        "traceID": TRACE,
        "spanID": "1",
        "operationName": "a",
        "references": [reference("ff", 2), reference(TRACE[16:], 3)],
        "startTime": NS // 1000,
        "duration": 5,
        "process": {"serviceName": "web"},
    }
    frame = read(span)
    assert frame["parent_id"].tolist() == [f"{3:016x}"]
    assert frame["links"].tolist() == [f"{2:016x}"]
