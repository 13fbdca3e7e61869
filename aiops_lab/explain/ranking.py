"""Which endpoints are suspected? Those with excess in the ledger, else those that deviate."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from aiops_lab.explain.confidence import shipped
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import DEVIATION_KINDS, rank_services
from aiops_lab.explain.ledger import Comparison, Ledger, compare
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.numerics import to_records
from aiops_lab.results import Suspect


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
    endpoint.
    """
    if not isinstance(normal, Reference):
        normal = learn(normal, resources, config=config)
    return rank_suspects(compare(normal, abnormal, resources, config=config))


def rank_suspects(comparison: Comparison) -> list[Suspect]:
    """Return the suspects of a comparison, best first."""
    return rank_by_ledger(comparison) or rank_by_deviations(comparison)


# ---- by excess


def rank_by_ledger(comparison: Comparison) -> list[Suspect]:
    """Return the suspects by what customers lost; none where no score reaches `min_score`."""
    config = comparison.config
    rows = comparison.ledger.rows
    scores = scores_of(comparison.ledger, config)
    if scores.empty:
        return []
    shares = scores / scores.sum()
    sure = shipped()(scores.to_numpy() / config.min_score, shares.to_numpy())
    votes = _votes(comparison)
    rows = rows[rows["excess"] > config.n_sigma * rows["se"]]
    found = [
        Suspect(
            *(service, endpoint),
            score=score,
            confidence=float(confidence),
            support=(int(votes.get((service, endpoint), 0)), len(comparison.bad)),
            evidence=tuple(
                to_records(rows[(rows[["service", "endpoint"]] == [service, endpoint]).all(axis=1)])
            ),
            name=name,
            share=share,
        )
        for (service, endpoint, name), score, share, confidence in zip(
            scores.index, scores, shares, sure, strict=True
        )
    ]
    return sorted(found, key=lambda suspect: (-suspect.score, *suspect.key))


def scores_of(ledger: Ledger, config: RcaConfig) -> pd.Series:
    """Return the score of each (service, endpoint, name as shown) that reaches the least one."""
    endpoint = ["service", "endpoint", "attributed_to"]
    rows = ledger.rows[[*endpoint, "account", "unit", "cost"]]
    rows = rows.assign(variance=ledger.rows["noise"] ** 2)
    sums = rows.groupby([*endpoint, "account", "unit"]).sum()
    certain = sums["cost"] - config.n_sigma * np.sqrt(sums["variance"])
    scores = certain.clip(lower=0.0).groupby(level=endpoint).sum()
    return scores[scores >= config.min_score]


def _votes(comparison: Comparison) -> pd.Series:
    """Return in how many of the bad requests the largest excess originated at each endpoint, by
    (service, endpoint).
    """
    costs = comparison.costs
    bad = comparison.bad.index
    failures = costs.failures[~costs.failures["masked"]]
    failed = failures[failures["root"].isin(bad)]
    slow = _largest_excess(comparison)
    slow = slow[~slow["root"].isin(failed["root"])]
    node = costs.accounts.node[pd.concat([failed["account"], slow["account"]])]
    return comparison.endpoints.loc[node].value_counts(["service", "endpoint"])


def _largest_excess(comparison: Comparison) -> pd.DataFrame:
    """Return the root and the account of the largest excess of time of each bad request."""
    usual = comparison.reference.cost_by_account
    usual_ms = usual[usual["unit"] == "ms"].set_index(["entry", "account"])["mean"]
    time = comparison.costs.time
    time = time[time["root"].isin(comparison.bad.index)]
    time = time.join(usual_ms, on=["entry", "account"]).fillna({"mean": 0.0})
    excess = time["cost"] / 1e6 - time["mean"]
    ordered = time.assign(excess=excess).sort_values(["root", "excess", "account"])
    return ordered.drop_duplicates("root", keep="last")


# ---- by deviations


def rank_by_deviations(
    comparison: Comparison, kinds: Collection[str] = DEVIATION_KINDS
) -> list[Suspect]:
    """Return the suspects by what is not done as usual, from some kinds of `DEVIATION_KINDS`."""
    entries = comparison.costs.requests["entry"]
    if not entries.isin(comparison.reference.cost_by_entry.index).any():
        return []  # there is nothing to compare with
    items = comparison.deviations[comparison.deviations["kind"].isin(kinds)]
    keys = comparison.spans.keys
    found = rank_services(items, keys, comparison.config.caller_weight)
    scores = np.array([unusual.score for unusual in found])
    shares = scores / max(scores.sum(), 1e-12)
    sure = shipped("deviations")(scores, shares)
    evidence = items.drop(columns=["caller", "node"])
    return [
        Suspect(
            *keys[unusual.node],
            score=unusual.score,
            confidence=float(confidence),
            evidence=tuple(to_records(evidence.loc[unusual.rows])),
            name=comparison.display_names[unusual.node],
            share=float(share),
            by="deviations",
        )
        for unusual, share, confidence in zip(found, shares, sure, strict=True)
    ]
