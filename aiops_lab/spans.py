"""What is one step of a request? The span, and the spans frame that all analysis takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab.checks import FieldError, shorten
from aiops_lab.columns import (
    are_texts,
    different_values,
    is_unicode,
    text_column,
    types_of_unicode,
)
from aiops_lab.unchanged import while_unchanged

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Key = tuple[str, str]  # (service, endpoint)

KINDS = ("server", "client", "log", "internal", "producer", "consumer")

SERVING = ("server", "consumer")  # kinds of spans that serve an endpoint

WITHOUT_HTTP = ("log", "internal", "producer", "consumer")  # kinds that may have no status

MAX_DURATION_MS = 30 * 86_400_000.0  # no request lasts longer than 30 days
FIRST_YEAR, LAST_YEAR = 1990, 2100  # a start outside is a missing or mistaken timestamp


class Span(NamedTuple):
    """One timed step of a request, seen by one service.

    Times are whole nanoseconds. ``duration_ns`` is None while the step is still open. ``status`` is
    the HTTP status, 0 where no response came, None where the kind of span has none. ``peer`` names
    the called service of a client span. ``error`` is ``"TypeName: message"`` or None.

    The last four may be left out. ``method`` is the HTTP method. ``instance`` names the process or
    host that ran the step. ``first_byte_ns`` says when a streamed answer began, after the start.
    ``links`` are the ids of spans that this one follows from, without being waited for by them.
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
    status: int | None
    error: str | None
    method: str | None = None
    instance: str | None = None
    first_byte_ns: int | None = None
    links: tuple[str, ...] | None = None


COLUMNS = (
    "trace_id",
    "span_id",
    "parent_id",
    "service",
    "endpoint",
    "kind",
    "peer",
    "start",
    "duration_ms",
    "status",
    "error",
)

OPTIONAL_COLUMNS = ("method", "instance", "first_byte_ms", "links")

ALL_COLUMNS = (*COLUMNS, *OPTIONAL_COLUMNS)

ID_COLUMNS = ("trace_id", "span_id", "parent_id", "links")
NAME_COLUMNS = ("service", "endpoint", "kind", "peer", "method", "instance", "error")
TEXT_COLUMNS = (*ID_COLUMNS, *NAME_COLUMNS)

REQUIRED_TEXT = ("trace_id", "span_id", "service", "endpoint", "kind")


def to_frame(spans: Iterable[Span | tuple[Any, ...]]) -> pd.DataFrame:
    """Turn spans, or tuples of their fields, into the spans frame that all analysis takes.

    Returns
    -------
    DataFrame
        One row a span, sorted by (start, span_id), index 0..n-1; spans that are equal in all fields
        are one row. Columns as in `Span`, but for three. ``start`` is datetime64[ns, UTC] instead
        of ``start_ns``. ``duration_ms`` and ``first_byte_ms`` are float64 instead of
        ``duration_ns`` and ``first_byte_ns``, NaN = still open, or not known. ``links`` is one text
        a span, the ids with a space between them.

    Raises
    ------
    ValueError
        A span has a wrong number of fields, or something else where a text or a number should be:
        names the field, the rule and the value.
    """
    import numpy as np
    import pandas as pd

    raw = _transposed(spans)
    start = _integers("start_ns", raw["start_ns"])
    order = _order(start, raw)
    columns: dict[str, Any] = {
        "start": pd.DatetimeIndex(start, tz="UTC"),
        "duration_ms": _milliseconds("duration_ns", raw["duration_ns"]),
        "status": status_values(raw["status"]),
        "first_byte_ms": _milliseconds("first_byte_ns", raw["first_byte_ns"]),
    }
    links = raw["links"]
    _check_types("links", links, (str, tuple, list, NoneType), "must be ids or None")
    raw["links"] = [link_text(ids) for ids in links]
    rows = pd.RangeIndex(len(order))
    for name in TEXT_COLUMNS:
        columns[name] = checked_texts(name, raw[name], rows)
    in_order = {name: columns[name] for name in ALL_COLUMNS}
    frame = pd.DataFrame(in_order, index=rows)  # one index for all: pandas has nothing to align
    if (np.diff(order) != 1).any():
        frame = frame.take(order).set_axis(rows)
    return drop_copies(frame, start[order])


