"""Which calls between nodes did somebody name? Pairs, a table with callers and callees, a mapping
of callers to their callees or with a key a pair, or a directed graph of networkx.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

ENDS = ("caller", "callee")  # the columns of a table, such as that of `service_graph`
PAIRS_RULE = "calls must be pairs (caller, callee)"


def checked_calls(calls: Any) -> list[tuple[str, str]]:
    """Return the calls as a list of pairs of names; raise ValueError about the first that is none.

    Examples
    --------
    >>> checked_calls({"web": ["cart", "pay"]})
    [('web', 'cart'), ('web', 'pay')]
    """
    pairs: list[tuple[str, str]] = []
    for call in _given(calls):
        if not _is_pair(call):
            raise ValueError(f"{PAIRS_RULE}, got {call!r}")
        caller, callee = call
        pairs.append((caller, callee))
    return pairs


def _is_pair(call: Any) -> bool:
    """Return whether it is a pair of names, of NumPy's strings too."""
    is_row = isinstance(call, (tuple, list)) and len(call) == len(ENDS)
    return is_row and all(isinstance(name, str) for name in call)


def _given(calls: Any) -> Iterable[Any]:
    """Return the calls one by one, of whatever form."""
    if isinstance(calls, pd.DataFrame):
        return _of_table(calls)
    if isinstance(calls, Mapping):
        return _of_mapping(calls)
    if hasattr(calls, "is_directed"):
        return _of_graph(calls)
    if isinstance(calls, np.ndarray):
        rows: list[Any] = calls.tolist()
        return rows
    if isinstance(calls, str) or not isinstance(calls, Iterable):
        raise ValueError(f"{PAIRS_RULE}, got {calls!r}")
    return calls


def _of_table(table: pd.DataFrame) -> Iterable[Any]:
    for name in ENDS:
        if name not in table.columns:
            rule = "calls, as a table, must have the columns caller and callee"
            raise ValueError(f"{rule}, got {list(table.columns[:5])}")
    return zip(*(table[name].tolist() for name in ENDS), strict=True)


def _of_mapping(callees: Mapping[Any, Any]) -> Iterator[Any]:
    """Return the calls of callers to their callees, or the keys where all are pairs, whatever the
    values say of them.
    """
    if all(map(_is_pair, callees)):
        yield from callees
        return
    for caller, called in callees.items():
        if isinstance(called, str) or not isinstance(called, Iterable):
            rule = "calls, as a mapping, must have a list of callees for each caller"
            raise ValueError(f"{rule}, got {called!r} of {caller!r}")
        for callee in called:
            yield caller, callee


def _of_graph(graph: Any) -> Iterable[Any]:
    if not graph.is_directed():
        rule = "calls, as a graph, must be directed from callers to callees"
        raise ValueError(f"{rule}, got {graph}")
    edges: Iterable[Any] = graph.edges()
    return edges
