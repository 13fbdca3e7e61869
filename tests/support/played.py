"""A recording, played to a live monitor: spans reach the store when they end."""

from contextlib import contextmanager

import numpy as np
import pandas as pd

import aiops_lab as lab
from tests.support.made import BEGIN, small_shift


def at(second: float) -> pd.Timestamp:
    return pd.Timestamp(BEGIN + int(second * 1e9), unit="ns", tz="UTC")


def play(store, monitor, frame, interval, seconds):
    """Hand each span to the store when it ends, opened before, and step the monitor on the way."""
    spans = [lab.Span(*row) for row in to_spans(frame)]
    events = [(s.start_ns, 0, s) for s in spans] + [
        (s.start_ns + s.duration_ns, 1, s) for s in spans
    ]
    events += [(BEGIN + int(t * 1e9), 2, None) for t in np.arange(0, seconds, interval)]
    for moment, what, span in sorted(
        events, key=lambda e: (e[0], e[1], e[2].span_id if e[2] else "")
    ):
        if what == 0:
            store.opened[span.span_id] = span._replace(duration_ns=None, status=0, error=None)
        elif what == 1:
            store.add(span)
            store.opened.pop(span.span_id, None)  # the thread that writes may have been first
        else:
            monitor.step(pd.Timestamp(moment, unit="ns", tz="UTC"))


def to_spans(frame):
    for row in frame.itertuples():
        yield (
            row.trace_id,
            row.span_id,
            row.parent_id,
            row.service,
            row.endpoint,
            row.kind,
            row.peer,
            row.start.value,
            round(row.duration_ms * 1e6),
            row.status,
            row.error,
        )


@contextmanager
def offering(path):
    """Give a monitor that offers a level of /payment as the new normal, at second 400."""
    frame, change = small_shift()
    with lab.SpanStore(path) as store:
        for row in to_spans(frame):
            store.add(lab.Span(*row))
        monitor = lab.Monitor(store)
        monitor.note(change)
        monitor.step(at(400))
        yield monitor
