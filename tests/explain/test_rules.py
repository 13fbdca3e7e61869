import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.rules import RULES, _compared, _pagerank
from tests.support.traces import span


def drawn(*traces, every_s=10):
    """A frame of traces; each is a list of (place of the parent, endpoint, start ms, end ms,
    status), entry first.
    """
    spans = []
    for n, rows in enumerate(traces):
        for i, (parent, endpoint, start, end, status) in enumerate(rows, 1):
            up = None if parent is None else parent + 1
            began = n * every_s * 1000 + start
            took = None if end is None else end - start
            spans.append(span(i, up, endpoint, "server", began, took, status=status, trace=n + 1))
    return lab.to_frame(spans)


#   /a |==|--------|====|-----|====|     0 to 100
#   /b    |========|                     10 to 60
#   /c                  |=====|          70 to 90
def usual_trace(w=0.0):
    return [
        (None, "/a", 0, 100 + 3 * w, 200),
        (0, "/b", 10, 60 + w, 200),
        (0, "/c", 70, 90 + w, 200),
    ]


USUAL = lab.learn(drawn(*(usual_trace(w) for w in [-1, 1] * 10)))

#   In each, /b is the cause, unless it says otherwise.
#   /a |==|-----------------|==|-|=|     slow: /b takes 350 ms, everything waits
#   /b    |=================|
SLOW = [(None, "/a", 0, 400, 200), (0, "/b", 10, 360, 200), (0, "/c", 370, 390, 200)]
ERROR = [(None, "/a", 0, 70, 502), (0, "/b", 10, 60, 500)]
#   /a |==|-----|=|                      gives up after 45 ms, while /b goes on
#   /b    |=================|
GIVES_UP = [(None, "/a", 0, 60, 504), (0, "/b", 10, 360, 200)]
#   The way to /b is slow: who looks at server spans sees /a alone.
#   /a |==|-----------------|==|-|=|
#   /b           |====|
NETWORK = [(None, "/a", 0, 400, 200), (0, "/b", 160, 210, 200), (0, "/c", 370, 390, 200)]
#   /a |=|--|=============|--|=|         calls /b again after a pause; /b fails at once
RETRY = [
    (None, "/a", 0, 400, 502),
    (0, "/b", 10, 15, 500),
    (0, "/b", 380, 385, 500),
    (0, "/b", 390, 392, 500),
]
#   /c is called three times and well, /b once and slowly
FAN = [*SLOW, (0, "/c", 391, 392, 200), (0, "/c", 393, 394, 200)]
OWN = [(None, "/a", 0, 400, 200), (0, "/b", 10, 60, 200), (0, "/c", 70, 90, 200)]  # /a is the cause
#   /d calls /b as well; without /b both are as usual
OTHER = [(None, "/d", 0, 400, 500), (0, "/b", 10, 360, 500)]
WITHOUT = [(None, "/a", 0, 45, 200), (0, "/c", 10, 30, 200)]
#   a fault of /a that strikes its requests with /b only: what they share is /b
OWN_WITH_B = [(None, "/a", 0, 400, 200), (0, "/b", 10, 60, 200)]


def says(rule, *traces):
    return [s.endpoint for s in RULES[rule](USUAL, drawn(*traces))]


@pytest.mark.parametrize(
    ("rule", "traces", "cause"),
    [
        ("entry", [OWN], "/a"),
        ("most called", [RETRY], "/b"),
        ("first by start", [OWN], "/a"),
        ("first by end", [SLOW], "/b"),
        ("deepest error", [ERROR], "/b"),
        ("total z", [SLOW], "/b"),
        ("self-time z", [SLOW], "/b"),
        ("walk down", [ERROR], "/b"),
        ("Ochiai", [SLOW, OTHER, WITHOUT, WITHOUT], "/b"),
        ("D*", [SLOW, OTHER, WITHOUT, WITHOUT], "/b"),
        ("BARO", [SLOW], "/b"),
        *(("ledger", [trace], "/b") for trace in (SLOW, ERROR)),
        ("ledger", [RETRY] * 10, "/b"),
        ("ledger", [OWN], "/a"),
    ],
    ids=str,
)
def test_a_rule_is_right_where_its_assumption_holds(rule, traces, cause):
    assert says(rule, *traces * 8)[0] == cause


