"""Which endpoints are suspected? Those with excess in the ledger, else those that deviate.

To which endpoint a slow edge is attributed is decided before: `aiops_lab.explain.ledger`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.confidence import shipped
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviation_confidence import cautious
from aiops_lab.explain.deviations import DEVIATION_KINDS, rank_services
from aiops_lab.explain.ledger import Comparison, Ledger, compare
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.results import Suspect, TableRow
from aiops_lab.spans import Key


def rank_root_causes(
    normal: pd.DataFrame | Reference,
    abnormal: pd.DataFrame,
    resources: pd.DataFrame | None = None,
    *,
    config: RcaConfig | None = None,
) -> list[Suspect]:
    """Return the suspects, best first; empty where nothing exceeds the noise.

    Parameters
    ----------
    normal : DataFrame or Reference
        Fault-free spans, or what `learn` made of them.
    abnormal : DataFrame
        The spans of the incident, of any system (a frame as `aiops_lab.to_frame` makes it; where
        there are no status codes, 200 throughout), with log lines as spans of kind ``log`` or
        without.
    resources : DataFrame, optional
        As for `learn`; what lies outside of the incident's time is left out. Used only if `learn`
        was given what is usual; where `normal` is a frame, all of `resources` is.
    config : RcaConfig, optional
        The constants of the analysis. Default: those of the reference, or ``RcaConfig()``.

    Raises
    ------
    ValueError
        Names the column that is missing or mistyped; or `normal` was learned with another config.

    Notes
    -----
    Assumes that both frames hold requests of the same kinds. First the ledger: the score of an
    endpoint is the sum over its accounts of max(0, excess - 3 standard errors), latency in usual
    requests and failures times 5. A slow edge counts to the called endpoint, unless all calls of a
    service became slow: then it counts to the caller. Where no score reaches the `min_score` of the
    config, deviations decide: services by how unusual they are (0 to 1), each by its most unusual
    endpoint. Their confidence is lowered, with a ``caution``, where the evidence is unlike what it
    was learned from (`deviation_confidence`).
    """
    if not isinstance(normal, Reference):
        normal = learn(normal, resources, config=config)
    return rank_suspects(compare(normal, abnormal, resources, config=config))


def rank_suspects(comparison: Comparison) -> list[Suspect]:
    """Return the suspects of a comparison, best first."""
    by_excess = rank_by_ledger(comparison)
    if by_excess:
        return by_excess
    return cautious(comparison, rank_by_deviations(comparison))


# ---- by excess


def rank_by_ledger(comparison: Comparison) -> list[Suspect]:
    """Return the suspects by what customers lost; none where no score reaches `min_score`."""
    config = comparison.config
    scores = scores_of(comparison.ledger, config)
    if not scores:
        return []
    score = np.array(list(scores.values()))
    share = score / score.sum()
    confidence_of = shipped()
    confidence = confidence_of(score / config.min_score, share)
    support = _support(comparison)
    n = len(comparison.bad)
    evidence = _evidence(comparison)
    found = [
        Suspect(
            service,
            endpoint,
            score=float(score[k]),
            confidence=float(confidence[k]),
            support=(support[service, endpoint], n),
            evidence=tuple(evidence[service, endpoint]),
            name=name,
            share=float(share[k]),
        )
        for k, (service, endpoint, name) in enumerate(scores)
    ]
    return sorted(found, key=lambda suspect: (-suspect.score, *suspect.key))


def first_by_ledger(comparison: Comparison) -> Key | None:
    """Return the first of the suspects that `rank_by_ledger` finds, None without any."""
    scores = scores_of(comparison.ledger, comparison.config)
    if not scores:
        return None
    service, endpoint, _ = min(scores, key=lambda place: (-scores[place], *place[:2]))
    return service, endpoint


def _evidence(comparison: Comparison) -> dict[Key, list[TableRow]]:
    """Return the rows of the ledger with an excess beyond the noise, by (service, endpoint)."""
    rows = comparison.ledger.rows
    noise = comparison.config.n_sigma * rows["se"]
    beyond_noise = rows[rows["excess"] > noise]
    evidence = defaultdict(list)
    for row in beyond_noise.to_dict("records"):
        evidence[row["service"], row["endpoint"]].append(row)
    return evidence


def scores_of(ledger: Ledger, config: RcaConfig) -> dict[tuple[str, str, str], float]:
    """Return the score of each (service, endpoint, name as shown) that reaches the least one."""
    rows = ledger.rows
    names = ["service", "endpoint", "attributed_to", "account", "unit"]
    keys = list(zip(*(rows[name] for name in names), strict=True))
    cost: dict[tuple[str, ...], float] = defaultdict(float)
    variance: dict[tuple[str, ...], float] = defaultdict(float)
    for key, row_cost, noise in zip(keys, rows["cost"], rows["noise"], strict=True):
        cost[key] += row_cost
        variance[key] += noise**2
    scores: dict[tuple[str, str, str], float] = defaultdict(float)
    for key in sorted(cost):
        service, endpoint, name, *_ = key
        noise = config.n_sigma * variance[key] ** 0.5
        certain = cost[key] - noise
        scores[service, endpoint, name] += max(certain, 0.0)
    return {key: score for key, score in scores.items() if score >= config.min_score}


def _support(comparison: Comparison) -> Counter[Key]:
    """Return in how many of the bad requests the largest excess originated at each endpoint.

    Counted request by request, so without what the ledger reassigns: it knows only of sums how much
    of them waits for others. Where all of an endpoint's excess was reassigned to it, it has none.
    """
    costs = comparison.costs
    failures = costs.failures
    bad = comparison.bad.index
    is_bad = np.isin(failures.root, bad)
    failed = ~failures.masked & is_bad
    not_failed = np.setdiff1d(bad, failures.root[failed])
    slow = np.isin(costs.time.root, not_failed)
    account_of_slow = _largest_excess(comparison, slow)
    account = np.append(failures.account[failed], account_of_slow)
    keys = comparison.spans.keys
    codes = costs.accounts.attributed_to[account]
    number = np.bincount(codes, minlength=len(keys))
    return Counter(dict(zip(keys, number.tolist(), strict=True)))


def _largest_excess(comparison: Comparison, which: NDArray) -> NDArray:
    """Return the account of the largest excess of time of each request, by a mask of the time."""
    time = comparison.costs.time
    usual = comparison.reference.cost_by_account
    size = len(comparison.spans.keys), comparison.costs.accounts.caller.size
    is_time = usual.is_time
    entry = usual.entry[is_time]
    account = usual.account[is_time]
    usual_ms = np.zeros(size)
    usual_ms[entry, account] = usual.mean[is_time]
    ms = time.cost / 1e6
    excess = ms - usual_ms[time.entry, time.account]
    at = np.flatnonzero(which)
    rising = at[np.lexsort((time.account[at], excess[at], time.root[at]))]
    is_last = np.diff(time.root[rising], append=-1) != 0
    return time.account[rising[is_last]]


# ---- by deviations


def rank_by_deviations(
    comparison: Comparison, kinds: Collection[str] = DEVIATION_KINDS
) -> list[Suspect]:
    """Return the suspects by what is not done as usual, from some kinds of `DEVIATION_KINDS`."""
    entries = comparison.costs.requests["entry"]
    known = entries.isin(comparison.reference.cost_by_entry.index)
    if not known.any():
        return []  # there is nothing to compare with
    items = comparison.deviations
    items = items[items["kind"].isin(kinds)]
    keys = comparison.spans.keys
    found = rank_services(items, keys, comparison.config.caller_weight)
    scores = np.array([unusual.score for unusual in found])
    shares = scores / scores.sum()
    confidence_of = shipped("deviations")
    confidences = confidence_of(scores, shares)
    evidence = items.drop(columns=["caller", "endpoint", "attributed_to"])
    return [
        Suspect(
            *keys[unusual.endpoint],
            score=unusual.score,
            confidence=float(confidence),
            evidence=tuple(evidence.loc[unusual.rows].to_dict("records")),
            name=comparison.display_names[unusual.endpoint],
            share=float(share),
            by="deviations",
        )
        for unusual, share, confidence in zip(found, shares, confidences, strict=True)
    ]
