"""This package's judgement of metrics as a method of RCAEval: ``rank_columns(data, inject_time)``.

RCAEval (https://github.com/phamquiluan/RCAEval) calls every method with one wide table of a case
and the second of the injection, and reads ``ranks``: names of columns, the likeliest cause first.
Its own methods, such as BARO (doi 10.1145/3660805), have the same form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.explain.metric_frames import read_frame
from aiops_lab.explain.metrics import rank_from_metrics

TIME = "time"
ASKED = ("calls", "target", "roles", "placed", "config")


def rank_columns(
    data: pd.DataFrame, inject_time: float | None = None, **kw: Any
) -> dict[str, list[str]]:
    """Return the columns by how likely they tell the cause: ``{"ranks": [...]}``.

    First the columns of the first suspect of `rank_from_metrics`, the most unusual ones ahead, then
    those of the next; at last those of nodes that are no suspects, by name.

    Parameters
    ----------
    data : DataFrame
        A column ``time`` (Unix s) and columns ``service_metric``. Rows may be in any order; a
        second row of one time and infinite values are left out, as RCAEval's own methods do.
    inject_time : float
        When the fault began (Unix s): rows before it are normal.
    **kw
        ``calls``, ``target``, ``roles``, ``placed`` and ``config`` go to `rank_from_metrics`.
        Others, which RCAEval gives all its methods (``dataset``, ``sli``, ...), are not needed.

    Raises
    ------
    ValueError
        No column ``time``, no inject_time, or no rows on one side of it.

    Examples
    --------
    >>> cpu = [1.0] * 20 + [9.0] * 5
    >>> data = pd.DataFrame({"time": range(25), "cart_cpu": 1.0, "pay_cpu": cpu})
    >>> rank_columns(data, inject_time=20)
    {'ranks': ['pay_cpu', 'cart_cpu']}
    """
    if not isinstance(data, pd.DataFrame) or TIME not in data.columns:
        raise ValueError(f"data must be a DataFrame with a column {TIME!r}, got {_told(data)}")
    if inject_time is None or not np.isfinite(inject_time):
        raise ValueError(f"inject_time must be a number of seconds, got {inject_time!r}")
    table = _by_time(data)
    normal, abnormal = table[table.index < inject_time], table[table.index >= inject_time]
    for rows, side in ((normal, "before"), (abnormal, "since")):
        if rows.empty:
            raise ValueError(f"inject_time must leave rows {side} it, got {inject_time}")
    wanted = {name: value for name, value in kw.items() if name in ASKED}
    suspects = rank_from_metrics(normal, abnormal, **wanted)
    columns = _columns(table)
    ranked: list[str] = []
    for suspect in suspects:
        mine = columns.pop(suspect.service, {})
        unusual = [row["metric"] for row in suspect.evidence if "scales" in row]
        ranked += [mine.pop(metric) for metric in unusual if metric in mine]
        ranked += mine.values()
    for node in sorted(columns):
        ranked += columns[node].values()
    return {"ranks": ranked}


def _told(data: object) -> str:
    return str(list(data.columns[:5])) if isinstance(data, pd.DataFrame) else type(data).__name__


def _by_time(data: pd.DataFrame) -> pd.DataFrame:
    """Return the table by time; some of RCAEval's have the time twice."""
    again = [name for name in data.columns if str(name).startswith(f"{TIME}.")]
    table = data.drop(columns=again).drop_duplicates(TIME).set_index(TIME).sort_index()
    return table.replace([np.inf, -np.inf], np.nan)


def _columns(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return for each node its metrics, and which column each is."""
    found: dict[str, dict[str, str]] = {}
    read: list[Any] = read_frame("data", table, 1).values.columns.tolist()
    for label, column in zip(table.columns, read, strict=True):
        found.setdefault(column[0], {})[column[1]] = str(label)
    return found
