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

from aiops_lab.explain.accounts import OWN, AccountTable
from aiops_lab.explain.attribution import AttributedTraces
from aiops_lab.explain.child_sets import child_set_keys, have_odd_children, look_up
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.more_calls import CallCounts, call_items, count_calls
from aiops_lab.explain.slower import certainly_slower, log_times
from aiops_lab.numerics import wilson
from aiops_lab.spans import Key

DEVIATION_KINDS = ("errors", "self", "shape", "calls", "resources")


class ReferenceProfile(NamedTuple):
    """What is customary in fault-free traces.

    ``accounts``: by account n (spans that take time), failed (failures that began there), limit
    (the quantile of their self times, ns), spans (all of them) and once (those whose set of
    children was seen once). ``shapes``: how often each key of a column of `child_set_keys` was
    seen. ``times``: of the self times of each account (`log_times`). ``calls``: how many calls
    requests make. ``resources``: by service and metric the limit of its values, how many there are
    (n) and how many of them lie beyond (k).
    """

    accounts: pd.DataFrame
    times: pd.DataFrame
    shapes: dict[str, pd.Series]
    calls: CallCounts
    resources: pd.DataFrame


def reference_profile(traces: AttributedTraces, resources: pd.DataFrame | None) -> ReferenceProfile:
    """Return what is customary in fault-free traces."""
    config = traces.config
    keys = child_set_keys(traces)
    shapes = {name: keys[name].value_counts() for name in keys.columns}
    return ReferenceProfile(
        _usual_accounts(traces, keys, shapes),
        log_times(traces.self_ns, config),
        shapes,
        count_calls(traces),
        _resource_limits(resources, config),
    )


def _usual_accounts(
    traces: AttributedTraces, keys: pd.DataFrame, shapes: dict[str, pd.Series]
) -> pd.DataFrame:
    """Return the ``accounts`` of a `ReferenceProfile`."""
    both = keys["both"]
    seen_once = look_up(shapes["both"], both) == 1
    columns = {
        "n": traces.self_ns.index.value_counts(),
        "failed": _failed(traces),
        "limit": _self_time_limits(traces),
        "spans": shapes["account"],
        "once": keys["account"][seen_once].value_counts(),
    }
    return pd.DataFrame(columns).fillna(0.0)


def _self_time_limits(traces: AttributedTraces) -> pd.Series:
    """Return the limit of the self times (ns) of each account, infinite where they are long."""
    config = traces.config
    self_ns = traces.self_ns
    is_long = self_ns > config.timeout_s * 1e9
    share_of_long = is_long.groupby(level=0).mean()
    limit = self_ns.groupby(level=0).quantile(config.quantile)
    long_lived = share_of_long > config.long_lived_share
    return limit.mask(long_lived, np.inf)


