"""Root-cause rules of the user, found by the file or module in which they stand."""

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
    """A rule as the user names it: ``file.py:function`` or ``module:function``. Other processes
    load it themselves.

    Raises
    ------
    ValueError
        Says what about `spec` is wrong: its form, the file, the import, or what it leads to.
    """

    spec: str

    def __post_init__(self) -> None:
        _load(self.spec)

    def __call__(self, reference: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
        return _load(self.spec)(reference, abnormal)


def read_rules(specs: Iterable[str]) -> dict[str, RankingRule]:
    """Return the classic rules, the ledger, and those of `specs`: each by the name of its function.

    Where that name is taken already, it is the whole of `spec`.
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
    try:
        return (
            _module_of_file(Path(where))
            if where.endswith(".py")
            else importlib.import_module(where)
        )
    except Exception as error:  # whatever its code raises
        told = f"{type(error).__name__}: {error}"
        raise FieldError("rule", f"must be importable ({told})", spec) from error


def _module_of_file(path: Path) -> ModuleType:
    name = f"rule_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module
