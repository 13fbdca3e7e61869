"""What do the attributes of a span mean? OpenTelemetry's semantic conventions, old and new names.

`to_span` reads them and `attributes_of` writes them; all formats but the tables share both. What
conventions cannot say of a span stands in attributes of this package, ``aiops_lab.status`` and the
like, an empty text being None; they are written only where the span would read differently without.

https://opentelemetry.io/docs/specs/semconv/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiops_lab.endpoints import fold, join_method, known_method
from aiops_lab.formats.statements import message_without_values, shape_of
from aiops_lab.formats.status import grpc_status, http_status, whole_number
from aiops_lab.spans import WITHOUT_HTTP, Span

UNKNOWN_SERVICE = "unknown_service"  # as the specification of resources has it

UNNAMED = "(unnamed)"

MAX_ERROR_LENGTH = 1000  # characters; a message may hold the body of a request

Attributes = Mapping[str, Any]
Finder = Callable[[Attributes], str | None]


class ReportedSpan(NamedTuple):
    """A span as an SDK reported it, in whatever format. Times are whole nanoseconds.

    ``duration_ns`` is None while the span is open. ``failed`` says that its status is ERROR, with
    ``message``. ``exception`` are the attributes of its last exception event.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    start_ns: int
    duration_ns: int | None
    attributes: Attributes
    service: str = UNKNOWN_SERVICE
    instance: str | None = None
    failed: bool = False
    message: str = ""
    exception: Attributes | None = None
    links: tuple[str, ...] | None = None


OWN_PREFIX = "aiops_lab."

# Each tuple holds names of one attribute: the present one first, then those of older releases.
METHOD = ("http.request.method", "http.method")
HTTP_STATUS = ("http.response.status_code", "http.status_code")
GRPC_STATUS = ("rpc.grpc.status_code", "grpc.status_code")
RPC_STATUS = ("rpc.response.status_code",)
ROUTE = ("http.route",)
TEMPLATE = ("url.template",)
PATH = ("url.path", "http.target", "http.path")
URL = ("url.full", "http.url")
RPC_SERVICE = ("rpc.service",)
RPC_METHOD = ("rpc.method",)
STATEMENT = ("db.query.text", "db.statement", "sql.query")
SUMMARY = ("db.query.summary",)
OPERATION = ("db.operation.name", "db.operation")
COLLECTION = ("db.collection.name", "db.sql.table", "db.mongodb.collection", "db.cassandra.table")
DESTINATION = (
    "messaging.destination.template",
    "messaging.destination.name",
    "messaging.destination",
    "kafka.topic",
)
PEER = ("service.peer.name", "peer.service")
DATABASE = ("db.system.name", "db.system")
SYSTEM = (*DATABASE, "messaging.system", "rpc.system.name", "rpc.system")
WITHOUT_SHAPE = ("redis", "memcached", "valkey")  # keys and values stand bare after the command
ADDRESS = ("server.address", "net.peer.name", "http.host", "net.peer.ip", "peer.address")
PORT = ("server.port", "net.peer.port")
ERROR_TYPE = ("error.type",)
PART_OF_ANSWER = ("asgi.event.type",)  # of an internal span, which repeats the status of the answer
SERVICE = ("service.name",)
INSTANCE = ("service.instance.id", "k8s.pod.name", "host.name", "container.id")

EXCEPTION_TYPE, EXCEPTION_MESSAGE = "exception.type", "exception.message"

_OWN_FIELDS = ("endpoint", "kind", "peer", "status", "error", "method", "first_byte_ns", "open")
_OWN_NAMES = {f"{OWN_PREFIX}{field}": field for field in _OWN_FIELDS}

