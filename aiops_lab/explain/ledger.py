"""Where was the excess born? Root cause analysis as accounting.

A request that is slow is slow in all its callers too. What an endpoint costs more than usual, less
what its callees cost more than usual, was born there. Every moment of a request is booked to one
account, every failure to the endpoint where it began, so the excess at the entry is the sum of what
was born inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import (
    STUCK_NS,
    CostTable,
    account_label,
    account_nodes,
    attribute_costs,
    attributed_to,
    pairs,
)
from aiops_lab.explain.config import FAILURE_WEIGHT, MIN_USUAL_MS, N_SIGMA, SIMILAR_RATIO
from aiops_lab.explain.deviations import find_deviations
from aiops_lab.explain.queueing import (
    CONTENTION_RATIO,
    Contention,
    find_contention,
    service_requests,
)
from aiops_lab.explain.reference import (
    MASKED,
    Reference,
    check_resources,
    cost_by_account,
    cost_by_entry,
    edge_gaps,
    failure_accounts,
)
from aiops_lab.numerics import to_timestamp
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, display_names, encode
from aiops_lab.traces.trees import TraceTrees, build_trees


@dataclass(frozen=True)
class Ledger:
    """The excess of an incident, by account, per request at the entries.

    ``rows``: entry, account (as shown), service, endpoint, attributed_to (the endpoint as shown), unit
    ("ms" or "failures"), masked, usual, now, reassigned (what waiting for a held-up service hands on:
    `aiops_lab.explain.queueing`; adds up to 0), excess (now - usual + reassigned), se (standard error
    of the excess), cost and noise (excess and se in usual requests of their entry, times its
    weight). ``entries``: entry, n_usual, n_now, usual_ms, now_ms, usual_failed, now_failed,
    open_now (requests without an answer: they cost their age), weight (share of the requests). For
    each entry and unit the excess, masked rows left out, adds up to the entry's own.
    """

    rows: pd.DataFrame
    entries: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """The abnormal requests beside the usual ones, with both books open."""

    usual: Reference
    keys: dict[Key, int] = field(repr=False)
    spans: EncodedSpans = field(repr=False)
    trees: TraceTrees = field(repr=False)
    resources: pd.DataFrame | None = field(repr=False)
    books: CostTable = field(repr=False)
    named: dict[Key, str] = field(repr=False)
    until_ns: int

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The abnormal spans as a spans frame."""
        return self.spans.to_rows()

    @cached_property
    def shown(self) -> dict[int, str]:
        """How the endpoints are shown, by code: as `named`, else as the endpoints of this case tell
        them apart.
        """
        return {
            self.keys[key]: self.named.get(key, name)
            for key, name in display_names(list(self.keys)).items()
        }

    @cached_property
    def deviations(self) -> pd.DataFrame:
        """What is unusual, whatever it costs: `aiops_lab.explain.deviations`."""
        trees = self.trees
        hurt = (
            trees.failed | (trees.status >= 400) | (self.spans.end > self.until_ns)
        ) & ~trees.log
        in_trouble = np.append(
            np.bincount(trees.root + 1, hurt, minlength=trees.root.size + 1)[1:] > 0, False
        )
        return find_deviations(
            self.usual.custom,
            trees,
            failure_accounts(self.books),
            in_trouble[trees.root],
            self.resources,
        )

    @cached_property
    def ledger(self) -> Ledger:
        """The excess by account."""
        return _ledger(self)

    @cached_property
    def bad(self) -> pd.DataFrame:
        """The requests that failed, or took over 3 standard deviations longer than is usual for
        their entry.
        """
        usually = self.usual.entries
        requests = self.books.requests[self.books.requests["entry"].isin(usually.index)]
        limit = requests["entry"].map(usually["ms"] + N_SIGMA * usually["sd_ms"].clip(lower=0.1))
        return requests[requests["failed"] | (requests["ns"] / 1e6 > limit)]


