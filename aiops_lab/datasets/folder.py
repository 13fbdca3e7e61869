"""Data sets of your own: a folder with a manifest that names the files, times and truth of each
case.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.checks import shorten
from aiops_lab.datasets.cases import Case, Dataset, MetricsCase, SpansCase
from aiops_lab.datasets.files import NUMBERS, check_kinds, csv_table, read_json, wrong
from aiops_lab.explain.changes import services_of
from aiops_lab.explain.metric_frames import nodes_of, seconds
from aiops_lab.known_names import known_instead, misspelt, shown_names, similar, warn_of_unknown

if TYPE_CHECKING:
    import pandas as pd

MANIFESTS = ("manifest.json", "manifest.toml")
KEYS = {
    *("name", "system", "kind", "truth", "normal", "abnormal"),
    *("spans", "metrics", "calls"),
}
SET_KEYS = {"name", "licence", "source", "cases"}
TIME_COLUMN = "time"  # the column of a file of metrics
NOT_STATED = "not stated"  # a licence or a source


def read_folder(directory: str | Path) -> Dataset:
    """Return the cases that ``manifest.json`` or ``manifest.toml`` of a folder describes.

    The manifest has ``cases``, a list, and may have ``name`` (default: that of the folder),
    ``licence`` and ``source``. A case has

    - ``name``: unique;
    - ``normal``, ``abnormal``: [start, end), each ISO 8601 (UTC where no zone is named) or Unix
      seconds; a trace belongs to the window in which its first span starts;
    - ``truth``: the services at fault, as a list, each a service of the files; empty: nothing is
      at fault, and silence is right;
    - ``spans``: a file that `read_spans` reads or a store, or a list of them; or ``metrics``: a
      CSV with a column ``time`` (Unix s or ISO 8601) and columns ``service_metric``, with one
      service as truth;
    - optional: ``system`` (default: the name of the data set) and ``kind`` (of the fault), by which
      results are told apart; ``calls``, pairs of caller and callee, for metrics.

    Paths are relative to the folder. A file that several cases name is read once.

    Raises
    ------
    FileNotFoundError
        There is no manifest, or a file that it names is missing.
    ValueError
        A key is unknown or missing, or its value breaks its rule: names the manifest, the case, the
        key and the value.

    Warns
    -----
    UnknownNameWarning
        A service in ``calls`` has no metrics, and a name similar to one that has.
    """
    path = _manifest(Path(directory))
    told = _table(path)
    for key in sorted(set(told) - SET_KEYS):
        rule = f"must be one of {sorted(SET_KEYS)}"
        raise wrong(path, f"{key!r} {rule}{_guess(key, SET_KEYS)}")
    rows = told.get("cases")
    if not isinstance(rows, list) or not rows:
        raise wrong(path, f"cases must be a list with at least one case, got {shorten(rows)}")
    name = str(told.get("name", path.parent.resolve().name))
    read = _Reader(path, name)
    cases: list[Case] = []
    for number, row in enumerate(rows, 1):
        cases.append(read.case(number, row))
    _check_unique(path, cases)
    licence = str(told.get("licence", NOT_STATED))
    source = str(told.get("source", NOT_STATED))
    return Dataset(name, licence, source, tuple(cases))


def _manifest(directory: Path) -> Path:
    for name in MANIFESTS:
        if (directory / name).is_file():
            return directory / name
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} must be a folder that exists")
    raise FileNotFoundError(f"{directory} must hold {' or '.join(MANIFESTS)}")


def _table(path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        told = read_json(path)
    else:
        try:
            told = tomllib.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise wrong(path, f"not valid TOML ({error})") from error
    if not isinstance(told, dict):
        raise wrong(path, f"must be an object with cases, got {shorten(told)}")
    return told


def _check_unique(path: Path, cases: Iterable[Case]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise wrong(path, f"name must be that of one case only, got {case.name!r} twice")
        seen.add(case.name)


class _Reader:
    """What turns the rows of one manifest into cases."""

    def __init__(self, path: Path, system: str) -> None:
        self.path = path
        self.system = system
        self._spans = cache(self._read_spans)
        self._metrics = cache(self._read_metrics)

    def case(self, number: int, row: Any) -> Case:
        """Return the case of a row; `number` counts from 1."""
        if not isinstance(row, dict):
            raise wrong(self.path, f"case {number} must be an object, got {shorten(row)}")
        self._check_keys(number, row)
        if "spans" in row:
            return self._spans_case(number, row)
        return self._metrics_case(number, row)

    def _check_keys(self, number: int, row: dict[str, Any]) -> None:
        place = f"case {number}"
        for key in ("name", "normal", "abnormal", "truth"):
            if key not in row:
                raise wrong(self.path, f"{place} must have {key!r}, got {sorted(row)}")
        for key in sorted(set(row) - KEYS):
            rule = f"must be one of {sorted(KEYS)}{_guess(key, KEYS)}"
            raise wrong(self.path, f"{place}: {key!r} {rule}")
        has_spans = "spans" in row
        has_metrics = "metrics" in row
        if has_spans == has_metrics:
            raise wrong(self.path, f"{place} must have 'spans' or 'metrics', and not both")

    def _refuse(self, number: int, row: dict[str, Any], key: str, rule: str) -> ValueError:
        got = shorten(row[key])
        place = f"case {number} ({row['name']})"
        return wrong(self.path, f"{place}: {key} must be {rule}, got {got}")

    def _window(
        self, number: int, row: dict[str, Any], key: str
    ) -> tuple[pd.Timestamp, pd.Timestamp]:
        rule = "a start and a later end"
        value = row[key]
        if not _is_pair(value):
            raise self._refuse(number, row, key, rule)
        try:
            start, end = map(_moment, value)
        except ValueError as error:
            raise self._refuse(number, row, key, f"{rule} ({error})") from error
        if not start < end:
            raise self._refuse(number, row, key, rule)
        return start, end

    def _truth(
        self, number: int, row: dict[str, Any], known: set[str], have: str
    ) -> tuple[str, ...]:
        value = row["truth"]
        is_list = isinstance(value, list)
        if not is_list or not all(isinstance(service, str) for service in value):
            raise self._refuse(number, row, "truth", "a list of services")
        for service in value:
            if service not in known:
                rule = f"services {have} ({service!r}: {known_instead(service, known)})"
                raise self._refuse(number, row, "truth", rule)
        return tuple(value)

    def _spans_case(self, number: int, row: dict[str, Any]) -> SpansCase:
        files = row["spans"]
        if not isinstance(files, list):
            files = [files]
        frame, starts = self._spans(tuple(map(str, files)))

        def cut(key: str) -> pd.DataFrame:
            low, high = self._window(number, row, key)
            is_inside = (low <= starts) & (starts < high)
            spans = frame[is_inside]
            if spans.empty:
                raise self._refuse(number, row, key, "a time in which traces start")
            return spans.reset_index(drop=True)

        name, system, kind = self._names(row)
        return SpansCase(
            name=name,
            group=system,
            truth=self._truth(number, row, services_of(frame), "that spans have or call"),
            normal=cut("normal"),
            abnormal=cut("abnormal"),
            fault=kind,
        )

    def _metrics_case(self, number: int, row: dict[str, Any]) -> MetricsCase:
        frame = self._metrics(str(row["metrics"]))

        def cut(key: str) -> pd.DataFrame:
            start, end = self._window(number, row, key)
            times = frame.index
            is_inside = (start.timestamp() <= times) & (times < end.timestamp())
            rows = frame[is_inside]
            if rows.empty:
                raise self._refuse(number, row, key, "a time with rows")
            return rows

        known = nodes_of(str(row["metrics"]), frame.columns)
        truth = self._truth(number, row, known, "with metrics")
        if len(truth) != 1:
            raise self._refuse(number, row, "truth", "one service where metrics are given")
        calls = self._calls(number, row, known)
        name, system, kind = self._names(row)
        return MetricsCase(
            name=name,
            group=system,
            truth=truth[0],
            normal=cut("normal"),
            abnormal=cut("abnormal"),
            calls=calls,
            target=None,
            fault=kind,
        )

    def _names(self, row: dict[str, Any]) -> tuple[str, str, str]:
        """Return the name of a case, its system and its kind of fault."""
        name = str(row["name"])
        system = str(row.get("system", self.system))
        kind = str(row.get("kind", ""))
        return name, system, kind

    def _calls(
        self, number: int, row: dict[str, Any], known: set[str]
    ) -> list[tuple[str, str]] | None:
        pairs = row.get("calls")
        if pairs is None:
            return None
        if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
            raise self._refuse(number, row, "calls", "pairs of caller and callee")
        calls = [(str(caller), str(callee)) for caller, callee in pairs]
        called = {service for call in calls for service in call}
        if called and called.isdisjoint(known):
            rule = f"calls of services with metrics ({shown_names(sorted(known))})"
            raise self._refuse(number, row, "calls", rule)
        told = f"{self.path}: case {number} ({row['name']}): calls: no metrics of the service"
        warn_of_unknown(told, misspelt(called, known), known)
        return calls

    def _read_spans(self, files: tuple[str, ...]) -> tuple[pd.DataFrame, pd.Series]:
        """Return the spans of some files, and for each the start of its trace."""
        import pandas as pd

        from aiops_lab.record.reader import spans_of

        frames = [spans_of(self._file(name)) for name in files]
        frame = frames[0]
        if len(frames) > 1:
            frame = pd.concat(frames, ignore_index=True)
        traces = frame.groupby("trace_id", observed=True)
        return frame, traces["start"].transform("min")

    def _read_metrics(self, file: str) -> pd.DataFrame:
        import pandas as pd

        path = self._file(file)
        table = csv_table(path, (TIME_COLUMN,)).set_index(TIME_COLUMN)
        check_kinds(path, table, dict.fromkeys(table.columns, NUMBERS))
        try:
            starts = seconds(TIME_COLUMN, table.index)
        except ValueError as error:
            rule = f"column {TIME_COLUMN!r} must hold Unix seconds or times"
            raise wrong(path, f"{rule} ({error})") from error
        table = table.set_axis(pd.Index(starts)).sort_index()
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()][0]
            raise wrong(path, f"column {TIME_COLUMN!r} must have each time once, got {twice:.0f}")
        return table

    def _file(self, name: str) -> Path:
        path = self.path.parent / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, which {self.path} names")
        return path


def _guess(key: str, known: Iterable[str]) -> str:
    near = similar(key, known)
    return f", perhaps {near[0]!r}" if near else ""


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _moment(value: Any) -> pd.Timestamp:
    import pandas as pd

    from aiops_lab.numerics import to_utc

    if isinstance(value, Real) and not isinstance(value, bool):
        return pd.Timestamp(float(value), unit="s", tz="UTC")
    return to_utc(value, "it")
