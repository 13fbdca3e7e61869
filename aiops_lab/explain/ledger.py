"""Where did the excess originate? Root cause analysis as accounting.

A request that is slow is slow in all its callers too. What an endpoint costs more than usual, less
what its callees cost more than usual, originated there. Every moment of a request is attributed to
one account, every failure to the endpoint where it began, so the excess at the entry is the sum of
what originated inside.

A slow edge counts to the called endpoint (column `attributed_to` of the accounts). Two later steps
change this:

- `_moves`: if the workers of a service are all busy, the time that requests wait for them counts to
  what keeps the workers busy.
- `_to_callers`: if the calls of one service to all other services became slow, and about equally
  so, they count to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import check_instance
from aiops_lab.endpoints import display_names
from aiops_lab.explain.attribution import (
    OWN,
    AccountTable,
    AttributedTraces,
    account_labels,
    attribute_costs,
    group_rows,
)
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import find_deviations
from aiops_lab.explain.entries import find_entries, with_same_timing
from aiops_lab.explain.queueing import Contention, find_contention, service_requests
from aiops_lab.explain.reference import Reference, check_resources
from aiops_lab.numerics import to_timestamp
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, encode
from aiops_lab.traces.trees import build_trees


class Ledger(NamedTuple):
    """The excess of an incident, by account, per request at the entries.

    ``rows``: one row for each entry, account, unit and masked, with the columns entry, account (as
    shown), service, endpoint, attributed_to (the endpoint as shown), unit ("ms" or "failures"),
    masked, usual, now, reassigned (of what waits for a contended
    service: `aiops_lab.explain.queueing`; adds up to 0), excess (now - usual + reassigned), se
    (standard error of the excess), cost and noise (excess and se in usual requests of their entry,
    times its weight). ``entries``: entry, n_usual, n_now, usual_ms, now_ms, usual_failed,
    now_failed, open_now (requests without an answer: they cost their age), weight (share of the
    requests). For each entry and unit the excess, masked rows left out, adds up to the entry's own.
    An entry that keeps connections open on purpose has no rows of time: see `long_lived_share`.
    """

    rows: pd.DataFrame
    entries: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Comparison(AttributedTraces):
    """The abnormal requests beside those of the ``reference``.

    ``names``: how endpoints are shown elsewhere; ``resources``: the metrics of the incident's time.
    """

    reference: Reference
    resources: pd.DataFrame | None = field(repr=False)
    names: Mapping[Key, str] = field(repr=False)

    @cached_property
    def display_names(self) -> NDArray:
        """How the endpoints are shown, by code: as in `names`, else as the endpoints of this
        comparison differ.
        """
        shown = display_names(self.spans.keys) | dict(self.names)
        return np.array([shown[key] for key in self.spans.keys], dtype=object)

    @cached_property
    def services(self) -> NDArray:
        """The service of each code of an endpoint."""
        return np.array([service for service, _ in self.spans.keys], dtype=object)

    @cached_property
    def deviations(self) -> pd.DataFrame:
        """What is unusual, whatever it costs: `find_deviations`, with ``account`` as shown; of a
        resource, the name of its service.
        """
        items = find_deviations(self.reference.profile, self, self.resources)
        caller, endpoint = items[["caller", "endpoint"]].to_numpy().T
        is_time = (items["kind"] == "self").to_numpy()
        labels = account_labels(caller, endpoint, is_time, self.display_names)
        services = self.services[endpoint]
        return items.assign(account=np.where(items["kind"] == "resources", services, labels))

    @cached_property
    def ledger(self) -> Ledger:
        """The excess by account."""
        return _ledger(self)

    @cached_property
    def bad(self) -> pd.DataFrame:
        """The requests that failed, or took `n_sigma` standard deviations longer than is usual for
        their entry.
        """
        usual = self.reference.cost_by_entry
        sd_ms = np.maximum(usual["sd_ms"], self.config.min_sd_ms)
        limit_ms = usual["ms"] + self.config.n_sigma * sd_ms
        limit_ms = limit_ms.mask(usual["long"] > self.config.long_lived_share, np.inf)
        requests = self.costs.requests
        limit = limit_ms.reindex(requests["entry"]).to_numpy()  # NaN: nothing is usual of it
        slow = requests["ns"] / 1e6 > limit
        return requests[(requests["failed"] | slow) & ~np.isnan(limit)]


def compare(
    reference: Reference,
    abnormal: pd.DataFrame | EncodedSpans,
    resources: pd.DataFrame | None = None,
    *,
    until_ns: int | None = None,
    names: Mapping[Key, str] | None = None,
    config: RcaConfig | None = None,
) -> Comparison:
    """Return the abnormal requests beside the usual ones.

    Parameters
    ----------
    reference : Reference
    abnormal : DataFrame or EncodedSpans
        A spans frame, or what `encode` made of it with the codes of the reference.
    resources : DataFrame, optional
        As for `learn`.
    until_ns : int, optional
        The requests are taken as they stood then (Unix ns). Default: at their last span.
    names : dict, optional
        How endpoints are shown elsewhere, by (service, endpoint).
    config : RcaConfig, optional
        If given, it must be that of the reference.

    Raises
    ------
    ValueError
        If the reference was learned with another config, or names the column that is wrong.
    """
    check_instance("config", config, RcaConfig)
    if config not in (None, reference.config):
        raise ValueError(f"config must be that of the reference, {reference.config}, got {config}")
    if not isinstance(abnormal, EncodedSpans):
        usual = reference.spans
        abnormal = encode(check(abnormal), usual.keys, usual.methods, usual.addresses)
    spans = abnormal
    until = spans.last_ns if until_ns is None else until_ns
    reference = with_same_timing(reference, spans)
    trees = build_trees(spans, until, reference.timing)
    entries = find_entries(reference, trees)
    if entries.tops.any() or entries.passed.any():
        how = {"tops": entries.tops, "passed": entries.passed}
        trees = build_trees(spans, until, reference.timing, **how)
    if entries.inner:
        reference = reference.with_inner(entries.inner)
    costs = attribute_costs(
        trees,
        spans.end > until,
        reference.endpoint_profile,
        reference.config,
        reference.costs.accounts,
    )
    traces = spans, trees, reference.timing, until, costs, reference.config
    return Comparison(*traces, reference, _during(reference, spans, resources), names or {})


def excess_ledger(reference: Reference, abnormal: pd.DataFrame) -> Ledger:
    """Return the excess of the abnormal requests over the usual ones, by account and entry.

    Assumes that requests of one entry are alike. An entry without usual requests says nothing and
    is left out.
    """
    return compare(reference, abnormal).ledger


def _during(
    reference: Reference, spans: EncodedSpans, resources: pd.DataFrame | None
) -> pd.DataFrame | None:
    """Return the metrics of the time that the spans cover."""
    check_resources(resources)
    if resources is None or reference.resources is None or spans.start.size == 0:
        return None
    lacking = reference.resources.columns.difference(resources.columns)
    if len(lacking):
        raise ValueError(f"resources must have the columns that were learned, lacks {lacking[0]!r}")
    first = to_timestamp(spans.start.min())
    last = to_timestamp(spans.start.max())
    return resources[(resources.index >= first) & (resources.index <= last)]


# ---- usual against now


class _Rows(NamedTuple):
    """The rows of a ledger as arrays: the columns of `Ledger.rows`, with endpoints by code.

    ``caller``, ``endpoint`` and ``attributed_to`` are those of the account, as in `AccountTable`.
    """

    entry: NDArray
    caller: NDArray
    endpoint: NDArray
    attributed_to: NDArray
    is_time: NDArray
    masked: NDArray
    usual: NDArray
    now: NDArray
    reassigned: NDArray
    excess: NDArray
    se: NDArray

    def at(self, rows: NDArray) -> _Rows:
        """Return some of the rows, by mask or by position."""
        return _Rows(*(column[rows] for column in self))

    def is_significant(self, config: RcaConfig) -> NDArray:
        """Return which rows have an excess beyond the noise."""
        return self.excess > config.n_sigma * self.se


def _ledger(comparison: Comparison) -> Ledger:
    config = comparison.config
    entries = _entries(comparison)
    rows = _reassign(_excess(comparison, entries), comparison)
    # Each entry in its own usual requests: else one heavy neighbour hides what all others lose.
    usual_ms = np.maximum(entries["usual_ms"].to_numpy(), config.min_usual_ms)
    at = np.searchsorted(entries.index, rows.entry)
    in_requests = np.where(rows.is_time, 1 / usual_ms[at], config.failure_weight)
    in_requests *= entries["weight"].to_numpy()[at]
    names = comparison.display_names
    entries = entries.set_axis(names[entries.index]).rename_axis("entry").sort_index()
    return Ledger(_named(rows, in_requests, comparison), entries.reset_index())


def _entries(comparison: Comparison) -> pd.DataFrame:
    """Return a row an entry with usual requests, by code: the columns of `Ledger.entries`."""
    usual = comparison.reference.cost_by_entry
    now = comparison.cost_by_entry
    both = np.intersect1d(usual.index, now.index)
    usual = usual.loc[both]
    now = now.loc[both]
    columns = {
        "n_usual": usual["n"],
        "n_now": now["n"],
        "usual_ms": usual["ms"],
        "now_ms": now["ms"],
        "usual_failed": usual["failed"],
        "now_failed": now["failed"],
        "open_now": now["open"],
        "weight": now["n"] / now["n"].sum(),
    }
    return pd.DataFrame(columns)


def _excess(comparison: Comparison, entries: pd.DataFrame) -> _Rows:
    """Return the mean cost per request of each unit, masked, entry and account, usual and now, with
    the excess and its standard error.
    """
    usual = comparison.reference.cost_by_account
    now = comparison.cost_by_account
    keys = list(map(np.append, usual[:4], now[:4]))
    first, group = group_rows(*keys)
    is_time, masked, entry, account = (column[first] for column in keys)
    first_now = usual.mean.size
    usual_mean, usual_var, now_mean, now_var = np.zeros((4, first.size))
    usual_mean[group[:first_now]] = usual.mean
    usual_var[group[:first_now]] = usual.var
    now_mean[group[first_now:]] = now.mean
    now_var[group[first_now:]] = now.var
    n_usual, n_now = entries[["n_usual", "n_now"]].reindex(entry).to_numpy().T
    var = np.maximum(now_var, usual_var)  # a few requests show too little of their scatter
    se = np.sqrt(var / n_now + usual_var / n_usual)
    share = np.where(is_time, 0.0, usual_mean)
    se_failures = _se_of_failures(share, n_usual, n_now, comparison.config)
    accounts = comparison.costs.accounts
    rows = _Rows(
        entry=entry,
        caller=accounts.caller[account],
        endpoint=accounts.endpoint[account],
        attributed_to=accounts.attributed_to[account],
        is_time=is_time,
        masked=masked,
        usual=usual_mean,
        now=now_mean,
        reassigned=np.zeros(first.size),
        excess=now_mean - usual_mean,
        se=np.where(is_time, se, se_failures),
    )
    long = comparison.reference.cost_by_entry["long"].reindex(entry).to_numpy()
    no_latency = is_time & (long > comparison.config.long_lived_share)
    # NaN where the entry has no requests on one side
    return rows.at((n_usual > 0) & ~no_latency)


def _se_of_failures(share: NDArray, n_usual: NDArray, n_now: NDArray, config: RcaConfig) -> NDArray:
    """Return the standard error of a share of failures if it is as usual, with one failure imagined
    among the usual.

    Widened by the skewness of rare events (Cornish & Fisher 1938, doi 10.2307/1400905), so that
    `n_sigma` of it is hardly ever exceeded by a lone failure.
    """
    z = config.n_sigma
    usual = (share * n_usual + 1) / (n_usual + 2)
    # a request may fail at one place more than once
    variance = usual * np.maximum(1 - usual, config.min_success_share)
    sd = np.sqrt(variance * (1 / n_now + 1 / n_usual))
    return sd + ((z**2 - 1) / 6 + 0.5) / z / n_now


def _named(rows: _Rows, in_requests: NDArray, comparison: Comparison) -> pd.DataFrame:
    """Return the rows with the names of entries, accounts and endpoints, sorted by these.

    `in_requests` holds what one unit of each row is worth, in usual requests.
    """
    names = comparison.display_names
    entry = names[rows.entry]
    account = account_labels(rows.caller, rows.endpoint, rows.is_time, names)
    by_name = list(zip(~rows.is_time, rows.masked, entry, account, strict=True))
    order = sorted(range(len(by_name)), key=by_name.__getitem__)
    routes = np.array([route for _, route in comparison.spans.keys], dtype=object)
    columns = {
        "entry": entry,
        "account": account,
        "service": comparison.services[rows.attributed_to],
        "endpoint": routes[rows.attributed_to],
        "attributed_to": names[rows.attributed_to],
        "unit": np.where(rows.is_time, "ms", "failures").astype(object),
        "masked": rows.masked,
        "usual": rows.usual,
        "now": rows.now,
        "reassigned": rows.reassigned,
        "excess": rows.excess,
        "se": rows.se,
        "cost": rows.excess * in_requests,
        "noise": rows.se * in_requests,
    }
    return pd.DataFrame({name: column[order] for name, column in columns.items()})


# ---- what is reassigned


def _reassign(rows: _Rows, comparison: Comparison) -> _Rows:
    """Return the rows with what waits for contended services at the accounts that keep these busy.

    ``reassigned`` holds how much was moved; it adds up to nothing.
    """
    contended = _contended(rows, comparison)
    for _ in contended:  # what keeps one service busy may itself be waiting for the next
        moves = [_moves(rows, contention, comparison) for contention in contended]
        if all(moved.entry.size == 0 for moved in moves):
            break
        rows = _summed([rows, *moves])
    return _to_callers(rows, comparison)


def _contended(rows: _Rows, comparison: Comparison) -> list[Contention]:
    """Return, for each service with excess that is contended, what keeps it busy."""
    reference = comparison.reference
    config = comparison.config
    services = comparison.services
    with_excess = rows.attributed_to[rows.is_significant(config)]
    suspected = {*services[with_excess]} & {*services[_prolonged(comparison)]}
    found = [
        find_contention(reference.requests_of(name), service_requests(name, comparison), config)
        for name in sorted(suspected)
    ]
    return [contention for contention in found if contention is not None]


def _prolonged(comparison: Comparison) -> NDArray:
    """Return the endpoints whose requests take so much longer, or are not answered, that others may
    wait for them.
    """
    now = comparison.costs.endpoints
    usual_ms = comparison.reference.costs.endpoints["ms"].reindex(now.index)
    half_way = (1 + comparison.config.contention_ratio) / 2
    as_usual = now["ms"].to_numpy() <= half_way * usual_ms.to_numpy()  # never, without answers
    unanswered = now["unanswered"].to_numpy() > 0
    return now.index.to_numpy()[~as_usual | unanswered]


def _moves(rows: _Rows, contention: Contention, comparison: Comparison) -> _Rows:
    """Return what leaves the accounts of one contended service, and where it goes, as rows to be
    added.
    """
    accounts = comparison.costs.accounts
    leaves = _leaves(rows, contention, accounts.endpoint)
    away = rows.at(leaves & rows.is_significant(comparison.config))
    to = contention.share.index.to_numpy()
    # each row that leaves goes in parts to each of the accounts
    row = np.repeat(np.arange(away.entry.size), to.size)
    account = np.tile(to, away.entry.size)
    share = np.tile(contention.share.to_numpy(), away.entry.size)
    given = away.at(row)
    given = given._replace(
        caller=accounts.caller[account],
        endpoint=accounts.endpoint[account],
        attributed_to=accounts.attributed_to[account],
        excess=share * given.excess,
        se=share * given.se,
    )
    return _joined([_taken(away), _moved(given)])


def _leaves(rows: _Rows, contention: Contention, endpoint: NDArray) -> NDArray:
    """Return which rows are due to the wait for a contended service: time, and failures of those
    that are full or were given up.

    ``endpoint``: that of each account. What alone keeps the service busy keeps what is its own.
    """
    waits = np.isin(rows.attributed_to, endpoint[contention.waiting])
    is_full = np.isin(rows.attributed_to, endpoint[contention.full])
    given_up = np.isin(rows.endpoint, endpoint[contention.given_up]) & (rows.caller == OWN)
    busy = contention.share.index
    alone = np.intersect1d(contention.waiting, busy if busy.size == 1 else [])
    keeps = np.isin(rows.attributed_to, endpoint[alone.astype(np.int64)])
    return np.where(rows.is_time, waits, is_full | given_up) & ~keeps


def _taken(rows: _Rows) -> _Rows:
    """Return rows that take the excess away."""
    return _moved(rows._replace(excess=-rows.excess, se=np.zeros(rows.se.size)))


def _moved(rows: _Rows) -> _Rows:
    """Return rows whose excess was reassigned, and is no cost of their accounts."""
    nothing = np.zeros(rows.excess.size)
    return rows._replace(reassigned=rows.excess, usual=nothing, now=nothing)


def _joined(tables: list[_Rows]) -> _Rows:
    return _Rows(*map(np.concatenate, zip(*tables, strict=True)))


def _summed(tables: list[_Rows]) -> _Rows:
    """Return the sums of the tables by entry and account; standard errors add by their squares."""
    rows = _joined(tables)
    keys = rows.entry, rows.caller, rows.endpoint, rows.is_time, rows.masked
    first, group = group_rows(*keys)
    return rows.at(first)._replace(
        usual=np.bincount(group, rows.usual),
        now=np.bincount(group, rows.now),
        reassigned=np.bincount(group, rows.reassigned),
        excess=np.bincount(group, rows.excess),
        se=np.sqrt(np.bincount(group, rows.se**2)),
    )


def _to_callers(rows: _Rows, comparison: Comparison) -> _Rows:
    """Return the rows with the slow calls of some services at their callers: of the services for
    which both rules hold, `_slow_to_all` and `_slow_alike`. There the cause lies in the caller.
    """
    caller, callee = _between_services(rows, comparison)
    slow = (callee != "") & rows.is_time & rows.is_significant(comparison.config)
    services = _slow_to_all(caller, callee, slow)
    if services:  # rarely; only then the self times of all spans are summed
        services &= _slow_alike(comparison)
    away = rows.at(slow & np.isin(caller, list(services)))
    if away.entry.size == 0:
        return rows
    return _summed([rows, _taken(away), _moved(_at_their_callers(away))])


def _at_their_callers(calls: _Rows) -> _Rows:
    """Return the rows of calls as what their callers do by themselves."""
    own = np.full(calls.caller.size, OWN)
    return calls._replace(caller=own, endpoint=calls.caller, attributed_to=calls.caller)


def _slow_to_all(caller: NDArray, callee: NDArray, slow: NDArray) -> set[str]:
    """Return the services that became slow to reach all of the services that they call, if these
    are two or more.

    `caller` and `callee` hold the services of each row, "" unless it is a call between two; `slow`
    is a mask of the rows.
    """
    calls = pd.DataFrame({"from": caller, "to": callee, "slow": slow})[callee != ""]
    by_pair = calls.groupby(["from", "to"])["slow"].any()
    by_caller = by_pair.groupby(level="from").agg(["size", "all"])
    return {*by_caller.index[by_caller["all"] & (by_caller["size"] > 1)]}


def _slow_alike(comparison: Comparison) -> set[str]:
    """Return the services whose calls became longer by about as much to each service: the least by
    no less than `similar_ratio` of the most.
    """
    longer = _prolonged_calls(comparison).groupby(level="from").agg(["min", "max"])
    alike = longer["min"] >= comparison.config.similar_ratio * longer["max"]
    return {*longer.index[alike]}


def _between_services(
    accounts: AccountTable | _Rows, comparison: Comparison
) -> tuple[NDArray, NDArray]:
    """Return the calling and the called service of each account, "" unless it is an edge between
    two services.
    """
    services = np.append(comparison.services, ["", ""])  # of OUTSIDE and of OWN
    caller = services[accounts.caller]
    callee = services[accounts.endpoint]
    between = (caller != "") & (caller != callee)
    return np.where(between, caller, ""), np.where(between, callee, "")


def _prolonged_calls(comparison: Comparison) -> pd.Series:
    """Return by how many ns the gap of a call became longer, by calling and called service."""
    usual = comparison.reference.mean_self_ns
    now = comparison.mean_self_ns
    caller, callee = _between_services(comparison.costs.accounts, comparison)
    between = pd.DataFrame({"from": caller, "to": callee})[callee != ""]
    calls = now.join(usual.add_suffix("_usual"), how="inner").join(between, how="inner")
    longer = calls["n"] * (calls["mean"] - calls["mean_usual"])
    sums = calls.assign(longer=longer).groupby(["from", "to"])[["longer", "n"]].sum()
    return sums["longer"] / sums["n"]
