"""What keeps the workers of a service busy? What waits for a busy service is slow because of that.

    checkout, 2 workers    |==A== payment, slow ==|
                           |==B== payment, slow ==|
                              |...... C waits ....|==C== payment, slow ==|

C's wait lies in /checkout's own time, and no call of C's shows why. It is reassigned to what A and
B waited for.

First come, first served: with n workers, a request is served as soon as fewer than n of the earlier
requests are unfinished. So for a given n, the starts and ends tell how long each request waited. A
request cannot make a call while it waits, so its wait is shorter than the time before its first
call. n is the smallest number for which this holds.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import AttributedTraces, waits_for
from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import compiled
from aiops_lab.traces.encode import NEVER, EncodedSpans, subtrees_of
from aiops_lab.traces.trees import TraceTrees, build_trees


class Contention(NamedTuple):
    """What keeps the workers of a service busy, and what that explains; all accounts by code.

    ``share``: the part of each account in it; sums to 1. ``waiting``: the own accounts of the
    endpoints whose requests are slow because they wait, and for nothing else. ``full``: those of
    endpoints that turn requests away because they have no room.
    """

    share: pd.Series
    waiting: NDArray
    full: NDArray


class ServiceRequests(NamedTuple):
    """The requests of one service as if each were a root.

    ``each``: a row a request, in the order in which they came: account (its endpoint's own), start,
    end, own (own time, and what the call took longer than the request), room (time before the first
    call), all in ns, and failed (by itself). ``away``: mean ns of a request by account outside of
    the service.
    """

    each: pd.DataFrame
    away: pd.Series


def find_contention(
    before: ServiceRequests | None, after: ServiceRequests | None, config: RcaConfig
) -> Contention | None:
    """Return what keeps a service busy, None if nothing unusual does.

    Assumes that its requests share one pool of workers and are served first come, first served. A
    caller that gave up does not free the worker, so each request is followed to its own end.
    """
    if before is None or after is None:
        return None
    usual = before.each
    now = after.each
    wait = _wait(now, config)
    now = now.assign(wait=wait, work=now["own"] - wait)
    usual_own = usual.groupby("account")["own"].mean()
    waiting = _only_waits(now, usual_own, config)
    work = (
        now.groupby("account")["work"].agg(["sum", "size"]).reindex(usual_own.index, fill_value=0)
    )
    at_work = (work["sum"] - usual_own * work["size"]).clip(lower=0.0) / len(now)
    away = after.away.sub(before.away, fill_value=0.0).clip(lower=0.0)
    more = pd.concat([away, at_work[~waiting]])  # its own work holds workers, too
    usual_hold = (usual["end"] - usual["start"]).mean()
    if usual_hold == 0 or more.sum() <= (config.contention_ratio - 1) * usual_hold:
        return None
    endpoints = now["account"].unique()
    full = [account for account in endpoints if _is_full(now, account, config)]
    share = more[more > 0] / more.sum()
    return Contention(share, usual_own.index[waiting].to_numpy(), np.array(full, dtype=np.int64))


def _only_waits(now: pd.DataFrame, usual_own: pd.Series, config: RcaConfig) -> pd.Series:
    """Return of which endpoints the requests work, beside their wait, about as long as usual."""
    means = now[~now["failed"]].groupby("account")[["wait", "work"]].mean()
    means = means.reindex(usual_own.index, fill_value=0.0)
    forgiven = config.wait_only_ratio * usual_own + config.wait_only_margin * means["wait"]
    return (means["wait"] > 0) & (means["work"] <= forgiven)


def _is_full(now: pd.DataFrame, account: int, config: RcaConfig) -> bool:
    """Return whether an endpoint fails by itself only while it works on about as many requests as
    it ever does.
    """
    mine = now[now["account"] == account]
    failed = mine[mine["failed"]]
    work = mine[~mine["failed"]]
    if failed.empty or len(work) < config.min_requests:
        return False
    most = _in_hand(work["start"], work).max()
    then = _in_hand(failed["start"], work)
    most = max(most, then.max())
    return bool(most > 1 and then.mean() >= config.full_ratio * most)


def _in_hand(at: pd.Series, requests: pd.DataFrame) -> NDArray:
    """Return how many of the requests were there at each of some moments."""
    came = np.searchsorted(np.sort(requests["start"]), at)
    gone = np.searchsorted(np.sort(requests["end"]), at)
    return came - gone


# ---- the requests of a service


def service_requests(service: str, traces: AttributedTraces) -> ServiceRequests | None:
    """Return the requests of a service, None if it has none."""
    spans = traces.spans
    codes = [code for code, name in enumerate(spans.services) if name == service]
    served = spans.server & np.isin(spans.service, codes)
    if not served.any():
        return None
    gap = _gap(spans, served)
    spans, row = subtrees_of(spans, served, traces.trees.parent)
    served = served[row]
    account = traces.costs.span_account[row]
    trees = build_trees(spans, traces.until_ns, traces.timing, served)
    span, ns = waits_for(trees, traces.costs.extra[row])
    at_home = trees.root[span] == span
    own = np.zeros(served.size)
    own[span[at_home]] = ns[at_home]
    start = trees.start[served] - gap
    columns = {
        "account": account[served],
        "start": start,
        "end": trees.end[served],
        "own": own[served] + gap,
        "room": _first_call(trees)[served] - start,
        "failed": (trees.failed & (np.diff(trees.first) == 0))[served],
    }
    each = pd.DataFrame(columns)
    abroad = pd.DataFrame({"account": account[span], "ns": ns})[~at_home]
    away = abroad.groupby("account")["ns"].sum() / len(each)
    # a call of itself waits in the same queue
    endpoint = traces.costs.accounts.endpoint
    outside = ~np.isin(endpoint[away.index], endpoint[each["account"]])
    return ServiceRequests(each.sort_values("start", kind="stable"), away[outside])


def _first_call(trees: TraceTrees) -> NDArray:
    """Return when the first call of each span begins, its own end if it makes none."""
    first = trees.end.copy()
    child = np.flatnonzero((trees.parent >= 0) & ~trees.log)
    np.minimum.at(first, trees.parent[child], trees.start[child])
    return first


def _gap(spans: EncodedSpans, served: NDArray) -> NDArray:
    """Return by how many ns the calls that brought the requests were longer: some servers queue
    before their span.
    """
    duration = spans.end - spans.start
    closed = spans.end != NEVER
    parent = spans.ids.parent[served]
    longer = duration[parent] - duration[served]
    comparable = (parent >= 0) & spans.client[parent] & closed[parent] & closed[served]
    return np.where(comparable, np.maximum(longer, 0), 0)


# ---- the wait for a worker


def _wait(requests: pd.DataFrame, config: RcaConfig) -> NDArray:
    """Return how long each request waited (ns), with the least number of workers that the times
    allow.
    """
    start, end, room, failed = (
        requests[column].to_numpy() for column in ("start", "end", "room", "failed")
    )
    low = 1
    high = int(_in_hand(requests["start"], requests).max(initial=0)) + 1
    while low < high:
        workers = (low + high) // 2
        # who is turned away does not wait
        misfits = (_queue(start, end, workers) > room) & ~failed
        if misfits.mean() <= config.max_misfits:
            high = workers
        else:
            low = workers + 1
    return np.minimum(_queue(start, end, low), room)


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
