"""Calls whose spans were lost: what they cost is not their caller's own."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain import ledger
from tests.support.lines import Drawing, first_suspect
from tests.support.made import MS

STOCK = ("stock", "/stock")
SHELF = ("shelf", "/shelf")


def shop(
    seed: int,
    n: int = 200,
    *,
    web_ms: float = 10,
    stock_ms: float = 20,
    shelf_ms: float = 5,
    without_ms: float = 0,
    failing: float = 0,
    lost: float = 0,
    made: float = 1,
) -> pd.DataFrame:
    """Return requests of web, which calls stock, which calls shelf; only servers are recorded.

    ``made``: share of the requests that call stock at all; the others take ``without_ms`` more.
    ``lost``: share of the spans of stock that are lost. Every twentieth request calls mail, too.
    """
    drawing = Drawing(seed)
    dice = drawing.dice
    for k in range(n):
        trace, t = drawing.request()
        web, stock, shelf, mail = drawing.ids(4)
        calls = dice.random() < made
        fails = calls and dice.random() < failing
        shelf_ns = drawing.about(shelf_ms)
        stock_ns = drawing.about(stock_ms) + shelf_ns
        web_ns = drawing.about(web_ms) + (stock_ns if calls else int(without_ms * MS))
        ends = {"status": 502 if fails else 200}
        drawing.add((trace, web, None), ("web", "/buy", "server", None), t, web_ns, **ends)
        at = t + 2 * MS
        kept = dice.random() >= lost
        ends = {"status": 500 if fails else 200}
        if calls and kept:
            drawing.add((trace, stock, web), (*STOCK, "server", None), at, stock_ns, **ends)
        if calls:
            place = (*SHELF, "server", None)
            drawing.add((trace, shelf, stock), place, at + stock_ns - shelf_ns - MS, shelf_ns)
        if k % 20 == 0:
            drawing.add((trace, mail, web), ("mail", "/send", "server", None), t + MS, MS // 2)
    return drawing.frame()


@pytest.mark.parametrize("before", [0, 0.6])
@pytest.mark.parametrize("fault", [{"stock_ms": 60}, {"failing": 0.5}, {"failing": 1}])
def test_a_fault_is_found_where_most_spans_of_its_service_are_lost(before, fault):
    assert first_suspect(shop(1, lost=before), shop(2, lost=0.6, **fault)) == STOCK


def test_a_fault_below_lost_spans_is_found():
    assert first_suspect(shop(1), shop(2, lost=0.6, shelf_ms=60)) == SHELF


def test_a_slow_caller_is_found_beside_lost_spans():
    assert first_suspect(shop(1), shop(2, lost=0.6, web_ms=60)) == ("web", "/buy")


@pytest.mark.parametrize("before", [0, 0.6])
def test_lost_spans_alone_are_no_fault(before):
    assert lab.rank_root_causes(shop(1, lost=before), shop(2, lost=0.5)) == []


def own_time(**numbers: float) -> float:
    """Return the mean own time of web in requests that call stock or not."""
    frame = shop(1, 400, **numbers)
    rows = ledger.excess_ledger(lab.learn(frame), frame).rows
    return float(rows["usual"][(rows["account"] == "/buy own time")].iloc[0])


def test_the_time_of_a_lost_call_is_not_its_callers_own():
    assert own_time(lost=0.5) == pytest.approx(10, abs=0.5)


def test_a_call_that_was_not_made_takes_no_time():
    assert own_time(made=0.5) == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize(("more_ms", "own_ms"), [(4, 12), (140, 80), (12, 10), (60, 10)])
def test_who_takes_about_as_much_longer_as_the_call_has_lost_it(more_ms, own_ms):
    """The call takes 25 ms: between 0.3 and 3.3 times as much is alike."""
    assert own_time(made=0.5, without_ms=more_ms) == pytest.approx(own_ms, rel=0.1)
