"""Where was the excess born? Root cause analysis as accounting.

A request that is slow is slow in all its callers too. What an endpoint costs more than usual, less what its callees
cost more than usual, was born there. Every moment of a request is booked to one account, every failure to the
endpoint where it began, so the excess at the entry is the sum of what was born inside.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.accounts import (
    STUCK_NS,
    Books,
    Habits,
    blamed,
    clock_offsets,
    ends,
    habits,
    keep,
    label,
    last_ns,
    moments,
    pairs,
)
from aiops_lab.confidence import shipped
from aiops_lab.holding import HELD, Held, Stay, held_up, stay
from aiops_lab.incidents import Suspect
from aiops_lab.spans import check
from aiops_lab.symptoms import KINDS, Custom, custom, kept, most_unusual, symptoms
from aiops_lab.traces import Coded, Forest, coded, forest, names
from aiops_lab.windows import Key

FLOOR = 0.02  # abstain below two hundredths of a usual request
FAILURE_WEIGHT = 5.0  # a failed request costs as much as five usual requests: users feel it more than a delay
NOISE = 3.0  # standard errors that an excess must exceed
ALIKE = 0.3  # calls to all services are slow for one reason if each takes longer by such a part of the most
LEAST_MS = 10.0  # a request that usually takes less counts as this: half a millisecond more of 2 ms is no trouble


@dataclass(frozen=True)
class Usual:
    """What is usual, learned once from fault-free spans (``frame``) and used for many incidents."""

    frame: pd.DataFrame
    keys: dict[Key, int] = field(repr=False)
    spans: Coded = field(repr=False)
    trees: Forest = field(repr=False)
    resources: pd.DataFrame | None = field(repr=False)
    offsets: dict[tuple[str, str], int] = field(repr=False)
    books: Books = field(repr=False)
    habits: Habits = field(repr=False)
    until_ns: int
    _stays: dict[str, Stay | None] = field(default_factory=dict, repr=False, compare=False)

    def stay(self, service: str) -> Stay | None:
        """Return the usual requests of a service, worked out once."""
        if service not in self._stays:
            self._stays[service] = stay(service, self.spans, self.until_ns, self.offsets)
        return self._stays[service]

    @cached_property
    def entries(self) -> pd.DataFrame:
        """What requests usually cost, by entry: n, ms, failed, open, sd_ms."""
        return _entries(self.books)

    @cached_property
    def custom(self) -> Custom:
        """How things are usually done."""
        return custom(self.trees, _began(self.books), self.resources)

    @cached_property
    def gaps(self) -> tuple[pd.Series, pd.Series]:
        """The mean self time of the spans of each account in ns, and their number."""
        return _gaps(self.trees)

    @cached_property
    def sums(self) -> dict[str, pd.DataFrame]:
        """What requests usually cost, by kind of cost and account."""
        return _sums(self.books)


@dataclass(frozen=True)
class Ledger:
    """The excess of an incident, by account, per request at the entries.

    ``rows``: entry, account (as shown), service, endpoint, blames (the endpoint as shown), unit ("ms" or "failures"),
    masked, usual, now, handed (what waiting for a held-up service hands on: `aiops_lab.holding`; adds up to 0), excess
    (now - usual + handed), se (standard error of the excess), cost and noise (excess and se in usual requests of
    their entry, times its weight).
    ``entries``: entry, n_usual, n_now, usual_ms, now_ms, usual_failed, now_failed, open_now (requests without
    an answer: they cost their age), weight (share of the requests).
    For each entry and unit the excess, masked rows left out, adds up to the entry's own.
    """

    rows: pd.DataFrame
    entries: pd.DataFrame


@dataclass(frozen=True)
class Case:
    """The abnormal requests (``frame``) beside the usual ones, with both books open."""

    usual: Usual
    frame: pd.DataFrame
    keys: dict[Key, int] = field(repr=False)
    spans: Coded = field(repr=False)
    trees: Forest = field(repr=False)
    resources: pd.DataFrame | None = field(repr=False)
    books: Books = field(repr=False)
    named: dict[Key, str] = field(repr=False)
    until_ns: int

    @cached_property
    def shown(self) -> dict[int, str]:
        """How the endpoints are shown, by code: as `named`, else as the endpoints of this case tell them apart."""
        return {self.keys[key]: self.named.get(key, name) for key, name in names(list(self.keys)).items()}

    @cached_property
    def symptoms(self) -> pd.DataFrame:
        """What is unusual, whatever it costs: `aiops_lab.symptoms`."""
        trees = self.trees
        hurt = (trees.failed | (trees.status >= 400) | (self.spans.end > self.until_ns)) & ~trees.log
        in_trouble = np.append(np.bincount(trees.root + 1, hurt, minlength=trees.root.size + 1)[1:] > 0, False)
        return symptoms(self.usual.custom, trees, _began(self.books), in_trouble[trees.root], self.resources)

    @cached_property
    def ledger(self) -> Ledger:
        """The excess by account."""
        return _ledger(self)

    @cached_property
    def bad(self) -> pd.DataFrame:
        """The requests that failed, or took over 3 standard deviations longer than is usual for their entry."""
        usually = self.usual.entries
        requests = self.books.requests[self.books.requests["entry"].isin(usually.index)]
        limit = requests["entry"].map(usually["ms"] + NOISE * usually["sd_ms"].clip(lower=0.1))
        return requests[requests["failed"] | (requests["ns"] / 1e6 > limit)]


def learn(normal: pd.DataFrame, resources: pd.DataFrame | None = None) -> Usual:
    """Return what is usual: learn once, use for many incidents.

    Parameters
    ----------
    normal : DataFrame
        A spans frame of fault-free requests.
    resources : DataFrame, optional
        Metrics of the services: index time (UTC), column ``service``, the rest numbers. What is usual of them is taken
        from all rows: a few minutes of trouble among them do no harm.

    Raises
    ------
    ValueError
        Names the column that is missing or mistyped.
    """
    check_resources(resources)
    frame, keys = check(normal), dict[Key, int]()
    spans, until = coded(frame, keys), last_ns(frame)
    offsets = clock_offsets(spans)
    trees = forest(spans, until, offsets)
    seen = habits(trees, len(keys))
    books = keep(frame, spans, trees, len(keys), until, seen)
    return Usual(frame, keys, spans, trees, resources, offsets, books, seen, until)


def open_case(
    usual: Usual, abnormal: pd.DataFrame, until_ns: int | None = None, named: dict[Key, str] | None = None,
    stuck_ns: int = STUCK_NS, resources: pd.DataFrame | None = None,
) -> Case:  # fmt: skip
    """Return the abnormal requests beside the usual ones, as they stood at `until_ns` (default: their last span).

    `named` says how endpoints are shown elsewhere; an open request older than `stuck_ns` is unanswered.
    """
    keys = dict(usual.keys)
    until = last_ns(check(abnormal)) if until_ns is None else until_ns
    spans = coded(abnormal, keys)
    trees = forest(spans, until, usual.offsets)
    books = keep(abnormal, spans, trees, len(keys), until, usual.habits, stuck_ns)
    return Case(usual, abnormal, keys, spans, trees, _during(usual, abnormal, resources), books, named or {}, until)


def ledger(usual: Usual, abnormal: pd.DataFrame) -> Ledger:
    """Return the excess of the abnormal requests over the usual ones, by account and entry.

    Assumes that requests of one entry are alike. An entry without usual requests says nothing and is left out.
    """
    return open_case(usual, abnormal).ledger


def check_resources(resources: pd.DataFrame | None) -> None:
    """Raise a ValueError that names the rule, unless `resources` are metrics of services by time, or None."""
    if resources is None:
        return
    if not isinstance(resources, pd.DataFrame) or "service" not in resources:
        raise ValueError(f"resources must be a DataFrame with the column 'service', got {_columns(resources)}")
    if not isinstance(resources.index, pd.DatetimeIndex) or str(resources.index.tz) != "UTC":
        raise ValueError(f"resources must have an index of times in UTC, got {resources.index.dtype}")
    if not resources.columns.is_unique:
        raise ValueError(f"resources must have each column once, got {list(resources.columns)}")
    if not all(isinstance(name, str) for name in resources["service"].unique()):
        raise ValueError(f"resources['service'] must be text, got {resources['service'].dtype}")
    for name in resources.columns.drop("service"):
        if resources[name].dtype.kind not in "iuf":
            raise ValueError(f"resources[{name!r}] must be numbers, got {resources[name].dtype}")


def _columns(value: object) -> object:
    return list(value.columns) if isinstance(value, pd.DataFrame) else type(value).__name__


def _during(usual: Usual, frame: pd.DataFrame, resources: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the metrics of the time that the spans cover."""
    check_resources(resources)
    if resources is None or usual.resources is None or frame.empty:
        return None
    lacking = usual.resources.columns.difference(resources.columns)
    if len(lacking):
        raise ValueError(f"resources must have the columns that were learned, lacks {lacking[0]!r}")
    return resources[(resources.index >= frame["start"].min()) & (resources.index <= frame["start"].max())]