@pytest.mark.parametrize(
    ("rule", "traces", "answer"),
    [
        ("entry", [SLOW], "/a"),
        ("most called", [FAN], "/c"),
        ("first by start", [SLOW], "/a"),
        ("first by end", [GIVES_UP], "/a"),
        ("deepest error", [GIVES_UP], "/a"),
        ("total z", [NETWORK], "/a"),
        ("self-time z", [RETRY], "/a"),
        ("walk down", [NETWORK], "/a"),
        ("BARO", [RETRY], "/a"),
    ],
    ids=str,
)
def test_a_rule_blames_the_caller_of_b_where_its_assumption_fails(rule, traces, answer):
    assert says(rule, *traces * 8)[0] == answer


@pytest.mark.parametrize("rule", ["Ochiai", "D*"])
def test_the_spectrum_blames_what_only_the_bad_requests_share(rule):
    """/a is the cause, and /b is what tells its bad requests from its good ones."""
    without = [WITHOUT] * 40
    assert says(rule, *[OWN_WITH_B] * 8, *without)[0] == "/b"


def test_the_ledger_blames_a_caller_that_pauses_longer_than_failures_weigh():
    """/b fails, /a waits before it asks again: the wait is /a's own time. More requests settle it,
    see above.
    """
    assert says("ledger", *[RETRY] * 8) == ["/a", "/b"]


def test_of_an_entry_that_was_never_seen_before_the_known_callees_are_looked_at():
    assert says("ledger", *[OTHER] * 8) == ["/b"]
    assert says("ledger", *[OTHER[:1]] * 8) == []


@pytest.mark.parametrize("rule", ["deepest error", "total z", "self-time z", "ledger"])
def test_these_rules_are_silent_when_all_is_as_usual(rule):
    assert says(rule, *[usual_trace()] * 8) == []


def test_only_failures_make_an_error_rule_speak():
    assert says("deepest error", *[SLOW] * 8) == []


@pytest.mark.parametrize("rule", ["entry", "first by end", "deepest error", "walk down", "Ochiai"])
def test_a_failure_that_the_entry_repaired_makes_no_abnormal_trace(rule):
    repaired = [
        (None, "/a", 0, 100, 200),
        (0, "/b", 10, 12, 500),
        (0, "/b", 20, 60, 200),
        (0, "/c", 70, 90, 200),
    ]
    assert says(rule, *[repaired] * 8) == []


def test_walking_down_prefers_failures_and_then_the_most_unusual():
    #  /b fails at once, /c is slow and ends last; then both are slow, /b more so than /c
    assert says(
        "walk down",
        *[[(None, "/a", 0, 400, 502), (0, "/b", 10, 20, 500), (0, "/c", 30, 390, 200)]] * 8,
    ) == ["/b"]
    assert says(
        "walk down",
        *[[(None, "/a", 0, 500, 200), (0, "/b", 10, 360, 200), (0, "/c", 370, 490, 200)]] * 8,
    ) == ["/b"]


def test_self_time_leaves_out_the_caller_and_total_time_does_not():
    assert says("self-time z", *[SLOW] * 8) == ["/b"]
    assert says("total z", *[SLOW] * 8) == ["/b", "/a"]


def test_the_robust_score_of_errors_that_never_happened_before_is_at_most_one():
    assert [(s.endpoint, s.score) for s in RULES["BARO"](USUAL, drawn(*[ERROR] * 8))] == [
        ("/a", 1.0),
        ("/b", 1.0),
    ]
    # usually 49 and 51 ms in turn: the median is 50, the quartiles are 49 and 51
    assert RULES["BARO"](USUAL, drawn(*[SLOW] * 8))[0].score == (350 - 50) / 2


