"""Imports run one way, and the analysis stays pure. Reads syntax trees, so nothing is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import aiops_lab

ROOT = Path(__file__).parents[1]

# A module may import from its own wing and from those before it. Inside a wing there is no cycle.
WINGS = (
    "background",
    "checks",
    "known_names",
    "columns",
    "unchanged",
    "spans",
    "endpoints",
    "logs",
    "numerics",
    "progress",
    "results",
    "user_code",
    "user_functions",
    "formats",
    "record",
    "traces",
    "detect",
    "explain",
    "diagnosis",
    "pipeline",
    "learned",
    "acceptance",
    "processes",
    "shared_state",
    "watched_spans",
    "health",
    "recent_traffic",
    "past_traces",
    "monitor",
    "replaying",
    "scale",
    "evaluate",
    "datasets",
    "respond",
    "show",
    "__main__",
)
PURE = ("endpoints", "results", "numerics", "traces", "detect", "explain", "diagnosis")
WITHOUT_TRUTH = (*PURE, "pipeline", "monitor", "replaying", "scale")
IMPURE_IMPORTS = (
    "aiops_lab.record",
    "sqlite3",
    "time",
    "random",
    "secrets",
    "uuid",
)
IMPURE_CALLS = re.compile(
    r"\b(datetime|date|Timestamp|pd)\.(now|utcnow|today)\b|\b(np|numpy)\.random\b|Timestamp\(['\"]now"
)
FLASK_WINGS = ("record", "show")


def imports(source: str) -> Iterator[str]:
    """Every module or name that the source imports, at the top or in functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imports_from(node)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            yield str(ast.literal_eval(node.args[0]))


def _imports_from(node: ast.ImportFrom) -> Iterator[str]:
    module = node.module or ""
    if node.level:
        module = f"aiops_lab.{module}".rstrip(".")
    for alias in node.names:
        home = aiops_lab._HOMES.get(alias.name) if module == "aiops_lab" else None
        yield f"aiops_lab.{home}" if home else f"{module}.{alias.name}"


def _is_import_call(node: ast.Call) -> bool:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    known = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return known and name in ("import_module", "__import__")


def is_below(imported: str, name: str) -> bool:
    return imported == name or imported.startswith(f"{name}.")


def wing_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "aiops_lab" and len(parts) > 1 else ""


def faults_of(module: str, source: str) -> list[str]:
    """What `module` (its dotted name) imports or calls against the rules; an empty list is good."""
    wing = wing_of(module)
    found = sorted(set(imports(source)))
    wrong = [i for i in found if is_below(i, "notebooks") or is_below(i, "benchmarks")]
    if is_below(module, "aiops_lab"):
        wrong += [i for i in found if is_below(i, "shop") or not _is_earlier(i, wing)]
    if is_below(module, "aiops_lab") and wing not in FLASK_WINGS:
        wrong += [i for i in found if is_below(i, "flask")]
    if wing in WITHOUT_TRUTH:
        wrong += [i for i in found if is_below(i, "aiops_lab.record.faults")]
    if wing in PURE:
        wrong += [i for i in found if any(is_below(i, bad) for bad in IMPURE_IMPORTS)]
        wrong += [ast.unparse(node) for node in ast.walk(ast.parse(source)) if _is_impure(node)]
    return [f"{module} must not use {name}" for name in wrong]


def _is_earlier(imported: str, importer: str) -> bool:
    if not is_below(imported, "aiops_lab") or not importer:
        return True
    target = wing_of(imported)
    return target in WINGS and WINGS.index(target) <= WINGS.index(importer)


def _is_impure(node: ast.AST) -> bool:
    is_code = isinstance(node, (ast.Attribute, ast.Call))
    return is_code and bool(IMPURE_CALLS.search(ast.unparse(node)))


def modules() -> list[tuple[str, Path]]:
    files = sorted([*ROOT.glob("aiops_lab/**/*.py"), *ROOT.glob("shop/**/*.py")])
    return [(dotted_name(f), f) for f in files]


def dotted_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def graph() -> dict[str, set[str]]:
    """The modules that each module imports, for types alone and in functions too."""
    known = {name for name, _ in modules()}
    return {name: _targets(file, known) - {name} for name, file in modules()}


def _targets(file: Path, known: set[str]) -> set[str]:
    named = set(imports(file.read_text("utf-8")))
    return {_module_of(name, known) for name in named} & known


def _module_of(name: str, known: set[str]) -> str:
    return name if name in known else name.rpartition(".")[0]


def cycles(edges: dict[str, set[str]]) -> list[str]:
    """The modules that import themselves through others."""
    return sorted(name for name in edges if name in _reached(edges, name))


def _reached(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(edges[start])
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += edges.get(name, ())
    return seen


def test_imports_run_one_way() -> None:
    for module, file in modules():
        assert faults_of(module, file.read_text("utf-8")) == [], module


def test_no_module_imports_itself_through_others() -> None:
    assert cycles(graph()) == []


def test_a_cycle_is_seen() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_every_module_stands_in_a_wing() -> None:
    found = {wing_of(name) for name, _ in modules()} - {""}
    assert found == set(WINGS)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aiops_lab.spans", "from aiops_lab.traces.trees import self_time"),
        ("aiops_lab.spans", "from .traces import trees"),
        ("aiops_lab.spans", "from . import traces"),
        ("aiops_lab.spans", "from aiops_lab import self_time"),
        ("aiops_lab.traces.trees", "import aiops_lab as lab"),
        ("aiops_lab.detect.detectors", "def late():\n    import aiops_lab.monitor"),
        ("aiops_lab.detect.detectors", "def late():\n    from aiops_lab.explain import ledger"),
        (
            "aiops_lab.detect.detectors",
            "from importlib import import_module\nimport_module('aiops_lab.monitor')",
        ),
        ("aiops_lab.monitor", "from shop.topology import SHOP"),
        ("aiops_lab.monitor", "from aiops_lab.record.faults import FaultLog"),
        ("aiops_lab.explain.ranking", "from aiops_lab import FaultInjector"),
        ("aiops_lab.detect.incidents", "from aiops_lab.record.store import SpanStore"),
        ("aiops_lab.detect.detectors", "import sqlite3"),
        ("aiops_lab.detect.incidents", "from time import time"),
        ("aiops_lab.explain.rules", "import random"),
        ("aiops_lab.explain.rules", "import numpy as np\nnp.random.default_rng()"),
        ("aiops_lab.detect.incidents", "from datetime import datetime\ndatetime.now()"),
        ("aiops_lab.detect.incidents", "import pandas as pd\npd.Timestamp.now('UTC')"),
        ("aiops_lab.detect.incidents", "import pandas as pd\npd.Timestamp('now')"),
        ("aiops_lab.monitor", "from flask import Flask"),
        ("shop.topology", "from benchmarks import accuracy"),
    ],
)
def test_an_import_against_the_order_is_seen(module: str, source: str) -> None:
    assert faults_of(module, source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "aiops_lab.monitor",
            "from aiops_lab.explain.reference import learn\nfrom aiops_lab import Incident",
        ),
        (
            "aiops_lab.show.tuner",
            "from aiops_lab.show import plots\nfrom aiops_lab.replaying import replay",
        ),
        ("aiops_lab.detect.incidents", "def step(now):\n    return now"),
        (
            "aiops_lab.show.api",
            "import flask\nfrom aiops_lab.record.faults import FaultInjector",
        ),
    ],
)
def test_an_import_in_order_passes(module: str, source: str) -> None:
    assert faults_of(module, source) == []