def compare(
    usual: Reference,
    abnormal: pd.DataFrame | EncodedSpans,
    until_ns: int | None = None,
    named: dict[Key, str] | None = None,
    stuck_ns: int = STUCK_NS,
    resources: pd.DataFrame | None = None,
) -> Comparison:
    """Return the abnormal requests beside the usual ones, as they stood at `until_ns` (default:
    their last span).

    Spans that are encoded already must have the codes of the reference. `named` says how endpoints
    are shown elsewhere; an open request older than `stuck_ns` is unanswered.
    """
    if isinstance(abnormal, pd.DataFrame):
        abnormal = encode(check(abnormal), usual.spans.keys)
    spans = abnormal
    keys = {key: code for code, key in enumerate(spans.keys)}
    until = spans.last_ns if until_ns is None else until_ns
    trees = build_trees(spans, until, usual.offsets)
    books = attribute_costs(spans, trees, len(keys), until, usual.habits, stuck_ns)
    return Comparison(
        usual,
        keys,
        spans,
        trees,
        _during(usual, spans, resources),
        books,
        named or {},
        until,
    )


def ledger(usual: Reference, abnormal: pd.DataFrame) -> Ledger:
    """Return the excess of the abnormal requests over the usual ones, by account and entry.

    Assumes that requests of one entry are alike. An entry without usual requests says nothing and
    is left out.
    """
    return compare(usual, abnormal).ledger


def _during(
    usual: Reference, spans: EncodedSpans, resources: pd.DataFrame | None
) -> pd.DataFrame | None:
    """Return the metrics of the time that the spans cover."""
    check_resources(resources)
    if resources is None or usual.resources is None or spans.start.size == 0:
        return None
    lacking = usual.resources.columns.difference(resources.columns)
    if len(lacking):
        raise ValueError(f"resources must have the columns that were learned, lacks {lacking[0]!r}")
    first, last = to_timestamp(spans.start.min()), to_timestamp(spans.start.max())
    return resources[(resources.index >= first) & (resources.index <= last)]


# ---- usual against now


def _ledger(case: Comparison) -> Ledger:
    sums = cost_by_account(case.books)
    entries = (
        case.usual.entries.add_suffix("_usual")
        .join(cost_by_entry(case.books).add_suffix("_now"), how="inner")
        .sort_index()
    )
    entries["weight"] = entries["n_now"] / max(entries["n_now"].sum(), 1)
    costs = {kind: (usually, sums[kind]) for kind, usually in case.usual.sums.items()}
    tables = [
        _excess(*both, kind, entries)
        for kind, both in costs.items()
        if kind == "ms" or any(len(t) for t in both)
    ]
    rows = _reassign(pd.concat(tables, ignore_index=True), case)
    # Each entry in its own usual requests: else one heavy neighbour hides what all others lose.
    usual_ms = rows["entry"].map(entries["ms_usual"].clip(lower=MIN_USUAL_MS)).to_numpy(dtype=float)
    in_requests = np.where(rows["unit"] == "ms", 1.0 / usual_ms, FAILURE_WEIGHT)
    in_requests *= rows["entry"].map(entries["weight"]).to_numpy(dtype=float)
    rows["cost"], rows["noise"] = rows["excess"] * in_requests, rows["se"] * in_requests
    return Ledger(_named(rows, case), _named_entries(entries, case))


def _reassign(rows: pd.DataFrame, case: Comparison) -> pd.DataFrame:
    """Hand what waited for held-up services on to whatever held them; ``reassigned`` says how much, in
    sum nothing.
    """
    held, column = _held_up(rows, case), rows.assign(reassigned=0.0)
    for _ in held:  # what holds one service up may itself be waiting for the next
        moves = [_moves(column, how) for how in held]
        if not any(len(move) for move in moves):
            break
        column = _summed([column, *moves])
    return _to_callers(column, case)


