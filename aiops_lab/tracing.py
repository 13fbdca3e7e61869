"""How does a request become spans? ``instrument(app)`` records what comes in, ``Session`` what goes out.

    traceparent in -> server span -> (context variable) -> client span -> traceparent out
       the header       instrument        same request         Session        the header

A server span takes its parent from the header and from nowhere else. A caller in the same process leaves
its span in the context variable, and using it would hide that the header was lost on the way.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import requests

from aiops_lab.spans import (
    KNOWN_FLAGS,
    Span,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_traceparent,
    parse_tracestate,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Sink = Callable[[Span], object]
App = TypeVar("App", bound="WSGIApplication")
Context = tuple[str, str | None, int, str]  # trace_id, parent_id, flags, tracestate

UNMATCHED = "(unmatched)"
EXCLUDED = ("/aiops", "/simulate", "/static")  # each with everything below it
# An error text is a sample for a reader; the stack keeps the whole. A body pasted into a message may be huge.
MAX_ERROR = 1000
PORTS = {"http": 80, "https": 443}

_log = logging.getLogger(__name__)
_make_span = tuple.__new__  # half the time of Span(...)


def instrument(app: App, sink: Sink, service: str = "shop") -> App:
    """Return `app` so that each of its requests becomes one server span.

    A Flask app is wrapped in place, any other WSGI callable comes back wrapped. Every monitored response
    carries ``X-Trace-Id``. A span ends when its response is complete: when the app returns the whole body, else
    when the stream is exhausted, closed or dropped. So the span is in the sink before the caller has the last
    byte. Its endpoint is Flask's route template; for other callables the path, or ``(unmatched)`` where the
    answer is 404. The laboratory's own paths and static files are not monitored: they would drown the rest.

    Parameters
    ----------
    app
        A Flask app or any WSGI callable. Doing it again with the same sink and service changes nothing.
    sink
        Takes each finished span, once: a function, a list's ``append``, a `SpanStore`. It must return quickly.
        One that raises is logged once and counted; the request goes on.
    service
        The name of the service in its spans.

    Raises
    ------
    ValueError
        If the app was instrumented before with another sink or service, or a parameter breaks its rule.

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


