"""What did each request cost, and on whose account? Every moment and every failure is booked once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.numerics import compiled
from aiops_lab.traces.encode import EncodedSpans
from aiops_lab.traces.trees import TraceTrees, critical_path

# an open request older than this, and than so many usual ones, is unanswered
STUCK_NS, STUCK_USUAL = 5_000_000_000, 5

REFUSED_NS = 5_000_000  # a call without an answer within 5 ms was refused by the called host

# An account is the code of an endpoint (its own time, or a failure of its own), or _EDGE + caller *
# _CODES + called: the gap between a client span and the server span that it called.
_EDGE, _CODES = 1 << 40, 1 << 20

_OUTSIDE = _CODES - 1  # the caller of what comes from outside


class CostTable(NamedTuple):
    """What the requests of a frame cost.

    ``requests``: a row a root request, indexed by position in the frame: entry, ns, failed, open
    (no answer yet), trace_id. ``time``: root, entry, account, ns: adds up to the ns of the root.
    ``failures``: root, entry, account, masked (repaired before the entry failed): one a failed
    root, unless masked. ``endpoints``: a row an endpoint: n, mean ms, var of ms, failed,
    unanswered.
    """

    requests: pd.DataFrame
    time: pd.DataFrame
    failures: pd.DataFrame
    endpoints: pd.DataFrame


def attributed_to(account: int) -> int:
    """Return the code of the endpoint to which an account counts: a slow edge counts to the called."""
    return account if account < _EDGE else (account - _EDGE) % _CODES


def account_nodes(account: int) -> tuple[int, ...]:
    """Return the codes of the endpoints that an account belongs to: of an edge, the caller and the
    called.
    """
    return (account,) if account < _EDGE else divmod(account - _EDGE, _CODES)


def account_label(account: int, unit: str, shown: dict[int, str]) -> str:
    """Return how an account is shown."""
    if account < _EDGE:
        return f"{shown[account]} {'own time' if unit == 'ms' else 'itself'}"
    caller, called = divmod(account - _EDGE, _CODES)
    return f"edge {shown.get(caller, 'outside')} → {shown[called]}"


class EndpointProfile(NamedTuple):
    """What endpoints are like when all is well.

    ``mean_ns``, ``failed`` and ``refused`` (shares of 5xx and of 4xx) by code of the endpoint;
    ``calls``: how many calls a caller makes to a callee at most, as a rule, by (caller, callee).
    """

    mean_ns: NDArray
    failed: NDArray
    refused: NDArray
    calls: dict[tuple[int, int], int]


def endpoint_profile(trees: TraceTrees, width: int) -> EndpointProfile:
    """Return the habits of `width` endpoints that fault-free traces show."""
    code, duration = trees.node[trees.server], (trees.end - trees.start)[trees.server]
    n = np.maximum(np.bincount(code, minlength=width), 1)
    mean_ns = np.bincount(code, duration, minlength=width) / n
    failures = np.bincount(code, trees.failed[trees.server], minlength=width) / n
    refused = np.bincount(code, _is_refusal(trees)[trees.server], minlength=width) / n
    called, rank = _call_ranks(trees)
    calls = pd.DataFrame(
        {"caller": trees.node[trees.parent[called]], "callee": trees.node[called], "rank": rank}
    )
    top = (
        calls[calls["rank"] > 0]
        .groupby(["caller", "callee"])["rank"]
        .quantile(0.99, interpolation="lower")
    )
    most = zip(top.index.tolist(), top.tolist(), strict=True)
    return EndpointProfile(mean_ns, failures, refused, {pair: int(count) for pair, count in most})


def _is_refusal(trees: TraceTrees) -> NDArray:
    return (trees.status >= 400) & (trees.status < 500)


def _call_ranks(trees: TraceTrees) -> tuple[NDArray, NDArray]:
    """Return the calls that spans make, and which call of its caller to the same callee each of
    them is: 1, 2, …
    """
    called = np.flatnonzero((trees.parent >= 0) & ~trees.log)
    called = called[trees.server[trees.parent[called]]]
    order = np.lexsort((called, trees.start[called], trees.node[called], trees.parent[called]))
    called = called[order]
    new = np.ones(called.size, dtype=bool)
    new[1:] = (np.diff(trees.parent[called]) != 0) | (np.diff(trees.node[called]) != 0)
    begin = np.flatnonzero(new)
    return called, np.arange(called.size) - np.repeat(
        begin, np.diff(np.append(begin, called.size))
    ) + 1


def _without_extra_calls(trees: TraceTrees, usual: EndpointProfile) -> TraceTrees:
    """Return the trees with the calls beyond the usual number hidden, so that their time is their
    caller's own.

    A call that repeats a failed one is no choice of the caller's: it stays.
    """
    called, rank = _call_ranks(trees)
    pair, which = np.unique(
        trees.node[trees.parent[called]] * _CODES + trees.node[called], return_inverse=True
    )
    most = np.array(
        [usual.calls.get(divmod(code, _CODES), 1) for code in pair.tolist()], dtype=np.int64
    )[which]
    repeats = np.zeros(called.size, dtype=bool)
    repeats[1:] = (rank[1:] > 1) & trees.failed[called[:-1]]
    hidden = trees.log.copy()
    hidden[called[(rank > most) & ~repeats]] = True
    return trees._replace(log=hidden)


def attribute_costs(
    spans: EncodedSpans,
    trees: TraceTrees,
    width: int,
    until_ns: int,
    usual: EndpointProfile,
    stuck_ns: int = STUCK_NS,
) -> CostTable:
    """Return the books of a frame as it stood at `until_ns`.

    Parameters
    ----------
    spans, trees
        The same recording twice: from `encode`, and from `build_trees`.
    width : int
        Number of endpoint codes.
    usual : Habits
        A call beyond the usual number is its caller's; what usually fails explains no failure.
    stuck_ns : int
        Age from which an open request counts as unanswered.
    """
    usually = np.pad(usual.mean_ns, (0, width - usual.mean_ns.size))
    fails, refuses = (np.pad(u, (0, width - u.size)) > 0.5 for u in (usual.failed, usual.refused))
    duration, is_open = trees.end - trees.start, spans.end > until_ns
    stuck = duration > np.maximum(stuck_ns, STUCK_USUAL * usually[trees.node])
    bad = (trees.failed & ~is_open) | (is_open & stuck)
    bad &= ~fails[trees.node] | (trees.parent < 0)
    served, account = accounts_of(trees)
    root = np.flatnonzero(
        (trees.root == np.arange(trees.root.size)) & (~is_open | bad) & ~trees.log
    )
    requests = pd.DataFrame(
        {
            "entry": trees.node[root],
            "ns": duration[root],
            "failed": bad[root],
            "open": is_open[root],
            "trace_id": spans.texts("trace_id", root),
        },
        index=root,
    )

    span, ns = critical_path(_without_extra_calls(trees, usual))
    top, where, pair = pairs(trees.root[span], account[span])
    time = pd.DataFrame(
        {
            "root": top,
            "account": where,
            "ns": np.bincount(pair, ns, minlength=top.size).astype(np.int64),
        }
    )
    refusal = _is_refusal(trees) & ~refuses[trees.node]
    seen, born = _origins(trees, bad, refusal, account, served, usually)
    failures = pd.DataFrame(
        {"root": trees.root[seen], "account": born, "masked": trees.parent[seen] >= 0}
    )
    stats = _stats(trees, duration, is_open, bad)
    return CostTable(
        requests, _of_roots(time, root, trees), _of_roots(failures, root, trees), stats
    )


def _of_roots(table: pd.DataFrame, root: NDArray, trees: TraceTrees) -> pd.DataFrame:
    """Return the rows of requests that count, with their entry."""
    table = table[np.isin(table["root"], root)]
    return table.assign(entry=trees.node[table["root"].to_numpy()])


def accounts_of(trees: TraceTrees) -> tuple[NDArray, NDArray]:
    """Return for each client span the server span that it reached (-1: none), and for each span its
    account.
    """
    served = np.full(trees.root.size, -1, dtype=np.int64)
    below = np.flatnonzero(trees.server & (trees.parent >= 0))
    below = below[~trees.server[trees.parent[below]]]
    served[trees.parent[below]] = below
    called = np.where(served >= 0, trees.node[served], trees.node)
    caller = np.where(trees.parent >= 0, trees.node[trees.parent], _OUTSIDE)
    return served, np.where(trees.server, trees.node, _EDGE + caller * _CODES + called)


def _stats(trees: TraceTrees, duration: NDArray, is_open: NDArray, bad: NDArray) -> pd.DataFrame:
    rows = np.flatnonzero(trees.server & (trees.root >= 0))
    closed = ~is_open[rows]
    ms, nodes = duration[rows] / 1e6, trees.node[rows]
    table = moments(nodes[closed], ms[closed])
    counted = {
        name: which[rows]
        for name, which in (("failed", bad & ~is_open), ("unanswered", bad & is_open))
    }
    width = int(nodes.max(initial=-1)) + 1
    sums = {
        name: np.bincount(nodes, which, minlength=width).astype(int)
        for name, which in counted.items()
    }
    seen = np.bincount(nodes, minlength=width) > 0
    return table.reindex(np.arange(width)).assign(**sums).fillna({"n": 0}).astype({"n": int})[seen]


def moments(group: NDArray, value: NDArray) -> pd.DataFrame:
    """Return number, mean and variance of the values of each group, which are small whole numbers:
    n, ms, var.
    """
    n = np.bincount(group)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(group, value, minlength=n.size) / n
        var = np.bincount(group, (value - mean[group]) ** 2, minlength=n.size) / n
    return pd.DataFrame({"n": n, "ms": mean, "var": var})[n > 0]


def pairs(first: NDArray, second: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return the different pairs of two columns, sorted, and which of them each row is."""
    place, values = pd.factorize(second, sort=True)
    which, code = pd.factorize(first * max(values.size, 1) + place, sort=True)
    return code // max(values.size, 1), values[code % max(values.size, 1)], which


