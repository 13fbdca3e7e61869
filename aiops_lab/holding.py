"""Who held the workers? What waits for a busy service is the doing of whatever keeps it busy.

    checkout, 2 workers    |==A== payment, slow ==|
                           |==B== payment, slow ==|
                              |...... C waits ....|==C== payment, slow ==|

C's wait lies in /checkout's own time, and no call of C's shows why. It is handed on to what A and B waited for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.accounts import accounts_of
from aiops_lab.traces import forest, parents, partition
from aiops_lab.windows import Key, kinds

HELD = 2.0  # a service is held up when its requests keep a worker twice as long as usual
QUEUES = 0.5  # correlation of a request's own time with how many came before it: in a queue it is near 1
FULL = 0.9  # share of the most requests at once that a service has in hand when it turns one away


class Held(NamedTuple):
    """By what a service is held up, and what that explains.

    ``share``: of each account, by account; sums to 1. ``queues``: its requests wait for each other, so that the excess
    of their own time is waiting. ``full``: it turned requests away because it was full.
    """

    share: dict[int, float]
    queues: bool
    full: bool


class _Stay(NamedTuple):
    """The requests of one service as if each were a root: when it came and went, own and travelling time, failures."""

    node: NDArray
    start: NDArray
    end: NDArray
    own: NDArray
    failed: NDArray
    others: pd.Series  # ns a request, by account


def held_up(
    service: str, usual: pd.DataFrame, usual_ns: int, now: pd.DataFrame, now_ns: int, keys: dict[Key, int],
    offsets: dict[tuple[str, str], int],
) -> Held | None:  # fmt: skip
    """Return by what a service is held up, None if it is not.

    Assumes that its requests share one pool of workers and are served first come first. A caller that gave up does not
    free the worker, so each request is followed to its own end.

    Parameters
    ----------
    service : str
    usual, now : DataFrame
        Spans frames without and with the trouble, as they stood at `usual_ns` and `now_ns` (Unix ns).
    keys, offsets : dict
        As for `aiops_lab.accounts.keep`.
    """
    calls = kinds(now, "client")
    if calls.any() and not (calls & (now["service"] == service).to_numpy()).any():
        return None  # who calls nobody waits for nobody
    before, after = (_stay(service, f, keys, offsets, ns) for f, ns in ((usual, usual_ns), (now, now_ns)))
    if before is None or after is None:
        return None
    more = after.others.sub(before.others, fill_value=0.0).clip(lower=0.0)
    usually = float((before.end - before.start).mean())
    if more.sum() < (HELD - 1) * usually or usually == 0:
        return None
    share = {int(account): float(part) for account, part in (more / more.sum()).items()}  # type: ignore[call-overload]
    return Held(share, _queues(after, now_ns), _is_full(after))


def _stay(
    service: str, frame: pd.DataFrame, keys: dict[Key, int], offsets: dict[tuple[str, str], int], until_ns: int
) -> _Stay | None:
    mine = kinds(frame, "server") & (frame["service"] == service).to_numpy()
    if not mine.any():
        return None
    gap = _gap(frame, mine)
    trees = forest(frame, keys, until_ns, offsets, mine)
    _, account = accounts_of(trees)
    span, ns = partition(trees)
    inside = mine[trees.root[span]]
    span, ns = span[inside], ns[inside]
    own = np.zeros(len(frame))
    at_home = trees.root[span] == span
    own[span[at_home]] = ns[at_home]
    others = pd.Series(ns[~at_home]).groupby(account[span[~at_home]]).sum() / mine.sum()
    start, end = trees.start[mine] - gap, trees.end[mine]
    failed = trees.failed[mine] & (trees.first[1:] == trees.first[:-1])[mine]
    return _Stay(trees.node[mine], start, end, own[mine] + gap, failed, others)


def _gap(frame: pd.DataFrame, mine: NDArray) -> NDArray:
    """Return by how many ns the calls that brought the requests were longer: some servers queue before their span."""
    ms, parent = frame["duration_ms"].to_numpy(), parents(frame)[mine]
    called = np.where(kinds(frame, "client")[parent] & (parent >= 0), ms[parent], np.nan)
    return np.nan_to_num(np.maximum(called - ms[mine], 0.0) * 1e6).astype(np.int64)


def _in_hand(at: NDArray, start: NDArray, end: NDArray) -> NDArray:
    """Return how many of the requests with these starts and ends were there at each of some moments."""
    return np.searchsorted(np.sort(start), at) - np.searchsorted(np.sort(end), at)


def _queues(stay: _Stay, now_ns: int) -> bool:
    """Return whether requests wait the longer the more of them are there already. Who still waits says nothing yet."""
    over = (stay.end < now_ns) & ~stay.failed
    return _correlation(stay.own[over], _in_hand(stay.start, stay.start, stay.end)[over]) >= QUEUES


def _is_full(stay: _Stay) -> bool:
    """Return whether some endpoint fails by itself only while it works on as many requests as it ever does."""
    for node in np.unique(stay.node[stay.failed]):
        at, work = (np.flatnonzero((stay.node == node) & which) for which in (stay.failed, ~stay.failed))
        in_hand = _in_hand(stay.start[np.append(at, work)], stay.start[work], stay.end[work])
        if in_hand[: at.size].mean() >= FULL * in_hand.max():
            return True
    return False


def _correlation(a: NDArray, b: NDArray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.size > 2 and np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0