def rank_root_causes(
    normal: pd.DataFrame | Usual, abnormal: pd.DataFrame, resources: pd.DataFrame | None = None
) -> list[Suspect]:
    """Return the suspects, best first; empty where nothing stands out of the noise.

    Parameters
    ----------
    normal : DataFrame or Usual
        Fault-free spans, or what `learn` made of them.
    abnormal : DataFrame
        The spans of the incident, of any system (a frame as `aiops_lab.to_frame` makes it; where there are no status
        codes, 200 throughout), with log lines as spans of kind ``log`` or without.
    resources : DataFrame, optional
        As for `learn`; what lies outside of the incident's time is left out. Looked at only if `learn` was given what
        is usual; where `normal` is a frame, all of `resources` is.

    Raises
    ------
    ValueError
        Names the column that is missing or mistyped.

    Notes
    -----
    Assumes that both frames hold requests of the same kinds. First the ledger: the score of an endpoint is the sum over
    its accounts of max(0, excess - 3 standard errors), latency in usual requests and failures times 5. A slow edge
    counts to the called endpoint, unless all calls of a service became slow: then it counts to the caller. Where nobody
    lost as much as `FLOOR`, the symptoms speak: services by how unusual they are (0 to 1), each by its most unusual
    endpoint.
    """
    usual = normal if isinstance(normal, Usual) else learn(normal, resources)
    return suspects_of(open_case(usual, abnormal, resources=resources))


