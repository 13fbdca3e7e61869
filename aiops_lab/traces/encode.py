"""How do spans become integers? Once: parents, traces, endpoints and times as arrays.

The ids of traces and spans are parsed when they are first asked for: a calm recording needs none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.columns import factorize
from aiops_lab.spans import Key
from aiops_lab.traces.callees import Addresses, Places, name_callees
from aiops_lab.traces.ids import Ids, Parents, copies_of, find_parents, parse_ids
from aiops_lab.traces.kinds import KIND_ORDER, kind_codes
from aiops_lab.traces.routes import Recorded, endpoints_of, first_methods

NEVER = np.iinfo(np.int64).max

NO_STATUS = -1  # of a span that has no HTTP status, so neither a failure nor a lost answer

NO_PEER = "?"  # the called service of a client span that names none


@dataclass(frozen=True)
class EncodedFrame:
    """What all slices of one encoding share: the frame, for its texts, and its ids."""

    frame: pd.DataFrame

    @cached_property
    def ids(self) -> Ids:
        """The ids of all spans of the frame, parsed once."""
        return parse_ids(self.frame, self.parents)

    @cached_property
    def parents(self) -> Parents:
        """The parents of all spans of the frame, found once."""
        return find_parents(self.frame)

    @cached_property
    def hosts(self) -> tuple[NDArray, list[str]]:
        """Who ran each span, by code, and how that is called: an instance of a service, or where
        none is known (a code below 0) nobody.
        """
        code = np.full(len(self.frame), -1)
        if "instance" not in self.frame:
            return code, []
        instance = self.frame["instance"]
        known = instance.notna().to_numpy()
        service = self.frame["service"].astype(str)
        names = service + " on " + instance.astype(str)
        code[known], distinct = pd.factorize(names[known])
        return code, list(distinct)


@dataclass(frozen=True)
class EncodedSpans:
    """A spans frame as integers, made once for all that is asked of it.

    Each array has one entry a span, in the order of the frame. Times are Unix ns.
    """

    source: EncodedFrame  # what was encoded
    row: NDArray  # position in the frame
    start: NDArray
    end: NDArray  # `NEVER` = still open
    first_byte: NDArray  # when the answer began; `NEVER` where that is not known
    server: NDArray  # serves a request, or consumes a message
    client: NDArray  # calls, or sends a message to a named peer
    log: NDArray
    queued: NDArray  # sends or consumes a message
    failed: NDArray
    status: NDArray
    # code in ``keys`` of what the span is about: its own endpoint, of a client span the called one
    node: NDArray
    has_peer: NDArray  # names the called service
    service: NDArray  # code in ``services``
    keys: list[Key]
    services: list[str]
    # the method whose requests are named by the route alone, by (service, route)
    methods: dict[Key, str]
    # the service that answers at an address, by (caller, address), as in `traces.callees`
    addresses: dict[tuple[str, str], str]

    @cached_property
    def ids(self) -> Ids:
        """Traces and parents; a parent that is not among these spans is none."""
        every = self.source.ids
        return Ids(
            trace=every.trace[self.row], parent=self.parent, has_parent=every.has_parent[self.row]
        )

    @cached_property
    def parent(self) -> NDArray:
        """The position of each span's parent, -1 for one that is not among these spans."""
        every = self.source.parents.position
        size = self.row.size
        if size == every.size:  # all rows, in their order
            return every
        place = np.full(every.size + 1, -1)  # the last entry is the place of "no parent"
        place[self.row] = np.arange(size)
        return place[every[self.row]]

    def tops(self) -> NDArray:
        """Return the position of the topmost span above each span that is among these.

        A message is consumed on its own, long after the request that sent it may have ended.
        """
        consumes = self.server & self.queued
        recorded = self.ids.parent
        parent = np.where(consumes, -1, recorded)
        itself = np.arange(parent.size)
        top = np.where(parent >= 0, parent, itself)
        for _ in range(parent.size.bit_length()):  # each step doubles the height; a cycle ends, too
            above = top[top]
            if (above == top).all():
                break
            top = above
        return top

    @cached_property
    def server_above(self) -> NDArray:
        """The position of the nearest server span above each span, -1 for none."""
        size = self.row.size
        is_small = size <= np.iinfo(np.int32).max
        integer = np.int32 if is_small else np.int64
        parent: NDArray = self.parent.astype(integer)
        has_parent = parent >= 0
        stops = self.server | ~has_parent
        itself = np.arange(size, dtype=integer)
        nearest = np.where(stops, itself, parent)
        for _ in range(size.bit_length()):  # each turn doubles the distance, cycles end too
            further = nearest[nearest]
            if np.array_equal(further, nearest):
                break
            nearest = further
        above = nearest[parent]
        is_server = self.server[above]
        reached = np.where(has_parent & is_server, above, -1)
        return reached.astype(np.int64)

    @cached_property
    def duration_ms(self) -> NDArray:
        """The duration of each span, NaN while it is open."""
        return self.duration_ms_of(slice(None))

    def duration_ms_of(self, at: NDArray | slice) -> NDArray:
        """Return the durations of the spans at some positions."""
        end = self.end[at]
        duration_ms = (end - self.start[at]) / 1e6
        duration_ms[end == NEVER] = np.nan
        return duration_ms

    @property
    def last_ns(self) -> int:
        """When the recording ended (Unix ns): with its last start or end; 0 without spans."""
        has_ended = self.end != NEVER
        last_start = self.start.max(initial=0)
        last_end = self.end.max(initial=0, where=has_ended)
        return int(max(last_start, last_end))

    def texts(self, column: str, at: NDArray) -> NDArray:
        """Return a column of the frame as objects, for the spans at some positions."""
        rows = self.row[at]
        texts = self.source.frame[column].iloc[rows]
        return texts.to_numpy(dtype=object)

    def select(self, mask: NDArray) -> EncodedSpans:
        """Return the spans of a mask; a parent that is not among them is none."""
        at = np.flatnonzero(mask)
        arrays = {name: getattr(self, name)[at] for name in ARRAYS}
        return replace(self, **arrays)

    def as_of(self, since_ns: int, until_ns: int) -> EncodedSpans:
        """Return the spans as they stood at `until_ns`, without those that ended before `since_ns`.

        What ended later is open, what started later is not there.
        """
        started = self.start < until_ns
        reaches = self.end >= since_ns
        seen = self.select(started & reaches)
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
        keys = [self.keys[code] for code in known]
        return replace(self, node=node, keys=keys)

    def split(self, one: NDArray, other: NDArray) -> tuple[EncodedSpans, EncodedSpans]:
        """Return the spans of two masks that exclude each other, with the same codes, and with none
        for the endpoints that neither is about.
        """
        either = one | other
        both = self.select(either).only_own_keys()
        is_one = one[either]
        return both.select(is_one), both.select(~is_one)

    def to_rows(self) -> pd.DataFrame:
        """Return the rows of the frame as the spans stand: what `as_of` opened has no result."""
        frame = self.source.frame
        rows = frame.iloc[self.row].reset_index(drop=True)
        has_ended = rows["duration_ms"].notna()
        opened = has_ended & (self.end == NEVER)
        if len(rows) == len(frame) and not opened.any():
            return frame
        rows.loc[opened, ["duration_ms", "status"]] = [np.nan, 0]
        rows.loc[opened, "error"] = None
        return rows


