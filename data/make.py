"""Make the recordings of this folder anew: python data/make.py [NAME ...]

Those in virtual time are made within a minute, and come out equal on every machine; "jaeger" names
the folder of files for other tools. With --live it
is the turn of the live ones instead: real requests on this machine, 22 minutes in all, and never
the same milliseconds twice.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import aiops_lab as lab
import shop
from shop.__main__ import main as command
from shop.live.record import rows_of
from shop.virtual_time.record import record_scenario, write_recording

HERE = Path(__file__).parent
SEED = 1


def shorter(
    name: str, at_s: tuple[float, float, float], rate: float, **numbers: float
) -> shop.Scenario:
    """Return a scenario of the catalogue whose faults start, and end, and which ends, at these
    seconds.

    `numbers` change the faults.
    """
    start, end, seconds = at_s
    faults = tuple(
        replace(fault, start_s=start, end_s=end, **numbers) for fault in shop.SCENARIOS[name].faults
    )
    return replace(shop.SCENARIOS[name], faults=faults, seconds=seconds, rate=rate, window=None)


VIRTUAL = {
    "impatient_caller": shorter("impatient caller", (60, 100, 120), rate=12),
    "retry_storm": shorter("retry storm", (40, 60, 65), rate=20),
    # Longer than in the catalogue, where no detector sees it: so an incident opens.
    "network_edge": shorter("network edge", (60, 100, 110), rate=5, duration_ms=400),
    "skew": shorter("skew 300 ms", (60, 100, 120), rate=12),
    "two_faults": shorter("two faults", (60, 100, 110), rate=5),
    "metastable": replace(shorter("metastable", (30, 45, 80), rate=16), window=(55, 75)),
}

JAEGER = (
    *("delay", "entry", "errors", "flaky", "repaired", "hang", "refused", "impatient caller"),
    *("retry storm", "network edge", "host network", "slow parallel child", "load shedding"),
    *("leak", "processor", "two faults", "upstream saturated", "shared host", "skew 300 ms"),
    "lost spans",
)
"""Scenarios that are written for other tools, as files of Jaeger's UI."""


def for_other_tools(folder: Path) -> None:
    """Write the scenarios of `JAEGER`: 40 s of normal traffic, 25 s of the fault, 5 s after it."""
    folder.mkdir(exist_ok=True)
    for name in JAEGER:
        path = folder / f"{name.replace(' ', '_')}.json.gz"
        scenario = shorter(name, (40, 65, 70), rate=6)
        spans = record_scenario(path, scenario, SEED, progress=False, format="jaeger")
        print(f"{len(spans)} spans in {path}", flush=True)


# ---- live

CAUSE = "--warmup 40 --seconds 15 --rate 5 --services many"
ADDED_MS = (80, 20, 320, 40, 160)  # in no order, so that nobody can guess the next one
WARMUP_S, FAULT_S, CALM_S, RATE, GRADED_SEED = 120, 30, 60, 0.7, 3
MIX = {"/payment": 2, "/checkout": 1}


def graded(path: Path) -> None:
    """Record an endpoint with faults of graded size: its time is lognormal with sigma 0.7."""
    noisy = tuple(
        replace(e, sigma=0.7) if e.route == "/payment" else e for e in shop.SEED_SHOP.endpoints
    )
    with shop.running(topology=shop.Topology(noisy), seed=GRADED_SEED) as s:
        phases = [
            (0, WARMUP_S),
            *((added, FAULT_S if added else CALM_S) for ms in ADDED_MS for added in (ms, 0)),
        ]
        for n, (added, seconds) in enumerate(phases):
            if added:
                s.inject(lab.Fault("delay", "shop", "/payment", duration_ms=added))
            shop.drive(s, seconds, RATE, mix=MIX, seed=100 * GRADED_SEED + n)
            s.clear()
        s.store.flush()
        spans, faults = s.store.spans(), s.truth.faults()
    settings = {
        "rate": RATE,
        "seed": GRADED_SEED,
        "warmup_s": WARMUP_S,
        "fault_s": FAULT_S,
        "calm_s": CALM_S,
    }
    write_recording(path, spans, {"faults": rows_of(faults)} | settings)


RECORD = {
    "slow_payment": "--fault delay --warmup 180 --seconds 120 --recovery 180 --rate 3 --seed 2",
    "cause_hang": f"--fault hang {CAUSE} --seed 4",
    "cause_latency": f"--fault delay {CAUSE} --seed 1",
    "cause_errors": f"--fault error --endpoint /inventory {CAUSE} --seed 2",
    "cause_cascade": f"--fault error {CAUSE} --seed 3",
}
"""Options of ``python -m shop record``."""
LIVE = (*RECORD, "graded")


def live(name: str, path: Path) -> None:
    """Make a live recording; stop if it was interrupted."""
    if name == "graded":
        return graded(path)
    code = command(["record", str(path), *RECORD[name].split()])
    return sys.exit(code) if code else None


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="which ones; default all of the kind"
    )
    parser.add_argument(
        "--live", action="store_true", help="the live ones, not those in virtual time"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE, metavar="FOLDER", help="where to; default this folder"
    )
    options = parser.parse_args()
    known = LIVE if options.live else (*VIRTUAL, "jaeger")
    for name in options.names:
        if name not in known:
            parser.error(f"NAME must be one of {', '.join(known)}, got {name!r}")
    for name in options.names or known:
        path = options.out / f"{name}.csv.gz"
        if options.live:
            live(name, path)
        elif name == "jaeger":
            for_other_tools(options.out / name)
        else:
            print(f"{len(record_scenario(path, VIRTUAL[name], SEED))} spans in {path}", flush=True)


if __name__ == "__main__":
    main()
