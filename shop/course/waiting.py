"""A sign for whoever waits for a cell; none where lessons are run to be saved or compared."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, TypeVar

from aiops_lab.progress import Bar

_Item = TypeVar("_Item")

_TICK_S = 1.0
"""Seconds until a cell without a bar shows that it works, and between two such signs."""


def steps(items: Iterable[_Item], unit: str) -> Iterator[_Item]:
    """Yield the items, with a bar on stderr if somebody is watching.

    Parameters
    ----------
    items : iterable
        What is worked through; each is a step of the bar.
    unit : str
        What one of them is called.
    """
    return iter(Bar(items, unit=unit, leave=False, disable=not somebody_waits()))


def somebody_waits() -> bool:
    """Return whether a person runs this, in a notebook or a terminal.

    A notebook that a program runs allows no questions (`allow_stdin` of the request).
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if not hasattr(shell, "kernel"):
        return sys.stderr.isatty()
    request = shell.kernel.get_parent()
    return bool(request.get("content", {}).get("allow_stdin"))


class WorkingSign:
    """Seconds on stderr while a cell works and shows no bar, such as ``working … 3 s``.

    Parameters
    ----------
    tick_s : float
        Seconds until the first sign, and between two. Raising it leaves quick cells without one.
    """

    def __init__(self, tick_s: float = _TICK_S) -> None:
        self._tick_s = tick_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin to count for a cell, if somebody waits for it."""
        self.end()
        if not somebody_waits():
            return
        self._ended.clear()
        thread = threading.Thread(target=self._count, args=(sys.stderr,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # a browser's Python has no threads
            return
        self._thread = thread

    def end(self) -> None:
        """End the sign of the cell that was running, and wipe it off."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None

    def _count(self, out: TextIO) -> None:
        began = time.monotonic()
        shown = ""
        while not self._ended.wait(self._tick_s):
            if not Bar.is_shown():
                shown = f"working … {time.monotonic() - began:.0f} s"
                print(f"\r{shown}", end="", file=out, flush=True)
        if shown:
            print(f"\r{' ' * len(shown)}\r", end="", file=out, flush=True)


_CLOCK = WorkingSign()


def count_in(shell: Any) -> None:
    """Let IPython show in each cell that takes over a second, and has no bar, that it works."""
    for event, call in (("pre_run_cell", _begin), ("post_run_cell", _end)):
        if call not in shell.events.callbacks[event]:
            shell.events.register(event, call)


def _begin(_info: object) -> None:
    _CLOCK.begin()


def _end(_result: object) -> None:
    _CLOCK.end()
