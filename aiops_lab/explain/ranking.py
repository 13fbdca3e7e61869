"""Suspects from the ledger, or from deviations where the ledger is silent."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from aiops_lab.explain.attribution import account_label, attributed_to, pairs
from aiops_lab.explain.confidence import shipped
from aiops_lab.explain.config import MIN_SCORE, N_SIGMA
from aiops_lab.explain.deviations import DEVIATION_KINDS, rank_services
from aiops_lab.explain.ledger import Comparison, Ledger, compare
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.numerics import to_records
from aiops_lab.results import Suspect
from aiops_lab.spans import Key


def rank_root_causes(
    normal: pd.DataFrame | Reference, abnormal: pd.DataFrame, resources: pd.DataFrame | None = None
) -> list[Suspect]:
    """Return the suspects, best first; empty where nothing stands out of the noise.

    Parameters
    ----------
    normal : DataFrame or Usual
        Fault-free spans, or what `learn` made of them.
    abnormal : DataFrame
        The spans of the incident, of any system (a frame as `aiops_lab.to_frame` makes it; where
        there are no status codes, 200 throughout), with log lines as spans of kind ``log`` or
        without.
    resources : DataFrame, optional
        As for `learn`; what lies outside of the incident's time is left out. Looked at only if
        `learn` was given what is usual; where `normal` is a frame, all of `resources` is.

    Raises
    ------
    ValueError
        Names the column that is missing or mistyped.

    Notes
    -----
    Assumes that both frames hold requests of the same kinds. First the ledger: the score of an
    endpoint is the sum over its accounts of max(0, excess - 3 standard errors), latency in usual
    requests and failures times 5. A slow edge counts to the called endpoint, unless all calls of a
    service became slow: then it counts to the caller. Where nobody lost as much as `FLOOR`, the
    symptoms speak: services by how unusual they are (0 to 1), each by its most unusual endpoint.
    """
    usual = normal if isinstance(normal, Reference) else learn(normal, resources)
    return rank_suspects(compare(usual, abnormal, resources=resources))


def rank_suspects(case: Comparison) -> list[Suspect]:
    """Return the suspects of a case, best first."""
    return rank_by_ledger(case) or rank_by_deviations(case)


def rank_by_ledger(case: Comparison) -> list[Suspect]:
    """Return the suspects by what customers lost; none where nobody lost as much as `FLOOR`."""
    rows, scores = case.ledger.rows, scores_of(case.ledger)
    if scores.empty:
        return []
    votes = _votes(case)
    shares = scores / scores.sum()
    sure = shipped()(scores.to_numpy() / MIN_SCORE, shares.to_numpy())
    found = []
    for (service, endpoint, name), score, share, p in zip(
        scores.index, scores, shares, sure, strict=True
    ):
        mine = rows[(rows["service"] == service) & (rows["endpoint"] == endpoint)]
        evidence = tuple(to_records(mine[mine["excess"] > N_SIGMA * mine["se"]]))
        support = votes.get((service, endpoint), 0), len(case.bad)
        found.append(Suspect(service, endpoint, score, float(p), support, evidence, name, share))
    return sorted(found, key=lambda x: (-x.score, x.service, x.endpoint))


def rank_by_deviations(case: Comparison, kinds: Collection[str] = DEVIATION_KINDS) -> list[Suspect]:
    """Return the suspects by what is not done as usual, looking at some kinds of `deviations.DEVIATION_KINDS`."""
    if case.books.requests["entry"].isin(case.usual.entries.index).sum() == 0:
        return []  # there is nothing to compare with
    back = {code: key for key, code in case.keys.items()}
    items = case.deviations[case.deviations["kind"].isin(kinds)]
    found = rank_services(items, back)
    scores = np.array([f.score for f in found])
    shares = scores / max(scores.sum(), 1e-12)
    sure = shipped("deviations")(scores, shares)
    accounts = zip(items["account"], items["kind"].map({"self": "ms"}), strict=True)
    items = items.assign(
        account=[a if isinstance(a, str) else account_label(a, u, case.shown) for a, u in accounts]
    )
    return [
        Suspect(
            *back[f.node],
            f.score,
            float(p),
            evidence=tuple(to_records(items.loc[f.rows])),
            name=case.shown[f.node],
            share=float(share),
            by="deviations",
        )
        for f, share, p in zip(found, shares, sure, strict=True)
    ]


def scores_of(ledger: Ledger) -> pd.Series:
    """Return the score of each (service, endpoint, name as shown) that reaches the least one."""
    rows = ledger.rows[["service", "endpoint", "attributed_to", "account", "unit", "cost"]]
    rows = rows.assign(noise=ledger.rows["noise"] ** 2)
    sums = rows.groupby(["service", "endpoint", "attributed_to", "account", "unit"]).sum()
    scores = (
        (sums["cost"] - N_SIGMA * np.sqrt(sums["noise"]))
        .clip(lower=0.0)
        .groupby(level=[0, 1, 2])
        .sum()
    )
    return scores[scores >= MIN_SCORE]


def _votes(case: Comparison) -> dict[Key, int]:
    """Return for how many of the bad requests the largest excess was born at each endpoint."""
    time = case.books.time[case.books.time["root"].isin(case.bad.index)].reset_index(drop=True)
    usual = case.usual.sums["ms"]
    *_, which = pairs(*(np.concatenate([usual[c], time[c]]) for c in ("entry", "account")))
    cost = np.bincount(which[: len(usual)], usual["cost"], minlength=which.max(initial=0) + 1)[
        which[len(usual) :]
    ]
    time["excess"] = time["ns"] - cost / time["entry"].map(case.usual.entries["n"])
    slow = (
        time.sort_values(["root", "excess", "account"])
        .drop_duplicates("root", keep="last")
        .set_index("root")["account"]
    )
    failures = case.books.failures
    failed = failures[~failures["masked"] & failures["root"].isin(case.bad.index)].set_index(
        "root"
    )["account"]
    codes = (
        pd.concat([failed, slow[~slow.index.isin(failed.index)]]).map(attributed_to).value_counts()
    )
    back = {code: key for key, code in case.keys.items()}
    return {back[int(code)]: int(n) for code, n in codes.items()}
