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
    is_span = isinstance(item, dict) and _is_span(item)
    if path.startswith("["):
        return is_span or isinstance(item, list)
    return is_span and path == ""


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
    start_us = integer("timestamp", span.get("timestamp"))
    error = tags.get("error")
    has_error = error not in (None, False, "false")
    has_exception = EXCEPTION_TYPE in tags or EXCEPTION_MESSAGE in tags
    links = str(tags.get(_LINKS, "")).split()
    return ReportedSpan(
        trace_id=hex_id("traceId", span.get("traceId"), TRACE_DIGITS),
        span_id=hex_id("id", span.get("id"), SPAN_DIGITS),
        parent_id=hex_id("parentId", span.get("parentId"), SPAN_DIGITS) or None,
        name=text("name", span.get("name")),
        kind=kind,
        start_ns=1000 * start_us,
        duration_ns=_duration_ns(span.get("duration")),
        attributes=tags,
        service=text("localEndpoint.serviceName", local.get("serviceName")) or UNKNOWN_SERVICE,
        instance=first(tags, INSTANCE) or _host("localEndpoint", local),
        failed=has_error or tags.get("otel.status_code") == "ERROR",
        message=str(tags.get(_MESSAGE) or _message(error)),
        exception=tags if has_exception else None,
        links=tuple(links) or None,
    )


def _duration_ns(value: Any) -> int | None:
    if value is None:
        return None
    return 1000 * integer("duration", value)


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
    if told.isdigit() or told.lower() in ("true", "error"):
        return ""
    return told


def _host(place: str, endpoint: Mapping[str, Any]) -> str | None:
    ipv4 = text(f"{place}.ipv4", endpoint.get("ipv4"))
    ipv6 = text(f"{place}.ipv6", endpoint.get("ipv6"))
    return ipv4 or ipv6 or None


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
    if span.exception is not None:
        tags |= span.exception
    if span.instance is not None:
        tags[INSTANCE[0]] = span.instance
    if span.links:
        tags[_LINKS] = " ".join(span.links)
    if span.failed:
        tags["error"] = span.message or "true"
    if _message(tags.get("error")) != span.message:
        tags[_MESSAGE] = span.message
    return {name: str(value) for name, value in tags.items()}
