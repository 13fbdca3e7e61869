"""SpanStore on real files, real threads and real processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_lab.record import database
from aiops_lab.record import store as store_module
from aiops_lab.record.faults import FaultLog
from aiops_lab.record.reader import SpanReader
from aiops_lab.record.store import SpanStore
from aiops_lab.spans import COLUMNS, OPTIONAL_COLUMNS, Span, check, to_frame

BEGIN_NS = 1_767_225_600_000_000_000  # 2026-01-01
SECOND = 1_000_000_000


def span(i: int = 0, **changes: Any) -> Span:
    """One finished span a second from 2026-01-01 on, 100 ms long."""
    made = Span(
        f"{i + 1:032x}",
        f"{i + 1:016x}",
        None,
        "shop",
        "/payment",
        "server",
        None,
        BEGIN_NS + i * SECOND,
        SECOND // 10,
        200,
        None,
    )
    return made._replace(**changes)


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition not met in time"
        time.sleep(0.01)


def some_spans(n: int, seed: int = 0) -> list[Span]:
    rng = random.Random(seed)
    return [
        span(
            i,
            trace_id=f"{rng.getrandbits(128):032x}",
            span_id=f"{rng.getrandbits(64):016x}",
            parent_id=f"{rng.getrandbits(64):016x}" if rng.random() < 0.5 else None,
            endpoint=f"/{rng.randrange(5)}",
            kind=rng.choice(["server", "client", "log"]),
            peer=rng.choice([None, "payment"]),
            start_ns=BEGIN_NS + rng.randrange(3600 * SECOND),
            duration_ns=rng.randrange(SECOND),
            status=rng.choice([0, 200, 502]),
            error=rng.choice([None, "ValueError: näh"]),
        )
        for i in range(n)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spans.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SpanStore]:
    with SpanStore(path) as opened:
        yield opened


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def same(frame: pd.DataFrame, spans: list[Span]) -> None:
    pd.testing.assert_frame_equal(frame, to_frame(spans))


# What goes in comes out.

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
generated = st.builds(
    Span,
    trace_id=st.integers(1, 2**128 - 1).map("{:032x}".format) | texts,
    span_id=st.integers(1, 2**64 - 1).map("{:016x}".format)
    | texts
    | st.sampled_from(["AB", "ab", "a b", "abc"]),
    parent_id=st.none() | st.integers(1, 2**64 - 1).map("{:016x}".format) | texts,
    service=texts,
    endpoint=texts,
    kind=st.sampled_from(["server", "client", "log"]),
    peer=st.none() | texts,
    start_ns=st.integers(BEGIN_NS, BEGIN_NS + 5) | st.integers(-(2**61), 2**61),
    duration_ns=st.none() | st.integers(0, 2**60),
    status=st.integers(0, 599),
    error=st.none() | texts,
    method=st.none() | st.sampled_from(["GET", "POST"]),
    instance=st.none() | texts,
    first_byte_ns=st.none() | st.integers(0, 2**60),
    links=st.none() | st.lists(st.sampled_from(["0a", "0b"])).map(tuple),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(generated, max_size=12, unique_by=lambda s: s.span_id))
def test_the_frame_out_is_the_frame_of_what_went_in(spans: list[Span]) -> None:
    with SpanStore(":memory:") as store:
        for each in spans:
            store.add(each)
        store.flush()
        same(store.spans(), spans)


def test_an_empty_store_gives_an_empty_spans_frame(store: SpanStore) -> None:
    frame = store.spans()
    assert check(frame) is frame
    assert list(frame.columns) == [*COLUMNS, *OPTIONAL_COLUMNS]
    same(frame, [])


def test_sealed_and_fresh_spans_come_out_in_one_order(
    store: SpanStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SEAL", 100)
    spans = some_spans(1050)
    for i in range(0, 1050, 70):
        for each in spans[i : i + 70]:
            store(each)
        store.flush()
    with closing(sqlite3.connect(store.path)) as db:
        sealed, fresh = (
            db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("spans", "fresh")
        )
    assert sealed > 900
    assert fresh > 0
    same(store.spans(), spans)


@pytest.mark.parametrize("seal", [20, 10_000])
def test_a_query_takes_the_spans_that_ended_in_the_time_and_at_the_endpoint(
    store: SpanStore, monkeypatch: pytest.MonkeyPatch, seal: int
) -> None:
    monkeypatch.setattr(store_module, "SEAL", seal)
    spans = some_spans(400)
    for i in range(0, 400, 50):
        for each in spans[i : i + 50]:
            store.add(each)
        store.flush()
    rng = random.Random(1)
    for _ in range(20):
        since, end = sorted(BEGIN_NS + rng.randrange(3600 * SECOND) for _ in range(2))
        expected = [
            s for s in spans if since <= s.start_ns + s.duration_ns < end and s.endpoint == "/3"
        ]
        found = store.spans(pd.Timestamp(since), pd.Timestamp(end, tz="UTC"), "/3")
        same(found, expected)


@pytest.mark.parametrize("seal", [1, 10_000])
@pytest.mark.parametrize("trace", ["ab" * 16, "AB" * 16, "x", '", "0', "it's", "é"])
def test_the_spans_of_one_trace_whatever_its_id(
    store: SpanStore, monkeypatch: pytest.MonkeyPatch, seal: int, trace: str
) -> None:
    monkeypatch.setattr(store_module, "SEAL", seal)
    others = [span(i, trace_id=other) for i, other in enumerate((trace + "y", "ab" * 15, "y"))]
    mine = [span(10, trace_id=trace), span(11, trace_id=trace, kind="client")]
    still_open = [span(12, trace_id=trace, duration_ns=None), span(13, duration_ns=None)]
    for each in (*others, *mine, *still_open):
        store.add(each)
    store.flush()
    found = store.spans(trace_id=trace)
    assert sorted(found["span_id"]) == [each.span_id for each in (*mine, still_open[0])]
    assert len(store.spans("2027-01-01", trace_id=trace)) == 1  # the one that is still open
    assert len(store.spans(trace_id="z")) == 0


@pytest.mark.parametrize("seal", [1, 10_000])
def test_whole_traces_of_some_places(
    store: SpanStore, monkeypatch: pytest.MonkeyPatch, seal: int
) -> None:
    monkeypatch.setattr(store_module, "SEAL", seal)

    def add(*spans: Span) -> None:
        for each in spans:
            store.add(each)
        store.flush()

    def numbers(places: list[tuple[str, str]], since: str | None = None) -> list[int]:
        found = store.traces_of(places, since)["span_id"]
        return sorted(int(each, 16) - 1 for each in found)

    below = {"trace_id": span(1).trace_id, "endpoint": "/stock"}
    opened = {"trace_id": span(5).trace_id, "duration_ns": None}
    add(span(1), span(2, **below), span(3, endpoint="/home"), span(4, service="other"))
    add(span(5, endpoint="/home"), span(6, endpoint="/stock", **opened))
    assert numbers([("shop", "/payment")]) == [1, 2]
    assert numbers([("shop", "/stock")]) == [1, 2, 5, 6]
    assert numbers([("shop", "/stock")], "2026-01-01T00:00:05Z") == [5, 6]
    assert numbers([("other", "/payment"), ("shop", "/home")]) == [3, 4, 5, 6]
    assert numbers([("other", "/home")]) == []
    add(span(7, trace_id="x", span_id=f"{8:016x}", endpoint="/odd"))
    assert numbers([("other", "/payment")]) == [4, 7]  # it may be of any trace
    assert numbers([("shop", "/odd")]) == [1, 2, 3, 4, 5, 6, 7]


def test_since_is_within_and_until_is_without(store: SpanStore) -> None:
    store.add(span(duration_ns=SECOND))
    store.flush()
    assert (
        len(store.spans(since="2026-01-01T00:00:01", until="2026-01-01T00:00:01.000000001Z")) == 1
    )
    assert len(store.spans(since="2026-01-01T00:00:01.000000001")) == 0
    assert len(store.spans(until="2026-01-01T01:00:01+01:00")) == 0
    assert len(store.spans(endpoint="/nowhere")) == 0


@pytest.mark.parametrize(
    "wrong",
    [{"since": "soon"}, {"until": pd.NaT}, {"since": []}, {"endpoint": 7}, {"trace_id": 7}],
)
def test_a_query_names_its_wrong_argument(store: SpanStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        store.spans(**wrong)


def test_a_span_no_table_can_hold_is_counted_and_keeps_no_other_back(
    store: SpanStore, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        span(1, start_ns=2**70),
        span(2, error="\ud800"),
        span(3, service=["a"]),
        span(4, status=object()),
    ]
    bad += [span(5, trace_id=None), span(6, start_ns=None), span(7, start_ns="now")]
    store.opened["0a"] = span(10, error="\ud800")
    good = [span(10), span(11, endpoint="/new"), span(12, service="other")]
    for each in [good[0], *bad, *good[1:]]:
        store.add(each)
    store.flush()
    same(store.spans(), good)
    assert store.dropped == len(bad)
    until(lambda: "being dropped" in caplog.text)


def test_the_spans_before_one_that_no_table_can_hold_are_not_twice(path: Path) -> None:
    with SpanStore(path, flush_s=3600) as store:
        for each in (span(1, endpoint="/new"), span(2, error="\ud800"), span(3, endpoint="/newer")):
            store.add(each)
        store.flush()
        same(store.spans(), [span(1, endpoint="/new"), span(3, endpoint="/newer")])
        assert store.dropped == 1


# Open spans.


def test_an_open_span_is_a_row_without_duration_until_it_ends(store: SpanStore) -> None:
    begun = span(start_ns=time.time_ns() - 2 * SECOND, duration_ns=None)
    store.opened[begun.span_id] = begun
    until(lambda: len(store.spans()) == 1)  # older than 1 s: mirrored without a flush
    same(store.spans(), [begun])
    store.add(begun._replace(duration_ns=3 * SECOND))
    store.opened.pop(begun.span_id, None)
    store.flush()
    same(store.spans(), [begun._replace(duration_ns=3 * SECOND)])


def test_a_young_open_span_is_no_row_until_flush(path: Path) -> None:
    with SpanStore(path, flush_s=0.05) as store:
        begun = span(1, start_ns=time.time_ns() + 60 * SECOND, duration_ns=None)
        store.opened[begun.span_id] = begun
        store.add(span())
        until(lambda: len(store.spans()) == 1)
        assert store.spans().duration_ms.notna().all()
        store.flush()
        same(store.spans(), [span(), begun])


def test_a_span_that_ended_but_is_still_registered_is_not_twice(store: SpanStore) -> None:
    begun = span(duration_ns=None)
    store.opened[begun.span_id] = begun
    store.add(span())
    for _ in range(3):  # as if the request's thread was stopped between the two
        store.flush()
        same(store.spans(), [span()])
    assert not store.opened


def test_an_open_span_handed_over_as_a_span_is_replaced_when_it_ends(store: SpanStore) -> None:
    for duration_ns in (None, SECOND):
        store.add(span(duration_ns=duration_ns))
        store.flush()
        same(store.spans(), [span(duration_ns=duration_ns)])


def test_an_open_span_that_is_withdrawn_leaves_no_row(store: SpanStore) -> None:
    store.opened["01"] = span(duration_ns=None)
    store.flush()
    assert len(store.spans()) == 1
    store.opened.clear()
    store.flush()
    assert len(store.spans()) == 0


def test_open_spans_are_chosen_by_their_start_and_endpoint(store: SpanStore) -> None:
    store.add(span(duration_ns=None))
    store.flush()
    assert len(store.spans(since="2027-01-01", endpoint="/payment")) == 1
    assert len(store.spans(until="2026-01-01")) == 0
    assert len(store.spans(endpoint="/health")) == 0


def test_a_reader_sees_each_span_once_while_requests_come_and_go(path: Path) -> None:
    """Every span is old, so it is mirrored at once; a frame holds it from its first flush on, never
    twice.
    """
    stop, begun = threading.Event(), []

    def request(thread: int) -> None:
        for i in range(10_000):
            if stop.is_set():
                return
            mine = span(thread * 100_000 + i, start_ns=BEGIN_NS)
            store.opened[mine.span_id] = mine._replace(duration_ns=None)
            begun.append(mine.span_id)
            time.sleep(0.0005)
            store.add(mine)
            store.opened.pop(mine.span_id, None)

    with SpanStore(path, flush_s=0.01) as store:
        threads = [threading.Thread(target=request, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            known = set(begun)
            store.flush()
            ids = store.spans().span_id
            assert ids.is_unique
            assert known <= set(ids)
        stop.set()
        for thread in threads:
            thread.join()


# Stack traces and state.


def test_a_stack_trace_is_found_by_span_id(store: SpanStore) -> None:
    store.stack("00000000000000aa", "Traceback: old")
    store.stack("00000000000000aa", "Traceback: boom")
    store.flush()
    assert store.stack_of("00000000000000aa") == "Traceback: boom"
    assert store.stack_of("00000000000000ab") is None


def test_stack_traces_that_wait_are_few(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_STACKS", 3)
    with SpanStore(path, flush_s=3600) as store:
        for number in range(5):
            store.stack(f"{number:016x}", "boom")
        store.flush()
        assert [store.stack_of(f"{n:016x}") for n in range(5)] == ["boom"] * 3 + [None] * 2


def test_of_a_long_error_and_a_long_stack_trace_the_first_part_is_kept(path: Path) -> None:
    with SpanStore(path) as store:
        store.add(span(1, error="E: " + "x" * 1_000_000))
        store.stack(span(1).span_id, "y" * 1_000_000)
        store.flush()
        assert store.spans()["error"].tolist() == ["E: " + "x" * 997]
        assert store.stack_of(span(1).span_id) == "y" * 20_000


def test_state_survives_a_restart(path: Path) -> None:
    with SpanStore(path) as store:
        store.save("incident", {"INC-1-10": {"status": "active", "x": [1.5, None]}, "INC-1-2": "é"})
        store.save("incident", {"INC-1-10": {"status": "resolved"}})
        store.save("baseline", {"INC-1-2": 1})
    with SpanStore(path) as store:
        assert store.load("incident") == {"INC-1-10": {"status": "resolved"}, "INC-1-2": "é"}
        assert list(store.load("incident")) == ["INC-1-10", "INC-1-2"]
        assert store.load("baseline") == {"INC-1-2": 1}
        assert store.load("monitor") == {}


def test_records_are_saved_all_or_none(store: SpanStore) -> None:
    with pytest.raises(TypeError):
        store.save("incident", {"a": 1, "b": object()})
    assert store.load("incident") == {}


def test_a_signal_handler_in_the_midst_of_a_write_does_not_wait_for_itself(path: Path) -> None:
    """A function that the store calls is in its midst, as the handler of a signal may be."""
    with SpanStore(path) as store:
        store.add(span())

        def handle(load: Any) -> dict[str, dict[str, object]]:
            with pytest.raises(OSError, match="must not be written while this thread uses it"):
                store.flush()
            store.close()
            store.add(span(1))
            return {"incident": {"INC-1-1": len(store.spans())}}

        assert store.update(handle)
        assert store.load("incident") in ({"INC-1-1": 0}, {"INC-1-1": 1})
    with SpanStore(path) as store:
        assert len(store.spans()) == 2


def test_a_signal_handler_in_the_midst_of_a_query_can_ask_and_close(path: Path) -> None:
    with SpanStore(path) as store:
        store.add(span())
        store.flush()
        with store._read_lock:
            assert len(store.spans()) == 1
            store.close()
        assert len(store.spans()) == 1
    assert store.closed


# When it is written, and what is dropped.


def test_spans_are_on_disk_after_flush_s_without_a_flush(path: Path) -> None:
    with SpanStore(path, flush_s=0.05) as store:
        store.add(span())
        until(lambda: len(store.spans()) == 1)


def test_a_full_batch_does_not_wait_for_flush_s(path: Path) -> None:
    with SpanStore(path, flush_s=3600, batch=10) as store:
        for i in range(9):
            store.add(span(i))
        time.sleep(0.05)
        assert len(store.spans()) == 0
        store.add(span(9))
        until(lambda: len(store.spans()) == 10)


def test_eight_threads_lose_nothing(path: Path) -> None:
    with SpanStore(path) as store:

        def work(thread: int) -> None:
            for i in range(2000):
                store.add(span(thread * 2000 + i, endpoint=f"/{i % 7}"))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.flush()
        assert store.dropped == 0
        assert store.spans().span_id.nunique() == 16_000


def test_a_full_buffer_drops_counts_and_warns_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SpanStore(path, flush_s=0.05, batch=5, capacity=10) as store:
        with locked(path):
            for i in range(25):
                store.add(span(i))
            assert store.dropped == 15
            until(lambda: "being dropped" in caplog.text)
        store.flush()
        same(store.spans(), [span(i) for i in range(10)])
    assert caplog.text.count("being dropped") == 1


def test_a_locked_file_delays_the_spans_and_no_request(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with SpanStore(path, flush_s=0.05) as store:
        with locked(path):
            slowest = 0.0
            for i in range(1500):
                begun = time.perf_counter()
                store.add(span(i))
                slowest = max(slowest, time.perf_counter() - begun)
            assert slowest < database.BUSY_S  # as long as one attempt to write waits
            with pytest.raises(
                OSError,
                match=r"spans\.sqlite must be a span store that can be written, got: .*locked",
            ):
                store.flush(timeout_s=0.1)
            assert len(store.spans()) == 0  # reading goes on
            until(lambda: "they wait" in caplog.text)
        store.flush()
        assert len(store.spans()) == 1500
        assert store.dropped == 0
    assert caplog.text.count("they wait") == 1


def test_a_full_disk_delays_the_spans_until_there_is_room(path: Path) -> None:
    with SpanStore(path, flush_s=0.02) as store:
        store.add(span())
        store.flush()
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        for i in range(1, 2000):
            store.add(span(i, endpoint=f"/{i % 3}"))
        with pytest.raises(OSError, match="full"):
            store.flush(timeout_s=0.1)
        assert len(store.spans()) == 1
        store._db.execute("PRAGMA max_page_count = 1000000")
        store.flush()
        same(store.spans(), [span()] + [span(i, endpoint=f"/{i % 3}") for i in range(1, 2000)])


# The end.


def test_after_close_everything_is_on_disk_and_nothing_runs(path: Path) -> None:
    before = threading.active_count()
    store = SpanStore(path)
    assert threading.active_count() == before + 1
    store.add(span())
    store.spans()
    store.close()
    store.close()
    assert threading.active_count() == before
    # no -wal: no connection is left
    assert sorted(p.name for p in path.parent.iterdir()) == ["spans.sqlite"]
    with SpanStore(path) as again:
        same(again.spans(), [span()])


def test_spans_that_close_could_not_write_are_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "OPEN_S", 0.1)
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    store, before = SpanStore(path), threading.active_count()
    with locked(path):
        store.add(span())
        with pytest.raises(
            OSError, match=r"spans\.sqlite must be a span store that can be written.*locked"
        ):
            store.close()
    assert store.dropped == 1
    assert threading.active_count() == before - 1


def test_after_close_every_call_is_refused(path: Path) -> None:
    store = SpanStore(path)
    store.close()
    for call in (
        lambda: store.add(span()),
        lambda: store(span()),
        lambda: store.stack("00", "text"),
        store.flush,
        store.spans,
        lambda: store.load("incident"),
        lambda: store.save("incident", {}),
        lambda: store.stack_of("00"),
    ):
        with pytest.raises(ValueError, match="must be open.*after close"):
            call()


def test_a_span_is_kept_or_refused_while_the_store_closes(tmp_path: Path) -> None:
    for turn in range(5):
        store, kept = SpanStore(tmp_path / f"{turn}.sqlite"), []

        def work(thread: int, store: SpanStore = store, kept: list[str] = kept) -> None:
            with suppress(ValueError):
                for i in range(10**6):
                    each = span(thread * 10**6 + i)
                    store.add(each)
                    kept.append(each.span_id)
                    time.sleep(0)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        store.close()
        for thread in threads:
            thread.join()
        with SpanStore(tmp_path / f"{turn}.sqlite") as again:
            assert sorted(again.spans().span_id) == sorted(kept)


def test_a_store_in_memory_leaves_no_file() -> None:
    with SpanStore(":memory:") as store, SpanStore(":memory:") as other:
        store.add(span())
        store.flush()
        assert len(store.spans()) == 1
        assert len(other.spans()) == 0
        assert store.path.exists()
    assert not store.path.parent.exists()


PROGRAM = """
import sys, time
from aiops_lab.spans import Span
from aiops_lab.record.reader import SpanReader
from aiops_lab.record.store import SpanStore
def span(i, **changes):
    place = ("shop", f"/{i % 9}", "server", None)
    made = Span(f"{i + 1:032x}", f"{i + 1:016x}", None, *place, i, 1, 200, None)
    return made._replace(**changes)
