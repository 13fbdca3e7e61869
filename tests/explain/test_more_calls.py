"""Calls beyond the usual number are evidence of their caller, even where nobody waits for them."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain import ledger
from tests.support.lines import Drawing
from tests.support.made import MS


def shop(seed: int, times: int, *, often: float = 1.0, fails: bool = False) -> pd.DataFrame:
    """Return requests of web, which calls a store so many times at once, ``often`` so; else once.

    ``fails``: all calls but the last fail, one after the other.
    """
    drawing = Drawing(seed)
    for k in range(200):
        trace, t = drawing.request()
        (web,) = drawing.ids(1)
        drawing.add((trace, web, None), ("web", "/list", "server", None), t, 60 * MS)
        for call in range(times if k < 200 * often else 1):
            client, server = drawing.ids(2)
            at = t + 5 * MS + (call * 6 * MS if fails else 0)
            how = {"status": 500 if fails and call < times - 1 else 200}
            ns = 5 * MS if fails else 40 * MS
            drawing.add((trace, client, web), ("web", "/rows", "client", "store"), at, ns, **how)
            drawing.add((trace, server, client), ("store", "/rows", "server", None), at, ns, **how)
    return drawing.frame()


def calls(usual: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """Return the evidence of calls."""
    return ledger.compare(lab.learn(usual), now).deviations.query("kind == 'calls'")


@pytest.mark.parametrize("often", [1.0, 0.2])
def test_who_makes_more_calls_at_once_is_named_with_the_call_as_evidence(often):
    (first,) = lab.rank_root_causes(shop(1, 1), shop(2, 5, often=often))
    assert (first.key, first.by) == (("web", "/list"), "deviations")
    (item,) = first.evidence
    assert (item["kind"], item["account"]) == ("calls", "edge /list → /rows")
    assert (item["k"], item["n"], item["usual_k"], item["usual_n"]) == (200 * often, 200, 0, 200)


def test_as_many_calls_as_usual_are_no_evidence():
    assert calls(shop(1, 3), shop(2, 3)).empty
    assert calls(shop(1, 3), shop(2, 2)).empty


def test_requests_that_usually_make_more_calls_are_counted_on_both_sides():
    usual = shop(1, 5, often=0.005)
    (item,) = calls(usual, shop(2, 5, often=0.01)).to_dict("records")
    assert (item["k"], item["usual_k"]) == (2, 1)
    assert item["share"] == 0


def test_a_call_that_repeats_a_failed_one_is_no_evidence():
    assert calls(shop(1, 1), shop(2, 3, fails=True)).empty
