"""Random layered topologies by seed, and a random fault in them."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

from aiops_lab.checks import FieldError
from aiops_lab.record.faults import STRIKES, Fault
from shop.topology import Call, Endpoint, Topology
from shop.virtual_time.scenario import Place, Scenario, VirtualFault

FRONT = "s00"

SLOWER_MS = 40.0, 300.0

"""Range of the extra duration of a slow endpoint, in ms.

In a shop of 50 endpoints a request takes 200 to 300 ms.
"""

RANDOM_KINDS = ("delay", "error", "hang", "slow", "network", "shed")


def layered(size: int, seed: int = 0) -> Topology:
    """Return a random shop of `size` endpoints (5 to 500) in layers.

    Customers call the endpoints of the first layer, and each layer calls the next one. A service
    has about three endpoints of one layer. Half of the calls are made in parallel; some endpoints
    have several callers. The same size and seed give the same shop, in any process.
    """
    is_whole = isinstance(size, int) and not isinstance(size, bool)
    if not is_whole or not 5 <= size <= 500:
        raise FieldError("size", "must be a whole number between 5 and 500", size)
    rng = random.Random(f"{seed}/{size}/topology")
    layers = _layers(size, rng)
    callees: dict[str, list[Endpoint]] = defaultdict(list)
    for above, below in pairwise(layers):
        for endpoint in below:
            caller = rng.choice(above)
            callees[caller.route].append(endpoint)
        for endpoint in above:
            if rng.random() < 0.3:
                shared = rng.choice(below)
                called = callees[endpoint.route]
                if shared not in called:
                    called.append(shared)
    endpoints = []
    for endpoint in chain(*layers):
        called = callees[endpoint.route]
        endpoints.append(_calling(endpoint, called, rng))
    return Topology(tuple(endpoints), front=FRONT)


def _layers(size: int, rng: random.Random) -> list[list[Endpoint]]:
    """Return the endpoints by layer: each layer is about twice as wide as the one above it."""
    width = max(2, round(size**0.4))
    layers = []
    made = 0
    service = -1
    while made < size:
        layer = []
        for k in range(min(width, size - made)):
            if k == 0 or (made > 0 and rng.random() < 1 / 3):
                service += 1
            median_ms = rng.uniform(3, 40)
            endpoint = Endpoint(f"s{service:02d}", f"/e{made:03d}", median_ms=round(median_ms, 1))
            layer.append(endpoint)
            made += 1
        layers.append(layer)
        wider = rng.uniform(1.5, 2.2)
        width = round(width * wider)
    return layers


def _calling(endpoint: Endpoint, callees: list[Endpoint], rng: random.Random) -> Endpoint:
    calls = [Call(callee.service, callee.route) for callee in callees]
    stages: list[Call | tuple[Call, ...]] = []
    while calls:
        width = rng.choice((1, 1, 2, 3))
        stage = tuple(reversed(calls[-width:]))
        del calls[-width:]
        stages.append(stage if len(stage) > 1 else stage[0])
    return replace(endpoint, calls=tuple(stages))


def entry_mix(topology: Topology) -> dict[str, float]:
    """Return a mix of customers: they come alike to all endpoints that no other one calls."""
    called = _called(topology)
    entries = Scenario("calm", topology=topology).entries
    return {name: 1.0 for name, place in entries.items() if place not in called}


def _called(topology: Topology) -> set[Place]:
    """Return the endpoints that another one calls."""
    return {place for endpoint in topology.endpoints for place in endpoint.called}


def anywhere(topology: Topology, seed: int = 0, rate: float = 20.0) -> Scenario:
    """Return a scenario with one fault of random kind and size at a random called endpoint.

    Customers call the first layer only. Two minutes of normal traffic come before the fault, which
    lasts one minute; `rate` is in requests/s.
    """
    rng = random.Random(f"{seed}/fault")
    called = sorted(_called(topology))
    place = rng.choice(called)
    kind = rng.choice(RANDOM_KINDS)
    usual_ms = topology.at(*place).median_ms
    more_ms = rng.uniform(*SLOWER_MS)
    error_rate = rng.uniform(0.2, 1.0)
    shed_rate = rng.uniform(0.2, 1.0)
    numbers: dict[str, dict[str, float]] = {
        "delay": {"duration_ms": more_ms},
        "error": {"rate": error_rate},
        "hang": {},
        "slow": {"factor": 1 + more_ms / usual_ms},
        "network": {"duration_ms": more_ms, "jitter_ms": more_ms / 5},
        "shed": {"rate": shed_rate},
    }
    made: Any = Fault if kind in STRIKES else VirtualFault
    fault = made(kind, *place, start_s=120.0, end_s=180.0, **numbers[kind])
    service, endpoint = place
    return Scenario(
        f"{kind} at {service} {endpoint}",
        (place,),
        (fault,),
        why="A random fault.",
        topology=topology,
        rate=rate,
        seconds=190.0,
        mix=entry_mix(topology),
    )
