"""What do middleware and session share? Open spans, the current span, the call of the sink."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, TypeVar

from aiops_lab.logs import get_logger
from aiops_lab.record.trace_context import new_span_id
from aiops_lab.spans import Span

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

Sink = Callable[[Span], object]

App = TypeVar("App", bound="WSGIApplication")

Context = tuple[str, str | None, int, str]  # trace_id, parent_id, flags, tracestate

UNMATCHED = "(unmatched)"
EXCLUDED = ("/aiops", "/simulate", "/static")  # each with everything below it

# The stack holds the whole text of an error; a message may contain the body of a request.
MAX_ERROR = 1000

_log = get_logger(__name__)

_make_span = tuple.__new__  # half the time of Span(...)


class Recorder:
    """Where spans go: a sink with its optional ``stack`` and ``opened``; counts what failed."""

    def __init__(self, sink: Sink, service: str) -> None:
        if not callable(sink):
            kind = type(sink).__name__
            raise ValueError(f"sink must be a callable that takes a Span, got {kind}")
        if not isinstance(service, str) or service == "":
            raise ValueError(f"service must be a non-empty text, got {service!r}")
        self.sink = sink
        self.service = service
        self.opened: dict[str, tuple] = getattr(sink, "opened", {})
        self.stack: Callable[..., object] = getattr(sink, "stack", lambda span_id, text: None)
        self.failed = 0

    def must_equal(self, other: Recorder) -> None:
        """Raise ValueError unless both have the same sink and service."""
        if (self.sink, self.service) != (other.sink, other.service):
            raise ValueError(
                "app must be instrumented with one sink and service, got service "
                f"{other.service!r} after {self.service!r}; one function can feed several sinks"
            )

    def hand_over(self, take: Callable[..., object], *values: object) -> None:
        """Call the sink with some values; count failures and log the first."""
        try:
            take(*values)
        except Exception:
            # Not a warning: that could be turned into an exception.
            self.failed += 1
            if self.failed == 1:
                _log.warning(
                    "the sink of service %r failed; requests go on", self.service, exc_info=True
                )


class OpenSpan:
    """A span that has begun. When it ends it goes to the sink, once."""

    __slots__ = (
        "recorder",
        "trace_id",
        "span_id",
        "parent_id",
        "flags",
        "tracestate",
        "endpoint",
        "kind",
        "peer",
        "start_ns",
        "begun",
        "status",
        "error",
        "ended",
    )

    def __init__(
        self,
        recorder: Recorder,
        endpoint: str,
        context: Context,
        kind: str = "server",
        peer: str | None = None,
    ) -> None:
        self.recorder = recorder
        self.endpoint = endpoint
        self.kind = kind
        self.peer = peer
        self.trace_id, self.parent_id, self.flags, self.tracestate = context
        self.span_id = new_span_id()
        self.status = 0
        self.error: str | None = None
        self.ended = False
        self.start_ns = time_ns()
        self.begun = perf_counter_ns()

    def fields(self, duration_ns: int | None) -> tuple:
        """Return the fields of a `Span`, in its order."""
        return (
            self.trace_id,
            self.span_id,
            self.parent_id,
            self.recorder.service,
            self.endpoint,
            self.kind,
            self.peer,
            self.start_ns,
            duration_ns,
            self.status,
            self.error,
            None,
            None,
            None,
            None,
        )

    def show(self) -> None:
        """Make the span visible while it is open."""
        self.recorder.opened[self.span_id] = self.fields(None)

    def fail(self, error: BaseException) -> None:
        """Record the first exception of the request, and its stack."""
        if self.error is None:
            self.error = describe_error(error)
            text = _encodable("".join(traceback.format_exception(error)))
            self.recorder.hand_over(self.recorder.stack, self.span_id, text)

    def end(self) -> None:
        """Give the span to the sink, the first time that this is called."""
        if self.ended:
            return
        self.ended = True
        recorder = self.recorder
        fields = self.fields(perf_counter_ns() - self.begun)
        recorder.hand_over(recorder.sink, _make_span(Span, fields))
        # Afterwards, so that there is no moment in which the span is in neither place.
        recorder.opened.pop(self.span_id, None)


class ServerSpan(OpenSpan):
    """The server span of one WSGI request, which also stands in for its ``start_response``."""

    __slots__ = ("server", "by_path", "complete")
    server: StartResponse
    by_path: bool  # the endpoint is the path; only the answer tells whether it exists
    complete: bool  # the whole body was there when the application returned

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """Take the status, and add ``X-Trace-Id`` to the headers of the answer."""
        code = status[:3]
        self.status = int(code) if code.isdecimal() else 0
        if self.by_path and self.status == 404:
            self.endpoint = UNMATCHED
        if exc_info and exc_info[0]:
            self.fail(exc_info[0][1])
        kept = [header for header in headers if header[0].lower() != "x-trace-id"]
        kept.append(("X-Trace-Id", self.trace_id))
        return self.server(status, kept, *exc_info)

    def break_off(self, error: BaseException, status: int) -> None:
        """End with an exception that goes on to the server."""
        self.fail(error)
        self.status = status
        self.end()


# The span of the current request, and the traceparent of the current outgoing call.
current_span: ContextVar[ServerSpan | None] = ContextVar("aiops_lab_current", default=None)
current_call: ContextVar[str | None] = ContextVar("aiops_lab_calling", default=None)


def decode_header(path: str) -> str:
    """Return the text of a path that WSGI has decoded as Latin-1."""
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def describe_error(error: BaseException) -> str:
    """Return "TypeName: message", also where the exception's own text cannot be made."""
    try:
        message = str(error)
    except Exception:
        message = "(no text)"
    return _encodable(f"{type(error).__name__}: {message}"[:MAX_ERROR])


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
