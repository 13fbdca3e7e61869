"""How good is it? Incidents against injected faults, by event and never by point; and how far to
believe its words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aiops_lab.detect.incidents import Incident
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.pipeline import Report
from aiops_lab.results import Suspect
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER

SLACK_S = 60.0

"""Seconds after the end of a fault in which an anomaly may still tell of it: no request is held for
longer.
"""

_COLUMNS = ("service", "endpoint", "start", "end")


# ---- means with intervals


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` values, and the bounds of 95 % around it; NaN for none."""

    value: float
    low: float
    high: float
    n: int


def estimate(
    values: ArrayLike, clusters: ArrayLike | None = None, *, times: int = 1000, seed: int = 0
) -> Estimate:
    """Return the mean of values between 0 and 1, such as shares, with bootstrap bounds.

    Parameters
    ----------
    values : array of float, 0 to 1
    clusters : array, optional
        Which values belong together, such as the runs of one scenario: whole clusters are
        resampled, since values of one tell little of the others. Default: each value is
        independent, one a run or incident.
    times : int
        How often to resample. More: bounds that depend less on the seed.

    Raises
    ------
    ValueError
        A value is not between 0 and 1, or `clusters` is not as long as `values`.

    Notes
    -----
    Efron 1979, doi 10.1214/aos/1176344552; whole clusters: Davison & Hinkley 1997, section 3.8, doi
    10.1017/CBO9780511802843. Equal values, resampled, stay equal, as if ten right answers proved
    that there is never a wrong one. So two clusters are made up and resampled with the others, one
    of zeros and one of ones, as Agresti & Coull (1998, doi 10.1080/00031305.1998.10480550) do for
    shares. Of n equal clusters about 3/n may still be others.

    Examples
    --------
    >>> estimate([1, 1, 1, 1])
    Estimate(value=1.0, low=0.5, high=1.0, n=4)

    Four runs of one scenario say less of other scenarios than one run each of four:

    >>> estimate([1, 1, 1, 1], ["a", "a", "a", "a"]).low
    0.0
    """
    known = np.asarray(values, dtype=float)
    outside = known[~((known >= 0) & (known <= 1))]
    if outside.size:
        raise ValueError(f"values must be between 0 and 1, got {outside[0]}")
    of = np.arange(known.size) if clusters is None else pd.factorize(np.asarray(clusters))[0]
    if of.shape != known.shape:
        raise ValueError(f"clusters must be as long as values, got {of.shape} and {known.shape}")
    if known.size == 0:
        return Estimate(nan, nan, nan, 0)
    sums, sizes = np.bincount(of, known), np.bincount(of).astype(float)
    made_up = sizes.mean()
    sums, sizes = np.append(sums, [0, made_up]), np.append(sizes, [made_up, made_up])
    draws = np.random.default_rng(seed).integers(0, sums.size, (times, sums.size))
    low, high = np.quantile(sums[draws].sum(axis=1) / sizes[draws].sum(axis=1), [0.025, 0.975])
    return Estimate(float(known.mean()), float(low), float(high), known.size)


# ---- incidents against faults


class Event(NamedTuple):
    """What became of one fault: seconds until it was detected (NaN: never), and the incidents that
    tell of it.
    """

    service: str
    endpoint: str | None
    start: pd.Timestamp
    detect_s: float
    incidents: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """How the incidents of a recording compare with the faults in it. NaN where there is nothing to
    divide by.

    ``precision``: share of the incidents that tell of a fault; ``recall``: share of the faults that
    one tells of. ``median_detect_s``, ``worst_detect_s``: from the start of a fault to the end of
    the first window that tells of it, over the detected ones. ``missed_minutes``: minutes of fault
    before that, all of them where it was not detected. ``false_incident_minutes``: minutes in which an
    incident was at work, from its first anomaly to its last, while nothing was broken; an incident
    that never ends has the best precision and recall, and is found out here. ``grouping_f1``: over
    pairs of anomalies that tell of faults, whether one incident means one fault. ``pages``: how
    often an incident opened or reopened. ``events``: one a fault. ``ranks``: for each incident that
    tells of a fault the rank of a true cause, 0 where none was named.
    """

    faults: int
    incidents: int
    hours: float
    precision: float
    recall: float
    median_detect_s: float
    worst_detect_s: float
    false_incidents_per_hour: float
    grouping_f1: float
    pages: int
    missed_minutes: float
    false_incident_minutes: float
    events: tuple[Event, ...] = field(default=(), repr=False)
    ranks: tuple[int, ...] = ()

    @property
    def top1(self) -> Estimate:
        """How often the first suspect is a true cause."""
        return top(self.ranks, 1)

    @property
    def top3(self) -> Estimate:
        """How often one of the first three suspects is a true cause."""
        return top(self.ranks, 3)

    @property
    def mean_reciprocal_rank(self) -> Estimate:
        """The mean of 1/rank, with 0 for a cause that was not named."""
        return estimate([1 / rank if rank else 0.0 for rank in self.ranks])

    def cost_per_day(self, page: float, missed_minute: float) -> float:
        """Return what a day costs when a page costs `page` and a minute of an undetected fault
        `missed_minute`.
        """
        return _share(24 * (self.pages * page + self.missed_minutes * missed_minute), self.hours)


