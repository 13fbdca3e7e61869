import numpy as np
import pytest

import aiops_lab as lab
from aiops_lab.detect import windows
from aiops_lab.traces import encode
from tests.support import naive
from tests.support.made import BEGIN, Shop, fault
from tests.support.traces import span

WINDOW_S = 10


def counted(frame, since_s=0, until_s=100, stuck_s=5.0, lost_s=600.0):
    spans = encode.encode(frame)
    since, until = BEGIN + int(since_s * 1e9), BEGIN + int(until_s * 1e9)
    table = windows.count_windows(
        spans.select(spans.server),
        spans.select(windows.is_given_up(spans)),
        len(spans.keys),
        windows.Grid(since, until, WINDOW_S * 10**9),
        stuck_ns=int(stuck_s * 1e9),
        lost_ns=int(lost_s * 1e9),
    )
    return table, {key: code for code, key in enumerate(spans.keys)}


def recording():
    frame = Shop(7, fault("/payment", 30, 60, added_ms=23_000)).run(80)
    frame.loc[frame.sample(frac=0.02, random_state=3).index, "duration_ms"] = np.nan
    return frame


def test_counts_equal_the_slow_way():
    frame = recording()
    table, keys = counted(frame)
    slow = naive.windows(frame, WINDOW_S, stuck_s=5)
    codes = {endpoint: code for (_, endpoint), code in keys.items()}
    begin = BEGIN // 10**9
    stuck = np.zeros_like(table.n)
    for w in range(len(table.n)):
        for k in range(table.stuck_ptr[w], table.stuck_ptr[w + 1]):
            stuck[w, table.stuck_code[k]] += 1
    checked = 0
    for (second, endpoint), expected in slow.items():
        w, code = int(second - begin) // WINDOW_S, codes[endpoint]
        if 0 <= w < len(table.n):
            checked += 1
            assert table.n[w, code] == expected["n"]
            assert table.errors[w, code] == expected["errors"]
            assert table.total[w, code] == pytest.approx(expected["total"])
            assert table.arrivals[w, code] == expected["arrivals"]
            assert stuck[w, code] == expected["stuck"]
    assert checked > 30
    assert stuck.sum() > 10


def test_a_grid_may_be_counted_in_pieces():
    frame = recording()
    whole, _ = counted(frame)
    first, _ = counted(frame, 0, 40)
    second, _ = counted(frame, 40, 100)
    for name in ("n", "errors", "total", "squares", "arrivals", "given_up"):
        pieces = np.vstack([getattr(first, name), getattr(second, name)])
        np.testing.assert_array_equal(getattr(whole, name), pieces)


def test_a_call_that_was_given_up_counts_at_its_callee():
    table, keys = counted(recording())
    assert table.given_up[:, keys["shop", "/payment"]].sum() > 10
    assert table.given_up[:, keys["shop", "/checkout"]].sum() == 0


def test_an_open_request_is_taken_for_lost_one_day():
    frame = Shop(0).run(20)
    frame.loc[0, "duration_ms"] = np.nan
    table, _ = counted(frame, 0, 100, lost_s=50)
    times = np.diff(table.stuck_ptr)
    assert times.tolist() == [0 if frame.loc[0, "kind"] == "client" else 1] * 5 + [
        0
    ] * 5 or times.sum() in (0, 5)
    assert times[6:].sum() == 0


def test_requests_count_as_aged_where_they_ended_or_became_old():
    """Three requests from second 1 on: for 4 s, for exactly 15 s, and for 40 s."""
    made = [span(n, None, "/a", "server", 1000, ms) for n, ms in enumerate((4e3, 15e3, 40e3), 1)]
    table, _ = counted(lab.to_frame(made), 0, 50, stuck_s=15.0)
    assert table.aged[:, 0].tolist() == [1, 2, 0, 0, 0]
    assert table.long[:, 0].tolist() == [0, 1, 0, 0, 0]


def test_durations_below_a_microsecond_count_as_one():
    frame = Shop(0).run(5).iloc[:3].assign(duration_ms=[0.0, 0.0005, 0.0015])
    logs = windows.log_ms(encode.encode(frame))
    assert logs.tolist() == pytest.approx(np.log([0.001, 0.001, 0.0015]))


def test_a_failure_is_a_5xx_no_answer_or_an_exception():
    frame = Shop(0).run(5).iloc[:6].copy()
    frame["status"] = [200, 404, 500, 503, 0, 200]
    frame["error"] = [None, None, None, None, None, "ValueError: x"]
    assert encode.is_failed(frame).tolist() == [False, False, True, True, True, True]
    frame["duration_ms"] = np.nan
    assert not encode.is_failed(frame).any()
