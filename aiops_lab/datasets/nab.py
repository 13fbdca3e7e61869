"""Files of the Numenta Anomaly Benchmark (NAB) as cases: a series and its labelled windows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.cases import Case, ReadCases, SeriesCase
from aiops_lab.datasets.files import csv_table, present, read_json, wrong
from aiops_lab.datasets.sources import SOURCES

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def read_nab(directory: Path) -> ReadCases:
    """Return a case for each file, and by name those of categories that are not there."""
    data = directory / "data"
    path = directory / "labels/combined_windows.json"
    if not data.is_dir() and not path.parent.is_dir():
        return [], []
    labels = read_json(present(path, SOURCES["nab"].how_to_get))
    if not isinstance(labels, dict):
        raise wrong(path, "must be an object {file: windows}")
    files = {file.relative_to(data).as_posix() for file in data.glob("*/*.csv")}
    left_out: list[str] = []
    for name in sorted(labels.keys() - files):
        category = name.partition("/")[0]
        if (data / category).is_dir():
            raise wrong(path, f"labels {name}, which is not in data/")
        left_out.append(name)
    for name in sorted(files - labels.keys()):
        raise wrong(path, f"lacks data/{name}")
    cases: list[Case] = []
    for name in sorted(files):
        group, _, _ = name.partition("/")
        times, values = _series(data / name)
        windows = _windows(path, name, labels[name], times)
        cases.append(SeriesCase(name, group, windows, values, times))
    return cases, left_out


def _series(path: Path) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """Return the times and the values of a file."""
    import numpy as np
    import pandas as pd

    frame = csv_table(path, ("timestamp", "value"))
    try:
        moments = pd.to_datetime(frame["timestamp"], format="ISO8601")
        times = pd.DatetimeIndex(moments)
        values = frame["value"].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise wrong(path, f"must hold times and numbers ({error})") from error
    if values.size == 0:
        raise wrong(path, "has no rows")
    is_gap = times.isna() | ~np.isfinite(values)
    for row in np.flatnonzero(is_gap):
        raise wrong(path, f"row {row} has no time or no finite value")
    # an hour back is a clock that was set back, as in autumn; the rows are still in order
    is_back = np.diff(times) < np.timedelta64(-1, "h")
    back: list[int] = np.flatnonzero(is_back).tolist()
    for before in back:
        at = before + 1
        raise wrong(path, f"row {at} is out of order ({times[at]} after {times[before]})")
    return times, values


def _windows(
    path: Path, name: str, spans: Any, times: pd.DatetimeIndex
) -> tuple[tuple[int, int], ...]:
    """Return (first row, last row) of each labelled window."""
    import numpy as np
    import pandas as pd

    limits = []
    rows = []
    try:
        for pair in spans:
            first, last = map(pd.Timestamp, pair)
            is_inside = (times >= first) & (times <= last)
            limits.append((first, last))
            rows.append(np.flatnonzero(is_inside))
    except (TypeError, ValueError) as error:
        raise wrong(path, f"{name}: windows must be pairs of times ({error})") from error
    windows = []
    for (first, last), inside in zip(limits, rows, strict=True):
        is_whole = first >= times.min() and last <= times.max()
        if not inside.size or not is_whole:
            raise wrong(path, f"{name}: no rows for the whole window {first} to {last}")
        windows.append((int(inside[0]), int(inside[-1])))
    for (_, end), (begin, _) in pairwise(windows):
        if begin <= end:
            raise wrong(path, f"{name}: windows must be in order and apart")
    return tuple(windows)
