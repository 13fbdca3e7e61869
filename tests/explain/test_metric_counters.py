"""Counters are compared by what they rose by, whatever they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.metric_counters import as_rises
from aiops_lab.explain.metric_frames import read_frame

RATES = 5.0 + np.random.default_rng(0).random((30, 2))


def frames(name="requests_total", restart=None):
    """A counter of two nodes; b rises by three times as much in the last ten rows."""
    rates = RATES.copy()
    rates[20:, 1] *= 3
    level = 1000.0 + rates.cumsum(axis=0)
    if restart is not None:
        level[restart:] -= level[restart - 1]
    table = pd.DataFrame(level, columns=[f"a_{name}", f"b_{name}"])
    return table.iloc[:20], table.iloc[20:]


@pytest.mark.parametrize("restart", [None, 7, 24])
def test_a_counter_is_compared_by_its_rise_also_when_it_restarts(restart):
    first, *others = lab.rank_from_metrics(*frames(restart=restart))
    assert (first.service, others) == ("b", [])
    (row,) = first.evidence
    assert 4 < row["usual"] < 7 < 14 < row["now"] < 19


def test_what_is_not_named_a_counter_or_falls_keeps_its_level():
    for normal, now in (frames("memory"), frames()):
        fallen = now.copy()
        fallen.iloc[5] *= 0.8
        usual, told = (read_frame("x", table, 1) for table in (normal, fallen))
        assert as_rises(usual, told) == (usual, told)
