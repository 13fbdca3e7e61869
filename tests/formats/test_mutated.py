"""Whatever a file holds, it reads as spans or is refused by its name: no other error, no hang.

A valid small file of each format is changed at random: a value by one of another type, a value or
some bytes away, the end cut off, bytes by others.
"""

from __future__ import annotations

import io
import json
import signal
import threading
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aiops_lab as lab
from aiops_lab.formats.recognize import FORMATS
from tests.support.fuzzing import bounded

SAMPLES = Path(__file__).parents[2] / "data" / "formats"
NAMES = {
    "otlp": "orders.otlp.jsonl",
    "otlp-protobuf": "orders.otlp.binpb",
    "jaeger": "orders.jaeger.json",
    "zipkin": "orders.zipkin.json",
}
JSON_FORMATS = ("otlp", "jaeger", "zipkin")

EXAMPLES = 60
HANG_S = 60  # a thousand times what the reading of such a file takes

few = bounded(EXAMPLES)


@contextmanager
def ended_in_time():
    """Raise TimeoutError where the block hangs."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_):
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def spans_or_refusal(readable, name="trace.json"):
    """Read a file; return its frame, or None where it was refused by its name."""
    try:
        with ended_in_time():
            frame = lab.read_spans(readable)
    except ValueError as error:
        if not str(error).startswith(name):
            raise AssertionError(f"does not name the file: {error!r}") from error
        return None
    lab.check(frame)
    return frame


def read(data):
    stream = io.BytesIO(data)
    stream.name = "trace.json"
    return spans_or_refusal(stream)


@cache
def written(form):
    """A valid small file."""
    if form in NAMES:
        return (SAMPLES / NAMES[form]).read_bytes()
    frame = lab.read_spans(SAMPLES / NAMES["jaeger"])
    stream = io.BytesIO()
    if form == "csv":
        frame = frame.assign(error=frame["error"].str.replace(": ", ":\n"))
        start = frame["start"].map(pd.Timestamp.isoformat)
        frame.assign(start=start).to_csv(stream, index=False)
    else:
        frame.to_parquet(stream)
    return stream.getvalue()


def optional(form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    if form == "otlp-protobuf":
        pytest.importorskip("opentelemetry.proto")


# ---- bytes

changes = st.tuples(
    st.sampled_from(["replace", "delete", "insert", "cut", "repeat"]),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=12) | st.sampled_from([b"\x00", b"\n", b",", b'"', b"{", b"]"]),
)


def changed(data, change):
    kind, share, some = change
    at = int(share * len(data))
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + some + data[at:]
    if kind == "repeat":
        return data[:at] + 50 * data[at : at + len(some)] + data[at:]
    middle = some if kind == "replace" else b""
    return data[:at] + middle + data[at + len(some) :]


@pytest.mark.parametrize("form", FORMATS)
@few
@given(some=st.lists(changes, min_size=1, max_size=4))
def test_changed_bytes_are_read_or_refused(form, some, tmp_path):
    optional(form)
    data = written(form)
    for change in some:
        data = changed(data, change)
    if form != "parquet":
        read(data)
        return
    (tmp_path / "trace.json").write_bytes(data)
    spans_or_refusal(tmp_path / "trace.json")


# ---- values of JSON

ODD = [
    *(None, True, False, 0, -1, 3, 1.5, 1e308, float("nan"), float("inf"), 1 << 70, 10**400),
    *("", "x", "é" * 24, "é" * 22 + "==", "A" * 24, "A" * 22 + "==", "ZZ" * 8, "\ud800", "0" * 40),
    *("9" * 19, "9" * 30, "²", "١", " 12", "-1", "1e3", "\x00", "http://[", "/a" * 3000),
    *([], [1], [[]], [None], ["x"], [{}], {}, {"a": 1}, {"key": []}, {"key": "http.route"}),
    *({"spans": []}, {"resourceSpans": 1}, {"result": 3}, {"stringValue": 3}, {"key": "error"}),
]
odd_values = st.sampled_from(ODD).map(deepcopy)


def places(value, path=()):
    """All paths to the values inside of one."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, held in inside:
        yield (*path, key)
        if isinstance(held, (dict, list)):
            yield from places(held, (*path, key))


