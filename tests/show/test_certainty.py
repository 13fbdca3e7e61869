"""How sure is an answer? What its confidence means, and what limits it."""

from dataclasses import replace

import pytest

from aiops_lab.results import Suspect, Verdict
from aiops_lab.show.certainty import limits_of, meaning_of
from aiops_lab.show.services import ServiceFault

CAUSE = Suspect("pay", "/a", 2.0, confidence=0.9, support=(40, 40), share=1.0)
OTHER = Suspect("bank", "/b", 0.5, share=0.2)


def row(endpoint, service="pay", **changed):
    usual = {"n_now": 40, "unanswered": 0, "degraded": True}
    return {"endpoint": endpoint, "service": service, "route": endpoint} | usual | changed


REACHED = (row("/a"),)


def limits(cause=CAUSE, *others, endpoints=REACHED, affected=("/a",), faults=()):
    verdict = Verdict((cause, *others), affected, endpoints=tuple(endpoints))
    return limits_of(verdict, faults)


def with_support(k, n):
    return Suspect("pay", "/a", 2.0, support=(k, n), share=1.0)


def test_a_confidence_is_a_share_of_answers_that_were_right():
    told = meaning_of(CAUSE)
    assert told.startswith("A confidence of 90% means")
    assert "90% of the answers as clear as this one were right" in told
    assert "extra time and failures began there, here 100%." in told
    unusual = Suspect("pay", "/a", 0.5, confidence=0.6, by="deviations")
    assert "Clear is how unusual the cause is" in meaning_of(unusual)


def test_an_answer_that_nothing_speaks_against_says_so():
    (told,) = limits()
    assert told.startswith("Nothing that was recorded speaks against it.")


def test_what_a_case_is_unlike_in_is_a_limit():
    unlike = replace(CAUSE, caution="unlike the cases learned from.")
    assert limits(unlike)[0] == "unlike the cases learned from."


def test_without_a_cause_there_is_nothing_to_limit():
    assert limits_of(Verdict()) == []


@pytest.mark.parametrize(
    ("support", "told"),
    [
        ((30, 40), "Against it: in 10 of 40 slow or failed requests most of it was elsewhere."),
        ((0, 40), "Missing: no single request shows it."),
        ((19, 19), "Few slow or failed requests: all 19 show it; of many, it may be 83% or more."),
        (
            (1, 1),
            "Few slow or failed requests: the only one shows it; of many, it may be 21% or more.",
        ),
        ((20, 20), "Nothing that was recorded"),
    ],
)
def test_support_limits_where_it_is_not_whole_or_rests_on_few(support, told):
    (limit,) = limits(with_support(*support))
    assert limit.startswith(told)


def test_other_suspects_limit_by_their_share():
    (told,) = limits(CAUSE, OTHER)
    assert told == "Against it: 20% of the extra time and failures belongs to other suspects (/b)."


def test_a_cause_by_deviations_lacks_what_customers_lost():
    (told,) = limits(Suspect("pay", "/a", 0.5, by="deviations"))
    assert told.startswith("Missing: customers lost too little")


@pytest.mark.parametrize("endpoints", [(), [row("/a", n_now=0)]])
def test_a_cause_that_recorded_nothing_is_known_from_its_callers_only(endpoints):
    (told,) = limits(endpoints=endpoints)
    assert told.startswith("Missing: it recorded no spans of its own")


def test_requests_without_an_answer_are_recorded():
    (told,) = limits(endpoints=[row("/a", n_now=0, unanswered=1)])
    assert told.startswith("Nothing")


def test_what_became_worse_without_waiting_for_the_cause_is_not_explained():
    beside = row("/c", "mail")
    (told,) = limits(endpoints=[row("/a"), beside])
    assert told.startswith("Not explained by it: /c,")
    for explained in ({"affected": ("/a", "/c")}, {"endpoints": [row("/a")]}):
        (told,) = limits(**{"endpoints": [row("/a"), beside]} | explained)
        assert told.startswith("Nothing")
    (told,) = limits(endpoints=[row("/a"), beside | {"degraded": False}])
    assert told.startswith("Nothing")


def test_a_fault_of_the_whole_service_limits_each_of_its_endpoints():
    fault = ServiceFault("pay", ("/a", "/z"), (0, 1), ())
    (told,) = limits(faults=[fault])
    assert told.startswith("Against /a alone: /z of the same service")
    assert told.endswith("the fault may be of pay as a whole.")
