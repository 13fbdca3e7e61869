"""Which incident tells of which fault: cases decided by hand, one for each reason."""

import math
from dataclasses import replace

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.incidents import Incident
from aiops_lab.evaluate.matching import match
from aiops_lab.explain.changes import Change, changes_before
from aiops_lab.results import Suspect, Verdict
from tests.support.made import BEGIN

# Times are seconds after the start of an hour that was recorded in windows of 10 s.


def at(second):
    return pd.Timestamp(BEGIN, unit="ns", tz="UTC") + pd.Timedelta(second, unit="s")


def faults(*rows, **columns):
    """(endpoint, start, end) of each fault; an endpoint None is the whole service."""
    table = {
        "service": "shop",
        "endpoint": [row[0] for row in rows],
        "start": [at(row[1]) for row in rows],
        "end": [at(row[2]) for row in rows],
    }
    return pd.DataFrame(table | columns)


def incident(name, suspects, *seen):
    """An incident with anomalies (endpoint, end of its window)."""
    anomalies = [
        lab.Anomaly("latency_anomaly", "shop", endpoint, at(end - 10), at(end))
        for endpoint, end in seen
    ]
    verdict = Verdict(tuple(Suspect("shop", endpoint, 1.0) for endpoint in suspects))
    first, last = (pick(a.end for a in anomalies) for pick in (min, max))
    started = min(a.window for a in anomalies)
    return Incident(name, first, started, last, anomalies=anomalies, verdict=verdict)


def matched(incidents, table, **options):
    windows = pd.DataFrame({"window": [at(0)], "end": [at(3600)]})
    anomalies = [a for i in incidents for a in i.anomalies]
    return match(lab.Report(windows, anomalies, list(incidents)), table, **options)


ONE = faults(("/payment", 100, 200))
TWO = faults(("/payment", 100, 400), ("/inventory", 250, 500))
TWICE = faults(("/payment", 100, 200), ("/payment", 400, 500))


@pytest.mark.parametrize(("suspects", "rank"), [(["/payment"], 1), (["/checkout", "/payment"], 2)])
def test_the_cause_among_the_first_two_suspects_is_a_match(suspects, rank):
    found = matched([incident("I", suspects, ("/payment", 120), ("/checkout", 130))], ONE)
    (one,) = found.matches
    assert (one.faults, one.incident, one.rank, one.detect_s) == ((0,), "I", rank, 20.0)
    assert one.missed == ""
    assert (found.false, found.extra) == ((), ())


@pytest.mark.parametrize(
    ("suspects", "missed"),
    [
        (["/health", "/checkout", "/payment"], "only rank 3 in I"),
        (["/checkout"], "cause wrong in I"),
        ([], "no cause named in I"),
    ],
)
def test_a_cause_that_comes_too_late_or_never_is_missed(suspects, missed):
    found = matched([incident("I", suspects, ("/payment", 120))], ONE)
    (one,) = found.matches
    assert (one.incident, one.rank, one.missed) == (None, 0, missed)
    assert one.shown_in == found.extra == ("I",)


def test_the_bound_of_suspects_is_the_callers_choice():
    third = incident("I", ["/health", "/checkout", "/payment"], ("/payment", 120))
    assert matched([third], ONE, first=3).matches[0].incident == "I"


def test_what_nothing_shows_is_not_detected():
    (one,) = matched([], ONE).matches
    assert one.missed == "not detected"
    assert math.isnan(one.detect_s)


def test_an_incident_before_its_fault_is_false_and_matches_nothing():
    found = matched([incident("I", ["/payment"], ("/payment", 90))], ONE)
    assert found.false == ("I",)
    assert found.matches[0].missed == "not detected"


def after_a_change(name, second):
    """Return a small lasting shift at a second, 5 s after a deployment of its service."""
    step = changes_before([Change(at(second - 5), "shop", "deployment")], "shop", at(second), at(0))
    one = incident(name, ["/payment"], ("/payment", second))
    one.anomalies = [replace(a, type="sustained_shift", severity="low") for a in one.anomalies]
    one.verdict = replace(one.verdict, changes=(step,), is_offered=True)
    return one


def test_a_small_shift_after_a_change_is_told_apart_and_shows_no_fault():
    bare = incident("B", ["/payment"], ("/payment", 900))
    found = matched([after_a_change("C", 800), bare, after_a_change("F", 150)], ONE)
    assert found.false == ("B",)
    assert found.info == ("C", "F")
    assert found.matches[0].missed == "not detected"


@pytest.mark.parametrize(("end", "false"), [(250, ()), (280, ("I",))])
def test_an_anomaly_shows_a_fault_for_a_minute_after_its_end(end, false):
    assert matched([incident("I", ["/payment"], ("/payment", end))], ONE).false == false


def test_one_incident_may_name_two_faults_at_once():
    seen = ("/payment", 120), ("/inventory", 270)
    both = incident("I", ["/inventory", "/payment"], *seen)
    found = matched([both], TWO)
    assert [(m.incident, m.rank) for m in found.matches] == [("I", 2), ("I", 1)]


def test_an_incident_that_was_open_before_swallows_a_fault_that_it_does_not_name():
    seen = ("/payment", 120), ("/payment", 390), ("/inventory", 270)
    first, second = matched([incident("I", ["/payment"], *seen)], TWO).matches
    assert first.incident == "I"
    assert second.missed == "swallowed (not named) in I"


def test_two_faults_that_begin_at_once_are_merged_where_one_is_not_named():
    table = faults(("/payment", 100, 200), ("/inventory", 100, 200))
    both = incident("I", ["/payment"], ("/payment", 120), ("/inventory", 120))
    assert matched([both], table).matches[1].missed == "merged with faults [0] in I"


def test_recurrences_of_one_origin_count_once():
    again = incident("I", ["/payment"], ("/payment", 120), ("/payment", 420))
    (one,) = matched([again], TWICE.assign(group=7)).matches
    assert (one.faults, one.incident) == ((0, 1), "I")


def test_one_incident_does_not_count_for_two_origins_at_one_place():
    again = incident("I", ["/payment"], ("/payment", 120), ("/payment", 420))
    assert [m.incident for m in matched([again], TWICE).matches] == ["I", None]


def test_a_second_incident_of_one_fault_is_extra():
    own = incident("I", ["/payment"], ("/payment", 120))
    other = incident("J", ["/checkout"], ("/checkout", 130))
    found = matched([own, other], ONE)
    assert (found.false, found.extra) == ((), ("J",))


def test_a_fault_of_a_whole_service_is_named_by_any_of_its_endpoints():
    table = faults((None, 100, 200))
    own = incident("I", ["/inventory"], ("/payment", 120))
    assert matched([own], table).matches[0].rank == 1
