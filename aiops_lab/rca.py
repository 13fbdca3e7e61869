"""Where was the excess born? Root cause analysis as accounting.

A request that is slow is slow in all its callers too. What an endpoint costs more than usual, less what its callees
cost more than usual, was born there. Every moment of a request is booked to one account, every failure to the
endpoint where it began, so the excess at the entry is the sum of what was born inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.baselines import compiled
from aiops_lab.detectors import wilson
from aiops_lab.incidents import Step, Suspect, Verdict
from aiops_lab.spans import check
from aiops_lab.traces import Forest, calls_of, forest, names, parents, partition
from aiops_lab.windows import Key, end_ns, start_ns

FLOOR = 0.02  # abstain below two hundredths of a usual request
FAILURE_WEIGHT = 5.0  # a failed request costs as much as five usual requests: users feel it more than a delay
NOISE = 3.0  # standard errors that an excess must exceed
_STUCK_NS = 5_000_000_000  # an open request older than this is unanswered; a younger one is just on its way
_REFUSED_NS = 5_000_000  # a call without an answer within 5 ms was refused by the called host
_EDGE, _NODES = 1 << 40, 1 << 20  # an account is a node, or _EDGE + caller * _NODES + callee
_MOST_TRACES = 1000  # that an incident lists
_OUTSIDE = _NODES - 1  # the caller of a request that comes from outside


# ---- the books


class Books(NamedTuple):
    """What the requests of a frame cost, by account.

    ``requests``: a row a root request (entry, ns, failed, trace_id), indexed by position in the frame.
    ``time``: root, entry, account, ns. ``failures``: root, entry, account, masked (repaired before the entry saw it).
    ``endpoints``: a row a node: n, mean and var of ms, failed share, unanswered.
    """

    requests: pd.DataFrame
    time: pd.DataFrame
    failures: pd.DataFrame
    endpoints: pd.DataFrame


@dataclass(frozen=True)
class Usual:
    """What is usual, learned once from fault-free spans and used for many incidents."""

    frame: pd.DataFrame
    keys: dict[Key, int]
    offsets: dict[tuple[str, str], int]
    books: Books
    usual_ns: NDArray = field(repr=False)  # mean duration by node


@dataclass(frozen=True)
class Ledger:
    """The excess of an incident, by account, per request at the entries.

    ``rows``: entry, account (as shown), unit ("ms" or "failures"), service and endpoint (blamed), usual, now, excess,
    se (its standard error), masked. ``entries``: a row an entry: name, n_usual, n_now, usual_ms, now_ms, usual_failed,
    now_failed, weight. For each entry and unit the excess (masked rows left out) adds up to the entry's own.
    """

    rows: pd.DataFrame
    entries: pd.DataFrame


def learn(normal: pd.DataFrame, resources: pd.DataFrame | None = None) -> Usual:
    """Return what is usual: learn once, use for many incidents.

    Parameters
    ----------
    normal : DataFrame
        A spans frame of fault-free requests.
    resources : DataFrame, optional
        Not used yet.
    """
    frame = check(normal)
    keys: dict[Key, int] = {}
    offsets = _clock_offsets(frame)
    trees = forest(frame, keys, _last(frame), offsets)
    usual_ns = _mean_by(trees.node[trees.server], (trees.end - trees.start)[trees.server], len(keys))
    return Usual(frame, keys, offsets, _books(frame, trees, usual_ns), usual_ns)


def ledger(usual: Usual, abnormal: pd.DataFrame) -> Ledger:
    """Return the excess of the abnormal requests over the usual ones, by account and entry.

    Assumes that requests of one entry are alike, and that an entry without usual requests says nothing.
    """
    return _ledger(usual, *_abnormal_books(usual, check(abnormal), None))


def rank_root_causes(
    normal: pd.DataFrame | Usual, abnormal: pd.DataFrame, resources: pd.DataFrame | None = None
) -> list[Suspect]:
    """Return the suspects, best first; empty where no excess stands out of the noise.

    Parameters
    ----------
    normal : DataFrame or Usual
        Fault-free spans, or what `learn` made of them.
    abnormal : DataFrame
        The spans of the incident.
    resources : DataFrame, optional
        Not used yet.

    Notes
    -----
    Assumes that both frames hold requests of the same kinds. Score of an endpoint: the sum over its accounts of
    max(0, excess - 3 standard errors), latency in usual requests and failures times 5. A slow edge counts to the
    called endpoint.
    """
    return list(investigate(normal if isinstance(normal, Usual) else learn(normal), abnormal).suspects)


def investigate(usual: Usual, abnormal: pd.DataFrame, until_ns: int | None = None) -> Verdict:
    """Return the verdict on the abnormal requests, as they stood at `until_ns` (Unix ns), with every step of it."""
    books, keys = _abnormal_books(usual, check(abnormal), until_ns)
    accounts = _ledger(usual, books, keys)
    shown = names(list(keys))
    suspects = _suspects(accounts, _votes(usual, books, keys), shown)
    return judge_with(suspects, usual, abnormal, until_ns, (books, keys, accounts))


def judge_with(
    suspects: list[Suspect], usual: Usual, abnormal: pd.DataFrame, until_ns: int | None = None,
    opened: tuple[Books, dict[Key, int], Ledger] | None = None,
) -> Verdict:  # fmt: skip
    """Return the verdict that names these suspects, whichever rule found them, with the books as evidence."""
    if opened is None:
        books, keys = _abnormal_books(usual, check(abnormal), until_ns)
        opened = books, keys, _ledger(usual, books, keys)
    books, keys, accounts = opened
    shown = names(list(keys))
    endpoints = _endpoint_rows(usual, books, keys, accounts, shown)
    affected = _affected(suspects[:1], abnormal, endpoints)
    traces = tuple(_bad_requests(usual, books)["trace_id"].drop_duplicates())
    return Verdict(
        tuple(suspects),
        tuple(affected),
        tuple(_steps(usual, books, accounts, suspects, affected)),
        tuple(_records(accounts.rows)),
        tuple(endpoints),
        tuple(_sample_traces(suspects, abnormal, books, shown)),
        len(traces),
        traces[:_MOST_TRACES],
    )


# ---- keeping the books


def _last(frame: pd.DataFrame) -> int:
    start, end = start_ns(frame), end_ns(frame)
    closed = end < np.iinfo(np.int64).max
    return int(max(start.max(initial=0), end[closed].max(initial=0)))


def _mean_by(code: NDArray, values: NDArray, size: int) -> NDArray:
    n = np.bincount(code, minlength=size)
    return np.bincount(code, values, minlength=size) / np.maximum(n, 1)


def _clock_offsets(frame: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Return by how many ns a called service's clock is ahead of its caller's, for pairs where it must be.

    The median distance of the midpoints of server and client span (Cristian 1989, doi 10.1007/BF01784024), used only
    where the typical server span sticks out of its client span: elsewhere the clocks agree well enough.
    """
    parent = parents(frame)
    kind = frame["kind"].to_numpy()
    rows = np.flatnonzero((kind == "server") & (parent >= 0) & frame["duration_ms"].notna().to_numpy())
    rows = rows[(kind[parent[rows]] == "client") & frame["duration_ms"].notna().to_numpy()[parent[rows]]]
    if rows.size == 0:
        return {}
    start, end, service = start_ns(frame), end_ns(frame), frame["service"].to_numpy()
    up = parent[rows]
    pairs = pd.DataFrame({
        "caller": service[up], "called": service[rows],
        "out": np.maximum(start[up] - start[rows], end[rows] - end[up]),
        "ahead": (start[rows] + end[rows] - start[up] - end[up]) // 2,
    })  # fmt: skip
    middle = pairs.groupby(["caller", "called"]).median()
    return {pair: int(ahead) for pair, out, ahead in middle.itertuples() if out > 0}


