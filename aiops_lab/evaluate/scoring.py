"""Scores of incidents against the injected faults, event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import nan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from aiops_lab.checks import FieldError, plain_number
from aiops_lab.detect.incidents import Incident
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.pipeline import Report
from aiops_lab.results import INFO, Suspect
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER

# Seconds after the end of a fault in which an anomaly may still show it: no request takes longer.
SLACK_S = 60.0

FaultPlace = tuple[str, str | None]  # a service with an endpoint of it, or all of it
Kind = tuple[str, Key]  # type and endpoint of an anomaly

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
        Equal labels for values that belong together, such as the runs of one scenario: whole
        clusters are resampled, since values of one cluster say little about the others. Default:
        each value is independent.
    times : int
        Number of resamples. Higher: bounds that depend less on the seed.

    Raises
    ------
    ValueError
        A value is not between 0 and 1, or `clusters` is not as long as `values`.

    Notes
    -----
    Efron 1979, doi 10.1214/aos/1176344552; whole clusters: Davison & Hinkley 1997, section 3.8, doi
    10.1017/CBO9780511802843. Equal values, resampled, stay equal, as if ten right answers proved
    that there is never a wrong one. So two clusters are added and resampled with the others, one of
    zeros and one of ones, as Agresti & Coull (1998, doi 10.1080/00031305.1998.10480550) do for
    shares. After n equal clusters, a share of about 3/n may still differ.

    Examples
    --------
    >>> estimate([1, 1, 1, 1])
    Estimate(value=1.0, low=0.5, high=1.0, n=4)

    Four runs of one scenario say less about other scenarios than one run each of four:

    >>> estimate([1, 1, 1, 1], ["a", "a", "a", "a"]).low
    0.0
    """
    values = np.asarray(values, dtype=float)
    is_inside = (values >= 0) & (values <= 1)
    outside = values[~is_inside]
    if outside.size:
        raise ValueError(f"values must be between 0 and 1, got {outside[0]}")
    code = np.arange(values.size)
    if clusters is not None:
        code, _ = pd.factorize(np.asarray(clusters))
    if code.shape != values.shape:
        shapes = f"{code.shape} and {values.shape}"
        raise ValueError(f"clusters must be as long as values, got {shapes}")
    if values.size == 0:
        return Estimate(nan, nan, nan, 0)
    sums = np.bincount(code, values)
    sizes = np.bincount(code).astype(float)
    added = sizes.mean()
    sums = np.append(sums, [0, added])
    sizes = np.append(sizes, [added, added])
    shape = times, sums.size
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, sums.size, shape)
    drawn_sums = sums[draws].sum(axis=1)
    drawn_sizes = sizes[draws].sum(axis=1)
    means = drawn_sums / drawn_sizes
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(values.mean())
    return Estimate(mean, float(low), float(high), values.size)


# ---- incidents against faults


