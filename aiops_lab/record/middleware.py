"""How does an incoming request become a span? ``instrument(app)`` records what a service serves.

    traceparent in -> server span -> (context variable) -> client span -> traceparent out
       the header       instrument        same request         Session        the header

A server span takes its parent from the header and from nowhere else. A caller in the same process
leaves its span in the context variable, and using it would hide that the header was lost on the
way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aiops_lab.record.recorder import (
    EXCLUDED,
    UNMATCHED,
    App,
    Context,
    Recorder,
    ServerSpan,
    Sink,
    current_span,
    decode_header,
)
from aiops_lab.record.trace_context import (
    KNOWN_FLAGS,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def instrument(app: App, sink: Sink, service: str = "shop") -> App:
    """Return `app` so that each of its requests becomes one server span.

    A Flask app is wrapped in place, any other WSGI callable comes back wrapped. Every monitored
    response carries ``X-Trace-Id``. A span ends when its response is complete: when the app returns
    the whole body, else when the stream is exhausted, closed or dropped. So the span is in the sink
    before the caller has the last byte. Its endpoint is Flask's route template; for other callables
    the path, or ``(unmatched)`` where the answer is 404. The laboratory's own paths and static
    files are not monitored, because they would be most of the requests.

    Parameters
    ----------
    app
        A Flask app or any WSGI callable. A second call with the same sink and service changes
        nothing.
    sink
        Takes each finished span, once: a function, a list's ``append``, a `SpanStore`. It must
        return quickly. One that raises is logged once and counted; the request goes on.
    service
        The name of the service in its spans.

    Raises
    ------
    ValueError
        If the app was instrumented before with another sink or service, or a parameter breaks its
        rule.

    Notes
    -----
    A thread that a request starts does not inherit its context. Run its work in
    ``contextvars.copy_context().run(...)``, or its calls start traces of their own.

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
    if not callable(app):
        raise ValueError(f"app must be a Flask app or a WSGI callable, got {type(app).__name__}")
    recorder = Recorder(sink, service)
    flask = sys.modules.get("flask")  # an app that is Flask's has imported it
    is_flask = flask is not None and isinstance(app, flask.Flask)
    before = app.extensions.get("aiops_lab") if is_flask else app  # type: ignore[attr-defined]
    if isinstance(before, _Instrumented):
        before.recorder.must_equal(recorder)
    elif is_flask:
        _instrument_flask(app, recorder)
    else:
        return _Instrumented(app, recorder)  # type: ignore[return-value]
    return app


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
        token = current_span.set(request)
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
            current_span.reset(token)
        self._sent = self._sent or len(chunk) > 0
        return chunk

    def close(self) -> None:
        token = current_span.set(self._request)
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        except BaseException as error:
            self._request.fail(error)
            raise
        finally:
            current_span.reset(token)
            self._request.end()

    def __del__(self) -> None:
        self._request.end()


class _Instrumented:
    """The WSGI callable around an application; with `routed`, Flask's routes name the endpoints."""

    def __init__(
        self,
        app: WSGIApplication,
        recorder: Recorder,
        excluded: Iterable[str] = EXCLUDED,
        routed: bool = False,
    ) -> None:
        self.app = app
        self.recorder = recorder
        self._excluded = tuple(path.rstrip("/") + "/" for path in excluded)
        self._routed = routed

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO") or "/"
        if f"{path}/".startswith(self._excluded):
            return self._pass_by(environ, start_response)
        endpoint = UNMATCHED if self._routed else decode_header(path)
        request = ServerSpan(self.recorder, endpoint, _context_of_request(environ))
        request.server = start_response
        request.by_path = not self._routed
        request.complete = False
        request.show()
        token = current_span.set(request)
        try:
            body = self.app(environ, request.start_response)
            if request.complete or isinstance(body, (list, tuple)):
                request.end()
                return body
            return _Body(request, body)
        except BaseException as error:
            request.break_off(error, 500)
            raise
        finally:
            current_span.reset(token)

    def _pass_by(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = current_span.set(None)
        try:
            return self.app(environ, start_response)
        finally:
            current_span.reset(token)


def _instrument_flask(app: Any, recorder: Recorder) -> None:
    from flask import got_request_exception, request

    excluded = (*EXCLUDED, app.static_url_path) if app.has_static_folder else EXCLUDED
    wrapped = _Instrumented(app.wsgi_app, recorder, excluded, routed=True)
    preprocess = app.preprocess_request
    finalize = app.finalize_request
    get_request = request._get_current_object  # type: ignore[attr-defined]

    def preprocess_request(*args: Any) -> Any:
        span = current_span.get()
        rule = get_request().url_rule
        if span is not None and rule is not None:
            span.endpoint = rule.rule
            span.show()
        return preprocess(*args)

    def finalize_request(*args: Any, **kwargs: Any) -> Any:
        response = finalize(*args, **kwargs)
        span = current_span.get()
        if span is not None:
            # Then the request ends when the application returns. The answer of an abort(404) is an
            # iterator in Flask, although its whole text is there.
            span.complete = response.is_sequence or getattr(args[-1], "response", args[-1]) is None
        return response

    # The first runs right after routing, before any hook of the app, so that a hanging request has
    # its endpoint. The signals request_started and request_finished come at the same moments, but
    # cost 2 microseconds each.
    app.preprocess_request = preprocess_request
    app.finalize_request = finalize_request
    got_request_exception.connect(_on_exception, app)
    app.wsgi_app = wrapped
    app.extensions["aiops_lab"] = wrapped


def _on_exception(_app: object, exception: BaseException, **_: object) -> None:
    """Record an exception that Flask turns into a 500 before it can reach a wrapper."""
    span = current_span.get()
    if span is not None:
        span.fail(exception)


def _context_of_request(environ: WSGIEnvironment) -> Context:
    came = parse_traceparent(environ.get("HTTP_TRACEPARENT", ""))
    if came is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    state = environ.get("HTTP_TRACESTATE", "")
    return *came, state and parse_tracestate(state)