def rank_of(suspects: Sequence[Suspect], causes: Iterable[Key | tuple[str, None]]) -> int:
    """Return the rank of the first suspect that is a true cause, 1 for the first, 0 where none is.

    A cause without an endpoint (None) is a whole service.
    """
    known = list(causes)
    return next(
        (n for n, s in enumerate(suspects, 1) if any(_is_at(cause, s.key) for cause in known)), 0
    )


def top(ranks: Sequence[int], k: int) -> Estimate:
    """Return how often a true cause is among the first `k` suspects; `ranks` as `rank_of` gives
    them.
    """
    return estimate([0 < rank <= k for rank in ranks])


def score(report: Report, faults: pd.DataFrame, *, slack_s: float = SLACK_S) -> Score:
    """Compare what a replay found with what was injected.

    Parameters
    ----------
    report : Report
        From `aiops_lab.replay`; with ``causes=False`` the ranks say nothing.
    faults : DataFrame
        A row a fault: service, endpoint, start, end (UTC; NaT = not ended), as
        ``FaultLog.faults()`` gives it. Without an endpoint it is a whole service. Optional:
        ``affected``, the (service, endpoint) pairs that it truly touches, as a twin tells (default:
        any), and ``group``, equal for faults that one incident should hold (default: none).
    slack_s : float
        Seconds after the end of a fault in which a new anomaly may still tell of it. Higher: more
        lenient.

    Raises
    ------
    ValueError
        Names the column that is missing.

    Notes
    -----
    An anomaly at the endpoint of a fault in force tells of it; elsewhere it tells of the fault that
    was the latest to start when the anomaly began, and goes on telling of that one. What began
    before every fault tells of none, so an incident before its fault is a false one. A fault counts
    once, however many windows it lasts: there is no point adjustment, which lets a lucky point
    stand for a whole fault (Kim et al. 2022, arXiv 2109.05257).
    """
    return score_truth(report, truth_of(faults), int(slack_s * 1e9))


def score_truth(report: Report, truth: list[_Fault], slack_ns: int) -> Score:
    told, (end, hours) = _told(report, truth, slack_ns), _length(report.windows)
    events = [_event(fault, [t for t in told if t.fault == n]) for n, fault in enumerate(truth)]
    detect_s = [e.detect_s for e in events if e.incidents]
    lengths_s = [max(min(fault.end, end) - fault.start, 0) / 1e9 for fault in truth]
    missed_s = sum(np.fmin([e.detect_s for e in events], lengths_s)) if events else 0.0
    causes: dict[str, set[Any]] = {}
    for t in told:
        causes.setdefault(t.incident, set()).add(truth[t.fault].place)
    known = [i for i in report.incidents if i.id in causes]
    n = len(report.incidents)
    return Score(
        len(truth),
        n,
        hours,
        _share(len(known), n),
        _share(len(detect_s), len(truth)),
        float(np.median(detect_s)) if detect_s else nan,
        max(detect_s, default=nan),
        _share(n - len(known), hours),
        _pairwise_f1([(t.incident, truth[t.fault].group) for t in told]),
        sum(len(i.episodes) for i in report.incidents),
        float(missed_s / 60),
        _false_incident_minutes(report, truth),
        tuple(events),
        tuple(rank_of(i.suspects, causes[i.id]) for i in known),
    )


class _Fault(NamedTuple):
    place: Any  # (service, endpoint or None)
    start: int  # Unix ns
    end: int
    affected: Any  # a set of (service, endpoint), or None for any
    group: Any


class _Told(NamedTuple):
    """One anomaly that tells of a fault."""

    fault: int
    incident: str
    end: int