def parent_of(value, path):
    for key in path[:-1]:
        value = value[key]
    return value


def swapped(value, share, kind, odd):
    """Change one value of a JSON document in place."""
    paths = [*places(value)]
    if not paths:
        return
    path = paths[int(share * (len(paths) - 1))]
    holder, key = parent_of(value, path), path[-1]
    if kind == "delete":
        del holder[key]
    elif kind == "wrap":
        holder[key] = [holder[key]]
    elif kind == "add" and isinstance(holder, dict):
        holder[odd if isinstance(odd, str) else "x"] = holder[key]
    else:
        holder[key] = odd


def documents(form):
    lines = written(form).splitlines() if form == "otlp" else [written(form)]
    return [json.loads(line) for line in lines]


swaps = st.tuples(
    st.floats(0, 1), st.sampled_from(["swap", "swap", "swap", "delete", "wrap", "add"]), odd_values
)


@pytest.mark.parametrize("form", JSON_FORMATS)
@bounded(2 * EXAMPLES)
@given(some=st.lists(swaps, min_size=1, max_size=3), which=st.integers(0, 100))
def test_changed_values_are_read_or_refused(form, some, which):
    values = documents(form)
    value = values[which % len(values)]
    for share, kind, odd in some:
        swapped(value, share, kind, odd)
    read("\n".join(map(json.dumps, values)).encode())


OWN = ("endpoint", "kind", "peer", "status", "error", "method", "first_byte_ns", "open", "links")


def with_tag(form, name, value):
    """A file whose spans have an attribute more."""
    values = documents(form)
    for document in values:
        for path in [*places(document)]:
            holder, key = parent_of(document, path), path[-1]
            if key == "tags" and isinstance(holder[key], dict):
                holder[key][name] = deepcopy(value)
            elif key == "tags":
                holder[key].append({"key": name, "type": "string", "value": deepcopy(value)})
            elif key == "attributes":
                held = deepcopy(value) if isinstance(value, dict) else any_value(value)
                holder[key].append({"key": name, "value": held})
    return "\n".join(map(json.dumps, values)).encode()


def any_value(value):
    if isinstance(value, bool):
        return {"boolValue": value}
    kind = "intValue" if isinstance(value, int) else "stringValue"
    return {kind: value}


@pytest.mark.parametrize("form", JSON_FORMATS)
@bounded(2 * EXAMPLES)
@given(field=st.sampled_from(OWN), value=odd_values)
def test_attributes_of_this_package_may_hold_anything(form, field, value):
    read(with_tag(form, f"aiops_lab.{field}", value))


# ---- cells of tables

cells = st.tuples(st.integers(0, 100), st.integers(0, 100), odd_values)


@few
@given(some=st.lists(cells, min_size=1, max_size=3))
def test_changed_cells_of_csv_are_read_or_refused(some):
    table = pd.read_csv(io.BytesIO(written("csv")), dtype=object, keep_default_na=False)
    for row, column, odd in some:
        text = str(odd).encode("utf-8", "replace").decode()
        table.iloc[row % len(table), column % len(table.columns)] = text
    read(table.to_csv(index=False).encode())


columns = st.tuples(st.integers(0, 100), odd_values, st.sampled_from(["all", "one", "drop"]))


@few
@given(some=st.lists(columns, min_size=1, max_size=3))
def test_changed_columns_of_parquet_are_read_or_refused(some, tmp_path):
    optional("parquet")
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(written("parquet")))
    for number, odd, which in some:
        at = number % table.num_columns
        name = table.column_names[at]
        if which == "drop":
            table = table.drop_columns([name])
            continue
        values = [odd] * len(table)
        if which == "one":
            values = [odd, *[None] * (len(table) - 1)]
        try:
            column = pyarrow.array(values)
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError):
            continue
        table = table.set_column(at, name, column)
    try:
        parquet.write_table(table, tmp_path / "trace.json")
    except pyarrow.ArrowException:  # what Parquet does not hold
        return
    spans_or_refusal(tmp_path / "trace.json")
