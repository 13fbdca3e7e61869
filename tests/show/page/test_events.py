"""What open pages are told: one stream a page, as many as there may be, until the server stops."""

from __future__ import annotations

import threading

import pytest
import requests
from flask import Flask

import aiops_lab as lab
from aiops_lab.show.api import aiops
from aiops_lab.show.page import events
from aiops_lab.show.page.events import Listeners, TooManyError
from tests.support.serving import serving, wait_for


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(events, "STATE_LOOK_S", 0.01)
    monkeypatch.setattr(events, "FRESH_S", 0.0)


def test_a_stream_tells_the_state_at_once_and_when_it_changes():
    states = iter(["a", "a", "a", "b"])
    stream = Listeners(lambda: next(states), 1).stream(True)
    assert next(stream) == b"retry: 5000\nevent: state\ndata: a\n\n"
    told = [next(stream) for _ in range(3)]
    assert told == [b": still here\n\n"] * 2 + [b"event: state\ndata: b\n\n"]


def test_a_stream_says_that_it_is_there_while_nothing_changes():
    stream = Listeners(lambda: "a", 1).stream(True)
    next(stream)
    assert next(stream) == b": still here\n\n"


def test_a_stream_ends_after_some_time_and_when_the_server_stops(monkeypatch):
    stopping = threading.Event()
    stopping.set()
    assert len(list(Listeners(lambda: "a", 1, stopping).stream(True))) == 1
    monkeypatch.setattr(events, "LONGEST_STREAM_S", -1.0)
    assert len(list(Listeners(lambda: "a", 1).stream(True))) == 1


@pytest.mark.parametrize(("most", "may_stay"), [(0, True), (1, False)])
def test_where_no_thread_may_be_held_the_state_is_told_once(most, may_stay):
    listeners = Listeners(lambda: "a", most)
    parts = list(listeners.stream(may_stay))
    assert parts == [b"retry: 5000\nevent: state\ndata: a\n\n"]
    assert listeners.open == 0


def test_there_are_no_more_streams_than_there_may_be_and_each_frees_its_place_once():
    listeners = Listeners(lambda: "a", 2)
    first, second = listeners.stream(True), listeners.stream(True)
    with pytest.raises(TooManyError, match="2 pages are listening already"):
        listeners.stream(True)
    first.close()
    first.close()
    assert listeners.open == 1
    second.close()
    assert listeners.open == 0


def test_a_tab_has_one_stream_the_newest():
    listeners = Listeners(lambda: "a", 2)
    left, other = listeners.stream(True, "mine"), listeners.stream(True, "yours")
    new = listeners.stream(True, "mine")
    assert listeners.open == 2
    assert len(list(left)) == 1
    for stream in (new, other):
        assert [next(stream) for _ in range(3)][1:] == [b": still here\n\n"] * 2
    assert listeners.open == 2
    with pytest.raises(TooManyError):
        listeners.stream(True)


def test_a_stream_that_nobody_reads_frees_its_place():
    listeners = Listeners(lambda: "a", 1)
    stream = listeners.stream(True)
    assert listeners.open == 1
    del stream
    assert listeners.open == 0


def test_many_listeners_look_at_the_state_together(monkeypatch):
    monkeypatch.setattr(events, "FRESH_S", 60.0)
    looks = []
    listeners = Listeners(lambda: str(looks.append(1)), 9)
    for _ in range(9):
        next(listeners.stream(True))
    assert len(looks) == 1


# ---- over HTTP


@pytest.fixture
def url(tmp_path):
    stopping = threading.Event()
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(aiops(lab.Monitor(store), listeners=2, stopping=stopping))
        with serving(app) as url:
            yield url
            stopping.set()


def test_more_pages_than_may_listen_get_a_503_and_places_become_free(url):
    def listen():
        return requests.get(f"{url}/aiops/events", stream=True, timeout=10)

    def first_line(answer):
        return next(answer.iter_lines())

    with listen() as one, listen() as two, listen() as three:
        assert first_line(one) == first_line(two) == b"retry: 5000"
        assert one.headers["Content-Type"].startswith("text/event-stream")
        assert (three.status_code, list(three.json())) == (503, ["error"])
        assert three.headers["Retry-After"] == "30"
        assert requests.get(f"{url}/aiops/", timeout=10).status_code == 200

    def has_room():
        with listen() as again:
            return again.status_code == 200

    wait_for(has_room)


def test_a_noted_change_is_told(url):
    with requests.get(f"{url}/aiops/events", stream=True, timeout=10) as answer:
        lines = answer.iter_lines()
        states = (line for line in lines if line.startswith(b"data: "))
        before = next(states)
        about = {"service": "shop", "what": "deployment 2.4.1"}
        requests.post(f"{url}/aiops/changes", json=about, timeout=10)
        assert next(states) != before
