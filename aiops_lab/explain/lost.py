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

from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import compiled
from aiops_lab.traces.trees import TraceTrees

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
    own = np.zeros(trees.root.size)
    own[path[0]] = path[1]
    rooted = trees.server & (trees.root >= 0)
    return Requests(trees, endpoint, good & rooted, own, _with_all_below(own, trees))


@compiled
def _with_all_below(own: NDArray, trees: TraceTrees) -> NDArray:
    whole = own.copy()
    for k in range(trees.order.size):
        i = trees.order[trees.order.size - 1 - k]
        if trees.parent[i] >= 0:
            whole[trees.parent[i]] += whole[i]
    return whole


def usual_children(requests: Requests, config: RcaConfig) -> UsualChildren:
    """Return which calls fault-free requests make, and which of them they have lost."""
    made = _made(requests)
    node = requests.trees.node
    number = np.bincount(node[requests.good], minlength=node.max(initial=-1) + 1)
    pairs = made.groupby(["caller", "callee"]).size().reset_index(name="k")
    pairs["share"] = pairs["k"] / number[pairs["caller"]]
    pairs = pairs[pairs["share"] >= LEAST_SHARE]
    caller, callee, share = (pairs[name].to_numpy() for name in ("caller", "callee", "share"))
    usual = UsualChildren(caller, callee, share, np.zeros(len(pairs), dtype=bool))
    missing = _missing(requests, requests.good, usual)
    return usual._replace(lost=_look_lost(requests, usual, missing, config)[0])


def _made(requests: Requests) -> pd.DataFrame:
    """Return the calls of good requests that show in server spans alone, one a callee: span,
    caller, callee, ns.
    """
    trees = requests.trees
    child = np.flatnonzero((trees.parent >= 0) & trees.server)
    child = child[requests.good[trees.parent[child]]]
    above = trees.parent[child]
    columns = {
        "span": above,
        "caller": trees.node[above],
        "callee": requests.endpoint[child],
        "ns": requests.whole[child],
    }
    calls = pd.DataFrame(columns)
    return calls.groupby(["span", "caller", "callee"])["ns"].sum().reset_index()


def _missing(requests: Requests, which: NDArray, usual: UsualChildren | LostCalls) -> pd.DataFrame:
    """Return the usual calls that are not recorded below the requests of a mask: span, caller,
    callee, row (of `usual`).
    """
    trees = requests.trees
    span = np.flatnonzero(which)
    columns = {"caller": usual.caller, "callee": usual.callee, "row": np.arange(usual.caller.size)}
    callers = pd.DataFrame({"span": span, "caller": trees.node[span]})
    due = callers.merge(pd.DataFrame(columns))
    child = np.flatnonzero((trees.parent >= 0) & ~trees.log)
    endpoint = requests.endpoint
    largest = max(endpoint.max(initial=0), usual.callee.max(initial=0))
    size = int(largest) + 1
    seen = trees.parent[child] * size + endpoint[child]
    wanted = due["span"] * size + due["callee"]
    return due[~np.isin(wanted, seen)]


