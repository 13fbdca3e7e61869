"""Self time and service graph as a good user of pandas writes them: one join on the span's id, and
one sort for both quantiles.

They hold for recordings in which span ids are unique, clocks agree and every call is recorded in
full: nothing is checked, and names stand for themselves.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def self_time_and_graph(frame: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """Return what `lab.self_time` and `lab.service_graph` return of a frame sorted by start."""
    above = pd.Index(frame["span_id"]).get_indexer(frame["parent_id"])
    return _self_time(frame, above), _graph(frame, above)


def _self_time(frame: pd.DataFrame, above: NDArray) -> pd.Series:
    duration_ms = frame["duration_ms"].to_numpy()
    start = frame["start"].to_numpy("datetime64[ns]").astype(np.int64)
    end = start + np.rint(duration_ms * 1e6).astype(np.int64)
    child = np.flatnonzero(above >= 0)
    parent = above[child]
    low = np.maximum(start[child], start[parent])
    high = np.minimum(end[child], end[parent])
    parts = pd.DataFrame({"parent": parent, "low": low, "high": high})
    parts = parts[high > low].sort_values("parent", kind="stable")
    parents = parts["parent"]
    reach = parts["high"].groupby(parents).cummax()
    before = reach.groupby(parents).shift(fill_value=0)
    begin = np.maximum(parts["low"], before)
    more = (parts["high"] - begin).clip(lower=0)
    covered = more.groupby(parents).sum()
    own = duration_ms.copy()
    own[covered.index] -= covered / 1e6
    return pd.Series(own, index=frame.index)


def _graph(frame: pd.DataFrame, above: NDArray) -> pd.DataFrame:
    server = (frame["kind"] == "server").to_numpy()
    endpoint, names = pd.factorize(frame["endpoint"])
    through = (above >= 0) & ~server[above]
    caller = np.where(through, above[above], above)
    row = np.flatnonzero(server & (caller >= 0))
    seen = np.where(through, above, np.arange(above.size))[row]
    status = frame["status"].to_numpy()
    failed = (status >= 500) | (status == 0)
    failed |= frame["error"].notna().to_numpy()
    columns = {
        "caller": endpoint[caller[row]],
        "callee": endpoint[row],
        "ms": frame["duration_ms"].to_numpy()[seen],
        "failed": failed[row] | failed[seen],
    }
    calls = pd.DataFrame(columns)
    groups = calls.groupby(["caller", "callee"])
    table = groups.agg(calls=("ms", "size"), errors=("failed", "sum"))
    ordered = calls.sort_values(["caller", "callee", "ms"])["ms"].to_numpy()
    n = table["calls"].to_numpy()
    first = np.cumsum(n) - n
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95)):
        place = (n - 1) * share
        low = ordered[first + np.floor(place).astype(int)]
        high = ordered[first + np.ceil(place).astype(int)]
        table[name] = low + (high - low) * (place % 1)
    table = table.reset_index()
    shown = np.asarray(names, dtype=object)
    table = table.assign(caller=shown[table["caller"]], callee=shown[table["callee"]])
    return table.sort_values(["caller", "callee"], ignore_index=True)
