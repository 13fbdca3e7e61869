"""Past one machine: the same result from many files, with a worker that is killed midway.
``python -m benchmarks.scale [--spans N] [--files N]``.

A virtual shop with a fault is written into partitions. Then they are replayed in one process, and
on two workers of Dask, of which one is killed once half of the files are counted. Both results must
be equal, and no task may be done twice. Beside it: self time and service graph, file by file, with
this package and with pandas (`benchmarks._pandas`), each on one core.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import aiops_lab as lab
import shop
from aiops_lab.pipeline import Report
from aiops_lab.scale.partitions import (
    Partition,
    partitions_of,
    read_partition,
    read_spans_of,
    write_partitions,
)
from aiops_lab.scale.replaying import PartitionedReplay, replay_partitions
from aiops_lab.scale.workers import Workers
from benchmarks._pandas import self_time_and_graph
from shop.catalogue import SCENARIOS
from shop.virtual_time.scenario import Scenario

SPANS, FILES = 2_000_000, 16
GOAL_PANDAS = 1.3  # CPU time of self time and graph per partition, by that of pandas
RATE = 60  # requests a second
FAULT_S = 300  # how long the fault lasts
INSTALL = "Dask is missing: pip install -e '.[scale]'"


def main() -> None:
    """Print the tables; exit with 1 where results differ or a goal is missed."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        sys.exit(INSTALL)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=SPANS, help=f"default {SPANS:,}")
    parser.add_argument("--files", type=int, default=FILES, help=f"default {FILES}")
    parser.add_argument(
        "--without-one-frame",
        action="store_true",
        help="leave out the replay of all spans in one frame (600 bytes of memory a span)",
    )
    parser.add_argument("--workers", type=int, default=2, help="default 2")
    options = parser.parse_args()
    compile_kernels()
    with tempfile.TemporaryDirectory() as folder:
        found = run(
            folder,
            options.spans,
            options.files,
            workers=options.workers,
            one_frame=not options.without_one_frame,
        )
    differ = found.differing
    print(f"equal results: {'no: ' + ', '.join(differ) if differ else 'yes, to the last bit'}")
    again = {key: n for key, n in found.tasks.items() if n > 1}
    print(f"tasks: {len(found.tasks)}, done twice: {again or 'none'}")
    sys.exit(1 if found.by_pandas > GOAL_PANDAS or differ or again else 0)


class Found(NamedTuple):
    """What a run found: ``by_pandas`` is the CPU time of self time and graph by that of pandas,
    ``cpu_s`` that of the replay in one process; in which parts the results differ, and how often
    each task was done.
    """

    files: int
    by_pandas: float
    cpu_s: float
    differing: list[str]
    tasks: Counter[str]


def run(folder: str, spans: int, files: int, *, workers: int, one_frame: bool) -> Found:
    """Write so many spans into files of a folder and replay them in each way."""
    pattern = f"{folder}/*.parquet"
    partitions = _write(spans, files, folder)
    by_pandas = _beside_pandas(partitions)
    begin = time.process_time()
    reports = [
        _told("one process, a file at a time", lambda: replay_partitions(pattern, progress=False))
    ]
    cpu_s = time.process_time() - begin
    if one_frame:
        whole = _told("one process, one frame", lambda: lab.replay(read_spans_of(pattern)))
        reports.append(whole)
    many, tasks = _on_workers(pattern, workers)
    differing = [part for each in reports for part in _differences(many, each)]
    return Found(len(partitions), by_pandas, cpu_s, differing, tasks)


def compile_kernels() -> None:
    """Replay a little until the kernels are compiled: as plain Python they round otherwise in the
    last bit.
    """
    frame = shop.virtual(_scenario(600.0), 2, progress=False)
    for _ in range(12):
        lab.replay(frame, causes=False)


def _write(spans: int, files: int, folder: str) -> list[Partition]:
    """Write the spans of a virtual shop with a fault, and tell about it."""
    begin = time.process_time()
    per_request = len(shop.virtual(_scenario(100.0), 1, progress=False)) / (100 * RATE)
    seconds = spans / per_request / RATE
    frames = shop.stream(_scenario(seconds), 1, progress=False)
    # one less, as the first and the last partition are not full
    partitions = write_partitions(frames, folder, seconds=seconds / (files - 1))
    size = sum(file.stat().st_size for file in Path(folder).iterdir())
    print(
        f"{spans:,} spans of {seconds / 3600:.1f} virtual hours in {len(partitions)} partitions, "
        f"{size / spans:.0f} bytes a span; made in {time.process_time() - begin:.0f} CPU s"
    )
    return partitions


