"""How do spans become integers? Once: parents, traces, endpoints and times as arrays."""

from __future__ import annotations

import re
from binascii import unhexlify
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.spans import KINDS, Key

NEVER = np.iinfo(np.int64).max

NO_PEER = "?"  # the called service of a client span that names none


@dataclass(frozen=True)
class EncodedSpans:
    """A spans frame as integers, made once for all that is asked of it.

    Each array has one entry a span, in the order of the frame. Times are Unix ns.
    """

    frame: pd.DataFrame  # what was encoded, for its texts
    row: NDArray  # position in ``frame``
    trace: NDArray  # code of the trace
    parent: NDArray  # position of the parent among these spans, -1 = none
    has_parent: NDArray  # names a parent, recorded or not
    repeated: NDArray  # an earlier span of the trace has the same id
    start: NDArray
    end: NDArray  # `NEVER` = still open
    server: NDArray
    client: NDArray
    log: NDArray
    failed: NDArray
    status: NDArray
    # code in ``keys`` of what the span is about: its own endpoint, of a client span the called one
    node: NDArray
    has_peer: NDArray  # names the called service
    service: NDArray  # code in ``services``
    keys: list[Key]
    services: list[str]

    @property
    def duration_ms(self) -> NDArray:
        """The duration of each span, NaN while it is open."""
        return np.where(self.end == NEVER, np.nan, (self.end - self.start) / 1e6)

    @property
    def last_ns(self) -> int:
        """When the recording ended (Unix ns): with its last start or end; 0 without spans."""
        closed = self.end[self.end != NEVER]
        return int(max(self.start.max(initial=0), closed.max(initial=0)))

    def texts(self, column: str, at: NDArray) -> NDArray:
        """Return a column of the frame as objects, for the spans at some positions."""
        return self.frame[column].iloc[self.row[at]].to_numpy(dtype=object)

    def select(self, mask: NDArray) -> EncodedSpans:
        """Return the spans of a mask; a parent that is not among them is none."""
        at = np.flatnonzero(mask)
        place = np.full(mask.size + 1, -1)  # the last entry is the place of "no parent", -1
        place[at] = np.arange(at.size)
        arrays = {name: x[at] for name, x in vars(self).items() if isinstance(x, np.ndarray)}
        return replace(self, **arrays | {"parent": place[self.parent[at]]})

    def as_of(self, since_ns: int, until_ns: int) -> EncodedSpans:
        """Return the spans as they stood at `until_ns`, without those that ended before `since_ns`.

        What ended later is open, what started later is not there.
        """
        seen = self.select((self.start < until_ns) & (self.end >= since_ns))
        later = seen.end >= until_ns
        return replace(
            seen,
            end=np.where(later, NEVER, seen.end),
            status=np.where(later, 0, seen.status),
            failed=seen.failed & ~later,
        )

    def only_own_keys(self) -> EncodedSpans:
        """Return the same spans with codes for the endpoints that they are about, and no others."""
        node, known = pd.factorize(self.node)
        return replace(self, node=node, keys=[self.keys[code] for code in known])

    def to_rows(self) -> pd.DataFrame:
        """Return the rows of the frame as the spans stand: what `as_of` opened has no result."""
        rows = self.frame.iloc[self.row]
        opened = (self.end == NEVER) & rows["duration_ms"].notna()
        if len(rows) == len(self.frame) and not opened.any():
            return self.frame
        rows = rows.reset_index(drop=True)
        rows.loc[opened.to_numpy(), ["duration_ms", "status"]] = [np.nan, 0]
        rows.loc[opened.to_numpy(), "error"] = None
        return rows


def encode(frame: pd.DataFrame, keys: Sequence[Key] = ()) -> EncodedSpans:
    """Return a spans frame as integers.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    keys : sequence of (service, endpoint)
        Endpoints that have a code already: their position. New ones follow, the served ones first.
    """
    ids = parse_ids(frame)
    kind = pd.Categorical(frame["kind"], KINDS).codes
    client = kind == KINDS.index("client")
    service, services = pd.factorize(frame["service"])
    peer, peers = pd.factorize(frame["peer"])
    endpoint, endpoints = pd.factorize(frame["endpoint"])
    owners = [*map(str, services), NO_PEER, *map(str, peers)]
    owner = np.where(client, len(services) + 1 + peer, service)
    places = pd.DataFrame({"kind": kind, "owner": owner, "endpoint": endpoint})
    by_place = places.groupby(["kind", "owner", "endpoint"])
    names = [(KINDS[k], owners[o], str(endpoints[e])) for k, o, e in by_place.size().index]
    about = _routed(names, keys)
    codes = {key: code for code, key in enumerate(dict.fromkeys([*keys, *about]))}
    node = np.array([codes[key] for key in about], dtype=np.int64)
    return EncodedSpans(
        frame=frame,
        row=np.arange(len(frame)),
        **ids._asdict(),
        start=start_ns(frame),
        end=end_ns(frame),
        server=kind == KINDS.index("server"),
        client=client,
        log=kind == KINDS.index("log"),
        failed=is_failed(frame),
        status=frame["status"].to_numpy(),
        node=node[by_place.ngroup().to_numpy()],
        has_peer=peer >= 0,
        service=service,
        keys=list(codes),
        services=owners[: len(services)],
    )


