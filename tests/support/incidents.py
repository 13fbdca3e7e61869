"""Incidents that tests make themselves, and a monitor that has them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd

from aiops_lab.detect.incidents import Incident
from aiops_lab.results import Anomaly, Suspect, Verdict

WHEN = pd.Timestamp("2026-01-01T00:02:00Z")
LATER = WHEN + pd.Timedelta("5min")


def incident(
    number: int = 1,
    status: str = "active",
    cause: str | None = "/pay",
    severity: str = "high",
    *,
    confidence: float = 0.97,
    **fields: Any,
) -> Incident:
    """An incident with an error spike at /pay, from `WHEN` to `LATER`."""
    suspects = () if cause is None else (Suspect("shop", cause, 1.0, confidence),)
    verdict = Verdict(suspects=suspects, affected=("/pay", "/checkout"))
    found = Incident(f"INC-{number}", WHEN, WHEN, LATER, status, verdict=verdict, **fields)
    found.anomalies.append(Anomaly("error_spike", "shop", "/pay", WHEN, WHEN, severity))
    found.seen.append(LATER)
    return found


def offered(severity: str = "low") -> Incident:
    """An incident that a verdict offers as the new normal."""
    found = incident(severity=severity)
    found.verdict = replace(found.verdict, is_offered=True)
    return found


class MadeMonitor:
    """Has a store, and the incidents that a test puts into `found`."""

    def __init__(self, store: Any, *found: Incident) -> None:
        self.store = store
        self.found = list(found)
        self.responders: list[Any] = []
        self.merged: dict[str, str] = {}
        self.changes: list[Any] = []
        self.sensitivity = SimpleNamespace(window_s=10.0)

    def incidents(self, status: str | None = None) -> list[Incident]:
        return [each for each in self.found if status in (None, each.status)]

    def incident(self, id: str) -> Incident:
        known = {each.id: each for each in self.found}
        return known[self.merged.get(id, id)]
