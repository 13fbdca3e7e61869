"""Frames as a columnar store holds them, which the analysis must read like plain ones."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pandas as pd

from aiops_lab.spans import ID_COLUMNS, NAME_COLUMNS


def columnar(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a spans frame whose names are categories, and its ids Arrow strings.

    The analysis must say the same of it. Missing values are NaN instead of None. Without pyarrow
    the ids stay as they are.
    """
    made = {}
    for column in frame.columns.intersection([*NAME_COLUMNS]):
        made[column] = frame[column].astype("category")
    for column in frame.columns.intersection([*ID_COLUMNS]):
        made[column] = _ids(frame[column])
    return frame.assign(**made)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of objects, None where a value is missing."""
    return frame.astype(object).where(frame.notna(), None)


def _ids(column: pd.Series) -> pd.Series:
    if find_spec("pyarrow") is None:
        return column
    try:
        dtype: Any = pd.StringDtype("pyarrow", na_value=float("nan"))
    except TypeError:  # pandas 2.2
        dtype = "string[pyarrow_numpy]"
    try:
        return column.astype(dtype)
    except UnicodeEncodeError:  # a lone surrogate, which Arrow cannot hold
        return column
