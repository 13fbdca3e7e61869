"""The service graph: who calls whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import compiled
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import (
    called_endpoints,
    display_names,
    endpoint_codes,
    is_failed,
    kind_masks,
    pair_codes,
    parents,
    start_ns,
)

# ---- the service graph


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
    if by not in ("endpoint", "service"):
        raise ValueError(f"by must be 'endpoint' or 'service', got {by!r}")
    calls = calls_of(check(frame))
    shown = display_names(calls.keys) if by == "endpoint" else {key: key[0] for key in calls.keys}
    labels, place = np.unique(
        np.array([shown[key] for key in calls.keys], dtype=object), return_inverse=True
    )
    pair = place[calls.caller] * max(labels.size, 1) + place[calls.callee]
    order = np.lexsort((calls.duration_ms, pair))
    pairs, first, n = np.unique(pair[order], return_index=True, return_counts=True)
    ms = calls.duration_ms[order]
    closed = np.add.reduceat(~np.isnan(ms), first) if n.size else n
    caller, callee = np.divmod(pairs, max(labels.size, 1))
    return pd.DataFrame(
        {
            "caller": labels[caller],
            "callee": labels[callee],
            "calls": n,
            "errors": np.add.reduceat(calls.failed[order].astype(np.int64), first) if n.size else n,
            "p50_ms": _quantile(ms, first, closed, 0.5),
            "p95_ms": _quantile(ms, first, closed, 0.95),
        }
    )


def _quantile(values: NDArray, first: NDArray, n: NDArray, q: float) -> NDArray:
    """Return a quantile of each run of sorted values, interpolated between neighbours; NaN for
    empty runs.
    """
    at = q * np.maximum(n - 1, 0)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(n - 1, 0))
    lower, upper = values[first + low], values[first + high]
    return np.where(n > 0, lower + (at - low) * (upper - lower), np.nan)


class Calls(NamedTuple):
    """The calls between server spans as arrays, one entry a call; ``keys[code]`` is a (service,
    endpoint).
    """

    keys: list[Key]
    caller: NDArray  # code
    callee: NDArray  # code
    start: NDArray  # Unix ns, where the call arrived (or left, if it never did)
    duration_ms: NDArray  # as the caller saw it
    failed: NDArray


def calls_of(frame: pd.DataFrame) -> Calls:
    """Return the calls between server spans: answered ones, and client spans whose call never
    arrived.
    """
    parent = parents(frame)
    server, client, _ = kind_masks(frame)
    above = server_above(parent, server)
    through = np.where(server, parent, -1)
    through[(through >= 0) & ~client[through]] = -1
    answered = np.zeros(len(frame), dtype=bool)
    answered[through[through >= 0]] = True
    lost = client & ~answered & frame["peer"].notna().to_numpy()
    rows = np.flatnonzero((server | lost) & (above >= 0))
    seen = np.where(through[rows] >= 0, through[rows], rows)
    bad = is_failed(frame)
    keys: dict[Key, int] = {}
    code = np.full(len(frame), -1)
    (service, services), (endpoint, endpoints) = (
        pd.factorize(frame["service"]),
        pd.factorize(frame["endpoint"]),
    )
    code[server] = pair_codes((service[server], services), (endpoint[server], endpoints), keys)
    if lost.any():
        code[lost] = endpoint_codes(frame["peer"][lost], called_endpoints(frame, keys)[lost], keys)
    return Calls(
        list(keys),
        code[above[rows]],
        code[rows],
        start_ns(frame)[rows],
        frame["duration_ms"].to_numpy()[seen],
        bad[rows] | bad[seen],
    )


@compiled
def server_above(parent: NDArray, server: NDArray) -> NDArray:
    above = np.full(parent.size, -1, dtype=np.int64)
    for i in range(parent.size):
        p, steps = parent[i], 0
        while p >= 0 and not server[p] and steps < parent.size:  # a cycle of parents ends here too
            p, steps = parent[p], steps + 1
        above[i] = p if p >= 0 and server[p] else -1
    return above
