"""What many scenarios share: when their faults begin and end, and the market as their shop."""

from __future__ import annotations

from typing import Any

from aiops_lab.known_names import known_instead
from aiops_lab.record.faults import Fault
from shop.shops import MARKET, MARKET_MIX
from shop.topology import Topology
from shop.virtual_time.scenario import Place, Scenario, VirtualFault

START, END = 120.0, 180.0

"""Start and end of most faults, in virtual seconds: two minutes of normal traffic come first."""


class ScenariosByName(dict[str, Scenario]):
    """Scenarios by name. The error for an unknown name tells those that are like it."""

    def __missing__(self, name: str) -> Scenario:
        others = known_instead(str(name), self)
        raise KeyError(f"no scenario here is called {name!r}, {others}")


def fault_at(kind: str, place: Place, start_s: float = START, **numbers: float) -> Fault:
    """Return a fault of an endpoint that ends at `END` if `numbers` do not say otherwise."""
    values: dict[str, Any] = {"end_s": END} | numbers
    return Fault(kind, *place, start_s, **values)


def virtual_fault_at(
    kind: str, place: Place, start_s: float = START, **numbers: Any
) -> VirtualFault:
    """Return a fault that only the virtual shop has, with the same times."""
    values: dict[str, Any] = {"end_s": END} | numbers
    return VirtualFault(kind, *place, start_s, **values)


def on_market(
    name: str,
    causes: tuple[Place, ...],
    faults: tuple[Fault, ...],
    defeats: str,
    why: str,
    *,
    topology: Topology = MARKET,
    **fields: Any,
) -> Scenario:
    """Return a scenario on the shop `MARKET` with its usual mix of requests."""
    return Scenario(name, causes, faults, defeats, why, topology=topology, mix=MARKET_MIX, **fields)
