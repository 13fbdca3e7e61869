"""Tables of the leaderboard as text: shares in percent, bounds in brackets, lines above groups."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

Section = tuple[str, str, pd.DataFrame]  # title, note on how to read it, table


def percent_cell(share: float) -> str:
    """Return a share in percent; "" for NaN."""
    return "" if pd.isna(share) else f"{100 * share:.0f}"


def number_text(value: float) -> str:
    """Return a number without digits behind the point; "" for NaN."""
    return "" if pd.isna(value) else f"{value:.0f}"


def two_digits(value: float) -> str:
    """Return a number with two digits behind the point; "" for NaN."""
    return "" if pd.isna(value) else f"{value:.2f}"


def with_bounds(table: pd.DataFrame, name: str, text: Callable[[float], str]) -> pd.Series:
    """Return "value (low-high)" of each row; "" where there is no value."""
    value = table[name].map(text)
    low = table[f"{name}_low"].map(text)
    high = table[f"{name}_high"].map(text)
    shown = value + " (" + low + "-" + high + ")"
    return shown.where(table[name].notna(), "")


def headed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a line above each group instead of a column of groups."""
    parts = []
    for group, rows in table.groupby(level=0, sort=False):
        head = pd.DataFrame("", [f"{group}:"], table.columns)
        rows = rows.droplevel(0).rename(index="  {}".format)
        parts += [head, rows.astype(str)]
    return pd.concat(parts).rename_axis(None)
