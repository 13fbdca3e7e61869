"""Where did the excess originate? Root cause analysis as accounting.

A request that is slow is slow in all its callers too. What an endpoint costs more than usual, less
what its callees cost more than usual, originated there. Every moment of a request is attributed to
one account, every failure to the endpoint where it began, so the excess at the entry is the sum of
what originated inside.

A slow edge counts to the called endpoint (column `attributed_to` of the accounts). Two later steps
change this:

- `moves_of`: if the workers of a service are all busy, the time that requests wait for them counts
  to what keeps the workers busy.
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
from aiops_lab.explain.accounts import account_labels, group_rows
from aiops_lab.explain.attribution import AttributedTraces, attribute_costs
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import find_deviations
from aiops_lab.explain.entries import find_entries, with_same_timing
from aiops_lab.explain.ledger_rows import (
    LedgerRows,
    as_moved,
    at_their_callers,
    between_services,
    moves_of,
    slow_to_all,
    summed,
    taken_away,
)
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
        keys = self.spans.keys
        shown = display_names(keys) | dict(self.names)
        return np.array([shown[key] for key in keys], dtype=object)

    @cached_property
    def services(self) -> NDArray:
        """The service of each code of an endpoint."""
        return np.array([service for service, _ in self.spans.keys], dtype=object)

    @cached_property
    def routes(self) -> NDArray:
        """The endpoint of each code, without its service."""
        return np.array([route for _, route in self.spans.keys], dtype=object)

    @cached_property
    def deviations(self) -> pd.DataFrame:
        """What is unusual, whatever it costs: `find_deviations`, with ``account`` as shown; of a
        resource, the name of its service.
        """
        items = find_deviations(self.reference.profile, self, self.resources)
        caller, endpoint = items[["caller", "endpoint"]].to_numpy().T
        kind = items["kind"]
        is_time = (kind == "self").to_numpy()
        labels = account_labels(caller, endpoint, is_time, self.display_names)
        services = self.services[endpoint]
        account = np.where(kind == "resources", services, labels)
        return items.assign(account=account)

    @cached_property
    def ledger(self) -> Ledger:
        """The excess by account."""
        rows = _reassign(self._rows, self)
        return _ledger(rows, self)

    @cached_property
    def as_spent(self) -> Ledger:
        """The excess by account, where the time was spent: nothing is reassigned."""
        return _ledger(self._rows, self)

    @cached_property
    def _rows(self) -> LedgerRows:
        return _excess(self, self._entries)

    @cached_property
    def _entries(self) -> pd.DataFrame:
        return _entries(self)

    @cached_property
    def bad(self) -> pd.DataFrame:
        """The requests that failed, or took `n_sigma` standard deviations longer than is usual for
        their entry.
        """
        config = self.config
        usual = self.reference.cost_by_entry
        sd_ms = np.maximum(usual["sd_ms"], config.min_sd_ms)
        limit_ms = usual["ms"] + config.n_sigma * sd_ms
        is_long_lived = usual["long"] > config.long_lived_share
        limit_ms = limit_ms.mask(is_long_lived, np.inf)
        requests = self.costs.requests
        limit = limit_ms.reindex(requests["entry"]).to_numpy()  # NaN: nothing is usual of it
        is_known = ~np.isnan(limit)
        ms = requests["ns"] / 1e6
        slow = ms > limit
        is_bad = requests["failed"] | slow
        return requests[is_bad & is_known]


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
        trees = build_trees(
            spans, until, reference.timing, tops=entries.tops, passed=entries.passed
        )
    if entries.inner:
        reference = reference.with_inner(entries.inner)
    costs = attribute_costs(
        trees,
        spans.end > until,
        reference.endpoint_profile,
        reference.config,
        reference.costs.accounts,
    )
    return Comparison(
        spans,
        trees,
        reference.timing,
        until,
        costs,
        reference.config,
        reference,
        _during(reference, spans, resources),
        names or {},
    )


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
    time = resources.index
    first = to_timestamp(spans.start.min())
    last = to_timestamp(spans.start.max())
    return resources[(time >= first) & (time <= last)]


# ---- usual against now


def _ledger(rows: LedgerRows, comparison: Comparison) -> Ledger:
    config = comparison.config
    entries = comparison._entries
    # Each entry in its own usual requests: else one heavy neighbour hides what all others lose.
    usual_ms = np.maximum(entries["usual_ms"].to_numpy(), config.min_usual_ms)
    weight = entries["weight"].to_numpy()
    at = np.searchsorted(entries.index, rows.entry)
    of_a_ms = 1 / usual_ms[at]
    in_requests = np.where(rows.is_time, of_a_ms, config.failure_weight)
    in_requests *= weight[at]
    names = comparison.display_names[entries.index]
    entries = entries.set_axis(names).rename_axis("entry")
    return Ledger(_named(rows, in_requests, comparison), entries.sort_index().reset_index())


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


def _excess(comparison: Comparison, entries: pd.DataFrame) -> LedgerRows:
    """Return the mean cost per request of each unit, masked, entry and account, usual and now, with
    the excess and its standard error.
    """
    config = comparison.config
    usual = comparison.reference.cost_by_account
    now = comparison.cost_by_account
    keys = list(map(np.append, usual[:4], now[:4]))
    first, group = group_rows(*keys)
    is_time, masked, entry, account = (column[first] for column in keys)
    usual_mean, usual_var, now_mean, now_var = np.zeros((4, first.size))
    group_usual, group_now = np.split(group, [usual.mean.size])
    usual_mean[group_usual] = usual.mean
    usual_var[group_usual] = usual.var
    now_mean[group_now] = now.mean
    now_var[group_now] = now.var
    n_usual, n_now = entries[["n_usual", "n_now"]].reindex(entry).to_numpy().T
    var = np.maximum(now_var, usual_var)  # a few requests show too little of their scatter
    variance = var / n_now + usual_var / n_usual
    se = np.sqrt(variance)
    share = np.where(is_time, 0.0, usual_mean)
    se_failures = _se_of_failures(share, n_usual, n_now, config)
    accounts = comparison.costs.accounts
    rows = LedgerRows(
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
    no_latency = is_time & (long > config.long_lived_share)
    is_comparable = n_usual > 0  # NaN where the entry has no requests on one side
    return rows.at(is_comparable & ~no_latency)


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
    in_both = 1 / n_now + 1 / n_usual
    sd = np.sqrt(variance * in_both)
    skewness = (z**2 - 1) / 6
    return sd + (skewness + 0.5) / z / n_now


def _named(rows: LedgerRows, in_requests: NDArray, comparison: Comparison) -> pd.DataFrame:
    """Return the rows with the names of entries, accounts and endpoints, sorted by these.

    `in_requests` holds what one unit of each row is worth, in usual requests.
    """
    names = comparison.display_names
    entry = names[rows.entry]
    account = account_labels(rows.caller, rows.endpoint, rows.is_time, names)
    is_failures = ~rows.is_time
    by_name = list(zip(is_failures, rows.masked, entry, account, strict=True))
    order = sorted(range(len(by_name)), key=by_name.__getitem__)
    unit = np.where(rows.is_time, "ms", "failures")
    columns = {
        "entry": entry,
        "account": account,
        "service": comparison.services[rows.attributed_to],
        "endpoint": comparison.routes[rows.attributed_to],
        "attributed_to": names[rows.attributed_to],
        "unit": unit.astype(object),
        "masked": rows.masked,
        "usual": rows.usual,
        "now": rows.now,
        "reassigned": rows.reassigned,
        "excess": rows.excess,
        "se": rows.se,
        "cost": rows.excess * in_requests,
        "noise": rows.se * in_requests,
    }
    in_order = {name: column[order] for name, column in columns.items()}
    return pd.DataFrame(in_order)


# ---- what is reassigned


def _reassign(rows: LedgerRows, comparison: Comparison) -> LedgerRows:
    """Return the rows with what waits for contended services at the accounts that keep these busy.

    ``reassigned`` holds how much was moved; it adds up to nothing.
    """
    accounts = comparison.costs.accounts
    config = comparison.config
    known: dict[str, Contention | None] = {}
    contended = _contended(rows, comparison, known)
    turns = 0
    while turns < len(contended):  # what keeps one service busy may itself wait for the next
        moves = [moves_of(rows, contention, accounts, config) for contention in contended]
        if all(moved.entry.size == 0 for moved in moves):
            break
        rows = summed([rows, *moves])
        contended = _contended(rows, comparison, known)
        turns += 1
    return _to_callers(rows, comparison)


def _contended(
    rows: LedgerRows, comparison: Comparison, known: dict[str, Contention | None]
) -> list[Contention]:
    """Return, for each service with excess that is contended, what keeps it busy.

    `known` holds this of the services that had excess before; those that have some now are added.
    """
    reference = comparison.reference
    config = comparison.config
    services = comparison.services
    with_excess = rows.attributed_to[rows.is_significant(config)]
    prolonged = _prolonged(comparison)
    suspected = {*services[with_excess]} & {*services[prolonged]}
    for name in suspected - {*known}:
        before = reference.requests_of(name)
        after = service_requests(name, comparison)
        known[name] = find_contention(before, after, config)
    found = [known[name] for name in sorted(known)]
    return [contention for contention in found if contention is not None]


def _prolonged(comparison: Comparison) -> NDArray:
    """Return the endpoints whose requests take so much longer, or are not answered, that others may
    wait for them. Each request counts to its own end, whether its caller waits so long or not.
    """
    usual_ns = _mean_ns(comparison.reference)
    now_ns = _mean_ns(comparison).reindex(comparison.costs.endpoints.index)
    half_way = (1 + comparison.config.contention_ratio) / 2
    as_usual = now_ns <= half_way * usual_ns.reindex(now_ns.index)  # never, without answers
    unanswered = comparison.costs.endpoints["unanswered"] > 0
    return now_ns.index.to_numpy()[~as_usual | unanswered]


def _mean_ns(traces: AttributedTraces) -> pd.Series:
    """Return how long the answered requests of each endpoint take on average, by its code."""
    spans = traces.spans
    answered = spans.server & (spans.end <= traces.until_ns)
    ns = pd.Series((spans.end - spans.start)[answered])
    return ns.groupby(spans.node[answered]).mean()


def _to_callers(rows: LedgerRows, comparison: Comparison) -> LedgerRows:
    """Return the rows with the slow calls of some services at their callers: of the services for
    which both rules hold, `slow_to_all` and `_slow_alike`. There the cause lies in the caller.
    """
    caller, callee = between_services(rows, comparison.services)
    is_significant = rows.is_significant(comparison.config)
    slow = (callee != "") & rows.is_time & is_significant
    services = slow_to_all(caller, callee, slow)
    if services:  # rarely; only then the self times of all spans are summed
        services &= _slow_alike(comparison)
    from_these = np.isin(caller, list(services))
    away = rows.at(slow & from_these)
    if away.entry.size == 0:
        return rows
    given = as_moved(at_their_callers(away))
    return summed([rows, taken_away(away), given])


def _slow_alike(comparison: Comparison) -> set[str]:
    """Return the services whose calls became longer by about as much to each service: the least by
    no less than `similar_ratio` of the most.
    """
    by_caller = _prolonged_calls(comparison).groupby(level="from")
    longer = by_caller.agg(["min", "max"])
    alike = longer["min"] >= comparison.config.similar_ratio * longer["max"]
    return {*longer.index[alike]}


def _prolonged_calls(comparison: Comparison) -> pd.Series:
    """Return by how many ns the gap of a call became longer, by calling and called service."""
    usual = comparison.reference.mean_self_ns.add_suffix("_usual")
    now = comparison.mean_self_ns
    caller, callee = between_services(comparison.costs.accounts, comparison.services)
    services = pd.DataFrame({"from": caller, "to": callee})
    between = services[callee != ""]
    calls = now.join(usual, how="inner").join(between, how="inner")
    longer_each = calls["mean"] - calls["mean_usual"]
    calls["longer"] = calls["n"] * longer_each
    by_pair = calls.groupby(["from", "to"])
    sums = by_pair[["longer", "n"]].sum()
    return sums["longer"] / sums["n"]
