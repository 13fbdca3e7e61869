"""The shop: a small web shop to break on purpose.

topology     the shop as data
services     the Flask apps, built from it
live         running(): start it in this process
traffic      drive(): customers
"""

from importlib import import_module

_HOMES = {"running": "live", "Shop": "live", "drive": "traffic", "SEED_SHOP": "topology", "Topology": "topology"}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'shop' has no attribute {name!r}")
    value = getattr(import_module(f"shop.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
