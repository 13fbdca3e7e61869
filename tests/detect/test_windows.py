import tracemalloc

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


def test_answers_without_an_error_are_counted_apart():
    statuses = 200, 200, 399, 400, 404, 500
    made = [span(n, None, "/a", "server", n, 1, status=s) for n, s in enumerate(statuses)]
    table, _ = counted(lab.to_frame(made), 0, 10)
    assert table.n.tolist() == [[6]]
    assert table.ok_n.tolist() == [[3]]


# ---- which windows are walked


def walked(made, windows_in_all=10, *, window_s=WINDOW_S, since_s=0, hours=1):
    """Return the numbers of the windows that are walked, stuck being what is open for 5 s."""
    spans = encode.encode(lab.to_frame(made))
    window_ns = window_s * 10**9
    since = BEGIN + since_s * 10**9
    grid = windows.Grid(since, since + windows_in_all * window_ns, window_ns)
    numbers = windows.windows_to_walk(
        spans.select(spans.server),
        spans.select(windows.is_given_up(spans)),
        grid,
        stuck_ns=5 * 10**9,
        lost_ns=600 * 10**9,
        hours=hours,
    )
    return numbers.tolist()


def served(start_s, took_s):
    took_ms = None if took_s is None else took_s * 1000
    return span(start_s, None, "/a", "server", start_s * 1000, took_ms, trace=start_s)


def test_windows_with_something_in_them_the_outermost_and_the_first_of_each_gap_are_walked():
    assert walked([]) == [0, 1, 9]
    assert walked([served(41, 1)]) == [0, 1, 4, 5, 9]
    assert walked([served(41, 1), served(51, 1)]) == [0, 1, 4, 5, 6, 9]


def test_what_happens_before_or_after_the_grid_is_not_walked():
    before, after = served(9, 1 / 2), served(200, 1)
    assert walked([before, served(141, 1), after], since_s=100) == [0, 1, 4, 5, 9]
    first, behind = served(100, 0), served(200, 0)
    assert walked([first, behind], since_s=100) == [0, 1, 9]


def test_windows_at_whose_end_a_request_is_stuck_are_walked():
    """One is open from second 21 to 53, and another one from 71 to 93."""
    one, other = served(21, 32), served(71, 22)
    assert walked([one], 20) == [0, 1, 2, 3, 4, 5, 6, 19]
    assert walked([one, other], 20) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 19]
    assert walked([one, served(141, 22)], 20) == [0, 1, 2, 3, 4, 5, 6, 14, 15, 16, 17, 19]


def test_with_seasons_the_first_window_of_each_hour_is_walked():
    """Of windows of seven minutes, number 9 is the first one that begins in the second hour."""
    assert walked([], 18, window_s=600, hours=24) == [0, 1, 6, 12, 17]
    assert walked([], 18, window_s=600, since_s=600, hours=24) == [0, 1, 5, 11, 17]
    assert walked([], 18, window_s=420, hours=24) == [0, 1, 9, 17]
    assert walked([], 18, window_s=600, hours=1) == [0, 1, 17]


@pytest.mark.parametrize(("most", "requests"), [(100_000, 0), (100_020, 5001)])
def test_windows_are_walked_up_to_a_number_or_to_so_many_a_request(most, requests):
    grid = windows.Grid(0, 10**9, 10**6)
    windows.check_walked(most, requests, grid)
    got = f"got 0.001: {most + 1:,} windows for {requests:,} requests"
    with pytest.raises(ValueError, match=got):
        windows.check_walked(most + 1, requests, grid)


def test_a_long_grid_takes_no_memory_window_by_window():
    tracemalloc.start()
    try:
        assert walked([], 20_000_000) == [0, 1, 19_999_999]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000
