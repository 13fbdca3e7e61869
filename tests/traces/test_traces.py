"""Random traces: what is computed fast equals the slow and obvious way."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

import aiops_lab as lab
from aiops_lab.traces import encode, trees
from aiops_lab.traces.timing import NO_TIMING
from tests.support import naive
from tests.support.traces import MS, span


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


@given(call_trees())
@settings(max_examples=60, deadline=None)
def test_self_time_equals_the_slow_way(frame):
    np.testing.assert_allclose(lab.self_time(frame), naive.self_time(frame), atol=1e-9)


@given(call_trees())
@settings(max_examples=60, deadline=None)
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


@given(call_trees())
@settings(max_examples=60, deadline=None)
def test_every_nanosecond_of_a_request_belongs_to_one_span(frame):
    forest = trees.build_trees(encode.encode(frame), 2 * 10**18, NO_TIMING)
    position, ns = trees.critical_path(forest)
    assert ns.sum() == 1000 * MS
    assert (ns > 0).all()


@given(call_trees())
@settings(max_examples=60, deadline=None)
def test_the_critical_path_equals_the_slow_way(frame):
    position, ns = trees.critical_path(
        trees.build_trees(encode.encode(frame), 2 * 10**18, NO_TIMING)
    )
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
        if row.parent_id in start:
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
