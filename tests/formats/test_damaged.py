"""What is damaged, too large or something else is refused: the file, the place and the rule."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.formats.files import read_batches
from aiops_lab.formats.recognize import FORMATS
from aiops_lab.spans import COLUMNS

NS = 1_767_225_600_000_000_000  # 2026-01-01

SPANS = [
    lab.Span(
        f"{number:032x}",
        f"{number:016x}",
        None,
        "shop",
        "/pay",
        "server",
        None,
        NS + number,
        5_000_000,
        200,
        None,
    )
    for number in range(1, 21)
]

OTLP_SPAN = {
    "traceId": "1" * 32,
    "spanId": "2" * 16,
    "name": "GET /pay",
    "kind": 2,
    "startTimeUnixNano": str(NS),
    "endTimeUnixNano": str(NS + 1000),
}


def otlp(**changes):
    span = {**OTLP_SPAN, **changes}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def jaeger(**changes):
    span = {
        "traceID": "1",
        "spanID": "2",
        "operationName": "/pay",
        "startTime": NS // 1000,
        "duration": 5,
        "processID": "p1",
        **changes,
    }
    return {"data": [{"spans": [span], "processes": {"p1": {"serviceName": "shop"}}}]}


def zipkin(**changes):
    return [{"traceId": "1", "id": "2", "timestamp": NS // 1000, "duration": 5, **changes}]


def read(content):
    """Read bytes, or a value as JSON, as a file called trace.json."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    stream = io.BytesIO(data)
    stream.name = "trace.json"
    return lab.read_spans(stream)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (otlp(traceId="zz"), r"resourceSpans\[0\].scopeSpans\[0\].spans\[0\].traceId must be at m"),
        (otlp(traceId="1" * 33), "traceId must be at most 32 hexadecimal digits"),
        (otlp(spanId=7), "spanId must be at most 16 hexadecimal digits, got 7"),
        (otlp(startTimeUnixNano="soon"), r"startTimeUnixNano must be a whole number, got 'soon'"),
        (otlp(endTimeUnixNano={}), r"endTimeUnixNano must be a whole number"),
        (otlp(attributes={}), r"spans\[0\].attributes must be an array"),
        (otlp(attributes=["x"]), r"attributes must have a key and a value each"),
        (otlp(attributes=[{"key": "http.route", "value": 3}]), "must have a key and a value each"),
        (otlp(status=[]), r"status must be an object, got \[\]"),
        (otlp(name=3), "name must be text, got 3"),
        (otlp(kind=[]), r"kind must be a number or a name, got \[\]"),
        (otlp(links=[{"spanId": "x"}]), "links.spanId must be at most 16"),
        ({"resourceSpans": [3]}, r"resourceSpans\[0\].resourceSpans must be an object, got 3"),
        (jaeger(processID="p7"), r"data\[0\].spans\[0\].processID must be one of \['p1'\]"),
        (jaeger(startTime="x"), "startTime must be a whole number"),
        (jaeger(duration=1.5), "duration must be a whole number, got 1.5"),
        (jaeger(tags={"a": 1}), "tags must be an array"),
        (jaeger(references=[3]), "references must be an object, got 3"),
        (zipkin(timestamp=[]), r"\[0\].timestamp must be a whole number"),
        (zipkin(tags=[]), r"\[0\].tags must be an object"),
        (zipkin(localEndpoint={"ipv4": 7}), "localEndpoint.ipv4 must be text, got 7"),
        (zipkin(localEndpoint="shop"), "localEndpoint must be an object, got 'shop'"),
        (zipkin(id="0x12"), "id must be at most 16 hexadecimal digits"),
        (otlp(traceId="é" * 22 + "=="), "traceId must be hexadecimal digits, or base64"),
        (
            zipkin(binaryAnnotations=[]),
            r"\[0\].binaryAnnotations must not be there, as in version 2",
        ),
        (
            zipkin(annotations=[{"endpoint": {}}]),
            "annotations must have no endpoint, as in version",
        ),
        (zipkin(annotations=[3]), "annotations must be an object, got 3"),
        (
            {"result": {"resourceSpans": [{}, {"scopeSpans": 3}]}},
            r"resourceSpans\[1\].scopeSpans must be an array, got 3",
        ),
    ],
)
def test_a_field_of_a_wrong_type_is_named_with_file_and_line(content, told):
    with pytest.raises(ValueError, match=f"^trace.json, line 1: .*{told}"):
        read(content)


