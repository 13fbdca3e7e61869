import json
import math
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import cache

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab import watched_spans
from aiops_lab.detect.grouping import IllegalMoveError
from aiops_lab.detect.incidents import Incident
from aiops_lab.health import health
from aiops_lab.record import database
from tests.support.made import Shop, fault, small_shift
from tests.support.played import at, offering, play, to_spans

FAULTS = {
    "latency": (fault, ("/payment", 120, 180, 3000.0)),
    "errors": (fault, ("/inventory", 120, 180, 0.0, 500, 0.8)),
    "cascade": (fault, ("/payment", 120, 180, 0.0, 500)),
    "hang": (fault, ("/payment", 120, 180, 30000.0)),
}
CAUSE = {"latency": "/payment", "errors": "/inventory", "cascade": "/payment", "hang": "/payment"}


@cache
def recording(name: str, seconds: float = 220) -> pd.DataFrame:
    make, arguments = FAULTS[name]
    return Shop(1, make(*arguments)).run(seconds)


def test_a_shorter_patience_names_the_cause_sooner():
    """Requests that have hung for two seconds count as unanswered where the knob says so."""
    frame = Shop(1, fault("/payment", 120, 180, added_ms=30_000)).run(123)
    frame.loc[frame["duration_ms"] > 1000, ["duration_ms", "status"]] = [np.nan, 0]
    knobs = lab.Sensitivity(window_s=1, timeout_s=1)
    (incident,) = lab.replay(frame, knobs, until=at(123)).incidents
    assert incident.root_cause.endpoint == "/payment"
    assert lab.replay(frame, lab.Sensitivity(window_s=1), until=at(123)).incidents == []


@pytest.mark.parametrize("name", FAULTS)
def test_each_scenario_is_one_incident_with_its_true_cause(name):
    (incident,) = lab.replay(recording(name)).incidents
    assert incident.root_cause.endpoint == CAUSE[name]
    assert incident.affected_endpoints == [CAUSE[name], "/checkout"]
    assert incident.root_cause.confidence > 0.95
    k, n = incident.root_cause.support
    assert k > 0.95 * n > 50


@pytest.mark.parametrize("seed", range(5))
def test_clean_traffic_raises_nothing(seed):
    report = lab.replay(Shop(seed).run(300))
    assert report.anomalies == []
    assert len(report.windows) > 100


@pytest.mark.parametrize(
    ("name", "interval"), [("latency", 30), ("errors", 13), ("cascade", 30), ("hang", 17)]
)
def test_live_equals_replay(tmp_path, name, interval):
    """Spans reach the store when they end; the monitor steps now and then and sees only what has
    happened.
    """
    frame = recording(name)
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        monitor = lab.Monitor(store)
        play(store, monitor, frame, interval, 230)
        live = monitor.incidents()
        report = lab.replay(store.spans(), until=monitor.judged_until)
    assert live
    assert [i.to_record() for i in live] == [i.to_record() for i in report.incidents]


def test_live_equals_replay_where_small_windows_are_pooled(tmp_path):
    frame = Shop(1, fault("/payment", 300, 500, status=500)).run(600, rate=1)
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        monitor = lab.Monitor(store)
        play(store, monitor, frame, 30, 621)
        live = monitor.incidents()
        report = lab.replay(store.spans(), until=monitor.judged_until)
    assert report.windows["seconds"].max() > 10
    assert live
    assert [i.to_record() for i in live] == [i.to_record() for i in report.incidents]


def test_a_restart_changes_nothing(tmp_path):
    frame = recording("latency")
    path = tmp_path / "spans.sqlite"
    with lab.SpanStore(path) as store:
        fill(store, frame)
        monitor = lab.Monitor(store)
        for second in (60, 100, 141):
            monitor.step(at(second))
        assert monitor.incidents()
    with lab.SpanStore(path) as store:
        again = lab.Monitor(store)
        assert again.incidents() == monitor.incidents()
        again.step(at(231))
        once = lab.replay(store.spans(), until=again.judged_until)
        assert [i.to_record() for i in again.incidents()] == [i.to_record() for i in once.incidents]


def fill(store, frame):
    for row in to_spans(frame):
        store.add(lab.Span(*row))
    store.flush()


def test_without_a_restart_nothing_is_judged_twice(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, recording("latency"))
        monitor = lab.Monitor(store)
        assert monitor.step(at(230))
        assert monitor.step(at(230)) == []
        assert monitor.step(at(100)) == []


