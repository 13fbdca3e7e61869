import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.grouping import IllegalMoveError, IncidentManager
from aiops_lab.detect.incidents import Incident, life_cycle
from aiops_lab.results import Step, Suspect, Verdict

BEGIN = pd.Timestamp("2026-01-01", tz="UTC")


def at(second):
    return BEGIN + pd.Timedelta(second, unit="s")


def anomaly(endpoint, second, kind="latency_anomaly", severity="medium", **evidence):
    return lab.Anomaly(
        kind,
        "shop",
        endpoint,
        at(second - 10),
        at(second),
        severity,
        evidence or {"deviation": 4.0},
    )


def calls(caller, called):
    return caller[1] == "/checkout" and called[1] in ("/payment", "/inventory")


def manager(**knobs):
    return IncidentManager(lab.Sensitivity(**knobs))


def test_linked_anomalies_are_one_incident():
    m = manager()
    (incident,) = m.window(
        at(10),
        [anomaly("/payment", 10), anomaly("/inventory", 10), anomaly("/checkout", 10)],
        calls,
    )
    assert {a.endpoint for a in incident.anomalies} == {"/payment", "/inventory", "/checkout"}
    assert incident.id == f"INC-{int(at(10).timestamp())}-1"
    assert incident.first_detected == at(10)


def test_anomalies_without_a_link_are_two_incidents_with_numbers():
    m = manager()
    found = m.window(at(10), [anomaly("/health", 10), anomaly("/payment", 10)], calls)
    assert [i.id.rsplit("-", 1)[1] for i in found] == ["1", "2"]


def test_repeated_anomalies_are_one_entry_with_the_worst_numbers():
    m = manager()
    for second, deviation in [(10, 4.0), (20, 9.0), (30, 5.0)]:
        (incident,) = m.window(
            at(second), [anomaly("/payment", second, deviation=deviation)], calls
        )
    (one,) = incident.anomalies
    assert one.evidence["deviation"] == 9.0
    assert one.end == at(10)
    assert incident.last_anomaly == at(30)


@pytest.mark.parametrize(("gap", "incidents"), [(300, 1), (301, 2)])
def test_an_incident_takes_in_anomalies_within_the_correlation_window(gap, incidents):
    m = manager()
    m.window(at(10), [anomaly("/payment", 10)], calls)
    m.window(at(10 + gap), [anomaly("/checkout", 10 + gap)], calls)
    assert len(m.incidents) == incidents


def test_severity_is_the_worst_of_its_anomalies():
    m = manager()
    (incident,) = m.window(
        at(10),
        [anomaly("/payment", 10), anomaly("/checkout", 10, "error_spike", "critical")],
        calls,
    )
    assert incident.severity == "critical"


def test_an_incident_resolves_itself_after_a_while():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    assert m.tick(at(609)) == []
    assert m.tick(at(610)) == [incident]
    assert (incident.status, incident.resolved_at) == ("resolved", at(610))


def test_when_it_resolved_does_not_depend_on_when_one_looked():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.tick(at(99_999))
    assert incident.resolved_at == at(610)


def test_a_recurrence_soon_after_reopens():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.move(incident.id, "resolved", at(20))
    assert m.window(at(310), [anomaly("/payment", 310)], calls) == [incident]
    assert (incident.status, incident.to_dict()["reopened"], incident.resolved_at) == (
        "active",
        1,
        None,
    )
    assert incident.episodes == [(at(0), at(10)), (at(300), at(310))]


def test_another_trouble_nearby_is_not_a_recurrence():
    m = manager()
    (old,) = m.window(at(10), [anomaly("/payment", 10), anomaly("/checkout", 10)], calls)
    m.move(old.id, "resolved", at(20))
    group = [anomaly(e, 60) for e in ("/inventory", "/checkout")]
    (new,) = m.window(at(60), group, calls)
    assert new is not old
    assert old.status == "resolved"
    assert new.recurrence_of == old.id  # it names the last trouble at one of its endpoints


