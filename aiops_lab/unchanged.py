"""What was found out about ids and names in a large frame, for as long as they stay as they are.

Several functions that take one frame need these checked and parsed. A frame can be written to at
any time, so what is known holds only while the columns are made of the very same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from aiops_lab.columns import addresses, is_in_arrow

if TYPE_CHECKING:
    import pandas as pd

LARGE_FRAME = 10_000
"""Rows from which on something is kept: of 22,000 spans, telling whether they are still the same
takes half a millisecond, and finding it out again ten. Of smaller frames it is soon found out.
Raising it makes a slider over a small recording slower."""

_COLUMNS = ("trace_id", "span_id", "parent_id", "service", "endpoint", "kind")


class _Known(NamedTuple):
    frame: ref[pd.DataFrame]
    values: list[Any]  # of each column, as `_values` returns them
    found: dict[Callable[[pd.DataFrame], Any], Any]  # by function


_known: dict[int, _Known] = {}  # by the identity of the frame


def while_unchanged(function: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> Any:
    """Return ``function(frame)`` for a function that looks at ids and required names alone.

    Of a large frame it is called once while these stay. What it returned goes with the frame, and
    is not to be written to.
    """
    if len(frame) < LARGE_FRAME:
        return function(frame)
    columns = [frame[column] for column in _COLUMNS]
    known = _still_known(frame, columns) or _remember(frame, columns)
    if function not in known.found:
        known.found[function] = function(frame)
    return known.found[function]


def _still_known(frame: pd.DataFrame, columns: list[pd.Series]) -> _Known | None:
    """Return what is known of a frame, None where it is another one or its columns changed."""
    known = _known.get(id(frame))
    if known is None or known.frame() is not frame:
        return None
    return known if all(map(_same, columns, known.values)) else None


def _remember(frame: pd.DataFrame, columns: list[pd.Series]) -> _Known:
    """Begin to keep what is found out about a frame, if changes of its columns can be told."""
    number = id(frame)

    def forget(_: object) -> None:
        _known.pop(number, None)

    values = [_values(column) for column in columns]
    known = _Known(ref(frame, forget), values, {})
    if all(value is not None for value in values):
        _known[number] = known
    return known


def _values(column: pd.Series) -> Any:
    """Return what tells later whether a column still holds the same.

    Of Arrow these are the values, which cannot be written to; of categories and of objects copies,
    so that no other object can come to lie where one of them does. None for other columns.
    """
    if is_in_arrow(column):
        return column.array.__arrow_array__()  # type: ignore[attr-defined]
    if column.dtype == "category":
        codes = column.cat.codes.to_numpy()
        return column.cat.categories, codes.copy()
    if column.dtype == object:
        return column.to_numpy().copy()
    return None


def _same(column: pd.Series, values: Any) -> bool:
    """Return whether a column holds what it held when `_values` were taken."""
    import numpy as np

    if isinstance(values, np.ndarray):
        if column.dtype != object:
            return False
        return np.array_equal(addresses(column.to_numpy()), addresses(values))
    if isinstance(values, tuple):
        categories, codes = values
        if column.dtype != "category" or not column.cat.categories.equals(categories):
            return False
        return np.array_equal(column.cat.codes.to_numpy(), codes)
    return is_in_arrow(column) and _values(column) is values
