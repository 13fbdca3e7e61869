"""Faults of kinds that are hard to explain, and what is no fault, in random shops by seed.

Beside the topology the seed decides the traffic, the time-outs, the retries and the workers, so
that a rule cannot know a shop from another.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.record.faults import Fault
from shop.topology import Endpoint, Topology
from shop.virtual_time.random_topology import entry_mix, layered
from shop.virtual_time.scenario import Place, Scenario, VirtualFault
from shop.virtual_time.twins import twin

START, END = 120.0, 180.0

TRIGGER_S = 15.0
"""How long the trigger of a metastable failure lasts."""

MOST_DRAWS = 200
"""Shops that are tried until one stays broken when the trigger is gone."""


class Stage:
    """A random shop with its traffic, and draws by seed."""

    def __init__(self, kind: str, seed: int) -> None:
        self.rng = random.Random(f"{kind}/{seed}/stage")
        self.topology = _with_own_calls(layered(self.rng.randint(7, 22), seed), self.rng)
        self.mix = entry_mix(self.topology)
        calm = Scenario("calm", topology=self.topology)
        self.entries = {calm.entries[name] for name in self.mix}
        self.below = sorted(e.place for e in self.topology.endpoints if not self._enters(e))
        self.name = f"{kind} {seed}"

    def _enters(self, endpoint: Endpoint) -> bool:
        return endpoint.place in self.entries

    def scenario(self, causes: tuple[Place, ...], *faults: Fault, **fields: Any) -> Scenario:
        """Return a scenario of this shop."""
        common: dict[str, Any] = {
            "topology": self.topology,
            "mix": self.mix,
            "rate": self.rng.uniform(8, 30),
            "seconds": END + 10,
            "network_ms": self.rng.uniform(0.5, 4),
        }
        return Scenario(self.name, causes, faults, **common | fields)

    def callers(self) -> list[Endpoint]:
        """Return the endpoints that call others."""
        return [e for e in self.topology.endpoints if e.calls]


def _with_own_calls(topology: Topology, rng: random.Random) -> Topology:
    """Return the topology with time-outs and retries of its own."""
    endpoints = []
    for endpoint in topology.endpoints:
        timeout_s = rng.choice((1.0, 2.0, 5.0))
        retries = rng.choice((0, 0, 1))
        stages = tuple(
            tuple(replace(call, timeout_s=timeout_s, retries=retries) for call in stage)
            for stage in endpoint.stages
        )
        endpoints.append(replace(endpoint, calls=stages))
    return replace(topology, endpoints=tuple(endpoints))


def _when(**numbers: Any) -> dict[str, Any]:
    return {"start_s": START, "end_s": END} | numbers


# ---- the kinds


def repeated(seed: int) -> Scenario:
    """Return N+1 calls, one after the other."""
    return _repeated(Stage("repeated", seed), at_once=False)


def repeated_at_once(seed: int) -> Scenario:
    """Return N+1 calls in parallel."""
    return _repeated(Stage("repeated at once", seed), at_once=True)


def repeated_and_queued(seed: int) -> Scenario:
    """Return N+1 calls in parallel of a service with few workers, where they queue."""
    stage = Stage("repeated and queued", seed)
    caller = stage.rng.choice(stage.callers())
    callee = stage.rng.choice(sorted(caller.callees))
    calm = stage.scenario(())
    load = _load(stage.topology, calm, callee[0])
    times = stage.rng.randint(5, 15)
    ours = calm.rate * _visits(stage.topology, calm)[caller.place]
    held_s = _takes_s(stage.topology, callee)
    workers = max(2, round((load + (times - 1) * ours * held_s) / stage.rng.uniform(0.6, 0.9)))
    fault = VirtualFault("repeat", *caller.place, **_when(times=times, callee=callee, at_once=True))
    causes = (caller.place,)
    return replace(calm, causes=causes, faults=(fault,), workers={callee[0]: workers})


def _repeated(stage: Stage, at_once: bool) -> Scenario:
    caller = stage.rng.choice(stage.callers())
    callee = stage.rng.choice(sorted(caller.callees))
    times = stage.rng.randint(3, 20)
    how = _when(times=times, callee=callee, at_once=at_once)
    return stage.scenario((caller.place,), VirtualFault("repeat", *caller.place, **how))


def weak_errors(seed: int) -> Scenario:
    """Return failures of 1 to 6 % of the requests."""
    stage = Stage("weak errors", seed)
    place = stage.rng.choice(stage.below)
    rate = stage.rng.uniform(0.01, 0.06)
    return stage.scenario((place,), Fault("error", *place, **_when(rate=rate)))


def weak_delay(seed: int) -> Scenario:
    """Return a delay of 15 to 60 % of what the requests of an endpoint take."""
    stage = Stage("weak delay", seed)
    place = stage.rng.choice(stage.below)
    more_ms = stage.rng.uniform(0.15, 0.6) * 1e3 * _takes_s(stage.topology, place)
    return stage.scenario((place,), Fault("delay", *place, **_when(duration_ms=more_ms)))


def rare_slow(seed: int) -> Scenario:
    """Return a delay of an endpoint that few requests reach."""
    stage, place = _rare("rare slow", seed)
    more_ms = stage.rng.uniform(0.5, 3) * 1e3 * _takes_s(stage.topology, place)
    return stage.scenario((place,), Fault("delay", *place, **_when(duration_ms=more_ms)))


def rare_errors(seed: int) -> Scenario:
    """Return failures of an endpoint that few requests reach."""
    stage, place = _rare("rare errors", seed)
    rate = stage.rng.uniform(0.4, 1.0)
    return stage.scenario((place,), Fault("error", *place, **_when(rate=rate)))


def _rare(kind: str, seed: int) -> tuple[Stage, Place]:
    """Return a shop with one entry that is hardly used, and an endpoint that only it reaches."""
    for attempt in range(MOST_DRAWS):
        stage = Stage(kind, 1000 * attempt + seed)
        found = [(entry, sorted(_only_below(stage, entry))) for entry in sorted(stage.entries)]
        found = [(entry, places) for entry, places in found if places]
        if len(stage.entries) > 1 and found:
            break
    entry, places = stage.rng.choice(found)
    names = {place: name for name, place in Scenario("x", topology=stage.topology).entries.items()}
    share = stage.rng.uniform(0.005, 0.012)
    rest = (1 - share) / (len(stage.mix) - 1)
    stage.mix = dict.fromkeys(stage.mix, rest) | {names[entry]: share}
    stage.name = f"{kind} {seed}"
    return stage, stage.rng.choice(places)


def _only_below(stage: Stage, entry: Place) -> set[Place]:
    others = stage.topology.below(stage.entries - {entry})
    return stage.topology.below({entry}) - others - {entry}


def metastable(seed: int) -> Scenario:
    """Return a failure that outlives its trigger: retries keep a service saturated."""
    return _metastable("metastable", seed, caller_workers=False)


def metastable_queues(seed: int) -> Scenario:
    """Return a failure that outlives its trigger, below callers with few workers themselves.

    Some of these shops only work off a long queue: then nothing but time has kept the trigger.
    """
    return _metastable("metastable queues", seed, caller_workers=True)


def _metastable(kind: str, seed: int, caller_workers: bool) -> Scenario:
    for attempt in range(MOST_DRAWS):
        stage = Stage(kind, 1000 * attempt + seed)
        scenario = _with_retries(stage, caller_workers)
        if scenario is not None and _stays(scenario, seed):
            return replace(scenario, name=f"{kind} {seed}")
    raise ValueError(f"{kind} {seed}: no shop stays broken")


def _with_retries(stage: Stage, caller_workers: bool) -> Scenario | None:
    rng = stage.rng
    leaves = {e.place for e in stage.topology.endpoints if not e.calls}
    callers = [e for e in stage.callers() if e.callees & leaves]
    caller = rng.choice(callers)
    callee = rng.choice(sorted(caller.callees & leaves))
    takes_s = _takes_s(stage.topology, callee)
    timeout_s, retries = rng.uniform(4, 12) * takes_s, rng.randint(2, 4)
    stages = tuple(
        tuple(
            replace(call, timeout_s=timeout_s, retries=retries) if call.place == callee else call
            for call in calls
        )
        for calls in caller.stages
    )
    endpoints = tuple(
        replace(e, calls=stages) if e.place == caller.place else e for e in stage.topology.endpoints
    )
    stage.topology = replace(stage.topology, endpoints=endpoints)
    calm = stage.scenario(())
    load = _load(stage.topology, calm, callee[0])
    workers_below = max(1, round(load / rng.uniform(0.55, 0.8)))
    if not 0.4 < load / workers_below < 0.85:
        return None
    workers = {callee[0]: workers_below}
    if caller_workers and caller.service != callee[0]:
        busy = _load(stage.topology, calm, caller.service)
        workers[caller.service] = max(2, round(busy * rng.uniform(2, 8)))
    trigger = Fault(
        "delay",
        *callee,
        start_s=START,
        end_s=START + TRIGGER_S,
        duration_ms=1e3 * timeout_s * rng.uniform(1.5, 4),
    )
    seconds = START + TRIGGER_S + 65
    window = START + TRIGGER_S + 15, seconds
    more: dict[str, Any] = {"workers": workers, "backoff_ms": rng.choice((0.0, 20.0, 100.0))}
    more |= {"window": window, "seconds": seconds}
    return replace(calm, causes=(callee,), faults=(trigger,), **more)


def _stays(scenario: Scenario, seed: int) -> bool:
    """Return whether a tenth of the requests in the last half of the window still suffer, and
    nothing does without the trigger.
    """
    try:
        effect = twin(scenario, seed, progress=False).effect
    except FieldError:  # the trigger met no request
        return False
    if effect["failed_without"].mean() > 0.005:
        return False
    return suffering(effect, scenario) > 0.1


def suffering(effect: pd.DataFrame, scenario: Scenario) -> float:
    """Return which share of the requests in the last half of the window fail or take 50 ms longer,
    by the effect of a twin.
    """
    since, until = scenario.interval()
    begin = effect["start"].iloc[0].floor("D")
    at = (effect["start"] - begin).dt.total_seconds()
    late = effect[(at > (since + until) / 2) & (at < until - 6)]
    worse = late["failed_with"] | (late["extra_ms"] > 50)
    return float(worse.mean())


def lost_at_the_fault(seed: int) -> Scenario:
    """Return a slow or failing endpoint of whose service half of the spans are lost."""
    stage = Stage("lost at the fault", seed)
    place = stage.rng.choice(stage.below)
    more_ms = stage.rng.uniform(60, 300)
    fault = stage.rng.choice(
        (
            Fault("delay", *place, **_when(duration_ms=more_ms)),
            Fault("error", *place, **_when(rate=stage.rng.uniform(0.2, 0.8))),
        )
    )
    return stage.scenario((place,), fault, lost_of={place[0]: stage.rng.uniform(0.3, 0.7)})


def plain(seed: int) -> Scenario:
    """Return a fault of full size."""
    stage = Stage("plain", seed)
    place = stage.rng.choice(stage.below)
    rng = stage.rng
    more_ms = rng.uniform(60, 300)
    faults = (
        Fault("delay", *place, **_when(duration_ms=more_ms)),
        Fault("error", *place, **_when(rate=rng.uniform(0.2, 1.0))),
        Fault("hang", *place, **_when()),
        VirtualFault("network", *place, **_when(duration_ms=more_ms, jitter_ms=more_ms / 5)),
        VirtualFault("shed", *place, **_when(rate=rng.uniform(0.2, 1.0))),
    )
    return stage.scenario((place,), rng.choice(faults))


def saturated(seed: int) -> Scenario:
    """Return a slow endpoint below a caller with few workers, which are all waiting for it."""
    stage = Stage("saturated", seed)
    caller = stage.rng.choice(stage.callers())
    callee = stage.rng.choice(sorted(caller.callees))
    calm = stage.scenario(())
    busy = _load(stage.topology, calm, caller.service)
    workers = max(2, round(2 * busy))
    visits = calm.rate * _visits(stage.topology, calm)[caller.place]
    more_ms = 1e3 * stage.rng.uniform(0.7, 1.0) * workers / visits
    fault = Fault("delay", *callee, **_when(duration_ms=min(more_ms, 1500.0)))
    if caller.service == callee[0]:
        return replace(calm, causes=(callee,), faults=(fault,))
    return replace(calm, causes=(callee,), faults=(fault,), workers={caller.service: workers})


# ---- no fault


def no_fault(seed: int) -> Scenario:
    """Return calm traffic, a surge, a quiet time, bad requests, lost spans or usual failures."""
    stage = Stage("no fault", seed)
    rng = stage.rng
    entry = rng.choice(sorted(stage.entries))
    bad = VirtualFault("reject", *entry, **_when(rate=0.4, status=400))
    often = [Fault("error", *place, rate=rng.uniform(0.002, 0.02)) for place in stage.below]
    hows: tuple[dict[str, Any], ...] = (
        {"window": (START, END)},
        {"window": (START, END), "profile": ((START, 3.0), (END, 1.0))},
        {"window": (START, END), "profile": ((START, 0.15),)},
        {"changes": (bad,)},
        {"window": (START, END), "lost": 0.2},
        {"window": (START, END), "changes": tuple(often)},
    )
    return stage.scenario((), **hows[seed % len(hows)])


# ---- how much there is to do


def _visits(topology: Topology, scenario: Scenario) -> dict[Place, float]:
    """Return how often one request of a customer reaches each endpoint, on average."""
    visits = dict.fromkeys((e.place for e in topology.endpoints), 0.0)
    total = sum(scenario.shares.values())
    for name, share in scenario.shares.items():
        visits[scenario.entries[name]] += share / total
    for endpoint in topology.callers_first():
        for place in endpoint.called:
            visits[place] += visits[endpoint.place]
    return visits


def _takes_s(topology: Topology, place: Place) -> float:
    """Return about how long a request of an endpoint takes, in seconds."""
    endpoint = topology.at(*place)
    below = (max(_takes_s(topology, c.place) + 0.003 for c in s) for s in endpoint.stages)
    return endpoint.median_ms / 1e3 + 0.001 + sum(below)


def _load(topology: Topology, scenario: Scenario, service: str) -> float:
    """Return how many workers of a service are busy on average."""
    visits = _visits(topology, scenario)
    return scenario.rate * sum(
        visits[e.place] * _takes_s(topology, e.place) for e in topology.of(service)
    )


KINDS: dict[str, Callable[[int], Scenario]] = {
    "plain": plain,
    "saturated caller": saturated,
    "lost at the fault": lost_at_the_fault,
    "repeated calls": repeated,
    "repeated calls at once": repeated_at_once,
    "repeated calls that queue": repeated_and_queued,
    "metastable": metastable,
    "metastable below queues": metastable_queues,
    "weak errors": weak_errors,
    "weak delay": weak_delay,
    "rare, slow": rare_slow,
    "rare, failing": rare_errors,
    "no fault": no_fault,
}
"""The kinds of faults, and what is none, by name: each makes a scenario of a seed."""