def _abnormal_books(usual: Usual, frame: pd.DataFrame, until_ns: int | None) -> tuple[Books, dict[Key, int]]:
    keys = dict(usual.keys)
    trees = forest(frame, keys, _last(frame) if until_ns is None else until_ns, usual.offsets)
    usual_ns = np.zeros(len(keys))
    usual_ns[: usual.usual_ns.size] = usual.usual_ns
    return _books(frame, trees, usual_ns), keys


def _books(frame: pd.DataFrame, trees: Forest, usual_ns: NDArray) -> Books:
    duration = trees.end - trees.start
    is_open = frame["duration_ms"].isna().to_numpy() | (end_ns(frame) > trees.end.max(initial=0))
    bad = trees.failed | (is_open & (duration > _STUCK_NS))
    served, accounts = _accounts(trees)
    top = np.flatnonzero((trees.root == np.arange(trees.root.size)) & (~is_open | bad) & ~trees.log)
    requests = pd.DataFrame({
        "entry": trees.node[top], "ns": duration[top], "failed": bad[top],
        "trace_id": frame["trace_id"].to_numpy()[top],
    }, index=top)  # fmt: skip

    span, ns = partition(trees)
    counted = np.isin(trees.root[span], top)
    parts = pd.DataFrame({"root": trees.root[span], "account": accounts[span], "ns": ns})[counted]
    time = parts.groupby(["root", "account"], sort=True)[["ns"]].sum().reset_index()
    time["entry"] = trees.node[time["root"].to_numpy()]

    seen, births = _births(
        trees.first, trees.child, trees.parent, trees.root, trees.server, trees.log, bad, trees.status, trees.start,
        trees.end, trees.node, accounts, served, usual_ns,
    )  # fmt: skip
    failures = pd.DataFrame({"root": trees.root[seen], "account": births[1], "masked": births[0] > 0})
    failures = failures[failures["root"].isin(top)]
    failures["entry"] = trees.node[failures["root"].to_numpy()]
    return Books(requests, time, failures, _endpoint_stats(trees, duration, is_open, bad))