ARRAYS = [field.name for field in fields(EncodedSpans) if field.type == "NDArray"]


def encode(
    frame: pd.DataFrame,
    keys: Sequence[Key] = (),
    methods: Mapping[Key, str] | None = None,
    addresses: Mapping[tuple[str, str], str] | None = None,
) -> EncodedSpans:
    """Return a spans frame as integers.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    keys : sequence of (service, endpoint)
        Endpoints that have a code already: their position. New ones follow, the served ones first.
    methods : dict, optional
        ``methods`` of an earlier encoding, so that endpoints keep their names.
    addresses : dict, optional
        ``addresses`` of an earlier encoding, so that calls that are not answered now keep theirs.
    """
    source = EncodedFrame(frame)
    at = _placed(source, keys, addresses or {})
    named_alone = first_methods(at.places, at.first, methods or {}, keys)
    about = endpoints_of(at.places, keys, named_alone)
    every = dict.fromkeys([*keys, *about])
    codes = {key: code for code, key in enumerate(every)}
    node = np.array([codes[key] for key in about], dtype=np.int64)
    start = start_ns(frame)
    consumer = at.is_kind("consumer")
    producer = at.is_kind("producer")
    spans = EncodedSpans(
        source=source,
        row=np.arange(len(frame)),
        start=start,
        end=end_ns(frame),
        first_byte=_first_byte_ns(frame),
        server=consumer | at.is_kind("server"),
        client=at.is_kind("client") | (producer & at.has_peer),
        log=at.is_kind("log"),
        queued=consumer | producer,
        failed=is_failed(frame),
        status=status_of(frame),
        node=node[at.place],
        has_peer=at.has_peer,
        service=at.service,
        keys=list(codes),
        services=at.services,
        methods=named_alone,
        addresses=at.addresses,
    )
    copies = copies_of(frame, start, at.place)
    return spans.select(~copies) if copies.any() else spans


