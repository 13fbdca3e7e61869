"""Which spans call a set of children that is rare for such a span?

The set is compared with those of the same account under the same set of its parent, or where that
one is new, under any parent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.attribution import AttributedTraces
from aiops_lab.numerics import mixed
from aiops_lab.traces.trees import TraceTrees, levels_of


def look_up(counts: pd.Series, keys: pd.Series) -> NDArray:
    """Return the count of each key, 0 where there is none."""
    return counts.reindex(keys, fill_value=0).to_numpy()


def child_set_keys(traces: AttributedTraces) -> pd.DataFrame:
    """Return keys of each span: its account with the set of its children and that of its parent's
    (``both``), with its parent's (``above``), with its own (``under``), and alone (``account``).
    """
    account = traces.costs.span_account
    parent = traces.trees.parent
    account_bits = mixed(account.astype(np.uint64))
    children = _sets_of_children(account_bits, parent)
    is_child = parent >= 0
    siblings = np.where(is_child, children[parent], np.uint64(1))
    above = account_bits ^ mixed(siblings)
    under = mixed(children + np.uint64(1))
    keys = {
        "both": above ^ under,
        "above": above,
        "under": account_bits ^ under,
        "account": account,
    }
    return pd.DataFrame(keys)


def _sets_of_children(account_bits: NDArray, parent: NDArray) -> NDArray:
    """Return a key of the set of accounts below each span: the sum of their bits."""
    below = np.flatnonzero(parent >= 0)
    child = account_bits[below]
    above = parent[below]
    parent_bits = mixed(mixed(above.astype(np.uint64)))
    by_parent = child ^ parent_bits
    _, one_each = np.unique(by_parent, return_index=True)
    children = np.zeros(parent.size, dtype=np.uint64)
    np.add.at(children, above[one_each], child[one_each])
    return children


def have_odd_children(shapes: dict[str, pd.Series], traces: AttributedTraces) -> NDArray:
    """Return the spans whose set of children was rare for such a span under such a parent, and none
    below them is odd.

    A span that was never seen before is no odd one; the one that called it is. `shapes` holds how
    often each key of a column of `child_set_keys` was seen in fault-free traces.
    """
    keys = child_set_keys(traces)
    trees = traces.trees
    usual = {name: look_up(counts, keys[name]) for name, counts in shapes.items()}
    new_above = usual["above"] == 0  # the parent's set is itself new: compare under any parent
    times = np.where(new_above, usual["under"], usual["both"])
    of = np.where(new_above, usual["account"], usual["above"])
    usual_share = times / np.maximum(of, 1)
    now = _number_of_equals(keys["both"])
    of_now = _number_of_equals(keys["above"])
    share = now / of_now
    rare = share > traces.config.rarity_ratio * usual_share
    seen_before = of > 0
    in_a_tree = trees.root >= 0
    odd = rare & seen_before & in_a_tree
    return odd & ~_have_below(odd, trees)


def _number_of_equals(keys: pd.Series) -> NDArray:
    """Return for each key how many are equal to it, itself included."""
    return keys.groupby(keys).transform("size").to_numpy()


def _have_below(odd: NDArray, trees: TraceTrees) -> NDArray:
    """Return which spans have a span of a mask below them."""
    above = np.zeros(odd.size, dtype=bool)
    for level in reversed(levels_of(trees)[1:]):
        reach = odd[level] | above[level]
        above[trees.parent[level[reach]]] = True
    return above
