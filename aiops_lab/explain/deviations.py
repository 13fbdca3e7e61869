"""What is unusual, whatever it costs? Evidence of each kind against the fault-free spans.

The ledger counts what customers lose. Some faults cost them next to nothing, and some systems
record no failures. What then remains is that something is not done as usual:

errors
    failures that began at an account (`aiops_lab.explain.attribution`)
self
    spans of an account whose self time exceeds 95 % of the usual ones; of an edge, the gap
shape
    spans that call a set of children which was rare for such a span, and none below them does. As
    many would do so anyhow as usually had a set that was seen only once (Good 1953, doi
    10.1093/biomet/40.3-4.237)
calls
    requests that make more calls to one endpoint than usual (`aiops_lab.explain.more_calls`)
resources
    values of a service's metric far beyond 95 % of the usual ones

Each item counts by how much the unusual part has certainly grown: the lower confidence bound of now
less the upper one of before. A service is suspected when this adds up at its own items: the cosine
of Ochiai, with shares instead of counts (MicroRank, doi 10.1145/3442381.3449905, section 4.3). That
odd shapes reveal faults which no duration shows, once log lines are children too, is Nezha's idea
(doi 10.1145/3611643.3616249).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import OWN, AccountTable, AttributedTraces
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.more_calls import CallCounts, call_items, count_calls
from aiops_lab.explain.slower import certainly_slower, log_times
from aiops_lab.numerics import compiled, wilson
from aiops_lab.spans import Key

DEVIATION_KINDS = ("errors", "self", "shape", "calls", "resources")


class ReferenceProfile(NamedTuple):
    """What is customary in fault-free traces.

    ``accounts``: by account n (spans that take time), failed (failures that began there), limit
    (the quantile of their self times, ns), spans (all of them) and once (those whose set of
    children was seen once). ``shapes``: how often each key of a column of `_shapes` was seen.
    ``times``: of the self times of each account (`log_times`). ``calls``: how many calls requests
    make. ``resources``: by service and metric the limit of its values, how many there are (n) and
    how many of them lie beyond (k).
    """

    accounts: pd.DataFrame
    times: pd.DataFrame
    shapes: dict[str, pd.Series]
    calls: CallCounts
    resources: pd.DataFrame


def reference_profile(
    traces: AttributedTraces, resources: pd.DataFrame | None = None
) -> ReferenceProfile:
    """Return what is customary in fault-free traces."""
    keys = _shapes(traces)
    shapes = {str(name): key.value_counts() for name, key in keys.items()}
    once = _look_up(shapes["both"], keys["both"]) == 1
    self_ns = traces.self_ns.groupby(level=0)
    long = (traces.self_ns > traces.config.timeout_s * 1e9).groupby(level=0).mean()
    limit = self_ns.quantile(traces.config.quantile)
    limit = limit.mask(long > traces.config.long_lived_share, np.inf)
    columns = {
        "n": traces.self_ns.index.value_counts(),
        "failed": _failed(traces),
        "limit": limit,
        "spans": shapes["account"],
        "once": keys["account"][once].value_counts(),
    }
    accounts = pd.DataFrame(columns).fillna(0.0)
    return ReferenceProfile(
        accounts,
        log_times(traces.self_ns, traces.config),
        shapes,
        count_calls(traces),
        _resource_limits(resources, traces.config),
    )


def _look_up(counts: pd.Series, keys: pd.Series) -> NDArray:
    """Return the count of each key, 0 where there is none."""
    return counts.reindex(keys, fill_value=0).to_numpy()


def find_deviations(
    profile: ReferenceProfile, traces: AttributedTraces, resources: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the items of evidence, and by how much each has certainly grown.

    Parameters
    ----------
    profile : ReferenceProfile
    traces : AttributedTraces
        Those of the incident.
    resources : DataFrame, optional
        The metrics of its time: index time, column service, the rest numbers.

    Returns
    -------
    DataFrame
        kind, caller, endpoint and attributed_to of the account (`AccountTable`; of a resource, the
        first endpoint of its service), what ("" or the name of a metric), n and k of now (k of n
        are unusual), usual_n, usual_k, share (by how much the unusual part has certainly grown, 0
        to 1).
    """
    tables = {
        "errors": _errors(profile, traces),
        "self": _slow_spans(profile, traces),
        "shape": _odd_shapes(profile, traces),
        "calls": call_items(profile.calls, count_calls(traces)),
        "resources": _resources(profile, traces, resources),
    }
    items = pd.concat(tables, names=["kind"]).reset_index("kind")
    items = items.astype({"caller": int, "endpoint": int, "attributed_to": int})
    items = _with_share(items, traces.config)
    slower = items.pop("slower").fillna(0.0)
    return items if items["share"].any() else items.assign(share=slower)