_OF_HTTP = (*METHOD, *HTTP_STATUS, *ROUTE, *TEMPLATE, *PATH, *URL)
_OF_DATABASES = (*DATABASE, *STATEMENT, *SUMMARY, *OPERATION, *COLLECTION)
_OF_SPANS = (
    *_OF_HTTP,
    *_OF_DATABASES,
    *(*GRPC_STATUS, *RPC_STATUS, *RPC_SERVICE, *RPC_METHOD, *DESTINATION),
    *(*PEER, *SYSTEM, *ADDRESS, *PORT, *ERROR_TYPE, *PART_OF_ANSWER),
)

KNOWN = frozenset((*_OF_SPANS, *SERVICE, *INSTANCE, *_OWN_NAMES, EXCEPTION_TYPE, EXCEPTION_MESSAGE))
"""Names of the attributes that are read; readers may leave out all others."""


def first(attributes: Attributes, names: tuple[str, ...]) -> str | None:
    """Return the first of some attributes that is there and not empty, as text."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            return value if isinstance(value, str) else _as_text(value)
    return None


def _as_text(value: Any) -> str:
    """Return a value as text, a whole number without a point: some report a status as 503.0."""
    whole = whole_number(value)
    return str(value if whole is None else whole)


# ---- reading


def to_span(reported: ReportedSpan) -> Span:
    """Return what a span is to the analysis: endpoint, peer, status and error by convention."""
    attributes = reported.attributes
    endpoint = endpoint_of(reported)
    is_sent = reported.kind in ("client", "producer")
    peer = peer_of(attributes) if is_sent else None
    status = http_status_of(reported)
    span = Span(
        trace_id=reported.trace_id,
        span_id=reported.span_id,
        parent_id=reported.parent_id,
        service=reported.service,
        endpoint=endpoint,
        kind=reported.kind,
        peer=peer,
        start_ns=reported.start_ns,
        duration_ns=reported.duration_ns,
        status=status,
        error=error_of(reported, status),
        method=_method(attributes),
        instance=reported.instance,
        links=reported.links,
    )
    if not has_own(attributes):
        return span
    own = {name: attributes[name] for name in _OWN_NAMES if name in attributes}
    return _with_own(span, own)


def has_own(attributes: Attributes) -> bool:
    """Return whether there are attributes of this package, which may hold anything."""
    return not _OWN_NAMES.keys().isdisjoint(attributes)


def _with_own(span: Span, own: Attributes) -> Span:
    """Return the span with what attributes of this package say."""
    fields: dict[str, Any] = {}
    for name, value in own.items():
        fields[_OWN_NAMES[name]] = None if value == "" else value
    if "open" in fields and fields.pop("open"):
        fields["duration_ns"] = None
    for field in ("status", "first_byte_ns"):
        if field in fields:
            fields[field] = whole_number(fields[field])
    return span._replace(**fields)


def is_addressed(span: Span, attributes: Attributes) -> bool:
    """Return whether a call names its peer by an address only, or not at all."""
    if span.kind != "client" or f"{OWN_PREFIX}peer" in attributes:
        return False
    return first(attributes, PEER) is None


def _method(attributes: Attributes) -> str | None:
    method = first(attributes, METHOD)
    return None if method is None else known_method(method)


def endpoint_of(reported: ReportedSpan) -> str:
    """Return what behaves alike: the route, the remote procedure, the shape of the statement, the
    queue, the path with ``<id>`` for ids, or the span's name, whichever its kind has first.
    """
    for find in _FINDERS.get(reported.kind, _FINDERS["internal"]):
        endpoint = find(reported.attributes)
        if endpoint:
            return endpoint
    if _is_of_database(reported.attributes):
        return shape_of(reported.name) or UNNAMED
    return _named(reported.name)


def _is_of_database(attributes: Attributes) -> bool:
    return any(name in attributes for name in _OF_DATABASES)


def _route(attributes: Attributes) -> str | None:
    return first(attributes, ROUTE)


def _template(attributes: Attributes) -> str | None:
    return first(attributes, TEMPLATE)


def _procedure(attributes: Attributes) -> str | None:
    service = first(attributes, RPC_SERVICE)
    method = first(attributes, RPC_METHOD)
    if service is None:  # the new form has both in the method
        return f"/{method}" if method and "/" in method else None
    if method is None or method.startswith(f"{service}/"):
        return f"/{method or service}"
    return f"/{service}/{method}"


def _statement(attributes: Attributes) -> str | None:
    statement = first(attributes, STATEMENT)
    if statement is not None:
        if first(attributes, SYSTEM) not in WITHOUT_SHAPE:
            return shape_of(statement)
        command, _, _ = statement.strip().partition(" ")
        return command.upper()
    operation = first(attributes, OPERATION)
    if operation is None:
        return first(attributes, SUMMARY)
    collection = first(attributes, COLLECTION) or ""
    return f"{operation} {collection}".rstrip()


def _destination(attributes: Attributes) -> str | None:
    return first(attributes, DESTINATION)


def _path(attributes: Attributes) -> str | None:
    path = first(attributes, PATH)
    if path is not None:
        without_query, _, _ = path.partition("?")
        return fold(without_query)
    url = first(attributes, URL)
    if url is None:
        return None
    _, path = _parts_of(url)
    return fold(path)


@lru_cache(maxsize=4096)
def _parts_of(url: str) -> tuple[str, str]:
    """Return host and path of a URL, or of a path alone; "" where it cannot be read."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    _, _, host = parts.netloc.rpartition("@")
    return host, parts.path or "/"


