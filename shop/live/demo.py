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
    fault: str,
    services: str,
    seed: int,
    rate: float,
    out: str,
    *,
    open_page: bool = False,
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
            say(f"\n3. {verdict(incident)}")
            if incident.root_cause is not None:
                say(ledger_text(incident))
        first = incidents[0]
        spans = shop.store.spans()
        faults = shop.truth.faults()
        draw(first, spans, faults, knobs, Path(out))
        took_s = time.monotonic() - begin
        say(f"\n{took_s:.0f} s in all.")
        if open_page:
            _open_page(f"{shop.url}/aiops/page/incidents/{first.id}")
    causes = [incident.root_cause for incident in incidents]
    return 0 if all(causes) else 1


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
    grace_s = shop.monitor.sensitivity.grace_s
    judged_in_s = DEMO_WINDOW_S + grace_s - since_window_began
    time.sleep(max(0.0, judged_in_s))
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
    is_entry = answers["endpoint"] == ENTRY
    median_ms = answers.loc[is_entry, "duration_ms"].median()
    return f"{', '.join(shown)}; {ENTRY} took {median_ms:.0f} ms"


def verdict(incident: Incident) -> str:
    """Return root cause, main anomaly, support and affected endpoints as text, a line each."""
    cause = incident.root_cause
    if cause is None:
        return f"Incident {incident.id} {incident.severity}: no cause found"
    name = cause.name or cause.endpoint
    k, n = cause.support
    affected = ", ".join(incident.affected_endpoints)
    return (
        f"Incident {incident.id} {incident.severity}: "
        f"root cause {name}, "
        f"confidence {cause.confidence:.2f}\n"
        f"   {incident.main_anomaly.description}\n"
        f"   Support: the largest excess originated there in {k} of {n} bad requests\n"
        f"   Affected: {affected}"
    )


def ledger_text(incident: Incident) -> str:
    """Return the ledger as text: the sum of its rows equals the excess at the entry."""
    table = incident.verdict.ledger_table(ENTRY)
    facts = table.attrs
    entry = facts["entry"]
    rows = table.sort_values("excess", ascending=False)
    inside = table["excess"].sum()
    lines = [
        f"   Ledger of {entry}, excess in {facts['unit']}:",
        *map(_ledger_line, rows["account"], rows["excess"]),
        _ledger_line("originated inside, in all", inside),
        _ledger_line(f"excess at {entry}", facts["total"]),
    ]
    return "\n".join(lines)


def _ledger_line(name: Any, excess: Any) -> str:
    return f"     {name:<40}{excess:>+12.3f}"


def draw(
    incident: Incident,
    spans: pd.DataFrame,
    faults: pd.DataFrame,
    knobs: Sensitivity,
    out: Path,
) -> None:
    """Write incident.png into the folder `out`."""
    import matplotlib

    matplotlib.use("Agg")

    report = replay(spans, knobs, causes=False)
    out.mkdir(parents=True, exist_ok=True)
    ledger = None
    if incident.root_cause is not None:
        ledger = incident.verdict.ledger_table(ENTRY)
    figure = plots.story(report.windows, incident, report.anomalies, faults, ledger)
    picture = out / "incident.png"
    with replacing(picture) as part:
        figure.savefig(part, format="png", dpi=120, bbox_inches="tight")
    say(f"   Drew {picture}")