@compiled
def _origins(
    trees: TraceTrees,
    bad: NDArray,
    refusal: NDArray,
    account: NDArray,
    served: NDArray,
    usually_ns: NDArray,
) -> tuple[NDArray, NDArray]:
    """Return the topmost spans of all failures, and the accounts where these were born."""
    seen = np.empty(bad.size, dtype=np.int64)
    born = np.empty(bad.size, dtype=np.int64)
    n = 0
    for top in range(bad.size):
        above = trees.parent[top]
        if not bad[top] or trees.root[top] < 0 or trees.log[top] or (above >= 0 and bad[above]):
            continue  # of a failed caller, the failure is counted there
        if above >= 0 and trees.server[top] and not trees.server[above]:
            continue  # the client span above saw a good answer after all
        seen[n], born[n] = top, _origin(trees, bad, refusal, account, served, usually_ns, top)
        n += 1
    return seen[:n], born[:n]


@compiled
def _origin(
    trees: TraceTrees,
    bad: NDArray,
    refusal: NDArray,
    account: NDArray,
    served: NDArray,
    usually_ns: NDArray,
    top: int,
) -> int:
    """Follow a failure to where it began: down the last failing calls, and where a caller gave up,
    down the time.

    A caller that fails because of an unusual 4xx accuses who answered so.
    """
    i = top
    while True:
        if trees.server[i]:
            call = _last(trees, bad, i)
            if call < 0 and not refusal[i]:
                call = _last(trees, refusal, i)
            if call < 0:  # it failed by itself, or it hangs
                return (
                    account[i]
                    if trees.status[i] != 0
                    else _slowest_account(trees, account, served, usually_ns, i)
                )
            i = call
        elif served[i] < 0:
            refused = trees.status[i] == 0 and trees.end[i] - trees.start[i] < REFUSED_NS
            return trees.node[i] if refused else account[i]
        elif trees.status[i] == 0 or not (bad[served[i]] or refusal[served[i]]):
            return _slowest_account(trees, account, served, usually_ns, i)
        else:
            i = served[i]


