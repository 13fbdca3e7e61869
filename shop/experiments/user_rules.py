"""Root-cause rules of the user, beside those of the package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from aiops_lab.explain.reference import Reference
from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.results import Suspect
from aiops_lab.user_functions import load_function, names_by_spec


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
        load_function("rule", self.spec)

    def __call__(self, reference: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
        suspects: list[Suspect] = load_function("rule", self.spec)(reference, abnormal)
        return suspects


def read_rules(specs: Iterable[str]) -> dict[str, RankingRule]:
    """Return the classic rules, the ledger, and those of `specs`, by the names of their functions.

    A rule whose function has the name of another rule is named by the whole of its spec.
    """
    return dict(RULES) | {
        name: UserRule(spec) for spec, name in names_by_spec(specs, RULES).items()
    }
