import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import aiops_lab as lab
from aiops_lab.explain import ledger, ranking
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.verdict import build_verdict
from tests.support.made import Shop, fault
from tests.support.traces import span
from tests.traces.test_traces import call_trees

USUAL = lab.learn(Shop(1).run(120))


def broken(effect, seed=2, seconds=60, **shop):
    return Shop(seed, effect, **shop).run(seconds)


def always(endpoint, **numbers):
    return fault(endpoint, 0, 10_000, **numbers)


def conserves(ledger):
    for unit, before, now, within in (
        ("ms", "usual_ms", "now_ms", 1e-6),
        ("failures", "usual_failed", "now_failed", 1e-9),
    ):
        rows = ledger.rows[(ledger.rows["unit"] == unit) & ~ledger.rows["masked"]]
        originated = rows.groupby("entry")["excess"].sum()
        for entry in ledger.entries.to_dict("records"):
            assert originated.get(entry["entry"], 0.0) == pytest.approx(
                entry[now] - entry[before], abs=within
            )


@pytest.mark.parametrize("endpoint", ["/payment", "/inventory", "/checkout"])
@pytest.mark.parametrize(
    "numbers",
    [{"added_ms": 300}, {"status": 500}, {"status": 500, "rate": 0.3}, {"added_ms": 20_000}],
    ids=str,
)
def test_the_cause_is_where_the_excess_was_originated(endpoint, numbers):
    abnormal = broken(always(endpoint, **numbers))
    (first, *rest) = lab.rank_root_causes(USUAL, abnormal)
    assert first.endpoint == endpoint
    assert first.confidence > 0.9
    assert first.evidence
    conserves(ledger.excess_ledger(USUAL, abnormal))


def test_where_nothing_is_wrong_there_is_no_suspect():
    for seed in range(5):
        assert lab.rank_root_causes(USUAL, broken(None, seed)) == []


def test_learned_once_or_given_as_spans_is_the_same():
    abnormal = broken(always("/payment", added_ms=300))
    assert lab.rank_root_causes(Shop(1).run(120), abnormal) == lab.rank_root_causes(USUAL, abnormal)


def test_nothing_usual_or_nothing_abnormal_gives_no_suspects():
    empty = lab.to_frame([])
    assert lab.rank_root_causes(empty, broken(None)) == []
    assert lab.rank_root_causes(USUAL, empty) == []
    assert lab.rank_root_causes(empty, empty) == []


def test_two_faults_are_the_first_two_suspects():
    slow, failing = always("/payment", added_ms=300), always("/inventory", status=500, rate=0.5)

    def both(endpoint, second):
        return slow(endpoint, second) if endpoint == "/payment" else failing(endpoint, second)

    suspects = lab.rank_root_causes(USUAL, broken(both))
    assert {s.endpoint for s in suspects[:2]} == {"/payment", "/inventory"}
    assert sum(s.share for s in suspects) == pytest.approx(1)


def test_a_caller_that_gives_up_first_points_to_where_its_time_went():
    """/payment takes 2 s and answers; /checkout waits for 0.5 s only. First failure by end would
    say /checkout.
    """
    abnormal = broken(always("/payment", added_ms=2000), patience_ms=500)
    (first, *_) = lab.rank_root_causes(USUAL, abnormal)
    assert first.endpoint == "/payment"
    conserves(ledger.excess_ledger(USUAL, abnormal))


def test_requests_that_hang_for_good_point_to_who_holds_them():
    frame = broken(always("/payment", added_ms=30_000))
    hung = frame["duration_ms"] > 20_000
    frame.loc[hung, ["duration_ms", "status"]] = [np.nan, 0]
    (first, *_) = lab.rank_root_causes(USUAL, frame)
    assert first.endpoint == "/payment"
    conserves(ledger.excess_ledger(USUAL, frame))


def slow_network(frame, ms):
    """Delay what travels from /checkout to /payment and back: the server span stays as short as it
    was.
    """
    frame = frame.copy()
    stretched = (frame["kind"] == "client") & (frame["endpoint"] == "/payment")
    late = frame["parent_id"].isin(frame.loc[stretched, "span_id"])
    frame.loc[stretched, "duration_ms"] += ms
    frame.loc[late, "start"] += pd.Timedelta(ms / 2, unit="ms")
    roots = frame["trace_id"].isin(frame.loc[stretched, "trace_id"]) & frame["parent_id"].isna()
    frame.loc[roots, "duration_ms"] += ms
    after = frame["trace_id"].isin(frame.loc[stretched, "trace_id"]) & (
        frame["endpoint"] == "/inventory"
    )
    frame.loc[after, "start"] += pd.Timedelta(ms, unit="ms")
    return frame.sort_values(["start", "span_id"], ignore_index=True)


