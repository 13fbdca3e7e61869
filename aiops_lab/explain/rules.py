"""The classic root-cause rules, for comparison with the ledger.

A rule takes a reference and the spans of an incident, and returns suspects, best first; an empty
list means "no answer". All rules look at server spans only; the length of an open one is its age
when the recording ends. A request is *bad* when it failed or took over 3 standard deviations longer
than requests of its endpoint in the reference; a trace is *abnormal* when its entry is bad.
Suspects with equal scores come in alphabetical order. The confidence of a suspect is its share of
all scores, and means no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.endpoints import display_names
from aiops_lab.explain.ranking import rank_root_causes
from aiops_lab.explain.reference import Reference
from aiops_lab.results import Suspect
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, encode
from aiops_lab.traces.trees import self_time_ns

RankingRule = Callable[[Reference, pd.DataFrame], list[Suspect]]

_SIGMAS = 3.0  # standard deviations beyond which a request is bad

_MIN_SD_MS = 0.1  # a service that always takes the same time may still vary by this much

_DEEPEST = 100  # calls within calls; parents that form a cycle end here too

_INTERVAL_NS = 10_000_000_000  # of the metrics in BARO's score

_DAMPING, _BY_CALLS = 0.85, 0.01  # of MicroRank's PageRank: d and omega of the paper

_ROUNDS = 25  # of MicroRank's PageRank


# ---- the tables of all rules


def _requests(spans: EncodedSpans, keys: dict[Key, int]) -> pd.DataFrame:
    """Return one row for each request: node (code in `keys`, which grows), caller (its node, or
    -1), above (its row, or -1), trace, depth, times.
    """
    end = np.minimum(spans.end, spans.last_ns)  # the age of open ones
    self_ns = self_time_ns(spans.start, end, spans.ids.parent)
    spans = replace(spans, end=end)
    served = spans.select(spans.server)
    position = np.cumsum(spans.server) - 1  # of each request among the requests
    server_above = spans.server_above[spans.server]
    is_called = server_above >= 0
    above = np.where(is_called, position[server_above], -1)
    place, coded = pd.factorize(served.node)
    found = [spans.keys[node] for node in coded]
    code = [keys.setdefault(key, len(keys)) for key in found]
    node = np.array(code, dtype=np.int64)[place]
    columns = {
        "node": node,
        "caller": np.where(is_called, node[above], -1),
        "above": above,
        "trace": served.ids.trace,
        "depth": _depth(above),
        "start": served.start,
        "end": served.end,
        "ms": served.duration_ms,
        "self_ms": self_ns[spans.server] / 1e6,
        "failed": served.failed,
    }
    return pd.DataFrame(columns)


def _depth(above: NDArray) -> NDArray:
    depth = np.zeros(above.size, dtype=np.int64)
    at = above
    for _ in range(_DEEPEST):
        inside = at >= 0
        if not inside.any():
            break
        depth = depth + inside
        at = np.where(inside, above[at], -1)
    return depth


class _Tables(NamedTuple):
    """The requests of the reference and of the incident, as `_requests` makes them.

    Those of the incident have three columns more: z, bad and abnormal. `keys` holds the endpoints
    and their codes.
    """

    before: pd.DataFrame
    now: pd.DataFrame
    keys: dict[Key, int]

    @property
    def affected(self) -> pd.DataFrame:
        """The requests of abnormal traces."""
        return self.now[self.now["abnormal"]]


def _compared(reference: Reference, abnormal: pd.DataFrame) -> _Tables:
    keys: dict[Key, int] = {}
    usual = reference.spans
    before = _requests(usual, keys)
    spans = encode(check(abnormal), methods=usual.methods, addresses=usual.addresses)
    now = _requests(spans, keys)
    if before.empty:  # with nothing to compare with, nothing is abnormal
        now = now.iloc[:0].copy()
    z = _z(before, now["node"], now["ms"])
    now["z"] = z.fillna(0.0)
    is_slow = now["z"] > _SIGMAS
    now["bad"] = now["failed"] | is_slow
    is_entry = now["above"] < 0
    bad_entry = now["bad"] & is_entry
    bad_traces = now.loc[bad_entry, "trace"]
    now["abnormal"] = now["trace"].isin(bad_traces)
    return _Tables(before, now, keys)


def _z(before: pd.DataFrame, nodes: pd.Series, values: pd.Series) -> pd.Series:
    """Return how many standard deviations values (ms, a node each) lie above the usual mean.

    The name of `values` is their column; NaN where the node is not known from before.
    """
    usual = before.groupby("node")[str(values.name)]
    mean = nodes.map(usual.mean())
    sd = usual.std(ddof=0).clip(lower=_MIN_SD_MS)
    return (values - mean) / nodes.map(sd)


def _ranked(scores: pd.Series, keys: dict[Key, int], votes: bool = False) -> list[Suspect]:
    """Return the endpoints (by code) with a score above 0 as suspects; the support of a suspect is
    its number of `votes`, k of n traces.
    """
    scores = scores[scores > 0].astype(float)
    endpoints = list(keys)
    names = display_names(endpoints)
    total = float(scores.sum())
    suspects = []
    for node, score in zip(scores.index.tolist(), scores.tolist(), strict=True):
        key = endpoints[node]
        service, endpoint = key
        share = score / total
        suspect = Suspect(
            service,
            endpoint,
            score,
            confidence=share,
            support=(int(score), int(total)) if votes else (0, 0),
            name=names[key],
            share=share,
        )
        suspects.append(suspect)
    return sorted(suspects, key=lambda s: (-s.score, s.key))


def _votes(chosen: pd.DataFrame, keys: dict[Key, int]) -> list[Suspect]:
    """Return the ranking in which the first row of each trace is a vote for its endpoint."""
    first = chosen.drop_duplicates("trace")
    votes = first["node"].value_counts()
    return _ranked(votes, keys, votes=True)


def _rule(rank: Callable[[_Tables], list[Suspect]]) -> RankingRule:
    """Make a rule of a function of the tables."""

    @wraps(rank)
    def rule(reference: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
        return rank(_compared(reference, abnormal))

    return rule


# ---- trivial rules


def at_random(reference: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Rank the endpoints of abnormal traces by lot, drawn from the spans themselves: equal spans
    give an equal order.

    Assumes nothing; a rule that is not better than this is worth nothing. As in RCAEval (arXiv
    2412.17015).
    """
    tables = _compared(reference, abnormal)
    columns = abnormal[["span_id", "start", "duration_ms"]]
    hashes = pd.util.hash_pandas_object(columns, index=False)
    seed = int(hashes.sum())
    affected = set(tables.affected["node"])
    lots = {}
    for key, node in tables.keys.items():
        if node in affected:
            lots[node] = _lot(seed, key)
    return _ranked(pd.Series(lots, dtype=float), tables.keys)