class _Placed(NamedTuple):
    """Where each span was recorded, by code; ``places`` are these places in words."""

    kind: NDArray  # position in `KIND_ORDER`
    service: NDArray
    services: list[str]
    has_peer: NDArray
    addresses: Addresses
    place: NDArray
    places: list[Recorded]
    first: NDArray  # the first span at each place

    def is_kind(self, name: str) -> NDArray:
        """Return which spans are of a kind."""
        return self.kind == KIND_ORDER.index(name)


def _placed(
    source: EncodedFrame, keys: Sequence[Key], addresses: Mapping[tuple[str, str], str]
) -> _Placed:
    """Return where each span was recorded; of a client span that is the called service."""
    frame = source.frame
    owner_of = factorize(frame["service"])
    kind = kind_codes(frame, owner_of[0], lambda: source.parents.position)
    recorded, addresses = _whom(source, kind, owner_of, keys, addresses)
    service, services, peer, peers = recorded
    has_peer = peer >= 0
    client = KIND_ORDER.index("client")
    calls = kind == client
    calls |= (kind == KIND_ORDER.index("producer")) & has_peer
    called = np.where(calls, client, kind)
    owners = [*services, NO_PEER, *peers]
    peer += len(services) + 1  # without one: NO_PEER
    owner = np.where(calls, peer, service)
    endpoint, endpoints = factorize(frame["endpoint"])
    method, methods = _methods(frame)
    shape = (
        len(KIND_ORDER),
        len(owners),
        max(len(endpoints), 1),
        len(methods),
    )
    code = _joint_code((called, owner, endpoint, method), shape)
    place, distinct = _in_order(code, math.prod(shape))
    parts = np.unravel_index(distinct, shape)
    places = [
        Recorded(KIND_ORDER[kind], owners[owner], str(endpoints[endpoint]), methods[method])
        for kind, owner, endpoint, method in zip(*parts, strict=True)
    ]
    size = len(place)
    first = np.full(len(distinct), size)
    np.minimum.at(first, place, np.arange(size))
    return _Placed(kind, service, services, has_peer, addresses, place, places, first)


def _joint_code(codes: tuple[NDArray, ...], sizes: tuple[int, ...]) -> NDArray:
    """Return one code for several, as `numpy.ravel_multi_index` does, but without its checks."""
    joint = codes[0].astype(np.int64)
    for code, size in zip(codes[1:], sizes[1:], strict=True):
        joint *= size
        joint += code
    return joint


def _in_order(code: NDArray, codes: int) -> tuple[NDArray, NDArray]:
    """Return the place of each code among the distinct ones, and these in order.

    All are below `codes`: where these are few, a look into a table tells the place.
    """
    if codes > code.size:
        return pd.factorize(code, sort=True)
    seen = np.zeros(codes, dtype=bool)
    seen[code] = True
    rank = np.cumsum(seen) - 1
    return rank[code], np.flatnonzero(seen)


