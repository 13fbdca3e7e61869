"""What happened when? Requests counted on a fixed grid of windows, by the time they ended."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.traces.encode import NEVER, EncodedSpans

MIN_MS = 1e-3  # durations below 1 µs count as 1 µs: the log of 0 would be the end


class Grid(NamedTuple):
    """Windows of one length, in Unix ns: ``until_ns - since_ns`` is a multiple of ``window_ns``."""

    since_ns: int
    until_ns: int
    window_ns: int

    @property
    def windows(self) -> int:
        """The number of windows."""
        return (self.until_ns - self.since_ns) // self.window_ns


class Counts(NamedTuple):
    """Counts on the grid, arrays of shape (windows, endpoints); a request counts where it ended."""

    start_ns: int
    window_ns: int
    n: NDArray
    errors: NDArray
    total: NDArray  # sum of log milliseconds
    squares: NDArray  # sum of their squares
    ok_n: NDArray  # answers without an error: neither failed nor 4xx
    ok_total: NDArray  # sum of their log milliseconds
    long: NDArray  # by the moment at which they became older than timeout_s
    aged: NDArray  # by that moment, or by their end where it came first
    arrivals: NDArray  # by start
    given_up: NDArray
    # stuck requests of window w: rows stuck_ptr[w] to stuck_ptr[w + 1] of the two below
    stuck_ptr: NDArray
    stuck_code: NDArray
    stuck_age_s: NDArray


# the name of a class, as in "ReadTimeout: ..." or "requests.exceptions.ConnectTimeout"
_TIMEOUT = re.compile(r"[\w.]*(?:Timeout|TimedOut)\w*(?::|$)")


def log_ms(spans: EncodedSpans) -> NDArray:
    """Return the log of the milliseconds that each span took; NaN for open ones."""
    return np.log(np.maximum(spans.duration_ms, MIN_MS))


def is_given_up(spans: EncodedSpans) -> NDArray:
    """Return which calls ended without an answer because the caller's patience did.

    That is told by the class of the exception. A call whose connection failed is not one of them,
    whatever words its message has.
    """
    calls = spans.client & spans.has_peer
    unanswered = (spans.status == 0) & (spans.end != NEVER)
    given_up = calls & unanswered
    at = np.flatnonzero(given_up)
    errors = spans.texts("error", at)
    given_up[at] = [_TIMEOUT.match(str(error)) is not None for error in errors]
    return given_up


def count_windows(
    requests: EncodedSpans,
    given_up: EncodedSpans,
    width: int,
    grid: Grid,
    *,
    stuck_ns: int,
    lost_ns: int,
) -> Counts:
    """Return what ended in each window.

    Parameters
    ----------
    requests, given_up
        Server spans, and client spans of calls that were given up.
    width : int
        Number of endpoints; all nodes are below it.
    grid : Grid
    stuck_ns, lost_ns : int
        A request is stuck at the end of a window when it is open then and older than the first,
        unless it is older than the second: then its end was lost.
    """
    windows = grid.windows

    def table(node: NDArray, moment: NDArray, weight: NDArray | None = None) -> NDArray:
        inside = (moment >= grid.since_ns) & (moment < grid.until_ns)
        window = (moment[inside] - grid.since_ns) // grid.window_ns
        cell = window * width + node[inside]
        weights = None if weight is None else weight[inside]
        sums = np.bincount(cell, weights, minlength=windows * width)
        return sums.astype(np.float64).reshape(windows, width)

    logs = log_ms(requests)
    age_at_end = requests.end - requests.start
    answered = ~requests.failed & (requests.status < 400)
    aged_at = requests.start + np.minimum(age_at_end, stuck_ns)
    stuck_ptr, stuck_code, stuck_age_s = _stuck(requests, grid, stuck_ns, lost_ns)
    return Counts(
        start_ns=grid.since_ns,
        window_ns=grid.window_ns,
        n=table(requests.node, requests.end),
        errors=table(requests.node, requests.end, requests.failed),
        total=table(requests.node, requests.end, logs),
        squares=table(requests.node, requests.end, logs * logs),
        ok_n=table(requests.node, requests.end, answered),
        ok_total=table(requests.node, requests.end, np.where(answered, logs, 0.0)),
        long=table(requests.node, aged_at, age_at_end > stuck_ns),
        aged=table(requests.node, aged_at),
        arrivals=table(requests.node, requests.start),
        given_up=table(given_up.node, given_up.end),
        stuck_ptr=stuck_ptr,
        stuck_code=stuck_code,
        stuck_age_s=stuck_age_s,
    )


def _stuck(
    requests: EncodedSpans, grid: Grid, stuck_ns: int, lost_ns: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the stuck requests at the end of each window, as a table in compressed rows (ptr,
    code, age).
    """
    since = grid.since_ns
    step = grid.window_ns
    age_at_end = requests.end - requests.start
    long = (age_at_end > stuck_ns) & (requests.end >= since)
    start = requests.start[long]
    # A request is open at the window ends t with start + stuck <= t <= min(end, start + lost).
    until = start + np.minimum(age_at_end[long], lost_ns)
    first = -((since + step - start - stuck_ns) // step)
    first = np.maximum(first, 0)
    behind = np.minimum((until - since) // step, grid.windows)
    times = np.maximum(behind - first, 0)
    who = np.repeat(np.arange(times.size), times)
    nth = pd.Series(who).groupby(who).cumcount().to_numpy()
    window = first[who] + nth
    order = np.argsort(window, kind="stable")
    window = window[order]
    who = who[order]
    window_end = since + (window + 1) * step
    ptr = np.searchsorted(window, np.arange(grid.windows + 1))
    return ptr, requests.node[long][who], (window_end - start[who]) / 1e9
