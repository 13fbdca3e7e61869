"""Where did the excess originate? Root cause analysis as accounting.

A request that is slow is slow in all its callers too. What an endpoint costs more than usual, less
what its callees cost more than usual, originated there. Every moment of a request is attributed to
one account, every failure to the endpoint where it began, so the excess at the entry is the sum of
what originated inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import (
    OWN,
    AccountTable,
    AttributedTraces,
    account_labels,
    attribute_costs,
)
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import find_deviations
from aiops_lab.explain.queueing import Contention, find_contention, service_requests
from aiops_lab.explain.reference import Reference, check_resources
from aiops_lab.numerics import to_timestamp
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, display_names, encode
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
    def endpoints(self) -> pd.DataFrame:
        """The service, endpoint and name (as shown) of each code."""
        table = pd.DataFrame(self.spans.keys, columns=["service", "endpoint"], dtype=object)
        return table.assign(name=self.display_names)

    @cached_property
    def deviations(self) -> pd.DataFrame:
        """What is unusual, whatever it costs: `find_deviations`, with ``account`` as shown; of a
        resource, the name of its service.
        """
        items = find_deviations(self.reference.profile, self, self.resources)
        accounts = AccountTable(items["caller"].to_numpy(), items["node"].to_numpy())
        is_time = (items["kind"] == "self").to_numpy()
        labels = account_labels(accounts, is_time, self.display_names)
        services = self.endpoints["service"].to_numpy()[accounts.node]
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
        sd_ms = usual["sd_ms"].clip(lower=self.config.min_sd_ms)
        limit = (usual["ms"] + self.config.n_sigma * sd_ms).rename("limit")
        requests = self.costs.requests.join(limit, on="entry", how="inner").sort_index()
        return requests[requests["failed"] | (requests["ns"] / 1e6 > requests["limit"])]


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
    if config not in (None, reference.config):
        raise ValueError(f"config must be that of the reference, {reference.config}, got {config}")
    if isinstance(abnormal, pd.DataFrame):
        abnormal = encode(check(abnormal), reference.spans.keys)
    spans = abnormal
    until = spans.last_ns if until_ns is None else until_ns
    trees = build_trees(spans, until, reference.offsets)
    costs = attribute_costs(
        trees,
        spans.end > until,
        reference.endpoint_profile,
        reference.config,
        reference.costs.accounts,
    )
    traces = spans, trees, reference.offsets, until, costs, reference.config
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


def _ledger(comparison: Comparison) -> Ledger:
    config = comparison.config
    entries = _entries(comparison)
    rows = _reassign(_excess(comparison, entries), comparison)
    # Each entry in its own usual requests: else one heavy neighbour hides what all others lose.
    usual_ms = rows["entry"].map(entries["usual_ms"].clip(lower=config.min_usual_ms))
    in_requests = (1 / usual_ms).where(rows["unit"] == "ms", config.failure_weight)
    in_requests *= rows["entry"].map(entries["weight"])
    rows = rows.assign(cost=rows["excess"] * in_requests, noise=rows["se"] * in_requests)
    names = pd.Series(comparison.display_names)
    entries = entries.set_axis(names[entries.index]).rename_axis("entry").sort_index()
    return Ledger(_named(rows, comparison), entries.reset_index())


def _entries(comparison: Comparison) -> pd.DataFrame:
    """Return a row an entry with usual requests, by code: the columns of `Ledger.entries`."""
    usual = comparison.reference.cost_by_entry
    now = comparison.cost_by_entry
    columns = {
        "n_usual": usual["n"],
        "n_now": now["n"],
        "usual_ms": usual["ms"],
        "now_ms": now["ms"],
        "usual_failed": usual["failed"],
        "now_failed": now["failed"],
        "open_now": now["open"],
    }
    both = usual.index.intersection(now.index).sort_values()
    aligned = {name: column.reindex(both) for name, column in columns.items()}
    entries = pd.DataFrame(aligned, index=both)
    return entries.assign(weight=entries["n_now"] / entries["n_now"].sum())


def _excess(comparison: Comparison, entries: pd.DataFrame) -> pd.DataFrame:
    """Return the mean cost per request of each unit, masked, entry and account, usual and now, with
    the excess and its standard error.
    """
    usual = comparison.reference.cost_by_account
    now = comparison.cost_by_account
    keys = ["unit", "masked", "entry", "account"]
    rows = usual.merge(now, on=keys, how="outer", suffixes=("_usual", "")).fillna(0.0)
    rows = rows.join(entries[["n_usual", "n_now"]], on="entry", how="inner")
    var = rows[["var", "var_usual"]].max(axis=1)  # a few requests show too little of their scatter
    se = np.sqrt(var / rows["n_now"] + rows["var_usual"] / rows["n_usual"])
    se_failures = _se_of_failures(
        rows["mean_usual"], rows["n_usual"], rows["n_now"], comparison.config
    )
    accounts = comparison.costs.accounts
    return pd.DataFrame(
        {
            "entry": rows["entry"],
            "caller": accounts.caller[rows["account"]],
            "node": accounts.node[rows["account"]],
            "unit": rows["unit"],
            "masked": rows["masked"],
            "usual": rows["mean_usual"],
            "now": rows["mean"],
            "reassigned": 0.0,
            "excess": rows["mean"] - rows["mean_usual"],
            "se": se.where(rows["unit"] == "ms", se_failures),
        }
    ).reset_index(drop=True)


def _se_of_failures(
    share: pd.Series, n_usual: pd.Series, n_now: pd.Series, config: RcaConfig
) -> pd.Series:
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


def _named(rows: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return the rows with the names of entries, accounts and endpoints."""
    names = comparison.display_names
    endpoints = comparison.endpoints.loc[rows["node"]].set_index(rows.index)
    accounts = AccountTable(rows["caller"].to_numpy(), rows["node"].to_numpy())
    named = {
        "entry": names[rows["entry"]],
        "account": account_labels(accounts, (rows["unit"] == "ms").to_numpy(), names),
        "service": endpoints["service"],
        "endpoint": endpoints["endpoint"],
        "attributed_to": endpoints["name"],
    }
    numbers = ["unit", "masked", "usual", "now", "reassigned", "excess", "se", "cost", "noise"]
    table = pd.DataFrame(named, index=rows.index).join(rows[numbers])
    by = ["unit", "masked", "entry", "account"]
    return table.sort_values(by, ascending=[False, True, True, True], ignore_index=True)


