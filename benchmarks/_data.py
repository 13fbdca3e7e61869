"""Where do the public data sets lie?"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

BESIDE = Path(__file__).parents[2] / "shared" / "data"
WHERE_FROM = "python -m benchmarks.accuracy says where they are from"
FOLDERS = {"aiops": "aiops_kpi", "rcd": "rcd_sockshop"}
"""What the folders of some sets may be called as well."""


def data_folder(given: Path | None) -> Path | None:
    """Return the folder of the data sets: as given, or by the environment, or beside the project;
    None: nowhere.
    """
    named = os.environ.get("AIOPS_LAB_DATA")
    return given or (Path(named) if named else BESIDE if BESIDE.is_dir() else None)


def folder_of(name: str, root: Path) -> Path:
    """Return the folder of a data set in the folder of all: by the name of the set, or the other
    one that it may have.
    """
    own = root / name
    other = root / FOLDERS.get(name, name)
    return other if other.is_dir() and not own.is_dir() else own


def is_at_hand(name: str, root: Path | None) -> bool:
    """Return whether there is a folder of the data set, or of a part of it (delag_eshopper)."""
    if root is None:
        return False
    return folder_of(name, root).is_dir() or any(root.glob(f"{name}_*"))


def data_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a benchmark with the option ``--data``; more options can be added."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder of the data sets")
    return parser


def data_folder_or_hint(given: Path | None) -> Path | None:
    """Return the `data_folder`; where there is none, tell what to give."""
    folder = data_folder(given)
    if folder is None:
        print(f"no data sets at hand: --data DIR ({WHERE_FROM})", file=sys.stderr)
    return folder
