"""Series with a labelled part for learning and one for testing: WSD, AIOPS KPI and the UCR archive.

Each case is CASE.npz, or a folder CASE of .npy files as in the public collection: train, test,
train_label, test_label.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_lab.datasets.cases import ReadCases, SeriesCase
from aiops_lab.datasets.files import present, wrong

if TYPE_CHECKING:
    import numpy as np

LABELLED_SERIES = ("wsd", "ucr", "aiops")
PARTS = ("train", "test", "train_label", "test_label")


def reader(name: str) -> Callable[[Path], ReadCases]:
    """Return what reads the data set `name`: a case for each series, none left out."""
    return partial(_read, name)


def _read(name: str, directory: Path) -> ReadCases:
    folders = {path.parent for path in directory.glob("*/train.npy")}
    paths = sorted(folders | set(directory.glob("*.npz")))
    return [_case(name, path) for path in paths], []


def _case(name: str, path: Path) -> SeriesCase:
    import numpy as np

    arrays = _arrays(path)
    for part, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise wrong(path, f"{part} must be a series of finite numbers, got {array.dtype}")
    parts = {part: array.astype(np.float64) for part, array in arrays.items()}
    for part, array in parts.items():
        if array.ndim != 1 or not np.isfinite(array).all():
            raise wrong(path, f"{part} must be a series of finite numbers")
    for part in ("train", "test"):
        points = parts[part].size
        marks = parts[f"{part}_label"].size
        if points != marks:
            raise wrong(path, f"{part} has {points} points and {marks} labels")
    train, test = parts["train"], parts["test"]
    if not test.size:
        raise wrong(path, "test has no points")
    labels = np.concatenate([parts["train_label"], parts["test_label"]])
    return SeriesCase(
        name=f"{name}/{path.stem}",
        group=name,
        truth=_runs(labels > 0),
        values=np.concatenate([train, test]),
        times=None,
        learning=train.size,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    try:
        if path.is_dir():
            files = {part: present(path / f"{part}.npy") for part in PARTS}
            return {part: np.load(file, allow_pickle=False) for part, file in files.items()}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {part: stored[part] for part in PARTS}
    except FileNotFoundError:
        raise
    # what zipfile and numpy raise about a damaged file
    except Exception as error:
        raise wrong(path, f"not readable as arrays {', '.join(PARTS)} ({error})") from error


def _runs(labelled: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return (first row, last row) of each run of labelled points."""
    import numpy as np

    padded = np.concatenate([[0], labelled.astype(np.int8), [0]])
    steps = np.diff(padded)
    begins = np.flatnonzero(steps > 0)
    ends = np.flatnonzero(steps < 0) - 1
    return tuple(zip(begins.tolist(), ends.tolist(), strict=True))
