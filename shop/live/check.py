"""Does it do what it promises? ``python -m shop check``: the scenarios, over HTTP alone, as curl
would.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import requests

from aiops_lab.checks import FieldError, check_number
from aiops_lab.detect.sensitivity import Sensitivity
from shop.live.running import running
from shop.live.traffic import background, drive, place
from shop.progress import Bar
from shop.topology import SEED_SHOP, Topology

CHECK_POLL_S = 0.5

DEADLINE_S = 90.0

QUICK_WINDOW_S, CHECK_WINDOW_S = 2.0, 5.0

ELSEWHERE_CALM_S, ELSEWHERE_TRIES = 24.0, 4

"""A server elsewhere may have windows of 10 s, and incidents that have to be resolved first."""


@dataclass(frozen=True)
class LiveCheck:
    """Something to break, and what must be said of it."""

    name: str
    simulate: str
    cause: str
    affected: frozenset[str]
    anomaly: str


CHECKS = (
    LiveCheck(
        "latency",
        "/simulate/delay?endpoint=/payment&duration=3000",
        "/payment",
        frozenset({"/payment", "/checkout"}),
        "latency_anomaly",
    ),
    LiveCheck(
        "errors",
        "/simulate/error?endpoint=/inventory&rate=0.8",
        "/inventory",
        frozenset({"/inventory", "/checkout"}),
        "error_spike",
    ),
    LiveCheck(
        "cascade",
        "/simulate/error?endpoint=/payment&rate=1.0",
        "/payment",
        frozenset({"/payment", "/checkout"}),
        "error_spike",
    ),
    LiveCheck(
        "hang",
        "/simulate/hang?endpoint=/payment",
        "/payment",
        frozenset({"/payment", "/checkout"}),
        "timeout",
    ),
)


class CheckRow(NamedTuple):
    """One thing that was looked at."""

    scenario: str
    what: str
    passed: bool


@dataclass(frozen=True)
class CheckPlan:
    """How the scenarios are run; `stop` ends those that are under way."""

    window_s: float
    rate: float
    seed: int
    calm_s: float
    tries: int
    stop: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Raise CancelledError if it is to stop."""
        if self.stop.is_set():
            raise CancelledError


