"""What would the others say? Classic root-cause rules, to compare the ledger with.

A rule takes what is usual and the spans of an incident, and returns suspects, best first; an empty
list means "I cannot say". All of them look at server spans only; an open one is as long as it is
old when the recording ends. A request is *bad* when it failed or took over 3 standard deviations
longer than is usual for its endpoint; a trace is *abnormal* when its entry is bad. Suspects with
equal scores come in alphabetical order. The confidence of a suspect is its share of all scores, and
means no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.ranking import rank_root_causes
from aiops_lab.explain.reference import Reference
from aiops_lab.results import Suspect
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, display_names, encode
from aiops_lab.traces.graph import server_above
from aiops_lab.traces.trees import self_time_ns

RankingRule = Callable[[Reference, pd.DataFrame], list[Suspect]]

_SIGMAS = 3.0

_MIN_SD_MS = 0.1  # a service that always takes exactly as long may still vary by this much

_DEEPEST = 100  # calls within calls; parents that form a cycle end here too

_INTERVAL_NS = 10_000_000_000  # of the metrics that BARO's score looks at

_DAMPING, _BY_CALLS = 0.85, 0.01  # of MicroRank's PageRank: d and omega of the paper


# ---- what all rules look at


def _requests(spans: EncodedSpans, keys: dict[Key, int]) -> pd.DataFrame:
    """Return a row a request: node (code in `keys`, which grows), caller (its node, or -1), above
    (its row, or -1), trace, depth, times.
    """
    spans = replace(spans, end=np.minimum(spans.end, spans.last_ns))  # open ones are that old
    self_ms = self_time_ns(spans)[spans.server] / 1e6
    above = server_above(spans.parent, spans.server)
    served = replace(spans, parent=above).select(spans.server)
    place, known = pd.factorize(served.node)
    code = [keys.setdefault(spans.keys[node], len(keys)) for node in known]
    node = np.array(code, dtype=np.int64)[place]
    return pd.DataFrame(
        {
            "node": node,
            "caller": np.where(served.parent >= 0, node[served.parent], -1),
            "above": served.parent,
            "trace": served.trace,
            "depth": _depth(served.parent),
            "start": served.start,
            "end": served.end,
            "ms": served.duration_ms,
            "self_ms": self_ms,
            "failed": served.failed,
        }
    )


def _depth(above: NDArray) -> NDArray:
    depth, at = np.zeros(above.size, dtype=np.int64), above
    for _ in range(_DEEPEST):
        inside = at >= 0
        if not inside.any():
            break
        depth, at = depth + inside, np.where(inside, above[at], -1)
    return depth


def _look(
    usual: Reference, abnormal: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, dict[Key, int]]:
    """Return the requests before and now, with z, bad and abnormal for those of now, and the codes
    of the endpoints.
    """
    keys: dict[Key, int] = {}
    before, now = _requests(usual.spans, keys), _requests(encode(check(abnormal)), keys)
    # with nothing to compare with, nothing is abnormal
    now = now if len(before) else now.iloc[:0].copy()
    groups = before.groupby("node")["ms"]
    sd = groups.std(ddof=0).clip(lower=_MIN_SD_MS)
    now["z"] = ((now["ms"] - now["node"].map(groups.mean())) / now["node"].map(sd)).fillna(0.0)
    now["bad"] = now["failed"] | (now["z"] > _SIGMAS)
    now["abnormal"] = _is_abnormal(now)
    return before, now, keys


def _is_abnormal(requests: pd.DataFrame) -> pd.Series:
    """Return which requests belong to an abnormal trace: one whose entry is bad."""
    entry = requests["above"] < 0
    return requests["trace"].isin(requests.loc[entry & requests["bad"], "trace"])


def _ranked(scores: pd.Series, keys: dict[Key, int], votes: bool = False) -> list[Suspect]:
    """Return the endpoints (by code) with a score above 0 as suspects; a vote of k of n traces is
    their support.
    """
    scores = scores[scores > 0].astype(float)
    back, shown, total = list(keys), display_names(list(keys)), float(scores.sum())
    suspects = []
    for node, score in zip(scores.index.tolist(), scores.tolist(), strict=True):
        (service, endpoint), support = back[node], (int(score), int(total)) if votes else (0, 0)
        share = score / total
        suspects.append(
            Suspect(service, endpoint, score, share, support, name=shown[back[node]], share=share)
        )
    return sorted(suspects, key=lambda s: (-s.score, s.key))


def _votes(chosen: pd.DataFrame, keys: dict[Key, int]) -> list[Suspect]:
    """Let the first row of each trace vote for its endpoint."""
    return _ranked(chosen.drop_duplicates("trace")["node"].value_counts(), keys, votes=True)


# ---- rules that look at nothing


def at_random(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Rank the endpoints of abnormal traces by lot, drawn from the spans themselves: equal spans,
    equal order.

    Assumes nothing; what is not better than this knows nothing. As in RCAEval (arXiv 2412.17015).
    """
    _, now, keys = _look(usual, abnormal)
    seed = pd.util.hash_pandas_object(
        abnormal[["span_id", "start", "duration_ms"]], index=False
    ).sum()
    back, candidates = list(keys), now.loc[now["abnormal"], "node"].unique()
    lots = [sha256(repr((int(seed), back[node])).encode()).digest()[:6] for node in candidates]
    return _ranked(
        pd.Series([1.0 + int.from_bytes(lot) for lot in lots], candidates, dtype=float) / 2**48,
        keys,
    )


