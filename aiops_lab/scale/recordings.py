"""What holds of many partitions? `PartitionedRecording` answers a pipeline from their counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.recording import Recording
from aiops_lab.detect.windows import Counts, Grid, count_windows, windows_to_walk
from aiops_lab.results import Anomaly
from aiops_lab.scale.tasks import (
    COUNT_TABLES,
    Interval,
    Names,
    PartCounts,
    encode_rows,
    first_calls,
)
from aiops_lab.spans import Key

Around = Callable[[frozenset[Key], list[Interval]], pd.DataFrame]


@dataclass(frozen=True)
class _Moments:
    """As much of requests as the functions of `detect.windows` look at."""

    row: NDArray
    node: NDArray
    start: NDArray
    end: NDArray
    failed: NDArray
    status: NDArray
    duration_ms: NDArray


class PartitionedRecording(Recording):
    """What a pipeline asks of a recording, from the counts of partitions.

    Parameters
    ----------
    names : Names
    parts : list of PartCounts
        Of all partitions.
    window_ns : int
    last_ns : int
        The last start or end of a span.
    around : function (keys, intervals) -> DataFrame
        Returns the requests to some endpoints that were there in one of some intervals.
    """

    def __init__(
        self,
        names: Names,
        parts: list[PartCounts],
        *,
        window_ns: int,
        last_ns: int,
        around: Around,
    ) -> None:
        self.keys = {key: code for code, key in enumerate(names.keys[: names.served])}
        self._names = names
        self._around = around
        self._last_ns = last_ns
        self._window_ns = window_ns
        self._number = sum(part.number for part in parts)
        self._first = np.min([part.first for part in parts], axis=0)
        self._calls = pd.concat([part.calls for part in parts])
        sent = pd.concat([part.requests for part in parts], ignore_index=True)
        # in the order of a frame of all spans: sums depend on it
        order = ["start", "span_id", "trace_id", "kind"]
        self._sent = sent.sort_values(order, ignore_index=True)
        self._windows = np.unique(np.concatenate([part.windows for part in parts]))
        self._tables = self._summed(parts)

    @property
    def number(self) -> int:
        return self._number

    @property
    def last_ns(self) -> int:
        return self._last_ns

    @property
    def methods(self) -> dict[Key, str]:
        return self._names.methods

    @property
    def addresses(self) -> dict[tuple[str, str], str]:
        return self._names.addresses

    @property
    def calls(self) -> dict[tuple[Key, Key], int]:  # type: ignore[override]
        """Unix ns of the first call of each pair (caller, called)."""
        keys = self._names.keys
        rows = first_calls(self._calls).itertuples(index=False)
        return {(keys[caller], keys[called]): ns for caller, called, ns in rows}

    def first_requests(self) -> NDArray:
        return self._first

    def windows_to_walk(self, grid: Grid, **knobs: int) -> NDArray:
        """Return the windows that need to be walked: a window in which something happens stands for
        all that happens in it.
        """
        busy = self._windows * self._window_ns
        long = self._long(knobs["stuck_ns"])
        moments = _Moments(
            row=np.broadcast_to(0, self._number),
            node=np.append(np.zeros(busy.size, dtype=np.int64), long.node),
            start=np.append(busy, long.start),
            end=np.append(busy, long.end),
            failed=np.zeros(0),
            status=np.zeros(0),
            duration_ms=np.zeros(0),
        )
        return windows_to_walk(cast(Any, moments), cast(Any, _none()), grid, **knobs)

    def count(self, grid: Grid, walked: NDArray, **knobs: int) -> Counts:
        """Return what ended in each window that is walked."""
        long = cast(Any, self._long(knobs["stuck_ns"]))
        width = len(self.keys)
        hanging = count_windows(long, cast(Any, _none()), width, grid, walked=walked, **knobs)
        wanted = walked + grid.since_ns // self._window_ns
        at = np.searchsorted(self._windows, wanted)
        at = np.minimum(at, max(self._windows.size - 1, 0))
        there = self._windows[at] == wanted
        tables: dict[str, Any] = {}
        for name, table in self._tables.items():
            rows = table[at]
            rows[~there] = 0.0
            tables[name] = rows
        return hanging._replace(**tables)

    def around(self, anomalies: list[Anomaly], longest_ns: int) -> Recording:
        """Return a recording of the requests that may show some anomalies."""
        ends = pd.DatetimeIndex([anomaly.end for anomaly in anomalies]).as_unit("ns").asi8
        keys = frozenset(anomaly.key for anomaly in anomalies)
        frame = self._around(keys, _united(np.unique(ends) - longest_ns, np.unique(ends)))
        return _Shown(frame, self._names, self.keys)

    def _summed(self, parts: list[PartCounts]) -> dict[str, NDArray]:
        """Return the tables of all windows: what several partitions have is added up in the order
        of the spans.
        """
        shape = self._windows.size, len(self.keys)
        tables = {name: np.zeros(shape) for name in COUNT_TABLES}
        touched = np.zeros(self._windows.size, dtype=np.int64)
        for part in parts:
            at = np.searchsorted(self._windows, part.windows)
            touched[at] += 1
            for name, table in part.tables.items():
                tables[name][at] += table
        ended = self._sent["end"].to_numpy() // self._window_ns
        at = np.searchsorted(self._windows, ended)
        inside = at < self._windows.size
        inside[inside] &= self._windows[at[inside]] == ended[inside]
        inside[inside] &= touched[at[inside]] > 1
        rows = self._sent[inside]
        cell = at[inside] * shape[1] + rows["node"].to_numpy()
        log_ms = rows["log_ms"].to_numpy()
        sums = {
            "total": log_ms,
            "squares": log_ms * log_ms,
            "ok_total": np.where(rows["answered"], log_ms, 0.0),
        }
        for name, weights in sums.items():
            summed = np.bincount(cell, weights, minlength=shape[0] * shape[1]).reshape(shape)
            tables[name][touched > 1] = summed[touched > 1]
        return tables

    def _long(self, stuck_ns: int) -> _Moments:
        """Return the requests that are older than a time at their end."""
        sent = self._sent
        long = sent[(sent["end"] - sent["start"]) > stuck_ns]
        columns = {name: long[name].to_numpy() for name in ("node", "start", "end", "failed")}
        duration_ms = (columns["end"] - columns["start"]) / 1e6
        zeros = np.zeros(len(long), dtype=np.int64)
        return _Moments(row=zeros, status=zeros, duration_ms=duration_ms, **columns)


class _Shown(Recording):
    """Some requests of a partitioned recording, which show its anomalies."""

    def __init__(self, frame: pd.DataFrame, names: Names, keys: dict[Key, int]) -> None:
        self.keys = keys
        self.spans = encode_rows(frame, names)
        self.requests = self.spans.select(self.spans.server)
        self.given_up = self.spans.select(np.zeros(self.spans.row.size, dtype=bool))


def _none() -> _Moments:
    empty = np.zeros(0, dtype=np.int64)
    return _Moments(empty, empty, empty, empty, empty, empty, empty)


def _united(since: NDArray, until: NDArray) -> list[Interval]:
    """Return the union of intervals of one length, in their order, as intervals that are apart."""
    begins = np.append(True, since[1:] > until[:-1])
    last = np.append(np.flatnonzero(begins)[1:], since.size) - 1
    return [*zip(since[begins].tolist(), until[last].tolist(), strict=True)]