def _lot(seed: int, key: Key) -> float:
    """Return a number from 0 to 1, drawn for an endpoint."""
    text = repr((seed, key))
    digest = sha256(text.encode()).digest()
    number = int.from_bytes(digest[:6])
    return (1.0 + number) / 2**48


@_rule
def entry(tables: _Tables) -> list[Suspect]:
    """Suspect the entry of most abnormal traces.

    Assumes that what the user called is broken; right only where the entry itself is. The trivial
    answer of a benchmark in which faults are near the front (arXiv 2510.04711).
    """
    entries = tables.affected.query("above < 0")
    return _votes(entries, tables.keys)


@_rule
def most_called(tables: _Tables) -> list[Suspect]:
    """Suspect the endpoint that serves most requests of abnormal traces.

    Assumes that the busiest fails first; a shared bystander that everybody calls is as busy. The
    trivial answer where a benchmark's faults are at hubs (arXiv 2510.04711).
    """
    requests = tables.affected["node"].value_counts()
    return _ranked(requests, tables.keys)


# ---- rules of time and structure


@_rule
def first_by_start(tables: _Tables) -> list[Suspect]:
    """Suspect, in each abnormal trace, the bad request that started first.

    Assumes that the cause comes first; but a caller starts before its callee, and hosts' clocks
    differ: an order of timestamps is no order of causes (Lamport 1978, doi 10.1145/359545.359563).
    """
    bad = tables.affected.query("bad")
    bad = bad.sort_values(["start", "depth", "node"])
    return _votes(bad, tables.keys)


@_rule
def first_by_end(tables: _Tables) -> list[Suspect]:
    """Suspect, in each abnormal trace, the bad request that ended first.

    Assumes that callees end before their callers; wrong when the caller gives up first, and when
    clocks differ (Lamport 1978, doi 10.1145/359545.359563).
    """
    bad = tables.affected.query("bad")
    order = ["end", "depth", "node"]
    bad = bad.sort_values(order, ascending=[True, False, True])
    return _votes(bad, tables.keys)


