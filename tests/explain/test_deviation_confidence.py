"""A suspect by deviations says less where the evidence is unlike what the confidence was learned
from.
"""

from math import inf

import numpy as np
import pytest

import aiops_lab as lab
from aiops_lab.explain import ranking
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviation_confidence import (
    _odd_above,
    few_observations,
    lowered_by,
    terms_of,
)
from aiops_lab.explain.ledger import compare
from aiops_lab.results import Suspect
from aiops_lab.traces.trees import TraceTrees
from tests.explain.test_deviations import always, hosts, logging, mute, run


@pytest.fixture(scope="module")
def gave_up():
    """Spans in which /payment swallows a failure, and its caller does not ask /inventory then."""
    effect = always("/payment", status=500, rate=0.5)
    return hosts(mute(run(effect=effect)))


def both(normal, now):
    """Return the first suspect of a case, and the same before its confidence was lowered."""
    comparison = compare(lab.learn(normal), now)
    return ranking.rank_suspects(comparison)[0], ranking.rank_by_deviations(comparison)[0]


def row(kind="self", share=0.09, account="/a"):
    return {"kind": kind, "share": share, "account": account}


def test_who_gave_up_may_have_been_answered_otherwise(gave_up):
    first, plain = both(hosts(run(1, seconds=200)), gave_up)
    assert first.key == plain.key == ("shop", "/checkout")
    assert first.terms == {
        "requests": inf,
        "observations": inf,
        "alone": 0.5,
    }  # /payment was asked before
    assert first.confidence == pytest.approx(plain.confidence / 2)
    assert first.caution.endswith("that no other service explains is 0.5, at least 1 there.")


def unseen(frame):
    """Return the spans as recorded where the called services record nothing and have no name."""
    called = (frame["kind"] == "server") & frame["endpoint"].isin(["/payment", "/inventory"])
    return frame[~called].assign(peer=None).reset_index(drop=True)


def test_a_callee_without_a_name_may_have_answered_otherwise(gave_up):
    first, _ = both(unseen(hosts(run(1, seconds=200))), unseen(gave_up))
    assert first.key == ("shop", "/checkout")
    assert first.terms["alone"] == 0.5


def test_a_callee_that_writes_log_lines_would_have_shown_it(gave_up):
    normal = logging(hosts(run(1, seconds=200)), "Ledger#12")
    first, plain = both(normal, logging(gave_up, "Ledger#12"))
    assert first.key == ("shop", "/checkout")
    assert first.terms["alone"] == 1
    assert (first.confidence, first.caution) == (plain.confidence, "")


@pytest.mark.parametrize(("requests", "part"), [(300, 1.0), (150, 0.5), (75, 0.25), (600, 1.0)])
def test_a_slight_deviation_in_few_requests_is_less_sure(requests, part):
    suspect = Suspect("s", "/a", 0.1, confidence=0.8, evidence=(row(),), by="deviations")
    first = lowered_by(suspect, terms_of(suspect.evidence, (), requests))
    assert first.confidence == pytest.approx(0.8 * part)
    assert bool(first.caution) == (part < 1)
    plain = terms_of([row(), row(share=0.11)], (), requests)
    assert plain["requests"] == inf


@pytest.mark.parametrize(("few", "part"), [(9, 1.0), (6, 2 / 3), (4, 4 / 9)])
def test_a_few_slow_spans_are_less_sure_however_slow(few, part):
    suspect = Suspect("s", "/a", 0.1, confidence=0.9, evidence=(row(share=0.8),), by="deviations")
    first = lowered_by(suspect, terms_of(suspect.evidence, (), 1000, few))
    assert first.confidence == pytest.approx(0.9 * part)
    assert bool(first.caution) == (part < 1)


@pytest.mark.parametrize(
    ("kind", "n", "few"), [("self", 4, 4), ("self", 40, inf), ("shape", 4, inf)]
)
def test_only_self_times_that_counting_cannot_tell_are_few(kind, n, few):
    rows = [row(kind, 0.5) | {"n": n, "usual_n": 20}, row(share=0.1) | {"n": 3, "usual_n": 20}]
    assert few_observations(rows, RcaConfig()) == few


def test_only_an_odd_set_of_calls_is_explained_by_others():
    rows = [row("shape", 0.3, "/a"), row("self", 0.2, "/a"), row("shape", 0.1, "/b")]
    assert terms_of(rows, {"/a"}, 60)["alone"] == pytest.approx(0.45 / 0.6)
    assert terms_of(rows[1:], {"/a"}, 60)["alone"] == 1


def test_each_span_is_below_the_nearest_odd_one():
    empty = TraceTrees(*[np.empty(0)] * len(TraceTrees._fields))
    trees = empty._replace(
        parent=np.array([-1, 0, 1, 2, 0, 5]),
        root=np.array([0, 0, 0, 0, 0, -1]),  # 5 is its own parent
        order=np.array([0, 1, 4, 2, 3]),
        first=np.array([0, 2, 3, 4, 4, 4, 5]),
    )
    odd = np.array([True, False, True, False, False, True])
    assert _odd_above(odd, trees).tolist() == [-1, 0, 0, 2, 0, -1]
