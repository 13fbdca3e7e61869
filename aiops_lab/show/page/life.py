"""What became of an incident, in words, and is it still going on?"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from aiops_lab.detect.incidents import RESOLVED, Incident, Life, LifeEvent
from aiops_lab.health import LATELY_S

MOST_TOP_EVENTS = 5  # of the first answer: the first one and the last ones

_WORDS: dict[str, str] = {
    Life.OPENED: "opened, severity {}",
    Life.SEVERITY: "severity changed from {}",
    Life.ACKNOWLEDGED: "acknowledged {}",
    Life.RECURRED: "came back while it was open",
    Life.REOPENED: "came back and was reopened",
    Life.MERGED: "took in {}, which has the same cause",
    Life.ACCEPTED: "accepted as normal and resolved",
    Life.TAKEN_BACK: "no longer accepted as normal: open again",
    Life.RESOLVED: "resolved {}",
}


class LifeLine(NamedTuple):
    """An event of the life of an incident: its time, and what happened."""

    time: pd.Timestamp
    text: str


def life_of(incident: Incident, most: int | None = None) -> list[LifeLine]:
    """Return what became of an incident, the earliest first; of more than `most` events the first
    one and the last ones.
    """
    lines = [LifeLine(event.time, _in_words(event)) for event in incident.history]
    if most is None or len(lines) <= most:
        return lines
    return [lines[0], *lines[1 - most :]]


def _in_words(event: LifeEvent) -> str:
    told = _WORDS.get(event.what, event.what).format(event.detail)
    return told.removesuffix(", severity ").strip()


def is_going_on(incident: Incident, now: pd.Timestamp) -> bool:
    """Return whether an incident that is not resolved had an anomaly in the last minute."""
    quiet_s = (now - incident.last_anomaly).total_seconds()
    return incident.status != RESOLVED and quiet_s < LATELY_S
