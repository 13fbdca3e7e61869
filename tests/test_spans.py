"""The span, the spans frame, and ids."""

import os
import random

import numpy as np
import pandas as pd
import pytest

from aiops_lab.record.trace_context import new_span_id, new_trace_id
from aiops_lab.spans import COLUMNS, OPTIONAL_COLUMNS, Span, check, to_frame

MINUTE = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z


def span(**changed: object) -> Span:
    given = {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "parent_id": None,
        "service": "shop",
        "endpoint": "/payment",
        "kind": "server",
        "peer": None,
        "start_ns": MINUTE,
        "duration_ns": 1_500_000,
        "status": 200,
        "error": None,
    }
    return Span(**{**given, **changed})


def test_the_frame_has_the_span_in_its_own_units():
    frame = to_frame([span()])
    assert tuple(frame.columns) == COLUMNS + OPTIONAL_COLUMNS
    assert frame["start"].iloc[0] == pd.Timestamp("2026-01-01T00:00:00Z")
    assert frame["duration_ms"].iloc[0] == 1.5
    assert frame["status"].iloc[0] == 200


def test_the_start_keeps_its_nanoseconds():
    assert to_frame([span(start_ns=MINUTE + 1)])["start"].iloc[0].value == MINUTE + 1


def test_an_open_span_has_no_duration():
    frame = to_frame([span(duration_ns=None), span(span_id="c" * 16)])
    assert frame["duration_ms"].isna().tolist() == [True, False]


def test_rows_are_sorted_by_start_and_then_by_id():
    frame = to_frame([span(span_id="2"), span(span_id="1"), span(span_id="3", start_ns=MINUTE - 1)])
    assert frame["span_id"].tolist() == ["3", "1", "2"]
    assert frame.index.tolist() == [0, 1, 2]


def test_no_spans_are_an_ordinary_empty_frame():
    assert len(check(to_frame([]))) == 0


def test_check_returns_the_frame_itself():
    frame = to_frame([span()])
    assert check(frame) is frame


@pytest.mark.parametrize("dtype", ["str", "object", "category"])
def test_text_may_be_stored_in_three_ways(dtype):
    frame = to_frame([span(), span(span_id="c" * 16, peer="x")])
    check(frame.astype({"endpoint": dtype, "peer": dtype}))


def test_columns_of_nothing_but_missing_values_are_text():
    frame = to_frame([span()])
    frame["peer"] = np.nan
    check(frame)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("endpoint", [1], "column 'endpoint' must be text"),
        (
            "start",
            pd.to_datetime(["2026-01-01"]),
            "column 'start' must be datetime64\\[ns, UTC\\], got datetime64",
        ),
        (
            "start",
            pd.to_datetime([None], utc=True),
            "column 'start' must not be missing, got NaT in row 0",
        ),
        ("duration_ms", [1], "column 'duration_ms' must be float64, got int64"),
        (
            "duration_ms",
            [-1.0],
            "column 'duration_ms' must be >= 0 and at most 30 days.*, got -1.0 in row 0",
        ),
        ("status", [200.0], "column 'status' must be whole numbers, got float64"),
        ("kind", ["sever"], "column 'kind' must be one of .*, got 'sever'"),
        ("trace_id", [None], "column 'trace_id' must not be missing, got None in row 0"),
    ],
)
def test_check_names_the_column_the_rule_and_the_value(column, values, message):
    frame = to_frame([span()])
    frame[column] = values
    with pytest.raises(ValueError, match=message):
        check(frame)


@pytest.mark.parametrize("column", COLUMNS)
def test_check_names_a_missing_column(column):
    with pytest.raises(ValueError, match=f"frame must have the column '{column}'"):
        check(to_frame([span()]).drop(columns=column))


def test_check_wants_a_frame():
    with pytest.raises(ValueError, match="frame must be a pandas DataFrame, got list"):
        check([span()])


def test_ids_have_their_length_and_differ():
    traces, spans = ({make() for _ in range(1000)} for make in (new_trace_id, new_span_id))
    assert len(traces) == len(spans) == 1000
    assert {len(i) for i in traces} == {32}
    assert {len(i) for i in spans} == {16}
    assert all(set(i) <= set("0123456789abcdef") for i in traces | spans)


def test_a_seed_set_for_a_lesson_does_not_repeat_ids():
    random.seed(0)
    first = new_trace_id()
    random.seed(0)
    assert new_trace_id() != first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_ids_of_its_own():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_trace_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32).decode() != new_trace_id()
    os.close(reading)
    os.close(writing)
