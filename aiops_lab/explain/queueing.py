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

EXTRA = "extra_of"
REPEATED = "repeated_of"
CALLER = "asked_by"
NEEDED = -1  # instead of an account: the request is usually made


class Contention(NamedTuple):
    """What keeps the workers of a service busy, and what that explains; all accounts by code.

    ``share``: the part of each account in it; sums to 1. ``waiting``: the own accounts of the
    endpoints whose requests are slow because they wait, and for nothing else. ``full``: those of
    endpoints that turn requests away because they have no room. ``given_up``: where needless
    requests keep the workers busy, the waiting ones that answer well, if late: their failures are
    those of callers that gave up.
    """

    share: pd.Series
    waiting: NDArray
    full: NDArray
    given_up: NDArray


class ServiceRequests(NamedTuple):
    """The requests of one service as if each were a root.

    ``each``: a row a request, in the order in which they came: account (its endpoint's own), start,
    end, own (own time, and what the call took longer than the request), room (time before the first
    call), all in ns, failed (by itself), and of a request that is usually not made the account that
    is the reason, else `NEEDED`: extra_of (its caller's own) or repeated_of (its own), and asked_by
    (the position of the request that called it). ``away``: mean ns of a request by account outside
    of the service.
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
    wait = _wait(after.each, config)
    now = after.each.assign(wait=wait, work=after.each["own"] - wait)
    usual_own = usual.groupby("account")["own"].mean()
    waits = _only_waits(now, usual_own, config)
    away = after.away.sub(before.away, fill_value=0.0).clip(lower=0.0)
    held = pd.concat([away, _more_work(now, usual_own)[~waits]])  # its own work holds workers, too
    usual_hold = (usual["end"] - usual["start"]).mean()
    least = _least_growth(usual_hold, wait, config)
    needless = _more_needless(usual, now, EXTRA)
    if held.sum() + needless.sum() <= least:  # who waits asks again: rarely is that the cause
        again = _by_attempts(_more_needless(usual, now, REPEATED), now)
        needless = _sum_by_account([needless, again])
    more = _sum_by_account([held, needless])
    if usual_hold == 0 or more.sum() <= least:
        return None
    endpoints = now["account"].unique()
    full = [account for account in endpoints if _is_full(now, account, config)]
    waiting = usual_own.index[waits].to_numpy()
    needed = needless.sum() <= held.sum()
    by_itself = waiting if needed else now["account"][now["failed"]]
    return Contention(
        share=more[more > 0] / more.sum(),
        waiting=waiting,
        full=np.array(full, dtype=np.int64),
        given_up=np.setdiff1d(waiting, by_itself),
    )


def _least_growth(usual_hold: float, wait: NDArray, config: RcaConfig) -> float:
    """Return from which growth (ns) of the time that a request keeps a worker a service is
    contended: close to the limit of what it carries, a little more makes a long queue.
    """
    queues = wait.mean() > config.contention_ratio * usual_hold
    return (config.degraded_ratio if queues else config.contention_ratio - 1) * usual_hold


def _more_work(now: pd.DataFrame, usual_own: pd.Series) -> pd.Series:
    """Return by how many ns the requests of each endpoint work longer than usual, per request of
    the service.
    """
    by_account = now.groupby("account")["work"].agg(["sum", "size"])
    work = by_account.reindex(usual_own.index, fill_value=0)
    return (work["sum"] - usual_own * work["size"]).clip(lower=0.0) / len(now)


def _sum_by_account(times: list[pd.Series]) -> pd.Series:
    """Return the sums of some times by account."""
    return pd.concat(times).groupby(level=0).sum()


def _more_needless(usual: pd.DataFrame, now: pd.DataFrame, why: str) -> pd.Series:
    """Return for how many ns more than usual the requests that are usually not made, for one
    reason, keep workers busy: per request of the others, by the account because of which they are
    made.
    """
    ns = (usual["end"] - usual["start"]).groupby(usual["account"]).mean()
    before = _needless(usual, ns, why)
    return _needless(now, ns, why).sub(before, fill_value=0.0).clip(lower=0.0)


def _by_attempts(needless: pd.Series, now: pd.DataFrame) -> pd.Series:
    """Return the times that repeated calls keep workers busy, shared anew so that each also counts
    by how often a caller repeats it: who asks once more at most doubles the work, who asks again
    and again would keep it up alone.
    """
    repeated = now[now[REPEATED] != NEEDED].groupby(REPEATED)[CALLER]
    weighted = needless * (repeated.size() / repeated.nunique()).reindex(
        needless.index, fill_value=1.0
    )
    return weighted * (needless.sum() / weighted.sum()) if weighted.sum() > 0 else needless


def _needless(requests: pd.DataFrame, usual_ns: pd.Series, why: str) -> pd.Series:
    """Return the same of some requests; ``usual_ns``: how long one of each account takes."""
    needed = requests[[EXTRA, REPEATED]].eq(NEEDED).all(axis=1).sum()
    needless = requests[requests[why] != NEEDED]
    ns = needless["account"].map(usual_ns).groupby(needless[why]).sum()
    return ns / max(needed, 1)


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
    extra_of, repeated_of = _needless_by(traces)
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
        EXTRA: extra_of[row][served],
        REPEATED: repeated_of[row][served],
        CALLER: _requests_above(traces.trees)[row][served],
    }
    each = pd.DataFrame(columns)
    abroad = pd.DataFrame({"account": account[span], "ns": ns})[~at_home]
    away = abroad.groupby("account")["ns"].sum() / len(each)
    # a call of itself waits in the same queue
    endpoint = traces.costs.accounts.endpoint
    outside = ~np.isin(endpoint[away.index], endpoint[each["account"]])
    # of many calls made at once only the server tells which came first
    by = trees.start[served] if (each[EXTRA] != NEEDED).any() else start
    return ServiceRequests(each.iloc[np.argsort(by, kind="stable")], away[outside])


def _needless_by(traces: AttributedTraces) -> tuple[NDArray, NDArray]:
    """Return of each server span the account because of which it is usually not made: its caller's
    own if it is a call beyond the usual number, its own if it repeats a call that failed.
    """
    costs = traces.costs
    trees = traces.trees
    account = costs.span_account
    call = _calls_of(trees)
    extra_of = np.where(costs.extra[call], account[trees.parent[call]], NEEDED)
    repeated_of = np.where(costs.repeats[call], account, NEEDED)
    return extra_of, repeated_of


def _calls_of(trees: TraceTrees) -> NDArray:
    """Return the span that stands for the call of each span: its client span, else itself."""
    by_call = (trees.parent >= 0) & ~trees.server[trees.parent]
    return np.where(by_call, trees.parent, np.arange(trees.parent.size))


def _requests_above(trees: TraceTrees) -> NDArray:
    """Return the position of the request that called each span, -1 for none."""
    return trees.parent[_calls_of(trees)]


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
