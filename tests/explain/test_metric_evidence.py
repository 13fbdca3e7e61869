"""Metrics without a graph, without an alarm, with resources and hosts: who comes first, and when
is nobody?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.metric_confidence import LEARNED
from aiops_lab.explain.metric_ranking import evenness, with_hosts
from aiops_lab.explain.metrics import MetricsConfig

SERVICES = ("front", "cart", "pay", "db")
CALLS = [("front", "cart"), ("front", "pay"), ("cart", "db")]
COSTS = {"front": 40.0, "cart": 20.0, "pay": 10.0}  # ms at the 50th percentile; db has none


def steady(rows=14, start=0, seed=0):
    """Five-second intervals of flat names, as a dashboard exports them."""
    rng = np.random.default_rng([seed, start])
    columns = {}
    for service in SERVICES:
        columns[f"{service}_cpu"] = 0.2 * rng.normal(1, 0.02, rows)
        columns[f"{service}_mem"] = 5e8 * rng.normal(1, 0.01, rows)
        if service in COSTS:
            columns[f"{service}_p50latency"] = COSTS[service] * rng.normal(1, 0.02, rows)
            columns[f"{service}_p90latency"] = 2 * COSTS[service] * rng.normal(1, 0.02, rows)
            columns[f"{service}_rps"] = 10.0 * rng.normal(1, 0.02, rows)
    times = pd.Timestamp("2026-01-01") + pd.to_timedelta(5 * np.arange(start, start + rows), "s")
    return pd.DataFrame(columns, index=times)


NORMAL = steady()


def slowed(*services, by=500.0, frame=None):
    frame = steady(10, 14) if frame is None else frame.copy()
    for service in services:
        frame[f"{service}_p50latency"] += by
        frame[f"{service}_p90latency"] += by
    return frame


def names(suspects):
    return [suspect.service for suspect in suspects]


def test_the_deepest_excess_comes_first_without_an_alarm():
    found = lab.rank_from_metrics(NORMAL, slowed("front", "cart"), CALLS)
    assert found[0].service == "cart"
    assert found[0].evidence[0]["metric"] == "latency"
    assert found[0].evidence[0]["own"] > found[0].evidence[0]["noise"]
    shown = {row["metric"] for row in found[0].evidence[1:]}
    assert shown == {"p50latency", "p90latency"}


def test_a_node_that_serves_fewer_requests_is_priced_by_those_that_were_due():
    choked = slowed("front", by=400.0, frame=slowed("cart", by=1000.0))
    choked["cart_rps"] *= 0.05
    found = lab.rank_from_metrics(NORMAL, choked, CALLS)
    rows = {s.service: s.evidence[0] for s in found}
    assert found[0].service == "cart"
    assert rows["cart"]["due"] == pytest.approx(10 * 5 * 10, rel=0.05)
    assert rows["cart"]["requests"] == pytest.approx(0.05 * rows["cart"]["due"], rel=0.05)
    cheap = MetricsConfig(min_served=0.0)
    (row, *_) = lab.rank_from_metrics(NORMAL, choked, CALLS, config=cheap)[0].evidence
    assert row["due"] == row["requests"]


def test_a_small_fall_of_requests_is_no_fall():
    fewer = slowed("cart")
    fewer["cart_rps"] *= 0.85
    (row, *_) = lab.rank_from_metrics(NORMAL, fewer, CALLS)[0].evidence
    assert row["due"] == row["requests"]


def test_callers_are_excused_up_to_twice_what_the_callee_measures():
    waits = slowed("front", by=900.0, frame=slowed("cart", by=500.0))
    own = {s.service: s.evidence[0]["own"] for s in lab.rank_from_metrics(NORMAL, waits, CALLS)}
    assert own.get("front", 0) <= 0 < own["cart"]
    exact = MetricsConfig(max_call_ratio=1.0)
    found = lab.rank_from_metrics(NORMAL, waits, CALLS, config=exact)
    own = {s.service: s.evidence[0]["own"] for s in found}
    assert own["front"] > 0.7 * own["cart"]


def test_of_means_callers_are_excused_as_much_where_resources_are_measured():
    def means(frame):
        kept = frame[[name for name in frame if "p90" not in name]]
        return kept.rename(columns=lambda name: name.replace("p50latency", "latency_ms"))

    waits = means(slowed("front", by=900.0, frame=slowed("cart", by=500.0)))
    told = lab.rank_from_metrics(means(NORMAL), waits, CALLS)
    own = {s.service: s.evidence[0]["own"] for s in told}
    assert own.get("front", 0) <= 0 < own["cart"]


def test_a_callee_without_requests_owns_the_excess_where_its_resources_are_strained():
    strained = slowed("cart", "front")
    assert names(lab.rank_from_metrics(NORMAL, strained, CALLS))[0] == "cart"
    strained["db_cpu"] *= 20
    assert names(lab.rank_from_metrics(NORMAL, strained, CALLS))[0] == "db"


def test_without_calls_every_metric_counts():
    leaking = steady(10, 14)
    leaking["pay_mem"] *= 3
    first = lab.rank_from_metrics(NORMAL, leaking)[0]
    assert (first.service, first.by) == ("pay", "deviations")
    (row,) = first.evidence
    assert (row["node"], row["metric"]) == ("pay", "mem")
    assert row["now"] == pytest.approx(3 * row["usual"], rel=0.05)
    assert row["scales"] > 3


def test_a_deviation_is_counted_in_scales_of_at_least_a_tenth_of_the_level():
    flat = pd.DataFrame({"a_cpu": 10.0, "b_cpu": 10.0}, index=range(12))
    high = flat.iloc[:4].set_axis(range(12, 16)).assign(a_cpu=14.0)
    (row,) = lab.rank_from_metrics(flat, high)[0].evidence
    assert row["scales"] == pytest.approx(4 / (0.1 * 10))
    assert row["deviation"] == pytest.approx(np.log(4 / 3))
    assert lab.rank_from_metrics(flat, high.assign(a_cpu=12.9)) == []
    wide = MetricsConfig(relative_noise=0.2)
    assert lab.rank_from_metrics(flat, high, config=wide) == []
    sharp = MetricsConfig(min_deviation=2.0)
    assert lab.rank_from_metrics(flat, high.assign(a_cpu=12.9), config=sharp)


def test_the_scatter_of_a_metric_is_its_interquartile_range_as_wide_as_so_few_intervals_say():
    values = np.tile([90.0, 110.0], 8)
    normal = pd.DataFrame({"a_cpu": values, "b_cpu": 100.0}, index=range(16))
    now = normal.iloc[:2].set_axis([16, 17]).assign(a_cpu=300.0)
    (row,) = lab.rank_from_metrics(normal, now)[0].evidence
    # t with 15 degrees of freedom is 2.947 at .995, the normal distribution 2.576
    scatter = 20 / 1.349 * 2.947 / 2.576
    assert row["scales"] == pytest.approx(200 / np.hypot(scatter, 10), rel=0.01)


def test_a_metric_that_was_zero_has_the_scatter_of_its_kind_at_other_nodes():
    normal = pd.DataFrame({"a_restarts": 0.0, "b_restarts": 5.0, "c_restarts": 5.0}, range(12))
    now = normal.iloc[:3].set_axis(range(12, 15)).assign(a_restarts=3.0)
    (row,) = lab.rank_from_metrics(normal, now)[0].evidence
    assert row["scales"] == pytest.approx(3 / (0.1 * 5))


@pytest.mark.parametrize(
    ("metric", "whole"), [("availability", 100.0), ("availability", 1.0), ("success_rate", 1.0)]
)
def test_a_fall_of_successes_is_found_without_calls_and_a_tiny_one_is_none(metric, whole):
    def shares(failing):
        column = whole * (1.0 - np.full(10, failing))
        return pd.DataFrame({f"pay_{metric}": column, f"cart_{metric}": whole})

    assert names(lab.rank_from_metrics(shares(0.001), shares(0.05))) == ["pay"]
    assert lab.rank_from_metrics(shares(0.001), shares(0.003)) == []
    assert names(lab.rank_from_metrics(shares(0.8), shares(0.9))) == ["pay"]  # half the successes


def test_columns_of_two_levels_are_read_like_flat_names():
    now = slowed("front", "cart")
    flat = lab.rank_from_metrics(NORMAL, now, CALLS)

    def deep(frame):
        pairs = [tuple(name.split("_")) for name in frame.columns]
        return frame.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)

    assert lab.rank_from_metrics(deep(NORMAL), deep(now), CALLS) == flat


def test_calls_back_in_a_cycle_are_left_out():
    now = slowed("front", "cart")
    cycle = [*CALLS, ("cart", "cart"), ("db", "cart"), ("pay", "cart"), ("cart", "pay")]
    assert names(lab.rank_from_metrics(NORMAL, now, cycle)) == names(
        lab.rank_from_metrics(NORMAL, now, CALLS)
    )


def test_an_alarm_of_a_resource_is_an_alarm():
    now = slowed("front", "cart")
    target = {"node": "cart", "metric": "cpu", "timestamp": now.index[0]}
    assert lab.rank_from_metrics(NORMAL, now, CALLS, target)[0].service == "cart"


PLACED = {"front": "host-1", "cart": "host-2", "pay": "host-2", "db": "host-1"}


def test_a_host_is_named_where_its_services_suffer_together():
    now = slowed("front", frame=slowed("front", "cart", "pay"))
    assert names(lab.rank_from_metrics(NORMAL, now, CALLS, placed=PLACED))[0] == "host-2"
    alone = slowed("front", "cart")
    assert names(lab.rank_from_metrics(NORMAL, alone, CALLS, placed=PLACED))[0] == "cart"
    assert "host-2" not in names(lab.rank_from_metrics(NORMAL, now, CALLS))


def test_where_much_is_slow_elsewhere_the_first_suspect_is_less_sure_and_says_why():
    (alone, *_) = lab.rank_from_metrics(NORMAL, slowed("cart"), CALLS)
    apart = slowed("cart", by=300.0, frame=slowed("pay", by=301.0))
    (first, *_) = lab.rank_from_metrics(NORMAL, apart, CALLS)
    part = first.terms["explained"]
    assert 0.4 < part < 0.6
    assert first.confidence < part < alone.confidence
    assert "what they share, such as a host, may be the cause" in first.caution
    assert alone.caution == ""


def test_of_two_that_are_about_as_unusual_the_one_whose_callers_are_slow_comes_first():
    now = slowed("pay", by=510.0, frame=slowed("front", "cart"))
    calls = [("front", "cart"), ("pay", "db")]
    by_default = lab.rank_from_metrics(NORMAL, now, calls)
    assert names(by_default)[0] == "cart"
    alone = MetricsConfig(explained_power=0.0)
    assert names(lab.rank_from_metrics(NORMAL, now, calls, config=alone))[0] == "pay"


def test_the_level_of_a_hosts_metric_is_that_of_hosts():
    columns = {
        "host-1_mem": 10.0,
        "host-2_mem": 10.0,
        "cart_mem": 5e8,
        "pay_mem": 5e8,
        "db_mem": 5e8,
    }
    normal = pd.DataFrame(columns, range(12))
    now = normal.iloc[:3].set_axis(range(12, 15)).assign(**{"host-2_mem": 90.0})
    (first, *_) = lab.rank_from_metrics(normal, now, placed=PLACED)
    assert first.service == "host-2"
    assert lab.rank_from_metrics(normal, now) == []


def by_node(**columns):
    return pd.DataFrame({"excess": 0.0, "deviation": 0.0, "unusual": 0.0} | columns, list("abcd"))


ON_ONE = {"a": "h", "b": "h"}


def test_a_host_gets_what_its_nodes_have_times_how_even_it_is():
    table = by_node(excess=[0.6, 0.2, 0.2, 0.0], unusual=[3.0, 1.0, 9.0, 0.0])
    host = with_hosts(table, ON_ONE, []).loc["h"]
    assert host["excess"] == pytest.approx(0.8 * 0.64 / (2 * 0.4))
    assert host["unusual"] == pytest.approx(4.0 / 2**0.5)


def test_of_deviations_a_host_gets_what_is_beyond_callees_and_beyond_elsewhere():
    table = by_node(deviation=[1.0, 0.7, 0.3, 0.1])
    beyond = pd.Series([0.8, 0.5])  # the mean elsewhere is 0.2
    first = with_hosts(table, ON_ONE, []).loc["h", "deviation"]
    assert first == 1.0  # of all, the most: the scores stay below 1
    apart = with_hosts(table, ON_ONE, []).loc["a", "deviation"]
    assert apart == pytest.approx(1 / (1.3 * evenness(beyond)))
    called = with_hosts(table, ON_ONE, [("a", "b"), ("x", "b")]).loc["h", "deviation"]
    assert called == pytest.approx(0.6 * 0.36 / (2 * (0.01 + 0.25)))


def test_one_node_in_trouble_is_no_host():
    alone = by_node(excess=[1.0, 0.0, 0.0, 0.0], deviation=[1.0, 0.0, 0.0, 0.0])
    assert "h" not in with_hosts(alone, ON_ONE, []).index
    assert "h" not in with_hosts(alone, {"a": "h"}, []).index


def test_a_hosts_own_metrics_count_if_they_deviate_more():
    table = by_node(deviation=[0.1, 0.1, 0.0, 1.0], unusual=[1.0, 1.0, 0.0, 5.0])
    host = with_hosts(table.rename({"d": "h"}), ON_ONE, []).loc["h"]
    assert (host["deviation"], host["unusual"]) == (1.0, 5.0)


def test_only_where_it_is_known_since_when_exact_means_leave_the_ledger_alone():
    usual = {"front": 0.1, "cart": 0.002, "pay": 0.002}
    rises = {
        "front": 1.0,
        "cart": 0.45,
        "pay": 0.0,
    }  # more than half of what front waits is its own

    def frame(more, start):
        columns = {}
        for node, seconds in usual.items():
            columns[node, "latency", "Average"] = [seconds + more * rises[node]] * 30
            columns[node, "requests", "Sum"] = [10.0] * 30
        return pd.DataFrame(columns, np.arange(start, start + 30 * 60, 60))

    normal, now = frame(0, 0), frame(1, 1_000_000)
    alarm = {"node": "front", "metric": "latency", "timestamp": 1_000_060}
    calls = [("front", "cart")]
    now.iloc[0] = normal.iloc[0]  # before the alarm
    assert names(lab.rank_from_metrics(normal, now, calls, alarm))[0] == "front"
    assert names(lab.rank_from_metrics(normal, now, calls))[0] == "front"
    unalarmed = lab.rank_from_metrics(normal, now.iloc[1:], calls)
    assert names(unalarmed)[0] == "cart"
    assert unalarmed[0].score <= 1


def test_without_resources_and_calls_the_confidence_is_lowered_and_says_so():
    costs = [column for column in NORMAL if "cpu" not in column and "mem" not in column]
    (first, *_) = lab.rank_from_metrics(NORMAL[costs], slowed("cart")[costs])
    assert first.service == "cart"
    assert first.confidence == pytest.approx(LEARNED.base_rate)
    assert first.caution.startswith("Unlike anything that the confidence was learned from: ")
    assert "the part of nodes with resource metrics is 0," in first.to_dict()["caution"]
    (told, *_) = lab.rank_from_metrics(NORMAL, slowed("cart"))
    assert (told.caution, "caution" in told.to_dict()) == ("", False)
    assert told.confidence > 0.9
    assert told.terms == {
        "unusual": told.terms["unusual"],
        "intervals": 14,
        "resources": 1.0,
        "explained": 1.0,
    }


@pytest.mark.parametrize("calls", [None, CALLS])
def test_normal_windows_are_silent(calls):
    quiet = []
    for seed in range(1, 21):
        found = lab.rank_from_metrics(steady(14, 0, seed), steady(10, 14, seed), calls)
        quiet.append(not found or found[0].confidence < 0.5)
    assert np.mean(quiet) >= 0.95


@pytest.mark.parametrize(
    ("placed", "said"),
    [
        (["host"], "placed must be a mapping, got list"),
        ({"cart": 3}, r"placed\['cart'\] must be the name of a host, got 3"),
    ],
)
def test_unusable_hosts_are_refused(placed, said):
    with pytest.raises(ValueError, match=said):
        lab.rank_from_metrics(NORMAL, slowed("cart"), placed=placed)


def test_inputs_stay_untouched():
    normal, abnormal = NORMAL.copy(), slowed("cart")
    kept = abnormal.copy()
    lab.rank_from_metrics(normal, abnormal, CALLS, placed=PLACED)
    pd.testing.assert_frame_equal(normal, NORMAL)
    pd.testing.assert_frame_equal(abnormal, kept)
