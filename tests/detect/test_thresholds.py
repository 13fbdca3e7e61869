"""Windows made by hand that stand just on each side of every threshold of detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb, exp, log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import aiops_lab as lab
from aiops_lab.detect import baselines, scoring
from aiops_lab.detect.detectors import (
    DETECTORS,
    Detector,
    error_spike,
    latency_anomaly,
    silence_limit,
    silence_run_limit,
    sustained_shift,
    timeout,
    traffic_drop,
)
from aiops_lab.detect.detectors.detector import WindowRequests
from aiops_lab.numerics import normal_tail, wilson
from tests.support.counts import made_counts

S = lab.Sensitivity()

# ---- decisions, from columns made by hand

QUIET: dict[str, Any] = {
    "n": 3,
    "ratio": 1.0,
    "ratio_ok": 1.0,
    "z": 0.0,
    "latency_ms": 45.0,
    "baseline_ms": 45.0,
    "error_low": 0.0,
    "baseline_error_rate": 0.1,
    "error_chance": 1.0,
    "stuck": 0,
    "given_up": 0,
    "missed": 0.0,
    "longest": 0.0,
    "risen": False,
    "more_errors": False,
    "learning": False,
    "known": True,
    "long_lived": False,
}
SLOW = {"ratio": 3.01, "ratio_ok": 3.01, "z": 3.01, "latency_ms": 55.1}
FAILING = {"error_low": 0.151, "error_chance": 0.99 * normal_tail(3)}
HANGING = {"stuck": 3}
SILENT = {"missed": 24.1, "longest": 16.0}
RISEN = {"risen": True}
MORE_ERRORS = {"more_errors": True}
LEARNING = {"learning": True, "known": False}
LONG_LIVED = {"long_lived": True}


def decides(detector: Detector, changes: Mapping[str, Any], s: lab.Sensitivity = S) -> bool:
    columns = {name: np.array([value]) for name, value in (QUIET | dict(changes)).items()}
    return bool(detector.decide(columns, columns, s)[0])


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: d.name)
def test_a_window_as_usual_is_not_abnormal(detector: Detector) -> None:
    assert not decides(detector, {})


@pytest.mark.parametrize(
    ("detector", "changes"),
    [
        (latency_anomaly, SLOW),
        (error_spike, FAILING),
        (timeout, HANGING),
        (timeout, {"given_up": 3}),
        (traffic_drop, SILENT),
        (traffic_drop, {"missed": 15.62}),
        (sustained_shift, RISEN),
        (sustained_shift, MORE_ERRORS),
        (sustained_shift, MORE_ERRORS | LONG_LIVED),
    ],
)
def test_just_above_all_its_thresholds_a_window_is_abnormal(
    detector: Detector, changes: dict[str, Any]
) -> None:
    assert decides(detector, changes)


@pytest.mark.parametrize(
    ("detector", "above", "at"),
    [
        (latency_anomaly, SLOW, {"n": 2}),
        (latency_anomaly, SLOW, {"ratio": 3.0}),
        (latency_anomaly, SLOW, {"ratio_ok": 3.0}),
        (latency_anomaly, SLOW, {"z": 3.0}),
        (latency_anomaly, SLOW, {"latency_ms": 55.0}),
        (latency_anomaly, SLOW, LEARNING),
        (latency_anomaly, SLOW, LONG_LIVED),
        (error_spike, FAILING, {"n": 2}),
        (error_spike, FAILING, {"error_low": 0.1 + 0.05}),
        (error_spike, FAILING, {"error_chance": normal_tail(3)}),
        (error_spike, FAILING, LEARNING),
        (timeout, HANGING, {"stuck": 2, "given_up": 2}),
        (timeout, HANGING, LEARNING),
        (timeout, HANGING, LONG_LIVED),
        (traffic_drop, SILENT, {"missed": 24.0}),
        (traffic_drop, SILENT, {"missed": 15.61, "longest": 0.0}),
        (traffic_drop, SILENT, LEARNING),
        (sustained_shift, RISEN, {"n": 2}),
        (sustained_shift, MORE_ERRORS, {"n": 2}),
        (sustained_shift, RISEN, LEARNING),
        (sustained_shift, MORE_ERRORS, LEARNING),
        (sustained_shift, RISEN, LONG_LIVED),
        (sustained_shift, RISEN, SLOW),
        (sustained_shift, MORE_ERRORS, SLOW),
        (sustained_shift, RISEN, FAILING),
        (sustained_shift, MORE_ERRORS, FAILING),
    ],
)
def test_at_any_one_threshold_it_is_not(
    detector: Detector, above: dict[str, Any], at: dict[str, Any]
) -> None:
    assert not decides(detector, above | at)


@pytest.mark.parametrize(
    ("detector", "evidence", "severity"),
    [
        (latency_anomaly, {"deviation": 5.0}, "medium"),
        (latency_anomaly, {"deviation": 5.01}, "high"),
        (error_spike, {"error_rate": 0.2}, "medium"),
        (error_spike, {"error_rate": 0.21}, "high"),
        (error_spike, {"error_rate": 0.5}, "high"),
        (error_spike, {"error_rate": 0.51}, "critical"),
        (timeout, {}, "high"),
        (traffic_drop, {}, "medium"),
        (sustained_shift, {}, "low"),
        (sustained_shift, {"deviation": 2.0}, "low"),
        (sustained_shift, {"deviation": 2.01}, "medium"),
    ],
)
def test_severity_changes_above_its_limit(
    detector: Detector, evidence: dict[str, Any], severity: str
) -> None:
    assert detector.severity(evidence) == severity


@pytest.mark.parametrize(
    ("detector", "log_ms", "age_s", "expected"),
    [
        (latency_anomaly, [log(3 * 45.0), log(136)], [0, 0], [False, True]),
        (timeout, [0, 0], [4.99, 5.0], [False, True]),
        (traffic_drop, [0, 0], [0, 0], [True, True]),
        (error_spike, [0, 0], [0, 0], [False, True]),
    ],
)
def test_the_requests_that_show_an_anomaly_are_beyond_its_threshold(
    detector: Detector, log_ms: list[float], age_s: list[float], expected: list[bool]
) -> None:
    requests = WindowRequests(np.array([False, True]), np.array(log_ms), np.array(age_s))
    shown = detector.shows(requests, {"baseline_ms": 45.0}, S)
    assert shown.tolist() == expected


def test_a_timeout_reads_as_open_requests_or_as_calls_given_up() -> None:
    row = SimpleNamespace(oldest_s=7.0, stuck=1, given_up=3)
    both = timeout.evidence(row)
    assert timeout.describe(both) == "1 requests without an answer, the oldest for 7.0 s"
    row.stuck = 0
    assert timeout.describe(timeout.evidence(row)) == "3 calls were given up by their callers"


def test_the_limit_of_silence_stays_finite() -> None:
    assert silence_limit(50.0) == pytest.approx(300 * log(10))


@pytest.mark.parametrize(
    ("weeks", "window_s", "windows"),
    [(100.0, 10.0, 6_048_000), (1.0, 10.0, 60_480), (1.0, 5, 120_960)],
)
def test_by_chance_a_silence_reaches_the_limit_once_in_the_run_length(
    weeks: float, window_s: float, windows: int
) -> None:
    assert exp(silence_run_limit(weeks, window_s)) == pytest.approx(windows)


@pytest.mark.parametrize(
    ("knobs", "limit"),
    [
        ({}, 15.6153),
        ({"run_length_weeks": 1.0}, 11.0101),
        ({"window_s": 60.0}, 13.8235),
        ({"z": 6.0}, 20.7368),
        ({"z": 3.0, "run_length_weeks": 0.01, "window_s": 1e6}, 6.6077),
    ],
)
def test_a_silence_must_be_unlikely_by_itself_and_among_all_of_the_run_length(
    knobs: dict[str, float], limit: float
) -> None:
    s = lab.Sensitivity(**knobs)
    assert not decides(traffic_drop, {"missed": limit - 1e-3}, s)
    assert decides(traffic_drop, {"missed": limit + 1e-3}, s)


# ---- scores and learning: one window of one endpoint, beside another that is always busy

BEGIN_S = 1_000_000.0
KEYS = [("shop", "/payment"), ("shop", "/busy")]
BASELINE = {
    "count": 100.0,
    "mean": log(100),
    "var": 0.04,
    "error_rate": 0.1,
    "windows": 20.0,
    "rate": 10.0,
    "rate_var": 25.0,
    "ok_count": 100.0,
    "slow": log(100),
}


def judged(
    *,
    n: float = 0,
    ms: float = 100.0,
    errors: float = 0,
    long: float = 0,
    aged: float | None = None,
    arrivals: float | None = None,
    busy: float = 20,
    stuck: Sequence[float] = (),
    abnormal: bool = False,
    busy_abnormal: bool = False,
    jumps: Sequence[str] = (),
    s: lab.Sensitivity = S,
    system: NDArray | None = None,
    **baseline: float,
) -> tuple[Any, Any, Any]:
    """Return the scores (None if not judged), the baseline before, and the baseline after."""
    state = baselines.fresh(2)
    for name, value in (BASELINE | baseline).items():
        state[0][name] = value
    counts = made_counts(
        n=[[n, 0.0]],
        ms=ms,
        var=0.09,
        errors=[[errors, 0.0]],
        long=[[float(long), 0.0]],
        aged=[[n if aged is None else aged, 0.0]],
        arrivals=[[n if arrivals is None else arrivals, busy]],
        stuck=[(0, 0, age_s) for age_s in stuck],
        start_ns=int(BEGIN_S * 1e9),
    )

    def decide(windows: Any, usual: Any, s: Any) -> dict[str, NDArray]:
        return {"forced": np.array([[abnormal, busy_abnormal]])}

    system = np.array([10.0, 40.0]) if system is None else system
    windows, usual = scoring.judge(counts, KEYS, state, system, s, decide=decide, jumps=jumps)
    mine = np.flatnonzero(windows["endpoint"] == "/payment")
    if mine.size == 0:
        return None, None, state[0]
    return windows.iloc[mine[0]], usual.iloc[mine[0]], state[0]


def alpha(elapsed_s: float, half_life_s: float) -> float:
    return 1 - 2 ** (-elapsed_s / half_life_s)


def test_latency_scores_by_hand() -> None:
    window, usual, _ = judged(n=16, ms=120)
    assert window.latency_ms == pytest.approx(120)
    assert window.baseline_ms == pytest.approx(100)
    assert window.ratio == pytest.approx(1.2)
    assert window.z == pytest.approx(log(1.2) / (0.2 / 4))
    assert window.low_ms == pytest.approx(100 * exp(-3 * 0.2 / 4))
    assert usual.sd_log == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("knobs", "high_ms"),
    [
        ({}, 300),
        ({"ratio": 1.0}, 100 * exp(3 * 0.2 / 4)),
        ({"ratio": 1.0, "z": 0.0}, 110),
    ],
)
def test_the_upper_limit_is_the_largest_of_three(knobs: dict[str, float], high_ms: float) -> None:
    window, _, _ = judged(n=16, s=lab.Sensitivity(**knobs))  # type: ignore[arg-type]
    assert window.high_ms == pytest.approx(high_ms)


def test_a_steady_latency_still_has_a_standard_deviation() -> None:
    window, usual, _ = judged(n=16, ms=120, var=0.0)
    assert usual.sd_log == 0.1
    assert window.z == pytest.approx(log(1.2) / (0.1 / 4))


@pytest.mark.parametrize("errors", [3, 6, 16])
def test_error_scores_by_hand(errors: int) -> None:
    window, _, _ = judged(n=16, errors=errors)
    tail = sum(comb(16, k) * 0.15**k * 0.85 ** (16 - k) for k in range(errors, 17))
    assert window.error_rate == errors / 16
    assert window.error_low == pytest.approx(wilson(errors, 16, 3.0)[0])
    assert window.error_chance == pytest.approx(tail)


def test_no_more_errors_than_expected_are_certain() -> None:
    assert scoring.error_chance(3, 20, 0.15) == 1.0
    assert scoring.error_chance(4, 20, 0.15) < 0.5


def test_tiny_chances_are_cut_off() -> None:
    assert scoring.error_chance(20, 20, 0.7e-15 ** (1 / 20)) == 0.0
    assert scoring.error_chance(20, 20, 1.5e-15 ** (1 / 20)) == pytest.approx(
        1.5e-15, rel=1e-9, abs=0
    )


def test_an_endpoint_that_always_fails_has_finite_odds() -> None:
    window, _, _ = judged(n=16, errors=16, error_rate=0.97)
    assert window.error_chance == pytest.approx(0.999**16)


@pytest.mark.parametrize(("ages", "stuck"), [([5.0], 0), ([5.01], 1), ([5.01, 9.0, 4.0], 2)])
def test_a_fast_request_is_stuck_after_the_timeout(ages: list[float], stuck: int) -> None:
    window, _, _ = judged(n=3, stuck=ages)
    assert window.stuck == stuck
    assert window.oldest_s == (max(ages) if stuck else 0.0)


@pytest.mark.parametrize("busy_abnormal", [False, True])
def test_who_is_stuck_is_judged_before_its_window_is_learned(busy_abnormal: bool) -> None:
    window, usual, after = judged(
        n=3, ms=9000, stuck=[7.97], mean=log(1000), busy_abnormal=busy_abnormal
    )
    assert after["mean"] > log(1001)  # 7.97 s is no longer stuck
    assert window.stuck == 1


@pytest.mark.parametrize(("age_s", "stuck"), [(7.96, 0), (7.97, 1)])
def test_a_slow_request_is_stuck_after_five_times_the_99th_percentile(
    age_s: float, stuck: int
) -> None:
    assert 7.96 < 5 * exp(2.326 * 0.2) < 7.97
    window, _, _ = judged(n=3, stuck=[age_s], mean=log(1000))
    assert window.stuck == stuck


@pytest.mark.parametrize(("rate_var", "due"), [(25.0, 2.0), (5.0, 5.0)])
def test_what_is_due_is_scaled_by_traffic_and_dispersion(rate_var: float, due: float) -> None:
    """Half the traffic of all endpoints; 10 requests a window, whose variance is 25, or 5."""
    _, _, after = judged(rate_var=rate_var, silent=1.0)
    assert after["silent"] == pytest.approx(1.0 + due)


def test_more_traffic_than_usual_makes_no_more_due() -> None:
    assert judged(busy=80)[2]["silent"] == pytest.approx(4.0)
    assert judged(busy=80, system=np.zeros(2))[2]["silent"] == 0.0


@pytest.mark.parametrize(("longest", "after"), [(2.0, 6.0), (9.0, 9.0)])
def test_an_arrival_ends_a_silence(longest: float, after: float) -> None:
    _, _, baseline = judged(arrivals=1, silent=6.0, longest=longest)
    assert (baseline["silent"], baseline["longest"]) == (0.0, after)


@pytest.mark.parametrize(
    ("changes", "column", "expected"),
    [
        ({"windows": 11.0}, "known", False),
        ({"windows": 12.0}, "known", True),
        ({"count": 19.0}, "known", False),
        ({"count": 19.0}, "learning", True),
        ({"count": 20.0}, "learning", False),
    ],
)
def test_a_baseline_warms_up(changes: dict[str, float], column: str, expected: bool) -> None:
    assert judged(n=3, **changes)[1][column] == expected


def test_a_small_window_waits_for_the_next() -> None:
    window, _, after = judged(n=2, pool_n=0.0)
    assert window is None
    assert (after["pool_n"], after["pool_s"], after["count"]) == (2.0, 10.0, 100.0)
    window, _, after = judged(n=2, ms=100, pool_n=1.0, pool_total=log(100), pool_s=10.0)
    assert (window.n, window.seconds) == (3, 20.0)
    assert (after["pool_n"], after["pool_s"], after["count"]) == (0.0, 0.0, 103.0)


def test_a_window_without_requests_adds_no_time_to_the_pool() -> None:
    assert judged()[2]["pool_s"] == 0.0


@pytest.mark.parametrize("count", [100.0, 10_000.0])
@pytest.mark.parametrize("half_life_s", [300.0, 20.0])
def test_a_normal_window_is_learned(count: float, half_life_s: float) -> None:
    """The weight is bounded by the window's share of 100 requests, and of all so far."""
    s = lab.Sensitivity(half_life_s=half_life_s)
    _, _, after = judged(n=16, ms=120, errors=4, count=count, abnormal_since=5.0, s=s)
    weight = max(min(alpha(10, half_life_s), 16 / 100), 16 / (count + 16))
    gap = log(1.2)
    assert after["count"] == count + 16
    assert after["mean"] == pytest.approx(log(100) + weight * gap)
    assert after["var"] == pytest.approx((1 - weight) * (0.04 + weight * gap**2) + weight * 0.09)
    assert after["error_rate"] == pytest.approx(0.1 + weight * 0.15)
    assert np.isnan(after["abnormal_since"])
    assert after["new_count"] == 0.0


