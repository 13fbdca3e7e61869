"""What is worth telling of an incident? That it opened, became worse, or ended, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from aiops_lab.detect.incidents import ACKNOWLEDGED, ACTIVE, RESOLVED, Incident
from aiops_lab.endpoints import printable
from aiops_lab.results import INCIDENT_SEVERITIES, INFO

OPENED, REOPENED, CHANGED, MERGED, SUMMED_UP = "opened", "reopened", "changed", "merged", "summary"
"""Events beside ``acknowledged`` and ``resolved``. Changed: more severe, or its first cause."""

MOST_TITLE = 120  # characters
MOST_NOTICE_NAME = 80  # of an endpoint
MOST_AFFECTED = 5  # endpoints
MOST_SUMMARIZED = 20  # incidents that a summary names

# An invisible character behind what a service such as Slack could take for a mention.
NO_MENTIONS = str.maketrans({"@": "@\u2060", "<": "<\u2060"})


class Notice(NamedTuple):
    """A message about an incident, in plain text; `url` is the address of its page, or empty."""

    incident_id: str
    event: str
    severity: str
    title: str
    body: str
    url: str = ""


class Told(NamedTuple):
    """What was told of an incident: its state, and when it was told that it came back (Unix ns)."""

    status: str
    severity: str
    has_cause: bool
    reopened_ns: int = 0

    def is_worse(self, incident: Incident) -> bool:
        """Return whether an incident is more severe than was told."""
        return rank(incident.severity) > rank(self.severity)


def rank(severity: str) -> int:
    """Return how bad a severity is, from 0."""
    return INCIDENT_SEVERITIES.index(severity)


def event_of(incident: Incident, told: Told | None, now_ns: int, quiet_ns: int) -> str | None:
    """Return what is to be told of an incident now, None for nothing.

    Once it was told that an incident came back, its further ends and returns are told `quiet_ns`
    later at the earliest, and only what is true then; that it is worse is told at once. Of a level
    that is offered as the new normal nothing is told, unless it was more before.
    """
    status = incident.status
    if told is None:
        if incident.severity == INFO:
            return None
        return OPENED if status == ACTIVE else status
    is_worse = told.is_worse(incident)
    if status != told.status:
        is_quiet = now_ns - told.reopened_ns < quiet_ns
        if is_quiet and status != ACKNOWLEDGED and not is_worse:
            return None
        return REOPENED if status == ACTIVE else status
    if status == RESOLVED:
        return None
    has_cause = incident.root_cause is not None
    has_first_cause = has_cause and not told.has_cause
    return CHANGED if has_first_cause or is_worse else None


def told_of(incident: Incident, event: str, told: Told | None, now_ns: int) -> Told:
    """Return what was told once a notice has arrived."""
    has_cause = incident.root_cause is not None
    reopened_ns = 0
    if told is not None:
        has_cause = has_cause or told.has_cause
        reopened_ns = told.reopened_ns
    if event == REOPENED:
        reopened_ns = now_ns
    return Told(incident.status, incident.severity, has_cause, reopened_ns)


def notice_of(incident: Incident, event: str, server: str = "", told: Told | None = None) -> Notice:
    """Return the notice of an event.

    `server` is the address of the live page, if it is known; `told` is what was told before.
    """
    title = _outside(incident.title, MOST_TITLE)
    shown = title if event == OPENED else f"{title} ({_event_text(incident, event, told)})"
    url = page_of(incident.id, server)
    lines = [
        *_worst(incident),
        _cause(incident),
        f"Severity: {incident.severity}. Status: {incident.status}{_moved(incident)}.",
        f"Since: {_utc(incident.started)}.",
        f"Affected: {_names(incident.affected_endpoints)}.",
        f"Incident: {incident.id}",
    ]
    if url:
        lines.append(f"Page: {url}")
    return Notice(incident.id, event, incident.severity, shown, "\n".join(lines), url)


def _event_text(incident: Incident, event: str, told: Told | None) -> str:
    """Return an event in a word or two; of a change what it is, where that is known."""
    if event != CHANGED or told is None:
        return event
    return f"now {incident.severity}" if told.is_worse(incident) else "cause found"


def merged_notice(id: str, other: Incident, server: str = "") -> Notice:
    """Return the notice that an incident is part of another one now."""
    told = notice_of(other, MERGED, server)
    shown = _outside(other.title, MOST_TITLE)
    title = f"{id} is part of {other.id} now"
    return told._replace(incident_id=id, title=title, body=f"{shown}\n{told.body}")


def summary_of(notices: Sequence[Notice], server: str = "") -> Notice:
    """Return one notice in place of many."""
    worst = max((each.severity for each in notices), key=rank)
    told = [f"{each.incident_id} {each.severity}: {each.title}" for each in notices]
    lines = told[:MOST_SUMMARIZED]
    more = len(told) - MOST_SUMMARIZED
    if more > 0:
        lines.append(f"and {more} more")
    url = f"{server}/aiops/" if server else ""
    if url:
        lines.append(f"Page: {url}")
    title = f"{len(notices)} more notices of incidents"
    return Notice("", SUMMED_UP, worst, title, "\n".join(lines), url)


def page_of(id: str, server: str) -> str:
    """Return the address of an incident's page; empty where that of the server is not known."""
    return f"{server}/aiops/page/incidents/{id}" if server else ""


def _worst(incident: Incident) -> list[str]:
    """Return the figures of the main anomaly, in a line; none where they cannot be told."""
    main = incident.main_anomaly
    try:
        figures = main.description
    except Exception:  # a detector of a user's own describes its evidence as it likes
        return []
    where = _outside(main.name or main.endpoint, MOST_NOTICE_NAME)
    return [f"Worst: {where}, {_outside(figures, MOST_TITLE)}."]


def _cause(incident: Incident) -> str:
    cause = incident.root_cause
    if cause is None:
        return "Cause: none found."
    name = _outside(cause.name or cause.endpoint, MOST_NOTICE_NAME)
    service = _outside(cause.service, MOST_NOTICE_NAME)
    return f"Cause: {name} (service {service}), confidence {cause.confidence:.0%}."


def _moved(incident: Incident) -> str:
    if incident.status == RESOLVED and incident.resolved_at is not None:
        return f" at {_utc(incident.resolved_at)}"
    if incident.status == ACKNOWLEDGED and incident.acknowledged_at is not None:
        return f" at {_utc(incident.acknowledged_at)}"
    return ""


def _names(endpoints: Sequence[str]) -> str:
    shown = [_outside(name, MOST_NOTICE_NAME) for name in endpoints[:MOST_AFFECTED]]
    names = ", ".join(shown)
    more = len(endpoints) - MOST_AFFECTED
    return f"{names} and {more} more" if more > 0 else names


def _utc(time: pd.Timestamp) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _outside(text: str, length: int) -> str:
    """Return a text from outside: on one line, cut, and without mentions."""
    return printable(text, length).translate(NO_MENTIONS)
