"""The shop as data: its endpoints, their durations and their calls.

The live shop (`shop.live.services`) and the virtual one read the same topology.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter

from aiops_lab.checks import FieldError, check_number

SHOP_METHODS = ("GET", "POST")

DAY_MS = 86_400_000.0


@dataclass(frozen=True)
class Call:
    """A call of another endpoint.

    Parameters
    ----------
    service, endpoint : str
        The called endpoint.
    timeout_s : float
        Seconds until the caller gives up; default 5, a hundred times the shop's usual 50 ms.
    retries : int
        Number of further attempts after a failed call, made at once; default none.
    """

    service: str
    endpoint: str
    timeout_s: float = 5.0
    retries: int = 0

    def __post_init__(self) -> None:
        check_number("timeout_s", self.timeout_s, 0.001, 3600)
        if not isinstance(self.retries, int) or not 0 <= self.retries <= 100:
            rule = "must be a whole number between 0 and 100"
            raise FieldError("retries", rule, self.retries)

    @property
    def place(self) -> tuple[str, str]:
        """(service, route), which identifies the called endpoint."""
        return self.service, self.endpoint


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of the shop.

    Parameters
    ----------
    service, route, method : str
        Its name and HTTP method, default GET; a route may exist in several services.
    median_ms, sigma : float
        Its own work takes a lognormal time with this median, default 10 ms, and this standard
        deviation of the logarithm; default 0.25, so that three requests in a thousand take more
        than twice the median.
    calls : tuple of Call, or of tuples of Call
        Made after its own work, in sequence; the calls of an inner tuple are made in parallel.
    capacity : int
        Most requests in progress, default 128; it answers further ones with 503 at once.
    """

    service: str
    route: str
    method: str = "GET"
    median_ms: float = 10.0
    sigma: float = 0.25
    calls: tuple[Call | tuple[Call, ...], ...] = ()
    capacity: int = 128

    def __post_init__(self) -> None:
        self._check_names()
        for k, step in enumerate(self.calls):
            if not isinstance(step, Call) and not step:
                raise FieldError(f"calls[{k}]", "must hold a call", step)
        check_number("median_ms", self.median_ms, 0, DAY_MS)
        check_number("sigma", self.sigma, 0, 5)
        if not isinstance(self.capacity, int) or not 1 <= self.capacity <= 4096:
            rule = "must be a whole number between 1 and 4096"
            raise FieldError("capacity", rule, self.capacity)

    def _check_names(self) -> None:
        if not isinstance(self.route, str) or not self.route.startswith("/"):
            raise FieldError("route", "must start with /", self.route)
        if not isinstance(self.service, str) or not self.service:
            raise FieldError("service", "must be text", self.service)
        if self.method not in SHOP_METHODS:
            rule = f"must be one of {', '.join(SHOP_METHODS)}"
            raise FieldError("method", rule, self.method)

    @property
    def place(self) -> tuple[str, str]:
        """(service, route), which identifies the endpoint."""
        return self.service, self.route

    @property
    def stages(self) -> tuple[tuple[Call, ...], ...]:
        """The calls as stages: one stage after the other, the calls of a stage in parallel."""
        stages = []
        for step in self.calls:
            stages.append((step,) if isinstance(step, Call) else tuple(step))
        return tuple(stages)

    @property
    def called(self) -> list[tuple[str, str]]:
        """The places of its calls, in order."""
        return [call.place for stage in self.stages for call in stage]

    @property
    def callees(self) -> set[tuple[str, str]]:
        """The places that it calls."""
        return set(self.called)

    def service_time_s(self, rng: random.Random) -> float:
        """Return a draw of the duration of its own work, in seconds."""
        if self.median_ms == 0:
            return 0.0
        mu = math.log(self.median_ms / 1e3)
        return rng.lognormvariate(mu, self.sigma)


