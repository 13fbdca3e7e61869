"""What did each request cost, and to which account does each moment and each failure count?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import compiled
from aiops_lab.traces.encode import EncodedSpans
from aiops_lab.traces.trees import TraceTrees, critical_path, self_time_ns

# ---- accounts

OWN = -1  # instead of the caller: the endpoint's own time, or a failure of its own
OUTSIDE = -2  # instead of the caller: nobody who was recorded


class AccountTable(NamedTuple):
    """The accounts: account k is row k of both columns.

    An account is what an endpoint does by itself (``caller`` is `OWN`), or an edge: the gap between
    a client span and the server span that it called. ``node`` is the code of the endpoint
    itself or, of an edge, of the called endpoint. The account counts to ``node``, unless the ledger
    moves it to the caller. ``caller`` is the code of the endpoint that
    calls, or `OUTSIDE`.
    """

    caller: NDArray
    node: NDArray


NO_ACCOUNTS = AccountTable(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def account_codes(
    known: AccountTable, caller: NDArray, node: NDArray
) -> tuple[NDArray, AccountTable]:
    """Return the code of each (caller, node), and the table of all accounts.

    The accounts that are `known` keep their codes; new ones come after them.
    """
    callers = np.append(known.caller, caller) - OUTSIDE
    nodes = np.append(known.node, node)
    shape = callers.max(initial=0) + 1, nodes.max(initial=0) + 1
    code, pair = pd.factorize(np.ravel_multi_index((callers, nodes), shape))
    callers, nodes = np.unravel_index(pair, shape)
    return code[known.node.size :], AccountTable(callers + OUTSIDE, nodes)


def account_labels(accounts: AccountTable, is_time: NDArray, names: NDArray) -> NDArray:
    """Return how each account is shown; `names` holds the endpoints' names by code.

    What an endpoint does by itself is its own time where `is_time`, else its own failures.
    """
    caller = np.append(names, ["outside", ""])[accounts.caller]
    node = names[accounts.node]
    own = node + np.where(is_time, " own time", " itself").astype(object)
    return np.where(accounts.caller == OWN, own, "edge " + caller + " → " + node)


# ---- what is usual of endpoints


class EndpointProfile(NamedTuple):
    """What endpoints are like when all is well.

    ``nodes``: by code of the endpoint the mean duration in ``ns``, and the shares of its requests
    that ``failed`` (5xx) and that it ``refused`` (4xx). ``calls``: how many calls one request of a
    caller makes to a callee at most, as a rule, by (caller, callee).
    """

    nodes: pd.DataFrame
    calls: pd.Series


def endpoint_profile(trees: TraceTrees, config: RcaConfig) -> EndpointProfile:
    """Return the profile that fault-free traces show."""
    columns = {
        "ns": trees.end - trees.start,
        "failed": trees.failed,
        "refused": _is_refusal(trees),
    }
    served = pd.DataFrame(columns)[trees.server]
    calls = _calls(trees).groupby(["caller", "callee"])["rank"]
    most = calls.quantile(config.call_quantile, interpolation="lower")
    return EndpointProfile(served.groupby(trees.node[trees.server]).mean(), most.rename("most"))


def _is_refusal(trees: TraceTrees) -> NDArray:
    return (trees.status >= 400) & (trees.status < 500)


def _calls(trees: TraceTrees) -> pd.DataFrame:
    """Return a row a call.

    ``span``, the codes of ``caller`` and ``callee``, ``rank`` (which call of its request to the
    same callee it is: 1, 2, …) and ``repeats`` (the call before it failed).
    """
    span = np.flatnonzero((trees.parent >= 0) & ~trees.log)
    span = span[trees.server[trees.parent[span]]]
    span = span[np.argsort(trees.start[span], kind="stable")]
    order, first = _runs(trees.parent[span], trees.node[span])
    span = span[order]
    run_begin = np.flatnonzero(first)[np.cumsum(first) - 1]
    repeats = ~first & np.roll(trees.failed[span], 1)
    columns = {
        "span": span,
        "caller": trees.node[trees.parent[span]],
        "callee": trees.node[span],
        "rank": np.arange(span.size) - run_begin + 1,
        "repeats": repeats,
    }
    return pd.DataFrame(columns)


def _runs(*columns: NDArray) -> tuple[NDArray, NDArray]:
    """Return an order that brings equal rows of some columns together, and, in that order, which
    row is the first of its kind.
    """
    order = np.lexsort(columns[::-1])
    first = np.zeros(order.size, dtype=bool)
    first[:1] = True
    for column in columns:
        first[1:] |= np.diff(column[order]) != 0
    return order, first


def _without_extra_calls(trees: TraceTrees, profile: EndpointProfile) -> TraceTrees:
    """Return the trees with the calls beyond the usual number hidden.

    Their time is then their caller's own. A call that repeats a failed one was not the caller's
    choice: it stays.
    """
    calls = _calls(trees).join(profile.calls, on=["caller", "callee"])
    extra = (calls["rank"] > calls["most"].fillna(1)) & ~calls["repeats"]
    hidden = trees.log.copy()
    hidden[calls["span"][extra]] = True
    return trees._replace(log=hidden)


# ---- what requests cost


class CostTable(NamedTuple):
    """What the requests of a frame cost.

    ``requests``: a row a root request, by position in the frame: entry, ns, failed, open (no answer
    yet). ``time``: root, entry, account, cost (ns); adds up to the ns of the root. ``failures``:
    root, entry, account, masked (repaired before the entry failed), cost (1); one a failed root,
    unless masked. ``endpoints``: a row an endpoint: n, mean ms, var of ms, failed, unanswered.
    ``accounts``: what the codes of accounts mean. ``span_account``: the account of each span.
    """

    requests: pd.DataFrame
    time: pd.DataFrame
    failures: pd.DataFrame
    endpoints: pd.DataFrame
    accounts: AccountTable
    span_account: NDArray


def attribute_costs(
    trees: TraceTrees,
    is_open: NDArray,
    profile: EndpointProfile,
    config: RcaConfig,
    known: AccountTable = NO_ACCOUNTS,
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
    known : AccountTable
        Accounts that keep their codes.
    """
    outcomes = _outcomes(trees, is_open, profile, config)
    caller = np.where(trees.parent >= 0, trees.node[trees.parent], OUTSIDE)
    caller[trees.server] = OWN
    node = np.where(outcomes.served >= 0, trees.node[outcomes.served], trees.node)
    account, accounts = account_codes(known, caller, node)

    top, origin, refused = _origins(trees, outcomes)
    caller_then = np.where(refused, OWN, caller[origin])
    failed_account, accounts = account_codes(accounts, caller_then, node[origin])
    failures = pd.DataFrame({"root": trees.root[top], "account": failed_account})
    failures = failures.assign(masked=trees.parent[top] >= 0, cost=1.0)

    span, ns = critical_path(_without_extra_calls(trees, profile))
    waited = pd.DataFrame({"root": trees.root[span], "account": account[span]})
    time = sums_by(waited, cost=ns)

    counts = (trees.root == np.arange(trees.root.size)) & (~is_open | outcomes.bad) & ~trees.log
    return CostTable(
        _requests(trees, is_open, outcomes.bad)[counts],
        _of_entries(time, counts, trees),
        _of_entries(failures, counts, trees),
        _endpoints(trees, is_open, outcomes.bad),
        accounts,
        account,
    )


