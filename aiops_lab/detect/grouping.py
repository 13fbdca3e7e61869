"""Which anomalies belong together? They are sorted into incidents, window by window.

An anomaly at an endpoint that an open incident already has joins that incident. An anomaly at
another endpoint joins if traces or a call link it to the incident. If it begins more than
`LATE_WINDOWS` later, the cause of the incident must explain it, too, even at an endpoint that the
incident has: a common caller is a victim of many causes. What no cause explains is another
incident. Incidents whose first suspects are the same become one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain, permutations, product
from typing import NamedTuple, Protocol

import pandas as pd

from aiops_lab.detect.incidents import ACKNOWLEDGED, ACTIVE, RESOLVED, Incident, Life
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.results import Anomaly
from aiops_lab.spans import Key

MOVES = {(ACTIVE, ACKNOWLEDGED), (ACTIVE, RESOLVED), (ACKNOWLEDGED, RESOLVED)}

LATE_WINDOWS = 2
"""Windows after which a new anomaly must be explained by the cause of its incident. Raising it
joins faults that begin soon after each other; 2 leave a fault the time to reach its callers."""

CAUSES_COMPARED = 2
"""How many of the best suspects count as causes where two verdicts are compared."""

MIN_SHARED_TRACES = 2
"""Traces that must show both of two anomalies to link them: a client may send everything it does
under one. Raising it leaves what calls do not link apart."""

_ACCEPTED = Life.ACCEPTED, "as normal"
_BY_HAND = Life.RESOLVED, "by hand"

Calls = Callable[[Key, Key], bool]  # (caller, called): has the one been seen calling the other?


class IllegalMoveError(ValueError):
    """A step of the life cycle that does not exist, such as resolving twice."""


class Causes(Protocol):
    """What is known of causes as of the window that is taken in."""

    def causes(self, incident: Incident) -> list[Key]:
        """Return the suspects of an incident, best first."""

    def origins(self, anomalies: list[Anomaly]) -> list[Key]:
        """Return where the excess of some anomalies originates, best first."""


class _Known(NamedTuple):
    """The end of the window that is taken in, and what is known then of calls and causes."""

    end: pd.Timestamp
    calls: Calls
    causes: Causes | None


class IncidentManager:
    """Sorts anomalies into incidents, window by window, and moves incidents through their life
    cycle.

    Parameters
    ----------
    sensitivity : Sensitivity
        ``correlation_s``, ``resolve_after_s`` and ``window_s`` are used.
    incidents : iterable of Incident
        Those that are known already.
    """

    def __init__(self, sensitivity: Sensitivity, incidents: Iterable[Incident] = ()) -> None:
        self.incidents = {incident.id: incident for incident in incidents}
        self.merged: dict[str, str] = {}  # id of an incident that was merged into another: its id
        self._correlation = pd.Timedelta(sensitivity.correlation_s, unit="s")
        self._resolve_after = pd.Timedelta(sensitivity.resolve_after_s, unit="s")
        self._window = pd.Timedelta(sensitivity.window_s, unit="s")

    def window(
        self,
        end: pd.Timestamp,
        anomalies: list[Anomaly],
        calls: Calls,
        causes: Causes | None = None,
    ) -> list[Incident]:
        """Take in the anomalies of one window that ends at `end`; return the incidents they went
        to.

        Two anomalies are linked when they share an endpoint, traces, or a call edge. Without
        `causes` links alone decide, and no incidents are merged.
        """
        self.tick(end)
        known = _Known(end, calls, causes)
        touched: dict[str, Incident] = {}
        due: dict[str, bool] = {}
        for group in _components(anomalies, calls):
            for incident, part in self._sorted(group, known):
                due.setdefault(incident.id, self._is_due(incident, end))
                incident.take_in(part, end)
                touched[incident.id] = incident
        if causes is not None:
            merged = self._merge(due, causes)
            touched |= {incident.id: incident for incident in merged}
        return [incident for incident in touched.values() if incident.id in self.incidents]

    def tick(self, now: pd.Timestamp) -> list[Incident]:
        """Resolve the incidents that have been without an anomaly for long enough; return them."""
        quiet = []
        for incident in self._open():
            last = incident.last_anomaly
            resolves_at = last + self._resolve_after
            if now < last:  # it was found while a clock was ahead
                resolves_at = last
            elif now < resolves_at:
                continue
            incident.status = RESOLVED
            incident.resolved_at = resolves_at
            incident.add_event(resolves_at, Life.RESOLVED, "by itself")
            quiet.append(incident)
        return quiet

    def find(self, incident_id: str) -> Incident:
        """Return an incident by its id, or the one into which it was merged.

        Raises
        ------
        KeyError
            If there is none.
        """
        while incident_id in self.merged:
            incident_id = self.merged[incident_id]
        return self.incidents[incident_id]

    def move(
        self, incident_id: str, status: str, now: pd.Timestamp, *, accepted: bool = False
    ) -> Incident:
        """Acknowledge or resolve an incident by hand; `accepted` says that its level is meant.

        Raises
        ------
        KeyError
            If there is no such incident.
        IllegalMoveError
            If the life cycle has no such step; the message names the incident and both states.
        """
        incident = self.find(incident_id)
        if (incident.status, status) not in MOVES:
            raise IllegalMoveError(
                f"incident {incident_id} is {incident.status} and cannot become {status}"
            )
        incident.status = status
        if status == ACKNOWLEDGED:
            incident.acknowledged_at = now
            incident.add_event(now, Life.ACKNOWLEDGED)
        else:
            incident.resolved_at = now
            incident.add_event(now, *(_ACCEPTED if accepted else _BY_HAND))
        return incident

    def undo_accept(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Take back that the level of an incident is meant: it is what it was before.

        That holds for ``correlation_s`` after it was accepted: what comes back later is another
        incident.

        Raises
        ------
        KeyError
            If there is no such incident.
        IllegalMoveError
            If it was not accepted, or too long ago.
        """
        incident = self.find(incident_id)
        if not self.may_undo(incident, now):
            seconds = self._correlation.total_seconds()
            raise IllegalMoveError(
                f"incident {incident_id} was not accepted as normal in the last {seconds:g} s"
            )
        steps = Life.ACKNOWLEDGED, Life.REOPENED
        moves = [event.what for event in incident.history if event.what in steps]
        was_acknowledged = moves[-1:] == [Life.ACKNOWLEDGED]
        incident.status = ACKNOWLEDGED if was_acknowledged else ACTIVE
        incident.resolved_at = None
        incident.add_event(now, Life.TAKEN_BACK)
        return incident

    def may_undo(self, incident: Incident, now: pd.Timestamp) -> bool:
        """Return whether `undo_accept` would do it."""
        if not incident.history:
            return False
        last = incident.history[-1]
        return last.what == Life.ACCEPTED and now - last.time <= self._correlation

    def _open(self) -> list[Incident]:
        """Return the incidents that are not resolved, the oldest first."""
        unresolved = [i for i in self.incidents.values() if i.status != RESOLVED]
        return sorted(unresolved, key=_age)

    def _recent(self, incident: Incident, end: pd.Timestamp) -> bool:
        # one whose last anomaly lies ahead was found while a clock was
        since = end - incident.last_anomaly
        return pd.Timedelta(0) <= since <= self._correlation

    def _sorted(self, group: list[Anomaly], known: _Known) -> list[tuple[Incident, list[Anomaly]]]:
        """Return to which incidents the anomalies of a linked group go."""
        parts: dict[str, list[Anomaly]] = defaultdict(list)
        rest = []
        for anomaly in group:
            incident = self._at_endpoint(anomaly, group, known)
            if incident is None:
                rest.append(anomaly)
            else:
                parts[incident.id].append(anomaly)
        for part in _components(rest, known.calls):
            incident = self._home(part, group, known)
            parts[incident.id] += part
        return [(self.incidents[name], part) for name, part in parts.items()]

    def _at_endpoint(
        self, anomaly: Anomaly, group: list[Anomaly], known: _Known
    ) -> Incident | None:
        """Return the open incident at whose endpoint an anomaly is: the one that it goes on in,
        else the one that explains it.

        At an origin it joins however long ago the last anomaly was: after more than `correlation_s`
        as a new episode.
        """
        holders = [i for i in self._open() if self._holds(i, anomaly, known)]
        incident = None
        if known.causes is not None:
            incident = self._going_on(holders, anomaly, group, known.calls)
        if incident is None:
            incident = self._explaining(holders, [anomaly], known)
        if incident is None and known.causes is not None:
            abstaining = (i for i in holders if not known.causes.causes(i))
            incident = next(abstaining, None)
        if incident is not None and not self._recent(incident, known.end):
            incident.begin_episode(anomaly.began, known.end)
        return incident

    def _holds(self, incident: Incident, anomaly: Anomaly, known: _Known) -> bool:
        """Return whether an incident has the endpoint of an anomaly: recently, or as an origin."""
        if anomaly.key not in incident.keys:
            return False
        if self._recent(incident, known.end):
            return True
        return anomaly.key in _origin_keys(incident, known.calls)

    def _going_on(
        self, holders: list[Incident], anomaly: Anomaly, group: list[Anomaly], calls: Calls
    ) -> Incident | None:
        """Return the incident in which an anomaly goes on; of several, that which had it last."""
        kind = anomaly.type, anomaly.key
        candidates = (i for i in holders if self._goes_on(i, anomaly, group, calls))
        return max(candidates, key=lambda i: i.last_seen[kind], default=None)

    def _goes_on(
        self, incident: Incident, anomaly: Anomaly, group: list[Anomaly], calls: Calls
    ) -> bool:
        """Return whether an incident had the same anomaly shortly before, and still has a part in
        it: an origin that was abnormal shortly before, too, or nothing else is abnormal nearby.
        """
        shortly_before = anomaly.window - LATE_WINDOWS * self._window
        seen = {kind for kind, last in incident.last_seen.items() if last >= shortly_before}
        if (anomaly.type, anomaly.key) not in seen:
            return False
        if all(other.key in incident.keys for other in group):
            return True
        origins = _origins(incident.anomalies, calls)
        return not seen.isdisjoint(origins)

    def _home(self, part: list[Anomaly], group: list[Anomaly], known: _Known) -> Incident:
        """Return the incident of anomalies at endpoints that no open incident has, or whose causes
        do not explain them.

        That is an open one that is linked to them and explains them. Failing that, the oldest
        resolved one that comes back: the same kind of anomaly at the same origin, an endpoint that
        calls no other abnormal one. Failing that, a new one.
        """
        linked = [i for i in self._open() if self._is_linked(i, part, group, known)]
        incident = self._explaining(linked, part, known)
        if incident is not None:
            return incident
        origins = _origins(part, known.calls)
        for incident in sorted(self.incidents.values(), key=_age):
            may_come_back = incident.status == RESOLVED and self._recent(incident, known.end)
            if may_come_back and origins & _origins(incident.anomalies, known.calls):
                incident.begin_episode(_began(part), known.end)
                return incident
        return self._new(part, known.end, linked)

    def _is_linked(
        self, incident: Incident, part: list[Anomaly], group: list[Anomaly], known: _Known
    ) -> bool:
        """Return whether an incident is linked to anomalies, or now to those beside them."""
        if not self._recent(incident, known.end):
            return False
        if any(anomaly.key in incident.keys for anomaly in group):
            return True
        return _any_linked(incident.anomalies, part, known.calls)

    def _explaining(
        self, incidents: list[Incident], anomalies: list[Anomaly], known: _Known
    ) -> Incident | None:
        """Return the incident whose cause explains anomalies, of some that are linked to them.

        What began together is taken for one. Later, the excess of the anomalies must originate at
        the suspects of the incident, or where it has an origin; where none can be found, the link
        decides.
        """
        causes = known.causes
        oldest = next(iter(incidents), None)
        if causes is None or oldest is None:
            return oldest
        earliest = _began(anomalies) - LATE_WINDOWS * self._window
        together = [i for i in incidents if i.started >= earliest]
        if len(together) == len(incidents):
            return oldest
        origins = causes.origins(anomalies)[:CAUSES_COMPARED]
        if not origins:
            return oldest
        for origin, incident in product(origins, incidents):
            if origin in _origin_keys(incident, known.calls):
                return incident
            suspects = causes.causes(incident)
            if origin in suspects[:CAUSES_COMPARED]:
                return incident
        return next(iter(together), None)

    def _new(self, group: list[Anomaly], end: pd.Timestamp, linked: list[Incident]) -> Incident:
        keys = {anomaly.key for anomaly in group}
        earlier = [i for i in self.incidents.values() if i.keys & keys]
        last = max(earlier, key=lambda i: (i.last_anomaly, i.id), default=None)
        incident = Incident(
            id=self._new_id(end),
            first_detected=end,
            started=_began(group),
            last_anomaly=end,
            recurrence_of=last.id if last else None,
            beside=[other.id for other in linked],
        )
        self.incidents[incident.id] = incident
        return incident

    def _new_id(self, end: pd.Timestamp) -> str:
        """Return an id that no incident has or had."""
        prefix = f"INC-{int(end.timestamp())}-"
        taken = [*self.incidents, *self.merged]
        number = 1 + sum(name.startswith(prefix) for name in taken)
        return f"{prefix}{number}"

    def _is_due(self, incident: Incident, end: pd.Timestamp) -> bool:
        """Return whether the cause of an incident is compared again, with anomalies of this window:
        as it begins, and whenever its age has doubled since.
        """
        last = incident.last_anomaly
        if last == end:  # it has just begun, or its present episode has
            return True
        began = incident.first_detected
        if incident.earlier:
            began = incident.started + self._window
        windows_before = (last - began) // self._window + 1
        windows_now = (end - began) // self._window + 1
        return int(windows_before).bit_length() < int(windows_now).bit_length()

    def _merge(self, due: dict[str, bool], causes: Causes) -> list[Incident]:
        """Make incidents one whose first suspects are the same; return those that changed.

        `due` holds the incidents with anomalies in this window, and whether they are compared
        again. Of two that have some, the younger one decides that.
        """
        changed: list[Incident] = []
        compared = [self.incidents[name] for name, is_due in due.items() if is_due]
        for each in sorted(compared, key=_age):
            incident = self.find(each.id)
            others = [i for i in self.incidents.values() if self._may_merge(i, incident)]
            others = [i for i in others if i.id not in due or _age(i) < _age(incident)]
            if not others:
                continue
            cause = causes.causes(incident)[:1]
            if not cause:
                continue
            same = [i for i in others if causes.causes(i)[:1] == cause]
            into, *younger = sorted([incident, *same], key=_age)
            for other in younger:
                changed += self._merge_into(into, other)
        return changed

    def _may_merge(self, other: Incident, incident: Incident) -> bool:
        """Return whether an open incident may become one with another one: that is open, too, or
        it had resolved shortly before this one began.
        """
        if other is incident:
            return False
        if other.resolved_at is None:
            return True
        since = incident.first_detected
        return other.resolved_at <= since and self._recent(other, since)

    def _merge_into(self, into: Incident, other: Incident) -> list[Incident]:
        """Move an incident into an older one; return the incidents that changed."""
        is_apart = other.started - into.last_anomaly > self._correlation
        into.merge(other, apart=is_apart or into.status == RESOLVED)
        self.merged[other.id] = into.id
        del self.incidents[other.id]
        beside = [i for i in self.incidents.values() if other.id in i.beside]
        for third in beside:
            names = (into.id if name == other.id else name for name in third.beside)
            third.beside = [*dict.fromkeys(names)]
        return [into, *beside]


