"""Which calls were made, but their spans were lost? What they cost is not their caller's own.

    web      |==|........|==|        the span of stock arrived
    stock       |========|

    web      |==============|        it was lost: the time of stock looks like web's own

A call counts as lost where its caller takes longer without it by about what the call takes where it
is recorded; a call that was not made takes no time. The callers below which all usual calls are
recorded show how long the others worked by themselves. The rest of their time, and in proportion
the failures that look as if they had begun there, belongs to the lost calls.

Only for calls that show in server spans alone: where client spans are recorded, too, those that
arrive suffice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.typing import DataFrameGroupBy

from aiops_lab.explain.config import RcaConfig
from aiops_lab.traces.trees import TraceTrees, calls_in, levels_of

LEAST_SHARE = 0.2
"""Share of the usual requests that make a call, from which it is missed where it is not recorded.
"""

ALWAYS = 0.95
"""Share of the requests that make a call, from which it is always made."""

FEW = 5
"""Fewer requests, or failing calls, show nothing."""


class UsualChildren(NamedTuple):
    """The calls that requests usually make, by code of ``caller`` and ``callee``: in which
    ``share`` of the requests, and whether the others have ``lost`` them.
    """

    caller: NDArray
    callee: NDArray
    share: NDArray
    lost: NDArray


class Requests(NamedTuple):
    """The requests of a frame, as this module needs them, an entry a span.

    ``endpoint``: code of the endpoint that a call reached; ``good``: server spans that ended well;
    ``own`` and ``whole``: ns that its request waited for the span, and for all below it too.
    """

    trees: TraceTrees
    endpoint: NDArray
    good: NDArray
    own: NDArray
    whole: NDArray


def requests_of(
    trees: TraceTrees, endpoint: NDArray, good: NDArray, path: tuple[NDArray, NDArray]
) -> Requests:
    """Return the requests of some trees, with their critical `path` (span, ns)."""
    span, ns = path
    own = np.zeros(trees.root.size)
    own[span] = ns
    rooted = trees.server & (trees.root >= 0)
    return Requests(trees, endpoint, good=good & rooted, own=own, whole=_with_all_below(own, trees))


def _with_all_below(own: NDArray, trees: TraceTrees) -> NDArray:
    whole = own.copy()
    for level in reversed(levels_of(trees)[1:]):
        np.add.at(whole, trees.parent[level], whole[level])
    return whole


def usual_children(requests: Requests, config: RcaConfig) -> UsualChildren:
    """Return which calls fault-free requests make, and which of them they have lost."""
    number = _number_of_good(requests)
    made = _made_by_call(requests)
    pairs = made.size().reset_index(name="k")
    pairs["share"] = pairs["k"] / number[pairs["caller"]]
    pairs = pairs[pairs["share"] >= LEAST_SHARE]
    usual = UsualChildren(
        caller=pairs["caller"].to_numpy(),
        callee=pairs["callee"].to_numpy(),
        share=pairs["share"].to_numpy(),
        lost=np.zeros(len(pairs), dtype=bool),
    )
    if pairs.empty:
        return usual
    missing = _missing(requests, requests.good, usual)
    looks_lost, _ = _look_lost(requests, usual, missing, made, config)
    return usual._replace(lost=looks_lost)


def _number_of_good(requests: Requests) -> NDArray:
    """Return how many good requests each endpoint has, by code; the last entry is 0, for endpoints
    that are not there.
    """
    node = requests.trees.node
    size = node.max(initial=-1) + 2
    return np.bincount(node[requests.good], minlength=size)


def _made(requests: Requests) -> pd.DataFrame:
    """Return the calls of good requests that show in server spans alone, one a callee: span,
    caller, callee, ns.
    """
    trees = requests.trees
    has_parent = trees.parent >= 0
    child = np.flatnonzero(has_parent & trees.server)
    by_good = requests.good[trees.parent[child]]
    child = child[by_good]
    above = trees.parent[child]
    columns = {
        "span": above,
        "caller": trees.node[above],
        "callee": requests.endpoint[child],
        "ns": requests.whole[child],
    }
    calls = pd.DataFrame(columns)
    by_callee = calls.groupby(["span", "caller", "callee"])
    return by_callee["ns"].sum().reset_index()


def _made_by_call(requests: Requests) -> DataFrameGroupBy:
    """Return the calls as `_made` does, grouped by caller and callee."""
    return _made(requests).groupby(["caller", "callee"])


def _missing(requests: Requests, which: NDArray, usual: UsualChildren | LostCalls) -> pd.DataFrame:
    """Return the usual calls that are not recorded below the requests of a mask: span, caller,
    callee, row (of `usual`).
    """
    trees = requests.trees
    endpoint = requests.endpoint
    span = np.flatnonzero(which)
    calls = {
        "caller": usual.caller,
        "callee": usual.callee,
        "row": np.arange(usual.caller.size),
    }
    callers = {"span": span, "caller": trees.node[span]}
    due = pd.DataFrame(callers).merge(pd.DataFrame(calls))
    child = calls_in(trees)
    largest = max(endpoint.max(initial=0), usual.callee.max(initial=0))
    size = int(largest) + 1
    caller = trees.parent[child]
    seen = caller * size + endpoint[child]
    wanted = due["span"] * size + due["callee"]
    return due[~np.isin(wanted, seen)]


def _complete(requests: Requests, missing: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return the mean own time of the good requests that lack no call, by caller; only where there
    are enough of them.
    """
    whole = requests.good.copy()
    whole[missing["span"]] = False
    own = pd.Series(requests.own[whole])
    caller = requests.trees.node[whole]
    by_caller = own.groupby(caller)
    enough = by_caller.size() >= config.min_requests
    return by_caller.mean()[enough]


