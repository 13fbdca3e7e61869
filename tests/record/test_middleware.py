"""Server and client spans: every request once, whatever happens to it."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from urllib.parse import urlsplit

import flask
import pytest
import requests
from werkzeug.test import create_environ

from aiops_lab import Session, Span, instrument
from tests.support.serving import serving, wait_for

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "rojo=1"}


class Sink:
    """Keeps what it is given, as a store does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.stacks: dict[str, str] = {}
        self.opened: dict[str, Span] = {}
        self.not_open: list[Span] = []

    def __call__(self, span: Span) -> None:
        if span.span_id not in self.opened:
            self.not_open.append(span)  # an exception would be swallowed, as it should be
        self.spans.append(span)

    def stack(self, span_id: str, text: str) -> None:
        self.stacks[span_id] = text

    def one(self) -> Span:
        wait_for(lambda: self.spans and not self.opened)
        (span,) = self.spans
        return span


@pytest.fixture
def sink():
    sink = Sink()
    yield sink
    assert sink.not_open == []  # there was no moment in which a span was in neither place


@pytest.fixture
def app(sink):
    return instrument(shop(), sink)


def shop() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.route("/item/<int:number>", methods=["GET", "POST"])
    def item(number: int) -> str:
        return "ok"

    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError("one over zero")

    @app.get("/busy")
    def busy() -> str:
        flask.abort(503)

    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(chunk for chunk in [b"one", b"two"])

    @app.get("/broken-stream")
    def broken_stream() -> flask.Response:
        def chunks():
            yield b"one"
            raise ZeroDivisionError("half way")

        return flask.Response(chunks())

    app.add_url_rule("/aiopsy", "aiopsy", lambda: "ok")
    return app


def call(app, path="/x"):
    """Call a WSGI app as a server does; return (status, headers, body)."""
    answer = {}

    def start_response(status, headers, exc_info=None):
        answer.update(status=status, headers=dict(headers))
        return lambda data: None

    body = app({**create_environ(), "PATH_INFO": path}, start_response)
    try:
        data = b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()
    return answer["status"], answer["headers"], data


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"hello"])


# What a server span says.


def test_a_request_becomes_one_span(app, sink):
    before = time.time_ns()
    with serving(app) as url:
        answer = requests.get(f"{url}/item/7", headers=HEADERS, timeout=5)
        span = sink.one()
    assert span[:7] == (TRACE, span.span_id, PARENT, "shop", "/item/<int:number>", "server", None)
    assert (span.status, span.error) == (200, None)
    assert before <= span.start_ns <= time.time_ns()
    assert 0 < span.duration_ns < time.time_ns() - before
    assert answer.headers["X-Trace-Id"] == TRACE


def test_a_request_without_a_header_starts_a_trace(app, sink):
    answer = app.test_client().get("/item/7")
    span = sink.one()
    assert span.parent_id is None
    assert answer.headers["X-Trace-Id"] == span.trace_id != TRACE


def test_the_span_is_there_before_the_caller_has_the_answer(app, sink):
    with serving(app) as url, requests.Session() as session:
        for n in range(50):
            session.get(f"{url}/item/{n}", timeout=5)
            assert len(sink.spans) == n + 1


@pytest.mark.parametrize("path", ["/nowhere", "/item/seven", "/%ff%00", "/item/7/"])
def test_paths_without_a_route_are_one_endpoint(app, sink, path):
    app.test_client().get(path)
    assert (sink.one().endpoint, sink.one().status) == ("(unmatched)", 404)


def test_a_method_that_the_route_refuses_is_recorded(app, sink):
    app.test_client().delete("/item/7")
    assert sink.one().status == 405


def test_a_head_request_is_recorded(app, sink):
    with serving(app) as url:
        assert requests.head(f"{url}/item/7", timeout=5).headers["Content-Length"] == "2"
        assert sink.one().status == 200


