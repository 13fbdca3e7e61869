"""To what do costs count? Accounts: what an endpoint does by itself, and edges between endpoints.

To which endpoint each account is attributed is decided by `account_table`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OWN = -1  # instead of the caller: the endpoint's own time, or a failure of its own
OUTSIDE = -2  # instead of the caller: nobody who was recorded


class AccountTable(NamedTuple):
    """The accounts: account k is row k of all columns.

    An account is what an endpoint does by itself, or an edge: the gap between a client span and the
    server span that it called, or the time of a span of another kind below a server span. It is
    known by ``endpoint``, the code of the endpoint itself or of the called one, and ``caller``, the
    code of the endpoint that calls, or `OUTSIDE`; of what an endpoint does by itself, `OWN`.
    ``attributed_to`` is the code of the endpoint to which it counts, unless the ledger moves it.
    """

    caller: NDArray
    endpoint: NDArray
    attributed_to: NDArray


def account_table(caller: NDArray, endpoint: NDArray) -> AccountTable:
    """Return a table of accounts. Each is attributed to its endpoint: an edge to the called one."""
    return AccountTable(caller, endpoint, attributed_to=endpoint)


_NO_CODES = np.zeros(0, dtype=np.int64)
NO_ACCOUNTS = account_table(_NO_CODES, _NO_CODES)


def account_codes(
    earlier: AccountTable, caller: NDArray, endpoint: NDArray
) -> tuple[NDArray, AccountTable]:
    """Return the code of the account of each (caller, endpoint), and the table of all accounts.

    The `earlier` accounts keep their codes; new ones come after them.
    """
    callers = np.append(earlier.caller, caller) - OUTSIDE
    endpoints = np.append(earlier.endpoint, endpoint)
    shape = callers.max(initial=0) + 1, endpoints.max(initial=0) + 1
    pairs = np.ravel_multi_index((callers, endpoints), shape)
    code, distinct = pd.factorize(pairs)
    callers, endpoints = np.unravel_index(distinct, shape)
    accounts = account_table(callers + OUTSIDE, endpoints)
    return code[earlier.caller.size :], accounts


def account_labels(caller: NDArray, endpoint: NDArray, is_time: NDArray, names: NDArray) -> NDArray:
    """Return how the account of each (caller, endpoint) is shown; `names` are those of the
    endpoints, by code.

    What an endpoint does by itself is its own time where `is_time`, else its own failures.
    """
    called = names[endpoint]
    calling = np.append(names, ["outside", ""])[caller]
    by_itself = np.where(is_time, " own time", " itself").astype(object)
    own = called + by_itself
    edge = "edge " + calling + " → " + called
    return np.where(caller == OWN, own, edge)


def group_rows(*columns: NDArray) -> tuple[NDArray, NDArray]:
    """Return the groups of equal rows of some columns, sorted by these.

    Returns
    -------
    The position of the first row of each group, and the group of each row.
    """
    order, first = row_runs(*columns)
    group = np.empty(order.size, dtype=np.int64)
    group[order] = np.cumsum(first) - 1
    return order[first], group


def row_runs(*columns: NDArray) -> tuple[NDArray, NDArray]:
    """Return an order that brings equal rows of some columns together, and, in that order, which
    row is the first of its kind.
    """
    order = np.lexsort(columns[::-1])
    first = np.zeros(order.size, dtype=bool)
    first[:1] = True
    for column in columns:
        ordered = column[order]
        first[1:] |= ordered[1:] != ordered[:-1]
    return order, first
