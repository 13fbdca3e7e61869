"""Processes that fork: nothing is lost, doubled or locked for ever."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import flask
import pytest

from aiops_lab import Fault, Session, SpanStore, instrument
from aiops_lab.record import forking
from aiops_lab.record.faults import FaultLog
from aiops_lab.record.reader import SpanReader
from tests.support.serving import wait_for

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

DEADLINE_S = 20.0


def app() -> flask.Flask:
    app = flask.Flask(__name__)
    app.add_url_rule("/orders", "orders", lambda: "ok")
    return app


def forked(work: Callable[[], object]) -> int:
    """Return the process id of a child that does some work and ends at once, 0 if it worked."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def must_end(child: int) -> None:
    """Wait for a child; fail where it hangs or failed."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)


@pytest.fixture
def store(tmp_path):
    with SpanStore(tmp_path / "spans.sqlite", flush_s=0.05) as store:
        yield store


def serve(app: flask.Flask, requests: int) -> None:
    client = app.test_client()
    for _ in range(requests):
        client.get("/orders")


def test_the_thread_of_a_child_writes_what_the_child_records(store):
    orders = instrument(app(), store)
    reading, writing = os.pipe()

    def work() -> None:
        serve(orders, 20)
        os.read(reading, 1)  # it neither flushes nor closes

    child = forked(work)
    wait_for(lambda: len(store.spans()) == 20, DEADLINE_S)
    os.write(writing, b"x")
    must_end(child)


def test_what_waits_in_the_parent_is_written_once(tmp_path):
    with SpanStore(tmp_path / "spans.sqlite", flush_s=3600) as store:
        orders = instrument(app(), store)
        serve(orders, 7)
        children = [forked(lambda: (serve(orders, 3), store.flush())) for _ in range(3)]
        for child in children:
            must_end(child)
        serve(orders, 1)
        store.flush()
        ids = store.spans()["span_id"]
    assert ids.nunique() == len(ids) == 7 + 3 * 3 + 1


def test_a_fork_in_the_middle_of_writing_locks_nothing(tmp_path):
    with SpanStore(tmp_path / "spans.sqlite", flush_s=0.001, batch=1) as store:
        orders = instrument(app(), store)
        over = threading.Event()
        written = [0, 0]

        def record(n: int) -> None:
            while not over.is_set():
                serve(orders, 1)
                written[n] += 1

        threads = [threading.Thread(target=record, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(10):
                must_end(forked(lambda: (serve(orders, 5), store.flush(), store.spans())))
        finally:
            over.set()
            for thread in threads:
                thread.join()
        store.flush()
        ids = store.spans()["span_id"]
        assert store.dropped == 0
    assert ids.nunique() == len(ids) == sum(written) + 10 * 5


def test_the_lock_goes_to_the_thread_that_waits():
    lock = forking.FairLock()
    order = []

    def wait() -> None:
        with lock:
            order.append("the other")

    other = threading.Thread(target=wait)
    lock.acquire()
    other.start()
    wait_for(lambda: not lock.acquire(timeout=0) and lock._queue.locked(), DEADLINE_S)
    for _ in range(3):
        lock.release()
        lock.acquire()
        order.append("this one")
    lock.release()
    other.join()
    assert order[0] == "the other"


def test_two_threads_that_fork_at_once_let_go_of_all_locks(store):
    orders = instrument(app(), store)

    def fork() -> None:
        for _ in range(10):
            must_end(forked(lambda: None))

    threads = [threading.Thread(target=fork, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    serve(orders, 2)
    store.flush()
    assert len(store.spans()) == 2


def test_a_writer_that_does_not_end_in_time_goes_on_after_the_fork(tmp_path, monkeypatch):
    monkeypatch.setattr("aiops_lab.record.store.WAIT_S", 0.05)
    with SpanStore(tmp_path / "spans.sqlite", flush_s=3600) as store:
        orders = instrument(app(), store)
        entered, go = threading.Event(), threading.Event()

        def change(load):
            entered.set()
            assert go.wait(DEADLINE_S)
            return {"note": {"old": load("note", "old"), "new": 1}}

        writer = threading.Thread(target=store.update, args=(change,))
        writer.start()
        assert entered.wait(DEADLINE_S)
        child = forked(lambda: serve(orders, 2) if store.closed else 1 / 0)
        go.set()
        writer.join()
        must_end(child)
        assert store.load("note") == {"old": None, "new": 1}
        serve(orders, 1)
        store.flush()
        assert len(store.spans()) == 1


def test_a_child_of_a_child_records_too(store):
    orders = instrument(app(), store)

    def work() -> None:
        serve(orders, 2)
        must_end(forked(lambda: (serve(orders, 3), store.close())))
        store.close()

    must_end(forked(work))
    store.flush()
    assert len(store.spans()) == 5


def test_a_request_that_forks_is_recorded_once(store):
    orders = app()
    children: list[int] = []

    def fork() -> str:
        children.append(os.fork())
        return "ok"

    orders.add_url_rule("/fork", "fork", fork)
    instrument(orders, store).test_client().get("/fork")
    if children == [0]:
        try:
            store.close()
        finally:
            os._exit(0)
    must_end(children[0])
    store.flush()
    assert list(store.spans()["endpoint"]) == ["/fork"]
    assert store.opened == {}


def test_requests_that_are_open_in_the_parent_are_not_those_of_the_child(store):
    orders = app()
    entered, go = threading.Event(), threading.Event()
    orders.add_url_rule("/slow", "slow", lambda: str(entered.set() or go.wait(DEADLINE_S)))
    instrument(orders, store)
    thread = threading.Thread(target=orders.test_client().get, args=("/slow",))
    thread.start()
    assert entered.wait(5)
    must_end(forked(lambda: store.close() if store.opened == {} else 1 / 0))
    go.set()
    thread.join()
    store.flush()
    assert list(store.spans()["endpoint"]) == ["/slow"]


def test_children_of_multiprocessing_leave_their_last_spans(tmp_path):
    with SpanStore(tmp_path / "spans.sqlite", flush_s=3600) as store:
        orders = instrument(app(), store)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=serve, args=(orders, 4)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join(DEADLINE_S)
            assert child.exitcode == 0
        store.flush()
        assert len(store.spans()) == 8


def test_a_closed_store_stays_closed(tmp_path):
    store = SpanStore(tmp_path / "spans.sqlite")
    store.close()

    def work() -> None:
        with pytest.raises(ValueError, match="the store must be open"):
            store.spans()

    must_end(forked(work))


def test_calls_of_a_child_are_recorded(store):
    session = Session(store, "caller")

    def work() -> None:
        with pytest.raises(OSError, match="refused"):
            session.get("http://127.0.0.1:1/x", timeout=5)
        store.close()

    must_end(forked(work))
    assert list(store.spans()["kind"]) == ["client"]


def test_the_log_of_faults_survives_a_fork(tmp_path):
    with FaultLog(tmp_path / "truth.sqlite") as log:
        first = log.start(Fault("hang", "shop", "/payment"))
        must_end(forked(lambda: log.start(Fault("hang", "shop", "/checkout"))))
        log.end(first)
        assert list(log.faults()["endpoint"]) == ["/payment", "/checkout"]


SCRIPT = """
import os, sys, warnings
warnings.simplefilter("ignore")
from flask import Flask
from aiops_lab import SpanStore, instrument
store = SpanStore(sys.argv[1])
app = Flask("orders")
app.add_url_rule("/orders", "orders", lambda: "ok")
instrument(app, store)
child = os.fork()
if child == 0:
    os.chdir("/")
    app.test_client().get("/orders")
    sys.exit(0)
