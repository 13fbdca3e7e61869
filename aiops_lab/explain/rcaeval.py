"""This package's judgement of metrics as a method of RCAEval: ``rank_columns(data, inject_time)``.

RCAEval (https://github.com/phamquiluan/RCAEval) calls every method with one wide table of a case
and the second of the injection, and reads ``ranks``: names of columns, the likeliest cause first.
Its own methods, such as BARO (doi 10.1145/3660805), have the same form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.explain.metric_frames import moment_s, read_frame, seconds
from aiops_lab.explain.metrics import rank_from_metrics
from aiops_lab.results import Suspect

TIME = "time"
ASKED = ("calls", "target", "roles", "placed", "config")


def rank_columns(data: pd.DataFrame, inject_time: Any = None, **kw: Any) -> dict[str, list[str]]:
    """Return the columns by how likely they tell the cause: ``{"ranks": [...]}``.

    First the columns of the first suspect of `rank_from_metrics`, the most unusual ones ahead, then
    those of the next; at last those of nodes that are no suspects, by name.

    Parameters
    ----------
    data : DataFrame
        A column ``time`` (Unix s, or times) and columns ``service_metric``. Rows may be in any
        order; a second row of one time and infinite values are left out, as RCAEval's own methods
        do.
    inject_time : float or time
        When the fault began (Unix s, or a time): rows before it are normal.
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
        rule = f"must be a DataFrame with a column {TIME!r}"
        raise ValueError(f"data {rule}, got {_told(data)}")
    injected = moment_s("inject_time", inject_time)
    table = _by_time(data)
    if table.columns.empty:
        raise ValueError(f"data must have columns service_metric beside {TIME!r}, got none")
    normal = table[table.index < injected]
    abnormal = table[table.index >= injected]
    for rows, side in ((normal, "before"), (abnormal, "since")):
        if rows.empty:
            rule = f"must leave rows {side} it"
            raise ValueError(f"inject_time {rule}, got {inject_time}")
    wanted: dict[str, Any] = {}
    for name in ASKED:
        if name in kw:
            wanted[name] = kw[name]
    suspects = rank_from_metrics(normal, abnormal, **wanted)
    return {"ranks": _ranked(suspects, _columns(table))}


def _ranked(suspects: Iterable[Suspect], columns: dict[str, dict[str, str]]) -> list[str]:
    """Return the labels of all columns, those of the first suspect first.

    Parameters
    ----------
    columns : dict
        By node and metric. Those of suspects are taken out.
    """
    ranked: list[str] = []
    for suspect in suspects:
        mine = columns.pop(suspect.service, {})
        for row in suspect.evidence:
            is_unusual = "scales" in row
            metric = row["metric"]
            if is_unusual and metric in mine:
                label = mine.pop(metric)
                ranked.append(label)
        ranked.extend(mine.values())
    for node in sorted(columns):
        labels = columns[node].values()
        ranked.extend(labels)
    return ranked


def _told(data: object) -> str:
    if not isinstance(data, pd.DataFrame):
        return type(data).__name__
    first = list(data.columns[:5])
    return str(first)


def _by_time(data: pd.DataFrame) -> pd.DataFrame:
    """Return the table by time; some of RCAEval's have the time twice."""
    again: list[Any] = []
    for name in data.columns:
        if str(name).startswith(f"{TIME}."):
            again.append(name)
    table = data.drop(columns=again)
    table = table.drop_duplicates(TIME)
    table = table.set_index(TIME)
    starts = seconds("data", table.index)
    table = table.set_axis(starts).sort_index()
    return table.replace([np.inf, -np.inf], np.nan)


def _columns(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return for each node its metrics, and which column each is."""
    metrics = read_frame("data", table, 1)
    columns: list[Any] = metrics.values.columns.tolist()
    labels = map(str, table.columns)
    found: dict[str, dict[str, str]] = {}
    for label, (node, metric, _) in zip(labels, columns, strict=True):
        of_node = found.setdefault(node, {})
        of_node[metric] = label
    return found