def test_an_abnormal_window_is_learned_apart() -> None:
    window, _, after = judged(n=16, ms=900, errors=4, abnormal=True, jumps=["forced"])
    assert window.state == "anomalous"
    for name, value in BASELINE.items():
        assert after[name] == value, name
    assert after["abnormal_since"] == BEGIN_S
    assert after["new_count"] == 16
    assert after["new_mean"] == pytest.approx(log(900))
    assert after["new_var"] == pytest.approx(0.09)
    assert after["new_error_rate"] == 0.25
    assert (after["new_windows"], after["new_rate"]) == (1.0, 16.0)


@pytest.mark.parametrize(("since_s", "accepted"), [(889, False), (890, True)])
def test_a_level_that_stays_is_accepted(since_s: float, accepted: bool) -> None:
    """At the end of its window it has lasted 899 s, or 900 s."""
    before = {"abnormal_since": BEGIN_S - since_s, "new_count": 200.0, "new_mean": log(900)}
    before |= {"new_windows": 88.0, "new_rate": 3.0, "longest": 4.0}
    _, _, after = judged(n=16, ms=900, abnormal=True, **before)
    assert np.isnan(after["abnormal_since"]) == accepted
    assert after["mean"] == pytest.approx(log(900 if accepted else 100))
    assert after["count"] == (216 if accepted else 100)
    assert after["windows"] == (89 if accepted else 20)
    assert (after["rate"] == 10.0) != accepted
    assert after["longest"] == (0.0 if accepted else 4.0)


