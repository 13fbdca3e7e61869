"""How do other services' spans come in? A receiver of OTLP over HTTP, for any OpenTelemetry SDK.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_input_stream

from aiops_lab.checks import FieldError, check_number, install_command, shorten
from aiops_lab.formats import otlp_json
from aiops_lab.formats.collect import SpanCollector
from aiops_lab.formats.conventions import ReportedSpan
from aiops_lab.formats.fields import listed, mapping
from aiops_lab.show.access import checked_token, checked_url, has_token
from aiops_lab.show.attempts import RECEIVER
from aiops_lab.show.body import DRAIN_MAX, drop_body
from aiops_lab.show.origin import LOCAL_HOSTS, OWN_NAMES, SenderError, check_host, check_page
from aiops_lab.spans import Span

if TYPE_CHECKING:
    from aiops_lab.record.store import SpanStore

TRACES_PATH = "/v1/traces"

# The limit of the collector's own receiver. A batch of an SDK, 512 spans, has some 500 kB.
LIMIT_BYTES = 20 << 20

# How many times larger a body of more than 1 MiB may be than what was sent. Traces are packed to a
# tenth or a twentieth; a bomb of empty spans would take a hundred times its size again in memory.
MOST_TIMES = 100
PACKED_WELL = 1 << 20

# Objects of a JSON body: each takes some hundred bytes of memory, and may take two of the body.
MOST_OBJECTS = 500_000

RETRY_AFTER_S = "1"  # the store writes every half second

STREAM = "aiops_lab.otlp.stream"  # in the environ: the body, of which some may have been read

READ_AT_ONCE = 65_536  # bytes of a refused body that are read at once

PROTOBUF, JSON = "application/x-protobuf", "application/json"

SENDERS = (401, 403)  # statuses of who may not send; nothing was read of the body

# The status of an answer as a code of gRPC, which the messages of errors hold.
_CODES = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 503: 14}


class _RefusalError(Exception):
    """An answer with an error."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class _Taken(NamedTuple):
    """What became of the spans of one request."""

    rejected: int = 0
    reasons: str = ""


def otlp_receiver(
    store: SpanStore,
    token: str | None = None,
    limit_bytes: int = LIMIT_BYTES,
    hosts: Iterable[str] | None = LOCAL_HOSTS,
    public_url: str = "",
) -> Blueprint:
    """Return the blueprint that takes traces of OpenTelemetry at ``POST /v1/traces``.

    It takes OTLP as protobuf or JSON, packed with gzip or not, and puts the spans into the store,
    so that a `Monitor` of the store sees them. Spans that the analysis cannot use are counted in
    the answer as rejected, with the reasons. Its own requests are not recorded as traffic.

    Parameters
    ----------
    store : SpanStore
        Where the spans go. While its buffer is full the answer is 503, and the sender tries again.
    token : str, optional
        What ``Authorization: Bearer`` must hold; default: nobody is asked.
    limit_bytes : int
        The most bytes of a request, both as sent and unpacked. Default 20 MiB, as the
        OpenTelemetry collector has it; raising it costs some ten times as much memory a request.
    hosts : iterable of str
        The names by which the receiver may be called. Default: those of this machine, so that no
        page in a browser can reach it through a name of its own (DNS rebinding). None, or with
        `OWN_NAMES` among them: all, for a receiver with a token, which such a page does not have.
    public_url : str
        Where people reach the pages of this server, as for `aiops_lab.show.origin.check_origin`:
        those pages may send traces, too. Default: only pages where the receiver is called.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    """
    token = checked_token(token)
    check_number("limit_bytes", limit_bytes, 1, 1 << 30, whole=True)
    if isinstance(hosts, str):
        raise FieldError("hosts", "must be several names", hosts)
    if hosts is not None and OWN_NAMES in hosts:
        hosts = None
    if hosts is None and token is None:
        raise FieldError("hosts", "must be several names where there is no token", hosts)
    names = None if hosts is None else frozenset(host.lower() for host in hosts)
    public_url = checked_url(public_url)
    intake = _Intake(store)
    blueprint = Blueprint(RECEIVER, __name__)
    blueprint.register_error_handler(_RefusalError, _refused)
    blueprint.register_error_handler(HTTPException, _http_error)

    @blueprint.post(TRACES_PATH)
    def traces() -> Response:
        _check_sender(names, token, public_url)
        decode = _decoder()
        body = _unpacked(_body(limit_bytes), limit_bytes)
        return _answer(intake.take(decode(body, intake.room)))

    return blueprint