_FINDERS: dict[str, tuple[Finder, ...]] = {
    "server": (_route, _procedure, _path, _destination),
    "client": (_statement, _procedure, _template, _path, _destination),
    "consumer": (_destination, _procedure),
    "producer": (_destination, _procedure),
    "internal": (_statement,),
}

_METHOD_AND_PATH = re.compile(r"(?:HTTP )?([A-Za-z]+) (/\S*)")


@lru_cache(maxsize=4096)
def _named(name: str) -> str:
    """Return the endpoint of a span that only a name tells: "GET /items/17" is /items/<id>."""
    match = _METHOD_AND_PATH.fullmatch(name)
    if match is not None:
        return fold(match[2])
    if name.startswith("/"):
        return fold(name)
    return name or UNNAMED


def peer_of(attributes: Attributes) -> str | None:
    """Return the called service: by name, else host and port, else the system (sqlite, kafka)."""
    named = first(attributes, PEER)
    if named is not None:
        return named
    address = first(attributes, ADDRESS)
    if address is not None:
        port = first(attributes, PORT)
        return f"{address}:{port}" if port and ":" not in address else address
    url = first(attributes, URL)
    if url is not None:
        host, _ = _parts_of(url)
        if host:
            return host
    return first(attributes, SYSTEM)


def http_status_of(reported: ReportedSpan) -> int | None:
    """Return the status as one of HTTP.

    That is that of its gRPC code, unless HTTP itself failed, or its own. Without either ERROR reads
    as 500; but a client span of HTTP that has no status code had no answer: 0. What is not an error
    reads as 200 where the kind of span must have a status, else as None. Sending an answer that
    tells of a failure is none itself.
    """
    attributes = reported.attributes
    is_internal = reported.kind == "internal"
    is_part = is_internal and first(attributes, PART_OF_ANSWER) is not None
    if is_part and reported.exception is None:
        return None
    status = http_status(first(attributes, HTTP_STATUS))
    called = _procedure_status(attributes)
    if called is not None and (status is None or status < 400):
        status = called  # what carried a remote procedure is well where the procedure failed
    if status is not None:
        return status
    if reported.failed:
        return 0 if _had_no_answer(reported) else 500
    return None if reported.kind in WITHOUT_HTTP else 200


def _procedure_status(attributes: Attributes) -> int | None:
    code = first(attributes, GRPC_STATUS) or first(attributes, RPC_STATUS)
    return None if code is None else grpc_status(code)


def _had_no_answer(reported: ReportedSpan) -> bool:
    attributes = reported.attributes
    is_http = any(name in attributes for name in _OF_HTTP)
    return reported.kind == "client" and is_http


