"""When a remedy is called: for its kind of incident, where the cause is certain, not too often."""

from __future__ import annotations

import pandas as pd
import pytest

from aiops_lab.respond.remedies import Decision, Remedy, RemedyCall, decide, is_meant, is_new
from tests.support.incidents import LATER, incident, offered

S = 1_000_000_000
NOW = 10_000 * S


def remedy(**options):
    return Remedy("restart", lambda incident: None, **options)


def call(ago_s, outcome="acted", number=2, as_of=LATER, about=""):
    return RemedyCall(NOW - ago_s * S, f"INC-{number}", "restart", outcome, about, as_of.value)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({}, True),
        ({"kinds": ["error_spike", "timeout"]}, True),
        ({"kinds": ["timeout"]}, False),
        ({"endpoint": "/pay"}, True),
        ({"endpoint": "/db"}, False),
        ({"service": "shop"}, True),
        ({"service": "bank"}, False),
    ],
)
@pytest.mark.parametrize("cause", ["/pay", None])
def test_a_remedy_is_meant_for_a_kind_of_incident(options, meant, cause):
    assert is_meant(remedy(**options), incident(cause=cause)) is meant


def test_the_kind_is_that_of_the_cause():
    found = incident(cause="/db")  # the error spike is at /pay
    assert is_meant(remedy(endpoint="/db"), found)
    assert not is_meant(remedy(endpoint="/pay"), found)
    assert not is_meant(remedy(kinds=["error_spike"]), found)


def test_an_active_incident_with_a_certain_cause_is_mended():
    assert decide(remedy(), incident(), [], NOW) == Decision(True)


def test_a_level_that_may_be_meant_is_left_alone():
    about = "its level may be meant: it began at a noted change"
    assert decide(remedy(), offered(), [], NOW) == Decision(False, about)
    assert decide(remedy(), offered("medium"), [], NOW) == Decision(True)


@pytest.mark.parametrize("status", ["acknowledged", "resolved"])
def test_what_a_person_has_taken_or_is_over_is_left_alone(status):
    assert decide(remedy(), incident(status=status), [], NOW) == Decision(False)


@pytest.mark.parametrize(
    ("found", "about"),
    [
        (incident(confidence=0.79), "the confidence is below 80%"),
        (incident(confidence=0.8), ""),
        (incident(cause=None), "no cause was found"),
    ],
)
def test_where_the_cause_is_not_certain_it_is_held_back(found, about):
    assert decide(remedy(), found, [], NOW) == Decision(not about, about)


def test_a_second_call_for_an_incident_needs_a_new_anomaly():
    log = [call(400, number=1)]
    assert not decide(remedy(), incident(), log, NOW).call
    later = incident()
    later.last_anomaly = LATER + pd.Timedelta("10s")
    assert decide(remedy(), later, log, NOW).call


@pytest.mark.parametrize(("ago_s", "called"), [(0, False), (299, False), (300, True)])
def test_after_a_call_it_cools_down_for_all_incidents(ago_s, called):
    assert decide(remedy(), incident(), [call(ago_s)], NOW) == Decision(called)


@pytest.mark.parametrize(
    ("outcome", "called"),
    [("acted", False), ("failed", False), ("begun", False), ("held back", True)],
)
def test_what_was_called_counts_whatever_came_out(outcome, called):
    assert decide(remedy(), incident(), [call(1, outcome)], NOW).call is called


def test_a_dry_run_counts_for_dry_runs_alone():
    log = [call(1, "would have acted")]
    assert not decide(remedy(), incident(), log, NOW).call
    assert decide(remedy(dry_run=False), incident(), log, NOW).call


def test_it_is_called_so_often_in_so_long():
    log = [call(ago_s) for ago_s in (3600, 3000, 2000)]
    assert decide(remedy(), incident(), log, NOW).call
    log.append(call(1000))
    held = decide(remedy(), incident(), log, NOW)
    assert held == Decision(False, "it was called 3 times in 3600 s")
    assert decide(remedy(most=4), incident(), log, NOW).call


def test_what_was_called_by_a_clock_ahead_holds_nothing_back():
    assert decide(remedy(most=1), incident(), [call(-10)], NOW).call


def test_that_it_was_held_back_is_noted_once():
    held = call(0, "held back", about="no cause was found")
    assert is_new(held, [])
    assert not is_new(held, [held._replace(ns=1, as_of_ns=2)])
    assert is_new(held, [held._replace(incident="INC-9")])
    assert is_new(held, [held._replace(about="the confidence is below 80%")])
    assert is_new(held, [held, call(0)])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": ""}, "name must be a text of printable characters, got ''"),
        ({"name": "a\nb"}, "name must be a text of printable characters"),
        ({"act": 7}, "act must be a function of an Incident, got 7"),
        ({"matches": 7}, "matches must be a function of an Incident, got 7"),
        ({"kinds": "timeout"}, "kinds must be a list of types of anomaly, got 'timeout'"),
        ({"min_confidence": 80}, "min_confidence must be a number between 0 and 1, got 80"),
        ({"most": 0}, "most must be"),
        ({"most": 51}, "most must be a whole number between 1 and 50, got 51"),
        ({"per_s": -1}, "per_s must be"),
        ({"cooldown_s": -1}, "cooldown_s must be"),
        ({"timeout_s": 0}, "timeout_s must be"),
    ],
)
def test_a_remedy_that_breaks_a_rule_is_refused_by_name(wrong, told):
    with pytest.raises(ValueError, match=told):
        Remedy(**({"name": "restart", "act": print} | wrong))


def test_a_call_of_a_clock_that_was_ahead_allows_no_second_one():
    ahead = call(-3600, number=1, as_of=LATER - pd.Timedelta("1h"))
    made = call(400, number=1)
    assert decide(remedy(), incident(1), [made, ahead], NOW) == Decision(False)
    assert decide(remedy(), incident(1), [call(1), ahead], NOW) == Decision(False)
