"""What lesson 04 counts with: recordings with faults of graded size, rivals that know nothing, and
tables that are pooled over recordings and priced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.evaluate.scoring import score
from aiops_lab.pipeline import Report
from aiops_lab.record.faults import Fault
from aiops_lab.results import Anomaly
from shop.recordings import true_faults
from shop.shops import PAYMENT
from shop.topology import SEED_SHOP, Endpoint, Topology
from shop.virtual_time.scenario import Scenario
from shop.virtual_time.simulate import virtual

SIZES_MS = (10, 20, 30, 50, 80, 160)

_APART_S, _FIRST_S, _LENGTH_S = 1080, 900, 300
"""Seconds from the start of one fault to that of the next; the first start; the length of each."""

DetectorFunction = Callable[[pd.DataFrame, Any, Any], list[Anomaly]]


def graded(seed: int, sizes_ms: Sequence[int] = SIZES_MS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two hours of a /payment that scatters a lot, with a delay of each size, and the
    faults.

    The seed shuffles the sizes and draws how long each request takes; the faults begin at the same
    minutes in every recording. Without sizes nothing is broken.
    """
    sizes = np.random.default_rng(seed).permutation(sizes_ms).tolist()
    faults = []
    for n, ms in enumerate(sizes):
        start_s = _FIRST_S + _APART_S * n
        end_s = start_s + _LENGTH_S
        faults.append(Fault("delay", *PAYMENT, start_s, end_s, ms))
    endpoints = tuple(map(_noisy, SEED_SHOP.endpoints))
    scenario = Scenario(
        f"graded {seed}",
        (PAYMENT,) if faults else (),
        tuple(faults),
        topology=Topology(endpoints),
        rate=1.5,
        seconds=7380,
        mix={"/payment": 2, "/checkout": 1},
    )
    return virtual(scenario, seed), true_faults(scenario)


def _noisy(endpoint: Endpoint) -> Endpoint:
    if endpoint.place != PAYMENT:
        return endpoint
    return replace(endpoint, sigma=0.7)


def alarm_where(which: Callable[[pd.DataFrame], Any]) -> DetectorFunction:
    """Return a detector with an alarm in each window that `which` chooses from the windows."""

    def detector(windows: pd.DataFrame, usual: Any, sensitivity: Any) -> list[Anomaly]:
        chosen = windows[which(windows)]
        keys = chosen[["service", "endpoint", "window", "end"]]
        return [Anomaly("alarm", **key) for key in keys.to_dict("records")]

    return detector


def dice(share: float, seed: int = 0) -> DetectorFunction:
    """Return a detector with an alarm in about this share of the windows; the seed decides in
    which.
    """

    def which(windows: pd.DataFrame) -> NDArray:
        draws = np.random.default_rng(seed).random(len(windows))
        return draws < share

    return alarm_where(which)


def listed_at(seconds: Sequence[float], begin: pd.Timestamp) -> DetectorFunction:
    """Return a detector of /payment with alarms in the windows of 10 s that end at these seconds
    after `begin`.
    """

    window = pd.Timedelta(10, "s")

    def detector(windows: pd.DataFrame, usual: Any, sensitivity: Any) -> list[Anomaly]:
        anomalies = []
        for second in seconds:
            end = begin + pd.Timedelta(second, "s")
            anomalies.append(Anomaly("listed", *PAYMENT, end - window, end))
        return anomalies

    return detector


def points(report: Report, faults: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """Return for each window of /payment whether a fault was at work, and whether it alarmed."""
    mine = report.windows.query("endpoint == '/payment'")
    begins = mine["window"]
    ends = mine["end"]
    broken = pd.Series(False, index=mine.index)
    for start, end in zip(faults["start"], faults["end"], strict=True):
        overlaps = (begins < end) & (ends > start)
        broken |= overlaps
    alarms = [a.window for a in report.anomalies if a.endpoint == "/payment"]
    alarmed = begins.isin(pd.DatetimeIndex(alarms))
    return broken.to_numpy(), alarmed.to_numpy()


def event_f1(report: Report, faults: pd.DataFrame) -> float:
    """Return F1, the harmonic mean of precision and recall, by events; 0 if nothing is found."""
    found = score(report, faults)
    precision = found.precision
    recall = found.recall
    if not recall:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def scored(
    at: object,
    reports: Iterable[Report],
    recordings: Iterable[tuple[pd.DataFrame, pd.DataFrame]],
) -> pd.DataFrame:
    """Return a row a recording: `at`, and what `aiops_lab.score` counts there."""
    rows = []
    for report, (_, faults) in zip(reports, recordings, strict=True):
        counted = vars(score(report, faults))
        rows.append({"at": at, **counted})
    return pd.DataFrame(rows)


_SUMMED = ["faults", "incidents", "told", "found", "pages", "missed_minutes", "hours"]


def pooled(tables: Iterable[pd.DataFrame], by: str | list[str] = "at") -> pd.DataFrame:
    """Return one row for each value of `by`: what was counted on all recordings is added up, then
    divided.
    """
    counted = [_with_counts(table) for table in tables]
    groups = pd.concat(counted).groupby(by, as_index=False)
    total = groups[_SUMMED].sum()
    incidents = total["incidents"]
    some = incidents.where(incidents > 0)
    total["precision"] = total["told"] / some
    total["recall"] = total["found"] / total["faults"]
    return total


def _with_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with how many incidents told a fault, and how many faults were found."""
    told = table["precision"] * table["incidents"]
    found = table["recall"] * table["faults"]
    return table.assign(told=told.fillna(0), found=found)


def priced(rows: pd.DataFrame, prices: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """Return the rows with what a day costs, a column for each name in `prices`.

    `prices` holds what a page and what a missed minute costs.
    """
    priced_rows = rows.copy()
    for name, (page, minute) in prices.items():
        pages = rows["pages"] * page
        minutes = rows["missed_minutes"] * minute
        cost = pages + minutes
        priced_rows[name] = 24 / rows["hours"] * cost
    return priced_rows