def run_checks(url: str | None, quick: bool, rate: float, seed: int) -> int:
    """Run every scenario, print a table of what passed, and return 0 if all of it did."""
    check_number("rate", rate, 0.001, 1e5)
    calm_s, tries = (0.0, 1) if url is None else (ELSEWHERE_CALM_S, ELSEWHERE_TRIES)
    if url is not None:
        _check_url(url)
    begin = time.monotonic()
    plan = CheckPlan(QUICK_WINDOW_S if quick else CHECK_WINDOW_S, rate, seed, calm_s, tries)
    rows: list[CheckRow] = []

    def run(scenario: LiveCheck) -> list[CheckRow]:
        plan.go_on()
        with _server(url, plan.window_s, seed) as address:
            return _basics(address, scenario.name) + _scenario(address, scenario, plan)

    print(f"{len(CHECKS)} scenarios against {url or 'shops of their own'}", flush=True)
    # A server elsewhere is only one: breaking it in two ways at once would be another scenario.
    with ThreadPoolExecutor(len(CHECKS) if quick and url is None else 1) as pool:
        shown = sys.stderr.isatty()
        try:
            results = pool.map(run, CHECKS)
            for found in Bar(results, total=len(CHECKS), unit="scenario", disable=not shown):
                rows += found
                Bar.write("\n".join(map(_row_text, found)))
        finally:
            plan.stop.set()  # only the main thread is interrupted by Ctrl-C
    failed = sum(not row.passed for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed in {time.monotonic() - begin:.0f} s")
    return 0 if failed == 0 else 1


def _row_text(row: CheckRow) -> str:
    return f"  {'ok  ' if row.passed else 'FAIL'}  {row.scenario:<10}{row.what}"


def _check_url(url: str) -> None:
    place("GET", url, "/")
    try:
        if _ask("GET", f"{url.rstrip('/')}/simulate/status").ok:
            return
    except OSError:
        pass
    raise FieldError("url", "must be that of a running shop", url)


@contextmanager
def _server(url: str | None, window_s: float, seed: int) -> Iterator[str]:
    if url is not None:
        yield url.rstrip("/")
        return
    with running(sensitivity=Sensitivity(window_s=window_s), seed=seed, topology=_small()) as shop:
        yield shop.url


def _small() -> Topology:
    """The seed's shop with fewer threads: several of them run in one process."""
    return Topology(tuple(replace(endpoint, capacity=64) for endpoint in SEED_SHOP.endpoints))


def _ask(method: str, url: str, **given: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.request(method, url, timeout=15, **given)
        except requests.RequestException as error:
            raise OSError(
                f"{url} must be answered by a running shop, got {type(error).__name__}"
            ) from error


def _basics(url: str, scenario: str) -> list[CheckRow]:
    """Look at each endpoint once; only in the first scenario, they are the same in all."""
    if scenario != CHECKS[0].name:
        return []
    asked = [(e.method, e.route, 200) for e in SEED_SHOP.endpoints]
    asked += [
        ("GET", path, 200) for path in ("/aiops/metrics", "/aiops/incidents", "/simulate/status")
    ]
    asked += [
        ("POST", "/simulate/delay?endpoint=/nowhere&duration=-1", 400),
        ("GET", "/aiops/incidents/INC-0-0", 404),
    ]
    return [
        CheckRow(
            "basics",
            f"{method} {path} answers {status}",
            _ask(method, url + path).status_code == status,
        )
        for method, path, status in asked
    ]


def _scenario(url: str, scenario: LiveCheck, plan: CheckPlan) -> list[CheckRow]:
    _ask("POST", f"{url}/simulate/clear").raise_for_status()
    quiet = _calm(url, plan)
    begin = time.monotonic()
    _ask("POST", url + scenario.simulate).raise_for_status()
    try:
        with background(url, plan.rate, seed=plan.seed + 1, timeout_s=6.0):
            passed, seconds = _watch(url, scenario, plan, begin)
    finally:
        _ask("POST", f"{url}/simulate/clear")
    rows = [CheckRow(scenario.name, "normal traffic opens no incident", quiet)]
    rows += [CheckRow(scenario.name, what, ok) for what, ok in passed.items()]
    return [
        *rows,
        CheckRow(
            scenario.name, f"all of it within {seconds:.0f} s of the fault", seconds < DEADLINE_S
        ),
    ]


def _calm(url: str, plan: CheckPlan) -> bool:
    """Send normal traffic until no incident is active; what an earlier scenario left behind gets
    resolved.
    """
    seconds = max(3.5 * plan.window_s, plan.calm_s)
    for _ in range(plan.tries):
        drive(url, seconds, plan.rate, seed=plan.seed, progress=False, stop=plan.stop)
        plan.go_on()
        _ask("POST", f"{url}/aiops/analyze").raise_for_status()
        active = _ask("GET", f"{url}/aiops/incidents").json()["active_incidents"]
        if not active:
            return True
        for old in active:
            _ask("POST", f"{url}/aiops/incidents/{old['id']}/resolve").raise_for_status()
    return False


def _watch(
    url: str, scenario: LiveCheck, plan: CheckPlan, begin: float
) -> tuple[dict[str, bool], float]:
    """Poll until everything is as it must be, or the deadline has passed."""
    while True:
        _ask("POST", f"{url}/aiops/analyze").raise_for_status()
        incidents = _ask("GET", f"{url}/aiops/incidents").json()["active_incidents"]
        seconds = time.monotonic() - begin
        passed = judge_check(incidents, scenario)
        if all(passed.values()) or seconds > DEADLINE_S:
            return passed, seconds
        plan.stop.wait(CHECK_POLL_S)
        plan.go_on()


def judge_check(incidents: list[dict[str, Any]], scenario: LiveCheck) -> dict[str, bool]:
    """Return what holds of the active incidents: {what: whether}."""
    incident = incidents[-1] if incidents else {}
    cause = incident.get("root_cause") or {}
    mine = [a for a in incident.get("anomalies", []) if a["endpoint"] == scenario.cause]
    rules: dict[str, Callable[[], bool]] = {
        "one incident opens": lambda: len(incidents) == 1,
        f"its root cause is {scenario.cause}": lambda: cause.get("endpoint") == scenario.cause,
        f"affected: {', '.join(sorted(scenario.affected))}": lambda: (
            set(incident.get("affected_endpoints", [])) == scenario.affected
        ),
        f"{scenario.anomaly} at {scenario.cause}": lambda: any(
            a["type"] == scenario.anomaly for a in mine
        ),
    }
    if scenario.anomaly == "error_spike":
        rules["sample messages"] = lambda: any(a.get("sample_errors") for a in mine)
    return {what: rule() for what, rule in rules.items()}
