"""By which path did requests reach the cause? Of several, by the one that cost most more."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import unix_ns
from aiops_lab.results import Suspect
from aiops_lab.spans import check
from aiops_lab.traces.encode import NEVER, EncodedSpans, encode
from aiops_lab.traces.timing import learn_timing
from aiops_lab.traces.trees import build_trees, critical_path

Path = tuple[str, ...]
"""The endpoints from the entry to the cause, each with its service in brackets."""


def worst_path(
    cause: Suspect, spans: pd.DataFrame, bad: Collection[str], since: pd.Timestamp
) -> Path:
    """Return the path to the cause with the most excess in bad requests; () where none reached it.

    The excess is the time that requests waited for the cause, and for the calls of it, less what is
    usual by the same path; it is the number of failures where the cause mostly fails. A request
    that came to the cause from outside has a path of one, which is returned only without others.

    Parameters
    ----------
    cause : Suspect
    spans : DataFrame
        A spans frame.
    bad : collection of str
        The trace_ids of the bad requests.
    since : Timestamp
        Spans that began before are usual.
    """
    visits = _visits(cause, encode(check(spans)))
    is_bad = visits["trace_id"].isin(bad).to_numpy()
    is_before = (visits["start"] < unix_ns(since)).to_numpy()
    usual = visits[is_before & ~is_bad]
    usual_ms = usual.groupby("path")["ms"].mean()
    now = visits[is_bad]
    if now.empty:
        return ()
    expected_ms = now["path"].map(usual_ms).fillna(0.0)
    now = now.assign(excess_ms=now["ms"] - expected_ms)
    paths = now.groupby("path")[["failed", "excess_ms"]].sum()
    paths["has_caller"] = [len(path) > 1 for path in paths.index]
    order = ["has_caller", "excess_ms", "failed"]
    if _mostly_fails(cause):
        order = ["has_caller", "failed", "excess_ms"]
    worst_first = paths.sort_values(order, ascending=False, kind="stable")
    return worst_first.index[0]


def _mostly_fails(cause: Suspect) -> bool:
    """Return whether most of what the cause cost are failures."""
    largest = max(cause.evidence, key=lambda row: row.get("cost", 0.0), default={})
    return largest.get("unit") == "failures"


def _visits(cause: Suspect, spans: EncodedSpans) -> pd.DataFrame:
    """Return a row for each time that the cause was reached: trace_id, start (Unix ns), path, ms
    waited for it, failed.
    """
    at = _at_cause(cause, spans)
    waited = _waited_ms(spans)
    above = spans.ids.parent[at]
    is_called = (above >= 0) & spans.client[above]
    way_ms = np.where(is_called, waited[above], 0.0)
    is_open = spans.end[at] == NEVER
    columns = {
        "trace_id": spans.texts("trace_id", at),
        "start": spans.start[at],
        "path": _paths(at, spans, cause),
        "ms": waited[at] + way_ms,
        "failed": spans.failed[at] | is_open,
    }
    return pd.DataFrame(columns)


def _at_cause(cause: Suspect, spans: EncodedSpans) -> NDArray:
    """Return the positions of the spans of the cause, and of the calls of it that have none."""
    codes = [code for code, key in enumerate(spans.keys) if key == cause.key]
    is_there = np.isin(spans.node, codes)
    served = is_there & ~spans.client
    above = spans.ids.parent[served]
    is_answered = np.zeros(spans.row.size, dtype=bool)
    is_answered[above[above >= 0]] = True
    answered_calls = spans.client & is_answered
    return np.flatnonzero(is_there & ~answered_calls)


def _waited_ms(spans: EncodedSpans) -> NDArray:
    """Return for how many ms requests waited for each span itself."""
    trees = build_trees(spans, spans.last_ns, learn_timing(spans))
    span, ns = critical_path(trees)
    waited = np.zeros(spans.row.size)
    waited[span] = ns / 1e6
    return waited


def _paths(at: NDArray, spans: EncodedSpans, cause: Suspect) -> list[Path]:
    parent = spans.ids.parent.tolist()
    names = [f"{endpoint} ({service})" for service, endpoint in spans.keys]
    named = [names[node] for node in spans.node.tolist()]
    calls = spans.client.tolist()
    last = f"{cause.endpoint} ({cause.service})"
    return [_path(position, last, parent, named, calls) for position in at.tolist()]


def _path(
    position: int, last: str, parent: list[int], named: list[str], is_call: list[bool]
) -> Path:
    """Return the path to the span at a position, whose endpoint is named `last`."""
    path = {last: None}
    seen = set()
    while position >= 0 and position not in seen:  # parents may form a circle
        seen.add(position)
        if not is_call[position]:
            path.setdefault(named[position])
        position = parent[position]
    return (*path,)[::-1]
