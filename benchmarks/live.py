"""How quiet and how quick is the monitor on the live shop? ``python -m benchmarks.live [--minutes
M] [--rounds N]``.

Clean traffic over real HTTP for some minutes: every incident is a false one. Then each fault of the
seed, begun at another phase of the window in each round: the seconds from the first request that it
struck to the incident.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import NamedTuple

import pandas as pd

import shop
from aiops_lab import Fault
from shop.live.running import Shop

RATE = 10.0
WARM_UP_S = 60.0
WINDOW_S, INTERVAL_S = 10.0, 10.0
FAULTS = {
    "latency: +3000 ms on /payment": Fault("delay", "shop", "/payment", duration_ms=3000),
    "errors: 0.8 on /inventory": Fault("error", "shop", "/inventory", rate=0.8),
    "cascade: 1.0 on /payment": Fault("error", "shop", "/payment", rate=1.0),
    "hang: /payment": Fault("hang", "shop", "/payment"),
}


class Run(NamedTuple):
    """One fault: seconds from its first victim to the incident, and what was named."""

    waited_s: float
    cause: str | None
    incidents: int


def clean(minutes: float, rate: float) -> None:
    """Count the incidents of clean traffic."""
    with shop.running(interval_s=INTERVAL_S) as running:
        seen = shop.drive(running, seconds=60 * minutes, rate=rate)
        time.sleep(WINDOW_S + 2)
        running.step()
        incidents, until = running.monitor.incidents(), running.monitor.judged_until
    windows = (until - seen["start"].min()) / pd.Timedelta(WINDOW_S, unit="s")
    print(
        f"clean traffic: {minutes:g} minutes, {len(seen)} requests, {windows:.0f} windows x 4 "
        "endpoints: ",
        end="",
    )
    print(f"{len(incidents)} false incidents {[i.title for i in incidents] or ''}")


def detect(fault: Fault, phase: float) -> Run:
    """Break the warm shop at a phase (0 to 1) of the window and wait for the incident."""
    with shop.running(interval_s=INTERVAL_S) as running:
        traffic = threading.Thread(
            target=shop.drive,
            args=(running, WARM_UP_S + 60, RATE),
            kwargs={"progress": False},
            daemon=True,
        )
        traffic.start()
        time.sleep(WARM_UP_S)
        time.sleep((phase * WINDOW_S - time.time()) % WINDOW_S)
        broken_at = pd.Timestamp.now("UTC")
        running.inject(fault)
        deadline = time.monotonic() + 45
        while not running.monitor.incidents() and time.monotonic() < deadline:
            time.sleep(0.1)
        found_at = pd.Timestamp.now("UTC")
        running.clear()
        victim = _first_victim(running, fault, broken_at)
        incidents = running.monitor.incidents()
        traffic.join()
    cause = incidents[0].root_cause if incidents else None
    return Run(
        (found_at - victim).total_seconds(), cause.endpoint if cause else None, len(incidents)
    )


def _first_victim(running: Shop, fault: Fault, since: pd.Timestamp) -> pd.Timestamp:
    """Return the start of the first request that the fault struck."""
    running.store.flush()
    spans = running.store.spans(since=since)
    at = spans[
        (spans["endpoint"] == fault.endpoint)
        & (spans["kind"] == "server")
        & (spans["start"] >= since)
    ]
    struck = at[(at["status"] >= 500) | ~(at["duration_ms"] < 1000)]
    return struck["start"].min()


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="minutes of clean traffic (default 2)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="rounds of each fault, at different phases (default 1)",
    )
    arguments = parser.parse_args()
    clean(arguments.minutes, RATE)
    bound = WINDOW_S + INTERVAL_S
    for name, fault in FAULTS.items():
        for number in range(arguments.rounds):
            phase = (number + 0.5) / arguments.rounds
            run = detect(fault, phase)
            print(
                f"{name}, begun at {phase:.2f} of a window: incident after {run.waited_s:.1f} s ",
                end="",
            )
            print(f"(bound {bound:.0f} s), cause {run.cause}, {run.incidents} incident(s)")


if __name__ == "__main__":
    main()
