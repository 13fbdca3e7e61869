"""Where each moment and each failure of a request counts, in traces drawn by hand."""

import pytest

import aiops_lab as lab
from aiops_lab.explain import ledger
from tests.support.traces import call, many, span


def top(ms=100, status=200):
    return span(1, None, "/a", "server", 0, ms, status=status)


USUAL = [top(), *call(2, "/b", 10, 50)]


def costs(now, usual=(USUAL,), unit="failures", masked=False):
    """Return what a request costs now, by account."""
    found = ledger.excess_ledger(lab.learn(many(*usual)), many(now))
    rows = found.rows[(found.rows["unit"] == unit) & (found.rows["masked"] == masked)]
    rows = rows[rows["now"] > 1e-9]
    return dict(zip(rows["account"], rows["now"].round(6), strict=True))


# ---- time


def test_time_counts_to_own_accounts_and_edges():
    drawn = [
        span(1, None, "/a", "client", 0, 100, peer="shop"),
        span(2, 1, "/a", "server", 10, 80),
        *call(3, "/b", 20, 50, parent=2),
        span(5, 2, "/c", "client", 72, 9, peer="shop"),
    ]
    assert costs(drawn, [drawn], "ms") == {
        "edge outside → /a": 20,
        "/a own time": 21,
        "edge /a → /b": 2,
        "/b own time": 48,
        "edge /a → /c": 9,
    }


def test_the_time_of_a_call_beyond_the_usual_number_is_its_callers():
    twice = [top(160), *call(2, "/b", 10, 50), *call(4, "/b", 60, 50)]
    assert costs(twice, unit="ms") == {"/a own time": 110, "edge /a → /b": 2, "/b own time": 48}


def test_a_call_that_repeats_a_failed_one_is_not_beyond():
    again = [top(160), *call(2, "/b", 10, 50, status=500), *call(4, "/b", 60, 50)]
    assert costs(again, unit="ms") == {"/a own time": 60, "edge /a → /b": 4, "/b own time": 96}


def test_one_call_of_what_was_never_called_before_is_no_call_too_many():
    new = [top(), *call(2, "/b", 10, 50), *call(4, "/c", 60, 20), *call(6, "/c", 80, 20)]
    assert costs(new, unit="ms") == {
        "/a own time": 30,
        "edge /a → /b": 2,
        "/b own time": 48,
        "edge /a → /c": 2,
        "/c own time": 18,
    }


# ---- which requests count


def entry(*spans):
    found = ledger.excess_ledger(lab.learn(many([top()])), lab.to_frame(spans))
    (row,) = found.entries.to_dict("records")
    return row


def test_an_open_request_counts_once_it_is_unanswered():
    """At 9.1 s one has been open for 8.1 s, one for 1.1 s, and a line was logged by nobody."""
    row = entry(
        span(1, None, "/a", "server", 0, 100, trace=1),
        span(1, None, "/a", "server", 1000, None, status=0, trace=2),
        span(1, None, "/a", "server", 8000, None, status=0, trace=3),
        span(1, None, "/a", "server", 9000, 100, trace=4),
        span(1, None, "/a", "log", 9000, 50, trace=5),
    )
    assert (row["n_now"], row["open_now"], row["now_failed"]) == (3, 1, pytest.approx(1 / 3))
    assert row["now_ms"] == pytest.approx((100 + 8100 + 100) / 3)


def test_a_request_that_usually_fails_still_fails():
    failing = [top(status=500)]
    found = ledger.excess_ledger(lab.learn(many(failing)), many(failing))
    assert found.entries[["usual_failed", "now_failed"]].to_numpy().tolist() == [[1, 1]]


def test_spans_in_a_circle_of_parents_count_for_nothing():
    circle = [
        span(8, 9, "/b", "server", 10, 50, status=500),
        span(9, 8, "/c", "server", 20, 10, status=500),
    ]
    found = lab.learn(many([*USUAL, *circle]))
    names = [endpoint for _, endpoint in found.spans.keys]
    n = dict(zip(names, found.costs.endpoints["n"].reindex(range(len(names))), strict=True))
    assert (n["/a"], n["/b"]) == (6, 6)
    assert found.costs.endpoints.index.tolist() == [names.index("/a"), names.index("/b")]
    assert found.mean_self_ns["n"].tolist() == [6, 6, 6]
    for masked in (False, True):
        assert costs([*USUAL, *circle], masked=masked) == {}


# ---- where a failure began


def failing(status, *, a=502, **how):
    """Return the usual request with a call that ended with a status, and what /a made of it."""
    return [top(status=a), *call(2, "/b", 10, 50, status=status, **how)]


@pytest.mark.parametrize(
    ("status", "account"),
    [
        (200, "/a itself"),
        (399, "/a itself"),
        (400, "/b itself"),
        (499, "/b itself"),
        (500, "/b itself"),
    ],
)
def test_a_failure_began_at_who_answered_with_a_failure_or_a_refusal(status, account):
    assert costs(failing(status)) == {account: 1}


def test_a_refusal_that_is_usual_explains_no_failure():
    assert costs(failing(404), [failing(404, a=200)]) == {"/a itself": 1}


