"""Which spans are one and the same, and who is whose parent? Ids of traces and spans, parsed."""

from __future__ import annotations

from binascii import unhexlify
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.spans import COLUMNS, OPTIONAL_COLUMNS


class Ids(NamedTuple):
    """Who belongs to whom, as arrays with one entry a span."""

    trace: NDArray  # code of the trace
    parent: NDArray  # position of the parent among these spans, -1 = none
    has_parent: NDArray  # names a parent, recorded or not


# ---- one span, told twice


def copies_of(frame: pd.DataFrame, start: NDArray, place: NDArray | None = None) -> NDArray:
    """Return which rows of a frame tell again what another row tells, as a mask.

    A row is a copy if an earlier one is equal in all columns of a span, or if it shows as open what
    another row shows as ended. Ids are looked at only where two spans started at one moment.

    Parameters
    ----------
    frame : DataFrame
    start : array of int
        When the spans started.
    place : array of int, optional
        Spans of different places (kind, service, endpoint) are no copies.
    """
    copies = np.zeros(start.size, dtype=bool)
    at = _tied(start)
    if place is not None and at.size:
        alike = pd.DataFrame({"start": start[at], "place": place[at]})
        at = at[alike.duplicated(keep=False).to_numpy()]
    if at.size == 0:
        return copies
    columns = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in frame.columns]
    rows = frame[columns].iloc[at].reset_index(drop=True)
    copies[at] = rows.duplicated().to_numpy() | _ended_elsewhere(rows)
    return copies


def _tied(start: NDArray) -> NDArray:
    """Return the positions, in order, of the spans that started when another one did."""
    order = np.argsort(start, kind="stable")
    same = start[order[1:]] == start[order[:-1]]
    return np.union1d(order[1:][same], order[:-1][same])


_IDENTITY = ["trace_id", "span_id", "parent_id", "service", "endpoint", "kind", "start"]


def _ended_elsewhere(rows: pd.DataFrame) -> NDArray:
    """Return which open spans are among the rows as ended ones, too."""
    is_open = rows["duration_ms"].isna()
    if not is_open.any():
        return is_open.to_numpy()
    ended_first = rows[_IDENTITY].iloc[np.argsort(is_open, kind="stable")]
    again = ended_first.duplicated().reindex(rows.index)
    return (again & is_open).to_numpy()


# ---- who is whose parent


def parse_ids(frame: pd.DataFrame) -> Ids:
    """Return the code of each span's trace and the position of its parent.

    Ids are unique within their trace. Of several spans with the same id, the first is the parent;
    but Zipkin gives one id to both halves of a call: then the client half is the parent of the
    server half, and that of its children.
    """
    size = len(frame)
    has_parent = frame["parent_id"].notna().to_numpy()
    trace = _numbers(frame["trace_id"])
    named = frame["parent_id"][has_parent]
    span, above = np.split(_numbers(pd.concat([frame["span_id"], named])), [size])
    spread = trace * _HASH
    key = span ^ spread
    again = pd.Series(key).duplicated().to_numpy()
    first = np.flatnonzero(~again)
    wanted = above ^ spread[has_parent]
    found = pd.Index(key[first]).get_indexer(wanted)
    parent = np.full(size, -1)
    parent[has_parent] = np.append(first, -1)[found]
    parent[parent == np.arange(size)] = -1
    ids = Ids(pd.factorize(trace)[0], parent, has_parent)
    if again.any():
        return _with_shared_ids(ids, frame, key, wanted)
    return ids


def _with_shared_ids(ids: Ids, frame: pd.DataFrame, key: NDArray, wanted: NDArray) -> Ids:
    """Return the ids with other parents where several spans have one id.

    `key` holds the number of each span's id, `wanted` the one that each span with a parent names.
    """
    shared = pd.Series(key).duplicated(keep=False).to_numpy()
    members = _members(frame, key, np.flatnonzero(shared))
    parent = ids.parent.copy()
    children = _children_of(members, frame, ids, wanted)
    parent[children["child"]] = children["at"]
    halves = _server_halves(members)
    parent[halves["at"]] = halves["caller"]
    has_parent = ids.has_parent.copy()
    has_parent[halves["at"]] = True
    return ids._replace(parent=parent, has_parent=has_parent)


