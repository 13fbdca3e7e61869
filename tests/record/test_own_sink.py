"""A sink that hangs holds a few threads; all other calls go on without it."""

from __future__ import annotations

import threading

import pytest
from flask import Flask

import aiops_lab as lab
from aiops_lab.record import own_sink
from aiops_lab.record.own_sink import PatientSink, SinkHangsError
from tests.support.serving import wait_for


class Hanging:
    """A sink that returns once it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.asked = []

    def __call__(self, span):
        self.asked.append(span)
        self.go.wait(60)


@pytest.fixture
def hanging():
    sink = Hanging()
    yield sink
    sink.go.set()


def call_in_threads(function, count):
    threads = [threading.Thread(target=function, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_sink_is_given_each_span():
    given = []
    sink = PatientSink(given.append)
    for n in range(10):
        sink(n)
    assert given == list(range(10))


def test_one_that_raises_has_returned():
    def fail(_):
        raise KeyError("mine")

    sink = PatientSink(fail)
    for _ in range(2 * own_sink.MOST_AT_ONCE):
        with pytest.raises(KeyError):
            sink(1)


def test_one_that_hangs_is_not_called_until_it_has_returned(hanging, monkeypatch):
    monkeypatch.setattr(own_sink, "SINK_PATIENCE_S", 0.01)
    sink = PatientSink(hanging)
    threads = call_in_threads(lambda: sink(1), own_sink.MOST_AT_ONCE)
    wait_for(lambda: len(hanging.asked) == own_sink.MOST_AT_ONCE)
    with pytest.raises(SinkHangsError, match="2 calls of the sink have not returned"):
        sink(2)
    assert 2 not in hanging.asked
    hanging.go.set()
    for thread in threads:
        thread.join(60)
    sink(3)
    assert hanging.asked[-1] == 3


def test_a_slow_one_is_waited_for(hanging, monkeypatch):
    monkeypatch.setattr(own_sink, "SINK_PATIENCE_S", 60.0)
    sink = PatientSink(hanging)
    threads = call_in_threads(lambda: sink(1), own_sink.MOST_AT_ONCE + 3)
    wait_for(lambda: len(hanging.asked) == own_sink.MOST_AT_ONCE)
    hanging.go.set()
    for thread in threads:
        thread.join(60)
    assert len(hanging.asked) == own_sink.MOST_AT_ONCE + 3


def test_calls_of_the_parent_do_not_count_in_a_child(hanging, monkeypatch):
    monkeypatch.setattr(own_sink, "MOST_AT_ONCE", 1)
    monkeypatch.setattr(own_sink, "SINK_PATIENCE_S", 0.0)
    sink = PatientSink(hanging)
    call_in_threads(lambda: sink(1), 1)
    wait_for(lambda: hanging.asked)
    hanging.go.set()
    monkeypatch.setattr(sink, "_begun", {object(): 0.0})
    monkeypatch.setattr(sink, "_process", -1)  # as after a fork
    sink(2)
    assert hanging.asked[-1] == 2


def test_requests_are_answered_while_the_sink_hangs(hanging, monkeypatch):
    monkeypatch.setattr(own_sink, "SINK_PATIENCE_S", 0.01)
    app = Flask("own", static_folder=None)
    app.add_url_rule("/", view_func=lambda: "fine")
    lab.instrument(app, hanging)
    call_in_threads(lambda: app.test_client().get("/"), own_sink.MOST_AT_ONCE)
    wait_for(lambda: len(hanging.asked) == own_sink.MOST_AT_ONCE)
    assert [app.test_client().get("/").status_code for _ in range(5)] == [200] * 5
