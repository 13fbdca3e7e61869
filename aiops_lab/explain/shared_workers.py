"""Do some requests wait for workers of a service that other requests keep busy?

All requests to a service share its workers, though no call links them and no trace shows both::

    /order   |== waits for a slow /shelf ==|
    /home       |.... waits for a worker ..|=|      calls no /shelf

Of the requests to /home alone nobody can tell why they wait. So whoever looks at a part of the
requests to a service asks here whether the others belong to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import Comparison
from aiops_lab.explain.ranking import scores_of
from aiops_lab.spans import Key
from aiops_lab.traces.encode import EncodedSpans


def take_longer(
    spans: EncodedSpans, before: NDArray, after: NDArray, until_ns: int, config: RcaConfig
) -> bool:
    """Return whether any endpoint takes so much longer that others may wait for it.

    Its usual spans and those of now are given by masks. What is open at `until_ns` has taken as
    long as it is old. Longer is what the ledger holds to be longer before it looks for a queue:
    half of what a service is contended by.
    """
    most = (1 + config.contention_ratio) / 2
    usual = _mean_ns(spans, before, until_ns)
    now = _mean_ns(spans, after, until_ns)
    return bool((now > most * usual).any())  # NaN, without requests on one side, is not longer


def _mean_ns(spans: EncodedSpans, which: NDArray, until_ns: int) -> NDArray:
    """Return how long the spans of a mask last on average, by endpoint; NaN where it has none."""
    ended = np.minimum(spans.end[which], until_ns)
    node = spans.node[which]
    size = len(spans.keys)
    ns = np.bincount(node, ended - spans.start[which], minlength=size)
    n = np.bincount(node, minlength=size)
    return np.divide(ns, n, out=np.full(size, np.nan), where=n > 0)


def waits_for_others(own: Comparison, suspect: Key, every: Comparison) -> bool:
    """Return whether what was held to originate at a suspect turns out to be a wait for what keeps
    the workers of a service busy.

    `own` holds some requests, and `every` also all others to the service of the suspect. Entry by
    entry the excess is the same in both, but only the second may show that it is a wait: then most
    of it is reassigned to another endpoint.
    """
    rows = every.ledger.rows
    entered = own.costs.requests["entry"].unique()
    keys = {own.spans.keys[code] for code in entered}
    codes = [code for code, key in enumerate(every.spans.keys) if key in keys]
    mine = rows[rows["entry"].isin(every.display_names[codes])]
    scores = scores_of(every.ledger._replace(rows=mine), every.config)
    if not scores:
        return False
    service, endpoint, _ = max(scores, key=scores.__getitem__)
    if (service, endpoint) == suspect:
        return False
    is_there = (mine["service"] == service) & (mine["endpoint"] == endpoint)
    return bool(mine.loc[is_there, "reassigned"].sum() > 0)
