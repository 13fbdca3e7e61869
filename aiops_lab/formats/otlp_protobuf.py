"""OTLP as protobuf: one message, or the messages that the collector's file exporter writes.

That exporter (``format: proto``) puts the length of each message before it, as four bytes, the
highest first. ``ExportTraceServiceRequest`` and ``TracesData`` are alike on the wire: a row of
`ResourceSpans`, which are read one by one.

https://opentelemetry.io/docs/specs/otlp/#binary-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from aiops_lab.checks import missing_extra
from aiops_lab.formats.conventions import (
    INSTANCE,
    KNOWN,
    SERVICE,
    UNKNOWN_SERVICE,
    ReportedSpan,
    first,
)
from aiops_lab.formats.otlp_json import ERROR, KIND_NAMES
from aiops_lab.formats.recognize import PREFIX, RESOURCE_SPANS, is_framed
from aiops_lab.formats.sources import Source

# A batch of the collector has 8,192 spans, some megabytes; 1 GB is the most of the protocol.
MAX_MESSAGE = 256 << 20

MAX_LENGTH_BYTES = 5  # of a length up to 4 GB, seven bits a byte


class _Reader:
    """The bytes of an open file, and how many were read."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.at = 0
        self._stream = source.stream

    def read(self, size: int) -> bytes:
        """Return so many bytes; ValueError where the file ends before."""
        if size > MAX_MESSAGE:
            rule = f"must have no message of more than {MAX_MESSAGE:,} bytes"
            raise ValueError(f"{self.place} {rule}, got {size:,}")
        data = self._stream.read(size)
        if len(data) < size:
            raise ValueError(f"{self.place} must have {size:,} more bytes: it is cut off")
        self.at += size
        return data

    @property
    def place(self) -> str:
        return f"{self.name}, byte {self.at:,},"

    def is_at_end(self) -> bool:
        return not self._stream.peek(1)

    def is_framed(self) -> bool:
        return is_framed(self._stream.peek(PREFIX + 1))

    def varint(self) -> int:
        """Return a whole number as protobuf has it: seven bits a byte, the lowest first."""
        number = 0
        for place in range(MAX_LENGTH_BYTES):
            (byte,) = self.read(1)
            number |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return number
        raise ValueError(f"{self.place} must be a length of protobuf, got a larger number")


def protobuf_spans(source: Source) -> Iterator[ReportedSpan]:
    """Return the spans of an open file.

    Raises
    ------
    ImportError
        opentelemetry-proto is not installed.
    ValueError
        Names the file and the byte.
    """
    message = _resource_spans()
    reader = _Reader(source)
    framed = reader.is_framed()
    while not reader.is_at_end():
        end = None
        if framed:
            end = int.from_bytes(reader.read(PREFIX), "big") + reader.at
        while reader.at != end and not reader.is_at_end():
            yield from resource_spans(_next(reader, message))
        if end is not None and reader.at != end:
            raise ValueError(f"{reader.place} must have more bytes: it is cut off")


def _next(reader: _Reader, message: Any) -> Any:
    """Return the next ResourceSpans of a file."""
    tag = reader.read(1)
    if tag != RESOURCE_SPANS:
        raise ValueError(f"{reader.place} must be resource_spans of OTLP, got {tag!r}")
    data = reader.read(reader.varint())
    try:
        return message.FromString(data)
    except _decode_error() as error:
        raise ValueError(f"{reader.place} must be ResourceSpans, got: {error}") from None


@cache
def _resource_spans() -> Any:
    try:
        from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    return ResourceSpans


def _decode_error() -> Any:
    from google.protobuf.message import DecodeError

    return DecodeError


def resource_spans(element: Any) -> Iterator[ReportedSpan]:
    """Return the spans of one resource, given as the message ``ResourceSpans``."""
    attributes = _attributes(element.resource.attributes)
    service = first(attributes, SERVICE) or UNKNOWN_SERVICE
    instance = first(attributes, INSTANCE)
    for scope in element.scope_spans:
        for span in scope.spans:
            yield _reported(span, service, instance)


def _reported(span: Any, service: str, instance: str | None) -> ReportedSpan:
    start, end, kind = span.start_time_unix_nano, span.end_time_unix_nano, span.kind
    return ReportedSpan(
        _hex(span.trace_id, 16),
        _hex(span.span_id, 8),
        _hex(span.parent_span_id, 8) or None,
        span.name,
        KIND_NAMES[kind] if 0 <= kind < len(KIND_NAMES) else "unknown",
        start,
        end - start if end else None,
        _attributes(span.attributes),
        service,
        instance,
        span.status.code == ERROR,
        span.status.message,
        _exception(span.events),
        _links(span.links),
    )


def _hex(data: bytes, size: int) -> str:
    """Return an id as hexadecimal digits; "" for none, and for one of a wrong size."""
    is_id = len(data) == size and any(data)
    return data.hex() if is_id else ""


def _attributes(rows: Any) -> dict[str, Any]:
    return {row.key: _scalar(row.value) for row in rows if row.key in KNOWN}


_PLAIN = ("string_value", "int_value", "bool_value", "double_value")


def _scalar(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind in _PLAIN else None


def _exception(events: Any) -> dict[str, Any] | None:
    for event in reversed(events):
        if event.name == "exception":
            return _attributes(event.attributes)
    return None


def _links(links: Any) -> tuple[str, ...] | None:
    ids = [_hex(link.span_id, 8) for link in links]
    return tuple(filter(None, ids)) or None


# ---- writing


def messages(spans: Iterable[ReportedSpan]) -> Iterator[bytes]:
    """Return some spans as one ``ExportTraceServiceRequest``, in pieces: a resource each."""
    by_resource: dict[tuple[str, str | None], list[ReportedSpan]] = {}
    for span in spans:
        by_resource.setdefault((span.service, span.instance), []).append(span)
    for (service, instance), rows in by_resource.items():
        element = _resource_spans()()
        resource = {"service.name": service, "service.instance.id": instance}
        _add_attributes(element.resource, resource)
        scope = element.scope_spans.add()
        scope.scope.name = "aiops_lab"
        for span in rows:
            _fill(scope.spans.add(), span)
        data = element.SerializeToString(deterministic=True)
        yield RESOURCE_SPANS + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def _fill(message: Any, span: ReportedSpan) -> None:
    message.trace_id = bytes.fromhex(span.trace_id)
    message.span_id = bytes.fromhex(span.span_id)
    message.parent_span_id = bytes.fromhex(span.parent_id or "")
    message.name = span.name
    message.kind = KIND_NAMES.index(span.kind, 1)
    message.start_time_unix_nano = span.start_ns
    if span.duration_ns is not None:
        message.end_time_unix_nano = span.start_ns + span.duration_ns
    _add_attributes(message, span.attributes)
    if span.failed:
        message.status.code = ERROR
        message.status.message = span.message
    if span.exception is not None:
        event = message.events.add(name="exception", time_unix_nano=span.start_ns)
        _add_attributes(event, span.exception)
    for link in span.links or ():
        message.links.add(trace_id=message.trace_id, span_id=bytes.fromhex(link))


def _add_attributes(message: Any, attributes: Any) -> None:
    for key, value in attributes.items():
        if value is None:
            continue
        row = message.attributes.add(key=key)
        if isinstance(value, bool):
            row.value.bool_value = value
        elif isinstance(value, int):
            row.value.int_value = value
        else:
            row.value.string_value = str(value)
