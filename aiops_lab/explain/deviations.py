"""What is unusual, whatever it costs? Evidence of each kind against the fault-free spans.

The ledger counts what customers lose. Some faults cost them next to nothing, and some systems
record no failures. What then remains is that something is not done as usual:

errors      failures that began at an account (`aiops_lab.explain.attribution`) self        spans of
an account that keep more time for themselves than 95 % of the usual ones; of an edge, the gap shape
spans that call a set of children which was rare for such a span, and none below them does. As many
would
            do so anyhow as usually had a set that was seen only once (Good 1953, doi
            10.1093/biomet/40.3-4.237)
resources   values of a service's metric far beyond 95 % of the usual ones

Of each item counts by how much the unusual part has grown for sure: the lower confidence bound of
now less the upper one of before. A service is suspected when this adds up at its own items: the
cosine of Ochiai, with shares instead of counts (MicroRank, doi 10.1145/3442381.3449905, section
4.3). That odd shapes tell of faults which no duration shows, once log lines are children too, is
Nezha's idea (doi 10.1145/3611643.3616249).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import account_nodes, accounts_of
from aiops_lab.numerics import compiled, wilson
from aiops_lab.spans import Key
from aiops_lab.traces.trees import TraceTrees, self_time_ns

DEVIATION_KINDS = ("errors", "self", "shape", "resources")

QUANTILE = 0.95  # share of the usual values that are no symptom

N_SIGMA = 3.0  # of both confidence bounds

# how much the symptom of an edge counts for the caller; for the called it counts in full
CALLER_WEIGHT = 0.5

MIN_NS = 100_000  # what always takes exactly as long may still vary by so much

RARITY_RATIO = 5.0  # a set of children is odd where it used to be so many times rarer

MIN_COUNT = 2  # one alone proves nothing, whatever it does

# a metric is unusual so many times its usual size, or its usual spread, beyond 95 % of its usual
# values
RESOURCE_MARGIN = 2.0


class Counts(NamedTuple):
    """A number for each of some keys, which are sorted."""

    key: NDArray
    n: NDArray

    def of(self, key: NDArray) -> NDArray:
        """Return the numbers of other keys, 0 where there is none."""
        if self.key.size == 0:
            return np.zeros(key.size)
        at = np.minimum(np.searchsorted(self.key, key), self.key.size - 1)
        return np.where(self.key[at] == key, self.n[at], 0.0)


def _counted(key: NDArray) -> Counts:
    seen, n = np.unique(key, return_counts=True)
    return Counts(seen, n.astype(float))


class ReferenceProfile(NamedTuple):
    """What is customary in fault-free traces.

    ``spans``, ``failures``: how many an account has; ``limit``: the ns that 95 % of its spans keep
    for themselves at most. ``shapes``: how often each key of `_shapes` was seen; ``once``: how many
    spans of an account have sets that were seen once. ``resources``: by service and metric, the
    limit of its values, how many there are (n) and how many of them lie beyond (k).
    """

    spans: Counts
    failures: Counts
    limit: Counts
    shapes: tuple[Counts, ...]
    once: Counts
    resources: pd.DataFrame


def reference_profile(
    trees: TraceTrees, failures: NDArray, resources: pd.DataFrame | None = None
) -> ReferenceProfile:
    """Return what is customary in fault-free traces, whose `failures` are given by account."""
    account, own = self_times(trees)
    limit = pd.Series(own).groupby(account).quantile(QUANTILE)
    keys = _shapes(trees)
    shapes = tuple(_counted(key) for key in keys)
    once = _counted(keys[-1][shapes[0].of(keys[0]) == 1])
    limits = Counts(limit.index.to_numpy(), limit.to_numpy())
    return ReferenceProfile(
        _counted(account), _counted(failures), limits, shapes, once, _limits(resources)
    )


def _limits(resources: pd.DataFrame | None) -> pd.DataFrame:
    """Return a row a service and metric: limit, n values, k of them beyond it."""
    if resources is None or resources.empty:
        return pd.DataFrame(
            {"limit": [], "n": [], "k": []}, index=pd.MultiIndex.from_arrays([[], []])
        )
    low, high = (
        resources.groupby("service").quantile(q, numeric_only=True)
        for q in (1 - QUANTILE, QUANTILE)
    )
    limits = high + RESOURCE_MARGIN * np.maximum(high - low, high.abs())
    table = _beyond(limits, resources)
    table["limit"] = limits.stack()
    return table


def _beyond(limits: pd.DataFrame, resources: pd.DataFrame) -> pd.DataFrame:
    """Return how many values of each metric there are, and how many lie beyond their limits."""
    values = resources.set_index("service")[list(limits.columns)]
    beyond = values > limits.reindex(values.index).to_numpy()
    counts = {
        name: t.groupby(level=0).sum().stack() for name, t in (("n", values.notna()), ("k", beyond))
    }
    return pd.DataFrame(counts).astype(float)


def self_times(trees: TraceTrees) -> tuple[NDArray, NDArray]:
    """Return of each span that takes time its account, and the ns that it keeps for itself."""
    timed = ~trees.log & (trees.root >= 0)
    return accounts_of(trees)[1][timed], self_time_ns(trees)[timed]


def find_deviations(
    usual: ReferenceProfile,
    trees: TraceTrees,
    failures: NDArray,
    hurt: NDArray,
    resources: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the items of evidence that have grown for sure, and how many were looked at.

    Parameters
    ----------
    usual : Custom
    trees : Forest
        The traces of now.
    failures : array
        Of now, by the account at which they began.
    hurt : array
        A mask of the spans whose shape follows from a failure.
    resources : DataFrame, optional
        The metrics of now: index time, column service, the rest numbers.

    Returns
    -------
    DataFrame
        kind, account (of a resource: the name of the service), what ("" or the name of a metric), n
        and k of now (k of n are unusual), usual_n, usual_k, share (by how much the unusual part has
        grown for sure).
    """
    account, own = self_times(trees)
    failed = _counted(failures)
    at = np.union1d(account, failed.key)
    n, known = np.maximum(_counted(account).of(at), failed.of(at)), usual.spans.of(at)
    slow = _counted(account[own > usual.limit.of(account) + MIN_NS]).of(at)
    every, whole = accounts_of(trees)[1], trees.root >= 0
    odd = _counted(every[_odd(usual, trees) & ~hurt])
    of_shape = (
        _counted(every[whole]).of(odd.key),
        odd.n,
        usual.shapes[-1].of(odd.key),
        usual.once.of(odd.key),
    )
    return pd.concat(
        [
            _items("errors", at, n, failed.of(at), known, usual.failures.of(at)),
            _items("self", at, n, slow, known, (1 - QUANTILE) * known),
            _items("shape", odd.key, *of_shape),
            _of_resources(usual.resources, resources),
        ],
        ignore_index=True,
    )