def _whom(
    source: EncodedFrame,
    kind: NDArray,
    owner_of: tuple[NDArray, Any],
    keys: Sequence[Key],
    addresses: Mapping[tuple[str, str], str],
) -> tuple[Places, Addresses]:
    """Return who ran each span and whom it calls, by name where that is known."""
    frame = source.frame
    service, distinct_services = owner_of
    peer, distinct_peers = factorize(frame["peer"])
    services = [str(name) for name in distinct_services]
    peers = [str(name) for name in distinct_peers]
    recorded = Places(service, services, peer, peers)
    client = kind == KIND_ORDER.index("client")
    server = kind == KIND_ORDER.index("server")
    serves = np.zeros(len(services), dtype=bool)
    serves[service[server]] = True
    serving = {services[code] for code in np.flatnonzero(serves)}
    serving.update(service for service, _ in keys)
    return name_callees(recorded, client, server, lambda: source.ids, serving, addresses)


def _methods(frame: pd.DataFrame) -> tuple[NDArray, list[str]]:
    """Return the code of each span's method, and the methods; "" where it is not known."""
    if "method" not in frame:
        return np.zeros(len(frame), dtype=np.int64), [""]
    code, known = factorize(frame["method"])
    code += 1
    return code, ["", *map(str, known)]


# ---- columns of a frame


def start_ns(frame: pd.DataFrame) -> NDArray:
    """Return the starts in Unix nanoseconds."""
    start = frame["start"].to_numpy("datetime64[ns]")
    return start.astype(np.int64)


def end_ns(frame: pd.DataFrame) -> NDArray:
    """Return the ends in Unix nanoseconds, NEVER for spans that are still open."""
    duration_ms = frame["duration_ms"].to_numpy()
    return _after_start(frame, duration_ms)


def _first_byte_ns(frame: pd.DataFrame) -> NDArray:
    """Return when the answers began in Unix nanoseconds, NEVER where that is not known."""
    if "first_byte_ms" not in frame:
        return np.full(len(frame), NEVER)
    later_ms = frame["first_byte_ms"].to_numpy(dtype=float, na_value=np.nan)
    return _after_start(frame, later_ms)


def _after_start(frame: pd.DataFrame, later_ms: NDArray) -> NDArray:
    """Return the moments so much later than the starts, in Unix ns; NEVER for NaN."""
    missing = np.isnan(later_ms)
    if missing.any():
        later_ms = np.where(missing, 0.0, later_ms)
    later_ns = later_ms * 1e6
    np.rint(later_ns, out=later_ns)
    moment = start_ns(frame)
    moment += later_ns.astype(np.int64)
    moment[missing] = NEVER
    return moment


def status_of(frame: pd.DataFrame) -> NDArray:
    """Return the HTTP statuses, `NO_STATUS` for spans whose kind has none."""
    status = frame["status"]
    if isinstance(status.dtype, np.dtype):
        return status.to_numpy().astype(np.int64)  # a copy: kernels take what can be written
    return status.to_numpy(dtype="int64", na_value=NO_STATUS)


def is_failed(frame: pd.DataFrame) -> NDArray:
    """Return which closed spans failed: a 5xx, no response, or an exception."""
    status = status_of(frame)
    bad_status = (status >= 500) | (status == 0)
    bad = frame["error"].notna() | bad_status
    closed = frame["duration_ms"].notna()
    return np.array(bad & closed, dtype=bool)


# ---- what hangs below


def subtrees_of(
    spans: EncodedSpans, tops: NDArray, parent: NDArray | None = None
) -> tuple[EncodedSpans, NDArray]:
    """Return the spans of a mask with all that hangs below them, and their positions in `spans`.

    `parent` holds the position of each span's parent, -1 for none. Default: as recorded.
    """
    parent = spans.ids.parent if parent is None else parent
    every = tops | hangs_below(tops, parent)
    return spans.select(every), np.flatnonzero(every)


def hangs_below(tops: NDArray, parent: NDArray) -> NDArray:
    """Return which spans have a span of a mask above them."""
    none = tops.size
    above = np.where(parent < 0, none, parent)
    up = np.append(above, none)
    is_top = np.append(tops, False)
    below = is_top[up]
    for _ in range(none.bit_length()):  # each turn doubles the distance, cycles end too
        below |= below[up]
        up = up[up]
    return below[:none]