def test_a_window_waits_for_its_grace(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, recording("latency"))
        monitor = lab.Monitor(store, lab.Sensitivity(grace_s=3))
        monitor.step(at(132.9))
        assert monitor.judged_until == at(120)
        monitor.step(at(133))
        assert monitor.judged_until == at(130)


def test_an_empty_store_has_no_windows(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        monitor = lab.Monitor(store)
        assert monitor.step(at(100)) == []
        assert monitor.judged_until is None


def test_a_replay_does_not_look_ahead():
    frame = recording("latency")
    cut = frame[frame["start"] < at(150)].copy()
    ended = cut["start"] + pd.to_timedelta(cut["duration_ms"], unit="ms")
    still_open = ~(ended < at(150))
    assert still_open.any()
    cut.loc[still_open, "duration_ms"] = np.nan
    cut.loc[still_open, "status"] = 0
    cut.loc[still_open, "error"] = None
    early = lab.replay(cut, until=at(150))
    whole = lab.replay(frame)
    before = [a for a in whole.anomalies if a.end <= at(150)]
    assert [(a.type, a.key, a.evidence) for a in early.anomalies] == [
        (a.type, a.key, a.evidence) for a in before
    ]
    pd.testing.assert_frame_equal(early.windows, whole.windows[whole.windows["end"] <= at(150)])


def test_the_order_of_the_rows_does_not_matter():
    frame = recording("errors")
    shuffled = frame.sample(frac=1, random_state=1).sort_values(
        ["start", "span_id"], ignore_index=True
    )
    first, second = lab.replay(frame), lab.replay(shuffled)
    assert [i.to_record() for i in first.incidents] == [i.to_record() for i in second.incidents]


def test_the_truth_stays_out_of_the_answer(tmp_path):
    """The messages of the errors are free text: renaming them must not change the verdict."""
    frame = recording("cascade")
    renamed = frame.assign(error=frame["error"].where(frame["error"].isna(), "X: y"))
    causes = [
        [(s.key, s.score) for s in lab.replay(f).incidents[0].suspects] for f in (frame, renamed)
    ]
    assert causes[0] == causes[1]


def test_a_detector_of_ones_own_is_a_function():
    def busy(windows, baselines, sensitivity):
        found = windows[windows["n"] > 40]
        return [
            lab.Anomaly("busy", w.service, w.endpoint, w.window, w.end, "medium", {"n": w.n})
            for w in found.itertuples()
        ]

    report = lab.replay(Shop(0).run(100, rate=20), detectors=[busy])
    assert {a.type for a in report.anomalies} == {"busy"}
    assert report.incidents[0].title.startswith("busy detected in /")


def test_a_rule_of_ones_own_is_a_function():
    def blame_health(usual, abnormal):
        return [lab.Suspect("shop", "/health", 1.0, name="/health")]

    (incident,) = lab.replay(recording("latency"), rule=blame_health).incidents
    assert incident.root_cause.endpoint == "/health"
    assert incident.verdict.ledger


def test_a_deployment_is_relearned():
    shop = Shop(2, fault("/payment", 200, 10_000, added_ms=300))
    sensitivity = lab.Sensitivity(relearn_after_s=120)
    report = lab.replay(shop.run(600), sensitivity)
    ends = [a.end for a in report.anomalies]
    assert at(200) < min(ends) <= at(220)
    assert max(ends) <= at(345)
    assert report.windows.query("endpoint == '/payment'")["baseline_ms"].iloc[-1] == pytest.approx(
        345, rel=0.1
    )


def test_an_outage_does_not_become_normal_meanwhile():
    report = lab.replay(recording("latency"))
    payment = report.windows.query("endpoint == '/payment'").set_index("window")["baseline_ms"]
    assert payment[at(170)] < 1.3 * payment[at(110)]


def test_a_creep_below_the_ratio_is_a_lasting_shift():
    def leak(endpoint, second):
        return (max(0.0, second - 200) * 0.25, 200) if endpoint == "/payment" else (0.0, 200)

    report = lab.replay(Shop(3, leak).run(400))
    first = report.anomalies[0]
    assert (first.type, first.severity) == ("sustained_shift", "low")
    assert report.incidents[0].root_cause.endpoint == "/payment"


def test_an_endpoint_that_nobody_reaches_is_missed():
    frame = Shop(4).run(300)
    lost = frame[~((frame["endpoint"] == "/inventory") & (frame["start"] > at(200)))]
    found = {(a.type, a.endpoint) for a in lab.replay(lost).anomalies}
    assert ("traffic_drop", "/inventory") in found


def test_a_shop_that_closes_for_the_night_is_not():
    frame = Shop(4).run(300)
    assert lab.replay(frame[frame["start"] < at(200)], until=at(300)).anomalies == []


def test_a_quiet_endpoint_is_not_missed():
    shop = Shop(5)
    frame = shop.run(400, mix=("/checkout",) * 50 + ("/health",))
    assert lab.replay(frame).anomalies == []


def test_each_hour_has_its_own_baseline_when_seasonal():
    def rush(endpoint, second):
        return (400.0 if second % 7200 >= 3600 and endpoint == "/payment" else 0.0), 200

    frame = Shop(6, rush).run(4 * 3600, rate=0.3, mix=("/payment",))
    # hours 0 to 3 are all different hours of the day: each has a baseline of its own to learn
    flat = lab.replay(frame, lab.Sensitivity(window_s=60))
    seasonal = lab.replay(frame, lab.Sensitivity(window_s=60, seasonal=True))
    assert flat.anomalies
    assert seasonal.anomalies == []


@pytest.mark.parametrize(("second", "reopened"), [("/payment", 1), ("/inventory", None)])
def test_only_the_same_trouble_comes_back(tmp_path, second, reopened):
    """/payment is slow and mended; soon after it, or /inventory, is slow. /checkout suffers each
    time.
    """
    before, after = (
        fault("/payment", 120, 160, added_ms=3000),
        fault(second, 260, 300, added_ms=3000),
    )

    def both(endpoint, moment):
        return before(endpoint, moment) if moment < 200 else after(endpoint, moment)

    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(1, both).run(320))
        monitor = lab.Monitor(store)
        monitor.step(at(200))
        (old,) = monitor.incidents()
        monitor.resolve(old.id, at(200))
        monitor.step(at(330))
        last = monitor.incidents()[-1]
    assert last.root_cause.endpoint == second
    assert last.affected_endpoints == [second, "/checkout"]
    assert old.root_cause.endpoint == "/payment"
    if reopened:
        assert last.id == old.id
        assert last.to_dict()["reopened"] == reopened
    else:
        assert last.recurrence_of == old.id


