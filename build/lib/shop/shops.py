"""The shops on which the scenarios run: the market, and variants of the seed's shop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shop.topology import SEED_SHOP, Call, Endpoint, Topology
from shop.virtual_time.scenario import Place

PAYMENT = ("payment", "/payment")

INVENTORY = ("inventory", "/inventory")

CHECKOUT = ("checkout", "/checkout")

MARKET = Topology(
    (
        Endpoint(
            "front",
            "/home",
            median_ms=4,
            calls=((Call("catalog", "/products"), Call("recommend", "/similar")),),
        ),
        Endpoint("front", "/search", median_ms=3, calls=(Call("catalog", "/find"),)),
        Endpoint(
            "front",
            "/order",
            "POST",
            median_ms=6,
            calls=(
                Call("cart", "/cart"),
                (Call("stock", "/reserve"), Call("price", "/price")),
                Call("billing", "/charge", timeout_s=3.0),
                Call("mail", "/send"),
            ),
        ),
        Endpoint("catalog", "/products", median_ms=18),
        Endpoint("catalog", "/find", median_ms=30),
        Endpoint("recommend", "/similar", median_ms=12, calls=(Call("catalog", "/products"),)),
        Endpoint("cart", "/cart", median_ms=8),
        Endpoint("stock", "/reserve", median_ms=10, calls=(Call("warehouse", "/shelf"),)),
        Endpoint("warehouse", "/shelf", median_ms=15),
        Endpoint("price", "/price", median_ms=20),
        Endpoint(
            "billing",
            "/charge",
            "POST",
            median_ms=12,
            calls=(Call("bank", "/transfer", timeout_s=1.0),),
        ),
        Endpoint("bank", "/transfer", "POST", median_ms=50),
        Endpoint("mail", "/send", "POST", median_ms=6),
    ),
    front="front",
)

"""A market of ten services: three entries, parallel calls, a chain of four, and one endpoint that
two others call.
"""

MARKET_MIX = {"/home": 0.4, "/search": 0.2, "/order": 0.4}

"""Share of the requests at each entry of the market."""


def with_calls(
    topology: Topology, place: Place, timeout_s: float = 5.0, retries: int = 0
) -> Topology:
    """Return a topology in which the endpoint at `place` calls with these timeouts and retries."""

    def changed(calls: tuple[Call, ...]) -> tuple[Call, ...]:
        return tuple(replace(call, timeout_s=timeout_s, retries=retries) for call in calls)

    stages = topology.at(*place).stages
    return _with_endpoint(topology, place, calls=tuple(map(changed, stages)))


def _with_endpoint(topology: Topology, place: Place, **fields: Any) -> Topology:
    """Return the topology with these fields of the endpoint at `place` replaced."""
    changed = replace(topology.at(*place), **fields)
    endpoints = tuple(changed if e.place == place else e for e in topology.endpoints)
    return replace(topology, endpoints=endpoints)


IMPATIENT = with_calls(SEED_SHOP, CHECKOUT, timeout_s=0.5)

"""/checkout gives up after 0.5 s."""

STUBBORN = with_calls(SEED_SHOP, CHECKOUT, timeout_s=0.4, retries=3)

"""/checkout gives up after 0.4 s and makes a failed call up to four times."""

FORGIVING = with_calls(SEED_SHOP, CHECKOUT, retries=2)

"""/checkout makes a failed call up to three times."""

NARROW = _with_endpoint(SEED_SHOP, CHECKOUT, capacity=8)

"""/checkout answers at most 8 requests at once."""
