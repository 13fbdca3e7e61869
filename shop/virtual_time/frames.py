"""The spans frame of a virtual run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from numpy.typing import NDArray

from aiops_lab.columns import text_column
from aiops_lab.spans import COLUMNS
from shop.virtual_time.keyed_random import key, mixed
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
    request_key = _request_keys(requests, seed)
    ids = _ids(request_key[place], legend.keys[code])
    start_ns = BEGIN_NS + start * 1000 + legend.skew_ns[code]
    draws = mixed(ids ^ np.uint64(key(seed, "lost")))
    arrived = draws >= legend.lost_below[code]
    order = np.lexsort((ids, start_ns))
    order = order[arrived[order]]
    code = code[order]
    ids = ids[order]
    place = place[order]
    parents = legend.parents[code]
    parent_keys = _ids(request_key[place], legend.keys[parents])
    has_parent = parents >= 0
    parent_ids = [
        parent_id if named else None
        for parent_id, named in zip(_hexes(parent_keys, 16), has_parent, strict=True)
    ]
    trace_ids = np.array(trace_ids_of(requests, seed), dtype=object)
    errors = np.array([*records.errors, None], dtype=object)
    texts = {
        "trace_id": trace_ids[place],
        "span_id": _hexes(ids, 16),
        "parent_id": parent_ids,
        **{name: texts[code] for name, texts in legend.texts.items()},
        "error": errors[error[order]],
    }
    open_ = end[order] < 0
    columns = {
        **{name: text_column(values) for name, values in texts.items()},
        "start": pd.to_datetime(start_ns[order], unit="ns", utc=True),
        "duration_ms": np.where(open_, np.nan, (end - start)[order] / 1e3),
        "status": status[order],
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


class _Legend:
    """Parent, key, texts and clock skew of each code of a span."""

    def __init__(self, records: Records, scenario: Scenario, seed: int) -> None:
        nodes = records.nodes
        size = 2 * len(records.nodes)
        self.parents = np.full(size, -1, dtype=np.int64)
        self.keys = np.array(
            [key(seed, node.name, kind) for node in nodes for kind in (0, 1)], dtype=np.uint64
        )
        rows: list[tuple[str, str, str, str | None]] = []
        for node in nodes:
            called = node.spot.endpoint
            caller = node.parent.spot.endpoint.service if node.parent else ""
            rows += [
                (called.service, called.route, "server", None),
                (caller, called.route, "client", called.service),
            ]
            if node.parent is not None:
                self.parents[node.code] = node.code + 1
                self.parents[node.code + 1] = node.parent.code
        columns = zip(*rows, strict=True)
        self.texts = {
            name: np.array(column, dtype=object)
            for name, column in zip(("service", "endpoint", "kind", "peer"), columns, strict=True)
        }
        lost = [scenario.lost_of.get(row[0], scenario.lost) for row in rows]
        self.lost_below = np.array([int(share * 2**64) for share in lost], dtype=np.uint64)
        skew = [round(scenario.skew_ms.get(row[0], 0.0) * 1e6) for row in rows]
        self.skew_ns = np.array(skew, dtype=np.int64)


def trace_ids_of(requests: NDArray, seed: int) -> list[str]:
    """Return the trace ids of requests, given their numbers."""
    keys = _request_keys(requests, seed)
    return _hexes(np.column_stack([keys, mixed(keys)]), 32)


def _request_keys(requests: NDArray, seed: int) -> NDArray:
    return mixed(requests.astype(np.uint64) ^ np.uint64(key(seed, "request")))


def _ids(request_key: NDArray, code_key: NDArray) -> NDArray:
    return np.maximum(mixed(request_key ^ code_key), np.uint64(1))


def _hexes(numbers: NDArray, digits: int) -> list[str]:
    text = numbers.astype(">u8").tobytes().hex()
    return [text[i : i + digits] for i in range(0, len(text), digits)]