def _accounts(trees: Forest) -> tuple[NDArray, NDArray]:
    """Return for each client span the server span that it reached (-1: none), and for each span its account."""
    n = trees.root.size
    served = np.full(n, -1, dtype=np.int64)
    below = np.flatnonzero(trees.server & (trees.parent >= 0))
    below = below[~trees.server[trees.parent[below]]]
    served[trees.parent[below]] = below
    called = np.where(served >= 0, trees.node[served], trees.node)
    caller = np.where(trees.parent >= 0, trees.node[trees.parent], _OUTSIDE)
    return served, np.where(trees.server, trees.node, _EDGE + caller * _NODES + called)


@compiled
def _births(
    first: NDArray, child: NDArray, parent: NDArray, root: NDArray, server: NDArray, log: NDArray, bad: NDArray,
    status: NDArray, start: NDArray, end: NDArray, node: NDArray, account: NDArray, served: NDArray, usual_ns: NDArray,
) -> tuple[NDArray, NDArray]:  # fmt: skip
    """Follow each failure down to the account where it was born.

    Returns the positions of the spans where a failure was seen last on its way up, and a row of (masked, account).
    """
    n = root.size
    seen = np.empty(n, dtype=np.int64)
    found = np.empty((2, n), dtype=np.int64)
    written = 0
    for top in range(n):
        if not bad[top] or root[top] < 0 or log[top]:
            continue
        above = parent[top]
        if above >= 0 and bad[above]:
            continue  # its caller failed with it: counted there
        if server[top] and above >= 0 and not server[above]:
            continue  # the client span above saw an answer after all
        i = top
        result = account[i]
        while True:
            if not server[i] and served[i] < 0:
                refused = status[i] == 0 and end[i] - start[i] < _REFUSED_NS
                result = node[i] if refused else account[i]
                break
            if not server[i]:
                s = served[i]
                if bad[s] and status[i] != 0:
                    i = s
                    continue
                # The caller gave up: accuse where its time went beyond the usual.
                result = _time_blame(first, child, server, log, start, end, node, account, served, usual_ns, i)
                break
            latest = -1
            for k in range(first[i], first[i + 1]):
                c = child[k]
                if bad[c] and not log[c] and (latest < 0 or end[c] > end[latest]):
                    latest = c
            if latest < 0:
                stuck = status[i] == 0
                result = account[i]
                if stuck:
                    result = _time_blame(first, child, server, log, start, end, node, account, served, usual_ns, i)
                break
            i = latest
        seen[written] = top
        found[0, written] = 1 if parent[top] >= 0 else 0
        found[1, written] = result
        written += 1
    return seen[:written], found[:, :written]


