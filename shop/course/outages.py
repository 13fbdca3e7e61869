"""What lesson 07 works with: recorded outages, requests drawn by hand, an impatient shop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.explain.ledger import excess_ledger
from aiops_lab.explain.reference import learn
from aiops_lab.formats.files import read_spans
from aiops_lab.replaying import replay
from aiops_lab.spans import Span, to_frame
from shop.course.cases import trace_ends
from shop.course.drawing import start_and_duration
from shop.recordings import read_truth
from shop.topology import SEED_SHOP, Topology

SETTLE = pd.Timedelta(5, "s")
"""What ended less than this before the first anomaly is neither usual nor part of the incident."""

DrawnCall = tuple[int, int | None, str, str, str, str | None, float, float]
"""id, id of the caller, kind, service, endpoint, called service, start and end in ms."""


def recorded(path: str | Path, sensitivity: Sensitivity) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the spans of a recording from before its incident, and those that belong to it.

    The detectors say when it began. Whole traces are sorted by when they ended; what still hangs
    belongs to the incident.
    """
    spans = read_spans(path)
    watched = replay(spans, sensitivity, causes=False)
    began = watched.incidents[0].started
    ended = trace_ends(spans)
    was_before = ended < began - SETTLE
    return spans[was_before], spans[ended >= began]


def true_cause(path: str | Path) -> str:
    """Return the endpoint that was broken in a recording."""
    faults = read_truth(path)
    return str(faults["endpoint"].iloc[0])


def drawn_trace(rows: Iterable[DrawnCall], trace: int = 1) -> pd.DataFrame:
    """Return the spans frame of one trace of several services that was drawn by hand."""
    return to_frame(_span(row, trace) for row in rows)


def _span(row: DrawnCall, trace: int) -> Span:
    number, caller, kind, service, endpoint, peer, start_ms, end_ms = row
    return Span(
        f"{trace:032x}",
        f"{number:016x}",
        None if caller is None else f"{caller:016x}",
        service,
        endpoint,
        kind,
        peer,
        *start_and_duration(start_ms, end_ms),
        200,
        None,
    )


def payment_requests(n: int, added_ms: float, seed: int) -> pd.DataFrame:
    """Return n requests of /payment of about 50 ms (sd of the logarithm 0.25), each with `added_ms`
    on top.
    """
    rng = np.random.default_rng(seed)
    took_ms = 50 * rng.lognormal(0, 0.25, n) + added_ms
    rows = [(1, None, "server", "payment", "/payment", None, 0.0, ms) for ms in took_ms.tolist()]
    return to_frame(_span(row, trace) for trace, row in enumerate(rows, 1))


def payment_and_inventory(n: int, added_ms: float, seed: int) -> pd.DataFrame:
    """Return n requests each of /payment and of /inventory, of about 50 ms (sd of the logarithm
    0.25), those of /payment with `added_ms` on top.
    """
    rng = np.random.default_rng(seed)
    spans: list[Span] = []
    for service, more_ms in (("payment", added_ms), ("inventory", 0.0)):
        took_ms = 50 * rng.lognormal(0, 0.25, n) + more_ms
        for ms in took_ms.tolist():
            row = (1, None, "server", service, f"/{service}", None, 0.0, ms)
            spans.append(_span(row, trace=len(spans) + 1))
    return to_frame(spans)


def impatient(timeout_s: float) -> Topology:
    """Return the seed's shop, whose callers give up after `timeout_s`."""
    endpoints = []
    for endpoint in SEED_SHOP.endpoints:
        calls = _hurried(endpoint.calls, timeout_s)
        endpoints.append(replace(endpoint, calls=calls))
    return Topology(tuple(endpoints))


def _hurried(calls: Any, timeout_s: float) -> Any:
    """Return calls, also those made in parallel (a tuple in the tuple), with this timeout."""
    if isinstance(calls, tuple):
        return tuple(_hurried(call, timeout_s) for call in calls)
    return replace(calls, timeout_s=timeout_s)


def is_conserved(usual: pd.DataFrame, now: pd.DataFrame) -> bool:
    """Return whether the accounts of a ledger add up, in ms and failures, at every entry."""
    found = excess_ledger(learn(usual), now)
    rows = found.rows[~found.rows["masked"]]
    sums = rows.pivot_table("excess", index="entry", columns="unit", aggfunc="sum", fill_value=0.0)
    entries = found.entries.set_index("entry").reindex(sums.index)
    rise = {
        "ms": entries["now_ms"] - entries["usual_ms"],
        "failures": entries["now_failed"] - entries["usual_failed"],
    }
    return all(_alike(sums.get(unit, 0.0), more) for unit, more in rise.items())


def _alike(sums: Any, rise: Any) -> bool:
    return bool(np.allclose(sums, rise))
