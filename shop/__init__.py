"""The shop: a small web shop to break on purpose.

topology     the shop as data
services     the Flask apps, built from it
live         running(): start it in this process
traffic      drive(): customers
scenario     what happens, as data: a shop, its traffic, what breaks when, the true cause
draws        chance, keyed by (seed, request, position, purpose)
virtual_time virtual(): a scenario as a discrete-event run on a virtual clock
twins        twin(): the same traffic with and without the fault
catalogue    the scenarios, each with its true answer
scenario_file read_scenario(): one of your own, from a TOML file
worlds       random large shops, and a fault somewhere in them
calibrate    how sure the ledger may be, learned from runs whose truth is known
trials       what comes of one run: each rule's answer, and what the whole pipeline finds
sizes        the same fault from too small to see to too large to miss
entrants     a root-cause rule of the user's own
processes    many runs at once
leaderboard  every rule over every scenario, and the summaries
publish      the leaderboard's tables, files and pictures
"""

from importlib import import_module

_HOMES = {
    "running": "live",
    "Shop": "live",
    "drive": "traffic",
    "SEED_SHOP": "topology",
    "Topology": "topology",
    "Scenario": "scenario",
    "VirtualFault": "scenario",
    "virtual": "virtual_time",
    "stream": "virtual_time",
    "Twin": "twins",
    "twin": "twins",
    "affected": "twins",
    "SCENARIOS": "catalogue",
    "read_scenario": "scenario_file",
}
_MODULES = ("catalogue", "leaderboard", "worlds")

__all__ = sorted([*_HOMES, *_MODULES])


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first used."""
    if name in _MODULES:
        return import_module(f"shop.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'shop' has no attribute {name!r}")
    value = getattr(import_module(f"shop.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