def test_a_slow_network_is_booked_on_the_edge_and_counts_to_the_called():
    abnormal = slow_network(broken(None), 80)
    (first, *_) = lab.rank_root_causes(USUAL, abnormal)
    assert first.endpoint == "/payment"
    assert first.evidence[0]["account"] == "edge /checkout → /payment"
    conserves(ledger.excess_ledger(USUAL, abnormal))


@pytest.mark.parametrize("skew_ms", [60, -300])
def test_clocks_that_disagree_do_not_change_the_cause(skew_ms):
    def skewed(frame):
        frame = frame.copy()
        away = (frame["kind"] == "server") & frame["endpoint"].isin(["/payment", "/inventory"])
        frame["service"] = np.where(away, "back", "shop")
        frame.loc[frame["kind"] == "client", "peer"] = "back"
        frame.loc[away, "start"] += pd.Timedelta(skew_ms, unit="ms")
        return frame.sort_values(["start", "span_id"], ignore_index=True)

    for endpoint, numbers in [("/payment", {"added_ms": 300}), ("/checkout", {"added_ms": 300})]:
        (first, *_) = lab.rank_root_causes(
            skewed(Shop(1).run(120)), skewed(broken(always(endpoint, **numbers)))
        )
        assert first.endpoint == endpoint


def test_a_call_that_is_refused_counts_to_the_called():
    def down(frame):
        frame = frame.copy()
        calls = (frame["kind"] == "client") & (frame["endpoint"] == "/payment")
        ids = frame.loc[calls, "span_id"]
        traces = frame.loc[calls, "trace_id"]
        frame = frame[~frame["parent_id"].isin(ids)].copy()
        refused = frame["span_id"].isin(ids)
        frame.loc[refused, ["status", "duration_ms"]] = [0, 1.0]
        frame.loc[refused, "error"] = "ConnectionError: refused"
        root = frame["trace_id"].isin(traces) & frame["parent_id"].isna()
        frame.loc[root, "status"] = 502
        frame.loc[root, "duration_ms"] = 8.0
        return frame[
            ~(frame["trace_id"].isin(traces) & (frame["endpoint"] == "/inventory"))
        ].reset_index(drop=True)

    (first, *_) = lab.rank_root_causes(USUAL, down(broken(None)))
    assert (first.service, first.endpoint) == ("shop", "/payment")


def test_a_failure_that_a_retry_repaired_still_counts():
    frame = broken(None)
    calls = frame[(frame["kind"] == "client") & (frame["endpoint"] == "/payment")]
    extra = calls.assign(
        status=500, duration_ms=3.0, span_id=[f"f{int(i, 16):015x}" for i in calls["span_id"]]
    )
    extra["start"] -= pd.Timedelta(3.2, unit="ms")
    served = extra.assign(
        kind="server",
        parent_id=extra["span_id"],
        duration_ms=2.0,
        peer=None,
        span_id=[f"e{i[1:]}" for i in extra["span_id"]],
        error="RuntimeError: flaky",
    )
    served["start"] += pd.Timedelta(0.5, unit="ms")
    retried = pd.concat([frame, extra, served]).sort_values(["start", "span_id"], ignore_index=True)
    assert not (retried[retried["parent_id"].isna()]["status"] >= 500).any()
    (first, *_) = lab.rank_root_causes(USUAL, retried)
    assert first.endpoint == "/payment"
    conserves(ledger.excess_ledger(USUAL, retried))


def test_parallel_calls_are_booked_to_the_one_that_was_waited_for():
    def page(n, slow_ms):
        t = n * 1000
        return [
            span(1, None, "/page", "server", t, max(50, slow_ms) + 10, trace=n + 1),
            span(2, 1, "/left", "client", t + 5, 50, trace=n + 1, peer="shop"),
            span(3, 2, "/left", "server", t + 6, 48, trace=n + 1),
            span(4, 1, "/right", "client", t + 5, slow_ms, trace=n + 1, peer="shop"),
            span(5, 4, "/right", "server", t + 6, slow_ms - 2, trace=n + 1),
        ]

    jitter = np.random.default_rng(0).uniform(-2, 2, 80)
    normal = lab.to_frame([s for n in range(40) for s in page(n, 40 + jitter[n])])
    abnormal = lab.to_frame([s for n in range(40) for s in page(n, 90 + jitter[n + 40])])
    (first, *_) = lab.rank_root_causes(normal, abnormal)
    assert first.endpoint == "/right"
    found = ledger.excess_ledger(lab.learn(normal), abnormal)
    conserves(found)
    left = found.rows.query("account == '/left own time'")["excess"].item()
    assert left == pytest.approx(-48)  # it was waited for before, and is not any more