def test_a_silence_that_stays_leaves_the_latency_as_it_was() -> None:
    _, _, after = judged(abnormal=True, abnormal_since=BEGIN_S - 2000, new_windows=5.0)
    assert after["mean"] == log(100)
    assert (after["count"], after["windows"]) == (100.0, 6.0)


@pytest.mark.parametrize("windows", [20.0, 10_000.0])
def test_arrivals_are_remembered_for_twelve_half_lives(windows: float) -> None:
    _, _, after = judged(n=16, windows=windows)
    weight = max(alpha(10, 12 * 300), 1 / (windows + 1))
    assert after["windows"] == windows + 1
    assert after["rate"] == pytest.approx(10 + weight * 6)
    assert after["rate_var"] == pytest.approx((1 - weight) * (25 + weight * 36))
    _, _, after = judged(n=16, abnormal=True, abnormal_since=BEGIN_S - 10, new_windows=windows)
    assert after["new_rate"] == pytest.approx(weight * 16)
    assert after["rate"] == 10.0


@pytest.mark.parametrize(
    ("busy", "arrivals", "count", "windows"),
    [(0, 0, 100.0, 20), (20, 0, 100.0, 21), (20, 0, 0.0, 20), (20, 1, 0.0, 21)],
)
def test_arrivals_are_learned_while_any_traffic_flows_and_the_endpoint_is_known(
    busy: float, arrivals: float, count: float, windows: int
) -> None:
    assert judged(arrivals=arrivals, busy=busy, count=count)[2]["windows"] == windows


