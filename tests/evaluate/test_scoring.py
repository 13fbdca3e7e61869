import math
import threading
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.incidents import Incident
from aiops_lab.evaluate.scoring import estimate, rank_of, score, top
from aiops_lab.evaluate.sweep import sweep
from aiops_lab.explain.rules import RULES
from aiops_lab.record.faults import FaultLog
from aiops_lab.results import Suspect, Verdict
from tests.support.made import BEGIN, Shop, fault

# Times are seconds after the start of an hour that was recorded in windows of 10 s.


def at(second):
    return (
        pd.NaT
        if second is None
        else pd.Timestamp(BEGIN, unit="ns", tz="UTC") + pd.Timedelta(second, unit="s")
    )


def faults(*rows, **columns):
    """(endpoint, start, end) of each fault."""
    table = {"kind": "delay", "service": "shop", "endpoint": [r[0] for r in rows]}
    times = {
        name: pd.to_datetime([at(r[n]) for r in rows], utc=True)
        for n, name in ((1, "start"), (2, "end"))
    }
    return pd.DataFrame(table | times | columns, index=range(len(rows)))


def seen(endpoint, *ends, kind="latency_anomaly"):
    return [lab.Anomaly(kind, "shop", endpoint, at(end - 10), at(end)) for end in ends]


def incident(name, anomalies, suspects=()):
    first, last = min(a.end for a in anomalies), max(a.end for a in anomalies)
    found = [Suspect("shop", endpoint, 1.0) for endpoint in suspects]
    started = min(a.window for a in anomalies)
    return Incident(name, first, started, last, anomalies=anomalies, verdict=Verdict(tuple(found)))


def report(*incidents, seconds=3600):
    windows = pd.DataFrame({"window": [at(0), at(seconds - 10)], "end": [at(10), at(seconds)]})
    return lab.Report(windows, [a for i in incidents for a in i.anomalies], list(incidents))


def lasting(endpoint, *ends, suspects=()):
    """One incident of an endpoint."""
    return incident("I", seen(endpoint, *ends), suspects)


def scored(truth, *incidents, **given):
    return score(report(*incidents), truth, **given)


FAULT = faults(("/payment", 100, 200))


# ---- incidents against faults


def test_one_incident_for_one_fault():
    found = scored(FAULT, lasting("/payment", 110, 120, suspects=["/payment"]))
    assert (found.faults, found.incidents, found.pages, found.hours) == (1, 1, 1, 1.0)
    assert (found.precision, found.recall, found.false_incidents_per_hour) == (1.0, 1.0, 0.0)
    assert (found.median_detect_s, found.worst_detect_s) == (10.0, 10.0)
    assert found.missed_minutes == pytest.approx(10 / 60)
    assert found.ranks == (1,)
    assert found.events == (("shop", "/payment", at(100), 10.0, ("I",)),)


def test_a_fault_that_nobody_tells_of_is_missed_for_all_its_minutes():
    found = scored(faults(("/payment", 100, 220)))
    assert (found.recall, found.missed_minutes) == (0.0, 2.0)
    assert math.isnan(found.precision)  # nothing was said, so nothing was wrong
    assert math.isnan(found.median_detect_s)
    assert math.isnan(found.worst_detect_s)
    assert math.isnan(found.events[0].detect_s)
    assert found.events[0].incidents == ()


def test_without_a_fault_every_incident_is_false():
    two = report(lasting("/payment", 110), incident("J", seen("/health", 990)), seconds=7200)
    found = score(two, faults())
    assert (found.precision, found.false_incidents_per_hour, found.ranks) == (0.0, 1.0, ())
    assert math.isnan(found.recall)
    assert found.missed_minutes == 0.0


def test_no_faults_and_no_incidents_is_a_quiet_day():
    found = scored(faults())
    assert (found.faults, found.incidents, found.false_incidents_per_hour, found.pages) == (
        0,
        0,
        0.0,
        0,
    )
    assert found.top1.n == 0


def test_an_incident_before_its_fault_is_a_false_one():
    early = lasting("/checkout", 80, 90, suspects=["/payment"])
    found = scored(FAULT, early)
    assert (found.precision, found.recall, found.false_incidents_per_hour) == (0.0, 0.0, 1.0)
    in_time = lasting("/checkout", 110, 120, suspects=["/payment"])
    assert scored(FAULT, in_time).precision == 1.0


