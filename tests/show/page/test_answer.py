"""The parts of the first answer that a page of one recording does not show."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from aiops_lab.detect.incidents import Incident
from aiops_lab.results import Anomaly, Suspect, Verdict
from aiops_lab.show.page.answer import (
    answer_of,
    cause_sentence,
    clip,
    facts_of,
    ledger_of,
    worst_window,
)

WHEN = pd.Timestamp("2026-01-01T00:02:00Z")


def incident(*suspects):
    found = Incident("INC-1-1", WHEN, WHEN, WHEN, verdict=Verdict(suspects=suspects))
    rates = {"error_rate": 0.53, "baseline_error_rate": 0.0}
    end = WHEN + pd.Timedelta("10s")
    found.anomalies.append(Anomaly("error_spike", "shop", "/pay", WHEN, end, evidence=rates))
    return found


def no_spans(trace_id):
    raise AssertionError(trace_id)


def suspect(confidence, endpoint="/pay"):
    return Suspect("shop", endpoint, 1.0, confidence)


@pytest.mark.parametrize(
    ("confidence", "advice"),
    [
        (0.99, ""),
        (0.9, ""),
        (0.89, "Likely, not certain"),
        (0.5, "Likely, not certain"),
        (0.49, "A lead rather than a finding"),
    ],
)
def test_the_advice_follows_the_confidence(confidence, advice):
    told = answer_of(incident(suspect(confidence)), no_spans).certainty
    assert told.startswith(f"A confidence of {confidence:.0%} means: in simulated incidents, ")
    assert advice in told
    assert advice or told.endswith("here 0%.")


def test_without_a_cause_nothing_is_made_up():
    answer = answer_of(incident(), no_spans)
    assert "Nothing exceeds the noise" in answer.certainty
    assert (answer.cause, answer.path, answer.request, answer.ledger) == (None, [], None, None)
    assert cause_sentence(incident()) == "No cause found yet"


def test_the_messages_of_failures_are_two_at_most_and_those_of_failures_alone():
    found = incident(suspect(0.9))
    found.anomalies[0].evidence["sample_errors"] = ["KeyError: 'a'", "HTTP 502", "HTTP 503"]
    assert answer_of(found, no_spans).errors == ["KeyError: 'a'", "HTTP 502"]
    slow = replace(found.anomalies[0], type="latency_spike")
    found.anomalies[:] = [slow]
    assert answer_of(found, no_spans).errors == []


def test_the_figure_of_detection_says_over_which_time_it_was_measured():
    found = incident()
    (spike,) = found.anomalies
    assert worst_window(spike) == (
        "Worst window (10 s)",
        "/pay",
        "53% of requests failed (baseline: 0%)",
    )
    lasting = {"lasts_s": 60.0, "error_rate": 0.19, "baseline_error_rate": 0.001}
    shift = replace(spike, type="sustained_shift", evidence=lasting)
    assert worst_window(shift) == (
        "Level of late",
        "/pay",
        "for 60 s, 19.0% of requests failed (baseline: 0.1%)",
    )


def test_next_suspects_are_three_at_most():
    others = [suspect(0.1, f"/{n}") for n in range(6)]
    answer = answer_of(incident(suspect(0.9), *others), no_spans)
    assert [each.endpoint for each in answer.others] == ["/0", "/1", "/2"]


def test_what_pages_watch_of_an_incident_changes_with_cause_and_status():
    one = incident(suspect(0.9))
    before = facts_of(one)
    assert facts_of(incident(suspect(0.9))) == before
    assert facts_of(incident(suspect(0.9, "/other"))) != before
    one.status = "resolved"
    assert facts_of(one) != before


def test_an_incident_that_compared_nothing_has_no_ledger():
    assert ledger_of(incident(), 4) is None


def test_a_text_is_cut_to_its_length():
    assert clip("x" * 60) == "x" * 60
    assert clip("x" * 61) == "x" * 59 + "…"
