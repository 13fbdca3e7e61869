"""What happened when? Requests counted on a fixed grid of windows, by the time they ended.

Windows in which nothing happens change no baseline. So a gap costs its first window, and with
seasons the first one of each hour, however long it is::

    requests  x x x . . . . . . . x x
    walked    ^ ^ ^ ^             ^ ^
                    6 skipped
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aiops_lab.traces.encode import NEVER, EncodedSpans

MIN_MS = 1e-3  # durations below 1 µs count as 1 µs: the log of 0 would be the end

MOST_WALKED = 100_000
MOST_A_REQUEST = 20
"""Windows that are walked in one call, at most: so many, or so many a request, if these are more. A
request that hangs fills every window, and a call with more of them would take minutes. Raising
either allows shorter windows."""

MOST_MARKED = 10_000_000
"""Windows up to which a grid is marked window by window. Raising it takes more memory."""

_HOUR_NS = 3_600_000_000_000


class Grid(NamedTuple):
    """Windows of one length, in Unix ns: ``until_ns - since_ns`` is a multiple of ``window_ns``."""

    since_ns: int
    until_ns: int
    window_ns: int

    @property
    def windows(self) -> int:
        """The number of windows."""
        return (self.until_ns - self.since_ns) // self.window_ns

    def number(self, moment: NDArray) -> NDArray:
        """Return in which window some moments lie, counted from 0."""
        return (moment - self.since_ns) // self.window_ns

    def holds(self, moment: NDArray) -> NDArray:
        """Return which moments lie in any of the windows."""
        return (moment >= self.since_ns) & (moment < self.until_ns)


class Counts(NamedTuple):
    """Counts on the grid, arrays of shape (windows, endpoints); a request counts where it ended."""

    starts: NDArray  # Unix ns, of each window that is walked
    skipped: NDArray  # windows after it that are not, as nothing happens in them
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
    has_ended = spans.end != NEVER
    given_up = calls & has_ended & (spans.status == 0)
    at = np.flatnonzero(given_up)
    errors = spans.texts("error", at)
    given_up[at] = [_TIMEOUT.match(str(error)) is not None for error in errors]
    return given_up


def windows_to_walk(
    requests: EncodedSpans,
    given_up: EncodedSpans,
    grid: Grid,
    *,
    stuck_ns: int,
    lost_ns: int,
    hours: int = 1,
) -> NDArray:
    """Return the numbers of the windows that need to be walked, in their order.

    They are those in which anything happens, the first and the last one, the first one of each gap
    and, with `hours` of the day, the first one of each hour. So what is skipped after a window lies
    in the same hour and in the same gap.

    Parameters
    ----------
    requests, given_up, grid, stuck_ns, lost_ns
        As for `count_windows`.
    hours : int
        How many baselines an endpoint has, 24 or 1.

    Raises
    ------
    ValueError
        If they are too many, as of `check_walked`.
    """
    moments = [requests.end, requests.start, _aged_at(requests, stuck_ns), given_up.end]
    inside = [grid.number(moment[grid.holds(moment)]) for moment in moments]
    first, behind, _ = _stuck_windows(requests, grid, stuck_ns, lost_ns)
    begin, end = _united(first, behind)
    with_stuck = int((end - begin).sum())
    check_walked(with_stuck, requests.row.size, grid)
    bounds = np.array([0, grid.windows - 1])
    busy = _distinct([*inside, _ranges(begin, end), bounds], grid.windows)
    walked = [busy, busy + 1]
    if hours > 1:
        walked.append(_first_of_hours(grid))
    numbers = _distinct(walked, grid.windows + 1)
    numbers = numbers[numbers < grid.windows]
    check_walked(numbers.size, requests.row.size, grid)
    return numbers


def _first_of_hours(grid: Grid) -> NDArray:
    """Return the numbers of the first windows that start in each hour after the first one."""
    first_hour = grid.since_ns // _HOUR_NS + 1
    last_hour = grid.until_ns // _HOUR_NS
    hours_ns = _HOUR_NS * np.arange(first_hour, last_hour + 1)
    return -((grid.since_ns - hours_ns) // grid.window_ns)  # rounded up


def check_walked(windows: int, requests: int, grid: Grid) -> None:
    """Raise ValueError if more windows are to be walked than `MOST_WALKED` and `MOST_A_REQUEST`
    allow.
    """
    most = max(MOST_WALKED, MOST_A_REQUEST * requests)
    if windows > most:
        rule = f"must leave at most {most:,} windows to be judged one by one"
        got = f"{grid.window_ns / 1e9:g}: {windows:,} windows for {requests:,} requests"
        raise ValueError(f"window_s {rule}, got {got}")


def _distinct(numbers: list[NDArray], size: int) -> NDArray:
    """Return the different ones of some numbers below `size`, sorted."""
    every = np.concatenate(numbers)
    if size > MOST_MARKED:
        return np.unique(every)
    marked = np.zeros(size, bool)
    marked[every] = True
    return np.flatnonzero(marked)


def _united(first: NDArray, behind: NDArray) -> tuple[NDArray, NDArray]:
    """Return the union of some intervals [first, behind) as intervals without overlap."""
    order = np.argsort(first, kind="stable")
    first = first[order]
    reached = np.maximum.accumulate(behind[order])
    is_apart = first[1:] > reached[:-1]
    begins = np.append(True, is_apart)[: first.size]
    at = np.flatnonzero(begins)
    last = np.append(at[1:], first.size) - 1
    return first[at], reached[last[: at.size]]


def _ranges(first: NDArray, behind: NDArray) -> NDArray:
    """Return all numbers of some intervals [first, behind), one after the other."""
    times = behind - first
    offset = np.cumsum(times) - times
    starts = np.repeat(first - offset, times)
    return np.arange(times.sum()) + starts


def count_windows(
    requests: EncodedSpans,
    given_up: EncodedSpans,
    width: int,
    grid: Grid,
    *,
    stuck_ns: int,
    lost_ns: int,
    walked: NDArray | None = None,
) -> Counts:
    """Return what ended in each window that is walked.

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
    walked : array of int
        The numbers of the windows to count, of `windows_to_walk` (or some of them that follow each
        other: then the grid ends before the next one). Default: all.
    """
    numbers = np.arange(grid.windows) if walked is None else walked
    windows = numbers.size
    before_first = int(numbers[:1].sum())
    since_ns = grid.since_ns + before_first * grid.window_ns

    def cells(spans: EncodedSpans, moment: NDArray) -> tuple[NDArray, NDArray]:
        """Return which spans lie on the grid at some moments, and in which cell of the tables."""
        inside = np.flatnonzero((moment >= since_ns) & (moment < grid.until_ns))
        row = np.searchsorted(numbers, grid.number(moment[inside]))
        return inside, row * width + spans.node[inside]

    def table(at: tuple[NDArray, NDArray], weight: NDArray | None = None) -> NDArray:
        inside, cell = at
        weights = None if weight is None else weight[inside]
        sums = np.bincount(cell, weights, minlength=windows * width)
        return sums.astype(np.float64).reshape(windows, width)

    ended = cells(requests, requests.end)
    aged = cells(requests, _aged_at(requests, stuck_ns))
    is_long = requests.end - requests.start > stuck_ns
    is_ok = ~requests.failed & (requests.status < 400)
    logs = log_ms(requests)
    stuck_ptr, stuck_code, stuck_age_s = _stuck(requests, grid, numbers, stuck_ns, lost_ns)
    return Counts(
        starts=grid.since_ns + numbers * grid.window_ns,
        skipped=np.diff(numbers, append=grid.windows) - 1,
        window_ns=grid.window_ns,
        n=table(ended),
        errors=table(ended, requests.failed),
        total=table(ended, logs),
        squares=table(ended, logs * logs),
        ok_n=table(ended, is_ok),
        ok_total=table(ended, np.where(is_ok, logs, 0.0)),
        long=table(aged, is_long),
        aged=table(aged),
        arrivals=table(cells(requests, requests.start)),
        given_up=table(cells(given_up, given_up.end)),
        stuck_ptr=stuck_ptr,
        stuck_code=stuck_code,
        stuck_age_s=stuck_age_s,
    )


def _aged_at(requests: EncodedSpans, stuck_ns: int) -> NDArray:
    """Return when each request ended or became so old that it counts as stuck."""
    age_at_end = requests.end - requests.start
    return requests.start + np.minimum(age_at_end, stuck_ns)


def _stuck_windows(
    requests: EncodedSpans, grid: Grid, stuck_ns: int, lost_ns: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return at the ends of which windows, first to before the last, requests are stuck; and which.

    Requests that are never stuck on this grid are left out.
    """
    since = grid.since_ns
    step = grid.window_ns
    age_at_end = requests.end - requests.start
    is_long = (age_at_end > stuck_ns) & (requests.end >= since)
    long = np.flatnonzero(is_long)
    start = requests.start[long]
    # A request is open at the window ends t with start + stuck <= t <= min(end, start + lost).
    until = start + np.minimum(age_at_end[long], lost_ns)
    first = -((since + step - start - stuck_ns) // step)
    first = np.maximum(first, 0)
    behind = np.minimum((until - since) // step, grid.windows)
    stuck = behind > first
    return first[stuck], behind[stuck], long[stuck]


def _stuck(
    requests: EncodedSpans, grid: Grid, numbers: NDArray, stuck_ns: int, lost_ns: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the stuck requests at the end of each window, as a table in compressed rows (ptr,
    code, age).
    """
    first, behind, long = _stuck_windows(requests, grid, stuck_ns, lost_ns)
    low = np.searchsorted(numbers, first)
    high = np.searchsorted(numbers, behind)
    window = _ranges(low, high)
    who = np.repeat(long, high - low)
    order = np.argsort(window, kind="stable")
    window = window[order]
    who = who[order]
    window_end = grid.since_ns + (numbers[window] + 1) * grid.window_ns
    age_s = (window_end - requests.start[who]) / 1e9
    ptr = np.searchsorted(window, np.arange(numbers.size + 1))
    return ptr, requests.node[who], age_s
