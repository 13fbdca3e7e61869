import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aiops_lab as lab
from aiops_lab.endpoints import fold
from aiops_lab.traces import encode, trees
from tests.support import naive
from tests.support.made import BEGIN, Shop

MS = 1_000_000


def span(
    n,
    parent,
    endpoint,
    kind,
    start_ms,
    duration_ms,
    *,
    status=200,
    peer=None,
    trace=1,
    service="shop",
    error=None,
):
    duration = None if duration_ms is None else int(duration_ms * MS)
    parent_id = None if parent is None else f"{parent:016x}"
    ids = f"{trace:032x}", f"{n:016x}", parent_id
    return lab.Span(
        *ids, service, endpoint, kind, peer, BEGIN + int(start_ms * MS), duration, status, error
    )


#   /checkout  |==|----------|=|-------|===|        0 to 100
#   client        |.|------|.|                      10 to 60   /payment 12 to 58
#   client                     |.|---|.|            62 to 90   /inventory 63 to 89
CHECKOUT = [
    span(1, None, "/checkout", "server", 0, 100),
    span(2, 1, "/payment", "client", 10, 50, peer="shop"),
    span(3, 2, "/payment", "server", 12, 46),
    span(4, 1, "/inventory", "client", 62, 28, peer="shop"),
    span(5, 4, "/inventory", "server", 63, 26),
]


@st.composite
def call_trees(draw):
    """Random traces: parallel and overlapping children, children that outlive their parents, open
    spans, failures.
    """
    size = draw(st.integers(1, 14))
    spans, places = [], [(0, 1000)]
    for n in range(size):
        parent = None if n == 0 else draw(st.integers(0, n - 1))
        low, high = (0, 1000) if parent is None else places[parent]
        start = draw(st.integers(low, max(high - 1, low)))
        duration = 1000 if parent is None else draw(st.one_of(st.none(), st.integers(0, 1200)))
        kind = (
            "server"
            if parent is None or spans[parent].kind == "client"
            else draw(st.sampled_from(["client", "server"]))
        )
        places.append((start, start + (duration or 0)))
        places[n] = (start, start + (duration or 0))
        endpoint = f"/{draw(st.sampled_from('abc'))}"
        status = draw(st.sampled_from([200, 200, 500, 0]))
        made = span(
            n + 1,
            None if parent is None else parent + 1,
            endpoint,
            kind,
            start,
            duration,
            status=status,
            peer="shop" if kind == "client" else None,
        )
        spans.append(made)
    return lab.to_frame(spans)


def test_self_time_of_a_trace_drawn_by_hand():
    own = lab.self_time(lab.to_frame(CHECKOUT))
    assert own.tolist() == [22.0, 4.0, 46.0, 2.0, 26.0]


def test_overlapping_children_are_not_counted_twice():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 100),
            span(2, 1, "/b", "client", 10, 50),
            span(3, 1, "/c", "client", 30, 50),
        ]
    )
    assert lab.self_time(frame)[0] == 30.0


def test_a_child_that_outlives_its_parent_is_clipped():
    frame = lab.to_frame(
        [span(1, None, "/a", "server", 0, 100), span(2, 1, "/b", "server", 60, 500)]
    )
    assert lab.self_time(frame).tolist() == [60.0, 500.0]


def test_an_open_child_covers_the_rest_of_its_parent():
    frame = lab.to_frame(
        [span(1, None, "/a", "server", 0, 100), span(2, 1, "/b", "server", 60, None)]
    )
    own = lab.self_time(frame)
    assert own[0] == 60.0
    assert np.isnan(own[1])


@given(call_trees())
@settings(max_examples=150, deadline=None)
def test_self_time_equals_the_slow_way(frame):
    np.testing.assert_allclose(lab.self_time(frame), naive.self_time(frame), atol=1e-9)


def test_self_time_keeps_the_order_and_index_of_its_frame():
    frame = lab.to_frame(CHECKOUT)
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_series_equal(lab.self_time(shuffled).sort_index(), lab.self_time(frame))