@compiled
def _time_blame(
    first: NDArray, child: NDArray, server: NDArray, log: NDArray, start: NDArray, end: NDArray, node: NDArray,
    account: NDArray, served: NDArray, usual_ns: NDArray, top: int,
) -> int:  # fmt: skip
    """Return the account in which most of a span's time beyond the usual was spent, walking down."""
    i = top
    while True:
        own = float(end[i] - start[i])
        best, best_excess = -1, 0.0
        t = end[i]
        for k in range(first[i], first[i + 1]):
            c = child[k]
            until, since = min(end[c], t), start[c]
            if log[c] or until <= since:
                continue
            own -= until - since
            t = since
            called = node[served[c]] if served[c] >= 0 else node[c]
            excess = (until - since) - (usual_ns[called] if server[i] else 0.0)
            if excess > best_excess:
                best, best_excess = c, excess
        if best < 0 or own >= best_excess:
            return account[i]
        i = best


def _endpoint_stats(trees: Forest, duration: NDArray, is_open: NDArray, bad: NDArray) -> pd.DataFrame:
    rows = np.flatnonzero(trees.server & (trees.root >= 0))
    table = pd.DataFrame({
        "node": trees.node[rows], "ms": np.where(is_open[rows], np.nan, duration[rows] / 1e6),
        "failed": (bad & ~is_open)[rows], "unanswered": (bad & is_open)[rows],
    })  # fmt: skip
    groups = table.groupby("node")
    stats = groups.agg(n=("ms", "count"), ms=("ms", "mean"), failed=("failed", "sum"), unanswered=("unanswered", "sum"))
    stats["var"] = groups["ms"].var(ddof=0)
    return stats


# ---- usual against now


def _ledger(usual: Usual, books: Books, keys: dict[Key, int]) -> Ledger:
    shown = names(list(keys))
    before, now = _entries(usual.books), _entries(books)
    entries = before.add_suffix("_usual").join(now.add_suffix("_now"), how="inner").sort_index()
    entries["weight"] = entries["n_now"] / max(entries["n_now"].sum(), 1)
    time = _excess(usual.books.time, books.time, "ns", entries)
    time[["usual", "now", "excess", "se"]] /= 1e6
    time["unit"], time["masked"] = "ms", False
    parts = [time]
    for masked in (False, True):
        failures = _excess(_counted(usual.books, masked), _counted(books, masked), "count", entries, smooth=True)
        parts.append(failures.assign(unit="failures", masked=masked))
    rows = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
    back = {code: key for key, code in keys.items()}
    return Ledger(_named(rows, back, shown), _named_entries(entries, back, shown))


def _entries(books: Books) -> pd.DataFrame:
    groups = books.requests.groupby("entry")
    table = groups.agg(n=("ns", "size"), ms=("ns", "mean"), failed=("failed", "mean"))
    table["ms"] = table["ms"] / 1e6
    table["sd_ms"] = groups["ns"].std(ddof=0) / 1e6
    return table


def _counted(books: Books, masked: bool) -> pd.DataFrame:
    rows = books.failures[books.failures["masked"] == masked]
    return rows.groupby(["root", "entry", "account"], as_index=False).size().rename(columns={"size": "count"})


def _excess(before: pd.DataFrame, now: pd.DataFrame, value: str, entries: pd.DataFrame, smooth: bool = False) -> Any:
    """Return the mean cost per request of each (entry, account) before and now, with the standard error of the gap.

    `smooth` adds one imagined failure to each side, so that no failure in ten requests is not taken for a proof.
    """
    index: pd.Index = pd.MultiIndex.from_tuples([], names=["entry", "account"])
    sides = []
    for table in (before, now):
        table = table.assign(square=table[value].astype(float) ** 2)
        sides.append(table.groupby(["entry", "account"])[[value, "square"]].sum())
        index = index.union(sides[-1].index)
    index = index[index.get_level_values("entry").isin(entries.index)]
    out = pd.DataFrame(index=index)
    error = np.zeros(len(index))
    for name, table in zip(("usual", "now"), sides, strict=True):
        table = table.reindex(index, fill_value=0.0)
        n = entries[f"n_{name}"].reindex(index.get_level_values("entry")).to_numpy(dtype=float)
        mean = table[value].to_numpy(dtype=float) / n
        var = np.maximum(table["square"].to_numpy() / n - mean**2, 0.0)
        if smooth:
            share = (np.minimum(table[value].to_numpy(dtype=float), n) + 1) / (n + 2)
            var = np.maximum(var, share * (1 - share))
        out[name] = mean
        error += var / n
    out["excess"] = out["now"] - out["usual"]
    out["se"] = np.sqrt(error)
    return out.reset_index()


