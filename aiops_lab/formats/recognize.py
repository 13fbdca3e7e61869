"""Which format is a file in? Told by its content, never by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Any

from aiops_lab.formats.jaeger import is_jaeger
from aiops_lab.formats.otlp_json import is_other_signal, is_otlp
from aiops_lab.formats.sources import Source
from aiops_lab.formats.zipkin import is_zipkin

FORMATS = ("csv", "parquet", "otlp", "otlp-protobuf", "jaeger", "zipkin")
"""All formats, by the names that `write_spans` takes."""

HEAD_BYTES = 4096  # bytes that are looked at

_JSON = {"otlp": is_otlp, "jaeger": is_jaeger, "zipkin": is_zipkin}

_CSV = re.compile(rb"(?:\xef\xbb\xbf)?[\w\",;. \t-]*trace_?id[\w\",;. \t-]*\r?\n", re.IGNORECASE)

# No text has these.
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

Items = Iterable[tuple[str, Any]]


def recognized(source: Source) -> str:
    """Return the format of an open file: "json" where its values decide which one.

    Raises
    ------
    ValueError
        It is empty, or in none of the formats.
    """
    head = source.stream.peek(HEAD_BYTES)[:HEAD_BYTES]
    if not head:
        raise ValueError(f"{source.name} must hold spans, got an empty file")
    if head.startswith(b"PAR1"):
        return "parquet"
    if _is_json(head):
        return "json"
    if _CSV.match(head):
        return "csv"
    if is_protobuf(head):
        return "otlp-protobuf"
    raise ValueError(f"{source.name} must hold traces as {_beginnings()}, got {_begin_of(head)}")


def _beginnings() -> str:
    """Return the formats, and what a CSV must have."""
    others = ", ".join(FORMATS[1:])
    return f"csv with a column trace_id, or as one of {others}"


def _begin_of(head: bytes) -> str:
    """Return how a file begins, as text where it is text."""
    begin = bytes(head[:80])
    line = begin.partition(b"\n")[0].strip()
    is_text = line.isascii() and not _CONTROL.search(begin)
    return repr(line.decode() if is_text else begin[:20])


def _is_json(head: bytes) -> bool:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")  # without a byte order mark
    return text.startswith((b"{", b"[")) and not _CONTROL.search(head)


RESOURCE_SPANS = b"\x0a"  # the tag of field 1, which has a length

PREFIX = 4  # bytes of the length before each message that the collector's file exporter writes


def is_protobuf(head: bytes) -> bool:
    """Return whether a file begins like OTLP protobuf, with or without lengths before messages."""
    return head.startswith(RESOURCE_SPANS) or is_framed(head)


def is_framed(head: bytes) -> bool:
    """Return whether a file begins with the length of a message, and the message."""
    is_length = head.startswith((b"\x00", b"\x01"))
    return is_length and head.startswith(RESOURCE_SPANS, PREFIX)


def recognized_json(name: str, items: Items) -> tuple[str, Items]:
    """Return the format of the values of a JSON file, and all of the values.

    The first value decides that is no empty object, and neither metrics nor logs of OTLP, which
    may be in one file with traces.

    Raises
    ------
    ValueError
        They are in no known format.
    """
    values = iter(items)
    looked_at = []
    for item in values:
        looked_at.append(item)
        if item[1] != {} and not is_other_signal(*item):
            break
    if not looked_at:
        return "zipkin", []  # an empty array, from a tool that found nothing
    path, value = looked_at[-1]
    for form, is_one in _JSON.items():
        if is_one(path, value):
            return form, chain(looked_at, values)
    formats = ", ".join(_JSON)
    raise ValueError(f"{name} must be JSON of one of {formats}, got {_described(path, value)}")


def _described(path: str, value: Any) -> str:
    place = f"at {path} " if path else ""
    if isinstance(value, dict):
        return f"{place}an object with {[*value][:8]}"
    return f"{place}{type(value).__name__}"
