"""What do middleware and session share? Open spans, the current span, the call of the sink."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from inspect import iscoroutinefunction, ismethod
from socket import gethostname
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, TypeVar

from aiops_lab.endpoints import (
    MAX_ENDPOINTS,
    METHODS,
    OTHER_METHOD,
    OVERFLOW,
    UNMATCHED,
    EndpointNames,
    fold,
)
from aiops_lab.logs import get_logger
from aiops_lab.record.own_sink import patient_sink
from aiops_lab.record.redaction import Redact, redact_secrets
from aiops_lab.record.trace_context import KNOWN_FLAGS, new_span_id, new_trace_id
from aiops_lab.spans import Span

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Sink = Callable[[Span], object]

App = TypeVar("App", bound=Callable[..., Any])

Context = tuple[str, str | None, int, str]  # trace_id, parent_id, flags, tracestate

# Characters of an error and of its stack: a message may contain the body of a request.
MAX_ERROR = 1000
MAX_STACK = 20_000  # its begin; the message of the last exception is that of the error

Callee = tuple[str, str]  # the service that a call reaches, and its endpoint

_log = get_logger(__name__)

_make_span = tuple.__new__  # half the time of Span(...)

_STATUSES = {str(status): status for status in range(100, 600)}


class Recorder:
    """Where spans go: a sink with its optional ``stack`` and ``opened``; counts what it left out.

    Attributes
    ----------
    failed : int
        How often the sink raised.
    give : function (Span)
        The sink; one of a user's own is left out while it hangs, by all that record into it.
    changes_ended : bool
        Whether what follows the end of its spans still changes them.
    add_ended : function (OpenSpan), or None
        Of a store: takes an ended span without an error as it is, and makes its row later. None
        where the span may have changed by then.
    left_out : dict
        How many requests were not recorded, by route.
    names : EndpointNames
        The endpoints of paths that no route explains; counts what was too many.
    places : dict
        What the last calls reached, by URL without user, password, query and fragment.
    instance : str
        The host: spans of different ones may disagree about the time.
    """

    def __init__(
        self,
        sink: Sink,
        service: str,
        redact: Redact = redact_secrets,
        *,
        changes_ended: bool = False,
    ) -> None:
        if not callable(sink) or iscoroutinefunction(sink):
            kind = type(sink).__name__
            asynchronous = " that is a coroutine" if callable(sink) else ""
            raise ValueError(f"sink must be a callable that takes a Span, got {kind}{asynchronous}")
        if not isinstance(service, str) or service == "":
            raise ValueError(f"service must be a non-empty text, got {service!r}")
        if not callable(redact):
            raise ValueError(f"redact must be a function that takes a text, got {redact!r}")
        self.sink = sink
        self.service = service
        self.redact = redact
        self.give = _direct(sink) if hasattr(sink, "opened") else patient_sink(sink)
        self.opened: dict[str, Any] = getattr(sink, "opened", {})
        self.changes_ended = changes_ended
        self.add_ended = None if changes_ended else _add_ended_of(sink)
        self.stack: Callable[..., object] = getattr(sink, "stack", lambda span_id, text: None)
        self.failed = 0
        self.left_out: dict[str, int] = {}
        self.names = EndpointNames()
        self.places: dict[str, Callee] = {}
        self.instance = gethostname()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it was made from; the counts begin anew."""
        return _recorder, (self.sink, self.service, self.redact, self.changes_ended)

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        """Return a recorder with the same sink: what a copy records belongs with the rest."""
        return _recorder(self.sink, self.service, self.redact, self.changes_ended)

    def equals(self, other: Recorder) -> bool:
        """Return whether both have the same sink and service."""
        return self is other or (self.sink, self.service) == (other.sink, other.service)

    def must_equal(self, other: Recorder) -> None:
        """Raise ValueError unless both have the same sink and service."""
        if not self.equals(other):
            raise ValueError(
                "app must be instrumented with one sink and service, got service "
                f"{other.service!r} after {self.service!r}; one function can feed several sinks"
            )

    def leave_out(self, endpoint: str) -> None:
        """Count a request that is not recorded; log the first of each endpoint."""
        if endpoint not in self.left_out and len(self.left_out) >= MAX_ENDPOINTS:
            endpoint = OVERFLOW
        before = self.left_out.get(endpoint, 0)
        self.left_out[endpoint] = before + 1
        if before == 0:
            _log.info("requests of %r at %r are not recorded", endpoint, self.service)

    def ask(self, decide: Callable[[str], object], endpoint: str) -> bool:
        """Return what a user's function says of an endpoint, False where it fails."""
        try:
            return bool(decide(endpoint))
        except Exception:
            self.count_failure("the function exclude")
            return False

    def redacted(self, text: str) -> str:
        """Return what may be stored of an error's text; where `redact` fails, next to nothing."""
        try:
            return _encodable(self.redact(text))
        except Exception:
            self.count_failure("the function redact")
            return "(not redacted)"

    def count_failure(self, what: str) -> None:
        """Count that a function of the user's raised; log the first time."""
        # Not a warning: that could be turned into an exception.
        self.failed += 1
        if self.failed == 1:
            message = "%s of service %r failed; requests go on"
            _log.warning(message, what, self.service, exc_info=True)


