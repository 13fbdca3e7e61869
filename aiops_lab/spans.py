"""What is one step of a request? The span, and the spans frame that all analysis takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("server", "client", "log")


class Span(NamedTuple):
    """One timed step of a request, seen by one service.

    Times are whole nanoseconds. ``duration_ns`` is None while the step is still open. ``status`` is
    the HTTP status, 0 where no response came. ``peer`` names the called service of a client span.
    ``error`` is ``"TypeName: message"`` or None.
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

REQUIRED_TEXT = ("trace_id", "span_id", "service", "endpoint", "kind")


def to_frame(spans: Iterable[Span | tuple[Any, ...]]) -> pd.DataFrame:
    """Turn spans, or tuples of their fields, into the spans frame that all analysis takes.

    Returns
    -------
    DataFrame
        One row a span, sorted by (start, span_id), index 0..n-1. Columns as in `Span`, with
        ``start`` as datetime64[ns, UTC] instead of ``start_ns`` and ``duration_ms`` (float64, NaN =
        still open) instead of ``duration_ns``.
    """
    import numpy as np
    import pandas as pd

    fields = list(zip(*spans, strict=True))
    raw = dict(zip(Span._fields, fields or [()] * len(Span._fields), strict=True))
    start = np.array(raw["start_ns"], dtype="int64")
    order = np.argsort(start, kind="stable")
    if (np.diff(start[order]) == 0).any():
        span_id = np.array(raw["span_id"], dtype=str)
        order = np.lexsort((span_id, start))
    numbers = {
        "start": pd.DatetimeIndex(start, tz="UTC"),
        "duration_ms": np.array(raw["duration_ns"], dtype="float64") / 1e6,
        "status": np.array(raw["status"], dtype="int64"),
    }
    texts = {name: pd.Series(raw[name], dtype=object) for name in TEXT_COLUMNS}
    frame = pd.DataFrame(texts | numbers, columns=list(COLUMNS))
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
            raise ValueError(
                f"column {column!r} must not be missing, got {missing.sum()} missing values"
            )
    _check_values(frame)
    return frame


def _check_types(frame: pd.DataFrame) -> None:
    import pandas as pd
    from pandas.api import types

    for column in TEXT_COLUMNS:
        dtype = frame[column].dtype
        text = types.is_object_dtype(dtype) or isinstance(
            dtype, (pd.StringDtype, pd.CategoricalDtype)
        )
        if not text and not frame[column].isna().all():
            raise ValueError(
                f"column {column!r} must be text (object, str or category), got {dtype}"
            )
    if (
        not isinstance(frame["start"].dtype, pd.DatetimeTZDtype)
        or str(frame["start"].dt.tz) != "UTC"
    ):
        raise ValueError(f"column 'start' must be datetime64[ns, UTC], got {frame['start'].dtype}")
    if not types.is_float_dtype(frame["duration_ms"].dtype):
        raise ValueError(f"column 'duration_ms' must be float64, got {frame['duration_ms'].dtype}")
    if not types.is_integer_dtype(frame["status"].dtype):
        raise ValueError(f"column 'status' must be whole numbers, got {frame['status'].dtype}")


def _check_values(frame: pd.DataFrame) -> None:
    if frame["start"].isna().any():
        raise ValueError("column 'start' must not be missing, got NaT")
    duration = frame["duration_ms"]
    wrong = duration[(duration < 0) | (duration == float("inf"))]
    if len(wrong):
        raise ValueError(f"column 'duration_ms' must be >= 0 and finite, got {wrong.iloc[0]}")
    unknown = frame.loc[~frame["kind"].isin(KINDS), "kind"]
    if len(unknown):
        raise ValueError(f"column 'kind' must be one of {KINDS}, got {unknown.iloc[0]!r}")


Key = tuple[str, str]  # (service, endpoint)