def error_of(reported: ReportedSpan, status: int | None) -> str | None:
    """Return what failed, as "TypeName: message"; None where nothing did, or nothing is told.

    An exception is the error of a span only if the span's status is ERROR: others were handled. A
    client calls 400 to 499 an ERROR without an exception, and here it is an answer. Of a message of
    a database the values are left out.
    """
    if not reported.failed:
        return None
    attributes = reported.attributes
    told = reported.exception or {}
    name = first(told, (EXCEPTION_TYPE,)) or first(attributes, ERROR_TYPE)
    kind = _type_name(name)
    message = first(told, (EXCEPTION_MESSAGE,)) or reported.message
    if message and _is_of_database(attributes):
        message = message_without_values(message)
    if status is not None and status >= 400 and not told and not message:
        return None
    if kind and message and not message.startswith(f"{kind}:"):
        message = f"{kind}: {message}"
    text = message or kind
    is_ok = status is not None and 100 <= status < 400
    if not text and is_ok:
        text = "ERROR"
    return text[:MAX_ERROR_LENGTH] or None


def _type_name(kind: str | None) -> str:
    """Return the name of an exception's class without its module; "" for a status code."""
    if kind is None or kind.isdigit() or kind == "_OTHER":
        return ""
    return re.split(r"[.\\/]|::", kind)[-1]


# ---- writing


def attributes_of(span: Span) -> ReportedSpan:
    """Return a span as an SDK would report it: `to_span` gives the same span back."""
    own: dict[str, Any] = {}
    if span.kind in ("client", "producer") and span.peer is None:
        own[f"{OWN_PREFIX}peer"] = ""
    if span.first_byte_ns is not None:
        own[f"{OWN_PREFIX}first_byte_ns"] = span.first_byte_ns
    reported = _reported(span, own)
    read = to_span(reported)
    differing = [field for field in _OWN_NAMES.values() if _differs(span, read, field)]
    if not differing:
        return reported
    for field in differing:
        value = getattr(span, field)
        own[f"{OWN_PREFIX}{field}"] = "" if value is None else value
    return _reported(span, own)


def _differs(span: Span, read: Span, field: str) -> bool:
    return field != "open" and getattr(span, field) != getattr(read, field)


def _reported(span: Span, own: Mapping[str, Any]) -> ReportedSpan:
    status = span.status
    has_failed = span.error is not None
    if status is not None and (status == 0 or status >= 500):
        has_failed = True
    return ReportedSpan(
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_id,
        name=join_method(span.method, span.endpoint),
        kind="internal" if span.kind == "log" else span.kind,
        start_ns=span.start_ns,
        duration_ns=span.duration_ns,
        attributes={**_conventional(span), **own},
        service=span.service,
        instance=span.instance,
        failed=has_failed,
        message=span.error or "",
        exception=_exception(span.error),
        links=span.links,
    )


_PLACES = {
    "server": ROUTE,
    "client": TEMPLATE,
    "producer": DESTINATION[1:],
    "consumer": DESTINATION[1:],
}


def _conventional(span: Span) -> dict[str, Any]:
    place = _PLACES.get(span.kind)
    if span.kind == "client" and not span.endpoint.startswith("/"):
        place = STATEMENT
    known = {
        PEER[1]: span.peer,
        METHOD[0]: span.method,
        HTTP_STATUS[0]: http_status(span.status),
    }
    told = {name: value for name, value in known.items() if value is not None}
    return {place[0]: span.endpoint, **told} if place else told


_TYPE_AND_MESSAGE = re.compile(r"([A-Za-z_]\w*): (.+)", re.DOTALL)


def _exception(error: str | None) -> dict[str, str] | None:
    match = _TYPE_AND_MESSAGE.fullmatch(error or "")
    if match is None:
        return None
    kind, message = match.groups()
    return {EXCEPTION_TYPE: kind, EXCEPTION_MESSAGE: message}
