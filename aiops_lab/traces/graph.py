"""Who calls whom? The calls between server spans, and the service graph."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.endpoints import display_names
from aiops_lab.spans import check
from aiops_lab.traces.encode import EncodedSpans, encode
from aiops_lab.traces.ids import find_parents
from aiops_lab.unchanged import LARGE_FRAME


def service_graph(frame: pd.DataFrame, by: str = "endpoint") -> pd.DataFrame:
    """Return who calls whom, one row a pair.

    A call is a server span with a server span above it (the client span between them counts to the
    call), or a client span whose call never arrived. Its duration is what the caller saw.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    by : {"endpoint", "service"}
        What the nodes are. Endpoints are named by their route, and by "service route" where two
        services share one.

    Returns
    -------
    DataFrame with the columns caller, callee, calls, errors, p50_ms, p95_ms, sorted by caller and
    callee.

    Raises
    ------
    ValueError
        If `by` is something else.
    """
    if not isinstance(by, str) or by not in ("endpoint", "service"):
        raise ValueError(f"by must be 'endpoint' or 'service', got {by!r}")
    spans = _encoded(check(frame))
    calls = calls_of(spans)
    labels, code = _nodes(spans, calls, by)
    del spans  # its arrays are not needed any more
    for column in ("caller", "callee"):
        calls[column] = code[calls[column]]
    table = _per_pair(calls)
    return table.assign(caller=labels[table["caller"]], callee=labels[table["callee"]])


def _nodes(spans: EncodedSpans, calls: pd.DataFrame, by: str) -> tuple[NDArray, NDArray]:
    """Return the names of the nodes, in order, and by endpoint which of them it is."""
    size = len(spans.keys)
    served = spans.node[spans.server]
    seen = np.zeros(size, dtype=bool)
    seen[served] = True
    seen[calls["callee"]] = True
    nodes = np.flatnonzero(seen)
    names = display_names([spans.keys[node] for node in nodes])
    services = [service for service, _ in names]
    shown = services if by == "service" else [*names.values()]
    every = np.array(shown, dtype=object)
    labels, which = np.unique(every, return_inverse=True)
    code = np.zeros(size, dtype=np.int64)
    code[nodes] = which
    return labels, code


def _encoded(frame: pd.DataFrame) -> EncodedSpans:
    """Return the spans as integers.

    The parents of many are found first, and kept: so what is needed for that is gone again before
    the rest takes memory.
    """
    if len(frame) >= LARGE_FRAME:
        find_parents(frame)
    return encode(frame)


def _per_pair(calls: pd.DataFrame) -> pd.DataFrame:
    """Return the calls of each pair of caller and callee in numbers: calls, errors, p50_ms, p95_ms.

    The quantiles are read off the sorted calls: pandas would sort for each of them.
    """
    caller = calls["caller"].to_numpy()
    callee = calls["callee"].to_numpy()
    largest = max(caller.max(initial=0), callee.max(initial=0))
    nodes = largest + 1
    code = caller * nodes + callee
    pair, distinct = pd.factorize(code, sort=True)
    size = distinct.size
    duration_ms = calls["duration_ms"].to_numpy()
    has_ended = ~np.isnan(duration_ms)
    failed = calls["failed"].to_numpy()
    n = np.bincount(pair, minlength=size)
    errors = np.bincount(pair[failed], minlength=size)
    closed = np.bincount(pair[has_ended], minlength=size)
    ordered, first = _sorted_by_pair(duration_ms, pair, n)
    columns = {
        "caller": distinct // nodes,
        "callee": distinct % nodes,
        "calls": n,
        "errors": errors,
        "p50_ms": _quantile(ordered, first, closed, 0.5),
        "p95_ms": _quantile(ordered, first, closed, 0.95),
    }
    return pd.DataFrame(columns)


def _sorted_by_pair(duration_ms: NDArray, pair: NDArray, n: NDArray) -> tuple[NDArray, NDArray]:
    """Return the durations, sorted within each pair of `n` calls, and where each pair begins."""
    if n.size <= np.iinfo(np.int16).max:
        pair = pair.astype(np.int16)  # numpy sorts these by counting
    order = np.argsort(pair, kind="stable")
    ordered = duration_ms[order]
    end = np.cumsum(n)
    first = end - n
    for begin, stop in zip(first, end, strict=True):
        ordered[begin:stop].sort()
    return ordered, first


def _quantile(ordered: NDArray, first: NDArray, n: NDArray, share: float) -> NDArray:
    """Return a quantile of each run of `n` sorted values that begins at `first`, by linear
    interpolation; NaN for a run of none.
    """
    last = np.maximum(n - 1, 0)
    place = last * share
    below = np.floor(place).astype(np.int64)
    above = np.ceil(place).astype(np.int64)
    low = ordered[first + below]
    high = ordered[first + above]
    rest = place - below
    quantile = low + (high - low) * rest
    return np.where(n > 0, quantile, np.nan)


def calls_of(spans: EncodedSpans) -> pd.DataFrame:
    """Return the calls between server spans: answered ones, and client spans that never arrived.

    Returns
    -------
    DataFrame
        A row a call: caller and callee (codes in ``spans.keys``), start (Unix ns, where the call
        arrived, or left if it never did), duration_ms (as the caller saw it), failed.
    """
    above = spans.server_above
    row, seen = _seen_from(spans, above)
    return pd.DataFrame(
        {
            "caller": spans.node[above[row]],
            "callee": spans.node[row],
            "start": spans.start[row],
            "duration_ms": spans.duration_ms_of(seen),
            "failed": spans.failed[row] | spans.failed[seen],
        },
        copy=False,
    )


def _seen_from(spans: EncodedSpans, above: NDArray) -> tuple[NDArray, NDArray]:
    """Return the positions of the calls, and of the spans that show how the caller saw them."""
    through = np.where(spans.server, spans.parent, -1)
    is_client = spans.client[through]
    through = np.where(is_client, through, -1)
    answered = np.zeros(through.size + 1, dtype=bool)
    answered[through] = True  # the last entry is that of no call
    lost = spans.client & ~answered[:-1] & spans.has_peer
    is_call = spans.server | lost
    has_caller = above >= 0
    row = np.flatnonzero(is_call & has_caller)
    seen = through[row]
    return row, np.where(seen < 0, row, seen)
