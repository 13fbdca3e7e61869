"""Which anomalies are one incident, and which are two? With causes that are given."""

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.grouping import IncidentManager

START = pd.Timestamp("2026-01-01", tz="UTC")
WINDOW = pd.Timedelta(10, unit="s")
CALLS = {("/checkout", "/payment"), ("/checkout", "/inventory"), ("/search", "/inventory")}


def at(second):
    return START + pd.Timedelta(second, unit="s")


def anomaly(endpoint, second, **fields):
    """An anomaly of the window that ends at a second."""
    kind = fields.pop("kind", "latency_anomaly")
    return lab.Anomaly(kind, "shop", endpoint, at(second) - WINDOW, at(second), **fields)


def calls(caller, called):
    return (caller[1], called[1]) in CALLS


class Given:
    """Causes by endpoint: of an incident that of its first endpoint, of anomalies likewise."""

    def __init__(self, **causes):
        self.by_endpoint = {f"/{name}": names for name, names in causes.items()}
        self.asked = 0

    def _of(self, endpoint):
        self.asked += 1
        return [("shop", f"/{name}") for name in self.by_endpoint.get(endpoint, ())]

    def causes(self, incident):
        return self._of(incident.anomalies[0].endpoint)

    def origins(self, anomalies):
        return self._of(anomalies[0].endpoint)


def grouped(rows, causes=None, **knobs):
    """The manager after some windows: (second, endpoints)."""
    manager = IncidentManager(lab.Sensitivity(**knobs))
    for second, endpoints in rows:
        found = [anomaly(endpoint, second) for endpoint in endpoints]
        manager.window(at(second), found, calls, causes)
    return manager


def endpoints(manager):
    return [sorted(key[1] for key in i.keys) for i in manager.incidents.values()]


PAYMENT_THEN_INVENTORY = [(10, ["/payment", "/checkout"]), (60, ["/inventory", "/checkout"])]


def test_what_the_cause_does_not_explain_is_another_incident():
    causes = Given(payment=["payment"], inventory=["inventory"])
    manager = grouped(PAYMENT_THEN_INVENTORY, causes)
    assert endpoints(manager) == [["/checkout", "/payment"], ["/inventory"]]
    first, second = manager.incidents.values()
    assert first.beside == []
    assert second.beside == [first.id]
    assert first.last_anomaly == at(60)


@pytest.mark.parametrize("place", [0, 1])
def test_what_one_of_the_first_two_suspects_explains_joins(place):
    suspects = ["else", "inventory"] if place else ["inventory", "else"]
    causes = Given(payment=suspects, inventory=["inventory"])
    assert len(grouped(PAYMENT_THEN_INVENTORY, causes).incidents) == 1


def test_the_third_suspect_explains_nothing():
    causes = Given(payment=["a", "b", "inventory"], inventory=["inventory"])
    assert len(grouped(PAYMENT_THEN_INVENTORY, causes).incidents) == 2


def test_where_no_origin_is_found_the_link_decides():
    assert len(grouped(PAYMENT_THEN_INVENTORY, Given(payment=["payment"])).incidents) == 1


def test_an_incident_without_a_cause_explains_nothing():
    assert len(grouped(PAYMENT_THEN_INVENTORY, Given(inventory=["inventory"])).incidents) == 2


def test_without_causes_links_alone_decide():
    assert len(grouped(PAYMENT_THEN_INVENTORY).incidents) == 1


@pytest.mark.parametrize(("second", "incidents"), [(30, 1), (40, 2)])
def test_what_begins_within_two_windows_is_taken_for_one(second, incidents):
    causes = Given(payment=["payment"], inventory=["inventory"])
    rows = [(10, ["/payment", "/checkout"]), (second, ["/inventory", "/checkout"])]
    assert len(grouped(rows, causes).incidents) == incidents


def test_each_anomaly_goes_on_in_its_own_incident():
    causes = Given(payment=["payment"], inventory=["inventory"])
    manager = grouped([*PAYMENT_THEN_INVENTORY, (70, ["/inventory", "/payment"])], causes)
    assert endpoints(manager) == [["/checkout", "/payment"], ["/inventory"]]
    assert [i.last_anomaly for i in manager.incidents.values()] == [at(70), at(70)]


# ---- a victim of several causes