def entry(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame the entry of most abnormal traces.

    Assumes that what the user called is broken; right only where the entry itself is. The trivial
    answer of a benchmark in which faults are near the front (arXiv 2510.04711).
    """
    _, now, keys = _look(usual, abnormal)
    return _votes(now[now["abnormal"] & (now["above"] < 0)], keys)


def most_called(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame the endpoint that serves most requests of abnormal traces.

    Assumes that the busiest fails first; a shared bystander that everybody calls is as busy. The
    trivial answer where a benchmark's faults are at hubs (arXiv 2510.04711).
    """
    _, now, keys = _look(usual, abnormal)
    return _ranked(now.loc[now["abnormal"], "node"].value_counts(), keys)


# ---- rules of time and structure


def first_by_start(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame, in each abnormal trace, the bad request that started first.

    Assumes that the cause comes first; but a caller starts before whom it calls. And hosts' clocks
    differ: an order of timestamps is no order of causes (Lamport 1978, doi 10.1145/359545.359563).
    """
    return _first(usual, abnormal, "bad", ["start", "depth", "node"], [True, True, True])


def first_by_end(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame, in each abnormal trace, the bad request that ended first.

    Assumes that callees end before their callers; wrong when the caller gives up first, and when
    clocks differ (Lamport 1978, doi 10.1145/359545.359563).
    """
    return _first(usual, abnormal, "bad", ["end", "depth", "node"], [True, False, True])


def deepest_error(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame, in each abnormal trace, the failed request furthest down the call tree.

    Assumes that failures travel upwards only, and that the cause itself fails: silent when it is
    slow, wrong when a caller gives up on it. The end of the longest abnormal path, as TraceAnomaly
    has it (doi 10.1109/ISSRE5003.2020.00013).
    """
    return _first(usual, abnormal, "failed", ["depth", "end", "node"], [False, True, True])


def _first(
    usual: Reference, abnormal: pd.DataFrame, what: str, by: list[str], rising: list[bool]
) -> list[Suspect]:
    _, now, keys = _look(usual, abnormal)
    return _votes(now[now["abnormal"] & now[what]].sort_values(by, ascending=rising), keys)


def walk_down(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Walk down each abnormal trace from its entry, always into the worst bad call, and blame where
    that ends.

    Worst is a failed call, then the one that is slower by most standard deviations. Assumes that
    whoever is to blame has a bad request of its own: wrong for networks, and for callees that were
    never reached. The traversal of CauseInfer (doi 10.1109/INFOCOM.2014.6848128), on traces.
    """
    _, now, keys = _look(usual, abnormal)
    called = now[now["bad"] & (now["above"] >= 0)].sort_values(
        ["failed", "z", "end"], kind="stable"
    )
    worst = np.full(len(now), -1)
    worst[called["above"]] = called.index  # of several calls the last one written stays: the worst
    at = np.flatnonzero(now["abnormal"] & (now["above"] < 0))
    for _ in range(_DEEPEST):
        at = np.where(worst[at] >= 0, worst[at], at)
    return _votes(now.iloc[at], keys)


# ---- rules of numbers


def total_z(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame the endpoint whose mean latency rose by the most standard deviations.

    Assumes that the cause changes most; but a caller waits for its callees, and errors are fast.
    The N-sigma baseline of CIRCA (doi 10.1145/3534678.3539041).
    """
    return _largest_z(usual, abnormal, "ms")


def self_z(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Blame the endpoint whose mean self time rose by the most standard deviations.

    Assumes that blame is time spent oneself: blind to errors and to networks. Time per node along
    causal paths goes back to Aguilera et al. 2003 (doi 10.1145/945445.945454).
    """
    return _largest_z(usual, abnormal, "self_ms")


def _largest_z(usual: Reference, abnormal: pd.DataFrame, column: str) -> list[Suspect]:
    before, now, keys = _look(usual, abnormal)
    groups = before.groupby("node")[column]
    rise = now.groupby("node")[column].mean() - groups.mean()
    return _ranked((rise / groups.std(ddof=0).clip(lower=_MIN_SD_MS)).dropna(), keys)


def baro(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Rank endpoints by BARO's robust score: the largest distance of a metric from its usual
    median, in its usual IQR.

    Metrics are the mean latency (ms) and the share of errors in intervals of 10 s; an IQR of 0
    counts as 1. Assumes that the cause's metrics leave their range furthest, and that metrics
    compare: a share of errors that was always 0 can at most reach 1. Pham et al. 2024, doi
    10.1145/3660805.
    """
    before, now, keys = _look(usual, abnormal)
    metrics = [
        t.groupby(["node", t["end"] // _INTERVAL_NS])[["ms", "failed"]].mean()
        for t in (before, now)
    ]
    groups = metrics[0].groupby("node")
    iqr = groups.quantile(0.75) - groups.quantile(0.25)
    peak = metrics[1].groupby("node").max()
    return _ranked(((peak - groups.median()) / iqr.where(iqr > 0, 1.0)).max(axis=1).dropna(), keys)


# ---- the spectrum


def ochiai(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Rank endpoints by how well "was called" agrees with "was abnormal": Ochiai on MicroRank's
    weighted spectrum.

    Assumes that some requests avoid the cause. Abreu et al. 2007, doi 10.1109/TAIC.PART.2007.13;
    MicroRank: Yu et al. 2021, doi 10.1145/3442381.3449905.
    """
    return _spectrum(usual, abnormal, lambda ef, nf, ep: ef / np.sqrt((ef + nf) * (ef + ep)))


def dstar(usual: Reference, abnormal: pd.DataFrame) -> list[Suspect]:
    """Rank endpoints as `ochiai`, by D* with an exponent of 2: Wong et al. 2014, doi
    10.1109/TR.2013.2285319.
    """
    return _spectrum(usual, abnormal, lambda ef, nf, ep: ef**2 / np.maximum(ep + nf, 1e-7))


def _spectrum(
    usual: Reference, abnormal: pd.DataFrame, formula: Callable[..., NDArray]
) -> list[Suspect]:
    """Count, weighted, the abnormal traces with (ef) and without (nf) each endpoint, and the others
    with it (ep).
    """
    before, now, keys = _look(usual, abnormal)
    bad = now[now["abnormal"]]
    if bad.empty:
        return []
    before["trace"] += now["trace"].max() + 1  # ids of two recordings may be the same
    sides = [(bad, 0.5), (pd.concat([now[~now["abnormal"]], before], ignore_index=True), 1.0)]
    (weight, touched), (weight_good, touched_good) = [
        _pagerank(side, len(keys), by_kind) for side, by_kind in sides
    ]
    ef, ep = weight * touched, weight_good * touched_good
    nf = weight * (bad["trace"].nunique() - touched)
    with np.errstate(invalid="ignore"):
        return _ranked(pd.Series(formula(ef, nf, ep)).dropna(), keys)


def _pagerank(requests: pd.DataFrame, width: int, by_kind: float) -> tuple[NDArray, NDArray]:
    """Return MicroRank's weight of each endpoint, and the number of traces that touch it.

    Weight flows from traces to their endpoints and back, and from callers to callees. Preferred are
    rare kinds of traces (by the share `by_kind`) and short ones. Sums over the pairs (trace,
    endpoint): linear in the spans.
    """
    trace, node = pd.factorize(requests["trace"])[0], requests["node"].to_numpy()
    t, o = np.divmod(np.unique(trace * width + node), width)
    called = requests["caller"].to_numpy() >= 0
    caller, callee = np.divmod(
        np.unique(requests["caller"].to_numpy()[called] * width + node[called]), width
    )
    n_t, n_o = np.bincount(t), np.bincount(o, minlength=width)
    out = np.bincount(caller, minlength=width)
    # traces with the same endpoints have the same sum of hashes
    kind = np.zeros(n_t.size, dtype=np.uint64)
    np.add.at(kind, t, pd.util.hash_array(o))
    _, which, alike = np.unique(kind, return_inverse=True, return_counts=True)
    rare, short = 1 / alike[which], 1 / n_t
    prefer = by_kind * rare / rare.sum() + (1 - by_kind) * short / short.sum()
    rank, of_trace = (
        np.full(width, 1 / (width + n_t.size)),
        np.full(n_t.size, 1 / (width + n_t.size)),
    )
    for _ in range(25):
        from_calls = np.bincount(callee, rank[caller] / out[caller], minlength=width)
        to_nodes = _DAMPING * (
            np.bincount(o, of_trace[t] / n_t[t], minlength=width) + _BY_CALLS * from_calls
        )
        of_trace = _DAMPING * np.bincount(t, rank[o] / n_o[o]) + (1 - _DAMPING) * prefer
        rank, of_trace = to_nodes / to_nodes.max(), of_trace / of_trace.max()
    return rank * rank.sum() / np.count_nonzero(n_o), n_o


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

"""Every rule by its name in tables; a rule of your own enters a comparison as one more function."""
