"""The ledger of traces of three spans, with numbers derived by hand.

usual   /a   |=10=|--------------------|=10=|        server span of service a
        edge      |-2-|            |-2-|             a's client span: 20 ms, of which b has 16
        /b            |=====16=====|                 server span of service b

/a takes 40 ms: 20 ms of its own, 4 ms on the edge, 16 ms in /b.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.ledger import Ledger, excess_ledger
from tests.support.traces import span

REQUESTS = 10
OWN_MS, GAP_MS, CALLED_MS = 20.0, 4.0, 16.0


def traces(
    own_ms: float = OWN_MS,
    gap_ms: float = GAP_MS,
    called_ms: float = CALLED_MS,
    *,
    failing: int = 0,
    n: int = REQUESTS,
    called: str = "b",
) -> pd.DataFrame:
    """Return requests of three spans; in the first `failing` of them /b fails, and so does /a."""
    spans = []
    for k in range(n):
        begin = 1000.0 * k
        leaves = begin + own_ms / 2
        arrives = leaves + gap_ms / 2
        call_ms = gap_ms + called_ms
        how = {"trace": k + 1, "status": 500 if k < failing else 200}
        spans += [
            span(1, None, "/a", "server", begin, own_ms + call_ms, service="a", **how),
            span(2, 1, f"/{called}", "client", leaves, call_ms, service="a", peer=called, **how),
            span(3, 2, f"/{called}", "server", arrives, called_ms, service=called, **how),
        ]
    return lab.to_frame(spans)


USUAL = lab.learn(traces())


def account(ledger: Ledger, name: str) -> dict[str, Any]:
    """Return the one row of an account, masked rows left out."""
    rows = ledger.rows
    row: dict[str, Any]
    (row,) = rows[(rows["account"] == name) & ~rows["masked"]].to_dict("records")  # type: ignore[assignment]
    return row


def test_an_usual_request_is_split_into_own_time_edge_and_callee() -> None:
    ledger = excess_ledger(USUAL, traces())
    assert ledger.rows["account"].tolist() == ["/a own time", "/b own time", "edge /a → /b"]
    assert ledger.rows["usual"].tolist() == pytest.approx([OWN_MS, CALLED_MS, GAP_MS])
    assert ledger.rows["now"].tolist() == pytest.approx([OWN_MS, CALLED_MS, GAP_MS])
    assert ledger.rows["excess"].tolist() == pytest.approx([0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (lambda: traces(own_ms=50.0), "/a own time"),
        (lambda: traces(called_ms=46.0), "/b own time"),
        (lambda: traces(gap_ms=34.0), "edge /a → /b"),
    ],
)
def test_thirty_ms_more_are_the_excess_of_the_account_that_took_them(
    now: Callable[[], pd.DataFrame], name: str
) -> None:
    ledger = excess_ledger(USUAL, now())
    rows = ledger.rows.set_index("account")["excess"]
    assert rows[name] == pytest.approx(30.0)
    assert rows.drop(name).tolist() == pytest.approx([0.0, 0.0])
    # an usual request takes 40 ms
    assert account(ledger, name)["cost"] == pytest.approx(30.0 / 40.0)


def test_a_slow_edge_is_attributed_to_the_called_endpoint() -> None:
    edge = account(excess_ledger(USUAL, traces(gap_ms=34.0)), "edge /a → /b")
    assert (edge["service"], edge["endpoint"], edge["attributed_to"]) == ("b", "/b", "/b")
    (suspect,) = lab.rank_root_causes(USUAL, traces(gap_ms=34.0))
    assert suspect.key == ("b", "/b")
    assert suspect.score == pytest.approx(30.0 / 40.0)
    assert suspect.support == (REQUESTS, REQUESTS)


def to_both(gap_b: float, gap_c: float) -> pd.DataFrame:
    """Return requests of /a to /b, and as many others of /a to /c."""
    other = traces(gap_ms=gap_c, called="c")
    other["trace_id"] = "f" + other["trace_id"].str[1:]
    every = [traces(gap_ms=gap_b), other]
    return pd.concat(every).sort_values(["start", "span_id"], ignore_index=True)


def test_slow_edges_to_all_services_that_one_calls_are_attributed_to_the_caller() -> None:
    """Half of the requests go to each: 30 ms more on every edge are 15 ms a request on each."""
    ledger = excess_ledger(lab.learn(to_both(4.0, 4.0)), to_both(34.0, 34.0))
    for name in ("edge /a → /b", "edge /a → /c"):
        assert account(ledger, name)["reassigned"] == pytest.approx(-15.0)
        assert account(ledger, name)["excess"] == pytest.approx(0.0)
    own = account(ledger, "/a own time")
    assert (own["attributed_to"], own["now"] - own["usual"]) == ("/a", pytest.approx(0.0))
    assert own["excess"] == own["reassigned"] == pytest.approx(30.0)


def test_a_slow_edge_to_one_of_two_services_stays_with_the_called_endpoint() -> None:
    ledger = excess_ledger(lab.learn(to_both(4.0, 4.0)), to_both(34.0, 4.0))
    assert account(ledger, "edge /a → /b")["excess"] == pytest.approx(15.0)
    assert (ledger.rows["reassigned"] == 0).all()


def test_a_failure_counts_where_it_began() -> None:
    """Four of ten requests fail in /b, so 0.4 failures a request; each costs five requests."""
    ledger = excess_ledger(USUAL, traces(failing=4))
    row = account(ledger, "/b itself")
    assert (row["unit"], row["attributed_to"]) == ("failures", "/b")
    assert row["excess"] == pytest.approx(0.4)
    assert row["cost"] == pytest.approx(5 * 0.4)
    assert (ledger.rows["unit"] == "failures").sum() == 1


def test_the_excess_of_the_accounts_adds_up_to_that_of_the_entry() -> None:
    now = traces(own_ms=27.0, gap_ms=9.0, called_ms=21.0, failing=3)
    ledger = excess_ledger(USUAL, now)
    (entry,) = ledger.entries.to_dict("records")
    assert (entry["entry"], entry["n_usual"], entry["n_now"]) == ("/a", REQUESTS, REQUESTS)
    assert (entry["usual_ms"], entry["now_ms"]) == pytest.approx((40.0, 57.0))
    assert (entry["usual_failed"], entry["now_failed"]) == pytest.approx((0.0, 0.3))
    sums = ledger.rows.groupby("unit")["excess"].sum()
    assert sums["ms"] == pytest.approx(57.0 - 40.0)
    assert sums["failures"] == pytest.approx(0.3)


def test_an_entry_that_is_not_usual_is_left_out() -> None:
    ledger = excess_ledger(USUAL, traces().assign(endpoint="/new"))
    assert ledger.rows.empty
    assert ledger.entries.empty