JITTER = np.random.default_rng(0).uniform(0.9, 1.1, 1000)


def orders(trace_spans, n=40, first=0):
    """Return n traces, one a second; ``trace_spans(trace, start_ms, jitter)`` gives the spans of
    one.
    """
    return lab.to_frame(
        [s for k in range(first, first + n) for s in trace_spans(k + 1, 1000.0 * k, JITTER[k])]
    )


def test_calls_beyond_the_usual_number_are_their_callers():
    """/checkout asks /payment six times instead of once; each answer is as fast as usual."""

    def order(times):
        def one(trace, t, j):
            made = [span(1, None, "/checkout", "server", t, (10 + 50 * times) * j, trace=trace)]
            for k in range(times):
                at = t + (5 + 50 * k) * j
                made.append(
                    span(2 + 2 * k, 1, "/payment", "client", at, 48 * j, peer="shop", trace=trace)
                )
                made.append(
                    span(3 + 2 * k, 2 + 2 * k, "/payment", "server", at + 1, 46 * j, trace=trace)
                )
            return made

        return one

    usual, now = lab.learn(orders(order(1))), orders(order(6), first=100)
    (first, *_) = lab.rank_root_causes(usual, now)
    assert first.endpoint == "/checkout"
    conserves(ledger.excess_ledger(usual, now))


def test_a_heavy_neighbour_does_not_hide_the_cause():
    """Most requests are reports of 12 s; /checkout goes from 60 ms to 260."""

    def traffic(added):
        def one(trace, t, j):
            if trace % 5 < 3:
                return [span(1, None, "/report", "server", t, 12_000 * j, trace=trace)]
            return [
                span(1, None, "/checkout", "server", t, 60 * j + added, trace=trace),
                span(2, 1, "/payment", "server", t + 5, 50 * j + added, trace=trace),
            ]

        return one

    (first, *_) = lab.rank_root_causes(
        orders(traffic(0), 200), orders(traffic(200), 200, first=300)
    )
    assert first.endpoint == "/payment"
    assert first.confidence > 0.9


def test_what_usually_fails_explains_no_outage():
    """An optional call always fails, after the one that matters, and nobody minds; now the one that
    matters fails.
    """

    def order(status):
        def one(trace, t, j):
            top = 200 if status == 200 else 502
            return [
                span(1, None, "/checkout", "server", t, 60 * j, status=top, trace=trace),
                span(
                    2,
                    1,
                    "/payment",
                    "client",
                    t + 2,
                    30 * j,
                    status=status,
                    peer="shop",
                    trace=trace,
                ),
                span(3, 2, "/payment", "server", t + 3, 28 * j, status=status, trace=trace),
                span(4, 1, "/ads", "client", t + 40, 5 * j, status=500, peer="shop", trace=trace),
                span(5, 4, "/ads", "server", t + 41, 3 * j, status=500, trace=trace),
            ]

        return one

    (first, *_) = lab.rank_root_causes(orders(order(200)), orders(order(500), first=100))
    assert first.endpoint == "/payment"


def test_a_request_that_usually_takes_long_does_not_hang_while_it_is_open():
    def reports(trace, t, j):
        return [span(1, None, "/report", "server", t, 20_000 * j, trace=trace)]

    now = orders(reports, first=100)
    now.loc[now.index[-10:], ["duration_ms", "status"]] = [np.nan, 0]
    assert lab.rank_root_causes(orders(reports), now) == []


def test_clocks_decide_three_levels_down():
    """/bank is slow; its clock is 500 ms ahead. Without alignment all of its time would be clipped
    away.
    """

    def order(added, ahead):
        def one(trace, t, j):
            bank = 20 * j + added
            return [
                span(1, None, "/checkout", "server", t, bank + 40, trace=trace, service="checkout"),
                span(
                    2,
                    1,
                    "/payment",
                    "client",
                    t + 5,
                    bank + 30,
                    peer="payment",
                    trace=trace,
                    service="checkout",
                ),
                span(3, 2, "/payment", "server", t + 6, bank + 28, trace=trace, service="payment"),
                span(
                    4,
                    3,
                    "/bank",
                    "client",
                    t + 16,
                    bank + 8,
                    peer="bank",
                    trace=trace,
                    service="payment",
                ),
                span(5, 4, "/bank", "server", t + 20 + ahead, bank, trace=trace, service="bank"),
            ]

        return one

    (first, *_) = lab.rank_root_causes(orders(order(0, 500)), orders(order(200, 500), first=100))
    assert first.evidence[0]["account"] == "/bank own time"