def test_what_began_before_the_fault_and_goes_on_does_not_tell_of_it():
    going_on = lasting("/checkout", 80, 90, 100, 110, 120)
    assert scored(FAULT, going_on).recall == 0.0
    after_a_pause = lasting("/checkout", 80, 90, 110, 120)
    assert scored(FAULT, after_a_pause).recall == 1.0
    at_its_place = lasting("/payment", 80, 90, 100, 110, 120)
    assert scored(FAULT, at_its_place).median_detect_s == 10.0


def test_two_incidents_for_one_fault_are_both_true_and_badly_grouped():
    split = report(lasting("/payment", 110, 120), incident("J", seen("/checkout", 120, 130)))
    found = score(split, FAULT)
    assert (found.precision, found.recall, found.pages) == (1.0, 1.0, 2)
    # 4 anomalies, 6 pairs of one fault; 1 + 1 pairs of one incident, both of one fault
    assert found.grouping_f1 == pytest.approx(2 * 2 / (2 + 6))
    assert found.events[0].incidents == ("I", "J")
    one = report(incident("I", seen("/payment", 110, 120) + seen("/checkout", 120, 130)))
    assert score(one, FAULT).grouping_f1 == 1.0


def test_faults_of_two_endpoints_in_one_incident_are_both_detected():
    both = incident(
        "I",
        seen("/payment", 110, 120) + seen("/inventory", 150),
        ["/checkout", "/inventory", "/payment"],
    )
    truth = faults(("/payment", 100, 200), ("/inventory", 130, 200))
    found = scored(truth, both)
    assert (found.recall, found.precision) == (1.0, 1.0)
    assert [e.detect_s for e in found.events] == [10.0, 20.0]
    assert (found.median_detect_s, found.worst_detect_s) == (15.0, 20.0)
    assert found.ranks == (2,)
    # 3 pairs in one incident, 1 of them of one fault
    assert found.grouping_f1 == pytest.approx(2 * 1 / (3 + 1))
    assert scored(truth.assign(group="linked"), both).grouping_f1 == 1.0


def test_a_second_fault_is_not_detected_by_what_the_first_one_keeps_doing():
    first = incident(
        "I", seen("/payment", *range(110, 210, 10)) + seen("/checkout", *range(110, 210, 10))
    )
    found = scored(faults(("/payment", 100, 200), ("/inventory", 130, 200)), first)
    assert found.recall == 0.5
    new = incident(
        "I", seen("/payment", *range(110, 210, 10)) + seen("/checkout", 150, kind="error_spike")
    )
    assert scored(faults(("/payment", 100, 200), ("/inventory", 130, 200)), new).recall == 1.0


def test_a_fault_counts_once_however_many_windows_tell_of_it():
    """With point adjustment the second recording would look forty times as good as the first."""
    truth = faults(("/payment", 100, 500), ("/inventory", 1000, 1400))
    once, often = [report(lasting("/payment", *ends)) for ends in ([110], range(110, 510, 10))]
    assert score(once, truth).recall == score(often, truth).recall == 0.5
    assert (
        score(once, truth).missed_minutes
        == score(often, truth).missed_minutes
        == pytest.approx((10 + 400) / 60)
    )


def test_an_anomaly_elsewhere_counts_unless_the_truth_says_that_nothing_happened_there():
    bystander = report(lasting("/health", 150))
    truth = FAULT
    assert score(bystander, truth).recall == 1.0
    assert (
        score(
            bystander, truth.assign(affected=[[("shop", "/payment"), ("shop", "/checkout")]])
        ).recall
        == 0.0
    )


def test_an_anomaly_may_come_late_but_not_too_late():
    truth = FAULT
    assert scored(truth, lasting("/payment", 260)).recall == 1.0
    assert scored(truth, lasting("/payment", 280)).recall == 0.0
    assert scored(truth, lasting("/payment", 280), slack_s=80).recall == 1.0
    late = scored(truth, lasting("/payment", 260))
    # no more than it lasted
    assert (late.median_detect_s, late.missed_minutes) == (160.0, pytest.approx(100 / 60))


