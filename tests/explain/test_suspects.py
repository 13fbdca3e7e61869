"""Suspects and verdicts of requests drawn by hand, with numbers computed by hand."""

from dataclasses import replace
from math import sqrt

import pytest

import aiops_lab as lab
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.ranking import rank_suspects
from aiops_lab.explain.verdict import build_verdict
from aiops_lab.results import Suspect
from tests.support.traces import call, many, span


def asked(*, ms=0, status=200, b_status=200):
    """Return a request to /a that usually takes 100 ms, of which it waits 50 ms for /b."""
    top = span(1, None, "/a", "server", 0, 100 + ms, status=status)
    return [top, *call(2, "/b", 10, 50 + ms, status=b_status)]


N = 60
USUAL = lab.learn(many(asked(), n=N))
SLOW, FAILED = asked(ms=300), asked(status=500)


def told(now, *suspects):
    """Return the verdict that names some suspects, else those that are found."""
    comparison = compare(USUAL, now)
    return build_verdict(comparison, list(suspects) or rank_suspects(comparison))


def test_scores_support_and_evidence_by_hand():
    """Of three requests two are 300 ms slow in /b, and one fails in /a, as fast as ever."""
    b, a = lab.rank_root_causes(USUAL, many(SLOW, SLOW, FAILED, n=N))
    se_ms = sqrt(2 / 3 * 1 / 3 * 300**2 / N)
    imagined = 1 / (N + 2)
    se_failed = sqrt(imagined * (1 - imagined) * 2 / N) + ((9 - 1) / 6 + 0.5) / 3 / N
    assert b.score == pytest.approx((200 - 3 * se_ms) / 100)
    assert a.score == pytest.approx(5 * (1 / 3 - 3 * se_failed))
    assert (b.support, a.support) == ((40, 60), (20, 60))
    assert b.share == pytest.approx(b.score / (a.score + b.score))
    assert [row["account"] for row in b.evidence] == ["/b own time"]
    assert [row["account"] for row in a.evidence] == ["/a itself"]
    assert (b.name, b.by, a.name) == ("/b", "excess", "/a")


def test_what_costs_too_little_is_named_by_its_deviations():
    """A hundredth of a usual request, in all of them; the least score is two hundredths."""
    (first,) = lab.rank_root_causes(USUAL, many(asked(ms=1), n=N))
    assert (first.endpoint, first.by, first.share) == ("/b", "deviations", 1.0)
    (item,) = [item for item in first.evidence if item["share"] > 0]
    assert (item["kind"], item["account"], item["k"]) == ("self", "/b own time", N)
    (first,) = lab.rank_root_causes(USUAL, many(asked(ms=3), n=N))
    assert (first.endpoint, first.by) == ("/b", "excess")


def test_nothing_beyond_the_noise_is_nobody_s_fault():
    assert lab.rank_root_causes(USUAL, many(asked(), n=N)) == []
    verdict = told(many(asked(), n=N))
    assert verdict.steps[-1].text == "No cause found: nothing exceeds the noise."
    assert [row["share"] for row in verdict.endpoints] == [0.0, 0.0]
    assert not any(row["degraded"] for row in verdict.endpoints)


# ---- who is affected


def degraded(now):
    return {row["endpoint"]: row["degraded"] for row in told(now).endpoints}


def test_endpoints_are_degraded_that_are_slower_or_fail_more():
    assert degraded(many(SLOW, n=N)) == {"/a": True, "/b": True}
    assert degraded(many(FAILED, n=N)) == {"/a": True, "/b": False}
    assert degraded(many(asked(status=502, b_status=500), n=N)) == {"/a": True, "/b": True}


def test_of_the_new_and_of_the_gone_nothing_is_known():
    new = span(1, None, "/new", "server", 0, 9_000, status=500)
    assert degraded(many([new], n=N)) == {"/a": False, "/b": False, "/new": False}


def test_unanswered_requests_make_degraded():
    open_calls = [span(1, None, "/a", "server", 0, None, status=0)]
    assert degraded(many(asked(), open_calls, n=N)) == {"/a": True, "/b": False}


def test_the_cause_comes_before_those_that_wait_for_it():
    verdict = told(many(SLOW, n=N))
    assert verdict.affected == ("/b", "/a")
    shares = {row["endpoint"]: row["share"] for row in verdict.endpoints}
    assert shares == {"/a": 0.0, "/b": 1.0}


# ---- what it shows

B, A = (Suspect("shop", name, 1.0, 0.9, (3, 9), (), name, 0.5) for name in ("/b", "/a"))


@pytest.mark.parametrize(
    ("made", "cause", "kind"),
    [
        (SLOW, B, "slow"),
        (asked(status=502, b_status=500), B, "error"),
        ([*SLOW[:2], SLOW[2]._replace(duration_ns=None)], B, "timeout"),
        ([*SLOW[:2], SLOW[2]._replace(status=0)], B, "timeout"),
        ([SLOW[0], SLOW[1]._replace(status=0), SLOW[2]], B, "timeout"),  # given up
        (SLOW, A, "slow"),
        (asked(status=500), A, "error"),
    ],
)
def test_samples_say_how_the_cause_went_wrong(made, cause, kind):
    lost = span(1, None, "/other", "client", 15, 5, status=0, peer="shop")
    other = span(1, None, "/health", "server", 0, 5)
    samples = told(many(made, [other], [lost], n=6), cause).sample_traces
    assert len(samples) == 2
    assert {sample["root_kind"] for sample in samples} == {kind}
    assert {sample["root_endpoint"] for sample in samples} == {cause.name}
    assert all(sample["affected_chain"] == ["/a", "/b"] for sample in samples)


def test_the_reason_is_the_share_and_the_support_if_there_is_any():
    text = told(many(SLOW, n=6), B).steps[-1].text
    assert "50% of the excess originated there, the largest part in 3 of 9" in text
    text = told(many(SLOW, n=6), replace(B, support=(0, 9))).steps[-1].text
    assert "50% of the excess originated there. Confidence: 90%" in text


def test_the_reason_by_deviations_names_the_first_three():
    items = tuple({"kind": "self", "account": f"/{k}"} for k in range(5))
    text = told(many(SLOW, n=6), replace(B, by="deviations", evidence=items)).steps[-1].text
    assert "(self of /0, self of /1, self of /2)" in text