def _of_resources(usual: pd.DataFrame, now: pd.DataFrame | None) -> pd.DataFrame:
    limits = usual["limit"].unstack()
    if now is None or limits.empty:
        nothing = np.empty(0)
        return _items("resources", nothing, nothing, nothing, nothing, nothing)
    counts = _beyond(limits, now[now["service"].isin(limits.index)])
    before = usual.reindex(counts.index).fillna(0.0)
    service, metric = (counts.index.get_level_values(k).to_numpy(dtype=object) for k in (0, 1))
    n, k, usual_n, usual_k = (
        t[c].to_numpy(dtype=float) for t in (counts, before) for c in ("n", "k")
    )
    return _items("resources", service, n, k, usual_n, usual_k, metric)


def _items(
    kind: str,
    account: NDArray,
    n: NDArray,
    k: NDArray,
    usual_n: NDArray,
    usual_k: NDArray,
    what: NDArray | None = None,
) -> pd.DataFrame:
    what = np.full(account.size, "", dtype=object) if what is None else what
    known = (usual_n > 0) & (n > 0)
    account, what, n, k, usual_n, usual_k = (
        column[known] for column in (account, what, n, k, usual_n, usual_k)
    )
    grown = wilson(k, n, N_SIGMA)[0] - wilson(np.minimum(usual_k, usual_n), usual_n, N_SIGMA)[1]
    share = np.where(n >= MIN_COUNT, np.maximum(grown, 0.0), 0.0)
    numbers = {"n": n, "k": k, "usual_n": usual_n, "usual_k": usual_k, "share": share}
    return pd.DataFrame(
        {"kind": kind, "account": pd.Series(account, dtype=object), "what": what, **numbers}
    )