# ---- who sends


def _check_sender(names: frozenset[str] | None, token: str | None, public_url: str) -> None:
    try:
        if names is not None:
            check_host(names)
        check_page(public_url)
    except SenderError as refusal:
        raise _RefusalError(refusal.status, str(refusal)) from None
    if token is not None and not has_token(token):
        rule = "Authorization must be Bearer, and the token of this receiver"
        raise _RefusalError(401, rule, WWW_Authenticate="Bearer")


# ---- what is sent


def _body(limit: int) -> bytes:
    length = request.content_length or 0
    if length > limit:
        raise _RefusalError(413, f"body must be at most {limit} bytes, got {length}")
    body = _stream().read(limit + 1)
    if len(body) > limit:
        raise _RefusalError(413, f"body must be at most {limit} bytes, got more")
    return body


def _stream() -> IO[bytes]:
    """Return the body to be read; the app's own ``MAX_CONTENT_LENGTH`` is for its own requests."""
    environ = request.environ
    if STREAM not in environ:
        environ[STREAM] = get_input_stream(environ)
    stream: IO[bytes] = environ[STREAM]
    return stream


def _unpacked(body: bytes, limit: int) -> bytes:
    """Return a body without its compression; never more than `limit` bytes are unpacked."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        rule = "Content-Encoding must be gzip or identity"
        raise _RefusalError(415, f"{rule}, got {shorten(encoding)}", Accept_Encoding="gzip")
    limit = min(limit, max(PACKED_WELL, MOST_TIMES * len(body)))
    unpacked = b""
    rest = body
    while True:  # gzip files may follow each other (RFC 1952, 2.2)
        unpacking = zlib.decompressobj(wbits=31)  # gzip
        try:
            unpacked += unpacking.decompress(rest, limit + 1 - len(unpacked))
        except zlib.error as error:
            raise _RefusalError(400, f"body must be gzip: {error}") from None
        if len(unpacked) > limit:
            raise _RefusalError(413, f"body must be at most {limit} bytes when unpacked, got more")
        if not unpacking.eof:
            raise _RefusalError(400, "body must be a whole gzip stream, got one that is cut off")
        rest = unpacking.unused_data
        if not rest:
            return unpacked


def _decoder() -> Callable[[bytes, int], list[ReportedSpan]]:
    if request.mimetype == JSON:
        return _from_json
    if request.mimetype != PROTOBUF:
        rule = f"Content-Type must be {PROTOBUF} or {JSON}"
        raise _RefusalError(415, f"{rule}, got {shorten(request.mimetype)}")
    hint = protobuf_hint()
    if hint:
        raise _RefusalError(415, f"Content-Type must be {JSON} here, because {hint}")
    return _from_protobuf


def protobuf_hint() -> str:
    """Return what to install for protobuf, which SDKs send unless told otherwise; "" where it is.

    An SDK shows the status of a refusal, but not its message.
    """
    if _messages() is not None:
        return ""
    return f"opentelemetry-proto is not installed: {install_command('formats')}"


def _messages() -> Any:
    """Return the module of OTLP's messages, None where it is not installed."""
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ModuleNotFoundError:
        return None
    return trace_service_pb2


def _from_protobuf(body: bytes, room: int) -> list[ReportedSpan]:
    from google.protobuf.message import DecodeError

    from aiops_lab.formats.otlp_protobuf import resource_spans

    try:
        sent = _messages().ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise _RefusalError(400, f"body must be an ExportTraceServiceRequest: {error}") from None
    return _taken(chain.from_iterable(map(resource_spans, sent.resource_spans)), room)


