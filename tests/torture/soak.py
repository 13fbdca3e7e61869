"""Minutes of traffic while faults come and go: nothing may grow, be lost or be doubled.

A monitor keeps what it looks back on, so memory grows until that is full, and must be flat from
then on. With `KNOBS` it looks back three minutes, and the page five: after five minutes, the second
and the last third of the rest are compared.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import sub
from pathlib import Path
from statistics import median
from typing import NamedTuple

import requests

from aiops_lab import Sensitivity
from aiops_lab.record.faults import Fault
from tests.torture.load import count_doubled, count_lost, shop_under_load
from tests.torture.table import Row

FAULTS = (
    Fault("error", "shop", "/payment", rate=0.5),
    Fault("delay", "shop", "/payment", duration_ms=300),
    Fault("hang", "shop", "/payment"),
    Fault("error", "shop", "/checkout", rate=1.0),
)
FAULT_S = 10.0

# An incident looks back on twice the half-life, a minute of the longest request, and on what came
# until it is relearned.
KNOBS = Sensitivity(
    window_s=1, half_life_s=30, correlation_s=30, relearn_after_s=60, resolve_after_s=60
)
LONGEST_WARM_S = 300.0  # until also the page's five minutes are full; or half of a shorter soak
LOOK_S = 5.0  # between two looks at the page and the metrics

MOST_MB = 20.0  # by which memory may differ between the two thirds: 0.2 MB for each second
MOST_OBJECTS = 20_000  # ... and Python's blocks of memory: two of a hundred of them
MOST_MORE = 20  # ... and threads and files


class Usage(NamedTuple):
    """What this process takes at a moment."""

    memory_mb: float
    threads: float
    files: float
    objects: float


def usage() -> Usage:
    """Return what this process takes; only Linux tells memory and files."""
    status = Path("/proc/self/status")
    objects = sys.getallocatedblocks()
    if not status.exists():
        return Usage(0.0, threading.active_count(), 0, objects)
    lines = status.read_text().splitlines()
    (memory,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    files = len(os.listdir("/proc/self/fd"))
    return Usage(int(memory) / 1e3, threading.active_count(), files, objects)


def growth(samples: list[Usage]) -> Usage:
    """Return by how much the median of the last third lies above that of the second."""
    third = len(samples) // 3
    early, late = (
        map(median, zip(*part, strict=True)) for part in (samples[third:-third], samples[-third:])
    )
    return Usage(*map(sub, late, early))


def soak(folder: Path, minutes: float) -> Row:
    """Serve for some minutes, while somebody watches; a fault every 20 seconds, for 10."""
    path = folder / "s.sqlite"
    began = time.monotonic()
    until = began + 60 * minutes
    warm = began + min(LONGEST_WARM_S, 30 * minutes)
    samples: list[Usage] = []
    times = 0
    with shop_under_load(path, KNOBS) as (shop, clients), watched(shop.url, samples):
        while time.monotonic() < until:
            shop.inject(FAULTS[times % len(FAULTS)])
            times += 1
            _pay(shop.url, FAULT_S)
            shop.clear()
            _pay(shop.url, FAULT_S)
            if time.monotonic() < warm:
                samples.clear()
        dropped = shop.store.dropped
    grown = growth(samples)
    doubled = count_doubled(path)
    is_flat = grown.memory_mb < MOST_MB and grown.objects < MOST_OBJECTS
    is_flat = is_flat and max(grown.threads, grown.files) < MOST_MORE and doubled == 0
    seen = f"memory {grown.memory_mb:+.0f} MB, objects {grown.objects:+,.0f}"
    seen += f", threads {grown.threads:+.0f}, files {grown.files:+.0f}, {doubled} doubled"
    return Row(
        f"faults during {minutes:g} min of traffic",
        times,
        seen if is_flat else f"FAILED: {seen}",
        len(clients.sent),
        clients.unanswered,
        count_lost(clients.sent, path) + dropped,
    )


@contextmanager
def watched(url: str, samples: list[Usage]) -> Iterator[None]:
    """Look at the page and the metrics, and take down each second what this process takes."""
    over = threading.Event()

    def look() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not over.wait(LOOK_S):
                for path in ("/aiops/", "/aiops/metrics", "/aiops/incidents", "/metrics"):
                    session.get(url + path, timeout=20)

    def measure() -> None:
        while not over.wait(1.0):
            samples.append(usage())

    threads = [threading.Thread(target=work) for work in (look, measure)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _pay(url: str, seconds: float) -> None:
    """Send payments and checkouts, which the faults strike."""
    until = time.monotonic() + seconds
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < until:
            for path in ("/payment", "/checkout"):
                try:
                    session.post(url + path, timeout=1.0)
                except requests.RequestException:
                    continue