class Session(requests.Session):
    """A `requests.Session` that sends the trace on and records each call as a client span.

    A span ends when the call returns: with the body, or with the headers where ``stream=True``. A call with
    its redirects is one span. Without an answer (timeout, refused) its status is 0 and its error names the
    exception. Outside of a request a call starts a trace.

    Parameters
    ----------
    sink, service
        As in `instrument`; the service is the caller.
    peers
        ``{base_url: service}``, the names of the called services; the longest base that fits wins, and
        the mapping is read at each call. Default: none, so that a peer is called host:port.
    """

    def __init__(self, sink: Sink, service: str = "shop", peers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.recorder = Recorder(sink, service)
        self.peers: Mapping[str, str] = {} if peers is None else peers

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, with its trace context, and record the call."""
        calling = _calling.get()
        is_hop = calling is not None and request.headers.get("traceparent") == calling  # of a redirect
        if is_hop or not isinstance(request, requests.PreparedRequest):
            return super().send(request, **kwargs)
        url = urlsplit(request.url or "")
        peer = self._peer(request.url or "", url)
        span = _OpenSpan(self.recorder, url.path or "/", _context_of_call(), "client", peer)
        span.show()
        token = _calling.set(_inject(span, request.headers))
        try:
            response = super().send(request, **kwargs)
            span.status = response.status_code
            return response
        except BaseException as error:
            span.error = _describe(error)
            raise
        finally:
            _calling.reset(token)
            span.end()

    def _peer(self, url: str, parts: SplitResult) -> str:
        bases = [base for base in self.peers if _is_below(url, base.rstrip("/"))] if self.peers else []
        if bases:
            return self.peers[max(bases, key=len)]
        return _host(parts.scheme, parts.netloc)


class Recorder:
    """Where spans go: a sink with its optional ``stack`` and ``opened``, and the count of what it refused."""

    def __init__(self, sink: Sink, service: str) -> None:
        if not callable(sink):
            raise ValueError(f"sink must be a callable that takes a Span, got {type(sink).__name__}")
        if not isinstance(service, str) or service == "":
            raise ValueError(f"service must be a non-empty text, got {service!r}")
        self.sink = sink
        self.service = service
        self.opened: dict[str, tuple] = getattr(sink, "opened", {})
        self.stack: Callable[[str, str], object] = getattr(sink, "stack", lambda span_id, text: None)
        self.failed = 0

    def must_equal(self, other: Recorder) -> None:
        if (self.sink, self.service) != (other.sink, other.service):
            raise ValueError(
                f"app must be instrumented with one sink and service, got service {other.service!r} "
                f"after {self.service!r}; one function can feed several sinks"
            )

    def hand_over(self, take: Callable[..., object], *values: object) -> None:
        """Give the sink its values. Where it fails, count that, and log the first time."""
        try:
            take(*values)
        except Exception:
            # Not a warning: that could be turned into an exception.
            self.failed += 1
            if self.failed == 1:
                _log.warning("the sink of service %r failed; requests go on", self.service, exc_info=True)


class _OpenSpan:
    """A span that has begun. Its end hands it to the sink, once."""

    __slots__ = (
        "recorder", "trace_id", "span_id", "parent_id", "flags", "tracestate", "endpoint", "kind", "peer", "start_ns",
        "begun", "status", "error", "ended",
    )  # fmt: skip

    def __init__(
        self, recorder: Recorder, endpoint: str, context: Context, kind: str = "server", peer: str | None = None
    ) -> None:
        self.recorder = recorder
        self.endpoint, self.kind, self.peer = endpoint, kind, peer
        self.trace_id, self.parent_id, self.flags, self.tracestate = context
        self.span_id = new_span_id()
        self.status = 0
        self.error: str | None = None
        self.ended = False
        self.start_ns = time_ns()
        self.begun = perf_counter_ns()

    def fields(self, duration_ns: int | None) -> tuple:
        return (
            self.trace_id, self.span_id, self.parent_id, self.recorder.service, self.endpoint, self.kind,
            self.peer, self.start_ns, duration_ns, self.status, self.error,
        )  # fmt: skip

    def show(self) -> None:
        """Make the span visible while it is open."""
        self.recorder.opened[self.span_id] = self.fields(None)

    def fail(self, error: BaseException) -> None:
        """Note the first exception of the request, and its stack."""
        if self.error is None:
            self.error = _describe(error)
            text = _encodable("".join(traceback.format_exception(error)))
            self.recorder.hand_over(self.recorder.stack, self.span_id, text)

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        recorder = self.recorder
        recorder.hand_over(recorder.sink, _make_span(Span, self.fields(perf_counter_ns() - self.begun)))
        # Afterwards, so that there is no moment in which the span is in neither place.
        recorder.opened.pop(self.span_id, None)


class _Request(_OpenSpan):
    """The server span of one WSGI request, which also stands in for its ``start_response``."""

    __slots__ = ("server", "by_path", "complete")
    server: StartResponse
    by_path: bool  # the endpoint is the path: known to exist only by the answer
    complete: bool  # the whole body was there when the application returned

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        self.status = int(status[:3]) if status[:3].isdecimal() else 0
        if self.by_path and self.status == 404:
            self.endpoint = UNMATCHED
        if exc_info and exc_info[0]:
            self.fail(exc_info[0][1])
        headers = [header for header in headers if header[0].lower() != "x-trace-id"]
        headers.append(("X-Trace-Id", self.trace_id))
        return self.server(status, headers, *exc_info)

    def break_off(self, error: BaseException, status: int) -> None:
        """End with an exception that goes on to the server."""
        self.fail(error)
        self.status = status
        self.end()


# The span of the request that is being handled here, and the traceparent of the call that is being made.
_current: ContextVar[_Request | None] = ContextVar("aiops_lab_current", default=None)
_calling: ContextVar[str | None] = ContextVar("aiops_lab_calling", default=None)


class _Body:
    """A response body that is still to be made, iterated with its request as the current one.

    Nothing that the application holds refers to this object, so that a body which is dropped is noticed at
    once.
    """

    __slots__ = ("_request", "_body", "_next", "_sent")

    def __init__(self, request: _Request, body: Iterable[bytes]) -> None:
        self._request = request
        self._body = body
        self._sent = False
        self._next = iter(body).__next__

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        request = self._request
        token = _current.set(request)
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
            _current.reset(token)
        self._sent = self._sent or len(chunk) > 0
        return chunk

    def close(self) -> None:
        token = _current.set(self._request)
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        except BaseException as error:
            self._request.fail(error)
            raise
        finally:
            _current.reset(token)
            self._request.end()

    def __del__(self) -> None:
        self._request.end()


class _Instrumented:
    """The WSGI callable around an application; `routed` where somebody will name the endpoints."""

    def __init__(
        self, app: WSGIApplication, recorder: Recorder, excluded: Iterable[str] = EXCLUDED, routed: bool = False
    ) -> None:
        self.app = app
        self.recorder = recorder
        self._excluded = tuple(path.rstrip("/") + "/" for path in excluded)
        self._routed = routed

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO") or "/"
        if f"{path}/".startswith(self._excluded):
            return self._pass_by(environ, start_response)
        endpoint = UNMATCHED if self._routed else _decode(path)
        request = _Request(self.recorder, endpoint, _context_of_request(environ))
        request.server, request.by_path, request.complete = start_response, not self._routed, False
        request.show()
        token = _current.set(request)
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
            _current.reset(token)

    def _pass_by(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = _current.set(None)
        try:
            return self.app(environ, start_response)
        finally:
            _current.reset(token)


def _instrument_flask(app: Any, recorder: Recorder) -> None:
    from flask import got_request_exception, request

    excluded = (*EXCLUDED, app.static_url_path) if app.has_static_folder else EXCLUDED
    wrapped = _Instrumented(app.wsgi_app, recorder, excluded, routed=True)
    preprocess, finalize = app.preprocess_request, app.finalize_request
    get_request = request._get_current_object  # type: ignore[attr-defined]

    def preprocess_request(*args: Any) -> Any:
        span, rule = _current.get(), get_request().url_rule
        if span is not None and rule is not None:
            span.endpoint = rule.rule
            span.show()
        return preprocess(*args)

    def finalize_request(*args: Any, **kwargs: Any) -> Any:
        response, span = finalize(*args, **kwargs), _current.get()
        if span is not None:
            # Then the request ends when the application returns. Of an abort(404) Flask makes an iterator, over
            # a text that is there.
            span.complete = response.is_sequence or getattr(args[-1], "response", args[-1]) is None
        return response

    # The first comes right after routing, before any hook of the app: a request that hangs is seen under its name.
    # The signals request_started and request_finished come at the same moments and cost 2 microseconds each.
    app.preprocess_request = preprocess_request
    app.finalize_request = finalize_request
    got_request_exception.connect(_on_exception, app)
    app.wsgi_app = wrapped
    app.extensions["aiops_lab"] = wrapped


def _on_exception(_app: object, exception: BaseException, **_: object) -> None:
    """Note an exception that Flask turns into a 500 before it can reach a wrapper."""
    span = _current.get()
    if span is not None:
        span.fail(exception)


def _context_of_request(environ: WSGIEnvironment) -> Context:
    came = parse_traceparent(environ.get("HTTP_TRACEPARENT", ""))
    if came is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    state = environ.get("HTTP_TRACESTATE", "")
    return *came, state and parse_tracestate(state)


def _context_of_call() -> Context:
    caller = _current.get()
    if caller is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    return caller.trace_id, caller.span_id, caller.flags, caller.tracestate


def _inject(span: _OpenSpan, headers: Any) -> str:
    """Write the trace context into the headers of a call and return the traceparent."""
    traceparent = headers["traceparent"] = format_traceparent(span.trace_id, span.span_id, span.flags)
    if span.tracestate:
        headers["tracestate"] = span.tracestate
    else:
        headers.pop("tracestate", None)  # a copied header would speak for another trace
    return traceparent


@lru_cache(maxsize=256)
def _host(scheme: str, netloc: str) -> str:
    parts = SplitResult(scheme, netloc, "", "", "")  # leaves user and password out
    return f"{parts.hostname}:{parts.port or PORTS.get(scheme, 0)}"


def _is_below(url: str, base: str) -> bool:
    return url.startswith(base) and url[len(base) : len(base) + 1] in ("", "/", "?", "#")


def _decode(path: str) -> str:
    """Return the text of a path that WSGI handed over as Latin-1."""
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def _describe(error: BaseException) -> str:
    """Return "TypeName: message", whatever the exception's own text does."""
    try:
        message = str(error)
    except Exception:
        message = "(no text)"
    return _encodable(f"{type(error).__name__}: {message}"[:MAX_ERROR])


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
