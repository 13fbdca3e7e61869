"""Who works while a failed call is made again? Nobody: the caller pauses between its attempts.

    /checkout  |==|--call, timed out--|.. pause ..|--call, timed out--|.. pause ..|--call--|=|

In the ledger the time of a pause is the own time of the caller: it chose to wait. What keeps its
workers busy in that time is the call that failed (`aiops_lab.explain.queueing`). Where somebody
gave up on the caller meanwhile, that failure began at this call (`aiops_lab.explain.attribution`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiops_lab.explain.accounts import row_runs
from aiops_lab.traces.trees import TraceTrees, calls_in, with_ends


def with_pauses(trees: TraceTrees, repeats: NDArray) -> TraceTrees:
    """Return the trees with each failed call as long as until the call that repeats it begins;
    ``repeats`` is the mask of those that repeat one.
    """
    if not repeats.any():
        return trees
    span = calls_in(trees)
    by_start = np.argsort(trees.start[span], kind="stable")
    span = span[by_start]
    order, first = row_runs(trees.parent[span], trees.node[span])
    span = span[order]
    again = repeats[span] & ~first
    failed = np.roll(span, 1)[again]
    end = trees.end.copy()
    end[failed] = np.maximum(end[failed], trees.start[span[again]])
    return with_ends(trees, end)
