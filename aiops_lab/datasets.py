"""How good is it on data that nobody here made? PetShop, Nezha and NAB behind one interface, `load(name, directory)`.

None of the data is part of this package. `load` says where to get it; Nezha's files are first made compact by
``python -m aiops_lab.datasets nezha SOURCE OUT`` (SOURCE: a clone of its repository).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab import nezha, nezha_clone
from aiops_lab.files import present, read_csv, read_json, wrong

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MINUTE_5 = 300  # seconds of a PetShop interval
ISSUE_ROWS = 5  # and the rows of an issue
# what `rank_from_metrics` reads of a node; PetShop has four quantiles of latency besides
NODE_METRICS = (("latency", "Average"), ("requests", "Sum"), ("availability", "Average"))
FALLBACK = "low_traffic"  # whose fault-free data stands in for a scenario without its own
# NAB's authors do not score the first rows of a file: a detector may learn there
UNSCORED_SHARE, UNSCORED_ROWS = 0.15, 750


@dataclass(frozen=True, eq=False)
class Case:
    """One question with its answer: what was usual, what happened, and the truth.

    Attributes
    ----------
    name : str
        Unique within its data set.
    group : str
        Cases that share `normal` (PetShop: scenario, Nezha: system and day) or a kind of series (NAB).
    truth : Any
        The right answer: a node (PetShop), a service (Nezha), windows as (first row, last row) (NAB).
    normal, abnormal : DataFrame or array
        Every kind of case has both. They may be shared between cases: do not write into them.
    """

    name: str
    group: str
    truth: Any


@dataclass(frozen=True, eq=False)
class MetricsCase(Case):
    """An issue of PetShop, as `rank_from_metrics(normal, abnormal, calls, target)` takes it."""

    normal: pd.DataFrame = field(repr=False)
    abnormal: pd.DataFrame = field(repr=False)
    calls: list[tuple[str, str]] = field(repr=False)
    target: dict[str, Any]


@dataclass(frozen=True, eq=False)
class TracesCase(Case):
    """A fault of Nezha: spans frames, and resources by minute."""

    fault_type: str
    id: int
    day: nezha.Day = field(repr=False)

    @property
    def normal(self) -> pd.DataFrame:
        """All fault-free spans of the day: the same frame for all its faults, so learn from it once."""
        return self.day.normal

    @cached_property
    def abnormal(self) -> pd.DataFrame:
        """The spans of the traces that began during the fault."""
        return self.day.of_fault(self.id)

    @property
    def resources(self) -> pd.DataFrame:
        """The day's resources: index time (UTC), column service, the rest numbers (per minute and pod)."""
        return self.day.resources


@dataclass(frozen=True, eq=False)
class SeriesCase(Case):
    """A file of NAB: `values` with their `times`; `truth` and `windows` are the rows of the anomalies."""

    values: np.ndarray = field(repr=False)
    times: pd.DatetimeIndex = field(repr=False)

    @property
    def windows(self) -> tuple[tuple[int, int], ...]:
        """(First row, last row) of each anomaly, both included."""
        return self.truth

    @property
    def normal(self) -> np.ndarray:
        """The first rows, which are not scored: 15 % of the file, at most 750."""
        return self.values[: unscored(len(self.values))]

    @property
    def abnormal(self) -> np.ndarray:
        """All rows after `normal`."""
        return self.values[unscored(len(self.values)) :]


@dataclass(frozen=True)
class Dataset:
    """Cases, in a fixed order, with licence and source. `left_out` names cases whose data the source lacks."""

    name: str
    licence: str
    source: str
    cases: tuple[Case, ...] = field(repr=False)
    left_out: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)


class _Source(NamedTuple):
    licence: str
    source: str
    get: str  # how to get it
    read: Callable[[Path, bool], tuple[list[Case], list[str]]]


def load(name: str, directory: str | Path | None = None, *, logs: bool = False) -> Dataset:
    """Return the cases of a public data set that lies in `directory`.

    Parameters
    ----------
    name : str
        ``"petshop"`` (metrics and a call graph), ``"nezha"`` (traces, resources, logs) or ``"nab"`` (series).
    directory : path
        PetShop and NAB: a clone of the public repository, or a selection of it in the same layout. Nezha: what
        ``python -m aiops_lab.datasets nezha`` wrote.
    logs : bool, default False
        Nezha: log lines enter the spans frames as spans of kind ``log``. OnlineBoutique has none. Default as the
        published comparison by traces alone.

    Raises
    ------
    FileNotFoundError
        No directory, an empty one (the message says how to get the data), or a file is missing.
    ValueError
        A file is truncated or altered; the message names it. Or `name` is unknown.
    ImportError
        Nezha's files need pyarrow.

    Examples
    --------
    >>> load("nab", "NAB")  # doctest: +SKIP
    Dataset(name='nab', licence='MIT', source='https://github.com/numenta/NAB', left_out=())
    """
    if name not in SOURCES:
        raise ValueError(f"name must be one of {sorted(SOURCES)}, got {name!r}")
    about = SOURCES[name]
    if directory is None:
        raise FileNotFoundError(f"load({name!r}) needs a directory. {_how_to_get(name)}")
    if not Path(directory).is_dir():
        raise FileNotFoundError(f"{directory} is no directory. {_how_to_get(name)}")
    cases, left_out = about.read(Path(directory), logs)
    if not cases:
        raise FileNotFoundError(f"{directory} holds no data of {name!r}. {_how_to_get(name)}")
    return Dataset(name, about.licence, about.source, tuple(cases), tuple(left_out))


