"""What happens on a whole day? Faults of all kinds by seed, some at once, some again and again, and
what is no fault.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.explain.changes import Change
from aiops_lab.numerics import to_timestamp
from aiops_lab.record.faults import STRIKES, Fault
from shop.recordings import true_faults
from shop.topology import SEED_SHOP, Topology
from shop.virtual_time.scenario import BEGIN_NS, EVERYWHERE, Place, Scenario, VirtualFault

WARM_UP_S = 900.0
"""Before anything happens: three half-lives of a baseline."""

GAP_S = 660.0
"""Seconds at least between two scenes: longer than an incident waits before it resolves itself."""

SHORTEST_S, LONGEST_S = 180.0, 2400.0
"""How long a fault lasts; at most a sixteenth of the run."""

LATER_S = 35.0, 280.0
"""Seconds after the end of a fault at which another begins elsewhere: the incident is still open.
"""

FLAPS, FLAP_S, PAUSE_S = 3, (180.0, 300.0), (120.0, 480.0)
"""How often a flapping fault strikes, how long each time, and how long it pauses."""

FAULTS_AN_HOUR, FAULTS_A_DAY = 1.5, 20

SEEN_RATE = 0.15
"""Requests a second that an endpoint must get: else minutes pass before anybody could know."""

DAILY = 0.3
"""Amplitude of the traffic."""

SCENES = {"single": 1, "pair": 2, "chain": 2, "flapping": 1}
"""Number of faults in each scene: one alone, two at once, one soon after another, one that comes
back.
"""

EVENT_S = {"surge": 600.0, "quiet": 1200.0, "deployment": 600.0, "bad client": 600.0}
"""What happens and is no fault, and how long nothing else does."""

TRAFFIC = {"surge": 3.0, "quiet": 0.1}
"""Factors of the rate."""


class FaultRange(NamedTuple):
    """A kind of fault: what it does, and between which bounds its numbers are drawn."""

    kind: str
    bounds: dict[str, tuple[float, float]]
    everywhere: bool = False  # at all endpoints of a service
    on_calls: bool = False  # shows only where another endpoint calls
    stops: bool = False  # the caller makes no further call, where a second fault would strike


DAY_KINDS = {
    "delay": FaultRange("delay", {"duration_ms": (300, 1500)}),
    "jitter": FaultRange("delay", {"duration_ms": (300, 800), "jitter_ms": (300, 800)}),
    "timeout": FaultRange("delay", {"duration_ms": (6000, 12_000)}, on_calls=True, stops=True),
    "error": FaultRange("error", {"rate": (0.5, 1)}, stops=True),
    "flaky": FaultRange("error", {"rate": (0.2, 0.4)}),
    "hang": FaultRange("hang", {}, stops=True),
    "processor": FaultRange("slow", {"factor": (8, 20)}, everywhere=True),
    "leak": FaultRange("leak", {"duration_ms": (400, 1500)}),
    "network": FaultRange(
        "network", {"duration_ms": (120, 400), "jitter_ms": (20, 60)}, on_calls=True
    ),
    "host network": FaultRange(
        "network", {"duration_ms": (120, 400)}, everywhere=True, on_calls=True
    ),
    "refuse": FaultRange("refuse", {}, on_calls=True, stops=True),
    "shed": FaultRange("shed", {"rate": (0.3, 0.8)}),
}
"""By name: the kinds of the catalogue that need no special shop."""


class Day(NamedTuple):
    """A day: the scenario, and for each fault its kind's name and the number of its origin, equal
    for recurrences.
    """

    scenario: Scenario
    kinds: tuple[str, ...]
    origins: tuple[int, ...]

    def truth(self) -> pd.DataFrame:
        """Return the faults as `aiops_lab.score` takes them, with ``kind`` by name.

        ``group`` is the origin. ``affected`` are those that wait for the struck endpoints and,
        where requests fail, those that are then called less.
        """
        affected: list[Any] = []
        for fault, name in zip(self.scenario.faults, self.kinds, strict=True):
            kind = DAY_KINDS[name]
            affected.append(_affected(self.scenario, fault, kind))
        table = true_faults(self.scenario)
        return table.assign(kind=self.kinds, group=self.origins, affected=affected)

    def noted_changes(self) -> list[Change]:
        """Return the deployments as a pipeline notes them, which knows when it changed a service,
        and not what that did to it.
        """
        noted = []
        for change in self.scenario.changes:
            if change.kind == "slow":
                start_ns = BEGIN_NS + round(change.start_s * 1e9)
                moment = to_timestamp(start_ns)
                noted.append(Change(moment, change.service, "deployment"))
        return noted


def _affected(scenario: Scenario, fault: Fault, kind: FaultRange) -> list[Place]:
    topology = scenario.topology
    places = scenario.places_of(fault)
    waiting = topology.above(places)
    fails = kind.stops or "rate" in kind.bounds
    if fails:
        return sorted(topology.below(waiting))
    return sorted(waiting)


def random_day(
    topology: Topology = SEED_SHOP,
    seed: int = 0,
    *,
    hours: float = 24.0,
    rate: float = 2.0,
    faults: int | None = None,
    mix: Mapping[str, float] | None = None,
) -> Day:
    """Return a day with faults of all kinds at random places and times, some overlapping, some
    flapping, and what is no fault: surges, quiet times, deployments, clients that send nonsense.

    Two faults that overlap, or of which one comes soon after the other, are at places that do not
    call each other, and both strike some request. Between such scenes there are eleven minutes at
    least.

    Parameters
    ----------
    topology, mix
        As for `Scenario`.
    seed : int
        The same seed gives the same day, in any process.
    hours : float
        Length of the day, 1 to 48.
    rate : float
        Requests a second on average.
    faults : int, optional
        How many, recurrences not counted. Default: three in two hours, at most 20.

    Raises
    ------
    ValueError
        A parameter breaks its rule; or the day is too short for so many faults.
    """
    check_number("hours", hours, 1, 48)
    if faults is None:
        usual = round(FAULTS_AN_HOUR * hours)
        faults = min(usual, FAULTS_A_DAY)
    check_number("faults", faults, 1, 200, whole=True)
    calm = Scenario(
        "calm",
        topology=topology,
        rate=rate,
        seconds=3600 * hours,
        mix=mix,
        daily=DAILY,
    )
    rng = random.Random(f"{seed}/day")
    shop = _Shop(calm, rng)
    scenes = shop.scenes(faults)
    of_each_event = min(int(hours // 4), 2)
    scenes += shop.events(of_each_event)
    rng.shuffle(scenes)
    return _laid_out(calm, scenes, rng)


# ---- what happens


@dataclass(frozen=True)
class _Strike:
    """One fault; its start is relative to that of its scene."""

    name: str
    fault: Fault


@dataclass(frozen=True)
class _Scene:
    """What belongs together in time: strikes of as many origins as there are lists, or an event."""

    length_s: float
    origins: tuple[tuple[_Strike, ...], ...] = ()
    changes: tuple[Fault, ...] = ()
    factor: float = 1.0


class _Shop:
    """Draws scenes for a shop."""

    def __init__(self, calm: Scenario, rng: random.Random) -> None:
        self.calm = calm
        self.rng = rng
        self.topology = calm.topology
        self.seen = _seen(calm)
        self.called = {place for e in self.topology.endpoints for place in e.called}
        self.longest_s = min(LONGEST_S, calm.seconds / 16)
        self.waiting: list[str] = []

    def scenes(self, faults: int) -> list[_Scene]:
        """Return scenes with so many origins, of all kinds in turn."""
        scenes: list[_Scene] = []
        names = list(SCENES)
        while faults:
            turn = len(scenes) % len(names)
            name = names[turn]
            if SCENES[name] > faults:
                name = "single"
            scene = self._scene(name)
            scenes.append(scene)
            faults -= len(scene.origins)
        return scenes

    def events(self, times: int) -> list[_Scene]:
        """Return what is no fault, each kind so often."""
        return [self._event(name) for name in EVENT_S for _ in range(times)]

    def _scene(self, name: str) -> _Scene:
        if name == "flapping":
            return self._flapping()
        if name == "single":
            return _of(self._strike(self.seen, DAY_KINDS))
        kinds = _going_on(DAY_KINDS) if name == "pair" else list(DAY_KINDS)
        first = self._strike(self._with_unlike(), kinds)
        length_s = first.fault.length_s or 0.0
        at_s = length_s + self.rng.uniform(*LATER_S)
        if name == "pair":
            share = self.rng.uniform(0.2, 0.8)
            at_s = length_s * share
        unlike = self._unlike(first.fault.service)
        second = self._strike(unlike, kinds)
        return _of(first, _moved(second, at_s))

    def _flapping(self) -> _Scene:
        strike = self._strike(self.seen, DAY_KINDS)
        at_s = 0.0
        strikes = []
        for _ in range(FLAPS):
            length_s = self.rng.uniform(*FLAP_S)
            fault = replace(strike.fault, end_s=length_s)
            again = replace(strike, fault=fault)
            strikes.append(_moved(again, at_s))
            at_s += length_s + self.rng.uniform(*PAUSE_S)
        end_s = strikes[-1].fault.end_s or 0.0
        return _Scene(end_s, (tuple(strikes),))

    def _strike(self, places: Iterable[Place], names: Iterable[str]) -> _Strike:
        """Return a fault of the kind that has waited longest, at a place where it shows."""
        possible = sorted(places)
        called = [place for place in possible if place in self.called]
        if not called:
            names = _on_requests(names)
        name = self._next(names)
        kind = DAY_KINDS[name]
        place = self.rng.choice(called if kind.on_calls else possible)
        numbers = {}
        for key, bounds in kind.bounds.items():
            numbers[key] = self.rng.uniform(*bounds)
        shortest = log(SHORTEST_S)
        longest = log(self.longest_s)
        numbers["end_s"] = exp(self.rng.uniform(shortest, longest))
        return _Strike(name, _fault(kind, place, **numbers))

    def _next(self, names: Iterable[str]) -> str:
        allowed = set(names)
        if allowed.isdisjoint(self.waiting):
            names_again = list(DAY_KINDS)
            self.waiting += self.rng.sample(names_again, len(names_again))
        name = next(name for name in self.waiting if name in allowed)
        self.waiting.remove(name)
        return name

    def _unlike(self, service: str) -> list[Place]:
        """Return the places of services that neither call this one nor are called by it."""
        places = [endpoint.place for endpoint in self.topology.of(service)]
        callers = self.topology.above(places)
        callees = self.topology.below(places)
        linked = {name for name, _ in callers | callees}
        return [(name, endpoint) for name, endpoint in self.seen if name not in linked]

    def _with_unlike(self) -> list[Place]:
        places = []
        for service, endpoint in self.seen:
            if self._unlike(service):
                places.append((service, endpoint))
        if not places:
            rule = "must have places that do not call each other"
            raise FieldError("topology", rule, self.seen)
        return places

    def _event(self, name: str) -> _Scene:
        length_s = EVENT_S[name]
        if name == "deployment":
            place = self.rng.choice(self.seen)
            change = VirtualFault("slow", *place, factor=1.2)
            return _Scene(length_s, changes=(change,))
        if name == "bad client":
            # where an endpoint calls, a 400 would be a failure of the caller
            entries = [place for place in self.seen if place not in self.called]
            place = self.rng.choice(entries)
            change = VirtualFault("reject", *place, end_s=length_s, rate=0.4, status=400)
            return _Scene(length_s, changes=(change,))
        return _Scene(length_s, factor=TRAFFIC[name])


def _seen(calm: Scenario) -> list[Place]:
    """Return the endpoints that get enough requests for a fault there to be seen."""
    entries = calm.entries
    shares = calm.shares
    total = sum(shares.values())
    often: dict[Place, float] = defaultdict(float)
    for name, share in shares.items():
        entry = entries[name]
        often[entry] += calm.rate * share / total
    for endpoint in calm.topology.callers_first():
        rate = often[endpoint.place]
        for place in endpoint.called:
            often[place] += rate
    seen = sorted(place for place, rate in often.items() if rate >= SEEN_RATE)
    if not seen:
        rule = "must give some endpoint enough requests"
        raise FieldError("rate", rule, calm.rate)
    return seen


def _going_on(names: Iterable[str]) -> list[str]:
    return [name for name in names if not DAY_KINDS[name].stops]


def _on_requests(names: Iterable[str]) -> list[str]:
    return [name for name in names if not DAY_KINDS[name].on_calls]


def _fault(kind: FaultRange, place: Place, **numbers: Any) -> Fault:
    if kind.kind in STRIKES:
        return Fault(kind.kind, *place, **numbers)
    service, endpoint = place
    if kind.everywhere:
        endpoint = EVERYWHERE
    return VirtualFault(kind.kind, service, endpoint, **numbers)


def _of(*strikes: _Strike) -> _Scene:
    """Return a scene in which each strike has an origin of its own."""
    ends_s = [strike.fault.end_s or 0.0 for strike in strikes]
    origins = [(strike,) for strike in strikes]
    return _Scene(max(ends_s), tuple(origins))


def _moved(strike: _Strike, by_s: float) -> _Strike:
    return replace(strike, fault=_later(strike.fault, by_s))


def _later(fault: Fault, by_s: float) -> Fault:
    start_s = fault.start_s + by_s
    end_s = None if fault.end_s is None else fault.end_s + by_s
    return replace(fault, start_s=start_s, end_s=end_s)


# ---- when it happens


def _laid_out(calm: Scenario, scenes: list[_Scene], rng: random.Random) -> Day:
    lengths_s = [scene.length_s for scene in scenes]
    starts_s = _starts(calm.seconds, lengths_s, rng)
    faults: list[Fault] = []
    kinds: list[str] = []
    origins: list[int] = []
    changes: list[Fault] = []
    profile: list[tuple[float, float]] = []
    origin = 0
    for start_s, scene in zip(starts_s, scenes, strict=True):
        for strikes in scene.origins:
            origin += 1
            for strike in strikes:
                faults.append(_later(strike.fault, start_s))
                kinds.append(strike.name)
                origins.append(origin)
        changes += [_later(change, start_s) for change in scene.changes]
        if scene.factor != 1:
            end_s = start_s + scene.length_s
            profile += [(start_s, scene.factor), (end_s, 1.0)]
    struck: set[Place] = set()
    for fault in faults:
        struck.update(calm.places_of(fault))
    causes = struck & calm.reached()
    scenario = replace(
        calm,
        name="day",
        causes=tuple(sorted(causes)),
        faults=tuple(faults),
        changes=tuple(changes),
        profile=tuple(profile),
    )
    return Day(scenario, tuple(kinds), tuple(origins))


def _starts(seconds: float, lengths: list[float], rng: random.Random) -> list[float]:
    """Return when each scene starts: in their order, with random gaps."""
    gaps = GAP_S * len(lengths)
    spare = seconds - WARM_UP_S - sum(lengths) - gaps
    if spare < 0:
        raise FieldError("hours", "must leave room for all faults", seconds / 3600)
    waits = sorted(rng.uniform(0, spare) for _ in lengths)
    earliest = WARM_UP_S
    starts = []
    for wait, length in zip(waits, lengths, strict=True):
        starts.append(earliest + wait)
        earliest += length + GAP_S
    return starts
