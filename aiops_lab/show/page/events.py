"""How does a page that is open learn that something has changed? By server-sent events.

Each listener takes a thread of the server for as long as it listens, so their number is limited.
Where no thread may be held, an answer tells the state once and ends: the browser asks again after
some seconds.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

STATE_LOOK_S = 1.0
"""Seconds between two looks at the state. Raising it tells changes later, and frees the thread of a
listener later that is gone, or when the server stops."""

FRESH_S = 0.9 * STATE_LOOK_S  # a look of another listener counts for this one as well

LONGEST_STREAM_S = 600.0
"""Seconds after which a stream ends; the browser comes again. Raising it holds threads longer."""

RETRY_MS = 5_000
"""Milliseconds after which a browser asks again. Raising it shows changes later where no thread is
held."""


STILL_HERE = b": still here\n\n"

FIRST_EVENT = f"retry: {RETRY_MS}\n".encode()


class TooManyError(Exception):
    """There are as many listeners as there may be."""


class _Place:
    """The place of one listener: the tab of its browser, and whether it was left."""

    def __init__(self, tab: str) -> None:
        self.tab = tab
        self.left = threading.Event()


class Listeners:
    """The streams of one page.

    Parameters
    ----------
    state : function () -> str
        What pages show, in a word that changes with it.
    most : int
        How many streams may be open at a time; 0: none stays open.
    stopping : Event, optional
        Set when the server stops: the streams end within a second.
    """

    def __init__(
        self, state: Callable[[], str], most: int, stopping: threading.Event | None = None
    ) -> None:
        self._state = state
        self._stopping = stopping or threading.Event()
        self._most = most
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._places: set[_Place] = set()
        self._looked_at = float("-inf")
        self._seen = ""

    @property
    def open(self) -> int:
        """How many streams are open."""
        return len(self._places)

    def stream(self, may_stay: bool, tab: str = "") -> Stream:
        """Return a new stream; one that stays open only if it may, and there is room at all.

        A `tab` of a browser has one stream: the one before ends, as its page was left.

        Raises
        ------
        TooManyError
            As many as there may be are open.
        """
        if not may_stay or self._most == 0:
            return Stream(iter([FIRST_EVENT + _event(self.look())]))
        place = _Place(tab)
        with self._lock:
            for other in [*self._places]:
                if tab and other.tab == tab:
                    self._free(other)
            if len(self._places) >= self._most:
                raise TooManyError(f"{self._most} pages are listening already")
            self._places.add(place)
        return Stream(self._changes(place), partial(self._free, place))

    def _free(self, place: _Place) -> None:
        place.left.set()
        self._places.discard(place)

    def _changes(self, place: _Place) -> Iterator[bytes]:
        begun = time.monotonic()
        said = self.look()
        yield FIRST_EVENT + _event(said)
        while not (place.left.wait(STATE_LOOK_S) or self._stopping.is_set()):
            if time.monotonic() - begun > LONGEST_STREAM_S:
                return
            state = self.look()
            # something each time: what is sent to a listener that is gone fails
            yield STILL_HERE if state == said else _event(state)
            said = state

    def look(self) -> str:
        """Return the state, looked at by one thread a second however many listen."""
        if not self._looking.acquire(blocking=not self._seen):
            return self._seen  # another thread looks: a step of the monitor may take seconds
        try:
            if time.monotonic() - self._looked_at >= FRESH_S:
                self._seen = self._state()
                self._looked_at = time.monotonic()
        finally:
            self._looking.release()
        return self._seen


class Stream:
    """The body of an answer: what is told to one listener, until it ends or is closed."""

    def __init__(self, parts: Iterator[bytes], end: Callable[[], None] | None = None) -> None:
        self._parts = parts
        self._end = end

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the place of this listener; a second call does nothing."""
        end, self._end = self._end, None
        if end is not None:
            end()

    __del__ = close


def _event(state: str) -> bytes:
    return f"event: state\ndata: {state}\n\n".encode()
