"""How does a file say what happens? In TOML, whose keys are the fields of `Scenario` and of what it
is made of.

data/scenarios/slow_bank.toml is one to copy. The keys are read off the dataclasses: a new field
needs nothing here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from aiops_lab.checks import FieldError
from aiops_lab.record.faults import STRIKES, Fault
from shop.catalogue import MARKET, SCENARIOS
from shop.topology import SEED_SHOP, Topology
from shop.virtual_time.scenario import FAULT_KINDS, Scenario, VirtualFault

SHOPS = {"seed": SEED_SHOP, "market": MARKET}

"""The shops that a file may name as its ``topology``."""

SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def read_scenario(path: str | Path) -> Scenario:
    """Return the scenario that a TOML file describes.

    Its keys are the parameters of `Scenario`; ``[[faults]]`` and ``[[changes]]`` are tables with
    those of `Fault`, or of `VirtualFault` where the kind is one of its own. A place is written
    ``["bank", "/transfer"]``. The shop is ``topology = "seed"`` (the default) or ``"market"``, or
    the file's own: then ``[[endpoints]]`` and ``front`` stand at its top, with ``calls = [{service
    = "bank", endpoint = "/transfer"}, …]``; calls in brackets of their own are made in parallel.

    Raises
    ------
    ValueError
        Names the field with its place in the file, such as ``endpoints[2].calls[0].timeout_s``, the
        rule and the value.
    """
    table = _read(path)
    _check_keys(table, (*_keys(Scenario), *_keys(Topology)), "")
    return _made(Scenario, _with_its_shop(table), "")


def find_scenario(name: str) -> Scenario:
    """Return the scenario of this name in the catalogue, or the one in this file, whose name then
    ends in .toml.

    Raises
    ------
    ValueError
        There is none, or the file breaks a rule.
    """
    if name in SCENARIOS:
        return SCENARIOS[name]
    if not name.endswith(".toml"):
        near = get_close_matches(name, SCENARIOS, 1) or list(SCENARIOS)[:1]
        raise FieldError(
            "scenario",
            f"must be one that `scenarios` lists, such as {near[0]!r}, or a .toml file",
            name,
        )
    try:
        return read_scenario(name)
    except FieldError as error:
        if error.field == "scenario":
            raise
        raise FieldError(f"{name}: {error.field}", error.rule, error.value) from None


def _read(path: str | Path) -> dict[str, Any]:
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        raise FieldError("scenario", "must be a file that can be read", str(path)) from None
    try:
        return tomllib.loads(data.decode("utf-8-sig"))  # some editors begin a file with a mark
    except (ValueError, RecursionError) as error:
        raise FieldError("scenario", f"must be valid TOML: {error}", str(path)) from None


def _with_its_shop(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table with its topology made: the one that it names, or that of its endpoints."""
    own = {key: table[key] for key in table if key in _keys(Topology)}
    others = {key: table[key] for key in table if key not in own}
    if not own:
        return others | {"topology": _named_shop(table.get("topology", "seed"))}
    if "topology" in table:
        raise FieldError(
            "topology", f"must not be there beside {', '.join(own)}", table["topology"]
        )
    return others | {"topology": _made(Topology, own, "")}


def _named_shop(name: Any) -> Topology:
    if isinstance(name, str) and name in SHOPS:
        return SHOPS[name]
    raise FieldError(
        "topology", f"must be one of {', '.join(SHOPS)}, or endpoints of its own", name
    )


def _made(cls: type, table: object, place: str) -> Any:
    """Return a dataclass made from a table at a place in the file."""
    if not isinstance(table, dict):
        raise FieldError(place, "must be a table", table)
    cls = _class_of_kind(table, place) if cls is Fault else cls
    _check_keys(table, _keys(cls), place)
    for name in _keys(cls, needed=True):
        if name not in table:
            raise FieldError(_below(place, name), "must be given", None)
    hints = get_type_hints(cls)
    given = {key: _decoded(hints[key], value, _below(place, key)) for key, value in table.items()}
    try:
        return cls(**given)
    except FieldError as error:
        raise FieldError(_below(place, error.field), error.rule, error.value) from None


def _class_of_kind(table: dict[str, Any], place: str) -> type:
    kinds = (*STRIKES, *FAULT_KINDS)
    if "kind" in table and table["kind"] not in kinds:
        raise FieldError(_below(place, "kind"), f"must be one of {', '.join(kinds)}", table["kind"])
    return VirtualFault if table.get("kind") in FAULT_KINDS else Fault


def _keys(cls: Any, needed: bool = False) -> tuple[str, ...]:
    """Return the fields of a dataclass; if `needed`, those without a default."""
    has_default = {
        f.name: not (f.default is MISSING and f.default_factory is MISSING) for f in fields(cls)
    }
    return tuple(name for name, has in has_default.items() if not (needed and has))


def _check_keys(table: dict[str, Any], known: Sequence[str], place: str) -> None:
    for key, value in table.items():
        if key not in known:
            near = get_close_matches(key, known, 1)
            rule = (
                f"a known key, perhaps {near[0]}" if near else f"one of the keys {', '.join(known)}"
            )
            raise FieldError(_below(place, key), f"must be {rule}", value)


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


# ---- a value becomes what its field is declared to be


def _decoded(hint: Any, value: Any, place: str) -> Any:
    if is_dataclass(hint):
        kind: Any = hint
        return value if isinstance(value, kind) else _made(kind, value, place)
    origin = get_origin(hint)
    parts = get_args(hint)
    if origin in (Union, UnionType):
        return _decoded(_fitting(parts, value), value, place)
    if origin is tuple:
        return _array(parts, value, place)
    if origin is Mapping:
        return _mapping(parts[1], value, place)
    rule, types = SCALARS[hint]
    if not isinstance(value, types) or (isinstance(value, bool) and hint is not bool):
        raise FieldError(place, f"must be {rule}", value)
    return value


def _fitting(options: tuple[Any, ...], value: Any) -> Any:
    """Return which of the options the value looks like: a list is a tuple, all else is something
    else.
    """
    given = [option for option in options if option is not NoneType]
    return next(
        (option for option in given if (get_origin(option) is tuple) == isinstance(value, list)),
        given[0],
    )


def _array(parts: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise FieldError(place, "must be a list", value)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(value) != len(parts):
        raise FieldError(place, f"must be a list of {len(parts)}", value)
    return tuple(
        _decoded(part, one, f"{place}[{n}]")
        for n, (part, one) in enumerate(zip(parts, value, strict=True))
    )


def _mapping(part: Any, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(place, "must be a table", value)
    return {key: _decoded(part, one, f"{place}[{key!r}]") for key, one in value.items()}