def _of_entries(table: pd.DataFrame, counts: NDArray, trees: TraceTrees) -> pd.DataFrame:
    """Return the rows of the requests that count, with the endpoint of their root as entry."""
    table = table[counts[table["root"]]]
    return table.assign(entry=trees.node[table["root"]])


def _requests(trees: TraceTrees, is_open: NDArray, bad: NDArray) -> pd.DataFrame:
    duration = trees.end - trees.start
    return pd.DataFrame({"entry": trees.node, "ns": duration, "failed": bad, "open": is_open})


def _endpoints(trees: TraceTrees, is_open: NDArray, bad: NDArray) -> pd.DataFrame:
    """Return a row an endpoint: n, mean ms, var of ms (of answers), failed, unanswered."""
    ms = np.where(is_open, np.nan, (trees.end - trees.start) / 1e6)
    columns = {"ms": ms, "failed": bad & ~is_open, "unanswered": bad & is_open}
    requests = trees.server & (trees.root >= 0)
    by_node = pd.DataFrame(columns)[requests].groupby(trees.node[requests])
    counted = by_node[["failed", "unanswered"]].sum()
    return counted.assign(
        n=by_node["ms"].count(), ms=by_node["ms"].mean(), var=by_node["ms"].var(ddof=0)
    )


@dataclass(frozen=True, eq=False)
class AttributedTraces:
    """The traces of some spans, and what their requests cost, as of ``until_ns``.

    ``offsets``: by how many ns the clock of a called service is ahead, by (caller, called).
    """

    spans: EncodedSpans = field(repr=False)
    trees: TraceTrees = field(repr=False)
    offsets: dict[tuple[str, str], int] = field(repr=False)
    until_ns: int
    costs: CostTable = field(repr=False)
    config: RcaConfig

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The spans as a spans frame."""
        return self.spans.to_rows()

    @cached_property
    def cost_by_entry(self) -> pd.DataFrame:
        """What requests cost, by entry: n, ms, failed (share), open, sd_ms."""
        requests = self.costs.requests
        ms = (requests["ns"] / 1e6).groupby(requests["entry"])
        by = requests.groupby("entry")
        columns = {
            "n": ms.size(),
            "ms": ms.mean(),
            "failed": by["failed"].mean(),
            "open": by["open"].sum(),
            "sd_ms": ms.std(ddof=0),
        }
        return pd.DataFrame(columns)

    @cached_property
    def cost_by_account(self) -> pd.DataFrame:
        """What a request of an entry costs, a row a unit, masked, entry and account: mean and var,
        of ms or of failures.
        """
        keys = ["masked", "entry", "account"]
        time = self.costs.time.assign(masked=False)
        failures = self.costs.failures  # a request may fail at one place more than once
        counted = sums_by(failures[["root", *keys]], cost=failures["cost"])
        tables = {}
        for unit, table, scale in (("ms", time, 1e6), ("failures", counted, 1.0)):
            sums = sums_by(table[keys], cost=table["cost"], square=table["cost"] ** 2)
            n = sums["entry"].map(self.cost_by_entry["n"])
            mean = sums["cost"] / n / scale
            var = (sums["square"] / n / scale**2 - mean**2).clip(lower=0.0)
            tables[unit] = sums[keys].assign(mean=mean, var=var)
        return pd.concat(tables, names=["unit"]).reset_index("unit")

    @cached_property
    def self_ns(self) -> pd.Series:
        """The self time (ns) of each span that takes time, by account."""
        timed = ~self.trees.log & (self.trees.root >= 0)
        trees = self.trees
        own = self_time_ns(trees.start, trees.end, trees.parent)
        return pd.Series(own[timed], index=self.costs.span_account[timed])

    @cached_property
    def mean_self_ns(self) -> pd.DataFrame:
        """The ``mean`` self time (ns) of an account's spans, and their number ``n``."""
        by = self.self_ns.groupby(level=0)
        return pd.DataFrame({"mean": by.mean(), "n": by.size()})