TWO_CAUSES = {"payment": ["payment"], "inventory": ["inventory"]}
TWO_INCIDENTS = [(10, ["/payment", "/checkout"]), (100, ["/inventory", "/checkout"])]


def test_a_later_anomaly_of_a_common_victim_goes_where_its_cause_is():
    causes = Given(**TWO_CAUSES, checkout=["inventory"])
    manager = grouped(TWO_INCIDENTS, causes)
    assert endpoints(manager) == [["/checkout", "/payment"], ["/checkout", "/inventory"]]
    assert [i.last_anomaly for i in manager.incidents.values()] == [at(10), at(100)]


@pytest.mark.parametrize(
    ("origin", "last"),
    [("payment", [200, 100]), ("inventory", [10, 200]), ("else", [10, 100, 200])],
)
def test_of_several_incidents_with_a_victim_that_one_is_chosen_which_explains_it(origin, last):
    causes = Given(**TWO_CAUSES, checkout=["inventory"])
    manager = grouped(TWO_INCIDENTS, causes)
    causes.by_endpoint["/checkout"] = [origin]
    manager.window(at(200), [anomaly("/checkout", 200)], calls, causes)
    assert [i.last_anomaly for i in manager.incidents.values()] == [at(end) for end in last]


def test_where_the_origin_of_a_victim_is_not_found_it_stays_in_its_oldest_incident():
    causes = Given(**TWO_CAUSES, checkout=["inventory"])
    manager = grouped(TWO_INCIDENTS, causes)
    causes.by_endpoint["/checkout"] = []
    manager.window(at(200), [anomaly("/checkout", 200)], calls, causes)
    assert [i.last_anomaly for i in manager.incidents.values()] == [at(200), at(100)]


@pytest.mark.parametrize(("second", "incidents"), [(30, 1), (40, 2)])
def test_a_victim_goes_on_in_its_incident_for_two_quiet_windows(second, incidents):
    causes = Given(**TWO_CAUSES)
    manager = grouped([(0, ["/payment", "/checkout"]), (100, ["/checkout"])], causes)
    causes.by_endpoint["/checkout"] = ["inventory"]
    manager.window(at(100 + second), [anomaly("/checkout", 100 + second)], calls, causes)
    assert len(manager.incidents) == incidents


def test_a_new_kind_of_anomaly_at_a_victim_is_asked_for_its_cause():
    causes = Given(**TWO_CAUSES)
    rows = [(second, ["/payment", "/checkout"]) for second in range(10, 100, 10)]
    manager = grouped(rows, causes)
    causes.by_endpoint["/checkout"] = ["inventory"]
    found = [anomaly("/payment", 100), anomaly("/checkout", 100)]
    failing = anomaly("/checkout", 100, kind="error_spike")
    manager.window(at(100), [*found, failing], calls, causes)
    first, second = manager.incidents.values()
    assert first.last_seen == {("latency_anomaly", a.key): at(100) for a in found}
    assert second.anomalies == [failing]


def test_a_victim_that_goes_on_after_its_origin_is_well_follows_the_other_fault():
    causes = Given(**TWO_CAUSES)
    rows = [(second, ["/payment", "/checkout"]) for second in range(10, 60, 10)]
    rows += [(second, ["/payment", "/inventory", "/checkout"]) for second in range(60, 100, 10)]
    manager = grouped(rows, causes)
    assert endpoints(manager) == [["/checkout", "/payment"], ["/inventory"]]
    causes.by_endpoint["/checkout"] = ["inventory"]
    for second in range(100, 150, 10):
        found = [anomaly("/inventory", second), anomaly("/checkout", second)]
        manager.window(at(second), found, calls, causes)
    assert endpoints(manager) == [["/checkout", "/payment"], ["/checkout", "/inventory"]]
    assert [i.last_anomaly for i in manager.incidents.values()] == [at(120), at(140)]


def test_of_two_incidents_in_which_a_victim_goes_on_the_last_one_keeps_it():
    causes = Given(**TWO_CAUSES, checkout=["inventory"])
    rows = [(end, ["/payment", "/checkout"]) for end in (110, 120, 130)]
    manager = grouped([*TWO_INCIDENTS, *rows], causes)
    causes.by_endpoint["/checkout"] = ["payment"]
    for end in (140, 150):
        found = [anomaly(name, end) for name in ("/payment", "/inventory", "/checkout")]
        manager.window(at(end), found, calls, causes)
    victim = "latency_anomaly", ("shop", "/checkout")
    assert [i.last_seen[victim] for i in manager.incidents.values()] == [at(150), at(130)]


