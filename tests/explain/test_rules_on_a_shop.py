"""What the classic rules say about a shop with a fault, and how far they are right."""

from itertools import product

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.rules import RULES
from tests.support.made import Shop, fault

SHOPS = {
    "latency": ("/payment", {"added_ms": 300}),
    "errors": ("/inventory", {"status": 500, "rate": 0.5}),
    "cascade": ("/payment", {"status": 500}),
    "hang": ("/payment", {"added_ms": 20_000}),  # its callers give up after 5 s
}
SHOP = lab.learn(Shop(1).run(60))
MIX = ("/checkout", "/checkout", "/health")  # all that is broken is reached through /checkout
BROKEN = {
    name: Shop(2, fault(at, 0, 999, **numbers)).run(30, mix=MIX)
    for name, (at, numbers) in SHOPS.items()
}
RIGHT = {
    "first by end": {"latency", "errors", "cascade"},
    "deepest error": {"errors", "cascade"},
    "first by start": set(),
    "entry": set(),
    "walk down": set(SHOPS),
    "ledger": set(SHOPS),
}


@pytest.mark.parametrize(("rule", "scenario"), [*product(RIGHT, SHOPS)])
def test_which_rule_is_right_in_which_scenario(rule, scenario):
    found = RULES[rule](SHOP, BROKEN[scenario])
    assert bool(found and found[0].endpoint == SHOPS[scenario][0]) == (scenario in RIGHT[rule])


@pytest.mark.parametrize("rule", RULES)
def test_ranks_are_complete_and_the_order_of_the_rows_does_not_matter(rule):
    frame = BROKEN["latency"]
    found = RULES[rule](SHOP, frame)
    assert [(-s.score, s.key) for s in found] == sorted((-s.score, s.key) for s in found)
    assert sum(s.share for s in found) == pytest.approx(1 if found else 0)
    shuffled = frame.sample(frac=1, random_state=3).sort_values(
        ["start", "span_id"], ignore_index=True
    )
    pd.testing.assert_frame_equal(shuffled, frame)
    assert [s.endpoint for s in RULES[rule](SHOP, shuffled)] == [s.endpoint for s in found]


def test_a_call_through_a_client_span_and_parents_in_a_circle_are_followed_once():
    frame = BROKEN["cascade"]
    circle = frame.copy()
    root = circle["parent_id"].isna() & (circle["endpoint"] == "/health")
    circle.loc[root, "parent_id"] = circle.loc[root, "span_id"]
    for rule in RULES.values():
        assert isinstance(rule(SHOP, circle), list)
    assert RULES["walk down"](SHOP, frame)[0].endpoint == "/payment"
