"""An answer is no failure, a stream begins before it ends, and what is no WSGI app is refused."""

from __future__ import annotations

import functools
import gc
import threading

import flask
import pytest
import requests
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ

from aiops_lab import Span, instrument
from aiops_lab.record.asgi import InstrumentedAsgi
from tests.support.serving import serving, wait_for


@pytest.fixture
def spans():
    return []


def results(spans: list[Span]) -> list[tuple[int | None, str | None]]:
    return [(span.status, span.error) for span in spans]


# Handled exceptions.


def reporting() -> flask.Flask:
    """Return an app that reports every exception before it answers, as Flask-RESTful does."""
    app = flask.Flask(__name__)

    def answer(error: Exception) -> tuple[str, int]:
        flask.got_request_exception.send(app, exception=error)
        is_answer = isinstance(error, HTTPException)
        code = error.code if is_answer else 409 if isinstance(error, KeyError) else 500
        return "sorry", code or error.response.status_code

    app.handle_user_exception = answer  # type: ignore[method-assign, assignment]
    return app


def gone() -> None:
    flask.abort(404)


def conflicting() -> None:
    flask.abort(flask.make_response("twice", 409))


def busy() -> None:
    flask.abort(503)


def mapped() -> None:
    raise KeyError("mapped")


def broken() -> None:
    raise ZeroDivisionError("one over zero")


@pytest.mark.parametrize("instrumented", ["before", "after"])
@pytest.mark.parametrize(
    ("view", "result"),
    [
        (gone, (404, None)),
        (conflicting, (409, None)),
        (busy, (503, None)),
        (mapped, (409, None)),
        (broken, (500, "ZeroDivisionError: one over zero")),
    ],
)
def test_an_exception_counts_by_its_answer(spans, view, result, instrumented):
    app = reporting()
    app.add_url_rule("/x", "x", view)
    if instrumented == "before":
        handle = app.handle_user_exception
        del app.handle_user_exception
        instrument(app, spans.append)
        app.handle_user_exception = handle
    else:
        instrument(app, spans.append)
    app.test_client().get("/x")
    assert results(spans) == [result]


@pytest.mark.parametrize(
    ("view", "result"),
    [
        (gone, (404, None)),
        (conflicting, (409, None)),
        (busy, (503, None)),
        (broken, (500, "ZeroDivisionError: one over zero")),
    ],
)
def test_an_app_that_answers_all_exceptions_itself_hides_none(spans, view, result):
    app = flask.Flask(__name__)

    @app.errorhandler(Exception)
    def answer(error: Exception) -> HTTPException | tuple[dict[str, str], int]:
        if isinstance(error, HTTPException):
            return error
        return {"error": "sorry"}, 500

    app.add_url_rule("/x", "x", view)
    instrument(app, spans.append).test_client().get("/x")
    assert results(spans) == [result]


@pytest.mark.parametrize(("status", "error"), [("404 Not Found", None), ("500 X", "OSError: x")])
def test_an_answer_with_exc_info_counts_by_its_status(spans, status, error):
    def app(environ, start_response):
        try:
            raise OSError("x")
        except OSError as found:
            start_response(status, [], (type(found), found, found.__traceback__))
        return []

    app = instrument(app, spans.append)
    app({"PATH_INFO": "/x"}, lambda status, headers, exc_info=None: None)
    assert spans[0].error == error


@pytest.mark.parametrize(("line", "status"), [("999 X", 500), ("099 X", 500), ("X", 0)])
def test_a_status_that_http_does_not_have_is_a_server_error(spans, line, status):
    def app(environ, start_response):
        start_response(line, [])
        return []

    instrument(app, spans.append)({"PATH_INFO": "/x"}, lambda status, headers: None)
    assert spans[0].status == status


# Streams.


def test_a_stream_says_when_it_began(spans):
    go = threading.Event()
    opened: dict[str, Span] = {}

    class Sink:
        def __init__(self) -> None:
            self.opened = opened

        def __call__(self, span: Span) -> None:
            spans.append(span)

    def chunks():
        yield b""
        yield b"one"
        go.wait(5)
        yield b"two"

    app = flask.Flask(__name__)
    app.add_url_rule("/events", "events", lambda: flask.Response(chunks()))
    with serving(instrument(app, Sink())) as url:
        answer = requests.get(f"{url}/events", stream=True, timeout=5)
        assert answer.raw.read(3) == b"one"
        (waiting,) = (Span._make(span) for span in opened.values())
        assert waiting.first_byte_ns is not None
        go.set()
        answer.close()
        wait_for(lambda: spans)
    assert spans[0].first_byte_ns == waiting.first_byte_ns < spans[0].duration_ns


