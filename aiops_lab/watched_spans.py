"""Which spans of a store are judged? Those whose values can be, and none a second time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aiops_lab.endpoints import split_method
from aiops_lab.logs import get_logger
from aiops_lab.numerics import to_timestamp, to_utc
from aiops_lab.shared_state import wait_for_disk
from aiops_lab.spans import FIRST_YEAR, Key, is_possible
from aiops_lab.traces.encode import end_ns, start_ns

if TYPE_CHECKING:
    from aiops_lab.record.store import SpanStore

_log = get_logger(__name__)

_AHEAD_NS = 86_400_000_000_000  # spans that end later than a day from now are passed over

_NOTHING = -1, 0, 0  # leaves no spans out

LOOK_S = 0.5
"""Seconds for which who looks waits for the disk, beside the attempt that is in progress. Raising
it delays answers while the disk is blocked."""

BLOCKED_S = 2.0
"""Seconds after a failed attempt in which nobody waits: the store tries by itself meanwhile."""


class Unwritten:
    """What was recorded and is not on disk yet, which `WatchedSpans` does not see.

    Parameters
    ----------
    store : SpanStore

    Attributes
    ----------
    problem : str
        Why the disk had not taken it at the last `write`, "" where it had.
    """

    def __init__(self, store: SpanStore) -> None:
        self.problem = ""
        self._store = store

    def write(self) -> None:
        """Let what was recorded so far be seen; go on without it where the disk is blocked.

        Call it without a lock that others wait for.
        """
        store = self._store
        if not store.problem or time.monotonic() - store.failed_s >= BLOCKED_S:
            with suppress(OSError):
                store.flush(LOOK_S)
        self.problem = store.problem


def why_blocked(store: SpanStore) -> str:
    """Return why the disk takes nothing at present, so that the step of a monitor would wait for it
    and fail; "" where it does. That takes a second or two where it is blocked.
    """
    unwritten = Unwritten(store)
    unwritten.write()
    if unwritten.problem:
        return unwritten.problem
    try:
        wait_for_disk(store, LOOK_S)
    except OSError as error:
        return str(error)
    return ""


class WatchedSpans:
    """The spans of a store as a monitor takes them in.

    Spans whose times, kind or status cannot be are passed over and counted. Where the clock went
    back, those that were judged already by the clock that was ahead are left out.

    Parameters
    ----------
    store : SpanStore
    known : dict
        What `to_record` returned; empty for a store that is new.

    Attributes
    ----------
    passed_over : int
        Spans that no window takes in.
    newest_ns : int
        The newest moment of a span that was looked at, Unix ns.
    """

    def __init__(self, store: SpanStore, known: dict[str, Any]) -> None:
        self.passed_over: int = known.get("passed_over", 0)
        self.newest_ns: int = known.get("newest", 0)
        self._store = store
        self._impossible: int = known.get("too_long", 0)  # of the right time, refused by `check`
        self._without = tuple(known.get("without", _NOTHING))  # judged by a clock ahead
        self._position = tuple(known.get("position", (0, 0)))  # of the store, at the last `new`

    def to_record(self, done_ns: int | None) -> dict[str, Any]:
        """Return what is known as plain data; spans up to `done_ns` have been judged."""
        _, _, judged_until = self._without
        if (done_ns or 0) >= judged_until:
            self._without = _NOTHING
        return {
            "passed_over": self.passed_over,
            "newest": self.newest_ns,
            "too_long": self._impossible,
            "without": self._without,
            "position": self._position,
        }

    def between(self, since: pd.Timestamp | None, until: pd.Timestamp | None) -> pd.DataFrame:
        """Return the spans of some time that can be, and were not judged by a clock ahead."""
        every = self._store.spans(since, until, without=self._without)
        return _possible(every)

    def count_roughly(self, since: pd.Timestamp | None, until: pd.Timestamp | None) -> int:
        """Return about how many spans there are."""
        return self._store.count_roughly(since, until)

    def traces_of(
        self, keys: Iterable[Key], since: pd.Timestamp | None, until: pd.Timestamp | None
    ) -> pd.DataFrame:
        """Return what `between` returns, of all traces with a request to some endpoints; others may
        be among them.
        """
        places = set()
        for service, endpoint in keys:
            _, route = split_method(endpoint)
            places |= {(service, endpoint), (service, route)}
        every = self._store.traces_of(places, since, until, without=self._without)
        return _possible(every)

    def last(self, seconds: float, now: pd.Timestamp) -> pd.DataFrame:
        """Return the spans since some seconds before `now` that are on disk."""
        moment = to_utc(now)
        since = moment - pd.Timedelta(seconds, unit="s")
        until = moment + pd.Timedelta(_AHEAD_NS, unit="ns")
        return self.between(since, until)

    def new(self, since: pd.Timestamp | None, until_ns: int, done_ns: int | None) -> pd.DataFrame:
        """Return the spans since a moment that can be, and count the others.

        They are to be judged up to `until_ns`, those that ended before `done_ns` were counted at an
        earlier call.
        """
        self._position = self._store.position()
        ahead = to_timestamp(until_ns + _AHEAD_NS)
        every = self._store.spans(since, ahead, without=self._without)
        self._count(every, until_ns, done_ns)
        return _possible(every)

    def _count(self, frame: pd.DataFrame, until_ns: int, done_ns: int | None) -> None:
        """Count the spans that are passed over; `frame` holds those since the last step."""
        first = pd.Timestamp(year=FIRST_YEAR, month=1, day=1, tz="UTC")
        last = to_timestamp(until_ns + _AHEAD_NS)
        wrong = frame[~is_possible(frame)]
        started = wrong["start"].to_numpy("datetime64[ns]")
        lasted_s = wrong["duration_ms"].to_numpy() / 1e3  # NaN while it is open
        ended_s = started.astype(float) / 1e9
        ended_s += lasted_s
        since_s = max(done_ns or 0, first.value) / 1e9
        is_new = (ended_s >= since_s) & (ended_s < until_ns / 1e9)
        self._impossible += int(is_new.sum())
        passed_over = self._store.count_outside(first, last) + self._impossible
        if passed_over > self.passed_over:
            _log.warning("%d spans are passed over, as their values cannot be", passed_over)
        self.passed_over = passed_over

    def find_newest(self, frame: pd.DataFrame, until_ns: int) -> int:
        """Return the newest moment, `until_ns` at most, of a span so far: its end or its start."""
        start = start_ns(frame)
        end = end_ns(frame)
        moments = np.where(end <= until_ns, end, start)
        before = moments[moments <= until_ns]
        newest = int(before.max(initial=0))
        self.newest_ns = max(self.newest_ns, newest)
        return self.newest_ns

    def leave_out_judged(self, done_ns: int, until_ns: int) -> None:
        """Leave out from now on what was judged up to `done_ns`, after the clock went back to
        `until_ns`.
        """
        _, _, before = self._without
        marked = self._store.mark(self._position)
        self._without = marked, until_ns, max(done_ns, before)
        self.newest_ns = min(self.newest_ns, until_ns)


def _possible(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the spans of a frame whose times can be."""
    possible = is_possible(frame)
    if possible.all():
        return frame
    return frame[possible].reset_index(drop=True)
