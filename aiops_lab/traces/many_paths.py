"""Which paths differ in no more than an id? Those that are many, and seldom each.

A segment that is an id by its letters is folded before (`aiops_lab.endpoints`). Names and slugs
look like words, and only their number tells them::

    /blog/how-to-bake   /blog/my-garden   ... 900 more, once each   ->   /blog/<...>
    /blog/feed          300 times                                   ->   /blog/feed

What was served is looked at in the same way where nobody told its route: then ids are folded, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from aiops_lab.endpoints import fold

MANY_SIBLINGS = 100
"""Seldom called siblings beyond which they are ids. Raising it keeps more of them apart, each with
too few calls to say what is usual."""

SELDOM = 5
"""Calls below which a path is seldom called: from so few, nothing can be told."""

MOST_CALLS_EACH = 2
"""Calls of a path below seldom called siblings, on average, from which on these are no ids."""

BY_NUMBER = "<...>"
"""The segment that stands for many. No framework writes a parameter like this."""

_Paths = Mapping[tuple[str, ...], int]
"""How often each path was called, by its segments."""


def folded_by_number(calls: Mapping[str, int]) -> dict[str, str]:
    """Return the route of each path of one service that is among too many, seldom called ones.

    Parameters
    ----------
    calls
        How often each path was called.
    """
    if len(calls) <= MANY_SIBLINGS:
        return {}
    shape_of = {path: _shape(path) if number < SELDOM else path for path, number in calls.items()}
    counted: Counter[str] = Counter()
    for path, number in calls.items():
        counted[shape_of[path]] += number
    route_of = _folded_shapes(counted)
    routes = {path: route_of[shape] for path, shape in shape_of.items()}
    return {path: route for path, route in routes.items() if path != route}


def _shape(path: str) -> str:
    """Return a path without its ids, `BY_NUMBER` in their place; one that was folded as it is."""
    return path if "<" in path else fold(path).replace("<id>", BY_NUMBER)


def _folded_shapes(calls: Mapping[str, int]) -> dict[str, str]:
    paths = {tuple(path.split("/")): number for path, number in calls.items()}
    routes = dict(_below(paths))
    left = {path: number for path, number in paths.items() if routes[path] == path}
    routes |= _alike(left)
    return {"/".join(path): "/".join(route) for path, route in routes.items()}


_Route = tuple[tuple[str, ...], tuple[str, ...]]  # the segments of a path, and those of its route


def _below(paths: _Paths) -> Iterator[_Route]:
    """Yield the routes of paths by what follows their first segments; many siblings are one."""
    siblings: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)
    for path, number in paths.items():
        rest = path[1:]
        siblings[path[0]][rest] = number
    are_ids = set(_ids_among(siblings))
    merged: dict[tuple[str, ...], int] = defaultdict(int)
    for name in are_ids:
        for rest, number in siblings[name].items():
            merged[rest] += number
    route_of_merged = dict(_deeper(merged))
    for name, below in siblings.items():
        known = route_of_merged if name in are_ids else dict(_deeper(below))
        shown = BY_NUMBER if name in are_ids else name
        for rest in below:
            yield (name, *rest), (shown, *known[rest])


def _ids_among(siblings: Mapping[str, _Paths]) -> list[str]:
    """Return the names that are ids: many, seldom called, and nearly each call is of another path.

    A few calls to each of many endpoints, as a short recording of a large service has them, leave
    these apart.
    """
    calls = {name: sum(below.values()) for name, below in siblings.items()}
    seldom = [name for name, number in calls.items() if number < SELDOM]
    paths = sum(len(siblings[name]) for name in seldom)
    repeats = sum(calls[name] for name in seldom) >= MOST_CALLS_EACH * paths
    return [] if repeats or len(seldom) <= MANY_SIBLINGS else seldom


def _deeper(below: _Paths) -> Iterator[_Route]:
    longer = {rest: number for rest, number in below.items() if rest}
    if len(longer) < len(below):
        yield (), ()
    if longer:
        yield from _below(longer)


def _alike(paths: _Paths) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the routes of paths of which many begin alike and are as long, each in its own place:
    all that follows are ids.
    """
    groups: dict[tuple[int, str], dict[str, _Paths]] = defaultdict(dict)
    for path, number in paths.items():
        begin, rest = "/".join(path[:2]), "/".join(path[2:])
        groups[len(path), begin][rest] = {path: number}
    routes = {}
    for (size, begin), rests in groups.items():
        for rest in _ids_among(rests):
            path = tuple(f"{begin}/{rest}".split("/"))
            routes[path] = (*path[:2], *[BY_NUMBER] * (size - 2))
    return routes