def test_a_fault_that_has_not_ended_lasts_to_the_end_of_the_recording():
    found = scored(faults(("/payment", 3000, None)), lasting("/health", 50))
    assert found.missed_minutes == 10.0
    assert scored(faults(("/payment", 3000, None)), lasting("/payment", 3510)).recall == 1.0


def test_a_fault_without_an_endpoint_is_a_whole_service():
    truth = FAULT.assign(endpoint=None)
    found = scored(truth, lasting("/inventory", 110, suspects=["/inventory"]))
    assert found.ranks == (1,)
    assert scored(
        truth.assign(service="x"), lasting("/inventory", 110, suspects=["/inventory"])
    ).ranks == (0,)


def test_an_incident_that_was_reopened_paged_twice():
    twice = lasting("/payment", 110)
    twice.earlier.append((at(40), at(60)))
    assert scored(FAULT, twice).pages == 2


def test_false_incident_minutes_by_hand():
    """faults 100-200 and 160-300; at work 90-110 (10 s too early), 150-310 (10 s too long), 400-430
    (30 s)
    """
    truth = faults(("/payment", 100, 200), ("/inventory", 160, 300))
    two = [lasting("/payment", 100, 110), incident("J", seen("/payment", 160, 310))]
    later = incident("K", seen("/health", 410, 430))
    assert scored(truth, *two, later).false_incident_minutes == pytest.approx(50 / 60)
    at_once = incident("L", seen("/checkout", 410, 420))  # two at once: a minute counts once
    assert scored(truth, *two, later, at_once).false_incident_minutes == pytest.approx(50 / 60)
    later.earlier.append((at(600), at(660)))
    assert scored(truth, *two, later).false_incident_minutes == pytest.approx(110 / 60)
    assert scored(truth).false_incident_minutes == 0.0


def test_an_incident_that_never_ends_is_found_out_by_its_false_minutes_only():
    endless, truth = (
        lasting("/payment", *range(10, 3610, 10)),
        faults(("/payment", 600, 900)),
    )
    found = scored(truth, endless)
    assert (found.precision, found.recall, found.median_detect_s, found.pages) == (
        1.0,
        1.0,
        10.0,
        1,
    )
    assert found.false_incident_minutes == 55.0
    # it lasts to the end
    assert scored(faults(("/payment", 600, None)), endless).false_incident_minutes == 10.0


def test_the_cost_of_a_day_counts_pages_and_missed_minutes():
    found = score(report(lasting("/health", 50), seconds=7200), faults(("/payment", 100, 700)))
    assert found.cost_per_day(page=5, missed_minute=2) == 24 / 2 * (1 * 5 + 10 * 2)
    assert found.cost_per_day(page=0, missed_minute=0) == 0.0
    assert math.isnan(
        score(lab.Report(report().windows.iloc[:0], [], []), faults()).cost_per_day(1, 1)
    )


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="faults must have the column 'start'"):
        scored(faults().drop(columns="start"))


def test_the_log_of_faults_is_what_score_takes(tmp_path):
    with FaultLog(tmp_path / "log.sqlite") as log:
        assert scored(log.faults()).faults == 0
        log.start(lab.Fault("delay", "shop", "/payment", duration_ms=300), BEGIN + 100 * 10**9)
        assert scored(log.faults(), lasting("/payment", 110)).recall == 1.0


# ---- ranks and their intervals


def test_the_rank_of_a_cause_is_its_place_among_the_suspects():
    suspects = [Suspect("shop", e, 1.0) for e in ("/a", "/b", "/c", "/d")]
    assert rank_of(suspects, [("shop", "/c")]) == 3
    # of several causes the first that is named
    assert rank_of(suspects, [("shop", "/d"), ("shop", "/b")]) == 2
    assert rank_of(suspects, [("other", "/a")]) == 0
    assert rank_of(suspects, [("shop", None)]) == 1
    assert rank_of([], [("shop", "/a")]) == 0


