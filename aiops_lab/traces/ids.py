"""Which spans are one and the same, and who is whose parent? Ids of traces and spans, parsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.columns import is_in_arrow
from aiops_lab.numerics import compiled, compiled_part
from aiops_lab.spans import columns_in
from aiops_lab.traces.hexadecimal import HASH, decode, numbers_of
from aiops_lab.unchanged import while_unchanged


class Parents(NamedTuple):
    """Who is whose parent, as arrays with one entry a span."""

    position: NDArray  # of the parent among these spans, -1 = none
    named: NDArray  # names a parent, recorded or not


class Ids(NamedTuple):
    """Who belongs to whom, as arrays with one entry a span."""

    trace: NDArray  # code of the trace
    parent: NDArray  # position of the parent among these spans, -1 = none
    has_parent: NDArray  # names a parent, recorded or not


LARGE = 200_000
"""Spans from which on a compiled look-up pays: below, loading it takes longer than it saves."""


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
        columns = {
            "start": start[at],
            "place": place[at],
        }
        alike = pd.DataFrame(columns).duplicated(keep=False)
        at = at[alike.to_numpy()]
    if at.size == 0:
        return copies
    known = columns_in(frame)
    rows = frame[known].iloc[at].reset_index(drop=True)
    again = rows.duplicated().to_numpy()
    copies[at] = again | _ended_elsewhere(rows)
    return copies


def _tied(start: NDArray) -> NDArray:
    """Return the positions, in order, of the spans that started when another one did."""
    earlier = start[:-1]
    later = start[1:]
    if (later < earlier).any():
        order = np.argsort(start, kind="stable")
        ordered = start[order]
        same = np.diff(ordered) == 0
        later = order[1:][same]
        earlier = order[:-1][same]
        return np.union1d(later, earlier)
    same = later == earlier
    if not same.any():
        return np.empty(0, dtype=np.int64)
    like_next = np.append(same, False)
    like_last = np.append(False, same)
    return np.flatnonzero(like_next | like_last)


_IDENTITY = ["trace_id", "span_id", "parent_id", "service", "endpoint", "kind", "start"]


def _ended_elsewhere(rows: pd.DataFrame) -> NDArray:
    """Return which open spans are among the rows as ended ones, too."""
    is_open = rows["duration_ms"].isna()
    if not is_open.any():
        return is_open.to_numpy()
    order = np.argsort(is_open, kind="stable")
    ended_first = rows[_IDENTITY].iloc[order]
    again = ended_first.duplicated().reindex(rows.index)
    return (again & is_open).to_numpy()


# ---- who is whose parent


def parse_ids(frame: pd.DataFrame, parents: Parents | None = None) -> Ids:
    """Return the code of each span's trace and the position of its parent, which `parents` may hold
    already.
    """
    position, named = find_parents(frame) if parents is None else parents
    numbers = _numbers(frame["trace_id"])
    trace, _ = pd.factorize(numbers)
    return Ids(trace, position, named)


def find_parents(frame: pd.DataFrame) -> Parents:
    """Return the position of each span's parent.

    Ids are unique within their trace. Of several spans with the same id, the first is the parent;
    but Zipkin gives one id to both halves of a call: then the client half is the parent of the
    server half, and that of its children.
    """
    parsed = while_unchanged(_parsed, frame)
    if parsed.some_shared:
        return _with_shared_ids(parsed, frame)
    return parsed.parents


class _Parsed(NamedTuple):
    parents: Parents
    some_shared: bool
    # where spans share their ids: numbers of spans, and those that spans with a parent name
    key: NDArray
    wanted: NDArray


def _parsed(frame: pd.DataFrame) -> _Parsed:
    """Return the parents as if no two spans of a trace had the same id."""
    named = frame["parent_id"].notna().to_numpy()
    key, wanted = _keys(frame, named)
    position, some_shared = _looked_up(key, wanted, named)
    is_itself = position == np.arange(key.size)
    position[is_itself] = -1
    parents = Parents(position, named)
    if some_shared:
        return _Parsed(parents, True, key, wanted)
    return _Parsed(parents, False, key[:0].copy(), wanted[:0].copy())


def _keys(frame: pd.DataFrame, has_parent: NDArray) -> tuple[NDArray, NDArray]:
    """Return a number for each span, and the number that each span with a parent names.

    Equal numbers are spans of the same id in the same trace.
    """
    named = frame["parent_id"]
    if not (has_parent.all() or is_in_arrow(named)):
        named = named[has_parent]
    span, above = _numbers(frame["span_id"], named)
    spread = _numbers(frame["trace_id"])
    spread *= HASH
    span ^= spread
    above ^= spread[has_parent]
    return span, above


def _looked_up(key: NDArray, wanted: NDArray, named: NDArray) -> tuple[NDArray, bool]:
    """Return where among the keys the number first stands that each span names, -1 for nowhere and
    for spans that name none, and whether some keys are equal.
    """
    position = np.full(key.size, -1)
    if key.size >= LARGE:
        bits = (4 * key.size).bit_length()
        shift = np.uint64(64 - bits)
        table = np.full(1 << bits, -1, dtype=np.int32)
        with np.errstate(over="ignore"):  # the hash wraps around, of which plain Python warns
            some_equal = _look_up(key, wanted, named, table, shift, position)
        return position, some_equal
    index = pd.Index(key)
    if index.is_unique:
        position[named] = index.get_indexer(wanted)
        return position, False
    again = index.duplicated()
    first = np.flatnonzero(~again)
    found = pd.Index(key[first]).get_indexer(wanted)
    with_none = np.append(first, -1)
    position[named] = with_none[found]
    return position, True


@compiled
def _look_up(
    key: NDArray, wanted: NDArray, named: NDArray, table: NDArray, shift: Any, position: NDArray
) -> bool:
    """Fill an empty hash table with positions of keys, and look up the wanted ones on the way;
    return whether some keys are equal.

    A parent mostly stands shortly before its children: what was read for it is in the cache still.
    """
    equal = False
    number = 0
    for i in range(key.size):
        at = _slot(key[i], key, table, shift)
        if table[at] >= 0:
            equal = True
        else:
            table[at] = i
        if named[i]:
            position[i] = table[_slot(wanted[number], key, table, shift)]
            number += 1
    number = 0
    for i in range(key.size):
        if named[i]:
            if position[i] < 0:  # the parent stands behind, or is not there
                position[i] = table[_slot(wanted[number], key, table, shift)]
            number += 1
    return equal


@compiled_part
def _slot(number: Any, key: NDArray, table: NDArray, shift: Any) -> Any:
    """Return where in a hash table (open addressing) the position of a key stands, or belongs."""
    last = table.size - 1
    at = np.int64((number * HASH) >> shift)
    while table[at] >= 0 and key[table[at]] != number:
        at = (at + 1) & last
    return at


def _with_shared_ids(parsed: _Parsed, frame: pd.DataFrame) -> Parents:
    """Return the parents where several spans have one id."""
    key = parsed.key
    is_shared = pd.Series(key).duplicated(keep=False).to_numpy()
    shared = np.flatnonzero(is_shared)
    members = _members(frame, key, shared)
    named = parsed.parents.named.copy()
    position = parsed.parents.position.copy()
    children = _children_of(members, frame, named, parsed.wanted)
    position[children["child"]] = children["at"]
    halves = _server_halves(members)
    position[halves["at"]] = halves["caller"]
    named[halves["at"]] = True
    return Parents(position, named)


_SERVES, _OTHER, _CALLS, _LOG = range(4)
_HALVES = {
    "server": _SERVES,
    "consumer": _SERVES,
    "client": _CALLS,
    "producer": _CALLS,
    "internal": _OTHER,
    "log": _LOG,
}


def _members(frame: pd.DataFrame, key: NDArray, at: NDArray) -> pd.DataFrame:
    """Return the spans at some positions that share their ids, ended ones first: key, at, half
    (which part in a call they have), service.
    """
    rows = frame.iloc[at]
    half = rows["kind"].astype(object).map(_HALVES)
    columns = {
        "key": key[at],
        "at": at,
        "half": half.to_numpy(),
        "service": rows["service"].to_numpy(dtype=object),
    }
    is_open = rows["duration_ms"].isna()
    order = np.argsort(is_open, kind="stable")
    return pd.DataFrame(columns).iloc[order]


def _server_halves(members: pd.DataFrame) -> pd.DataFrame:
    """Return the spans that serve a call of the same id: at, and caller (its position)."""
    half = members["half"]
    calls = members[half == _CALLS].drop_duplicates("key")
    callers = calls[["key", "at"]].rename(columns={"at": "caller"})
    served = members[half == _SERVES]
    return served.merge(callers, on="key")


def _children_of(
    members: pd.DataFrame, frame: pd.DataFrame, has_parent: NDArray, wanted: NDArray
) -> pd.DataFrame:
    """Return the spans that name a shared id as their parent: child, and at (of its parent).

    The parent is of the child's service if one is, and rather who served than who called.
    """
    named = np.flatnonzero(has_parent)
    shared = members["key"].to_numpy()
    which = np.isin(wanted, shared)
    at = named[which]
    services = frame["service"].iloc[at]
    columns = {
        "key": wanted[which],
        "child": at,
        "of": services.to_numpy(dtype=object),
    }
    pairs = pd.DataFrame(columns).merge(members, on="key")
    is_itself = pairs["child"] == pairs["at"]
    names_itself = is_itself | _names_own_id(pairs, members)
    pairs = pairs[~names_itself]
    elsewhere = pairs["of"] != pairs["service"]
    is_log = pairs["half"] == _LOG
    ranked = pairs.assign(elsewhere=elsewhere, log=is_log)
    ranked = ranked.sort_values(["log", "elsewhere", "half"], kind="stable")
    return ranked.drop_duplicates("child")


def _names_own_id(pairs: pd.DataFrame, members: pd.DataFrame) -> pd.Series:
    """Return which children name the id that they have themselves: a call, or who served it, has no
    parent there.
    """
    is_half = members["half"].isin([_SERVES, _CALLS])
    key_of = members[is_half].set_index("at")["key"]
    own_key = key_of.reindex(pairs["child"], fill_value=0).to_numpy()
    return pairs["key"] == own_key


_MANY = 500_000
"""Ids from which on digits are decoded by a compiled function, which takes a while to be loaded."""

_BLOCK = 1 << 14
"""Ids that are parsed at once: what lies between text and numbers fits into the cache."""


def _numbers(*columns: pd.Series) -> Any:
    """Return ids as 64 bits, an array a column, without missing ones: by value if all are
    hexadecimal, of one length of 16 or 32.
    """
    try:
        parsed = [_parse(ids) for ids in columns]
        lengths = {length for _, length in parsed if length}
    except (ValueError, TypeError):
        lengths = {0}
    if lengths <= {16} or lengths <= {32}:
        numbers = [values for values, _ in parsed]
    else:
        texts = (ids.dropna().to_numpy(dtype=object) for ids in columns)
        numbers = [pd.util.hash_array(text, categorize=False) for text in texts]
    return numbers if len(columns) > 1 else numbers[0]


def _parse(ids: pd.Series) -> tuple[NDArray, int]:
    """Return the numbers of ids that are not missing, and the length of each, 0 without ids.

    Raises
    ------
    ValueError
        They are not hexadecimal, or not of one length of 16 or 32.
    """
    blocks = _parsed_in_arrow(ids) if is_in_arrow(ids) else _parsed_texts(ids)
    parts = [np.empty(0, dtype=np.uint64)]
    length = 0
    for numbers, length_here in blocks:
        length = length or length_here
        if length_here != length:
            raise ValueError(f"ids must be of one length, got {length} and {length_here}")
        parts.append(numbers)
    return np.concatenate(parts), length


def _parsed_texts(ids: pd.Series) -> Iterator[tuple[NDArray, int]]:
    """Yield the numbers of the ids of each block, and the length that these ids have.

    Raises
    ------
    ValueError
        They are not hexadecimal, or not of one length.
    """
    for first in range(0, len(ids), _BLOCK):
        block = ids.iloc[first : first + _BLOCK]
        texts = block.tolist()
        length = len(texts[0])
        lines = "\n".join(texts)
        data = bytes.fromhex(lines)  # it passes over the ends of lines
        ends = lines[length :: length + 1]
        are_in_place = ends == "\n" * (len(texts) - 1)
        if not are_in_place or 2 * len(data) != length * len(texts):
            raise ValueError("ids must be hexadecimal, and of one length")
        _check_length(length)
        yield numbers_of(data, length), length


def _parsed_in_arrow(ids: pd.Series) -> Iterator[tuple[NDArray, int]]:
    """Yield of ids in a buffer of Arrow what `_parsed_texts` yields."""
    array = ids.array.__arrow_array__().combine_chunks().cast("large_string")
    if array.null_count:  # the buffer may hold something for these, too
        array = array.drop_null()
    _, offsets, data = array.buffers()
    every = np.frombuffer(offsets, np.int64)
    bounds = every[array.offset :][: len(array) + 1]
    text = memoryview(data or b"")
    are_many = len(array) >= _MANY
    for first in range(0, len(bounds) - 1, _BLOCK):
        ends = bounds[first : first + _BLOCK + 1]
        block = text[ends[0] : ends[-1]]
        lengths = np.diff(ends)
        length = lengths.max().item()
        if lengths.min() != length:
            raise ValueError("ids must be of one length")
        _check_length(length)
        data = decode(block, many=are_many)
        yield numbers_of(data, length), length


def _check_length(length: int) -> None:
    if length not in (16, 32):
        raise ValueError(f"ids must be of a length of 16 or 32, got {length}")