@_rule
def deepest_error(tables: _Tables) -> list[Suspect]:
    """Suspect, in each abnormal trace, the failed request furthest down the call tree.

    Assumes that failures travel upwards only, and that the cause itself fails: silent when it is
    slow, wrong when a caller gives up on it. The end of the longest abnormal path, as TraceAnomaly
    has it (doi 10.1109/ISSRE5003.2020.00014).
    """
    failed = tables.affected.query("failed")
    order = ["depth", "end", "node"]
    failed = failed.sort_values(order, ascending=[False, True, True])
    return _votes(failed, tables.keys)


@_rule
def walk_down(tables: _Tables) -> list[Suspect]:
    """Suspect the end of the walk down each abnormal trace, from its entry into the worst bad call.

    Worst is a failed call, then the one that is slower by most standard deviations. Assumes that
    the cause has a bad request of its own: wrong for networks, and for callees that were never
    reached. The traversal of CauseInfer (doi 10.1109/INFOCOM.2014.6848128), on traces.
    """
    now = tables.now
    bad = now.query("bad and above >= 0")
    bad = bad.sort_values(["failed", "z", "end"], kind="stable")
    worst = np.full(len(now), -1)
    worst[bad["above"]] = bad.index  # of several calls the last one written stays: the worst
    entries = tables.affected.query("above < 0")
    at = entries.index.to_numpy()
    for _ in range(_DEEPEST):
        below = worst[at]
        at = np.where(below >= 0, below, at)
    return _votes(now.loc[at], tables.keys)


# ---- rules of numbers


@_rule
def total_z(tables: _Tables) -> list[Suspect]:
    """Suspect the endpoint whose mean latency rose by the most standard deviations.

    Assumes that the cause changes most; but a caller waits for its callees, and errors are fast.
    The N-sigma baseline of CIRCA (doi 10.1145/3534678.3539041).
    """
    return _largest_z(tables, "ms")


@_rule
def self_z(tables: _Tables) -> list[Suspect]:
    """Suspect the endpoint whose mean self time rose by the most standard deviations.

    Assumes that the cause spends the time itself: blind to errors and to networks. Time per node
    along causal paths goes back to Aguilera et al. 2003 (doi 10.1145/945445.945454).
    """
    return _largest_z(tables, "self_ms")


def _largest_z(tables: _Tables, column: str) -> list[Suspect]:
    by_node = tables.now.groupby("node")
    mean = by_node[column].mean()
    nodes = mean.index.to_series()
    scores = _z(tables.before, nodes, mean)
    return _ranked(scores, tables.keys)


@_rule
def baro(tables: _Tables) -> list[Suspect]:
    """Rank endpoints by BARO's robust score: the largest distance of a metric from its median in
    the reference, in units of its IQR there.

    Metrics are the mean latency (ms) and the share of errors in intervals of 10 s; an IQR of 0
    counts as 1. Assumes that the cause's metrics leave their range furthest, and that metrics
    compare: a share of errors that was always 0 can at most reach 1. Pham et al. 2024, doi
    10.1145/3660805.
    """
    usual = _by_interval(tables.before).groupby("node")
    now = _by_interval(tables.now).groupby("node")
    low = usual.quantile(0.25)
    high = usual.quantile(0.75)
    iqr = high - low
    iqr = iqr.where(iqr > 0, 1.0)
    rise = now.max() - usual.median()
    scores = (rise / iqr).max(axis=1)
    return _ranked(scores, tables.keys)


def _by_interval(requests: pd.DataFrame) -> pd.DataFrame:
    """Return mean latency (ms) and share of failures by node and interval."""
    interval = requests["end"] // _INTERVAL_NS
    by_interval = requests.groupby(["node", interval])
    return by_interval[["ms", "failed"]].mean()


# ---- the spectrum


@_rule
def ochiai(tables: _Tables) -> list[Suspect]:
    """Rank endpoints by the agreement of "was called" with "was abnormal": Ochiai on MicroRank's
    weighted spectrum.

    Assumes that some requests avoid the cause. Abreu et al. 2007, doi 10.1109/TAIC.PART.2007.13;
    MicroRank: Yu et al. 2021, doi 10.1145/3442381.3449905.
    """
    ef, nf, ep = _spectrum(tables)
    abnormal = ef + nf
    touched = ef + ep
    agreement = ef / np.sqrt(abnormal * touched)
    return _ranked(agreement, tables.keys)


