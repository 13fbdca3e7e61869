"""Which paths of calls differ in no more than an id? Those that are many, and seldom each.

A segment that is an id by its letters is folded before (`aiops_lab.endpoints`). Names and slugs
look like words, and only their number tells them::

    /blog/how-to-bake   /blog/my-garden   ... 900 more, once each   ->   /blog/<id>
    /blog/feed          300 times                                   ->   /blog/feed
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

MANY_SIBLINGS = 100
"""Seldom called siblings beyond which they are ids. Raising it keeps more of them apart, each with
too few calls to say what is usual."""

SELDOM = 5
"""Calls below which a path is seldom called: from so few, nothing can be told."""

_ID = "<id>"

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
    paths = {tuple(path.split("/")): number for path, number in calls.items()}
    routes = dict(_below(paths))
    seldom = [path for path, number in paths.items() if number < SELDOM and routes[path] == path]
    routes |= _alike(seldom)
    found = {"/".join(path): "/".join(route) for path, route in routes.items()}
    return {path: route for path, route in found.items() if path != route}


_Route = tuple[tuple[str, ...], tuple[str, ...]]  # the segments of a path, and those of its route


def _below(paths: _Paths) -> Iterator[_Route]:
    """Yield the routes of paths by what follows their first segments; many siblings are one."""
    siblings: dict[str, dict[tuple[str, ...], int]] = defaultdict(dict)
    for path, number in paths.items():
        rest = path[1:]
        siblings[path[0]][rest] = number
    seldom = [name for name, below in siblings.items() if sum(below.values()) < SELDOM]
    are_ids = set(seldom) if len(seldom) > MANY_SIBLINGS else set()
    merged: dict[tuple[str, ...], int] = defaultdict(int)
    for name in are_ids:
        for rest, number in siblings[name].items():
            merged[rest] += number
    route_of_merged = dict(_deeper(merged))
    for name, below in siblings.items():
        known = route_of_merged if name in are_ids else dict(_deeper(below))
        shown = _ID if name in are_ids else name
        for rest in below:
            yield (name, *rest), (shown, *known[rest])


def _deeper(below: _Paths) -> Iterator[_Route]:
    longer = {rest: number for rest, number in below.items() if rest}
    if len(longer) < len(below):
        yield (), ()
    if longer:
        yield from _below(longer)


def _alike(seldom: list[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the routes of paths of which many begin alike and are as long, each in its own place:
    all that follows are ids.
    """
    groups: dict[tuple[int, str], list[tuple[str, ...]]] = defaultdict(list)
    for path in seldom:
        groups[len(path), "/".join(path[:2])].append(path)
    routes = {}
    for (size, _), members in groups.items():
        if len(members) > MANY_SIBLINGS:
            for path in members:
                routes[path] = (*path[:2], *[_ID] * (size - 2))
    return routes
