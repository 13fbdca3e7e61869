"""What was found in many files? The incidents of `aiops_lab.scale`, as the report shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from aiops_lab.checks import FieldError, missing_extra
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.numerics import unix_ns
from aiops_lab.pipeline import Report
from aiops_lab.scale.partitions import read_partition, stacked
from aiops_lab.scale.replaying import PartitionedReplay
from aiops_lab.scale.workers import Workers
from aiops_lab.show.findings import Findings, findings_of

if TYPE_CHECKING:
    from aiops_lab.scale.tasks import Interval

_LOCAL = "local"
"""In place of a scheduler's address: this machine, a worker a core."""

TAIL_NS = 60_000_000_000  # what is shown of spans where there is no incident


def find_incidents_in_files(pattern: str, scheduler: str, sensitivity: Sensitivity) -> Findings:
    """Return the incidents in the partitions of a pattern, found by the workers of a scheduler.

    The facts of the report are taken from the spans around the incidents.

    Raises
    ------
    ValueError
        There are no such files, or a file holds no spans.
    OSError
        The scheduler cannot be reached.
    ImportError
        Dask is not installed.
    """
    with _client(scheduler) as client:
        replayed = PartitionedReplay(pattern, Workers(client), sensitivity)
        report = replayed.report()
    around = _around(replayed, report, int(sensitivity.window_s * 1e9))
    number = sum(each.spans for each in replayed.surveys)
    files = len(replayed.partitions)
    name = f"{pattern}, {number:,} spans in {files} partitions; of them, around the incidents"
    return findings_of(report, name, around)


def _around(replayed: PartitionedReplay, report: Report, window_ns: int) -> pd.DataFrame:
    """Return the spans around the incidents; without any, those of the end."""
    before_ns = int(2e9 * replayed.sensitivity.half_life_s)
    intervals = [
        (unix_ns(i.started) - before_ns, unix_ns(i.last_anomaly) + 2 * window_ns)
        for i in report.incidents
    ]
    last = max(each.last_ns for each in replayed.surveys)
    frames = [
        read_partition(partition, *interval)
        for interval in _apart(intervals or [(last - TAIL_NS, last + 1)])
        for partition in replayed.touched(*interval)
    ]
    same = ["trace_id", "span_id", "kind", "start"]  # a long span may touch two intervals
    return stacked(frames).drop_duplicates(same, ignore_index=True)


def _apart(intervals: list[Interval]) -> list[Interval]:
    """Return the union of some intervals as intervals that are apart."""
    joined: list[Interval] = []
    for since, until in sorted(intervals):
        if joined and since <= joined[-1][1]:
            since, last = joined.pop()
            until = max(until, last)
        joined.append((since, until))
    return joined


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise missing_extra(error) from None
    if scheduler != _LOCAL and "://" not in scheduler:
        rule = f"must be an address such as tcp://host:8786, or {_LOCAL!r}"
        raise FieldError("--scheduler", rule, scheduler)
    address = None if scheduler == _LOCAL else scheduler
    with Client(address, **({"dashboard_address": None} if address is None else {})) as client:
        yield client
