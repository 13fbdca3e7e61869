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
from aiops_lab.explain.pauses import with_pauses
from aiops_lab.numerics import compiled
from aiops_lab.traces.encode import NEVER, EncodedSpans, subtrees_of
from aiops_lab.traces.trees import TraceTrees, build_trees, calls_in

EXTRA = "extra_of"
REPEATED = "repeated_of"
CALLER = "asked_by"
NEEDED = -1  # instead of an account: the request is usually made


class Contention(NamedTuple):
    """What keeps the workers of a service busy, and what that explains; all accounts by code.

    ``share``: the part of each account in it; sums to 1. ``waiting``: the own accounts of the
    endpoints whose requests are slow because they wait, and for nothing else. ``full``: those of
    endpoints that turn requests away because they have no room. ``given_up``: the waiting ones that
    answer well, if late: their failures are those of callers that gave up.
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
    now = after.each
    wait = _wait(now, config)
    now = now.assign(wait=wait, work=now["own"] - wait)
    usual_own = usual.groupby("account")["own"].mean()
    waits = _only_waits(now, usual_own, config)
    more_away = after.away.sub(before.away, fill_value=0.0)
    more_away = more_away.clip(lower=0.0)
    more_work = _more_work(now, usual_own)[~waits]  # own work holds workers, too
    held = pd.concat([more_away, more_work])
    usual_hold = _held_ns(usual).mean()
    least = _least_growth(usual_hold, wait, config)
    needless = _more_needless(usual, now, EXTRA)
    if held.sum() + needless.sum() <= least:  # who waits asks again: rarely is that the cause
        repeated = _more_needless(usual, now, REPEATED)
        again = _by_attempts(repeated, now)
        needless = _sum_by_account([needless, again])
    more = _sum_by_account([held, needless])
    if usual_hold == 0 or more.sum() <= least:
        return None
    waiting = usual_own.index[waits].to_numpy()
    failed = now[now["failed"]]
    by_itself = failed["account"]
    return Contention(
        share=more[more > 0] / more.sum(),
        waiting=waiting,
        full=_full(now, config),
        given_up=np.setdiff1d(waiting, by_itself),
    )


def _held_ns(requests: pd.DataFrame) -> pd.Series:
    """Return for how many ns each request keeps a worker."""
    return requests["end"] - requests["start"]


def _least_growth(usual_hold: float, wait: NDArray, config: RcaConfig) -> float:
    """Return from which growth (ns) of the time that a request keeps a worker a service is
    contended: close to the limit of what it carries, a little more makes a long queue. Long is a
    wait of half the time (by `contention_ratio` 1.5) that a request usually keeps a worker.
    """
    long_wait = (config.contention_ratio - 1) * usual_hold
    if wait.mean() > long_wait:
        return config.degraded_ratio * usual_hold
    return (config.contention_ratio - 1) * usual_hold


def _more_work(now: pd.DataFrame, usual_own: pd.Series) -> pd.Series:
    """Return by how many ns the requests of each endpoint work longer than usual, per request of
    the service.
    """
    by_account = now.groupby("account")["work"]
    work = by_account.agg(["sum", "size"])
    work = work.reindex(usual_own.index, fill_value=0)
    usually = usual_own * work["size"]
    more = (work["sum"] - usually).clip(lower=0.0)
    return more / len(now)


def _sum_by_account(times: list[pd.Series]) -> pd.Series:
    """Return the sums of some times by account."""
    by_account = pd.concat(times).groupby(level=0)
    return by_account.sum()


def _more_needless(usual: pd.DataFrame, now: pd.DataFrame, why: str) -> pd.Series:
    """Return for how many ns more than usual the requests that are usually not made, for one
    reason, keep workers busy: per request of the others, by the account because of which they are
    made.
    """
    if (usual[why] == NEEDED).all() and (now[why] == NEEDED).all():
        return _nothing()
    by_account = _held_ns(usual).groupby(usual["account"])
    ns = by_account.mean()
    before = _needless(usual, ns, why)
    after = _needless(now, ns, why)
    return after.sub(before, fill_value=0.0).clip(lower=0.0)


def _by_attempts(needless: pd.Series, now: pd.DataFrame) -> pd.Series:
    """Return the times that repeated calls keep workers busy, shared anew so that each also counts
    by how often a caller repeats it: who asks once more at most doubles the work, who asks again
    and again would keep it up alone.
    """
    repeated = now[now[REPEATED] != NEEDED]
    callers = repeated.groupby(REPEATED)[CALLER]
    times_each = callers.size() / callers.nunique()
    weight = times_each.reindex(needless.index, fill_value=1.0)
    weighted = needless * weight
    whole = weighted.sum()
    if whole <= 0:
        return needless
    return weighted * (needless.sum() / whole)


def _needless(requests: pd.DataFrame, usual_ns: pd.Series, why: str) -> pd.Series:
    """Return the same of some requests; ``usual_ns``: how long one of each account takes."""
    is_extra = requests[EXTRA] != NEEDED
    is_repeated = requests[REPEATED] != NEEDED
    chosen = requests[why] != NEEDED
    if not chosen.any():
        return _nothing()
    needed = len(requests) - (is_extra | is_repeated).sum()
    needless = requests[chosen]
    ns = needless["account"].map(usual_ns)
    by_reason = ns.groupby(needless[why])
    return by_reason.sum() / max(needed, 1)


def _nothing() -> pd.Series:
    """Return the times of no account."""
    return pd.Series(index=pd.Index([], dtype=np.int64), dtype=float)


def _only_waits(now: pd.DataFrame, usual_own: pd.Series, config: RcaConfig) -> pd.Series:
    """Return of which endpoints the requests work, beside their wait, about as long as usual, and
    whose wait is more than half of what they take longer.
    """
    answered = now[~now["failed"]]
    by_account = answered.groupby("account")
    means = by_account[["wait", "work"]].mean()
    means = means.reindex(usual_own.index, fill_value=0.0)
    wait = means["wait"]
    work = means["work"]
    longer = config.wait_only_ratio * usual_own
    forgiven = longer + config.wait_only_margin * wait
    works_as_usual = work <= forgiven
    mostly_waits = work - usual_own < wait
    return (wait > 0) & mostly_waits & works_as_usual


def beside_waits(
    before: ServiceRequests, after: ServiceRequests, config: RcaConfig
) -> pd.DataFrame:
    """Return which part of what the requests of each endpoint take longer is no wait, and its
    standard error: share and se_of_share, by the endpoint's own account.

    Nothing is forgiven here: beside a wait of half a minute a second of work is twice 5 %.
    """
    now = after.each
    wait = _wait(now, config)
    work = now["own"] - wait
    answered = now.assign(work=work)[~now["failed"]]
    usual = before.each.groupby("account")["own"]
    by_account = answered.groupby("account")
    worked = by_account["work"]
    longer = by_account["own"].mean() - usual.mean()
    more_work = worked.mean() - usual.mean()
    se = np.hypot(worked.sem(), usual.sem())
    part = pd.DataFrame({"share": more_work / longer, "se_of_share": se / longer})
    return part[longer > 0].clip(lower=0.0)


def _full(now: pd.DataFrame, config: RcaConfig) -> NDArray:
    """Return the own accounts of the endpoints that turn requests away as they have no room."""
    endpoints = now["account"].unique()
    full = [account for account in endpoints if _is_full(now, account, config)]
    return np.array(full, dtype=np.int64)


def _is_full(now: pd.DataFrame, account: int, config: RcaConfig) -> bool:
    """Return whether an endpoint fails by itself only while it works on about as many requests as
    it ever does.
    """
    mine = now[now["account"] == account]
    failed = mine[mine["failed"]]
    work = mine[~mine["failed"]]
    if failed.empty or len(work) < config.min_requests:
        return False
    at_start = _in_hand(work["start"], work)
    then = _in_hand(failed["start"], work)
    most = max(at_start.max(), then.max())
    is_crowded = then.mean() >= config.full_ratio * most
    return bool(most > 1 and is_crowded)


def _in_hand(at: pd.Series, requests: pd.DataFrame) -> NDArray:
    """Return how many of the requests were there at each of some moments."""
    starts = np.sort(requests["start"])
    ends = np.sort(requests["end"])
    came = np.searchsorted(starts, at)
    gone = np.searchsorted(ends, at)
    return came - gone


# ---- the requests of a service


def service_requests(service: str, traces: AttributedTraces) -> ServiceRequests | None:
    """Return the requests of a service, None if it has none."""
    every = traces.spans
    codes = [code for code, name in enumerate(every.services) if name == service]
    is_of_service = np.isin(every.service, codes)
    served = every.server & is_of_service
    if not served.any():
        return None
    gap = _gap(every, served)
    spans, row = subtrees_of(every, served, traces.trees.parent)
    costs = traces.costs
    account = costs.span_account[row]
    served = served[row]
    trees = build_trees(spans, traces.until_ns, traces.timing, served)
    span, ns = waits_for(with_pauses(trees, costs.repeats[row]), costs.extra[row])
    at_home = trees.root[span] == span
    own = np.zeros(served.size)
    own[span[at_home]] = ns[at_home]
    start = trees.start[served] - gap
    makes_no_call = np.diff(trees.first) == 0
    failed_by_itself = trees.failed & makes_no_call
    extra_of, repeated_of = _needless_by(traces)
    at = row[served]  # of the requests, among all spans
    columns = {
        "account": costs.span_account[at],
        "start": start,
        "end": trees.end[served],
        "own": own[served] + gap,
        "room": _first_call(trees)[served] - start,
        "failed": failed_by_itself[served],
        EXTRA: extra_of[at],
        REPEATED: repeated_of[at],
        CALLER: _requests_above(traces.trees)[at],
    }
    each = pd.DataFrame(columns)
    waited = pd.DataFrame({"account": account[span], "ns": ns})
    abroad = waited[~at_home].groupby("account")
    away = abroad["ns"].sum() / len(each)
    # a call of itself waits in the same queue
    endpoint = costs.accounts.endpoint
    own_endpoints = endpoint[each["account"]]
    is_own = np.isin(endpoint[away.index], own_endpoints)
    # of many calls made at once only the server tells which came first
    has_extra = (each[EXTRA] != NEEDED).any()
    came = trees.start[served] if has_extra else start
    order = np.argsort(came, kind="stable")
    return ServiceRequests(each.iloc[order], away[~is_own])


def _needless_by(traces: AttributedTraces) -> tuple[NDArray, NDArray]:
    """Return of each server span the account because of which it is usually not made: its caller's
    own if it is a call beyond the usual number, its own if it repeats a call that failed.
    """
    costs = traces.costs
    trees = traces.trees
    account = costs.span_account
    call = _calls_of(trees)
    callers_own = account[trees.parent[call]]
    is_extra = costs.extra[call]
    is_repeat = costs.repeats[call]
    extra_of = np.where(is_extra, callers_own, NEEDED)
    repeated_of = np.where(is_repeat, account, NEEDED)
    return extra_of, repeated_of


def _calls_of(trees: TraceTrees) -> NDArray:
    """Return the span that stands for the call of each span: its client span, else itself."""
    parent = trees.parent
    is_served = trees.server[parent]
    by_call = (parent >= 0) & ~is_served
    itself = np.arange(parent.size)
    return np.where(by_call, parent, itself)


def _requests_above(trees: TraceTrees) -> NDArray:
    """Return the position of the request that called each span, -1 for none."""
    return trees.parent[_calls_of(trees)]


def _first_call(trees: TraceTrees) -> NDArray:
    """Return when the first call of each span begins, its own end if it makes none."""
    first = trees.end.copy()
    child = calls_in(trees)
    caller = trees.parent[child]
    np.minimum.at(first, caller, trees.start[child])
    return first


def _gap(spans: EncodedSpans, served: NDArray) -> NDArray:
    """Return by how many ns the calls that brought the requests were longer: some servers queue
    before their span.
    """
    duration = spans.end - spans.start
    closed = spans.end != NEVER
    answered_call = spans.client & closed
    parent = spans.ids.parent[served]
    longer = duration[parent] - duration[served]
    by_call = (parent >= 0) & answered_call[parent]
    comparable = by_call & closed[served]
    gap = np.maximum(longer, 0)
    return np.where(comparable, gap, 0)


# ---- the wait for a worker


def _wait(requests: pd.DataFrame, config: RcaConfig) -> NDArray:
    """Return how long each request waited (ns), with the least number of workers that the times
    allow.
    """
    start = requests["start"].to_numpy()
    end = requests["end"].to_numpy()
    room = requests["room"].to_numpy()
    failed = requests["failed"].to_numpy()
    low = 1
    in_hand = _in_hand(requests["start"], requests)
    high = int(in_hand.max(initial=0)) + 1
    found = None  # the wait with `high` workers
    while low < high:
        workers = (low + high) // 2
        wait = _queue(start, end, workers)
        misfits = (wait > room) & ~failed  # who is turned away does not wait
        if misfits.mean() <= config.max_misfits:
            high = workers
            found = wait
        else:
            low = workers + 1
    if found is None:
        found = _queue(start, end, high)
    return np.minimum(found, room)


@compiled
def _queue(start: NDArray, end: NDArray, workers: int) -> NDArray:
    """Return how long each request waits for one of so many workers: until the n-th last of the
    earlier ends.
    """
    wait = np.zeros(start.size)
    first = min(start.size, 1)
    ends = [end[0] for _ in range(first)]  # a heap of the last ends
    for i in range(1, start.size):
        if len(ends) < workers:
            heapq.heappush(ends, end[i])
        else:
            wait[i] = max(ends[0] - start[i], 0)
            heapq.heappushpop(ends, end[i])
    return wait
