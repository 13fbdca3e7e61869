"""What is not done as usual is named, even where it costs nobody anything and no status code tells
of it.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import aiops_lab as lab
from aiops_lab.explain import child_sets, deviations, ledger, ranking
from aiops_lab.explain.config import RcaConfig
from tests.explain.test_ranking import conserves, slow_network
from tests.support import naive
from tests.support.made import Shop, fault
from tests.support.traces import span
from tests.traces.test_traces import call_trees

MINUTE = pd.date_range("2026-01-01", periods=400, freq="min", tz="UTC")


def mute(frame):
    """Return the spans as a system records them that knows no status codes."""
    return frame.assign(status=200, error=None)


def logging(frame, line, share=1.0, endpoint="/payment"):
    """Let a share of the requests of an endpoint write a log line, as a span of kind log."""
    wrote = frame[(frame["endpoint"] == endpoint) & (frame["kind"] == "server")]
    wrote = wrote[np.arange(len(wrote)) % 100 < 100 * share]
    lines = wrote.assign(
        span_id=[f"{int(i, 16) + (len(line) << 40):016x}" for i in wrote["span_id"]],
        parent_id=wrote["span_id"],
        kind="log",
        endpoint=line,
        duration_ms=0.0,
    )
    return pd.concat([frame, lines]).sort_values(["start", "span_id"], ignore_index=True)


def run(seed=2, effect=None, seconds=60):
    return Shop(seed, effect).run(seconds)


def always(endpoint, **numbers):
    return fault(endpoint, 0, 10_000, **numbers)


USUAL = lab.learn(logging(run(1, seconds=200), "Ledger#12"))


def test_where_all_is_as_usual_nobody_is_named():
    for seed in range(10):
        assert lab.rank_root_causes(USUAL, logging(run(seed), "Ledger#12")) == []


def test_a_log_line_that_was_never_written_before_names_who_writes_it():
    now = logging(logging(run(), "Ledger#12"), "Says no#40", 0.4)
    (first,) = lab.rank_root_causes(USUAL, now)
    assert (first.endpoint, first.by) == ("/payment", "deviations")
    assert first.evidence[0]["kind"] == "shape"
    without = now[now["kind"] != "log"].reset_index(drop=True)
    assert lab.rank_root_causes(run(1, seconds=200), without) == []


def test_a_log_line_that_is_no_longer_written_names_who_wrote_it():
    (first,) = lab.rank_root_causes(USUAL, logging(run(), "Ledger#12", 0.5))
    assert (first.endpoint, first.by) == ("/payment", "deviations")


def test_a_call_that_is_left_out_names_the_caller():
    now = logging(run(), "Ledger#12")
    skipped = (now["endpoint"] == "/inventory") & now["parent_id"].notna()
    comparison = ledger.compare(USUAL, now[~skipped].reset_index(drop=True))
    shapes = comparison.deviations.query("kind == 'shape'")
    assert comparison.display_names[shapes["attributed_to"]].tolist() == ["/checkout"]
    assert shapes["share"].item() > 0.8


def test_failures_without_a_status_are_seen_by_what_is_left_out_after_them():
    """/checkout gives up when /payment fails, and does not ask /inventory any more; nothing says
    that it failed.
    """
    now = mute(logging(run(effect=always("/payment", status=500, rate=0.5)), "Ledger#12"))
    (first, *_) = lab.rank_root_causes(USUAL, now)
    assert first.by == "deviations"
    assert first.endpoint == "/checkout"  # as near as spans come: /payment answers as fast as ever


def test_the_shape_of_what_failed_is_no_symptom():
    now = logging(run(effect=always("/payment", status=500, rate=0.5)), "Ledger#12")
    case = ledger.compare(USUAL, now)
    assert "shape" not in set(case.deviations["kind"])
    assert ranking.rank_suspects(case)[0].by == "excess"


def test_a_delay_that_costs_too_little_is_still_unusual():
    (first, *_) = lab.rank_root_causes(
        USUAL, logging(run(effect=always("/health", added_ms=0.6)), "Ledger#12")
    )
    assert (first.endpoint, first.by) == ("/health", "deviations")
    assert first.evidence[0]["kind"] == "self"
    assert 0 < first.confidence < 1


def resources(cpu):
    usual = [5.0 + (m % 7) / 10 for m in range(len(MINUTE))]
    tables = [
        pd.DataFrame({"service": name, "cpu_percent": usual}, index=MINUTE)
        for name in ("shop", "idle")
    ]
    tables[0].iloc[:3, 1] = cpu
    return pd.concat(tables)


def test_a_processor_far_beyond_its_usual_load_names_the_service():
    normal, now = logging(run(1, seconds=200), "Ledger#12"), logging(run(seconds=150), "Ledger#12")
    (first,) = lab.rank_root_causes(normal, now, resources(90.0))
    assert (first.service, first.by) == ("shop", "deviations")
    assert first.evidence[0]["kind"] == "resources"
    assert first.evidence[0]["what"] == "cpu_percent"
    assert lab.rank_root_causes(normal, now, resources(9.0)) == []
    assert lab.rank_root_causes(USUAL, now, resources(90.0)) == []  # nobody said what is usual


def hosts(frame):
    """Let /payment and /inventory run on hosts of their own."""
    frame = frame.copy()
    called = frame["endpoint"].map({"/payment": "bank", "/inventory": "stock"})
    frame["peer"] = called.where(frame["kind"] == "client", None)
    frame["service"] = called.where(frame["kind"] == "server").fillna("shop")
    return frame


def test_who_became_slow_to_reach_all_that_it_calls_owns_that():
    usual = lab.learn(hosts(run(1, seconds=200)))
    one = slow_network(run(), 40)
    both = one.copy()
    stretched = (both["kind"] == "client") & (both["endpoint"] == "/inventory")
    both.loc[stretched, "duration_ms"] += 40
    roots = both["trace_id"].isin(both.loc[stretched, "trace_id"]) & both["parent_id"].isna()
    both.loc[roots, "duration_ms"] += 40
    for frame, cause in ((one, ("bank", "/payment")), (both, ("shop", "/checkout"))):
        books = ledger.excess_ledger(usual, hosts(frame))
        conserves(books)
        assert lab.rank_root_causes(usual, hosts(frame))[0].key == cause
    assert books.rows["reassigned"].sum() == pytest.approx(0, abs=1e-6)


# ---- the parts


@given(call_trees(), call_trees())
@settings(max_examples=30, deadline=None)
def test_odd_shapes_agree_with_the_slow_obvious_way(normal, abnormal):
    reference = lab.learn(normal)
    now = ledger.compare(reference, abnormal)
    odd = np.flatnonzero(child_sets.have_odd_children(now.reference.profile.shapes, now))
    frames = taken_apart(normal, now.reference), taken_apart(abnormal, now)
    assert odd.tolist() == naive.odd_shapes(*frames, RcaConfig().rarity_ratio)


def taken_apart(frame, traces):
    """Return a frame without the parents that did not wait for their children.

    What is compared on neither side, such as a call whose server span is missing more often than
    usual, is its own parent, and hangs on no root.
    """
    parent = traces.trees.parent
    apart = frame["parent_id"].where(parent >= 0, None)
    return frame.assign(parent_id=apart.mask(parent == np.arange(parent.size), frame["span_id"]))


# ---- bad input


def test_what_nobody_has_seen_before_is_not_blamed_for_being_new():
    strange = run().assign(service="other", peer=None)
    assert lab.rank_root_causes(USUAL, strange) == []


def failures(*rows):
    """Return items of failures: n, k, usual_n and usual_k of each account."""
    counts = pd.DataFrame(rows, columns=["n", "k", "usual_n", "usual_k"], dtype=float)
    return counts.assign(kind="errors")


def more_of(items):
    return deviations.more_failures(items, items, RcaConfig()).tolist()


def test_a_few_failures_where_there_were_none_are_more_than_chance():
    few, chance = more_of(failures((400, 8, 800, 0), (400, 2, 800, 0)))
    assert few == pytest.approx(0.003264, abs=1e-6)
    assert chance == 0


def test_as_many_failures_as_usual_are_no_more():
    assert more_of(failures((400, 8, 800, 16), (20, 1, 40, 0))) == [0, 0]


def test_a_seldom_observed_account_is_taken_to_fail_as_all_do():
    rare = (20, 12, 11, 0)
    alone, among_good = (more_of(failures(rare, (400, 0, 800, k)))[0] for k in (400, 0))
    assert alone == 0
    assert among_good == pytest.approx(0.220418, abs=1e-6)


def test_one_span_says_nothing():
    now = lab.to_frame([span(1, None, "/payment", "server", 0, 5)])
    assert lab.rank_root_causes(now, now) == []
    assert lab.rank_root_causes(USUAL, now) == []


def test_span_ids_that_come_twice_and_parents_in_a_circle_do_no_harm():
    now = logging(run(), "Ledger#12")
    twice = pd.concat([now, now]).sort_values(["start", "span_id"], ignore_index=True)
    circle = now.copy()
    roots = circle["parent_id"].isna()
    child = circle[~roots].drop_duplicates("trace_id").set_index("trace_id")["span_id"]
    circle.loc[roots, "parent_id"] = circle.loc[roots, "trace_id"].map(child)
    circle = circle[circle["trace_id"].isin(child.index)].reset_index(drop=True)
    assert lab.rank_root_causes(USUAL, twice) == []
    assert lab.rank_root_causes(USUAL, circle) == []
    slow = logging(run(effect=always("/payment", added_ms=300)), "Ledger#12")
    again = pd.concat([slow, slow]).sort_values(["start", "span_id"], ignore_index=True)
    assert lab.rank_root_causes(USUAL, again) == lab.rank_root_causes(USUAL, slow)


def test_open_spans_are_as_long_as_they_are_old():
    now = logging(run(), "Ledger#12")
    now.loc[now.index[-40:], "duration_ms"] = np.nan
    assert lab.rank_root_causes(USUAL, now) == []


# ---- what an error, a size or a number of another kind must not do


def test_calls_that_became_a_little_longer_beside_a_slow_one_do_not_move_the_blame():
    usual = lab.learn(hosts(run(1, seconds=400)))
    now = slow_network(run(seconds=300), 40)
    stretched = (now["kind"] == "client") & (now["endpoint"] == "/inventory")
    now.loc[stretched, "duration_ms"] += 0.05
    assert lab.rank_root_causes(usual, hosts(now))[0].key == ("bank", "/payment")


def test_a_log_line_may_tell_of_an_error_and_have_no_status():
    now = logging(logging(run(), "Ledger#12"), "Says no#40", 0.4)
    lines = now["endpoint"] == "Says no#40"
    now.loc[lines, "status"] = 0
    now["error"] = now["error"].astype(object).where(~lines, "ValueError: no")
    assert lab.rank_root_causes(USUAL, now)[0].endpoint == "/payment"


@pytest.mark.parametrize("dtype", ["category", "str", "object"])
def test_text_columns_may_be_of_any_kind(dtype):
    text = ["trace_id", "span_id", "parent_id", "service", "endpoint", "kind", "peer"]
    normal, now = run(1, seconds=200), run(effect=always("/payment", added_ms=300))
    expected = lab.rank_root_causes(normal, now)
    frames = (frame.assign(**{c: frame[c].astype(dtype) for c in text}) for frame in (normal, now))
    assert [s.key for s in lab.rank_root_causes(*frames)] == [s.key for s in expected]


@pytest.mark.parametrize("shift", [0.0, -50.0])
def test_metrics_of_any_sign_that_are_as_usual_accuse_nobody(shift):
    rng, seconds = (
        np.random.default_rng(1),
        pd.date_range("2026-01-01", periods=4000, freq="s", tz="UTC"),
    )
    usual = pd.DataFrame(
        {"service": "shop", "level": rng.normal(shift, 1, seconds.size)}, index=seconds
    )
    usual.loc[rng.random(seconds.size) < 0.04, "level"] = 200.0  # spikes that are as usual, too
    normal, now = logging(run(1, seconds=200), "Ledger#12"), logging(run(seconds=1200), "Ledger#12")
    assert lab.rank_root_causes(normal, now, usual) == []


def test_a_level_below_nought_that_rises_far_names_the_service():
    usual = pd.DataFrame(
        {"service": "shop", "level": -50.0 + np.arange(len(MINUTE)) % 3}, index=MINUTE
    )
    usual.iloc[:3, 1] = 150.0
    normal, now = logging(run(1, seconds=200), "Ledger#12"), logging(run(seconds=150), "Ledger#12")
    (first,) = lab.rank_root_causes(normal, now, usual)
    assert first.evidence[0]["kind"] == "resources"


def test_lines_that_are_new_with_each_request_are_no_symptom():
    """Each order writes a line of its own, before and now: a set that was never seen is what
    usually comes.
    """

    def numbered(frame, first):
        now = logging(frame, "Order")
        lines = now["kind"] == "log"
        return now.assign(
            endpoint=now["endpoint"].where(~lines, [f"Order {first + k}" for k in range(len(now))])
        )

    usual = numbered(run(1, seconds=200), 0)
    assert lab.rank_root_causes(usual, numbered(run(), 10_000)) == []


def test_spans_that_come_twice_are_no_calls_of_their_own():
    frame = run()
    twice = pd.concat([frame, frame], ignore_index=True)
    pairs = lab.service_graph(twice)[["caller", "callee"]]
    assert pairs.equals(lab.service_graph(frame)[["caller", "callee"]])


def test_metrics_that_lack_a_learned_column_are_refused():
    learned = resources(9.0)
    usual = lab.learn(logging(run(1, seconds=200), "Ledger#12"), learned)
    with pytest.raises(
        ValueError, match="resources must have the columns that were learned, lacks 'cpu_percent'"
    ):
        lab.rank_root_causes(usual, logging(run(), "Ledger#12"), learned[["service"]])
    by_category = learned.astype({"service": "category"})
    assert lab.rank_root_causes(usual, logging(run(), "Ledger#12"), by_category) == []
