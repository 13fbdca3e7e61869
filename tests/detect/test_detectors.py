import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab import numerics
from aiops_lab.detect import baselines, detectors
from aiops_lab.detect.detector_calls import DetectorCalls
from aiops_lab.detect.scoring import judge
from tests.support.counts import made_counts
from tests.support.made import Shop

S = lab.Sensitivity()
WINDOW_NS = 10 * 10**9
KEYS = [("shop", "/payment"), ("shop", "/health")]


def column(rows, name, default):
    return [[cell.get(name, default) for cell in row] for row in rows]


def run(rows, sensitivity=S, state=None, system=None, start=0):
    """Judge windows given as one dict an endpoint and window: n, ms, errors, arrivals, given_up,
    stuck ages.
    """
    n = column(rows, "n", 0)
    tables = {name: column(rows, name, 0) for name in ("errors", "given_up")}
    arrivals = [[cell.get("arrivals", cell.get("n", 0)) for cell in row] for row in rows]
    stuck = [
        (w, code, age_s)
        for w, row in enumerate(rows)
        for code, cell in enumerate(row)
        for age_s in cell.get("stuck", ())
    ]
    about = {"ms": column(rows, "ms", 45.0), "var": 0.04, "stuck": stuck, "start_ns": start}
    counts = made_counts(n=n, arrivals=arrivals, aged=0, **about, **tables)
    state = baselines.fresh(len(KEYS)) if state is None else state
    system = np.zeros(2) if system is None else system
    calls = DetectorCalls()
    windows, usual = judge(
        counts, KEYS, state, system, sensitivity, decide=calls.decide, jumps=calls.jumps
    )
    found = [a for d in detectors.DETECTORS for a in d(windows, usual, sensitivity)]
    return found, windows, state


RULES = [d.column for d in detectors.DETECTORS]
USUAL = [({"n": 30}, {"n": 10, "ms": 2.0})] * 30


def kinds(found):
    return [(a.type, a.endpoint, a.severity) for a in found]


def test_the_usual_is_no_anomaly():
    found, windows, _ = run(USUAL)
    assert found == []
    assert set(windows["state"]) == {"learning", "normal"}


@pytest.mark.parametrize(("ms", "expected"), [(134, []), (140, "medium"), (230, "high")])
def test_slow_is_three_times_the_baseline(ms, expected):
    found, _, _ = run([*USUAL, ({"n": 30, "ms": ms}, {"n": 10, "ms": 2.0})])
    latency = [a for a in found if a.type == "latency_anomaly"]
    assert [a.severity for a in latency] == ([expected] if expected else [])
    if expected:
        assert latency[0].evidence["deviation"] == pytest.approx(ms / 45, rel=1e-6)
        assert latency[0].evidence["baseline_ms"] == pytest.approx(45)


def test_a_ratio_without_significance_is_no_anomaly():
    """Nine requests of 140 ms among latencies that scatter by e^2 prove nothing."""
    wild = [({"n": 30}, {}) for _ in range(30)]
    _, _, state = run(wild)
    state["var"] = 4.0
    found, windows, _ = run([({"n": 5, "ms": 140}, {})], state=state)
    assert found == []
    assert windows["ratio"].iloc[-1] > 3
    assert windows["z"].iloc[-1] < 3


def test_a_rise_of_a_few_milliseconds_is_no_anomaly():
    found, windows, _ = run([*USUAL, ({"n": 30}, {"n": 10, "ms": 9.0})])
    assert found == []
    assert windows["ratio"].max() == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("errors", "n", "severity"),
    [
        (1, 30, None),
        (1, 3, None),
        (2, 3, None),
        (12, 60, "medium"),
        (9, 30, "high"),
        (16, 30, "critical"),
        (3, 3, "critical"),
    ],
)
def test_errors_are_judged_by_their_lower_bound_and_graded_by_their_rate(errors, n, severity):
    found, _, _ = run([*USUAL, ({"n": n, "errors": errors}, {"n": 10, "ms": 2.0})])
    spikes = [a for a in found if a.type == "error_spike"]
    assert [a.severity for a in spikes] == ([severity] if severity else [])


def test_an_endpoint_that_always_fails_a_little_is_usual():
    some = [({"n": 30, "errors": 6}, {})] * 40
    assert run(some)[0] == []
    assert run([*some, ({"n": 30, "errors": 25}, {})])[0] != []


