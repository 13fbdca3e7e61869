"""Do some requests wait for workers of a service that other requests keep busy?

All requests to a service share its workers, though no call links them and no trace shows both::

    /order   |== waits for a slow /shelf ==|
    /home       |.... waits for a worker ..|=|      calls no /shelf

Of the requests to /home alone nobody can tell why they wait. So whoever looks at a part of the
requests to a service asks here whether the others belong to it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import Comparison
from aiops_lab.explain.queueing import beside_waits, service_requests
from aiops_lab.explain.ranking import scores_of
from aiops_lab.spans import Key
from aiops_lab.traces.encode import EncodedSpans

_ROW = ["entry", "account", "unit", "masked"]
_NO_PART = pd.DataFrame(
    {"share": [], "se_of_share": []},
    index=pd.MultiIndex.from_arrays([[], []], names=["service", "endpoint"]),
    dtype=float,
)


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
    the workers of a service busy, and nothing else.

    `own` holds some requests, and `every` also all others to the service of the suspect. Entry by
    entry the excess is the same in both, but only the second may show that it is a wait: then it is
    reassigned to another endpoint. Where what these requests take longer beside their wait makes a
    suspect, there are two faults, and they do not belong to the others.
    """
    entered = own.costs.requests["entry"].unique()
    keys = {own.spans.keys[code] for code in entered}
    codes = [code for code, key in enumerate(every.spans.keys) if key in keys]
    entries = every.display_names[codes]
    rows = every.ledger.rows
    mine = rows[rows["entry"].isin(entries)]
    scores = scores_of(every.ledger._replace(rows=mine), every.config)
    if not scores:
        return False
    service, endpoint, _ = max(scores, key=scores.__getitem__)
    if (service, endpoint) == suspect:
        return False
    spent = _beside_waits(mine, every)
    return not scores_of(every.as_spent._replace(rows=spent), every.config)


def _beside_waits(mine: pd.DataFrame, every: Comparison) -> pd.DataFrame:
    """Return what was spent at the entries of some rows of the ledger, as if there were no others;
    of what is reassigned from there, as it is a wait, only the part that is none.
    """
    by_row = mine.set_index(_ROW)
    spent = every.as_spent.rows.set_index(_ROW)
    spent = spent[spent.index.isin(by_row.index)]
    entries = every.ledger.entries
    weight = entries.loc[entries["entry"].isin(mine["entry"]), "weight"].sum()
    cost = spent["cost"] / weight
    noise = spent["noise"] / weight
    is_taken = by_row["reassigned"].reindex(spent.index) < 0
    services = spent.loc[is_taken, "service"].unique()
    parts = pd.concat([_NO_PART, *(_parts(service, every) for service in services)])
    part = spent.join(parts, on=["service", "endpoint"])
    is_failure = spent.index.get_level_values("unit") == "failures"
    part.loc[is_failure, [*_NO_PART]] = 0.0  # who gave up, or was turned away
    waits = is_taken & part["share"].notna()
    left = cost.mask(waits, cost * part["share"])
    noise_left = noise.mask(waits, cost * part["se_of_share"])
    return spent.assign(cost=left, noise=noise_left).reset_index()


def _parts(service: str, every: Comparison) -> pd.DataFrame:
    """Return `beside_waits` of a service, by service and endpoint."""
    before = every.reference.requests_of(service)
    after = service_requests(service, every)
    if before is None or after is None:
        return _NO_PART
    found = beside_waits(before, after, every.config)
    endpoint = every.costs.accounts.endpoint[found.index]
    places = [every.spans.keys[code] for code in endpoint]
    return found.set_axis(pd.MultiIndex.from_tuples(places, names=_NO_PART.index.names))
