import itertools
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.checks import FieldError
from aiops_lab.explain.metric_onset import DRIFTED
from aiops_lab.explain.metrics import MetricsConfig
from aiops_lab.numerics import student_quantile
from tests.support import naive

CALLS = [
    ("front", "search"),
    ("front", "list"),
    ("front", "pay"),
    ("list", "search"),
    ("robot", "search"),
    ("search", "table"),
    ("pay", "gate"),
    ("gate", "lambda"),
    ("lambda", "table"),
    ("front", "queue"),
    ("robot", "queue"),
]
REQUESTS = {
    "front": 500,
    "search": 800,
    "list": 130,
    "robot": 50,
    "pay": 100,
    "gate": 95,
    "lambda": 95,
    "table": 895,
}
REQUESTS["queue"] = 20  # far fewer than its callers serve
USUAL = {
    "front": 0.1,
    "search": 0.02,
    "list": 0.04,
    "robot": 0.03,
    "pay": 0.2,
    "gate": 0.06,
    "lambda": 0.05,
}
USUAL |= {"table": 0.01, "queue": 0.3}
NODES = sorted(REQUESTS)


def made(rows, seed=0, level=1.0, start=0):
    """`rows` intervals of five minutes of a healthy shop, whose levels stand at `level` times the
    usual.
    """
    rng = np.random.default_rng(seed)
    table = {}
    for node in NODES:
        served = np.round(REQUESTS[node] * rng.normal(1, 0.03, rows))
        failed = rng.random(rows) < 0.01
        table[node, "latency", "Average"] = USUAL[node] * level * rng.lognormal(0, 0.05, rows)
        table[node, "requests", "Sum"] = served
        table[node, "availability", "Average"] = 100 * (1 - failed / served)
    return pd.DataFrame(
        table, index=pd.Index(start + 300.0 * np.arange(rows), name="unix_timestamp")
    )


