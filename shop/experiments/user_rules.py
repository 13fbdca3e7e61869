"""Root-cause rules of the user, loaded from a file or module."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.explain.reference import Reference
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.results import Suspect


@dataclass(frozen=True)
class UserRule:
    """A rule of the user by its name: ``file.py:function`` or ``module:function``.

    It can be sent to other processes, which load the function themselves.

    Raises
    ------
    ValueError
        `spec` has another form, cannot be imported, or names no function.
    """

    spec: str

    def __post_init__(self) -> None:
        _load(self.spec)

    def __call__(self, reference: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
        return _load(self.spec)(reference, abnormal)


def read_rules(specs: Iterable[str]) -> dict[str, RankingRule]:
    """Return the classic rules, the ledger, and those of `specs`, by the names of their functions.

    A rule whose function has the name of another rule is named by the whole of its spec.
    """
    rules: dict[str, RankingRule] = dict(RULES)
    for spec in specs:
        name = spec.rpartition(":")[2]
        rules[spec if name in rules else name] = UserRule(spec)
    return rules


@cache
def _load(spec: str) -> RankingRule:
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise FieldError("rule", "must be file.py:function or module:function", spec)
    found = getattr(_module(where, spec), name, None)
    if not callable(found):
        raise FieldError("rule", f"must name a function of {where}", spec)
    return found


def _module(where: str, spec: str) -> ModuleType:
    load = _module_of_file if where.endswith(".py") else importlib.import_module
    try:
        return load(where)
    except Exception as error:  # whatever its code raises
        reason = f"{type(error).__name__}: {error}"
        raise FieldError("rule", f"must be importable ({reason})", spec) from error


def _module_of_file(file: str) -> ModuleType:
    name = f"rule_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module
