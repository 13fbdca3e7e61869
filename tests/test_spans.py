"""The span, the spans frame, and ids."""

import os
import random

import numpy as np
import pandas as pd
import pytest

from aiops_lab.record.trace_context import new_span_id, new_trace_id
from aiops_lab.replaying import replay
from aiops_lab.spans import COLUMNS, OPTIONAL_COLUMNS, Span, check, to_frame
from aiops_lab.traces.encode import encode
from aiops_lab.traces.graph import service_graph
from aiops_lab.traces.trees import self_time

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
    frame = to_frame([span(span_id="1", start_ns=MINUTE + 1), span(span_id="2")])
    assert frame["span_id"].tolist() == ["2", "1"]
    assert frame.index.tolist() == [0, 1]


def test_the_last_four_fields_may_be_left_out():
    short = tuple(span())[:11]
    frame = to_frame([short, span(span_id="c" * 16, method="GET", instance="host-1:99")])
    pd.testing.assert_frame_equal(to_frame([short]), to_frame([span()]))
    assert frame["method"].tolist()[1] == "GET"
    assert frame["instance"].tolist()[1] == "host-1:99"
    assert frame[["method", "instance", "first_byte_ms", "links"]].iloc[0].isna().all()


def test_links_are_ids_with_a_space_between_them_and_a_first_byte_has_its_time():
    frame = to_frame([span(first_byte_ns=2_500_000, links=("0a", "0b")), span(links=())])
    linked = frame["links"].notna()
    assert frame["first_byte_ms"][linked].tolist() == [2.5]
    assert frame["links"][linked].tolist() == ["0a 0b"]
    assert linked.sum() == 1


@pytest.mark.parametrize("fields", [10, 16])
def test_a_tuple_of_another_length_is_refused(fields):
    with pytest.raises(ValueError, match=f"a span must have 11 to 15 fields, got {fields}"):
        to_frame([(*span(), 0)[:fields]])


def test_a_span_handed_over_again_counts_once():
    spans = [span(), span(span_id="c" * 16), span(duration_ns=None, start_ns=MINUTE + 1)]
    pd.testing.assert_frame_equal(to_frame(spans * 3), to_frame(spans))


def test_two_spans_with_one_id_that_differ_are_two_spans():
    halves = [span(kind="client", peer="shop"), span(), span(start_ns=MINUTE + 5)]
    once, again = to_frame(halves), to_frame([*reversed(halves), *halves])
    assert once["kind"].tolist() == ["client", "server", "server"]
    pd.testing.assert_frame_equal(once, again)


def test_a_kind_without_http_may_have_no_status():
    frame = check(to_frame([span(kind="internal", status=None), span(span_id="c" * 16)]))
    assert frame["status"].isna().tolist() == [True, False]
    assert self_time(frame).tolist() == [1.5, 1.5]
    found = encode(frame)
    assert found.failed.tolist() == [False, False]
    with pytest.raises(ValueError, match="'status' must not be missing unless the kind is one of"):
        check(to_frame([span(status=None)]))


@pytest.mark.parametrize("column", OPTIONAL_COLUMNS)
def test_a_frame_without_an_optional_column_means_the_same(column):
    frame = to_frame([span(), span(span_id="c" * 16, parent_id="b" * 16, kind="client", peer="x")])
    less = check(frame.drop(columns=column))
    pd.testing.assert_series_equal(self_time(less), self_time(frame))
    pd.testing.assert_frame_equal(service_graph(less), service_graph(frame))