def suspects_of(case: Case) -> list[Suspect]:
    """Return the suspects of a case, best first."""
    return by_ledger(case) or by_symptoms(case)


def by_ledger(case: Case) -> list[Suspect]:
    """Return the suspects by what customers lost; none where nobody lost as much as `FLOOR`."""
    rows, scores = case.ledger.rows, scores_of(case.ledger)
    if scores.empty:
        return []
    votes = _votes(case)
    shares = scores / scores.sum()
    sure = shipped()(scores.to_numpy() / FLOOR, shares.to_numpy())
    found = []
    for (service, endpoint, name), score, share, p in zip(scores.index, scores, shares, sure, strict=True):
        mine = rows[(rows["service"] == service) & (rows["endpoint"] == endpoint)]
        evidence = tuple(records(mine[mine["excess"] > NOISE * mine["se"]]))
        support = votes.get((service, endpoint), 0), len(case.bad)
        found.append(Suspect(service, endpoint, score, float(p), support, evidence, name, share))
    return sorted(found, key=lambda x: (-x.score, x.service, x.endpoint))


def by_symptoms(case: Case, kinds: Collection[str] = KINDS) -> list[Suspect]:
    """Return the suspects by what is not done as usual, looking at some kinds of `symptoms.KINDS`."""
    if case.books.requests["entry"].isin(case.usual.entries.index).sum() == 0:
        return []  # there is nothing to compare with
    back = {code: key for key, code in case.keys.items()}
    items = case.symptoms[case.symptoms["kind"].isin(kinds)]
    found = most_unusual(items, back)
    scores = np.array([f.score for f in found])
    shares = scores / max(scores.sum(), 1e-12)
    sure = shipped("symptoms")(scores, shares)
    accounts = zip(items["account"], items["kind"].map({"self": "ms"}), strict=True)
    items = items.assign(account=[a if isinstance(a, str) else label(a, u, case.shown) for a, u in accounts])
    return [
        Suspect(
            *back[f.node], f.score, float(p), evidence=tuple(records(items.loc[f.rows])), name=case.shown[f.node],
            share=float(share), by="symptoms",
        )
        for f, share, p in zip(found, shares, sure, strict=True)
    ]  # fmt: skip


