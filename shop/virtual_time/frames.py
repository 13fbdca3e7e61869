"""The spans frame of a virtual run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from aiops_lab.columns import text_column
from aiops_lab.numerics import mixed
from aiops_lab.spans import COLUMNS
from shop.virtual_time.keyed_random import key
from shop.virtual_time.scenario import BEGIN_NS, Scenario

if TYPE_CHECKING:
    from shop.virtual_time.parts import Node
import numpy as np
import pandas as pd


class Records(NamedTuple):
    """The records of a run.

    Attributes
    ----------
    rows : array of shape (spans, 6)
        The columns are `SPAN_FIELDS`; an end of -1 means that the span is open.
    nodes : list of Node
        Code 2 k is the server span of node k, 2 k + 1 the client span that called it.
    errors : list of str or None
        The error of each number.
    """

    rows: NDArray
    nodes: list[Node]
    errors: list[str | None]


def frame_of(records: Records, scenario: Scenario, seed: int) -> pd.DataFrame:
    """Return the spans frame of the records, with the skew of the clocks and without lost spans."""
    legend = _Legend(records, scenario, seed)
    n, code, start, end, status, error = records.rows.T
    requests, place = np.unique(n, return_inverse=True)
    keys = _request_keys(requests, seed)
    request_key = keys[place]
    ids = _ids(request_key, legend.keys[code])
    skew_ns = legend.skew_ns[code]
    start_ns = BEGIN_NS + start * 1000 + skew_ns
    lost_below = legend.lost_below[code]
    has_arrived = _lost_draws(ids, seed) >= lost_below
    if scenario.sampled < 1:
        has_arrived &= _is_sampled(request_key, scenario.sampled, seed)
    order = np.lexsort((ids, start_ns))
    order = order[has_arrived[order]]
    code = code[order]
    columns = {
        "trace_id": _trace_ids(requests, place[order], seed),
        "span_id": text_column(_hexes(ids[order], 16)),
        "parent_id": _parent_ids(request_key[order], legend, code),
        "start": pd.to_datetime(start_ns[order], unit="ns", utc=True),
        "duration_ms": _durations_ms(start[order], end[order]),
        "status": status[order],
        "error": _errors(records.errors, error[order]),
    }
    for name, texts in legend.texts.items():
        columns[name] = text_column(texts[code])
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


def _trace_ids(requests: NDArray, place: NDArray, seed: int) -> pd.Series:
    """Return the trace id of each span, by the place of its request among all."""
    trace_ids = np.array(trace_ids_of(requests, seed), dtype=object)
    return text_column(trace_ids[place])


def _parent_ids(request_key: NDArray, legend: _Legend, code: NDArray) -> pd.Series:
    """Return the id of each span's parent, None at an entry."""
    parents = legend.parents[code]
    numbers = _ids(request_key, legend.keys[parents])
    ids: Any = np.array(_hexes(numbers, 16), dtype=object)
    ids[parents < 0] = None
    return text_column(ids)


def _durations_ms(start: NDArray, end: NDArray) -> NDArray:
    """Return how long each span lasted in ms, NaN where it is open; both times in µs."""
    duration_ms = (end - start) / 1e3
    duration_ms[end < 0] = np.nan
    return duration_ms


def _errors(errors: list[str | None], numbers: NDArray) -> pd.Series:
    texts: Any = np.array([*errors, None], dtype=object)
    return text_column(texts[numbers])


_TEXTS = ("service", "endpoint", "kind", "peer")


class _Legend:
    """Parent, key, texts and clock skew of each code of a span."""

    def __init__(self, records: Records, scenario: Scenario, seed: int) -> None:
        keys: list[int] = []
        parents: list[int] = []
        rows: list[tuple[str, str, str, str | None]] = []
        for node in records.nodes:
            called = node.spot.endpoint
            service = called.service
            route = called.route
            caller = ""
            if node.parent is None:
                parents += [-1, -1]
            else:
                parents += [node.code + 1, node.parent.code]
                caller = node.parent.spot.endpoint.service
            rows += [
                (service, route, "server", None),
                (caller, route, "client", service),
            ]
            keys += [
                key(seed, node.name, 0),
                key(seed, node.name, 1),
            ]
        self.keys = np.array(keys, dtype=np.uint64)
        self.parents = np.array(parents, dtype=np.int64)
        texts = np.array(rows, dtype=object).T
        self.texts = dict(zip(_TEXTS, texts, strict=True))
        skew_ns = []
        lost_below = []
        for service, *_ in rows:
            skew_ms = scenario.skew_ms.get(service, 0.0)
            skew_ns.append(round(skew_ms * 1e6))
            lost = scenario.lost_of.get(service, scenario.lost)
            lost_below.append(int(lost * 2**64))
        self.skew_ns = np.array(skew_ns, dtype=np.int64)
        self.lost_below = np.array(lost_below, dtype=np.uint64)


def trace_ids_of(requests: NDArray, seed: int) -> list[str]:
    """Return the trace ids of requests, given their numbers."""
    keys = _request_keys(requests, seed)
    halves = np.column_stack([keys, mixed(keys)])
    return _hexes(halves, 32)


def _request_keys(requests: NDArray, seed: int) -> NDArray:
    numbers = requests.astype(np.uint64)
    request_key = np.uint64(key(seed, "request"))
    return mixed(numbers ^ request_key)


def _lost_draws(ids: NDArray, seed: int) -> NDArray:
    """Return for each span the draw that decides whether it is lost, of 64 bits."""
    lost_key = np.uint64(key(seed, "lost"))
    return mixed(ids ^ lost_key)


def _is_sampled(request_key: NDArray, share: float, seed: int) -> NDArray:
    """Return for each span whether its trace is kept."""
    draws = mixed(request_key ^ np.uint64(key(seed, "sampled")))
    return draws < np.uint64(share * 2**64)


def _ids(request_key: NDArray, code_key: NDArray) -> NDArray:
    draws = mixed(request_key ^ code_key)
    return np.maximum(draws, np.uint64(1))


def _hexes(numbers: NDArray, digits: int) -> list[str]:
    text = numbers.astype(">u8").tobytes().hex()
    starts = range(0, len(text), digits)
    return [text[start : start + digits] for start in starts]
