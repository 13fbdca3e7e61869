"""Each kind of deviation, in requests drawn by hand, with numbers computed by hand."""

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain import deviations
from aiops_lab.explain.accounts import OWN
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import compare
from tests.support.traces import many, span

COUNTS = ["n", "k", "usual_n", "usual_k"]
N = 20


def order(*, line=None, c=False, d=False, ms=50, status=200):
    """Return a request to /a that calls /b, which may write a line, and perhaps /c and /d."""
    spans = [span(1, None, "/a", "server", 0, 400, status=status)]
    spans += [span(2, 1, "/b", "server", 10, ms)]
    spans += [span(3, 2, line, "log", 20, 0)] if line else []
    spans += [span(4, 1, "/c", "server", 210, 20)] if c else []
    return spans + ([span(5, 1, "/d", "server", 240, 20)] if d else [])


def seen(kind, now, *usual, resources=None):
    """Return the counts of each account with deviations of a kind; 20 requests, ten seconds apart.

    `now` and `usual` are drawn in turn.
    """
    reference = lab.learn(many(*(usual or [order()]), n=N), resources)
    frame = many(*now, n=N) if isinstance(now, list) else now
    items = compare(reference, frame, resources).deviations
    items = items[(items["kind"] == kind) & (items["k"] > 0)]
    return dict(zip(items["account"], items[COUNTS].to_numpy().tolist(), strict=True))


# ---- failures and times


def test_failures_are_counted_where_they_began():
    one_in_ten = [order(status=500), *[order()] * 9]
    assert seen("errors", [order(status=500), order()], *one_in_ten) == {
        "/a itself": [20, 10, 20, 2]
    }


def test_slow_spans_are_counted_beyond_their_limit():
    """All were as fast; a twentieth is taken to be beyond the quantile of 95 % anyhow."""
    now = [order(ms=53), order(), order(), order(ms=50.05)]
    assert seen("self", now) == {"/b own time": [20, 5, 20, pytest.approx(1)]}


def test_what_was_never_seen_before_is_no_deviation():
    assert seen("self", [order(d=True, ms=30)], order(ms=5)) == {
        "/b own time": [20, 20, 20, pytest.approx(1)]
    }


# ---- shapes


def test_a_set_of_children_that_was_rare_is_odd():
    """One of 20 usual requests wrote a line; now all write another."""
    usual = [order(line="usual"), *[order()] * 19]
    assert seen("shape", [order(line="new")], *usual) == {"/b itself": [20, 20, 20, 1]}
    assert seen("shape", [order(line="new"), order()]) == {"/b itself": [20, 10, 20, 0]}
    assert seen("shape", [order()], *usual) == {}


def test_what_is_usual_depends_on_what_the_parent_calls():
    """/b writes a line when /a calls /c as well; now it does so without."""
    usual = order(line="usual", c=True), order()
    assert seen("shape", [order(line="usual")], *usual) == {"/b itself": [20, 20, 20, 0]}
    assert seen("shape", [order(line="usual", c=True)], *usual) == {}


def test_where_the_parent_calls_what_it_never_did_any_parent_will_do():
    assert seen("shape", [order(d=True)]) == {"/a itself": [20, 20, 20, 0]}
    assert seen("shape", [order(d=True, line="new")]) == {"/b itself": [20, 20, 20, 0]}


@pytest.mark.parametrize(("status", "odd"), [(302, 20), (399, 20), (400, 0), (404, 0), (500, 0)])
def test_the_shape_of_what_failed_or_was_refused_does_not_count(status, odd):
    found = seen("shape", [order(line="new", status=status)])
    assert sum(k for _, k, *_ in found.values()) == odd


def test_the_shape_of_what_is_still_open_does_not_count():
    frame = many(order(line="new"), n=N)
    roots = frame.index[frame["parent_id"].isna()]
    frame.loc[roots[::2], "duration_ms"] = np.nan
    assert seen("shape", frame) == {"/b itself": [20, 10, 20, 0]}


def test_spans_in_a_circle_of_parents_have_no_shape():
    circle = [
        span(18, 19, "/b", "server", 10, 50),
        span(19, 18, "/c", "server", 20, 10),
    ]
    assert seen("shape", [[*order(), *circle]]) == {}
    found = seen("shape", [[*order(line="new"), *circle]])
    assert found == {"/b itself": [20, 20, 20, 0]}


# ---- resources


def test_values_of_a_resource_are_counted_beyond_its_limit():
    """It is hardly ever other than 10, and may be up to 30; the incident lasts from 0 to 190 s."""
    times = pd.date_range("2026-01-01", periods=100, freq="10s", tz="UTC")
    table = pd.DataFrame({"service": "shop", "cpu": 10.0}, index=times)
    table.loc[times[:3], "cpu"] = [30.0, 30.1, 99.0]
    table.loc[times[50], "cpu"] = 99.0
    assert seen("resources", [order()], resources=table) == {"shop": [20, 2, 100, 3]}


# ---- what that amounts to


def test_a_share_counts_from_the_upper_bound_of_before_to_the_lower_bound_of_now():
    """20 of 20 now: at least 0.69 at 3 standard errors; 0 of 100 before: at most 0.083."""

    def share(n, k, usual_n, usual_k):
        counts = {"n": [n], "k": [k], "usual_n": [usual_n], "usual_k": [usual_k]}
        items = pd.DataFrame(counts).assign(kind="shapes")
        return deviations._with_share(items, RcaConfig())["share"].tolist()

    assert share(20, 20, 100, 0) == [pytest.approx(20 / 29 - 9 / 109)]
    assert share(20, 0, 100, 0) == [0.0]
    assert share(20, 20, 0, 0) == []  # never seen before


def test_services_are_ranked_by_the_cosine_of_their_items():
    """a: (0.8 + 0.2 / 2) / sqrt(1.0 * 2), b, which is called: 0.2 / sqrt(1.0 * 1)."""
    items = pd.DataFrame({"caller": [OWN, 0], "attributed_to": [0, 1], "share": [0.8, 0.2]})
    keys = [("a", "/"), ("b", "/")]
    first, second = deviations.rank_services(items, keys, caller_weight=0.5)
    assert (first.endpoint, first.rows) == (0, [0, 1])
    assert first.score == pytest.approx(0.9 / np.sqrt(2))
    assert (second.endpoint, second.score, second.rows) == (1, pytest.approx(0.2), [1])
