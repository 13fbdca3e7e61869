"""What is told of an incident: each state once, as plain text, whatever names come from outside."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from aiops_lab.respond.notices import (
    Told,
    event_of,
    merged_notice,
    notice_of,
    summary_of,
    told_of,
)
from tests.support.incidents import LATER, WHEN, incident, offered

QUIET_NS = 900
TOLD = Told("active", "high", True)


@pytest.mark.parametrize(
    ("found", "told", "event"),
    [
        (incident(), None, "opened"),
        (incident(status="acknowledged"), None, "acknowledged"),
        (incident(), TOLD, None),
        (incident(severity="critical"), TOLD, "changed"),
        (incident(severity="medium"), TOLD, None),
        (incident(), TOLD._replace(has_cause=False), "changed"),
        (incident(cause=None), TOLD._replace(has_cause=False), None),
        (incident(cause="/db"), TOLD, None),
        (incident(status="acknowledged"), TOLD, "acknowledged"),
        (incident(status="resolved"), TOLD, "resolved"),
        (incident(status="resolved"), TOLD._replace(status="resolved", has_cause=False), None),
        (incident(), TOLD._replace(status="resolved"), "reopened"),
        (offered(), None, None),
        (offered(), TOLD, None),
        (offered("medium"), None, "opened"),
        (offered("low"), Told("active", "info", True), None),
        (incident(severity="low"), Told("active", "info", True), "changed"),
    ],
)
def test_a_state_is_told_once(found, told, event):
    assert event_of(found, told, QUIET_NS, QUIET_NS) == event


def test_what_comes_back_again_and_again_is_told_once_in_the_quiet_time():
    told, events = None, []
    for now_ns in range(10_000, 10_000 + 4 * QUIET_NS, 100):  # resolved and open in turns
        found = incident(status="resolved" if now_ns // 100 % 2 else "active")
        event = event_of(found, told, now_ns, QUIET_NS)
        if event:
            told = told_of(found, event, told, now_ns)
            events.append((event, now_ns))
    assert events[:3] == [("opened", 10_000), ("resolved", 10_100), ("reopened", 10_200)]
    assert events[3:6] == [("resolved", 11_100), ("reopened", 11_200), ("resolved", 12_100)]
    assert len(events) == 9


def test_what_is_worse_or_acknowledged_is_told_in_the_quiet_time_too():
    told = Told("resolved", "high", True, reopened_ns=1_000)
    for found, event in [
        (incident(), None),
        (incident(severity="critical"), "reopened"),
        (incident(status="acknowledged"), "acknowledged"),
    ]:
        assert event_of(found, told, 1_000 + QUIET_NS - 1, QUIET_NS) == event
    assert event_of(incident(), told, 1_000 + QUIET_NS, QUIET_NS) == "reopened"


def test_a_cause_that_was_told_stays_told_when_it_is_lost():
    told = told_of(incident(cause=None), "changed", TOLD, 0)
    assert told.has_cause
    assert not told_of(incident(cause=None), "opened", None, 0).has_cause


def test_a_notice_names_cause_severity_time_and_page():
    notice = notice_of(incident(), "opened", "http://localhost:5050")
    assert notice.title == "Error spike detected in /pay"
    assert notice.body.splitlines() == [
        "Cause: /pay (service shop), confidence 97%.",
        "Severity: high. Status: active.",
        "Since: 2026-01-01 00:02:00 UTC.",
        "Affected: /pay, /checkout.",
        "Incident: INC-1",
        "Page: http://localhost:5050/aiops/page/incidents/INC-1",
    ]


def test_a_notice_tells_the_figures_of_the_worst_anomaly_where_there_are_some():
    found = incident()
    figures = {"error_rate": 0.53, "baseline_error_rate": 0.0}
    found.anomalies[0] = replace(found.anomalies[0], evidence=figures)
    first = notice_of(found, "opened").body.splitlines()[0]
    assert first == f"Worst: /pay, {found.main_anomaly.description}."


def test_of_a_change_the_title_says_what_it_is():
    worse = notice_of(incident(severity="critical"), "changed", told=TOLD)
    first = notice_of(incident(), "changed", told=TOLD._replace(has_cause=False))
    assert worse.title.endswith("(now critical)")
    assert first.title.endswith("(cause found)")


def test_without_a_cause_or_a_page_none_is_named():
    notice = notice_of(incident(cause=None), "changed")
    assert notice.title == "Error spike detected in /pay (changed)"
    assert "Cause: none found." in notice.body
    assert "Page" not in notice.body
    assert notice.url == ""


@pytest.mark.parametrize("status", ["acknowledged", "resolved"])
def test_the_time_of_a_move_is_named(status):
    moment = LATER + pd.Timedelta("1h")
    notice = notice_of(incident(status=status, **{f"{status}_at": moment}), status)
    assert f"Status: {status} at 2026-01-01 01:07:00 UTC." in notice.body


def test_names_from_outside_are_cut_and_mention_nobody():
    found = incident(cause="/\x1b[2J@everyone<!channel>\n" + "x" * 900)
    found.anomalies[0] = replace(found.anomalies[0], endpoint="/" + "y" * 900)
    notice = notice_of(found, "opened")
    assert "\x1b" not in notice.body
    assert "@everyone" not in notice.body
    assert "<!channel" not in notice.body
    assert len(notice.body) < 500
    assert len(notice.title) < 130
    assert len(notice.body.splitlines()) == 5


def test_many_affected_endpoints_are_counted():
    found = incident()
    found.verdict = replace(found.verdict, affected=tuple("abcdefg"))
    assert "Affected: a, b, c, d, e and 2 more." in notice_of(found, "opened").body


def test_an_incident_that_became_part_of_another_names_it():
    notice = merged_notice("INC-2", incident(1), "http://x")
    assert (notice.incident_id, notice.event) == ("INC-2", "merged")
    assert notice.title == "INC-2 is part of INC-1 now"
    assert notice.url.endswith("/INC-1")


def test_the_notice_of_a_merge_mentions_nobody():
    other = incident(1)
    other.anomalies[0] = replace(other.anomalies[0], endpoint="/<!channel>" + "y" * 300)
    (line, *_) = merged_notice("INC-2", other).body.splitlines()
    assert "<!" not in line
    assert len(line) < 140


def test_a_summary_names_the_first_and_counts_the_rest():
    notices = [notice_of(incident(n, severity="low"), "opened") for n in range(25)]
    notices.append(notice_of(incident(99, severity="critical"), "opened"))
    summary = summary_of(notices, "http://x")
    assert summary.title == "26 more notices of incidents"
    assert summary.severity == "critical"
    lines = summary.body.splitlines()
    assert lines[0] == "INC-0 low: Error spike detected in /pay"
    assert lines[-2:] == ["and 6 more", "Page: http://x/aiops/"]
    assert summary_of(notices[:1]).body == lines[0]


def test_since_is_that_of_the_present_episode():
    found = incident(earlier=[(WHEN - pd.Timedelta("1h"), WHEN - pd.Timedelta("50min"))])
    assert "Since: 2026-01-01 00:02:00 UTC" in notice_of(found, "reopened").body