@dataclass(frozen=True)
class Topology:
    """The endpoints of a shop; `front` is the service that serves customers, /aiops and /simulate.

    Raises
    ------
    ValueError
        An endpoint is given twice, a call is to an unknown endpoint, the calls form a cycle, or
        `front` has no endpoint.
    """

    endpoints: tuple[Endpoint, ...]
    front: str = "checkout"

    def __post_init__(self) -> None:
        places = [endpoint.place for endpoint in self.endpoints]
        for n, place in enumerate(places):
            if place in places[:n]:
                shown = " ".join(place)
                raise FieldError(f"endpoints[{n}]", "must be given once", shown)
        for where, call in self._calls():
            if call.place not in places:
                called = " ".join(call.place)
                raise FieldError(where, "must be to a known endpoint", called)
        if self.front not in self.services:
            rule = f"must be one of {', '.join(self.services)}"
            raise FieldError("front", rule, self.front)
        self.callers_first()

    def _calls(self) -> Iterator[tuple[str, Call]]:
        """Yield each call with its position, such as ``endpoints[2].calls[0]``."""
        for n, endpoint in enumerate(self.endpoints):
            for k, step in enumerate(endpoint.calls):
                where = f"endpoints[{n}].calls[{k}]"
                if isinstance(step, Call):
                    yield where, step
                    continue
                for i, call in enumerate(step):
                    yield f"{where}[{i}]", call

    @property
    def services(self) -> tuple[str, ...]:
        """Names of the services, in the order in which they first appear."""
        names = [endpoint.service for endpoint in self.endpoints]
        return tuple(dict.fromkeys(names))

    def at(self, service: str, route: str) -> Endpoint:
        """Return an endpoint; KeyError if there is none."""
        for endpoint in self.endpoints:
            if endpoint.place == (service, route):
                return endpoint
        raise KeyError((service, route))

    def of(self, service: str) -> tuple[Endpoint, ...]:
        """Return the endpoints of a service."""
        return tuple(endpoint for endpoint in self.endpoints if endpoint.service == service)

    def callers_first(self) -> tuple[Endpoint, ...]:
        """Return the endpoints in an order in which every caller comes before its callees."""
        # lists, not sets, so that each process names the same cycle
        callees = {endpoint.place: endpoint.called for endpoint in self.endpoints}
        sorter = TopologicalSorter(callees)
        try:
            callees_first = tuple(sorter.static_order())
        except CycleError as error:
            _, backwards = error.args
            cycle = backwards[::-1]
            names = [" ".join(place) for place in cycle]
            first = list(callees).index(cycle[0])
            field = f"endpoints[{first}].calls"
            rule = "must not form a cycle"
            raise FieldError(field, rule, " -> ".join(names)) from None
        return tuple(self.at(*place) for place in reversed(callees_first))

    def below(self, places: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return these endpoints and their callees, direct and indirect."""
        found = set(places)
        for endpoint in self.callers_first():
            if endpoint.place in found:
                found |= endpoint.callees
        return found

    def above(self, places: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return these endpoints and their callers, direct and indirect."""
        found = set(places)
        for endpoint in reversed(self.callers_first()):
            if endpoint.callees & found:
                found.add(endpoint.place)
        return found

    def as_one(self, service: str = "shop") -> Topology:
        """Return the same shop as a single service, which calls itself."""

        def moved(stage: tuple[Call, ...]) -> tuple[Call, ...]:
            return tuple(replace(call, service=service) for call in stage)

        endpoints = []
        for endpoint in self.endpoints:
            stages = map(moved, endpoint.stages)
            endpoints.append(replace(endpoint, service=service, calls=tuple(stages)))
        return Topology(tuple(endpoints), front=service)


SEED_SHOP = Topology(
    (
        Endpoint("health", "/health", median_ms=2),
        Endpoint("inventory", "/inventory", median_ms=20),
        Endpoint("payment", "/payment", "POST", median_ms=45),
        Endpoint(
            "checkout",
            "/checkout",
            "POST",
            median_ms=5,
            calls=(Call("payment", "/payment"), Call("inventory", "/inventory")),
        ),
    )
)

"""The shop of the lessons: /checkout calls /payment, then /inventory."""
