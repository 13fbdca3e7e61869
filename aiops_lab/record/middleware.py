"""How does an incoming request become a span? ``instrument(app)`` records what a service serves.

    traceparent in -> server span -> (context variable) -> client span -> traceparent out
       the header       instrument        same request         Session        the header

A server span takes its parent from the header and from nowhere else. A caller in the same process
leaves its span in the context variable, and using it would hide that the header was lost on the
way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aiops_lab.record.asgi import WEBSOCKETS, instrument_asgi
from aiops_lab.record.recorder import (
    SPAN,
    App,
    Context,
    Recorder,
    ServerSpan,
    Sink,
    current_span,
)
from aiops_lab.record.redaction import Redact, redact_secrets
from aiops_lab.record.routes import Exclude, RouteNames, exclusion, is_asgi, must_be_wsgi
from aiops_lab.record.trace_context import (
    KNOWN_FLAGS,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def instrument(
    app: App,
    sink: Sink,
    service: str = "shop",
    *,
    exclude: Exclude = (),
    redact: Redact = redact_secrets,
) -> App:
    """Return `app` so that each of its requests becomes one server span.

    An app of Flask, Starlette or FastAPI is wrapped in place, any other callable of WSGI or ASGI
    comes back wrapped. Every monitored response carries ``X-Trace-Id``. A span ends when its
    response is complete: when the app returns the whole body, else when the stream is exhausted,
    closed or dropped; of a stream, ``first_byte_ns`` says when it began. So the span is in the sink
    before the caller has the last byte.

    The endpoint is the route template of the framework, below the path at which the app is mounted
    (``SCRIPT_NAME``, ``root_path``). Of other callables it is the path, with ids folded as in
    `aiops_lab.endpoints`, or ``(unmatched)`` where the answer is 404.

    Not recorded, but counted in ``left_out`` of the recorder, are the requests that Flask routes to
    a static view or to a blueprint of this package, static files of Starlette, websockets, and what
    `exclude` names.

    Parameters
    ----------
    app
        An app of Flask, Starlette or FastAPI, or any callable of WSGI or ASGI. A second call with
        the same sink and service changes nothing.
    sink
        Takes each finished span, once: a function, a list's ``append``, a `SpanStore`. It must
        return quickly. One that raises is logged once and counted; the request goes on.
    service
        The name of the service in its spans.
    exclude
        What is not recorded: routes, such as ``["/health"]``, or a function that takes a route and
        says whether to leave it out. Default: nothing, because a health check that becomes slow is
        worth knowing.
    redact
        What may be stored of the text of an error and of its stack: a function that takes and
        returns a text. Default: `redact_secrets`, which hides passwords, tokens and queries of URLs
        where their place shows them. It is called for failures only.

    Raises
    ------
    ValueError
        If the app was instrumented before with another sink or service, or a parameter breaks its
        rule.

    Notes
    -----
    A thread that a request starts does not inherit its context. Run its work in
    ``contextvars.copy_context().run(...)``, or its calls start traces of their own.

    Background tasks of an asynchronous app run after the end of its span. Where the client goes
    away before there is an answer, the status is 499.

    What an exception means is decided by the answer: below 500 it was handled.

    Examples
    --------
    >>> spans = []
    >>> def app(environ, start_response):
    ...     start_response("204 No Content", [])
    ...     return []
    >>> _ = instrument(app, spans.append)({"PATH_INFO": "/health"}, lambda status, headers: None)
    >>> spans[0].endpoint, spans[0].status, spans[0].parent_id
    ('/health', 204, None)
    """
    asynchronous = is_asgi(app)
    if not asynchronous:
        must_be_wsgi(app)
    recorder = Recorder(sink, service, redact, changes_ended=asynchronous)
    leaves_out = exclusion(exclude, recorder)
    if asynchronous:
        return instrument_asgi(app, recorder, leaves_out)
    flask = sys.modules.get("flask")  # an app that is Flask's has imported it
    is_flask = flask is not None and isinstance(app, flask.Flask)
    before = app.extensions.get("aiops_lab") if is_flask else app  # type: ignore[attr-defined]
    if isinstance(before, _Instrumented):
        before.recorder.must_equal(recorder)
    elif is_flask:
        _instrument_flask(app, recorder, leaves_out)
    else:
        return _Instrumented(app, recorder, leaves_out)  # type: ignore[return-value]
    return app


# A method of an imported name is bound anew each time that it is called by that name.
_get_span, _set_span, _reset_span = current_span.get, current_span.set, current_span.reset


class _Body:
    """A response body that is still to be made, iterated with its request as the current one.

    The application holds no reference to this object, so that a body which is dropped ends its
    span at once.
    """

    __slots__ = ("_request", "_body", "_next", "_sent")

    def __init__(self, request: ServerSpan, body: Iterable[bytes]) -> None:
        self._request = request
        self._body = body
        self._sent = False
        self._next = iter(body).__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        request = self._request
        token = _set_span(request)
        try:
            chunk = self._next()
        except StopIteration:
            request.end()
            raise
        except BaseException as error:
            # Before the first byte the server can still answer 500.
            request.break_off(error, request.status if self._sent else 500)
            raise
        finally:
            _reset_span(token)
        if chunk and not self._sent:
            self._sent = True
            request.begin_answer()
        return chunk

    def close(self) -> None:
        token = _set_span(self._request)
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        except BaseException as error:
            self._request.fail(error)
            raise
        finally:
            _reset_span(token)
            self._request.end()
            self._request.let_server_go()

    def __del__(self) -> None:
        self._request.end_dropped()
        self._request.let_server_go()


class _Instrumented:
    """The WSGI callable around an application, whose endpoints `routes` names where it is Flask."""

    def __init__(
        self,
        app: WSGIApplication,
        recorder: Recorder,
        leaves_out: Callable[[str], bool] | None,
        routes: RouteNames | None = None,
        whole: type | None = None,
    ) -> None:
        self.app = app
        self.recorder = recorder
        self._leaves_out = leaves_out
        self._routes = routes
        self._whole = whole  # the class of a body that comes from Flask and from no middleware

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        app, recorder = self.app, self.recorder
        if "HTTP_UPGRADE" in environ and _asks_for_websocket(environ):
            recorder.leave_out(WEBSOCKETS)
            return self._pass_by(environ, start_response)
        outer = environ.get(SPAN)
        if outer is None and "asgi.scope" in environ:
            outer = _asgi_span_of(environ)
        if outer is None:
            context = _context_of_request(environ)
        elif outer[1] == id(environ) and outer[0].recorder.equals(recorder):
            return app(environ, start_response)  # mounted in an app that records already
        else:
            context = _context_below(outer[0])
        request = ServerSpan(recorder, context, environ.get("REQUEST_METHOD"), start_response)
        routes = self._routes
        mounted = environ.get("SCRIPT_NAME")
        if routes is None:
            self._name_by_path(request, environ)
            if request.left_out:
                return self._pass_by(environ, start_response)
        environ[SPAN] = request, id(environ)
        recorder.opened[request.span_id] = request
        token = _set_span(request)
        try:
            body = app(environ, request.start_response)
            if not request.named:
                self._name_late(request, environ, mounted)
            if request.left_out:
                return body
            kind = type(body)
            if (request.complete and kind is self._whole) or kind is list or kind is tuple:
                request.end()
                request.let_server_go()
                return body
            return _Body(request, body)
        except BaseException as error:
            if not request.named:
                self._name_late(request, environ, mounted)
            request.break_off(error, 500)
            raise
        finally:
            _reset_span(token)

    def _name_late(
        self, request: ServerSpan, environ: WSGIEnvironment, mounted: str | None
    ) -> None:
        """Name a request that Flask did not route: another application answered, or none did."""
        is_mounted_below = environ.get("SCRIPT_NAME") != mounted
        if self._routes is not None and not is_mounted_below:
            self._routes.name_unrouted(request, environ)
        if not request.named:
            self._name_by_path(request, environ)

    def _name_by_path(self, request: ServerSpan, environ: WSGIEnvironment) -> None:
        mounted = environ.get("SCRIPT_NAME") or ""
        request.name_by_path(mounted + (environ.get("PATH_INFO") or "") or "/")
        if self._leaves_out is not None and self._leaves_out(request.endpoint):
            request.leave_out()

    def _pass_by(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = _set_span(None)
        try:
            return self.app(environ, start_response)
        finally:
            _reset_span(token)


def _asgi_span_of(environ: Any) -> tuple[Any, int] | None:
    """Return the span of the ASGI application in which this one is mounted, with whose environ it
    is; None without one. a2wsgi hands the scope over.
    """
    span = environ["asgi.scope"].get(SPAN)
    return None if span is None else (span, id(environ))


def _asks_for_websocket(environ: WSGIEnvironment) -> bool:
    """Return whether the connection becomes a websocket: it lasts as long as a page is open, and
    libraries end it with an exception, such as ``StopIteration``, that is no failure.
    """
    upgrade: str = environ["HTTP_UPGRADE"]
    return upgrade.strip().lower() == "websocket"


def _instrument_flask(
    app: Any, recorder: Recorder, leaves_out: Callable[[str], bool] | None
) -> None:
    from flask import got_request_exception
    from flask import request as current
    from werkzeug.wsgi import ClosingIterator

    routes = RouteNames(app, recorder, leaves_out)
    wrapped = _Instrumented(app.wsgi_app, recorder, leaves_out, routes, ClosingIterator)
    preprocess = app.preprocess_request
    finalize = app.finalize_request
    handle = app.handle_user_exception
    get_request = current._get_current_object  # type: ignore[attr-defined]

    def preprocess_request(*args: Any) -> Any:
        span = _get_span()
        if span is not None:
            request = get_request()
            routes.name(span, request, request.url_rule)
        return preprocess(*args) if args else preprocess()  # without a star in half the time

    def finalize_request(answer: Any, *more: Any, **named: Any) -> Any:
        has_more = more or named
        response = finalize(answer, *more, **named) if has_more else finalize(answer)
        span = _get_span()
        if span is not None:
            # Then the request ends when the application returns.
            # (the property is_sequence says the same, but takes a call)
            is_sequence = isinstance(response.response, (list, tuple))
            is_whole = is_sequence or _is_whole(more[-1] if more else answer)
            # what `call_on_close` runs belongs to the trace
            span.complete = is_whole and not getattr(response, "_on_close", None)
        return response

    def handle_user_exception(error: Exception) -> Any:
        _on_exception(app, error)
        return handle(error)

    # The first runs right after routing, before any hook of the app, so that a hanging request has
    # its endpoint. The signals request_started and request_finished come at the same moments, but
    # cost 2 microseconds each.
    app.preprocess_request = preprocess_request
    app.finalize_request = finalize_request
    # An app's own handler for all exceptions answers 500 without Flask's signal.
    app.handle_user_exception = handle_user_exception
    got_request_exception.connect(_on_exception, app)
    app.wsgi_app = wrapped.__call__  # a method costs less than its object
    app.extensions["aiops_lab"] = wrapped


def _is_whole(answer: Any) -> bool:
    """Return whether the answer is an ``abort(404)`` or one with a response that has its text.

    Flask turns either into an iterator.
    """
    inner = getattr(answer, "response", answer)
    return inner is None or getattr(inner, "is_sequence", False)


def _on_exception(_app: object, exception: BaseException, **_: object) -> None:
    """Note an exception that the framework turns into an answer before it can reach a wrapper.

    It is a failure only if the answer is one; extensions report every ``abort(404)``, too. An
    HTTPException says all that it has to say by its status.
    """
    from werkzeug.exceptions import HTTPException

    span = _get_span()
    if span is not None and not isinstance(exception, HTTPException):
        span.reported = exception


def _context_below(span: ServerSpan) -> Context:
    return span.trace_id, span.span_id, span.flags, span.tracestate


def _context_of_request(environ: WSGIEnvironment) -> Context:
    came = parse_traceparent(environ.get("HTTP_TRACEPARENT", ""))
    if came is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    trace_id, parent_id, flags = came
    state = environ.get("HTTP_TRACESTATE")
    return trace_id, parent_id, flags, parse_tracestate(state) if state else ""
