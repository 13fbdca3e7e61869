"""With which usual requests can each request be compared? Those that came in at the same endpoint.

Where the spans of an entry are lost, what it called is what came in; and it was called before, too,
from inside of the usual traces. Where an entry is new, what it calls may be known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.reference import Reference
from aiops_lab.traces.encode import EncodedSpans
from aiops_lab.traces.recorded import timing_as_recorded
from aiops_lab.traces.trees import TraceTrees, are_roots


def with_same_timing(reference: Reference, spans: EncodedSpans) -> Reference:
    """Return what is usual of traces that are taken apart as the spans of an incident must be."""
    usual = reference.timing
    timing = timing_as_recorded(usual, reference.recorded_calls, spans)
    return reference if timing == usual else reference.with_timing(timing)


class Entries(NamedTuple):
    """How requests can be compared. ``tops``: spans that are entries instead of what is above them
    (a mask). ``passed``: the calls above them, which are no requests (a mask). ``inner``: for each
    entry that is to be learned from inside of the usual traces, the mask of its spans there.
    """

    tops: NDArray
    passed: NDArray
    inner: list[NDArray]


def find_entries(reference: Reference, trees: TraceTrees) -> Entries:
    """Return how the requests of an incident can be compared with the usual ones.

    A request that came in where none usually does is compared with the usual ones that came from
    inside; if there are none, the topmost spans below it are that are known. An entry with fewer
    than `min_requests` usual requests is also learned from inside. Of fewer than so many requests
    now, none is: at the edges of a recording a few traces lack their beginning.
    """
    config = reference.config
    usual = reference.trees
    last_node = max(trees.node.max(initial=-1), usual.node.max(initial=-1))
    enters, seen = _usual_numbers(usual, int(last_node + 1), config)
    place = _places(trees)
    is_entry = enters[place]
    is_known = is_entry | seen[place]
    usable = is_known & (is_entry | ~_serves(trees))
    roots = are_roots(trees)
    tops, passed = _instead_of(roots & ~usable, usable, trees)
    starts = (roots | tops) & usable
    entries, n = np.unique(place[starts & ~trees.log], return_counts=True)
    enough = n >= config.min_requests
    entries = entries[enough]
    is_new = ~enters[entries]
    usual_place = _places(usual)
    inner = []
    node = _node_of(entries)
    # Calls of an endpoint and what served them are one entry, also where both came in.
    for learned in np.unique(node[is_new]):
        places = entries[node == learned]
        inner.append(np.isin(usual_place, places))
    return Entries(tops, passed, inner)


def _instead_of(useless: NDArray, usable: NDArray, trees: TraceTrees) -> tuple[NDArray, NDArray]:
    """Return the topmost `usable` spans below some useless ones, and the calls above them, which
    are no requests (masks).
    """
    tops = np.zeros(useless.size, dtype=bool)
    useless = useless & ~trees.log
    passed = useless & ~trees.server
    has_parent = trees.parent >= 0
    while useless.any():
        below = has_parent & useless[trees.parent]
        below &= ~trees.log
        tops |= below & usable
        useless = below & ~usable
        passed |= useless & ~trees.server
    return tops, passed


def _places(trees: TraceTrees) -> NDArray:
    """Return a code of the endpoint of each span and of whether it serves it; -1 for log lines."""
    place = 2 * trees.node + trees.server
    return np.where(trees.log, -1, place)


def _node_of(place: NDArray) -> NDArray:
    """Return the code of the endpoint of each place."""
    return place // 2


def _serves(trees: TraceTrees) -> NDArray:
    """Return which spans have the span of who served them below."""
    serves = np.zeros(trees.root.size, dtype=bool)
    has_parent = trees.parent >= 0
    served = trees.server & has_parent
    serves[trees.parent[served]] = True
    return serves & ~trees.server


def _usual_numbers(trees: TraceTrees, size: int, config: RcaConfig) -> tuple[NDArray, NDArray]:
    """Return which places are entries of enough usual requests, and which are seen at all."""
    place = _places(trees)
    rooted = (place >= 0) & (trees.root >= 0)
    roots = rooted & are_roots(trees)
    every = np.bincount(place[rooted], minlength=2 * size)
    came_in = np.bincount(place[roots], minlength=2 * size)
    enough = np.minimum(config.min_requests, every)
    is_entry = (came_in >= enough) & (came_in > 0)
    return is_entry, every > 0