def _with_share(items: pd.DataFrame, config: RcaConfig) -> pd.DataFrame:
    """Return the items that can be compared, with the share by which each has certainly grown."""
    items = items[(items["usual_n"] > 0) & (items["n"] > 0)].reset_index(drop=True)
    least_now, _ = wilson(items["k"], items["n"], config.n_sigma)
    usual_k = np.minimum(items["usual_k"], items["usual_n"])
    _, most_usual = wilson(usual_k, items["usual_n"], config.n_sigma)
    share = (least_now - most_usual).clip(lower=0.0)
    share = share.where(items["n"] >= config.min_count, 0.0)
    if not share.any():  # few failures are told from chance where nothing else is unusual
        fails = (items["kind"] == "errors") & (items["k"] >= config.min_count)
        share = share.mask(fails, more_failures(items[fails], items, config))
    return items.assign(share=share)


def more_failures(items: pd.DataFrame, every: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return by how much the share of failures has certainly grown: the lower bound of the
    difference of two shares (Newcombe 1998, doi
    10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10).

    An account that was seldom observed is taken to have failed, in `prior_requests` more, as all
    accounts do together. `every` holds the items of all accounts.
    """
    known = every[every["kind"] == "errors"]
    everywhere = known["usual_k"].sum() / max(known["usual_n"].sum(), 1.0)
    usual_n = items["usual_n"] + config.prior_requests
    usual_k = items["usual_k"] + config.prior_requests * everywhere
    usual_k = usual_k.clip(upper=usual_n)
    least_now, _ = wilson(items["k"], items["n"], config.n_sigma)
    _, most_usual = wilson(usual_k, usual_n, config.n_sigma)
    now = items["k"] / items["n"]
    usual = usual_k / usual_n
    least_more = now - usual - np.hypot(now - least_now, most_usual - usual)
    return least_more.clip(lower=0.0)


def _items(accounts: AccountTable, **columns: pd.Series) -> pd.DataFrame:
    """Return a row an account of the column n; 0 where another has no such account."""
    items = pd.DataFrame({"n": columns["n"]}).join(pd.DataFrame(columns).drop(columns="n"))
    code = items.index.to_numpy(dtype=np.int64)
    items = items.fillna(0.0).astype(float)
    return items.assign(
        caller=accounts.caller[code],
        endpoint=accounts.endpoint[code],
        attributed_to=accounts.attributed_to[code],
        what="",
    )


def _errors(profile: ReferenceProfile, traces: AttributedTraces) -> pd.DataFrame:
    usual = profile.accounts
    costs = traces.costs
    return _items(
        costs.accounts,
        n=_observed(traces),
        k=_failed(traces),
        usual_n=usual["n"],
        usual_k=usual["failed"],
    )


def _observed(traces: AttributedTraces) -> pd.Series:
    """Return how often each account was observed: its spans, at least its failures."""
    spans = traces.self_ns.index.value_counts()
    return spans.combine(_failed(traces), max, fill_value=0).sort_index()


def _failed(traces: AttributedTraces) -> pd.Series:
    """Return how many failures began at each account."""
    failures = traces.costs.failures
    return pd.Series(failures.cost).groupby(failures.account).sum()


def _slow_spans(profile: ReferenceProfile, traces: AttributedTraces) -> pd.DataFrame:
    usual = profile.accounts
    self_ns = traces.self_ns
    config = traces.config
    limit = usual["limit"].reindex(self_ns.index, fill_value=0.0) + config.min_self_ms * 1e6
    slow = self_ns.index[self_ns > limit].value_counts()
    now = log_times(self_ns, config)
    items = _items(
        traces.costs.accounts,
        n=_observed(traces),
        k=slow,
        usual_n=usual["n"],
        usual_k=(1 - config.quantile) * usual["n"],
    )
    return items.assign(slower=certainly_slower(profile.times, now, config))


# ---- resources


def _resource_limits(resources: pd.DataFrame | None, config: RcaConfig) -> pd.DataFrame:
    """Return a row a service and metric: limit, n values, k of them beyond it."""
    if resources is None or resources.empty:
        nowhere = pd.MultiIndex.from_arrays([[], []], names=["service", "what"])
        return pd.DataFrame({"limit": [], "n": [], "k": []}, index=nowhere)
    by_service = resources.groupby("service")
    low = by_service.quantile(1 - config.quantile, numeric_only=True)
    high = by_service.quantile(config.quantile, numeric_only=True)
    limits = high + config.resource_margin * np.maximum(high - low, high.abs())
    table = _beyond(limits, resources)
    table["limit"] = limits.stack()
    return table


def _beyond(limits: pd.DataFrame, resources: pd.DataFrame) -> pd.DataFrame:
    """Return how many values of each metric there are, and how many lie beyond their limits."""
    values = resources.set_index("service")[list(limits.columns)]
    beyond = values > limits.reindex(values.index).to_numpy()
    n = values.notna().groupby(level=0, observed=True).sum().stack()
    k = beyond.groupby(level=0, observed=True).sum().stack()
    return pd.DataFrame({"n": n, "k": k}).astype(float).rename_axis(["service", "what"])


def _resources(
    profile: ReferenceProfile, traces: AttributedTraces, now: pd.DataFrame | None
) -> pd.DataFrame:
    usual = profile.resources
    keys = traces.spans.keys
    if now is None or usual.empty:
        return pd.DataFrame()
    limits = usual["limit"].unstack()
    with_limits = now["service"].isin(limits.index)
    counts = _beyond(limits, now[with_limits])
    usual_counts = usual[["n", "k"]].add_prefix("usual_")
    items = counts.join(usual_counts).fillna(0.0).reset_index()
    by_name = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
    first_endpoint = {keys[code][0]: code for code in by_name}
    items = items[items["service"].isin(first_endpoint)]
    endpoint = items["service"].map(first_endpoint)
    items = items.drop(columns="service").assign(endpoint=endpoint, attributed_to=endpoint)
    return items.assign(caller=OWN)


# ---- shapes


def _shapes(traces: AttributedTraces) -> pd.DataFrame:
    """Return keys of each span: its account with the set of its children and that of its parent's
    (``both``), with its parent's (``above``), with its own (``under``), and alone (``account``).
    """
    account = traces.costs.span_account
    parent = traces.trees.parent
    mixed = _mixed(account)
    below = np.flatnonzero(parent >= 0)
    child = mixed[below]
    by_parent = child ^ _mixed(_mixed(parent[below]))
    _, one_each = np.unique(by_parent, return_index=True)
    children = np.zeros(account.size, dtype=np.uint64)
    np.add.at(children, parent[below][one_each], child[one_each])
    above = mixed ^ _mixed(np.where(parent >= 0, children[parent], np.uint64(1)))
    under = _mixed(children + np.uint64(1))
    keys = {"both": above ^ under, "above": above, "under": mixed ^ under, "account": account}
    return pd.DataFrame(keys)


def _mixed(key: NDArray) -> NDArray:
    """Return keys spread over 64 bits (splitmix64: Steele et al. 2014, doi
    10.1145/2660193.2660195).
    """
    z = key.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def odd_spans(profile: ReferenceProfile, traces: AttributedTraces) -> NDArray:
    """Return which spans call an odd set of children, without those of traces in which something
    failed.
    """
    trees = traces.trees
    open_now = traces.spans.end > traces.until_ns
    refused = trees.status >= 400
    failing = (trees.failed | refused | open_now) & ~trees.log
    failed_traces = np.isin(trees.root, trees.root[failing])
    return _is_odd(profile, traces) & ~failed_traces & ~traces.costs.lacks_calls


def _odd_shapes(profile: ReferenceProfile, traces: AttributedTraces) -> pd.DataFrame:
    """Return the odd shapes by account."""
    account = pd.Series(traces.costs.span_account)
    is_odd = odd_spans(profile, traces)
    odd = account[is_odd].value_counts().sort_index()
    observed = account[traces.trees.root >= 0].value_counts()
    usual = profile.accounts
    return _items(
        traces.costs.accounts,
        n=observed.reindex(odd.index),
        k=odd,
        usual_n=usual["spans"],
        usual_k=usual["once"],
    )


def _is_odd(profile: ReferenceProfile, traces: AttributedTraces) -> NDArray:
    """Return the spans whose set of children was rare for such a span under such a parent, and none
    below them is odd.

    A span that was never seen before is no odd one; the one that called it is.
    """
    keys = _shapes(traces)
    trees = traces.trees
    usual = {name: _look_up(counts, keys[name]) for name, counts in profile.shapes.items()}
    new_above = usual["above"] == 0  # the parent's set is itself new: compare under any parent
    times = np.where(new_above, usual["under"], usual["both"])
    of = np.where(new_above, usual["account"], usual["above"])
    usual_share = times / np.maximum(of, 1)
    share = _number_of_equals(keys["both"]) / _number_of_equals(keys["above"])
    rare = share > traces.config.rarity_ratio * usual_share
    seen_before = of > 0
    odd = rare & seen_before & (trees.root >= 0)
    return odd & ~_have_below(odd, trees.parent)


def _number_of_equals(keys: pd.Series) -> NDArray:
    """Return for each key how many are equal to it, itself included."""
    return keys.groupby(keys).transform("size").to_numpy()


@compiled
def _have_below(odd: NDArray, parent: NDArray) -> NDArray:
    """Return which spans have a span of a mask below them."""
    above = np.zeros(odd.size, dtype=np.bool_)
    for i in range(odd.size):
        p = parent[i] if odd[i] else -1
        while p >= 0 and not above[p]:
            above[p] = True
            p = parent[p]
    return above


# ---- which services show them


class Unusual(NamedTuple):
    """How unusual a service is (0 to 1), its most unusual endpoint (by code), and the rows of the
    items that show it.
    """

    score: float
    endpoint: int
    rows: list[int]


def rank_services(items: pd.DataFrame, keys: list[Key], caller_weight: float) -> list[Unusual]:
    """Return the services that show deviations, most unusual first.

    A deviation of an edge counts for the called service, and with `caller_weight` for the caller's.
    `keys` holds the (service, endpoint) of each code.
    """
    services = np.array([service for service, _ in keys], dtype=object)
    calls = items[items["caller"] >= 0]
    calls = calls[services[calls["caller"]] != services[calls["attributed_to"]]]
    callers = calls.assign(attributed_to=calls["caller"], share=caller_weight * calls["share"])
    shown = pd.concat([callers, items]).rename_axis("row").sort_index(kind="stable")
    total = items["share"].sum()
    found = [
        _unusual(mine, total, keys)
        for _, mine in shown.groupby(services[shown["attributed_to"]])
        if mine["share"].max() > 0
    ]
    return sorted(found, key=lambda unusual: -unusual.score)


def _unusual(mine: pd.DataFrame, total: float, keys: list[Key]) -> Unusual:
    score = mine["share"].sum() / (total * len(mine)) ** 0.5
    most = mine["attributed_to"][mine["share"] == mine["share"].max()]
    ordered = mine[mine["share"] > 0].sort_values(
        ["share", "attributed_to", "row"], ascending=False
    )
    return Unusual(score, min(most, key=keys.__getitem__), ordered.index.tolist())