def _complete(requests: Requests, missing: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return the mean own time of the good requests that lack no call, by caller; only where there
    are enough of them.
    """
    whole = requests.good.copy()
    whole[missing["span"]] = False
    own = pd.Series(requests.own[whole]).groupby(requests.trees.node[whole])
    return own.mean()[own.size() >= config.min_requests]


def _look_lost(
    requests: Requests, usual: UsualChildren, missing: pd.DataFrame, config: RcaConfig
) -> tuple[NDArray, NDArray]:
    """Return which usual calls look lost where they are `missing`: their callers take longer by
    about as much as the call. And how long (ns) those calls take that are recorded.
    """
    complete = _complete(requests, missing, config)
    lacks_several = missing["span"].duplicated(keep=False)
    alone = missing[~lacks_several]
    own = alone["caller"].map(complete)
    more = (requests.own[alone["span"]] - own).groupby(alone["row"])
    rows = np.arange(usual.caller.size)
    enough = more.count() >= config.min_requests
    longer = more.mean()[enough].reindex(rows).to_numpy()
    recorded = _made(requests).groupby(["caller", "callee"])
    takes = _by_call(recorded["ns"].mean(), usual)
    less = np.minimum(longer, takes)
    most = np.maximum(longer, takes)
    return (takes > 0) & (less >= config.similar_ratio * most), takes


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
    missing = _missing(requests, requests.good, usual)
    if missing.empty:
        nothing = np.zeros(0, dtype=np.int64)
        return LostCosts(nothing, nothing, nothing), np.zeros(requests.good.size, dtype=bool)
    looks_lost, ns = _look_lost(requests, usual, missing, config)
    call = np.flatnonzero(usual.lost | looks_lost)
    lost = LostCalls(usual.caller[call], usual.callee[call], ns[call])
    missing = _missing(requests, requests.good, lost)
    lacks = np.zeros(requests.good.size, dtype=bool)
    lacks[missing["span"]] = True
    own = missing["caller"].map(_complete(requests, missing, config))
    on_path = own.notna() & (requests.own[missing["span"]] != 0)
    missing = missing[on_path]
    span = missing["span"].to_numpy()
    lost_row = missing["row"]
    more = requests.own[span] - own[on_path].to_numpy()
    weight = np.maximum(lost.ns[lost_row], 1.0)
    weights = missing.assign(ns=weight).groupby("span")["ns"]
    part = weight / weights.transform("sum").to_numpy()
    path = np.flatnonzero(requests.own)
    row = np.searchsorted(path, span)
    return LostCosts(row, call[lost_row], part * more), lacks


def spread_of_time(requests: Requests, usual: UsualChildren, account: NDArray) -> Spread:
    """Return to which accounts (of each span: `account`) the time of recorded calls belongs."""
    trees = requests.trees
    span = np.flatnonzero(requests.own)
    call_of = _usual_calls_of(requests, usual)
    calls, accounts, costs = [], [], []
    above = span
    while above.size:
        within = call_of[above] >= 0
        mine = span[within]
        calls.append(call_of[above[within]])
        accounts.append(account[mine])
        costs.append(requests.own[mine])
        below = trees.parent[above] >= 0
        span = span[below]
        above = trees.parent[above[below]]
    if not calls:
        calls = accounts = costs = [np.zeros(0, dtype=np.int64)]
    return cost_spread(np.concatenate(calls), np.concatenate(accounts), np.concatenate(costs))


def cost_spread(call: NDArray, account: NDArray, cost: NDArray) -> Spread:
    """Return the shares of the accounts in the costs of each call."""
    costs = pd.DataFrame({"call": call, "account": account, "cost": cost})
    sums = costs.groupby(["call", "account"], as_index=False)["cost"].sum()
    share = sums["cost"] / sums.groupby("call")["cost"].transform("sum")
    return Spread(sums["call"].to_numpy(), sums["account"].to_numpy(), share.to_numpy())


def _usual_calls_of(requests: Requests, usual: UsualChildren) -> NDArray:
    """Return which of the usual calls of good requests each span is (a row), -1 for none."""
    trees = requests.trees
    made = (trees.parent >= 0) & ~trees.log
    made &= requests.good[trees.parent]
    call = np.full(trees.parent.size, -1)
    call[made] = _row_of(requests, usual, np.flatnonzero(made))
    return call


def _row_of(requests: Requests, usual: UsualChildren, child: NDArray) -> NDArray:
    """Return the row in `usual` of each of some calls, -1 for none."""
    trees = requests.trees
    caller = trees.node[trees.parent[child]]
    places = pd.MultiIndex.from_arrays([caller, requests.endpoint[child]])
    rows = pd.Series(np.arange(usual.caller.size), index=_index(usual))
    return rows.reindex(places, fill_value=-1).to_numpy()


def failing_calls(
    requests: Requests, usual: UsualChildren, bad: NDArray
) -> tuple[NDArray, NDArray]:
    """Return the spans of failed calls below failed requests, and which of the usual calls each is.

    `bad` is a mask of the spans that failed.
    """
    trees = requests.trees
    child = np.flatnonzero((trees.parent >= 0) & bad & ~trees.log)
    above = trees.parent[child]
    child = child[trees.server[above] & bad[above]]
    call = _row_of(requests, usual, child)
    is_usual = call >= 0
    return child[is_usual], call[is_usual]


def lost_failures(
    requests: Requests,
    usual: UsualChildren,
    failing: tuple[NDArray, NDArray],
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
    by_itself = trees.server[origin] & (trees.status[origin] != 0)
    which = np.zeros(trees.root.size, dtype=bool)
    which[origin[by_itself]] = True
    missing = _missing(requests, which, usual)
    span, call = missing["span"].to_numpy(), missing["row"].to_numpy()
    child, failed_call = failing
    failed, took = _number_and_mean(trees, trees.parent[child], failed_call, usual)
    due, takes = _number_and_mean(trees, span, call, usual)
    less, most = np.minimum(took, takes), np.maximum(took, takes)
    alike = less >= config.similar_ratio * most
    lost = np.where(alike & (failed >= FEW), failed, 0) * _lost_for_one(requests, usual)
    lost_share = np.minimum(lost / np.maximum(due, 1), 1.0)
    part = lost_share[call]
    of_request = np.bincount(span, part)[span]
    part = part / np.maximum(of_request, 1.0)
    row_of = np.zeros(which.size, dtype=np.int64)
    row_of[origin] = np.arange(origin.size)
    kept = part > 0
    return LostCosts(row_of[span[kept]], call[kept], part[kept])


def _number_and_mean(
    trees: TraceTrees, span: NDArray, call: NDArray, usual: UsualChildren
) -> tuple[NDArray, NDArray]:
    """Return of each usual call how many of the spans belong to it, and their mean ns."""
    size = usual.caller.size
    n = np.bincount(call, minlength=size)
    ns = np.bincount(call, trees.end[span] - trees.start[span], minlength=size)
    return n, ns / np.maximum(n, 1)


def _lost_for_one(requests: Requests, usual: UsualChildren) -> NDArray:
    """Return for each usual call how many are not recorded for one that is.

    Where too few requests end well, as usual; of a call that is always made, any number then.
    """
    node = requests.trees.node
    n = np.bincount(node[requests.good], minlength=node.max(initial=-1) + 2)
    good = n[np.minimum(usual.caller, n.size - 1)]
    calls = _made(requests).groupby(["caller", "callee"])
    recorded = _by_call(calls.size(), usual)
    now = (good - recorded) / np.maximum(recorded, 1)
    usually = 1 / usual.share - 1
    before = np.where(usual.share < ALWAYS, usually, requests.good.size)
    return np.where(good < FEW, before, now)


def _by_call(values: pd.Series, usual: UsualChildren) -> NDArray:
    """Return the value of each usual call, 0 where there is none."""
    return values.reindex(_index(usual), fill_value=0).to_numpy(dtype=float)


def _index(usual: UsualChildren) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([usual.caller, usual.callee])
