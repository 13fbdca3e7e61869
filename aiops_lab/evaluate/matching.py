"""Which incident tells of which fault, and why is a fault missed? One incident for each origin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import nan
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.detect.incidents import Incident
from aiops_lab.evaluate.scoring import (
    SLACK_S,
    KnownFault,
    Score,
    rank_of,
    score_truth,
    truth_of,
    without_info,
)
from aiops_lab.numerics import unix_ns
from aiops_lab.pipeline import Report
from aiops_lab.results import INFO


class Match(NamedTuple):
    """What became of one origin: one fault, or several that recur.

    ``faults``: their positions in the table. ``incident``: the id of the one that names the cause
    early enough, None where none does. ``rank``: of the cause there, 0 = missed. ``detect_s``: from
    the start of the first fault to the end of the first window that shows any of them, NaN = never.
    ``shown_in``: ids of the incidents that hold its anomalies. ``missed``: the reason, "" if
    matched.
    """

    faults: tuple[int, ...]
    incident: str | None
    rank: int
    detect_s: float
    shown_in: tuple[str, ...]
    missed: str


class Matching(NamedTuple):
    """The matches, one for each origin; ids of the incidents that show no fault (``false``), and of
    those that show one but are no match (``extra``).

    ``info``: ids of the incidents of severity "info", which are none of these: they show nothing
    but a small lasting shift that began at a noted change of its service, and call nobody.
    """

    matches: tuple[Match, ...]
    false: tuple[str, ...]
    extra: tuple[str, ...]
    info: tuple[str, ...] = ()


def match(
    report: Report, faults: pd.DataFrame, *, first: int = 2, slack_s: float = SLACK_S
) -> Matching:
    """Return for each origin of faults the incident that names its cause.

    Parameters
    ----------
    report : Report
        From `aiops_lab.replay`, with causes; or of a live monitor.
    faults, slack_s
        As for `aiops_lab.score`. Faults of an equal ``group`` are recurrences of one origin and
        count once.
    first : int
        The cause must be among so many first suspects. Default 2: two faults at once may be one
        incident. Higher: more lenient.

    Raises
    ------
    ValueError
        Names the column that is missing.

    Notes
    -----
    An incident matches an origin if it was at work during one of its faults, or up to `slack_s`
    later, and names its cause. Each suspect of an incident counts for one origin only: an incident
    that stays open from one fault at a place to the next one there matches one of the two.

    Which incidents show a fault at all, with the right cause or a wrong one, is decided as
    `aiops_lab.score` does.
    """
    truth = truth_of(faults)
    slack_ns = int(slack_s * 1e9)
    info = tuple(i.id for i in report.incidents if i.severity == INFO)
    report = without_info(report)
    score = score_truth(report, truth, slack_ns)
    taken: set[tuple[str, int]] = set()
    matches = []
    for positions in _origins(truth):
        some = [truth[n] for n in positions]
        named = []
        for incident in report.incidents:
            rank = _rank(incident, some)
            is_free = (incident.id, rank) not in taken
            if is_free and 0 < rank <= first and _at_work(incident, some, slack_ns):
                named.append((rank, incident))
        rank, best = min(named, key=_preferred, default=(0, None))
        if best is not None:
            taken.add((best.id, rank))
        matches.append(_match(positions, best, rank, score))
    reasons = _Reasons(report, truth, score)
    for n, one in enumerate(matches):
        if one.incident is None:
            matches[n] = one._replace(missed=reasons.why(one.faults))
    telling = {name for event in score.events for name in event.incidents}
    matched = {m.incident for m in matches}
    ids = [i.id for i in report.incidents]
    false = [name for name in ids if name not in telling | matched]
    extra = [name for name in ids if name in telling - matched]
    return Matching(tuple(matches), tuple(false), tuple(extra), info)


def _origins(truth: Sequence[KnownFault]) -> list[tuple[int, ...]]:
    """Return the positions of the faults of each origin, in the order of their first start."""
    in_order = sorted(range(len(truth)), key=lambda n: truth[n].start)
    members: dict[object, list[int]] = {}
    for n in in_order:
        members.setdefault(truth[n].group, []).append(n)
    return [tuple(positions) for positions in members.values()]


def _at_work(incident: Incident, faults: Iterable[KnownFault], slack_ns: int) -> bool:
    spells = [(unix_ns(low), unix_ns(high)) for low, high in incident.episodes]
    for fault, (low, high) in product(faults, spells):
        if fault.start < high and low < fault.end + slack_ns:
            return True
    return False


def _rank(incident: Incident, faults: Sequence[KnownFault]) -> int:
    places: list[Any] = [fault.place for fault in faults]
    return rank_of(incident.suspects, places)


def _preferred(found: tuple[int, Incident]) -> tuple[int, pd.Timestamp, str]:
    rank, incident = found
    return rank, incident.first_detected, incident.id


def _match(positions: tuple[int, ...], best: Incident | None, rank: int, score: Score) -> Match:
    events = [score.events[n] for n in positions]
    shown: set[str] = set()
    ends = []
    for event in events:
        shown |= set(event.incidents)
        if event.incidents:
            delay = pd.Timedelta(event.detect_s, unit="s")
            ends.append(event.start + delay)
    detect_s = nan
    if ends:
        first_start = events[0].start
        detect_s = (min(ends) - first_start).total_seconds()
    return Match(
        faults=positions,
        incident=best.id if best else None,
        rank=rank,
        detect_s=detect_s,
        shown_in=tuple(sorted(shown)),
        missed="",
    )


class _Reasons:
    """Says why no incident names a cause."""

    def __init__(self, report: Report, truth: Sequence[KnownFault], score: Score) -> None:
        self.incidents = {i.id: i for i in report.incidents}
        self.truth = truth
        self.shown = [event.incidents for event in score.events]

    def why(self, positions: tuple[int, ...]) -> str:
        """Return why the origin with the faults at these positions is missed."""
        shown = {name for n in positions for name in self.shown[n]}
        if not shown:
            return "not detected"
        faults = [self.truth[n] for n in positions]

        def distance(incident: Incident) -> tuple[float, bool, str]:
            rank = _rank(incident, faults)
            return rank or 1e9, self._older(incident, faults), incident.id

        # the one that comes nearest to the cause, else the first that the fault itself opened
        best = min((self.incidents[name] for name in shown), key=distance)
        return f"{self._reason(best, positions, faults)} in {best.id}"

    def _reason(
        self, incident: Incident, positions: tuple[int, ...], faults: Sequence[KnownFault]
    ) -> str:
        rank = _rank(incident, faults)
        if self._older(incident, faults):
            held = f"rank {rank}" if rank else "not named"
            return f"swallowed ({held})"
        if rank:
            return f"only rank {rank}"
        others = self._others(incident.id, positions)
        if others:
            return f"merged with faults {others}"
        return "cause wrong" if incident.suspects else "no cause named"

    def _older(self, incident: Incident, faults: Sequence[KnownFault]) -> bool:
        return unix_ns(incident.first_detected) <= faults[0].start

    def _others(self, name: str, positions: tuple[int, ...]) -> list[int]:
        shown = [n for n, names in enumerate(self.shown) if name in names]
        return [n for n in shown if n not in positions]
