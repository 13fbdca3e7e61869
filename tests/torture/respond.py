"""Receivers, remedies and sinks of a user's own that raise, hang, or are asked far too much."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from flask import Flask

from aiops_lab import Monitor, SpanStore, instrument
from aiops_lab.detect.incidents import Incident
from aiops_lab.record.own_sink import MOST_AT_ONCE
from aiops_lab.respond.healer import Healer
from aiops_lab.respond.notifier import NoticeLimits, Notifier
from aiops_lab.respond.remedies import Remedy
from tests.support.made import Shop, fault
from tests.support.played import at
from tests.support.serving import serving
from tests.torture.table import Row

LIMITS = NoticeLimits(first_retry_s=0.01, last_retry_s=0.1, timeout_s=0.2)
STEP_S = 20.0  # a step that a receiver or a remedy delayed would take longer
WAIT_S = 20.0
REQUESTS = 100


def _raise(*_: object) -> Any:
    raise RuntimeError("mine")


def _exit(*_: object) -> Any:
    raise SystemExit(3)


def _hang(*_: object) -> Any:
    threading.Event().wait()


def _flood(*_: object) -> Any:
    return "x" * 10_000_000


BAD: dict[str, Callable[..., Any]] = {
    "raises": _raise,
    "hangs": _hang,
    "ends the program": _exit,
    "returns 10 MB": _flood,
}


@contextmanager
def _monitor(folder: Path) -> Iterator[Monitor]:
    """Yield the monitor of a store in which a fault was recorded."""
    shop = Shop(1, fault("/payment", 60, 90, status=500))
    shop.run(90)
    with SpanStore(folder / "s.sqlite") as store:
        for span in shop.spans:
            store.add(span)
        yield Monitor(store)


def _step(monitor: Monitor) -> bool:
    """Return whether an incident is found in time."""
    began = time.monotonic()
    monitor.step(at(85))
    return len(monitor.incidents()) == 1 and time.monotonic() - began < STEP_S


def _comes_true(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def bad_receivers(folder: Path) -> Row:
    """Receivers of notices beside one that works."""
    arrived: list[Any] = []
    with _monitor(folder) as monitor:
        functions = [*BAD.values(), arrived.append]
        with Notifier(monitor, functions, limits=LIMITS) as notifier:
            is_found = _step(monitor)
            is_told = _comes_true(lambda: len(arrived) == 1)
            failing = [row for row in notifier.status() if row["failures"]]
            is_seen = _comes_true(lambda: len(failing) >= 1)
    wrong = not (is_found and is_told and is_seen)
    seen = "FAILED: not told" if wrong else "page, log, `notices` in /aiops/metrics"
    return Row(f"receivers of notices: {', '.join(BAD)}", len(BAD), seen)


def bad_remedies(folder: Path) -> Row:
    """Remedies beside one that works."""
    acted: list[str] = []

    def mend(found: Incident) -> None:
        acted.append(found.id)

    given = BAD | {"works": mend}
    with _monitor(folder) as monitor:
        made = [
            Remedy(name, act, dry_run=False, min_confidence=0.0, timeout_s=6.0)
            for name, act in given.items()
        ]
        with Healer(monitor, made) as healer:
            is_found = _step(monitor)
            has_acted = _comes_true(lambda: len(acted) == 1)
            is_seen = _comes_true(lambda: sum(row["failed"] for row in healer.status()) == 3)
    wrong = not (is_found and has_acted and is_seen)
    seen = "FAILED: not mended" if wrong else "page, log, `remedies` in /aiops/metrics"
    return Row(f"remedies: {', '.join(BAD)}", len(BAD), seen)


def hanging_sink(folder: Path) -> Row:
    """A sink that never returns; all but a few requests are answered."""
    app = Flask("own", static_folder=None)
    app.add_url_rule("/", view_func=lambda: "fine")
    go = threading.Event()
    instrument(app, lambda span: go.wait())
    statuses: list[int] = []

    def ask(url: str) -> None:
        try:
            statuses.append(requests.get(url, timeout=5.0).status_code)
        except requests.RequestException:
            statuses.append(0)

    with serving(app) as url:
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(REQUESTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        go.set()
    unanswered = statuses.count(0)
    is_right = unanswered <= MOST_AT_ONCE
    seen = f"log; {unanswered} requests wait for it" if is_right else "FAILED: requests wait"
    return Row("sink that hangs", REQUESTS, seen, REQUESTS, 0 if is_right else unanswered)


ALL = (bad_receivers, bad_remedies, hanging_sink)
