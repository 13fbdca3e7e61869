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
from shop.virtual_time.parts import Node
from shop.virtual_time.scenario import BEGIN_NS, Place, Scenario, check_scenario
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
        `scenario` is none, or its faults had no effect on any request with this seed.

    Examples
    --------
    >>> from aiops_lab.record.faults import Fault
    >>> slow = Fault("delay", "payment", "/payment", start_s=10, duration_ms=300)
    >>> effect = twin(Scenario("slow", (("payment", "/payment"),), (slow,), seconds=20)).effect
    >>> sorted(effect.loc[effect["changed"], "entry"].unique())
    ['/checkout', '/payment']
    """
    check_scenario(scenario)
    calm = replace(scenario, faults=(), causes=())
    faulty_run = Run(scenario, seed)
    calm_run = Run(calm, seed)
    with_fault = faulty_run.spans(progress)
    without = calm_run.spans(progress)
    effect = effect_of(with_fault, without, scenario, seed)
    has_effect = effect["changed"].any()
    if scenario.faults and not has_effect:
        shown = [f"{each.kind} at {each.service} {each.endpoint}" for each in scenario.faults]
        rule = f"must have an effect on some request (seed {seed})"
        raise FieldError("faults", rule, ", ".join(shown))
    return Twin(frame_of(with_fault, scenario, seed), frame_of(without, scenario, seed), effect)


def effect_of(with_fault: Records, without: Records, scenario: Scenario, seed: int) -> pd.DataFrame:
    """Return the effect on every request: the table of `Twin.effect`."""
    faulty = _roots(with_fault)
    calm = _roots(without)
    requests = faulty.index.union(calm.index)
    faulty = faulty.reindex(requests)
    calm = calm.reindex(requests)
    known = calm.fillna(faulty)  # a request that one of the runs refuses
    code = known["code"].to_numpy(dtype=np.int64)
    start = known["start"].to_numpy(dtype=np.int64)
    names = _entry_names(without, scenario)
    run_end = round(scenario.seconds * 1e6)
    is_old = run_end - start >= UNANSWERED_US
    ms_with, failed_with = _outcomes(faulty, start, is_old)
    ms_without, failed_without = _outcomes(calm, start, is_old)
    answers_with = faulty[["end", "status"]].fillna(REFUSED)
    answers_without = calm[["end", "status"]].fillna(REFUSED)
    is_equal = answers_with == answers_without
    trace_ids = trace_ids_of(requests.to_numpy(), seed)
    return pd.DataFrame(
        {
            "trace_id": pd.Series(trace_ids, dtype=object),
            "entry": pd.Series([names[each] for each in code], dtype=object),
            "start": pd.to_datetime(BEGIN_NS + start * 1000, unit="ns", utc=True),
            "ms_with": ms_with,
            "ms_without": ms_without,
            "failed_with": failed_with,
            "failed_without": failed_without,
            "extra_ms": ms_with - ms_without,
            "changed": ~is_equal.all(axis=1).to_numpy(),
        }
    )


def _outcomes(roots: pd.DataFrame, start: NDArray, is_old: NDArray) -> tuple[NDArray, NDArray]:
    """Return how long each request took in ms, NaN where it is open, and whether it failed.

    `start` in µs; `is_old`: began so long before the end that without an answer it has failed.
    """
    end = roots["end"].fillna(REFUSED).to_numpy(float)
    status = roots["status"].to_numpy(float)
    has_ended = end >= 0
    lasted_us = np.where(has_ended, end - start, np.nan)
    is_refused = end == REFUSED
    is_stuck = ~has_ended & is_old
    failed = is_refused | is_stuck | (status >= 500)
    return lasted_us / 1e3, failed


def _entry_names(records: Records, scenario: Scenario) -> dict[int, str]:
    """Return the names of the entries by the codes of their nodes."""
    names = {place: name for name, place in scenario.entries.items()}
    by_code = {}
    for node in _entry_nodes(records):
        place = node.spot.endpoint.place
        by_code[node.code] = names[place]
    return by_code


def _entry_nodes(records: Records) -> list[Node]:
    return [node for node in records.nodes if node.parent is None]


def _roots(records: Records) -> pd.DataFrame:
    """Return the records of the spans of the entries, indexed by request."""
    every = pd.DataFrame(records.rows, columns=list(SPAN_FIELDS))
    codes = [node.code for node in _entry_nodes(records)]
    is_root = every["code"].isin(codes)
    roots = every[is_root].set_index("request")
    return roots.sort_index()


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
    more_ms = more["ms"]
    tenth_ms = 0.1 * usual["ms"]
    is_slower = (more_ms > 3.0) & (more_ms > tenth_ms)
    fails_more = more["failed"] > 0.02
    hangs_more = more["stuck"] >= 3
    is_worse = is_slower | fails_more | hangs_more
    places = more.index[is_worse]
    return sorted((str(service), str(endpoint)) for service, endpoint in places)


def affected_by_each(
    scenario: Scenario,
    seed: int,
    pair: Twin,
    progress: bool | None = None,
) -> list[list[Place]]:
    """Return for each fault the endpoints that it degrades alone.

    `pair` is the twin of all the faults, with the same seed.
    """
    if len(scenario.faults) == 1:
        return [affected(pair, *scenario.interval())]
    reached = scenario.reached()
    every: list[list[Place]] = []
    for fault in scenario.faults:
        places = scenario.places_of(fault)
        causes = [place for place in places if place in reached]
        alone = replace(scenario, faults=(fault,), causes=tuple(causes))
        spans = virtual(alone, seed, progress)
        alone_pair = pair._replace(with_fault=spans)
        every.append(affected(alone_pair, *alone.interval()))
    return every


def _endpoint_means(frame: pd.DataFrame, since_s: float, until_s: float) -> Any:
    """Return mean duration (ms), share of failures and number of stuck requests by endpoint."""
    start_s = _start_s(frame)
    is_inside = (start_s >= since_s) & (start_s < until_s)
    is_server = frame["kind"] == "server"
    served = frame[is_inside & is_server]
    lasted_s = frame["duration_ms"].fillna(0.0) / 1e3
    last_seen_s = (start_s + lasted_s).max()
    age_s = last_seen_s - start_s[served.index]
    is_old = age_s >= UNANSWERED_US / 1e6
    judged = served.assign(
        failed=served["status"] >= 500,
        stuck=served["duration_ms"].isna() & is_old,
    )
    groups = judged.groupby(["service", "endpoint"], observed=True)
    return groups.agg(ms=("duration_ms", "mean"), failed=("failed", "mean"), stuck=("stuck", "sum"))


def _start_s(frame: pd.DataFrame) -> pd.Series:
    """Return the starts of the spans in seconds of the virtual clock."""
    since_begin_ns = frame["start"].astype("int64") - BEGIN_NS
    return since_begin_ns / 1e9


def as_of(frame: pd.DataFrame, since_s: float, until_s: float) -> pd.DataFrame:
    """Return the traces in progress during [since_s, until_s), as a store holds them at the end.

    Spans that end later are open. A trace that began earlier is included, because older requests
    may delay younger ones.
    """
    start_s = _start_s(frame)
    lasts_s = frame["duration_ms"].fillna(np.inf) / 1e3
    end_s = start_s + lasts_s
    by_trace = end_s.groupby(frame["trace_id"])
    trace_end_s = by_trace.transform("max")
    has_begun = start_s < until_s
    goes_on = trace_end_s >= since_s
    is_chosen = goes_on & has_begun
    found = frame[is_chosen].copy()
    is_open = end_s[is_chosen] >= until_s
    found.loc[is_open, "duration_ms"] = np.nan
    found.loc[is_open, "status"] = 0
    found.loc[is_open, "error"] = None
    return found.reset_index(drop=True)


def windows_of(scenario: Scenario, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two spans frames: before the first fault or change, and of the time to be explained.

    The first has the traces that had ended by then.
    """
    since_s, until_s = scenario.interval()
    events = scenario.faults + scenario.changes
    begins_s = [event.start_s for event in events]
    calm_until_s = min([since_s, *begins_s])
    lasts_s = frame["duration_ms"] / 1e3
    end_s = _start_s(frame) + lasts_s
    is_over = end_s < calm_until_s
    by_trace = is_over.groupby(frame["trace_id"])
    before = frame[by_trace.transform("all")]
    now = as_of(frame, since_s, until_s)
    return before.reset_index(drop=True), now


def display_name(places: Iterable[Place], scenario: Scenario) -> list[str]:
    """Return the names of endpoints: the route, or "service route" where two services share it."""
    endpoints = scenario.topology.endpoints
    names = display_names([endpoint.place for endpoint in endpoints])
    return [names[place] for place in places]