def test_what_usually_fails_is_not_what_usually_refuses():
    """/b refuses a third of its requests and fails another third: neither is the rule."""
    usual = [failing(404, a=200), failing(500, a=200), USUAL]
    assert costs(failing(404), usual) == {"/b itself": 1}


def test_a_failure_that_its_caller_repaired_is_masked():
    repaired = failing(500, a=200)
    assert (costs(repaired), costs(repaired, masked=True)) == ({}, {"/b itself": 1})
    assert costs(failing(500), masked=True) == {}


def test_a_failure_that_no_client_saw_is_none():
    assert costs(failing(200, a=200, answer=500), masked=True) == {}
    direct = [top(), span(2, 1, "/b", "server", 10, 50, status=500)]
    assert costs(direct, masked=True) == {"/b itself": 1}


@pytest.mark.parametrize(
    ("status", "answer", "began", "took", "account"),
    [
        (0, 200, 1, 400, "/b itself"),  # given up; /b took nearly all of the time
        (0, 500, 40, 5, "edge /a → /b"),  # given up; the network took it
        (500, 200, 1, 400, "/b itself"),  # failed on the way
        (500, 200, 40, 5, "edge /a → /b"),
        (500, 500, 40, 5, "/b itself"),  # /b said so, however fast
    ],
)
def test_where_a_call_fails_that_was_not_answered_so_time_decides(
    status, answer, began, took, account
):
    now = failing(status, answer=answer, began=began, took=took)
    assert costs(now) == {account: 1}


def hanging(*calls):
    """Return a request of 10 s that was never answered."""
    return [top(10_000, status=0), *calls]


@pytest.mark.parametrize(
    ("status", "account"), [(0, "/b itself"), (500, "/a itself")], ids=["hangs", "fails"]
)
def test_of_what_hangs_time_decides_of_what_fails_it_does_not(status, account):
    now = [top(10_000, status=status), *call(2, "/b", 10, 9_000)]
    assert costs(now) == {account: 1}


@pytest.mark.parametrize(
    ("usual_ms", "account"), [(50, "/b itself"), (5_000, "/a itself"), (9_000, "/a itself")]
)
def test_only_time_beyond_the_usual_decides(usual_ms, account):
    """/a took 3 s by itself, and /b 7 s: beyond its usual time that may be less."""
    usual = [top(10_000), *call(2, "/b", 10, usual_ms), *call(4, "/c", 9_500, 20)]
    assert costs(hanging(*call(2, "/b", 10, 7_000)), [usual]) == {account: 1}
    lost = [span(4, 1, "/b", "client", 100, 7_000, peer="shop"), *call(2, "/c", 7_200, 20)]
    told = "edge /a → /b" if account == "/b itself" else account
    assert costs(hanging(*lost), [usual]) == {told: 1}


def test_an_answer_that_was_lost_is_no_fault_of_a_database_that_was_as_usual():
    """Nobody but /b sees the database, which takes most of its time."""
    query = span(4, 3, "SELECT", "client", 12, 30, peer="db")
    usual = [*USUAL, query]
    reset = [*failing(0, answer=200), query]
    assert costs(reset, [usual]) == {"/b itself": 1}
    slow = [*failing(0, answer=200, took=400), query._replace(duration_ns=380_000_000)]
    assert costs(slow, [usual]) == {"edge /b → SELECT": 1}


def test_the_worst_of_several_calls_decides_and_what_ran_in_its_shade_does_not():
    one = [*call(2, "/b", 10, 3_000), *call(4, "/c", 3_100, 6_000), *call(6, "/d", 3_200, 5_000)]
    assert costs(hanging(*one)) == {"/c itself": 1}
    other = [*call(2, "/b", 10, 6_000), *call(4, "/c", 6_100, 3_000)]
    assert costs(hanging(*other)) == {"/b itself": 1}
    log = span(6, 1, "/line", "log", 100, 9_800)
    assert costs(hanging(*other, log)) == {"/b itself": 1}


def test_time_is_followed_down_to_the_last_call_that_took_it():
    deep = [*call(2, "/b", 10, 9_000), *call(4, "/c", 100, 8_000, parent=3)]
    assert costs(hanging(*deep)) == {"/c itself": 1}


@pytest.mark.parametrize(("status", "account"), [(503, "edge /b → /c"), (200, "/b itself")])
def test_who_pauses_before_another_attempt_waits_for_the_call_that_failed(status, account):
    given_up = call(2, "/b", 10, 9_000, status=0, answer=200)
    tried = call(4, "/c", 100, 500, parent=3, status=status)
    again = call(6, "/c", 8_000, 500, parent=3)
    assert costs([top(10_000, status=502), *given_up, *tried, *again]) == {account: 1}


def test_a_call_that_nobody_answered_counts_to_the_edge_or_to_who_refused_it():
    for ms, account in ((50, "edge /a → /b"), (4, "/b itself")):
        lost = [top(status=502), span(2, 1, "/b", "client", 10, ms, status=0, peer="shop")]
        assert costs(lost) == {account: 1}
    refused = [top(status=502), span(2, 1, "/b", "client", 10, 4, status=500, peer="shop")]
    assert costs(refused) == {"edge /a → /b": 1}
