"""Who held the workers? What waits for a busy service is the doing of whatever keeps it busy.

    checkout, 2 workers    |==A== payment, slow ==|
                           |==B== payment, slow ==|
                              |...... C waits ....|==C== payment, slow ==|

C's wait lies in /checkout's own time, and no call of C's shows why. It is handed on to what A and B
waited for.

First come, first served: with n workers a request begins when fewer than n of those that came
before it are there. So the waits follow from starts and ends alone, once n is known; and n is the
least number whose waits fit into the time before the requests' first calls.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import accounts_of, attributed_to
from aiops_lab.numerics import compiled
from aiops_lab.traces.encode import NEVER, EncodedSpans, subtrees_of
from aiops_lab.traces.trees import build_trees, critical_path

# a service is held up when its requests keep a worker half as long again as usual
CONTENTION_RATIO = 1.5

# share of the requests that may contradict a number of workers: other servers are not quite so fair
MISFITS = 0.02

PLAIN = 2.0  # who only waits takes, beside the wait, at most so many times its usual time

# who turns requests away has worked on some, and on nearly the most it ever has at once
FEW, FULL = 5, 0.9


class Contention(NamedTuple):
    """By what a service is held up, and what that explains.

    ``share``: of each account, by account; sums to 1. ``waiting``: codes of its endpoints whose
    requests are slow because they wait, and for nothing else. ``full``: endpoints that turn
    requests away because they have no room.
    """

    share: dict[int, float]
    waiting: set[int]
    full: set[int]


class ServiceRequests(NamedTuple):
    """The requests of one service as if each were a root: times in ns, in the order in which they
    came.
    """

    node: NDArray
    start: NDArray
    end: NDArray
    own: NDArray  # own time, and what the call took longer than the request
    room: NDArray  # time before the first call
    failed: NDArray  # by itself
    others: pd.Series  # ns a request, by account outside of the service


def find_contention(
    before: ServiceRequests | None, after: ServiceRequests | None
) -> Contention | None:
    """Return by what a service is held up, None if it is not, from its requests without and with
    the trouble.

    Assumes that its requests share one pool of workers and are served first come, first served. A
    caller that gave up does not free the worker, so each request is followed to its own end.
    """
    if before is None or after is None:
        return None
    wait = _wait(after)
    times = np.bincount(before.node)
    own = np.bincount(before.node, before.own)
    usually = {int(n): own[n] / times[n] for n in np.flatnonzero(times)}
    plain = {n for n in usually if _only_waits(n, usually[n], after, wait)}
    more = after.others.sub(before.others, fill_value=0.0).clip(lower=0.0)
    for node in set(usually) - plain:  # its own work holds workers, too
        mine = after.node == node
        work = (after.own - wait)[mine]
        more[node] = max(float(work.sum()) - usually[node] * mine.sum(), 0.0) / mine.size
    hold = float((before.end - before.start).mean())
    if more.sum() <= (CONTENTION_RATIO - 1) * hold or hold == 0:
        return None
    share = {int(account): float(part) for account, part in (more / more.sum()).items() if part > 0}  # type: ignore[call-overload]
    return Contention(share, plain, {int(n) for n in np.unique(after.node) if _is_full(after, n)})


def service_requests(
    service: str, spans: EncodedSpans, until_ns: int, offsets: dict[tuple[str, str], int]
) -> ServiceRequests | None:
    """Return the requests of a service as they stood at `until_ns` (Unix ns), None if it has none."""
    if service not in spans.services:
        return None
    mine = spans.server & (spans.service == spans.services.index(service))
    if not mine.any():
        return None
    gap = _gap(spans, mine)
    spans, row = subtrees_of(spans, mine)
    mine = mine[row]
    trees = build_trees(spans, until_ns, offsets, mine)
    _, account = accounts_of(trees)
    span, ns = critical_path(trees)
    own = np.zeros(mine.size)
    at_home = trees.root[span] == span
    own[span[at_home]] = ns[at_home]
    homes = set(np.unique(trees.node[mine]).tolist())
    away = pd.Series(ns[~at_home]).groupby(account[span[~at_home]]).sum() / mine.sum()
    # a call of itself waits in the same queue
    others = away[[attributed_to(a) not in homes for a in away.index]]
    first_call = trees.end.copy()
    called = np.flatnonzero((trees.parent >= 0) & ~trees.log)
    np.minimum.at(first_call, trees.parent[called], trees.start[called])
    by_itself = trees.failed & (trees.first[1:] == trees.first[:-1])
    row = np.flatnonzero(mine)
    start = trees.start[row] - gap
    order = np.lexsort((row, start))
    row, gap, start = row[order], gap[order], start[order]
    room = first_call[row] - start
    return ServiceRequests(
        trees.node[row], start, trees.end[row], own[row] + gap, room, by_itself[row], others
    )


def _gap(spans: EncodedSpans, mine: NDArray) -> NDArray:
    """Return by how many ns the calls that brought the requests were longer: some servers queue
    before their span.
    """
    parent, closed = spans.parent[mine], spans.end != NEVER
    longer = (spans.end - spans.start)[parent] - (spans.end - spans.start)[mine]
    known = (parent >= 0) & spans.client[parent] & closed[parent] & closed[mine]
    known &= ~spans.repeated[mine]
    return np.where(known, np.maximum(longer, 0), 0)


def _wait(stay: ServiceRequests) -> NDArray:
    """Return how long each request waited (ns), with the least number of workers that the times
    allow.
    """
    low, high = 1, max(int(_in_hand(stay.start, stay.start, stay.end).max(initial=0)) + 1, 1)
    while low < high:
        n = (low + high) // 2
        misfit = (_waits(stay, n) > stay.room) & ~stay.failed  # who is turned away does not wait
        low, high = (low, n) if misfit.mean() <= MISFITS else (n + 1, high)
    return np.minimum(_waits(stay, low), stay.room)


def _waits(stay: ServiceRequests, workers: int) -> NDArray:
    return _queue(stay.start, stay.end, workers)


@compiled
def _queue(start: NDArray, end: NDArray, workers: int) -> NDArray:
    """Return how long each request waits for one of so many workers: until the n-th last of the
    earlier ends.
    """
    wait = np.zeros(start.size)
    ends = [end[0] for _ in range(min(start.size, 1))]  # a heap of the last ends
    for i in range(1, start.size):
        if len(ends) < workers:
            heapq.heappush(ends, end[i])
        else:
            wait[i] = max(ends[0] - start[i], 0)
            heapq.heappushpop(ends, end[i])
    return wait


def _only_waits(node: int, usually: float, stay: ServiceRequests, wait: NDArray) -> bool:
    """Return whether requests of an endpoint take, beside their wait, about as long of themselves
    as usual.
    """
    mine = (stay.node == node) & ~stay.failed
    if not mine.any() or wait[mine].mean() == 0:
        return False
    work = np.mean(stay.own[mine] - wait[mine])
    return bool(work <= PLAIN * usually + 0.05 * wait[mine].mean())


def _in_hand(at: NDArray, start: NDArray, end: NDArray) -> NDArray:
    """Return how many of the requests with these starts and ends were there at each of some
    moments.
    """
    return np.searchsorted(np.sort(start), at) - np.searchsorted(np.sort(end), at)


def _is_full(stay: ServiceRequests, node: int) -> bool:
    """Return whether an endpoint fails by itself only while it works on as many requests as it ever
    does.
    """
    at, work = (
        np.flatnonzero((stay.node == node) & which) for which in (stay.failed, ~stay.failed)
    )
    if at.size == 0 or work.size < FEW:
        return False
    in_hand = _in_hand(stay.start[np.append(at, work)], stay.start[work], stay.end[work])
    return bool(in_hand.max() > 1 and in_hand[: at.size].mean() >= FULL * in_hand.max())
