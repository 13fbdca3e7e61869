"""Texts of a large frame lie in buffers of Arrow where they can; what they say is the same."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab import columns
from aiops_lab.columns import (
    are_texts,
    factorize,
    is_in_arrow,
    share_memory_between_threads,
    text_column,
)
from aiops_lab.formats.files import read_batches
from aiops_lab.spans import COLUMNS, TEXT_COLUMNS
from tests.support.columnar import plain
from tests.support.made import Shop

has_str = pd.__version__ >= "3" and find_spec("pyarrow") is not None
needs_str = pytest.mark.skipif(not has_str, reason="needs pandas 3 and pyarrow")

SPAN = lab.Span("a" * 32, "b" * 16, None, "shop", "/a", "server", None, 10**18, 1, 200, None)


@pytest.fixture
def without_arrow(monkeypatch):
    monkeypatch.setattr(columns, "_has_str", lambda: False)


def texts_of(frame):
    return frame[frame.columns.intersection([*TEXT_COLUMNS])]


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(columns, "MANY", 1)


def test_a_small_frame_holds_objects():
    frame = lab.to_frame([SPAN])
    assert set(map(str, texts_of(frame).dtypes)) == {"object"}
    assert frame["parent_id"].tolist() == [None]
    assert columns.MANY == 100_000


@pytest.mark.parametrize("kinds", [3, 500])
def test_names_are_coded_as_pandas_does_whichever_objects_hold_them(kinds):
    names = [f"/route/{number % kinds}" for number in range(2000)]  # each an object of its own
    shared = [*map(sys.intern, names)]
    for texts in (names, shared, [*shared[:1000], None, *names, np.nan]):
        column = pd.Series(texts, dtype=object)
        code, known = factorize(column)
        right, right_known = pd.factorize(column)
        assert code.tolist() == right.tolist()
        assert list(known) == list(right_known)


@needs_str
@pytest.mark.usefixtures("many")
def test_a_frame_that_the_package_makes_holds_its_texts_in_arrow():
    frame = lab.to_frame([SPAN])
    assert set(map(str, texts_of(frame).dtypes)) == {"str"}
    assert all(is_in_arrow(frame[name]) for name in texts_of(frame))
    assert frame["parent_id"].isna().all()


@needs_str
@pytest.mark.usefixtures("many")
def test_so_do_a_store_and_a_file(tmp_path):
    frame = lab.to_frame([SPAN])
    lab.write_spans(frame, tmp_path / "spans.csv")
    lab.write_spans(frame, tmp_path / "spans.parquet")
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        store.add(SPAN)
        store.flush()
        stored = store.spans()
    for name in ("spans.csv", "spans.parquet"):
        pd.testing.assert_frame_equal(lab.read_spans(tmp_path / name), frame)
    pd.testing.assert_frame_equal(stored, frame)


@needs_str
@pytest.mark.usefixtures("many")
def test_a_frame_can_be_written_to_and_joined_to_another():
    frame = lab.to_frame([SPAN])
    frame.loc[0, "endpoint"] = "/new"
    frame.loc[0, "parent_id"] = None
    both = pd.concat([frame, lab.to_frame([SPAN])], ignore_index=True)
    assert both["endpoint"].tolist() == ["/new", "/a"]
    assert set(map(str, texts_of(both).dtypes)) == {"str"}


@pytest.mark.usefixtures("many", "without_arrow")
def test_without_pyarrow_texts_are_objects_and_missing_ones_none():
    frame = lab.to_frame([SPAN])
    assert set(map(str, texts_of(frame).dtypes)) == {"object"}
    assert frame["parent_id"].tolist() == [None]
    with pytest.raises(ValueError, match="must be text that UTF-8 can hold"):
        lab.to_frame([SPAN._replace(error="\ud800")])


@pytest.mark.usefixtures("many", "without_arrow")
def test_without_pyarrow_each_part_of_a_table_has_its_own_rows(tmp_path):
    frame = Shop(3).run(20)
    lab.write_spans(frame, tmp_path / "spans.csv")
    parts = [*read_batches(tmp_path / "spans.csv", 7)]
    assert len(parts) > 2
    pd.testing.assert_frame_equal(
        plain(pd.concat(parts)[[*COLUMNS]]), plain(frame[[*COLUMNS]]), check_dtype=False
    )


@pytest.mark.usefixtures("many")
def test_with_and_without_pyarrow_a_frame_holds_the_same(monkeypatch):
    frame = Shop(3).run(20)
    monkeypatch.setattr(columns, "_has_str", lambda: False)
    pd.testing.assert_frame_equal(plain(Shop(3).run(20)), plain(frame))


@pytest.mark.usefixtures("many")
def test_half_a_character_is_refused_by_its_row():
    broken = SPAN._replace(error="\ud800", start_ns=SPAN.start_ns + 1)
    with pytest.raises(ValueError, match="'error' must be text that UTF-8 can hold.* in row 1"):
        lab.to_frame([SPAN, broken])


@pytest.mark.usefixtures("many")
def test_rows_of_a_frame_are_spans_again():
    (row,) = lab.to_frame([SPAN]).itertuples(index=False)
    again = SPAN._replace(parent_id=row.parent_id, peer=row.peer, error=row.error)
    pd.testing.assert_frame_equal(lab.to_frame([again]), lab.to_frame([SPAN]))


@pytest.mark.usefixtures("many")
def test_texts_are_texts_or_none():
    assert are_texts(["a", None])
    assert not are_texts(["a", np.nan])
    assert not are_texts([b"a"])
    assert [*text_column(["a", "b"])] == ["a", "b"]


@pytest.mark.usefixtures("many")
def test_rows_of_a_frame_are_stored_like_spans(tmp_path):
    frame = Shop(3).run(5)
    rows = frame.assign(start=frame["start"].astype("int64"), ns=1_000)
    columns = ["trace_id", "span_id", "parent_id", "service", "endpoint", "kind", "peer"]
    columns += ["start", "ns", "status", "error"]
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        for row in rows[columns].itertuples(index=False, name=None):
            store.add(lab.Span(*row))
        store.flush()
        stored = store.spans()
    assert store.dropped == 0
    texts = ["span_id", "parent_id", "peer", "error"]
    pd.testing.assert_frame_equal(plain(stored[texts]), plain(frame[texts]))


def test_a_server_with_many_threads_takes_memory_from_the_system_unless_told_otherwise(monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    others = [name for name in arrow.supported_memory_backends() if name != "system"]
    if not others:
        pytest.skip("this Arrow knows no other allocator")
    before = arrow.default_memory_pool()
    try:
        arrow.set_memory_pool(getattr(arrow, f"{others[0]}_memory_pool")())
        monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", others[0])
        share_memory_between_threads()
        assert arrow.default_memory_pool().backend_name == others[0]
        monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
        share_memory_between_threads()
        assert arrow.default_memory_pool().backend_name == "system"
    finally:
        arrow.set_memory_pool(before)


ARENAS = """
import threading
from aiops_lab.columns import share_memory_between_threads
{call}
together = threading.Barrier(9)
kept = []
def work():
    kept.append(bytearray(100_000))
    together.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
together.wait()
regions = [line for line in open("/proc/self/maps") if " rw-p " in line]
print(sum(int(line.split("-")[0], 16) % 2**26 == 0 for line in regions))  # where arenas begin
"""


@pytest.mark.skipif(sys.platform != "linux", reason="arenas are those of Linux's C library")
def test_a_server_with_many_threads_keeps_few_arenas():
    environment = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    environment.pop("MALLOC_ARENA_MAX", None)
    environment.pop("GLIBC_TUNABLES", None)

    def arenas(call, **told):
        command = [sys.executable, "-c", ARENAS.format(call=call)]
        return int(subprocess.check_output(command, env=environment | told, text=True))

    if arenas("") < 4:
        pytest.skip("this library of C has no arenas")
    assert arenas("share_memory_between_threads()") <= 2
    told = {"GLIBC_TUNABLES": "glibc.malloc.check=0:glibc.malloc.arena_max=6"}
    assert arenas("share_memory_between_threads()", **told) >= 4