def link_text(links: Iterable[str] | str | None) -> str | None:
    """Return the ids of linked spans as the text that stands in a frame, None for no link."""
    text = links if isinstance(links, str) else " ".join(links or ())
    return text or None


def _transposed(spans: Iterable[Span | tuple[Any, ...]]) -> dict[str, Sequence[Any]]:
    """Return the values of each field; the fields that a tuple leaves out are None."""
    if not isinstance(spans, Iterable):
        raise FieldError("spans", "must be an iterable of spans", spans)
    rows = [*spans]
    _check_types("spans", rows, (tuple, list), "must hold spans, or tuples of their fields")
    fields = Span._fields
    sizes = set(map(len, rows))
    if sizes - {len(fields)}:
        rows = [_complete(row) for row in rows]
    columns = [*zip(*rows, strict=True)] or [()] * len(fields)
    return dict(zip(fields, columns, strict=True))


def _complete(row: tuple[Any, ...]) -> tuple[Any, ...]:
    size = len(row)
    least = len(COLUMNS)
    most = len(Span._fields)
    if not least <= size <= most:
        rule = f"must have {least} to {most} fields"
        raise ValueError(f"a span {rule}, got {size}: {shorten(row)}")
    left_out = [None] * (most - size)
    return (*row, *left_out)


def _order(start: NDArray, raw: dict[str, Sequence[Any]]) -> NDArray:
    """Return the positions of the spans sorted by start, and where that is equal by their ids."""
    import numpy as np

    order = np.argsort(start, kind="stable")
    step = np.diff(start[order])
    if not (step == 0).any():
        return order
    kind = np.array(raw["kind"], dtype=str)
    trace_id = np.array(raw["trace_id"], dtype=str)
    span_id = np.array(raw["span_id"], dtype=str)
    return np.lexsort((kind, trace_id, span_id, start))


def drop_copies(frame: pd.DataFrame, start: NDArray) -> pd.DataFrame:
    """Return a frame, sorted by `start`, without the rows that repeat another in all columns."""
    import numpy as np

    like_next = start[1:] == start[:-1]
    tied = np.append(like_next, False)
    tied[1:] |= like_next
    if not tied.any():
        return frame
    copies = tied.copy()
    copies[tied] = frame[tied].duplicated().to_numpy()
    return frame[~copies].reset_index(drop=True)


def _milliseconds(name: str, nanoseconds: Sequence[int | None]) -> NDArray:
    import numpy as np

    _check_types(name, nanoseconds, (Real, NoneType), "must be a number of nanoseconds or None")
    try:
        return np.array(nanoseconds, dtype="float64") / 1e6
    except OverflowError:
        largest = max(filter(None, nanoseconds))
        raise FieldError(name, "must be at most 30 days", largest) from None


def _integers(name: str, values: Sequence[int]) -> NDArray:
    import numpy as np

    _check_types(name, values, (Integral,), "must be a whole number")
    try:
        return np.array(values, dtype="int64")
    except OverflowError:
        largest = max(values, key=abs)
        raise FieldError(name, "must fit into 64 bits", largest) from None


def status_values(values: Sequence[int | None]) -> NDArray | pd.arrays.IntegerArray:
    """Return int64, or where values are missing pandas' Int64."""
    import numpy as np
    import pandas as pd

    _check_types("status", values, (Integral, NoneType), "must be a whole number or None")
    if None not in values:
        return _integers("status", values)  # type: ignore[arg-type]
    with_zeros = [value or 0 for value in values]
    known = _integers("status", with_zeros)
    missing = np.array([value is None for value in values])
    return pd.arrays.IntegerArray(known, missing)


def _check_types(name: str, values: Sequence[Any], right: tuple[type, ...], rule: str) -> None:
    """Raise `FieldError` with the first value that is none of the classes; booleans are none."""
    found = set(map(type, values))
    wrong = {kind for kind in found if kind is bool or not issubclass(kind, right)}
    if not wrong:
        return
    for value in values:
        if type(value) in wrong:
            raise FieldError(name, rule, value)


