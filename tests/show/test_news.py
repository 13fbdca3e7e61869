"""What is said of incidents in a terminal: each opening, change and end once."""

from __future__ import annotations

import pandas as pd
import pytest

from aiops_lab.detect.incidents import Incident
from aiops_lab.results import Anomaly, Suspect, Verdict
from aiops_lab.show import news
from aiops_lab.show.news import IncidentNews, tell, tell_until

WHEN = pd.Timestamp("2026-01-01T00:02:00Z")
LATER = WHEN + pd.Timedelta("5min")
URL = "http://localhost:5000"


def incident(number=1, status="active", cause="/pay", severity="high", **fields):
    suspects = () if cause is None else (Suspect("shop", cause, 1.0, 0.97),)
    id = f"INC-{number}"
    found = Incident(id, WHEN, WHEN, LATER, status, verdict=Verdict(suspects=suspects), **fields)
    found.anomalies.append(Anomaly("error_spike", "shop", "/pay", WHEN, WHEN, severity))
    return found


def test_an_incident_that_opens_is_told_once_with_its_page():
    told = IncidentNews(URL)
    assert told.lines([]) == []
    assert told.lines([incident()]) == [
        "00:02:00 UTC INC-1 opened: high, Error spike detected in /pay; cause /pay,"
        " confidence 97%. http://localhost:5000/aiops/page/incidents/INC-1"
    ]
    assert told.lines([incident()]) == []


@pytest.mark.parametrize(
    ("after", "what"),
    [
        ({"severity": "critical"}, "00:07:00 UTC INC-1 changed: critical"),
        ({"cause": "/db"}, "00:07:00 UTC INC-1 changed: high, Error spike detected in /pay; "),
        ({"cause": None}, "no cause found"),
        (
            {"status": "acknowledged", "acknowledged_at": WHEN + pd.Timedelta("1min")},
            "00:03:00 UTC INC-1 acknowledged",
        ),
        (
            {"status": "resolved", "resolved_at": WHEN + pd.Timedelta("9min")},
            "00:11:00 UTC INC-1 resolved",
        ),
    ],
)
def test_what_changes_is_told(after, what):
    told = IncidentNews(URL)
    told.lines([incident()])
    (line,) = told.lines([incident(**after)])
    assert what in line


def test_an_incident_that_comes_back_is_reopened():
    told = IncidentNews(URL)
    told.lines([incident(status="resolved")])
    (line,) = told.lines([incident()])
    assert "INC-1 reopened" in line


def test_at_the_start_the_open_ones_are_told():
    lines = IncidentNews(URL).lines([incident(1, "resolved"), incident(2)])
    assert len(lines) == 1
    assert "INC-2 is open: " in lines[0]


def test_one_that_became_part_of_another_is_told():
    told = IncidentNews(URL)
    told.lines([incident(1), incident(2)])
    assert told.lines([incident(1, merged=["INC-2"])]) == ["INC-2 is part of INC-1 now."]
    told.lines([incident(1), incident(2)])
    assert told.lines([incident(1)]) == ["INC-2 is part of another incident now."]


def test_names_from_outside_cannot_steer_the_terminal():
    told = IncidentNews(URL)
    told.lines([])
    (line,) = told.lines([incident(cause="/\x1b[2J" + "x" * 900)])
    assert "\x1b" not in line
    assert len(line) < 500


class Monitor:
    def __init__(self, *answers):
        self.answers = list(answers)

    def incidents(self):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_store_that_cannot_be_read_delays_the_news():
    said: list[str] = []
    told = IncidentNews(URL)
    monitor = Monitor([], OSError("locked"), [incident()])
    for _ in range(3):
        tell(monitor, told, said.append)
    assert ["opened" in line for line in said] == [True]


def test_news_are_told_until_the_stop(monkeypatch):
    monkeypatch.setattr(news, "_LOOK_S", 0.0)
    monkeypatch.setattr(news, "POLL_S", 0.0)

    class Stop:
        asked = False

    def say(line):
        Stop.asked = True
        said.append(line)

    said: list[str] = []
    tell_until(Stop(), Monitor([], [], [incident()], [incident()]), URL, say)
    assert len(said) == 1


def test_what_happened_last_is_told_before_the_end():
    said: list[str] = []

    class Stop:
        asked = True

    tell_until(Stop(), Monitor([incident()]), URL, said.append)
    assert len(said) == 1