def test_a_later_recurrence_opens_a_new_one_that_names_the_old():
    m = manager()
    (old,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.move(old.id, "resolved", at(20))
    (new,) = m.window(at(311), [anomaly("/payment", 311)], calls)
    assert new is not old
    assert new.recurrence_of == old.id
    (other,) = m.window(at(311), [anomaly("/health", 311)], calls)
    assert other.recurrence_of is None


def test_the_life_cycle_goes_one_way():
    legal = {("active", "acknowledged"), ("active", "resolved"), ("acknowledged", "resolved")}
    for first in ("active", "acknowledged", "resolved"):
        for second in ("active", "acknowledged", "resolved"):
            m = manager()
            (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
            incident.status = first
            if (first, second) in legal:
                assert m.move(incident.id, second, at(20)).status == second
            else:
                with pytest.raises(
                    IllegalMoveError, match=f"{incident.id} is {first} and cannot become {second}"
                ):
                    m.move(incident.id, second, at(20))


def test_an_unknown_incident_is_a_key_error():
    with pytest.raises(KeyError):
        manager().move("INC-0-1", "resolved", at(0))


def test_without_a_cause_it_shows_where_the_anomalies_are():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    assert incident.root_cause is None
    shown = incident.to_dict()
    assert shown["root_cause"] is None
    assert shown["affected_endpoints"] == ["/payment"]
    assert shown["first_detected"] == "2026-01-01T00:00:10.000000Z"


def test_an_incident_is_read_back_as_it_was_written():
    """Times, tuples and lists have their types again, whatever an own detector put into its
    evidence.
    """
    m = manager()
    group = [
        replace(
            anomaly("/payment", 10, deviation=np.float64(9.0), n=np.int64(7)), traces=("a", "b")
        )
    ]
    (incident,) = m.window(at(10), group, calls)
    m.move(incident.id, "acknowledged", at(15))
    m.move(incident.id, "resolved", at(20))
    m.window(at(40), [anomaly("/payment", 40)], calls)
    cause = Suspect("shop", "/payment", 1.5, 0.9, (3, 4), ({"excess": 2.0},), "/payment")
    step = Step("1. What", "was compared", [{"n": 3}])
    incident.verdict = Verdict(
        (cause,), ("/payment",), (step,), ({"cost": 1.0},), total_traces=2, traces=("a",)
    )
    again = Incident.from_record(json.loads(json.dumps(incident.to_record())))
    assert again == incident
    assert again.earlier == [(at(0), at(10))]
    assert again.acknowledged_at == at(15)
    assert again.resolved_at is None


def history(incident):
    return [
        (int((event.time - at(0)).total_seconds()), event.what, event.detail)
        for event in incident.history
    ]


def test_the_history_tells_when_it_became_what():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.window(at(20), [anomaly("/payment", 20, severity="high")], calls)
    m.window(at(30), [anomaly("/payment", 30)], calls)  # it keeps the worst
    m.move(incident.id, "acknowledged", at(35))
    m.move(incident.id, "resolved", at(40))
    m.window(at(60), [anomaly("/payment", 60)], calls)
    m.tick(at(660))
    assert history(incident) == [
        (10, "opened", "medium"),
        (20, "severity", "medium to high"),
        (35, "acknowledged", ""),
        (40, "resolved", "by hand"),
        (60, "reopened", ""),
        (660, "resolved", "by itself"),
    ]
    assert incident.to_dict()["history"][1] == {
        "time": "2026-01-01T00:00:20.000000Z",
        "what": "severity",
        "detail": "medium to high",
    }


def test_what_comes_back_before_it_has_resolved_is_in_the_history():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.window(at(500), [anomaly("/payment", 500)], calls)
    assert history(incident)[1:] == [(500, "recurred", "")]


def test_what_is_accepted_can_be_taken_back_for_some_time():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    with pytest.raises(IllegalMoveError, match="was not accepted as normal in the last 300 s"):
        m.undo_accept(incident.id, at(19))
    m.move(incident.id, "acknowledged", at(15))
    m.move(incident.id, "resolved", at(20), accepted=True)
    assert not m.may_undo(incident, at(321))
    assert m.undo_accept(incident.id, at(320)) is incident
    assert (incident.status, incident.resolved_at) == ("acknowledged", None)
    assert history(incident)[2:] == [
        (20, "accepted", "as normal"),
        (320, "acceptance taken back", ""),
    ]
    with pytest.raises(IllegalMoveError):
        m.undo_accept(incident.id, at(321))


def test_what_came_back_after_somebody_was_at_work_is_active_again_when_taken_back():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.move(incident.id, "acknowledged", at(15))
    m.move(incident.id, "resolved", at(20))
    m.window(at(30), [anomaly("/payment", 30)], calls)
    m.move(incident.id, "resolved", at(40), accepted=True)
    assert m.undo_accept(incident.id, at(50)).status == "active"


def test_an_incident_of_a_version_without_a_history_has_what_its_times_tell():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    m.move(incident.id, "acknowledged", at(15))
    m.move(incident.id, "resolved", at(20))
    record = incident.to_record()
    del record["history"]
    again = history(Incident.from_record(record))
    assert again == [(10, "opened", "medium"), (15, "acknowledged", ""), (20, "resolved", "")]


def test_what_people_did_and_what_a_step_found_are_one_history():
    m = manager()
    (incident,) = m.window(at(10), [anomaly("/payment", 10)], calls)
    stored = incident.to_record()
    by_hand = Incident.from_record(stored)
    by_hand.status = "acknowledged"
    by_hand.add_event(at(15), "acknowledged")
    m.window(at(20), [anomaly("/payment", 20, severity="high")], calls)
    incident.take_life_cycle(life_cycle(by_hand.to_record(), incident.to_record()))
    assert incident.status == "acknowledged"
    assert [what for _, what, _ in history(incident)] == ["opened", "acknowledged", "severity"]


def test_of_one_severity_a_spike_comes_before_a_lasting_shift():
    (incident,) = manager().window(
        at(10),
        [anomaly("/payment", 10, "sustained_shift"), anomaly("/payment", 10, "error_spike")],
        calls,
    )
    assert incident.title == "Error spike detected in /payment"


def test_a_shift_of_failures_keeps_its_largest_share():
    m = manager()
    for end, rate in ((10, 0.06), (20, 0.19), (30, 0.1)):
        shift = anomaly("/payment", end, "sustained_shift", error_rate=rate)
        (incident,) = m.window(at(end), [shift], calls)
    assert incident.anomalies[0].evidence["error_rate"] == 0.19


BARE = """
import pandas as pd
from aiops_lab import Anomaly, Sensitivity
from aiops_lab.detect.grouping import IncidentManager

manager = IncidentManager(Sensitivity())
for second, deviation in ((10, 4.0), (20, 9.0), (30, 5.0)):
    end = pd.Timestamp(second, unit="s", tz="UTC")
    evidence = {"deviation": deviation}
    window = end - pd.Timedelta("10s")
    slow = Anomaly("latency_anomaly", "shop", "/payment", window, end, evidence=evidence)
    (incident,) = manager.window(end, [slow], lambda caller, called: False)
print(incident.title, incident.anomalies[0].evidence)
"""


def test_the_worst_numbers_stay_though_nobody_has_imported_the_detectors():
    told = subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True)
    assert told.stdout == "Latency spike detected in /payment {'deviation': 9.0}\n"


def test_what_was_stored_before_anomalies_had_a_last_window_is_read():
    (incident,) = manager().window(at(10), [anomaly("/payment", 10)], calls)
    record = incident.to_record()
    del record["seen"]
    again = Incident.from_record(record)
    assert again.last_seen == {("latency_anomaly", ("shop", "/payment")): at(10)}


def row(endpoint, **changes):
    """Return a row of a verdict's endpoints that are as usual."""
    usual = {"n_now": 9, "unanswered": 0, "degraded": False, "share": 0.0}
    usual |= {"usual_ms": 45.0, "now_ms": 46.0, "usual_failed": 0.0, "now_failed": 0.0}
    return {"endpoint": endpoint} | usual | changes


def explained():
    """Return an incident of /payment and /checkout, whose cause is the milder one of /payment."""
    kinds = {"/checkout": "critical", "/payment": "medium"}
    group = [anomaly(e, 10, "error_spike", severity) for e, severity in kinds.items()]
    (incident,) = manager().window(at(10), group, calls)
    endpoints = (
        row("/payment", degraded=True, now_ms=345.0, share=0.9),
        row("/checkout", degraded=True, now_ms=346.0, share=0.1, now_failed=0.5),
        row("/inventory"),
        row("/refund", n_now=0),
        row("/hangs", n_now=0, unanswered=3, degraded=True),
    )
    incident.verdict = Verdict(
        (Suspect("shop", "/payment", 1.5, 0.9, (3, 4), (), "/payment"),),
        ("/payment", "/checkout"),
        ledger=({"attributed_to": "/payment"}, {"attributed_to": "/checkout"}),
        endpoints=endpoints,
        sample_traces=({"affected_chain": ["/checkout"]}, {"affected_chain": ["/payment"]}),
    )
    return incident


def test_the_main_anomaly_is_at_the_cause_though_another_is_worse():
    incident = explained()
    assert incident.main_anomaly.endpoint == "/payment"
    assert incident.severity == "critical"
    assert incident.title.endswith("detected in /payment")
    incident.verdict = Verdict()
    assert incident.main_anomaly.endpoint == "/checkout"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("/payment", "/payment is the root cause."),
        ("/refund", "/refund was not reached by any request of the incident."),
        ("/inventory", "/inventory is as usual: mean latency 46.0 ms (usually 45.0 ms)."),
        (
            "/checkout",
            "/checkout is degraded: mean latency 346.0 ms (usually 45.0 ms), "
            "50% failed (usually 0%).",
        ),
        ("/hangs", "/hangs is degraded"),
    ],
)
def test_why_not_says_how_an_endpoint_did(endpoint, said):
    assert explained().why_not(endpoint).text.startswith(said)


