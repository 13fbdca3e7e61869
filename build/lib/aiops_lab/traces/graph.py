"""Who calls whom? The calls between server spans, and the service graph."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aiops_lab.endpoints import display_names
from aiops_lab.spans import check
from aiops_lab.traces.encode import EncodedSpans, encode


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
    spans = encode(check(frame))
    calls = calls_of(spans)
    nodes = np.union1d(spans.node[spans.server], calls["callee"])
    names = display_names([spans.keys[node] for node in nodes])
    shown = [name if by == "endpoint" else key[0] for key, name in names.items()]
    labels, which = np.unique(np.array(shown, dtype=object), return_inverse=True)
    code = np.zeros(len(spans.keys), dtype=np.int64)
    code[nodes] = which
    groups = calls.groupby([code[calls["caller"]], code[calls["callee"]]])
    table = groups.agg(
        calls=("failed", "size"),
        errors=("failed", "sum"),
        p50_ms=("duration_ms", "median"),
    )
    table["p95_ms"] = groups["duration_ms"].quantile(0.95)
    table = table.rename_axis(["caller", "callee"]).reset_index()
    return table.assign(caller=labels[table["caller"]], callee=labels[table["callee"]])


def calls_of(spans: EncodedSpans) -> pd.DataFrame:
    """Return the calls between server spans: answered ones, and client spans that never arrived.

    Returns
    -------
    DataFrame
        A row a call: caller and callee (codes in ``spans.keys``), start (Unix ns, where the call
        arrived, or left if it never did), duration_ms (as the caller saw it), failed.
    """
    above = spans.server_above
    through = np.where(spans.server, spans.ids.parent, -1)
    through[~spans.client[through]] = -1
    answered = np.zeros(through.size, dtype=bool)
    answered[through[through >= 0]] = True
    lost = spans.client & ~answered & spans.has_peer
    is_call = (spans.server | lost) & (above >= 0)
    row = np.flatnonzero(is_call)
    seen = np.where(through >= 0, through, np.arange(through.size))[row]
    return pd.DataFrame(
        {
            "caller": spans.node[above[row]],
            "callee": spans.node[row],
            "start": spans.start[row],
            "duration_ms": spans.duration_ms[seen],
            "failed": spans.failed[row] | spans.failed[seen],
        }
    )
