"""Imports run one way, and the analysis stays pure. Reads syntax trees, so nothing has to be importable."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiops_lab

ROOT = Path(__file__).parents[1]

# A module may import what stands before it: earlier layers, and its left neighbours in its own layer.
LAYERS = (
    ("spans",),
    ("sensitivity", "tracing", "store", "windows", "baselines", "envelopes", "traces", "faults"),
    ("detectors", "steps"),
    ("incidents",),
    ("accounts", "confidence"),
    ("holding", "symptoms"),
    ("rca", "metrics_rca", "rules"),
    ("verdict",),
    ("monitor",),
    ("evaluation", "files", "nezha", "nezha_clone", "datasets"),
    ("api", "plots", "tuner", "integrations"),
)
ORDER = [module for layer in LAYERS for module in layer]

PURE = (
    "sensitivity",
    "windows",
    "baselines",
    "envelopes",
    "traces",
    "detectors",
    "steps",
    "incidents",
    "accounts",
    "holding",
    "symptoms",
    "confidence",
    "rca",
    "metrics_rca",
    "verdict",
    "rules",
)
IMPURE_IMPORTS = ("aiops_lab.faults", "aiops_lab.store", "sqlite3", "time", "random", "secrets", "uuid")
IMPURE_CALLS = re.compile(
    r"\b(datetime|date|Timestamp|pd)\.(now|utcnow|today)\b|\b(np|numpy)\.random\b|Timestamp\(['\"]now"
)
FLASK_HOMES = ("aiops_lab.tracing", "aiops_lab.api")


def imports(source: str) -> Iterator[str]:
    """Every module that the source imports, at the top, in functions, for types only, or by import_module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imports_from(node)
        elif isinstance(node, ast.Call) and _is_import_call(node):
            yield str(ast.literal_eval(node.args[0]))


def _imports_from(node: ast.ImportFrom) -> Iterator[str]:
    module = "aiops_lab" if node.level and not node.module else node.module or ""
    if node.level and node.module:
        module = f"aiops_lab.{node.module}"
    if module != "aiops_lab":
        yield module
        return
    for alias in node.names:  # a public name counts as an import of the module where it lives
        yield f"aiops_lab.{aiops_lab._HOMES.get(alias.name, alias.name)}"


def _is_import_call(node: ast.Call) -> bool:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    known = bool(node.args) and isinstance(node.args[0], ast.Constant)
    return known and name in ("import_module", "__import__")


def is_below(imported: str, name: str) -> bool:
    return imported == name or imported.startswith(f"{name}.")


def faults_of(module: str, source: str) -> list[str]:
    """What `module` (its dotted name) does against the layers; an empty list is good."""
    short = module.split(".")[1] if "." in module else ""
    found = sorted(set(imports(source)))
    wrong = [i for i in found if is_below(i, "notebooks") or is_below(i, "benchmarks")]
    if is_below(module, "aiops_lab"):
        wrong += [i for i in found if is_below(i, "shop") or not _is_earlier(i, short)]
    if is_below(module, "aiops_lab") and module not in FLASK_HOMES:
        wrong += [i for i in found if is_below(i, "flask")]
    if short in (*PURE, "monitor"):
        wrong += [i for i in found if is_below(i, "aiops_lab.faults")]
    if short in PURE:
        wrong += [i for i in found if any(is_below(i, bad) for bad in IMPURE_IMPORTS)]
        wrong += [ast.unparse(node) for node in ast.walk(ast.parse(source)) if _is_impure(node)]
    return [f"{module} must not use {name}" for name in wrong]


def _is_earlier(imported: str, importer: str) -> bool:
    if not is_below(imported, "aiops_lab") or not importer:
        return True
    if imported == "aiops_lab":
        return False  # names no module: the lazy map could lead anywhere
    target = imported.split(".")[1]
    if target == importer == "integrations":
        return True
    return target in ORDER and ORDER.index(target) < ORDER.index(importer)


def _is_impure(node: ast.AST) -> bool:
    return isinstance(node, (ast.Attribute, ast.Call)) and bool(IMPURE_CALLS.search(ast.unparse(node)))


def modules() -> list[tuple[str, Path]]:
    files = sorted([*ROOT.glob("aiops_lab/**/*.py"), *ROOT.glob("shop/**/*.py")])
    return [(".".join(f.relative_to(ROOT).with_suffix("").parts), f) for f in files]


@pytest.mark.parametrize(("module", "path"), modules(), ids=lambda value: str(value).rpartition("/")[2])
def test_imports_run_one_way_and_the_analysis_is_pure(module: str, path: Path) -> None:
    assert faults_of(module.removesuffix(".__init__"), path.read_text("utf-8")) == []


def test_every_module_has_its_place_in_the_layers() -> None:
    found = {name.split(".")[1] for name, _ in modules() if name.startswith("aiops_lab.")} - {"__init__"}
    assert found <= set(ORDER)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aiops_lab.spans", "from aiops_lab.traces import self_time"),
        ("aiops_lab.spans", "from .traces import self_time"),
        ("aiops_lab.spans", "from . import traces"),
        ("aiops_lab.spans", "from aiops_lab import self_time"),
        ("aiops_lab.traces", "import aiops_lab as lab"),
        ("aiops_lab.detectors", "def late():\n    import aiops_lab.monitor"),
        ("aiops_lab.detectors", "def late():\n    from aiops_lab import incidents"),
        ("aiops_lab.detectors", "from importlib import import_module\nimport_module('aiops_lab.monitor')"),
        ("aiops_lab.monitor", "from shop.topology import SHOP"),
        ("aiops_lab.monitor", "from aiops_lab.faults import FaultLog"),
        ("aiops_lab.rca", "from aiops_lab import FaultInjector"),
        ("aiops_lab.incidents", "from aiops_lab.store import SpanStore"),
        ("aiops_lab.detectors", "import sqlite3"),
        ("aiops_lab.incidents", "from time import time"),
        ("aiops_lab.rules", "import random"),
        ("aiops_lab.rules", "import numpy as np\nnp.random.default_rng()"),
        ("aiops_lab.incidents", "from datetime import datetime\ndatetime.now()"),
        ("aiops_lab.incidents", "import pandas as pd\npd.Timestamp.now('UTC')"),
        ("aiops_lab.incidents", "import pandas as pd\npd.Timestamp('now')"),
        ("aiops_lab.monitor", "from flask import Flask"),
        ("shop.services", "import benchmarks.recording"),
    ],
)
def test_an_import_that_runs_backwards_is_seen(module: str, source: str) -> None:
    assert faults_of(module, source) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aiops_lab.monitor", "from aiops_lab.rca import learn\nfrom aiops_lab import Incident"),
        ("aiops_lab.tuner", "from aiops_lab import plots\nfrom aiops_lab.monitor import replay"),
        ("aiops_lab.incidents", "def step(now):\n    return now"),
        ("aiops_lab.api", "import flask\nfrom aiops_lab.faults import FaultInjector"),
        ("shop.services", "import flask, time, random\nimport aiops_lab as lab"),
    ],
)
def test_an_import_that_runs_forwards_is_left_alone(module: str, source: str) -> None:
    assert faults_of(module, source) == []
