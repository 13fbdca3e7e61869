"""What did each request cost, and to which account does each moment and each failure count?

An account is what an endpoint does by itself, or an edge between two endpoints. `AccountTable` says
to which endpoint each account is attributed: an edge, slow or failing, to the called endpoint. The
rule is `account_table`. What holds for every request belongs there. What can be told only from sums
over many requests, the ledger moves afterwards, as it does with the calls of a caller that became
slow to reach everything (`aiops_lab.explain.ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.failures import (
    began_below,
    is_refusal,
    origins,
    outcomes_of,
    served_spans,
)
from aiops_lab.explain.lost import (
    LostCosts,
    Spread,
    UsualChildren,
    cost_spread,
    failing_calls,
    lost_failures,
    lost_time,
    requests_of,
    spread_of_time,
    usual_children,
)
from aiops_lab.traces.encode import EncodedSpans
from aiops_lab.traces.timing import Timing
from aiops_lab.traces.trees import TraceTrees, critical_path, self_time_ns

# ---- accounts

OWN = -1  # instead of the caller: the endpoint's own time, or a failure of its own
OUTSIDE = -2  # instead of the caller: nobody who was recorded


class AccountTable(NamedTuple):
    """The accounts: account k is row k of all columns.

    An account is what an endpoint does by itself, or an edge: the gap between a client span and the
    server span that it called, or the time of a span of another kind below a server span. It is
    known by ``endpoint``, the code of the endpoint itself or of the called one, and ``caller``, the
    code of the endpoint that calls, or `OUTSIDE`; of what an endpoint does by itself, `OWN`.
    ``attributed_to`` is the code of the endpoint to which it counts, unless the ledger moves it.
    """

    caller: NDArray
    endpoint: NDArray
    attributed_to: NDArray


def account_table(caller: NDArray, endpoint: NDArray) -> AccountTable:
    """Return a table of accounts. Each is attributed to its endpoint: an edge to the called one."""
    return AccountTable(caller, endpoint, attributed_to=endpoint)


NO_ACCOUNTS = account_table(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def account_codes(
    earlier: AccountTable, caller: NDArray, endpoint: NDArray
) -> tuple[NDArray, AccountTable]:
    """Return the code of the account of each (caller, endpoint), and the table of all accounts.

    The `earlier` accounts keep their codes; new ones come after them.
    """
    callers = np.append(earlier.caller, caller) - OUTSIDE
    endpoints = np.append(earlier.endpoint, endpoint)
    shape = callers.max(initial=0) + 1, endpoints.max(initial=0) + 1
    code, pair = pd.factorize(np.ravel_multi_index((callers, endpoints), shape))
    callers, endpoints = np.unravel_index(pair, shape)
    return code[earlier.caller.size :], account_table(callers + OUTSIDE, endpoints)


def account_labels(caller: NDArray, endpoint: NDArray, is_time: NDArray, names: NDArray) -> NDArray:
    """Return how the account of each (caller, endpoint) is shown; `names` are those of the
    endpoints, by code.

    What an endpoint does by itself is its own time where `is_time`, else its own failures.
    """
    by_itself = np.where(is_time, " own time", " itself").astype(object)
    own = names[endpoint] + by_itself
    edge = "edge " + np.append(names, ["outside", ""])[caller] + " → " + names[endpoint]
    return np.where(caller == OWN, own, edge)


def group_rows(*columns: NDArray) -> tuple[NDArray, NDArray]:
    """Return the groups of equal rows of some columns, sorted by these.

    Returns
    -------
    The position of the first row of each group, and the group of each row.
    """
    order, first = _runs(*columns)
    group = np.empty(order.size, dtype=np.int64)
    group[order] = np.cumsum(first) - 1
    return order[first], group


def _runs(*columns: NDArray) -> tuple[NDArray, NDArray]:
    """Return an order that brings equal rows of some columns together, and, in that order, which
    row is the first of its kind.
    """
    order = np.lexsort(columns[::-1])
    first = np.zeros(order.size, dtype=bool)
    first[:1] = True
    for column in columns:
        ordered = column[order]
        first[1:] |= ordered[1:] != ordered[:-1]
    return order, first


# ---- what is usual of endpoints

ROUNDING_NS = 1_000_000  # a call may end this much after the next one's start, rounded to ms


class UsualCalls(NamedTuple):
    """How many calls (``most``) one request of a ``caller`` makes to a ``callee`` at most, as a
    rule; endpoints by code.
    """

    caller: NDArray
    callee: NDArray
    most: NDArray


class EndpointProfile(NamedTuple):
    """What endpoints are like when all is well.

    ``nodes``: by code of the endpoint the mean duration in ``ns``, and the shares of its requests
    that ``failed`` (5xx), that it ``refused`` (4xx), and that were ``long``: longer than
    `timeout_s`. ``calls``: how many they make; ``children``: which.
    """

    nodes: pd.DataFrame
    calls: UsualCalls
    children: UsualChildren


def endpoint_profile(trees: TraceTrees, config: RcaConfig) -> EndpointProfile:
    """Return the profile that fault-free traces show."""
    duration = trees.end - trees.start
    columns = {
        "ns": duration,
        "failed": trees.failed,
        "refused": is_refusal(trees),
        "long": duration > config.timeout_s * 1e9,
    }
    served = pd.DataFrame(columns)[trees.server]
    nodes = served.groupby(trees.node[trees.server]).mean()
    served_by = served_spans(trees)
    endpoint = np.where(served_by >= 0, trees.node[served_by], trees.node)
    requests = requests_of(trees, endpoint, _ended_well(trees), critical_path(trees))
    calls = _usual_calls(_calls(trees), config)
    return EndpointProfile(nodes, calls, usual_children(requests, config))


def _usual_calls(calls: _Calls, config: RcaConfig) -> UsualCalls:
    rank = calls.rank[np.lexsort((calls.rank, calls.callee, calls.caller))]
    begin, group = group_rows(calls.caller, calls.callee)
    size = np.bincount(group)
    end = np.cumsum(size)
    at = end - size + (config.call_quantile * (size - 1)).astype(np.int64)
    return UsualCalls(calls.caller[begin], calls.callee[begin], rank[at])


class _Calls(NamedTuple):
    """A row a call.

    ``span``, the codes of ``caller`` and ``callee``, ``rank`` (which call of its request to the
    same callee it is: 1, 2, …) and ``repeats`` (the call before it had failed).
    """

    span: NDArray
    caller: NDArray
    callee: NDArray
    rank: NDArray
    repeats: NDArray


def _calls(trees: TraceTrees) -> _Calls:
    span = np.flatnonzero((trees.parent >= 0) & ~trees.log)
    span = span[trees.server[trees.parent[span]]]
    span = span[np.argsort(trees.start[span], kind="stable")]
    order, first = _runs(trees.parent[span], trees.node[span])
    span = span[order]
    run_begin = np.flatnonzero(first)[np.cumsum(first) - 1]
    before = np.roll(span, 1)
    had_failed = trees.failed[before] & (trees.end[before] <= trees.start[span] + ROUNDING_NS)
    return _Calls(
        span=span,
        caller=trees.node[trees.parent[span]],
        callee=trees.node[span],
        rank=np.arange(span.size) - run_begin + 1,
        repeats=~first & had_failed,
    )


def _extra_calls(trees: TraceTrees, profile: EndpointProfile) -> tuple[NDArray, NDArray]:
    """Return which spans are calls beyond the usual number of calls of one request, and which are
    calls that repeat a failed one.

    A call that repeats a failed one was not the caller's choice: it is none. An edge without usual
    calls may have one.
    """
    calls = _calls(trees)
    usual = profile.calls
    edge, _ = account_codes(account_table(usual.caller, usual.callee), calls.caller, calls.callee)
    most = np.append(usual.most, 1)[np.minimum(edge, usual.most.size)]
    is_extra, repeats = np.zeros((2, trees.root.size), dtype=bool)
    repeats[calls.span] = calls.repeats
    is_extra[calls.span] = (calls.rank > most) & ~calls.repeats
    return is_extra, repeats


def waits_for(trees: TraceTrees, extra: NDArray) -> tuple[NDArray, NDArray]:
    """Return the critical path with the `extra` calls (a mask) hidden: their time is then their
    caller's own.
    """
    return critical_path(trees._replace(log=trees.log | extra))


# ---- what requests cost


class Costs(NamedTuple):
    """What requests cost at accounts, arrays with an entry a request, account and masked.

    ``root``: the request, by its position in the frame; ``entry``: code of its endpoint;
    ``account``: code in `CostTable.accounts`; ``masked``: a failure that was repaired before the
    entry failed; ``cost``: ns of time, or a number of failures.
    """

    root: NDArray
    entry: NDArray
    account: NDArray
    masked: NDArray
    cost: NDArray


class CostTable(NamedTuple):
    """What the requests of a frame cost.

    ``requests``: a row a root request, by position in the frame: entry, ns, failed, open (no answer
    yet). ``time``: adds up to the ns of the root. ``failures``: one a failed root, unless masked.
    ``endpoints``: a row an endpoint: n, mean ms, var of ms, failed, unanswered. ``accounts``: what
    the codes of accounts mean. ``span_account``: the account of each span, by its position in
    the frame. ``extra``: which spans are calls beyond the usual number; ``repeats``: which repeat a
    call that failed; ``lacks_calls``: which lack a call that was lost.
    """

    requests: pd.DataFrame
    time: Costs
    failures: Costs
    endpoints: pd.DataFrame
    accounts: AccountTable
    span_account: NDArray
    extra: NDArray
    repeats: NDArray
    lacks_calls: NDArray


def attribute_costs(
    trees: TraceTrees,
    is_open: NDArray,
    profile: EndpointProfile,
    config: RcaConfig,
    earlier: AccountTable = NO_ACCOUNTS,
) -> CostTable:
    """Return what the requests cost, each moment and each failure at one account.

    Parameters
    ----------
    trees : TraceTrees
    is_open : array of bool
        The spans without an end: what they cost is their age.
    profile : EndpointProfile
        A call beyond the usual number is its caller's own time; what usually fails explains no
        failure.
    earlier : AccountTable
        Accounts that keep their codes.
    """
    outcomes = outcomes_of(trees, is_open, profile.nodes, config)
    caller = np.where(trees.parent >= 0, trees.node[trees.parent], OUTSIDE)
    caller[trees.server] = OWN
    endpoint = np.where(outcomes.served >= 0, trees.node[outcomes.served], trees.node)
    account, accounts = account_codes(earlier, caller, endpoint)

    top, origin, refused = origins(trees, outcomes)
    caller_then = np.where(refused, OWN, caller[origin])
    failed_account, accounts = account_codes(accounts, caller_then, endpoint[origin])
    extra, repeats = _extra_calls(trees, profile)
    span, ns = waits_for(trees, extra)
    time = _costs(trees.root[span], account[span], ns, trees)
    masked = trees.parent[top] >= 0
    failures = _costs(trees.root[top], failed_account, np.ones(top.size), trees, masked)

    lacks_calls = np.zeros(trees.root.size, dtype=bool)
    usual = profile.children
    if usual.caller.size:
        good = _ended_well(trees) & ~outcomes.bad
        requests = requests_of(trees, endpoint, good, (span, ns))
        moved, lacks_calls = lost_time(requests, usual, config)
        time = _to_lost_calls(time, moved, spread_of_time(requests, usual, account))
        child, call = failing_calls(requests, usual, outcomes.bad)
        began = began_below(trees, outcomes, child)
        moved = lost_failures(requests, usual, (child, call), origin, config)
        in_calls = cost_spread(call, account[began], np.ones(call.size))
        failures = _to_lost_calls(failures, moved, in_calls)

    counts = (trees.root == np.arange(trees.root.size)) & (~is_open | outcomes.bad) & ~trees.log
    return CostTable(
        _requests(trees, is_open, outcomes.bad, counts),
        _summed(time, counts),
        _summed(failures, counts),
        _endpoints(trees, is_open, outcomes.bad),
        accounts,
        account,
        extra,
        repeats,
        lacks_calls,
    )


def _ended_well(trees: TraceTrees) -> NDArray:
    return trees.server & ~trees.failed & (trees.status != 0)


def _costs(
    root: NDArray,
    account: NDArray,
    cost: NDArray,
    trees: TraceTrees,
    masked: NDArray | bool = False,
) -> Costs:
    return Costs(root, trees.node[root], account, np.broadcast_to(masked, root.shape), cost)


def _to_lost_calls(costs: Costs, moved: LostCosts, shares: Spread) -> Costs:
    """Return the costs with what belongs to lost calls at the accounts of those recorded."""
    order = pd.DataFrame({"call": moved.call, "row": np.arange(moved.row.size)})
    parts = order.merge(pd.DataFrame(shares._asdict()), on="call")
    if parts.empty:
        return costs
    part = moved.cost[parts["row"]] * parts["share"].to_numpy()
    taken = Costs(*(column[moved.row[parts["row"]]] for column in costs))._replace(cost=-part)
    given = taken._replace(account=parts["account"].to_numpy(), cost=part)
    return Costs(*map(np.concatenate, zip(costs, taken, given, strict=True)))


def _summed(costs: Costs, counts: NDArray) -> Costs:
    """Return the sums by request, account and masked, of the requests that count."""
    costs = Costs(*(column[counts[costs.root]] for column in costs))
    first, group = group_rows(costs.root, costs.account, costs.masked)
    sums = np.bincount(group, costs.cost)
    return Costs(*(column[first] for column in costs))._replace(cost=sums)


def _requests(trees: TraceTrees, is_open: NDArray, bad: NDArray, counts: NDArray) -> pd.DataFrame:
    columns = {
        "entry": trees.node,
        "ns": trees.end - trees.start,
        "failed": bad,
        "open": is_open,
    }
    return pd.DataFrame(columns)[counts]


def _endpoints(trees: TraceTrees, is_open: NDArray, bad: NDArray) -> pd.DataFrame:
    """Return a row an endpoint: n, mean ms, var of ms (of answers), failed, unanswered."""
    ms = (trees.end - trees.start) / 1e6
    columns = {
        "failed": bad & ~is_open,
        "unanswered": bad & is_open,
        "ms": np.where(is_open, np.nan, ms),
    }
    requests = trees.server & (trees.root >= 0)
    by_node = pd.DataFrame(columns)[requests].groupby(trees.node[requests])
    counted = by_node[["failed", "unanswered"]].sum()
    answered = by_node["ms"]
    return counted.assign(n=answered.count(), ms=answered.mean(), var=answered.var(ddof=0))


class AccountMeans(NamedTuple):
    """What a request of an entry costs at an account, by unit (``is_time``: ms, else failures),
    masked, entry and account: mean and variance.
    """

    is_time: NDArray
    masked: NDArray
    entry: NDArray
    account: NDArray
    mean: NDArray
    var: NDArray


@dataclass(frozen=True, eq=False)
class AttributedTraces:
    """The traces of some spans, and what their requests cost, as of ``until_ns``.

    ``timing``: which calls are waited for, and whose clock is ahead.
    """

    spans: EncodedSpans = field(repr=False)
    trees: TraceTrees = field(repr=False)
    timing: Timing = field(repr=False)
    until_ns: int
    costs: CostTable = field(repr=False)
    config: RcaConfig

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The spans as a spans frame."""
        return self.spans.to_rows()

    @cached_property
    def cost_by_entry(self) -> pd.DataFrame:
        """What requests cost, by entry: n, ms, failed (share), open, sd_ms, long (share of those
        longer than `timeout_s`).
        """
        requests = self.costs.requests
        ms = requests["ns"] / 1e6
        long = ms > self.config.timeout_s * 1e3
        by_entry = requests.assign(ms=ms, long=long).groupby("entry")
        means = by_entry[["ms", "failed", "long"]].mean()
        sd_ms = by_entry["ms"].std(ddof=0)
        return means.assign(n=by_entry.size(), open=by_entry["open"].sum(), sd_ms=sd_ms)

    @cached_property
    def cost_by_account(self) -> AccountMeans:
        """What a request of an entry costs at each account: mean and variance."""
        time = self.costs.time
        failures = self.costs.failures
        is_time = np.repeat([True, False], [time.cost.size, failures.cost.size])
        both = Costs(*map(np.append, time, failures))
        first, group = group_rows(is_time, both.masked, both.entry, both.account)
        entry = both.entry[first]
        n = self.cost_by_entry["n"].reindex(entry).to_numpy()
        scale = np.where(is_time[first], 1e6, 1.0)  # ns to ms
        mean = np.bincount(group, both.cost) / n / scale
        square = np.bincount(group, both.cost**2) / n / scale**2
        var = np.maximum(square - mean**2, 0.0)
        return AccountMeans(
            is_time[first], both.masked[first], entry, both.account[first], mean, var
        )

    @cached_property
    def self_ns(self) -> pd.Series:
        """The self time (ns) of each span that takes time and lacks no call, in the order of the
        spans. The index is the code of the span's account, not its position.
        """
        trees = self.trees
        timed = ~trees.log & (trees.root >= 0) & ~self.costs.lacks_calls
        own = self_time_ns(trees.start, trees.end, trees.parent)
        return pd.Series(own[timed], index=self.costs.span_account[timed])

    @cached_property
    def mean_self_ns(self) -> pd.DataFrame:
        """The ``mean`` self time (ns) of an account's spans, and their number ``n``."""
        by = self.self_ns.groupby(level=0)
        return pd.DataFrame({"mean": by.mean(), "n": by.size()})
