"""Event streams and long polls: how long a connection stays open is no latency."""

import random

import pytest

import aiops_lab as lab
from aiops_lab import Span

S = 10**9
START = 1_790_000_000 * S
END_S = 1500.0
RESTART_S = 1200.0

LENGTHS = {
    "half a minute": lambda dice: dice.lognormvariate(3.4, 1.0),
    "hours": lambda dice: dice.lognormvariate(6.0, 1.5),
    "some seconds": lambda dice: dice.lognormvariate(1.0, 1.2),
    "a long poll that is answered at any time": lambda dice: dice.uniform(0.0, 30.0),
    "a long poll that is answered at once or never": lambda dice: dice.choice((0.02, 25.0)),
    "one in five stays": lambda dice: 40.0 if dice.random() < 0.2 else 0.05,
}


def request(endpoint, start_s, seconds, number, status=200):
    """A request, or an open one where it lasts beyond the end of the recording."""
    is_open = start_s + seconds >= END_S
    trace = f"{number + 1:032x}"
    return Span(
        trace,
        trace[16:],
        None,
        "app",
        endpoint,
        "server",
        None,
        START + int(start_s * S),
        None if is_open else int(seconds * S),
        0 if is_open else status,
        None,
    )


def pages(dice, slow_since=END_S):
    """Five requests of /page a second: start and seconds."""
    for i in range(int(END_S * 5)):
        slower = 20.0 if i / 5 >= slow_since else 1.0
        yield "/page", i / 5, slower * 0.02 * dice.lognormvariate(0.0, 0.2)


def connections(dice, length, a_second=0.5, restart_s=None):
    """Connections to /events; a restart closes all, and they come back within five seconds."""
    starts = [dice.uniform(0.0, 20.0) for _ in range(20)]
    now = 0.0
    while now < END_S - 1:
        now += dice.expovariate(a_second)
        starts.append(now)
    for start in starts:
        seconds = length(dice)
        if restart_s and start < restart_s < start + seconds:
            yield "/events", start, restart_s - start
            yield "/events", restart_s + dice.uniform(0.0, 5.0), seconds
        else:
            yield "/events", start, seconds


def anomalies(*streams):
    rows = [row for stream in streams for row in stream]
    spans = [request(*row, number) for number, row in enumerate(rows)]
    found = lab.replay(lab.to_frame(spans), causes=False).anomalies
    return {(a.type, a.endpoint) for a in found}


@pytest.mark.parametrize("restart_s", [None, RESTART_S])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_length_of_a_connection_is_no_anomaly(length, restart_s):
    dice = random.Random(1)
    lasting = connections(dice, LENGTHS[length], restart_s=restart_s)
    assert anomalies(pages(dice), lasting) == set()


def test_beside_connections_a_slow_page_is_still_seen():
    dice = random.Random(1)
    found = anomalies(pages(dice, slow_since=1300.0), connections(dice, LENGTHS["half a minute"]))
    assert found == {("latency_anomaly", "/page")}


def test_an_endpoint_whose_requests_begin_to_hang_is_no_stream():
    dice = random.Random(1)
    hanging = (("/page", start, 40.0) for start in range(1300, 1400))
    normal = (row for row in pages(dice) if not 1300 <= row[1] < 1400)
    assert ("timeout", "/page") in anomalies(normal, hanging)


def test_connections_that_end_with_failures_are_an_error_spike():
    dice = random.Random(1)
    rows = [*pages(dice), *connections(dice, LENGTHS["some seconds"])]
    spans = [
        request(*row, number, status=503 if row[0] == "/events" and row[1] > 1300 else 200)
        for number, row in enumerate(rows)
    ]
    found = lab.replay(lab.to_frame(spans), causes=False).anomalies
    assert {(a.type, a.endpoint) for a in found} == {("error_spike", "/events")}