def _look_lost(
    requests: Requests,
    usual: UsualChildren,
    missing: pd.DataFrame,
    made: DataFrameGroupBy,
    config: RcaConfig,
) -> tuple[NDArray, NDArray]:
    """Return which usual calls look lost where they are `missing`: their callers take longer by
    about as much as the call. And how long (ns) those calls take that are recorded: `made`.
    """
    complete = _complete(requests, missing, config)
    lacks_several = missing["span"].duplicated(keep=False)
    alone = missing[~lacks_several]
    own = alone["caller"].map(complete)
    longer_each = requests.own[alone["span"]] - own
    by_row = longer_each.groupby(alone["row"])
    enough = by_row.count() >= config.min_requests
    mean_longer = by_row.mean()[enough]
    rows = np.arange(usual.caller.size)
    longer = mean_longer.reindex(rows).to_numpy()
    takes = _by_call(made["ns"].mean(), usual)
    is_alike = _are_alike(longer, takes, config)
    return (takes > 0) & is_alike, takes


def _are_alike(one: NDArray, other: NDArray, config: RcaConfig) -> NDArray:
    """Return which pairs of values are about equal: the less at least `similar_ratio` of the more;
    NaN is like nothing.
    """
    less = np.minimum(one, other)
    more = np.maximum(one, other)
    return less >= config.similar_ratio * more


class LostCalls(NamedTuple):
    """The calls that are lost where they are not recorded, by code of ``caller`` and ``callee``;
    ``ns``: how long those take that are recorded.
    """

    caller: NDArray
    callee: NDArray
    ns: NDArray


class LostCosts(NamedTuple):
    """What belongs to lost calls: of which ``row`` of the costs, to which ``call`` (a row of the
    `UsualChildren`), and how much.
    """

    row: NDArray
    call: NDArray
    cost: NDArray


class FailedCalls(NamedTuple):
    """Failed calls below failed requests: their ``span``, and which ``call`` (a row of the
    `UsualChildren`) each is.
    """

    span: NDArray
    call: NDArray


class Spread(NamedTuple):
    """Which ``share`` of the cost of a ``call`` belongs to an ``account``: sums to 1 a call."""

    call: NDArray
    account: NDArray
    share: NDArray


