"""Readers of tables and JSON, whose errors name the file and the rule that it breaks."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.checks import cut, install_command

if TYPE_CHECKING:
    import pandas as pd

TEXT = "text without gaps"
WHOLE = "whole numbers without gaps"
NUMBERS = "numbers"
TRUTHS = "true or false"

# what a column may hold, and numpy's kinds of dtypes (dtype.kind) that hold it
DTYPE_KINDS = {TEXT: "O", WHOLE: "iu", NUMBERS: "fiu", TRUTHS: "b"}


def wrong(path: Path, what: str) -> ValueError:
    """Return the error to raise about `path`."""
    return ValueError(f"{path}: {what}")


def raise_first(path: Path, problems: Iterable[str]) -> None:
    """Raise the error about the first problem of `path`, if there is one."""
    for problem in problems:
        raise wrong(path, problem)


def present(path: Path, hint: str = "") -> Path:
    """Return `path` if it is a file; else raise FileNotFoundError, which adds `hint`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing{hint and '; ' + hint}")
    return path


def read_json(path: Path) -> Any:
    """Return what the JSON file holds."""
    try:
        return json.loads(present(path).read_text("utf-8"))
    except ValueError as error:  # no JSON, or no text at all
        raise wrong(path, f"not valid JSON ({error})") from error


def csv_table(path: Path, columns: Iterable[str] = (), **options: Any) -> pd.DataFrame:
    """Return the table, which has at least `columns`; `options` go to `pandas.read_csv`."""
    import pandas as pd

    present(path)
    try:
        frame = pd.read_csv(path, low_memory=False, **options)
    # pandas' parser errors are ValueErrors; a damaged gzip file raises the others
    except (ValueError, IndexError, OverflowError, EOFError, OSError, zlib.error) as error:
        raise wrong(path, f"not a readable CSV ({error})") from error
    if "index_col" not in options and not isinstance(frame.index, pd.RangeIndex):
        raise wrong(path, "not a readable CSV (rows have more fields than the header)")
    _check_columns(path, frame, columns)
    return frame


def parquet_table(path: Path, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Return the table, which has rows and at least the columns of `kinds`. Needs pyarrow."""
    import pandas as pd

    present(path)
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        command = install_command("fast")
        raise ImportError(f"{path}: Parquet needs pyarrow: {command}") from error
    except (ValueError, OSError, KeyError, TypeError) as error:  # pyarrow's own errors are these
        raise wrong(path, f"not a readable Parquet file ({error})") from error
    check_rows(path, frame, kinds)
    return frame


def check_rows(path: Path, frame: pd.DataFrame, kinds: Mapping[str, str]) -> None:
    """Refuse a table of `path` that has no rows, lacks a column or breaks the rule of its kind."""
    _check_columns(path, frame, kinds)
    check_kinds(path, frame, kinds)
    if frame.empty:
        raise wrong(path, "has no rows")


def check_kinds(path: Path, frame: pd.DataFrame, kinds: Mapping[Any, str]) -> None:
    """Refuse a column of `path` that holds something else than its kind.

    A kind is a key of `DTYPE_KINDS`. In a table without rows every column passes.
    """
    for column, kind in kinds.items() if len(frame) else ():
        values = frame[column]
        has_gaps = kind == TEXT and values.isna().any()
        if has_gaps or values.dtype.kind not in DTYPE_KINDS[kind]:
            raise wrong(path, f"column {column!r} must be {kind}, got {values.dtype}")


def _check_columns(path: Path, frame: pd.DataFrame, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        has = cut(str(list(frame.columns[:12])), 300)
        raise wrong(path, f"lacks the column {missing[0]!r}, has {has}")