def test_lots_know_nothing_but_are_drawn_from_the_spans():
    frames = [drawn(*[[(None, "/a", 0, 400 + n, 200), *SLOW[1:]]]) for n in range(40)]
    found = [RULES["random"](USUAL, frame) for frame in frames]
    first = [suspects[0].endpoint for suspects in found]
    assert {e: 6 <= first.count(e) <= 22 for e in ["/a", "/b", "/c"]} == {
        "/a": True,
        "/b": True,
        "/c": True,
    }
    lots = [suspect.score for suspects in found for suspect in suspects]
    assert 0 < min(lots) < 0.2
    assert 0.8 < max(lots) <= 1
    shuffled = frames[7].sample(frac=1, random_state=1, ignore_index=True)
    assert RULES["random"](USUAL, shuffled) == found[7]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_usual_or_nothing_abnormal_gives_no_suspects(rule):
    empty, slow = lab.to_frame([]), drawn(*[SLOW] * 8)
    assert RULES[rule](USUAL, empty) == []
    assert RULES[rule](lab.learn(empty), slow) == []
    assert RULES[rule](lab.learn(empty), drawn(*[ERROR] * 8)) == []
    assert RULES[rule](lab.learn(empty), empty) == []


@pytest.mark.parametrize("rule", RULES)
def test_a_wrong_frame_is_refused_by_the_name_of_its_column(rule):
    with pytest.raises(ValueError, match="'duration_ms'"):
        RULES[rule](USUAL, drawn(SLOW).drop(columns="duration_ms"))


def test_equal_scores_come_in_alphabetical_order():
    """Two callees fail alike, each in half of the traces; the one drawn first in the spans is last
    in the alphabet.
    """
    traces = [[(None, "/a", 0, 70, 502), (0, endpoint, 10, 60, 500)] for endpoint in ("/c", "/b")]
    suspects = RULES["deepest error"](USUAL, drawn(*traces * 4))
    assert [(s.endpoint, s.score, s.support) for s in suspects] == [
        ("/b", 4, (4, 8)),
        ("/c", 4, (4, 8)),
    ]


def test_a_request_that_hangs_is_as_long_as_it_is_old():
    hanging = [(None, "/a", 0, None, 0), (0, "/b", 10, None, 0)]
    assert says("walk down", hanging, usual_trace(), usual_trace())[0] == "/b"
    # it has not failed yet
    assert says("deepest error", hanging, usual_trace(), usual_trace()) == []


def test_the_weights_of_the_spectrum_are_those_of_dense_matrices():
    """MicroRank as its paper writes it, with whole matrices."""
    _, now, keys = _compared(USUAL, drawn(SLOW, FAN, ERROR, OTHER, WITHOUT, OTHER))
    rank, touched = _pagerank(now, len(keys), 0.5)
    o, t = len(keys), now["trace"].nunique()
    inside = np.zeros((o, t))
    inside[now["node"], now["trace"]] = 1
    calls = np.zeros((o, o))
    for above, node in now.loc[now["above"] >= 0, ["above", "node"]].itertuples(index=False):
        calls[node, now["node"].iloc[above]] = 1
    calls = calls / np.maximum(calls.sum(axis=0), 1)
    alike = np.array(
        [sum((inside[:, i] == inside[:, j]).all() for j in range(t)) for i in range(t)]
    )
    rare, short = 1 / alike, 1 / inside.sum(axis=0)
    prefer = 0.5 * rare / rare.sum() + 0.5 * short / short.sum()
    nodes, traces = np.full(o, 1 / (o + t)), np.full(t, 1 / (o + t))
    for _ in range(25):
        nodes, traces = (
            0.85 * (inside / inside.sum(axis=0) @ traces + 0.01 * calls @ nodes),
            0.85 * (inside / inside.sum(axis=1, keepdims=True)).T @ nodes + 0.15 * prefer,
        )
        nodes, traces = nodes / nodes.max(), traces / traces.max()
    assert touched.tolist() == inside.sum(axis=1).tolist()
    assert rank == pytest.approx(nodes * nodes.sum() / o)


