"""What happens to open files when a process forks? Closed before, opened by both after.

SQLite must not carry a connection across a fork (https://sqlite.org/howtocorrupt.html, 2.6): the
child would believe in locks that only its parent has. And a lock that another thread holds in the
moment of the fork stays locked in the child for ever. So each store waits for its own writers,
closes its connections, and lets the process fork; the parent goes on, the child begins anew. Where
a writer does not end in time, its connection stays as it is, because to close it would crash the
process, and the child records nothing: SQLite believes there that the file is locked, for ever.

`os.register_at_fork` sees ``os.fork`` and `multiprocessing`, so also gunicorn with ``--preload``.
uWSGI forks without telling Python, but has a hook of its own.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

from aiops_lab.logs import get_logger

WAIT_S = 5.0  # for a writer; then the fork goes on, because a process must not hang

_log = get_logger(__name__)


class Forkable(Protocol):
    """What can be told of a fork."""

    def before_fork(self) -> None:
        """Wait until nothing is being written, and close the file."""

    def after_fork_in_parent(self) -> None:
        """Go on as before."""

    def after_fork_in_child(self) -> None:
        """Begin anew, without what the parent still has to write."""


class FairLock:
    """A lock that goes to the thread that has waited longest, or nearly so.

    A `threading.Lock` may go again and again to the thread that has just released it, while another
    waits for seconds: here that thread has to queue first.
    """

    def __init__(self) -> None:
        self._queue = threading.Lock()
        self._lock = threading.Lock()
        self._owner: int | None = None

    def acquire(self, timeout: float = -1) -> bool:
        """Return whether the lock was had within `timeout` seconds in each of its two queues.

        The thread that has it already is a signal handler, or a function that the store has called:
        it would wait for itself. False, or where no timeout is given OSError.
        """
        if self.is_held_here():
            if timeout >= 0:
                return False
            raise OSError("the store must not be written while this thread uses it: try it later")
        if not self._queue.acquire(timeout=timeout):
            return False
        try:
            if not self._lock.acquire(timeout=timeout):
                return False
        finally:
            self._queue.release()
        self._owner = threading.get_ident()
        return True

    def release(self) -> None:
        """Let the next thread have the lock."""
        self._owner = None
        self._lock.release()

    def is_held_here(self) -> bool:
        """Return whether this thread has the lock."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


# Connections of the parent: SQLite must not close them here
abandoned: list[object] = []

_order = count()
_turn = threading.RLock()  # one fork at a time: each must let go of what it held itself
_known: WeakKeyDictionary[Forkable, int] = WeakKeyDictionary()
_held: list[Forkable] = []


def survive_forks(store: Forkable) -> None:
    """Tell `store` of each fork of this process, as long as it lives."""
    _known[store] = next(_order)
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and len(_known) == 1:
        _hook_into(uwsgi)


def _before() -> None:
    _turn.acquire()
    _held[:] = sorted(_known, key=_known.__getitem__)  # always in one order: no deadlock
    for store in _held:
        store.before_fork()
    _end_with_multiprocessing()


def _in_parent() -> None:
    for store in reversed(_held):
        store.after_fork_in_parent()
    _held.clear()
    _turn.release()


def _in_child() -> None:
    global _turn
    _turn = threading.RLock()
    for store in _held:
        store.after_fork_in_child()
    _held.clear()


def _end_with_multiprocessing() -> None:
    """Let the children of `multiprocessing` close their stores: they run no ``atexit``."""
    util = sys.modules.get("multiprocessing.util")
    for store in _held if util else ():
        if hasattr(store, "close") and store not in _ending:
            _ending[store] = True
            util.register_after_fork(store, _close_at_end)  # type: ignore[union-attr]


_ending: WeakKeyDictionary[Forkable, bool] = WeakKeyDictionary()


def _close_at_end(store: Any) -> None:
    util: Any = sys.modules["multiprocessing.util"]
    util.Finalize(store, store.close, exitpriority=10)


def _hook_into(uwsgi: Any) -> None:
    """Begin anew after uWSGI's own forks, which call no hook of Python's."""
    before = getattr(uwsgi, "post_fork_hook", None)

    def after_fork() -> None:
        if before is not None:
            before()
        _held[:] = sorted(_known, key=_known.__getitem__)
        _in_child()

    uwsgi.post_fork_hook = after_fork
    options = getattr(uwsgi, "opt", {})
    if not {"enable-threads", "threads"} & set(options):
        _log.warning("uWSGI runs no threads: start it with --enable-threads, or no span is written")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