os.waitpid(child, 0)
store.flush()
print(len(store.spans()), store.path.exists())
"""


@pytest.mark.parametrize("path", ["spans.sqlite", ":memory:"])
def test_a_child_that_ends_as_usual_leaves_its_spans_and_the_file(tmp_path, path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["1", "True"]


def test_a_reader_that_another_thread_uses_in_the_moment_of_the_fork_reads_on_in_both(store):
    serve(instrument(app(), store), 3)
    store.flush()
    reading = threading.Event()

    def read_slowly(_: object) -> None:
        reading.set()
        time.sleep(0.2)

    with SpanReader(store.path) as reader:
        thread = threading.Thread(target=reader._ask, args=(read_slowly,))
        thread.start()
        assert reading.wait(5)
        before = reader._reader

        def read_in_child() -> None:
            assert len(reader.spans()) == 3
            assert reader._reader is not before

        must_end(forked(read_in_child))
        thread.join()
        assert len(reader.spans()) == 3


def test_a_reader_whose_file_is_gone_says_so_after_a_fork(tmp_path):
    file = tmp_path / "spans.sqlite"
    SpanStore(file).close()
    with SpanReader(file) as reader:
        file.unlink()
        must_end(forked(lambda: None))
        for _ in range(2):
            with pytest.raises(OSError, match=r"spans\.sqlite must be .* that can be read"):
                reader.spans()


LATE_GEVENT = """
import sys
from aiops_lab import SpanStore
store = SpanStore(sys.argv[1])
from gevent import monkey
monkey.patch_all()
store.close()
"""


def test_a_store_that_is_older_than_gevents_threads_ends_in_silence(tmp_path):
    pytest.importorskip("gevent")
    command = [sys.executable, "-W", "ignore", "-c", LATE_GEVENT, tmp_path / "spans.sqlite"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (ended.returncode, ended.stderr) == (0, "")
