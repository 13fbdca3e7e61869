"""What is prepared of a recording: its requests, and the calls that were given up."""

import aiops_lab as lab
from aiops_lab.detect.recording import Recording
from tests.support.made import BEGIN
from tests.support.traces import MS, span

TOP, PAY, LOST = ("shop", "/top"), ("shop", "/pay"), ("gone", "/lost")


def given_up(n, endpoint, peer, at):
    """Return a call whose caller lost patience."""
    where = {"peer": peer, "status": 0, "error": "ReadTimeout: no answer"}
    return span(n, 1, endpoint, "client", at, 5, **where)


SPANS = [
    span(1, None, "/top", "server", 0, 90),
    given_up(2, "/pay", "shop", 10),
    given_up(3, "/lost", "gone", 20),
    span(4, 2, "/pay", "server", 11, 40),
]


def test_calls_of_endpoints_that_never_served_have_no_baseline():
    recording = Recording(lab.to_frame(SPANS), keys := {})
    assert list(keys) == [TOP, PAY]
    assert [recording.spans.keys[node] for node in recording.given_up.node] == [PAY]


def test_known_endpoints_keep_their_codes_and_those_that_serve_are_added():
    recording = Recording(lab.to_frame(SPANS), keys := {LOST: 0})
    assert keys == {LOST: 0, TOP: 1, PAY: 2}
    assert [recording.spans.keys[node] for node in recording.given_up.node] == [PAY, LOST]


def test_requests_are_known_in_the_order_in_which_they_ended():
    recording = Recording(lab.to_frame(SPANS), {})
    assert recording.requests.row.tolist() == [0, 2]
    assert recording.by_end.tolist() == [1, 0]


def test_the_first_call_of_each_pair_is_known():
    later = span(5, 1, "/pay", "client", 60, 9, peer="shop")
    recording = Recording(lab.to_frame([*SPANS, later, span(6, 5, "/pay", "server", 61, 5)]), {})
    assert recording.calls == {(TOP, PAY): BEGIN + 11 * MS, (TOP, LOST): BEGIN + 20 * MS}
