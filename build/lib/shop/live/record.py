"""A recording of the live shop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from aiops_lab.checks import check_number
from aiops_lab.record.faults import Fault
from shop.live.running import Shop, running
from shop.live.traffic import drive
from shop.recordings import check_file
from shop.virtual_time.record import write_recording


def record(
    path: str | Path,
    fault: Fault | None,
    *,
    warmup_s: float = 60.0,
    fault_s: float = 30.0,
    recovery_s: float = 0.0,
    rate: float = 20.0,
    seed: int = 0,
    services: str = "one",
    progress: bool = True,
    format: str | None = None,  # noqa: A002
) -> pd.DataFrame:
    """Run normal traffic, inject a fault and remove it again; write and return the spans.

    Parameters
    ----------
    path : path
        FILE.truth.json is written beside it.
    fault : Fault or None
        Injected after `warmup_s`, default 60 s, for `fault_s`, default 30 s; None = no fault.
    recovery_s : float
        Seconds of traffic after the fault was removed, default 0.
    rate, seed, services, progress
        As for `drive` and `running`.
    format
        As for `aiops_lab.write_spans`.

    Raises
    ------
    ValueError
        A parameter breaks its rule; checked before anything runs.
    """
    check_file(path, format)
    for name, seconds in (("warmup_s", warmup_s), ("fault_s", fault_s), ("recovery_s", recovery_s)):
        check_number(name, seconds, 0, 1e6)
    check_number("rate", rate, 0.001, 1e5)
    with running(services, seed=seed) as shop:
        _phase(shop, warmup_s, rate, seed, progress)
        if fault is not None:
            shop.inject(fault)
        _phase(shop, fault_s, rate, seed + 1, progress)
        shop.clear()
        _phase(shop, recovery_s, rate, seed + 2, progress)
        shop.store.flush()
        spans = shop.store.spans()
        faults = shop.truth.faults()
    settings = {"rate": rate, "seed": seed, "services": services}
    lengths = {"warmup_s": warmup_s, "fault_s": fault_s, "recovery_s": recovery_s}
    write_recording(path, spans, {"faults": rows_of(faults)} | settings | lengths, format)
    return spans


def rows_of(faults: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a log of faults as they are in JSON."""
    return json.loads(faults.to_json(orient="records", date_format="iso", date_unit="us"))


def _phase(shop: Shop, seconds: float, rate: float, seed: int, progress: bool) -> None:
    if seconds > 0:
        drive(shop, seconds, rate, seed=seed, progress=progress, timeout_s=6.0)