def called():
    """A verdict on a service of its own name, and two routes that are alike."""
    usual = {"n_usual": 5, "n_now": 5, "usual_ms": 2.0, "now_ms": 2.0, "unanswered": 0}
    usual |= {"usual_failed": 0, "now_failed": 0, "degraded": False, "share": 0.0}
    endpoints = [
        {"endpoint": "GET /a", "service": "shop", "route": "/a", **usual},
        {"endpoint": "x /b", "service": "x", "route": "/b", **usual},
        {"endpoint": "y /b", "service": "y", "route": "/b", **usual},
    ]
    costs = {"SELECT 1": 3.0, "GET /a": 1.0, "UPDATE": -1.0}
    ledger = [{"attributed_to": name, "cost": cost} for name, cost in costs.items()]
    return Verdict(endpoints=tuple(endpoints), ledger=tuple(ledger))


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("/a", "GET /a is as usual"),
        ("shop /a", "GET /a is as usual"),
        ("y /b", "y /b is as usual"),
        ("SELECT 1", "SELECT 1 has no spans of its own, only calls of it: 75% of the excess"),
        ("UPDATE", "UPDATE has no spans of its own, only calls of it: 0% of the excess"),
    ],
)
def test_why_not_knows_an_endpoint_by_its_route_and_a_statement_by_its_calls(endpoint, said):
    assert called().why_not(endpoint).text.startswith(said)


def test_why_not_names_what_is_known_where_an_endpoint_is_not_or_is_several():
    told = r"must be one of \['GET /a', 'SELECT 1', 'UPDATE', 'x /b', 'y /b'\], got '/b'"
    with pytest.raises(ValueError, match=told):
        called().why_not("/b")


def test_why_not_shows_the_rows_and_the_traces_of_that_endpoint():
    step = explained().why_not("/checkout")
    assert step.rows == [{"attributed_to": "/checkout"}]
    assert step.traces == [{"affected_chain": ["/checkout"]}]