def unscored(rows: int) -> int:
    """Return how many first rows of a NAB file of `rows` rows are not scored.

    Examples
    --------
    >>> unscored(1000), unscored(10000)
    (150, 750)
    """
    return min(int(UNSCORED_SHARE * rows), UNSCORED_ROWS)


def _how_to_get(name: str) -> str:
    return f"The data is public ({SOURCES[name].source}): {SOURCES[name].get}"


# PetShop


def _petshop(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    root = directory / "dataset" if (directory / "dataset").is_dir() else directory
    scenarios = [p for p in sorted(root.iterdir()) if p.is_dir() and (_issues(p) or (p / "graph.csv").exists())]
    usual = {p.name: _metrics(p / "noissue/metrics.csv") for p in scenarios if (p / "noissue").is_dir()}
    return [case for scenario in scenarios for case in _issues_of(scenario, usual)], []


def _issues_of(scenario: Path, usual: dict[str, pd.DataFrame]) -> Iterator[Case]:
    calls, nodes = _call_graph(scenario / "graph.csv")
    issues = _issues(scenario)
    if not issues:
        raise FileNotFoundError(f"{scenario} holds no issues: {scenario / '*' / 'issue_*'} is missing")
    normal = usual.get(scenario.name, usual.get(FALLBACK))
    if normal is None:
        raise FileNotFoundError(f"{scenario / 'noissue/metrics.csv'} is missing, and {FALLBACK}'s too")
    for folder in issues:
        abnormal = _metrics(folder / "metrics.csv", ISSUE_ROWS)
        target, cause = _target(folder / "target.json", abnormal, nodes)
        name = "/".join(folder.parts[-3:])
        yield MetricsCase(name, scenario.name, cause, normal, abnormal, calls, target)


def _issues(scenario: Path) -> list[Path]:
    """Return the folders of issues; issue_10 comes after issue_9."""
    found = [p for p in scenario.glob("*/issue_*") if p.is_dir()]
    return sorted(found, key=lambda p: (p.parent.name, len(p.name), p.name))


def _call_graph(path: Path) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the (caller, callee) of the 0/1 matrix, and all nodes."""
    graph = read_csv(path, index_col=0)
    if graph.empty or list(graph.index) != list(graph.columns):
        raise wrong(path, "rows and columns must be the same nodes, in the same order")
    if not graph.isin([0, 1]).all(axis=None):
        raise wrong(path, "must hold 0 and 1 only")
    calls = [(str(a), str(b)) for a, row in zip(graph.index, graph.to_numpy(), strict=True)
             for b, edge in zip(graph.columns, row, strict=True) if edge]  # fmt: skip
    return calls, set(graph.index)


def _metrics(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Return (node, metric, statistic) by start of the interval; NaN where there was no traffic."""
    from pandas.api.types import is_numeric_dtype

    frame = read_csv(path, header=[0, 1, 2], index_col=0)
    if frame.columns.nlevels != 3:
        raise wrong(path, "must have three header rows: node, metric, statistic")
    for column, dtype in frame.dtypes.items():
        if not is_numeric_dtype(dtype):
            raise wrong(path, f"column {column!r} must be numbers, got {dtype}")
    if not is_numeric_dtype(frame.index.dtype) or frame.index.hasnans:
        raise wrong(path, f"the first column must be Unix seconds, got {frame.index.dtype} or missing values")
    if not frame.index.is_monotonic_increasing or not frame.index.is_unique:
        raise wrong(path, "intervals must be in order, each once")
    if len(frame) == 0 or (rows is not None and len(frame) != rows):
        raise wrong(path, f"must have {rows or 'some'} rows, got {len(frame)}")
    _check_metrics(path, frame)
    return frame


def _check_metrics(path: Path, frame: pd.DataFrame) -> None:
    wanted = [(node, *metric) for node in frame.columns.unique(0) for metric in NODE_METRICS]
    for lacking in (column for column in wanted if column not in frame.columns):
        raise wrong(path, f"lacks the column {lacking!r}")
    outside = (frame < 0) | (frame == float("inf"))
    outside |= frame.gt(100) & (frame.columns.get_level_values(1) == "availability")
    if outside.any(axis=None):
        column = frame.columns[outside.any()][0]
        raise wrong(path, f"column {column!r} must be >= 0 and finite, availability <= 100")
    if frame.loc[:, [c[1] == "requests" for c in frame.columns]].isna().any(axis=None):
        raise wrong(path, "requests must not be missing (0 where there was no traffic)")


def _target(path: Path, abnormal: pd.DataFrame, nodes: set[str]) -> tuple[dict[str, Any], str]:
    """Return the alarm and the node that is its cause."""
    told = read_json(path)
    try:
        target = {key: told["target"][key] for key in ("node", "metric", "agg", "timestamp")}
        cause, begin = told["root_cause"]["node"], float(target["timestamp"])
    except (KeyError, TypeError, ValueError) as error:
        raise wrong(path, f"must have target (node, metric, agg, timestamp) and root_cause.node ({error!r})") from error
    column = (target["node"], target["metric"], target["agg"])
    if column not in abnormal.columns:
        raise wrong(path, f"target {column!r} is no column of metrics.csv")
    if cause not in nodes:
        raise wrong(path, f"root_cause.node {cause!r} is no node of graph.csv")
    if not abnormal.index[0] <= begin < abnormal.index[-1] + MINUTE_5:
        raise wrong(path, f"target.timestamp {target['timestamp']} lies outside of metrics.csv")
    return target, cause


# Nezha


def _nezha(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    cases: list[Case] = []
    left_out: list[str] = []
    for folder in sorted(p for p in directory.iterdir() if nezha.is_day(p)):
        day = nezha.Day(folder, logs)
        for fault in day.faults:
            name = f"{folder.name}/{fault['id']}"
            if fault["abnormal_traces"] == 0:
                left_out.append(name)
                continue
            cases.append(TracesCase(name, folder.name, fault["service"], fault["fault_type"], fault["id"], day))
    return cases, left_out


# NAB


def _nab(directory: Path, logs: bool) -> tuple[list[Case], list[str]]:
    if not (directory / "data").is_dir() and not (directory / "labels").is_dir():
        return [], []
    path = present(directory / "labels/combined_windows.json", _how_to_get("nab"))
    labels = read_json(path)
    if not isinstance(labels, dict):
        raise wrong(path, "must be an object {file: windows}")
    files = {p.relative_to(directory / "data").as_posix() for p in directory.glob("data/*/*.csv")}
    for name in sorted(files ^ set(labels)):
        raise wrong(path, f"labels {name}, which is not in data/" if name in labels else f"lacks data/{name}")
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
        raise wrong(path, f"row {bad[0]} has no time or no finite value" if len(bad) else "has no rows")
    # an hour back is a clock that was set back, as in autumn; the rows are still in order
    back = np.flatnonzero(times[1:] < times[:-1] - pd.Timedelta("1h"))
    if len(back):
        raise wrong(path, f"row {back[0] + 1} is out of order ({times[back[0] + 1]} after {times[back[0]]})")
    windows = _windows(directory / "labels/combined_windows.json", name, spans, times)
    return SeriesCase(name, name.partition("/")[0], windows, values, times)


def _windows(path: Path, name: str, spans: Any, times: pd.DatetimeIndex) -> tuple[tuple[int, int], ...]:
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


SOURCES = {
    "petshop": _Source(
        "CC-BY-4.0, Copyright Amazon.com, Inc. or its affiliates",
        "https://github.com/amazon-science/petshop-root-cause-analysis",
        "git clone https://github.com/amazon-science/petshop-root-cause-analysis petshop, then give that folder.",
        _petshop,
    ),
    "nezha": _Source(
        "MIT, Copyright 2023 IntelligentDDS",
        "https://github.com/IntelligentDDS/Nezha",
        "git clone https://github.com/IntelligentDDS/Nezha, then python -m aiops_lab.datasets nezha Nezha nezha, "
        "then give the folder nezha.",
        _nezha,
    ),
    "nab": _Source(
        "MIT, Copyright 2014-2024 Numenta Inc.",
        "https://github.com/numenta/NAB",
        "git clone https://github.com/numenta/NAB nab, then give that folder.",
        _nab,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert a clone of a public repository to the layout that `load` reads."""
    parser = argparse.ArgumentParser(prog="python -m aiops_lab.datasets", description=main.__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="nezha")
    command = commands.add_parser("nezha", help="make the compact layout of Nezha's data")
    command.add_argument("source", type=Path, help=f"a clone of {SOURCES['nezha'].source}")
    command.add_argument("out", type=Path, help="the folder to make; it must not exist, or be empty")
    asked = parser.parse_args(arguments)
    try:
        nezha_clone.convert(asked.source, asked.out)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
