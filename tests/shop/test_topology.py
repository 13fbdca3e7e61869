"""The shop as data."""

from __future__ import annotations

import random
import re
import statistics

import pytest

from shop.topology import SEED_SHOP, Call, Endpoint, Topology


def test_the_seeds_shop_is_what_the_seed_says() -> None:
    known = {(e.method, e.route) for e in SEED_SHOP.endpoints}
    assert known == {
        ("GET", "/health"),
        ("GET", "/inventory"),
        ("POST", "/payment"),
        ("POST", "/checkout"),
    }
    stages = SEED_SHOP.at("checkout", "/checkout").stages
    assert [[call.endpoint for call in stage] for stage in stages] == [["/payment"], ["/inventory"]]
    assert SEED_SHOP.front == "checkout"


def test_service_times_are_lognormal_with_their_median_and_spread() -> None:
    endpoint, rng = Endpoint("a", "/a", median_ms=50, sigma=0.3), random.Random(5)
    drawn = [endpoint.service_time_s(rng) for _ in range(4000)]
    assert statistics.median(drawn) == pytest.approx(0.05, rel=0.03)
    assert max(drawn) < 0.2
    assert Endpoint("a", "/a", median_ms=0).service_time_s(rng) == 0


def test_the_same_seed_draws_the_same_times() -> None:
    endpoint = SEED_SHOP.endpoints[0]
    assert endpoint.service_time_s(random.Random(1)) == endpoint.service_time_s(random.Random(1))
    assert endpoint.service_time_s(random.Random(1)) != endpoint.service_time_s(random.Random(2))


def test_as_one_service_all_calls_lead_to_itself() -> None:
    one = SEED_SHOP.as_one()
    assert one.services == ("shop",)
    assert {call.service for stage in one.at("shop", "/checkout").stages for call in stage} == {
        "shop"
    }
    assert SEED_SHOP.services == ("health", "inventory", "payment", "checkout")


def test_callers_come_before_their_callees() -> None:
    chain = Topology(
        (
            Endpoint("a", "/a", calls=(Call("b", "/b"),)),
            Endpoint("c", "/c"),
            Endpoint("b", "/b", calls=((Call("c", "/c"), Call("d", "/d")),)),
            Endpoint("d", "/d"),
        ),
        front="a",
    )
    order = [endpoint.service for endpoint in chain.callers_first()]
    assert order.index("a") < order.index("b") < min(order.index("c"), order.index("d"))


A_TO_B_TWICE = Endpoint("a", "/a", calls=((Call("b", "/b"), Call("b", "/c")),))


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("median_ms", lambda: Endpoint("a", "/a", median_ms=-1)),
        ("median_ms", lambda: Endpoint("a", "/a", median_ms=float("nan"))),
        ("sigma", lambda: Endpoint("a", "/a", sigma=float("inf"))),
        ("route", lambda: Endpoint("a", "a")),
        ("service", lambda: Endpoint("", "/a")),
        ("method", lambda: Endpoint("a", "/a", method="BREW")),
        ("capacity", lambda: Endpoint("a", "/a", capacity=0)),
        ("timeout_s", lambda: Call("a", "/a", timeout_s=0)),
        ("timeout_s", lambda: Call("a", "/a", timeout_s=-5)),
        ("retries", lambda: Call("a", "/a", retries=-1)),
        ("endpoints[1]", lambda: Topology((Endpoint("a", "/a"), Endpoint("a", "/a")), "a")),
        (
            "endpoints[0].calls[0]",
            lambda: Topology((Endpoint("a", "/a", calls=(Call("a", "/b"),)),), "a"),
        ),
        ("endpoints[0].calls[0][1]", lambda: Topology((A_TO_B_TWICE, Endpoint("b", "/b")), "a")),
        (
            "endpoints[0].calls",
            lambda: Topology((Endpoint("a", "/a", calls=(Call("a", "/a"),)),), "a"),
        ),
        ("front", lambda: Topology((Endpoint("a", "/a"),), "b")),
    ],
)
def test_a_shop_that_cannot_be_is_refused_by_field(field: str, make) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(field)} must .*, got "):
        make()


def test_a_circle_of_calls_is_named() -> None:
    endpoints = (
        Endpoint("a", "/a", calls=(Call("b", "/b"),)),
        Endpoint("b", "/b", calls=(Call("a", "/a"),)),
    )
    named = r"endpoints\[0\].calls must not form a cycle, got 'a /a -> b /b -> a /a'"
    with pytest.raises(ValueError, match=named):
        Topology(endpoints, "a")


def test_two_services_with_the_same_route_cannot_be_one() -> None:
    two = Topology((Endpoint("a", "/x"), Endpoint("b", "/x")), "a")
    with pytest.raises(ValueError, match=r"endpoints\[1\] must be given once, got 'shop /x'"):
        two.as_one()