def planted(frame, node, metric, size):
    """The frame with `size` s (or failures) a row more at `node` in rows 1 to 3, and at all who
    wait for it.
    """
    frame = frame.copy()
    if metric == "availability":
        size = min(size, REQUESTS[node] // 2)
    extra = dict.fromkeys(NODES, 0.0) | {node: float(size)}
    for callee in ("queue", "table", "lambda", "gate", "pay", "search", "list"):  # callees first
        callers = [a for a, b in CALLS if b == callee]
        weights = [min(REQUESTS[a], REQUESTS[callee]) for a in callers]
        for caller, weight in zip(callers, weights, strict=True):
            extra[caller] += extra[callee] * weight / sum(weights)
    rows = frame.index[1:4]
    for name, amount in extra.items():
        each = amount / frame.loc[rows, (name, "requests", "Sum")]
        if metric == "latency":
            frame.loc[rows, (name, "latency", "Average")] += each
        else:
            frame.loc[rows, (name, "availability", "Average")] -= 100 * each
    return frame


def alarm(frame, metric="latency", node="front"):
    return {
        "node": node,
        "metric": metric,
        "agg": "Average",
        "timestamp": float(frame.index[1]) + 150,
    }


NORMAL = made(400)
FAULT = {
    metric: planted(made(5, 1, 1.1, 9e6), "search", metric, 40)
    for metric in ("latency", "availability")
}


def ranked(abnormal, metric="latency", normal=NORMAL, calls=CALLS):
    return lab.rank_from_metrics(normal, abnormal, calls, alarm(abnormal, metric))


def silent(suspects):
    return not suspects or suspects[0].score <= 0 or suspects[0].confidence < 0.5


def bridged(**courses):
    """The nodes that a callee of theirs excuses, where no call is known and these are their
    excesses, row by row.
    """
    nodes = {"top": (0, 0, 0)} | courses  # the alarm is at the top, which has no callers
    steady = {(n, m, s): v for n in nodes for m, s, v in table(0.1, 100)}
    normal = pd.DataFrame(steady, 300.0 * np.arange(9))
    abnormal = normal.iloc[:4].copy()
    for node, excess in nodes.items():
        abnormal.loc[300:, (node, "latency", "Average")] += np.array(excess) / 100
    found = lab.rank_from_metrics(normal, abnormal, [], alarm(abnormal, node="top"))
    rows = {s.service: s.evidence[0] for s in found}
    return {node for node in courses if node not in rows or rows[node]["bridged"] > 0}


def table(latency, requests):
    return ("latency", "Average", latency), ("requests", "Sum", float(requests))


# ---- the constants, on numbers that are easy to redo: 100 requests of 0.1 s, or one in a hundred


def steady(rows, step=300.0, start=0.0):
    """A front and a back whose numbers never change."""
    numbers = {("latency", "Average"): 0.1, ("requests", "Sum"): 100.0}
    numbers |= {("availability", "Average"): 99.0}
    columns = {(node, *m): value for node in ("back", "front") for m, value in numbers.items()}
    return pd.DataFrame(columns, start + step * np.arange(rows))


def first(normal, metric="latency", change=0.2, config=None):
    """The evidence of the back, after `change` in its only interval of the fault."""
    abnormal = steady(2, start=9e6)
    abnormal.loc[abnormal.index[1], ("back", metric, "Average")] += change
    found = lab.rank_from_metrics(
        normal, abnormal, [("front", "back")], alarm(abnormal, metric), config=config
    )
    return next(s for s in found if s.service == "back")


def test_the_least_noise_is_a_twentieth_of_the_usual_cost_or_two_failures():
    normal = steady(30)
    assert first(normal).evidence[0]["noise"] == pytest.approx(0.05 * 100 * 0.1)
    assert first(normal, "availability", -50).evidence[0]["noise"] == 2.0
    config = MetricsConfig(min_latency_share=0.3, min_failures=7.0)
    assert first(normal, config=config).evidence[0]["noise"] == pytest.approx(0.3 * 100 * 0.1)
    assert first(normal, "availability", -50, config).evidence[0]["noise"] == 7.0


def test_noise_is_that_of_the_windows_after_twenty_and_of_students_t_after_five_intervals():
    restless = steady(21)  # 20 windows of two rows
    restless.loc[::2, ("back", "latency", "Average")] = 0.2
    assert first(restless).evidence[0]["noise"] == pytest.approx(0.05 * 100 * 0.2)
    usual = 0.1 + 0.1 * (np.arange(20) % 2 == 0)
    width = student_quantile(0.99, np.array([19]))[0] * usual.std(ddof=1) * 100
    few = first(restless.iloc[:20])
    assert few.evidence[0]["noise"] == pytest.approx(width)
    known = first(restless.iloc[:20], config=MetricsConfig(min_windows=19))
    assert known.evidence[0]["noise"] < width / 2
    for rows, share in ((5, 0.05), (4, 0.5)):
        assert first(steady(rows)).evidence[0]["noise"] == pytest.approx(share * 100 * 0.1)
    few = first(steady(5), config=MetricsConfig(min_intervals=6))
    assert few.evidence[0]["noise"] == pytest.approx(0.5 * 100 * 0.1)
    unknown = first(steady(4), config=MetricsConfig(unknown_share=0.7))
    assert unknown.evidence[0]["noise"] == pytest.approx(0.7 * 100 * 0.1)


def test_noise_is_what_one_normal_window_in_a_hundred_exceeds():
    normal = steady(102)  # 101 windows: the 99th percentile is the second largest excess
    normal.loc[normal.index[50], ("back", "latency", "Average")] = 0.4  # 30 s
    normal.loc[normal.index[80], ("back", "latency", "Average")] = 0.3  # 20 s
    assert first(normal).evidence[0]["noise"] == pytest.approx(20)
    assert first(normal, config=MetricsConfig(quantile=1.0)).evidence[0]["noise"] == pytest.approx(
        30
    )


def test_an_excess_of_three_times_the_noise_has_the_confidence_of_one_half():
    assert first(steady(30), change=3 * 0.005).confidence == pytest.approx(0.5)
    config = MetricsConfig(noise_ratio=1.0)
    assert first(steady(30), change=0.005, config=config).confidence == pytest.approx(0.5)


@pytest.mark.parametrize(("part", "is_bridged"), [(0.51, True), (0.49, False)])
def test_a_missing_call_needs_half_of_the_excess(part, is_bridged):
    found = bridged(top=(100, 100, 0), b=(100 * part, 100 * part, 0))
    assert found == ({"top"} if is_bridged else set())


@pytest.mark.parametrize(("cosine", "is_bridged"), [(0.91, True), (0.89, False)])
def test_a_missing_call_needs_a_similar_course(cosine, is_bridged):
    other = 100 * np.sqrt(1 - cosine**2)
    found = bridged(top=(100, 0, 0), b=(100 * cosine, other, 0))
    assert found == ({"top"} if is_bridged else set())


def test_no_missing_call_is_assumed_with_a_cosine_above_one():
    abnormal = planted(made(5, 2), "lambda", "latency", 40)
    calls = [call for call in CALLS if call != ("gate", "lambda")]
    config = MetricsConfig(min_cosine=2.0)
    found = lab.rank_from_metrics(NORMAL, abnormal, calls, alarm(abnormal), config=config)
    assert sum(s.evidence[0]["bridged"] for s in found) == 0


def test_intervals_may_differ_by_one_percent():
    assert first(steady(30, step=302)).service == "back"
    with pytest.raises(ValueError, match="intervals of one length, got 306 s and 300 s"):
        first(steady(30, step=306))


@pytest.mark.parametrize("field", [field.name for field in fields(MetricsConfig)])
@pytest.mark.parametrize("value", [-0.1, np.nan, True, "much"])
def test_an_unusable_constant_is_refused(field, value):
    with pytest.raises(FieldError, match=f"{field} must be a number between 0 and"):
        MetricsConfig(**{field: value})


def test_a_quantile_is_at_most_one():
    assert MetricsConfig(quantile=1.0).quantile == 1
    with pytest.raises(FieldError, match="quantile must be a number between 0 and 1, got 1.1"):
        MetricsConfig(quantile=1.1)


# ---- a shop of nine nodes


@pytest.mark.parametrize("metric", ["latency", "availability"])
@pytest.mark.parametrize("node", [n for n in NODES if n != "robot"])
def test_the_node_with_the_fault_comes_first(node, metric):
    for seed in range(5):
        first = ranked(planted(made(5, seed, 1.1, 9e6), node, metric, 40), metric)[0]
        assert (first.service, first.name) == (node, node)
        assert first.score > 0
        assert first.confidence > 0.5


@pytest.mark.parametrize("metric", ["latency", "availability"])
def test_normal_windows_are_silent(metric):
    fresh = made(405, seed=7)
    quiet = [silent(ranked(fresh.iloc[k : k + 5], metric)) for k in range(0, 400, 10)]
    assert np.mean(quiet) >= 0.95


@pytest.mark.parametrize("level", [0.5, 2.0])
def test_levels_that_have_drifted_since_are_silent(level):
    assert np.mean([silent(ranked(made(5, seed, level))) for seed in range(60)]) >= 0.95


def drifted(frame):
    """The frame after months in which one node became slower, and another one faster."""
    frame = frame.copy()
    frame["queue", "latency", "Average"] *= 2
    frame["pay", "latency", "Average"] /= 2
    return frame


@pytest.mark.parametrize("metric", ["latency", "availability"])
@pytest.mark.parametrize("node", ["front", "search", "table"])
def test_without_an_alarm_what_changes_within_the_rows_is_told_from_drift(node, metric):
    abnormal = drifted(planted(made(5, 1, 1.1, 9e6), node, metric, 60))
    first, *others = lab.rank_from_metrics(NORMAL, abnormal, CALLS)
    assert first.service == node
    assert first.confidence > 0.5
    assert {s.service for s in [first, *others] if s.score > 0}.isdisjoint({"queue", "pay"})
    # the queue is slow in the first row already: less sure than with the alarm
    told = ranked(abnormal, metric)[0]
    assert first.confidence < told.confidence
    assert first.caution.startswith("queue costs more than usual already in the first row")


def test_without_an_alarm_and_without_drift_a_change_is_as_sure_as_with_it():
    abnormal = planted(made(5, 1, 1.0, 9e6), "search", "latency", 60)
    first = lab.rank_from_metrics(NORMAL, abnormal, CALLS)[0]
    told = ranked(abnormal)[0]
    assert first.service == "search"
    assert first.confidence == pytest.approx(told.confidence, abs=0.03)
    assert first.caution == ""


def in_trouble(ratio, later, gap):
    """Suspects where x takes `ratio` times its latency in all six rows, and y `later` times from
    the second one on; `gap` intervals after the normal data.
    """
    usual = {"front": 0.3, "x": 0.05, "y": 0.05}
    steady = {(n, m, s): v for n in usual for m, s, v in table(usual[n], 100)}
    rows = 50
    normal = pd.DataFrame(steady, 300.0 * np.arange(rows))
    abnormal = normal.iloc[:6].set_axis(300.0 * np.arange(rows + gap, rows + gap + 6))
    latency = abnormal.columns.get_level_values(1) == "latency"
    extra = np.zeros((6, 3))
    extra[:, 1] = 0.05 * (ratio - 1)
    extra[1:, 2] = 0.05 * (later - 1)
    extra[:, 0] = extra.sum(axis=1)
    abnormal.loc[:, latency] += extra
    return lab.rank_from_metrics(normal, abnormal, [("front", "x"), ("front", "y")])


@pytest.mark.parametrize("later", [1.1, 1.3, 2.0, 5.0])
def test_a_small_change_later_is_not_the_cause_of_what_all_rows_show(later):
    adjoining, apart = (in_trouble(10, later, gap)[0] for gap in (2, 3))
    assert (adjoining.service, apart.service) == ("x", "x")
    assert apart.confidence < 0.5
    assert DRIFTED in apart.caution
    is_told = "After the first row y costs more." in apart.caution
    assert is_told == (later > 1.1)


def test_where_the_first_row_holds_as_much_as_changes_neither_is_vouched_for():
    # x takes 1 + k, and y 2 times its latency: from one reading to the other
    found = [in_trouble(1 + k, 2.0, 12)[0] for k in (0.1, 0.9, 1.2, 3.0)]
    assert [s.service for s in found] == ["y", "y", "x", "x"]
    assert found[0].confidence > 0.6
    assert max(s.confidence for s in found[1:]) <= 0.5
    assert found[1].caution.startswith("x costs more than usual already in the first row")


def test_without_an_alarm_drift_alone_is_silent_and_said():
    abnormal = drifted(made(5, 1, 1.1, 9e6))
    found = lab.rank_from_metrics(NORMAL, abnormal, CALLS)
    assert silent(found)
    assert DRIFTED in found[0].caution
    # the same rows, where what is usual was measured right before them
    adjoining = lab.rank_from_metrics(made(400, 0, 1.1, 9e6 - 400 * 300), abnormal, CALLS)
    assert DRIFTED not in adjoining[0].caution


def test_a_single_row_without_an_alarm_is_compared_with_what_was_usual():
    abnormal = FAULT["latency"].iloc[2:3]
    right_before = abnormal.index[0] - 300.0 * np.arange(len(NORMAL), 0, -1)
    sure = lab.rank_from_metrics(NORMAL.set_axis(right_before), abnormal, CALLS)[0]
    found = lab.rank_from_metrics(NORMAL, abnormal, CALLS)[0]
    assert (found.service, sure.service) == ("search", "search")
    # what is usual is from another time: as likely drift
    assert found.confidence == pytest.approx(sure.confidence / 2)


@pytest.mark.parametrize("back", [("table", "list"), ("lambda", "pay")])
def test_calls_back_in_a_cycle_change_no_answer(back):
    found = lab.rank_from_metrics(NORMAL, FAULT["latency"], [*CALLS, back])
    assert found[0].service == "search"


def test_of_a_cycle_through_the_alarm_the_calls_back_to_it_are_left_out():
    calls = [*CALLS, ("search", "front")]
    assert ranked(FAULT["latency"], calls=calls)[0].service == "search"


@pytest.mark.parametrize("node", ["list", "search"])
def test_an_alarm_inside_the_graph_leads_to_the_same_node(node):
    abnormal = FAULT["latency"]
    found = lab.rank_from_metrics(NORMAL, abnormal, CALLS, alarm(abnormal, node=node))
    assert found[0].service == "search"


@pytest.mark.parametrize("node", NODES)
def test_a_cheap_interval_before_the_alarm_makes_no_fault(node):
    abnormal = made(5, 9)
    abnormal.loc[abnormal.index[0], (node, "latency", "Average")] /= 10
    assert silent(ranked(abnormal))


def test_a_node_that_is_always_restless_gives_way_to_a_quiet_one():
    normal, abnormal = NORMAL.copy(), planted(made(5, 9), "gate", "latency", 5)
    swing = np.resize([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0], len(normal))
    normal["search", "latency", "Average"] *= swing
    abnormal["search", "latency", "Average"] *= [1.0, 1.0, 3.0, 1.0, 1.0]
    own = {s.service: s.evidence[0]["own"] for s in ranked(abnormal, normal=normal)}
    assert own["search"] > 1.5 * own["gate"]
    assert ranked(abnormal, normal=normal)[0].service == "gate"
    # where nobody knew that it is restless
    assert ranked(abnormal, normal=NORMAL)[0].service == "search"


def test_a_stronger_fault_is_surer():
    sure = [
        ranked(planted(made(5, 1), "search", "latency", size))[0].confidence
        for size in (0, 2, 10, 100)
    ]
    assert sure == sorted(sure)
    assert sure[0] < 0.5 < sure[-1] < 1


@pytest.mark.parametrize("node", [n for n in NODES if n != "robot"])
@pytest.mark.parametrize("lost", CALLS, ids="->".join)
def test_one_missing_call_does_not_change_the_answer(node, lost):
    calls = [call for call in CALLS if call != lost]
    assert ranked(planted(made(5, 2), node, "latency", 40), calls=calls)[0].service == node


def test_a_missing_call_is_bridged_and_said_so():
    abnormal = planted(made(5, 2), "lambda", "latency", 40)
    whole = {s.service: s.evidence[0] for s in ranked(abnormal)}
    assert sum(row["bridged"] for row in whole.values()) == 0
    cut = {
        s.service: s.evidence[0]
        for s in ranked(abnormal, calls=[c for c in CALLS if c != ("gate", "lambda")])
    }
    assert cut["lambda"]["own"] == pytest.approx(whole["lambda"]["own"])
    assert "gate" not in cut or cut["gate"]["bridged"] > 100


def test_two_excesses_are_one_only_if_they_are_alike_in_size_and_course():
    # with nothing else to go by, the smaller is the caller
    assert bridged(a=(50, 50, 0), b=(40, 40, 0)) == {"b"}
    assert bridged(a=(50, 50, 0), b=(60, 60, 0)) == {"a"}
    assert bridged(a=(50, 50, 0), b=(40, 45, 5)) == {"b"}
    assert bridged(a=(50, 50, 0), b=(0, 40, 40)) == set()  # another course
    assert bridged(top=(60, 60, 0), b=(40, 40, 0)) == {"top"}
    # another size: 80 s are not what made 180 s
    assert bridged(top=(90, 90, 0), b=(40, 40, 0)) == set()
    assert bridged(a=(50, 50, 0)) == set()


@pytest.mark.parametrize("metric", ["latency", "availability"])
def test_evidence_equals_the_slow_account(metric):
    abnormal = FAULT[metric]
    expected = naive.own_excess(NORMAL, abnormal, CALLS, metric)
    found = {s.service: s.evidence[0] for s in ranked(abnormal, metric)}
    assert "search" in found
    for node, row in found.items():
        assert (row["node"], row["metric"]) == (node, metric)
        for name, value in expected[node].items():
            assert row[name] == pytest.approx(value, abs=1e-9), (node, name)
    left_out = set(NODES) - set(found)
    assert all(
        expected[node]["own"] - expected[node].get("bridged", 0) <= 1e-9 for node in left_out
    )


def test_the_score_is_what_exceeds_the_noise_and_shares_add_up():
    suspects = ranked(FAULT["latency"])
    for suspect in suspects:
        (row,) = suspect.evidence
        assert suspect.score == pytest.approx(row["own"] - row["noise"])
        assert row["own"] == pytest.approx(row["excess"] - row["passed_on"] - row["bridged"])
        assert suspect.confidence == pytest.approx(row["own"] / (row["own"] + 3 * row["noise"]))
    assert sum(s.share for s in suspects) == pytest.approx(1)
    assert [s.score for s in suspects] == sorted((s.score for s in suspects), reverse=True)


def test_a_callee_is_shared_among_its_callers_by_what_they_can_have_sent():
    normal = pd.DataFrame(
        {(n, m, s): v for n, r in (("a", 30), ("b", 500), ("c", 90)) for m, s, v in table(1.0, r)},
        300.0 * np.arange(9),
    )
    abnormal = normal.iloc[:5].copy()
    # 180 s; b serves 500, but c only ever saw 90
    abnormal.loc[900:, ("c", "latency", "Average")] += 1
    abnormal.loc[300:300, ("a", "latency", "Average")] += 10
    abnormal.loc[600:600, ("b", "latency", "Average")] += 10
    found = lab.rank_from_metrics(
        normal, abnormal, [("a", "c"), ("b", "c")], alarm(abnormal, node="a")
    )
    rows = {s.service: s.evidence[0] for s in found}
    assert rows["c"]["excess"] == pytest.approx(180)
    assert rows["a"]["passed_on"] == pytest.approx(180 * 30 / 120)
    assert rows["b"]["passed_on"] == pytest.approx(180 * 90 / 120)


@pytest.mark.parametrize("gone", ["search", "front", "table"])
def test_a_node_without_normal_data_can_still_be_named(gone):
    normal = NORMAL.drop(columns=gone, level=0)
    assert ranked(FAULT["latency"], normal=normal)[0].service == "search"
    never = NORMAL.copy()
    never.loc[:, (gone, "latency", "Average")] = np.nan
    never.loc[:, (gone, "requests", "Sum")] = 0.0
    assert ranked(FAULT["latency"], normal=never)[0].service == "search"


def test_a_node_that_was_never_seen_before_is_not_blamed():
    abnormal = FAULT["latency"].copy()
    abnormal.loc[abnormal.index[0], ("robot", "latency", "Average")] = np.nan
    abnormal.loc[abnormal.index[0], ("robot", "requests", "Sum")] = 0
    abnormal.loc[abnormal.index[1:], ("robot", "latency", "Average")] = 1000.0
    suspects = ranked(abnormal, normal=NORMAL.drop(columns="robot", level=0))
    assert [s.service for s in suspects][0] == "search"
    assert "robot" not in {s.service for s in suspects}


def test_an_interval_without_requests_changes_nothing():
    abnormal = FAULT["latency"].copy()
    abnormal.loc[abnormal.index[2], ("gate", "latency", "Average")] = np.nan
    abnormal.loc[abnormal.index[2], ("gate", "requests", "Sum")] = 0
    suspects = ranked(abnormal)
    assert suspects[0].service == "search"
    assert all(np.isfinite([s.score, s.confidence, s.share]).all() for s in suspects)


@pytest.mark.parametrize("metric", ["latency", "availability"])
def test_holes_in_the_frames_are_no_numbers(metric):
    rng = np.random.default_rng(0)
    for seed in range(10):
        abnormal = planted(made(5, seed), "search", metric, 40)
        suspects = ranked(
            abnormal.mask(rng.random(abnormal.shape) < 0.2),
            metric,
            NORMAL.mask(rng.random(NORMAL.shape) < 0.2),
        )
        assert all(np.isfinite([s.score, s.confidence, s.share]).all() for s in suspects)
        assert all(0 < s.confidence < 1 for s in suspects)


def test_a_cost_that_was_not_measured_does_not_count_in_the_mean():
    abnormal = FAULT["latency"].copy()
    abnormal.loc[abnormal.index[4], ("search", "latency", "Average")] = np.nan
    (row,) = ranked(abnormal)[0].evidence
    served, cost = (
        abnormal["search", m, s].iloc[1:4] for m, s in (("requests", "Sum"), ("latency", "Average"))
    )
    assert row["now"] == pytest.approx((served * cost).sum() / served.sum())


def test_a_node_that_was_rarely_used_has_no_known_noise():
    normal = NORMAL.copy()
    normal.loc[normal.index[4:], ("search", "latency", "Average")] = np.nan
    normal.loc[normal.index[4:], ("search", "requests", "Sum")] = 0.0
    (row,) = ranked(FAULT["latency"], normal=normal)[0].evidence
    assert row["node"] == "search"
    assert row["noise"] == pytest.approx(0.5 * row["usual"] * row["requests"])


def test_a_node_that_is_not_measured_is_bridged():
    abnormal = planted(made(5, 4), "lambda", "latency", 40).drop(columns="gate", level=0)
    rows = {s.service: s.evidence[0] for s in ranked(abnormal)}
    assert next(iter(rows)) == "lambda"
    assert "pay" not in rows or rows["pay"]["passed_on"] > 0.9 * rows["lambda"]["excess"]


def test_one_failure_more_proves_nothing():
    abnormal = made(5, 6)
    for node in NODES:
        abnormal[node, "availability", "Average"] = 100.0
    abnormal.loc[abnormal.index[2], ("gate", "availability", "Average")] = 100 * (1 - 1 / 95)
    quiet = NORMAL.copy()
    for node in NODES:
        quiet[node, "availability", "Average"] = 100.0
    assert silent(ranked(abnormal, "availability", normal=quiet))


def test_the_answer_does_not_depend_on_the_order_of_columns_or_calls_and_inputs_stay_untouched():
    normal, abnormal = NORMAL.copy(), FAULT["latency"].copy()
    expected = ranked(abnormal)
    turned = ranked(
        abnormal[abnormal.columns[::-1]], normal=normal[normal.columns[::-1]], calls=CALLS[::-1] * 2
    )
    assert turned == expected
    pd.testing.assert_frame_equal(normal, NORMAL)
    pd.testing.assert_frame_equal(abnormal, FAULT["latency"])


def test_only_the_alarm_is_read_from_the_target():
    target = alarm(FAULT["latency"]) | {
        "root_cause": {"node": "pay"},
        "metadata": {"command": "make pay slow"},
    }
    assert lab.rank_from_metrics(NORMAL, FAULT["latency"], CALLS, target) == ranked(
        FAULT["latency"]
    )


def test_more_rows_before_the_alarm_are_used():
    longer = pd.concat([made(10, 8, 1.1, 9e6 - 3000), FAULT["latency"]])
    target = alarm(FAULT["latency"])
    first = lab.rank_from_metrics(NORMAL, longer, CALLS, target)[0]
    assert first.service == "search"
    served = longer.loc[
        9e6:, ("search", "requests", "Sum")
    ].sum()  # row 10, the last before the alarm, counts as doubtful
    assert first.evidence[0]["requests"] == served


def test_without_any_call_every_node_stands_alone():
    suspects = ranked(FAULT["latency"], calls=[])
    assert all(s.evidence[0]["passed_on"] == 0 for s in suspects)


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_a_short_normal_part_leaves_the_noise_unknown(rows):
    first = ranked(FAULT["latency"], normal=NORMAL.iloc[:rows])[0]
    (row,) = first.evidence
    assert first.service == "search"
    assert row["noise"] == pytest.approx(0.5 * row["usual"] * row["requests"])


LATENCY = ("search", "latency", "Average")


def without(*columns):
    return lambda f: f.drop(columns=list(columns))


def put(column, value):
    def change(frame):
        frame = frame.astype(object) if isinstance(value, str) else frame.copy()
        frame.loc[frame.index[2], column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            without(("front", "requests", "Sum")),
            r"abnormal must measure the latency and the requests of the target's node, .*'front'",
        ),
        (
            without(("front", "latency", "Average")),
            r"abnormal must measure the latency and the requests of the target's node, .*'front'",
        ),
        (without("front"), r"target node must be one of abnormal's 8 nodes, got 'front'"),
        (lambda f: f.iloc[:0], r"abnormal must have at least 2 interval\(s\), got 0"),
        (lambda f: f.iloc[:1], r"abnormal must have at least 2 interval\(s\), got 1"),
        (lambda f: f.iloc[::-1], r"abnormal index must increase, got 9001200.0 before 9000900.0"),
        (
            lambda f: f.iloc[[0, 1, 1, 2]],
            r"abnormal index must increase, got 9000300.0 before 9000300.0",
        ),
        (
            lambda f: f.set_axis(list("abcde")),
            "abnormal must be indexed by Unix seconds or times, got .* from a",
        ),
        (
            lambda f: f.set_axis([0, 300, np.nan, 900, 1200]),
            "abnormal must be indexed by Unix seconds",
        ),
        (
            lambda f: pd.concat({"x": f}, axis=1),
            r"abnormal must have columns \(node, metric\[, statistic\]\) or .*, got 4 levels",
        ),
        (
            lambda f: pd.concat([f, f[[LATENCY]]], axis=1),
            "abnormal must have each column once, got .*'search'",
        ),
        (
            put(LATENCY, np.inf),
            r"abnormal column \('search', 'latency', 'Average'\) must be finite, .* got inf",
        ),
        (put(LATENCY, -1.0), r"from 0 to inf, got -1.0"),
        (
            put(LATENCY, "slow"),
            r"abnormal must hold numbers in the column \('search', 'latency', 'Average'\)",
        ),
        (
            put(("search", "requests", "Sum"), -3.0),
            r"\('search', 'requests', 'Sum'\) must be finite, .* got -3.0",
        ),
    ],
)
def test_an_unusable_abnormal_frame_is_refused(change, said):
    target = alarm(FAULT["latency"])
    with pytest.raises(ValueError, match=said):
        lab.rank_from_metrics(NORMAL, change(FAULT["latency"]), CALLS, target)