path = sys.argv[1]
"""


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM + program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_end_of_the_interpreter_writes_what_is_left(path: Path) -> None:
    with python(
        "store = SpanStore(path, flush_s=3600)\nfor i in range(500): store.add(span(i))", path
    ) as process:
        assert process.wait(20) == 0
    with SpanStore(path) as store:
        assert len(store.spans()) == 500


def test_a_killed_process_loses_at_most_flush_s_and_corrupts_nothing(path: Path) -> None:
    program = """
store = SpanStore(path, flush_s=0.2)
store.opened["ff"] = span(0, span_id="ff", duration_ns=None)
for i in range(10**9):
    store.add(span(i))
    if i % 100 == 0:
        print(i, time.monotonic(), flush=True)
    time.sleep(0.0002)
"""
    with python(program, path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(40)]
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        killed = time.monotonic()
        process.wait(20)
        lines += [line.split() for line in process.stdout.read().splitlines()]
    # and 0.2 s for a busy machine
    due = max(int(i) for i, at in lines if float(at) < killed - 0.2 - 0.2)
    with SpanStore(path) as store:
        frame = store.spans()
        assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert due > 0
        assert set(range(due)) <= set(frame.start.astype("int64"))
        stale = frame[frame.duration_ms.isna()]  # nobody saw it end
        assert list(stale.span_id) == ["ff"]
        store.add(span())
        store.flush()
        assert store.spans().duration_ms.isna().sum() == 1


def test_three_processes_write_one_file_with_the_same_names(path: Path) -> None:
    program = """