def test_what_nothing_explains_joins_what_it_began_with():
    causes = Given(**TWO_CAUSES, checkout=["else"])
    rows = [(10, ["/payment"]), (100, ["/inventory"]), (110, ["/checkout"])]
    assert endpoints(grouped(rows, causes)) == [["/payment"], ["/checkout", "/inventory"]]


def test_an_incident_without_a_cause_keeps_what_is_abnormal_at_its_endpoints():
    causes = Given(checkout=["inventory"])
    manager = grouped([(10, ["/payment", "/checkout"]), (100, ["/checkout"])], causes)
    assert endpoints(manager) == [["/checkout", "/payment"]]


def test_what_originates_at_an_origin_of_an_incident_belongs_to_it():
    """Though others of its suspects are above that origin."""
    causes = Given(payment=["a", "b", "payment"], checkout=["payment"])
    manager = grouped([(10, ["/payment", "/checkout"]), (100, ["/checkout"])], causes)
    assert endpoints(manager) == [["/checkout", "/payment"]]


def test_causes_are_not_asked_for_while_a_victim_and_its_origin_go_on():
    causes = Given(payment=["payment"], checkout=["else"])
    manager = grouped([(10, ["/payment", "/checkout"])], causes)
    causes.asked = 0
    for end in range(20, 3000, 10):
        found = [anomaly("/payment", end), anomaly("/checkout", end)]
        manager.window(at(end), found, calls, causes)
    assert causes.asked == 0
    assert len(manager.incidents) == 1


# ---- one cause, one incident


def test_incidents_with_one_cause_become_one_and_the_older_stays():
    causes = Given(a=["database"], b=["database"])
    manager = grouped([(10, ["/a", "/b"])], causes)
    (incident,) = manager.incidents.values()
    assert incident.id.endswith("-1")
    assert sorted(key[1] for key in incident.keys) == ["/a", "/b"]
    assert manager.find(incident.id[:-1] + "2") is incident


ALL_THE_TIME = range(20, 400, 10)


@pytest.mark.parametrize(
    ("known_at", "ends", "merged_at"),
    [
        (20, ALL_THE_TIME, 20),
        (30, ALL_THE_TIME, 40),
        (50, ALL_THE_TIME, 80),
        (90, ALL_THE_TIME, 160),
        (170, ALL_THE_TIME, 320),
        (30, [20, 110, 120], 110),  # a window that had been missed by then
    ],
)
def test_causes_are_compared_again_whenever_the_age_has_doubled(known_at, ends, merged_at):
    causes = Given(a=["database"])
    manager = grouped([(10, ["/a", "/b"])], causes)
    for end in ends:
        if end >= known_at:
            causes.by_endpoint["/b"] = ["database"]
        manager.window(at(end), [anomaly("/a", end), anomaly("/b", end)], calls, causes)
        assert len(manager.incidents) == (1 if end >= merged_at else 2), end


def test_causes_are_compared_anew_in_a_new_episode():
    causes = Given(a=["database"])
    rows = [(10, ["/a", "/b"]), (60, ["/a"]), (320, ["/a"]), (500, ["/b"])]
    manager = grouped(rows, causes)
    assert len(manager.incidents) == 2
    causes.by_endpoint["/b"] = ["database"]
    manager.window(at(510), [anomaly("/b", 510)], calls, causes)
    assert len(manager.incidents) == 1


def test_an_incident_that_goes_on_is_compared_with_one_that_does_not():
    causes = Given(b=["database"])
    manager = grouped([(10, ["/a"]), (20, ["/b"])], causes)
    causes.by_endpoint["/a"] = ["database"]
    manager.window(at(30), [anomaly("/a", 30)], calls, causes)
    (incident,) = manager.incidents.values()
    assert incident.first_detected == at(10)
    assert incident.last_seen[anomaly("/b", 20).type, ("shop", "/b")] == at(20)


