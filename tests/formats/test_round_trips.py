"""What was recorded here comes back from each format, apart from what the table in docs names."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.formats.recognize import FORMATS
from aiops_lab.formats.writing import frame_spans

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data"
# Of the files in jaeger/ those with a status, an error or a gap that no other recording has.
JAEGER = [
    DATA / "jaeger" / f"{name}.json.gz"
    for name in ("hang", "load_shedding", "lost_spans", "refused", "two_faults")
]
FILES = [*DATA.glob("*.csv.gz"), *JAEGER, *DATA.glob("formats/orders.*")]
RECORDINGS = sorted(str(file.relative_to(DATA)) for file in FILES)
MOST = 200  # spans of a recording, about: traces from its beginning to its end, faults among them
IN_MICROSECONDS = ("jaeger", "zipkin")

ORDER = ["start", "span_id", "kind"]


def sorted_rows(frame):
    return frame.sort_values(ORDER, ignore_index=True)


@cache
def some_of(name):
    recording = lab.read_spans(DATA / name)
    step = max(len(recording) // MOST, 1)
    traces = recording["trace_id"].unique()[::step]
    chosen = recording[recording["trace_id"].isin(traces)]
    return lab.to_frame(frame_spans(chosen))


def as_held(frame, form):
    """What a format can hold of a frame: Jaeger and Zipkin have whole microseconds."""
    if form not in IN_MICROSECONDS:
        return frame
    spans = [*frame_spans(frame)]
    rounded = [
        span._replace(
            start_ns=(span.start_ns + 500) // 1000 * 1000,
            duration_ns=span.duration_ns and (span.duration_ns + 500) // 1000 * 1000,
        )
        for span in spans
    ]
    return lab.to_frame(rounded)


def optional(form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    if form == "otlp-protobuf":
        pytest.importorskip("opentelemetry.proto")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_comes_back_from_every_format(name, form, tmp_path):
    optional(form)
    if name.endswith(".binpb"):
        optional("otlp-protobuf")
    frame = some_of(name)
    lab.write_spans(frame, tmp_path / "file", form)
    back = lab.read_spans(tmp_path / "file")
    pd.testing.assert_frame_equal(sorted_rows(back), sorted_rows(as_held(frame, form)))


ALL_KINDS = [
    lab.Span(
        "0" * 31 + "1",
        f"{number:016x}",
        f"{number - 1:016x}" if number > 1 else None,
        "orders",
        endpoint,
        kind,
        peer,
        1_767_225_600_000_000_000 + number * 1000,
        duration,
        status,
        error,
        method,
        instance,
        first_byte,
        links,
    )
    for number, (
        endpoint,
        kind,
        peer,
        duration,
        status,
        error,
        method,
        instance,
        first_byte,
        links,
    ) in enumerate(
        [
            ("/orders/<id>", "server", None, 9_000_000, 200, None, "GET", "pod-1", None, None),
            ("/pay", "client", "pay", 5_000_000, 0, "ReadTimeout: slow", "POST", None, None, None),
            ("/pay", "client", None, 5_000, 404, None, None, None, None, None),
            ("SELECT ? FROM t", "client", "db:5432", 7_000, 500, "Error", None, None, None, None),
            ("emails", "producer", None, 1_000, None, None, None, None, None, None),
            ("emails", "producer", "kafka", 1_000, None, "X: é ü", None, None, None, None),
            ("emails", "consumer", None, None, None, None, None, "w", None, ("00000000000000aa",)),
            ("work", "internal", None, 1_000, None, None, None, None, None, None),
            ("work", "internal", None, 1_000, 503, "no: class here", None, None, None, None),
            ("a line", "log", None, 0, None, None, None, None, None, None),
            ("(unmatched)", "server", None, 2_000, 404, None, "GET", None, 1_000, None),
            ("/open", "server", None, None, 0, None, None, None, None, None),
            ("/odd", "server", None, 1_000, 0, None, None, None, None, None),
            ("/told", "server", None, 1_000, 200, "Late: but answered", None, None, None, None),
        ],
        1,
    )
]


@pytest.mark.parametrize("form", FORMATS)
def test_every_kind_of_span_comes_back(form, tmp_path):
    optional(form)
    frame = lab.to_frame(ALL_KINDS)
    lab.write_spans(frame, tmp_path / "file", form)
    back = lab.read_spans(tmp_path / "file")
    want = as_held(frame, form)
    if form == "zipkin":  # which takes no duration of 0
        want["duration_ms"] = want["duration_ms"].mask(want["duration_ms"] == 0, 0.001)
    pd.testing.assert_frame_equal(sorted_rows(back), sorted_rows(want))


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "parquet"])
def test_gzip_is_told_by_content_and_gives_the_same_bytes_again(form, tmp_path):
    optional(form)
    frame = lab.to_frame(ALL_KINDS)
    for name in ("one.gz", "two.gz"):
        lab.write_spans(frame, tmp_path / name, form)
    data = (tmp_path / "one.gz").read_bytes()
    assert data == (tmp_path / "two.gz").read_bytes()
    (tmp_path / "named_otherwise").write_bytes(data)
    (tmp_path / "plain.gz").write_bytes(gzip.decompress(data))
    packed = lab.read_spans(tmp_path / "named_otherwise")
    pd.testing.assert_frame_equal(packed, lab.read_spans(tmp_path / "plain.gz"))
    assert len(packed) == len(frame)


# ---- the table of what is lost


def one(number=1, **changes):
    span = lab.Span(
        f"{number:032x}",
        f"{number:016x}",
        None,
        "shop",
        "/pay",
        "server",
        None,
        1_767_225_600_000_000_000 + number * 1_000_000,
        5_000_000,
        200,
        None,
    )
    return span._replace(**changes)


SECOND_FIRST = lab.to_frame([one(1), one(2)])[::-1]

PROBES = {
    "further columns": lab.to_frame([one()]).assign(note="x"),
    "another index": lab.to_frame([one()]).set_axis([7]),
    "another order": SECOND_FIRST.reset_index(drop=True),
    "rows twice": SECOND_FIRST.iloc[[0, 0]].reset_index(drop=True),
    "nanoseconds": lab.to_frame([one(duration_ns=5_000_001)]),
    "a length of 0": lab.to_frame([one(duration_ns=0)]),
    "open spans": lab.to_frame([one(duration_ns=None)]),
    "ids of any text": lab.to_frame([one(trace_id="order 7")]),
}
TITLES = {
    "csv": "CSV",
    "parquet": "Parquet",
    "otlp": "OTLP JSON",
    "otlp-protobuf": "OTLP protobuf",
    "jaeger": "Jaeger",
    "zipkin": "Zipkin",
}


def outcome(frame, form, file):
    """Whether a format gives back what a frame has."""
    try:
        lab.write_spans(frame, file, form)
    except ValueError:
        return "refused"
    back = lab.read_spans(file)
    back.attrs = {}
    return "kept" if back.equals(frame) else "lost"


def test_the_table_in_the_documentation_says_what_is_lost(tmp_path):
    optional("parquet")
    optional("otlp-protobuf")
    rows = [["format", *PROBES], ["---"] * (1 + len(PROBES))]
    for form, title in TITLES.items():
        found = [outcome(frame, form, tmp_path / "file") for frame in PROBES.values()]
        rows.append([title, *found])
    table = "\n".join("|" + "|".join(f" {cell} " for cell in row) + "|" for row in rows)
    told = (ROOT / "docs" / "formats.md").read_text("utf-8")
    assert table.replace("| --- ", "|---").replace("--- |", "---|") in told
