"""Many files give what one frame gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import shop
from aiops_lab import Report, Span, replay, to_frame
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.windows import Counts, Grid
from aiops_lab.scale.partitions import (
    partitions_of,
    read_partition,
    read_spans_of,
    stacked,
    write_partitions,
)
from aiops_lab.scale.replaying import PartitionedReplay, replay_partitions
from aiops_lab.scale.workers import Workers
from shop.catalogue import SCENARIOS
from tests.support.traces import span

pytest.importorskip("pyarrow")

SECONDS = 97  # of a partition: no multiple of a window, so that windows are shared
WINDOW_NS = 10_000_000_000
KNOBS = {"stuck_ns": int(Sensitivity().timeout_s * 1e9), "lost_ns": 600_000_000_000}


@pytest.fixture(scope="module")
def spans() -> pd.DataFrame:
    return shop.virtual(replace(SCENARIOS["hang"], rate=10), 1, progress=False)


@pytest.fixture(scope="module")
def folder(spans: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spans")
    write_partitions(spans, path, seconds=SECONDS)
    return path


def told(report: Report) -> Any:
    """All of a report, numbers to nine digits: a kernel that is compiled in between rounds
    otherwise.
    """
    rows = report.windows.to_dict("records")
    incidents = [(incident.to_dict(), incident.verdict) for incident in report.incidents]
    text = json.dumps([rows, report.anomalies, incidents], default=str)
    return json.loads(text, parse_float=lambda number: f"{float(number):.9g}")


def test_partitions_give_the_windows_the_incidents_and_the_verdicts_of_one_frame(
    spans: pd.DataFrame, folder: Path
) -> None:
    expected = replay(spans)
    report = replay_partitions(folder / "*.parquet", progress=False)
    assert len(partitions_of(folder / "*.parquet")) > 2
    assert report.incidents[0].root_cause
    assert told(report) == told(expected)


def test_the_counts_of_windows_are_equal_to_the_last_bit(spans: pd.DataFrame, folder: Path) -> None:
    many = PartitionedReplay(folder / "*.parquet", Workers(progress=False))._recording()
    one = Recording(spans, {})
    since = int(one.first_requests().min()) // WINDOW_NS * WINDOW_NS
    until = (one.last_ns // WINDOW_NS + 1) * WINDOW_NS
    grid = Grid(since, until, WINDOW_NS)
    walked = np.arange(grid.windows)
    expected, counted = (each.count(grid, walked, **KNOBS) for each in (one, many))
    for name, right, got in zip(Counts._fields, expected, counted, strict=True):
        assert np.array_equal(got, right), name
    assert one.calls == many.calls
    assert one.keys == many.keys


def test_a_late_span_goes_where_its_trace_is(tmp_path: Path) -> None:
    def at(second: float, n: int, trace: int) -> Span:
        return span(n, None, "/x", "server", 1000 * second, 1, trace=trace)

    first = to_frame([at(1, 1, 1), at(9, 2, 2)])
    late = to_frame([at(25, 3, 2), at(26, 4, 3)])
    write_partitions([first, late], tmp_path, seconds=10)
    parts = [read_partition(part) for part in partitions_of(tmp_path / "*.parquet")]
    traces = [set(part["trace_id"]) for part in parts]
    assert [len(part) for part in parts] == [3, 1]
    assert not traces[0] & traces[1]


@pytest.mark.parametrize("name", ["plain", "run[1]"])
def test_a_trace_stays_whole_beside_a_clock_that_is_ahead(name: str, tmp_path: Path) -> None:
    def at(second: float, n: int, trace: int) -> Span:
        return span(n, None, "/x", "server", 1000 * second, 1, trace=trace)

    frames = [
        [at(s, s, s) for s in range(5)] + [at(1e6, 9, 9)],
        [at(12 + s, 20 + s, s) for s in range(5)],
    ]
    folder = tmp_path / name
    parts = write_partitions(map(to_frame, frames), folder, seconds=10)
    assert [len(read_partition(part)) for part in parts] == [10, 1]
    with pytest.raises(ValueError, match="must hold no partitions yet"):
        write_partitions(to_frame(frames[1]), folder)


def test_where_a_frame_is_refused_nothing_is_left(tmp_path: Path) -> None:
    good = to_frame([span(1, None, "/x", "server", 0, 1)])
    with pytest.raises(ValueError, match="trace_id"):
        write_partitions([good, pd.DataFrame({"a": [1]})], tmp_path)
    assert len(write_partitions([good], tmp_path)) == 1


def test_files_without_spans_hold_none(tmp_path: Path) -> None:
    to_frame([]).to_parquet(tmp_path / "x.parquet")
    assert replay_partitions(tmp_path / "*.parquet").windows.empty
    assert stacked([]).empty


def test_the_spans_of_some_seconds_are_those_that_overlap_them(folder: Path) -> None:
    every = read_spans_of(folder / "*.parquet")
    start = every["start"].to_numpy("datetime64[ns]").astype(np.int64)
    end = start + np.rint(every["duration_ms"].fillna(np.inf).clip(upper=1e9) * 1e6)
    since, until = int(start[len(start) // 2]), int(start[len(start) // 2] + 5e9)
    parts = [read_partition(p, since, until) for p in partitions_of(folder / "*.parquet")]
    expected = every["span_id"][(end >= since) & (start < until)]
    assert sorted(pd.concat(parts)["span_id"]) == sorted(expected)
    assert len(expected)


@pytest.mark.parametrize(
    "ask",
    [
        lambda folder: replay_partitions(folder / "nothing-*.parquet"),
        lambda folder: write_partitions(to_frame([]), folder, seconds=0),
        lambda folder: write_partitions(to_frame([]), folder),
        lambda folder: replay_partitions(folder / "*.txt"),
        lambda folder: replay_partitions(None),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(ask: Callable[[Path], Any], folder: Path) -> None:
    (folder / "words.txt").write_text("no spans")
    with pytest.raises(ValueError, match=r"must (name|be|hold)"):
        ask(folder)