def test_the_line_is_that_on_which_the_value_begins():
    lines = [json.dumps(otlp()), "", json.dumps(otlp(traceId="x"))]
    with pytest.raises(ValueError, match="^trace.json, line 3: "):
        read("\n".join(lines).encode())
    pretty = json.dumps([*zipkin(), *zipkin(tags=3)], indent=1).encode()
    with pytest.raises(ValueError, match=r"^trace.json, line 8: \[1\].tags must be an object"):
        read(pretty)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "must hold spans, got an empty file"),
        (b'{"data": [{"spans": [', "line 1, column 22, must be JSON .Expecting value.*cut off"),
        (
            b'{"data": [\n\n {"spans": nul}]}',
            "line 3, column 12, must be JSON .Expecting value.*got 'nul}]}'",
        ),
        (b'[{"traceId": "1", "id": "2", "times', "Unterminated string"),
        (b'[{"traceId": "1", "id": "2"} {"traceId"', "line 1, column 30, must be JSON with ','"),
        (b'{"a": 1}', r"got an object with \['a'\]"),
        (b'{"result": 3}', r"got an object with \['result'\]"),
        (b"[1, 2]", r"must be JSON of one of otlp, jaeger, zipkin, got at \[0\] int"),
        (b'{"resourceMetrics": []}', r"got an object with \['resourceMetrics'\]"),
        (b"[" * 100_000, "must not be nested as deep as this"),
        (b'{"data": [' + b'{"a":' * 100_000, "must not be nested as deep as this"),
        (b'[{"traceId": "1", "id": ' + b"9" * 5000 + b"}]", "at most 4,300 digits"),
        ('[{"traceId": "1", "id": "2", "name": "é"}]'.encode("latin-1"), "must be UTF-8, got byte"),
        ('[{"traceId": "1"}]'.encode("utf-16"), "must be UTF-8, got UTF-16"),
        (
            b"hello, world\n",
            "must hold traces as csv with .*, or as one of parquet, otlp.* got 'hello",
        ),
        (b"\x28\xb5\x2f\xfd....", "is compressed with zstd: decompress it first"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"SQLite format 3\0", r"is a database: SpanStore\(path\).spans\(\) reads a store"),
        (gzip.compress(b"[]", mtime=0)[:-6], "is cut off: its gzip stream has no end"),
        (gzip.compress(b"[]", mtime=0)[:-8] + b"12345678", "is damaged: CRC check failed"),
        (b"\x1f\x8b" + b"\xff" * 20, "is damaged"),
    ],
)
def test_what_is_no_whole_file_of_spans_is_refused(content, told):
    with pytest.raises(ValueError, match=f"^trace.json.*{told}"):
        read(content)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_refused_or_reads_as_its_beginning(form, share, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    if form == "otlp-protobuf":
        pytest.importorskip("opentelemetry.proto")
    lab.write_spans(lab.to_frame(SPANS), tmp_path / "whole", form)
    data = (tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut.json"
    cut.write_bytes(data[: int(len(data) * share)])
    if form == "csv":  # a row has no end of its own, and 5.0 may be cut off to 5
        with contextlib.suppress(ValueError):
            assert len(lab.read_spans(cut)) <= len(SPANS)
        return
    with pytest.raises(ValueError, match=r"^cut\.json"):
        lab.read_spans(cut)


def test_a_byte_order_mark_is_passed():
    assert len(read(b"\xef\xbb\xbf" + json.dumps(zipkin()).encode())) == 1


@pytest.mark.parametrize("url", ["https://example.com/trace.json", "s3://bucket/trace.json"])
def test_a_url_is_refused(url, tmp_path):
    with pytest.raises(ValueError, match="path must be a local file"):
        lab.read_spans(url)
    with pytest.raises(ValueError, match="path must be a local file"):
        lab.write_spans(lab.to_frame(SPANS), url, "otlp")


def test_a_folder_and_a_stream_of_text_are_refused(tmp_path):
    with pytest.raises(ValueError, match="path must be a file, not a folder"):
        lab.read_spans(tmp_path)
    with pytest.raises(ValueError, match="path must be a stream of bytes"):
        lab.read_spans(io.StringIO("[]"))
    with pytest.raises(ValueError, match="path must be a path, or a stream of bytes, got 3"):
        lab.read_spans(3)


def test_a_text_that_parquet_holds_once_takes_its_memory_once(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = 4_000  # 400 MB of text
    frame = lab.to_frame(SPANS[:1])
    frame = frame.loc[frame.index.repeat(rows)].reset_index(drop=True)
    table = pyarrow.Table.from_pandas(frame[list(COLUMNS)].drop(columns="error"))
    code = pyarrow.array(np.zeros(rows, dtype=np.int32))
    errors = pyarrow.DictionaryArray.from_arrays(code, ["x" * 100_000])
    file = tmp_path / "x.parquet"
    table = table.append_column("error", errors)
    pyarrow.parquet.write_table(table, file, store_schema=False)
    assert file.stat().st_size < 1_000_000
    back = lab.read_spans(file, max_bytes=100_000_000)
    assert len(set(map(id, back["error"]))) == 1


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        lab.read_spans(tmp_path / "no.json")


HEADER = b"trace_id,span_id,parent_id,service,endpoint,kind,peer,start,duration_ms,status,error\n"


@pytest.mark.parametrize("content", [b"[" + b" " * (32 << 20), HEADER + b"," * (32 << 20)])
def test_a_gzip_bomb_is_refused_before_it_is_unpacked(content):
    bomb = gzip.compress(content, compresslevel=1)
    with pytest.raises(ValueError, match=r"must not be more than max_ratio=200 times as large"):
        read(bomb)


def test_limits_are_arguments(tmp_path):
    file = tmp_path / "trace.json.gz"
    lab.write_spans(lab.to_frame(SPANS), file, "zipkin")
    assert len(lab.read_spans(file)) == len(SPANS)
    with pytest.raises(ValueError, match=r"must be at most max_bytes=1,000 bytes after decompress"):
        lab.read_spans(file, max_bytes=1000)
    with pytest.raises(ValueError, match=r"max_bytes must be a whole number between 1 and"):
        lab.read_spans(file, max_bytes=0)
    with pytest.raises(ValueError, match=r"max_ratio must be a number between 1 and"):
        lab.read_spans(file, max_ratio=0.5)


CSV = """\
trace_id,span_id,parent_id,service,endpoint,kind,peer,start,duration_ms,status,error
1,1,,shop,/pay,server,,2026-01-01T00:00:00.000000000+00:00,5.0,500,"two
lines"
2,2,,shop,/pay,server,,2026-01-01T00:00:00.000000000+00:00,5.0,200,
"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("5.0,200", "fast,200", "line 4: duration_ms must be a number, got 'fast'"),
        ("5.0,200", "5.0,OK", "line 4: status must be a whole number, got 'OK'"),
        ("5.0,200", "5.0,20.5", "line 4: status must be a whole number, got '20.5'"),
        ("5.0,500", "5.0,99", "line 2: column 'status' must be 0 .* got 99$"),
        ("5.0,200", "5.0,99", "line 4: column 'status' must be 0 .* got 99$"),
        ("5.0,200", "5.0,inf", "line 4: status must be a whole number, got 'inf'"),
        ("2026-01-01T00:00:00.000000000+00:00,5.0,200", "-1,5.0,200", "line 4: start must be a"),
        ("2026-01-01T00:00:00.000000000+00:00,5.0,200", "noon,5.0,200", "line 4: start must be a"),
        ("kind", "sort", "frame must have the column 'kind'"),
        (",200,", ",200,,,", "must be CSV, got: Expected 11 fields in row 3, saw 13"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(old, new, told):
    assert len(read(CSV.encode())) == 2
    with pytest.raises(ValueError, match=f"^trace.json.*{told}"):
        read(CSV.replace(old, new).encode())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (otlp(startTimeUnixNano="0"), "without a start"),
        (otlp(startTimeUnixNano="1"), "with a start outside 1990 to 2100"),
        (otlp(endTimeUnixNano=str(NS - 1)), "that end before they start"),
        (otlp(endTimeUnixNano=str(NS + 10**16)), "of more than 30 days"),
        (otlp(kind=17), "of an unknown kind"),
        (otlp(traceId="0" * 32), "without an id"),
        (jaeger(spanID=""), "without an id"),
        (zipkin(timestamp=None), "without a start"),
        (zipkin(kind="PROXY"), "of an unknown kind"),
    ],
)
def test_what_cannot_be_used_is_counted_and_told(content, reason, caplog):
    with pytest.raises(ValueError, match=f"must have spans that can be used, got 1 {reason}"):
        read(content)
    with caplog.at_level(logging.WARNING, "aiops_lab"):
        frame = read(_together(content))
    assert frame.attrs["left_out"] == {reason: 1}
    assert len(frame) == 1
    assert f"trace.json: of 2 spans were left out: 1 {reason}" in caplog.text


def own(form, field, value):
    """A file with a span that has an attribute of this package."""
    name = f"aiops_lab.{field}"
    if form is zipkin:
        return zipkin(tags={name: value})
    if form is jaeger:
        return jaeger(tags=[{"key": name, "type": "string", "value": value}])
    kind = "intValue" if isinstance(value, int) else "stringValue"
    return otlp(attributes=[{"key": name, "value": {kind: value}}])


@pytest.mark.parametrize(
    ("form", "field", "value"),
    [
        (jaeger, "peer", [1]),
        (zipkin, "endpoint", {"a": 1}),
        (otlp, "endpoint", 5),
        (otlp, "endpoint", ""),
        (zipkin, "kind", "proxy"),
        (otlp, "kind", "server "),
        (otlp, "status", 99),
        (jaeger, "status", 600),
        (zipkin, "first_byte_ns", -1),
        (otlp, "first_byte_ns", 31 * 86_400 * 10**9),
    ],
)
def test_attributes_of_this_package_that_cannot_be_cost_no_other_span(form, field, value):
    reason = "with attributes aiops_lab.… of a wrong type"
    frame = read(_together(own(form, field, value)))
    assert frame.attrs["left_out"] == {reason: 1}
    assert len(frame) == 1


def test_half_characters_are_replaced():
    tags = {"peer.service": "a\ud800"}
    frame = read(zipkin(kind="CLIENT", tags=tags))
    assert frame["peer"].tolist() == ["a?"]
    rows = [{"key": key, "value": value} for key, value in tags.items()]
    rows.append({"key": "span.kind", "value": "client"})
    assert read(jaeger(tags=rows))["peer"].tolist() == ["a?"]


@pytest.mark.parametrize(
    ("value", "kind"), [("sr", "server"), ("cs", "client"), ("mr", "consumer"), ("x", "internal")]
)
def test_annotations_of_old_zipkin_clients_tell_the_kind(value, kind):
    annotations = [{"value": "note"}, {"value": value}, {"value": "ss"}]
    assert read(zipkin(annotations=annotations))["kind"].tolist() == [kind]
    told = zipkin(kind="CONSUMER", annotations=annotations)
    assert read(told)["kind"].tolist() == ["consumer"]


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("trace_id", [["1"]], "column 'trace_id' must hold plain values, got .*list"),
        ("status", [20.5], "column 'status' must be whole numbers|must not be missing"),
        ("status", [True], "column 'status' must be whole numbers, got bool"),
        ("start", pd.to_datetime(["0001-01-01"]).tz_localize("UTC"), "column 'start' must not be"),
        ("kind", ["proxy"], "column 'kind' must be one of .* got 'proxy' in row 0"),
    ],
)
def test_a_wrong_column_of_parquet_is_named(column, values, told, tmp_path):
    pytest.importorskip("pyarrow.parquet")
    frame = lab.to_frame(SPANS[:1]).assign(**{column: values})
    frame.to_parquet(tmp_path / "trace.json")
    with pytest.raises(ValueError, match=f"^trace.json: {told}"):
        lab.read_spans(tmp_path / "trace.json")


def test_a_wrong_row_of_parquet_is_counted_from_the_beginning_of_the_file(tmp_path):
    pytest.importorskip("pyarrow.parquet")
    frame = lab.to_frame(SPANS)
    frame.loc[17, "status"] = 99
    frame.to_parquet(tmp_path / "trace.json")
    with pytest.raises(ValueError, match="got 99 in row 17"):
        [*read_batches(tmp_path / "trace.json", 5)]


def _together(content):
    """The content with a good span before it."""
    if isinstance(content, list):
        return [*zipkin(), *content]
    if "data" in content:
        return {"data": [*jaeger()["data"], *content["data"]]}
    return {"resourceSpans": [*otlp()["resourceSpans"], *content["resourceSpans"]]}


def test_an_answer_without_spans_is_an_empty_frame():
    for nothing in ([], {"data": []}, {"data": None, "errors": []}, {"resourceSpans": []}, {}):
        frame = read(nothing)
        assert len(frame) == 0
        pd.testing.assert_frame_equal(lab.check(frame), frame)


@pytest.mark.parametrize("form", FORMATS)
def test_batches_hold_the_same_spans(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    if form == "otlp-protobuf":
        pytest.importorskip("opentelemetry.proto")
    lab.write_spans(lab.to_frame(SPANS), tmp_path / "file", form)
    frames = [*read_batches(tmp_path / "file", 7)]
    assert [len(frame) for frame in frames] == [7, 7, 6]
    ids = np.concatenate([frame["span_id"].to_numpy() for frame in frames])
    assert sorted(ids) == sorted(span.span_id for span in SPANS)


def test_unfit_ids_unknown_formats_and_folders_are_refused_when_writing(tmp_path):
    odd = lab.to_frame([SPANS[0]._replace(trace_id="abc")])
    with pytest.raises(ValueError, match="column 'trace_id' must be 32 hexadecimal digits.*row 0"):
        lab.write_spans(odd, tmp_path / "x.jsonl")
    frame = lab.to_frame(SPANS)
    with pytest.raises(ValueError, match="format must be one of csv, parquet, otlp, .* got 'xml'"):
        lab.write_spans(frame, tmp_path / "x", "xml")
    with pytest.raises(ValueError, match=r"format must be given as one of .* ends in '\.json'"):
        lab.write_spans(frame, tmp_path / "x.json")
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        lab.write_spans(frame, tmp_path / "no" / "x.jsonl")
    with pytest.raises(ValueError, match=r"path must not end in \.gz"):
        lab.write_spans(frame, tmp_path / "x.parquet.gz")
    assert [*tmp_path.iterdir()] == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "x.jsonl"
    lab.write_spans(lab.to_frame(SPANS), file)
    before = file.read_bytes()

    def fail(value):
        raise OSError("no space left")

    monkeypatch.setattr("aiops_lab.formats.writing._json", fail)
    with pytest.raises(OSError, match="no space left"):
        lab.write_spans(lab.to_frame(SPANS), file)
    assert file.read_bytes() == before
    assert [*tmp_path.iterdir()] == [file]