def test_a_failure_without_an_exception_has_no_error_text(app, sink):
    app.test_client().get("/busy")
    assert (sink.one().status, sink.one().error) == (503, None)
    assert sink.stacks == {}


def test_a_trace_id_of_the_app_is_replaced(sink):
    def app(environ, start_response):
        start_response("200 OK", [("x-trace-id", "of an upstream"), ("A", "1")])
        return []

    _, headers, _ = call(instrument(app, sink))
    assert headers == {"A": "1", "X-Trace-Id": sink.one().trace_id}


# Exceptions.


def test_flasks_500_is_recorded_with_its_exception_and_stack(app, sink):
    with serving(app) as url:
        assert requests.get(f"{url}/broken", timeout=5).status_code == 500
    span = sink.one()
    assert (span.endpoint, span.status, span.error) == (
        "/broken",
        500,
        "ZeroDivisionError: one over zero",
    )
    assert 'in broken\n    raise ZeroDivisionError("one over zero")' in sink.stacks[span.span_id]


def test_of_an_error_with_a_large_message_its_begin_is_kept(sink):
    app = instrument(flask.Flask("large"), sink)

    @app.get("/")
    def fail():
        raise ValueError("x" * 1_000_000)

    assert app.test_client().get("/").status_code == 500
    span = sink.one()
    stack = sink.stacks[span.span_id]
    assert stack.startswith("Traceback (most recent call last)")
    assert len(stack) + len(span.error) < 25_000


def test_an_exception_that_goes_on_to_the_server_is_recorded_and_unchanged(app, sink):
    app.testing = True
    with pytest.raises(ZeroDivisionError, match="one over zero"):
        app.test_client().get("/broken")
    span = sink.one()
    assert (span.endpoint, span.status, span.error) == (
        "/broken",
        500,
        "ZeroDivisionError: one over zero",
    )
    assert len(sink.stacks) == 1


def test_an_exception_that_the_app_handles_is_none(sink):
    app = shop()
    app.register_error_handler(ZeroDivisionError, lambda error: ("handled", 400))
    instrument(app, sink).test_client().get("/broken")
    assert (sink.one().status, sink.one().error) == (400, None)


def test_an_exception_in_a_plain_app_is_recorded_and_unchanged(sink):
    error = KeyError("\ud800")

    def app(environ, start_response):
        raise error

    with pytest.raises(KeyError) as caught:
        call(instrument(app, sink))
    assert caught.value is error
    assert sink.one().status == 500
    assert sink.one().error.startswith("KeyError: ")
    assert "in app" in sink.stacks[sink.one().span_id]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_ends_the_span(app, sink, error):
    def interrupted() -> str:
        raise error

    app.add_url_rule("/interrupted", "interrupted", interrupted)
    with pytest.raises(type(error)):
        app.test_client().get("/interrupted")
    assert (sink.one().endpoint, sink.one().status) == ("/interrupted", 500)


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit])
def test_an_exception_without_a_text_and_a_long_one_are_recorded(sink, raised):
    class MuteError(Exception):
        def __str__(self) -> str:
            raise raised

    def app(environ, start_response):
        raise MuteError if environ["PATH_INFO"] == "/mute" else ValueError("x" * 5000)

    app = instrument(app, sink)
    for path in ("/mute", "/long"):
        with pytest.raises((MuteError, ValueError)):
            call(app, path)
    assert sink.spans[0].error == "MuteError: (no text)"
    assert len(sink.spans[1].error) == 1000


def test_an_error_answer_given_with_exc_info_is_recorded(sink):
    def app(environ, start_response):
        start_response("200 OK", [])
        try:
            raise OSError("late")
        except OSError as error:
            start_response("502 Bad Gateway", [], (type(error), error, error.__traceback__))
        return [b"sorry"]

    with serving(instrument(app, sink)) as url:
        assert requests.get(url, timeout=5).status_code == 502
    assert (sink.one().status, sink.one().error) == (502, "OSError: late")
    assert "late" in sink.stacks[sink.one().span_id]


