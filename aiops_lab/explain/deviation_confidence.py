"""How far does the confidence hold where deviations decide?

It was learned from the virtual shop. What is unusual there is how long spans take and how often
they fail, in hundreds of requests, and a fault does not hide. Elsewhere it may be unlike that in
three ways:

a slight deviation in few requests
    Self times of a minute with 60 requests differ from those of other minutes, fault or no fault.
    Where the most unusual account grew by less than a tenth of its spans, the confidence is lowered
    by the ratio of the requests to the fewest there.
few observations
    Of what was seldom observed, only how far a few self times exceed the usual ones can tell
    (`aiops_lab.explain.slower`). The confidence is lowered by the ratio of their number to
    `OBSERVATIONS`, however far they exceed them.
answers of others
    A span that makes other calls than usual may have been answered otherwise by a service that it
    called. A wrong return value and a swallowed exception show in no span of the service that is at
    fault. So such evidence counts half. Where the called services write log lines it counts in
    full, as an odd line would show there, and the caller is no longer odd.

On Nezha's TrainTicket, by traces alone, 3 of 16 answers at 0.8 or more were right before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from math import inf

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.deviations import odd_spans
from aiops_lab.explain.familiarity import Learned, Range, caution, lowered
from aiops_lab.explain.ledger import Comparison
from aiops_lab.explain.slower import are_few
from aiops_lab.results import Suspect, TableRow
from aiops_lab.traces.trees import TraceTrees, levels_of

OBSERVATIONS = 9
"""Slow spans of an account that was seldom observed from which the confidence holds in full. When
all of nine are slow, at least half of all are, at three standard errors (Wilson). Higher: less
confidence in a few slow spans.
"""

_LEARNED = Learned(
    0.0,
    {
        "requests": Range("it is a slight deviation, and the requests are", 300),
        "observations": Range("the account was seldom observed, its spans are", OBSERVATIONS),
        "alone": Range("the part of the evidence that no other service explains is", 1.0),
    },
)
"""Of 17 answers by deviations in the calibration the one with the fewest requests had 328. The base
rate is 0: what a suspect far from them is worth is not known.
"""

SLIGHT = 0.1
"""A deviation that has certainly grown by a smaller part of the spans of its account is slight.
Chosen while looking at the days of Nezha that are seen: 7 of the 14 answers in fault-free windows
lie below, 5 of 12 wrong answers to faults, 3 of 39 right ones.
"""

OTHERS = 0.5
"""What counts of an odd set of calls below which others were called: it is as likely theirs."""


def cautious(comparison: Comparison, suspects: Iterable[Suspect]) -> list[Suspect]:
    """Return suspects by deviations with the confidence that holds for such evidence."""
    shared = explained_by_others(comparison)
    requests = len(comparison.costs.requests)
    found = []
    for suspect in suspects:
        rows = suspect.evidence
        few = few_observations(rows, comparison.config)
        found.append(lowered_by(suspect, terms_of(rows, shared, requests, few)))
    return found


def few_observations(evidence: Iterable[TableRow], config: RcaConfig) -> float:
    """Return how many self times the most unusual row rests on, infinite if not on a few: if
    counting could tell.
    """
    row = max(evidence, key=lambda row: row["share"])
    few = row["kind"] == "self" and are_few(row["n"], row["usual_n"], config)
    return row["n"] if few else inf


def lowered_by(suspect: Suspect, terms: TableRow) -> Suspect:
    """Return a suspect with the confidence that holds for such terms."""
    confidence = float(lowered(np.array(suspect.confidence), terms, _LEARNED))
    told = caution(terms, _LEARNED)
    return replace(suspect, confidence=confidence, terms=terms, caution=told)


def terms_of(
    evidence: Iterable[TableRow], shared: Collection[str], requests: int, few: float = inf
) -> TableRow:
    """Return what the confidence depends on: the requests, infinite where the deviation is not
    slight, the observations where they are few, and the part of the evidence that no other service
    explains.

    Parameters
    ----------
    evidence : rows
        kind, account and share.
    shared : collection of str
        The accounts whose odd sets of calls other services may explain.
    requests : int
        Those of the incident.
    few : float
        `few_observations` of the evidence; the default is infinite, as counting can tell of most.

    Examples
    --------
    >>> terms_of([{"kind": "shape", "account": "/pay", "share": 0.4}], ["/pay"], 60)
    {'requests': inf, 'observations': inf, 'alone': 0.5}
    """
    rows = list(evidence)
    share = np.array([row["share"] for row in rows])
    is_shared = [row["kind"] == "shape" and row["account"] in shared for row in rows]
    alone = share * np.where(is_shared, OTHERS, 1.0)
    counted = requests if share.max() < SLIGHT else inf
    part = float(alone.sum() / share.sum())
    return {"requests": counted, "observations": few, "alone": part}


def explained_by_others(comparison: Comparison) -> set[str]:
    """Return the accounts, as shown, with odd spans below which services were called that write no
    log lines.
    """
    items = comparison.deviations
    odd = items[(items["kind"] == "shape") & (items["share"] > 0)]
    if odd.empty:
        return set()
    accounts = comparison.costs.accounts
    code = _accounts_that_call(comparison)
    calling = set(zip(accounts.caller[code], accounts.endpoint[code], strict=True))
    shown = zip(odd["account"], odd["caller"], odd["endpoint"], strict=True)
    return {label for label, *account in shown if tuple(account) in calling}


def _accounts_that_call(comparison: Comparison) -> NDArray:
    trees = comparison.trees
    service = pd.factorize(comparison.services)[0][trees.node]
    logs = np.isin(service, service[trees.log])
    odd = odd_spans(comparison.reference.profile, comparison)
    above = _odd_above(odd, trees)
    below = np.flatnonzero((above >= 0) & ~logs)
    called = below[service[below] != service[above[below]]]  # also those without a name
    return np.unique(comparison.costs.span_account[above[called]])


def _odd_above(odd: NDArray, trees: TraceTrees) -> NDArray:
    """Return for each span the position of the odd span above it, -1 where there is none."""
    above = np.full(odd.size, -1)
    for level in levels_of(trees)[1:]:
        parent = trees.parent[level]
        above[level] = np.where(odd[parent], parent, above[parent])
    return above
