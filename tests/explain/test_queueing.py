"""Whoever waits for a busy service must not be blamed for what keeps it busy: /checkout has two
workers, and calls.
"""

import numpy as np
import pytest

import aiops_lab as lab
from aiops_lab.explain import ledger
from tests.explain.test_ranking import conserves

BEGIN, MS = 1_767_225_600_000_000_000, 1_000_000
WORK_MS = 5.0


def shop(
    payment_ms: float,
    n: int = 60,
    first: int = 0,
    workers: int = 2,
    own_ms: float = WORK_MS,
    queue_in_span: bool = True,
    places: int = 1000,
):
    """Return the spans of orders that come every 100 ms, on average, to a /checkout that serves
    first come first.
    """
    rng = np.random.default_rng(n + first)
    free, ends, spans = [0.0] * workers, [], []
    for k, came in enumerate(np.sort(rng.uniform(0, 100 * n, n)), first):
        trace, ids = f"{k + 1:032x}", [f"{4 * k + m:016x}" for m in range(1, 5)]
        if sum(end > came for end in ends) >= places:
            spans += [
                span(trace, ids[0], None, "front", "/", came, came + 1.5, 502),
                span(
                    trace,
                    ids[1],
                    ids[0],
                    "front",
                    "/checkout",
                    came,
                    came + 0.5,
                    503,
                    peer="checkout",
                ),
                span(trace, ids[2], ids[1], "checkout", "/checkout", came, came + 0.5, 503),
            ]
            continue
        worker = int(np.argmin(free))
        begun = max(came, free[worker])
        called = begun + own_ms * rng.lognormal(0, 0.2)
        end = free[worker] = called + payment_ms * rng.lognormal(0, 0.1)
        ends.append(end)
        spans += [
            span(trace, ids[0], None, "front", "/", came, end + 1),
            span(trace, ids[1], ids[0], "front", "/checkout", came, end, peer="checkout"),
            span(
                trace,
                ids[2],
                ids[1],
                "checkout",
                "/checkout",
                came if queue_in_span else begun,
                end,
            ),
            span(trace, ids[3], ids[2], "checkout", "/payment", called, end, peer="payment"),
            span(trace, f"{k + 1:08x}" + "f" * 8, ids[3], "payment", "/payment", called, end),
        ]
    return lab.to_frame(spans)


def span(trace, span_id, parent, service, endpoint, start_ms, end_ms, status=200, peer=None):
    start, length = BEGIN + int(start_ms * MS), int((end_ms - start_ms) * MS)
    kind = "client" if peer else "server"
    return lab.Span(
        trace, span_id, parent, service, endpoint, kind, peer, start, length, status, None
    )


USUAL = lab.learn(shop(50, n=200))


@pytest.mark.parametrize("queue_in_span", [True, False])
def test_the_wait_for_a_worker_is_handed_on_to_what_holds_the_workers(queue_in_span):
    usual = lab.learn(shop(50, n=200, queue_in_span=queue_in_span))
    now = shop(300, first=1000, queue_in_span=queue_in_span)
    books = ledger.excess_ledger(usual, now)
    conserves(books)
    assert books.rows["reassigned"].sum() == pytest.approx(0, abs=1e-6)
    assert books.rows["reassigned"].min() < -100  # the queue grows to seconds
    assert [s.endpoint for s in lab.rank_root_causes(usual, now)] == ["/payment"]


def test_close_to_the_limit_a_little_more_work_explains_a_long_queue():
    usual = lab.learn(shop(150, n=200))
    now = shop(205, first=1000)
    assert now["duration_ms"].mean() > 2 * 205  # customers wait longer than they are served
    assert [s.endpoint for s in lab.rank_root_causes(usual, now)] == ["/payment"]


def test_own_slowness_is_no_wait_though_the_called_is_slow_too():
    now = shop(300, first=1000, workers=100, own_ms=300)
    assert (ledger.excess_ledger(USUAL, now).rows["reassigned"] == 0).all()
    assert {s.endpoint for s in lab.rank_root_causes(USUAL, now)} == {"/payment", "/checkout"}


def test_a_queue_of_its_own_making_is_not_handed_on():
    now = shop(50, first=1000, own_ms=300)
    assert (ledger.excess_ledger(USUAL, now).rows["reassigned"] == 0).all()
    assert [s.endpoint for s in lab.rank_root_causes(USUAL, now)] == ["/checkout"]


def test_who_is_turned_away_by_a_full_house_accuses_who_fills_it():
    usual, now = (lab.learn(shop(50, n=200)), shop(2000, first=1000, workers=4, places=4))
    assert (now["status"] == 503).sum() >= 10
    books = ledger.excess_ledger(usual, now)
    conserves(books)
    failures = books.rows[(books.rows["unit"] == "failures") & ~books.rows["masked"]].set_index(
        "account"
    )["excess"]
    assert failures["/checkout itself"] == pytest.approx(0)
    assert failures["/payment itself"] > 0.1
    assert [s.endpoint for s in lab.rank_root_causes(usual, now)] == ["/payment"]


def test_who_sheds_load_that_it_could_carry_is_to_blame_itself():
    now = shop(300, first=1000, workers=100).copy()
    shed = now.index[(now["endpoint"] == "/checkout") & (now["kind"] == "server")][::3]
    trace = now.loc[shed, "trace_id"]
    now = now[
        ~now["trace_id"].isin(trace)
        | (now["service"] != "payment") & (now["endpoint"] != "/payment")
    ].copy()
    now.loc[shed, ["status", "duration_ms"]] = [503, 0.5]
    now.loc[now["trace_id"].isin(trace) & (now["service"] == "front"), "status"] = 503
    failures = ledger.excess_ledger(USUAL, now.reset_index(drop=True)).rows.query(
        "unit == 'failures' and not masked"
    )
    assert failures.set_index("account")["excess"]["/checkout itself"] == pytest.approx(
        1 / 3, abs=0.01
    )