@pytest.mark.parametrize(("seen", "weight"), [(9.0, 0.1), (1e6, alpha(10, 3600))])
def test_the_usual_traffic_of_all_endpoints_is_learned(seen: float, weight: float) -> None:
    system = np.array([seen, 40.0])
    judged(busy=20, system=system)
    assert system.tolist() == pytest.approx([seen + 1, 40 - 20 * weight])
    judged(busy=0, system=system)
    assert system[0] == seen + 1


def test_an_endpoint_without_history_has_no_ratio() -> None:
    window, usual, _ = judged(n=3, count=0.0)
    assert np.isnan([window.ratio, window.z, window.baseline_ms, window.high_ms]).all()
    assert window.state == "learning"
    assert pd.isna(usual.latency_ms)
    assert not np.isnan(judged(n=3)[0].high_ms)


@pytest.mark.parametrize("size", [1, 2])
def test_stored_baselines_are_read_back_or_begun_anew(size: int) -> None:
    state = baselines.fresh(1)
    state["mean"] = 7.0
    again = baselines.from_rows(baselines.to_rows(state), size)
    assert again["mean"].tolist() == ([7.0] if size == 1 else [0.0, 0.0])


@pytest.mark.parametrize(("share", "long_lived"), [(0.05, False), (0.051, True)])
def test_an_endpoint_with_many_long_requests_is_long_lived(share: float, long_lived: bool) -> None:
    assert judged(n=3, long_share=share)[1].long_lived == long_lived


