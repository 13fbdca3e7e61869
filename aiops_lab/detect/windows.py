"""What happened when? Requests counted on a fixed grid of windows, by the time they ended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, end_ns, endpoint_codes, is_failed, is_kind, start_ns


class Requests(NamedTuple):
    """The server spans of a spans frame as arrays; ``row`` is the position in the frame."""

    row: NDArray
    code: NDArray  # of (service, endpoint)
    start: NDArray  # Unix ns
    end: NDArray  # Unix ns; NEVER while open
    log_ms: NDArray
    failed: NDArray


class GivenUp(NamedTuple):
    """The calls that a caller gave up on: what was called, and when the caller stopped waiting
    (Unix ns).
    """

    code: NDArray
    end: NDArray


class Counts(NamedTuple):
    """Counts on the grid, arrays of shape (windows, endpoints); a request counts where it ended."""

    start_ns: int
    window_ns: int
    n: NDArray
    errors: NDArray
    total: NDArray  # sum of log milliseconds
    squares: NDArray  # sum of their squares
    arrivals: NDArray  # by start
    given_up: NDArray
    # stuck requests of window w: rows stuck_ptr[w] to stuck_ptr[w + 1] of the two below
    stuck_ptr: NDArray
    stuck_code: NDArray
    stuck_age_s: NDArray


def requests_of(frame: pd.DataFrame, keys: dict[Key, int]) -> Requests:
    """Return the requests (server spans) of a spans frame; `keys` grows by the endpoints that are
    new.
    """
    row = np.flatnonzero(is_kind(frame, "server"))
    code = endpoint_codes(frame["service"].iloc[row], frame["endpoint"].iloc[row], keys)
    # 1 µs: the log of 0 would be the end
    log_ms = np.log(np.maximum(frame["duration_ms"].to_numpy()[row], 1e-3))
    return Requests(
        row, code, start_ns(frame)[row], end_ns(frame)[row], log_ms, is_failed(frame)[row]
    )


def given_up_of(
    frame: pd.DataFrame, keys: dict[Key, int], endpoint: pd.Series | None = None
) -> GivenUp:
    """Return the calls that ended without an answer because the caller's patience did, not its
    connection.

    `endpoint` holds the endpoints by route (default: as they are in the frame); calls of endpoints
    that have never been seen serving are left out.
    """
    unanswered = frame[frame["status"].to_numpy() == 0]
    if unanswered.empty:
        return GivenUp(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    calls = unanswered[
        is_kind(unanswered, "client")
        & unanswered["duration_ms"].notna()
        & unanswered["peer"].notna()
    ]
    timeouts = calls[calls["error"].astype(str).str.contains("Timeout", regex=False)]
    called = timeouts["endpoint"] if endpoint is None else endpoint[timeouts.index]
    code = np.array(
        [keys.get(call, -1) for call in zip(timeouts["peer"], called, strict=True)], dtype=np.int64
    )
    return GivenUp(code[code >= 0], end_ns(timeouts)[code >= 0])


def count_windows(
    requests: Requests,
    given_up: GivenUp,
    width: int,
    since: int,
    until: int,
    window_ns: int,
    stuck_ns: int,
    lost_ns: int,
) -> Counts:
    """Count what ended in each window of [since, until).

    Parameters
    ----------
    width : int
        Number of endpoint codes.
    since, until, window_ns : int
        The grid in Unix nanoseconds; ``until - since`` is a multiple of ``window_ns``.
    stuck_ns, lost_ns : int
        A request is stuck at the end of a window when it is open then and older than the first,
        unless it is older than the second: then its end was lost.
    """
    r, windows = requests, (until - since) // window_ns

    def table(code: NDArray, moment: NDArray, weight: NDArray | None = None) -> NDArray:
        inside = (moment >= since) & (moment < until)
        cell = (moment[inside] - since) // window_ns * width + code[inside]
        sums = np.bincount(
            cell, None if weight is None else weight[inside], minlength=windows * width
        )
        return sums.astype(np.float64).reshape(windows, width)

    return Counts(
        since,
        window_ns,
        table(r.code, r.end),
        table(r.code, r.end, r.failed),
        table(r.code, r.end, r.log_ms),
        table(r.code, r.end, r.log_ms * r.log_ms),
        table(r.code, r.start),
        table(given_up.code, given_up.end),
        *_stuck(requests, since, windows, window_ns, stuck_ns, lost_ns),
    )


def _stuck(
    requests: Requests, since: int, windows: int, window_ns: int, stuck_ns: int, lost_ns: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return the stuck requests at the end of each window, as a table in compressed rows (ptr,
    code, age).
    """
    long = np.flatnonzero((requests.end - requests.start > stuck_ns) & (requests.end >= since))
    start, end = requests.start[long], requests.end[long]
    # A request is open at the window ends t with start + stuck <= t <= min(end, start + lost).
    first = np.maximum(-((since + window_ns - start - stuck_ns) // window_ns), 0)
    last_age = np.where(end == NEVER, lost_ns, np.minimum(end - start, lost_ns))
    last = np.minimum((start + last_age - since) // window_ns - 1, windows - 1)
    times = np.maximum(last - first + 1, 0)
    who = np.repeat(np.arange(long.size), times)
    window = np.arange(who.size) - np.repeat(np.cumsum(times) - times, times) + first[who]
    order = np.argsort(window, kind="stable")
    window, who = window[order], who[order]
    age_s = (since + (window + 1) * window_ns - start[who]) / 1e9
    ptr = np.searchsorted(window, np.arange(windows + 1))
    return ptr, requests.code[long][who], age_s