def _scenario(seconds: float) -> Scenario:
    """Return a shop whose fault begins in the middle."""
    base = SCENARIOS["delay"]
    begin = seconds / 2
    fault = replace(base.faults[0], start_s=begin, end_s=min(begin + FAULT_S, seconds))
    return replace(base, rate=RATE, seconds=seconds, faults=(fault,))


def _told(title: str, work: Callable[[], Report]) -> Report:
    """Return what `work` returns, and print what it took."""
    begin, cpu = time.perf_counter(), time.process_time()
    report = work()
    took, used = time.perf_counter() - begin, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"{title:36}{took:8.1f} s, {used:6.1f} CPU s, peak so far {peak_mb:,.0f} MB")
    return report


def _on_workers(pattern: str, number: int) -> tuple[Report, Counter[str]]:
    """Return the result of a cluster whose first worker is killed, and how often each task was
    done.
    """
    from distributed import Client, LocalCluster
    from distributed.diagnostics.plugin import SchedulerPlugin

    done: Counter[str] = Counter()

    class Counting(SchedulerPlugin):
        def transition(self, key: Any, start: str, finish: str, *args: Any, **more: Any) -> None:
            if start == "processing" and finish == "memory":
                done[str(key)] += 1

    files = len(partitions_of(pattern))
    options: dict[str, Any] = {"dashboard_address": None, "silence_logs": 50}
    with (
        LocalCluster(n_workers=number, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        cluster.scheduler.add_plugin(Counting(), name="counting")
        pid = min(client.run(os.getpid).values())
        workers = Workers(client, progress=False)
        midway = files + files // 2
        killer = threading.Thread(target=_kill, args=(pid, done, workers, midway), daemon=True)
        killer.start()
        title = f"{number} workers, one killed"
        report = _told(title, lambda: PartitionedReplay(pattern, workers).report())
        is_gone = pid not in client.run(os.getpid).values()
        peaks = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        print(
            f"{'':36}a worker was killed: {'yes' if is_gone else 'no'}; peak of the workers "
            f"{max(peaks.values()):,.0f} MB"
        )
    return report, done


def _kill(pid: int, done: Counter[str], workers: Workers, midway: int) -> None:
    """Kill a worker between two results, once so many are there."""
    while True:
        if workers.collected >= midway:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.2)
            if done.total() == workers.collected:
                os.kill(pid, signal.SIGKILL)
                return
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.005)


def _differences(single: Report, other: Report) -> list[str]:
    """Return in what two results differ."""
    wrong = []
    try:
        pd.testing.assert_frame_equal(single.windows, other.windows, check_exact=True)
    except AssertionError:
        wrong.append("windows")
    if single.anomalies != other.anomalies:
        wrong.append("anomalies")
    one, two = ([incident.to_dict() for incident in r.incidents] for r in (single, other))
    if one != two or not one:
        wrong.append("incidents")
    if [i.verdict for i in single.incidents] != [i.verdict for i in other.incidents]:
        wrong.append("verdicts")
    return wrong


def _beside_pandas(partitions: list[Partition]) -> float:
    """Print what self time and graph of the files take; return the time by that of pandas."""
    ours = theirs = 0.0
    warm = read_partition(partitions[0]).head(1000)
    lab.self_time(warm), lab.service_graph(warm)
    for partition in partitions:
        frame = _ended(partition)
        begin = time.process_time()
        mine = lab.self_time(frame), lab.service_graph(frame)
        ours += time.process_time() - begin
        frame = _ended(partition)  # read anew: what was found out about its ids is gone
        begin = time.process_time()
        peer = self_time_and_graph(frame)
        theirs += time.process_time() - begin
        pd.testing.assert_series_equal(mine[0], peer[0], check_names=False)
        if mine[1]["calls"].sum() != peer[1]["calls"].sum():
            sys.exit("the graphs differ")
    ratio = ours / theirs
    print(
        f"self time and graph, file by file: {ours:.1f} CPU s, pandas {theirs:.1f}; ratio "
        f"{ratio:.2f}, goal at most {GOAL_PANDAS}: {'MISSED' if ratio > GOAL_PANDAS else 'reached'}"
    )
    return ratio


def _ended(partition: Partition) -> pd.DataFrame:
    """Return the spans of a partition that are over: what pandas does here knows no others."""
    frame = read_partition(partition)
    return frame[frame["duration_ms"].notna()].reset_index(drop=True)


if __name__ == "__main__":
    main()