def test_the_service_graph_of_a_trace_drawn_by_hand():
    graph = lab.service_graph(lab.to_frame(CHECKOUT))
    assert graph.to_dict("records") == [
        {
            "caller": "/checkout",
            "callee": "/inventory",
            "calls": 1,
            "errors": 0,
            "p50_ms": 28.0,
            "p95_ms": 28.0,
        },
        {
            "caller": "/checkout",
            "callee": "/payment",
            "calls": 1,
            "errors": 0,
            "p50_ms": 50.0,
            "p95_ms": 50.0,
        },
    ]


@given(call_trees())
@settings(max_examples=100, deadline=None)
def test_the_service_graph_equals_the_slow_way(frame):
    graph = lab.service_graph(frame)
    slow = naive.service_graph(frame)
    assert {(r.caller, r.callee): [r.calls, r.errors] for r in graph.itertuples()} == {
        k: v[:2] for k, v in slow.items()
    }
    for row in graph.itertuples():
        durations = slow[row.caller, row.callee][2]
        if durations:
            np.testing.assert_allclose(
                [row.p50_ms, row.p95_ms], np.quantile(durations, [0.5, 0.95])
            )
        else:
            assert np.isnan(row.p50_ms)


def test_a_call_that_never_arrived_is_in_the_graph():
    refused = span(
        2, 1, "/payment", "client", 10, 1, peer="pay", status=0, error="ConnectionError: refused"
    )
    graph = lab.service_graph(
        lab.to_frame([span(1, None, "/checkout", "server", 0, 20, status=502), refused])
    )
    assert graph[["caller", "callee", "calls", "errors"]].values.tolist() == [
        ["/checkout", "/payment", 1, 1]
    ]


def test_by_service_merges_endpoints():
    graph = lab.service_graph(lab.to_frame(CHECKOUT), by="service")
    assert graph[["caller", "callee", "calls"]].values.tolist() == [["shop", "shop", 2]]


def test_two_services_with_the_same_route_never_merge():
    frame = lab.to_frame(
        [
            span(1, None, "/status", "server", 0, 100, service="front"),
            span(2, 1, "/status", "server", 10, 20, service="back"),
        ]
    )
    graph = lab.service_graph(frame)
    assert graph[["caller", "callee"]].values.tolist() == [["front /status", "back /status"]]


def test_by_must_be_known():
    with pytest.raises(ValueError, match="by must be 'endpoint' or 'service', got 'host'"):
        lab.service_graph(lab.to_frame(CHECKOUT), by="host")


def test_no_spans_give_empty_answers():
    empty = lab.to_frame([])
    assert lab.self_time(empty).empty
    graph = lab.service_graph(empty)
    assert graph.empty
    assert list(graph) == ["caller", "callee", "calls", "errors", "p50_ms", "p95_ms"]


@pytest.mark.parametrize("rename", [str, lambda i: f"span-{int(i, 16)}"], ids=["hex", "any text"])
@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_ids_may_be_any_text_of_any_text_type(rename, dtype):
    frame = Shop(3).run(5)
    expected = lab.self_time(frame)
    for column in ("trace_id", "span_id", "parent_id"):
        frame[column] = frame[column].map(rename, na_action="ignore").astype(dtype)
    pd.testing.assert_series_equal(lab.self_time(frame), expected)


def test_the_same_span_id_in_two_traces_is_two_spans():
    frame = lab.to_frame(
        [
            s
            for t in (1, 2)
            for s in [
                span(1, None, "/a", "server", t, 10, trace=t),
                span(2, 1, "/b", "server", t, 4, trace=t),
            ]
        ]
    )
    assert sorted(lab.self_time(frame)) == [4.0, 4.0, 6.0, 6.0]


def test_a_cycle_of_parents_ends():
    frame = lab.to_frame(
        [span(1, 2, "/a", "client", 0, 10, peer="x"), span(2, 1, "/b", "client", 0, 10, peer="y")]
    )
    assert lab.service_graph(frame).empty
    forest = trees.build_trees(encode.encode(frame), 2 * 10**18, {})
    assert (forest.root == -1).all()
    assert trees.critical_path(forest)[0].size == 0