def _named(rows: pd.DataFrame, back: dict[int, Key], shown: dict[Key, str]) -> pd.DataFrame:
    blamed = [back[a if a < _EDGE else (a - _EDGE) % _NODES] for a in rows["account"]]
    table = rows[["unit", "masked", "usual", "now", "excess", "se"]].reset_index(drop=True)
    table.insert(0, "entry", [shown[back[e]] for e in rows["entry"]])
    table.insert(1, "account", [_label(a, u, back, shown) for a, u in zip(rows["account"], rows["unit"], strict=True)])
    table.insert(2, "service", [key[0] for key in blamed])
    table.insert(3, "endpoint", [key[1] for key in blamed])
    table.insert(4, "blames", [shown[key] for key in blamed])
    return table.sort_values(
        ["unit", "masked", "entry", "account"], ascending=[False, True, True, True], ignore_index=True
    )


def _label(account: int, unit: str, back: dict[int, Key], shown: dict[Key, str]) -> str:
    if account < _EDGE:
        return f"{shown[back[account]]} {'own time' if unit == 'ms' else 'itself'}"
    caller, called = divmod(account - _EDGE, _NODES)
    return f"edge {'outside' if caller == _OUTSIDE else shown[back[caller]]} → {shown[back[called]]}"


def _named_entries(entries: pd.DataFrame, back: dict[int, Key], shown: dict[Key, str]) -> pd.DataFrame:
    table = entries.rename(columns={"ms_usual": "usual_ms", "ms_now": "now_ms"})
    table = table.rename(columns={"failed_usual": "usual_failed", "failed_now": "now_failed"})
    table = table.reset_index(drop=True).assign(entry=[shown[back[e]] for e in entries.index])
    columns = ["entry", "n_usual", "n_now", "usual_ms", "now_ms", "usual_failed", "now_failed", "weight"]
    return table[columns].sort_values("entry", ignore_index=True)


# ---- the verdict


def _suspects(accounts: Ledger, votes: tuple[dict[Key, int], int], shown: dict[Key, str]) -> list[Suspect]:
    rows = accounts.rows.copy()
    if rows.empty:
        return []
    weight = rows["entry"].map(accounts.entries.set_index("entry")["weight"]).astype(float)
    usual_ms = float((accounts.entries["weight"] * accounts.entries["usual_ms"]).sum())
    unit = np.where(rows["unit"] == "ms", 1.0 / max(usual_ms, 1e-6), FAILURE_WEIGHT)
    rows["mine"], rows["noise"] = weight * rows["excess"] * unit, (weight * rows["se"] * unit) ** 2
    groups = rows.groupby(["service", "endpoint", "account", "unit"])[["mine", "noise"]].sum()
    groups["score"] = (groups["mine"] - NOISE * np.sqrt(groups["noise"])).clip(lower=0.0)
    scores = groups.groupby(["service", "endpoint"])["score"].sum()
    scores = scores[scores >= FLOOR]
    total = float(scores.sum())
    found = []
    for (service, endpoint), score in zip(scores.index.tolist(), scores.tolist(), strict=True):
        key = service, endpoint
        support = votes[0].get(key, 0), votes[1]
        evidence = tuple(_records(_evidence(accounts.rows, service, endpoint)))
        found.append(Suspect(service, endpoint, score, score / total, support, evidence, shown[key]))
    return sorted(found, key=lambda x: (-x.score, x.service, x.endpoint))


def _evidence(rows: pd.DataFrame, service: str, endpoint: str) -> pd.DataFrame:
    mine = rows[(rows["service"] == service) & (rows["endpoint"] == endpoint)]
    return mine[mine["excess"] > NOISE * mine["se"]]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]


def _bad_requests(usual: Usual, books: Books) -> pd.DataFrame:
    """Return the requests that failed, or took over 3 standard deviations longer than is usual for their entry."""
    usually = _entries(usual.books)
    requests = books.requests[books.requests["entry"].isin(usually.index)]
    limit = requests["entry"].map(usually["ms"] + NOISE * usually["sd_ms"].clip(lower=0.1))
    return requests[requests["failed"] | (requests["ns"] / 1e6 > limit)]