def truth_of(faults: pd.DataFrame) -> list[_Fault]:
    for column in _COLUMNS:
        if column not in faults.columns:
            raise ValueError(f"faults must have the column {column!r}, got {list(faults.columns)}")
    times = [pd.to_datetime(faults[c], utc=True).dt.as_unit("ns") for c in ("start", "end")]
    start, end = (np.where(t.isna(), NEVER, t.astype("int64")).tolist() for t in times)
    endpoints = [e if isinstance(e, str) and e else None for e in faults["endpoint"]]
    affected = (
        [set(map(tuple, a)) for a in faults["affected"]]
        if "affected" in faults
        else [None] * len(faults)
    )
    groups = faults["group"] if "group" in faults else range(len(faults))
    rows = zip(
        zip(faults["service"], endpoints, strict=True), start, end, affected, groups, strict=True
    )
    return [_Fault(*row) for row in rows]


def _is_at(place: Any, key: Key) -> bool:
    return place[0] == key[0] and place[1] in (None, key[1])


def _told(report: Report, truth: list[_Fault], slack_ns: int) -> list[_Told]:
    """Return the anomalies that tell of a fault, each with its incident."""
    told, homes = [], _homes(report.incidents)
    # of an anomaly that goes on: its last end, and its fault or -1
    runs: dict[tuple[str, Key], tuple[int, int]] = {}
    for a in sorted(report.anomalies, key=lambda a: (a.end, a.key, a.type)):
        low, high = unix_ns(a.window), unix_ns(a.end)
        until, fault = runs.get((a.type, a.key), (-1, -1))
        in_force = [
            n
            for n, f in enumerate(truth)
            if f.start < high
            and low - slack_ns < f.end
            and (f.affected is None or a.key in f.affected)
        ]
        own = [n for n in in_force if _is_at(truth[n].place, a.key)]
        if own or until < low:
            fault = max(own or in_force, key=lambda n: (truth[n].start, n), default=-1)
        runs[a.type, a.key] = high, fault
        home = next(
            (
                name
                for since, to, name in homes.get((a.type, a.key), ())
                if since <= low and high <= to
            ),
            None,
        )
        if fault >= 0 and home is not None:
            told.append(_Told(fault, home, high))
    return told


def _homes(incidents: Sequence[Incident]) -> dict[tuple[str, Key], list[tuple[int, int, str]]]:
    """Return when (Unix ns) an anomaly of some type and endpoint belonged to which incident, the
    latest first.
    """
    homes: dict[tuple[str, Key], list[tuple[int, int, str]]] = {}
    for i in incidents:
        spans = [(unix_ns(low), unix_ns(high), i.id) for low, high in i.episodes]
        for kind in dict.fromkeys((a.type, a.key) for a in i.anomalies):
            homes.setdefault(kind, []).extend(spans)
    return {kind: sorted(spans, reverse=True) for kind, spans in homes.items()}


def _event(fault: _Fault, told: list[_Told]) -> Event:
    detect_s = (min(t.end for t in told) - fault.start) / 1e9 if told else nan
    start = to_timestamp(fault.start)
    service, endpoint = fault.place
    return Event(service, endpoint, start, detect_s, tuple(sorted({t.incident for t in told})))


def _false_incident_minutes(report: Report, truth: list[_Fault]) -> float:
    at_work = _union(
        (unix_ns(low), unix_ns(high)) for i in report.incidents for low, high in i.episodes
    )
    broken = _union((fault.start, fault.end) for fault in truth)
    shared = sum(max(min(b, d) - max(a, c), 0) for (a, b), (c, d) in product(at_work, broken))
    return (sum(b - a for a, b in at_work) - shared) / 6e10


def _union(spells: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the times that some spell covers, as spells that do not overlap."""
    whole: list[tuple[int, int]] = []
    for low, high in sorted(spells):
        if whole and low <= whole[-1][1]:
            low, high = whole[-1][0], max(whole.pop()[1], high)
        whole.append((low, high))
    return whole


def _length(windows: pd.DataFrame) -> tuple[int, float]:
    """Return when a recording ended (Unix ns), and how many hours it lasted."""
    if windows.empty:
        return 0, 0.0
    begin, end = unix_ns(windows["window"].min()), unix_ns(windows["end"].max())
    return end, (end - begin) / 3.6e12


def _share(part: float, whole: float) -> float:
    return part / whole if whole else nan


def _pairwise_f1(items: list[tuple[Any, Any]]) -> float:
    """Return 2 x pairs that are together in both divisions / (pairs together in the one + in the
    other).
    """
    both, one, other = (
        sum(n * (n - 1) for n in Counter(column).values())
        for column in (items, [i for i, _ in items], [g for _, g in items])
    )
    return _share(2 * both, one + other)