# ---- shapes


def _shapes(trees: TraceTrees) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return keys of each span: account with both sets, with its parent's, with its children's, and
    alone.
    """
    account = accounts_of(trees)[1]
    below = np.flatnonzero(trees.parent >= 0)
    called = _mixed(account[below])
    _, one_each = np.unique(called ^ _mixed(_mixed(trees.parent[below])), return_index=True)
    children = np.zeros(account.size, dtype=np.uint64)
    np.add.at(children, trees.parent[below][one_each], called[one_each])
    above = _mixed(account) ^ _mixed(
        np.where(trees.parent >= 0, children[trees.parent], np.uint64(1))
    )
    under = _mixed(children + np.uint64(1))
    return above ^ under, above, _mixed(account) ^ under, account


def _mixed(key: NDArray) -> NDArray:
    """Return keys spread over 64 bits (splitmix64: Steele et al. 2014, doi
    10.1145/2660193.2660195).
    """
    z = key.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _odd(usual: ReferenceProfile, trees: TraceTrees) -> NDArray:
    """Return the spans whose set of children was rare for such a span under such a parent, and none
    below them is odd.

    A span that was never seen before is no odd one; the one that called it is.
    """
    both, above, under, account = _shapes(trees)
    now = _counted(both).of(both) / _counted(above).of(above)
    times, of = usual.shapes[0].of(both), usual.shapes[1].of(above)
    anywhere = of == 0  # the parent's set is itself new
    times, of = np.where(
        anywhere, (usual.shapes[2].of(under), usual.shapes[3].of(account)), (times, of)
    )
    return _deepest(
        (of > 0) & (now > RARITY_RATIO * times / np.maximum(of, 1)) & (trees.root >= 0),
        trees.parent,
    )


@compiled
def _deepest(odd: NDArray, parent: NDArray) -> NDArray:
    """Return the spans of a mask that have no span of the mask below them."""
    above = np.zeros(odd.size, dtype=np.bool_)
    for i in range(odd.size):
        p = parent[i] if odd[i] else -1
        while p >= 0 and not above[p]:
            above[p] = True
            p = parent[p]
    return odd & ~above


# ---- who shows them


class Unusual(NamedTuple):
    """How unusual a service is (0 to 1), its most unusual endpoint (by code), and the rows of the
    items that say so.
    """

    score: float
    node: int
    rows: list[int]


def rank_services(items: pd.DataFrame, keys: dict[int, Key]) -> list[Unusual]:
    """Return the services that show symptoms, most unusual first; `keys` holds (service, endpoint)
    by code.

    A slow or broken edge is a symptom of the called, and half a one of the caller.
    """
    found: dict[str, list[tuple[float, int, int]]] = {}
    service = {node: key[0] for node, key in keys.items()}
    any_node = {service[node]: node for node in sorted(keys, key=keys.__getitem__, reverse=True)}
    for row, account, share in zip(items.index, items["account"], items["share"], strict=True):
        *caller, called = (
            [any_node.get(account, -1)] if isinstance(account, str) else account_nodes(account)
        )
        parts = [
            (node, CALLER_WEIGHT) for node in caller if service.get(node) != service.get(called)
        ]
        for node, part in [*parts, (called, 1.0)]:
            if node in service:
                found.setdefault(service[node], []).append((part * share, node, row))
    total = max(float(items["share"].sum()), 1e-12)
    shown = {name: mine for name, mine in sorted(found.items()) if max(mine)[0] > 0}
    return sorted(
        (_unusual(mine, total, keys) for mine in shown.values()), key=lambda unusual: -unusual.score
    )


def _unusual(mine: list[tuple[float, int, int]], total: float, keys: dict[int, Key]) -> Unusual:
    score = sum(share for share, _, _ in mine) / (total * len(mine)) ** 0.5
    at = min(mine, key=lambda item: (-item[0], keys[item[1]]))[1]
    return Unusual(score, at, [row for share, _, row in sorted(mine, reverse=True) if share > 0])