@pytest.mark.parametrize(
    ("ages", "expected"), [([6, 7, 8], True), ([6, 7], False), ([4, 4, 4, 4], False)]
)
def test_hanging_is_an_age(ages, expected):
    found, _, _ = run([*USUAL, ({"stuck": ages, "arrivals": 4}, {"n": 10, "ms": 2.0})])
    assert (("timeout", "/payment", "high") in kinds(found)) == expected
    if expected:
        assert found[0].evidence == {"age_ms": 8000.0, "open_requests": 3, "given_up_calls": 0}


def test_a_slow_endpoint_may_take_five_times_its_own_99th_percentile():
    slow = [({"n": 30, "ms": 4000.0}, {})] * 30
    assert run([*slow, ({"stuck": [9, 9, 9, 9], "arrivals": 4}, {})])[0] == []
    assert run([*slow, ({"stuck": [99, 99, 99, 99], "arrivals": 4}, {})])[0] != []


def test_calls_that_were_given_up_are_timeouts():
    found, _, _ = run([*USUAL, ({"n": 3, "given_up": 3}, {"n": 10, "ms": 2.0})])
    assert kinds(found) == [("timeout", "/payment", "high")]
    assert found[0].description == "Timeout: 3 calls were given up by their callers"


def test_silence_of_one_endpoint_among_busy_ones_is_a_traffic_drop():
    found, _, _ = run([*USUAL, ({}, {"n": 40, "ms": 2.0})])
    assert kinds(found) == [("traffic_drop", "/payment", "medium")]
    assert found[0].evidence["requests"] == 0


def test_silence_of_everything_is_not():
    assert run([*USUAL, *[({}, {})] * 20])[0] == []


def test_bursts_are_no_promise():
    burst = [
        ({"n": 60}, {"n": 40, "ms": 2.0}),
        ({}, {"n": 40, "ms": 2.0}),
        ({}, {"n": 40, "ms": 2.0}),
    ] * 15
    assert run([*burst, ({}, {"n": 40, "ms": 2.0})])[0] == []


def with_a_sudden_fall(seed, lost_from=700):
    """Return windows with 8 and 40 requests on average, from number 400 on with a tenth of them,
    and from `lost_from` on without the first endpoint.
    """
    rng = np.random.default_rng(seed)
    rates = np.tile([8.0, 40.0], (700, 1))
    rates[400:] /= 10
    rates[lost_from:, 0] = 0
    return [({"n": few}, {"n": many}) for few, many in rng.poisson(rates)]


@pytest.mark.parametrize("seed", range(4))
def test_a_sudden_fall_of_all_traffic_to_a_tenth_is_no_drop(seed):
    assert run(with_a_sudden_fall(seed))[0] == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("lost_from", "within"), [(300, 3), (450, 55)])
def test_what_is_lost_is_missed_before_such_a_fall_and_after_it(lost_from, within, seed):
    found = run(with_a_sudden_fall(seed, lost_from))[0]
    first = found[0].window.value // WINDOW_NS
    assert found[0].type == "traffic_drop"
    assert lost_from < first <= lost_from + within


def test_a_window_without_requests_where_eight_are_usual_is_chance():
    """Chance brings one in 2981 windows: three a day from each such endpoint."""
    usual = ({"n": 8}, {"n": 40, "ms": 2.0})
    silent = ({}, {"n": 40, "ms": 2.0})
    assert run([*[usual] * 30, silent, usual])[0] == []
    assert [a.type for a in run([*[usual] * 30, silent, silent, silent, usual])[0]] == [
        "traffic_drop"
    ]


def test_a_silence_as_long_as_some_before_is_no_drop():
    shop_open = ({"n": 30}, {"n": 10, "ms": 2.0})
    pause = ({}, {"n": 40, "ms": 2.0})
    first = run([*[shop_open] * 30, pause, pause, shop_open])[0]
    _, _, state = run([*[shop_open] * 30])
    state["longest"] = 60.0
    assert kinds(first)[0] == ("traffic_drop", "/payment", "medium")
    assert run([pause, pause, shop_open], state=state, system=np.array([30.0, 40.0]))[0] == []


def test_quiet_traffic_that_scatters_widely_raises_little():
    """Three requests a minute, lognormal with sigma 1, nothing wrong, for a day: dozens without
    significance.
    """
    rng = np.random.default_rng(0)
    frame = Shop(0).run(10, rate=1)
    at = np.sort(rng.uniform(0, 86_400, 4_320))
    quiet = pd.concat([frame.iloc[[0]]] * at.size, ignore_index=True).assign(
        trace_id=[f"{k:032x}" for k in range(at.size)],
        span_id=[f"{k:016x}" for k in range(at.size)],
        parent_id=None,
        kind="server",
        endpoint="/report",
        peer=None,
        start=frame["start"].iloc[0] + pd.to_timedelta(at, unit="s"),
        duration_ms=45 * np.exp(rng.standard_normal(at.size)),
    )
    assert len(lab.replay(quiet, causes=False).incidents) <= 6