# Bodies.


def test_a_stream_is_one_span_from_first_to_last_byte(app, sink):
    go = threading.Event()

    def slow() -> flask.Response:
        def chunks():
            yield b"one"
            go.wait(5)
            yield b"two"

        return flask.Response(chunks())

    app.add_url_rule("/slow", "slow", slow)
    with serving(app) as url:
        answer = requests.get(f"{url}/slow", stream=True, timeout=5)
        assert sink.spans == []
        assert [span[4] for span in sink.opened.values()] == ["/slow"]
        go.set()
        assert answer.content == b"onetwo"
    assert sink.one().status == 200


@pytest.mark.parametrize("path", ["/stream", "/item/7"])
def test_with_flasks_test_client_no_span_is_lost_or_doubled(app, sink, path):
    client = app.test_client()
    answers = [client.get(path) for _ in range(10)]
    for answer in answers[:5]:
        assert answer.data
        answer.close()
        answer.close()
    del answers, answer
    gc.collect()
    assert len(sink.spans) == len({span.span_id for span in sink.spans}) == 10
    assert sink.opened == {}


def test_a_whole_answer_is_recorded_while_the_test_client_holds_it(app, sink):
    answer = app.test_client().get("/item/7")
    assert len(sink.spans) == 1
    answer.close()
    assert len(sink.spans) == 1


def test_a_body_that_is_dropped_unread_ends_its_span(app, sink):
    body = app(create_environ("/stream"), lambda status, headers, exc_info=None: None)
    next(body)
    assert sink.spans == []
    del body
    assert sink.one().status == 200


def test_an_exception_in_a_generator_is_recorded_with_what_the_client_saw(app, sink):
    with serving(app) as url, pytest.raises(requests.RequestException):
        requests.get(f"{url}/broken-stream", timeout=5)
    span = sink.one()
    assert (span.status, span.error) == (200, "ZeroDivisionError: half way")
    assert "half way" in sink.stacks[span.span_id]


def test_a_generator_that_fails_before_its_first_byte_is_a_500(sink):
    def app(environ, start_response):
        start_response("200 OK", [])
        raise ZeroDivisionError("at once")
        yield b""

    with pytest.raises(ZeroDivisionError):
        call(instrument(app, sink))
    assert (sink.one().status, sink.one().error) == (500, "ZeroDivisionError: at once")


def test_a_client_that_hangs_up_leaves_one_span(app, sink):
    def endless() -> flask.Response:
        def chunks():
            while True:
                yield b"x" * 65536

        return flask.Response(chunks())

    app.add_url_rule("/endless", "endless", endless)
    with serving(app) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(1000)
        wait_for(lambda: sink.spans)
    assert sink.one().endpoint == "/endless"


def test_an_exception_while_closing_is_recorded_and_unchanged(sink):
    class Body:
        def __iter__(self):
            return self

        def __next__(self):
            return b"x"

        def close(self):
            raise OSError("not closed")

    def app(environ, start_response):
        start_response("200 OK", [])
        return Body()

    body = instrument(app, sink)({"PATH_INFO": "/"}, lambda *args: None)
    next(body)
    with pytest.raises(OSError, match="not closed"):
        body.close()
    assert sink.one().error == "OSError: not closed"


def test_an_app_that_never_starts_its_response_has_status_0(sink):
    body = instrument(lambda environ, start_response: iter([]), sink)(
        {"PATH_INFO": "/"}, lambda *args: None
    )
    assert list(body) == []
    assert (sink.one().status, sink.one().error) == (0, None)


def test_an_app_that_returns_no_body_fails_as_it_would_bare(sink):
    with pytest.raises(TypeError, match="not iterable"):
        call(instrument(lambda environ, start_response: None, sink))
    assert sink.one().status == 500


def test_write_still_writes(sink):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])(b"writ")
        return []

    with serving(instrument(app, sink)) as url:
        assert requests.get(url, timeout=5).content == b"writ"
    assert sink.one().status == 200


