"""Does the first row of `abnormal` show the time before the trouble, where no alarm tells?

Where `normal` is from another time, levels have drifted since. What costs more than usual already
in the first row is drift, or the trouble is older than the rows. What changes after the first row
is no drift. Of the two readings the one with more beyond its noise is taken, and how far it leads
is how sure it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from aiops_lab.explain.metric_confidence import TINY
from aiops_lab.explain.metric_config import MetricsConfig
from aiops_lab.explain.metric_ledger import Window
from aiops_lab.explain.metric_ranking import MetricLedger

DRIFTED = "The normal data is from another time, and nothing tells drift since then from trouble."
MOST_NOISES = 1e12  # times of a noise of 0
NO_DRIFT = 0.5  # how likely it is trouble where nothing tells it from drift
Accounts = Callable[[Window], list[MetricLedger]]


class Reading(NamedTuple):
    """The accounts, the window that they are of, how likely they show trouble and not drift, and
    what speaks against that ("": nothing).
    """

    ledgers: list[MetricLedger]
    window: Window
    likely: float = 1.0
    caution: str = ""


def without_alarm(accounts: Accounts, window: Window, config: MetricsConfig) -> Reading:
    """Return the accounts since the trouble began, as far as the rows tell."""
    whole = Reading(accounts(window), window)
    if window.adjoins or not whole.ledgers:
        return whole
    unsure = whole._replace(likely=NO_DRIFT, caution=DRIFTED)
    if window.rows == 1:
        return unsure
    since = window._replace(before=1)
    after_first = accounts(since)
    changes = _times(after_first)
    change = changes.max()
    if change < config.noise_ratio:
        return unsure
    changed = changes.idxmax()
    first_row = window._replace(rows=1)
    # what the node that changes cost before speaks for no other node
    held = _times(accounts(first_row)).drop(changed)
    most = held.max() if len(held) else 0.0
    beyond_noise = max(most - 1, 0.0)
    likely = float(change / (change + beyond_noise))
    if likely < NO_DRIFT:
        return unsure._replace(caution=f"{DRIFTED} After the first row {changed} costs more.")
    if most < config.noise_ratio:
        return Reading(after_first, since, likely)
    costs = f"{held.idxmax()} costs more than usual already in the first row"
    drift = f"{costs}, which is taken for drift since the normal data."
    return Reading(after_first, since, likely, drift)


def _times(ledgers: list[MetricLedger]) -> pd.Series:
    """Return the own excess of each node as a multiple of its noise, the largest of its costs."""
    by_cost = []
    for ledger in ledgers:
        noise = ledger.table["noise"].clip(lower=TINY)
        times = ledger.table["own"] / noise
        by_cost.append(times.clip(0, MOST_NOISES))
    return pd.concat(by_cost, axis=1).max(axis=1)