def test_a_later_namesake_renames_nothing():
    """Another service with the same route appears after the incident."""
    frame = Shop(1, fault("/payment", 120, 160, added_ms=3000)).run(300)
    late = other_shop(300)
    late = late[late["trace_id"].map(late.groupby("trace_id")["start"].min()) > at(220)]
    both = pd.concat([frame, late]).sort_values(["start", "span_id"], ignore_index=True)
    before, after = lab.replay(frame).incidents[0], lab.replay(both).incidents[0]
    assert after.to_record() == before.to_record()
    assert "/payment" in after.title


def other_shop(seconds):
    twin = Shop(2).run(seconds)
    for column in ("trace_id", "span_id", "parent_id"):
        twin[column] = twin[column].map(lambda i: f"f{i[1:]}", na_action="ignore")
    return twin.assign(service="other", peer=twin["peer"].where(twin["peer"].isna(), "other"))


def test_one_incident_uses_one_name_for_an_endpoint():
    """Two services share the route /payment; only one of them is touched by the incident."""
    frame = Shop(1, fault("/payment", 120, 160, added_ms=3000)).run(220)
    both = pd.concat([frame, other_shop(220)])
    (incident,) = lab.replay(both.sort_values(["start", "span_id"], ignore_index=True)).incidents
    assert incident.root_cause.name == "shop /payment"
    assert incident.affected_endpoints == ["shop /payment", "shop /checkout"]
    assert {a.name for a in incident.anomalies} == {"shop /payment", "shop /checkout"}
    assert incident.why_not("shop /checkout")


@pytest.mark.parametrize("now", [1_767_225_600, 1.5, None])
def test_a_number_is_no_time(tmp_path, now):
    with (
        lab.SpanStore(tmp_path / "s.sqlite") as store,
        pytest.raises(ValueError, match="must be a time"),
    ):
        lab.Monitor(store).step(now)


