"""Who calls whom, in traces drawn by hand."""

import numpy as np
import pytest

import aiops_lab as lab
from tests.support.traces import CHECKOUT, span


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


@pytest.mark.parametrize(
    ("route", "path", "called"),
    [
        ("/orders/<id>", "/orders/17", "/orders/<id>"),
        ("/orders/<int:id>", "/orders/17", "/orders/<int:id>"),
        ("/orders/<id>", "/orders/1/2", "/orders/<id>/<id>"),
        ("/files/<path:name>", "/files/a/b", "/files/<path:name>"),
        ("/a.b/<id>", "/aXb/1", "/aXb/<id>"),
    ],
)
def test_a_refused_call_counts_to_the_route_that_its_peer_is_known_for(route, path, called):
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
    assert graph["callee"].tolist() == sorted({route, called})
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


def test_no_spans_give_an_empty_graph():
    graph = lab.service_graph(lab.to_frame([]))
    assert graph.empty
    assert list(graph) == ["caller", "callee", "calls", "errors", "p50_ms", "p95_ms"]


def test_the_graph_holds_median_and_95th_percentile():
    """Durations 0, 10, ..., 100 ms: 95 % of the way lies in the middle of the last two."""
    calls = [span(n + 1, 1, "/b", "server", 1, 10 * (n - 1)) for n in range(1, 12)]
    (row,) = lab.service_graph(lab.to_frame([span(1, None, "/a", "server", 0, 200), *calls]))[
        ["calls", "p50_ms", "p95_ms"]
    ].to_numpy()
    assert row.tolist() == [11, 50, 95]


def test_spans_between_two_server_spans_are_no_callers():
    """A call may pass through several client spans; the one next to the callee is what it took."""
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 100),
            span(2, 1, "/proxy", "client", 10, 80, peer="shop"),
            span(3, 2, "/b", "client", 20, 60, peer="shop"),
            span(4, 3, "/b", "server", 30, 40),
            span(5, 4, "/c", "client", 40, 20, peer="shop", status=0),
        ]
    )
    graph = lab.service_graph(frame)
    columns = ["caller", "callee", "calls", "errors", "p50_ms"]
    assert graph[columns].to_numpy().tolist() == [
        ["/a", "/b", 1, 0, 60.0],
        ["/a", "/proxy", 1, 0, 80.0],
        ["/b", "/c", 1, 1, 20.0],
    ]


def test_what_fails_at_the_caller_only_is_an_error_of_the_call():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "server", 0, 100),
            span(2, 1, "/b", "client", 10, 20, peer="shop", status=0, error="ReadTimeout: late"),
            span(3, 2, "/b", "server", 12, 60),
        ]
    )
    assert lab.service_graph(frame)[["calls", "errors", "p50_ms"]].to_numpy().tolist() == [
        [1, 1, 20.0]
    ]


def test_a_call_without_a_server_above_is_nobody_s():
    frame = lab.to_frame(
        [
            span(1, None, "/a", "client", 0, 100, peer="shop"),
            span(2, 1, "/a", "server", 10, 80),
            span(3, None, "/b", "server", 10, 80, trace=2),
        ]
    )
    assert lab.service_graph(frame).empty


def test_quantiles_are_those_of_pandas_and_open_calls_have_no_duration():
    """Of pairs with few calls and many, and of one whose calls are all open."""
    rng = np.random.default_rng(1)
    spans = []
    for at, n in enumerate((1, 2, 3, 40)):
        for _ in range(n):
            number = len(spans) + 1
            ms = int(rng.integers(1, 1000))
            spans.append(span(number, None, "/front", "server", 0, 2000))
            spans.append(span(number + 1, number, f"/{at}", "server", 0, ms))
    frame = lab.to_frame(spans)
    frame.loc[frame["endpoint"] == "/0", "duration_ms"] = np.nan
    graph = lab.service_graph(frame).set_index("callee")
    below = frame[frame["endpoint"] != "/front"].groupby("endpoint")["duration_ms"]
    assert graph["calls"].tolist() == [1, 2, 3, 40]
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95)):
        np.testing.assert_allclose(graph[name], below.quantile(share), rtol=1e-12)
    assert graph["p50_ms"].isna().tolist() == [True, False, False, False]
