"""How does a trace cross from process to process? W3C Trace Context, levels 1 and 2.

The headers (https://www.w3.org/TR/trace-context-2/)::

    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03
                 |  trace_id (16 random bytes)       parent's span_id  flags: 1 sampled, 2 random
                 version
    tracestate:  vendor=opaque,other=opaque          notes of other systems, passed on unchanged
"""

from __future__ import annotations

import os
import random
import re

KNOWN_FLAGS = 0x01 | 0x02  # sampled, random
MAX_MEMBERS = 32

# The lookaheads refuse version ff and ids of zeros; only a future version may go on after its
# flags. A comma means two headers, which a server joined.
_TRACEPARENT = re.compile(
    r"[ \t]*(?:00|(?!00|ff)([0-9a-f]{2}))"
    r"-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
    r"(?(1)(?:-[^,]*)?)[ \t]*"
)

# What nearly all callers send, at a third of the time.
_USUAL = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_FLAGS = {f"{flags:02x}": flags & KNOWN_FLAGS for flags in range(256)}
_FLAG_DIGITS = [f"{flags:02x}" for flags in range(256)]

# In level 2, @ is an ordinary letter of a key and a key may begin with a digit, unlike in level 1.
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_*/@-]{0,255})="
    r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)

NO_TRACE, NO_SPAN = "0" * 32, "0" * 16

# A generator of its own: random.seed(0) in a lesson must not repeat trace ids.
_rng = random.Random()

# Ids are made many at a time: within a request, a number that becomes text costs as much as the
# rest of the span.
_BLOCK = 256
_trace_ids: list[str] = []
_span_ids: list[str] = []


def new_trace_id() -> str:
    """Return 32 random hex digits, not all zero."""
    try:
        return _trace_ids.pop()
    except IndexError:
        return _make_ids(_trace_ids, NO_TRACE)


def new_span_id() -> str:
    """Return 16 random hex digits, not all zero."""
    try:
        return _span_ids.pop()
    except IndexError:
        return _make_ids(_span_ids, NO_SPAN)


def _make_ids(spare: list[str], zero: str) -> str:
    """Return an id as long as `zero`, and add more to those that are spare."""
    size = len(zero) // 2
    made = _rng.randbytes(_BLOCK * size).hex(" ", size).split()
    mine, *others = filter(zero.__ne__, made)
    spare += others
    return mine


def _begin_in_child() -> None:
    """Make other ids than the parent: what it has left over is its own."""
    _rng.seed()
    _trace_ids.clear()
    _span_ids.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def parse_traceparent(text: str) -> tuple[str, str, int] | None:
    """Return (trace_id, span_id of the caller, flags), or None where `text` is no valid
    traceparent.

    Version 00 is matched exactly. A future version may add fields after a dash; only what version
    00 knows is read. Flags that have no meaning yet are cleared, as they must not be sent on.

    Examples
    --------
    >>> parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7', 1)
    >>> parse_traceparent("00-4BF9-1-01") is None
    True
    """
    usual = _USUAL.fullmatch(text)
    if usual is not None:
        trace_id, span_id, flags = usual.groups()
        if trace_id == NO_TRACE or span_id == NO_SPAN:
            return None
        return trace_id, span_id, _FLAGS[flags]
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    trace_id, span_id, flags = match.group(2, 3, 4)
    return trace_id, span_id, int(flags, 16) & KNOWN_FLAGS


def format_traceparent(trace_id: str, span_id: str, flags: int = KNOWN_FLAGS) -> str:
    """Return the traceparent header of a call made by the span `span_id`.

    Examples
    --------
    >>> format_traceparent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03'
    """
    return f"00-{trace_id}-{span_id}-{_FLAG_DIGITS[flags]}"


def parse_tracestate(text: str) -> str:
    """Return the tracestate to send on, ``""`` where there is none or `text` breaks the rules.

    Several headers arrive joined by commas. Empty members are dropped and of a repeated key the
    first is kept; one illegal member, or more than 32 members, and the whole list is discarded.

    Examples
    --------
    >>> parse_tracestate("rojo=1 ,, congo=t61,rojo=2")
    'rojo=1,congo=t61'
    >>> parse_tracestate("rojo=1,CONGO=2")
    ''
    """
    members = list(filter(None, [member.strip(" \t") for member in text.split(",")]))
    if len(members) > MAX_MEMBERS:
        return ""
    first: dict[str, str] = {}
    for member in members:
        match = _MEMBER.fullmatch(member)
        if match is None:
            return ""
        first.setdefault(match[1], member)
    return ",".join(first.values())
