"""Which requests make more calls than usual? Evidence of each call site, as of N+1 calls.

    usually     /checkout → /item
    now         /checkout → /item, /item, /item, /item

Calls made at once prolong a request by no more than the slowest of them, so the ledger shows next
to nothing; what is unusual is their number. How many are usual is learned for each pair of
endpoints (`aiops_lab.explain.attribution.UsualCalls`). A call that repeats a failed one was not the
caller's choice, and does not count.

Limit: a call counts to the server span directly above it. Where another span lies between them, as
with OpenTelemetry an internal one often does, there is no evidence of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.explain.attribution import AttributedTraces

PAIR = ["caller", "endpoint"]


class CallCounts(NamedTuple):
    """How many requests each endpoint served, by its code (``requests``), and how many of them made
    more calls than usual, by the codes of caller and called endpoint (``more``).
    """

    requests: pd.Series
    more: pd.Series


def count_calls(traces: AttributedTraces) -> CallCounts:
    """Return how many requests made more calls than usual."""
    trees = traces.trees
    costs = traces.costs
    call = np.flatnonzero(costs.extra)
    by = trees.parent[call]
    columns = {
        "request": by,
        "caller": trees.node[by],
        "endpoint": costs.accounts.endpoint[costs.span_account[call]],
    }
    is_request = trees.server & (trees.root >= 0)
    requests = pd.Series(trees.node[is_request]).value_counts()
    each_once = pd.DataFrame(columns).drop_duplicates()
    return CallCounts(requests, each_once[PAIR].value_counts())


def call_items(usual: CallCounts, now: CallCounts) -> pd.DataFrame:
    """Return a row a pair of endpoints with more calls than usual, each attributed to the caller:
    caller, endpoint, attributed_to, what, n, k, usual_n, usual_k (`find_deviations`).
    """
    if now.more.empty:
        return pd.DataFrame()
    items = now.more.rename("k").reset_index()
    pairs = pd.MultiIndex.from_frame(items[PAIR])
    return items.assign(
        n=now.requests.reindex(items["caller"]).to_numpy(),
        usual_n=usual.requests.reindex(items["caller"], fill_value=0).to_numpy(),
        usual_k=usual.more.reindex(pairs, fill_value=0).to_numpy(),
        attributed_to=items["caller"],
        what="",
    )