def _to_callers(rows: pd.DataFrame, case: Comparison) -> pd.DataFrame:
    """Hand slow calls on to a caller that became slow to reach all services that it calls: the
    trouble is its own.
    """
    service = {code: key[0] for key, code in case.keys.items()}
    pairs = [
        tuple(service.get(code, "") for code in account_nodes(account))
        for account in rows["account"]
    ]
    slow = ((rows["unit"] == "ms") & (rows["excess"] > N_SIGMA * rows["se"])).to_numpy()
    reached: dict[str, dict[str, list[bool]]] = {}
    for pair, is_slow in zip(pairs, slow, strict=True):
        if len(set(pair)) == 2 and pair[0]:
            reached.setdefault(pair[0], {}).setdefault(pair[1], []).append(bool(is_slow))
    owners = [
        a for a, called in reached.items() if len(called) > 1 and all(map(any, called.values()))
    ]
    longer = _longer_calls(case, service) if owners else pd.Series()
    owners = [a for a in owners if longer[a].min() >= SIMILAR_RATIO * longer[a].max()]
    away = rows[
        slow & np.array([len(set(pair)) == 2 and pair[0] in owners for pair in pairs], dtype=bool)
    ]
    if away.empty:
        return rows
    return _summed(
        [
            rows,
            _taken(away),
            _given(away, [account_nodes(account)[0] for account in away["account"]]),
        ]
    )


def _longer_calls(case: Comparison, service: dict[int, str]) -> pd.Series:
    """Return by how many ns the gap of a call became longer, by (calling service, called service)."""
    (usual, _), (now, now_n) = case.usual.gaps, edge_gaps(case.trees)
    at = [
        a
        for a in now.index.intersection(usual.index)
        if len({service.get(code, "") for code in account_nodes(a)}) == 2
    ]
    who = pd.DataFrame(
        [[service.get(code, "") for code in account_nodes(a)] for a in at],
        index=at,
        columns=["caller", "called"],
    )
    sums = (
        who.assign(ns=(now - usual)[at] * now_n[at], n=now_n[at])
        .groupby(["caller", "called"])
        .sum()
    )
    return sums["ns"] / sums["n"]


def _held_up(rows: pd.DataFrame, case: Comparison) -> list[Contention]:
    """Return, for each service that is held up and suspected, what holds it."""
    service = {code: key[0] for key, code in case.keys.items()}
    excess = rows[rows["excess"] > N_SIGMA * rows["se"]]
    suspected = {service[attributed_to(account)] for account in excess["account"]}
    suspected &= {service[node] for node in _longer(case)}
    usual, now = case.usual, (case.spans, case.until_ns, case.usual.offsets)
    found = (
        find_contention(usual.stay(name), service_requests(name, *now))
        for name in sorted(suspected)
    )
    return [how for how in found if how is not None]


def _longer(case: Comparison) -> list[int]:
    """Return the endpoints whose requests take so much longer, or are not answered, that they may
    hold up others.
    """
    usual, now = case.usual.books.endpoints, case.books.endpoints
    ratio = now["ms"] / usual["ms"].reindex(now.index)
    return now.index[~(ratio <= (1 + CONTENTION_RATIO) / 2) | (now["unanswered"] > 0)].tolist()


def _moves(rows: pd.DataFrame, how: Contention) -> pd.DataFrame:
    """Return what leaves the accounts of one held-up service, and where it goes, as rows to be
    added.
    """
    node, slow = rows["account"].map(attributed_to), rows["unit"] == "ms"
    theirs = (slow & node.isin(how.waiting)) | (~slow & node.isin(how.full))
    away = rows[theirs & (rows["excess"] > N_SIGMA * rows["se"])]
    share = np.tile(np.fromiter(how.share.values(), dtype=float), len(away))
    account = np.tile(np.fromiter(how.share, dtype=np.int64), len(away))
    each = away.iloc[np.repeat(np.arange(len(away)), len(how.share))]
    return pd.concat([_taken(away), _given(each, account, share)], ignore_index=True)


