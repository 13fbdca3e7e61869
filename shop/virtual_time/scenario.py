"""A scenario as data: a shop, its traffic, its faults and their times, and the true causes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.endpoints import display_names
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
            raise FieldError("kind", f"must be one of {', '.join(FAULT_KINDS)}", self.kind)
        check_number("factor", self.factor, 0.01, 1000)
        check_number("times", self.times, 1, 1000, whole=True)
        if self.kind == "leak" and self.end_s is None:
            raise FieldError("end_s", "must be given for a leak", None)

    def strike(self, rng: random.Random, wait: Wait) -> None:
        """Raise NotImplementedError: the live shop has no such fault."""
        raise NotImplementedError(f"a fault of kind {self.kind!r} exists in virtual time only")


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
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise FieldError("name", "must be text", self.name)
        check_number("rate", self.rate, 0.001, 1e5)
        check_number("seconds", self.seconds, 0.001, 366 * DAY_S)
        check_number("daily", self.daily, 0, 1)
        check_number("lost", self.lost, 0, 0.99)
        for name in ("backoff_ms", "network_ms", "overhead_ms"):
            check_number(name, getattr(self, name), 0, 60_000)
        self._check_services()
        self._check_traffic()
        self._check_faults()

    def _check_services(self) -> None:
        for name in ("workers", "skew_ms", "lost_of"):
            for service in getattr(self, name):
                if service not in self.topology.services:
                    rule = f"must name services among {', '.join(self.topology.services)}"
                    raise FieldError(name, rule, service)
        for service, n in self.workers.items():
            if not isinstance(n, int) or n < 1:
                raise FieldError(f"workers[{service!r}]", "must be a whole number above 0", n)
        for service, ms in self.skew_ms.items():
            check_number(f"skew_ms[{service!r}]", ms, -DAY_S * 1e3, DAY_S * 1e3)
        for service, share in self.lost_of.items():
            check_number(f"lost_of[{service!r}]", share, 0, 0.99)

    def _check_traffic(self) -> None:
        for name, share in self.shares.items():
            if name not in self.entries:
                rule = f"must name endpoints among {', '.join(self.entries)}"
                raise FieldError("mix", rule, name)
            check_number(f"mix[{name!r}]", share, 0, 1e9)
        if not any(self.shares.values()):
            raise FieldError("mix", "must have a share above 0", dict(self.shares))
        seconds = [second for second, _ in self.profile]
        if seconds != sorted(set(seconds)):
            raise FieldError("profile", "must have its seconds in rising order", self.profile)
        for n, (second, factor) in enumerate(self.profile):
            check_number(f"profile[{n}][0]", second, 0, self.seconds)
            check_number(f"profile[{n}][1]", factor, 0, 1e6)
        if self.window is not None:
            check_number("window[0]", self.window[0], 0, self.seconds)
            check_number("window[1]", self.window[1], self.window[0], self.seconds)

    def _check_faults(self) -> None:
        known = [e.place for e in self.topology.endpoints]
        reached = self.reached()
        for n, place in enumerate(self.causes):
            if place not in known:
                raise FieldError(f"causes[{n}]", f"must be among {_listed(known)}", _shown(place))
        for name, faults in (("faults", self.faults), ("changes", self.changes)):
            for n, fault in enumerate(faults):
                _check_strikes(f"{name}[{n}]", fault, self.places_of(fault), known, reached)
                self._check_calls(f"{name}[{n}]", fault, reached)
                self._check_repeats(f"{name}[{n}]", fault)
                if fault.start_s >= self.seconds:
                    rule = f"must be before the end at {self.seconds:g}"
                    raise FieldError(f"{name}[{n}].start_s", rule, fault.start_s)
        for n, place in enumerate(self.causes):
            if place not in reached:
                raise FieldError(f"causes[{n}]", "must be reached by requests", _shown(place))
        if bool(self.causes) != bool(self.faults):
            rule = "must be given where there are faults, and only there"
            raise FieldError("causes", rule, self.causes)
        self._check_links()
        last = max((fault.start_s for fault in self.faults), default=0.0)
        if self.faults and self.window is not None and self.window[1] <= last:
            rule = f"must be after the last fault has started, at {last:g}"
            raise FieldError("window[1]", rule, self.window[1])

    def _check_links(self) -> None:
        """Refuse a cause that is not linked to a fault by calls."""
        faulty = {place for fault in self.faults for place in self.places_of(fault)}
        linked = self.topology.below(faulty) | self.topology.above(faulty)
        for n, place in enumerate(self.causes):
            if place not in linked:
                rule = "must be at a fault, or among those that call it or are called by it"
                raise FieldError(f"causes[{n}]", rule, _shown(place))

    def _check_calls(self, name: str, fault: Fault, reached: set[Place]) -> None:
        """Refuse a fault on calls that are never made."""
        caller = getattr(fault, "caller", None)
        if caller is None and fault.kind != "network":
            return
        calling = reached if caller is None else reached & {caller}
        places = self.places_of(fault)
        if any(self.topology.at(*place).callees.intersection(places) for place in calling):
            return
        called = _shown((fault.service, fault.endpoint))
        if caller is None:
            rule = "must be at an endpoint that others call: customers use no network"
            raise FieldError(name, rule, called)
        rule = f"must be an endpoint that requests reach and that calls {called}"
        raise FieldError(f"{name}.caller", rule, _shown(caller))

    def _check_repeats(self, name: str, fault: Fault) -> None:
        """Refuse calls that are made again but are never made once."""
        if not isinstance(fault, VirtualFault) or fault.kind != "repeat":
            return
        made = {p for place in self.places_of(fault) for p in self.topology.at(*place).callees}
        if not made:
            where = _shown((fault.service, fault.endpoint))
            raise FieldError(name, "must be at an endpoint that calls others", where)
        if fault.callee is not None and fault.callee not in made:
            rule = f"must be called by it: {_listed(sorted(made))}"
            raise FieldError(f"{name}.callee", rule, _shown(fault.callee))

    @property
    def entries(self) -> dict[str, Place]:
        """The endpoints by their names in a mix."""
        places = [endpoint.place for endpoint in self.topology.endpoints]
        return {name: place for place, name in display_names(places).items()}

    @property
    def shares(self) -> Mapping[str, float]:
        """The share of each entry in the traffic."""
        if self.mix is not None:
            return self.mix
        entries = self.entries
        return MIX if set(entries) == set(MIX) else dict.fromkeys(entries, 1.0)

    def reached(self) -> set[Place]:
        """Return the endpoints that any request reaches."""
        entries = self.entries
        asked = {entries[name] for name, share in self.shares.items() if share > 0}
        return self.topology.below(asked)

    def places_of(self, fault: Fault) -> list[Place]:
        """Return the endpoints that have the fault."""
        if fault.endpoint != EVERYWHERE:
            return [(fault.service, fault.endpoint)]
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
        since = min(event.start_s for event in events)
        until = max(end_of(event, self.seconds) for event in events)
        return since, until


def end_of(fault: Fault, seconds: float) -> float:
    """Return the end of a fault in virtual seconds, at most the end of the run at `seconds`."""
    if fault.length_s is None:
        return seconds
    return min(fault.start_s + fault.length_s, seconds)


def _check_strikes(
    name: str, fault: Fault, places: list[Place], known: list[Place], reached: set[Place]
) -> None:
    if fault.endpoint == EVERYWHERE and not isinstance(fault, VirtualFault):
        rule = f"must be one endpoint for a {fault.kind}"
        raise FieldError(f"{name}.endpoint", rule, fault.endpoint)
    for place in places or [(fault.service, fault.endpoint)]:
        if place not in known:
            raise FieldError(name, f"must be at one of {_listed(known)}", _shown(place))
    caller = getattr(fault, "caller", None)
    if caller is not None and caller not in known:
        raise FieldError(f"{name}.caller", f"must be one of {_listed(known)}", _shown(caller))
    if not reached.intersection(places):
        where = _shown((fault.service, fault.endpoint))
        raise FieldError(name, "must be at an endpoint that requests reach", where)
    if fault.rate == 0:
        raise FieldError(f"{name}.rate", "must be above 0 to affect requests", fault.rate)
    if fault.length_s == 0:
        raise FieldError(f"{name}.end_s", "must be after start_s", fault.end_s)
    if fault.kind == "slow" and getattr(fault, "factor", None) == 1:
        raise FieldError(f"{name}.factor", "must not be 1, which slows nothing", 1.0)
    if fault.kind == "repeat" and getattr(fault, "times", None) == 1:
        raise FieldError(f"{name}.times", "must be above 1 to make further calls", 1)


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
    start = virtual_moment(fault.start_s)
    end = virtual_moment(end_of(fault, scenario.seconds))
    facts = {"start": start, "end": end} | asdict(fault)
    del facts["start_s"], facts["end_s"]
    if fault.kind != "repeat":  # of others they say nothing
        facts = {name: value for name, value in facts.items() if name not in _REPEATED}
    endpoint = None if fault.endpoint == EVERYWHERE else fault.endpoint
    return facts | {"endpoint": endpoint}


def virtual_moment(second: float) -> str:
    """Return a second of the run as the time that spans show, in ISO 8601."""
    ns = BEGIN_NS + round(second * 1e6) * 1000
    time = pd.Timestamp(ns, tz="UTC")
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
