"""Small shifts that last: the sums of the sequential test by hand, and what is found."""

from __future__ import annotations

from math import exp, log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import aiops_lab as lab
from aiops_lab.detect import baselines, scoring
from aiops_lab.detect.detectors import sustained_shift
from tests.support.counts import made_counts
from tests.support.made import Shop

S = lab.Sensitivity()
BEGIN_S = 1_000_000
KEYS = [("shop", "/payment")]
LIMIT = log(2 * 100 * 7 * 86_400 / 10)
SIZE = log(1.2)
VAR = 0.04
DISPERSION = 110 / 105  # of 100 blocks with 1, and 5 with 2
BASELINE = {
    "count": 1000.0,
    "mean": log(100),
    "var": VAR,
    "windows": 20.0,
    "ok_count": 1000.0,
    "slow": log(100),
    "steady": log(100),
    "steady_lagged": log(100),
    "steady_n": 1e6,
    "steady_var": VAR,
    "steady_requests": 1e6,
    "blocks": 100.0,
    "dispersion": 1.0,
}

Row = tuple[float, float, float]  # requests, ms, errors


def walk(
    *rows: Row, s: lab.Sensitivity = S, abnormal: bool = False, jump: bool = False, **state: float
) -> tuple[Any, Any]:
    """Return the windows of one endpoint as a frame, and its baseline after them."""
    baseline = baselines.fresh(1)
    for name, value in (BASELINE | state).items():
        baseline[0][name] = value
    n, ms, errors = np.array(rows, dtype=float).T
    columns = {name: column[:, None] for name, column in (("n", n), ("ms", ms), ("errors", errors))}
    squares = n * np.log(ms) ** 2 + VAR * (n - 1)
    about = {"start_ns": BEGIN_S * 10**9, "window_ns": int(s.window_s * 1e9)}
    counts = made_counts(**columns, squares=squares[:, None], **about)

    def decide(windows: Any, usual: Any, s: Any) -> dict[str, NDArray]:
        return {"forced": np.full((n.size, 1), abnormal)}

    jumps = ["forced"] if jump else []
    system = np.zeros(2)
    windows, _ = scoring.judge(counts, KEYS, baseline, system, s, decide=decide, jumps=jumps)
    return windows, baseline[0]


def rise_of(n: float, gap: float, size: float = SIZE, var: float = VAR * DISPERSION) -> float:
    return size * n * (gap - size / 2) / var


def ratio_of(errors: float, n: float, usual: float, more: float) -> float:
    return errors * log(more / usual) + (n - errors) * log((1 - more) / (1 - usual))


# ---- the sums


def test_a_window_adds_its_log_likelihood_ratio_to_the_evidence_of_a_rise() -> None:
    windows, after = walk((16, 112, 0), rise=1.0)
    assert after["rise"] == pytest.approx(1 + rise_of(16, log(1.12)))
    assert windows["rise"].iloc[0] == after["rise"]
    assert 1 < after["rise"] < 3


def test_a_window_as_usual_takes_as_much_from_it() -> None:
    _, after = walk((16, 100, 0), rise=10.0)
    assert after["rise"] == pytest.approx(max(10 + rise_of(16, 0), 10 - LIMIT / 3))


def test_a_sum_is_never_below_0() -> None:
    _, after = walk((16, 100, 0), (16, 112, 0), rise=1.0)
    assert after["rise"] == pytest.approx(rise_of(16, log(1.12)))


def test_one_window_adds_and_takes_at_most_a_third_of_the_limit() -> None:
    assert walk((1600, 200, 0), rise=1.0)[1]["rise"] == pytest.approx(1 + LIMIT / 3)
    assert walk((1600, 50, 0), rise=9.0)[1]["rise"] == pytest.approx(9 - LIMIT / 3)


@pytest.mark.parametrize(("shift", "size"), [(1.1, log(1.1)), (1.4, log(1.4))])
def test_the_shift_that_is_looked_for_is_a_knob(shift: float, size: float) -> None:
    _, after = walk((4, 130, 0), rise=3.0, s=lab.Sensitivity(shift=shift))
    assert after["rise"] == pytest.approx(3 + rise_of(4, log(1.3), size))