def _votes(usual: Usual, books: Books, keys: dict[Key, int]) -> tuple[dict[Key, int], int]:
    """Return for how many bad requests the largest excess was born at each endpoint, and the number of bad requests."""
    usually, bad = _entries(usual.books), _bad_requests(usual, books)
    time = books.time[books.time["root"].isin(bad.index)]
    total = usual.books.time.groupby(["entry", "account"])["ns"].sum()
    at = pd.MultiIndex.from_frame(time[["entry", "account"]])
    n = time["entry"].map(usually["n"]).to_numpy(dtype=float)
    excess = pd.Series(time["ns"].to_numpy() - total.reindex(at, fill_value=0).to_numpy() / n, index=time.index)
    largest = time.loc[excess.groupby(time["root"]).idxmax()] if len(time) else time
    blamed = dict(largest.set_index("root")["account"]) | dict(
        books.failures[~books.failures["masked"]].set_index("root")["account"]
    )
    back = {code: key for key, code in keys.items()}
    votes: dict[Key, int] = {}
    for root in bad.index:
        account = int(blamed[root])
        key = back[account if account < _EDGE else (account - _EDGE) % _NODES]
        votes[key] = votes.get(key, 0) + 1
    return votes, len(bad)


def _endpoint_rows(
    usual: Usual, books: Books, keys: dict[Key, int], accounts: Ledger, shown: dict[Key, str]
) -> list[dict[str, Any]]:
    """Return each endpoint usual and now, whether it is degraded, and its share of all excess."""
    both = usual.books.endpoints.add_suffix("_u").join(books.endpoints.add_suffix("_n"), how="outer").sort_index()
    share = _shares(accounts)
    back = {code: key for key, code in keys.items()}
    rows = []
    for node, r in both.iterrows():
        name = shown[back[int(str(node))]]
        r = r.fillna({c: 0.0 for c in both.columns if not c.startswith(("ms", "var"))})
        rows.append({
            "endpoint": name, "service": back[int(str(node))][0], "route": back[int(str(node))][1],
            "n_usual": int(r["n_u"]), "n_now": int(r["n_n"]),
            "usual_ms": _number(r["ms_u"]), "now_ms": _number(r["ms_n"]),
            "usual_failed": _share(r["failed_u"], r["n_u"]), "now_failed": _share(r["failed_n"], r["n_n"]),
            "unanswered": int(r["unanswered_n"]), "degraded": bool(_degraded(r)), "share": share.get(name, 0.0),
        })  # fmt: skip
    return sorted(rows, key=lambda row: str(row["endpoint"]))


def _shares(accounts: Ledger) -> dict[str, float]:
    rows = accounts.rows
    weight = rows["entry"].map(accounts.entries.set_index("entry")["weight"]).astype(float)
    usual_ms = max(float((accounts.entries["weight"] * accounts.entries["usual_ms"]).sum()), 1e-6)
    cost = rows["excess"] * weight * np.where(rows["unit"] == "ms", 1 / usual_ms, FAILURE_WEIGHT)
    born = cost.clip(lower=0).groupby(rows["blames"]).sum()
    return {str(k): float(v) for k, v in (born / max(born.sum(), 1e-12)).items()}


def _number(value: float) -> float:
    return 0.0 if np.isnan(value) else float(value)


def _share(k: float, n: float) -> float:
    return float(k / n) if n > 0 else 0.0


def _degraded(r: pd.Series) -> bool:
    """Own mean up by more than 10 %, 3 ms and 3 standard errors; or own failures by 2 points and 3; or 3 unanswered."""
    if r["unanswered_n"] >= 3:
        return True
    if r["n_u"] == 0 or r["n_n"] == 0:
        return False
    rise = r["ms_n"] - r["ms_u"]
    error = np.sqrt(r["var_u"] / r["n_u"] + r["var_n"] / r["n_n"])
    usual, now = r["failed_u"] / r["n_u"], r["failed_n"] / r["n_n"]
    smooth = (r["failed_u"] + r["failed_n"] + 1) / (r["n_u"] + r["n_n"] + 2)
    sd = np.sqrt(smooth * (1 - smooth) * (1 / r["n_u"] + 1 / r["n_n"]))
    return rise > max(0.1 * r["ms_u"], 3.0, NOISE * error) or now - usual > max(0.02, NOISE * sd)


