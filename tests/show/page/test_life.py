"""The words for what became of an incident, and whether it is going on."""

from __future__ import annotations

import pandas as pd
import pytest

from aiops_lab.detect.incidents import Incident
from aiops_lab.show.page.life import is_going_on, life_of

BEGIN = pd.Timestamp("2026-01-01", tz="UTC")


def at(second):
    return BEGIN + pd.Timedelta(second, "s")


@pytest.mark.parametrize(
    ("what", "detail", "told"),
    [
        ("opened", "high", "opened, severity high"),
        ("opened", "", "opened"),
        ("severity", "medium to high", "severity changed from medium to high"),
        ("acknowledged", "", "acknowledged"),
        ("acknowledged", "as INC-1-2 was", "acknowledged as INC-1-2 was"),
        ("recurred", "", "came back while it was open"),
        ("reopened", "", "came back and was reopened"),
        ("merged", "INC-1-2", "took in INC-1-2, which has the same cause"),
        ("accepted", "as normal", "accepted as normal and resolved"),
        ("acceptance taken back", "", "no longer accepted as normal: open again"),
        ("resolved", "by itself", "resolved by itself"),
        ("resolved", "", "resolved"),
        ("of a later version", "", "of a later version"),
    ],
)
def test_each_event_has_its_words(what, detail, told):
    incident = Incident("INC-1-1", at(0), at(0), at(0))
    incident.add_event(at(5), what, detail)
    assert life_of(incident) == [(at(5), told)]


def test_of_many_events_the_first_and_the_last_ones_are_told():
    incident = Incident("INC-1-1", at(0), at(0), at(0))
    for second in range(9):
        incident.add_event(at(second), "reopened")
    assert [line.time for line in life_of(incident, 3)] == [at(0), at(7), at(8)]
    assert len(life_of(incident, 9)) == 9


def test_an_incident_goes_on_for_a_minute_after_its_last_anomaly():
    incident = Incident("INC-1-1", at(0), at(0), at(100))
    assert is_going_on(incident, at(159))
    assert not is_going_on(incident, at(160))
    incident.status = "resolved"
    assert not is_going_on(incident, at(101))
