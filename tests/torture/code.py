"""A user's own functions that raise, hang, or return far too much."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

from aiops_lab import Monitor, SpanStore, instrument
from aiops_lab.detect.detectors import DETECTORS
from tests.support.made import Shop, fault
from tests.support.played import at
from tests.torture.table import Row

HANG_S = 1.0
FLOOD = 100_000
STEPS = 75, 85


def _raise(*_: object) -> Any:
    raise RuntimeError("mine")


def _hang(*_: object) -> Any:
    time.sleep(HANG_S)
    return []


def _nothing(*_: object) -> Any:
    return None


def _flood(*_: object) -> Any:
    return ["nonsense"] * FLOOD


BAD: dict[str, Callable[..., Any]] = {
    "raises": _raise,
    "hangs": _hang,
    "returns None": _nothing,
    "floods": _flood,
}


def _judged(folder: Path, **functions: Any) -> tuple[int, bool]:
    """Return how many incidents a monitor finds with functions of a user's own, and whether it
    tells that one of them failed.
    """
    shop = Shop(1, fault("/payment", 60, 90, status=500))
    shop.run(90)
    with SpanStore(folder / f"{time.time_ns()}.sqlite") as store:
        for span in shop.spans:
            store.add(span)
        monitor = Monitor(store, **functions)
        for second in STEPS:
            monitor.step(at(second))
        return len(monitor.incidents()), bool(monitor.failed_functions)


def bad_code(folder: Path, argument: str, make: Callable[[Any], Any]) -> Row:
    """Give a monitor each of the bad functions in turn; it must find the incident none the less."""
    missed = []
    for name, function in BAD.items():
        found, is_told = _judged(folder, **{argument: make(function)})
        if found != 1 or is_told == (name == "hangs"):
            missed.append(name)
    seen = f"FAILED: {missed}" if missed else "log; `failed_functions` in /aiops/metrics"
    return Row(f"{argument}: {', '.join(BAD)}", len(BAD), seen)


def bad_detectors(folder: Path) -> Row:
    """Detectors beside those of the package."""
    return bad_code(folder, "detectors", lambda bad: (*DETECTORS, bad))


def bad_rules(folder: Path) -> Row:
    """A rule instead of that of the package."""
    return bad_code(folder, "rule", lambda bad: bad)


def bad_sinks(folder: Path) -> Row:
    """A sink that raises; requests are answered."""
    app = Flask("own", static_folder=None)
    app.add_url_rule("/", view_func=lambda: "fine")
    client = instrument(app, _raise).test_client()
    requests = 100
    unanswered = sum(client.get("/").status_code != 200 for _ in range(requests))
    return Row("sink that raises", requests, "log", requests, unanswered)


ALL = (bad_detectors, bad_rules, bad_sinks)