import random
number, rng = int(sys.argv[2]), random.Random(sys.argv[2])
with SpanStore(path, flush_s=0.01, batch=50) as store:
    store.stack(f"{number:016x}", "boom")
    for i in range(6000):
        store.add(span(number * 10**6 + i, endpoint=f"/{rng.randrange(40)}", start_ns=i))
        if i % 300 == 0:
            store.flush()
            store.save("baseline", {f"{number}-{i}": i})
"""
    with (
        python(program, path, 1) as one,
        python(program, path, 2) as two,
        python(program, path, 3) as three,
    ):
        assert [p.wait(30) for p in (one, two, three)] == [0, 0, 0]
    with SpanStore(path) as store:
        frame = store.spans()
        assert len(store.load("baseline")) == 60
        assert [store.stack_of(f"{i:016x}") for i in (1, 2, 3, 4)] == ["boom"] * 3 + [None]
        names = store._db.execute("SELECT service, endpoint, kind, peer FROM names").fetchall()
    assert frame.span_id.is_unique
    assert len(names) == len(set(names)) == 40
    rngs = {n: random.Random(str(n)) for n in (1, 2, 3)}
    truth = {
        f"{n * 10**6 + i + 1:016x}": f"/{rngs[n].randrange(40)}" for n in rngs for i in range(6000)
    }
    assert dict(zip(frame.span_id, frame.endpoint, strict=True)) == truth


# Files of other releases.

OLD_ROWS = """
INSERT INTO names VALUES (1, 'shop', '/old', 'server', NULL);
INSERT INTO fresh VALUES (1, 1767225600100000000, 100000000, 200, '["t", "a", null]', NULL);
INSERT INTO spans VALUES (1, 1767225601100000000, 100000000, 502, '["t", "b", "a"]', 'E: no');
INSERT INTO runs VALUES (1, 1767225601100000000, 1767225601100000000, 1, 1);
INSERT INTO open VALUES (7, 1, 1767225602000000000, 0, '["t", "c", "a"]', NULL);
INSERT INTO state VALUES ('baseline', 'x', '1')
"""
OLD = [
    span(trace_id="t", span_id="a", endpoint="/old"),
    span(1, trace_id="t", span_id="b", parent_id="a", endpoint="/old", status=502, error="E: no"),
    span(2, trace_id="t", span_id="c", parent_id="a", endpoint="/old", status=0, duration_ns=None),
]


@pytest.fixture
def old(path: Path) -> Path:
    """A store as version 2 wrote it, which knew no method, instance, first byte and links."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(database.SCHEMA)
        db.executescript(OLD_ROWS)
        db.commit()
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    return path


