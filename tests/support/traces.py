"""Traces that tests write down span by span."""

import aiops_lab as lab
from tests.support.made import BEGIN

MS = 1_000_000
SECOND = 1000 * MS


def span(
    n,
    parent,
    endpoint,
    kind,
    start_ms,
    duration_ms,
    *,
    status=200,
    peer=None,
    trace=1,
    service="shop",
    error=None,
    instance=None,
):
    duration = None if duration_ms is None else int(duration_ms * MS)
    parent_id = None if parent is None else f"{parent:016x}"
    ids = f"{trace:032x}", f"{n:016x}", parent_id
    times = BEGIN + int(start_ms * MS), duration
    return lab.Span(*ids, service, endpoint, kind, peer, *times, status, error, instance=instance)


def many(*drawn, n=6):
    """Return n requests, ten seconds apart, that are drawn in turn as one of the lists of spans."""
    spans = []
    for k in range(n):
        for made in drawn[k % len(drawn)]:
            start = made.start_ns + 10 * k * SECOND
            spans.append(made._replace(trace_id=f"{k + 1:032x}", start_ns=start))
    return lab.to_frame(spans)


def call(n, endpoint, at, ms, *, parent=1, status=200, answer=None, began=1, took=None):
    """Return a client span and the server span that it reached, 1 ms shorter at each end."""
    took = ms - 2 if took is None else took
    served = status if answer is None else answer
    return [
        span(n, parent, endpoint, "client", at, ms, status=status, peer="shop"),
        span(n + 1, n, endpoint, "server", at + began, took, status=served),
    ]


def ask_another(n, caller, callee, begin_ms, shift_ms, ms=20):
    """Return a call of 40 ms from one service to another, whose clock is ahead by `shift_ms`."""
    return [
        span(n, None, "/top", "server", begin_ms, 60, trace=n, service=caller),
        span(n + 1, n, "/x", "client", begin_ms + 10, 40, trace=n, service=caller, peer=callee),
        span(n + 2, n + 1, "/x", "server", begin_ms + 20 + shift_ms, ms, trace=n, service=callee),
    ]


#   /checkout  |==|----------|=|-------|===|        0 to 100
#   client        |.|------|.|                      10 to 60   /payment 12 to 58
#   client                     |.|---|.|            62 to 90   /inventory 63 to 89
CHECKOUT = [
    span(1, None, "/checkout", "server", 0, 100),
    span(2, 1, "/payment", "client", 10, 50, peer="shop"),
    span(3, 2, "/payment", "server", 12, 46),
    span(4, 1, "/inventory", "client", 62, 28, peer="shop"),
    span(5, 4, "/inventory", "server", 63, 26),
]