def _taken(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(
        excess=-rows["excess"], reassigned=-rows["excess"], usual=0.0, now=0.0, se=0.0
    )


def _given(
    rows: pd.DataFrame, account: NDArray | list[int], share: NDArray | float = 1.0
) -> pd.DataFrame:
    there = share * rows["excess"]
    return rows.assign(
        account=account, excess=there, reassigned=there, usual=0.0, now=0.0, se=share * rows["se"]
    )


def _summed(tables: list[pd.DataFrame]) -> pd.DataFrame:
    every = pd.concat([t for t in tables if len(t)], ignore_index=True)
    every["se"] **= 2
    sums = every.groupby(["entry", "account", "unit", "masked"], as_index=False)[
        [*_AMOUNTS, "se"]
    ].sum()
    return sums.assign(se=np.sqrt(sums["se"]))


_AMOUNTS = ["usual", "now", "excess", "reassigned"]


def _beside(before: pd.DataFrame, now: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return all entries and accounts of two tables, and the cost and square of both, 0 where one
    has no such row.
    """
    both = (np.concatenate([before[column], now[column]]) for column in ("entry", "account"))
    entry, account, which = pairs(*both)
    values = np.zeros((2, entry.size, 2))
    for side, table, rows in ((0, before, which[: len(before)]), (1, now, which[len(before) :])):
        values[:, rows, side] = table[["cost", "square"]].T
    return entry, account, *values


def _excess(
    before: pd.DataFrame, now: pd.DataFrame, kind: str, entries: pd.DataFrame
) -> pd.DataFrame:
    """Return the mean cost per request of each (entry, account) before and now, with the standard
    error of the gap.
    """
    entry, account, cost, square = _beside(before, now)
    known = np.isin(entry, entries.index)
    entry, account, cost, square = entry[known], account[known], cost[known], square[known]
    n = entries.loc[entry, ["n_usual", "n_now"]].to_numpy(dtype=float)
    unit = 1e6 if kind == "ms" else 1.0
    cost, square = cost / n / unit, square / n / unit**2
    var = (square - cost**2).clip(min=0.0)
    now_var = var.max(axis=1)  # a few requests show too little of how they scatter
    se = (
        np.sqrt(now_var / n[:, 1] + var[:, 0] / n[:, 0])
        if kind == "ms"
        else _se_of_failures(cost[:, 0], n)
    )
    return pd.DataFrame(
        {
            "entry": entry,
            "account": account,
            "usual": cost[:, 0],
            "now": cost[:, 1],
            "excess": cost[:, 1] - cost[:, 0],
            "se": se,
            "unit": "ms" if kind == "ms" else "failures",
            "masked": kind == MASKED,
        }
    )


def _se_of_failures(share: NDArray, n: NDArray) -> NDArray:
    """Return the standard error of a share of failures if it is as usual, with one failure imagined
    among the usual.

    Widened by the skewness of rare events (Cornish & Fisher 1938, doi 10.2307/1400905), so that
    `NOISE` of it is hardly ever exceeded by a lone failure.
    """
    n_usual, n_now = n.T
    usual = (share * n_usual + 1) / (n_usual + 2)
    scatter = usual * np.maximum(1 - usual, 0.25)  # a request may fail at one place more than once
    sd = np.sqrt(scatter * (1 / n_now + 1 / n_usual))
    return sd + ((N_SIGMA**2 - 1) / 6 + 0.5) / N_SIGMA / n_now


def _named(rows: pd.DataFrame, case: Comparison) -> pd.DataFrame:
    back = {code: key for key, code in case.keys.items()}
    mine = [attributed_to(account) for account in rows["account"]]
    named = {
        "entry": [case.shown[entry] for entry in rows["entry"]],
        "account": [
            account_label(a, unit, case.shown)
            for a, unit in zip(rows["account"], rows["unit"], strict=True)
        ],
        "service": [back[code][0] for code in mine],
        "endpoint": [back[code][1] for code in mine],
        "attributed_to": [case.shown[code] for code in mine],
    }
    numbers = rows[
        ["unit", "masked", "usual", "now", "reassigned", "excess", "se", "cost", "noise"]
    ]
    table = pd.concat([pd.DataFrame(named, index=rows.index), numbers], axis=1)
    by = ["unit", "masked", "entry", "account"]
    return table.sort_values(by, ascending=[False, True, True, True], ignore_index=True)


def _named_entries(entries: pd.DataFrame, case: Comparison) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "entry": [case.shown[entry] for entry in entries.index],
            "n_usual": entries["n_usual"].to_numpy(),
            "n_now": entries["n_now"].to_numpy(),
            "usual_ms": entries["ms_usual"].to_numpy(),
            "now_ms": entries["ms_now"].to_numpy(),
            "usual_failed": entries["failed_usual"].to_numpy(),
            "now_failed": entries["failed_now"].to_numpy(),
            "open_now": entries["open_now"].to_numpy(),
            "weight": entries["weight"].to_numpy(),
        }
    )
    return table.sort_values("entry", ignore_index=True)