def test_what_was_not_explained_at_first_joins_once_its_own_cause_is_the_same():
    """A lasting shift whose beginning lies in the incident, say."""
    causes = Given(payment=["payment"], checkout=["checkout"])
    causes.causes = lambda incident: [("shop", "/payment")]
    shift = anomaly("/checkout", 60, kind="sustained_shift", since=at(30))
    manager = grouped([(10, ["/payment", "/checkout"])], causes)
    manager.window(at(60), [shift], calls, causes)
    (incident,) = manager.incidents.values()
    assert incident.merged == [f"INC-{int(at(60).timestamp())}-1"]
    assert ("sustained_shift", shift.key) in incident.last_seen


def test_an_incident_beside_a_merged_one_is_beside_the_one_that_stays():
    causes = Given(payment=["payment"], inventory=["inventory"], search=["search"])
    rows = [(10, ["/payment", "/checkout"]), (60, ["/inventory"]), (90, ["/search"])]
    manager = grouped(rows, causes)
    first, second, third = manager.incidents.values()
    assert third.beside == [second.id]
    causes.by_endpoint["/inventory"] = ["payment"]
    changed = manager.window(at(110), [anomaly("/inventory", 110)], calls, causes)
    assert third.beside == [first.id]
    assert third in changed


def test_of_three_with_one_cause_the_oldest_stays():
    causes = Given(a=["database"], b=["database"], c=["database"])
    manager = grouped([(10, ["/a", "/b", "/c"])], causes)
    (incident,) = manager.incidents.values()
    assert len(incident.merged) == 2


def test_what_an_incident_had_taken_in_is_told_of_the_one_that_takes_it_in():
    causes = Given(b=["database"], c=["database"])
    manager = grouped([(10, ["/a", "/b", "/c"])], causes)
    ids = [f"INC-{int(at(10).timestamp())}-{number}" for number in (1, 2, 3)]
    assert [*manager.incidents] == ids[:2]
    causes.by_endpoint["/a"] = ["database"]
    manager.window(at(20), [anomaly("/b", 20)], calls, causes)
    (incident,) = manager.incidents.values()
    assert incident.merged == ids[1:]
    assert manager.find(ids[2]) is incident


def test_who_is_at_work_on_either_is_at_work_on_both():
    causes = Given(a=["database"])
    manager = grouped([(10, ["/a", "/b"])], causes)
    younger = [*manager.incidents.values()][1]
    manager.move(younger.id, "acknowledged", at(15))
    causes.by_endpoint["/b"] = ["database"]
    manager.window(at(20), [anomaly("/b", 20)], calls, causes)
    (incident,) = manager.incidents.values()
    assert (incident.status, incident.acknowledged_at) == ("acknowledged", at(15))
    assert manager.find(younger.id) is incident
    told = [(event.what, event.detail) for event in incident.history[1:]]
    assert told == [("merged", younger.id), ("acknowledged", f"as {younger.id} was")]


def test_incidents_with_different_causes_stay_apart():
    causes = Given(a=["database"], b=["cache"])
    assert len(grouped([(10, ["/a", "/b"])], causes).incidents) == 2


def test_incidents_without_a_cause_stay_apart():
    assert len(grouped([(10, ["/a", "/b"])], Given()).incidents) == 2


@pytest.mark.parametrize(
    ("second", "episodes"),
    [(300, [(0, 300)]), (310, [(0, 310)]), (330, [(0, 10), (320, 330)]), (610, None)],
)
def test_an_open_incident_takes_in_one_with_its_cause_later_as_an_episode(second, episodes):
    causes = Given(a=["database"], b=["database"])
    manager = grouped([(10, ["/a"]), (second, ["/b"])], causes)
    if episodes is None:
        assert len(manager.incidents) == 2
    else:
        (incident,) = manager.incidents.values()
        assert incident.episodes == [(at(low), at(high)) for low, high in episodes]


@pytest.mark.parametrize(("second", "incidents"), [(200, 1), (320, 2)])
def test_an_incident_that_has_just_been_resolved_comes_back_with_its_cause(second, incidents):
    causes = Given(a=["database"], b=["database"])
    manager = grouped([(10, ["/a"])], causes)
    (first,) = manager.incidents.values()
    manager.move(first.id, "resolved", at(100))
    manager.window(at(second), [anomaly("/b", second)], calls, causes)
    assert len(manager.incidents) == incidents
    assert first.status == ("active" if incidents == 1 else "resolved")
    assert len(first.episodes) == (2 if incidents == 1 else 1)