@pytest.mark.parametrize(
    "form",
    [
        lambda pairs: pd.DataFrame(pairs, columns=["caller", "callee"]).assign(calls=1),
        np.array,
        lambda pairs: {
            caller: [callee for by, callee in pairs if by == caller] for caller, _ in pairs
        },
        lambda pairs: dict.fromkeys(pairs, 5),
        lambda pairs: [tuple(map(np.str_, pair)) for pair in pairs],
    ],
)
def test_calls_may_be_a_table_an_array_or_a_mapping(form):
    target = alarm(FAULT["latency"])
    found = lab.rank_from_metrics(NORMAL, FAULT["latency"], form(CALLS), target)
    assert found == lab.rank_from_metrics(NORMAL, FAULT["latency"], CALLS, target)


def test_calls_may_be_a_directed_graph():
    nx = pytest.importorskip("networkx")
    target = alarm(FAULT["latency"])
    found = lab.rank_from_metrics(NORMAL, FAULT["latency"], nx.MultiDiGraph(CALLS), target)
    assert found == lab.rank_from_metrics(NORMAL, FAULT["latency"], CALLS, target)
    with pytest.raises(ValueError, match="calls, as a graph, must be directed from callers to"):
        lab.rank_from_metrics(NORMAL, FAULT["latency"], nx.Graph(CALLS))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (pd.DataFrame({"from": ["a"]}), r"must have the columns caller and callee, got \['from'\]"),
        ({"front": "search"}, "must have a list of callees for each caller, got 'search' of 'fr"),
    ],
)
def test_calls_without_a_direction_are_refused(calls, said):
    with pytest.raises(ValueError, match=said):
        lab.rank_from_metrics(NORMAL, FAULT["latency"], calls)


