"""Zipkin's JSON, version 2: a list of spans, or of traces that are lists of spans.

Times are whole microseconds. The client and the server half of a call may share one id; they stay
two spans. A span without ``timestamp`` cannot be placed in time, and is left out; without
``duration`` it is still open. Without ``kind`` the first of the annotations ``sr`` and ``cs`` tells
it, which old clients write instead. Version 1 is refused.

https://zipkin.io/zipkin-api/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiops_lab.checks import FieldError
from aiops_lab.formats.conventions import (
    ADDRESS,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    INSTANCE,
    OWN_PREFIX,
    PEER,
    PORT,
    UNKNOWN_SERVICE,
    ReportedSpan,
    first,
)
from aiops_lab.formats.fields import (
    SPAN_DIGITS,
    TRACE_DIGITS,
    hex_id,
    inside,
    integer,
    listed,
    mapping,
    text,
    to_microseconds,
    whole_texts,
)

_MESSAGE = "otel.status_description"

_LINKS = f"{OWN_PREFIX}links"  # which Zipkin has no place for

_ANNOTATED = {"sr": "server", "cs": "client", "mr": "consumer", "ms": "producer"}

_REMOTE = ("client", "producer")  # kinds whose remote endpoint is whom they call


def is_zipkin(path: str, item: Any) -> bool:
    """Return whether a value of a JSON file is what `zipkin_spans` takes."""
    if not path.startswith("["):
        return path == "" and isinstance(item, dict) and _is_span(item)
    return isinstance(item, list) or (isinstance(item, dict) and _is_span(item))


def _is_span(item: dict[str, Any]) -> bool:
    return "traceId" in item and "id" in item


def zipkin_spans(item: Any) -> Iterator[ReportedSpan]:
    """Return a span, or the spans of a trace."""
    if not isinstance(item, list):
        yield _reported(mapping("span", item))
        return
    for at, span in enumerate(item):
        try:
            yield _reported(mapping("span", span))
        except FieldError as error:
            raise inside(f"[{at}].", error) from None


def _reported(span: Mapping[str, Any]) -> ReportedSpan:
    tags = whole_texts(mapping("tags", span.get("tags")))
    kind = text("kind", span.get("kind")).lower() or _annotated_kind(span)
    local = mapping("localEndpoint", span.get("localEndpoint"))
    if kind in _REMOTE:
        tags |= _remote(span.get("remoteEndpoint"), tags)
    start = 1000 * integer("timestamp", span.get("timestamp"))
    error = tags.get("error")
    links = str(tags.get(_LINKS, "")).split()
    return ReportedSpan(
        hex_id("traceId", span.get("traceId"), TRACE_DIGITS),
        hex_id("id", span.get("id"), SPAN_DIGITS),
        hex_id("parentId", span.get("parentId"), SPAN_DIGITS) or None,
        text("name", span.get("name")),
        kind,
        start,
        None if span.get("duration") is None else 1000 * integer("duration", span["duration"]),
        tags,
        text("localEndpoint.serviceName", local.get("serviceName")) or UNKNOWN_SERVICE,
        first(tags, INSTANCE) or _host("localEndpoint", local),
        error not in (None, False, "false") or tags.get("otel.status_code") == "ERROR",
        str(tags.get(_MESSAGE) or _message(error)),
        tags if EXCEPTION_TYPE in tags or EXCEPTION_MESSAGE in tags else None,
        tuple(links) or None,
    )


def _annotated_kind(span: Mapping[str, Any]) -> str:
    if "binaryAnnotations" in span:
        raise FieldError("binaryAnnotations", "must not be there, as in version 2", "version 1")
    for row in listed("annotations", span.get("annotations")):
        annotation = mapping("annotations", row)
        if "endpoint" in annotation:
            raise FieldError("annotations", "must have no endpoint, as in version 2", "version 1")
        kind = _ANNOTATED.get(text("annotations.value", annotation.get("value")))
        if kind is not None:
            return kind
    return "internal"


def _message(error: Any) -> str:
    """Return what the tag ``error`` tells: not that there is one, nor the status again."""
    told = "" if error is None else str(error)
    return "" if told.lower() in ("true", "error") or told.isdigit() else told


def _host(place: str, endpoint: Mapping[str, Any]) -> str | None:
    hosts = [text(f"{place}.{name}", endpoint.get(name)) for name in ("ipv4", "ipv6")]
    return hosts[0] or hosts[1] or None


def _remote(endpoint: Any, tags: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the remote endpoint of a call says that its tags do not."""
    endpoint = mapping("remoteEndpoint", endpoint)
    name = text("remoteEndpoint.serviceName", endpoint.get("serviceName"))
    if first(tags, PEER) is not None:
        return {}
    if name:
        return {PEER[0]: name}
    host = _host("remoteEndpoint", endpoint)
    if host is None or first(tags, ADDRESS) is not None:
        return {}
    return {ADDRESS[0]: host, PORT[0]: endpoint.get("port")}


# ---- writing


def written(span: ReportedSpan) -> dict[str, Any]:
    """Return a span as Zipkin has it."""
    duration = span.duration_ns
    fields = {
        "traceId": span.trace_id,
        "id": span.span_id,
        "parentId": span.parent_id,
        "name": span.name,
        "kind": None if span.kind == "internal" else span.kind.upper(),
        "timestamp": to_microseconds(span.start_ns),
        # Zipkin takes no duration of 0
        "duration": None if duration is None else max(to_microseconds(duration), 1),
        "localEndpoint": {"serviceName": span.service},
        "remoteEndpoint": _written_remote(span.attributes),
        "tags": _written_tags(span),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _written_remote(attributes: Mapping[str, Any]) -> dict[str, str] | None:
    peer = first(attributes, PEER)
    return None if peer is None else {"serviceName": peer}


def _written_tags(span: ReportedSpan) -> dict[str, str]:
    tags = dict(span.attributes)
    tags |= dict(span.exception or {})
    tags |= {} if span.instance is None else {INSTANCE[0]: span.instance}
    tags |= {_LINKS: " ".join(span.links)} if span.links else {}
    tags |= {"error": span.message or "true"} if span.failed else {}
    if _message(tags.get("error")) != span.message:
        tags[_MESSAGE] = span.message
    return {name: str(value) for name, value in tags.items()}
