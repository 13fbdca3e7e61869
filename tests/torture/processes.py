"""Processes that are killed while they serve, and interpreters that end while they write."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiops_lab import SpanStore
from tests.torture.load import Sent, count_doubled, count_lost, load
from tests.torture.table import Row

ROOT = Path(__file__).parents[2]
KILLS = 10
MAY_LOSE_S = 1.0  # twice the time between two writes of the store


@contextmanager
def serving(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a process that serves the shop, and its address."""
    words = ["serve", "--port", "0", "--db", str(path), "--interval", "1", "--window", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "shop", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
    )
    try:
        yield process, f"http://127.0.0.1:{_port(process)}"
    finally:
        process.kill()
        process.communicate()


def _port(process: subprocess.Popen[str]) -> str:
    port = ""
    for line in process.stdout or ():
        found = re.search(r"Server running on http://localhost:(\d+)", line)
        port = found[1] if found else port
        if line.startswith("Ctrl-C"):
            return port
    raise OSError("the shop did not start")


def killed(folder: Path) -> Row:
    """Kill the shop at random moments under load; each start goes on with the same file."""
    path = folder / "s.sqlite"
    lost = requests = 0
    chance = random.Random()
    for _ in range(KILLS):
        with serving(path) as (process, url), load(url) as clients:
            time.sleep(chance.uniform(1.5, 3.5))
            process.send_signal(signal.SIGKILL)
            at = time.time()
            process.wait()
        sent: list[Sent] = clients.sent
        answered = [each for each in sent if each.status == 200]
        requests += len(answered)
        lost += count_lost(answered, path, until=at - MAY_LOSE_S)
    wrong = count_doubled(path)
    with SpanStore(path) as store:
        is_whole = store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    seen = f"{MAY_LOSE_S:g} s before a kill may be lost; none twice"
    if wrong or not is_whole:
        seen = f"FAILED: {wrong} twice, whole: {is_whole}"
    return Row("kill -9 under load", KILLS, seen, requests, 0, lost)


WRITER = """
import sys
from aiops_lab import Span, SpanStore
store = SpanStore(sys.argv[1], flush_s=3600)
for number in range(int(sys.argv[2])):
    place = "shop", "/pay", "server", None
    store.add(Span(f"{number:032x}", f"{number:016x}", None, *place, number, 1, 200, None))
"""
ENDS = {"end": "", "error": "raise ValueError", "exit": "sys.exit(3)"}
WRITTEN = 20_000


def ended(folder: Path) -> Row:
    """Let interpreters end while spans wait to be written."""
    lost = 0
    for name, end in ENDS.items():
        path = folder / f"{name}.sqlite"
        command = [sys.executable, "-c", WRITER + end, str(path), str(WRITTEN)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=False)
        with SpanStore(path) as store:
            lost += WRITTEN - len(store.spans())
    return Row("interpreter exit while writing", len(ENDS), "nowhere: all is written", lost=lost)


ALL = (killed, ended)