# ---- what is reassigned


def _reassign(rows: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return the rows with what waits for contended services at the accounts that keep these busy.

    ``reassigned`` holds how much was moved; it adds up to nothing.
    """
    contended = _contended(rows, comparison)
    for _ in contended:  # what keeps one service busy may itself be waiting for the next
        moves = [_moves(rows, contention, comparison) for contention in contended]
        if all(move.empty for move in moves):
            break
        rows = _summed([rows, *moves])
    return _to_callers(rows, comparison)


def _is_significant(rows: pd.DataFrame, config: RcaConfig) -> pd.Series:
    return rows["excess"] > config.n_sigma * rows["se"]


def _contended(rows: pd.DataFrame, comparison: Comparison) -> list[Contention]:
    """Return, for each service with excess that is contended, what keeps it busy."""
    reference = comparison.reference
    config = comparison.config
    services = comparison.endpoints["service"]
    excess = rows["node"][_is_significant(rows, config)]
    suspected = {*services[excess]} & {*services[_prolonged(comparison)]}
    found = [
        find_contention(reference.requests_of(name), service_requests(name, comparison), config)
        for name in sorted(suspected)
    ]
    return [contention for contention in found if contention is not None]


def _prolonged(comparison: Comparison) -> pd.Index:
    """Return the endpoints whose requests take so much longer, or are not answered, that others may
    wait for them.
    """
    usual = comparison.reference.costs.endpoints
    now = comparison.costs.endpoints
    ratio = now["ms"] / usual["ms"].reindex(now.index)
    half_way = (1 + comparison.config.contention_ratio) / 2
    return now.index[~(ratio <= half_way) | (now["unanswered"] > 0)]


def _moves(rows: pd.DataFrame, contention: Contention, comparison: Comparison) -> pd.DataFrame:
    """Return what leaves the accounts of one contended service, and where it goes, as rows to be
    added.
    """
    accounts = comparison.costs.accounts
    is_time = rows["unit"] == "ms"
    waits = is_time & rows["node"].isin(accounts.node[contention.waiting])
    is_full = ~is_time & rows["node"].isin(accounts.node[contention.full])
    away = rows[(waits | is_full) & _is_significant(rows, comparison.config)]
    to = contention.share.index
    shares = {"caller": accounts.caller[to], "node": accounts.node[to], "share": contention.share}
    given = away.drop(columns=["caller", "node"]).merge(pd.DataFrame(shares), how="cross")
    share = given.pop("share")
    given = given.assign(excess=share * given["excess"], se=share * given["se"])
    return pd.concat([_moved(_taken(away)), _moved(given)])


def _taken(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(excess=-rows["excess"], se=0.0)


def _moved(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose excess was reassigned, and is no cost of their accounts."""
    return rows.assign(reassigned=rows["excess"], usual=0.0, now=0.0)


def _summed(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the sums of the tables by entry and account; standard errors add by their squares."""
    every = pd.concat(tables, ignore_index=True)
    every["se"] **= 2
    keys = ["entry", "caller", "node", "unit", "masked"]
    sums = every.groupby(keys, as_index=False).sum()
    return sums.assign(se=np.sqrt(sums["se"]))


def _to_callers(rows: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return the rows with slow calls at a caller that became slow to reach all services that it
    calls: then the cause lies there.
    """
    config = comparison.config
    calls = rows.join(_between_services(rows, comparison))
    calls["slow"] = (rows["unit"] == "ms") & _is_significant(rows, config)
    reached = calls.groupby(["from", "to"])["slow"].any()
    by_caller = reached.groupby(level="from").agg(["all", "size"])
    slow = by_caller.index[by_caller["all"] & (by_caller["size"] > 1)]
    if slow.empty:
        return rows
    longer = _prolonged_calls(comparison).groupby(level="from").agg(["min", "max"])
    alike = longer.index[longer["min"] >= config.similar_ratio * longer["max"]]
    away = rows[calls["slow"] & calls["from"].isin(slow.intersection(alike))]
    given = away.assign(node=away["caller"], caller=OWN)
    return _summed([rows, _moved(_taken(away)), _moved(given)])


def _between_services(accounts: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return the calling (``from``) and the called service (``to``) of each account, NaN unless it
    is an edge between two services.
    """
    services = np.append(comparison.endpoints["service"], ["", ""])  # of OUTSIDE and of OWN
    callers = services[accounts["caller"]]
    called = services[accounts["node"]]
    table = pd.DataFrame({"from": callers, "to": called}, index=accounts.index)
    return table[(callers != "") & (callers != called)]


def _prolonged_calls(comparison: Comparison) -> pd.Series:
    """Return by how many ns the gap of a call became longer, by calling and called service."""
    usual = comparison.reference.mean_self_ns
    now = comparison.mean_self_ns
    accounts = pd.DataFrame(comparison.costs.accounts._asdict())
    calls = now.join(usual.add_suffix("_usual"), how="inner")
    calls = calls.join(_between_services(accounts, comparison), how="inner")
    longer = calls["n"] * (calls["mean"] - calls["mean_usual"])
    sums = calls.assign(longer=longer).groupby(["from", "to"])[["longer", "n"]].sum()
    return sums["longer"] / sums["n"]