def test_one_that_was_open_already_does_not_bring_back_what_was_resolved():
    causes = Given(a=["database"])
    manager = grouped([(10, ["/a", "/b"])], causes)
    first = next(iter(manager.incidents.values()))
    manager.move(first.id, "resolved", at(15))
    causes.by_endpoint["/b"] = ["database"]
    manager.window(at(20), [anomaly("/b", 20)], calls, causes)
    assert first.status == "resolved"


def test_the_number_of_a_merged_incident_is_not_given_again():
    causes = Given(a=["database"], b=["database"], c=["cache"])
    manager = grouped([(10, ["/a", "/b", "/c"])], causes)
    assert [i.rpartition("-")[2] for i in manager.incidents] == ["1", "3"]


def test_known_causes_cost_nothing_while_nothing_new_appears():
    causes = Given(payment=["payment"])
    manager = grouped([(10, ["/payment"])], causes)
    causes.asked = 0
    for end in range(20, 3000, 10):
        manager.window(at(end), [anomaly("/payment", end)], calls, causes)
    assert causes.asked == 0


# ---- one open incident an origin


def test_what_recurs_at_an_origin_is_an_episode_of_the_open_incident():
    manager = grouped([(10, ["/payment"]), (500, ["/payment"])])
    (incident,) = manager.incidents.values()
    assert incident.episodes == [(at(0), at(10)), (at(490), at(500))]
    assert incident.status == "active"


def test_an_acknowledged_incident_stays_acknowledged_in_its_next_episode():
    manager = grouped([(10, ["/payment"])])
    (incident,) = manager.incidents.values()
    manager.move(incident.id, "acknowledged", at(20))
    manager.window(at(500), [anomaly("/payment", 500)], calls)
    assert incident.status == "acknowledged"


def test_what_recurs_at_a_victim_much_later_is_another_incident():
    rows = [(10, ["/payment", "/checkout"]), (500, ["/checkout"])]
    assert endpoints(grouped(rows)) == [["/checkout", "/payment"], ["/checkout"]]


def test_flapping_is_one_incident_with_episodes():
    rows = [(second, ["/payment"]) for second in range(10, 4000, 420)]
    (incident,) = grouped(rows).incidents.values()
    assert len(incident.episodes) == 10


@pytest.mark.parametrize("found", [["/payment", "/checkout"], ["/checkout", "/payment"]])
def test_the_victim_of_an_origin_that_recurs_belongs_to_the_same_episode(found):
    (incident,) = grouped([(10, found), (200, found)], correlation_s=60).incidents.values()
    assert incident.episodes == [(at(0), at(10)), (at(190), at(200))]


def test_what_comes_back_soon_after_it_was_resolved_is_an_episode_of_the_same_incident():
    manager = grouped([(10, ["/payment"])])
    (incident,) = manager.incidents.values()
    manager.move(incident.id, "resolved", at(20))
    assert manager.window(at(30), [anomaly("/payment", 30)], calls) == [incident]
    assert incident.episodes == [(at(0), at(10)), (at(20), at(30))]
    manager.move(incident.id, "resolved", at(40))
    assert manager.window(at(400), [anomaly("/payment", 400)], calls) != [incident]


def test_each_step_of_the_life_cycle_has_its_time():
    manager = grouped([(10, ["/payment"])])
    (incident,) = manager.incidents.values()
    manager.move(incident.id, "acknowledged", at(20))
    assert (incident.acknowledged_at, incident.resolved_at) == (at(20), None)
    manager.move(incident.id, "resolved", at(30))
    assert (incident.acknowledged_at, incident.resolved_at) == (at(20), at(30))


# ---- links


@pytest.mark.parametrize(
    ("shared", "crowded", "incidents"),
    [
        (("one",), (), 2),
        (("one", "two"), (), 1),
        (("one", "two"), ("one",), 2),
        (("one", "two", "three"), ("one",), 1),
    ],
)
def test_traces_of_more_than_one_client_link(shared, crowded, incidents):
    one = anomaly("/a", 10, traces=("else", *shared))
    other = anomaly("/b", 10, traces=shared, crowded=crowded)
    for pair in ([one, other], [other, one]):
        manager = IncidentManager(lab.Sensitivity())
        assert len(manager.window(at(10), pair, calls)) == incidents