@compiled
def _last(trees: TraceTrees, which: NDArray, i: int) -> int:
    """Return the call of span i that ended last of those in a mask, -1 if there is none."""
    for k in range(trees.first[i], trees.first[i + 1]):  # the latest end comes first
        if which[trees.child[k]] and not trees.log[trees.child[k]]:
            return trees.child[k]
    return -1


@compiled
def _slowest_account(
    trees: TraceTrees, account: NDArray, served: NDArray, usually_ns: NDArray, top: int
) -> int:
    """Return the account that took most of a span's time beyond the usual, walking down into the
    worst call.
    """
    i = top
    while True:
        own, t = float(trees.end[i] - trees.start[i]), trees.end[i]
        worst, worst_excess = -1, 0.0
        for k in range(trees.first[i], trees.first[i + 1]):
            c = trees.child[k]
            until, since = min(trees.end[c], t), trees.start[c]
            if trees.log[c] or until <= since:
                continue
            own -= until - since
            t = since
            called = trees.node[served[c]] if served[c] >= 0 else trees.node[c]
            excess = until - since - (usually_ns[called] if trees.server[i] else 0.0)
            if excess > worst_excess:
                worst, worst_excess = c, excess
        if worst < 0 or own >= worst_excess:
            return account[i]
        i = worst