@_rule
def dstar(tables: _Tables) -> list[Suspect]:
    """Rank endpoints as `ochiai`, by D* with an exponent of 2: Wong et al. 2014, doi
    10.1109/TR.2013.2285319.
    """
    ef, nf, ep = _spectrum(tables)
    disagreement = np.maximum(ep + nf, 1e-7)
    return _ranked(ef**2 / disagreement, tables.keys)


def _spectrum(tables: _Tables) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the weighted numbers, by endpoint, of abnormal traces with (ef) and without (nf) it,
    and of other traces with it (ep).
    """
    before, now, keys = tables
    is_bad = now["abnormal"]
    bad = now[is_bad]
    # ids of two recordings may be the same
    earlier = before.assign(trace=-1 - before["trace"])
    good = pd.concat([now[~is_bad], earlier])
    weight, touched = _pagerank(bad, len(keys), 0.5)
    weight_good, touched_good = _pagerank(good, len(keys), 1.0)
    untouched = bad["trace"].nunique() - touched
    ef = pd.Series(weight * touched)
    nf = pd.Series(weight * untouched)
    ep = pd.Series(weight_good * touched_good)
    return ef, nf, ep


def _pagerank(requests: pd.DataFrame, width: int, by_kind: float) -> tuple[NDArray, NDArray]:
    """Return MicroRank's weight of each endpoint, and the number of traces that touch it.

    Weight flows from traces to their endpoints and back, and from callers to callees. Preferred are
    rare kinds of traces (by the share `by_kind`) and short ones. Sums over the pairs (trace,
    endpoint): linear in the spans.
    """
    if requests.empty:
        return np.zeros(width), np.zeros(width)
    trace, _ = pd.factorize(requests["trace"])
    requests = requests.assign(trace=trace)
    calls = requests[requests["caller"] >= 0]
    t, o = _pairs(requests, "trace", "node")
    caller, callee = _pairs(calls, "caller", "node")
    n_t = np.bincount(t)
    n_o = np.bincount(o, minlength=width)
    out = np.bincount(caller, minlength=width)
    size = n_t.size
    prefer = _preference(t, o, by_kind)
    equal = 1 / (width + size)
    rank = np.full(width, equal)
    of_trace = np.full(size, equal)
    for _ in range(_ROUNDS):
        by_call = rank[caller] / out[caller]
        by_trace = of_trace[t] / n_t[t]
        by_node = rank[o] / n_o[o]
        from_calls = np.bincount(callee, by_call, minlength=width)
        from_traces = np.bincount(o, by_trace, minlength=width)
        from_nodes = np.bincount(t, by_node)
        received = from_traces + _BY_CALLS * from_calls
        rank = _DAMPING * received
        of_trace = _DAMPING * from_nodes + (1 - _DAMPING) * prefer
        rank = rank / rank.max()
        of_trace = of_trace / of_trace.max()
    touched = np.count_nonzero(n_o)
    return rank * rank.sum() / touched, n_o


def _pairs(requests: pd.DataFrame, *columns: str) -> NDArray:
    """Return the distinct values of columns that occur together, in order, shape (columns, n)."""
    values = requests[[*columns]]
    pairs = values.drop_duplicates().sort_values([*columns])
    return pairs.to_numpy().T


def _preference(trace: NDArray, node: NDArray, by_kind: float) -> NDArray:
    """Return the weight of each trace, from the pairs (trace, node): rare kinds and short ones."""
    length = np.bincount(trace)
    # traces with the same endpoints have the same sum of hashes
    kind = np.zeros(length.size, dtype=np.uint64)
    hashes = pd.util.hash_array(node)
    np.add.at(kind, trace, hashes)
    _, which, alike = np.unique(kind, return_inverse=True, return_counts=True)
    rare = 1 / alike[which]
    short = 1 / length
    of_rare = by_kind * rare / rare.sum()
    of_short = (1 - by_kind) * short / short.sum()
    return of_rare + of_short


# Every rule by its name in tables; a user rule enters a comparison as one more function.
RULES: dict[str, RankingRule] = {
    "random": at_random,
    "entry": entry,
    "most called": most_called,
    "first by start": first_by_start,
    "first by end": first_by_end,
    "deepest error": deepest_error,
    "total z": total_z,
    "self-time z": self_z,
    "walk down": walk_down,
    "Ochiai": ochiai,
    "D*": dstar,
    "BARO": baro,
    "ledger": rank_root_causes,
}