@pytest.mark.parametrize(("min_ms", "least_ms"), [(10, 3.0), (30, 9.0)])
def test_a_fast_endpoint_must_rise_by_three_tenths_of_min_ms(
    min_ms: float, least_ms: float
) -> None:
    state = {"steady": log(5), "steady_lagged": log(5), "rise": 3.0}
    _, after = walk((4, 7, 0), s=lab.Sensitivity(min_ms=min_ms), **state)
    size = log(1 + least_ms / 5)
    assert after["rise"] == pytest.approx(max(3 + rise_of(4, log(7 / 5), size), 0))


def test_a_steady_latency_still_varies_by_a_tenth() -> None:
    _, after = walk((4, 112, 0), rise=1.0, steady_var=0.001)
    assert after["rise"] == pytest.approx(1 + rise_of(4, log(1.12), var=0.01 * DISPERSION))


@pytest.mark.parametrize(
    ("blocks", "dispersion", "used"),
    [(0, 0.0, 2.0), (10, 4.0, 50 / 15), (100, 4.0, 410 / 105), (100, 0.1, 1.0)],
)
def test_the_dispersion_of_windows_divides_the_evidence(
    blocks: float, dispersion: float, used: float
) -> None:
    _, after = walk((16, 112, 0), rise=1.0, blocks=blocks, dispersion=dispersion)
    assert after["rise"] == pytest.approx(1 + rise_of(16, log(1.12), var=VAR * used))


@pytest.mark.parametrize(("lagged", "lag"), [(-0.03, 0.03), (0.03, 0.0)])
def test_a_rising_trend_of_the_level_is_allowed_for(lagged: float, lag: float) -> None:
    _, after = walk((16, 115, 0), rise=1.0, steady_lagged=log(100) + lagged)
    assert after["rise"] == pytest.approx(1 + rise_of(16, log(1.15) - lag))


@pytest.mark.parametrize(("before", "size"), [(1.1, SIZE), (1.5, log(1.5))])
def test_a_larger_rise_is_compared_with_its_mean_so_far(before: float, size: float) -> None:
    state = {"rise": 1.0, "rise_n": 9.0, "rise_sum": 9 * log(before)}
    _, after = walk((4, 130, 0), **state)
    assert after["rise"] == pytest.approx(1 + rise_of(4, log(1.3), size))
    lagged = walk((4, 130, 0), **state, steady_lagged=log(100) - 0.05)[1]["rise"]
    less = max(SIZE, log(before) - 0.05)
    assert lagged == pytest.approx(1 + rise_of(4, log(1.3) - 0.05, less))


def test_errors_say_nothing_of_the_latency() -> None:
    assert walk((16, 500, 16))[1]["rise"] == 0.0
    half = walk((16, 112, 8), rise=1.0)[1]["rise"]
    assert half == pytest.approx(1 + rise_of(8, log(1.12)))


@pytest.mark.parametrize("state", [{"windows": 11.0}, {"count": 3.0}, {"steady_n": 0.0}])
def test_before_the_baseline_is_known_nothing_is_compared(state: dict[str, float]) -> None:
    windows, _ = walk((4, 150, 0), **state)
    assert windows["rise"].iloc[0] == 0.0


# ---- reporting


def test_three_windows_suffice_and_two_do_not() -> None:
    windows, after = walk(*[(400, 120, 0)] * 4)
    assert windows["risen"].tolist() == [False, False, True, True]
    assert windows["lasts_s"].tolist()[2:] == [30.0, 40.0]
    assert windows["lasting_ms"].iloc[2] == pytest.approx(120)
    assert windows["steady_ms"].iloc[2] == pytest.approx(100)
    assert after["rise"] == pytest.approx(LIMIT)


@pytest.mark.parametrize(("weeks", "window"), [(100, 2), (100 * exp(-8), 1)])
def test_the_limit_follows_from_the_run_length(weeks: float, window: int) -> None:
    """Two windows add 9.0 each."""
    n = 9.0 / rise_of(1, log(1.2))
    limit = log(2 * weeks * 7 * 86_400 / 10)
    s = lab.Sensitivity(run_length_weeks=weeks)
    windows, _ = walk(*[(n, 120, 0)] * 4, s=s)
    steps = min(9.0, limit / 3)
    first = next(w for w in range(4) if (w + 1) * steps >= limit * (1 - 1e-9))
    assert windows["risen"].tolist().index(True) == first


def test_a_run_length_shorter_than_a_window_still_has_a_limit() -> None:
    s = lab.Sensitivity(run_length_weeks=0.01, window_s=1e6, relearn_after_s=1e7)
    _, after = walk((40, 130, 0), s=s)
    assert after["rise"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("margin", "risen"), [(0.99, False), (1.01, True)])