class Event(NamedTuple):
    """One fault: seconds until it was detected (NaN: never), and the incidents that show it."""

    service: str
    endpoint: str | None
    start: pd.Timestamp
    detect_s: float
    incidents: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """The comparison of the incidents of a recording with the faults in it. NaN where there is
    nothing to divide by.

    ``precision``: share of the incidents that show a fault; ``recall``: share of the faults that an
    incident shows. ``median_detect_s``, ``worst_detect_s``: from the start of a fault to the end of
    the first window that shows it, over the detected ones. ``missed_minutes``: minutes of fault
    before that, all of them where it was not detected. ``false_incident_minutes``: minutes in which
    an incident was at work, from its first anomaly to its last, while no fault was in force; an
    incident that never ends has the best precision and recall, and only this number reveals it.
    ``grouping_f1``: over pairs of anomalies that show faults, whether one incident means one fault.
    ``pages``: number of times that an incident opened or reopened. ``events``: one for each fault.
    ``ranks``: for each incident that shows a fault the rank of a true cause, 0 for none named.
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
        """The share of incidents whose first suspect is a true cause."""
        return top(self.ranks, 1)

    @property
    def top3(self) -> Estimate:
        """The share of incidents with a true cause among the first three suspects."""
        return top(self.ranks, 3)

    def cost_per_day(self, page: float, missed_minute: float) -> float:
        """Return the cost of a day by the prices of a page and of a minute of undetected fault."""
        cost = self.pages * page + self.missed_minutes * missed_minute
        return _share(24 * cost, self.hours)


def rank_of(suspects: Sequence[Suspect], causes: Iterable[FaultPlace]) -> int:
    """Return the rank of the first suspect that is a true cause, 1 for the first, 0 where none is.

    A cause without an endpoint (None) is a whole service.
    """
    places = list(causes)
    for rank, suspect in enumerate(suspects, 1):
        if any(_is_at(place, suspect.key) for place in places):
            return rank
    return 0


def top(ranks: Sequence[int], k: int) -> Estimate:
    """Return the share of `ranks`, as `rank_of` gives them, that are among the first `k`."""
    return estimate([0 < rank <= k for rank in ranks])


def score(report: Report, faults: pd.DataFrame, *, slack_s: float = SLACK_S) -> Score:
    """Return how well the incidents of a replay match the injected faults.

    Parameters
    ----------
    report : Report
        From `aiops_lab.replay`; with ``causes=False`` the ranks mean nothing.
    faults : DataFrame
        One row for each fault: service, endpoint, start, end (UTC; NaT = not ended), as
        ``FaultLog.faults()`` gives it. Without an endpoint it is a whole service. Optional:
        ``affected``, the (service, endpoint) pairs that it truly affects, known from a twin
        (default: any), and ``group``, equal for faults that one incident should hold (default:
        none).
    slack_s : float
        Seconds after the end of a fault in which a new anomaly may still show it. Higher: more
        lenient.

    Raises
    ------
    ValueError
        Names the column that is missing; or `slack_s` is not a number from 0 to a billion.

    Notes
    -----
    An anomaly at the endpoint of a fault in force shows that fault; elsewhere it shows the fault
    that was the latest to start when the anomaly began, for as long as it lasts. What began before
    every fault shows none, so an incident before its fault is a false one. A fault counts once,
    however many windows it lasts: there is no point adjustment, which lets a lucky point stand for
    a whole fault (Kim et al. 2022, arXiv 2109.05257). Incidents of severity "info" do not count:
    they offer a level as the new normal, and call nobody. One that was "info" at first and became
    more counts from its first anomaly: a report does not hold when it changed.
    """
    slack = plain_number("slack_s", slack_s)
    if slack < 0:
        raise FieldError("slack_s", "must be >= 0", slack_s)
    return score_truth(report, truth_of(faults), int(slack * 1e9))


def without_info(report: Report) -> Report:
    """Return a report without the incidents of severity "info", of which nobody is told."""
    incidents = [i for i in report.incidents if i.severity != INFO]
    return report._replace(incidents=incidents)


class KnownFault(NamedTuple):
    """An injected fault: place (endpoint None: the whole service), Unix ns (`NEVER`: not ended)."""

    place: FaultPlace
    start: int
    end: int
    affected: set[Key] | None  # None: any
    group: Any

    def length_ns(self, until: int) -> int:
        """Return for how long it was in force up to a moment."""
        return max(min(self.end, until) - self.start, 0)


class _Shown(NamedTuple):
    """An anomaly that shows a fault: the position of the fault, the incident, its end (Unix ns)."""

    fault: int
    incident: str
    end: int


def truth_of(faults: pd.DataFrame) -> list[KnownFault]:
    """Return the rows of `faults`, a table as `score` takes it."""
    if not isinstance(faults, pd.DataFrame):
        raise FieldError("faults", "must be a DataFrame, a row a fault", faults)
    for column in ("service", "endpoint", "start", "end"):
        if column not in faults.columns:
            raise ValueError(f"faults must have the column {column!r}, got {list(faults.columns)}")
    truth = []
    for number, fault in enumerate(faults.to_dict("records")):
        endpoint = fault["endpoint"]
        is_named = isinstance(endpoint, str) and endpoint
        affected = fault.get("affected")
        known = KnownFault(
            place=(fault["service"], endpoint if is_named else None),
            start=_unix_ns(fault["start"]),
            end=_unix_ns(fault["end"]),
            affected=affected and set(map(tuple, affected)),
            group=fault.get("group", number),
        )
        truth.append(known)
    return truth


def _unix_ns(time: Any) -> int:
    moment = pd.to_datetime(time, utc=True)
    return NEVER if pd.isna(moment) else unix_ns(moment)


def score_truth(report: Report, truth: list[KnownFault], slack_ns: int) -> Score:
    """Return the score of a replay; `truth` as `truth_of` makes it."""
    report = without_info(report)
    incidents = report.incidents
    shown = _shown(report, truth, slack_ns)
    end, hours = _length(report.windows)
    events = [_event(fault, n, shown) for n, fault in enumerate(truth)]
    detect_s = [event.detect_s for event in events]
    detected = [event.detect_s for event in events if event.incidents]
    lengths_s = [fault.length_ns(end) / 1e9 for fault in truth]
    missed_s = np.fmin(detect_s, lengths_s).sum()
    causes: dict[str, set[FaultPlace]] = {}
    for one in shown:
        places = causes.setdefault(one.incident, set())
        places.add(truth[one.fault].place)
    right = [i for i in incidents if i.id in causes]
    n_false = len(incidents) - len(right)
    ranks = [rank_of(i.suspects, causes[i.id]) for i in right]
    groups = [(one.incident, truth[one.fault].group) for one in shown]
    return Score(
        faults=len(truth),
        incidents=len(incidents),
        hours=hours,
        precision=_share(len(right), len(incidents)),
        recall=_share(len(detected), len(truth)),
        median_detect_s=float(np.median(detected)) if detected else nan,
        worst_detect_s=max(detected, default=nan),
        false_incidents_per_hour=_share(n_false, hours),
        grouping_f1=_pairwise_f1(groups),
        pages=sum(len(i.episodes) for i in incidents),
        missed_minutes=float(missed_s / 60),
        false_incident_minutes=_false_incident_minutes(incidents, truth),
        events=tuple(events),
        ranks=tuple(ranks),
    )


def _is_at(place: FaultPlace, key: Key) -> bool:
    service, _ = key
    return place in (key, (service, None))


def _shown(report: Report, truth: list[KnownFault], slack_ns: int) -> list[_Shown]:
    """Return the anomalies that show a fault, each with its incident."""
    shown = []
    homes = _homes(report.incidents)
    # of an anomaly that goes on: its last end, and its fault or -1
    running: dict[Kind, tuple[int, int]] = {}
    in_order = sorted(report.anomalies, key=lambda a: (a.end, a.key, a.type))
    for anomaly in in_order:
        kind = anomaly.type, anomaly.key
        low = unix_ns(anomaly.window)
        high = unix_ns(anomaly.end)
        until, fault = running.get(kind, (-1, -1))
        possible = _in_force(truth, anomaly.key, low - slack_ns, high)
        own = [n for n in possible if _is_at(truth[n].place, anomaly.key)]
        if own or until < low:
            newest_last = sorted(own or possible, key=lambda n: (truth[n].start, n))
            fault = newest_last[-1] if newest_last else -1
        running[kind] = high, fault
        of_kind = homes.get(kind, ())
        holders = [home.incident for home in of_kind if home.holds(low, high)]
        if fault >= 0 and holders:
            shown.append(_Shown(fault, holders[0], high))
    return shown


def _in_force(truth: list[KnownFault], key: Key, since: int, until: int) -> list[int]:
    """Return the positions of the faults that may affect an endpoint in a time."""
    possible = []
    for n, fault in enumerate(truth):
        is_reached = fault.affected is None or key in fault.affected
        if is_reached and fault.start < until and since < fault.end:
            possible.append(n)
    return possible


class _Home(NamedTuple):
    """A time (Unix ns) in which an incident was at work."""

    since: int
    until: int
    incident: str

    def holds(self, low: int, high: int) -> bool:
        """Return whether the time from `low` to `high` lies in it."""
        return self.since <= low and high <= self.until


def _homes(incidents: list[Incident]) -> dict[Kind, list[_Home]]:
    """Return for each type and endpoint of anomalies the episodes of its incidents, the latest
    first.
    """
    homes: dict[Kind, list[_Home]] = {}
    for incident in incidents:
        kinds = dict.fromkeys((a.type, a.key) for a in incident.anomalies)
        for low, high in incident.episodes:
            home = _Home(unix_ns(low), unix_ns(high), incident.id)
            for kind in kinds:
                homes.setdefault(kind, []).append(home)
    return {kind: sorted(some, reverse=True) for kind, some in homes.items()}


def _event(fault: KnownFault, position: int, shown: list[_Shown]) -> Event:
    own = [one for one in shown if one.fault == position]
    first_end = min((one.end for one in own), default=nan)
    names = {one.incident for one in own}
    return Event(
        *fault.place,
        start=to_timestamp(fault.start),
        detect_s=(first_end - fault.start) / 1e9,
        incidents=tuple(sorted(names)),
    )


def _false_incident_minutes(incidents: list[Incident], truth: list[KnownFault]) -> float:
    episodes = chain.from_iterable(incident.episodes for incident in incidents)
    at_work = [(unix_ns(low), unix_ns(high)) for low, high in episodes]
    broken = [(fault.start, fault.end) for fault in truth]
    beside_faults = _covered(at_work + broken) - _covered(broken)
    return beside_faults / 6e10


def _covered(spells: list[tuple[int, int]]) -> int:
    """Return for how long any of the spells lasts."""
    total = 0
    reached = 0
    for low, high in sorted(spells):
        begin = max(low, reached)
        total += max(high - begin, 0)
        reached = max(reached, high)
    return total


def _length(windows: pd.DataFrame) -> tuple[int, float]:
    """Return when a recording ended (Unix ns), and how many hours it lasted."""
    if windows.empty:
        return 0, 0.0
    begin = unix_ns(windows["window"].min())
    end = unix_ns(windows["end"].max())
    return end, (end - begin) / 3.6e12


def _share(part: float, whole: float) -> float:
    return part / whole if whole else nan


def _pairwise_f1(items: list[tuple[Any, Any]]) -> float:
    """Return 2 x pairs that are together in both divisions / (pairs together in the one + in the
    other).
    """
    one = _pairs([label for label, _ in items])
    other = _pairs([label for _, label in items])
    return _share(2 * _pairs(items), one + other)


def _pairs(labels: list[Any]) -> int:
    """Return the number of ordered pairs of equal labels."""
    sizes = Counter(labels).values()
    return sum(n * (n - 1) for n in sizes)