def find_deviations(
    profile: ReferenceProfile, traces: AttributedTraces, resources: pd.DataFrame | None
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
    codes = ["caller", "endpoint", "attributed_to"]
    items = items.astype(dict.fromkeys(codes, int))
    items = _with_share(items, traces.config)
    slower = items.pop("slower").fillna(0.0)
    if items["share"].any():
        return items
    return items.assign(share=slower)


def _with_share(items: pd.DataFrame, config: RcaConfig) -> pd.DataFrame:
    """Return the items that can be compared, with the share by which each has certainly grown."""
    was_seen = items["usual_n"] > 0
    is_seen = items["n"] > 0
    items = items[was_seen & is_seen].reset_index(drop=True)
    k = items["k"]
    n = items["n"]
    usual_n = items["usual_n"]
    usual_k = np.minimum(items["usual_k"], usual_n)
    least_now, _ = wilson(k, n, config.n_sigma)
    _, most_usual = wilson(usual_k, usual_n, config.n_sigma)
    share = (least_now - most_usual).clip(lower=0.0)
    share = share.where(n >= config.min_count, 0.0)
    if not share.any():  # few failures are told from chance where nothing else is unusual
        is_errors = items["kind"] == "errors"
        fails = is_errors & (k >= config.min_count)
        more = more_failures(items[fails], items, config)
        share = share.mask(fails, more)
    return items.assign(share=share)


def more_failures(items: pd.DataFrame, every: pd.DataFrame, config: RcaConfig) -> pd.Series:
    """Return by how much the share of failures has certainly grown: the lower bound of the
    difference of two shares (Newcombe 1998, doi
    10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10).

    An account that was seldom observed is taken to have failed, in `prior_requests` more, as all
    accounts do together. `every` holds the items of all accounts.
    """
    known = every[every["kind"] == "errors"]
    failed_everywhere = known["usual_k"].sum()
    seen_everywhere = known["usual_n"].sum()
    everywhere = failed_everywhere / max(seen_everywhere, 1.0)
    n = items["n"]
    k = items["k"]
    usual_n = items["usual_n"] + config.prior_requests
    usual_k = items["usual_k"] + config.prior_requests * everywhere
    usual_k = usual_k.clip(upper=usual_n)
    least_now, _ = wilson(k, n, config.n_sigma)
    _, most_usual = wilson(usual_k, usual_n, config.n_sigma)
    now = k / n
    usual = usual_k / usual_n
    uncertainty = np.hypot(now - least_now, most_usual - usual)
    least_more = now - usual - uncertainty
    return least_more.clip(lower=0.0)


def _items(accounts: AccountTable, **columns: pd.Series) -> pd.DataFrame:
    """Return a row an account of the column n; 0 where another has no such account."""
    observed = pd.DataFrame({"n": columns.pop("n")})
    items = observed.join(pd.DataFrame(columns))
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
    return _items(
        traces.costs.accounts,
        n=_observed(traces),
        k=_failed(traces),
        usual_n=usual["n"],
        usual_k=usual["failed"],
    )


def _observed(traces: AttributedTraces) -> pd.Series:
    """Return how often each account was observed: its spans, at least its failures."""
    spans = traces.self_ns.index.value_counts()
    failed = _failed(traces)
    observed = spans.combine(failed, max, fill_value=0)
    return observed.sort_index()


def _failed(traces: AttributedTraces) -> pd.Series:
    """Return how many failures began at each account."""
    failures = traces.costs.failures
    cost = pd.Series(failures.cost)
    return cost.groupby(failures.account).sum()


def _slow_spans(profile: ReferenceProfile, traces: AttributedTraces) -> pd.DataFrame:
    config = traces.config
    usual = profile.accounts
    self_ns = traces.self_ns
    account = self_ns.index
    min_self_ns = config.min_self_ms * 1e6
    limit = usual["limit"].reindex(account, fill_value=0.0)
    limit = limit + min_self_ns
    slow = account[self_ns > limit]
    items = _items(
        traces.costs.accounts,
        n=_observed(traces),
        k=slow.value_counts(),
        usual_n=usual["n"],
        usual_k=(1 - config.quantile) * usual["n"],
    )
    now = log_times(self_ns, config)
    slower = certainly_slower(profile.times, now, config)
    return items.assign(slower=slower)


# ---- resources


def _resource_limits(resources: pd.DataFrame | None, config: RcaConfig) -> pd.DataFrame:
    """Return a row a service and metric: limit, n values, k of them beyond it."""
    if resources is None or resources.empty:
        nowhere = pd.MultiIndex.from_arrays([[], []], names=["service", "what"])
        return pd.DataFrame({"limit": [], "n": [], "k": []}, index=nowhere)
    by_service = resources.groupby("service")
    low = by_service.quantile(1 - config.quantile, numeric_only=True)
    high = by_service.quantile(config.quantile, numeric_only=True)
    spread = high - low
    scale = np.maximum(spread, high.abs())
    limits = high + config.resource_margin * scale
    table = _beyond(limits, resources)
    table["limit"] = limits.stack()
    return table


def _beyond(limits: pd.DataFrame, resources: pd.DataFrame) -> pd.DataFrame:
    """Return how many values of each metric there are, and how many lie beyond their limits."""
    metrics = list(limits.columns)
    values = resources.set_index("service")[metrics]
    limit = limits.reindex(values.index).to_numpy()
    n = _sum_by_service(values.notna()).stack()
    k = _sum_by_service(values > limit).stack()
    table = pd.DataFrame({"n": n, "k": k}).astype(float)
    return table.rename_axis(["service", "what"])


def _sum_by_service(is_so: pd.DataFrame) -> pd.DataFrame:
    """Return how often something is so, by service (the index) and metric (the columns)."""
    by_service = is_so.groupby(level=0, observed=True)
    return by_service.sum()


def _resources(
    profile: ReferenceProfile, traces: AttributedTraces, now: pd.DataFrame | None
) -> pd.DataFrame:
    usual = profile.resources
    if now is None or usual.empty:
        return pd.DataFrame()
    limits = usual["limit"].unstack()
    with_limits = now["service"].isin(limits.index)
    counts = _beyond(limits, now[with_limits])
    usual_counts = usual[["n", "k"]].add_prefix("usual_")
    items = counts.join(usual_counts).fillna(0.0)
    items = items.reset_index()
    first_endpoint = _first_endpoints(traces.spans.keys)
    items = items[items["service"].isin(first_endpoint)]
    endpoint = items["service"].map(first_endpoint)
    return items.drop(columns="service").assign(
        endpoint=endpoint, attributed_to=endpoint, caller=OWN
    )


def _first_endpoints(keys: list[Key]) -> dict[str, int]:
    """Return the code of the first endpoint of each service, by name."""
    codes = range(len(keys))
    last_first = sorted(codes, key=keys.__getitem__, reverse=True)
    return {keys[code][0]: code for code in last_first}


# ---- shapes


def odd_spans(profile: ReferenceProfile, traces: AttributedTraces) -> NDArray:
    """Return which spans call an odd set of children, without those of traces in which something
    failed.
    """
    trees = traces.trees
    root = trees.root
    open_now = traces.spans.end > traces.until_ns
    refused = trees.status >= 400
    failing = trees.failed | refused | open_now
    failing &= ~trees.log
    in_failed_trace = np.isin(root, root[failing])
    odd = have_odd_children(profile.shapes, traces)
    return odd & ~in_failed_trace & ~traces.costs.lacks_calls


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
    callers = _at_the_callers(items, services, caller_weight)
    shown = pd.concat([callers, items]).rename_axis("row")
    shown = shown.sort_index(kind="stable")
    total = items["share"].sum()
    service = services[shown["attributed_to"]]
    found = [
        _unusual(mine, total, keys) for _, mine in shown.groupby(service) if mine["share"].max() > 0
    ]
    return sorted(found, key=lambda unusual: -unusual.score)


def _at_the_callers(items: pd.DataFrame, services: NDArray, weight: float) -> pd.DataFrame:
    """Return the items of edges between two services as items of the callers, with less share."""
    calls = items[items["caller"] >= 0]
    caller = services[calls["caller"]]
    callee = services[calls["attributed_to"]]
    calls = calls[caller != callee]
    return calls.assign(attributed_to=calls["caller"], share=weight * calls["share"])


def _unusual(mine: pd.DataFrame, total: float, keys: list[Key]) -> Unusual:
    share = mine["share"]
    score = share.sum() / (total * len(mine)) ** 0.5
    most = mine[share == share.max()]
    first_of_most = min(most["attributed_to"], key=keys.__getitem__)
    order = ["share", "attributed_to", "row"]
    shown = mine[share > 0]
    ordered = shown.sort_values(order, ascending=False)
    return Unusual(score, first_of_most, ordered.index.tolist())
