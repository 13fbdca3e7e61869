"""What did each request cost, and to which account does each moment and each failure count?

An account is what an endpoint does by itself, or an edge between two endpoints. `AccountTable` says
to which endpoint each account is attributed: an edge, slow or failing, to the called endpoint. The
rule is `accounts.account_table`. What holds for every request belongs there. What can be told only
from sums over many requests, the ledger moves afterwards, as it does with the calls of a caller
that became slow to reach everything (`aiops_lab.explain.ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.accounts import (
    NO_ACCOUNTS,
    OUTSIDE,
    OWN,
    AccountTable,
    account_codes,
    account_table,
    group_rows,
    row_runs,
)
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.failures import (
    is_refusal,
    origins,
    outcomes_of,
    served_spans,
    topmost_failures,
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
from aiops_lab.explain.pauses import with_pauses
from aiops_lab.traces.encode import EncodedSpans
from aiops_lab.traces.timing import Timing
from aiops_lab.traces.trees import (
    TraceTrees,
    are_roots,
    calls_in,
    critical_path,
    self_time_ns,
)

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
    `timeout_s`; of one that only its callers recorded, what they waited for. ``calls``: how many
    they make; ``children``: which.
    """

    nodes: pd.DataFrame
    calls: UsualCalls
    children: UsualChildren


def endpoint_profile(trees: TraceTrees, config: RcaConfig) -> EndpointProfile:
    """Return the profile that fault-free traces show."""
    server = trees.server
    duration = trees.end - trees.start
    columns = {
        "ns": duration,
        "failed": trees.failed,
        "refused": is_refusal(trees),
        "long": duration > config.timeout_s * 1e9,
    }
    served = pd.DataFrame(columns)[server]
    answered_by = served_spans(trees)
    nodes = served.groupby(trees.node[server]).mean()
    nodes = _with_callees(nodes, trees, answered_by)
    requests = requests_of(
        trees,
        _endpoints_reached(trees, answered_by),
        _ended_well(trees),
        critical_path(trees),
    )
    calls = _usual_calls(_calls(trees), config)
    return EndpointProfile(nodes, calls, usual_children(requests, config))


def _with_callees(nodes: pd.DataFrame, trees: TraceTrees, answered_by: NDArray) -> pd.DataFrame:
    """Return what is usual of endpoints, with those that only their callers recorded: how long a
    call takes.
    """
    calls = calls_in(trees)
    calls = calls[answered_by[calls] < 0]
    calls = calls[~np.isin(trees.node[calls], nodes.index)]
    duration = pd.Series(trees.end[calls] - trees.start[calls])
    ns = duration.groupby(trees.node[calls]).mean()
    return pd.concat([nodes, ns.to_frame("ns")]).fillna(0.0)


def _endpoints_reached(trees: TraceTrees, served: NDArray) -> NDArray:
    """Return the endpoint that each span is about: of a call that reached a server span, that of
    the latter (`served`, as `served_spans` returns it), else its own.
    """
    return np.where(served >= 0, trees.node[served], trees.node)


