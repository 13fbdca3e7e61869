"""What does the whole chain look like? ``python -m shop demo``: warm up, break /payment, name the
cause.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.monitor import replay
from aiops_lab.show import plots
from shop.live.running import Shop, running
from shop.live.traffic import drive
from shop.recordings import check_folder, fault_of, replacing
from shop.topology import SEED_SHOP

if TYPE_CHECKING:
    from aiops_lab.detect.incidents import Incident

DEMO_WINDOW_S = 5.0

WARMUP_S, DEMO_FAULT_S = 15.0, 12.0

ENTRY = "/checkout"


def demo(fault: str, services: str, seed: int, rate: float, out: str) -> int:
    """Run the demo; return 0 if an incident with a cause was found."""
    check_number("rate", rate, 0.001, 1e5)
    check_out(Path(out))
    begin = time.monotonic()
    knobs = Sensitivity(window_s=DEMO_WINDOW_S)
    print(
        f"A shop with {len(SEED_SHOP.endpoints)} endpoints; {ENTRY} calls /payment, then "
        "/inventory."
    )
    print(
        f"Windows of {DEMO_WINDOW_S:g} s, so that it is soon over; `serve` uses "
        f"{Sensitivity().window_s:g} s.\n"
    )
    with running(services, sensitivity=knobs, seed=seed, interval_s=1.0) as shop:
        say(f"1. Warm-up: {rate:g} requests/s for {WARMUP_S:g} s, to learn what is usual")
        _drive(shop, WARMUP_S, rate, seed)
        say(f"2. Break /payment: {fault}")
        broken = fault_of(fault, services)
        assert broken is not None
        shop.inject(broken)
        seen = _drive(shop, DEMO_FAULT_S, rate, seed + 1)
        say(f"   Customers saw {_outcome(seen)}")
        # until the window has ended
        time.sleep(max(0.0, DEMO_WINDOW_S + knobs.grace_s - (time.time() % DEMO_WINDOW_S)))
        shop.step()
        shop.clear()
        incidents = shop.monitor.incidents()
        spans = shop.store.spans()
        faults = shop.truth.faults()
    if not incidents:
        print("No incident was found. That is wrong.", file=sys.stderr)
        return 1
    for incident in incidents:
        say("\n3. " + verdict(incident))
        if incident.root_cause is not None:
            say(ledger_text(incident))
    draw(incidents[0], spans, faults, knobs, Path(out))
    say(f"\n{time.monotonic() - begin:.0f} s in all.")
    return 0 if all(incident.root_cause for incident in incidents) else 1


def check_out(out: Path) -> None:
    """Raise `FieldError` unless `out` is a folder that files can be written into, or can become
    one.
    """
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    if not there.is_dir():
        raise FieldError("out", "must be a folder", str(out))
    check_folder("out", there, out)


def say(text: str) -> None:
    """Print at once: the progress bars between the lines are on another stream."""
    print(text, flush=True)


def _drive(shop: Shop, seconds: float, rate: float, seed: int) -> pd.DataFrame:
    return drive(shop, seconds, rate, seed=seed, timeout_s=6.0, progress=sys.stderr.isatty())


def _outcome(seen: pd.DataFrame) -> str:
    counts = seen["status"].value_counts().sort_index()
    shown = [f"{n} x {status if status else 'no answer'}" for status, n in counts.items()]
    return (
        f"{', '.join(shown)}; {ENTRY} took "
        f"{seen.query('endpoint == @ENTRY').duration_ms.median():.0f} ms"
    )


def verdict(incident: Incident) -> str:
    """Return the incident in three lines."""
    cause = incident.root_cause
    if cause is None:
        return f"Incident {incident.id} {incident.severity}: no cause found"
    k, n = cause.support
    return (
        f"Incident {incident.id} {incident.severity}: root cause {cause.name or cause.endpoint}, "
        f"confidence {cause.confidence:.2f}\n"
        f"   {incident.main_anomaly.description}\n"
        f"   Support: the largest excess originated there in {k} of {n} bad requests\n"
        f"   Affected: {', '.join(incident.affected_endpoints)}"
    )


def ledger_table(incident: Incident, entry: str = ENTRY) -> pd.DataFrame:
    """Return where the excess of one entry originated: account, excess; attrs entry, unit, total.

    In failures if it fails more than usual, else in milliseconds.
    """
    rows = pd.DataFrame(list(incident.verdict.ledger))
    entries = {row["entry"]: row for row in incident.explain()[0].rows}
    now = entries[entry]
    failures = now["now_failed"] - now["usual_failed"]
    unit = "failures" if failures > 0.02 else "ms"
    mine = rows[(rows["entry"] == entry) & (rows["unit"] == unit) & ~rows["masked"].astype(bool)]
    table = mine[["account", "excess"]].reset_index(drop=True)
    names = {"ms": "ms per request", "failures": "failures per request"}
    total = failures if unit == "failures" else now["now_ms"] - now["usual_ms"]
    table.attrs |= {"entry": entry, "unit": names[unit], "total": total}
    return table


def ledger_text(incident: Incident) -> str:
    """Return the ledger as text: what originated inside equals the excess at the entry."""
    table = ledger_table(incident)
    lines = [f"   Ledger of {table.attrs['entry']}, excess in {table.attrs['unit']}:"]
    for row in table.sort_values("excess", ascending=False).itertuples():
        lines.append(f"     {row.account:<40}{row.excess:>+12.3f}")
    lines.append(f"     {'originated inside, in all':<40}{table['excess'].sum():>+12.3f}")
    lines.append(f"     {'excess at ' + table.attrs['entry']:<40}{table.attrs['total']:>+12.3f}")
    return "\n".join(lines)


def draw(
    incident: Incident, spans: pd.DataFrame, faults: pd.DataFrame, knobs: Sensitivity, out: Path
) -> None:
    """Write timeline.png and ledger.png."""
    import matplotlib

    matplotlib.use("Agg")

    report = replay(spans, knobs, causes=False)
    out.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Any] = {
        "timeline": plots.overview(report.windows, report.anomalies, faults),
    }
    if incident.root_cause is not None:
        pictures["ledger"] = plots.ledger(ledger_table(incident))
    for name, drawn in pictures.items():
        figure = getattr(drawn, "figure", drawn)
        with replacing(out / f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=120, bbox_inches="tight")
        say(f"   Drew {out / f'{name}.png'}")
