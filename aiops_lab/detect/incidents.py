"""What is an incident? Anomalies that belong together, their verdict, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import Any, get_args, get_origin, get_type_hints

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.results import (
    INFO,
    SEVERITIES,
    Anomaly,
    Explanation,
    Step,
    Suspect,
    Verdict,
    iso,
    kind_of,
)
from aiops_lab.spans import Key

STATUSES = ACTIVE, ACKNOWLEDGED, RESOLVED = "active", "acknowledged", "resolved"

LIFE_CYCLE = "status", "acknowledged_at", "resolved_at"
"""The fields of an incident that a person changes."""


class Life(StrEnum):
    """What can become of an incident. The detail is given in brackets."""

    OPENED = "opened"  # (its severity)
    SEVERITY = "severity"  # (from which to which)
    ACKNOWLEDGED = "acknowledged"
    RECURRED = "recurred"  # while it was open
    REOPENED = "reopened"  # after it had resolved
    MERGED = "merged"  # (the id of the incident that became part of it)
    ACCEPTED = "accepted"  # as normal, by hand
    TAKEN_BACK = "acceptance taken back"
    RESOLVED = "resolved"  # (by hand, or by itself)


@dataclass(frozen=True)
class LifeEvent:
    """What became of an incident at a ``time`` (UTC): ``what`` happened, a value of `Life`, with
    its ``detail``.
    """

    time: pd.Timestamp
    what: str
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the event as the HTTP interface shows it."""
        return {"time": iso(self.time), "what": self.what, "detail": self.detail}


