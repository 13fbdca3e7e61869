"""Requests that can be found again: each has a trace of its own, whose span must be in a store."""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import requests

import shop
from aiops_lab import Sensitivity
from aiops_lab.record.reader import SpanReader
from aiops_lab.record.trace_context import format_traceparent, new_span_id, new_trace_id
from shop.live.running import Shop

CLIENTS = 4
PAUSE_S = 0.01  # between two requests of a client
PATIENCE_S = 20.0


class Sent(NamedTuple):
    """A request: its trace, when its answer came, Unix s, and the status, 0 without an answer."""

    trace_id: str
    ended: float
    status: int


class Load:
    """Clients that send requests one after the other, until they are told to stop."""

    def __init__(self, url: str, path: str = "/inventory") -> None:
        # A request takes 26 bytes here and no object: a soak measures the memory of this process.
        self._lock = threading.Lock()
        self._traces = bytearray()
        self._ended = array("d")
        self._status = array("h")
        self._url = url + path
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self._over.wait(PAUSE_S):
                trace_id = new_trace_id()
                headers = {"traceparent": format_traceparent(trace_id, new_span_id())}
                try:
                    answer = session.get(self._url, headers=headers, timeout=PATIENCE_S)
                    status = answer.status_code
                except requests.RequestException:
                    status = 0
                with self._lock:
                    self._traces += bytes.fromhex(trace_id)
                    self._ended.append(time.time())
                    self._status.append(status)

    def stop(self) -> None:
        """Wait for the requests in progress."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> list[Sent]:
        """The requests that are over."""
        with self._lock:
            traces = (self._traces[at : at + 16].hex() for at in range(0, len(self._traces), 16))
            return [*map(Sent, traces, self._ended, self._status)]

    @property
    def unanswered(self) -> int:
        """How many requests had no answer, or one with an error."""
        return sum(status != 200 for status in self._status)


@contextmanager
def load(url: str) -> Iterator[Load]:
    """Yield the clients of a shop, which stop at the end of the block."""
    clients = Load(url)
    try:
        yield clients
    finally:
        clients.stop()


KNOBS = Sensitivity(window_s=1)


@contextmanager
def shop_under_load(path: Path, knobs: Sensitivity = KNOBS) -> Iterator[tuple[Shop, Load]]:
    """Yield a shop that watches itself, and its clients."""
    with (
        shop.running(path=path, sensitivity=knobs, interval_s=1.0) as running,
        load(running.url) as clients,
    ):
        time.sleep(1.0)
        yield running, clients
        time.sleep(1.0)


def count_lost(sent: Iterable[Sent], *files: Path, until: float = float("inf")) -> int:
    """Return how many requests with an answer before a moment, Unix s, are in none of the files."""
    known: set[str] = set()
    for file in files:
        with SpanReader(file) as reader:
            known.update(reader.spans()["trace_id"])
    due = [each for each in sent if each.status == 200 and each.ended < until]
    return sum(each.trace_id not in known for each in due)


def count_doubled(*files: Path) -> int:
    """Return how many spans are in the files more than once."""
    doubled = 0
    for file in files:
        with SpanReader(file) as reader:
            spans = reader.spans()
        doubled += int(spans.duplicated(["trace_id", "span_id", "kind"]).sum())
    return doubled
