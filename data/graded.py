"""Record one endpoint with faults of graded size: python data/graded.py data/graded.csv.gz (10 minutes).

/payment is a noisy provider: its time is lognormal with sigma 0.7, and it gets about seven requests in 10 s.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import aiops_lab as lab
import shop
from shop.record import write_spans

ADDED_MS = (80, 20, 320, 40, 160)  # in no order, so that nobody can guess the next one
WARMUP_S, FAULT_S, CALM_S, RATE, SEED = 120, 30, 60, 0.7, 3
MIX = {"/payment": 2, "/checkout": 1}


def main(path: str) -> None:
    noisy = tuple(replace(e, sigma=0.7) if e.route == "/payment" else e for e in shop.SEED_SHOP.endpoints)
    with shop.running(topology=shop.Topology(noisy), seed=SEED) as s:
        phases = [(0, WARMUP_S), *((added, FAULT_S if added else CALM_S) for ms in ADDED_MS for added in (ms, 0))]
        for n, (added, seconds) in enumerate(phases):
            if added:
                s.inject(lab.Fault("delay", "shop", "/payment", duration_ms=added))
            shop.drive(s, seconds, RATE, mix=MIX, seed=100 * SEED + n)
            s.clear()
        s.store.flush()
        spans, faults = s.store.spans(), s.truth.faults()
    write_spans(spans, path)
    truth = {"faults": json.loads(faults.to_json(orient="records", date_format="iso", date_unit="us"))}
    settings = {"rate": RATE, "seed": SEED, "warmup_s": WARMUP_S, "fault_s": FAULT_S, "calm_s": CALM_S}
    Path(f"{path}.truth.json").write_text(json.dumps(truth | settings, indent=2) + "\n", "utf-8")
    print(f"{len(spans)} spans in {path}")


if __name__ == "__main__":
    main(sys.argv[1])