def sums_by(keys: pd.DataFrame, **values: NDArray | pd.Series) -> pd.DataFrame:
    """Return the sums of columns, a row a different row of `keys`, sorted by these.

    Each sum is taken in the order of the rows, so that equal parts give equal sums.
    """
    order, first = _runs(*(column.to_numpy() for _, column in keys.items()))
    group = np.empty(order.size, dtype=np.int64)
    group[order] = np.cumsum(first) - 1
    sums = {name: np.bincount(group, value) for name, value in values.items()}
    return keys.iloc[order[first]].reset_index(drop=True).assign(**sums)


# ---- where failures began


class _Outcomes(NamedTuple):
    """How spans ended, one entry a span: what is needed to follow a failure to its origin."""

    bad: NDArray  # it failed, or is unanswered
    refusal: NDArray  # an unusual 4xx
    refused: NDArray  # a call without an answer, so fast that the called host refused it
    served: NDArray  # the server span that a client span reached, -1 = none
    usual_ns: NDArray  # the usual duration of its endpoint


def _outcomes(
    trees: TraceTrees, is_open: NDArray, profile: EndpointProfile, config: RcaConfig
) -> _Outcomes:
    usual = profile.nodes.reindex(trees.node, fill_value=0.0)
    usual_ns = usual["ns"].to_numpy()
    usually_fails = usual["failed"].to_numpy() > config.usual_failure_share
    usually_refuses = usual["refused"].to_numpy() > config.usual_failure_share
    duration = trees.end - trees.start
    age = np.maximum(config.timeout_s * 1e9, config.timeout_ratio * usual_ns)
    bad = np.where(is_open, duration > age, trees.failed)
    bad &= ~usually_fails | (trees.parent < 0)
    refusal = _is_refusal(trees) & ~usually_refuses
    at_once = (trees.status == 0) & (duration < config.refused_ms * 1e6)
    return _Outcomes(bad, refusal, at_once, _served_spans(trees), usual_ns)