def test_a_long_silence_is_judged_in_pieces(monkeypatch):
    frame = Shop(1, fault("/payment", 120, 180, added_ms=3000)).run(220)
    whole = lab.replay(frame, until=at(3000))
    monkeypatch.setattr("aiops_lab.pipeline._MOST_WINDOWS", 7)
    pieces = lab.replay(frame, until=at(3000))
    pd.testing.assert_frame_equal(pieces.windows, whole.windows)
    assert [i.to_record() for i in pieces.incidents] == [i.to_record() for i in whole.incidents]


def test_the_life_cycle_is_kept_in_the_store(tmp_path):
    path = tmp_path / "s.sqlite"
    with lab.SpanStore(path) as store:
        fill(store, recording("latency"))
        monitor = lab.Monitor(store)
        monitor.step(at(170))
        (incident,) = monitor.incidents("active")
        monitor.acknowledge(incident.id, at(171))
        with pytest.raises(
            IllegalMoveError, match="is acknowledged and cannot become acknowledged"
        ):
            monitor.acknowledge(incident.id, at(172))
    with lab.SpanStore(path) as store:
        monitor = lab.Monitor(store)
        assert monitor.incident(incident.id).status == "acknowledged"
        monitor.resolve(incident.id, at(173))
        with pytest.raises(KeyError):
            monitor.resolve("INC-0-1", at(173))


def test_metrics_have_the_seeds_fields(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, recording("cascade"))
        monitor = lab.Monitor(store)
        monitor.step(at(170))
        metrics = monitor.metrics(at(170))
    assert list(metrics) == ["/checkout", "/health", "/inventory", "/payment"]
    payment = metrics["/payment"]
    assert set(payment) >= {
        "request_count",
        "avg_latency_ms",
        "error_rate",
        "baseline_latency_ms",
        "status_distribution",
        "health",
    }
    assert payment["request_count"] == sum(payment["status_distribution"].values())
    assert 0 < payment["error_rate"] < 1
    assert payment["baseline_latency_ms"] == pytest.approx(45, rel=0.2)
    assert payment["health"]["status"] == "degraded" or payment["health"]["status"] == "unhealthy"
    assert metrics["/health"]["health"]["status"] == "healthy"


@pytest.mark.parametrize(
    ("average", "usual", "errors", "score", "band"),
    [
        (100, 100, 0.0, 100.0, "healthy"),
        (200, 100, 0.0, 75.0, "degraded"),
        (50, 100, 0.5, 50.0, "unhealthy"),
        (1e9, 1, 1.0, 0.0, "unhealthy"),
        (10, None, 0.0, 100.0, "learning"),
        (None, None, 0.0, 100.0, "learning"),
    ],
)
def test_health_by_hand(average, usual, errors, score, band):
    assert health(average, usual, errors) == {"health_score": score, "status": band}


def test_an_incident_survives_as_plain_data():
    (incident,) = lab.replay(recording("hang")).incidents
    again = Incident.from_record(json.loads(json.dumps(incident.to_record())))
    assert again == incident
    assert again.to_dict() == incident.to_dict()
    assert not math.isnan(again.root_cause.score)


def test_replay_refuses_what_is_no_spans_frame():
    with pytest.raises(ValueError, match="must have the column 'trace_id'"):
        lab.replay(pd.DataFrame({"a": [1]}))


def test_an_empty_recording_is_an_empty_report():
    report = lab.replay(lab.to_frame([]))
    assert report.windows.empty
    assert report.anomalies == report.incidents == []


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("sensitivity", 0, "sensitivity must be a Sensitivity, got 0"),
        ("config", {"n_sigma": 3}, "config must be a RcaConfig, got {'n_sigma': 3}"),
        ("detectors", 3, "detectors must be functions or `Detector` values, got 3"),
        ("detectors", [print, "latency"], r"detectors\[1\] must be a function, got 'latency'"),
        ("rule", "ledger", "rule must be a function, got 'ledger'"),
    ],
)
def test_an_argument_of_another_type_is_refused_with_its_name(argument, value, rule):
    with pytest.raises(ValueError, match=rule):
        lab.replay(recording("latency"), **{argument: value})