def test_an_availability_above_a_hundred_percent_is_refused():
    with pytest.raises(ValueError, match="from 0 to 100, got 101.0; if it is no success, name"):
        ranked(
            put(("gate", "availability", "Average"), 101.0)(FAULT["availability"]), "availability"
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.iloc[:0], r"normal must have at least 1 interval\(s\), got 0"),
        (lambda f: None, "normal must be a DataFrame, got NoneType"),
        (
            lambda f: f.drop(columns="latency", level=1),
            r"normal must measure the latency of a node of abnormal, got none",
        ),
        (
            lambda f: f.rename(columns=str.upper, level=0),
            "normal must measure a node of abnormal, which has 'front', .* got 'FRONT', ",
        ),
        (lambda f: f.iloc[::-1], "normal index must increase"),
        (put(LATENCY, np.inf), r"normal column \('search', 'latency', 'Average'\) must be finite"),
    ],
)
def test_an_unusable_normal_frame_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        ranked(FAULT["latency"], normal=change(NORMAL))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (
            [("front", "search", 3)],
            r"calls must be pairs \(caller, callee\), got \('front', 'search', 3\)",
        ),
        (["ab"], r"calls must be pairs \(caller, callee\), got 'ab'"),
        (
            [("Front", "Search")],
            "calls must name nodes of abnormal, got only others, such as 'Front'",
        ),
    ],
)
def test_unusable_calls_are_refused(calls, said):
    with pytest.raises(ValueError, match=said):
        ranked(FAULT["latency"], calls=calls)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"node": "Front"}, "target node must be one of abnormal's 9 nodes, got 'Front'"),
        ({"metric": None}, "target metric must be a name, got None"),
        ({"timestamp": "noon"}, "timestamp must be a time or a number of seconds, got 'noon'"),
        ({"timestamp": float("nan")}, "timestamp must be a time or a number of seconds, got nan"),
        ({"timestamp": pd.NaT}, "timestamp must be a time or a number of seconds, got NaT"),
    ],
)
def test_an_unusable_target_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        lab.rank_from_metrics(NORMAL, FAULT["latency"], CALLS, alarm(FAULT["latency"]) | change)