@given(call_trees(), call_trees())
@settings(max_examples=20, deadline=None)
def test_the_ledger_conserves_on_random_call_trees(normal, abnormal):
    found = ledger.excess_ledger(lab.learn(normal), abnormal)
    conserves(found)


@given(call_trees(), call_trees())
@settings(max_examples=12, deadline=None)
def test_any_trees_give_a_ranking_and_an_explanation(normal, abnormal):
    case = ledger.compare(lab.learn(normal), abnormal)
    found = build_verdict(case, ranking.rank_suspects(case))
    shares = [s.share for s in found.suspects]
    assert all(0 < s.confidence < 1 for s in found.suspects)
    assert sum(shares) == pytest.approx(1.0 if shares else 0.0)
    assert len(found.steps) == 4


def test_a_wrong_frame_is_refused_by_the_name_of_its_column():
    frame = broken(None)
    with pytest.raises(ValueError, match="'duration_ms'"):
        lab.rank_root_causes(frame.drop(columns="duration_ms"), frame)
    with pytest.raises(ValueError, match="'kind'"):
        lab.rank_root_causes(USUAL, frame.assign(kind="sever"))


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            pd.DataFrame({"cpu": [1.0]}),
            r"must be a DataFrame with the column 'service', got \['cpu'\]",
        ),
        ([1.0], "must be a DataFrame with the column 'service', got list"),
        (pd.DataFrame({"service": ["shop"]}), "must have an index of times in UTC, got int64"),
        (
            pd.DataFrame(
                {"service": ["shop"], "cpu": ["much"]},
                index=pd.DatetimeIndex(["2026-01-01"], tz="UTC"),
            ),
            r"resources\['cpu'\] must be numbers",
        ),
    ],
    ids=str,
)
def test_resource_metrics_that_are_none_are_refused(resources, message):
    frame = broken(None)
    with pytest.raises(ValueError, match=message):
        lab.learn(frame, resources)
    with pytest.raises(ValueError, match=message):
        lab.rank_root_causes(USUAL, frame, resources)


def test_the_inputs_stay_untouched():
    normal, abnormal = Shop(1).run(60), broken(always("/payment", added_ms=300))
    before = normal.copy(), abnormal.copy()
    lab.rank_root_causes(normal, abnormal)
    pd.testing.assert_frame_equal(normal, before[0])
    pd.testing.assert_frame_equal(abnormal, before[1])


def incident(effect):
    (found,) = lab.replay(Shop(1, effect).run(220)).incidents
    return found


def test_an_explanation_shows_its_ledger():
    found = incident(fault("/payment", 120, 180, added_ms=3000))
    compared, lost, originated, verdict = found.explain()
    assert compared.rows[0]["entry"] == "/checkout"
    assert "/checkout: " in lost.text
    checkout = [r for r in originated.rows if r["entry"] == "/checkout" and r["unit"] == "ms"]
    entry = compared.rows[0]
    assert sum(r["excess"] for r in checkout) == pytest.approx(
        entry["now_ms"] - entry["usual_ms"], abs=1e-6
    )
    assert verdict.text.startswith("/payment is the root cause")
    assert "/payment own time" in str(originated)


def test_why_not_answers_for_each_endpoint():
    found = incident(fault("/payment", 120, 180, added_ms=3000))
    assert "is as usual" in found.why_not("/inventory").text
    assert "only 0% of the excess originated there" in found.why_not("/checkout").text
    assert found.why_not("/payment").text == "/payment is the root cause."
    with pytest.raises(ValueError, match="endpoint must be one of .*, got '/nowhere'"):
        found.why_not("/nowhere")


@pytest.mark.parametrize(
    ("numbers", "kind", "status"),
    [
        ({"added_ms": 3000}, "slow", 200),
        ({"status": 500}, "error", 500),
        ({"added_ms": 30_000}, "timeout", None),
    ],
    ids=str,
)
def test_sample_traces_say_what_happened_at_the_cause(numbers, kind, status):
    found = incident(fault("/payment", 120, 180, **numbers))
    samples = found.to_dict()["trace_correlation"]["sample_traces"]
    assert 1 <= len(samples) <= 5
    assert {s["root_kind"] for s in samples} == {kind}
    assert samples[0]["root_endpoint"] == "/payment"
    # None: it answers when nobody waits any more
    assert status is None or samples[0]["root_status"] == status
    assert samples[0]["affected_chain"][0] in ("/checkout", "/payment")
    assert found.verdict.total_traces >= len(samples)


def test_a_place_that_fails_more_than_once_a_request_has_a_noise_too():
    share, n_usual, n_now = (pd.Series([v]) for v in (1.8, 20.0, 1.0))
    assert ledger._se_of_failures(share, n_usual, n_now, RcaConfig()).item() > 0