def _served_spans(trees: TraceTrees) -> NDArray:
    """Return the server span that each client span reached, -1 for none."""
    served = np.full(trees.root.size, -1)
    below = np.flatnonzero(trees.server & (trees.parent >= 0))
    below = below[~trees.server[trees.parent[below]]]
    served[trees.parent[below]] = below
    return served


@compiled
def _origins(trees: TraceTrees, outcomes: _Outcomes) -> tuple[NDArray, NDArray, NDArray]:
    """Return the topmost span of each failure, the span where it began, and whether that was
    refused.
    """
    bad = outcomes.bad
    top = np.empty(bad.size, dtype=np.int64)
    origin = np.empty(bad.size, dtype=np.int64)
    refused = np.empty(bad.size, dtype=np.bool_)
    n = 0
    for i in range(bad.size):
        above = trees.parent[i]
        if not bad[i] or trees.root[i] < 0 or trees.log[i] or (above >= 0 and bad[above]):
            continue  # of a failed caller, the failure is counted there
        if above >= 0 and trees.server[i] and not trees.server[above]:
            continue  # the client span above saw a good answer after all
        top[n] = i
        origin[n], refused[n] = _origin(trees, outcomes, i)
        n += 1
    return top[:n], origin[:n], refused[:n]


@compiled
def _origin(trees: TraceTrees, outcomes: _Outcomes, top: int) -> tuple[int, bool]:
    """Return the span where a failure began, and whether that is a call that was refused.

    The walk goes down the last failing calls, and where a caller gave up, down the time. The
    failure of a caller that was answered with an unusual 4xx counts to who answered so.
    """
    i = top
    while True:
        if trees.server[i]:
            call = _last_call(trees, outcomes.bad, i)
            if call < 0 and not outcomes.refusal[i]:
                call = _last_call(trees, outcomes.refusal, i)
            if call < 0:  # it failed by itself, or it hangs
                hangs = trees.status[i] == 0
                return _slowest(trees, outcomes, i) if hangs else i, False
            i = call
            continue
        answer = outcomes.served[i]
        if answer < 0:
            return i, outcomes.refused[i]
        if trees.status[i] == 0 or not (outcomes.bad[answer] or outcomes.refusal[answer]):
            return _slowest(trees, outcomes, i), False
        i = answer


@compiled
def _last_call(trees: TraceTrees, which: NDArray, i: int) -> int:
    """Return the call of span i that ended last of those in a mask, -1 if there is none."""
    for k in range(trees.first[i], trees.first[i + 1]):  # the latest end comes first
        if which[trees.child[k]] and not trees.log[trees.child[k]]:
            return trees.child[k]
    return -1


@compiled
def _slowest(trees: TraceTrees, outcomes: _Outcomes, top: int) -> int:
    """Return the span that took most of a span's time beyond the usual.

    The walk goes down into the worst call, as long as its excess exceeds the span's own time.
    """
    i = top
    while True:
        own = float(trees.end[i] - trees.start[i])
        t = trees.end[i]
        worst = -1
        worst_excess = 0.0
        for k in range(trees.first[i], trees.first[i + 1]):
            c = trees.child[k]
            until = min(trees.end[c], t)
            since = trees.start[c]
            if trees.log[c] or until <= since:
                continue
            own -= until - since
            t = since
            called = outcomes.served[c] if outcomes.served[c] >= 0 else c
            usual_ns = outcomes.usual_ns[called] if trees.server[i] else 0.0
            excess = until - since - usual_ns
            if excess > worst_excess:
                worst = c
                worst_excess = excess
        if worst < 0 or own >= worst_excess:
            return i
        i = worst