def _age(incident: Incident) -> tuple[pd.Timestamp, int]:
    """Return what sorts incidents by age."""
    _, _, number = incident.id.rpartition("-")
    return incident.first_detected, int(number)


def _began(anomalies: list[Anomaly]) -> pd.Timestamp:
    return min(anomaly.began for anomaly in anomalies)


def _linked(a: Anomaly, b: Anomaly, calls: Calls) -> bool:
    if a.key == b.key or _share_traces(a, b):
        return True
    return calls(a.key, b.key) or calls(b.key, a.key)


def _share_traces(a: Anomaly, b: Anomaly) -> bool:
    """Return whether traces show both, and more than those of one client."""
    crowded = {*a.crowded, *b.crowded}
    shared = set(a.traces) & set(b.traces) - crowded
    return len(shared) >= MIN_SHARED_TRACES


def _any_linked(some: list[Anomaly], others: list[Anomaly], calls: Calls) -> bool:
    return any(_linked(a, b, calls) for a, b in product(some, others))


def _origins(anomalies: list[Anomaly], calls: Calls) -> set[tuple[str, Key]]:
    """Return type and place of the anomalies whose endpoint calls none of the others' endpoints."""
    keys = {anomaly.key for anomaly in anomalies}
    callers = {caller for caller, called in permutations(keys, 2) if calls(caller, called)}
    return {(a.type, a.key) for a in anomalies if a.key not in callers}


def _origin_keys(incident: Incident, calls: Calls) -> set[Key]:
    return {key for _, key in _origins(incident.anomalies, calls)}


def _components(anomalies: list[Anomaly], calls: Calls) -> list[list[Anomaly]]:
    """Split anomalies into groups that are linked, directly or through others, in their order."""
    groups: list[list[Anomaly]] = []
    for anomaly in anomalies:
        near = [group for group in groups if _any_linked(group, [anomaly], calls)]
        groups = [group for group in groups if group not in near]
        groups.append([*chain.from_iterable(near), anomaly])
    return groups
