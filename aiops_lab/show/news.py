"""What is new about incidents? A line for each that opens, changes or closes, for a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from aiops_lab.detect.incidents import ACKNOWLEDGED, ACTIVE, RESOLVED, Incident
from aiops_lab.endpoints import printable
from aiops_lab.logs import get_logger

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor
    from aiops_lab.show.stopping import Stop

_log = get_logger(__name__)

MOST_LINE = 300  # characters

_LOOK_S = 1.0
"""Seconds between two looks. Raising it tells news later."""

POLL_S = 0.1
"""Seconds between two looks at whether to stop: no signal handler wakes a waiting thread safely on
every system."""

STATES = {ACTIVE: "reopened", ACKNOWLEDGED: "acknowledged", RESOLVED: "resolved"}


class _Known(NamedTuple):
    """What was told of an incident."""

    status: str
    severity: str
    cause: str


class IncidentNews:
    """Tells what is new since it was asked last.

    Parameters
    ----------
    url : str
        The address of the server; each line ends in that of the incident's page.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[str, _Known] | None = None

    def lines(self, incidents: Iterable[Incident]) -> list[str]:
        """Return a line for each incident that is new or different; at first, for those open."""
        before = self._known
        incidents = list(incidents)
        self._known = {each.id: _known(each) for each in incidents}
        if before is None:
            unresolved = [each for each in incidents if each.status != RESOLVED]
            return [self._line(each, "is open", each.started) for each in unresolved]
        told = [self._told(each, before.get(each.id)) for each in incidents]
        into = {id: each.id for each in incidents for id in each.merged}
        gone = sorted(before.keys() - self._known.keys())
        merged = [f"{id} is part of {into.get(id, 'another incident')} now." for id in gone]
        return [line for line in told if line] + merged

    def _told(self, incident: Incident, known: _Known | None) -> str:
        now = _known(incident)
        if known is None:
            return self._line(incident, "opened", incident.first_detected)
        if now == known:
            return ""
        if now.status != known.status:
            return self._line(incident, STATES[now.status], _moved(incident))
        return self._line(incident, "changed", incident.last_anomaly)

    def _line(self, incident: Incident, what: str, when: pd.Timestamp) -> str:
        known = _known(incident)
        told = f"{incident.id} {what}: {known.severity}, {incident.title}; {known.cause}."
        page = f"{self._url}/aiops/page/incidents/{incident.id}"
        return f"{when:%H:%M:%S} UTC {printable(told, MOST_LINE)} {page}"


def tell(monitor: Monitor, news: IncidentNews, say: Callable[[str], None]) -> None:
    """Say what is new; where the store cannot be read at present, it is said later."""
    try:
        lines = news.lines(monitor.incidents())
    except OSError as error:
        _log.warning("incidents cannot be read: %s", error)
        return
    for line in lines:
        say(line)


def tell_until(stop: Stop, monitor: Monitor, url: str, say: Callable[[str], None]) -> None:
    """Say what is new about incidents, until `stop` is asked for."""
    news = IncidentNews(url)
    looked_at = float("-inf")
    while not stop.asked:
        if time.monotonic() - looked_at >= _LOOK_S:
            tell(monitor, news, say)
            looked_at = time.monotonic()
        time.sleep(POLL_S)
    tell(monitor, news, say)


def _known(incident: Incident) -> _Known:
    cause = incident.root_cause
    named = "no cause found"
    if cause is not None:
        named = f"cause {cause.name or cause.endpoint}, confidence {cause.confidence:.0%}"
    return _Known(incident.status, incident.severity, named)


def _moved(incident: Incident) -> pd.Timestamp:
    """Return when an incident came to its present state."""
    if incident.status == RESOLVED and incident.resolved_at is not None:
        return incident.resolved_at
    if incident.status == ACKNOWLEDGED and incident.acknowledged_at is not None:
        return incident.acknowledged_at
    return incident.last_anomaly