def _taken(spans: Iterator[ReportedSpan], room: int) -> list[ReportedSpan]:
    """Return all spans, or refuse them once there are more than the store has room for."""
    taken = [*islice(spans, room + 1)]
    if len(taken) > room:
        rule = "the store is full: send these spans again"
        raise _RefusalError(503, rule, Retry_After=RETRY_AFTER_S)
    return taken


def _from_json(body: bytes, room: int) -> list[ReportedSpan]:
    if body.count(b"{") > MOST_OBJECTS:
        raise _RefusalError(413, f"body must have at most {MOST_OBJECTS} objects, got more")
    try:
        sent = mapping("body", json.loads(body))
        return _taken(_spans_of(sent), room)
    except FieldError as error:
        raise _RefusalError(400, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _RefusalError(400, f"body must be JSON: {error}") from None


def _spans_of(sent: Any) -> Iterator[ReportedSpan]:
    for element in listed("resourceSpans", sent.get("resourceSpans")):
        yield from otlp_json.otlp_spans(element)


# ---- what becomes of it


class _Intake:
    """What stands between requests and the store; the names of endpoints are limited over all."""

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._collector = SpanCollector()
        self._lock = threading.Lock()

    @property
    def room(self) -> int:
        """How many more spans the store takes at present."""
        return self._store.room

    def take(self, reported: list[ReportedSpan]) -> _Taken:
        """Store the spans that can be used; return how many were rejected, and why."""
        with self._lock:
            try:
                spans, rejected = self._usable(reported)
            finally:
                self._collector.forget()  # what failed must not go out with the next request
            for span in spans:
                self._store.add(span)
        reasons = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common())
        return _Taken(rejected.total(), reasons)

    def _usable(self, reported: list[ReportedSpan]) -> tuple[list[Span], Counter[str]]:
        collector = self._collector
        rejected: Counter[str] = Counter()
        for span in reported:
            if span.duration_ns is None:
                rejected["without an end"] += 1
            else:
                collector.add(span)
        rejected += collector.left_out
        collector.left_out.clear()
        spans = collector.take_spans()
        closed = [span for span in spans if span.duration_ns is not None]
        if len(closed) < len(spans):  # an attribute of this package calls them open
            rejected["without an end"] += len(spans) - len(closed)
        return closed, rejected


# ---- answers


def _answer(taken: _Taken) -> Response:
    """Return the ``ExportTraceServiceResponse``, in the format of the request."""
    if request.mimetype == PROTOBUF:
        message = _messages().ExportTraceServiceResponse()
        if taken.rejected:
            message.partial_success.rejected_spans = taken.rejected
            message.partial_success.error_message = taken.reasons
        return Response(message.SerializeToString(), mimetype=PROTOBUF)
    told: dict[str, Any] = {}
    if taken.rejected:  # JSON of protobuf has numbers of 64 bits as texts
        told["partialSuccess"] = {
            "rejectedSpans": str(taken.rejected),
            "errorMessage": taken.reasons,
        }
    return Response(json.dumps(told), mimetype=JSON)


def _refused(refusal: _RefusalError) -> Response:
    if refusal.status in SENDERS:
        drop_body()
    else:
        with suppress(HTTPException):  # the client may be gone
            _drain()
    answer = _status(refusal.status, str(refusal))
    answer.headers.update(refusal.headers)
    return answer


def _drain() -> None:
    """Read what is left of the body, up to a limit: who is sending does not read the answer."""
    left = DRAIN_MAX
    while left > 0 and (chunk := _stream().read(min(left, READ_AT_ONCE))):
        left -= len(chunk)


def _http_error(error: HTTPException) -> Response:
    return _status(error.code or 500, error.description or error.name)


def _status(status: int, message: str) -> Response:
    """Return an answer that holds a ``google.rpc.Status``, in the format of the request."""
    code = _CODES.get(status, 2)  # unknown
    messages = _messages() if request.mimetype == PROTOBUF else None
    if messages is None:
        return Response(json.dumps({"code": code, "message": message}), status, mimetype=JSON)
    # On the wire the two are one: a whole number and a text, with the tags 1 and 2.
    alike = messages.ExportTracePartialSuccess(rejected_spans=code, error_message=message)
    return Response(alike.SerializeToString(), status, mimetype=PROTOBUF)
