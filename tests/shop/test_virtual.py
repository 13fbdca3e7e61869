"""The shop in virtual time: by hand where a pencil reaches, against the live shop where it does
not.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
import shop
from aiops_lab import write_spans
from aiops_lab.record.faults import Fault
from aiops_lab.spans import COLUMNS
from shop.catalogue import SCENARIOS
from shop.shops import CHECKOUT, FORGIVING, PAYMENT
from shop.topology import SEED_SHOP, Call, Endpoint, Topology
from shop.virtual_time import simulate
from shop.virtual_time.keyed_random import BLOCK, BLOCKS_CACHED, Column, key, uniform
from shop.virtual_time.scenario import BEGIN_NS, Scenario, VirtualFault
from shop.virtual_time.twins import as_of, windows_of

A, B, C = Endpoint("a", "/a", sigma=0), Endpoint("b", "/b", sigma=0), Endpoint("c", "/c", sigma=0)
CALM = Scenario("calm", seconds=60)
MS = pd.Timedelta("1ms")


def world(*endpoints: Endpoint, seconds: float = 2.0, **more) -> Scenario:
    """A world without chance: service times as declared, no network, customers at /a only."""
    topology = Topology(endpoints, front="a")
    return Scenario(
        "by hand",
        topology=topology,
        mix={"/a": 1},
        seconds=seconds,
        network_ms=0,
        overhead_ms=0,
        **more,
    )


@pytest.fixture
def arriving(monkeypatch: pytest.MonkeyPatch):
    """Customers come at these milliseconds."""

    def come(*at_ms: float) -> None:
        def arrivals(*_: object) -> Iterator[tuple[int, int]]:
            return ((round(at * 1000), 0) for at in at_ms)

        monkeypatch.setattr(simulate, "arrivals", arrivals)

    return come


def seen(frame: pd.DataFrame) -> list[tuple[str, str, float, float, int]]:
    """(kind, endpoint, start, end, status) of each span, in ms; end NaN = open."""
    start = (frame["start"].astype("int64") - BEGIN_NS) / 1e6
    end = start + frame["duration_ms"]
    rows = zip(frame["kind"], frame["endpoint"], start, end, frame["status"], strict=True)
    return sorted(rows, key=lambda row: (row[2], row[1], row[0] == "server"))


# ---- by hand


def test_own_work_comes_first_then_the_calls_in_sequence(arriving) -> None:
    arriving(0)
    frame = shop.virtual(
        world(replace(A, calls=(Call("b", "/b"), Call("c", "/c"))), B, C, seconds=1)
    )
    # also where starts are equal
    assert frame.equals(frame.sort_values(["start", "span_id"], ignore_index=True))
    assert seen(frame) == [
        ("server", "/a", 0, 30, 200),
        ("client", "/b", 10, 20, 200),
        ("server", "/b", 10, 20, 200),
        ("client", "/c", 20, 30, 200),
        ("server", "/c", 20, 30, 200),
    ]
    assert frame["peer"].dropna().tolist() == ["b", "c"]
    assert frame["error"].isna().all()


def test_parallel_calls_take_as_long_as_the_longest(arriving) -> None:
    arriving(0)
    calls = ((Call("b", "/b"), Call("c", "/c")),)
    frame = shop.virtual(world(replace(A, calls=calls), replace(B, median_ms=50), C, seconds=1))
    assert ("server", "/a", 0, 60, 200) in seen(frame)


def test_calls_are_repeated_one_after_the_other_before_the_next_stage(arriving) -> None:
    arriving(0)
    calls = ((Call("b", "/b"), Call("c", "/c")), Call("c", "/c"))
    more = (VirtualFault("repeat", "a", "/a", times=3, callee=("b", "/b")),)
    frame = shop.virtual(world(replace(A, calls=calls), B, C, seconds=1, changes=more))
    served = frame[frame["kind"] == "server"]
    assert served["endpoint"].tolist().count("/b") == 3
    assert served["endpoint"].tolist().count("/c") == 2
    assert ("server", "/a", 0, 50, 200) in seen(frame)
    last = served[served["endpoint"] == "/c"].iloc[-1]
    assert last["start"] == served.loc[served["endpoint"] == "/b", "start"].iloc[-1] + 10 * MS


def test_calls_may_be_repeated_at_once(arriving) -> None:
    arriving(0)
    more = (VirtualFault("repeat", "a", "/a", times=3, at_once=True),)
    calls = (Call("b", "/b"),)
    frame = shop.virtual(world(replace(A, calls=calls), B, seconds=1, changes=more))
    served = frame[(frame["kind"] == "server") & (frame["endpoint"] == "/b")]
    assert len(served) == 3
    assert served["start"].nunique() == 1
    assert ("server", "/a", 0, 20, 200) in seen(frame)


def test_a_repeat_leaves_the_calls_that_are_made_anyhow_as_they_were(arriving) -> None:
    arriving(0)
    calm = world(replace(A, calls=(Call("b", "/b"),)), B, seconds=1)
    more = replace(calm, changes=(VirtualFault("repeat", "a", "/a", times=2),))
    usual, now = shop.virtual(calm), shop.virtual(more)
    assert set(usual["span_id"]) < set(now["span_id"])
    assert len(now) == len(usual) + 2


def test_of_parallel_failures_the_first_in_order_is_reported_after_all_have_ended(arriving) -> None:
    arriving(0)
    calls = ((Call("b", "/b"), Call("c", "/c", timeout_s=0.02)),)
    slow_failure = (Fault("delay", "b", "/b", duration_ms=40), Fault("error", "b", "/b"))
    frame = shop.virtual(
        world(replace(A, calls=calls), B, replace(C, median_ms=90), seconds=1, changes=slow_failure)
    )
    assert ("server", "/a", 0, 50, 502) in seen(frame)
    assert frame.loc[frame["endpoint"] == "/a", "error"].tolist() == [
        "BackendError: /b answered 500"
    ]


def test_one_worker_serves_first_come_first_served(arriving) -> None:
    """Work of 100 ms, arrivals at 0, 40, 50 and 350: they end at 100, 200, 300 and 450."""
    arriving(0, 40, 50, 350)
    frame = shop.virtual(world(replace(A, median_ms=100), workers={"a": 1}))
    assert [(start, end) for _, _, start, end, _ in seen(frame)] == [
        (0, 100),
        (40, 200),
        (50, 300),
        (350, 450),
    ]


def test_two_workers_serve_two_at_once(arriving) -> None:
    arriving(0, 40, 50, 350)
    frame = shop.virtual(world(replace(A, median_ms=100), workers={"a": 2}))
    assert [(start, end) for _, _, start, end, _ in seen(frame)] == [
        (0, 100),
        (40, 140),
        (50, 200),
        (350, 450),
    ]


def test_a_queue_follows_lindleys_recurrence_and_waits_as_long_as_theory_says() -> None:
    """M/D/1 at a load of one half waits half a service time on average (Pollaczek-Khinchine)."""
    frame = shop.virtual(
        replace(world(replace(A, median_ms=100), workers={"a": 1}, seconds=4000), rate=5.0)
    )
    start = (frame["start"].astype("int64").to_numpy() - BEGIN_NS) // 1000
    end, free = [], 0
    for at in start.tolist():
        free = max(at, free) + 100_000
        end.append((free - at) / 1e3)
    closed = frame["duration_ms"].notna().to_numpy()
    assert frame["duration_ms"].to_numpy()[closed].tolist() == np.array(end)[closed].tolist()
    assert frame["duration_ms"].mean() - 100 == pytest.approx(50, rel=0.1)


def test_beyond_its_capacity_an_endpoint_answers_503_at_once(arriving) -> None:
    arriving(0, 5, 20)
    frame = shop.virtual(world(replace(A, capacity=1)))
    assert [(end, status) for *_, end, status in seen(frame)] == [(10, 200), (5, 503), (30, 200)]
    assert frame["error"].dropna().tolist() == [
        "BackendError: /a is at its capacity, try again later"
    ]


def test_at_the_same_microsecond_the_earlier_request_comes_first(arriving) -> None:
    arriving(0, 10, 20)
    frame = shop.virtual(world(replace(A, capacity=1)))
    assert [(end, status) for *_, end, status in seen(frame)] == [(10, 200), (20, 200), (30, 200)]


def test_a_caller_gives_up_and_the_called_goes_on(arriving) -> None:
    arriving(0)
    frame = shop.virtual(
        world(replace(A, calls=(Call("b", "/b", timeout_s=0.05),)), replace(B, median_ms=200))
    )
    assert seen(frame) == [
        ("server", "/a", 0, 60, 504),
        ("client", "/b", 10, 60, 0),
        ("server", "/b", 10, 210, 200),
    ]
    errors = frame.set_index(["kind", "endpoint"])["error"]
    assert errors["server", "/a"] == "BackendError: /b did not answer within 0.05 s"
    assert errors["client", "/b"].startswith("ReadTimeout: HTTPConnectionPool(")
    assert errors["client", "/b"].endswith("Read timed out. (read timeout=0.05)")
    assert pd.isna(errors["server", "/b"])


def test_an_answer_that_is_on_its_way_when_the_caller_gives_up_comes_too_late(arriving) -> None:
    arriving(0)
    far = (VirtualFault("network", "b", "/b", duration_ms=40),)
    frame = shop.virtual(
        world(replace(A, calls=(Call("b", "/b", timeout_s=0.045),)), B, changes=far)
    )
    assert seen(frame) == [
        ("server", "/a", 0, 55, 504),
        ("client", "/b", 10, 55, 0),
        ("server", "/b", 30, 40, 200),
    ]


def test_a_caller_tries_again_at_once_and_its_tries_queue_up(arriving) -> None:
    arriving(0)
    caller = replace(A, calls=(Call("b", "/b", timeout_s=0.05, retries=1),))
    frame = shop.virtual(world(caller, replace(B, median_ms=200), workers={"b": 1}))
    assert seen(frame) == [
        ("server", "/a", 0, 110, 504),
        ("client", "/b", 10, 60, 0),
        ("server", "/b", 10, 210, 200),
        ("client", "/b", 60, 110, 0),
        ("server", "/b", 60, 410, 200),
    ]


def test_back_off_doubles_give_or_take_half(arriving) -> None:
    arriving(*range(0, 2000, 10))
    caller = replace(A, calls=(Call("b", "/b", retries=2),))
    failing = (Fault("error", "b", "/b"),)
    frame = shop.virtual(
        world(caller, replace(B, median_ms=0), backoff_ms=100, changes=failing, seconds=4)
    )
    calls = frame[frame["kind"] == "client"].groupby("trace_id")["start"].agg(list)
    pauses = np.array(
        [[(b - a) / pd.Timedelta("1ms") for a, b in zip(c, c[1:], strict=False)] for c in calls]
    )
    assert len(pauses) == 200
    assert np.all((pauses[:, 0] >= 50) & (pauses[:, 0] <= 150))
    assert np.all((pauses[:, 1] >= 100) & (pauses[:, 1] <= 300))
    assert pauses.mean(axis=0) == pytest.approx([100, 200], rel=0.1)


def test_a_retry_that_succeeds_is_no_failure() -> None:
    flaky = (Fault("error", *PAYMENT, rate=0.3),)
    frame = shop.virtual(replace(CALM, topology=FORGIVING, changes=flaky))
    answered = frame[(frame["endpoint"] == "/checkout")]["status"]
    assert (answered == 200).mean() == pytest.approx(1 - 0.3**3, abs=0.02)


def test_what_is_open_at_the_end_has_no_duration_and_no_status(arriving) -> None:
    arriving(0, 985, 999)
    frame = shop.virtual(
        world(replace(A, calls=(Call("b", "/b"),)), replace(B, median_ms=20), seconds=1)
    )
    late = frame[frame["start"] >= pd.Timestamp("2026-01-01T00:00:00.5Z")]
    assert sorted(zip(late["kind"], late["endpoint"], strict=True)) == [
        ("client", "/b"),
        ("server", "/a"),
        ("server", "/a"),
        ("server", "/b"),
    ]
    assert late["duration_ms"].isna().all()
    assert (late["status"] == 0).all()
    assert frame["duration_ms"].notna().sum() == 3


def test_who_waits_in_a_queue_at_the_end_is_open_too(arriving) -> None:
    arriving(0, 1, 2)
    frame = shop.virtual(world(replace(A, median_ms=5000), workers={"a": 1}, seconds=1))
    assert len(frame) == 3
    assert frame["duration_ms"].isna().all()


def test_a_call_that_still_travels_at_the_end_has_no_server_span(arriving) -> None:
    arriving(985)
    far = VirtualFault("network", "b", "/b", duration_ms=100.0)
    frame = shop.virtual(world(replace(A, calls=(Call("b", "/b"),)), B, seconds=1, changes=(far,)))
    assert frame[["kind", "endpoint"]].to_numpy().tolist() == [["server", "/a"], ["client", "/b"]]


# ---- faults


def test_a_hang_is_held_until_it_is_cleared_but_never_for_more_than_60_s(arriving) -> None:
    arriving(0, 30_000)
    frame = shop.virtual(world(A, changes=(Fault("hang", "a", "/a", end_s=70),), seconds=100))
    assert [end for *_, end, _ in seen(frame)] == [60_010, 70_010]


def test_a_fault_strikes_its_share_and_only_in_its_time() -> None:
    frame = shop.virtual(
        replace(CALM, rate=100, changes=(Fault("error", *PAYMENT, 20, 40, rate=0.3),))
    )
    mine = frame[(frame["kind"] == "server") & (frame["endpoint"] == "/payment")]
    second = (mine["start"].astype("int64") - BEGIN_NS) / 1e9
    failed = mine["status"] == 500
    assert failed[(second >= 20) & (second < 40)].mean() == pytest.approx(0.3, abs=0.03)
    assert not failed[(second < 20) | (second >= 40)].any()
    assert mine.loc[failed, "error"].str.startswith("BackendError: ").all()


@dataclass(frozen=True)
class Moody(Fault):
    """A fault of a user's own."""

    def strike(self, rng, wait) -> None:
        wait(0.1 + 0.1 * rng.random())
        raise KeyError("mine")