def test_below_min_count_nothing_is_an_anomaly():
    few = [({"n": 4}, {})] * 4
    assert run([*few, ({"n": 3, "ms": 9000.0, "errors": 3}, {})])[0] == []
    assert run([*few, *few, ({"n": 3, "ms": 9000.0, "errors": 3}, {})])[0] != []


def test_small_windows_are_pooled_with_the_next():
    _, windows, _ = run([({"n": 1}, {})] * 6)
    assert windows["n"].tolist() == [3, 3]
    assert windows["seconds"].tolist() == [30.0, 30.0]


def test_a_window_says_which_rules_it_breaks():
    """So that a detector of one's own may build on the package's rules, also where it is the only
    one.
    """
    broken = {"n": 30, "ms": 300.0, "errors": 30, "stuck": [9, 9, 9]}
    _, windows, _ = run([*USUAL, (broken, {"n": 10, "ms": 2.0})])
    payment = windows[windows["endpoint"] == "/payment"].iloc[-1]
    assert [rule for rule in RULES if payment[rule]] == ["slow", "failing", "hanging"]
    assert (windows["state"] == "anomalous").tolist() == windows[list(RULES)].any(axis=1).tolist()


def test_the_score_knows_nothing_of_its_own_window():
    """Score, then learn: the baseline beside a window is the one before it."""
    _, windows, _ = run([*USUAL, ({"n": 30, "ms": 100.0}, {})])
    assert windows.query("endpoint == '/payment'")["baseline_ms"].iloc[-1] == pytest.approx(45)


def test_an_anomaly_is_not_learned_but_after_a_while_accepted():
    outage = [({"n": 30, "ms": 900.0}, {})] * 60
    found, windows, _ = run(
        [*[({"n": 30}, {})] * 30, *outage], lab.Sensitivity(relearn_after_s=300)
    )
    usual = windows["baseline_ms"].to_numpy()
    np.testing.assert_allclose(usual[31:59], 45)
    assert usual[61] == pytest.approx(900)
    assert len([a for a in found if a.type == "latency_anomaly"]) == 30


def test_one_window_at_a_time_equals_all_at_once():
    rows = [*USUAL, ({"n": 30, "ms": 300}, {"n": 10}), ({"n": 2}, {}), *USUAL]
    found, windows, state = run(rows)
    stream, system, piece, some = baselines.fresh(2), np.zeros(2), [], []
    for w, row in enumerate(rows):
        more, part, _ = run([row], state=stream, system=system, start=w * WINDOW_NS)
        piece.append(part)
        some += more
    pd.testing.assert_frame_equal(pd.concat(piece, ignore_index=True), windows)
    np.testing.assert_array_equal(baselines.to_rows(stream), baselines.to_rows(state))
    assert [(a.type, a.window, a.evidence) for a in some] == [
        (a.type, a.window, a.evidence) for a in found
    ]


def test_the_classic_rule_alarms_where_the_default_waits():
    few = [*[({"n": 2}, {})] * 3, ({"n": 1, "ms": 200.0}, {})]
    assert run(few)[0] == []
    assert kinds(run(few, lab.Sensitivity.classic())[0]) == [
        ("latency_anomaly", "/payment", "medium")
    ]


@pytest.mark.parametrize(("k", "n", "z"), [(0, 10, 3.0), (3, 3, 3.0), (5, 50, 1.96), (1, 7, 0.0)])
def test_wilson_bounds_solve_their_equation(k, n, z):
    """A bound p is where |k/n - p| is z standard errors of p itself."""
    for p in numerics.wilson(k, n, z):
        assert abs(k / n - p) == pytest.approx(z * np.sqrt(max(p * (1 - p), 0) / n), abs=1e-6)


def test_silence_is_as_unlikely_as_z():
    assert np.exp(-detectors.silence_limit(3.0)) == pytest.approx(0.00135, rel=1e-2)


def test_anomalies_carry_the_seeds_fields():
    found, _, _ = run([*USUAL, ({"n": 30, "ms": 1250.0, "errors": 30}, {"n": 10, "ms": 2.0})])
    latency, errors = (a.to_dict() for a in found)
    assert latency["type"] == "latency_anomaly"
    assert set(latency) >= {
        "type",
        "endpoint",
        "severity",
        "baseline_ms",
        "current_ms",
        "deviation",
    }
    assert set(errors) >= {"type", "endpoint", "severity", "error_rate", "baseline_error_rate"}
    assert found[0].description == "Latency spike: 1250ms (baseline: 45ms, 27.8x slower)"
