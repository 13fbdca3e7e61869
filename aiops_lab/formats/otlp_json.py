"""OTLP as JSON: a document, or the lines that the collector's file exporter writes.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiops_lab.checks import FieldError
from aiops_lab.formats.conventions import (
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    INSTANCE,
    KNOWN,
    SERVICE,
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
)

PLACES = ("resourceSpans", "batches")  # of the elements that `otlp_spans` takes

_AROUND = ("result", "trace")  # what stands around a document in the answers of other tools

_OTHER_SIGNALS = ({"resourceMetrics"}, {"resourceLogs"}, {"resourceProfiles"})

KIND_NAMES = ("internal", "internal", "server", "client", "producer", "consumer")
"""The kinds of OTLP by their numbers; 0 is unspecified, which the specification calls internal."""

ERROR = 2

_KINDS: dict[Any, str] = {
    **dict(enumerate(KIND_NAMES)),
    **{f"SPAN_KIND_{name.upper()}": name for name in KIND_NAMES},
    "SPAN_KIND_UNSPECIFIED": "internal",
    None: "internal",
}

_ERRORS = (ERROR, "STATUS_CODE_ERROR", "2")

_FAULTS = (KeyError, TypeError, AttributeError)  # what a value of a wrong type leads to


def is_otlp(path: str, item: Any) -> bool:
    """Return whether a value of a JSON file is what `otlp_spans` takes."""
    name, _, _ = path.partition("[")
    if name:
        return name in PLACES
    if not isinstance(item, dict):
        return False
    if not item:
        return path == ""
    held = next((item[name] for name in _AROUND if name in item), item)
    return isinstance(held, dict) and "resourceSpans" in held


def is_other_signal(path: str, item: Any) -> bool:
    """Return whether a value of a JSON file is OTLP without spans: metrics or logs."""
    return path == "" and isinstance(item, dict) and item.keys() in _OTHER_SIGNALS


def otlp_spans(item: Any) -> Iterator[ReportedSpan]:
    """Return the spans of one resource, or of the resources of a whole document."""
    item = mapping("resourceSpans", item)
    for name in _AROUND:
        if name in item:
            item = mapping(name, item[name])
    if "resourceSpans" not in item:
        yield from _of_resource(item)
        return
    for at, row in enumerate(listed("resourceSpans", item["resourceSpans"])):
        place = f"resourceSpans[{at}]"
        resource = mapping(place, row)
        try:
            yield from _of_resource(resource)
        except FieldError as error:
            raise inside(f"{place}.", error) from None


def _of_resource(item: Mapping[str, Any]) -> Iterator[ReportedSpan]:
    resource = mapping("resource", item.get("resource"))
    attributes = _attributes("resource.attributes", resource.get("attributes"))
    service = first(attributes, SERVICE) or UNKNOWN_SERVICE
    instance = first(attributes, INSTANCE)
    for place, span in _spans(item):
        try:
            yield _reported(mapping("span", span), service, instance)
        except FieldError as error:
            raise inside(f"{place}.", error) from None


def _spans(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each span of a resource."""
    name = "scopeSpans" if "scopeSpans" in item else "instrumentationLibrarySpans"
    for at, row in enumerate(listed(name, item.get(name))):
        place = f"{name}[{at}].spans"
        scope = mapping(place, row)
        for number, span in enumerate(listed(place, scope.get("spans"))):
            yield f"{place}[{number}]", span


def _reported(span: Any, service: str, instance: str | None) -> ReportedSpan:
    start = integer("startTimeUnixNano", span.get("startTimeUnixNano"))
    end = integer("endTimeUnixNano", span.get("endTimeUnixNano"))
    status = mapping("status", span.get("status"))
    return ReportedSpan(
        trace_id=hex_id("traceId", span.get("traceId"), TRACE_DIGITS),
        span_id=hex_id("spanId", span.get("spanId"), SPAN_DIGITS),
        parent_id=hex_id("parentSpanId", span.get("parentSpanId"), SPAN_DIGITS) or None,
        name=text("name", span.get("name")),
        kind=_kind(span.get("kind")),
        start_ns=start,
        duration_ns=end - start if end else None,
        attributes=_attributes("attributes", span.get("attributes")),
        service=service,
        instance=instance,
        failed=status.get("code") in _ERRORS,
        message=text("status.message", status.get("message")),
        exception=_exception(span.get("events")),
        links=_links(span.get("links")),
    )


def _kind(value: Any) -> str:
    if value is not None and not isinstance(value, (int, str)):
        raise FieldError("kind", "must be a number or a name", value)
    return _KINDS.get(value, "unknown")


def _attributes(field: str, rows: Any) -> dict[str, Any]:
    """Return those attributes that are read, as plain values."""
    rows = listed(field, rows)
    try:
        return {row["key"]: scalar(row.get("value")) for row in rows if row["key"] in KNOWN}
    except _FAULTS:
        raise FieldError(field, "must have a key and a value each", rows) from None


def scalar(value: Any) -> Any:
    """Return the value of an attribute; None for arrays and objects, which no convention reads."""
    for kind, plain in (value or {}).items():
        if kind == "stringValue":
            return text("attributes", plain)
        if kind == "intValue":
            return integer("attributes", plain)
        if kind in ("boolValue", "doubleValue"):
            return plain if isinstance(plain, bool | int | float | str) else None
    return None


def _exception(events: Any) -> dict[str, Any] | None:
    for row in reversed(listed("events", events)):
        event = mapping("events", row)
        if event.get("name") == "exception":
            return _attributes("events.attributes", event.get("attributes"))
    return None


def _links(links: Any) -> tuple[str, ...] | None:
    rows = [mapping("links", link) for link in listed("links", links)]
    ids = [hex_id("links.spanId", row.get("spanId"), SPAN_DIGITS) for row in rows]
    return tuple(filter(None, ids)) or None


# ---- writing


def documents(spans: Iterable[ReportedSpan]) -> Iterator[dict[str, Any]]:
    """Return the one value of each line: the spans of a resource (service and instance)."""
    by_resource: dict[tuple[str, str | None], list[ReportedSpan]] = {}
    for span in spans:
        rows = by_resource.setdefault((span.service, span.instance), [])
        rows.append(span)
    for (service, instance), rows in by_resource.items():
        names = {"service.name": service, "service.instance.id": instance}
        resource = {"attributes": _written_attributes(names)}
        written = [_written(span) for span in rows]
        scope = {"scope": {"name": "aiops_lab"}, "spans": written}
        yield {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _written(span: ReportedSpan) -> dict[str, Any]:
    end = None
    if span.duration_ns is not None:
        end = str(span.start_ns + span.duration_ns)
    links = [{"traceId": span.trace_id, "spanId": link} for link in span.links or ()]
    fields = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "kind": KIND_NAMES.index(span.kind, 1),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": end,
        "attributes": _written_attributes(span.attributes),
        "events": _written_events(span, end),
        "links": links,
        "status": {"code": ERROR, "message": span.message} if span.failed else {},
    }
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


def _written_attributes(attributes: Any) -> list[dict[str, Any]]:
    written = []
    for key, value in attributes.items():
        if value is not None:
            written.append({"key": key, "value": _written_value(value)})
    return written


def _written_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"stringValue": str(value)}


def _written_events(span: ReportedSpan, end: str | None) -> list[dict[str, Any]]:
    if span.exception is None:
        return []
    told = {name: span.exception[name] for name in (EXCEPTION_TYPE, EXCEPTION_MESSAGE)}
    time = end or str(span.start_ns)
    attributes = _written_attributes(told)
    return [{"timeUnixNano": time, "name": "exception", "attributes": attributes}]