def test_a_store_of_the_version_before_is_read_and_stays_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with SpanReader(old) as reader:
        same(reader.spans(), OLD)
        assert reader.load("baseline") == {"x": 1}
    assert old.read_bytes() == before


def test_a_store_of_the_version_before_is_brought_up_and_takes_new_spans(old: Path) -> None:
    new = span(9, method="GET", instance="host:1", first_byte_ns=5, links=("a", "b"))
    with SpanReader(old) as reader, SpanStore(old) as store:
        store.add(new)
        store.flush()
        same(store.spans(), [*OLD, new])
        same(reader.spans(), [*OLD, new])
        database.seal(store._db)
    with SpanStore(old) as again:
        same(again.spans(), [*OLD, new])


def test_a_reader_follows_what_a_store_writes_and_cannot_write(store: SpanStore) -> None:
    with SpanReader(store.path) as reader:
        store.add(span())
        store.flush()
        same(reader.spans(), [span()])
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._reader.execute("DELETE FROM fresh")
    with pytest.raises(ValueError, match="must be open"):
        reader.spans()


def test_a_reader_refuses_what_is_no_store(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="path must be the file of a span store"):
        SpanReader(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE other (x)")
    with pytest.raises(ValueError, match="path must be a span store .*tables of another program"):
        SpanReader(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE other")
    with pytest.raises(ValueError, match="path must be a span store, got .*no tables"):
        SpanReader(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 4")
    with pytest.raises(ValueError, match="version 2 to 3, got version 4"):
        SpanReader(path)
    path.write_bytes(b"id,name\n" * 200)
    with pytest.raises(ValueError, match="path must be a span store.*not a database"):
        SpanReader(path)


def test_a_span_that_two_exports_hand_over_is_one_row(store: SpanStore) -> None:
    for _ in range(2):
        store.add(span(method="GET"))
        store.add(span(kind="client", peer="x"))
        store.flush()
    same(store.spans(), [span(kind="client", peer="x"), span(method="GET")])
    assert len(store.spans()) == 2


# Places that will not do.


def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path) -> None:
    path.write_bytes(b"id,name\n" * 200)
    with pytest.raises(
        ValueError, match=r"path must be an SQLite database.*spans\.sqlite.*not a database"
    ):
        SpanStore(path)
    assert path.read_bytes() == b"id,name\n" * 200


@pytest.mark.parametrize("version", [1, 99])
def test_a_file_of_another_version_is_refused_and_untouched(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(
        ValueError,
        match=rf"path must be .* version 2 to 3, got version {version} in .*spans\.sqlite",
    ):
        SpanStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("table", ["accounts", "spans"])
@pytest.mark.parametrize("version", [0, 2, 3])
def test_the_database_of_another_program_is_refused_and_untouched(
    path: Path, table: str, version: int
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE {table} (mine)")
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for kind in (SpanStore, SpanReader):
        with pytest.raises(ValueError, match=r"spans\.sqlite.* the tables of another program"):
            kind(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("application", [1, 0x47504B47])
def test_the_empty_database_of_another_application_is_refused_and_untouched(
    path: Path, application: int
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {application}")
    before = path.read_bytes()
    for kind in (SpanStore, SpanReader):
        with pytest.raises(ValueError, match=rf"the file of application {application:#x}"):
            kind(path)
    assert path.read_bytes() == before


def test_a_new_file_has_a_number_of_its_own(path: Path) -> None:
    SpanStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (0x41494F50,)


def test_tables_beside_those_of_a_store_stay_as_they_are(path: Path) -> None:
    FaultLog(path).close()  # it may come first
    SpanStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (mine)")
    with SpanStore(path) as store:
        store.add(span())
        store.flush()
        same(store.spans(), [span()])


@pytest.mark.parametrize("text", [b"x", b"name\n" * 100])
def test_a_short_file_that_is_no_database_is_refused_and_untouched(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    with pytest.raises(ValueError, match="path must be an SQLite database.* not a database"):
        SpanStore(path)
    assert path.read_bytes() == text


@pytest.mark.parametrize("wrong", [None, 3, "a\0b"])
@pytest.mark.parametrize("kind", [SpanStore, SpanReader])
def test_what_is_no_path_is_refused(kind: type, wrong: object) -> None:
    with pytest.raises(ValueError, match="path must be the path of a file, got"):
        kind(wrong)


def test_a_path_of_bytes_is_a_path(path: Path) -> None:
    with SpanStore(bytes(path)) as store:
        assert store.path == path


@pytest.mark.parametrize("wrong", [None, 1, "span", (), {}])
def test_what_is_no_span_is_refused(store: SpanStore, wrong: object) -> None:
    with pytest.raises(ValueError, match="span must be a Span, got"):
        store.add(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"start_ns": 1.5},
        {"start_ns": float("nan")},
        {"duration_ns": 0.5},
        {"first_byte_ns": 0.5},
        {"status": "200"},
        {"status": 200.0},
        {"service": None},
        {"endpoint": 5},
        {"kind": None},
        {"peer": b"x"},
        {"method": 7},
        {"error": 5},
        {"span_id": "\ud800"},
    ],
)
def test_a_value_that_no_reader_could_use_costs_one_span(
    store: SpanStore, values: dict[str, object]
) -> None:
    store.add(span(1))
    store.add(span(2)._replace(**values))
    store.flush()
    assert store.dropped == 1
    same(store.spans(), [span(1)])


def test_whole_numbers_of_numpy_are_kept(store: SpanStore) -> None:
    number = np.int64(5)
    store.add(span(1)._replace(start_ns=number, duration_ns=number, status=np.int32(200)))
    store.flush()
    same(store.spans(), [span(1)._replace(start_ns=5, duration_ns=5, status=200)])


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
def test_only_the_owner_may_read_a_new_file_and_those_beside_it(path: Path) -> None:
    with SpanStore(path) as store:
        store.add(span())
        store.flush()
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert len(modes) == 3  # with -wal and -shm
    assert set(modes.values()) == {0o600}


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
def test_so_it_is_where_the_log_of_faults_comes_first(path: Path) -> None:
    FaultLog(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
def test_the_mode_of_a_file_that_is_there_stays(path: Path) -> None:
    SpanStore(path).close()
    path.chmod(0o640)
    SpanStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be replaced there")
def test_a_file_that_is_replaced_by_a_copy_is_told(path: Path) -> None:
    store = SpanStore(path)
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    store.add(span())
    for act in (store.flush, store.close):
        with pytest.raises(
            OSError, match=r"spans\.sqlite must stay where it is .* deleted or repl"
        ):
            act()
    assert (store.dropped, store.remade) == (1, 0)


def test_a_file_that_another_program_has_overwritten_is_told(path: Path) -> None:
    SpanStore(path).close()
    with SpanReader(path) as reader:
        path.write_bytes(b"id,name\n" * 2000)
        for ask in (reader.spans, lambda: reader.load("x"), lambda: reader.stack_of("x")):
            with pytest.raises(
                OSError, match=r"spans\.sqlite must be a span store that can be read"
            ):
                ask()


@pytest.mark.parametrize("act", [SpanStore.position, lambda store: store.mark((0, 0))])
def test_a_closed_store_says_so(path: Path, act) -> None:
    store = SpanStore(path)
    store.close()
    with pytest.raises(ValueError, match="the store must be open"):
        act(store)


def test_a_directory_or_a_missing_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"path must be a file, got {tmp_path}"):
        SpanStore(tmp_path)
    with pytest.raises(
        FileNotFoundError, match="path must lie in an existing directory, got .*nowhere"
    ):
        SpanStore(tmp_path / "nowhere" / "spans.sqlite")


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs a place where not even root can write"
)
def test_a_place_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(
        OSError, match="/proc/spans.sqlite must be a span store that can be written.*unable to open"
    ):
        SpanStore("/proc/spans.sqlite")


def test_a_file_locked_for_good_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SpanStore(path).close()
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    monkeypatch.setattr(database, "OPEN_S", 0.1)
    with (
        locked(path),
        pytest.raises(
            OSError, match=r"spans\.sqlite must be a span store that can be written.*locked"
        ),
    ):
        SpanStore(path)


def test_a_file_locked_for_a_moment_is_waited_for(path: Path) -> None:
    SpanStore(path).close()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.2, other.execute, ["ROLLBACK"])
        timer.start()
        SpanStore(path).close()
        timer.join()


@pytest.mark.parametrize(
    "wrong",
    [
        {"flush_s": 0},
        {"flush_s": float("nan")},
        {"flush_s": 1e9},
        {"batch": 0},
        {"capacity": 999},
        {"capacity": -1},
    ],
)
def test_a_parameter_out_of_its_range_is_refused(path: Path, wrong: dict[str, Any]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        SpanStore(path, **wrong)
    assert not path.exists()


def test_an_open_span_without_a_start_stops_no_other(tmp_path):
    identity = "0" * 31 + "1", "0" * 15 + "1", None
    place = "shop", "/a", "server", None
    with SpanStore(tmp_path / "s.sqlite") as store:
        store.add(Span(*identity, *place, None, None, None, None))
        store.add(Span(*identity, *place, 10, 5, 200, None))
        store.flush(1)
        assert (store.dropped, len(store.spans())) == (1, 1)


@pytest.mark.parametrize("duration_ns", [None, 5])
@pytest.mark.parametrize("span_id", [["01"], None, 7])
def test_a_span_whose_id_is_no_text_stops_no_other(
    store: SpanStore, span_id: Any, duration_ns: int | None
) -> None:
    store.opened["02"] = span(duration_ns=None, span_id="02")
    store.add(span(1)._replace(span_id=span_id, duration_ns=duration_ns))
    store.add(span(2))
    store.flush()
    assert store.dropped == 1
    assert set(store.spans().span_id) == {"02", span(2).span_id}