def test_a_replay_tells_what_was_changed_before_the_fault():
    changes = [lab.Change(at(115), "shop", "deployment 7"), lab.Change(at(300), "shop", "later")]
    (incident,) = lab.replay(recording("cascade"), changes=changes).incidents
    (row,) = incident.to_dict()["changes"]
    assert (row["what"], row["before_s"]) == ("deployment 7", 15)
    assert "deployment 7 of shop" in str(incident.explain()[-1])
    (same,) = lab.replay(recording("cascade")).incidents
    assert same.to_dict()["changes"] == []
    assert same.suspects == incident.suspects  # a change is told, and decides nothing


def test_changes_that_all_come_later_leave_a_verdict_as_it_is():
    (bare,) = lab.replay(recording("cascade")).incidents
    later = [lab.Change(bare.first_detected + pd.Timedelta("1s"), "shop", "deployment 9")]
    (told,) = lab.replay(recording("cascade"), changes=later).incidents
    assert told.to_record() == bare.to_record()


def test_a_change_until_a_lasting_shift_is_first_seen_is_told_of_it():
    """When the shift began is an estimate, which may lie before the change that caused it."""

    def leak(endpoint, second):
        return (max(0.0, second - 200) * 0.25, 200) if endpoint == "/payment" else (0.0, 200)

    frame = Shop(3, leak).run(400)
    seen = lab.replay(frame).incidents[0].first_detected
    times = [seen - pd.Timedelta("1s"), seen + pd.Timedelta("1s")]
    changes = [lab.Change(time, "shop", f"{time}") for time in times]
    incident = lab.replay(frame, changes=changes).incidents[0]
    assert incident.started < times[0] - pd.Timedelta("10s")
    assert [row["before_s"] for row in incident.to_dict()["changes"]] == [1]


def test_a_noted_change_is_in_the_verdict_after_a_restart_too(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, recording("cascade", 160))
        monitor = lab.Monitor(store)
        monitor.step(at(130))
        lab.Monitor(store).note(lab.Change(at(115), "shop", "deployment 7"))  # another process
        monitor.note(lab.Change(at(115), "shop", "deployment 7"))
        monitor.step(at(160))
        assert monitor.changes() == [lab.Change(at(115), "shop", "deployment 7")]
        for each in (monitor, lab.Monitor(store)):
            (incident,) = each.incidents()
            assert [row["what"] for row in incident.to_dict()["changes"]] == ["deployment 7"]


SLOWER = Shop(2, fault("/payment", 200, 900, added_ms=500))


def judged(path, move, *, steps=(260, 320, 400)):
    """Return the one incident of a level that stays, after somebody's `move` at its first step."""
    with lab.SpanStore(path) as store:
        fill(store, SLOWER.run(420))
        monitor = lab.Monitor(store)
        monitor.step(at(steps[0]))
        (incident,) = monitor.incidents()
        move(store, monitor)(incident.id, at(steps[0]))
        for second in steps[1:]:
            monitor.step(at(second))
        return lab.Monitor(store).incident(incident.id)


def test_a_level_that_was_accepted_is_normal_from_then_on(tmp_path):
    incident = judged(tmp_path / "a.sqlite", lambda store, monitor: monitor.accept)
    assert incident.status == "resolved"
    assert incident.last_anomaly <= at(260)
    assert incident.earlier == []


def test_a_level_that_was_only_resolved_is_an_anomaly_again(tmp_path):
    incident = judged(tmp_path / "r.sqlite", lambda store, monitor: monitor.resolve)
    assert incident.status == "active"
    assert incident.last_anomaly >= at(390)


def test_what_another_monitor_of_the_store_has_accepted_is_normal(tmp_path):
    incident = judged(tmp_path / "o.sqlite", lambda store, monitor: lab.Monitor(store).accept)
    assert (incident.status, incident.earlier) == ("resolved", [])


def test_after_a_level_was_accepted_a_higher_one_is_abnormal_and_the_others_are_as_before(tmp_path):
    def worse(endpoint, second):
        added = 500.0 if second < 330 else 5000.0
        return (added if endpoint == "/payment" and second >= 200 else 0.0), 200

    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(2, worse).run(420))
        monitor = lab.Monitor(store)
        monitor.step(at(310))
        (incident,) = monitor.incidents()
        usual = {key: monitor._pipeline.usual_ms(key, 0) for key in monitor._pipeline.keys}
        monitor.accept(incident.id, at(310))
        monitor.step(at(321))
        now = {key: monitor._pipeline.usual_ms(key, 0) for key in monitor._pipeline.keys}
        assert monitor.incident(incident.id).status == "resolved"
        monitor.step(at(420))
        assert [each.status for each in monitor.incidents()] == ["active"]
        assert store.load("accepted") == {incident.id: None}
    assert now["shop", "/payment"] > 5 * usual["shop", "/payment"]
    assert now["shop", "/inventory"] == pytest.approx(usual["shop", "/inventory"], rel=0.2)