def checked_texts(name: str, values: Sequence[Any], rows: pd.Index) -> pd.Series:
    """Return a column of texts; FieldError where something else is among them."""
    import pandas as pd

    try:
        if are_texts(values):
            return text_column(values, rows)
    except UnicodeEncodeError:
        pass  # the check below says where
    column = pd.Series([*values], dtype=object, name=name)
    _check_is_text(column)
    texts = column.where(column.notna(), None)
    return text_column(texts.tolist(), rows)


def check(frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` unchanged if it is a spans frame; only its ``attrs`` and ``flags``, which
    pandas hands on to all that is made of a frame, are left out.

    The columns of `OPTIONAL_COLUMNS` may be left out, further ones are allowed. Text may be stored
    as object, str or category.

    Raises
    ------
    ValueError
        Names the column, the rule, the value and the row: a column is not there or of a wrong type,
        a value is missing, a time cannot be (before 1990, after 2100, NaT), a duration is negative
        or beyond 30 days, a status is neither 0 nor 100 to 599, a kind is not known.
    """
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"frame must be a pandas DataFrame, got {type(frame).__name__}")
    if frame.attrs or not frame.flags.allows_duplicate_labels:
        frame = frame.set_flags(allows_duplicate_labels=True)
        frame.attrs = {}
    for column in _present_columns(frame):
        if column in TEXT_COLUMNS and column not in _STRUCTURE:
            _check_is_text(frame[column])
    while_unchanged(_check_structure, frame)
    _check_times(frame)
    _check_status(frame)
    return frame


def columns_in(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a span that a frame has."""
    return [column for column in ALL_COLUMNS if column in frame.columns]


def _present_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a span that a frame has.

    Raises
    ------
    ValueError
        One that is needed is not there, or one is there twice.
    """
    for column in COLUMNS:
        if column not in frame.columns:
            raise ValueError(f"frame must have the column {column!r}, got {list(frame.columns)}")
    present = columns_in(frame)
    for column in present:
        if frame[column].ndim != 1:
            raise ValueError(f"frame must have the column {column!r} once, got it several times")
    return present


_STRUCTURE = (*REQUIRED_TEXT, "parent_id")


def _check_structure(frame: pd.DataFrame) -> None:
    """Refuse ids and names that are missing or no text, and unknown kinds."""
    complete = [column for column in _STRUCTURE if _check_is_text(frame[column])]
    for name in REQUIRED_TEXT:
        if name not in complete:
            column = frame[name]
            _refuse(column, column.isna(), "must not be missing")
    kind = frame["kind"]
    if not set(different_values(kind)).issubset(KINDS):
        _refuse(kind, ~kind.isin(KINDS), f"must be one of {KINDS}")


def _refuse(column: pd.Series, wrong: pd.Series, rule: str) -> None:
    """Raise ValueError with the first value that is wrong, and its row, if there is one."""
    import numpy as np

    at = np.flatnonzero(wrong.to_numpy())
    if at.size:
        first = at[0]
        value = _shown(column.iloc[first])
        row = _shown(column.index[first])
        raise ValueError(f"column {column.name!r} {rule}, got {value} in row {row}")


def _shown(value: object) -> str:
    import numpy as np
    import pandas as pd

    is_scalar = isinstance(value, (np.generic, pd.Timestamp))
    return str(value) if is_scalar else f"{value!r:.80}"


_FIRST = 1_000  # values that tell whether it is worth to look whether all are missing


def _check_is_text(column: pd.Series) -> bool:
    """Return whether a column was soon seen to hold text in all its rows; False is no answer."""
    import pandas as pd
    from pandas.api import types

    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype):
        if dtype.storage == "python":
            _check_is_unicode(column, column)
        return False
    is_category = isinstance(dtype, pd.CategoricalDtype)
    is_object = types.is_object_dtype(dtype)
    texts = different_values(column)
    none_first = is_object and pd.isna(texts[:_FIRST]).all()
    if none_first and types.infer_dtype(texts, skipna=True) == "empty":
        return False
    found = types_of_unicode(texts, column.name in NAME_COLUMNS)
    if found is not None:
        return found == {str} and not is_category
    inferred = types.infer_dtype(texts, skipna=True)
    if inferred in ("string", "empty") or column.isna().all():
        _check_is_unicode(column, texts)
        return False
    rule = "must be text (object, str or category)"
    if not is_category and not is_object:
        raise ValueError(f"column {column.name!r} {rule}, got {dtype}")
    objects = column.astype(object)
    is_text = objects.map(lambda value: isinstance(value, str)).astype(bool)
    is_other = objects.notna() & ~is_text
    _refuse(objects, is_other, rule)
    return False


def _check_is_unicode(column: pd.Series, texts: NDArray | pd.Series) -> None:
    """Refuse lone surrogates, which no file, store or terminal can take."""
    known = (text for text in texts.tolist() if isinstance(text, str))
    if is_unicode("".join(known)):
        return
    objects = column.astype(object)
    is_right = objects.fillna("").map(is_unicode).astype(bool)
    _refuse(objects, ~is_right, "must be text that UTF-8 can hold")


def _check_times(frame: pd.DataFrame) -> None:
    import pandas as pd

    start = frame["start"]
    if not isinstance(start.dtype, pd.DatetimeTZDtype) or str(start.dt.tz) != "UTC":
        raise ValueError(f"column 'start' must be datetime64[ns, UTC], got {start.dtype}")
    _refuse(start, start.isna(), "must not be missing")
    rule = f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}"
    _refuse(start, ~_is_in_years(start), rule)
    for name in ("duration_ms", "first_byte_ms"):
        if name in frame.columns:
            _check_duration(frame[name])


def _is_in_years(start: pd.Series) -> pd.Series:
    """Return which times lie in the years that spans may have; none that is missing."""
    import pandas as pd

    first = pd.Timestamp(year=FIRST_YEAR, month=1, day=1, tz="UTC")
    after = pd.Timestamp(year=LAST_YEAR + 1, month=1, day=1, tz="UTC")
    return (start >= first) & (start < after)


def is_possible(frame: pd.DataFrame) -> NDArray:
    """Return which spans of a frame have values that can be: what `check` would not refuse."""
    possible = _is_in_years(frame["start"])
    possible &= ~_is_no_length(frame["duration_ms"])
    possible &= frame["kind"].isin(KINDS)
    if "first_byte_ms" in frame:
        possible &= ~_is_no_length(frame["first_byte_ms"])
    possible &= ~_has_no_status(frame)
    possible &= ~_is_no_status(frame["status"])
    return possible.to_numpy(bool)


def _check_duration(column: pd.Series) -> None:
    import numpy as np

    dtype = column.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind != "f" or dtype.itemsize < 4:
        raise ValueError(f"column {column.name!r} must be float64, got {dtype}")
    _refuse(column, _is_no_length(column), "must be >= 0 and at most 30 days")


def _is_no_length(column: pd.Series) -> pd.Series:
    return (column < 0) | (column > MAX_DURATION_MS)


def _check_status(frame: pd.DataFrame) -> None:
    from pandas.api import types

    status = frame["status"]
    if not types.is_integer_dtype(status.dtype):
        raise ValueError(f"column 'status' must be whole numbers, got {status.dtype}")
    needed = _has_no_status(frame)
    _refuse(status, needed, f"must not be missing unless the kind is one of {WITHOUT_HTTP}")
    wrong = _is_no_status(status)
    _refuse(status, wrong, "must be 0 (no response) or an HTTP status of 100 to 599")


def _has_no_status(frame: pd.DataFrame) -> pd.Series:
    """Return which spans have no status, although their kind has one."""
    missing = frame["status"].isna()
    if not missing.any():
        return missing
    may_have_none = frame["kind"].isin(WITHOUT_HTTP)
    return missing & ~may_have_none


def _is_no_status(status: pd.Series) -> pd.Series:
    """Return which values are no status, missing ones not among them."""
    code = status.fillna(0)
    outside = (code < 100) | (code > 599)
    return (code != 0) & outside
