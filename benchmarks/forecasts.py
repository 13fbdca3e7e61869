"""How good are forecasts of slow leaks? ``python -m benchmarks.forecasts [--leaks N] [--seed N]``.

Each leak is a run of an endpoint of its own in virtual time: rate, duration and scatter are drawn,
and a delay that grows until it has crossed `ratio` times the usual latency 5 to 40 minutes later.
At a random moment a forecast is asked for, as the monitor makes it of the last five minutes. The
true time is that at which the mean latency crosses the threshold; it is known exactly. Beside each
leak stand two runs without one, of the same length: steady traffic, and a jump to a higher level;
every forecast there is false.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pandas as pd

from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.health import FORECAST_SPAN_S, latency_forecast
from shop.topology import Endpoint, Topology
from shop.virtual_time.scenario import BEGIN_NS, Scenario, VirtualFault
from shop.virtual_time.simulate import virtual

PLACE = "disk", "/read"

CALM_S = 120.0, 300.0
"""Seconds of normal traffic before a leak."""

CROSSING_S = 300.0, 2400.0
"""Seconds from the start of a leak until it crosses."""

ASKED_S = 90.0, 600.0
"""Seconds from the start of a leak until a forecast is asked for, before it crosses."""

RATES = 1.0, 20.0  # requests/s
MEDIANS_MS = 10.0, 100.0
SIGMAS = 0.2, 0.8  # of log milliseconds
JUMPS = 1.3, 2.5  # times as slow
EVERY_S = 60.0  # seconds between two questions to a run without a leak


class Leak(NamedTuple):
    """A run: what the endpoint is like, when the leak begins and crosses, and when is asked."""

    rate: float
    median_ms: float
    sigma: float
    begins_s: float
    crosses_s: float
    asked_s: float
    jump: float

    @property
    def mean_ms(self) -> float:
        """The mean of its latency: of its lognormal work, and of what the server adds."""
        return self.median_ms * math.exp(self.sigma**2 / 2) + added_ms()


def drawn(rng: random.Random) -> Leak:
    """Return a leak with all its numbers drawn."""
    begins_s = rng.uniform(*CALM_S)
    lasts_s = _log_uniform(rng, CROSSING_S)
    asked_s = rng.uniform(ASKED_S[0], min(ASKED_S[1], lasts_s - 20))
    kind = _log_uniform(rng, RATES), _log_uniform(rng, MEDIANS_MS), rng.uniform(*SIGMAS)
    times = begins_s, begins_s + lasts_s, begins_s + asked_s
    return Leak(*kind, *times, rng.uniform(*JUMPS))


@cache
def added_ms() -> float:
    """Return by how much an answer takes longer than its work, in ms."""
    work_ms = 10.0
    always = Leak(20.0, work_ms, 0.0, 0.0, 100.0, 100.0, 1.0)
    return float(virtual(scenario_of(always), 1, False)["duration_ms"].mean()) - work_ms


def _log_uniform(rng: random.Random, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(*map(math.log, bounds)))


def scenario_of(leak: Leak) -> Scenario:
    """Return its run without a fault."""
    endpoint = Endpoint(*PLACE, median_ms=leak.median_ms, sigma=leak.sigma)
    shop = Topology((endpoint,), front=PLACE[0])
    return Scenario("leak", (), (), topology=shop, rate=leak.rate, seconds=leak.asked_s)


def leaking(leak: Leak, threshold_ms: float) -> Scenario:
    """Return the run whose mean latency would be at the threshold when the leak crosses."""
    done = (leak.asked_s - leak.begins_s) / (leak.crosses_s - leak.begins_s)
    rise_ms = done * (threshold_ms - leak.mean_ms)
    times = {"start_s": leak.begins_s, "end_s": leak.asked_s}
    fault = VirtualFault("leak", *PLACE, **times, duration_ms=rise_ms)
    return replace(scenario_of(leak), causes=(PLACE,), faults=(fault,))


def jumping(leak: Leak) -> Scenario:
    """Return the run that jumps once, where the leak would begin."""
    slow = VirtualFault("slow", *PLACE, start_s=leak.begins_s, factor=leak.jump)
    return replace(scenario_of(leak), causes=(PLACE,), faults=(slow,))


def asked(frame: pd.DataFrame, leak: Leak, at_s: float) -> dict | None:
    """Return the forecast that the monitor makes of a run at a second of it."""
    now = pd.Timestamp(BEGIN_NS, tz="UTC") + pd.Timedelta(at_s, "s")
    ended = frame["start"] + pd.to_timedelta(frame["duration_ms"], "ms")
    recent = frame[(ended > now - pd.Timedelta(FORECAST_SPAN_S, "s")) & (ended <= now)]
    return latency_forecast(recent, leak.median_ms, Sensitivity().ratio)


def questions(leak: Leak) -> Iterator[float]:
    """Yield when a run without a leak is asked."""
    at_s = leak.begins_s
    while at_s <= leak.asked_s:
        yield at_s
        at_s += EVERY_S


def row_of(leak: Leak, seed: int) -> dict[str, object]:
    """Return what was forecast of one leak, beside the truth, and of its runs without a leak."""
    threshold_ms = Sensitivity().ratio * leak.median_ms
    made = asked(virtual(leaking(leak, threshold_ms), seed, False), leak, leak.asked_s)
    calm, jump = virtual(scenario_of(leak), seed, False), virtual(jumping(leak), seed, False)
    row: dict[str, object] = {
        "left_s": leak.crosses_s - leak.asked_s,
        "is_made": made is not None,
        "asked": len(list(questions(leak))),
        "false_steady": sum(asked(calm, leak, at_s) is not None for at_s in questions(leak)),
        "false_jump": sum(asked(jump, leak, at_s) is not None for at_s in questions(leak)),
    }
    if made is not None:
        true = pd.Timestamp(BEGIN_NS, tz="UTC") + pd.Timedelta(leak.crosses_s, "s")
        latest = made["latest"]
        row["error_s"] = (pd.Timestamp(made["crosses_at"]) - true).total_seconds()
        row["early"] = true < pd.Timestamp(made["earliest"])
        row["late"] = latest is not None and true > pd.Timestamp(latest)
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(prog="benchmarks.forecasts", description=__doc__)
    parser.add_argument("--leaks", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first leak")
    given = parser.parse_args(arguments)
    rows = []
    for seed in range(given.seed, given.seed + given.leaks):
        rows.append(row_of(drawn(random.Random(f"{seed}/leak")), seed))
    print(summary(pd.DataFrame(rows)))
    return 0


def summary(table: pd.DataFrame) -> str:
    """Return the figures of all leaks as lines of text."""
    made = table[table["is_made"]]
    held = ~(made["early"].astype(bool) | made["late"].astype(bool))
    error = made["error_s"].abs()
    asked_often = table["asked"].sum()
    return "\n".join(
        [
            f"leaks: {len(table)}; with a forecast: {len(made)}",
            f"coverage of the intervals: {held.mean():.1%} of {len(made)} "
            f"(true time before: {made['early'].sum()}, after: {made['late'].sum()})",
            f"error: median {error.median():.0f} s, "
            f"{(error / made['left_s']).median():.0%} of the time that is left",
            f"false on steady traffic: {table['false_steady'].sum()} of {asked_often} questions",
            f"false after a jump: {table['false_jump'].sum()} of {asked_often} questions",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
