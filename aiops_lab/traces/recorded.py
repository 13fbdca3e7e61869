"""Which calls are recorded otherwise than usual? Their server spans, or their own, are missing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import wilson
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, EncodedSpans
from aiops_lab.traces.timing import Edge, Edges, ParentPairs, Timing, left_behind, pairs_of

UNLIKE_SHARES = 0.1
"""Shares of the calls that lack a span differ if by more than this, and by more than chance."""


class RecordedCalls(NamedTuple):
    """How many calls there were by edge (``n``), and how many of them lack a span (``k``).

    ``served``: calls that were answered well; lacks the span of who served them. ``requests``:
    served calls of recorded callers; lacks the span of the call.
    """

    served: pd.DataFrame
    requests: pd.DataFrame


def recorded_calls(
    spans: EncodedSpans, edges: list[Edge] | None = None, pairs: ParentPairs | None = None
) -> RecordedCalls:
    """Return which calls lack a span. `edges` holds who usually serves whom: by default, those of
    the spans. `pairs` holds `pairs_of` these, where it is known.
    """
    pairs = pairs_of(spans) if pairs is None else pairs
    size = len(pairs.edges)
    is_call = _answered_well(spans)[pairs.child]
    calls = pairs.edge[is_call]
    child = pairs.child[is_call]
    lacking = ~_with_server_span(spans)[child]
    n = np.bincount(calls, minlength=size)
    k = np.bincount(calls, lacking, minlength=size)
    served = _table(pairs.edges, n, k)
    is_request = spans.server[pairs.child]
    came = np.bincount(pairs.edge[is_request], minlength=size)
    lacking_none = np.zeros(size)
    requests = _table(pairs.edges, came, lacking_none)
    usual_edges = pairs.edges if edges is None else edges
    lone = _orphans(spans, usual_edges)
    return RecordedCalls(served, _sum(requests, lone))


def _answered_well(spans: EncodedSpans) -> NDArray:
    """Return a mask of the calls that were answered without an error."""
    has_ended = spans.end != NEVER
    is_good = ~spans.failed & (spans.status < 400)
    return spans.client & is_good & has_ended


def _with_server_span(spans: EncodedSpans) -> NDArray:
    """Return a mask of the spans below which a server span is recorded."""
    served = np.zeros(spans.row.size, dtype=bool)
    callers = spans.ids.parent[spans.server]
    recorded = callers[callers >= 0]
    served[recorded] = True
    return served


def _table(edges: list[Edge], n: NDArray, k: NDArray) -> pd.DataFrame:
    columns = {"n": n, "k": k}
    table = pd.DataFrame(columns, index=_edge_index(edges))
    return table[n > 0]


def _edge_index(edges: list[Edge]) -> pd.Index:
    """Return an index that holds edges as they are: pandas would make a MultiIndex of tuples."""
    return pd.Index(edges, tupleize_cols=False, dtype=object)


def _sum(some: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return the sum of two tables by edge.

    `DataFrame.add` fails on two edges, one of each: pandas makes a MultiIndex of both.
    """
    edges = dict.fromkeys([*some.index, *others.index])
    index = _edge_index(list(edges))
    of_some = some.reindex(index, fill_value=0.0)
    of_others = others.reindex(index, fill_value=0.0)
    return of_some + of_others


def _orphans(spans: EncodedSpans, edges: list[Edge]) -> pd.DataFrame:
    """Return by edge the requests whose caller is recorded in their trace, but not the call."""
    ids = spans.ids
    is_lone = ids.has_parent & (ids.parent < 0)
    lone = spans.server & is_lone
    code: dict[Key | None, int] = {key: code for code, key in enumerate(spans.keys)}
    usual = []
    codes = []
    for edge in edges:
        caller, callee, is_served = edge
        if is_served and caller in code and callee in code:
            usual.append(edge)
            codes.append((code[caller], code[callee]))
    if not usual or not lone.any():
        nothing = np.zeros(0)
        return _table([], nothing, nothing)
    edge_of = pd.DataFrame(codes, columns=["caller", "node"])
    edge_of["edge"] = range(len(usual))
    places = pd.DataFrame({"trace": ids.trace, "caller": spans.node})
    callers = places[spans.server].drop_duplicates()
    requests = places.rename(columns={"caller": "node"})
    orphans = requests[lone].merge(edge_of, on="node")
    found = orphans.merge(callers, on=["trace", "caller"])
    number = np.bincount(found["edge"], minlength=len(usual))
    return _table(usual, number, number)


def timing_as_recorded(timing: Timing, usual: RecordedCalls, spans: EncodedSpans) -> Timing:
    """Return the timing with which both usual traces and some spans can be taken apart.

    A call that was clearly not waited for in the spans is waited for nowhere; and calls that lack a
    span there more often than usual, or less often, are compared without it.
    """
    usual_edges = list(usual.requests.index)
    pairs = pairs_of(spans)
    now = recorded_calls(spans, usual_edges, pairs)
    requests = _unlike(usual.requests, now.requests)
    calls = {(caller, callee, False) for caller, callee, _ in requests}
    left = left_behind(spans, pairs, by_length=True)
    return timing._replace(
        left=timing.left | left,
        cut=_unlike(usual.served, now.served),
        hidden=requests | calls,
    )


def _unlike(usual: pd.DataFrame, now: pd.DataFrame) -> Edges:
    """Return the edges whose calls lack a span more often, or less, than usual."""
    if not (usual["k"].any() or now["k"].any()):  # as ever, none lacks any
        return frozenset()
    before = usual.add_suffix("_usual")
    after = now.add_suffix("_now")
    both = before.join(after, how="inner")
    n = both[["n_usual", "n_now"]].to_numpy().T
    k = both[["k_usual", "k_now"]].to_numpy().T
    low, high = wilson(k, n, 3.0)
    other_high = high[::-1]
    is_certain = (low > other_high).any(axis=0)
    usual_share, share = k / n
    difference = np.abs(share - usual_share)
    is_large = difference > UNLIKE_SHARES
    edges = both.index[is_certain & is_large]
    return frozenset(edges)
