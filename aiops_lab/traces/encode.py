"""Spans as integers: positions of parents, codes of endpoints, times in Unix ns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import compiled
from aiops_lab.spans import KINDS, Key

NEVER = np.iinfo(np.int64).max


def start_ns(frame: pd.DataFrame) -> NDArray:
    """Return the starts in Unix nanoseconds."""
    return frame["start"].to_numpy("datetime64[ns]").astype(np.int64)


def end_ns(frame: pd.DataFrame) -> NDArray:
    """Return the ends in Unix nanoseconds, NEVER for spans that are still open."""
    duration = frame["duration_ms"].to_numpy()
    closed = ~np.isnan(duration)
    whole = np.rint(np.where(closed, duration, 0.0) * 1e6).astype(np.int64)
    return np.where(closed, start_ns(frame) + whole, NEVER)


def is_kind(frame: pd.DataFrame, kind: str) -> NDArray:
    """Return which spans are of one kind."""
    code, known = pd.factorize(frame["kind"])
    return np.asarray(known == kind)[code] if len(known) else np.zeros(0, dtype=bool)


def kind_masks(frame: pd.DataFrame) -> tuple[NDArray, ...]:
    """Return which spans are of each of `spans.KINDS`."""
    code, known = pd.factorize(frame["kind"])
    return tuple(code == (known.get_loc(kind) if kind in known else -1) for kind in KINDS)


def is_failed(frame: pd.DataFrame) -> NDArray:
    """Return which closed spans failed: a 5xx, no response, or an exception."""
    status = frame["status"].to_numpy()
    bad = (status >= 500) | (status == 0) | frame["error"].notna().to_numpy()
    return bad & frame["duration_ms"].notna().to_numpy()


def endpoint_codes(
    service: pd.Series | NDArray, endpoint: pd.Series | NDArray, keys: dict[Key, int]
) -> NDArray:
    """Return the code of each (service, endpoint), giving new ones the next number in `keys` (which
    grows).
    """
    return pair_codes(pd.factorize(service), pd.factorize(endpoint), keys)


def pair_codes(
    service: tuple[NDArray, Any], endpoint: tuple[NDArray, Any], keys: dict[Key, int]
) -> NDArray:
    """Do what `codes_of` does with two columns that `pd.factorize` has seen, of which it may be a
    part.
    """
    pair = service[0].astype(np.int64) * max(len(endpoint[1]), 1) + endpoint[0]
    place, pairs = pd.factorize(pair, sort=True)
    names = [
        (str(service[1][p // len(endpoint[1])]), str(endpoint[1][p % len(endpoint[1])]))
        for p in pairs.tolist()
    ]
    known = [keys.setdefault(key, len(keys)) for key in names]
    return np.array(known, dtype=np.int64)[place]


# 2^64 over the golden ratio: spreads keys over a hash table (Knuth, TAOCP 6.4)
_HASH = np.uint64(0x9E3779B97F4A7C15)


def display_names(keys: list[Key]) -> dict[Key, str]:
    """Return how each (service, endpoint) is shown: by its route, and by "service route" where two
    share one.
    """
    owners: dict[str, set[str]] = {}
    for service, endpoint in keys:
        owners.setdefault(endpoint, set()).add(service)
    return {(s, e): e if len(owners[e]) == 1 else f"{s} {e}" for s, e in keys}


# ---- who is whose parent


def parents(frame: pd.DataFrame) -> NDArray:
    """Return for each span the position of its parent in the frame, -1 for none or one that was not
    recorded.

    Ids are unique within their trace. Of several spans with the same id, the first one is the
    parent.
    """
    return _parents(frame)[0]


def _parents(frame: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Return what `parents` does, and which spans have an id that came before."""
    trace = _numbers(frame["trace_id"], 32)
    span = _numbers(frame["span_id"], 16)
    parent_text = frame["parent_id"]
    if not isinstance(parent_text.dtype, pd.StringDtype):
        parent_text = parent_text.astype(object)
    has_parent = parent_text.notna().to_numpy()
    parent = _numbers(parent_text.where(has_parent, "0" * 16), 16)
    if trace is None or span is None or parent is None:
        both = pd.concat([frame["span_id"].astype(object), parent_text[has_parent].astype(object)])
        codes = pd.factorize(both)[0].astype(np.uint64)
        span, parent = codes[: len(frame)], np.zeros(len(frame), dtype=np.uint64)
        parent[has_parent] = codes[len(frame) :]
        trace = pd.factorize(frame["trace_id"])[0].astype(np.uint64)
    return _join(span ^ (trace * _HASH), parent ^ (trace * _HASH), has_parent)


