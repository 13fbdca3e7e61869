"""Recordings with gaps: what nobody sent changes nothing, and costs nothing."""

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect import windows
from aiops_lab.traces.encode import encode
from tests.support.made import Shop, fault
from tests.support.played import at

DAY_S = 86_400


def with_gap(frame, second, gap_s):
    """The same requests; those that begin after `second` come `gap_s` later."""
    later = frame.groupby("trace_id")["start"].transform("min") >= at(second)
    start = frame["start"] + pd.to_timedelta(later * gap_s, unit="s")
    moved = frame.assign(start=start.astype(frame["start"].dtype))
    return moved.sort_values(["start", "span_id"], ignore_index=True)


def without_inventory(frame):
    return frame[~((frame["endpoint"] == "/inventory") & (frame["start"] > at(200)))]


def never_answered(frame):
    frame = frame.copy()
    rows = frame.sample(frac=0.02, random_state=1).index
    frame.loc[rows, ["duration_ms", "status"]] = [np.nan, 0]
    return frame


def shop(effect=None, seconds=500, rate=10.0):
    return Shop(1, effect).run(seconds, rate)


SLOW = fault("/payment", 250, 400, added_ms=3000.0)
HANGING = fault("/payment", 250, 310, added_ms=30_000.0)

RECORDINGS = {
    "calm": lambda: shop(),
    "a fault before and after": lambda: shop(SLOW),
    "requests that hang": lambda: shop(HANGING),
    "an endpoint that is missed": lambda: without_inventory(shop()),
    "ends that were lost": lambda: never_answered(shop()),
    "small windows that wait": lambda: shop(rate=0.3),
}
KNOBS = {
    "usual": lab.Sensitivity(),
    "seasons": lab.Sensitivity(seasonal=True),
    "slow to relearn, with seasons": lab.Sensitivity(seasonal=True, relearn_after_s=7200),
    "odd windows": lab.Sensitivity(window_s=10.7),
}


def walked(monkeypatch, frame, *arguments, **options):
    """The report of a replay that walks every window."""
    with monkeypatch.context() as patched:
        patched.setattr("aiops_lab.pipeline._FEW_WINDOWS", 10**9)
        return lab.replay(frame, *arguments, **options)


def assert_equal(report, other):
    pd.testing.assert_frame_equal(report.windows, other.windows, check_exact=True)
    assert report.anomalies == other.anomalies
    assert [i.to_record() for i in report.incidents] == [i.to_record() for i in other.incidents]


@pytest.mark.parametrize("knobs", KNOBS)
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_gap_is_skipped_as_if_it_had_been_walked(monkeypatch, name, knobs):
    frame = with_gap(RECORDINGS[name](), 300, 5000 * 10)
    report = lab.replay(frame, KNOBS[knobs], causes=False)
    assert_equal(report, walked(monkeypatch, frame, KNOBS[knobs], causes=False))
    assert len(report.windows) > 20


@pytest.mark.parametrize("pieces", [7, 200])
def test_pieces_and_gaps_go_together(monkeypatch, pieces):
    frame = with_gap(without_inventory(shop(SLOW)), 300, 5000)
    whole = walked(monkeypatch, frame)
    monkeypatch.setattr("aiops_lab.pipeline._MOST_WINDOWS", pieces)
    assert_equal(lab.replay(frame), whole)


@pytest.mark.parametrize("days", [30, 3 * 365])
def test_the_windows_of_a_long_gap_are_not_walked(monkeypatch, days):
    frame = with_gap(shop(SLOW), 300, days * DAY_S)
    walks = counted_walks(monkeypatch)
    report = lab.replay(frame, causes=False)
    assert sum(walks) < 1000
    assert len(report.incidents) == 2
    assert report.windows["end"].max() - report.windows["end"].min() > pd.Timedelta(days=days)


def test_one_request_a_day_for_a_century_costs_few_windows(monkeypatch):
    day = pd.DataFrame(
        {
            "trace_id": [f"{i:032x}" for i in range(1, 30_001)],
            "span_id": [f"{i:016x}" for i in range(1, 30_001)],
            "start": at(0) - pd.to_timedelta(np.arange(30_000) - 25_000, unit="D"),
        }
    )
    rest = dict.fromkeys(("parent_id", "peer", "error"))
    place = {"service": "shop", "endpoint": "/", "kind": "server", "duration_ms": 5.0}
    frame = day.assign(**rest, **place, status=200)
    frame = frame[frame["start"] > pd.Timestamp("1990-01-02", tz="UTC")]
    frame["start"] = frame["start"].astype("datetime64[ns, UTC]")
    walks = counted_walks(monkeypatch)
    report = lab.replay(frame.sort_values("start", ignore_index=True))
    assert report.anomalies == []
    assert sum(walks) < 3 * len(frame)


def counted_walks(monkeypatch):
    """The number of windows of each piece that is judged from now on."""
    walks = []
    count = windows.count_windows

    def counting(*arguments, **options):
        counts = count(*arguments, **options)
        walks.append(len(counts.n))
        return counts

    monkeypatch.setattr("aiops_lab.detect.recording.count_windows", counting)
    return walks


def test_windows_of_a_millisecond_over_minutes_return():
    report = lab.replay(shop(seconds=300), lab.Sensitivity(window_s=0.001), causes=False)
    assert report.windows["n"].sum() > 1000


def test_too_many_windows_are_refused_with_their_number():
    frame = never_answered(shop(seconds=300))
    rule = r"window_s must leave at most 100,000 windows .* got 0.001: 293,523 windows for 4,388"
    with pytest.raises(ValueError, match=rule):
        lab.replay(frame, lab.Sensitivity(window_s=0.001), causes=False)


def test_a_silence_of_too_many_windows_is_refused(monkeypatch):
    monkeypatch.setattr(windows, "MOST_WALKED", 3000)
    monkeypatch.setattr(windows, "MOST_A_REQUEST", 0)
    frame = with_gap(without_inventory(shop(seconds=300)), 290, DAY_S)
    knobs = lab.Sensitivity(window_s=1, relearn_after_s=1e6)
    with pytest.raises(ValueError, match=r"window_s must leave at most 3,000 windows"):
        lab.replay(frame, knobs, causes=False)


def test_what_is_walked_is_what_something_happens_in_and_the_next():
    frame = with_gap(shop(seconds=60), 30, 1000)
    spans = encode(frame)
    requests = spans.select(spans.server)
    grid = windows.Grid(*(at(second).value for second in (0, 1200)), 10**10)
    none = spans.select(np.zeros(len(frame), bool))
    numbers = windows.windows_to_walk(requests, none, grid, stuck_ns=5 * 10**9, lost_ns=10**12)
    assert numbers.tolist() == [0, 1, 2, 3, *range(103, 107), 119]
    counts = windows.count_windows(
        requests, none, len(spans.keys), grid, stuck_ns=5 * 10**9, lost_ns=10**12, walked=numbers
    )
    assert counts.skipped.tolist() == [0, 0, 0, 99, 0, 0, 0, 12, 0]
    assert counts.n.sum() == len(requests.row)
