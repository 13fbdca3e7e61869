"""Minutes of traffic while faults come and go: nothing may grow, be lost or be doubled."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import requests

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

MOST_MB = 80.0  # by which memory may grow after the first quarter; the buffers of one step take 30
MOST_MORE = 20  # threads or files


class Usage(NamedTuple):
    """What this process takes at a moment."""

    memory_mb: float
    threads: int
    files: int


def usage() -> Usage:
    """Return what this process takes; only Linux tells memory and files."""
    status = Path("/proc/self/status")
    if not status.exists():
        return Usage(0.0, threading.active_count(), 0)
    lines = status.read_text().splitlines()
    (memory,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return Usage(int(memory) / 1e3, threading.active_count(), len(os.listdir("/proc/self/fd")))


def soak(folder: Path, minutes: float) -> Row:
    """Serve for some minutes; a fault every 20 seconds, for 10."""
    path = folder / "s.sqlite"
    until = time.monotonic() + 60 * minutes
    early: Usage | None = None
    times = 0
    with shop_under_load(path) as (shop, clients):
        warm = time.monotonic() + 15 * minutes
        while time.monotonic() < until:
            shop.inject(FAULTS[times % len(FAULTS)])
            times += 1
            _pay(shop.url, FAULT_S)
            shop.clear()
            _pay(shop.url, FAULT_S)
            if early is None and time.monotonic() > warm:
                early = usage()
        late = usage()
        dropped = shop.store.dropped
    grown = [after - before for before, after in zip(early or late, late, strict=True)]
    doubled = count_doubled(path)
    is_flat = grown[0] < MOST_MB and max(grown[1:]) < MOST_MORE and doubled == 0
    seen = f"memory {grown[0]:+.0f} MB, threads {grown[1]:+.0f}, files {grown[2]:+.0f}"
    seen += f", {doubled} doubled"
    return Row(
        f"faults during {minutes:g} min of traffic",
        times,
        seen if is_flat else f"FAILED: {seen}",
        len(clients.sent),
        clients.unanswered,
        count_lost(clients.sent, path) + dropped,
    )


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
