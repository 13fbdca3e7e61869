"""The test of a running shop over HTTP, ``python -m shop check``: faults and expected incidents."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import requests

from aiops_lab.checks import FieldError, check_number
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.progress import Bar
from shop.live.running import running
from shop.live.traffic import background, drive, place
from shop.topology import SEED_SHOP, Topology

CHECK_POLL_S = 0.5

"""Seconds between two looks at the incidents."""

DEADLINE_S = 90.0

"""Seconds after the fault within which all has to be right."""

QUICK_WINDOW_S, CHECK_WINDOW_S = 2.0, 5.0

"""Lengths of the analysis windows, in seconds, with and without --quick."""

ELSEWHERE_CALM_S, ELSEWHERE_TRIES = 24.0, 4

"""Seconds of normal traffic, and attempts, before a fault in a shop that is given by its URL.

It may have windows of 10 s, and incidents that have to be resolved first.
"""


@dataclass(frozen=True)
class LiveCheck:
    """A fault, and the incident that is expected."""

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
    """One result: of a scenario, what was checked, and whether it passed."""

    scenario: str
    what: str
    passed: bool


@dataclass(frozen=True)
class CheckPlan:
    """Settings of the scenarios; setting `stop` ends those that are running."""

    window_s: float
    rate: float
    seed: int
    calm_s: float
    tries: int
    stop: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Raise CancelledError if `stop` is set."""
        if self.stop.is_set():
            raise CancelledError


def run_checks(url: str | None, quick: bool, rate: float, seed: int) -> int:
    """Run every scenario and print its results; return 0 if all passed, else 1."""
    check_number("rate", rate, 0.001, 1e5)
    calm_s, tries = ELSEWHERE_CALM_S, ELSEWHERE_TRIES
    if url is None:
        calm_s, tries = 0.0, 1
    if url is not None:
        _check_url(url)
    begin = time.monotonic()
    plan = CheckPlan(QUICK_WINDOW_S if quick else CHECK_WINDOW_S, rate, seed, calm_s, tries)
    rows: list[CheckRow] = []

    def run(scenario: LiveCheck) -> list[CheckRow]:
        plan.go_on()
        with _server(url, plan.window_s, seed) as address:
            return _basics(address, scenario.name) + _scenario(address, scenario, plan)

    print(f"{len(CHECKS)} scenarios against {url or 'shops started here'}", flush=True)
    # a shop given by its URL can have one fault at a time only
    at_once = len(CHECKS) if quick and url is None else 1
    with ThreadPoolExecutor(at_once) as pool:
        shown = sys.stderr.isatty()
        try:
            results = pool.map(run, CHECKS)
            for found in Bar(results, total=len(CHECKS), unit="scenario", disable=not shown):
                rows += found
                Bar.write("\n".join(map(_row_text, found)))
        finally:
            plan.stop.set()  # only the main thread is interrupted by Ctrl-C
    failed = sum(not row.passed for row in rows)
    passed = len(rows) - failed
    seconds = time.monotonic() - begin
    print(f"{passed} passed, {failed} failed in {seconds:.0f} s")
    return 0 if failed == 0 else 1


def _row_text(row: CheckRow) -> str:
    outcome = "ok  " if row.passed else "FAIL"
    return f"  {outcome}  {row.scenario:<10}{row.what}"


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
    """Return the seed's shop with fewer threads, since several of them run in one process."""
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
    """Check the answer of each endpoint; only in the first scenario, as it is the same in all."""
    if scenario != CHECKS[0].name:
        return []
    asked = [(endpoint.method, endpoint.route, 200) for endpoint in SEED_SHOP.endpoints]
    asked += [
        ("GET", "/aiops/metrics", 200),
        ("GET", "/aiops/incidents", 200),
        ("GET", "/simulate/status", 200),
        ("POST", "/simulate/delay?endpoint=/nowhere&duration=-1", 400),
        ("GET", "/aiops/incidents/INC-0-0", 404),
    ]
    rows = []
    for method, path, status in asked:
        passed = _ask(method, url + path).status_code == status
        rows.append(CheckRow("basics", f"{method} {path} answers {status}", passed))
    return rows


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
    in_time = {f"all of it within {seconds:.0f} s of the fault": seconds < DEADLINE_S}
    results = {"normal traffic opens no incident": quiet} | passed | in_time
    return [CheckRow(scenario.name, what, ok) for what, ok in results.items()]


def _calm(url: str, plan: CheckPlan) -> bool:
    """Send normal traffic until no incident is active; resolve those of earlier scenarios.

    Returns whether no incident was active in the end.
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
    """Poll until all results are right or the deadline has passed; return them and the seconds."""
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
    """Return what is right about the active incidents: {what: whether}."""
    incident = incidents[-1] if incidents else {}
    cause = incident.get("root_cause") or {}
    affected = set(incident.get("affected_endpoints", []))
    anomalies = incident.get("anomalies", [])
    own = [anomaly for anomaly in anomalies if anomaly["endpoint"] == scenario.cause]
    types = [anomaly["type"] for anomaly in own]
    expected = ", ".join(sorted(scenario.affected))
    results = {
        "one incident opens": len(incidents) == 1,
        f"its root cause is {scenario.cause}": cause.get("endpoint") == scenario.cause,
        f"affected: {expected}": affected == scenario.affected,
        f"{scenario.anomaly} at {scenario.cause}": scenario.anomaly in types,
    }
    if scenario.anomaly == "error_spike":
        results["sample messages"] = any(anomaly.get("sample_errors") for anomaly in own)
    return results
