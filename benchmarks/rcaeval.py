"""This package inside RCAEval's evaluation, beside its BARO: ``make peers``, or ``python -m
benchmarks.rcaeval [--data DIR]`` where RCAEval and fse-baro are installed.

Every method is called as RCAEval calls its own, ``method(data, inject_time)``, and judged by its
`Evaluator`: on RCD's sock shop (DIR/rcd_sockshop), and on scenarios of the virtual shop, exported
by ``python -m shop record --format rcaeval``. Without the packages: exit 2.

RCAEval's package ``RCAEval.e2e`` imports all its methods at once, which need torch and
causal-learn; only the module of BARO is imported here, unchanged.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aiops_lab import datasets
from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.explain.rcaeval import TIME, rank_columns
from benchmarks._data import data_folder, data_parser, folder_of
from shop.catalogue import SCENARIOS
from shop.virtual_time.record import record_scenario

SCENARIO_NAMES = ("delay", "errors", "flaky", "hang", "impatient caller", "slow parallel child")
SEED = 1000
GAP_S = 60  # between the normal and the abnormal rows of RCD, which were recorded days apart
DEEPEST = 5

Method = Callable[..., dict[str, Any]]


class Asked(NamedTuple):
    """A case in RCAEval's form: one table, the second of the injection, the faulty service."""

    data: pd.DataFrame
    inject_time: float
    truth: str


# ---- cases


def of_rcd(folder: Path) -> Iterator[Asked]:
    """Return RCD's faults: the abnormal rows follow the normal ones."""
    for case in datasets.load("rcd", folder):
        if isinstance(case, MetricsCase):
            yield _joined(case)


def _joined(case: MetricsCase) -> Asked:
    normal, abnormal = case.normal.astype(float), case.abnormal.astype(float)
    first = float(normal.index[-1]) + GAP_S
    moved = abnormal.set_axis(abnormal.index - abnormal.index[0] + first, axis=0)
    data = pd.concat([normal, moved]).rename_axis(TIME).reset_index()
    columns = {name: str(name).replace("_", "-", str(name).count("_") - 1) for name in data.columns}
    table = data.rename(columns=columns).ffill().fillna(0.0)
    return Asked(table, first, str(case.truth).replace("_", "-"))


def of_exports(names: Sequence[str] = SCENARIO_NAMES) -> Iterator[Asked]:
    """Return scenarios as ``python -m shop record --format rcaeval`` writes them."""
    with tempfile.TemporaryDirectory() as root:
        for number, name in enumerate(names):
            folder = Path(root) / str(number)
            record_scenario(folder, SCENARIOS[name], SEED, None, "rcaeval")
            ((service, _),) = SCENARIOS[name].causes
            (table,) = folder.glob("*/*/data.csv")
            injected = float(table.with_name("inject_time.txt").read_text("utf-8"))
            yield Asked(pd.read_csv(table), injected, service)


# ---- methods


def methods() -> dict[str, Method]:
    """Return this package, and BARO as RCAEval and as its authors' own package have it."""
    return {
        "aiops_lab ledger": rank_columns,
        "RCAEval baro": _without_others("RCAEval.e2e", "baro").baro,
        "fse-baro robust_scorer": importlib.import_module("baro.root_cause_analysis").robust_scorer,
        "random": at_random,
    }


def _without_others(package: str, module: str) -> ModuleType:
    """Return a module of a package without running the package's ``__init__``."""
    name = f"{package}.{module}"
    root = importlib.import_module(package.partition(".")[0])
    assert root.__file__ is not None
    file = Path(root.__file__).parent.joinpath(*package.split(".")[1:], f"{module}.py")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def at_random(data: pd.DataFrame, inject_time: float, **kw: Any) -> dict[str, list[str]]:
    """Return the columns in a drawn order; equal tables, equal draws."""
    columns = sorted(name for name in data.columns if name != TIME)
    seed = pd.util.hash_pandas_object(data, index=False).to_numpy()
    return {"ranks": list(np.random.default_rng(seed).permutation(columns))}


# ---- RCAEval's evaluation


def judge(method: Method, cases: Sequence[Asked]) -> Any:
    """Return RCAEval's `Evaluator` after all cases; services are told by the columns' names, each
    at the place of its first column.
    """
    evaluation = importlib.import_module("RCAEval.benchmark.evaluation")
    node = importlib.import_module("RCAEval.classes.graph").Node
    evaluator = evaluation.Evaluator()
    for case in cases:
        ranks = method(case.data.copy(), case.inject_time, dataset="own")["ranks"]
        services = dict.fromkeys(str(name).rpartition("_")[0] for name in ranks)
        found = [node(service, "unknown") for service in services]
        evaluator.add_case(found, node(case.truth, "unknown"))
    return evaluator


def table(cases: Sequence[Asked]) -> str:
    """Return a row a method: RCAEval's accuracy at 1 and 3, and its average to 5, of services."""
    lines = ["| method | AC@1 | AC@3 | Avg@5 |", "|---|---|---|---|"]
    for name, method in methods().items():
        told = judge(method, cases)
        at_1, at_3 = told.accuracy_service(1), told.accuracy_service(3)
        lines.append(f"| {name} | {at_1:.2f} | {at_3:.2f} | {told.average_service(DEEPEST):.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of each set; return 2 where the packages are missing."""
    parser = data_parser("rcaeval", __doc__)
    asked = parser.parse_args(arguments)
    missing = [name for name in ("RCAEval", "baro") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; make peers installs them", file=sys.stderr)
        return 2
    exports = list(of_exports())
    print(f"Exports of the virtual shop, {len(exports)} faults\n\n{table(exports)}\n")
    root = data_folder(asked.data)
    if root is None or not folder_of("rcd", root).is_dir():
        print("no folder rcd at hand: --data DIR", file=sys.stderr)
        return 0
    faults = list(of_rcd(folder_of("rcd", root)))
    print(f"RCD's sock shop, {len(faults)} faults\n\n{table(faults)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
