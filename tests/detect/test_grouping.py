"""Which anomalies are one incident, and which are two? With causes that are given."""

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.grouping import IncidentManager

START = pd.Timestamp("2026-01-01", tz="UTC")
WINDOW = pd.Timedelta(10, unit="s")
CALLS = {("/checkout", "/payment"), ("/checkout", "/inventory"), ("/front", "/checkout")}


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


# ---- one cause, one incident


def test_incidents_with_one_cause_become_one_and_the_older_stays():
    causes = Given(a=["database"], b=["database"])
    manager = grouped([(10, ["/a", "/b"])], causes)
    (incident,) = manager.incidents.values()
    assert incident.id.endswith("-1")
    assert sorted(key[1] for key in incident.keys) == ["/a", "/b"]
    assert manager.find(incident.id[:-1] + "2") is incident


@pytest.mark.parametrize("window", range(1, 18))
def test_causes_are_compared_again_as_they_become_known(window):
    causes = Given(a=["database"])
    manager = grouped([(10, ["/a", "/b"])], causes)
    assert len(manager.incidents) == 2
    causes.by_endpoint["/b"] = ["database"]
    end = 10 * window
    manager.window(at(end), [anomaly("/a", end), anomaly("/b", end)], calls, causes)
    assert len(manager.incidents) == (1 if window in (1, 2, 4, 8, 16) else 2)


def test_incidents_with_different_causes_stay_apart():
    causes = Given(a=["database"], b=["cache"])
    assert len(grouped([(10, ["/a", "/b"])], causes).incidents) == 2


def test_incidents_without_a_cause_stay_apart():
    assert len(grouped([(10, ["/a", "/b"])], Given()).incidents) == 2


def test_an_incident_that_is_over_takes_in_no_other():
    causes = Given(a=["database"], b=["database"])
    assert len(grouped([(10, ["/a"]), (310, ["/b"])], causes).incidents) == 1
    assert len(grouped([(10, ["/a"]), (320, ["/b"])], causes).incidents) == 2


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
