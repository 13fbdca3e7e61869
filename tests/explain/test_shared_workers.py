"""Whose requests wait for workers that others keep busy?"""

import numpy as np
import pytest

import aiops_lab as lab
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.reference import learn
from aiops_lab.explain.shared_workers import take_longer, waits_for_others
from aiops_lab.traces.encode import encode
from tests.support.made import BEGIN, one_pool

HOME = "front", "/home"
SHELF = "warehouse", "/shelf"


def comparisons(workers, home_ms):
    """Return the requests of /home after 60 s beside those before, alone and with all others."""
    frame = one_pool(workers, home_ms)
    is_home = frame["endpoint"] == "/home"
    return [compared(frame[is_home]), compared(frame)]


def compared(frame):
    later = frame["trace_id"] > f"{600:032x}"
    return compare(learn(frame[~later]), frame[later])


@pytest.mark.parametrize(
    ("workers", "home_ms", "waits"),
    [
        (3, 20.0, True),
        (3, 40.0, False),  # twice as long of itself, and a wait of seconds
        (5, 1000.0, False),  # fifty times, and as good as nothing beside the wait
        (30, 20.0, False),  # nobody waits, and /home takes as long as ever
    ],
)
def test_who_only_waits_for_others_belongs_to_them(workers, home_ms, waits):
    assert waits_for_others(*around(HOME, comparisons(workers, home_ms))) == waits


def test_what_keeps_the_workers_busy_waits_for_nobody():
    assert not waits_for_others(*around(SHELF, comparisons(3, 20.0)))


def around(suspect, pair):
    own, every = pair
    return own, suspect, every


@pytest.mark.parametrize(("now_ms", "longer"), [(24, False), (26, True)])
@pytest.mark.parametrize("is_open", [False, True])
def test_others_may_wait_for_what_takes_a_quarter_longer(now_ms, longer, is_open):
    """What is open has taken as long as it is old."""
    usual = np.array([True, False])
    until = BEGIN + now_ms * 1_000_000
    spans = encode(lab.to_frame([span(1, 20), span(2, None if is_open else now_ms)]))
    assert take_longer(spans, usual, ~usual, until, RcaConfig()) == longer


def span(number, ms):
    ns = None if ms is None else ms * 1_000_000
    ids = f"{number:032x}", f"{number:016x}", None
    return lab.Span(*ids, *HOME, "server", None, BEGIN, ns, 200, None)
