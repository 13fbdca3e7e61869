"""Twins: two runs, with and without the faults, and the exact effect on each request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError
from aiops_lab.endpoints import display_names
from shop.virtual_time.frames import Records, frame_of, trace_ids_of
from shop.virtual_time.scenario import BEGIN_NS, Place, Scenario
from shop.virtual_time.simulate import SPAN_FIELDS, Run, virtual

UNANSWERED_US = 5_000_000

"""A request without an answer for this long has failed, in µs: the default timeout of a call."""

REFUSED = -2

"""Stands for the end of a request without a span; the end of an open span is -1."""


class Twin(NamedTuple):
    """Two runs of a scenario with the same traffic and the same draws.

    ``with_fault``, ``without_fault``: spans frames. ``effect``: a row a request: trace_id, entry,
    start, ms_with, ms_without (NaN = open at the end of the run, or refused), failed_with,
    failed_without, extra_ms, changed.
    """

    with_fault: pd.DataFrame
    without_fault: pd.DataFrame
    effect: pd.DataFrame


def twin(scenario: Scenario, seed: int = 0, progress: bool | None = None) -> Twin:
    """Run a scenario with and without its faults; return both and the effect on every request.

    Traffic, changes, clocks and lost spans are the same in both.

    Raises
    ------
    ValueError
        The faults had no effect on any request with this seed.

    Examples
    --------
    >>> from aiops_lab.record.faults import Fault
    >>> slow = Fault("delay", "payment", "/payment", start_s=10, duration_ms=300)
    >>> effect = twin(Scenario("slow", (("payment", "/payment"),), (slow,), seconds=20)).effect
    >>> sorted(effect.loc[effect["changed"], "entry"].unique())
    ['/checkout', '/payment']
    """
    calm = replace(scenario, faults=(), causes=())
    with_fault = Run(scenario, seed).spans(progress)
    without = Run(calm, seed).spans(progress)
    effect = _effect(with_fault, without, scenario, seed)
    if scenario.faults and not effect["changed"].any():
        shown = ", ".join(f"{f.kind} at {f.service} {f.endpoint}" for f in scenario.faults)
        raise FieldError("faults", f"must have an effect on some request (seed {seed})", shown)
    faulty = frame_of(with_fault, scenario, seed)
    return Twin(faulty, frame_of(without, scenario, seed), effect)


def _effect(with_fault: Records, without: Records, scenario: Scenario, seed: int) -> pd.DataFrame:
    end = round(scenario.seconds * 1e6)
    roots_with = _roots(with_fault).add_suffix("_with")
    roots_without = _roots(without).add_suffix("_without")
    both = roots_with.join(roots_without, how="outer")
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
    other_end = both["end_with"] != both["end_without"]
    other_status = both["status_with"] != both["status_without"]
    changed = other_end | other_status
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
    """Return the records of the spans of the entries, indexed by request."""
    entries = [node.code for node in records.nodes if node.parent is None]
    rows = records.rows[np.isin(records.rows[:, 1], entries)]
    return pd.DataFrame(rows, columns=list(SPAN_FIELDS)).set_index("request").sort_index()


# ---- what the twins show


def affected(pair: Twin, since_s: float = 0.0, until_s: float = np.inf) -> list[Place]:
    """Return the endpoints that the fault truly degraded, sorted by name.

    Only requests that began in [since_s, until_s) count, in seconds of the run. An endpoint is
    degraded if its requests took over 10 % and 3 ms longer on average than in the twin, if over 2 %
    more of them failed, or if three more had no answer within 5 s.
    """
    now = _endpoint_means(pair.with_fault, since_s, until_s)
    usual = _endpoint_means(pair.without_fault, since_s, until_s)
    every = now.index.union(usual.index)
    now = now.reindex(every)
    usual = usual.reindex(every)
    more = now.fillna(usual) - usual.fillna(0.0)
    much_slower = more["ms"] > 0.1 * usual["ms"]
    slower = (more["ms"] > 3.0) & much_slower
    worse = slower | (more["failed"] > 0.02) | (more["stuck"] >= 3)
    return sorted((str(service), str(endpoint)) for service, endpoint in worse.index[worse])


def affected_by_each(
    scenario: Scenario, seed: int, pair: Twin, progress: bool | None = None
) -> list[list[Place]]:
    """Return for each fault the endpoints that it degrades alone.

    `pair` is the twin of all the faults, with the same seed.
    """
    if len(scenario.faults) == 1:
        return [affected(pair, *scenario.interval())]
    reached = scenario.reached()
    every: list[list[Place]] = []
    for fault in scenario.faults:
        causes = tuple(place for place in scenario.places_of(fault) if place in reached)
        alone = replace(scenario, faults=(fault,), causes=causes)
        spans = virtual(alone, seed, progress)
        every.append(affected(pair._replace(with_fault=spans), *alone.interval()))
    return every


def _endpoint_means(frame: pd.DataFrame, since_s: float, until_s: float) -> Any:
    """Return mean duration (ms), share of failures and number of stuck requests by endpoint."""
    at = _start_s(frame)
    inside = (at >= since_s) & (at < until_s)
    served = frame[inside & (frame["kind"] == "server")]
    last = (at + frame["duration_ms"].fillna(0.0) / 1e3).max()
    age_s = last - at[served.index]
    stuck = served["duration_ms"].isna() & (age_s >= UNANSWERED_US / 1e6)
    judged = served.assign(stuck=stuck, failed=served["status"] >= 500)
    return judged.groupby(["service", "endpoint"], observed=True).agg(
        ms=("duration_ms", "mean"), failed=("failed", "mean"), stuck=("stuck", "sum")
    )


def _start_s(frame: pd.DataFrame) -> pd.Series:
    """Return the starts of the spans in seconds of the virtual clock."""
    return (frame["start"].astype("int64") - BEGIN_NS) / 1e9


def as_of(frame: pd.DataFrame, since_s: float, until_s: float) -> pd.DataFrame:
    """Return the traces in progress during [since_s, until_s), as a store holds them at the end.

    Spans that end later are open. A trace that began earlier is included, because older requests
    may delay younger ones.
    """
    start = _start_s(frame)
    end = start + frame["duration_ms"].fillna(np.inf) / 1e3
    last = end.groupby(frame["trace_id"]).transform("max")
    chosen = (last >= since_s) & (start < until_s)
    found = frame[chosen].copy()
    is_open = (end >= until_s)[chosen]
    found.loc[is_open, ["duration_ms", "status"]] = [np.nan, 0]
    found.loc[is_open, "error"] = None
    return found.reset_index(drop=True)


def windows_of(scenario: Scenario, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two spans frames: before the first fault or change, and of the time to be explained.

    The first has the traces that had ended by then.
    """
    since, until = scenario.interval()
    begins: Iterable[float] = (f.start_s for f in scenario.faults + scenario.changes)
    calm_until = min([since, *begins])
    end = _start_s(frame) + frame["duration_ms"] / 1e3
    ended = (end < calm_until).groupby(frame["trace_id"]).transform("all")
    return frame[ended].reset_index(drop=True), as_of(frame, since, until)


def display_name(places: Iterable[Place], scenario: Scenario) -> list[str]:
    """Return the names of endpoints: the route, or "service route" where two services share it."""
    names = display_names([e.place for e in scenario.topology.endpoints])
    return [names[place] for place in places]