def _affected(causes: list[Suspect], abnormal: pd.DataFrame, endpoints: list[dict[str, Any]]) -> list[str]:
    """Return the degraded endpoints among the cause and those that wait for it, nearest first."""
    calls = calls_of(abnormal)
    pairs = {(calls.keys[a], calls.keys[c]) for a, c in set(zip(calls.caller, calls.callee, strict=True))}
    order = [cause.key for cause in causes]
    for key in order:  # grows while it is walked
        order += sorted({caller for caller, callee in pairs if callee == key} - set(order))
    bad = {(row["service"], row["route"]): row["endpoint"] for row in endpoints if row["degraded"]}
    return [bad[key] for key in order if key in bad]


def _sample_traces(
    suspects: list[Suspect], abnormal: pd.DataFrame, books: Books, shown: dict[Key, str], most: int = 5
) -> list[dict[str, Any]]:
    """Return a few of the traces that the first suspect made worst: failed ones first, then the longest."""
    if not suspects:
        return []
    worst = books.requests.sort_values(["failed", "ns", "trace_id"], ascending=[False, False, True])
    owner = abnormal["service"].where(abnormal["kind"] != "client", abnormal["peer"])
    blamed = abnormal[(owner == suspects[0].service) & (abnormal["endpoint"] == suspects[0].endpoint)]
    # The server span comes after the client span that called it, and stands alone where there is none.
    last = {str(row.trace_id): row for row in blamed.sort_values(["kind", "start", "span_id"]).itertuples()}
    traces = [t for t in worst["trace_id"].drop_duplicates() if t in last][:most]
    return [_sample(abnormal[abnormal["trace_id"] == t], last[t], suspects[0], shown) for t in traces]


def _sample(trace: pd.DataFrame, blamed: Any, cause: Suspect, shown: dict[Key, str]) -> dict[str, Any]:
    served = trace[trace["kind"] == "server"]
    given_up = trace.loc[trace["span_id"] == blamed.parent_id, "status"].eq(0).any()
    unanswered = np.isnan(blamed.duration_ms) or blamed.status == 0 or given_up
    bad = blamed.status >= 500 or isinstance(blamed.error, str)
    return {
        "trace_id": str(blamed.trace_id),
        "root_endpoint": cause.name or cause.endpoint,
        "root_status": int(blamed.status),
        "root_kind": "timeout" if unanswered else "error" if bad else "slow",
        "affected_chain": list(dict.fromkeys(shown[str(r.service), str(r.endpoint)] for r in served.itertuples())),
    }


def _steps(usual: Usual, books: Books, accounts: Ledger, suspects: list[Suspect], affected: list[str]) -> list[Step]:
    entries = _records(accounts.entries)
    compared = Step(
        "1. What was compared",
        f"{len(books.requests)} requests of the incident with {len(usual.books.requests)} usual ones, entry by entry.",
        entries,
    )
    lost = Step("2. What the entries lost", "\n".join(_entry_line(e) for e in entries))
    born = Step(
        "3. Where it was born",
        "Each moment of a request belongs to the one account it waited for, each failure to where it began. "
        "For each entry the excess of its accounts adds up to its own.",
        _records(accounts.rows),
    )
    return [compared, lost, born, _last_step(suspects, affected)]


def _entry_line(e: dict[str, Any]) -> str:
    return (
        f"{e['entry']}: {e['now_ms']:.1f} ms instead of {e['usual_ms']:.1f} ms, "
        f"{e['now_failed']:.1%} failed instead of {e['usual_failed']:.1%} ({e['n_now']} requests)."
    )


def _last_step(suspects: list[Suspect], affected: list[str]) -> Step:
    if not suspects:
        return Step("4. Verdict", "No cause found: no excess stands out of the noise.")
    first = suspects[0]
    k, n = first.support
    low, high = wilson(k, n, 1.96) if n else (0.0, 1.0)
    rows = [{"endpoint": s.name, "score": s.score, "confidence": s.confidence, "k": s.support[0], "n": s.support[1]}
            for s in suspects]  # fmt: skip
    text = (
        f"{first.name} is the root cause: {first.confidence:.0%} of the excess was born there, and in {k} of {n} bad "
        f"requests ({low:.0%} to {high:.0%}) the largest part. Affected: {', '.join(affected) or 'none'}."
    )
    return Step("4. Verdict", text, rows)