@pytest.mark.parametrize("traces", [(SLOW, OTHER, WITHOUT), (OTHER, OTHER)], ids=["mixed", "only"])
def test_the_spectrum_formulas_by_hand(traces):
    """Where all bad traces and no others touch an endpoint, D* divides by 1e-7."""
    frame = drawn(*traces)
    before, now, keys = _compared(USUAL, frame)
    before["trace"] += len(traces)
    bad, good = now[now["abnormal"]], pd.concat([now[~now["abnormal"]], before], ignore_index=True)
    (w_bad, n_bad), (w_good, n_good) = (
        _pagerank(bad, len(keys), 0.5),
        _pagerank(good, len(keys), 1.0),
    )
    expected = {"Ochiai": {}, "D*": {}}
    for (_, endpoint), node in keys.items():
        ef, nf, ep = (
            w_bad[node] * n_bad[node],
            w_bad[node] * (2 - n_bad[node]),
            w_good[node] * n_good[node],
        )
        if ef > 0:
            expected["Ochiai"][endpoint] = ef / ((ef + nf) * (ef + ep)) ** 0.5
            expected["D*"][endpoint] = ef * ef / max(ep + nf, 1e-7)
    for rule, scores in expected.items():
        assert {s.endpoint: s.score for s in RULES[rule](USUAL, frame)} == pytest.approx(scores)


# ---- the numbers


def answers(rule, *traces, usual=USUAL, **how):
    return {s.endpoint: s.score for s in RULES[rule](usual, drawn(*traces, **how))}


@pytest.mark.parametrize(("ms", "bad"), [(108, False), (110, True)])
def test_a_request_is_bad_three_standard_deviations_above_the_mean(ms, bad):
    """/a usually takes 97 or 103 ms: mean 100, standard deviation 3."""
    assert says("entry", [(None, "/a", 0, ms, 200)]) == (["/a"] if bad else [])


@pytest.mark.parametrize(("ms", "bad"), [(50.25, False), (50.35, True)])
def test_a_steady_endpoint_has_a_standard_deviation_of_a_tenth_of_a_millisecond(ms, bad):
    usual = lab.learn(drawn(*[[(None, "/a", 0, 50, 200)]] * 5))
    assert answers("entry", [(None, "/a", 0, ms, 200)], usual=usual) == ({"/a": 1} if bad else {})


@pytest.mark.parametrize(("first", "second", "named"), [(70, 90, "/90"), (120, 160, "/120")])
def test_calls_within_calls_are_told_apart_up_to_a_hundred(first, second, named):
    """Of failures further down than that the one that ends first is named."""
    chain = [(k - 1 if k else None, f"/{k}", k, 2000 - k, 200) for k in range(second + 1)]
    chain[0] = (None, "/a", 0, 2000, 502)
    chain[first] = (first - 1, f"/{first}", first, 1000, 500)
    chain[second] = (second - 1, f"/{second}", second, 1500, 500)
    assert says("deepest error", chain) == [named]


def test_the_robust_score_takes_means_of_ten_seconds_and_the_quartiles_of_before():
    """Usually 47, 49, 51 and 53 ms alike: the quartiles of 20 are 48.5 and 51.5."""
    usual = lab.learn(drawn(*(usual_trace(w) for w in [-3, -1, 1, 3] * 5)))
    assert answers("BARO", SLOW, usual=usual)["/b"] == pytest.approx((350 - 50) / 3)
    mixed = answers("BARO", SLOW, usual_trace(), usual=usual, every_s=7)
    assert mixed["/b"] == pytest.approx((200 - 50) / 3)
