"""Part 5: a live monitor by a core, its memory over an hour, and a replay behind a slider."""

from __future__ import annotations

import gc
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

import aiops_lab as lab
import shop
from aiops_lab import Monitor, SpanStore
from benchmarks.day import _memory_mb
from benchmarks.ratios.measured import Measured, cpu_s
from benchmarks.steps import BEGIN_NS, STEP_NS, _traffic

GOAL_SHARE = 0.10  # of a core
GOAL_GROWTH = 1.05  # memory after an hour by that after 20 minutes
GOAL_LATER = 1.2  # a step late in the hour by one early: it reads only what is new
GOAL_MS = {False: 20, True: 100}
ENDPOINTS, SPANS_A_SECOND = 1000, 2000
MINUTES, EVERY, FEW_MINUTES = 60, 10, 3
REPLAYED = 22_000  # spans
STEPS_IN_A_MINUTE = int(60e9 // STEP_NS)


def titles(large: bool) -> tuple[str, ...]:
    """Return the titles of the hour, and but for `large` of the replays and of a few minutes of all
    spans.
    """
    hour = _titles_of(_rate(large), MINUTES)
    if large:
        return hour
    return (*_titles_of_replays(), *hour, _titles_of(SPANS_A_SECOND, FEW_MINUTES)[0])


def _titles_of_replays() -> tuple[str, str]:
    size = f"replay of some {REPLAYED:,} spans with a fault"
    return f"{size}, without causes", f"{size}, with causes"


def _titles_of(rate: int, minutes: int) -> tuple[str, str, str]:
    what = f"{ENDPOINTS:,} endpoints and {rate:,} spans a second"
    return (
        f"steps of a live monitor, {what}, by a core",
        f"memory after {minutes} virtual minutes by that after 20, {what}",
        f"a step in the last ten minutes by one in the second ten, {what}",
    )


def _rate(large: bool) -> int:
    return SPANS_A_SECOND if large else SPANS_A_SECOND // 10


def measure(large: bool) -> Iterator[Measured]:
    """Yield an hour of traffic if `large`; else the replays, an hour of a tenth of the spans, and a
    few minutes of all.
    """
    if not large:
        yield from replays()
    yield from an_hour(_rate(large), MINUTES)
    if not large:
        yield from an_hour(SPANS_A_SECOND, FEW_MINUTES)


def replays() -> Iterator[Measured]:
    """Yield what a replay of some spans with a fault takes, without causes and with them."""
    busy = replace(shop.SCENARIOS["delay"], rate=38.0)
    frame = shop.virtual(busy, 1, progress=False)
    for title, (causes, goal) in zip(_titles_of_replays(), GOAL_MS.items(), strict=True):
        for _ in range(3):
            lab.replay(frame, causes=causes)
        ms = [_replay_ms(frame, causes) for _ in range(15)]
        first = statistics.median(_replay_ms(frame.copy(), causes) for _ in range(15))
        note = f"{len(frame):,} spans; least {min(ms):.0f}; of a frame not seen before {first:.0f}"
        yield Measured(5, title, statistics.median(ms), goal, "CPU ms", note=note)


def _replay_ms(frame: pd.DataFrame, causes: bool) -> float:
    return 1e3 * cpu_s(lambda: lab.replay(frame, causes=causes))


def an_hour(rate: int, minutes: int) -> Iterator[Measured]:
    """Yield what the steps of some minutes take of a core, and how memory grows in an hour."""
    rng = random.Random(1)
    usual_ms = [rng.uniform(1, 200) for _ in range(ENDPOINTS)]
    steps: list[float] = []
    memory_mb: list[float] = []
    with tempfile.TemporaryDirectory() as folder, SpanStore(Path(folder) / "a.sqlite") as store:
        monitor = Monitor(store)
        for number in range(minutes * STEPS_IN_A_MINUTE):
            begin = BEGIN_NS + number * STEP_NS
            for span in _traffic(rng, usual_ms, rate * 10 // 2, begin):
                store.add(span)
            store.flush()
            before = time.process_time()
            monitor.step(pd.Timestamp(begin + STEP_NS + 1_000_000_000, tz="UTC"))
            steps.append(time.process_time() - before)
            if (number + 1) % (EVERY * STEPS_IN_A_MINUTE) == 0:
                gc.collect()
                memory_mb.append(_memory_mb())
    by_core, by_memory, by_early = _titles_of(rate, minutes)
    warm = steps[2 * STEPS_IN_A_MINUTE :]
    share = sum(warm) / (len(warm) * STEP_NS / 1e9)
    note = f"{minutes} virtual minutes; the longest step {1e3 * max(warm):.0f} CPU ms"
    yield Measured(5, by_core, share, GOAL_SHARE, note=note)
    if len(memory_mb) < 3:
        return
    told = ", ".join(f"{mb:.0f}" for mb in memory_mb)
    note = f"MB every {EVERY} minutes: {told}"
    yield Measured(5, by_memory, memory_mb[-1] / memory_mb[1], GOAL_GROWTH, note=note)
    tenth = EVERY * STEPS_IN_A_MINUTE
    early, late = (statistics.median(part) for part in (steps[tenth : 2 * tenth], steps[-tenth:]))
    yield Measured(4, by_early, late / early, GOAL_LATER, note="it reads only what is new")