@pytest.mark.parametrize(("aged", "seen"), [(16, 0.25), (20, 0.2), (0, 4.0)])
def test_the_share_of_long_requests_is_learned(aged: float, seen: float) -> None:
    _, _, after = judged(n=16, long=4, aged=aged, long_share=0.1, count=10_000)
    weight = max(min(alpha(10, S.half_life_s), 16 / 1000), 16 / 10016)
    assert after["long_share"] == pytest.approx(0.1 + weight * (seen - 0.1))


def test_while_abnormal_the_share_of_long_requests_is_learned_apart() -> None:
    _, _, after = judged(n=16, long=4, aged=16, long_share=0.1, abnormal=True)
    assert after["long_share"] == 0.1
    assert after["new_long_share"] == 0.25
    still = {"abnormal_since": BEGIN_S - 890, "new_count": 16.0, "new_long_share": 0.25}
    _, _, later = judged(n=16, long=4, aged=16, long_share=0.1, abnormal=True, **still)
    assert later["long_share"] == pytest.approx(0.25)


def test_an_accepted_level_takes_its_own_slow_average() -> None:
    still = {"abnormal_since": BEGIN_S - 890, "new_count": 16.0, "new_ok_count": 16.0}
    still |= {"new_slow": log(300), "new_mean": log(300)}
    _, _, after = judged(n=16, ms=300, abnormal=True, **still)
    assert after["slow"] == pytest.approx(log(300))
    assert after["ok_count"] == 32.0