def test_ranks_are_averaged_over_the_incidents_that_tell_of_a_fault():
    places = [["/payment"], ["/checkout", "/payment"], [], ["/a", "/b", "/c", "/payment"]]
    several = [
        incident(f"I{n}", seen("/payment", 1000 * n + 110), named) for n, named in enumerate(places)
    ]
    truth = faults(*(("/payment", 1000 * n + 100, 1000 * n + 200) for n in range(4)))
    found = scored(truth, *several, incident("false", seen("/health", 500), ["/health"]))
    assert found.ranks == (1, 2, 0, 4)
    assert found.top1.value == 1 / 4
    assert found.top3.value == 2 / 4
    assert (found.top1.n, found.precision) == (4, 4 / 5)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    bounds = [estimate(rng.random(60) < 0.7, times=300) for _ in range(200)]
    assert 0.90 <= np.mean([e.low <= 0.7 <= e.high for e in bounds]) <= 0.98


def test_runs_that_belong_together_are_resampled_together():
    rng, inside = np.random.default_rng(5), []
    for _ in range(200):
        of_each = rng.beta(3, 1, size=24)  # some scenarios are harder than others; 0.75 on average
        hits = (rng.random((24, 13)) < of_each[:, None]).ravel()
        bounds = [
            estimate(hits, clusters, times=300) for clusters in (np.repeat(np.arange(24), 13), None)
        ]
        inside.append([e.low <= 0.75 <= e.high for e in bounds])
    together, apart = np.mean(inside, axis=0)
    assert 0.92 <= together <= 0.99
    assert apart < 0.8


@pytest.mark.parametrize(("n", "low"), [(1, 0), (10, 0.75), (300, 0.99)])
def test_equal_values_are_no_proof_that_there_are_no_others(n, low):
    right, wrong = estimate([1] * n), estimate([0] * n)
    assert (right.value, right.low, right.high) == (1, pytest.approx(low, abs=0.01), 1)
    assert (wrong.value, wrong.low, wrong.high) == (0, 0, pytest.approx(1 - low, abs=0.01))
    assert estimate([1] * 3 * n, list(range(n)) * 3).low == right.low


def test_the_bounds_of_many_values_are_those_of_a_normal_distribution():
    found = estimate([0, 1] * 100, times=20_000)
    half = 1.96 * 0.5 / 200**0.5
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.03 * half)


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([0.5, 1.5], None, "values must be between 0 and 1, got 1.5"),
        ([0.5, math.nan], None, "values must be between 0 and 1, got nan"),
        ([0.5, 1], ["a"], r"clusters must be as long as values, got \(1,\) and \(2,\)"),
    ],
)
def test_what_has_no_interval_is_refused(values, clusters, message):
    with pytest.raises(ValueError, match=message):
        estimate(values, clusters)


def test_an_interval_is_the_same_each_time_and_narrows_with_more_values():
    few, many = estimate([1, 1, 0, 1] * 5), estimate([1, 1, 0, 1] * 500)
    assert estimate([1, 1, 0, 1] * 5) == few
    assert few.high - few.low > 5 * (many.high - many.low)
    assert estimate([1, 1, 1]) == estimate([1, 1, 1], seed=9)
    assert math.isnan(estimate([]).value)
    assert top([1, 2, 0, 4], 2).value == 0.5


# ---- a recording as a whole


RECORDING = Shop(1, fault("/payment", 200, 260, added_ms=150)).run(400, rate=8)
TRUTH = faults(("/payment", 200, 260))


def test_a_recording_is_scored_from_spans_to_cause():
    found = score(lab.replay(RECORDING), TRUTH)
    assert (found.precision, found.recall, found.top1.value) == (1.0, 1.0, 1.0)
    assert 0 < found.worst_detect_s <= 20
    wrong = score(
        lab.replay(RECORDING, rule=RULES["first by start"]), TRUTH.assign(endpoint="/inventory")
    )
    assert (wrong.recall, wrong.top1.value) == (1.0, 0.0)


GRID = {"z": [0.5, 3.0, 8.0], "ratio": [1.1, 6.0], "window_s": [10.0, 25.0]}


def assert_equals_replays(frame, truth, grid):
    rows = sweep(frame, truth, grid, progress=False)
    for row in rows.to_dict("records"):
        knobs = {knob: row[knob] for knob in grid}
        by_itself = score(lab.replay(frame, lab.Sensitivity(**knobs), causes=False), truth)
        for name, value in row.items():
            assert value == pytest.approx(
                knobs.get(name, getattr(by_itself, name, None)), nan_ok=True
            )
    return rows