@pytest.mark.parametrize("key", ["node", "metric", "timestamp"])
def test_a_target_with_something_missing_is_refused(key):
    target = {k: v for k, v in alarm(FAULT["latency"]).items() if k != key}
    with pytest.raises(ValueError, match=f"target must have '{key}'"):
        lab.rank_from_metrics(NORMAL, FAULT["latency"], CALLS, target)


def test_a_node_that_was_excused_excuses_nobody_below():
    abnormal = planted(made(5, 1027), "lambda", "latency", 40)
    lost = [("gate", "lambda"), ("front", "pay"), ("front", "queue")]
    assert ranked(abnormal, calls=[c for c in CALLS if c not in lost])[0].service == "lambda"


def test_two_missing_calls_seldom_change_the_answer():
    pairs = itertools.combinations(CALLS, 2)
    nodes = itertools.cycle(("search", "table", "lambda", "pay"))
    right = []
    for k, (node, lost) in enumerate(zip(nodes, pairs, strict=False)):
        abnormal = planted(made(5, 100 + k), node, "latency", 40)
        right.append(ranked(abnormal, calls=[c for c in CALLS if c not in lost])[0].service == node)
    assert np.mean(right) >= 0.95


def test_intervals_of_another_length_are_no_measure():
    minutes = NORMAL.set_index(NORMAL.index[0] + 60.0 * np.arange(len(NORMAL)))
    with pytest.raises(ValueError, match="must have intervals of one length, got 60 s and 300 s"):
        ranked(FAULT["latency"], normal=minutes)


@pytest.mark.parametrize("calls", ["front", 3, [1], [("front", 2)]], ids=str)
def test_calls_that_are_no_pairs_of_names_are_refused(calls):
    with pytest.raises(ValueError, match="calls must be pairs"):
        ranked(FAULT["latency"], calls=calls)
