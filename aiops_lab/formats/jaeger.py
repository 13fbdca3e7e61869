"""The JSON of Jaeger's UI and its query interface: ``{"data": [{traceID, spans, processes}]}``.

Times are whole microseconds. What Jaeger's query service changed in them to make clocks agree is
not undone: ask it for raw traces (``?raw=true``).

https://www.jaegertracing.io/docs/latest/apis/
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
    OWN_PREFIX,
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

_HOST = ("hostname", "host", "ip")  # as Jaeger's own clients called them
_STATUS = ("span.kind", "error", "otel.status_code", "otel.status_description", *_HOST)
_EVENT = ("event", "error.kind", "error.object", "message")
_TAGS = KNOWN | {*_STATUS, *_EVENT}

_KINDS = ("server", "client", "internal", "producer", "consumer")

CHILD_OF, FOLLOWS_FROM = "CHILD_OF", "FOLLOWS_FROM"

_TYPES = {bool: "bool", int: "int64"}  # of the values of tags; all others are written as texts

# what a trace, a span with its process, and an answer without traces have
_ELEMENTS = ({"spans", "processes"}, {"spanID", "process"}, {"data"})


def is_jaeger(path: str, item: Any) -> bool:
    """Return whether a value of a JSON file is what `jaeger_spans` takes."""
    is_place = path == "" or path.startswith(("data[", "["))
    if not is_place or not isinstance(item, dict):
        return False
    return any(keys <= item.keys() for keys in _ELEMENTS)


def jaeger_spans(trace: Any) -> Iterator[ReportedSpan]:
    """Return the spans of one trace, or a span with its process; none for an answer without."""
    trace = mapping("data", trace)
    if "spanID" in trace:
        yield _reported(trace, {})
        return
    if trace.get("data", trace) is None:
        return
    processes = {}
    for name, process in mapping("processes", trace.get("processes")).items():
        processes[name] = _process(f"processes.{name}", process)
    for at, span in enumerate(listed("spans", trace.get("spans"))):
        try:
            yield _reported(mapping("span", span), processes)
        except FieldError as error:
            raise inside(f"spans[{at}].", error) from None


Process = tuple[str, str | None]  # service, instance


def _process(place: str, process: Any) -> Process:
    process = mapping(place, process)
    tags = _tags(f"{place}.tags", process.get("tags"))
    service = text(f"{place}.serviceName", process.get("serviceName"))
    return service or UNKNOWN_SERVICE, first(tags, (*INSTANCE, *_HOST))


def _reported(span: Mapping[str, Any], processes: Mapping[str, Process]) -> ReportedSpan:
    tags = _tags("tags", span.get("tags"))
    trace_id = hex_id("traceID", span.get("traceID"), TRACE_DIGITS)
    parent, links = _references(span, trace_id)
    start_us = integer("startTime", span.get("startTime"))
    service, instance = _run_by(span, processes)
    kind = tags.get("span.kind") or "internal"
    return ReportedSpan(
        trace_id=trace_id,
        span_id=hex_id("spanID", span.get("spanID"), SPAN_DIGITS),
        parent_id=parent,
        name=text("operationName", span.get("operationName")),
        kind=str(kind).lower(),
        start_ns=1000 * start_us,
        duration_ns=_duration_ns(span.get("duration")),
        attributes=tags,
        service=service,
        instance=instance,
        failed=_is_error(tags),
        message=str(tags.get("otel.status_description") or ""),
        exception=_exception(span.get("logs")),
        links=links,
    )


def _duration_ns(value: Any) -> int | None:
    if value is None:
        return None
    return 1000 * integer("duration", value)


def _run_by(span: Mapping[str, Any], processes: Mapping[str, Process]) -> Process:
    if "process" in span:
        return _process("process", span["process"])
    name = text("processID", span.get("processID"))
    if name not in processes:
        raise FieldError("processID", f"must be one of {[*processes]}", name)
    return processes[name]


def _tags(field: str, rows: Any) -> dict[str, Any]:
    """Return those tags that are read."""
    rows = listed(field, rows)
    try:
        tags = {row["key"]: row.get("value") for row in rows if row["key"] in _TAGS}
    except (KeyError, TypeError, AttributeError):
        raise FieldError(field, "must have a key and a value each", rows) from None
    return whole_texts(tags)


def _is_error(tags: Mapping[str, Any]) -> bool:
    if tags.get("otel.status_code") == "ERROR":
        return True
    return tags.get("error") not in (None, False, "", "false")


def _references(
    span: Mapping[str, Any], trace_id: str
) -> tuple[str | None, tuple[str, ...] | None]:
    """Return the parent, and the spans that this one follows from without being waited for.

    Nobody waits in another trace: what is referred to there is no parent, whatever it is called.
    """
    parent = hex_id("parentSpanID", span.get("parentSpanID"), SPAN_DIGITS) or None
    links = []
    for row in listed("references", span.get("references")):
        reference = mapping("references", row)
        span_id = hex_id("references.spanID", reference.get("spanID"), SPAN_DIGITS)
        in_trace = hex_id("references.traceID", reference.get("traceID"), TRACE_DIGITS)
        is_elsewhere = bool(in_trace) and in_trace[16:] != trace_id[16:]  # it may be cut
        if is_elsewhere or reference.get("refType") == FOLLOWS_FROM:
            links.append(span_id)
        elif parent is None:
            parent = span_id or None
    given = tuple(filter(None, links))
    return parent, given or None


def _exception(logs: Any) -> dict[str, Any] | None:
    for row in reversed(listed("logs", logs)):
        log = mapping("logs", row)
        fields = _tags("logs.fields", log.get("fields"))
        if EXCEPTION_TYPE in fields or EXCEPTION_MESSAGE in fields:
            return fields
        if fields.get("event") == "error":  # as OpenTracing had it
            kind = fields.get("error.kind")
            message = first(fields, ("message", "error.object"))
            return {EXCEPTION_TYPE: kind, EXCEPTION_MESSAGE: message}
    return None


# ---- writing


def traces(spans: Iterable[ReportedSpan]) -> Iterator[dict[str, Any]]:
    """Return the traces of some spans."""
    by_trace: dict[str, list[ReportedSpan]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    for trace_id, rows in by_trace.items():
        names: dict[Process, str] = {}
        for span in rows:
            names.setdefault((span.service, span.instance), f"p{len(names) + 1}")
        processes = {name: _written_process(process) for process, name in names.items()}
        written = []
        for span in rows:
            process = names[span.service, span.instance]
            written.append(_written(span, process))
        yield {"traceID": trace_id, "spans": written, "processes": processes}


def _written_process(process: Process) -> dict[str, Any]:
    service, instance = process
    tags = {}
    if instance is not None:
        tags[INSTANCE[0]] = instance
    return {"serviceName": service, "tags": _written_tags(tags)}


def _written(span: ReportedSpan, process: str) -> dict[str, Any]:
    tags = dict(span.attributes)
    if span.kind in _KINDS:
        tags["span.kind"] = span.kind
    if span.failed:
        tags |= {"error": True, "otel.status_code": "ERROR"}
    if span.message:
        tags["otel.status_description"] = span.message
    if span.duration_ns is None:  # a duration must be there
        tags[f"{OWN_PREFIX}open"] = True
    start = to_microseconds(span.start_ns)
    duration = to_microseconds(span.duration_ns or 0)
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "operationName": span.name,
        "references": _written_references(span),
        "startTime": start,
        "duration": duration,
        "tags": _written_tags(tags),
        "logs": _written_logs(span, start + duration),
        "processID": process,
    }


def _written_references(span: ReportedSpan) -> list[dict[str, str]]:
    pairs = [(FOLLOWS_FROM, link) for link in span.links or ()]
    if span.parent_id is not None:
        pairs.insert(0, (CHILD_OF, span.parent_id))
    written = []
    for kind, span_id in pairs:
        written.append({"refType": kind, "traceID": span.trace_id, "spanID": span_id})
    return written


def _written_tags(tags: Mapping[str, Any]) -> list[dict[str, Any]]:
    written = []
    for key, value in tags.items():
        kind = _TYPES.get(type(value), "string")
        written.append({"key": key, "type": kind, "value": value})
    return written


def _written_logs(span: ReportedSpan, time: int) -> list[dict[str, Any]]:
    if span.exception is None:
        return []
    fields = _written_tags({"event": "exception", **span.exception})
    return [{"timestamp": time, "fields": fields}]