def _recorder(sink: Sink, service: str, redact: Redact, changes_ended: bool) -> Recorder:
    return Recorder(sink, service, redact, changes_ended=changes_ended)


def _direct(sink: Sink) -> Sink:
    """Return what calls a sink at the least cost: a method costs less than its object."""
    call = sink.__call__  # type: ignore[operator]
    return call if ismethod(call) else sink


def _add_ended_of(sink: Sink) -> Callable[[OpenSpan], None] | None:
    """Return the method of a store that takes an ended span as it is.

    None where another class makes the sink callable: one that is based on a store sees each span.
    """
    callable_by = next(kind for kind in type(sink).__mro__ if "__call__" in vars(kind))
    has_own = "add_ended" in vars(callable_by)
    return sink.add_ended if has_own else None  # type: ignore[attr-defined]


class OpenSpan:
    """A span that has begun. When it ends it goes to the sink, once.

    Until then it can be read like the tuple of a `Span` without a duration.
    """

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
        "method",
        "first_byte_ns",
        "ended",
        "duration_ns",
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
        self.method: str | None = None
        self.first_byte_ns: int | None = None
        self.ended = False
        self.start_ns = time_ns()
        self.begun = perf_counter_ns()

    def fields(self, duration_ns: int | None) -> tuple:
        """Return the fields of a `Span`, in its order."""
        recorder = self.recorder
        return (
            self.trace_id,
            self.span_id,
            self.parent_id,
            recorder.service,
            self.endpoint,
            self.kind,
            self.peer,
            self.start_ns,
            duration_ns,
            self.status,
            None if self.error is None else recorder.redacted(self.error),
            self.method,
            recorder.instance,
            self.first_byte_ns,
            None,
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fields(None))

    def __getitem__(self, index: Any) -> Any:
        return self.fields(None)[index]

    def __len__(self) -> int:
        return len(Span._fields)

    def show(self) -> None:
        """Make the span visible while it is open, with what is known of it at any time."""
        self.recorder.opened[self.span_id] = self

    def begin_answer(self) -> None:
        """Note when the first byte of a streamed answer came."""
        if self.first_byte_ns is None and not self.ended:
            self.first_byte_ns = perf_counter_ns() - self.begun

    def fail(self, error: BaseException) -> None:
        """Record the first exception of the request, and its stack."""
        if self.error is None:
            self.error = describe_error(error)
            text = _encodable("".join(traceback.format_exception(error)))
            self._keep_stack(text[:MAX_STACK])

    def _keep_stack(self, text: str) -> None:
        recorder = self.recorder
        try:
            recorder.stack(self.span_id, recorder.redacted(text))
        except Exception:
            recorder.count_failure("the sink")

    def end(self) -> None:
        """Give the span to the sink, the first time that this is called."""
        if self.ended:
            return
        self.ended = True
        recorder = self.recorder
        duration = self.duration_ns = perf_counter_ns() - self.begun
        add_ended = recorder.add_ended
        try:
            if add_ended is None or self.error is not None:
                recorder.give(_make_span(Span, self.fields(duration)))
            else:  # nothing of it changes any more, so the thread that writes can read it
                add_ended(self)
        except Exception:
            recorder.count_failure("the sink")
        # Afterwards, so that there is no moment in which the span is in neither place.
        recorder.opened.pop(self.span_id, None)