@given(call_trees())
@settings(max_examples=200, deadline=None)
def test_every_nanosecond_of_a_request_belongs_to_one_span(frame):
    forest = trees.build_trees(encode.encode(frame), 2 * 10**18, {})
    position, ns = trees.critical_path(forest)
    assert ns.sum() == 1000 * MS
    assert (ns > 0).all()


@given(call_trees())
@settings(max_examples=150, deadline=None)
def test_the_critical_path_equals_the_slow_way(frame):
    position, ns = trees.critical_path(trees.build_trees(encode.encode(frame), 2 * 10**18, {}))
    fast = pd.Series(ns).groupby(frame["span_id"].to_numpy()[position]).sum()
    slow = naive.partition(_clipped(frame), frame["trace_id"][0])
    assert fast.sum() == sum(slow.values())
    assert fast.to_dict() == slow or _has_ties(frame)


def _clipped(frame):
    """Clip children to their parents, parents first."""
    frame = frame.copy()
    start = {}
    for row in frame.sort_values("span_id").itertuples():
        low = row.start.value
        high = np.inf if np.isnan(row.duration_ms) else low + round(row.duration_ms * 1e6)
        if row.parent_id is not None:
            p = start[row.parent_id]
            low = min(max(low, p[0]), p[1])
            high = min(max(high, low), p[1])
        start[row.span_id] = (low, high)
    frame["start"] = pd.to_datetime([start[i][0] for i in frame["span_id"]], utc=True)
    frame["duration_ms"] = [(start[i][1] - start[i][0]) / 1e6 for i in frame["span_id"]]
    return frame


def _has_ties(frame):
    """Whether two siblings end at the same moment once clipped: then either may be the one that was
    waited for.
    """
    clipped = _clipped(frame)
    end = clipped["start"] + pd.to_timedelta(clipped["duration_ms"], unit="ms")
    return pd.DataFrame({"p": clipped["parent_id"], "e": end}).duplicated().any()


@pytest.mark.parametrize(
    ("route", "path", "folds"),
    [
        ("/orders/<id>", "/orders/17", True),
        ("/orders/<int:id>", "/orders/17", True),
        ("/orders/<id>", "/orders/1/2", False),
        ("/files/<path:name>", "/files/a/b", True),
        ("/a.b/<id>", "/aXb/1", False),
    ],
)
def test_a_refused_call_counts_to_the_route_that_its_peer_is_known_for(route, path, folds):
    served = [
        span(1, None, "/top", "server", 0, 50),
        span(2, 1, path, "client", 1, 20, peer="shop"),
        span(3, 2, route, "server", 2, 18),
    ]
    refused = [
        span(4, None, "/top", "server", 60, 5, trace=2),
        span(5, 4, path, "client", 61, 1, peer="shop", status=0, trace=2),
    ]
    graph = lab.service_graph(lab.to_frame(served + refused))
    assert graph["callee"].tolist() == ([route] if folds else sorted([route, fold(path)]))
    assert graph["calls"].sum() == 2


def test_the_graph_names_endpoints_as_everything_else_does():
    """A client span carries its caller's service: that must not make two services of one route."""
    frame = lab.to_frame(
        [
            span(1, None, "/checkout", "server", 0, 100, service="checkout"),
            span(2, 1, "/payment", "client", 10, 50, peer="payment", service="checkout"),
            span(3, 2, "/payment", "server", 12, 46, service="payment"),
        ]
    )
    assert lab.service_graph(frame)[["caller", "callee"]].values.tolist() == [
        ["/checkout", "/payment"]
    ]


def test_trace_ids_that_differ_in_their_first_half_only_are_two_traces():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 9),
            span(2, 1, "/b", "server", 1, 5),
        ]
    )
    other = frame.assign(trace_id="1" + frame["trace_id"].str[1:])
    ids = encode.parse_ids(pd.concat([frame, other], ignore_index=True))
    assert ids.parent.tolist() == [-1, 0, -1, 2]
    assert ids.trace.tolist() == [0, 0, 1, 1]