def lost_time(
    requests: Requests, usual: UsualChildren, config: RcaConfig
) -> tuple[LostCosts, NDArray]:
    """Return the time (ns) of good requests that belongs to lost calls, and which spans (a mask)
    lack a call that was lost.

    Rows are positions in the critical path. Several lost calls of one request share its time in
    proportion to how long such calls take.
    """
    lacks = np.zeros(requests.good.size, dtype=bool)
    missing = _missing(requests, requests.good, usual)
    if missing.empty:
        nothing = np.zeros(0, dtype=np.int64)
        return LostCosts(nothing, nothing, nothing), lacks
    made = _made_by_call(requests)
    looks_lost, ns = _look_lost(requests, usual, missing, made, config)
    call = np.flatnonzero(usual.lost | looks_lost)
    lost = LostCalls(caller=usual.caller[call], callee=usual.callee[call], ns=ns[call])
    missing = _missing(requests, requests.good, lost)
    lacks[missing["span"]] = True
    complete = _complete(requests, missing, config)
    row, lost_row, cost = _time_of_lost(requests, lost, missing, complete)
    return LostCosts(row, call[lost_row], cost), lacks


def _time_of_lost(
    requests: Requests, lost: LostCalls, missing: pd.DataFrame, complete: pd.Series
) -> tuple[NDArray, pd.Series, NDArray]:
    """Return the position in the critical path, the row of `lost`, and the time (ns) of each lost
    call. `complete` is the mean own time of requests that lack none, by caller.
    """
    own = missing["caller"].map(complete)
    takes_time = requests.own[missing["span"]] != 0
    on_path = own.notna() & takes_time
    missing = missing[on_path]
    span = missing["span"].to_numpy()
    lost_row = missing["row"]
    usual_own = own[on_path].to_numpy()
    more = requests.own[span] - usual_own
    weight = np.maximum(lost.ns[lost_row], 1.0)
    by_span = missing.assign(ns=weight).groupby("span")
    weight_of_all = by_span["ns"].transform("sum")
    part = weight / weight_of_all.to_numpy()
    path = np.flatnonzero(requests.own)
    row = np.searchsorted(path, span)
    return row, lost_row, part * more


def spread_of_time(requests: Requests, usual: UsualChildren, account: NDArray) -> Spread:
    """Return to which accounts (of each span: `account`) the time of recorded calls belongs."""
    parent = requests.trees.parent
    span = np.flatnonzero(requests.own)
    call_of = _usual_calls_of(requests, usual)
    calls, accounts, costs = [], [], []
    above = span
    while above.size:
        call = call_of[above]
        within = call >= 0
        mine = span[within]
        calls.append(call[within])
        accounts.append(account[mine])
        costs.append(requests.own[mine])
        has_parent = parent[above] >= 0
        span = span[has_parent]
        above = parent[above[has_parent]]
    if not calls:
        calls = accounts = costs = [np.zeros(0, dtype=np.int64)]
    return cost_spread(np.concatenate(calls), np.concatenate(accounts), np.concatenate(costs))


def cost_spread(call: NDArray, account: NDArray, cost: NDArray) -> Spread:
    """Return the shares of the accounts in the costs of each call."""
    columns = {"call": call, "account": account, "cost": cost}
    by_account = pd.DataFrame(columns).groupby(["call", "account"], as_index=False)
    sums = by_account["cost"].sum()
    whole_cost = sums.groupby("call")["cost"].transform("sum")
    share = sums["cost"] / whole_cost
    return Spread(
        call=sums["call"].to_numpy(), account=sums["account"].to_numpy(), share=share.to_numpy()
    )


def _usual_calls_of(requests: Requests, usual: UsualChildren) -> NDArray:
    """Return which of the usual calls of good requests each span is (a row), -1 for none."""
    trees = requests.trees
    made = calls_in(trees)
    by_good = requests.good[trees.parent[made]]
    made = made[by_good]
    call = np.full(trees.root.size, -1)
    call[made] = _row_of(requests, usual, made)
    return call


def _row_of(requests: Requests, usual: UsualChildren, child: NDArray) -> NDArray:
    """Return the row in `usual` of each of some calls, -1 for none."""
    trees = requests.trees
    caller = trees.node[trees.parent[child]]
    callee = requests.endpoint[child]
    places = pd.MultiIndex.from_arrays([caller, callee])
    index = _index(usual)
    rows = pd.Series(np.arange(len(index)), index=index)
    return rows.reindex(places, fill_value=-1).to_numpy()