def _usual_calls(calls: _Calls, config: RcaConfig) -> UsualCalls:
    order = np.lexsort((calls.rank, calls.callee, calls.caller))
    rank = calls.rank[order]
    begin, group = group_rows(calls.caller, calls.callee)
    size = np.bincount(group)
    end = np.cumsum(size)
    place = config.call_quantile * (size - 1)
    at = end - size + place.astype(np.int64)
    return UsualCalls(caller=calls.caller[begin], callee=calls.callee[begin], most=rank[at])


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
    parent = trees.parent
    span = calls_in(trees)
    by_server = trees.server[parent[span]]
    span = span[by_server]
    by_start = np.argsort(trees.start[span], kind="stable")
    span = span[by_start]
    order, first = row_runs(parent[span], trees.node[span])
    span = span[order]
    run = np.cumsum(first) - 1
    run_begin = np.flatnonzero(first)[run]
    before = np.roll(span, 1)
    is_over = trees.end[before] <= trees.start[span] + ROUNDING_NS
    had_failed = trees.failed[before] & is_over
    return _Calls(
        span=span,
        caller=trees.node[parent[span]],
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
    edges = account_table(usual.caller, usual.callee)
    edge, _ = account_codes(edges, calls.caller, calls.callee)
    most_of = np.append(usual.most, 1)  # the last is that of edges without usual calls
    most = most_of[np.minimum(edge, usual.most.size)]
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
    has_parent = trees.parent >= 0
    caller = np.where(has_parent, trees.node[trees.parent], OUTSIDE)
    caller[trees.server] = OWN
    endpoint = _endpoints_reached(trees, outcomes.served)
    account, accounts = account_codes(earlier, caller, endpoint)

    extra, repeats = _extra_calls(trees, profile)
    paused = with_pauses(trees, repeats)
    top = topmost_failures(paused, outcomes.bad)
    origin, refused = origins(paused, outcomes, top)
    caller_then = np.where(refused, OWN, caller[origin])
    failed_account, accounts = account_codes(accounts, caller_then, endpoint[origin])
    span, ns = waits_for(trees, extra)
    time = _costs(trees.root[span], account[span], ns, trees)
    masked = has_parent[top]
    one_each = np.ones(top.size)
    failures = _costs(trees.root[top], failed_account, one_each, trees, masked)

    lacks_calls = np.zeros(trees.root.size, dtype=bool)
    usual = profile.children
    if usual.caller.size:
        good = _ended_well(trees) & ~outcomes.bad
        requests = requests_of(trees, endpoint, good, (span, ns))
        moved, lacks_calls = lost_time(requests, usual, config)
        in_recorded = spread_of_time(requests, usual, account)
        time = _to_lost_calls(time, moved, in_recorded)
        failing = failing_calls(requests, usual, outcomes.bad)
        began, _ = origins(paused, outcomes, failing.span)
        moved = lost_failures(requests, usual, failing, origin, config)
        in_calls = cost_spread(failing.call, account[began], np.ones(began.size))
        failures = _to_lost_calls(failures, moved, in_calls)

    has_cost = ~is_open | outcomes.bad
    counts = are_roots(trees) & has_cost & ~trees.log
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
    is_answered = trees.status != 0
    return trees.server & ~trees.failed & is_answered


def _costs(
    root: NDArray,
    account: NDArray,
    cost: NDArray,
    trees: TraceTrees,
    masked: NDArray | bool = False,
) -> Costs:
    return Costs(
        root,
        entry=trees.node[root],
        account=account,
        masked=np.broadcast_to(masked, root.shape),
        cost=cost,
    )


def _to_lost_calls(costs: Costs, moved: LostCosts, shares: Spread) -> Costs:
    """Return the costs with what belongs to lost calls at the accounts of those recorded."""
    lost = {"call": moved.call, "row": np.arange(moved.row.size)}
    spread = pd.DataFrame(shares._asdict())
    parts = pd.DataFrame(lost).merge(spread, on="call")
    if parts.empty:
        return costs
    row = parts["row"]
    part = moved.cost[row] * parts["share"].to_numpy()
    taken = _at(costs, moved.row[row])._replace(cost=-part)
    given = taken._replace(account=parts["account"].to_numpy(), cost=part)
    return Costs(*map(np.concatenate, zip(costs, taken, given, strict=True)))


def _at(costs: Costs, rows: NDArray) -> Costs:
    """Return some of the rows, by mask or by position."""
    return Costs(*(column[rows] for column in costs))


def _summed(costs: Costs, counts: NDArray) -> Costs:
    """Return the sums by request, account and masked, of the requests that count."""
    costs = _at(costs, counts[costs.root])
    first, group = group_rows(costs.root, costs.account, costs.masked)
    sums = np.bincount(group, costs.cost)
    return _at(costs, first)._replace(cost=sums)


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
    requests = trees.server & (trees.root >= 0)
    node = trees.node[requests]
    failed = bad[requests]
    is_open = is_open[requests]
    ms = (trees.end - trees.start)[requests] / 1e6
    answered = pd.Series(np.where(is_open, np.nan, ms)).groupby(node)
    nodes = np.flatnonzero(np.bincount(node))
    size = nodes.max(initial=-1) + 1
    columns = {
        "failed": np.bincount(node[failed & ~is_open], minlength=size)[nodes],
        "unanswered": np.bincount(node[failed & is_open], minlength=size)[nodes],
        "n": answered.count(),
        "ms": answered.mean(),
        "var": answered.var(ddof=0),
    }
    return pd.DataFrame(columns, index=nodes)


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
        return means.assign(
            n=by_entry.size(), open=by_entry["open"].sum(), sd_ms=by_entry["ms"].std(ddof=0)
        )

    @cached_property
    def cost_by_account(self) -> AccountMeans:
        """What a request of an entry costs at each account: mean and variance."""
        time = self.costs.time
        failures = self.costs.failures
        sizes = time.cost.size, failures.cost.size
        is_time = np.repeat([True, False], sizes)
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
        in_a_tree = trees.root >= 0
        timed = ~trees.log & in_a_tree & ~self.costs.lacks_calls
        own = self_time_ns(trees.start, trees.end, trees.parent)
        account = self.costs.span_account[timed]
        return pd.Series(own[timed], index=account)

    @cached_property
    def mean_self_ns(self) -> pd.DataFrame:
        """The ``mean`` self time (ns) of an account's spans, and their number ``n``."""
        by = self.self_ns.groupby(level=0)
        return pd.DataFrame({"mean": by.mean(), "n": by.size()})
