"""What was changed before a fault, and how much that says."""

from math import exp

import pandas as pd
import pytest

from aiops_lab.detect.incidents import Incident
from aiops_lab.explain.changes import (
    Change,
    change_behind,
    changes_before,
    check_change,
    check_changes,
)
from aiops_lab.results import Anomaly, Suspect, Verdict
from tests.support.played import at


def before(changes, first_seen=3600, observed_since=0):
    return changes_before(changes, "shop", at(first_seen), at(observed_since))


def deployed(seconds, service="shop", what="deployment 2"):
    return Change(at(seconds), service, what)


def test_a_change_is_told_with_its_distance_and_the_chance_of_that():
    step = before([deployed(3564)])
    (row,) = step.rows
    assert (row["service"], row["what"], row["before_s"]) == ("shop", "deployment 2", 36)
    assert row["by_chance"] == pytest.approx(1 - exp(-36 / 3600), abs=1e-4)
    assert "deployment 2 of shop came at most 36 s before" in step.text
    assert "look at it first" in step.text


def test_milliseconds_and_a_ten_thousandth_are_told_of_a_change():
    """1 - exp(-12.3456 / 3600) = 0.0034235."""
    (row,) = before([deployed(3600 - 12.3456)]).rows
    assert (row["before_s"], row["by_chance"]) == (12.346, 0.0034)


def test_a_service_that_is_changed_all_the_time_is_no_reason_to_look():
    step = before([deployed(s) for s in range(0, 3600, 60)])
    assert step.rows[0]["before_s"] == 60
    assert step.rows[0]["by_chance"] == pytest.approx(1 - exp(-1), abs=1e-4)
    assert "says little" in step.text


@pytest.mark.parametrize(("seconds", "hint"), [(3600 - 184, "first"), (3600 - 186, "little")])
def test_one_in_twenty_is_the_limit_of_chance(seconds, hint):
    """1 - exp(-184/3600) = 4.98 %, of 186 s 5.03 %."""
    assert hint in before([deployed(seconds)]).text


@pytest.mark.parametrize(("seconds", "number"), [(3600 - 1799, 1), (3600 - 1801, 0)])
def test_what_is_older_than_half_an_hour_is_not_told(seconds, number):
    assert len(before([deployed(seconds)]).rows) == number


@pytest.mark.parametrize(("seconds", "number"), [(3600, 1), (3601, 0)])
def test_what_comes_after_the_first_anomaly_is_not_told(seconds, number):
    assert len(before([deployed(seconds)]).rows) == number


def test_changes_of_other_services_come_last():
    step = before([deployed(3590, "payment"), deployed(3500), deployed(3550)])
    assert [row["service"] for row in step.rows] == ["shop", "shop", "payment"]
    assert [row["before_s"] for row in step.rows] == [50, 100, 10]
    # two changes of the shop in an hour, one of payment
    assert step.rows[0]["by_chance"] == pytest.approx(1 - exp(-2 * 50 / 3600), abs=1e-4)
    assert step.rows[2]["by_chance"] == pytest.approx(1 - exp(-10 / 3600), abs=1e-4)


def test_half_of_a_pair_of_surrogates_is_refused():
    with pytest.raises(ValueError, match="what must be a text that UTF-8 can write"):
        check_change(Change(at(5), "shop", "flag \ud800"))


def test_without_a_change_of_the_service_it_says_so():
    assert "in the 30 minutes before; elsewhere: " in before([deployed(3590, "payment")]).text
    assert "of payment 10 s before." in before([deployed(3590, "payment")]).text
    assert "No change was noted in the 30 minutes before" in before([deployed(100)]).text


def test_what_began_with_the_recording_says_nothing():
    (row,) = before([deployed(3000)], observed_since=3000).rows
    assert row["by_chance"] == 1


def test_changes_before_the_recording_count_as_observed():
    row = before([deployed(0), deployed(3564)], observed_since=3500).rows[0]
    assert row["by_chance"] == pytest.approx(1 - exp(-2 * 36 / 3600), abs=1e-4)


def test_a_frame_is_taken_too():
    frame = pd.DataFrame({"what": ["flag"], "time": [at(5)], "service": ["shop"], "by": ["me"]})
    assert check_changes(frame) == [Change(at(5), "shop", "flag")]
    with pytest.raises(ValueError, match=r"service, what \(what is missing\), got \['time', "):
        check_changes(frame.drop(columns="what"))


def test_a_time_without_a_zone_is_utc():
    naive = at(5).tz_localize(None)
    assert check_change(Change(naive, "shop", "flag")).time == at(5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("2026-01-01", "shop", "flag"), "change must be a Change"),
        (Change("yesterday", "shop", "flag"), "time must be a time"),
        (Change(None, "shop", "flag"), "time must be a time"),
        (Change("1970-01-01", "shop", "flag"), "time must be a time in the years 1990"),
        (Change("2026-01-01", "", "flag"), "service must be a text of 1 to 200 characters"),
        (Change("2026-01-01", "shop", "x" * 201), "what must be a text of 1 to 200 characters"),
        (Change("2026-01-01", "shop", 7), "what must be a text"),
    ],
)
def test_what_is_no_change_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        check_change(change)


@pytest.mark.parametrize("changes", ["2026-01-01", None, 7])
def test_what_holds_no_changes_is_refused(changes):
    with pytest.raises(ValueError, match="changes must be changes or a frame of them"):
        check_changes(changes)


def incident(*kinds, severity="low", cause="shop", changes=(), **evidence):
    """Return an incident that is seen after an hour, with a cause in a service or without one."""
    where = "shop", "/a", at(3590), at(3600)
    anomalies = [Anomaly(kind, *where, severity, evidence) for kind in kinds]
    suspects = () if cause is None else (Suspect(cause, "/a", 1.0),)
    verdict = Verdict(suspects, changes=(before(changes),))
    return Incident("I", at(3600), at(3500), at(3600), anomalies=anomalies, verdict=verdict)


def test_a_small_lasting_shift_after_a_change_of_its_service_has_that_change_behind_it():
    changes = [deployed(3500, what="old"), deployed(3550, what="new"), deployed(3590, "payment")]
    found = change_behind(incident("sustained_shift", changes=changes, deviation=1.5))
    assert found is not None
    assert found["what"] == "new"


@pytest.mark.parametrize(
    "other",
    [
        incident("sustained_shift"),
        incident("sustained_shift", changes=[deployed(3590, "payment")]),
        incident("sustained_shift", changes=[deployed(3590)], cause=None),
        incident("sustained_shift", changes=[deployed(3590)], cause="payment"),
        incident("sustained_shift", changes=[deployed(3590)], severity="medium"),
        incident("sustained_shift", "latency_anomaly", changes=[deployed(3590)]),
        incident("latency_anomaly", changes=[deployed(3590)]),
        incident("sustained_shift", changes=[deployed(3590)], deviation=1.51),
        incident("sustained_shift", changes=[deployed(3590)], error_rate=0.02),
    ],
    ids=[
        *("none", "elsewhere", "no cause", "another cause", "not small", "more", "no shift"),
        *("too slow", "failures"),
    ],
)
def test_what_is_more_than_that_or_was_not_changed_has_no_change_behind_it(other):
    assert change_behind(other) is None


@pytest.mark.parametrize(("seconds", "is_behind"), [(3600 - 184, True), (3600 - 186, False)])
def test_a_change_that_is_so_near_by_chance_too_often_is_not_behind_a_shift(seconds, is_behind):
    found = change_behind(incident("sustained_shift", changes=[deployed(seconds)]))
    assert (found is not None) == is_behind