def test_a_list_comes_back_as_the_list_that_it_was(sink):
    body = [b"ok"]
    assert instrument(lambda environ, start: body, sink)({"PATH_INFO": "/"}, None) is body
    assert len(sink.spans) == 1


@pytest.mark.parametrize("length", ["", "x", "-1", "99", "\u00b2"])
def test_a_wrong_content_length_harms_nothing(sink, length):
    def app(environ, start_response):
        start_response("200 OK", [("content-length", length)])
        return iter([b"one", b"two"])

    assert call(instrument(app, sink))[2] == b"onetwo"
    assert sink.one().status == 200


# Open requests.


@pytest.mark.parametrize("path", ["/hang/7", "/aiopsy"])
def test_a_request_that_hangs_in_a_hook_is_visible_under_its_route(app, sink, path):
    entered, go = threading.Event(), threading.Event()

    @app.before_request
    def hang() -> None:
        entered.set()
        go.wait(5)

    app.add_url_rule("/hang/<int:number>", "hanging", lambda number: "ok")
    with serving(app) as url:
        thread = threading.Thread(target=requests.get, args=(url + path,), kwargs={"timeout": 5})
        thread.start()
        assert entered.wait(5)
        ((key, opened),) = sink.opened.items()
        go.set()
        thread.join()
    done = sink.one()
    assert len(opened) == len(Span._fields)
    assert Span._make(opened)._replace(duration_ns=done.duration_ns, status=200) == done
    assert Span._make(opened).duration_ns is None
    assert key == done.span_id


# Plain WSGI callables.


def test_the_endpoint_of_a_plain_app_is_its_path(sink):
    call(instrument(hello, sink), "/caf\u00c3\u00a9")  # UTF-8, as WSGI hands it over
    assert sink.one().endpoint == "/caf\u00e9"


def test_unknown_paths_of_a_plain_app_are_one_endpoint(sink):
    def app(environ, start_response):
        start_response("404 Not Found", [])
        return []

    call(instrument(app, sink))
    assert sink.one().endpoint == "(unmatched)"


# Wrapping.


def test_a_flask_app_is_wrapped_in_place(sink):
    app = shop()
    assert instrument(app, sink) is app


@pytest.mark.parametrize("make", [shop, lambda: hello])
def test_instrumenting_twice_records_once(sink, make):
    app = instrument(make(), sink)
    assert instrument(app, sink) is app
    call(app, "/item/7")
    assert len(sink.spans) == 1


def test_the_same_bound_method_is_the_same_sink():
    spans = []
    app = instrument(instrument(shop(), spans.append), spans.append)
    app.test_client().get("/item/7")
    assert len(spans) == 1