@dataclass(frozen=True)
class Endless(Fault):
    """A fault that would hold for ever."""

    def strike(self, rng, wait) -> None:
        wait(1e9)


def test_no_fault_holds_for_more_than_60_s(arriving) -> None:
    arriving(0)
    (only,) = seen(shop.virtual(world(A, changes=(Endless("endless", "a", "/a"),), seconds=100)))
    assert only[3:] == (60_010, 200)


def test_a_fault_of_a_users_own_plugs_in(arriving) -> None:
    arriving(0, 50)
    frame = shop.virtual(world(A, changes=(Moody("moody", "a", "/a"),)))
    assert frame["error"].tolist() == ["KeyError: 'mine'"] * 2
    assert frame["duration_ms"].between(100, 200).all()
    assert frame["duration_ms"].nunique() == 2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            VirtualFault("slow", "b", "/b", factor=3.0),
            [("client", 10, 40, 200), ("server", 10, 40, 200)],
        ),
        (
            VirtualFault("slow", "b", "*", factor=3.0),
            [("client", 10, 40, 200), ("server", 10, 40, 200)],
        ),
        (
            VirtualFault("leak", "b", "/b", end_s=2, duration_ms=4000),
            [("client", 10, 40, 200), ("server", 10, 40, 200)],
        ),
        (
            VirtualFault("network", "b", "/b", duration_ms=60),
            [("client", 10, 80, 200), ("server", 40, 50, 200)],
        ),
        (
            VirtualFault("network", "b", "/b", duration_ms=60, caller=("c", "/c")),
            [("client", 10, 20, 200), ("server", 10, 20, 200)],
        ),
        (VirtualFault("refuse", "b", "/b"), [("client", 10, 11, 0)]),
        (VirtualFault("shed", "b", "/b"), [("client", 10, 10, 503), ("server", 10, 10, 503)]),
        (
            VirtualFault("reject", "b", "/b", status=400),
            [("client", 10, 10, 400), ("server", 10, 10, 400)],
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
def test_each_kind_of_fault_by_hand(arriving, fault, expected) -> None:
    arriving(0)
    world_of_three = world(
        replace(A, calls=(Call("b", "/b"),)), B, replace(C, calls=(Call("b", "/b"),))
    )
    frame = shop.virtual(replace(world_of_three, changes=(fault,), mix={"/a": 1, "/c": 1}))
    rows = [
        (kind, start, end, status) for kind, at, start, end, status in seen(frame) if at == "/b"
    ]
    assert rows == [
        (kind, start, pytest.approx(end, abs=0.05), status) for kind, start, end, status in expected
    ]


def test_who_is_refused_at_the_door_leaves_no_span(arriving) -> None:
    arriving(0, 500)
    frame = shop.virtual(world(A, changes=(VirtualFault("refuse", "a", "/a", end_s=0.1),)))
    assert [start for _, _, start, _, _ in seen(frame)] == [500]


# ---- traffic


def test_no_request_is_lost_or_made_up() -> None:
    for name in ("retry storm", "upstream full", "metastable", "hang", "two faults"):
        scenario = SCENARIOS[name]
        frame = shop.virtual(scenario, 3)
        arrivals = list(simulate.arrivals(scenario, 3))
        roots = frame[frame["parent_id"].isna()]
        assert len(roots) == len(arrivals) == frame["trace_id"].nunique()
        assert sorted(roots["start"].astype("int64").tolist()) == sorted(
            BEGIN_NS + at * 1000 for at, _ in arrivals
        )
        assert not frame.duplicated("span_id").any()
        inner = frame[frame["parent_id"].notna()].merge(
            frame, left_on="parent_id", right_on="span_id"
        )
        assert len(inner) == len(frame) - len(roots)
        assert (inner["trace_id_x"] == inner["trace_id_y"]).all()
        assert (inner["kind_x"] != inner["kind_y"]).all()
        assert (inner["start_x"] >= inner["start_y"]).all()


def test_customers_come_at_the_rate_of_the_hour() -> None:
    def hours(**more) -> list[int]:
        times = [
            at for at, _ in simulate.arrivals(replace(CALM, rate=1, seconds=86_400, **more), 1)
        ]
        return np.histogram(times, np.arange(25) * 3600e6)[0].tolist()

    day = hours(daily=0.8)
    assert sum(day) == pytest.approx(86_400, rel=0.02)
    assert day[3] == pytest.approx(3600 * 0.2, rel=0.1)
    assert day[15] == pytest.approx(3600 * 1.8, rel=0.1)
    surge = hours(profile=((3600, 3.0), (7200, 1.0)))
    assert surge[:3] == pytest.approx([3600, 10_800, 3600], rel=0.1)


def test_the_mix_is_as_drive_has_it() -> None:
    frame = shop.virtual(replace(CALM, rate=100))
    share = frame[frame["parent_id"].isna()]["endpoint"].value_counts(normalize=True)
    for route, expected in simulate.Scenario("default").shares.items():
        assert share[route] == pytest.approx(expected, abs=0.02)


# ---- telemetry


def test_a_clock_that_is_ahead_moves_the_spans_of_its_service_only() -> None:
    straight, skewed = (
        shop.virtual(replace(CALM, skew_ms=skew)) for skew in ({}, {"payment": 60.0})
    )
    both = straight.merge(skewed, on="span_id")
    ahead = both["start_y"] - both["start_x"]
    assert (ahead[both["service_x"] == "payment"] == pd.Timedelta("60ms")).all()
    assert (ahead[both["service_x"] != "payment"] == pd.Timedelta(0)).all()


def test_lost_spans_are_missing_and_the_others_stay_as_they_were() -> None:
    whole, lossy = shop.virtual(CALM), shop.virtual(replace(CALM, lost=0.3))
    assert len(lossy) / len(whole) == pytest.approx(0.7, abs=0.03)
    left = whole[whole["span_id"].isin(lossy["span_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(left, lossy)


def test_sampled_traces_are_kept_whole_and_as_they_were() -> None:
    whole, some = shop.virtual(CALM), shop.virtual(replace(CALM, sampled=0.25))
    kept = whole[whole["trace_id"].isin(some["trace_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, kept, check_categorical=False)
    assert 0.15 < some["trace_id"].nunique() / whole["trace_id"].nunique() < 0.35


def test_the_spans_of_one_service_can_be_lost_alone() -> None:
    whole, lossy = shop.virtual(CALM), shop.virtual(replace(CALM, lost_of={"payment": 0.5}))
    left = whole["span_id"].isin(lossy["span_id"]).groupby(whole["service"]).mean()
    assert left["payment"] == pytest.approx(0.5, abs=0.1)
    assert (left.drop("payment") == 1).all()


# ---- chance


def test_a_draw_depends_on_its_key_and_not_on_who_asks_first() -> None:
    forwards, backwards = Column(uniform, 1, "x", "y"), Column(uniform, 1, "x", "y")
    asked = list(range(0, BLOCK * (BLOCKS_CACHED + 2), 64))
    first = [forwards[n] for n in asked]
    assert [backwards[n] for n in reversed(asked)] == first[::-1]
    assert [forwards[n] for n in asked] == first
    assert len(set(first)) == len(first)
    others = [Column(uniform, *parts) for parts in ((2, "x", "y"), (1, "z", "y"), (1, "x", "z"))]
    assert len({first[0], *(other[0] for other in others)}) == 4


def test_keys_do_not_run_together() -> None:
    assert key("ab", "c") != key("a", "bc")


def test_a_longer_run_begins_like_the_shorter() -> None:
    short, long = shop.virtual(CALM), shop.virtual(replace(CALM, seconds=120))
    over = short[short["duration_ms"].notna()]
    again = long[long["span_id"].isin(over["span_id"])]
    pd.testing.assert_frame_equal(over.reset_index(drop=True), again.reset_index(drop=True))


def digest(frame: pd.DataFrame, path: Path) -> str:
    write_spans(frame, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_two_processes_make_equal_frames(tmp_path: Path) -> None:
    code = """if True:
        import sys
        import shop
        from aiops_lab import write_spans
        write_spans(shop.virtual(shop.SCENARIOS["retry storm"], 7), sys.argv[1])
        """
    path = tmp_path / "there.csv"
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # not that of this process
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
    there = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest(shop.virtual(SCENARIOS["retry storm"], 7), tmp_path / "here.csv") == there
    assert digest(shop.virtual(SCENARIOS["retry storm"], 8), tmp_path / "other.csv") != there


def test_a_stream_is_the_same_run_in_frames_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = SCENARIOS["retry storm"]
    whole = shop.virtual(scenario, 2)
    monkeypatch.setattr(simulate, "PART", 1000)
    parts = list(shop.stream(scenario, 2))
    assert len(parts) > 5
    assert max(map(len, parts)) < 1100 + 300  # and what is open at the end
    together = pd.concat(parts).sort_values(["start", "span_id"], ignore_index=True)
    pd.testing.assert_frame_equal(together, whole)


def test_it_is_a_spans_frame_with_the_types_of_the_live_one() -> None:
    frame = lab.check(shop.virtual(SCENARIOS["hang"]))
    live = lab.to_frame(
        [lab.Span("1" * 32, "1" * 16, None, "a", "/a", "server", None, 1, 1, 200, None)]
    )
    assert frame.dtypes.to_dict() == live[list(frame)].dtypes.to_dict()
    assert list(frame) == list(COLUMNS)
    assert frame.sort_values(["start", "span_id"], ignore_index=True).equals(frame)
    assert (frame["start"].astype("int64") % 1000 == 0).all()


# ---- twins


def test_before_the_fault_the_twins_are_identical_and_elsewhere_always() -> None:
    for name in ("delay", "metastable", "retry storm", "lost spans", "two faults"):
        scenario = SCENARIOS[name]
        pair = shop.twin(scenario, 4)
        since = pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(
            seconds=min(f.start_s for f in scenario.faults)
        )
        early = [
            f[f["start"] + pd.to_timedelta(f["duration_ms"].fillna(1e9), unit="ms") < since]
            for f in pair[:2]
        ]
        pd.testing.assert_frame_equal(*early)
        assert len(early[0]) > 100
        assert not pair.effect.loc[
            pair.effect["start"] < since - pd.Timedelta("5s"), "changed"
        ].any()
        untouched = "/search" if name == "two faults" else "/health"
        assert not pair.effect.loc[pair.effect["entry"] == untouched, "changed"].any()


def test_the_effect_of_a_delay_is_that_delay_on_each_request_that_it_strikes() -> None:
    pair = shop.twin(SCENARIOS["delay"], 1)
    struck = pair.effect[pair.effect["changed"]]
    # later ones are let go when it ends
    whole = struck["start"] < pd.Timestamp("2026-01-01T00:02:59.5Z")
    assert struck.loc[whole, "extra_ms"].to_numpy() == pytest.approx(400)
    assert whole.sum() > 500
    assert set(struck["entry"]) == {"/checkout", "/payment"}
    assert not pair.effect["failed_with"].any()
    assert (pair.effect.loc[~pair.effect["changed"], "extra_ms"].fillna(0) == 0).all()
    assert len(pair.effect) == pair.without_fault["trace_id"].nunique()


def test_refused_and_unanswered_requests_count_as_failed() -> None:
    to_the_end = replace(SCENARIOS["refused"], seconds=180.0)
    refused = shop.twin(to_the_end, 1).effect
    at_the_door = refused[(refused["entry"] == "/payment") & refused["changed"]]
    assert at_the_door["failed_with"].all()
    assert at_the_door["ms_with"].isna().all()
    assert at_the_door["ms_without"].notna().all()
    endless = replace(
        SCENARIOS["hang"], seconds=150.0, faults=(Fault("hang", *PAYMENT, start_s=142),)
    )
    hung = shop.twin(endless, 1).effect
    young = hung["start"] > pd.Timestamp("2026-01-01T00:02:25Z")
    open_ = hung["ms_with"].isna()
    assert hung.loc[open_ & ~young, "failed_with"].all()
    assert min((open_ & young).sum(), (open_ & ~young).sum()) > 5
    assert not hung.loc[open_ & young, "failed_with"].any()


def test_a_fault_without_an_effect_is_an_error() -> None:
    never = replace(
        SCENARIOS["delay"], faults=(Fault("error", *PAYMENT, start_s=120, end_s=180, rate=1e-9),)
    )
    with pytest.raises(
        ValueError,
        match=r"faults must have an effect on some request \(seed 1\), got 'error at payment",
    ):
        shop.twin(never, 1)


@pytest.mark.parametrize("run", [shop.twin, shop.virtual])
def test_a_name_is_no_scenario(run: Any) -> None:
    with pytest.raises(ValueError, match="scenario must be a Scenario, .*, got 'retry storm'"):
        run("retry storm")


def test_a_store_knows_of_older_work_and_not_of_the_future(arriving) -> None:
    arriving(0, 100, 400, 1200)
    frame = shop.virtual(world(replace(A, median_ms=500)))
    held = as_of(frame, 0.55, 1.0)
    assert [(start, end) for _, _, start, end, _ in seen(held)] == [(100, 600), (400, 900)]
    (only,) = seen(as_of(frame, 0.95, 1.4))
    assert (only[2], only[4]) == (1200, 0)
    assert np.isnan(only[3])


# ---- against the live shop


LEISURELY = replace(
    SEED_SHOP,
    endpoints=tuple(
        replace(e, median_ms=30 + 3 * e.median_ms, sigma=0.05) for e in SEED_SHOP.endpoints
    ),
)
"""Slow and steady, so that neither a busy machine nor chance moves its medians much."""


def live_runs(slow: Fault) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The spans of the live shop before and during a fault."""
    with shop.running("many", seed=1, topology=LEISURELY) as live:
        frames = []
        for seed in (1, 2):
            shop.drive(live, 3, 20, seed=seed, progress=False)
            live.store.flush()
            frames.append(live.store.spans())
            live.inject(slow)
    broken = frames[1][~frames[1]["trace_id"].isin(frames[0]["trace_id"])]
    return frames[0], broken.reset_index(drop=True)


def medians(frame: pd.DataFrame) -> dict:
    return frame.groupby(["kind", "service", "endpoint"])["duration_ms"].median().to_dict()


def test_live_and_virtual_agree() -> None:
    slow = Fault("delay", *PAYMENT, duration_ms=400)
    scenario = Scenario(
        "slow", (PAYMENT,), (replace(slow, start_s=60.0),), topology=LEISURELY, rate=20, seconds=120
    )
    imagined = windows_of(scenario, shop.virtual(scenario, 1))
    for _ in range(3):  # another process may spoil one run
        real = live_runs(slow)
        agreeing = [
            medians(r) == pytest.approx(medians(i), rel=0.15, abs=2)
            for r, i in zip(real, imagined, strict=True)
        ]
        if all(agreeing):
            break
    assert all(agreeing), [(medians(r), medians(i)) for r, i in zip(real, imagined, strict=True)]
    causes = [lab.rank_root_causes(*frames)[0] for frames in (real, imagined)]
    assert [(cause.service, cause.endpoint) for cause in causes] == [PAYMENT, PAYMENT]


def test_live_and_virtual_open_the_same_incident() -> None:
    slow, quick = Fault("delay", *PAYMENT, duration_ms=1000), lab.Sensitivity(window_s=1)
    scenario = Scenario(
        "slow", (PAYMENT,), (replace(slow, start_s=6.0),), topology=LEISURELY, rate=20, seconds=10
    )
    with shop.running("many", seed=1, topology=LEISURELY) as live:
        shop.drive(live, 6, 20, seed=1, progress=False)
        live.inject(slow)
        shop.drive(live, 4, 20, seed=2, progress=False)
        live.store.flush()
        real = live.store.spans()
    told = [told_by(lab.replay(frame, quick)) for frame in (real, shop.virtual(scenario, 1))]
    assert told[0] == told[1]
    assert told[0][0][2] == PAYMENT


def told_by(report: lab.Report) -> list:
    """What a person would read of the incidents of a report."""
    return [
        (
            i.title,
            i.severity,
            i.root_cause and i.root_cause.key,
            i.affected_endpoints,
            sorted(i.keys),
        )
        for i in report.incidents
    ]


def test_live_and_virtual_write_the_same_errors() -> None:
    failing, topology = Fault("error", *PAYMENT), SEED_SHOP
    with shop.running("many", seed=1) as live:
        live.inject(failing)
        shop.drive(live, 1, 30, seed=1, progress=False)
        live.store.flush()
        real = live.store.spans()
    imagined = shop.virtual(Scenario("errors", changes=(failing,), topology=topology, seconds=60))
    for endpoint in (PAYMENT, CHECKOUT):
        texts = [
            set(f.loc[f["endpoint"] == endpoint[1], "error"].dropna()) for f in (real, imagined)
        ]
        assert texts[0]
        assert texts[0] <= texts[1]
    columns = ["kind", "service", "endpoint", "peer", "status"]
    kinds = [
        f[f["duration_ms"].notna()][columns].fillna("").itertuples(index=False, name=None)
        for f in (real, imagined)
    ]
    assert set(kinds[0]) == set(kinds[1])