def _numbers(ids: pd.Series, digits: int) -> NDArray | None:
    """Return hexadecimal ids as 64 bits, None if they are something else."""
    if isinstance(ids.dtype, pd.CategoricalDtype):
        values = _numbers(pd.Series(ids.cat.categories, dtype=object), digits)
        return None if values is None else values[ids.cat.codes.to_numpy()]
    texts = ids.tolist()
    try:
        raw = bytes.fromhex("".join(texts))
    except (ValueError, TypeError):
        return None
    known = isinstance(ids.dtype, pd.StringDtype)  # then pandas counts faster
    if (ids.str.len() != digits).any() if known else set(map(len, texts)) - {digits}:
        return None
    if 2 * len(raw) != digits * len(texts):  # blanks among the digits
        return None
    *high, low = np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(-1, digits // 16).T
    return low ^ (high[0] * _HASH + high[0]) if high else low


@compiled
def _join(keys: NDArray, wanted: NDArray, has: NDArray) -> tuple[NDArray, NDArray]:
    size = 1
    while size < 2 * keys.size + 2:
        size *= 2
    mask = np.uint64(size - 1)
    factor = np.uint64(0x9E3779B97F4A7C15)
    shift = np.uint64(20)
    table = np.full(size, -1, dtype=np.int64)
    found = np.full(wanted.size, -1, dtype=np.int64)
    again = np.zeros(keys.size, dtype=np.bool_)
    for i in range(keys.size):
        slot = ((keys[i] * factor) >> shift) & mask
        while table[slot] >= 0 and keys[table[slot]] != keys[i]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = i
        else:
            again[i] = True
    for i in range(wanted.size):
        if has[i]:
            slot = ((wanted[i] * factor) >> shift) & mask
            while table[slot] >= 0 and keys[table[slot]] != wanted[i]:
                slot = (slot + np.uint64(1)) & mask
            if table[slot] != i:
                found[i] = table[slot]
    return found, again


def called_endpoints(frame: pd.DataFrame, keys: Iterable[Key]) -> pd.Series:
    """Return the endpoints, with the paths of client spans folded to the routes that the called
    service is known for.

    A client sees ``/orders/17`` where the service has the route ``/orders/<id>``.
    """
    routes = {key for key in keys if "<" in key[1]}
    if not routes or not (client := is_kind(frame, "client")).any():
        return frame["endpoint"]
    patterns = [(service, route, _pattern(route)) for service, route in sorted(routes)]

    @cache
    def fold(peer: object, path: str) -> str:
        return next(
            (r for s, r, pattern in patterns if s == peer and pattern.fullmatch(path)), path
        )

    folded = frame["endpoint"].astype(object)
    folded[client] = [
        fold(*call) for call in zip(frame["peer"][client], frame["endpoint"][client], strict=True)
    ]
    return folded


def _pattern(route: str) -> re.Pattern[str]:
    """Return what a route of Flask matches: a parameter is anything without a slash, ``path``
    parameters anything.
    """
    pattern = re.escape(re.sub(r"<path:[^>]*>", "\0", re.sub(r"<(?!path:)[^>]*>", "\1", route)))
    return re.compile(pattern.replace("\0", ".+").replace("\1", "[^/]+"))


# ---- the critical path


class EncodedSpans(NamedTuple):
    """A spans frame as integers, made once for all that is asked of it; times in Unix ns."""

    parent: NDArray  # position of the parent, -1 = none
    start: NDArray
    end: NDArray  # `NEVER` = still open
    server: NDArray
    client: NDArray
    log: NDArray
    failed: NDArray
    status: NDArray
    # code of what the span is about: its own endpoint (server, log), the called one (client)
    node: NDArray
    service: NDArray  # code in `services`
    services: list[str]


def encode(frame: pd.DataFrame, keys: dict[Key, int]) -> EncodedSpans:
    """Return `frame` as integers; `keys` (codes of the endpoints) grows by those that are new.

    A span with an id that came before is its own parent here: it hangs on no root, and counts for
    nothing.
    """
    server, client, log = kind_masks(frame)
    (service, services), endpoint = pd.factorize(frame["service"]), pd.factorize(frame["endpoint"])
    node = np.empty(len(frame), dtype=np.int64)
    node[~client] = pair_codes(
        (service[~client], services), (endpoint[0][~client], endpoint[1]), keys
    )
    peers = (
        frame["peer"]
        if isinstance(frame["peer"].dtype, pd.StringDtype)
        else frame["peer"].astype(object)
    )
    called, peer = called_endpoints(frame, keys), pd.factorize(peers.fillna("?"))
    endpoint = endpoint if called is frame["endpoint"] else pd.factorize(called)
    node[client] = pair_codes((peer[0][client], peer[1]), (endpoint[0][client], endpoint[1]), keys)
    parent, again = _parents(frame)
    return EncodedSpans(
        np.where(again, np.arange(again.size), parent),
        start_ns(frame),
        end_ns(frame),
        server,
        client,
        log,
        is_failed(frame),
        frame["status"].to_numpy(),
        node,
        service,
        [str(name) for name in services],
    )


def subtrees_of(spans: EncodedSpans, tops: NDArray) -> tuple[EncodedSpans, NDArray]:
    """Return the spans of a mask with all that hangs below them, and where they stand in `spans`."""
    state = tops.astype(np.int64)  # 0 unknown, 1 below, 2 not
    _below(spans.parent, state)
    row = np.flatnonzero(state == 1)
    place = np.full(tops.size + 1, -1)  # the last entry is the place of "no parent", which is -1
    place[row] = np.arange(row.size)
    columns = {
        name: getattr(spans, name)[row]
        for name in EncodedSpans._fields
        if name not in ("parent", "services")
    }
    return spans._replace(parent=place[spans.parent[row]], **columns), row


@compiled
def _below(parent: NDArray, state: NDArray) -> None:
    """Find out of which spans that are unknown the parent's parent, and so on, is one that is
    below.
    """
    for i in range(parent.size):
        p = i
        while p >= 0 and state[p] == 0:
            state[p] = 2  # for now; a cycle of parents ends here
            p = parent[p]
        if p >= 0 and state[p] == 1:
            p = i
            while state[p] == 2:
                state[p] = 1
                p = parent[p]


def last_ns(frame: pd.DataFrame) -> int:
    """Return when a recording ended (Unix ns): with its last start or end."""
    end = end_ns(frame)
    return int(max(start_ns(frame).max(initial=0), end[end != NEVER].max(initial=0)))
