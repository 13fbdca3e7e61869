"""How do the files of the Numenta Anomaly Benchmark become cases?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.datasets.cases import Case, SeriesCase
from aiops_lab.datasets.files import present, read_csv, read_json, wrong

if TYPE_CHECKING:
    import pandas as pd

LICENCE = "MIT, Copyright 2014-2024 Numenta Inc."
SOURCE = "https://github.com/numenta/NAB"
GET = "git clone https://github.com/numenta/NAB nab, then give that folder."


def read_nab(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    if not (directory / "data").is_dir() and not (directory / "labels").is_dir():
        return [], []
    path = present(
        directory / "labels/combined_windows.json", f"The data is public ({SOURCE}): {GET}"
    )
    labels = read_json(path)
    if not isinstance(labels, dict):
        raise wrong(path, "must be an object {file: windows}")
    files = {p.relative_to(directory / "data").as_posix() for p in directory.glob("data/*/*.csv")}
    for name in sorted(files ^ set(labels)):
        raise wrong(
            path,
            f"labels {name}, which is not in data/" if name in labels else f"lacks data/{name}",
        )
    return [_series(directory, name, labels[name]) for name in sorted(labels)], []


def _series(directory: Path, name: str, spans: Any) -> Case:
    import numpy as np
    import pandas as pd

    path = directory / "data" / name
    frame = read_csv(path, ("timestamp", "value"))
    try:
        times = pd.DatetimeIndex(pd.to_datetime(frame["timestamp"], format="ISO8601"))
        values = frame["value"].to_numpy(np.float64)
    except (ValueError, TypeError) as error:
        raise wrong(path, f"must hold times and numbers ({error})") from error
    bad = np.flatnonzero(times.isna() | ~np.isfinite(values))
    if len(values) == 0 or len(bad):
        raise wrong(
            path, f"row {bad[0]} has no time or no finite value" if len(bad) else "has no rows"
        )
    # an hour back is a clock that was set back, as in autumn; the rows are still in order
    back = np.flatnonzero(times[1:] < times[:-1] - pd.Timedelta("1h"))
    if len(back):
        raise wrong(
            path, f"row {back[0] + 1} is out of order ({times[back[0] + 1]} after {times[back[0]]})"
        )
    windows = _windows(directory / "labels/combined_windows.json", name, spans, times)
    return SeriesCase(name, name.partition("/")[0], windows, values, times)


def _windows(
    path: Path, name: str, spans: Any, times: pd.DatetimeIndex
) -> tuple[tuple[int, int], ...]:
    """Return (first row, last row) of each labelled window."""
    import numpy as np
    import pandas as pd

    try:
        limits = [(pd.Timestamp(first), pd.Timestamp(last)) for first, last in spans]
        rows = [np.flatnonzero((times >= first) & (times <= last)) for first, last in limits]
    except (TypeError, ValueError) as error:
        raise wrong(path, f"{name}: windows must be pairs of times ({error})") from error
    for (first, last), inside in zip(limits, rows, strict=True):
        if len(inside) == 0 or first < times.min() or last > times.max():
            raise wrong(path, f"{name}: no rows for the whole window {first} to {last}")
    windows = tuple((int(inside[0]), int(inside[-1])) for inside in rows)
    if any(after[0] <= before[1] for before, after in zip(windows, windows[1:], strict=False)):
        raise wrong(path, f"{name}: windows must be in order and apart")
    return windows