def test_the_uncertainty_of_the_steady_level_counts(margin: float, risen: bool) -> None:
    """All windows together reach the limit exactly if the level is worth `known` requests."""
    compared = 3 * 400
    per_request = rise_of(1, log(1.2))
    both = LIMIT / per_request
    known = 1 / (1 / both - 1 / compared)
    windows, _ = walk(*[(400, 120, 0)] * 3, steady_n=margin * known)
    assert windows["risen"].iloc[2] == risen


def test_a_shift_is_over_once_less_than_half_of_the_limit_is_left() -> None:
    state = {"rise": LIMIT, "rise_on": 1.0, "rise_n": 800.0, "rise_sum": 160.0, "rise_s": 90.0}
    windows, after = walk(*[(400, 100, 0)] * 2, **state)
    assert windows["risen"].tolist() == [True, False]
    assert after["rise"] == after["rise_n"] == after["rise_sum"] == after["rise_s"] == 0.0
    assert after["steady"] == log(100)


@pytest.mark.parametrize(("left", "risen"), [(0.49, False), (0.51, True)])
def test_half_of_the_limit_is_where_it_ends(left: float, risen: bool) -> None:
    windows, after = walk((16, 100 * exp(SIZE / 2), 0), rise=left * LIMIT, rise_on=1.0)
    assert windows["risen"].iloc[0] == risen
    assert after["rise"] == pytest.approx(left * LIMIT if risen else 0.0)


# ---- following the level


def weight_of(
    n: float, known: float, seconds: float, memory: float, half_life_s: float = 300
) -> float:
    alpha = 1 - 2 ** (-seconds / (6 * half_life_s))
    return max(min(alpha, n / memory), n / (known + n))


@pytest.mark.parametrize("known", [100.0, 1e6])
@pytest.mark.parametrize("half_life_s", [300.0, 30.0])
def test_a_window_without_evidence_is_learned(half_life_s: float, known: float) -> None:
    """The weight is bounded by the window's share of 100 requests, and of all so far."""
    n = 3
    s = lab.Sensitivity(half_life_s=half_life_s)
    _, after = walk((n, 105, 0), steady_n=known, s=s)
    weight = weight_of(n, known, 10, 100, half_life_s)
    level = log(100) + weight * log(1.05)
    assert after["steady"] == pytest.approx(level, abs=1e-12)
    lagged = log(100) + weight * (level - log(100))
    assert after["steady_lagged"] == pytest.approx(lagged, abs=1e-12)
    worth = 1 / ((1 - weight) ** 2 / known + weight**2 / n)
    assert after["steady_n"] == pytest.approx(worth)


def test_the_first_window_is_the_level() -> None:
    _, after = walk((4, 150, 0), steady_n=0.0, steady=0.0, steady_lagged=0.0)
    assert after["steady"] == after["steady_lagged"] == pytest.approx(log(150))
    assert after["steady_n"] == 4.0


def test_windows_with_evidence_wait_and_are_learned_together() -> None:
    rows = [(16, 120, 0), (16, 80, 0)]
    waiting = walk(rows[0])[1]
    assert waiting["steady"] == log(100)
    assert (waiting["rise_n"], waiting["rise_s"]) == (16.0, 10.0)
    assert waiting["rise_sum"] == pytest.approx(16 * log(1.2))
    _, after = walk(*rows)
    weight = weight_of(32, 1e6, 20, 100)
    assert after["steady"] == pytest.approx(log(100) + weight * log(1.2 * 0.8) / 2, abs=1e-12)
    assert after["rise_n"] == 0.0


@pytest.mark.parametrize(("waited_s", "learned"), [(1780, False), (1790, True)])
def test_they_wait_twice_as_long_as_a_level_takes_to_be_accepted(
    waited_s: float, learned: bool
) -> None:
    _, after = walk((4, 112, 0), rise=5.0, rise_n=100.0, rise_sum=10.0, rise_s=waited_s)
    assert (after["steady"] > log(100)) == learned
    assert (after["rise"] == 0.0) == learned