class ServerSpan(OpenSpan):
    """The server span of one WSGI request, which also stands in for its ``start_response``."""

    __slots__ = ("server", "named", "by_path", "complete", "left_out", "reported", "_write")
    server: StartResponse
    named: bool  # its endpoint is known
    by_path: bool  # the endpoint is the path; only the answer tells whether it exists
    complete: bool  # the whole body was there when the application returned
    left_out: bool  # not recorded
    reported: BaseException | None  # what the framework caught; a failure if the answer is one
    _write: Callable[[bytes], object]

    def __init__(
        self, recorder: Recorder, context: Context, method: str | None, server: Any = None
    ) -> None:
        # what OpenSpan does, without a second call
        self.recorder = recorder
        self.endpoint = UNMATCHED
        self.kind = "server"
        self.peer = self.error = self.first_byte_ns = self.reported = None
        self.trace_id, self.parent_id, self.flags, self.tracestate = context
        self.span_id = new_span_id()
        self.status = 0
        self.method = method if method in METHODS or method is None else OTHER_METHOD
        self.server = server
        self.ended = self.named = self.by_path = self.complete = self.left_out = False
        self.start_ns = time_ns()
        self.begun = perf_counter_ns()

    def start_response(self, status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        """Take the status, and add ``X-Trace-Id`` to the headers of the answer."""
        if self.left_out:
            return self.server(status, headers, *exc_info)
        if not self.ended:  # else its row says what it was at its end
            code = status[:3]
            known = _STATUSES.get(code)
            self.status = (500 if code.isdecimal() else 0) if known is None else known
            if self.by_path and self.status == 404:
                self.endpoint = UNMATCHED
            if exc_info and exc_info[0]:
                self.reported = exc_info[0][1]
        kept = [*headers, ("X-Trace-Id", self.trace_id)]
        for header in headers:
            name = header[0]
            if len(name) == 10 and name.lower() == "x-trace-id":  # one from further inside
                kept.remove(header)
        server = self.server
        self._write = server(status, kept, *exc_info) if exc_info else server(status, kept)
        return self.write

    def write(self, data: bytes) -> object:
        """Send some bytes at once, as WSGI's old ``write`` does."""
        if data:
            self.begin_answer()
        return self._write(data)

    def name_by_path(self, path: str) -> None:
        """Name the endpoint by its path, with the ids folded."""
        self.named = self.by_path = True
        self.endpoint = UNMATCHED if self.status == 404 else fold(decode_header(path))

    def leave_out(self) -> None:
        """Take the request out of what is recorded."""
        self.named = self.left_out = True
        self.ended = True
        self.recorder.opened.pop(self.span_id, None)
        self.recorder.leave_out(self.endpoint)

    def end(self) -> None:
        """Give the span to the sink, the first time that this is called."""
        if self.ended:
            return
        reported = self.reported
        if reported is not None:
            self.reported = None  # its traceback leads back to here
            if self.status >= 500 or self.status == 0:
                self.fail(reported)
        if self.by_path and self.endpoint != UNMATCHED:
            self.endpoint = self.recorder.names.limit(self.recorder.service, self.endpoint)
        OpenSpan.end(self)

    def let_server_go(self) -> None:
        """Keep nothing of the server until the row is written; what is still sent goes nowhere."""
        self.server = self._write = _to_nobody

    def end_dropped(self) -> None:
        """End because nobody holds the answer any more: in a finalizer, in the midst of anything.

        The stack is left out. Its text needs a parser, and one that runs inside of another breaks
        both (https://github.com/python/cpython/issues/106905).
        """
        reported, self.reported = self.reported, None
        if reported is not None and self.error is None and (self.status >= 500 or self.status == 0):
            self.error = describe_error(reported)
        self.end()

    def break_off(self, error: BaseException, status: int) -> None:
        """End with an exception that goes on to the server."""
        if not self.left_out:
            self.fail(error)
        if not self.ended:
            self.status = status
        self.end()


def _to_nobody(*_: object) -> Any:
    """Return itself, in place of a server's ``start_response`` and ``write``."""
    return _to_nobody


SPAN = "aiops_lab.span"  # in the environ: the span of this request, and whose environ it was

# The span of the current request, and the current outgoing call.
current_span: ContextVar[ServerSpan | None] = ContextVar("aiops_lab_current", default=None)
current_call: ContextVar[Any] = ContextVar("aiops_lab_calling", default=None)


def context_of_call() -> Context:
    """Return the context of a call that is made now: below the current request, or a new trace."""
    caller = current_span.get()
    if caller is None:
        caller = _span_of_flask()
    if caller is None:
        return new_trace_id(), None, KNOWN_FLAGS, ""
    return caller.trace_id, caller.span_id, caller.flags, caller.tracestate


def _span_of_flask() -> ServerSpan | None:
    """Return the span of Flask's request: ``copy_current_request_context`` takes it to a thread."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    span, _ = flask.request.environ.get(SPAN, (None, 0))
    return None if span is None or span.left_out else span


def _leave_request_to_parent() -> None:
    """Leave the end of the current request to the parent: it must not be recorded twice."""
    span = current_span.get()
    if span is not None:
        span.ended = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_request_to_parent)


def known_status(status: int) -> int:
    """Return an HTTP status; 500 for what is none, as RFC 9110, section 15, has it."""
    return status if 100 <= status <= 599 else 500


def decode_header(path: str) -> str:
    """Return the text of a path that WSGI has decoded as Latin-1."""
    return path if path.isascii() else path.encode("latin-1", "replace").decode("utf-8", "replace")


def describe_error(error: BaseException) -> str:
    """Return "TypeName: message", also where the exception's own text cannot be made."""
    try:
        message = str(error)
    except (Exception, SystemExit):
        message = "(no text)"
    return _encodable(f"{type(error).__name__}: {message}"[:MAX_ERROR])


def describe_call_error(error: BaseException) -> str:
    """Return "TypeName: message" of a failed call; a timeout inside gives the name.

    requests reports a timeout while the body is read, or after retries, as a ConnectionError.
    """
    text = describe_error(error)
    cause = _timeout_in(error)
    if cause is None or cause is error:
        return text
    return _encodable(f"{type(cause).__name__}: {text}"[:MAX_ERROR])


def _timeout_in(error: object, depth: int = 4) -> BaseException | None:
    """Return the exception that is a timeout, or was the reason for one; None without any."""
    from urllib3 import exceptions

    if not isinstance(error, BaseException) or depth == 0:
        return None
    # In urllib3 1 a refused connection was a kind of timeout.
    is_refused = isinstance(error, exceptions.NewConnectionError)
    is_timeout = isinstance(error, (TimeoutError, exceptions.TimeoutError))
    if is_timeout and not is_refused:
        return error
    if "Timeout" in type(error).__name__:
        return error
    inner = (*error.args, getattr(error, "reason", None), error.__cause__)
    found = (_timeout_in(each, depth - 1) for each in inner)
    return next(filter(None, found), None)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
