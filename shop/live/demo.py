"""The demonstration, ``python -m shop demo``: a fault at /payment, the incident and its cause."""

from __future__ import annotations

import sys
import time
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.formats.writing import replacing
from aiops_lab.replaying import replay
from aiops_lab.show import plots
from shop.live.running import Shop, running
from shop.live.traffic import drive
from shop.recordings import check_folder, fault_of
from shop.topology import SEED_SHOP

if TYPE_CHECKING:
    from aiops_lab.detect.incidents import Incident
    from aiops_lab.record.faults import Fault

DEMO_WINDOW_S = 5.0

"""Length of an analysis window in seconds."""

WARMUP_S, DEMO_FAULT_S = 15.0, 12.0

"""Seconds of normal traffic, and of traffic with the fault."""

ENTRY = "/checkout"

PAGE_POLL_S = 1.0  # seconds between two looks at whether the demo is to stop


def demo(
    fault: str, services: str, seed: int, rate: float, out: str, *, open_page: bool = False
) -> int:
    """Run the demo; return 0 if every incident has a root cause and there is one, else 1.

    With `open_page` the incident is shown in a browser, and the shop goes on until Ctrl-C.
    """
    check_number("rate", rate, 0.001, 1e5)
    check_out(Path(out))
    begin = time.monotonic()
    knobs = Sensitivity(window_s=DEMO_WINDOW_S)
    count = len(SEED_SHOP.endpoints)
    usual_s = Sensitivity().window_s
    print(f"A shop with {count} endpoints; {ENTRY} calls /payment, then /inventory.")
    print(f"Windows of {DEMO_WINDOW_S:g} s, to save time; `serve` uses {usual_s:g} s.\n")
    with running(services, sensitivity=knobs, seed=seed, interval_s=1.0) as shop:
        _break(shop, fault_of(fault, services), rate, seed)
        incidents = shop.monitor.incidents()
        if not incidents:
            print("No incident was detected, although there is a fault.", file=sys.stderr)
            return 1
        for incident in incidents:
            say("\n3. " + verdict(incident))
            if incident.root_cause is not None:
                say(ledger_text(incident))
        draw(incidents[0], shop.store.spans(), shop.truth.faults(), knobs, Path(out))
        say(f"\n{time.monotonic() - begin:.0f} s in all.")
        if open_page:
            _open_page(f"{shop.url}/aiops/page/incidents/{incidents[0].id}")
    return 0 if all(incident.root_cause for incident in incidents) else 1


def _break(shop: Shop, fault: Fault | None, rate: float, seed: int) -> None:
    """Send normal traffic, then traffic with a fault, and let the monitor judge it."""
    assert fault is not None
    say(f"1. Warm-up: {rate:g} requests/s for {WARMUP_S:g} s, to learn the baselines")
    _drive(shop, WARMUP_S, rate, seed)
    say(f"2. Inject a fault at /payment: {fault.kind}")
    shop.inject(fault)
    answers = _drive(shop, DEMO_FAULT_S, rate, seed + 1)
    say(f"   Customers got {_outcome(answers)}")
    since_window_began = time.time() % DEMO_WINDOW_S
    time.sleep(max(0.0, DEMO_WINDOW_S + shop.monitor.sensitivity.grace_s - since_window_began))
    shop.step()
    shop.clear()


def _open_page(url: str) -> None:
    """Show a page in a browser until Ctrl-C."""
    say(f"The incident, in a browser: {url}\nCtrl-C stops it.")
    with suppress(KeyboardInterrupt):
        webbrowser.open(url)
        while True:
            time.sleep(PAGE_POLL_S)


def check_out(out: Path) -> None:
    """Raise `FieldError` unless `out` is, or can be created as, a folder that can be written to."""
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    if not there.is_dir():
        raise FieldError("out", "must be a folder", str(out))
    check_folder("out", there, out)


def say(text: str) -> None:
    """Print without delay, as progress bars between the lines are on another stream."""
    print(text, flush=True)


def _drive(shop: Shop, seconds: float, rate: float, seed: int) -> pd.DataFrame:
    return drive(shop, seconds, rate, seed=seed, timeout_s=6.0, progress=sys.stderr.isatty())


def _outcome(answers: pd.DataFrame) -> str:
    """Return the number of answers of each status, and the median duration at the entry."""
    counts = answers["status"].value_counts().sort_index()
    shown = [f"{n} x {status or 'no answer'}" for status, n in counts.items()]
    entry = answers[answers["endpoint"] == ENTRY]
    median_ms = entry["duration_ms"].median()
    return f"{', '.join(shown)}; {ENTRY} took {median_ms:.0f} ms"


def verdict(incident: Incident) -> str:
    """Return root cause, main anomaly, support and affected endpoints as text, a line each."""
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


def ledger_text(incident: Incident) -> str:
    """Return the ledger as text: the sum of its rows equals the excess at the entry."""
    table = incident.verdict.ledger_table(ENTRY)
    entry, unit, total = (table.attrs[name] for name in ("entry", "unit", "total"))
    rows = table.sort_values("excess", ascending=False)
    lines = [_ledger_line(row.account, row.excess) for row in rows.itertuples()]
    lines.append(_ledger_line("originated inside, in all", table["excess"].sum()))
    lines.append(_ledger_line(f"excess at {entry}", total))
    return "\n".join([f"   Ledger of {entry}, excess in {unit}:", *lines])


def _ledger_line(name: Any, excess: Any) -> str:
    return f"     {name:<40}{excess:>+12.3f}"


def draw(
    incident: Incident, spans: pd.DataFrame, faults: pd.DataFrame, knobs: Sensitivity, out: Path
) -> None:
    """Write incident.png into the folder `out`."""
    import matplotlib

    matplotlib.use("Agg")

    report = replay(spans, knobs, causes=False)
    out.mkdir(parents=True, exist_ok=True)
    has_cause = incident.root_cause is not None
    ledger = incident.verdict.ledger_table(ENTRY) if has_cause else None
    figure = plots.story(report.windows, incident, report.anomalies, faults, ledger)
    with replacing(out / "incident.png") as part:
        figure.savefig(part, format="png", dpi=120, bbox_inches="tight")
    say(f"   Drew {out / 'incident.png'}")