def _began(books: Books) -> NDArray:
    return books.failures["account"].to_numpy(dtype=np.int64)


def scores_of(ledger: Ledger) -> pd.Series:
    """Return the score of each (service, endpoint, name as shown) that reaches the least one."""
    rows = ledger.rows[["service", "endpoint", "blames", "account", "unit", "cost"]]
    rows = rows.assign(noise=ledger.rows["noise"] ** 2)
    sums = rows.groupby(["service", "endpoint", "blames", "account", "unit"]).sum()
    scores = (sums["cost"] - NOISE * np.sqrt(sums["noise"])).clip(lower=0.0).groupby(level=[0, 1, 2]).sum()
    return scores[scores >= FLOOR]


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as plain data."""
    rows = table.to_dict("records")
    return [{str(k): v.item() if isinstance(v, np.generic) else v for k, v in row.items()} for row in rows]


def _votes(case: Case) -> dict[Key, int]:
    """Return for how many of the bad requests the largest excess was born at each endpoint."""
    time = case.books.time[case.books.time["root"].isin(case.bad.index)].reset_index(drop=True)
    usual = case.usual.sums["ms"]
    *_, which = pairs(*(np.concatenate([usual[c], time[c]]) for c in ("entry", "account")))
    cost = np.bincount(which[: len(usual)], usual["cost"], minlength=which.max(initial=0) + 1)[which[len(usual) :]]
    time["excess"] = time["ns"] - cost / time["entry"].map(case.usual.entries["n"])
    slow = (
        time.sort_values(["root", "excess", "account"])
        .drop_duplicates("root", keep="last")
        .set_index("root")["account"]
    )
    failures = case.books.failures
    failed = failures[~failures["masked"] & failures["root"].isin(case.bad.index)].set_index("root")["account"]
    codes = pd.concat([failed, slow[~slow.index.isin(failed.index)]]).map(blamed).value_counts()
    back = {code: key for key, code in case.keys.items()}
    return {back[int(code)]: int(n) for code, n in codes.items()}


# ---- usual against now


def _ledger(case: Case) -> Ledger:
    sums = _sums(case.books)
    entries = (
        case.usual.entries.add_suffix("_usual").join(_entries(case.books).add_suffix("_now"), how="inner").sort_index()
    )
    entries["weight"] = entries["n_now"] / max(entries["n_now"].sum(), 1)
    costs = {kind: (usually, sums[kind]) for kind, usually in case.usual.sums.items()}
    tables = [
        _excess(*both, kind, entries) for kind, both in costs.items() if kind == "ms" or any(len(t) for t in both)
    ]
    rows = _hand_on(pd.concat(tables, ignore_index=True), case)
    # Each entry in its own usual requests: else one heavy neighbour hides what all others lose.
    usual_ms = rows["entry"].map(entries["ms_usual"].clip(lower=LEAST_MS)).to_numpy(dtype=float)
    in_requests = np.where(rows["unit"] == "ms", 1.0 / usual_ms, FAILURE_WEIGHT)
    in_requests *= rows["entry"].map(entries["weight"]).to_numpy(dtype=float)
    rows["cost"], rows["noise"] = rows["excess"] * in_requests, rows["se"] * in_requests
    return Ledger(_named(rows, case), _named_entries(entries, case))


def _hand_on(rows: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Hand what waited for held-up services on to whatever held them; ``handed`` says how much, in sum nothing."""
    held, column = _held_up(rows, case), rows.assign(handed=0.0)
    for _ in held:  # what holds one service up may itself be waiting for the next
        moves = [_moves(column, how) for how in held]
        if not any(len(move) for move in moves):
            break
        column = _summed([column, *moves])
    return _to_callers(column, case)


