"""How does work run beside a block? In a thread of its own, until the block ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread


@contextmanager
def in_background(name: str, work: Callable[[Event], object]) -> Iterator[None]:
    """Run `work` in a thread while the block runs, and wait until it has returned.

    It is given an event, which is set when the block ends: it must return soon after that. The
    thread is a daemon, so that it does not keep a process alive which is ended in another way.
    """
    stop = Event()
    thread = Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
