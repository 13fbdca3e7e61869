"""Tables of the leaderboard as text: shares in percent, bounds in brackets, lines above groups; and
tables as LaTeX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pandas as pd

Section = tuple[str, str, pd.DataFrame]  # title, note on how to read it, table


def percent_cell(share: float) -> str:
    """Return a share in percent; "" for NaN."""
    return number_text(100 * share)


def number_text(value: float, digits: int = 0) -> str:
    """Return a number, by default without digits behind the point; "" for NaN."""
    if pd.isna(value):
        return ""
    return f"{value:.{digits}f}"


def two_digits(value: float) -> str:
    """Return a number with two digits behind the point; "" for NaN."""
    return number_text(value, digits=2)


def many(n: int, what: str) -> str:
    """Return a number of things in words.

    Examples
    --------
    >>> many(1, "fault"), many(2, "fault")
    ('1 fault', '2 faults')
    """
    if n == 1:
        return f"1 {what}"
    return f"{n} {what}s"


def with_bounds(table: pd.DataFrame, name: str, text: Callable[[float], str]) -> pd.Series:
    """Return "value (low-high)" of each row; "" where there is no value."""
    values = table[name]
    low = table[f"{name}_low"].map(text)
    high = table[f"{name}_high"].map(text)
    bounds = " (" + low + "-" + high + ")"
    shown = values.map(text) + bounds
    return shown.where(values.notna(), "")


def headed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a line above each group instead of a column of groups."""
    parts = []
    for group, rows in table.groupby(level=0, sort=False):
        head = pd.DataFrame("", index=[f"{group}:"], columns=table.columns)
        rows = rows.droplevel(0).rename(index="  {}".format)
        parts += [head, rows.astype(str)]
    return pd.concat(parts).rename_axis(None)


def latex_table(table: pd.DataFrame, caption: str, notes: Iterable[str] = ()) -> str:
    """Return a table of text as LaTeX, for the package booktabs, with the notes as comments above.

    Examples
    --------
    >>> rows = pd.DataFrame({"top-1, %": ["94"]}, index=["ledger"])
    >>> [line for line in latex_table(rows, "A & B").splitlines() if "ledger" in line]
    ['ledger & 94 \\\\\\\\']
    """
    texts = table.astype(str).map(_escaped)
    named = texts.rename(index=_escaped, columns=_escaped)
    in_one_line = [" ".join(note.split()) for note in notes]
    comments = "".join(f"% {note}\n" for note in in_one_line)
    plain = named.rename_axis(index=None, columns=None)
    return comments + plain.to_latex(caption=_escaped(caption))


ESCAPES = str.maketrans(
    {sign: "\\" + sign for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    | {"–": "--"}
)
"""What stands in LaTeX for a sign that means something there."""


def _escaped(name: object) -> str:
    return str(name).translate(ESCAPES)
