"""Two workers, one of which is killed, give what one process gives, and do nothing twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from time import sleep
from typing import Any

import pandas as pd
import pytest

import shop
from aiops_lab.__main__ import main
from aiops_lab.scale.partitions import partitions_of, write_partitions
from aiops_lab.scale.replaying import PartitionedReplay, replay_partitions
from aiops_lab.scale.workers import Workers
from shop.catalogue import SCENARIOS

distributed = pytest.importorskip("distributed", reason='needs pip install -e ".[scale]"')
plugins = pytest.importorskip("distributed.diagnostics.plugin")

pytestmark = pytest.mark.filterwarnings("default")  # Dask's own are not ours

DEADLINE_S = 120


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options, silence_logs=50) as local:
        yield local


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("spans")
    spans = shop.virtual(replace(SCENARIOS["delay"], rate=10), 1, progress=False)
    write_partitions(spans, folder, seconds=30)
    return f"{folder}/*.parquet"


def test_the_result_is_the_same_though_a_worker_is_killed(cluster: Any, pattern: str) -> None:
    expected = replay_partitions(pattern, progress=False)
    done: Counter[str] = Counter()

    class Counting(plugins.SchedulerPlugin):  # type: ignore[name-defined]
        def transition(self, key: Any, start: str, finish: str, *args: Any, **more: Any) -> None:
            if start == "processing" and finish == "memory":
                done[str(key)] += 1

    with distributed.Client(cluster) as client:
        pid = min(client.run(os.getpid).values())
        cluster.scheduler.add_plugin(Counting(), name="counting")
        workers = Workers(client, progress=False)
        killer = Thread(target=kill_at_work, args=(pid, done, workers), daemon=True)
        killer.start()
        report = PartitionedReplay(pattern, workers).report()
        killer.join(DEADLINE_S)
        now = set(client.run(os.getpid).values())
    assert pid not in now
    assert [i.id for i in report.incidents] == [i.id for i in expected.incidents]
    assert report.incidents[0].root_cause.key == expected.incidents[0].root_cause.key
    pd.testing.assert_frame_equal(report.windows, expected.windows, rtol=1e-9)
    assert len(done) > 2 * len(partitions_of(pattern))
    assert {key: n for key, n in done.items() if n > 1} == {}


def kill_at_work(pid: int, done: Counter[str], workers: Workers) -> None:
    """Kill a worker between two results: what it has done by then is collected."""
    while True:
        if workers.collected > 1:
            os.kill(pid, signal.SIGSTOP)  # from here on nothing more is done
            sleep(0.2)
            if done.total() == workers.collected:
                os.kill(pid, signal.SIGKILL)
                return
            os.kill(pid, signal.SIGCONT)
        sleep(0.005)


def test_the_command_explains_what_the_workers_found(
    cluster: Any, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", pattern, "--scheduler", cluster.scheduler_address]) == 0
    told = capsys.readouterr().out
    assert "1 incident found" in told
    assert "partitions" in told


def test_an_address_must_have_a_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "*.parquet", "--scheduler", "nowhere"]) == 2
    assert "--scheduler must be an address" in capsys.readouterr().err


def test_who_gives_an_address_alone_is_told_of_the_scheduler(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "s3://bucket/*.parquet"]) == 2
    assert "Parquet at an address with --scheduler local" in capsys.readouterr().err
