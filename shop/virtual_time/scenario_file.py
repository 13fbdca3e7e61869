"""Scenarios in TOML files, whose keys are the fields of `Scenario` and of the classes it contains.

data/scenarios/slow_bank.toml is an example to copy. The keys are those of the dataclasses: a new
field needs no change here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from aiops_lab.checks import FieldError
from aiops_lab.record.faults import STRIKES, Fault
from shop.catalogue import SCENARIOS
from shop.hard_scenarios import HARD_SCENARIOS
from shop.shops import MARKET
from shop.topology import SEED_SHOP, Topology
from shop.virtual_time.scenario import FAULT_KINDS, Scenario, VirtualFault

SHOPS = {"seed": SEED_SHOP, "market": MARKET}

"""The shops that ``topology`` in a file may name."""

SCALARS: dict[Any, tuple[str, tuple[type, ...]]] = {
    str: ("text", (str,)),
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}


def read_scenario(path: str | Path) -> Scenario:
    """Return the scenario that a TOML file describes.

    Its keys are the parameters of `Scenario`; ``[[faults]]`` and ``[[changes]]`` are tables of
    those of `Fault`, or of `VirtualFault` for its kinds. A place is written ``["bank",
    "/transfer"]``. The shop is ``topology = "seed"`` (the default) or ``"market"``, or defined in
    the file by ``[[endpoints]]`` and ``front`` at its top level, with ``calls = [{service = "bank",
    endpoint = "/transfer"}, …]``; calls in an inner list are made in parallel.

    Raises
    ------
    ValueError
        The message names the field with its place in the file, such as
        ``endpoints[2].calls[0].timeout_s``, the rule and the value.
    """
    table = _read(path)
    known = (*_keys(Scenario), *_keys(Topology))
    _check_keys(table, known, "")
    return _made(Scenario, _with_its_shop(table), "")


def find_scenario(name: str) -> Scenario:
    """Return the scenario with this name, of the catalogue or a harder one, or the one in this
    .toml file.

    Raises
    ------
    ValueError
        There is no such scenario, or the file breaks a rule.
    """
    every = SCENARIOS | HARD_SCENARIOS
    if name in every:
        return every[name]
    if not name.endswith(".toml"):
        near = get_close_matches(name, every, 1)
        example, *_ = [*near, *SCENARIOS]
        rule = f"must be one that `scenarios` lists, such as {example!r}, or a .toml file"
        raise FieldError("scenario", rule, name)
    try:
        return read_scenario(name)
    except FieldError as error:
        if error.field == "scenario":
            raise
        field = f"{name}: {error.field}"
        raise FieldError(field, error.rule, error.value) from None


def _read(path: str | Path) -> dict[str, Any]:
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        rule = "must be a file that can be read"
        raise FieldError("scenario", rule, str(path)) from None
    try:
        text = data.decode("utf-8-sig")  # some editors write a byte order mark
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        rule = f"must be valid TOML: {error}"
        raise FieldError("scenario", rule, str(path)) from None


def _with_its_shop(table: dict[str, Any]) -> dict[str, Any]:
    """Return the table with a `Topology`: the one that it names, or that of its endpoints."""
    shop_keys = _keys(Topology)
    own_keys = [key for key in table if key in shop_keys]
    if not own_keys:
        name = table.get("topology", "seed")
        shop = _named_shop(name)
        return table | {"topology": shop}
    if "topology" in table:
        rule = f"must not be given together with {', '.join(own_keys)}"
        raise FieldError("topology", rule, table["topology"])
    others = dict(table)
    own = {key: others.pop(key) for key in own_keys}
    others["topology"] = _made(Topology, own, "")
    return others


def _named_shop(name: Any) -> Topology:
    if isinstance(name, str) and name in SHOPS:
        return SHOPS[name]
    rule = f"must be one of {', '.join(SHOPS)}, or be defined by endpoints"
    raise FieldError("topology", rule, name)


def _made(cls: type, table: object, place: str) -> Any:
    """Return an instance of a dataclass, from the table at a place in the file."""
    if not isinstance(table, dict):
        raise FieldError(place, "must be a table", table)
    if cls is Fault:
        cls = _class_of_kind(table, place)
    _check_keys(table, _keys(cls), place)
    for name in _needed_keys(cls):
        if name not in table:
            raise FieldError(_below(place, name), "must be given", None)
    hints = get_type_hints(cls)
    given = {}
    for key, value in table.items():
        given[key] = _decoded(hints[key], value, _below(place, key))
    try:
        return cls(**given)
    except FieldError as error:
        field = _below(place, error.field)
        raise FieldError(field, error.rule, error.value) from None


def _class_of_kind(table: dict[str, Any], place: str) -> type:
    kind = table.get("kind")
    kinds = (*STRIKES, *FAULT_KINDS)
    if "kind" in table and kind not in kinds:
        rule = f"must be one of {', '.join(kinds)}"
        raise FieldError(_below(place, "kind"), rule, kind)
    return VirtualFault if kind in FAULT_KINDS else Fault


def _keys(cls: Any) -> tuple[str, ...]:
    """Return the fields of a dataclass."""
    return tuple(field.name for field in fields(cls))


def _needed_keys(cls: Any) -> list[str]:
    """Return the fields of a dataclass that have no default."""
    return [field.name for field in fields(cls) if not _has_default(field)]


def _has_default(field: Field) -> bool:
    defaults = field.default, field.default_factory
    return defaults != (MISSING, MISSING)


def _check_keys(table: dict[str, Any], known: Sequence[str], place: str) -> None:
    for key, value in table.items():
        if key in known:
            continue
        where = _below(place, key)
        near = get_close_matches(key, known, 1)
        if near:
            rule = f"must be a known key, perhaps {near[0]}"
            raise FieldError(where, rule, value)
        rule = f"must be one of the keys {', '.join(known)}"
        raise FieldError(where, rule, value)


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


# ---- values of TOML as the declared types of their fields


def _decoded(hint: Any, value: Any, place: str) -> Any:
    if is_dataclass(hint):
        kind: Any = hint
        is_made = isinstance(value, kind)
        return value if is_made else _made(kind, value, place)
    origin = get_origin(hint)
    parts = get_args(hint)
    if origin in (Union, UnionType):
        fitting = _fitting(parts, value)
        return _decoded(fitting, value, place)
    if origin is tuple:
        return _array(parts, value, place)
    if origin is Mapping:
        return _mapping(parts[1], value, place)
    rule, types = SCALARS[hint]
    if type(value) not in types:
        raise FieldError(place, f"must be {rule}", value)
    return value


def _fitting(options: tuple[Any, ...], value: Any) -> Any:
    """Return the option that fits the value: a tuple for a list, another type for other values."""
    types = [option for option in options if option is not NoneType]
    for option in types:
        is_tuple = get_origin(option) is tuple
        if is_tuple == isinstance(value, list):
            return option
    return types[0]


def _array(parts: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise FieldError(place, "must be a list", value)
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    n = len(parts)
    if len(value) != n:
        raise FieldError(place, f"must be a list of {n}", value)
    items: list[Any] = []
    for part, one in zip(parts, value, strict=True):
        where = f"{place}[{len(items)}]"
        items.append(_decoded(part, one, where))
    return tuple(items)


def _mapping(part: Any, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FieldError(place, "must be a table", value)
    items = {}
    for key, one in value.items():
        where = f"{place}[{key!r}]"
        items[key] = _decoded(part, one, where)
    return items