def test_only_what_is_not_resolved_can_be_accepted(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, SLOWER.run(260))
        monitor = lab.Monitor(store)
        monitor.step(at(261))
        (incident,) = monitor.incidents()
        monitor.resolve(incident.id, at(261))
        with pytest.raises(IllegalMoveError):
            monitor.accept(incident.id, at(262))
        assert store.load("accepted") == {}
        with pytest.raises(KeyError):
            monitor.accept("INC-1-1", at(262))


def test_a_small_shift_after_a_change_is_offered_as_the_new_normal():
    frame, change = small_shift()
    incident = lab.replay(frame, changes=[change]).incidents[0]
    assert f"{incident.explain()[-1]}".count("Monitor.accept(id, now)") == 1
    assert incident.severity == "info"
    assert incident.verdict.is_offered
    bare = lab.replay(frame).incidents[0]
    assert (bare.severity, bare.verdict.is_offered) == ("low", False)


def test_a_level_that_is_offered_leaves_its_endpoint_healthy_and_is_read_back(tmp_path):
    with offering(tmp_path / "s.sqlite") as monitor:
        assert {incident.severity for incident in monitor.incidents()} == {"info"}
        assert monitor.metrics(at(400))["/payment"]["health"]["status"] == "healthy"
        again = lab.Monitor(monitor.store).incidents()
        assert {incident.severity for incident in again} == {"info"}


def test_while_the_disk_is_blocked_answers_hold_what_is_there_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    monkeypatch.setattr(watched_spans, "LOOK_S", 0.0)
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(1).run(5))
        monitor = lab.Monitor(store)
        whole = monitor.metrics(at(5))
        with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            place = None, "shop", "/late", "server", None
            store.add(lab.Span("a" * 32, "b" * 16, *place, at(4).value, 1, 200, None))
            assert monitor.metrics(at(5)) == whole
            assert "locked" in monitor.unwritten
            assert not monitor.graph(at(5)).empty
            assert monitor.timeline(at(5)).keys() == whole.keys()
        store.flush()  # as the store does by itself, soon
        assert monitor.metrics(at(5)).keys() == {*whole, "/late"}
        assert monitor.unwritten == ""


def test_a_move_waits_for_a_blocked_disk_alone_and_changes_nothing_in_the_end(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    with offering(tmp_path / "s.sqlite") as monitor, ThreadPoolExecutor(1) as pool:
        (incident,) = monitor.incidents()
        with closing(sqlite3.connect(monitor.store.path, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            monkeypatch.setattr(database, "OPEN_S", 60.0)
            move = pool.submit(monitor.acknowledge, incident.id, at(500))
            asked = pool_of_another(lambda: [each.status for each in monitor.incidents()])
            assert (move.done(), asked) == (False, ["active"])
        assert move.result(60).status == "acknowledged"
        monkeypatch.setattr(monitor._shared, "move", refuse)
        with pytest.raises(OSError, match="full"):
            monitor.resolve(incident.id, at(500))
        assert [each.status for each in monitor.incidents()] == ["acknowledged"]


def refuse(*_):
    raise OSError("the disk is full")


def test_a_step_that_waits_for_the_disk_holds_up_no_answer(tmp_path, monkeypatch):
    began, free = threading.Event(), threading.Event()
    with lab.SpanStore(tmp_path / "s.sqlite") as store, ThreadPoolExecutor(1) as pool:
        fill(store, Shop(1).run(5))
        monitor = lab.Monitor(store)
        update = store.update

        def waits(change, *timeout_s):
            began.set()
            assert free.wait(60)
            return update(change, *timeout_s)

        monkeypatch.setattr(store, "update", waits)
        step = pool.submit(monitor.step, at(20))
        assert began.wait(60)
        asked = pool_of_another(lambda: (monitor.incidents(), monitor.metrics(at(5))))
        free.set()
        step.result(60)
    assert asked


def pool_of_another(work):
    """What `work` returns in a thread of its own; TimeoutError where it waits for others."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(work).result(20)
    finally:
        pool.shutdown(wait=False)