def test_a_lower_level_is_taken_as_soon_as_it_is_sure() -> None:
    windows, after = walk(*[(400, 80, 0)] * 3)
    assert after["steady"] == after["steady_lagged"] == pytest.approx(log(80))
    assert after["steady_n"] == 1200.0
    assert after["fall"] == after["fall_n"] == after["block_windows"] == 0.0
    assert not windows["risen"].any()
    assert walk(*[(400, 80, 0)] * 2)[1]["fall"] == pytest.approx(2 * LIMIT / 3)


def test_the_evidence_of_a_fall_begins_anew_where_it_is_0() -> None:
    _, after = walk((16, 90, 0), fall=2.0, fall_n=9.0, fall_sum=9 * log(50))
    assert after["fall"] == pytest.approx(2 + rise_of(16, log(1 / 0.9)))
    assert after["fall_n"] == 25.0
    _, after = walk((16, 110, 0), fall=2.0, fall_n=9.0, fall_sum=9 * log(50))
    assert (after["fall"], after["fall_n"], after["fall_sum"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("before", "learned"), [(28.0, False), (29.0, True)])
def test_the_dispersion_is_learned_from_blocks_of_30_windows(before: float, learned: bool) -> None:
    _, after = walk((16, 105, 0), block_windows=before, block_n=464.0, block_sum=5.0)
    square = (5 + 16 * log(1.05)) ** 2 / (VAR * 480)
    assert 1 < square < 3
    moved = 1 + (square - 1) / 100
    assert after["dispersion"] == pytest.approx(moved if learned else 1.0)
    assert after["block_windows"] == (0.0 if learned else 29.0)
    assert after["blocks"] == 100.0


def test_a_wild_block_counts_as_ten_times_the_dispersion_and_a_young_one_more() -> None:
    block = {"block_windows": 29.0, "block_n": 464.0, "block_sum": 500.0}
    _, after = walk((16, 100, 0), **block)
    assert after["dispersion"] == pytest.approx(1 + (10 * DISPERSION - 1) / 100)
    _, young = walk((16, 100, 0), blocks=3.0, **block)
    assert young["blocks"] == 4.0
    assert young["dispersion"] == pytest.approx(1 + (10 * (3 + 10) / 8 - 1) / 4)


def test_a_block_goes_on_while_there_is_evidence_of_a_rise() -> None:
    _, after = walk((16, 112, 0), block_windows=40.0, block_n=464.0, block_sum=5.0)
    assert (after["dispersion"], after["block_windows"]) == (1.0, 41.0)


@pytest.mark.parametrize(
    ("row", "known", "learned"),
    [((4, 100, 0), VAR, True), ((4, 100, 1), VAR, False), ((4, 100, 1), 0.0, True)],
)
def test_the_spread_is_learned_from_windows_without_errors(
    row: Row, known: float, learned: bool
) -> None:
    _, after = walk(row, steady_var=known, steady_n=1e6)
    weight = weight_of(4, 1e6, 10, 100)
    before = known if learned else known - weight * (VAR - known)
    assert after["steady_var"] == pytest.approx(before + weight * (VAR - known))
    assert after["steady_var"] == pytest.approx(VAR if known else weight * VAR)


def test_the_spread_of_one_request_is_not_known() -> None:
    s = lab.Sensitivity(min_window=1)
    _, after = walk((1, 100, 0), s=s)
    assert after["steady_var"] == VAR


def test_another_spread_is_learned() -> None:
    _, after = walk((16, 100, 0), steady_var=0.09)
    weight = weight_of(16, 1e6, 10, 100)
    assert after["steady_var"] == pytest.approx(0.09 + weight * (VAR - 0.09))


# ---- failures


@pytest.mark.parametrize(("rate", "rise"), [(0.0, 0.02), (0.01, 0.02), (0.1, 0.05), (0.5, 0.25)])
def test_failures_are_compared_with_a_share_higher_by_two_points_or_by_half(
    rate: float, rise: float
) -> None:
    known = 1000.0
    usual = (rate * known + 0.5) / (known + 1)
    more = usual + max(0.02, usual / 2)
    assert more - usual == pytest.approx(rise, rel=0.01)
    _, after = walk((50, 100, 1), surplus=8.0, steady_error_rate=rate, steady_requests=known)
    step = ratio_of(1, 50, usual, more)
    expected = 8 + min(max(step, -LIMIT / 3), LIMIT / 3)
    assert after["surplus"] == pytest.approx(max(expected, 0))


def test_the_rise_of_failures_that_is_looked_for_is_a_knob() -> None:
    s = lab.Sensitivity(error_shift=0.1)
    _, after = walk((50, 100, 1), surplus=8.0, s=s)
    usual = 0.5 / (1e6 + 1)
    step = min(ratio_of(1, 50, usual, usual + 0.1), LIMIT / 3)
    assert after["surplus"] == pytest.approx(8 + step)


def test_an_endpoint_that_always_fails_cannot_fail_more() -> None:
    assert walk((50, 100, 50), steady_error_rate=1.0)[1]["surplus"] == 0.0
    _, after = walk((50, 100, 50), steady_error_rate=0.9, surplus=1.0)
    usual = (0.9 * 1e6 + 0.5) / (1e6 + 1)
    assert after["surplus"] == pytest.approx(1 + ratio_of(50, 50, usual, 0.999))


def test_failures_are_reported_after_three_windows() -> None:
    windows, after = walk(*[(100, 100, 3)] * 3)
    assert windows["more_errors"].tolist() == [False, False, True]
    assert windows["lasting_error_rate"].iloc[2] == pytest.approx(0.03)
    assert windows["steady_error_rate"].iloc[2] == 0.0
    assert windows["lasts_s"].iloc[2] == 30.0
    assert after["surplus"] == pytest.approx(LIMIT)
    assert after["steady_error_rate"] == 0.0


@pytest.mark.parametrize(("known", "reported"), [(160.0, False), (400.0, True)])
def test_the_uncertainty_of_the_steady_failures_counts(known: float, reported: bool) -> None:
    usual = 0.5 / (known + 1)
    evidence = ratio_of(15, 300, usual, usual + 0.02) * known / (known + 300)
    assert (evidence >= LIMIT) == reported
    windows, _ = walk(*[(100, 100, 5)] * 3, steady_requests=known)
    assert windows["more_errors"].iloc[2] == reported


def test_more_failures_are_over_once_less_than_half_of_the_limit_is_left() -> None:
    state = {"surplus": LIMIT, "surplus_on": 1.0, "surplus_n": 800.0, "surplus_errors": 30.0}
    windows, after = walk(*[(400, 100, 0)] * 2, **state)
    assert windows["more_errors"].tolist() == [True, False]
    assert after["surplus"] == after["surplus_n"] == after["surplus_errors"] == 0.0


def test_the_usual_failures_are_learned_together_with_those_that_waited() -> None:
    waiting = walk((10, 100, 1), steady_error_rate=0.01)[1]
    assert (waiting["surplus_n"], waiting["surplus_errors"]) == (10.0, 1.0)
    assert waiting["steady_error_rate"] == 0.01
    _, after = walk((10, 100, 1), (400, 100, 0), steady_error_rate=0.01)
    weight = weight_of(410, 1e6, 20, 1000)
    assert after["steady_error_rate"] == pytest.approx(0.01 + weight * (1 / 410 - 0.01))
    worth = 1 / ((1 - weight) ** 2 / 1e6 + weight**2 / 410)
    assert after["steady_requests"] == pytest.approx(worth)
    few = walk((3, 100, 0), steady_error_rate=0.01)[1]["steady_error_rate"]
    assert few == pytest.approx(0.01 * (1 - weight_of(3, 1e6, 10, 1000)))


@pytest.mark.parametrize(("waited_s", "learned"), [(1780, False), (1790, True)])
def test_failures_wait_as_long(waited_s: float, learned: bool) -> None:
    _, after = walk((100, 100, 1), surplus=5.0, surplus_n=900.0, surplus_s=waited_s)
    assert (after["steady_error_rate"] > 0) == learned
    assert (after["surplus"] == 0.0) == learned


# ---- with other anomalies


def test_a_window_that_is_slow_by_itself_is_left_out() -> None:
    state = {"rise": 2.0, "surplus": 3.0, "fall": 1.0}
    _, after = walk((400, 500, 40), abnormal=True, jump=True, **state)
    for name in baselines.FIELDS:
        if name.startswith(("steady", "rise", "fall", "surplus", "block", "dispersion")):
            assert after[name] == (BASELINE | state).get(name, 0.0), name


def test_other_abnormal_windows_are_compared_all_the_same() -> None:
    assert walk((16, 120, 0), abnormal=True)[1]["rise"] > 0


def test_an_accepted_level_is_the_steady_one() -> None:
    new = {"new_count": 90.0, "new_ok_count": 90.0, "new_error_rate": 0.1, "new_slow": log(130)}
    state = {"abnormal_since": BEGIN_S - 890.0, "rise": LIMIT, "rise_on": 1.0, "surplus": 2.0}
    _, after = walk((10, 130, 1), abnormal=True, **new, **state, block_windows=3.0, fall=1.0)
    assert after["steady"] == after["steady_lagged"] == pytest.approx(log(130))
    assert after["steady_error_rate"] == pytest.approx(0.1)
    assert (after["steady_n"], after["steady_requests"]) == (99.0, 100.0)
    for name in ("rise", "rise_on", "surplus", "fall", "block_windows"):
        assert after[name] == 0.0


# ---- the detector


def test_the_evidence_reads_as_a_small_shift_that_lasts() -> None:
    usual = SimpleNamespace(long_lived=False)
    row = SimpleNamespace(
        lasts_s=40.0,
        risen=True,
        more_errors=True,
        steady_ms=50.0,
        lasting_ms=60.0,
        steady_error_rate=0.001,
        lasting_error_rate=0.02,
        baseline=usual,
    )
    told = sustained_shift.describe(sustained_shift.evidence(row))
    assert told == (
        "for 40 s, 60ms (baseline: 50ms, 1.20x slower), 2.0% of requests failed (baseline: 0.1%)"
    )
    row.more_errors = False
    assert "error_rate" not in sustained_shift.evidence(row)
    usual.long_lived = True
    assert sustained_shift.evidence(row) == {"lasts_s": 40.0}


@pytest.mark.parametrize(
    ("found", "severity", "title"),
    [
        ({"deviation": 2.0}, "low", "Small lasting shift"),
        ({"deviation": 2.01}, "medium", "Lasting rise of latency"),
        ({"error_rate": 0.11, "baseline_error_rate": 0.02}, "low", "Small lasting shift"),
        ({"error_rate": 0.13, "baseline_error_rate": 0.02}, "medium", "Lasting rise of failures"),
        ({"error_rate": 0.19, "deviation": 3.0}, "medium", "Lasting rise of failures"),
    ],
)
def test_what_has_risen_is_called_small_only_where_it_is(
    found: dict[str, float], severity: str, title: str
) -> None:
    when = pd.Timestamp("2026-01-01", tz="UTC")
    risen = lab.Anomaly("sustained_shift", "shop", "/payment", when, when, evidence=found)
    assert risen.title == title
    assert sustained_shift.severity(found) == severity


def test_requests_nearer_to_the_new_level_show_it_and_failures_do() -> None:
    def shown(**found: float) -> list[bool]:
        failed = np.array([False, False, True])
        logs = np.log([59.0, 61.0, 1.0])
        requests = sustained_shift.shows(SimpleNamespace(failed=failed, log_ms=logs), found, S)
        return requests.tolist()

    assert shown(baseline_ms=50.0, current_ms=72.0, deviation=1.44) == [False, True, False]
    assert shown(error_rate=0.1) == [False, False, True]


def slower(endpoint: str, second: float) -> tuple[float, int]:
    return (10.0 if endpoint == "/payment" and second > 300 else 0.0), 200


def failing(endpoint: str, second: float) -> tuple[float, int]:
    hit = endpoint == "/payment" and second > 300 and int(second * 7919) % 33 == 0
    return 0.0, 500 if hit else 200


@pytest.mark.parametrize(("change", "evidence"), [(slower, "deviation"), (failing, "error_rate")])
def test_a_small_shift_is_an_incident_of_low_severity(change: Any, evidence: str) -> None:
    report = lab.replay(Shop(5, change).run(480, rate=20))
    (incident,) = report.incidents
    first = incident.anomalies[0]
    assert {a.type for a in incident.anomalies} == {"sustained_shift"}
    assert incident.severity == "low"
    assert incident.title == "Small lasting shift detected in /payment"
    assert incident.root_cause is not None
    assert incident.root_cause.endpoint == "/payment"
    assert evidence in first.evidence
    begin = report.windows["window"].min()
    detected = (incident.first_detected - begin).total_seconds()
    began = (incident.started - begin).total_seconds()
    assert 300 < detected <= 400
    assert began < detected - 20
    assert incident.started == first.began == first.since


def test_the_classic_rule_looks_for_no_small_shift() -> None:
    found = lab.replay(Shop(5, failing).run(480, rate=20), lab.Sensitivity.classic(), causes=False)
    assert "sustained_shift" not in {a.type for a in found.anomalies}