# ---- columns of a frame


def start_ns(frame: pd.DataFrame) -> NDArray:
    """Return the starts in Unix nanoseconds."""
    return frame["start"].to_numpy("datetime64[ns]").astype(np.int64)


def end_ns(frame: pd.DataFrame) -> NDArray:
    """Return the ends in Unix nanoseconds, NEVER for spans that are still open."""
    duration = frame["duration_ms"].to_numpy()
    closed = ~np.isnan(duration)
    whole = np.rint(np.where(closed, duration, 0.0) * 1e6).astype(np.int64)
    return np.where(closed, start_ns(frame) + whole, NEVER)


def is_failed(frame: pd.DataFrame) -> NDArray:
    """Return which closed spans failed: a 5xx, no response, or an exception."""
    status = frame["status"].to_numpy()
    bad = (status >= 500) | (status == 0) | frame["error"].notna().to_numpy()
    return bad & frame["duration_ms"].notna().to_numpy()


# ---- names of endpoints


def display_names(keys: Iterable[Key]) -> dict[Key, str]:
    """Return how each (service, endpoint) is shown: by its route, or as "service route".

    The service is named where two share a route.
    """
    distinct = dict.fromkeys(keys)
    owners = Counter(endpoint for _, endpoint in distinct)
    return {(s, e): e if owners[e] == 1 else f"{s} {e}" for s, e in distinct}


def _routed(places: list[tuple[str, str, str]], keys: Sequence[Key]) -> list[Key]:
    """Return the endpoint of each (kind, service, endpoint).

    The path of a call becomes the route that the called service is known for: a client sees
    ``/orders/17`` where the service has ``/orders/<id>``. A path that is known itself stays.
    """
    own = [(service, name) for kind, service, name in places if kind != "client"]
    known = {*keys, *own}
    routes = [(*key, _pattern(key[1])) for key in sorted(known) if "<" in key[1]]

    def route(service: str, path: str) -> str:
        fits = (r for owner, r, pattern in routes if owner == service and pattern.fullmatch(path))
        return path if (service, path) in known else next(fits, path)

    return [(service, route(service, name)) for _, service, name in places]


def _pattern(route: str) -> re.Pattern[str]:
    """Return what a route of Flask matches.

    A parameter is anything without a slash, a ``path`` parameter anything.
    """
    pattern = re.escape(re.sub(r"<path:[^>]*>", "\0", re.sub(r"<(?!path:)[^>]*>", "\1", route)))
    return re.compile(pattern.replace("\0", ".+").replace("\1", "[^/]+"))


# ---- who is whose parent


class Ids(NamedTuple):
    """The ids of a spans frame as integers, one entry a span: fields as in `EncodedSpans`."""

    trace: NDArray
    parent: NDArray
    has_parent: NDArray
    repeated: NDArray


def parse_ids(frame: pd.DataFrame) -> Ids:
    """Return the code of each span's trace and the position of its parent.

    Ids are unique within their trace. Of several spans with the same id, the first is the parent.
    """
    size = len(frame)
    has_parent = frame["parent_id"].notna().to_numpy()
    trace = _numbers(frame["trace_id"])
    spans = _numbers(pd.concat([frame["span_id"], frame["parent_id"][has_parent]]))
    spread = trace * _HASH
    key = spans[:size] ^ spread
    repeated = pd.Series(key).duplicated().to_numpy()
    first = np.flatnonzero(~repeated)
    found = pd.Index(key[first]).get_indexer(spans[size:] ^ spread[has_parent])
    parent = np.full(size, -1)
    parent[has_parent] = np.append(first, -1)[found]
    parent[parent == np.arange(size)] = -1
    return Ids(pd.factorize(trace)[0], parent, has_parent, repeated)


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
    words = np.frombuffer(raw, dtype=">u8").astype(np.uint64).reshape(len(ids), -1)
    low, high = words[:, -1], words[:, 0]
    return low if lengths == {16} else low ^ (high * _HASH + high)


def _joined(ids: pd.Series) -> tuple[str | memoryview, set[int]]:
    """Return all ids as one text (of Arrow strings the buffer), and what lengths they have."""
    if getattr(ids.dtype, "storage", "") != "pyarrow" or ids.empty:
        texts = ids.tolist()
        return "".join(texts), set(map(len, texts))
    array = ids.array.__arrow_array__().combine_chunks().cast("large_string")
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1]
    lengths = np.diff(bounds)
    return memoryview(data)[bounds[0] : bounds[-1]], {int(lengths.min()), int(lengths.max())}


# ---- what hangs below


def subtrees_of(spans: EncodedSpans, tops: NDArray) -> tuple[EncodedSpans, NDArray]:
    """Return the spans of a mask with all that hangs below them, and their positions in `spans`."""
    below = tops
    while True:
        grown = below | ((spans.parent >= 0) & below[spans.parent])
        if (grown == below).all():
            return spans.select(below), np.flatnonzero(below)
        below = grown
