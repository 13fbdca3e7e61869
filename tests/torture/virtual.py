"""An hour of virtual traffic with faults that come and go, judged as a live monitor would."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from aiops_lab import Monitor, SpanStore
from aiops_lab.formats.writing import frame_spans
from shop.virtual_time.random_day import random_day
from shop.virtual_time.scenario import BEGIN_NS
from shop.virtual_time.simulate import virtual
from tests.torture.load import count_doubled
from tests.torture.soak import MOST_MB, Usage, growth, usage
from tests.torture.table import Row

HOUR_S = 3600
STEP_S = 10
WARM_S = 1800  # a monitor with its default settings looks back half an hour at most


def virtual_hour(folder: Path) -> Row:
    """Write an hour of spans as time passes, and judge each ten seconds."""
    scenario = random_day(seed=1, hours=1.0, faults=2).scenario
    spans = [*frame_spans(virtual(scenario, 1, False))]
    ends = [span.start_ns + (span.duration_ns or 0) for span in spans]
    order = sorted(range(len(spans)), key=ends.__getitem__)
    path = folder / "s.sqlite"
    samples: list[Usage] = []
    with SpanStore(path, capacity=len(spans)) as store:
        monitor, given = Monitor(store), 0
        for second in range(STEP_S, HOUR_S + 3 * STEP_S, STEP_S):
            now_ns = BEGIN_NS + second * 1_000_000_000
            while given < len(order) and ends[order[given]] < now_ns:
                store.add(spans[order[given]])
                given += 1
            monitor.step(pd.Timestamp(now_ns, tz="UTC"))
            if second > WARM_S:
                samples.append(usage())
        found, kept = len(monitor.incidents()), len(store.spans())
    grown = growth(samples).memory_mb
    lost = given - kept
    is_right = found > 0 and grown < MOST_MB and count_doubled(path) == 0
    seen = f"{found} incidents of {len(scenario.faults)} faults, memory {grown:+.0f} MB, 0 doubled"
    seen = seen if is_right else f"FAILED: {seen}"
    return Row("an hour of virtual traffic", HOUR_S // STEP_S, seen, given, 0, lost)


ALL = (virtual_hour,)
