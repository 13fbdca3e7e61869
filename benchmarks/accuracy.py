"""How good is it on data that nobody here made? ``python -m benchmarks.accuracy [--data DIR] [--only NAME]``.

PetShop (metrics), Nezha (traces) and NAB (single series): this package, the classic rules, trivial baselines and the
peers' own packages, in one run, on the same cases. Then what each kind of evidence is worth, and what becomes of the
answers when data is lost or a constant is another one. Written as markdown and as a picture to ``--out``.

DIR holds the folders petshop, nezha and nab, or some of them: `aiops_lab.datasets.load` reads them. Without ``--data``
it is what AIOPS_LAB_DATA names, or ../shared/data beside the project. Without data it says where to get it (exit 2).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aiops_lab import datasets
from aiops_lab.datasets import Case
from benchmarks import _faults, _peers, _petshop, _series
from benchmarks._tables import Table, markdown, picture

NAMES = ("petshop", "nezha", "nab")
BESIDE = Path(__file__).parents[2] / "shared" / "data"
SEEN_DAYS = ("OnlineBoutique_2022-08-22", "TrainTicket_2023-01-29")
SEEN_SERIES = ("artificialNoAnomaly", "artificialWithAnomaly", "realAdExchange", "realTraffic")
THESE, OTHERS = "these cases", "other cases"


def seen(name: str, case: Case) -> bool:
    """Return whether this package's constants were chosen while looking at the case."""
    if name == "petshop":
        return "/train/" in case.name
    return case.group in (SEEN_DAYS if name == "nezha" else SEEN_SERIES)


def parts(name: str, cases: Sequence[Case]) -> Iterator[tuple[str, list[Any], str]]:
    """Return the cases that were seen while tuning and those that were not: title, cases, what was tuned on."""
    known = [case for case in cases if seen(name, case)]
    fresh = [case for case in cases if not seen(name, case)]
    if known:
        yield "seen while tuning", known, THESE
    if fresh:
        yield "not seen while tuning", fresh, OTHERS
    if known and fresh and name == "nab":
        yield "all files", list(cases), "a part of these"


def accuracy(name: str, folder: Path, progress: bool) -> list[Table]:
    """Return the tables of a data set."""
    if name == "nezha":
        return _nezha(folder, progress)
    loaded = datasets.load(name, folder)
    if name == "nab":
        return [_series.table(part, cases, on, progress) for part, cases, on in parts(name, loaded.cases)]
    peers = _peers.on_metrics()
    return [
        _petshop.table(f"{len(cases)} issues {part}", cases, on, peers) for part, cases, on in parts(name, loaded.cases)
    ]


def _nezha(folder: Path, progress: bool) -> list[Table]:
    tables = []
    for logs in (False, True):
        loaded = datasets.load("nezha", folder, logs=logs)
        for day in sorted({case.group for case in loaded}):
            if logs and day.startswith("OnlineBoutique"):
                continue  # it has no logs
            what = "traces, logs and metrics" if logs else "traces alone"
            (part, cases, on), *_ = parts("nezha", [case for case in loaded if case.group == day])
            title = f"{day.replace('_', ' ')}, {what}, {part}"
            tables.append(_faults.table(title, cases, on, logs, progress))
    return tables


def data_folder(given: Path | None) -> Path | None:
    """Return the folder of the data sets: as given, or by the environment, or beside the project; None: nowhere."""
    named = os.environ.get("AIOPS_LAB_DATA")
    return given or (Path(named) if named else BESIDE if BESIDE.is_dir() else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and save all tables; return 2 where there is no data."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder of the data sets")
    parser.add_argument("--only", choices=NAMES, action="append", help="this data set (repeat for more); default all")
    parser.add_argument("--out", type=Path, default=Path("accuracy"), metavar="FOLDER", help="of tables and pictures")
    asked = parser.parse_args(arguments)
    root, progress = data_folder(asked.data), sys.stderr.isatty()
    tables: list[Table] = []
    for name in asked.only or NAMES:
        try:
            tables += accuracy(name, root / name if root else None, progress)
        except FileNotFoundError as error:
            print(f"{name}: {error}", file=sys.stderr)
    if not tables:
        return 2
    save(tables, asked.out)
    return 0


def save(tables: Sequence[Table], folder: Path) -> None:
    """Print the tables and write them to `folder`."""
    text = markdown(tables, _head())
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "accuracy.md").write_text(text, encoding="utf-8")
    picture(tables, folder / "accuracy.png")
    print(f"written to {folder}")


def _head() -> str:
    lines = [
        "# On public data",
        "Made by `python -m benchmarks.accuracy`. Shares with Wilson's 95 % interval, NAB's score with a bootstrap "
        "over files; CPU seconds of this process. *Tuned on*: what the constants of a method were chosen on; nothing: "
        "as published, or the defaults of its package.",
        *_peers.missing(tuple(_peers.INSTALL)),
    ]
    return "\n\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
