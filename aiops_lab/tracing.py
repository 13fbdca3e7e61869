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

UNMATCHED = "(unmatched)"
EXCLUDED = ("/aiops", "/simulate", "/static")
# An error text is a sample for a reader; the stack keeps the whole. A body pasted into a message may be huge.
MAX_ERROR = 1000
PORTS = {"http": 80, "https": 443}

_log = logging.getLogger(__name__)
_make_span = tuple.__new__  # half the time of Span(...)


def instrument(
    app: App,
    sink: Sink,
    service: str = "shop",
    *,
    exclude: Iterable[str] = EXCLUDED,
    route: Callable[[WSGIEnvironment], str | None] | None = None,
) -> App:
    """Return `app` so that each of its requests becomes one server span.

    A Flask app is wrapped in place, any other WSGI callable comes back wrapped. Every monitored response
    carries ``X-Trace-Id``. A span ends when its response is complete: when the app returns the whole body, else
    when the stream is exhausted, closed or dropped. So the span is in the sink before the caller has the last
    byte.

    Parameters
    ----------
    app
        A Flask app or any WSGI callable. Doing it again with the same sink and service changes nothing.
    sink
        Takes each finished span, once: a function, a list's ``append``, a `SpanStore`. It must return quickly.
        One that raises is logged once and counted; the request goes on.
    service
        The name of the service in its spans.
    exclude
        Paths that are not monitored, each with everything below it. Default: the laboratory's own, and
        static files, which would drown the rest.
    route
        Names the endpoint of a request from its WSGI environ (None = unmatched). Default: Flask's route
        template; for other callables the path, or ``(unmatched)`` where the answer is 404.

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
    flask = sys.modules.get("flask")  # an app that is Flask's has imported it
    is_flask = flask is not None and isinstance(app, flask.Flask)
    before = app.extensions.get("aiops_lab") if is_flask else app  # type: ignore[attr-defined]
    recorder = Recorder(sink, service)
    if isinstance(before, _Instrumented):
        return _again(app, before.recorder, recorder)
    if not is_flask:
        return _Instrumented(app, recorder, exclude, route)  # type: ignore[return-value]
    _instrument_flask(app, recorder, exclude, route)
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
        span = self._begin(request)
        token = _calling.set(_inject(span, request))
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

    def _begin(self, request: requests.PreparedRequest) -> _Call:
        url = request.url or ""
        parts = urlsplit(url)
        caller = _current.get()
        if caller is None:
            span = _Call(self.recorder, new_trace_id(), None, KNOWN_FLAGS, "", parts.path or "/")
        else:
            span = _Call(
                self.recorder, caller.trace_id, caller.span_id, caller.flags, caller.tracestate, parts.path or "/"
            )
        span.peer = self._peer(url, parts)
        span.show()
        return span

    def _peer(self, url: str, parts: SplitResult) -> str:
        bases = [base for base in self.peers if _is_below(url, base)] if self.peers else []
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
        self.opened: dict[str, tuple] | None = getattr(sink, "opened", None)
        self.stack: Callable[[str, str], object] | None = getattr(sink, "stack", None)
        self.failed = 0

    def keep_stack(self, span_id: str, error: BaseException) -> None:
        if self.stack is None:
            return
        try:
            self.stack(span_id, "".join(traceback.format_exception(error)).encode("utf-8", "replace").decode())
        except Exception:
            self.complain()

    def complain(self) -> None:
        """Count a failure of the sink, and log the first. A warning could be turned into an exception."""
        self.failed += 1
        if self.failed == 1:
            _log.warning("the sink of service %r failed; requests go on", self.service, exc_info=True)


class _OpenSpan:
    """A span that has begun. Its end hands it to the sink, once."""

    __slots__ = (
        "recorder", "trace_id", "span_id", "parent_id", "flags", "tracestate", "endpoint", "start_ns", "begun",
        "status", "error", "ended",
    )  # fmt: skip
    kind = "server"
    peer: str | None = None

    def __init__(
        self, recorder: Recorder, trace_id: str, parent_id: str | None, flags: int, tracestate: str, endpoint: str
    ) -> None:
        self.recorder = recorder
        self.trace_id = trace_id
        self.span_id = new_span_id()
        self.parent_id = parent_id
        self.flags = flags
        self.tracestate = tracestate
        self.endpoint = endpoint
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
        opened = self.recorder.opened
        if opened is not None and not self.ended:
            opened[self.span_id] = self.fields(None)

    def fail(self, error: BaseException) -> None:
        """Note the first exception of the request, and its stack."""
        if self.error is None:
            self.error = _describe(error)
            self.recorder.keep_stack(self.span_id, error)

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        recorder = self.recorder
        try:
            recorder.sink(_make_span(Span, self.fields(perf_counter_ns() - self.begun)))
        except Exception:
            recorder.complain()
        # Afterwards, so that there is no moment in which the span is in neither place.
        if recorder.opened is not None:
            recorder.opened.pop(self.span_id, None)


# The span of the request that is being handled here, and the traceparent of the call that is being made.
_current: ContextVar[_OpenSpan | None] = ContextVar("aiops_lab_current", default=None)
_calling: ContextVar[str | None] = ContextVar("aiops_lab_calling", default=None)


class _Call(_OpenSpan):
    """The client span of one call."""

    __slots__ = ("peer",)
    kind = "client"


class _Request(_OpenSpan):
    """The server span of one WSGI request, which also stands in for its ``start_response``."""

    __slots__ = ("server", "complete")
    server: StartResponse
    complete: bool  # the whole body was there when the application returned

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        headers = [header for header in headers if header[0].lower() != "x-trace-id"]
        headers.append(("X-Trace-Id", self.trace_id))
        if exc_info is None:
            write = self.server(status, headers)
        else:
            self.fail(exc_info[1])
            write = self.server(status, headers, exc_info)
        self.status = int(status[:3]) if status[:3].isdecimal() else 0
        return write

    def break_off(self, error: BaseException, status: int) -> None:
        """End with an exception that goes on to the server."""
        self.fail(error)
        self.status = status
        self.end()


class _PlainRequest(_Request):
    """A request whose endpoint is its path: known to exist only by its answer."""

    __slots__ = ()

    def end(self) -> None:
        if self.status == 404:
            self.endpoint = UNMATCHED
        super().end()


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
        if hasattr(self, "_next"):  # else it never became a body
            self._request.end()


class _Instrumented:
    """The WSGI callable around an application."""

    def __init__(
        self,
        app: WSGIApplication,
        recorder: Recorder,
        exclude: Iterable[str],
        route: Callable[[WSGIEnvironment], str | None] | None,
        flask_request: Callable[[], Any] | None = None,
    ) -> None:
        if isinstance(exclude, str):
            raise ValueError(f"exclude must be a tuple of paths, got {exclude!r}")
        self.app = app
        self.recorder = recorder
        self._exclude = tuple(path.rstrip("/") + "/" for path in exclude)
        self._route = route
        self._flask_request = flask_request
        self._make = _PlainRequest if route is None and flask_request is None else _Request

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO") or "/"
        if f"{path}/".startswith(self._exclude):
            return self._pass_by(environ, start_response)
        request = self._begin(environ, path)
        request.server = start_response
        request.complete = False
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

    def _begin(self, environ: WSGIEnvironment, path: str) -> _Request:
        header = environ.get("HTTP_TRACEPARENT")
        came = None if header is None else parse_traceparent(header)
        endpoint = UNMATCHED if self._flask_request else self._name(environ, path)
        if came is None:
            return self._make(self.recorder, new_trace_id(), None, KNOWN_FLAGS, "", endpoint)
        trace_id, parent_id, flags = came
        state = environ.get("HTTP_TRACESTATE")
        tracestate = parse_tracestate(state) if state else ""
        return self._make(self.recorder, trace_id, parent_id, flags, tracestate, endpoint)

    def _pass_by(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        token = _current.set(None)
        try:
            return self.app(environ, start_response)
        finally:
            _current.reset(token)

    def _name(self, environ: WSGIEnvironment, path: str) -> str:
        if self._route is None:
            # WSGI hands bytes over as Latin-1.
            return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")
        try:
            return self._route(environ) or UNMATCHED
        except Exception:
            _log.warning("route must not raise; the endpoint is %s", UNMATCHED, exc_info=True)
            return UNMATCHED

    def on_matched(self) -> None:
        """Name the endpoint as soon as Flask has matched it: a request that hangs is seen under its name."""
        span = _current.get()
        rule = None if self._flask_request is None else self._flask_request().url_rule
        if span is not None and rule is not None:
            span.endpoint = rule.rule
            span.show()

    def on_answer(self, given: object, response: Any) -> None:
        """Note that Flask has the whole body already: then the request ends when the application returns."""
        span = _current.get()
        if isinstance(span, _Request):
            # Of an abort(404) Flask makes an iterator, over a text that is there.
            span.complete = response.is_sequence or getattr(given, "response", given) is None

    def on_exception(self, _app: object, exception: BaseException, **_: object) -> None:
        """Note an exception that Flask turns into a 500 before it can reach a wrapper."""
        span = _current.get()
        if span is not None:
            span.fail(exception)


def _instrument_flask(
    app: Any,
    recorder: Recorder,
    exclude: Iterable[str],
    route: Callable[[WSGIEnvironment], str | None] | None,
) -> None:
    from flask import got_request_exception, request

    if app.has_static_folder and not isinstance(exclude, str):
        exclude = (*exclude, app.static_url_path)
    matched = request._get_current_object if route is None else None  # type: ignore[attr-defined]
    wrapped = _Instrumented(app.wsgi_app, recorder, exclude, route, matched)
    _listen(app, wrapped)
    # The signal holds the receiver weakly: it lives as long as the app does.
    got_request_exception.connect(wrapped.on_exception, app)
    app.wsgi_app = wrapped
    app.extensions["aiops_lab"] = wrapped


def _listen(app: Any, wrapped: _Instrumented) -> None:
    # Called right after routing, before any hook of the app that might hang, and with the final response. The
    # signals request_started and request_finished come at the same moments and cost 2 microseconds each.
    preprocess, finalize = app.preprocess_request, app.finalize_request

    def preprocess_request(*args: Any) -> Any:
        wrapped.on_matched()
        return preprocess(*args)

    def finalize_request(*args: Any, **kwargs: Any) -> Any:
        response = finalize(*args, **kwargs)
        wrapped.on_answer(args[-1], response)
        return response

    app.preprocess_request = preprocess_request
    app.finalize_request = finalize_request


def _again(app: App, before: Recorder, now: Recorder) -> App:
    if before.sink == now.sink and before.service == now.service:
        return app
    raise ValueError(
        f"app must be instrumented with one sink and service, got service {now.service!r} "
        f"after {before.service!r}; one function can feed several sinks"
    )


def _inject(span: _OpenSpan, request: requests.PreparedRequest) -> str:
    """Write the trace context into the headers of a call and return the traceparent."""
    traceparent = format_traceparent(span.trace_id, span.span_id, span.flags)
    request.headers["traceparent"] = traceparent
    if span.tracestate:
        request.headers["tracestate"] = span.tracestate
    else:
        request.headers.pop("tracestate", None)  # a copied header would speak for another trace
    return traceparent


@lru_cache(maxsize=256)
def _host(scheme: str, netloc: str) -> str:
    parts = SplitResult(scheme, netloc, "", "", "")  # leaves user and password out
    return f"{parts.hostname}:{parts.port or PORTS.get(scheme, 0)}"


def _is_below(url: str, base: str) -> bool:
    base = base.rstrip("/")
    return url.startswith(base) and url[len(base) : len(base) + 1] in ("", "/", "?", "#")


def _describe(error: BaseException) -> str:
    """Return "TypeName: message", whatever the exception's own text does."""
    try:
        message = str(error)
    except Exception:
        message = "(no text)"
    return f"{type(error).__name__}: {message}"[:MAX_ERROR].encode("utf-8", "replace").decode()