_SERVES, _OTHER, _CALLS, _LOG = range(4)
_HALVES = {"server": _SERVES, "consumer": _SERVES, "client": _CALLS, "producer": _CALLS}
_HALVES |= {"internal": _OTHER, "log": _LOG}


def _members(frame: pd.DataFrame, key: NDArray, at: NDArray) -> pd.DataFrame:
    """Return the spans at some positions that share their ids, ended ones first: key, at, half
    (which part in a call they have), service.
    """
    rows = frame.iloc[at]
    columns = {
        "key": key[at],
        "at": at,
        "half": rows["kind"].astype(object).map(_HALVES).to_numpy(),
        "service": rows["service"].to_numpy(dtype=object),
    }
    order = np.argsort(rows["duration_ms"].isna(), kind="stable")
    return pd.DataFrame(columns).iloc[order]


def _server_halves(members: pd.DataFrame) -> pd.DataFrame:
    """Return the spans that serve a call of the same id: at, and caller (its position)."""
    calls = members[members["half"] == _CALLS].drop_duplicates("key")
    calls = calls[["key", "at"]].rename(columns={"at": "caller"})
    return members[members["half"] == _SERVES].merge(calls, on="key")


def _children_of(
    members: pd.DataFrame, frame: pd.DataFrame, ids: Ids, wanted: NDArray
) -> pd.DataFrame:
    """Return the spans that name a shared id as their parent: child, and at (of its parent).

    The parent is of the child's service if one is, and rather who served than who called.
    """
    named = np.flatnonzero(ids.has_parent)
    which = np.isin(wanted, members["key"].to_numpy())
    at = named[which]
    columns = {
        "key": wanted[which],
        "child": at,
        "of": frame["service"].iloc[at].to_numpy(dtype=object),
    }
    pairs = pd.DataFrame(columns).merge(members, on="key")
    # a call, or who served it, that names its own id has no parent there
    halves = members[members["half"].isin([_SERVES, _CALLS])]
    own_key = halves.set_index("at")["key"].reindex(pairs["child"], fill_value=0)
    is_itself = own_key.to_numpy() == pairs["key"].to_numpy()
    pairs = pairs[~is_itself & (pairs["child"] != pairs["at"]).to_numpy()]
    elsewhere = pairs["of"] != pairs["service"]
    ranked = pairs.assign(elsewhere=elsewhere, log=pairs["half"] == _LOG)
    ranked = ranked.sort_values(["log", "elsewhere", "half"], kind="stable")
    return ranked.drop_duplicates("child")


# 2^64 over the golden ratio: spreads the bits of a number (Knuth, TAOCP 6.4)
_HASH = np.uint64(0x9E3779B97F4A7C15)


def _numbers(ids: pd.Series) -> NDArray:
    """Return ids as 64 bits: by value if all are hexadecimal, of one length of 16 or 32."""
    try:
        text, lengths = _joined(ids)
        raw = unhexlify(text)
    except (ValueError, TypeError):
        lengths = {0}
    if lengths not in ({16}, {32}):
        return pd.util.hash_array(ids.to_numpy(dtype=object), categorize=False)
    words = np.frombuffer(raw, dtype=">u8").astype(np.uint64)
    if lengths == {16}:
        return words
    high, low = words.reshape(-1, 2).T
    return low ^ (high * _HASH + high)


def _joined(ids: pd.Series) -> tuple[str | memoryview, set[int]]:
    """Return all ids as one text (of Arrow strings the buffer), and what lengths they have."""
    if getattr(ids.dtype, "storage", "") != "pyarrow" or ids.empty:
        texts = ids.tolist()
        return "".join(texts), set(map(len, texts))
    array = ids.array.__arrow_array__().combine_chunks().cast("large_string")
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1]
    lengths = np.diff(bounds)
    text = memoryview(data)[bounds[0] : bounds[-1]]
    return text, {lengths.min().item(), lengths.max().item()}
