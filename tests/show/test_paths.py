"""By which path did requests reach the cause?"""

import pandas as pd
import pytest

from aiops_lab import to_frame
from aiops_lab.results import Suspect
from aiops_lab.show.paths import worst_path
from tests.support.made import BEGIN
from tests.support.traces import span

CAUSE = Suspect("shop", "/db", 1.0)
USUAL_MS, SINCE_MS = 0, 10_000
SINCE = pd.Timestamp(BEGIN + SINCE_MS * 1_000_000, tz="UTC")

SHORT = "/home (shop)", "/db (shop)"
LONG = "/home (shop)", "/similar (shop)", "/db (shop)"


def request(trace, begin_ms, short_ms, long_ms, *, status=200):
    """A request that reaches the cause at once, and then by way of another endpoint.

    /home     |============================|
    /db          |== short ==|
    /similar                  |==========|
    /db                        |= long =|
    """
    at = begin_ms + 1 + short_ms
    whole = {"trace": trace}
    return [
        span(1, None, "/home", "server", begin_ms, short_ms + long_ms + 4, **whole),
        span(2, 1, "/db", "server", begin_ms + 1, short_ms, status=status, **whole),
        span(3, 1, "/similar", "server", at, long_ms + 2, **whole),
        span(4, 3, "/db", "server", at + 1, long_ms, **whole),
    ]


def path(*spans, bad=2, cause=CAUSE):
    frame = to_frame([each for some in spans for each in some])
    return worst_path(cause, frame, {f"{bad:032x}"}, SINCE)


@pytest.mark.parametrize(("short_ms", "long_ms", "worst"), [(20, 90, LONG), (90, 20, SHORT)])
def test_the_path_with_most_excess_is_told(short_ms, long_ms, worst):
    usual = request(1, USUAL_MS, 10, 10)
    assert path(usual, request(2, SINCE_MS, short_ms, long_ms)) == worst


def test_what_is_usual_by_a_path_is_no_excess():
    usual = request(1, USUAL_MS, 200, 10)
    assert path(usual, request(2, SINCE_MS, 210, 90)) == LONG
    later = request(1, SINCE_MS, 200, 10)  # not before the trouble: nothing is known as usual
    assert path(later, request(2, SINCE_MS, 210, 90)) == SHORT


def test_a_bad_request_is_not_usual_though_it_began_before_the_trouble():
    early = request(2, USUAL_MS, 10, 400)
    late = request(3, SINCE_MS, 250, 200)
    frame = to_frame([*request(1, USUAL_MS, 10, 10), *early, *late])
    bad = {f"{2:032x}", f"{3:032x}"}
    assert worst_path(CAUSE, frame, bad, SINCE) == LONG


def test_what_was_not_waited_for_is_no_excess():
    """All run at once; the request waits for what ends last."""
    spans = [
        span(1, None, "/home", "server", SINCE_MS, 100),
        span(2, 1, "/db", "server", SINCE_MS + 1, 90),
        span(5, 1, "/db", "server", SINCE_MS + 1, 90),
        span(3, 1, "/similar", "server", SINCE_MS + 1, 98),
        span(4, 3, "/db", "server", SINCE_MS + 2, 96),
    ]
    assert path(spans, bad=1) == LONG


def test_of_a_cause_that_fails_failures_count():
    failing = Suspect("shop", "/db", 1.0, evidence=({"unit": "failures", "cost": 3.0},))
    spans = request(2, SINCE_MS, 5, 90, status=500)
    assert path(spans, cause=failing) == SHORT
    rows = {"unit": "failures", "cost": 3.0}, {"unit": "ms", "cost": 4.0}
    assert path(spans, cause=Suspect("shop", "/db", 1.0, evidence=rows)) == LONG


def test_a_request_that_is_still_open_counts_as_failed():
    failing = Suspect("shop", "/db", 1.0, evidence=({"unit": "failures", "cost": 3.0},))
    spans = [
        span(1, None, "/home", "server", SINCE_MS - 950, None, status=0),
        span(2, 1, "/db", "server", SINCE_MS + 1, None, status=0),
        span(3, 1, "/similar", "server", SINCE_MS - 901, 900),
        span(4, 3, "/db", "server", SINCE_MS - 900, 890),
    ]
    assert path(spans, bad=1, cause=failing) == SHORT


def test_the_path_ends_where_parents_form_a_circle():
    spans = [
        span(1, 2, "/home", "server", SINCE_MS, 60),
        span(2, 1, "/db", "server", SINCE_MS + 1, 50),
    ]
    assert path(spans, bad=1) == ("/home (shop)", "/db (shop)")


def test_calls_that_reached_nothing_are_a_path():
    call = span(2, 1, "/db", "client", SINCE_MS + 1, 50, peer="pay", status=0)
    spans = [span(1, None, "/home", "server", SINCE_MS, 60), call]
    assert path(spans, bad=1, cause=Suspect("pay", "/db", 1.0)) == ("/home (shop)", "/db (pay)")


def test_a_call_without_an_answer_stands_beside_requests_from_outside():
    spans = [
        span(1, None, "/home", "server", SINCE_MS, 60),
        span(2, None, "/db", "server", SINCE_MS, 500, service="pay"),
        span(3, 1, "/db", "client", SINCE_MS + 1, 50, peer="pay", status=0),
    ]
    assert path(spans, bad=1, cause=Suspect("pay", "/db", 1.0)) == ("/home (shop)", "/db (pay)")


def test_a_call_counts_to_the_path_of_the_server_that_it_reached():
    """Here the network of the call by /similar is slow, not /db itself."""
    spans = [
        span(1, None, "/home", "server", SINCE_MS, 200),
        span(2, 1, "/db", "server", SINCE_MS + 1, 20),
        span(3, 1, "/similar", "server", SINCE_MS + 30, 160),
        span(4, 3, "/db/of/pay", "client", SINCE_MS + 31, 150, peer="gateway"),
        span(5, 4, "/db", "server", SINCE_MS + 90, 10),
    ]
    assert path(spans, bad=1) == LONG


def test_requests_from_outside_are_a_path_only_where_there_are_no_others():
    alone = [span(1, None, "/db", "server", SINCE_MS, 900, trace=2)]
    assert path(alone) == ("/db (shop)",)
    one_more = request(3, SINCE_MS, 10, 20)
    frame = to_frame([*alone, *one_more])
    assert worst_path(CAUSE, frame, {f"{2:032x}", f"{3:032x}"}, SINCE) == LONG


def test_no_bad_request_has_no_path():
    assert path(request(1, USUAL_MS, 10, 10)) == ()
    assert path(request(2, SINCE_MS, 10, 10), cause=Suspect("shop", "/no", 1.0)) == ()
