"""A store takes the spans of instrumented apps as they are; each is stored as it was at its end."""

from __future__ import annotations

import asyncio
import copy
import time
import weakref
from io import BytesIO

import pytest
import requests
from requests.adapters import BaseAdapter
from urllib3.response import HTTPResponse

from aiops_lab import Session, Span, SpanStore, instrument

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def store(tmp_path):
    with SpanStore(tmp_path / "spans.sqlite", flush_s=3600) as store:
        yield store


def rows(store):
    store.flush()
    return store.spans()


def start(status, headers, exc_info=None):
    pass


def chunks(environ, start_response):
    start_response("200 OK", [])
    yield b"a"
    yield b"b"


class Answering(BaseAdapter):
    def send(self, request, **kwargs):
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 200, request, request.url
        answer.raw = HTTPResponse(BytesIO(b"whole"), preload_content=False, status=200)
        return answer

    def close(self):
        pass


def test_a_stored_span_says_what_a_sink_of_a_users_own_is_given(store):
    given: list[Span] = []
    for sink in (store, given.append):
        app = instrument(lambda *args: chunks(*args), sink)
        environ = {"PATH_INFO": "/items/7", "REQUEST_METHOD": "GET", "HTTP_TRACEPARENT": PARENT}
        assert b"".join(app(environ, start)) == b"ab"
    (row,) = rows(store).to_dict("records")
    (span,) = given
    for name in ("trace_id", "parent_id", "service", "endpoint", "kind", "status", "method"):
        assert row[name] == getattr(span, name)
    assert row["instance"] == span.instance
    assert 0 < row["first_byte_ms"] < row["duration_ms"]


def test_what_follows_the_end_of_a_request_is_not_stored(store):
    class Body:
        raises = iter([StopIteration, OSError("late")])

        def __iter__(self):
            return self

        def __next__(self):
            raise next(self.raises)

    def app(environ, start_response):
        start_response("200 OK", [])
        return Body()

    body = instrument(app, store)({"PATH_INFO": "/"}, start)
    assert list(body) == []
    with pytest.raises(OSError, match="late"):
        next(body)
    (row,) = rows(store).to_dict("records")
    assert (row["status"], row["error"]) == (200, None)


def test_what_follows_the_end_of_a_call_is_not_stored(store):
    with Session(store) as session:
        session.mount("http://", Answering())
        answer = session.get("http://127.0.0.1:1/")
        with pytest.raises(Exception, match="chunked"):
            next(answer.raw.read_chunked())
    (row,) = rows(store).to_dict("records")
    assert (row["status"], row["error"]) == (200, None)


def test_what_is_sent_while_an_answer_is_closed_reaches_the_server_and_is_not_stored(store):
    def app(environ, start_response):
        write = start_response("200 OK", [])

        class Body(list):
            def close(self):
                write(b"late")
                start_response("404 Late", [])

        return Body([b"a"])

    sent = []

    def server(status, headers):
        sent.append(status)
        return sent.append

    body = instrument(app, store)({"PATH_INFO": "/"}, server)
    assert list(body) == [b"a"]
    body.close()
    assert sent == ["200 OK", b"late", "404 Late"]
    (row,) = rows(store).to_dict("records")
    assert (row["status"], row["endpoint"]) == (200, "/")


@pytest.mark.parametrize(("kind", "is_closed"), [(list, False), (iter, True), (iter, False)])
def test_a_store_that_waits_keeps_nothing_of_the_server(store, kind, is_closed):
    given = []

    def app(environ, begin):
        given.extend([begin, begin("200 OK", [])])
        return kind([b"a"])

    def start_response(status, headers):
        return lambda data: None

    kept = weakref.ref(start_response)
    body = instrument(app, store)({}, start_response)
    del start_response
    assert list(body) == [b"a"]
    if is_closed:
        body.close()
    else:
        del body
    assert kept() is None
    begin, write = given
    begin("200 OK", [])(b"to nobody")
    write(b"to nobody")
    assert len(rows(store)) == 1


async def failing_before_it_works_on(scope, receive, send):
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b""})
    scope["state"]["answered"] = time.perf_counter()
    time.sleep(0.01)


@pytest.mark.parametrize("changed", [lambda app: app, copy.deepcopy])
def test_an_asynchronous_request_is_stored_with_the_time_of_its_answer(store, changed):
    app = changed(instrument(failing_before_it_works_on, store))

    async def send(message):
        pass

    state = {}
    scope = {"type": "http", "path": "/", "state": state}
    begun = time.perf_counter()
    asyncio.run(app(scope, None, send))
    (row,) = rows(store).to_dict("records")
    assert 0 < row["duration_ms"] < (state["answered"] - begun) * 1000


def test_a_class_that_is_based_on_a_store_sees_each_span(tmp_path):
    class Counting(SpanStore):
        seen = 0

        def __call__(self, span):
            self.seen += 1
            self.add(span)

    with Counting(tmp_path / "counted.sqlite") as store:
        list(instrument(lambda *args: chunks(*args), store)({"PATH_INFO": "/"}, start))
        assert store.seen == len(rows(store)) == 1
