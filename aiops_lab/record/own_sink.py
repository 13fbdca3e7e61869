"""What if a sink of a user's own hangs? It holds a few threads, and other requests go on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import BuiltinMethodType, MethodType
from typing import Any
from weakref import WeakValueDictionary

MOST_AT_ONCE = 2
"""Calls of a sink in progress at once; small servers have four threads. Raising it lets a slow sink
take more, and one that hangs hold more threads."""

SINK_PATIENCE_S = 0.5
"""Seconds after which a call counts as one that hangs: while there are `MOST_AT_ONCE`, spans are
left out. Raising it delays requests longer before that is noticed."""

_POLL_S = 0.001


_known: WeakValueDictionary[tuple[int, object], PatientSink] = WeakValueDictionary()

_lock = threading.RLock()  # one that a finalizer may take again


def patient_sink(sink: Callable[[Any], object]) -> PatientSink:
    """Return what calls a sink, the same for all that record into it: they share its limit.

    It is known by identity, a method by its object and its function. A function that is made anew
    for each caller is another sink each time.
    """
    key = _identity(sink)
    with _lock:
        known = _known.get(key)
        if known is None:
            known = _known[key] = PatientSink(sink)
        return known


def _identity(sink: Callable[[Any], object]) -> tuple[int, object]:
    """Return the key of a sink, unique while the sink lives; it holds no reference to it."""
    owner = getattr(sink, "__self__", None)
    if isinstance(sink, MethodType):
        return id(owner), id(sink.__func__)
    if isinstance(sink, BuiltinMethodType) and owner is not None:
        return id(owner), sink.__name__
    return id(sink), None


def _renew_lock() -> None:
    """Make a lock that no thread of the parent holds."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class SinkHangsError(RuntimeError):
    """So many calls of a sink have not returned that it is not called."""


class PatientSink:
    """Calls a sink, but not while too many calls of it have not returned.

    No lock is taken: a span may end in a finalizer, in the midst of another call.

    Parameters
    ----------
    sink : function (Span) -> object
    """

    def __init__(self, sink: Callable[[Any], object]) -> None:
        self._sink = sink
        self._process = os.getpid()
        self._begun: dict[object, float] = {}  # when each call began that has not returned

    def __call__(self, span: Any) -> None:
        """Give a span to the sink; SinkHangsError where it is not called."""
        if self._process != os.getpid():  # calls of the parent's threads will not return here
            self._process, self._begun = os.getpid(), {}
        begun = self._begun
        if len(begun) >= MOST_AT_ONCE:
            self._wait()
        call = object()
        begun[call] = time.monotonic()
        try:
            self._sink(span)
        finally:
            begun.pop(call, None)

    def _wait(self) -> None:
        """Return when there is room; SinkHangsError where that takes too long."""
        since = time.monotonic()
        while len(self._begun) >= MOST_AT_ONCE:
            oldest = min([*self._begun.values()], default=since)
            if time.monotonic() - min(oldest, since) >= SINK_PATIENCE_S:
                told = f"{MOST_AT_ONCE} calls of the sink have not returned: a span is left out"
                raise SinkHangsError(told)
            time.sleep(_POLL_S)