@dataclass(repr=False)
class Incident:
    """Anomalies that belong together, with their verdict.

    Times are Timestamps in UTC. ``first_detected`` is the end of the first anomalous window,
    ``last_anomaly`` that of the last one. ``started`` is the start of the first one, or of the
    first one of its present episode: the verdict looks at what lies between ``started`` and
    ``last_anomaly``. ``earlier`` holds these bounds of earlier episodes. ``beside`` names the
    incidents that were open nearby when it began, and whose causes did not explain it. ``seen``
    holds when each of ``anomalies`` was seen last: the end of the window. ``merged`` names the
    younger incidents with the same cause that became part of it. ``history`` tells what became of
    it, the earliest first.
    """

    id: str
    first_detected: pd.Timestamp
    started: pd.Timestamp
    last_anomaly: pd.Timestamp
    status: str = ACTIVE
    anomalies: list[Anomaly] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    acknowledged_at: pd.Timestamp | None = None
    resolved_at: pd.Timestamp | None = None
    earlier: list[tuple[pd.Timestamp, pd.Timestamp]] = field(default_factory=list)
    recurrence_of: str | None = None
    beside: list[str] = field(default_factory=list)
    seen: list[pd.Timestamp] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    history: list[LifeEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        # a version before did not store them
        missing = len(self.anomalies) - len(self.seen)
        self.seen += [self.last_anomaly] * missing

    def __repr__(self) -> str:
        cause = self.root_cause
        named = "no cause found"
        if cause is not None:
            named = f"root cause {cause.name or cause.endpoint}"
        return f"<Incident {self.id} {self.severity} {self.status}: {self.title}; {named}>"

    @property
    def severity(self) -> str:
        """The worst severity of its anomalies; of a level that is offered as the new normal,
        "info".
        """
        worst = max((a.severity for a in self.anomalies), key=SEVERITIES.index)
        if worst == SEVERITIES[0] and self.verdict.is_offered:
            return INFO
        return worst

    @property
    def suspects(self) -> list[Suspect]:
        return list(self.verdict.suspects)

    @property
    def root_cause(self) -> Suspect | None:
        """The first suspect, or None where the analysis abstains."""
        return self.verdict.cause

    @property
    def traces(self) -> list[str]:
        """The trace_ids of its bad requests, the first thousand."""
        return list(self.verdict.traces)

    @property
    def affected_endpoints(self) -> list[str]:
        """The endpoints whose degradation the cause explains; without a cause, or beside another
        incident, also those with anomalies.
        """
        seen = [a.name or a.endpoint for a in self.anomalies]
        if self.root_cause is None:
            return list(dict.fromkeys(seen))
        explained = list(self.verdict.affected)
        if not self.beside:
            return explained
        return list(dict.fromkeys(explained + seen))

    @property
    def episodes(self) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
        """When it was at work: one interval, and one more for each time that it was reopened."""
        return [*self.earlier, (self.started, self.last_anomaly)]

    @property
    def keys(self) -> set[Key]:
        """The (service, endpoint) of its anomalies."""
        return {a.key for a in self.anomalies}

    @property
    def last_seen(self) -> dict[tuple[str, Key], pd.Timestamp]:
        """When each type of anomaly was seen last at each endpoint: the end of the window."""
        kinds = ((anomaly.type, anomaly.key) for anomaly in self.anomalies)
        return dict(zip(kinds, self.seen, strict=True))

    @property
    def last_at(self) -> dict[Key, pd.Timestamp]:
        """When it was seen last at each endpoint that it concerns: at those with anomalies by
        these, at its cause and at others that it made worse by all.
        """
        names = {*self.affected_endpoints}
        rows = (row for row in self.verdict.endpoints if row["endpoint"] in names)
        keys = {(row["service"], row["route"]) for row in rows}
        if self.root_cause is not None:
            keys.add(self.root_cause.key)
        found = dict.fromkeys(keys, self.last_anomaly)
        for key in self.keys:
            found[key] = max(seen for (_, at), seen in self.last_seen.items() if at == key)
        return found

    @property
    def main_anomaly(self) -> Anomaly:
        """The anomaly to put first: the worst one at the root cause, else the worst of all.

        Of one severity, what stands out in a window comes before what shows in many windows only.
        """
        cause = self.root_cause
        at_cause = [a for a in self.anomalies if cause and a.key == cause.key]
        return max(at_cause or self.anomalies, key=_strength)

    @property
    def title(self) -> str:
        main = self.main_anomaly
        return f"{main.title} detected in {main.name or main.endpoint}"

    def begin_episode(self, started: pd.Timestamp, end: pd.Timestamp) -> None:
        """Begin a new episode, with a window that ends at `end`; if resolved, be active again."""
        self.earlier.append((self.started, self.last_anomaly))
        self.started = started
        self.last_anomaly = end
        if self.status != RESOLVED:
            self.add_event(end, Life.RECURRED)
            return
        self.add_event(end, Life.REOPENED)
        self.status = ACTIVE
        self.resolved_at = None

    def take_in(self, anomalies: list[Anomaly], end: pd.Timestamp) -> None:
        """Add the anomalies of a window that ends at `end`.

        There is one entry a type and endpoint, which keeps its first window and its worst numbers.
        """
        before = self.severity if self.anomalies else ""
        self.last_anomaly = end
        place = {(a.type, a.key): n for n, a in enumerate(self.anomalies)}
        for anomaly in anomalies:
            n = place.get((anomaly.type, anomaly.key))
            if n is None:
                self.anomalies.append(anomaly)
                self.seen.append(end)
            else:
                self.anomalies[n] = _worse(self.anomalies[n], anomaly)
                self.seen[n] = end
        after = self.severity
        if not before:
            self.add_event(end, Life.OPENED, after)
        elif after != before:
            self.add_event(end, Life.SEVERITY, f"{before} to {after}")

    def add_event(self, time: pd.Timestamp, what: str, detail: str = "") -> None:
        """Add to the history what happened at a time."""
        self.history.append(LifeEvent(time, str(what), detail))

    def take_life_cycle(self, record: dict[str, Any]) -> None:
        """Take over what `life_cycle` returned: what people did to it meanwhile."""
        hints = get_type_hints(Incident)
        for name, value in record.items():
            setattr(self, name, _read(hints[name], value))

    def merge(self, other: Incident, *, apart: bool) -> None:
        """Take in a younger incident, as an episode of its own if the two are `apart`.

        If somebody is at work on either, so are they on both.
        """
        last = max(self.last_anomaly, other.last_anomaly)
        if apart:
            self.begin_episode(other.started, last)
        known = self.last_seen
        seen = other.last_seen
        self.add_event(last, Life.MERGED, other.id)
        self.take_in(other.anomalies, last)
        self.seen = [_latest(known.get(kind), seen.get(kind)) for kind in self.last_seen]
        self.merged += [other.id, *other.merged]
        if other.status == ACKNOWLEDGED and self.status == ACTIVE:
            self.status = ACKNOWLEDGED
            self.acknowledged_at = other.acknowledged_at
            self.add_event(last, Life.ACKNOWLEDGED, f"as {other.id} was")

    def explain(self) -> Explanation:
        """Return the steps that led to the root cause, each with the rows it used, the last with
        traces that show it.

        It is a list; printed it reads as a text, in a notebook as a page.
        """
        return self.verdict.explain()

    def why_not(self, endpoint: str) -> Step:
        """Return why `endpoint` (as shown) is not the root cause, or is not held to be.

        Raises
        ------
        ValueError
            If the incident's requests never touched that endpoint.
        """
        return self.verdict.why_not(endpoint)

    def to_dict(self) -> dict[str, Any]:
        """Return the incident as the HTTP interface shows it."""
        root_cause = None
        if self.root_cause is not None:
            description = self.main_anomaly.description
            root_cause = self.root_cause.to_dict() | {"description": description}
        changes = chain.from_iterable(step.rows for step in self.verdict.changes)
        anomalies = [anomaly.to_dict() for anomaly in self.anomalies]
        suspects = [suspect.to_dict() for suspect in self.suspects]
        history = [event.to_dict() for event in self.history]
        return {
            "id": self.id,
            "severity": self.severity,
            "status": self.status,
            "title": self.title,
            "root_cause": root_cause,
            "suspects": suspects,
            "affected_endpoints": self.affected_endpoints,
            "anomalies": anomalies,
            "trace_correlation": {
                "total_traces": self.verdict.total_traces,
                "sample_traces": list(self.verdict.sample_traces),
            },
            "changes": list(changes),
            "first_detected": iso(self.first_detected),
            "last_anomaly": iso(self.last_anomaly),
            "acknowledged_at": iso(self.acknowledged_at),
            "resolved_at": iso(self.resolved_at),
            "reopened": len(self.earlier),
            "recurrence_of": self.recurrence_of,
            "merged": list(self.merged),
            "history": history,
        }

    def to_record(self) -> dict[str, Any]:
        """Return the incident as JSON-ready data that `from_record` reads back exactly."""
        return json.loads(json.dumps(asdict(self), default=_plain))

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Incident:
        """Return the incident that `to_record` wrote, also that of a version with other words, or
        without a history.
        """
        verdict = _renamed(record["verdict"])
        incident = _read(cls, record | {"verdict": verdict})
        if "history" not in record:
            incident.history = _known_history(incident)
        return incident


def of_status(incidents: Iterable[Incident], status: str | None) -> list[Incident]:
    """Return the incidents with a status, of None all; FieldError where there is no such status."""
    if status is None:
        return list(incidents)
    if status not in STATUSES:
        raise FieldError("status", f"must be one of {', '.join(STATUSES)}", status)
    return [incident for incident in incidents if incident.status == status]


def last_anomalies(incidents: Iterable[Incident]) -> dict[Key, pd.Timestamp]:
    """Return when an incident that is not resolved was last seen at each endpoint: where it has
    anomalies, at its cause, and at what that made worse. One of severity "info" is left out.
    """
    found: dict[Key, pd.Timestamp] = {}
    for incident in incidents:
        if incident.status == RESOLVED or incident.severity == INFO:
            continue
        for key, seen in incident.last_at.items():
            found[key] = max(seen, found.get(key, seen))
    return found


def _known_history(incident: Incident) -> list[LifeEvent]:
    """Return what the times of an incident tell of its history."""
    severity = incident.severity if incident.anomalies else ""
    known = [LifeEvent(incident.first_detected, str(Life.OPENED), severity)]
    for begin, _ in incident.episodes[1:]:
        known.append(LifeEvent(begin, str(Life.REOPENED)))
    if incident.acknowledged_at is not None:
        known.append(LifeEvent(incident.acknowledged_at, ACKNOWLEDGED))
    if incident.resolved_at is not None:
        known.append(LifeEvent(incident.resolved_at, RESOLVED))
    return sorted(known, key=lambda event: event.time)


def life_cycle(stored: dict[str, Any], own: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what people did to an incident, of a stored record of it: status, times, and history.

    `own`, a record of the same incident that is not stored yet, adds its part of the history.
    """
    history = list(stored.get("history", []))
    events = [] if own is None else own["history"]
    history += [event for event in events if event not in history]
    history.sort(key=lambda event: event["time"])
    return {name: stored[name] for name in LIFE_CYCLE} | {"history": history}


_OLD_WORDS = {"blames": "attributed_to", "handed": "reassigned"}


def _renamed(value: Any) -> Any:
    """Return a stored verdict in the words of today."""
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    if not isinstance(value, dict):
        return value
    parts = {_OLD_WORDS.get(name, name): _renamed(part) for name, part in value.items()}
    if parts.get("by") == "symptoms":
        parts["by"] = "deviations"
    return parts


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return unix_ns(value)
    return value.item()  # a number of numpy's


def _read(kind: Any, value: Any) -> Any:
    """Return JSON-ready data as what it was: a dataclass, a list or tuple, or a time, by its type
    hint `kind`.
    """
    fields, container, element, may_be_time = _shape(kind)
    if fields is not None:
        return kind(**{name: _read(fields[name], part) for name, part in value.items()})
    if container is not None:
        return container(_read(element, part) for part in value)
    if may_be_time and value is not None:
        return to_timestamp(value)
    return value


@cache
def _shape(kind: Any) -> tuple[dict[str, Any] | None, Any, Any, bool]:
    """Return what a type hint says: of a dataclass the hints of its fields, of a list or tuple
    which of the two and the hint of its elements, and whether it may be a time.

    It is asked for each value of thousands of incidents, and takes longer than to read one.
    """
    fields = get_type_hints(kind) if is_dataclass(kind) else None
    container = get_origin(kind) if get_origin(kind) in (list, tuple) else None
    arguments = get_args(kind)
    element = arguments[0] if container is not None else None
    return fields, container, element, pd.Timestamp in (kind, *arguments)


def _latest(one: pd.Timestamp | None, other: pd.Timestamp | None) -> pd.Timestamp:
    return max(moment for moment in (one, other) if moment is not None)


def _worse(known: Anomaly, new: Anomaly) -> Anomaly:
    if _badness(new) <= _badness(known):
        return known
    return replace(new, window=known.window, end=known.end, since=known.since)


def _strength(anomaly: Anomaly) -> tuple[int, bool]:
    """Return how strong an anomaly is, compared with those of other types."""
    kind = kind_of(anomaly.type)
    is_clear = kind is None or not kind.is_faint
    severity = SEVERITIES.index(anomaly.severity)
    return severity, is_clear


def _badness(anomaly: Anomaly) -> tuple[int, float]:
    """Return how bad an anomaly is: its severity, then the size of its kind."""
    kind = kind_of(anomaly.type)
    names = kind.size if kind else ()
    sizes = (anomaly.evidence[name] for name in names if name in anomaly.evidence)
    severity = SEVERITIES.index(anomaly.severity)
    return severity, float(next(sizes, 0.0))
