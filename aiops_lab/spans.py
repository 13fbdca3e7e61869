"""What is one step of a request? The span, the spans frame, and the trace context on the wire."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("server", "client", "log")


class Span(NamedTuple):
    """One timed step of a request, seen by one service.

    Times are whole nanoseconds. ``duration_ns`` is None while the step is still open. ``status`` is the HTTP
    status, 0 where no response came. ``peer`` names the called service of a client span. ``error`` is
    ``"TypeName: message"`` or None.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    service: str
    endpoint: str
    kind: str
    peer: str | None
    start_ns: int
    duration_ns: int | None
    status: int
    error: str | None


TEXT_COLUMNS = ("trace_id", "span_id", "parent_id", "service", "endpoint", "kind", "peer", "error")
COLUMNS = (
    "trace_id", "span_id", "parent_id", "service", "endpoint", "kind", "peer",
    "start", "duration_ms", "status", "error",
)  # fmt: skip
REQUIRED_TEXT = ("trace_id", "span_id", "service", "endpoint", "kind")


def to_frame(spans: Iterable[Span | tuple[Any, ...]]) -> pd.DataFrame:
    """Turn spans, or tuples of their fields, into the spans frame that all analysis takes.

    Returns
    -------
    DataFrame
        One row a span, sorted by (start, span_id), index 0..n-1. Columns as in `Span`, with ``start`` as
        datetime64[ns, UTC] instead of ``start_ns`` and ``duration_ms`` (float64, NaN = still open) instead
        of ``duration_ns``.
    """
    import numpy as np
    import pandas as pd

    columns = list(zip(*spans, strict=True)) or [()] * len(Span._fields)
    raw = dict(zip(Span._fields, columns, strict=True))
    start = np.array(raw["start_ns"], dtype="int64")
    order = np.argsort(start, kind="stable")
    if (np.diff(start[order]) == 0).any():
        order = np.lexsort((np.array(raw["span_id"], dtype=str), start))
    made = {
        "start": pd.DatetimeIndex(start, tz="UTC"),
        "duration_ms": np.array(raw["duration_ns"], dtype="float64") / 1e6,
        "status": np.array(raw["status"], dtype="int64"),
    }
    frame = pd.DataFrame({c: made[c] if c in made else pd.Series(raw[c], dtype=object) for c in COLUMNS})
    return frame.take(order).reset_index(drop=True)


def check(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` unchanged if it is a spans frame.

    Extra columns are allowed; text columns may be object, str or category.

    Raises
    ------
    ValueError
        Names the missing or mistyped column, the rule and the value.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"frame must be a pandas DataFrame, got {type(frame).__name__}")
    for column in COLUMNS:
        if column not in frame.columns:
            raise ValueError(f"frame must have the column {column!r}, got {list(frame.columns)}")
    _check_types(frame)
    for column in REQUIRED_TEXT:
        missing = frame[column].isna()
        if missing.any():
            raise ValueError(f"column {column!r} must not be missing, got {missing.sum()} missing values")
    _check_values(frame)
    return frame


def _check_types(frame: pd.DataFrame) -> None:
    import pandas as pd
    from pandas.api import types

    for column in TEXT_COLUMNS:
        dtype = frame[column].dtype
        text = types.is_object_dtype(dtype) or isinstance(dtype, (pd.StringDtype, pd.CategoricalDtype))
        if not text and not frame[column].isna().all():
            raise ValueError(f"column {column!r} must be text (object, str or category), got {dtype}")
    if not isinstance(frame["start"].dtype, pd.DatetimeTZDtype) or str(frame["start"].dt.tz) != "UTC":
        raise ValueError(f"column 'start' must be datetime64[ns, UTC], got {frame['start'].dtype}")
    if not types.is_float_dtype(frame["duration_ms"].dtype):
        raise ValueError(f"column 'duration_ms' must be float64, got {frame['duration_ms'].dtype}")
    if not types.is_integer_dtype(frame["status"].dtype):
        raise ValueError(f"column 'status' must be whole numbers, got {frame['status'].dtype}")


def _check_values(frame: pd.DataFrame) -> None:
    if frame["start"].isna().any():
        raise ValueError("column 'start' must not be missing, got NaT")
    wrong = (frame["duration_ms"] < 0) | (frame["duration_ms"] == float("inf"))
    if wrong.any():
        raise ValueError(f"column 'duration_ms' must be >= 0 and finite, got {frame['duration_ms'][wrong].iloc[0]}")
    wrong = ~frame["kind"].isin(KINDS)
    if wrong.any():
        raise ValueError(f"column 'kind' must be one of {KINDS}, got {frame.loc[wrong, 'kind'].iloc[0]!r}")


# The trace context on the wire: W3C Trace Context, levels 1 and 2 (https://www.w3.org/TR/trace-context-2/).
#
#     traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03
#                  |  trace_id (16 random bytes)       parent's span_id  flags: 1 sampled, 2 random
#                  version
#     tracestate:  vendor=opaque,other=opaque          other systems' notes, passed on as they are

SAMPLED, RANDOM = 0x01, 0x02
KNOWN_FLAGS = SAMPLED | RANDOM
MAX_MEMBERS = 32

# The lookaheads refuse version ff and ids of zeros; only a future version may go on after its flags. A comma
# means two headers, which a server joined.
_TRACEPARENT = re.compile(
    r"[ \t]*(?:00|(?!00|ff)([0-9a-f]{2}))-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
    r"(?(1)(?:-[^,]*)?)[ \t]*"
)
# Level 2 made @ an ordinary letter of a key and lets a key begin with a digit: more than level 1 allows.
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)

# A generator of its own: whoever calls random.seed(0) for a lesson must not get the same trace ids again.
_rng = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rng.seed)
_getrandbits = _rng.getrandbits


def new_trace_id() -> str:
    """Return 32 random hex digits, not all zero."""
    return "%032x" % (_getrandbits(128) or 1)  # faster than an f-string


def new_span_id() -> str:
    """Return 16 random hex digits, not all zero."""
    return "%016x" % (_getrandbits(64) or 1)


def parse_traceparent(text: str) -> tuple[str, str, int] | None:
    """Return (trace_id, span_id of the caller, flags), or None where `text` is no valid traceparent.

    Version 00 is matched exactly. A future version may add fields after a dash; only what version 00 knows
    is read. Flags that have no meaning yet are cleared, as they must not be sent on.

    Examples
    --------
    >>> parse_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7', 1)
    >>> parse_traceparent("00-4BF9-1-01") is None
    True
    """
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
    return f"00-{trace_id}-{span_id}-{flags:02x}"


def parse_tracestate(text: str) -> str:
    """Return the tracestate to send on, ``""`` where there is none or `text` breaks the rules.

    Several headers arrive joined by commas. Empty members are dropped and of a repeated key the first is
    kept; one illegal member, or more than 32 members, and the whole list is discarded.

    Examples
    --------
    >>> parse_tracestate("rojo=1 ,, congo=t61,rojo=2")
    'rojo=1,congo=t61'
    >>> parse_tracestate("rojo=1,CONGO=2")
    ''
    """
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if len(members) > MAX_MEMBERS:
        return ""
    kept: dict[str, str] = {}
    for member in members:
        match = _MEMBER.fullmatch(member)
        if match is None:
            return ""
        kept.setdefault(match[1], member)
    return ",".join(kept.values())
