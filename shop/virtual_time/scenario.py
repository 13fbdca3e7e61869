"""A scenario as data: a shop, its traffic, its faults and their times, and the true causes."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.endpoints import display_names
from aiops_lab.explain.changes import MOST_TEXT, Change
from aiops_lab.numerics import to_timestamp
from aiops_lab.record.faults import DAY_S, Fault, Wait
from shop.live.traffic import MIX
from shop.topology import SEED_SHOP, Topology

BEGIN_NS = 1_767_225_600_000_000_000

"""Unix time of virtual second 0, in ns: 2026-01-01T00:00:00Z."""

BEGIN = pd.Timestamp(BEGIN_NS, tz="UTC")

"""The same moment as a timestamp."""

Place = tuple[str, str]  # (service, endpoint)

EVERYWHERE = "*"

"""The endpoint of a fault that is at every endpoint of its service."""

FAULT_KINDS = ("slow", "leak", "network", "refuse", "shed", "reject", "repeat")

"""The kinds of a `VirtualFault`."""


@dataclass(frozen=True)
class VirtualFault(Fault):
    """A fault of the virtual shop only: the live shop cannot slow the network or a processor.

    Parameters
    ----------
    kind : str
        ``"slow"``: own work takes `factor` times as long. ``"leak"``: a delay that grows from 0 to
        ``duration_ms`` at ``end_s``. ``"network"``: calls to it travel ``duration_ms`` longer (±
        ``jitter_ms``), there and back together. ``"refuse"``: it refuses connections. ``"shed"``:
        it answers 503 at once. ``"reject"``: it answers ``status`` at once, as to a bad request.
        ``"repeat"``: it makes its calls ``times`` times, one after the other or ``at_once``, as if
        once for each item of a list (N+1 queries).
    endpoint : str
        The route; ``"*"`` means every endpoint of the service.
    factor : float
        For ``"slow"``: own work takes this many times as long; default 1.
    caller : tuple of (service, endpoint), optional
        For ``"network"`` and ``"refuse"``: only calls by this endpoint; default all calls.
    times : int
        For ``"repeat"``: how many calls it makes instead of one; default 1, at most 1000.
    callee : tuple of (service, endpoint), optional
        For ``"repeat"``: only its calls of this endpoint; default all its calls.
    at_once : bool
        For ``"repeat"``: the calls are made in parallel; default one after the other.
    """

    factor: float = 1.0
    caller: Place | None = None
    times: int = 1
    callee: Place | None = None
    at_once: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in FAULT_KINDS:
            rule = f"must be one of {', '.join(FAULT_KINDS)}"
            raise FieldError("kind", rule, self.kind)
        check_number("factor", self.factor, 0.01, 1000)
        check_number("times", self.times, 1, 1000, whole=True)
        if self.kind == "leak" and self.end_s is None:
            raise FieldError("end_s", "must be given for a leak", None)

    def strike(self, rng: random.Random, wait: Wait) -> None:
        """Raise NotImplementedError: the live shop has no such fault."""
        raise NotImplementedError(f"a fault of kind {self.kind!r} exists in virtual time only")


@dataclass(frozen=True)
class NotedChange:
    """A change as a pipeline of deployments notes it, which does not know what it did.

    Parameters
    ----------
    second : float
        When, in virtual seconds.
    service, what : str
        The service that was changed, and how, such as ``"deployment 2.4"``.
    behind : bool
        Whether it is behind a fault or a new level of the scenario; default no.
    """

    second: float
    service: str
    what: str
    behind: bool = False

    def as_change(self) -> Change:
        """Return what `aiops_lab.replay` and a monitor take."""
        ns = BEGIN_NS + round(self.second * 1e9)
        return Change(to_timestamp(ns), self.service, self.what)


_LIMITS = {
    "rate": (0.001, 1e5),
    "seconds": (0.001, 366 * DAY_S),
    "daily": (0, 1),
    "lost": (0, 0.99),
    "sampled": (0.001, 1),
    "backoff_ms": (0, 60_000),
    "network_ms": (0, 60_000),
    "overhead_ms": (0, 60_000),
}
"""For each number of a scenario, the lowest and the highest value."""


@dataclass(frozen=True)
class Scenario:
    """A run of the virtual shop, with its true causes.

    Parameters
    ----------
    name, defeats, why : str
        Name; the rule of `aiops_lab.explain.rules.RULES` that fails here; the reason.
    causes : tuple of (service, endpoint)
        Every endpoint that is a true cause; a slow edge counts for the called endpoint. Each has a
        fault, or calls or is called by one that has, directly or not. Empty: no fault.
    faults : tuple of Fault
        The faults, with times in virtual seconds; the twin is the same run without them.
    topology : Topology
        Default the seed's shop, as several services.
    rate, seconds : float
        Mean rate in requests/s, default 20, and length of the run, default 200 s.
    mix : mapping, optional
        Share of each entry by its route, or by "service route" where two services share it; default
        as for `drive`.
    changes : tuple of Fault
        Changes in both twins that are no fault: a deployment, a client that sends bad requests.
    profile : tuple of (second, factor)
        From each second on, the rate is `factor` times as high.
    daily : float
        Amplitude of the daily cycle: the rate varies by this share around its mean, with its
        minimum at 3:00 and its maximum at 15:00.
    workers : mapping
        Requests that a service works on at once, {service: n}; others wait in a queue, first in,
        first out. Default: no limit (a request beyond an endpoint's capacity gets 503 in any case).
    backoff_ms : float
        Pause of a caller before its first retry; it doubles with each retry, and is drawn between
        50 and 150 % of that. Default none.
    network_ms, overhead_ms : float
        Median travelling time of a call, there and back, and the server's time for each request
        beside its own work; defaults as measured on the live shop.
    skew_ms : mapping
        Offset of the clock of a service, {service: ms}, positive = ahead; in both twins.
    lost : float
        Share of the spans that never arrive at the store; the same spans in both twins.
    lost_of : mapping
        The same share of single services, {service: share}, in place of `lost`.
    sampled : float
        Share of the traces that are kept, each whole; default all. The same in both twins.
    noted : tuple of NotedChange
        What was changed, as a pipeline notes it; default nothing. What it does to requests is told
        by `faults` and `changes`.
    window : tuple of (since, until), optional
        Seconds to be explained; they end after every fault has started. Default from the first
        start to the last end of faults and changes.

    Raises
    ------
    ValueError
        Names the field, the rule and the value.
    """

    name: str
    causes: tuple[Place, ...] = ()
    faults: tuple[Fault, ...] = ()
    defeats: str = ""
    why: str = ""
    topology: Topology = SEED_SHOP
    rate: float = 20.0
    seconds: float = 200.0
    mix: Mapping[str, float] | None = None
    changes: tuple[Fault, ...] = ()
    profile: tuple[tuple[float, float], ...] = ()
    daily: float = 0.0
    workers: Mapping[str, int] = field(default_factory=dict)
    backoff_ms: float = 0.0
    network_ms: float = 2.0
    overhead_ms: float = 0.7
    skew_ms: Mapping[str, float] = field(default_factory=dict)
    lost: float = 0.0
    lost_of: Mapping[str, float] = field(default_factory=dict)
    sampled: float = 1.0
    noted: tuple[NotedChange, ...] = ()
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        is_text = isinstance(self.name, str) and self.name.strip()
        if not is_text:
            raise FieldError("name", "must be text", self.name)
        for name, (low, high) in _LIMITS.items():
            check_number(name, getattr(self, name), low, high)
        self._check_services()
        self._check_traffic()
        self._check_faults()

    def _check_services(self) -> None:
        services = self.topology.services
        for name in ("workers", "skew_ms", "lost_of"):
            unknown = [service for service in getattr(self, name) if service not in services]
            if unknown:
                rule = f"must name services among {', '.join(services)}"
                raise FieldError(name, rule, unknown[0])
        for service, n in self.workers.items():
            is_positive = isinstance(n, int) and n >= 1
            if not is_positive:
                rule = "must be a whole number above 0"
                raise FieldError(f"workers[{service!r}]", rule, n)
        day_ms = DAY_S * 1e3
        for service, ms in self.skew_ms.items():
            name = f"skew_ms[{service!r}]"
            check_number(name, ms, -day_ms, day_ms)
        for service, share in self.lost_of.items():
            name = f"lost_of[{service!r}]"
            check_number(name, share, 0, 0.99)
        for n, change in enumerate(self.noted):
            if change.service not in services:
                rule = f"must be one of {', '.join(services)}"
                raise FieldError(f"noted[{n}].service", rule, change.service)
            check_number(f"noted[{n}].second", change.second, 0, self.seconds)
            if not isinstance(change.what, str) or not 0 < len(change.what) <= MOST_TEXT:
                rule = f"must be a text of 1 to {MOST_TEXT} characters"
                raise FieldError(f"noted[{n}].what", rule, change.what)

    def _check_traffic(self) -> None:
        shares = self.shares
        entries = self.entries
        for name, share in shares.items():
            if name not in entries:
                known = ", ".join(entries)
                raise FieldError("mix", f"must name endpoints among {known}", name)
            check_number(f"mix[{name!r}]", share, 0, 1e9)
        if not any(shares.values()):
            raise FieldError("mix", "must have a share above 0", dict(shares))
        self._check_profile()
        if self.window is not None:
            since, until = self.window
            check_number("window[0]", since, 0, self.seconds)
            check_number("window[1]", until, since, self.seconds)

    def _check_profile(self) -> None:
        seconds = [second for second, _ in self.profile]
        in_order = sorted(set(seconds))
        if seconds != in_order:
            rule = "must have its seconds in rising order"
            raise FieldError("profile", rule, self.profile)
        for n, (second, factor) in enumerate(self.profile):
            check_number(f"profile[{n}][0]", second, 0, self.seconds)
            check_number(f"profile[{n}][1]", factor, 0, 1e6)

    def _check_faults(self) -> None:
        known = [e.place for e in self.topology.endpoints]
        reached = self.reached()
        self._check_causes(known, f"must be among {_listed(known)}")
        for n, fault in enumerate(self.faults):
            self._check_fault(f"faults[{n}]", fault, known, reached)
        for n, change in enumerate(self.changes):
            self._check_fault(f"changes[{n}]", change, known, reached)
        self._check_causes(reached, "must be reached by requests")
        if bool(self.causes) != bool(self.faults):
            rule = "must be given where there are faults, and only there"
            raise FieldError("causes", rule, self.causes)
        self._check_links()
        self._check_window_end()

    def _check_links(self) -> None:
        """Refuse a cause that is not linked to a fault by calls."""
        faulty: set[Place] = set()
        for fault in self.faults:
            faulty.update(self.places_of(fault))
        callees = self.topology.below(faulty)
        callers = self.topology.above(faulty)
        rule = "must be at a fault, or among those that call it or are called by it"
        self._check_causes(callees | callers, rule)

    def _check_causes(self, allowed: Collection[Place], rule: str) -> None:
        for n, place in enumerate(self.causes):
            if place not in allowed:
                raise FieldError(f"causes[{n}]", rule, _shown(place))

    def _check_fault(
        self,
        name: str,
        fault: Fault,
        known: list[Place],
        reached: set[Place],
    ) -> None:
        places = self.places_of(fault)
        _check_places(name, fault, places, known)
        if not reached.intersection(places):
            rule = "must be at an endpoint that requests reach"
            raise FieldError(name, rule, _shown(fault.place))
        _check_strikes(name, fault)
        self._check_calls(name, fault, reached)
        self._check_repeats(name, fault)
        if fault.start_s >= self.seconds:
            rule = f"must be before the end at {self.seconds:g}"
            raise FieldError(f"{name}.start_s", rule, fault.start_s)

    def _check_window_end(self) -> None:
        """Refuse a window that is over before the last fault has started."""
        if not self.faults or self.window is None:
            return
        last = max(fault.start_s for fault in self.faults)
        _, until = self.window
        if until <= last:
            rule = f"must be after the last fault has started, at {last:g}"
            raise FieldError("window[1]", rule, until)

    def _check_calls(self, name: str, fault: Fault, reached: set[Place]) -> None:
        """Refuse a fault on calls that are never made."""
        caller = getattr(fault, "caller", None)
        if caller is None and fault.kind != "network":
            return
        calling = reached if caller is None else reached & {caller}
        called = self._called_by(calling)
        if called.intersection(self.places_of(fault)):
            return
        place = _shown(fault.place)
        if caller is None:
            rule = "must be at an endpoint that others call: customers use no network"
            raise FieldError(name, rule, place)
        rule = f"must be an endpoint that requests reach and that calls {place}"
        raise FieldError(f"{name}.caller", rule, _shown(caller))

    def _check_repeats(self, name: str, fault: Fault) -> None:
        """Refuse calls that are made again but are never made once."""
        if not isinstance(fault, VirtualFault) or fault.kind != "repeat":
            return
        places = self.places_of(fault)
        made = self._called_by(places)
        if not made:
            rule = "must be at an endpoint that calls others"
            raise FieldError(name, rule, _shown(fault.place))
        callee = fault.callee
        if callee is not None and callee not in made:
            rule = f"must be called by it: {_listed(sorted(made))}"
            raise FieldError(f"{name}.callee", rule, _shown(callee))

    def _called_by(self, places: Iterable[Place]) -> set[Place]:
        """Return the endpoints that these call themselves."""
        called: set[Place] = set()
        for place in places:
            endpoint = self.topology.at(*place)
            called |= endpoint.callees
        return called

    @property
    def entries(self) -> dict[str, Place]:
        """The endpoints by their names in a mix."""
        places = [endpoint.place for endpoint in self.topology.endpoints]
        names = display_names(places)
        return {name: place for place, name in names.items()}

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of each entry in the traffic."""
        if self.mix is not None:
            return self.mix
        entries = self.entries
        if entries.keys() == MIX.keys():
            return MIX
        return dict.fromkeys(entries, 1.0)

    def reached(self) -> set[Place]:
        """Return the endpoints that any request reaches."""
        entries = self.entries
        asked = {entries[name] for name, share in self.shares.items() if share > 0}
        return self.topology.below(asked)

    def places_of(self, fault: Fault) -> list[Place]:
        """Return the endpoints that have the fault."""
        if fault.endpoint != EVERYWHERE:
            return [fault.place]
        return [endpoint.place for endpoint in self.topology.of(fault.service)]

    def interval(self) -> tuple[float, float]:
        """Return (since, until), the seconds to be explained.

        Without a window, faults or changes: the second half of the run.
        """
        if self.window is not None:
            return self.window
        events = self.faults + self.changes
        if not events:
            return self.seconds / 2, self.seconds
        starts = [event.start_s for event in events]
        ends = [end_of(event, self.seconds) for event in events]
        return min(starts), max(ends)


def check_scenario(scenario: object) -> None:
    """Raise `FieldError` about what is no scenario, such as the name of one."""
    if not isinstance(scenario, Scenario):
        raise FieldError("scenario", "must be a Scenario, such as shop.SCENARIOS[name]", scenario)


def end_of(fault: Fault, seconds: float) -> float:
    """Return the end of a fault in virtual seconds, at most the end of the run at `seconds`."""
    if fault.length_s is None:
        return seconds
    end_s = fault.start_s + fault.length_s
    return min(end_s, seconds)


def _check_places(name: str, fault: Fault, places: list[Place], known: list[Place]) -> None:
    """Refuse a fault, or a caller, where there is no endpoint."""
    if fault.endpoint == EVERYWHERE and not isinstance(fault, VirtualFault):
        rule = f"must be one endpoint for a {fault.kind}"
        raise FieldError(f"{name}.endpoint", rule, fault.endpoint)
    listed = _listed(known)
    for place in places or [fault.place]:
        if place not in known:
            rule = f"must be at one of {listed}"
            raise FieldError(name, rule, _shown(place))
    caller = getattr(fault, "caller", None)
    if caller is not None and caller not in known:
        rule = f"must be one of {listed}"
        raise FieldError(f"{name}.caller", rule, _shown(caller))


def _check_strikes(name: str, fault: Fault) -> None:
    """Refuse a fault that does nothing to the requests that it meets."""
    if fault.rate == 0:
        rule = "must be above 0 to affect requests"
        raise FieldError(f"{name}.rate", rule, fault.rate)
    if fault.length_s == 0:
        raise FieldError(f"{name}.end_s", "must be after start_s", fault.end_s)
    if not isinstance(fault, VirtualFault):
        return
    if fault.kind == "slow" and fault.factor == 1:
        rule = "must not be 1, which slows nothing"
        raise FieldError(f"{name}.factor", rule, 1.0)
    if fault.kind == "repeat" and fault.times == 1:
        rule = "must be above 1 to make further calls"
        raise FieldError(f"{name}.times", rule, 1)


def _listed(places: list[Place]) -> str:
    return ", ".join(_shown(place) for place in places)


def _shown(place: Place) -> str:
    return " ".join(place)


_REPEATED = ("times", "callee", "at_once")
"""Fields of a fault that makes calls again."""


def fault_facts(fault: Fault, scenario: Scenario) -> dict[str, Any]:
    """Return a fault as a row of the truth: start and end in ISO 8601, and its other fields.

    The endpoint is None where the fault is at every endpoint of the service.
    """
    end_s = end_of(fault, scenario.seconds)
    facts = {
        "start": virtual_moment(fault.start_s),
        "end": virtual_moment(end_s),
        **asdict(fault),
    }
    left_out = {"start_s", "end_s"}
    if fault.kind != "repeat":  # of others they say nothing
        left_out.update(_REPEATED)
    if fault.endpoint == EVERYWHERE:
        facts["endpoint"] = None
    return {name: value for name, value in facts.items() if name not in left_out}


def virtual_moment(second: float) -> str:
    """Return a second of the run as the time that spans show, in ISO 8601."""
    us = round(second * 1e6)
    time = pd.Timestamp(BEGIN_NS + us * 1000, tz="UTC")
    text = time.isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")
