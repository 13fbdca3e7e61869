"""The shop: a small web shop to break on purpose.

topology      the shop as data: services, endpoints, calls
catalogue     the scenarios, each with its true causes; harder ones are in hard_scenarios, what both
              use is in scenario_parts
recordings    spans and their truth in files
live          the shop over real HTTP: running(), drive(), the commands serve, demo and check
virtual_time  the shop on a virtual clock: virtual(), stream(), twin(), scenarios, random shops
course        the lessons' prompts, and assignment(): an incident for each student
experiments   many runs: leaderboard, calibration, fault sizes, reports
"""

from importlib import import_module
from sys import modules
from typing import Any

_HOMES = {
    "running": "live.running",
    "Shop": "live.running",
    "drive": "live.traffic",
    "SEED_SHOP": "topology",
    "Topology": "topology",
    "Scenario": "virtual_time.scenario",
    "VirtualFault": "virtual_time.scenario",
    "virtual": "virtual_time.simulate",
    "stream": "virtual_time.simulate",
    "Twin": "virtual_time.twins",
    "twin": "virtual_time.twins",
    "affected": "virtual_time.twins",
    "assignment": "course.assignment",
    "SCENARIOS": "catalogue",
    "read_scenario": "virtual_time.scenario_file",
}
_MODULES = ("catalogue",)

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name in _MODULES:
        return import_module(f"shop.{name}")
    if name not in _HOMES:
        told = f"module 'shop' has no attribute {name!r}"
        raise AttributeError(told, name=name, obj=modules[__name__])  # Python tells similar names
    value = getattr(import_module(f"shop.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
