"""What did the fault do? The same traffic with and without it: the difference is its exact effect
on every request.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError
from aiops_lab.traces.encode import display_names
from shop.virtual_time.frames import Records, frame_of, trace_ids_of
from shop.virtual_time.scenario import BEGIN_NS, Place, Scenario
from shop.virtual_time.simulate import SPAN_FIELDS, Run, virtual

UNANSWERED_US = 5_000_000

"""A request without an answer for as long as calls wait by default has failed."""

REFUSED = -2

"""The end of a request that left no span; that of an open one is -1."""


class Twin(NamedTuple):
    """Two runs of a scenario with the same traffic and the same draws.

    ``with_fault``, ``without_fault``: spans frames. ``effect``: a row a request: trace_id, entry,
    start, ms_with, ms_without (NaN = still open at the end, or refused), failed_with,
    failed_without, extra_ms, changed.
    """

    with_fault: pd.DataFrame
    without_fault: pd.DataFrame
    effect: pd.DataFrame


def twin(scenario: Scenario, seed: int = 0, progress: bool | None = None) -> Twin:
    """Run a scenario twice, with and without its faults, and return both and the effect on every
    request.

    Traffic, changes, clocks and lost spans are the same in both.

    Raises
    ------
    ValueError
        The faults had no effect on any request: this seed's run says nothing about them.

    Examples
    --------
    >>> from aiops_lab.record.faults import Fault
    >>> slow = Fault("delay", "payment", "/payment", start_s=10, duration_ms=300)
    >>> effect = twin(Scenario("slow", (("payment", "/payment"),), (slow,), seconds=20)).effect
    >>> sorted(effect.loc[effect["changed"], "entry"].unique())
    ['/checkout', '/payment']
    """
    with_fault, without = (
        Run(s, seed).spans(progress) for s in (scenario, replace(scenario, faults=(), causes=()))
    )
    effect = _effect(with_fault, without, scenario, seed)
    if scenario.faults and not effect["changed"].any():
        shown = ", ".join(f"{f.kind} at {f.service} {f.endpoint}" for f in scenario.faults)
        raise FieldError("faults", f"must have an effect on some request (seed {seed})", shown)
    return Twin(frame_of(with_fault, scenario, seed), frame_of(without, scenario, seed), effect)


def _effect(with_fault: Records, without: Records, scenario: Scenario, seed: int) -> pd.DataFrame:
    end = round(scenario.seconds * 1e6)
    sides = [_roots(records) for records in (with_fault, without)]
    both = sides[0].add_suffix("_with").join(sides[1].add_suffix("_without"), how="outer")
    code = both["code_without"].fillna(both["code_with"]).to_numpy(dtype=np.int64)
    start = both["start_without"].fillna(both["start_with"]).to_numpy(dtype=np.int64)
    both = both.fillna(REFUSED)
    entries = {place: name for name, place in scenario.entries.items()}
    entry = [entries[without.nodes[c // 2].spot.endpoint.place] for c in code]
    ms: dict[str, NDArray] = {}
    failed: dict[str, NDArray] = {}
    for side in ("with", "without"):
        closed = both[f"end_{side}"].to_numpy(float)
        status = both[f"status_{side}"].to_numpy(float)
        ms[side] = np.where(closed >= 0, closed - start, np.nan) / 1e3
        stuck = (closed < 0) & (end - start >= UNANSWERED_US)
        failed[side] = (closed == REFUSED) | stuck | (status >= 500)
    changed = (both["end_with"] != both["end_without"]) | (
        both["status_with"] != both["status_without"]
    )
    return pd.DataFrame(
        {
            "trace_id": pd.Series(trace_ids_of(both.index.to_numpy(), seed), dtype=object),
            "entry": pd.Series(entry, dtype=object),
            "start": pd.to_datetime(BEGIN_NS + start * 1000, unit="ns", utc=True),
            "ms_with": ms["with"],
            "ms_without": ms["without"],
            "failed_with": failed["with"],
            "failed_without": failed["without"],
            "extra_ms": ms["with"] - ms["without"],
            "changed": changed.to_numpy(),
        }
    )


def _roots(records: Records) -> pd.DataFrame:
    """Return the spans of the entries, by request."""
    entries = [node.code for node in records.nodes if node.parent is None]
    rows = records.rows[np.isin(records.rows[:, 1], entries)]
    return pd.DataFrame(rows, columns=list(SPAN_FIELDS)).set_index("request").sort_index()


# ---- read off the twins


def affected(pair: Twin, since_s: float = 0.0, until_s: float = np.inf) -> list[Place]:
    """Return the endpoints that the fault truly degraded, by name, for requests that began in
    [since, until).

    Degraded is an endpoint whose own requests took over 10 % and 3 ms longer on average than in the
    twin, or of which over 2 % more failed, or of which three more had no answer in 5 s.
    """
    sides = [_figures(frame, since_s, until_s) for frame in (pair.with_fault, pair.without_fault)]
    now, usual = (side.reindex(sides[0].index.union(sides[1].index)) for side in sides)
    more = now.fillna(usual) - usual.fillna(0.0)
    slower = (more["ms"] > 3.0) & (more["ms"] > 0.1 * usual["ms"])
    worse = slower | (more["failed"] > 0.02) | (more["stuck"] >= 3)
    return sorted((str(service), str(endpoint)) for service, endpoint in worse.index[worse])


def affected_by_each(
    scenario: Scenario, seed: int, pair: Twin, progress: bool | None = None
) -> list[list[Place]]:
    """Return for each fault which endpoints it degrades by itself; `pair` is the twin of all, with
    the same seed.
    """
    if len(scenario.faults) == 1:
        return [affected(pair, *scenario.interval())]
    reached = scenario.reached()
    struck = [
        tuple(place for place in scenario.places_of(fault) if place in reached)
        for fault in scenario.faults
    ]
    alone = [
        replace(scenario, faults=(f,), causes=at)
        for f, at in zip(scenario.faults, struck, strict=True)
    ]
    return [
        affected(pair._replace(with_fault=virtual(one, seed, progress)), *one.interval())
        for one in alone
    ]


def _figures(frame: pd.DataFrame, since_s: float, until_s: float) -> Any:
    at = (frame["start"].astype("int64") - BEGIN_NS) / 1e9
    served = frame[(frame["kind"] == "server") & (at >= since_s) & (at < until_s)]
    last = (at + frame["duration_ms"].fillna(0.0) / 1e3).max()
    stuck = served["duration_ms"].isna() & (last - at[served.index] >= UNANSWERED_US / 1e6)
    figures = served.assign(stuck=stuck, failed=served["status"] >= 500, ms=served["duration_ms"])
    return figures.groupby(["service", "endpoint"]).agg(
        ms=("ms", "mean"), failed=("failed", "mean"), stuck=("stuck", "sum")
    )


def as_of(frame: pd.DataFrame, since_s: float, until_s: float) -> pd.DataFrame:
    """Return the traces in progress during [since, until) as a store holds them at `until`: what
    goes on is open.

    A trace that only began earlier is in it: older work may be what holds up the younger.
    """
    start = (frame["start"].astype("int64") - BEGIN_NS) / 1e9
    end = start + frame["duration_ms"].fillna(np.inf) / 1e3
    chosen = (end.groupby(frame["trace_id"]).transform("max") >= since_s) & (start < until_s)
    found = frame[chosen].copy()
    going_on = (end >= until_s)[chosen]
    found.loc[going_on, ["duration_ms", "status"]] = [np.nan, 0]
    found.loc[going_on, "error"] = None
    return found.reset_index(drop=True)


def windows_of(scenario: Scenario, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the spans before anything happened, and those of the time to be explained."""
    since, until = scenario.interval()
    begins: Iterable[float] = (f.start_s for f in scenario.faults + scenario.changes)
    calm = min([since, *begins])
    start = (frame["start"].astype("int64") - BEGIN_NS) / 1e9
    over = (start + frame["duration_ms"] / 1e3 < calm).groupby(frame["trace_id"]).transform("all")
    return frame[over].reset_index(drop=True), as_of(frame, since, until)


def display_name(places: Iterable[Place], scenario: Scenario) -> list[str]:
    """Return how endpoints are shown: by their route, or by "service route" where two services
    share one.
    """
    every = display_names([e.place for e in scenario.topology.endpoints])
    return [every[place] for place in places]
