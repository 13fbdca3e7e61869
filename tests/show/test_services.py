"""Which causes are probably one fault? Those at endpoints of one service at the same time."""

import pandas as pd

from aiops_lab.results import Suspect, Verdict
from aiops_lab.show.findings import Finding
from aiops_lab.show.services import ServiceFault, service_faults

BEGIN = pd.Timestamp("2026-01-01", tz="UTC")


def case(since_s, until_s, *causes, endpoints=()):
    """A finding with the causes (service, endpoint), between two times in seconds."""
    suspects = tuple(Suspect(service, endpoint, 1.0) for service, endpoint in causes)
    times = [BEGIN + pd.Timedelta(seconds=s) for s in (since_s, until_s)]
    return Finding("Slow", *times, Verdict(suspects, endpoints=endpoints))


def row(endpoint, *, degraded, n_now=9, service="x"):
    return {"endpoint": endpoint, "service": service, "degraded": degraded, "n_now": n_now}


A, B, C = ("x", "/a"), ("x", "/b"), ("x", "/c")


def test_two_causes_in_one_service_at_one_time_are_one_fault():
    (fault,) = service_faults([case(5, 9, B), case(0, 6, A)])
    assert fault == ServiceFault("x", ("/a", "/b"), (0, 1), ())
    assert str(fault) == (
        "These are probably one fault of the service x: /a and /b, the causes of 2 incidents at "
        "one time, are endpoints of it."
    )


def test_causes_of_two_services_or_at_two_times_are_two_faults():
    assert service_faults([case(0, 6, A), case(5, 9, ("y", "/b"))]) == []
    assert service_faults([case(0, 6, A), case(7, 9, B)]) == []
    assert len(service_faults([case(0, 6, A), case(6, 9, B)])) == 1


def test_the_same_endpoint_twice_is_no_fault_of_the_service():
    assert service_faults([case(0, 6, A), case(5, 9, A)]) == []


def test_a_chain_of_incidents_that_overlap_is_one_fault():
    (fault,) = service_faults([case(0, 9, A), case(1, 2, B), case(8, 12, C)])
    assert fault.cases == (0, 1, 2)
    assert "/a, /b and /c" in str(fault)


def test_suspects_of_one_incident_in_the_service_of_its_cause_are_one_fault():
    (fault,) = service_faults([case(0, 9, A, ("y", "/z"), B)])
    assert fault.endpoints == ("/a", "/b")
    assert "/a and /b, suspects of one incident, are" in str(fault)


def test_endpoints_of_the_service_that_are_as_usual_make_it_less_likely():
    reached = row("/ok", degraded=False), row("/not_reached", degraded=False, n_now=0)
    reached += (row("/a", degraded=False),)  # a cause, though too little to be called worse
    rows = *reached, row("/victim", degraded=True), row("/far", degraded=False, service="y")
    (fault,) = service_faults([case(0, 9, A, B, endpoints=rows)])
    assert fault.as_usual == ("/ok",)
    assert str(fault).startswith("These are perhaps one fault of the service x")
    assert str(fault).endswith("but /ok of it is as usual.")


def test_without_causes_there_is_no_fault():
    assert service_faults([case(0, 9), case(0, 9)]) == []
    assert service_faults([]) == []