def test_an_answer_that_is_there_at_once_has_no_first_byte(spans):
    app = flask.Flask(__name__)
    app.add_url_rule("/x", "x", lambda: "ok")
    instrument(app, spans.append).test_client().get("/x")
    assert spans[0].first_byte_ns is None


def test_a_stream_without_a_byte_has_no_first_byte(spans):
    def app(environ, start_response):
        start_response("200 OK", [])
        return iter([b"", b""])

    body = instrument(app, spans.append)({"PATH_INFO": "/"}, lambda *_: None)
    assert list(body) == [b"", b""]
    assert spans[0].first_byte_ns is None


def test_what_is_written_at_once_is_the_first_byte(spans):
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"")
        write(b"one")
        return []

    written: list[bytes] = []
    instrument(app, spans.append)({"PATH_INFO": "/"}, lambda *_: written.append)
    assert written == [b"", b"one"]
    assert 0 < spans[0].first_byte_ns <= spans[0].duration_ns


def fails_at_the_end(body):
    yield from body
    raise OSError("disk full")


MIDDLEWARES = {
    "in an iterator": lambda inner: lambda *request: fails_at_the_end(inner(*request)),
    "as an iterator": lambda inner: lambda *request: fails_at_the_end(late(inner, request)),
}


def late(inner, request):
    yield from inner(*request)


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_a_middleware_that_fails_while_it_sends_a_whole_answer_is_not_missed(spans, middleware):
    app = flask.Flask(__name__)
    app.add_url_rule("/x", "x", lambda: "ok")
    app.wsgi_app = MIDDLEWARES[middleware](app.wsgi_app)
    client = instrument(app, spans.append).test_client()
    with pytest.raises(OSError, match="disk full"):
        _ = client.get("/x").data
    assert [(span.endpoint, span.error) for span in spans] == [("/x", "OSError: disk full")]


def test_a_failed_answer_that_is_dropped_has_its_error_and_runs_no_parser(spans):
    stacks: list[str] = []

    class Sink:
        stack = staticmethod(lambda span_id, text: stacks.append(text))

        def __call__(self, span: Span) -> None:
            spans.append(span)

    app = flask.Flask(__name__)
    app.add_url_rule("/x", "x", broken)
    app.register_error_handler(Exception, lambda error: flask.Response(iter(["sorry"]), 500))
    body = instrument(app, Sink())(create_environ("/x"), lambda *_: None)
    del body
    gc.collect()
    assert results(spans) == [(500, "ZeroDivisionError: one over zero")]
    assert stacks == []


# What is an ASGI application, and what is neither.


async def asgi(scope, receive, send):
    pass


class Asgi:
    async def __call__(self, scope, receive, send):
        pass


class OldAsgi:
    def __init__(self, scope):
        pass

    async def __call__(self, receive, send):
        pass


def decorated(app):
    @functools.wraps(app)
    def call(*arguments):
        return app(*arguments)

    return call


def test_an_asgi_application_of_version_2_is_refused_at_once():
    with pytest.raises(ValueError, match="app must be an ASGI application of version 3, .* got"):
        instrument(OldAsgi, print)


@pytest.mark.parametrize(
    "app", [asgi, Asgi(), decorated(asgi), functools.partial(asgi), Asgi().__call__]
)
def test_an_asgi_application_is_known_at_once(app):
    wrapped = instrument(app, print)
    assert isinstance(wrapped, InstrumentedAsgi)
    assert instrument(wrapped, print) is wrapped


@pytest.mark.parametrize("app", [lambda environ: [], lambda a=0: [], lambda a, b, c: []])
def test_a_function_of_another_shape_is_refused_at_once(app):
    with pytest.raises(ValueError, match=r"app must take \(environ, start_response\), got"):
        instrument(app, print)


class Class:
    def __init__(self, environ, start_response):
        self.start = start_response

    def __iter__(self):
        self.start("200 OK", [])
        yield b"ok"


class Method:
    def serve(self, environ, start_response, more=None):
        start_response("200 OK", [])
        return [b"ok"]


def with_options(options, environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]


@pytest.mark.parametrize(
    "app", [Class, Method().serve, functools.partial(with_options, {}), lambda *a: Class(*a)]
)
def test_every_shape_of_a_wsgi_application_is_taken(spans, app):
    body = instrument(app, spans.append)({"PATH_INFO": "/"}, lambda *_: None)
    assert b"".join(body) == b"ok"
    assert len(spans) == 1


def test_a_sink_that_is_a_coroutine_is_refused():
    async def sink(span: Span) -> None:
        pass

    with pytest.raises(ValueError, match="sink must be a callable .* that is a coroutine"):
        instrument(flask.Flask(__name__), sink)