@pytest.mark.parametrize("make", [shop, lambda: hello])
def test_a_second_sink_or_service_is_refused(sink, make):
    app = instrument(make(), sink)
    with pytest.raises(ValueError, match="app must be instrumented with one sink and service"):
        instrument(app, Sink())
    with pytest.raises(ValueError, match="got service 'other' after 'shop'"):
        instrument(app, sink, "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, print), "app must be a Flask app or a WSGI callable, got NoneType"),
        ((hello, None), "sink must be a callable that takes a Span, got NoneType"),
        ((hello, print, ""), "service must be a non-empty text, got ''"),
        ((hello, print, None), "service must be a non-empty text, got None"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        instrument(*arguments)


def test_a_flask_app_mounted_in_an_app_of_asgi_is_one_request_of_it(sink):
    """As a2wsgi mounts it: the scope is in the environ."""
    app = instrument(shop(), sink, "shop")

    async def bridge(scope, receive, send):
        environ = create_environ("/item/7") | {"SCRIPT_NAME": "/old", "asgi.scope": scope}
        started = []
        body = b"".join(app(environ, lambda status, headers: started.append(status)))
        await send({"type": "http.response.start", "status": int(started[0][:3]), "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def exchange(message=None):
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "path": "/old/item/7", "headers": []}
    for service in ("shop", "gateway"):
        asyncio.run(instrument(bridge, sink, service)(scope, exchange, exchange))
    once, inner, outer = sink.spans
    assert (once.service, once.endpoint) == ("shop", "/old/item/<int:number>")
    assert (inner.service, inner.parent_id) == ("shop", outer.span_id)


def test_two_apps_in_one_process_do_not_mix(sink):
    other = Sink()
    inner = instrument(shop(), other, "inner")
    outer = flask.Flask("outer")
    outer.add_url_rule("/out", "out", lambda: inner.test_client().get("/item/7").text)
    instrument(outer, sink, "outer").test_client().get("/out")
    assert (sink.one().service, sink.one().endpoint) == ("outer", "/out")
    assert (other.one().service, other.one().endpoint) == ("inner", "/item/<int:number>")
    # The caller is in the same context; without a header it is a stranger all the same.
    assert other.one().parent_id is None
    assert other.one().trace_id != sink.one().trace_id


# Sinks that fail.


class Failing:
    def __call__(self, span: Span) -> None:
        raise RuntimeError("full")

    def stack(self, span_id: str, text: str) -> None:
        raise RuntimeError("full")


def test_a_sink_that_raises_harms_no_request_and_is_logged_once(caplog):
    sink = Failing()
    app = instrument(shop(), sink)
    with serving(app) as url, Session(sink) as session:
        for _ in range(3):
            assert session.get(f"{url}/item/7", timeout=5).text == "ok"
        assert session.get(f"{url}/broken", timeout=5).status_code == 500
        assert session.recorder.failed == 4
    assert app.extensions["aiops_lab"].recorder.failed == 5
    # the app's and the session's
    assert caplog.text.count("the sink of service 'shop' failed") == 2


def test_many_threads_lose_nothing(app, sink):
    def work(url: str) -> None:
        with requests.Session() as session:
            for n in range(25):
                session.get(f"{url}/item/{n}", timeout=10)

    with serving(app) as url:
        threads = [threading.Thread(target=work, args=(url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({span.span_id for span in sink.spans}) == len(sink.spans) == 100
    assert sink.opened == {}


# The session.


@pytest.fixture
def session(sink):
    with Session(sink, "caller") as session:
        yield session


def test_a_call_outside_of_a_request_starts_a_trace(session, sink):
    answering = Sink()
    with serving(instrument(shop(), answering)) as url:
        session.get(f"{url}/item/7?secret=1", timeout=5)
        host = urlsplit(url).netloc
    span, server = sink.one(), answering.one()
    assert (span.parent_id, span.service, span.endpoint, span.kind) == (
        None,
        "caller",
        "/item/<id>",
        "client",
    )
    assert (span.peer, span.status, span.error) == (host, 200, None)
    assert (server.trace_id, server.parent_id) == (span.trace_id, span.span_id)
    assert span.duration_ns > server.duration_ns


def test_without_the_header_the_trace_breaks(session, sink, app):
    with serving(app) as url, requests.Session() as plain:
        app.add_url_rule("/front", "front", lambda: plain.get(f"{url}/item/7", timeout=5).text)
        session.get(f"{url}/front", timeout=5)
    assert len({span.trace_id for span in sink.spans}) == 2


def test_calls_made_in_a_request_are_its_children(session, sink, app):
    with serving(app) as url:
        app.add_url_rule("/front", "front", lambda: session.get(f"{url}/item/7", timeout=5).text)
        requests.get(f"{url}/front", headers=HEADERS, timeout=5)
    back, client, front = sink.spans
    assert {span.trace_id for span in sink.spans} == {TRACE}
    assert (front.parent_id, client.parent_id, back.parent_id) == (
        PARENT,
        front.span_id,
        client.span_id,
    )


def test_calls_made_while_streaming_are_in_the_trace(session, sink, app):
    with serving(app) as url:

        def front() -> flask.Response:
            return flask.Response(
                session.get(f"{url}/item/{n}", timeout=5).content for n in range(2)
            )

        app.add_url_rule("/front", "front", front)
        assert requests.get(f"{url}/front", headers=HEADERS, timeout=5).text == "okok"
    clients = [span for span in sink.spans if span.kind == "client"]
    assert {span.parent_id for span in clients} == {sink.spans[-1].span_id}
    assert {span.trace_id for span in sink.spans} == {TRACE}


def test_calls_made_once_the_answer_is_sent_are_in_the_trace(session, sink, app):
    with serving(app) as url:

        def front() -> flask.Response:
            answer = flask.make_response("ok")
            answer.call_on_close(lambda: session.get(f"{url}/item/7", timeout=5))
            return answer

        app.add_url_rule("/front", "front", front)
        assert requests.get(f"{url}/front", headers=HEADERS, timeout=5).text == "ok"
        wait_for(lambda: len(sink.spans) == 3)
    by_endpoint = {(span.kind, span.endpoint): span for span in sink.spans}
    front_span = by_endpoint["server", "/front"]
    assert by_endpoint["client", "/item/<id>"].parent_id == front_span.span_id
    assert front_span.trace_id == TRACE


def test_a_finished_request_leaves_nothing_behind(session, sink, app):
    with serving(app) as url:
        app.test_client().get("/item/7", headers=HEADERS)
        session.get(f"{url}/stream", timeout=5)
    client = next(span for span in sink.spans if span.kind == "client")
    assert client.parent_id is None
    assert client.trace_id != TRACE


def test_the_flags_and_the_tracestate_travel_on(session, app):
    seen = []
    app.add_url_rule("/back", "back", lambda: str(seen.append(dict(flask.request.headers))))
    with serving(app) as url:
        app.add_url_rule("/front", "front", lambda: session.get(f"{url}/back", timeout=5).text)
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-02", "tracestate": "rojo=1, congo=2"}
        requests.get(f"{url}/front", headers=headers, timeout=5)
    assert seen[0]["Traceparent"].endswith("-02")
    assert seen[0]["Tracestate"] == "rojo=1,congo=2"


def test_headers_copied_from_elsewhere_do_not_speak_for_the_call(session, sink, app):
    seen = []
    app.add_url_rule("/back", "back", lambda: str(seen.append(dict(flask.request.headers))))
    with serving(app) as url:
        session.get(f"{url}/back", headers=HEADERS, timeout=5)
    assert TRACE not in seen[0]["Traceparent"]
    assert "Tracestate" not in seen[0]


def test_a_timeout_has_status_0_and_names_its_peer(sink):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with Session(sink, peers={url: "payment"}) as session, pytest.raises(requests.ReadTimeout):
            session.get(f"{url}/pay", timeout=0.05)
    span = sink.one()
    assert (span.status, span.peer, span.endpoint) == (0, "payment", "/pay")
    assert span.error.startswith("ReadTimeout: ")
    assert span.duration_ns > 40_000_000


def test_a_refused_connection_has_status_0_and_names_its_peer(session, sink):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(requests.ConnectionError):
        session.get(f"http://127.0.0.1:{port}/", timeout=5)
    assert (sink.one().status, sink.one().peer) == (0, f"127.0.0.1:{port}")
    assert sink.one().error.startswith("ConnectionError: ")


def test_a_failure_answered_by_the_peer_has_no_error_text(session, sink):
    with serving(shop()) as url:
        session.get(f"{url}/busy", timeout=5)
    assert (sink.one().status, sink.one().error) == (503, None)


@pytest.fixture
def redirecting():
    app = shop()
    app.add_url_rule("/old", "old", lambda: flask.redirect("/item/7"))
    app.add_url_rule("/loop", "loop", lambda: flask.redirect("/loop"))
    return app


def test_each_hop_of_a_redirected_call_is_a_span_of_one_trace(session, sink, redirecting):
    answering = Sink()
    with serving(instrument(redirecting, answering)) as url:
        assert session.get(f"{url}/old", timeout=5).text == "ok"
    hops = [(span.endpoint, span.status) for span in sink.spans]
    assert hops == [("/old", 302), ("/item/<id>", 200)]
    assert len({span.trace_id for span in sink.spans + answering.spans}) == 1
    called_by = [server.parent_id for server in answering.spans]
    assert called_by == [span.span_id for span in sink.spans]


def test_redirects_without_end_are_as_many_spans_as_hops(session, sink, redirecting):
    session.max_redirects = 3
    with serving(redirecting) as url, pytest.raises(requests.TooManyRedirects):
        session.get(f"{url}/loop", timeout=5)
    assert [span.status for span in sink.spans] == [302] * 4
    assert sink.opened == {}


def test_a_call_made_by_a_hook_of_a_call_is_a_span_of_its_own(session, sink):
    with serving(shop()) as url:

        def follow(answer: requests.Response, **_: object) -> None:
            session.get(f"{url}/item/8", timeout=5)

        session.get(f"{url}/item/7", hooks={"response": follow}, timeout=5)
    assert [span.endpoint for span in sink.spans] == ["/item/<id>"] * 2
    first, second = sink.spans
    assert first.trace_id != second.trace_id


def test_one_prepared_request_sent_twice_is_two_spans(session, sink):
    with serving(shop()) as url:
        prepared = session.prepare_request(requests.Request("GET", f"{url}/item/7"))
        for _ in range(2):
            session.send(prepared, timeout=5)
    assert len({span.span_id for span in sink.spans}) == 2


def test_what_requests_refuses_is_refused_as_before(session, sink):
    with pytest.raises(ValueError, match="only send PreparedRequests"):
        session.send(requests.Request("GET", "http://127.0.0.1/"))
    with pytest.raises(requests.exceptions.MissingSchema):
        session.get("no-scheme")
    assert sink.spans == []


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("http://shop:8001/pay", "payment"),
        ("http://shop:8001", "payment"),
        ("http://shop:8001?x=1", "payment"),
        ("http://shop:8001/stock/3", "inventory"),
        ("http://shop:8001/stocks", "payment"),
        ("http://shop:80/pay", "shop:80"),
        ("http://shop/pay", "shop:80"),
        ("https://me:secret@shop/pay", "shop:443"),
    ],
)
def test_the_longest_base_that_fits_names_the_peer(sink, url, peer):
    session = Session(
        sink, peers={"http://shop:8001/": "payment", "http://shop:8001/stock": "inventory"}
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Answering())
    session.get(url)
    assert sink.one().peer == peer


def test_peers_that_are_known_later_count(sink):
    peers: dict[str, str] = {}
    session = Session(sink, peers=peers)
    session.mount("http://", _Answering())
    peers["http://shop"] = "payment"
    session.get("http://shop/pay")
    assert sink.one().peer == "payment"


def test_a_call_that_is_waiting_is_visible(session, sink):
    class Looking(_Answering):
        def send(self, *args: object, **kwargs: object) -> requests.Response:
            self.opened = [Span._make(span) for span in sink.opened.values()]
            return super().send(*args, **kwargs)

    looking = Looking()
    session.mount("http://", looking)
    session.get("http://shop/pay")
    (waiting,) = looking.opened
    assert (waiting.kind, waiting.peer, waiting.duration_ns) == ("client", "shop:80", None)
    assert waiting.span_id == sink.one().span_id


class _Answering(requests.adapters.BaseAdapter):
    def send(
        self, request: requests.PreparedRequest, *args: object, **kwargs: object
    ) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer._content, answer.request = 200, b"ok", request
        answer.url = request.url  # type: ignore[assignment]
        return answer

    def close(self) -> None:
        pass
