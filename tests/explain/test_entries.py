"""Requests are compared with usual ones, whatever is lost of their traces.

gateway   |=4=|-1-|                      |-1-|=4=|
order             |=4=|-½-|      |-½-|=6=|
pay                       |= 20 =|
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.ranking import rank_suspects
from aiops_lab.explain.reference import Reference
from tests.support.lines import Drawing, first_suspect
from tests.support.made import MS

Lost = Callable[[Random], set[str]]

GATEWAY = {"gateway", "to order"}
ORDER = {"order", "to pay"}
EVERY = ["gateway", "to order", "order", "to pay", "pay"]
PAY = ("pay", "/pay")


def nothing(dice: Random) -> set[str]:
    return set()


def all_of(spans: set[str]) -> Lost:
    return lambda dice: spans


def half_of(spans: set[str]) -> Lost:
    return lambda dice: spans if dice.random() < 0.5 else set()


def one_of(*sets: set[str]) -> Lost:
    return lambda dice: dice.choice(sets)


def each_third(dice: Random) -> set[str]:
    return {name for name in EVERY if dice.random() < 0.3}


def line(
    seed: int,
    n: int,
    lost: Lost = nothing,
    *,
    pay_ms: float = 0,
    order_ms: float = 0,
    failing: float = 0,
    entry: str = "gateway",
) -> pd.DataFrame:
    """Return n requests, with what is added to pay and order; `failing`: share of failures."""
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        top, ask, order, call, pay = drawing.ids(5)
        pays = drawing.about(20) + int(pay_ms * MS)
        orders = pays + 12 * MS + int(order_ms * MS)
        status = 500 if drawing.dice.random() < failing else 200
        spans = {
            "gateway": (top, None, entry, "/", "server", None, 0, orders + 8 * MS),
            "to order": (ask, top, entry, "/order", "client", "order", 4, orders + 2 * MS),
            "order": (order, ask, "order", "/order", "server", None, 5, orders),
            "to pay": (call, order, "order", "/pay", "client", "pay", 9, pays + MS),
            "pay": (pay, call, "pay", "/pay", "server", None, 10, pays),
        }
        missing = lost(drawing.dice)
        for name, (span, parent, *place, at, ns) in spans.items():
            if name not in missing:
                drawing.add((trace, span, parent), tuple(place), t + at * MS, ns, status=status)
    return drawing.frame()


@cache
def usual(lost: Lost) -> Reference:
    """Return what is learned from usual requests of which spans are lost."""
    return lab.learn(line(1, 300, lost))


USUAL = line(1, 300)

LOST: dict[str, tuple[Lost, Lost]] = {  # before, now
    "the entry": (nothing, all_of(GATEWAY)),
    "half of the entry": (nothing, half_of(GATEWAY)),
    "the entry, but not its calls": (nothing, all_of({"gateway"})),
    "half of the entry, but not its calls": (nothing, half_of({"gateway"})),
    "the calls of the entry": (nothing, all_of({"to order"})),
    "a service in the middle": (nothing, all_of(ORDER)),
    "half of a service in the middle": (nothing, half_of(ORDER)),
    "a service in the middle, but not its calls": (nothing, all_of({"order"})),
    "the calls of a service in the middle": (nothing, all_of({"to pay"})),
    "all but the last service": (nothing, all_of(GATEWAY | ORDER)),
    "the last service": (nothing, all_of({"pay"})),
    "the entry, usually": (all_of(GATEWAY), nothing),
    "a service in the middle, usually": (all_of(ORDER), nothing),
    "the entry, always": (all_of(GATEWAY), all_of(GATEWAY)),
    "a service in the middle, always": (all_of(ORDER), all_of(ORDER)),
    "the beginning, at various depths": (
        one_of(set(), GATEWAY, GATEWAY | ORDER),
        one_of(GATEWAY, GATEWAY | ORDER),
    ),
    "a third of all spans": (nothing, each_third),
    "a third of all spans, always": (each_third, each_third),
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_the_cause_is_found_whatever_is_lost(lost: tuple[Lost, Lost]) -> None:
    before, now = lost
    assert first_suspect(usual(before), line(2, 150, now, pay_ms=200)) == PAY


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_what_is_lost_is_no_excess(lost: tuple[Lost, Lost]) -> None:
    before, now = lost
    assert first_suspect(usual(before), line(2, 150, now)) is None


def test_a_failure_below_a_lost_entry_counts_where_it_began() -> None:
    assert first_suspect(USUAL, line(2, 150, all_of(GATEWAY), failing=0.3)) == PAY


def test_a_lost_entry_hides_no_trouble_of_what_it_called() -> None:
    now = line(2, 150, all_of(GATEWAY), order_ms=200)
    assert first_suspect(USUAL, now) == ("order", "/order")


def test_of_an_entry_that_is_new_the_known_callees_are_compared() -> None:
    assert first_suspect(USUAL, line(2, 150, entry="edge", pay_ms=200)) == PAY
    assert first_suspect(USUAL, line(2, 150, entry="edge")) is None


def test_a_sample_of_the_usual_traces_is_enough() -> None:
    assert first_suspect(line(1, 30), line(2, 150, all_of(GATEWAY), pay_ms=200)) == PAY


def test_the_calls_of_a_lost_entry_are_compared_with_all_usual_ones() -> None:
    comparison = compare(lab.learn(USUAL), line(2, 150, all_of(GATEWAY), pay_ms=200))
    assert len(comparison.bad) == 150
    (entry,) = comparison.ledger.entries.to_dict("records")
    assert (entry["entry"], entry["n_usual"], entry["n_now"]) == ("/order", 300, 150)
    (suspect,) = lab.rank_root_causes(USUAL, line(2, 150, all_of(GATEWAY), pay_ms=200))
    assert suspect.support == (150, 150)


def test_of_one_callee_of_two_lost_entries_all_calls_are_usual() -> None:
    other = line(3, 300, entry="partners")
    both = pd.concat([USUAL, other]).sort_values(["start", "span_id"], ignore_index=True)
    comparison = compare(lab.learn(both), line(2, 150, all_of(GATEWAY), pay_ms=200))
    assert comparison.ledger.entries["n_usual"].tolist() == [600]


def test_calls_and_what_served_them_are_one_entry() -> None:
    lost = one_of(GATEWAY | ORDER, GATEWAY | {"order", "pay"})
    comparison = compare(lab.learn(line(1, 60)), line(2, 30, lost, pay_ms=200))
    (entry,) = comparison.ledger.entries.to_dict("records")
    assert (entry["entry"], entry["n_usual"], entry["n_now"]) == ("/pay", 60, 30)
    assert rank_suspects(comparison)[0].key == PAY


def test_a_few_fragments_are_no_entry() -> None:
    """At the edges of a recording a few traces lack their beginning: they prove nothing."""
    whole = line(2, 150)
    fragments = line(4, 4, all_of(GATEWAY), pay_ms=2000)
    now = pd.concat([whole, fragments]).sort_values(["start", "span_id"], ignore_index=True)
    assert first_suspect(USUAL, now) is None


def test_what_is_usual_stays_as_it_was_learned() -> None:
    reference = lab.learn(USUAL)
    before = reference.cost_by_entry.copy()
    lab.rank_root_causes(reference, line(2, 150, all_of(GATEWAY), pay_ms=200))
    lab.rank_root_causes(reference, line(2, 150, half_of(ORDER), pay_ms=200))
    pd.testing.assert_frame_equal(reference.cost_by_entry, before)
    assert first_suspect(reference, line(2, 150, pay_ms=200)) == PAY


def test_a_replay_names_the_cause_below_a_lost_entry() -> None:
    now = line(5, 150, all_of(GATEWAY), pay_ms=200)
    later = pd.Timedelta(USUAL["start"].max() - now["start"].min()) + pd.Timedelta("1s")
    recording = pd.concat([USUAL, now.assign(start=now["start"] + later)], ignore_index=True)
    (incident,) = lab.replay(recording).incidents
    assert incident.root_cause.key == PAY