def test_rows_may_have_any_labels():
    frame = to_frame([span(), span(span_id="c" * 16, parent_id="b" * 16)])
    labelled = frame.set_axis(["x", "x"])
    assert self_time(labelled).tolist() == self_time(frame).tolist()
    labelled.loc["x", "status"] = [200, 7]
    with pytest.raises(ValueError, match="got 7 in row 'x'"):
        check(labelled)


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
        ("duration_ms", [float("inf")], "must be >= 0 and at most 30 days, got inf in row 0"),
        ("duration_ms", [float("-inf")], "must be >= 0 and at most 30 days, got -inf in row 0"),
        ("duration_ms", [30 * 86_400_000.5], "'duration_ms' must be >= 0 and at most 30 days"),
        ("duration_ms", pd.array([1.5], dtype="Float64"), "must be float64, got Float64"),
        ("first_byte_ms", [-1.0], "'first_byte_ms' must be >= 0 and at most 30 days"),
        ("first_byte_ms", ["1"], "'first_byte_ms' must be float64, got"),
        *(
            (
                "start",
                pd.DatetimeIndex([moment], tz="UTC").as_unit("s"),
                rf"'start' must lie in the years 1990 to 2100, got {moment} 00:00:00\+00:00 in",
            )
            for moment in ("0001-01-01", "1970-01-01", "1989-12-31", "2101-01-01", "9999-12-31")
        ),
        *(
            ("status", [code], f"column 'status' must be 0 .* or an HTTP.*, got {code} in row 0")
            for code in (-1, 1, 16, 99, 600, 2**40, 2**63)
        ),
        ("status", [True], "column 'status' must be whole numbers, got bool"),
        ("status", ["200"], "column 'status' must be whole numbers, got"),
        ("endpoint", [["/a"]], r"column 'endpoint' must be text .*, got \['/a'\] in row 0"),
        ("endpoint", pd.Categorical([7]), "column 'endpoint' must be text .*, got 7 in row 0"),
        (
            "span_id",
            pd.Series([7], dtype=object),
            "column 'span_id' must be text .*, got 7 in row 0",
        ),
        ("error", [b"boom"], "column 'error' must be text .*, got b'boom' in row 0"),
        ("links", [("0a", "0b")], "column 'links' must be text"),
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


@pytest.mark.parametrize("moment", ["1990-01-01", "2100-12-31T23:59:59.999999999"])
def test_times_of_the_years_1990_to_2100_are_possible(moment):
    check(to_frame([span(start_ns=pd.Timestamp(moment).value, duration_ns=30 * 86_400 * 10**9)]))


@pytest.mark.parametrize("value", [["/a"], 7, b"x"])
def test_a_text_that_is_none_is_refused_by_name_before_any_analysis(value):
    with pytest.raises(ValueError, match="column 'endpoint' must be text"):
        check(to_frame([span(), span(span_id="c" * 16, endpoint=value)]))


def test_a_replay_refuses_a_span_without_a_time():
    with pytest.raises(ValueError, match="'start' must lie in the years 1990 to 2100, got 1970"):
        replay(to_frame([span(), span(start_ns=0)]))


def test_a_column_that_is_there_twice_is_refused():
    frame = to_frame([span()])
    twice = pd.concat([frame, frame[["kind"]]], axis=1)
    with pytest.raises(ValueError, match="the column 'kind' once"):
        check(twice)


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
    new_trace_id(), new_span_id()  # then others are made already
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, (new_trace_id() + new_span_id()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    made = os.read(reading, 48).decode()
    assert made[:32] != new_trace_id()
    assert made[32:] != new_span_id()
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("start_ns", None, "must be a whole number, got None"),
        ("start_ns", "12", "must be a whole number, got '12'"),
        ("start_ns", True, "must be a whole number, got True"),
        ("start_ns", 1.5, "must be a whole number, got 1.5"),
        ("start_ns", 2**63, "must fit into 64 bits, got 9223372036854775808"),
        ("duration_ns", "12", "must be a number of nanoseconds or None, got '12'"),
        ("duration_ns", 10**400, "must be at most 30 days, got 1000"),
        ("status", "200", "must be a whole number or None, got '200'"),
        ("status", 10**30, "must fit into 64 bits, got 1000"),
        ("links", 5, "must be ids or None, got 5"),
    ],
)
def test_a_field_of_another_type_is_refused_with_its_name(field, value, rule):
    with pytest.raises(ValueError, match=f"{field} {rule}"):
        to_frame([span(span_id="c" * 16), span(**{field: value})])


@pytest.mark.parametrize("spans", [5, None, [5], ["span"], [None]])
def test_what_holds_no_spans_is_refused(spans):
    with pytest.raises(ValueError, match="spans must "):
        to_frame(spans)


def test_a_duration_of_half_precision_is_refused():
    frame = to_frame([span()]).astype({"duration_ms": "float16"})
    with pytest.raises(ValueError, match="column 'duration_ms' must be float64, got float16"):
        check(frame)
