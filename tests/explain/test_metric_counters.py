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


CALLS = [("shop", "cart"), ("cart", "db")]
NODES = ("db", "cart", "shop")


def histograms(slow=None, restart=None, limits=(0.05, 0.2, np.inf)):
    """Sums, counts and buckets of latencies; each node waits for those before it in `NODES`."""
    rng = np.random.default_rng(0)
    latency = np.zeros(45)
    counters = {}
    for node in NODES:
        own = 0.05 * (1 + 0.05 * rng.standard_normal(45))
        own[30:] *= 3 if node == slow else 1
        latency = latency + own
        requests = rng.poisson(300, 45)
        counters[f"{node}_duration_seconds_sum"] = latency * requests
        counters[f"{node}_duration_seconds_count"] = requests
        for limit in limits:
            below = rng.binomial(requests, 1 - np.exp(-limit / latency))
            counters[f"{node}_duration_seconds_bucket_{limit}"] = below
    table = pd.DataFrame(counters, dtype=float).cumsum()
    if restart is not None:
        table.iloc[restart:] -= table.iloc[restart - 1]
    return table.iloc[:30], table.iloc[30:]


@pytest.mark.parametrize("restart", [None, 40])
def test_a_sum_is_compared_by_the_mean_of_each_interval(restart):
    assert lab.rank_from_metrics(*histograms(restart=restart), CALLS) == []
    for node in ("db", "shop"):
        found = lab.rank_from_metrics(*histograms(node, restart), CALLS)
        assert found[0].service == node
    told = found[0].evidence[0]
    assert told["usual"] == pytest.approx(0.15, rel=0.1)
    assert told["now"] == pytest.approx(0.25, rel=0.1)


def rises(table, column):
    """Return a column of a table that is both the usual and the present one."""
    metrics = read_frame("x", table, 1)
    told, _ = as_rises(metrics, metrics)
    return told.arrays[("a", column, "value")]


def test_a_mean_is_missing_without_requests_and_a_sum_may_begin_again_unseen():
    table = pd.DataFrame({"a_lat_sum": [9.0, 10, 10, 11, 12, 13, 14, 8, 9, 3]})
    table["a_lat_count"] = [5.0, 9, 9, 10, 11, 12, 13, 4, 5, 6]
    expected = [np.nan, 0.25, np.nan, 1, 1, 1, 1, 2, 1, 0.5]
    np.testing.assert_array_equal(rises(table, "lat_sum"), expected)
    table.loc[8, "a_lat_sum"] = 7.0  # of an interval: it falls while its count rises
    np.testing.assert_array_equal(rises(table, "lat_sum"), table["a_lat_sum"])


def test_a_sum_without_a_count_is_no_latency_and_a_rare_bucket_no_level():
    table = pd.DataFrame({"a_lat_sum": np.arange(9.0), "a_lat_bucket_inf": [4.0] * 8 + [7]})
    metrics = read_frame("x", table, 1)
    told, _ = as_rises(metrics, metrics)
    assert told.roles[("a", "lat_sum", "value")].kind == "other"
    table["a_lat_count"] = table["a_lat_sum"]
    np.testing.assert_array_equal(rises(table, "lat_bucket_inf"), [np.nan, *[0] * 7, 3])
