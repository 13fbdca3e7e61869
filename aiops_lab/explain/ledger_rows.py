"""The rows of a ledger as arrays, and how their excess is moved from one account to another.

What is moved is taken away in one row and added in another, so that all rows together still add up
to the excess of the entries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.accounts import OWN, AccountTable, group_rows
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.queueing import Contention


class LedgerRows(NamedTuple):
    """The rows of a ledger as arrays: the columns of `ledger.Ledger.rows`, with endpoints by code.

    ``caller``, ``endpoint`` and ``attributed_to`` are those of the account, as in `AccountTable`.
    """

    entry: NDArray
    caller: NDArray
    endpoint: NDArray
    attributed_to: NDArray
    is_time: NDArray
    masked: NDArray
    usual: NDArray
    now: NDArray
    reassigned: NDArray
    excess: NDArray
    se: NDArray

    def at(self, rows: NDArray) -> LedgerRows:
        """Return some of the rows, by mask or by position."""
        return LedgerRows(*(column[rows] for column in self))

    def is_significant(self, config: RcaConfig) -> NDArray:
        """Return which rows have an excess beyond the noise."""
        return self.excess > config.n_sigma * self.se


def taken_away(rows: LedgerRows) -> LedgerRows:
    """Return rows that take the excess away."""
    return as_moved(rows._replace(excess=-rows.excess, se=np.zeros(rows.se.size)))


def as_moved(rows: LedgerRows) -> LedgerRows:
    """Return rows whose excess was reassigned, and is no cost of their accounts."""
    nothing = np.zeros(rows.excess.size)
    return rows._replace(reassigned=rows.excess, usual=nothing, now=nothing)


def joined_rows(tables: list[LedgerRows]) -> LedgerRows:
    return LedgerRows(*map(np.concatenate, zip(*tables, strict=True)))


def summed(tables: list[LedgerRows]) -> LedgerRows:
    """Return the sums of the tables by entry and account; standard errors add by their squares."""
    rows = joined_rows(tables)
    keys = rows.entry, rows.caller, rows.endpoint, rows.is_time, rows.masked
    first, group = group_rows(*keys)
    return rows.at(first)._replace(
        usual=np.bincount(group, rows.usual),
        now=np.bincount(group, rows.now),
        reassigned=np.bincount(group, rows.reassigned),
        excess=np.bincount(group, rows.excess),
        se=np.sqrt(np.bincount(group, rows.se**2)),
    )


def at_their_callers(calls: LedgerRows) -> LedgerRows:
    """Return the rows of calls as what their callers do by themselves."""
    own = np.full(calls.caller.size, OWN)
    return calls._replace(caller=own, endpoint=calls.caller, attributed_to=calls.caller)


def moves_of(
    rows: LedgerRows, contention: Contention, accounts: AccountTable, config: RcaConfig
) -> LedgerRows:
    """Return what leaves the accounts of one contended service, and where it goes, as rows to be
    added.
    """
    leaves = _leaves(rows, contention, accounts.endpoint)
    is_significant = rows.is_significant(config)
    away = rows.at(leaves & is_significant)
    # each row that leaves goes in parts to each of the accounts
    n = away.entry.size
    to = contention.share.index.to_numpy()
    row = np.repeat(np.arange(n), to.size)
    account = np.tile(to, n)
    share = np.tile(contention.share.to_numpy(), n)
    given = away.at(row)
    given = given._replace(
        caller=accounts.caller[account],
        endpoint=accounts.endpoint[account],
        attributed_to=accounts.attributed_to[account],
        excess=share * given.excess,
        se=share * given.se,
    )
    return joined_rows([taken_away(away), as_moved(given)])


def _leaves(rows: LedgerRows, contention: Contention, endpoint: NDArray) -> NDArray:
    """Return which rows are due to the wait for a contended service: time, and failures of those
    that are full or were given up.

    ``endpoint``: that of each account. What alone keeps the service busy keeps what is its own.
    """
    waiting = endpoint[contention.waiting]
    full = endpoint[contention.full]
    given_up = endpoint[contention.given_up]
    busy = contention.share.index
    alone = np.intersect1d(contention.waiting, busy if busy.size == 1 else [])
    busy_alone = endpoint[alone.astype(np.int64)]
    waits = np.isin(rows.attributed_to, waiting)
    is_full = np.isin(rows.attributed_to, full)
    was_given_up = np.isin(rows.endpoint, given_up) & (rows.caller == OWN)
    keeps = np.isin(rows.attributed_to, busy_alone)
    leaves = np.where(rows.is_time, waits, is_full | was_given_up)
    return leaves & ~keeps


def slow_to_all(caller: NDArray, callee: NDArray, slow: NDArray) -> set[str]:
    """Return the services that became slow to reach all of the services that they call, if these
    are two or more.

    `caller` and `callee` hold the services of each row, "" unless it is a call between two; `slow`
    is a mask of the rows.
    """
    if not slow.any():
        return set()
    columns = {"from": caller, "to": callee, "slow": slow}
    calls = pd.DataFrame(columns)[callee != ""]
    by_pair = calls.groupby(["from", "to"])["slow"].any()
    by_caller = by_pair.groupby(level="from").agg(["size", "all"])
    calls_several = by_caller["size"] > 1
    slow_to_all = by_caller["all"] & calls_several
    return {*by_caller.index[slow_to_all]}


def between_services(
    accounts: AccountTable | LedgerRows, services: NDArray
) -> tuple[NDArray, NDArray]:
    """Return the calling and the called service of each account, "" unless it is an edge between
    two services. `services` holds the service of each code of an endpoint.
    """
    services = np.append(services, ["", ""])  # of OUTSIDE and of OWN
    caller = services[accounts.caller]
    callee = services[accounts.endpoint]
    between = (caller != "") & (caller != callee)
    return np.where(between, caller, ""), np.where(between, callee, "")
