"""What is the endpoint of each span called? Its route, with the method where the route has others.

A call shows the path that was called, the service that served it its route: a path becomes the
route that it fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiops_lab.endpoints import fold, join_method, split_method
from aiops_lab.spans import Key

APART = ("HEAD", "OPTIONS")  # methods that are always named: they do not do what the route does

MAX_ROUTE, MAX_AMBIGUOUS = 1_000, 2  # characters, and parameters with several ways to match


class Recorded(NamedTuple):
    """What a span was recorded as, in words; the service of a client span is the called one."""

    kind: str
    service: str
    endpoint: str
    method: str


def first_methods(
    places: list[Recorded], first: NDArray, before: Mapping[Key, str], keys: Sequence[Key]
) -> dict[Key, str]:
    """Return the method whose requests are named by the route alone, of each (service, route).

    That is the one that was seen first, as served or, where nothing is known of the service, as
    called: so a name stays when a second method appears, which becomes "POST /users".

    Parameters
    ----------
    places : list of Recorded
        The distinct places of the spans.
    first : array
        The first span at each place.
    before : dict
        What is known already.
    keys : sequence of (service, endpoint)
        The endpoints that are known already.
    """
    found = dict(before)
    order = np.argsort(first, kind="stable")
    in_order = [places[at] for at in order]
    served = [place for place in in_order if place.kind != "client"]
    called = [place for place in in_order if place.kind == "client"]
    route = _route_of(places, keys)
    for place in (*served, *called):
        if place.method and place.method not in APART:
            key = place.service, route(place)
            found.setdefault(key, place.method)
    return found


def endpoints_of(
    places: list[Recorded], keys: Sequence[Key], methods: Mapping[Key, str]
) -> list[Key]:
    """Return the endpoint of each place: its route, with the method where the route has others.

    The path of a call becomes the route that the called service is known for: a client sees
    ``/orders/17`` where the service has ``/orders/<id>``. A path that is known itself stays; ids in
    a path that no route explains are folded, as in `aiops_lab.endpoints`.
    """
    route_of = _route_of(places, keys)
    silent = set()
    for place in places:
        if place.kind != "client" and not place.method:
            silent.add((place.service, place.endpoint))

    def key(place: Recorded) -> Key:
        service, method = place.service, place.method
        route = route_of(place)
        bare = service, route
        is_bare = method in ("", methods.get(bare, ""))
        if place.kind == "client" and bare in silent:  # its service tells no methods
            is_bare = True
        return bare if is_bare else (service, join_method(method, route))

    return [key(place) for place in places]


def _route_of(places: list[Recorded], keys: Sequence[Key]) -> Callable[[Recorded], str]:
    """Return the function that gives the route of a place, of a call that of the called service."""
    served = [place for place in places if place.kind != "client"]
    known = set(keys)
    for service, endpoint in keys:
        _, without_method = split_method(endpoint)
        known.add((service, without_method))
    for place in served:
        known.add((place.service, place.endpoint))
    routes = [key for key in sorted(known) if _has_parameters(key[1])]
    patterns = {key: _pattern(key[1]) for key in routes}

    def route(place: Recorded) -> str:
        service, path = place.service, place.endpoint
        if place.kind != "client" or (service, path) in known:
            return path
        if len(path) <= MAX_ROUTE:
            for key in routes:
                if key[0] == service and patterns[key].fullmatch(path):
                    return key[1]
        return fold(path) if path.startswith("/") else path  # a statement or a queue is no path

    return route


# Of Flask and Django <name>, of FastAPI, Spring and others {name}, of Express and Rails :name.
_PARAMETER = re.compile(r"<(?P<path>path:)?[^>]*>|\{[^}]*?(?P<rest>:path)?\}|(?<![^/]):\w+")


def _has_parameters(route: str) -> bool:
    """Return whether a name is a route with parameters, of which paths can be recognised.

    Each further parameter of a segment, and each ``path``, multiplies the ways to match a path by
    its length: a name with many of them is no route that a framework would serve.
    """
    is_route = "<" in route or route.startswith("/")
    if len(route) > MAX_ROUTE or not is_route:
        return False
    segments = route.split("/")
    in_segment = [len(_PARAMETER.findall(segment)) for segment in segments]
    further = sum(max(number - 1, 0) for number in in_segment)
    paths = route.count("<path:") + route.count(":path}")
    ambiguous = further + paths
    return any(in_segment) and ambiguous <= MAX_AMBIGUOUS


def _pattern(route: str) -> re.Pattern[str]:
    """Return what a route matches.

    A parameter is anything without a slash, a ``path`` parameter anything.
    """
    pattern = ""
    at = 0
    for found in _PARAMETER.finditer(route):
        before = route[at : found.start()]
        is_path = found["path"] or found["rest"]
        pattern += re.escape(before)
        pattern += ".+" if is_path else "[^/]+"
        at = found.end()
    return re.compile(pattern + re.escape(route[at:]))