def _to_callers(rows: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Hand slow calls on to a caller that became slow to reach all services that it calls: the trouble is its own."""
    service = {code: key[0] for key, code in case.keys.items()}
    pairs = [tuple(service.get(code, "") for code in ends(account)) for account in rows["account"]]
    slow = ((rows["unit"] == "ms") & (rows["excess"] > NOISE * rows["se"])).to_numpy()
    reached: dict[str, dict[str, list[bool]]] = {}
    for pair, is_slow in zip(pairs, slow, strict=True):
        if len(set(pair)) == 2 and pair[0]:
            reached.setdefault(pair[0], {}).setdefault(pair[1], []).append(bool(is_slow))
    owners = [a for a, called in reached.items() if len(called) > 1 and all(map(any, called.values()))]
    longer = _longer_calls(case, service) if owners else pd.Series()
    owners = [a for a in owners if longer[a].min() >= ALIKE * longer[a].max()]
    away = rows[slow & np.array([len(set(pair)) == 2 and pair[0] in owners for pair in pairs], dtype=bool)]
    if away.empty:
        return rows
    return _summed([rows, _taken(away), _given(away, [ends(account)[0] for account in away["account"]])])


def _longer_calls(case: Case, service: dict[int, str]) -> pd.Series:
    """Return by how many ns the gap of a call became longer, by (calling service, called service)."""
    (usual, _), (now, now_n) = case.usual.gaps, _gaps(case.trees)
    at = [a for a in now.index.intersection(usual.index) if len({service.get(code, "") for code in ends(a)}) == 2]
    who = pd.DataFrame(
        [[service.get(code, "") for code in ends(a)] for a in at], index=at, columns=["caller", "called"]
    )
    sums = who.assign(ns=(now - usual)[at] * now_n[at], n=now_n[at]).groupby(["caller", "called"]).sum()
    return sums["ns"] / sums["n"]


def _gaps(trees: Forest) -> tuple[pd.Series, pd.Series]:
    """Return the mean self time of the spans of each account in ns, and their number."""
    account, own = kept(trees)
    by = pd.Series(own).groupby(account)
    return by.mean(), by.size()


def _held_up(rows: pd.DataFrame, case: Case) -> list[Held]:
    """Return, for each service that is held up and suspected, what holds it."""
    service = {code: key[0] for key, code in case.keys.items()}
    excess = rows[rows["excess"] > NOISE * rows["se"]]
    suspected = {service[blamed(account)] for account in excess["account"]}
    suspected &= {service[node] for node in _longer(case)}
    usual, now = case.usual, (case.spans, case.until_ns, case.usual.offsets)
    found = (held_up(usual.stay(name), stay(name, *now)) for name in sorted(suspected))
    return [how for how in found if how is not None]


def _longer(case: Case) -> list[int]:
    """Return the endpoints whose requests take so much longer, or are not answered, that they may hold up others."""
    usual, now = case.usual.books.endpoints, case.books.endpoints
    ratio = now["ms"] / usual["ms"].reindex(now.index)
    return now.index[~(ratio <= (1 + HELD) / 2) | (now["unanswered"] > 0)].tolist()


def _moves(rows: pd.DataFrame, how: Held) -> pd.DataFrame:
    """Return what leaves the accounts of one held-up service, and where it goes, as rows to be added."""
    node, slow = rows["account"].map(blamed), rows["unit"] == "ms"
    theirs = (slow & node.isin(how.waiting)) | (~slow & node.isin(how.full))
    away = rows[theirs & (rows["excess"] > NOISE * rows["se"])]
    share = np.tile(np.fromiter(how.share.values(), dtype=float), len(away))
    account = np.tile(np.fromiter(how.share, dtype=np.int64), len(away))
    each = away.iloc[np.repeat(np.arange(len(away)), len(how.share))]
    return pd.concat([_taken(away), _given(each, account, share)], ignore_index=True)


def _taken(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(excess=-rows["excess"], handed=-rows["excess"], usual=0.0, now=0.0, se=0.0)


def _given(rows: pd.DataFrame, account: NDArray | list[int], share: NDArray | float = 1.0) -> pd.DataFrame:
    there = share * rows["excess"]
    return rows.assign(account=account, excess=there, handed=there, usual=0.0, now=0.0, se=share * rows["se"])


def _summed(tables: list[pd.DataFrame]) -> pd.DataFrame:
    every = pd.concat([t for t in tables if len(t)], ignore_index=True)
    every["se"] **= 2
    sums = every.groupby(["entry", "account", "unit", "masked"], as_index=False)[[*_AMOUNTS, "se"]].sum()
    return sums.assign(se=np.sqrt(sums["se"]))


_AMOUNTS = ["usual", "now", "excess", "handed"]


def _entries(books: Books) -> pd.DataFrame:
    requests = books.requests
    table = moments(requests["entry"].to_numpy(), requests["ns"].to_numpy() / 1e6)
    entry = np.searchsorted(table.index, requests["entry"])
    failed, still_open = (np.bincount(entry, requests[name], minlength=len(table)) for name in ("failed", "open"))
    sd_ms = np.sqrt(table.pop("var"))
    return table.assign(failed=failed / table["n"], open=still_open.astype(int), sd_ms=sd_ms)


def _sums(books: Books) -> dict[str, pd.DataFrame]:
    """Return cost, and the sum of its squares over requests, by entry and account: of time, failures, masked ones."""
    masked = books.failures["masked"].to_numpy(dtype=bool)
    tables = {kind: books.failures[which] for kind, which in ((_FAILED, ~masked), (_MASKED, masked))}
    counted = {kind: _per_request(t.assign(ns=1)) for kind, t in tables.items()}
    return {kind: _per_account(t) for kind, t in ({"ms": books.time} | counted).items()}


_FAILED, _MASKED = "failures", "masked failures"


def _per_request(table: pd.DataFrame) -> pd.DataFrame:
    """Add up the rows of one request and account: one may fail at the same place twice."""
    root, account, which = pairs(table["root"].to_numpy(), table["account"].to_numpy())
    entry = np.zeros(root.size, dtype=np.int64)
    entry[which] = table["entry"]
    return pd.DataFrame(
        {"entry": entry, "account": account, "ns": np.bincount(which, table["ns"], minlength=root.size)}
    )


def _per_account(table: pd.DataFrame) -> pd.DataFrame:
    entry, account, which = pairs(table["entry"].to_numpy(), table["account"].to_numpy())
    cost = table["ns"].to_numpy(dtype=float)
    sums = {name: np.bincount(which, c, minlength=entry.size) for name, c in (("cost", cost), ("square", cost**2))}
    return pd.DataFrame({"entry": entry, "account": account} | sums)


def _beside(before: pd.DataFrame, now: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Return all entries and accounts of two tables, and the cost and square of both, 0 where one has no such row."""
    both = (np.concatenate([before[column], now[column]]) for column in ("entry", "account"))
    entry, account, which = pairs(*both)
    values = np.zeros((2, entry.size, 2))
    for side, table, rows in ((0, before, which[: len(before)]), (1, now, which[len(before) :])):
        values[:, rows, side] = table[["cost", "square"]].T
    return entry, account, *values


def _excess(before: pd.DataFrame, now: pd.DataFrame, kind: str, entries: pd.DataFrame) -> pd.DataFrame:
    """Return the mean cost per request of each (entry, account) before and now, with the standard error of the gap."""
    entry, account, cost, square = _beside(before, now)
    known = np.isin(entry, entries.index)
    entry, account, cost, square = entry[known], account[known], cost[known], square[known]
    n = entries.loc[entry, ["n_usual", "n_now"]].to_numpy(dtype=float)
    unit = 1e6 if kind == "ms" else 1.0
    cost, square = cost / n / unit, square / n / unit**2
    var = (square - cost**2).clip(min=0.0)
    now_var = var.max(axis=1)  # a few requests show too little of how they scatter
    se = np.sqrt(now_var / n[:, 1] + var[:, 0] / n[:, 0]) if kind == "ms" else _se_of_failures(cost[:, 0], n)
    return pd.DataFrame({
        "entry": entry, "account": account, "usual": cost[:, 0], "now": cost[:, 1], "excess": cost[:, 1] - cost[:, 0],
        "se": se, "unit": "ms" if kind == "ms" else "failures", "masked": kind == _MASKED,
    })  # fmt: skip


def _se_of_failures(share: NDArray, n: NDArray) -> NDArray:
    """Return the standard error of a share of failures if it is as usual, with one failure imagined among the usual.

    Widened by the skewness of rare events (Cornish & Fisher 1938, doi 10.2307/1400905), so that `NOISE` of it is hardly
    ever exceeded by a lone failure.
    """
    n_usual, n_now = n.T
    usual = (share * n_usual + 1) / (n_usual + 2)
    scatter = usual * np.maximum(1 - usual, 0.25)  # a request may fail at one place more than once
    sd = np.sqrt(scatter * (1 / n_now + 1 / n_usual))
    return sd + ((NOISE**2 - 1) / 6 + 0.5) / NOISE / n_now


def _named(rows: pd.DataFrame, case: Case) -> pd.DataFrame:
    back = {code: key for key, code in case.keys.items()}
    mine = [blamed(account) for account in rows["account"]]
    named = {
        "entry": [case.shown[entry] for entry in rows["entry"]],
        "account": [label(a, unit, case.shown) for a, unit in zip(rows["account"], rows["unit"], strict=True)],
        "service": [back[code][0] for code in mine],
        "endpoint": [back[code][1] for code in mine],
        "blames": [case.shown[code] for code in mine],
    }
    numbers = rows[["unit", "masked", "usual", "now", "handed", "excess", "se", "cost", "noise"]]
    table = pd.concat([pd.DataFrame(named, index=rows.index), numbers], axis=1)
    by = ["unit", "masked", "entry", "account"]
    return table.sort_values(by, ascending=[False, True, True, True], ignore_index=True)


def _named_entries(entries: pd.DataFrame, case: Case) -> pd.DataFrame:
    table = pd.DataFrame({
        "entry": [case.shown[entry] for entry in entries.index],
        "n_usual": entries["n_usual"].to_numpy(), "n_now": entries["n_now"].to_numpy(),
        "usual_ms": entries["ms_usual"].to_numpy(), "now_ms": entries["ms_now"].to_numpy(),
        "usual_failed": entries["failed_usual"].to_numpy(), "now_failed": entries["failed_now"].to_numpy(),
        "open_now": entries["open_now"].to_numpy(), "weight": entries["weight"].to_numpy(),
    })  # fmt: skip
    return table.sort_values("entry", ignore_index=True)