def test_a_sweep_finds_at_each_point_what_a_replay_finds():
    rows = assert_equals_replays(RECORDING, TRUTH, GRID)
    assert len(rows) == 12
    assert rows["incidents"].nunique() > 1
    assert rows["ratio"].tolist()[:4] == [1.1, 1.1, 6.0, 6.0]  # the last knob runs fastest


def test_a_sweep_sees_requests_that_hang_as_a_replay_does():
    frame = Shop(1, fault("/payment", 100, 130, added_ms=400_000), patience_ms=1e9).run(400, rate=8)
    frame.loc[frame["duration_ms"] > 100_000, ["duration_ms", "status"]] = [np.nan, 0]
    knobs = {"timeout_s": [5.0, 200.0], "resolve_after_s": [30.0, 600.0]}
    rows = assert_equals_replays(frame, faults(("/payment", 100, 130)), knobs)
    assert len(set(zip(rows["incidents"], rows["worst_detect_s"], strict=True))) > 1


def test_a_sweep_pools_small_windows_as_a_replay_does():
    frame = Shop(1, fault("/payment", 300, 500, status=500)).run(600, rate=1)
    rows = assert_equals_replays(
        frame, faults(("/payment", 300, 500)), {"min_window": [2, 6], "z": [2, 3]}
    )
    assert rows["recall"].tolist() == [1.0] * 4


def test_a_sweep_groups_by_shared_traces_as_a_replay_does():
    """/payment and /inventory do not call each other; only their requests show that they belong
    together.
    """
    slow = fault("/payment", 200, 260, added_ms=130), fault("/inventory", 200, 260, added_ms=60)
    both = Shop(1, lambda e, t: slow[e == "/inventory"](e, t)).run(400, rate=8, mix=("/checkout",))
    truth = faults(("/payment", 200, 260), ("/inventory", 200, 260), group="linked")
    rows = assert_equals_replays(both, truth, {"ratio": [3.82], "shift": [1e9]})
    assert rows["incidents"].tolist() == [1]
    places = {
        a.endpoint
        for a in lab.replay(both, lab.Sensitivity(ratio=3.82, shift=1e9), causes=False).anomalies
    }
    assert places == {"/payment", "/inventory"}


def test_the_truth_does_not_flow_into_the_replays():
    other = sweep(RECORDING, faults(), GRID, progress=False)
    assert (
        other["incidents"].tolist()
        == sweep(RECORDING, TRUTH, GRID, progress=False)["incidents"].tolist()
    )
    assert (other["faults"] == 0).all()


def test_a_sweep_leaves_its_frame_alone_and_takes_other_knobs_and_detectors(capfd):
    before, threads = RECORDING.copy(), set(threading.enumerate())
    seasonal = lab.Sensitivity(seasonal=True, half_life_s=600)
    rows = sweep(
        RECORDING, TRUTH, {"z": np.arange(3, 5)}, base=seasonal, detectors=[], progress=False
    )
    assert rows["incidents"].tolist() == [0, 0]
    pd.testing.assert_frame_equal(RECORDING, before)
    assert capfd.readouterr().err == ""
    assert len(sweep(RECORDING, TRUTH, {}, base=seasonal)) == 1
    assert "replay" in capfd.readouterr().err  # the bar
    assert set(threading.enumerate()) <= threads


def test_an_unknown_knob_and_an_impossible_value_are_named():
    with pytest.raises(ValueError, match="grid must name knobs of Sensitivity, got 'zeal'"):
        sweep(RECORDING, TRUTH, {"zeal": [1]})
    with pytest.raises(ValueError, match="ratio must be >= 1, got 0"):
        sweep(RECORDING, TRUTH, {"ratio": [0]})


def test_an_empty_recording_sweeps_to_nothing_found():
    rows = sweep(lab.to_frame([]), TRUTH, {"z": [2, 3]}, progress=False)
    assert rows["incidents"].tolist() == [0, 0]
    assert rows["recall"].tolist() == [0.0, 0.0]


def test_an_incident_that_calls_nobody_counts_for_nothing():
    one = lasting("/payment", 110, 120, suspects=["/payment"])
    one.anomalies = [replace(each, severity="low") for each in one.anomalies]
    one.verdict = replace(one.verdict, is_offered=True)
    found = scored(FAULT, one)
    assert (found.incidents, found.pages, found.recall) == (0, 0, 0.0)
