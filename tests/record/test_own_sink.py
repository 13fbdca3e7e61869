"""A sink that hangs holds a few threads; all other calls go on without it."""

from __future__ import annotations

import functools
import gc
import operator
import threading
import weakref

import pytest
import requests
from flask import Flask

import aiops_lab as lab
from aiops_lab.record import own_sink
from aiops_lab.record.own_sink import PatientSink, SinkHangsError, patient_sink
from aiops_lab.record.recorder import Recorder
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


# One limit for a sink, however many record into it.


class Owner:
    def take(self, span):
        pass

    def drop(self, span):
        pass


@pytest.mark.parametrize("name", ["take", "drop"])
def test_a_method_is_the_same_sink_each_time_that_it_is_asked_for(name):
    owner = Owner()
    assert patient_sink(getattr(owner, name)) is patient_sink(getattr(owner, name))


def test_a_method_of_a_builtin_is_the_same_sink_each_time():
    spans = []
    assert patient_sink(spans.append) is patient_sink(spans.append)


def test_other_sinks_have_limits_of_their_own():
    owner, spans = Owner(), []
    sinks = [
        owner.take,
        owner.drop,
        Owner().take,
        spans.append,
        spans.remove,
        [].append,
        print,
        operator.itemgetter(0),
        functools.partial(print),
        functools.partial(print),
    ]
    made = [patient_sink(sink) for sink in sinks]
    assert len(set(map(id, made))) == len(sinks)


def test_a_sink_is_dropped_with_the_last_that_records_into_it():
    owner = Owner()
    owner.recorder = Recorder(owner.take, "own")
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None


class Answering(requests.adapters.BaseAdapter):
    """An adapter that answers without a network."""

    def send(self, request, **kwargs):
        response = requests.Response()
        response.request, response.status_code, response._content = request, 200, b"ok"
        return response

    def close(self):
        pass


def call_out(session):
    session.mount("http://", Answering())
    return session.get("http://peer/").text


def session_of_the_app(sink):
    session = lab.Session(sink)
    return lambda: call_out(session)


def session_per_request(sink):
    return lambda: call_out(lab.Session(sink))


@pytest.mark.parametrize("calling", [session_of_the_app, session_per_request])
def test_a_sink_that_hangs_holds_no_more_where_app_and_session_share_it(
    hanging, monkeypatch, calling
):
    monkeypatch.setattr(own_sink, "SINK_PATIENCE_S", 0.01)
    app = Flask("own", static_folder=None)
    app.add_url_rule("/", view_func=calling(hanging.__call__))
    lab.instrument(app, hanging.__call__)
    threads = call_in_threads(lambda: app.test_client().get("/"), 6)
    wait_for(lambda: sum(thread.is_alive() for thread in threads) == own_sink.MOST_AT_ONCE)
    assert len(hanging.asked) == own_sink.MOST_AT_ONCE
    assert app.test_client().get("/").text == "ok"