def failing_calls(requests: Requests, usual: UsualChildren, bad: NDArray) -> FailedCalls:
    """Return the usual calls that failed below failed requests; `bad` is a mask of the spans that
    failed.
    """
    trees = requests.trees
    failed_requests = trees.server & bad
    child = calls_in(trees)
    child = child[bad[child]]
    above = trees.parent[child]
    child = child[failed_requests[above]]
    call = _row_of(requests, usual, child)
    is_usual = call >= 0
    return FailedCalls(child[is_usual], call[is_usual])


def lost_failures(
    requests: Requests,
    usual: UsualChildren,
    failing: FailedCalls,
    origin: NDArray,
    config: RcaConfig,
) -> LostCosts:
    """Return what belongs to lost calls of the failures that seem to begin at server spans.

    Rows are positions in `origin`, the span where each failure seems to begin; `failing` holds the
    failed calls that are recorded, as `failing_calls` returns them. As many of the lost calls
    failed as of those; how many are lost is known from the requests that ended well. A request that
    took much less or more time than those with a failed call did not make it.
    """
    trees = requests.trees
    answered = trees.status[origin] != 0
    by_itself = trees.server[origin] & answered
    which = np.zeros(trees.root.size, dtype=bool)
    which[origin[by_itself]] = True
    missing = _missing(requests, which, usual)
    span = missing["span"].to_numpy()
    call = missing["row"].to_numpy()
    lost_share = _lost_share(requests, usual, failing, (span, call), config)
    part = lost_share[call]
    of_request = np.bincount(span, part)[span]
    part = part / np.maximum(of_request, 1.0)
    row_of = np.zeros(which.size, dtype=np.int64)
    row_of[origin] = np.arange(origin.size)
    kept = part > 0
    return LostCosts(row=row_of[span[kept]], call=call[kept], cost=part[kept])


def _lost_share(
    requests: Requests,
    usual: UsualChildren,
    failing: tuple[NDArray, NDArray],
    missing: tuple[NDArray, NDArray],
    config: RcaConfig,
) -> NDArray:
    """Return for each usual call in which share of the failed requests that lack it, it was lost.

    `failing` and `missing` hold spans, and which usual call each is, or lacks.
    """
    trees = requests.trees
    child, failed_call = failing
    span, call = missing
    failed, took = _number_and_mean(trees, trees.parent[child], failed_call, usual)
    due, takes = _number_and_mean(trees, span, call, usual)
    counts = _are_alike(took, takes, config) & (failed >= FEW)
    known = np.where(counts, failed, 0)
    lost = known * _lost_for_one(requests, usual)
    share = lost / np.maximum(due, 1)
    return np.minimum(share, 1.0)


def _number_and_mean(
    trees: TraceTrees, span: NDArray, call: NDArray, usual: UsualChildren
) -> tuple[NDArray, NDArray]:
    """Return of each usual call how many of the spans belong to it, and their mean ns."""
    size = usual.caller.size
    duration = trees.end[span] - trees.start[span]
    n = np.bincount(call, minlength=size)
    ns = np.bincount(call, duration, minlength=size)
    return n, ns / np.maximum(n, 1)


def _lost_for_one(requests: Requests, usual: UsualChildren) -> NDArray:
    """Return for each usual call how many are not recorded for one that is.

    Where too few requests end well, as usual; of a call that is always made, any number then.
    """
    n = _number_of_good(requests)
    caller = np.minimum(usual.caller, n.size - 1)
    good = n[caller]
    made = _made_by_call(requests)
    recorded = _by_call(made.size(), usual)
    now = (good - recorded) / np.maximum(recorded, 1)
    usually = 1 / usual.share - 1
    is_optional = usual.share < ALWAYS
    before = np.where(is_optional, usually, requests.good.size)
    return np.where(good < FEW, before, now)


def _by_call(values: pd.Series, usual: UsualChildren) -> NDArray:
    """Return the value of each usual call, 0 where there is none."""
    of_usual = values.reindex(_index(usual), fill_value=0)
    return of_usual.to_numpy(dtype=float)


def _index(usual: UsualChildren) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([usual.caller, usual.callee])
