"""How does an explanation read? Its steps with their rows, as text anywhere and as HTML in a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

_MOST_ROWS = 12
# for the computer: they stay in `rows`, but a table that is to be read has no room for them
_NOT_SHOWN = {"service", "blames", "masked", "handed", "se", "cost", "noise", "weight"}


@dataclass(frozen=True, repr=False)
class Step:
    """One step of an explanation: what was done, what came out, the rows that it rests on, and traces that show it."""

    title: str
    text: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    traces: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        tables = [_shown(table).to_string(index=False, float_format=_number) for table in self._tables()]
        return "\n".join(part for part in (self.title, self.text, *tables, *self._more()) if part)

    __repr__ = __str__  # a console shows the text, too

    def _repr_html_(self) -> str:
        # Names of endpoints and messages come from requests: all that is shown is escaped, by pandas in the tables.
        head = f"<p><strong>{escape(self.title)}</strong><br>{escape(self.text).replace(chr(10), '<br>')}</p>"
        style: dict[str, Any] = {"index": False, "border": 0, "escape": True, "float_format": _number}
        tables = [_shown(table).to_html(**style) for table in self._tables()]
        more = (f"<p>{line}</p>" for line in self._more())
        # a $ in a name is no formula
        return "\n".join(['<div class="tex2jax_ignore mathjax_ignore">', head, *tables, *more, "</div>"])

    def _tables(self) -> list[list[dict[str, Any]]]:
        traces = [t | {"affected_chain": " → ".join(t["affected_chain"])} for t in self.traces]
        return [table for table in (self.rows, traces) if table]

    def _more(self) -> list[str]:
        rest = len(self.rows) - _MOST_ROWS
        return [f"and {rest} smaller rows"] if rest > 0 else []


class Explanation(list[Step]):
    """The steps that led to a verdict: a list that reads as a text, and in a notebook as a page."""

    def __str__(self) -> str:
        return "\n\n".join(map(str, self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "\n".join(step._repr_html_() for step in self)


def _shown(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the rows with the largest excess, in their order, without the columns that only a computer reads."""
    table = pd.DataFrame(rows)
    if "cost" in table and len(table) > _MOST_ROWS:
        table = table.loc[table["cost"].abs().nlargest(_MOST_ROWS).index.sort_values()]
    hidden = _NOT_SHOWN | ({"endpoint"} if "account" in table else set())
    if "masked" in table and table["masked"].any():  # else it says nothing
        hidden -= {"masked"}
    return table[[column for column in table if column not in hidden]].head(_MOST_ROWS)


def _number(value: float) -> str:
    return f"{float(f'{value:.4g}'):,.10g}"  # four digits, but never 1e+04
