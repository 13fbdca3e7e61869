"""The clean stop of a command on SIGINT (Ctrl-C) or SIGTERM. Imports nothing slow."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any


class Stop:
    """A listener for SIGINT and SIGTERM, from before the slow imports until after the clean-up.

    Attributes
    ----------
    asked : bool
        Whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.asked = False
        self._interrupts = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> Stop:
        """Start to note signals, and return self."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # only the main thread receives signals
                self._before[number] = signal.signal(number, self._hear)
        return self

    def interrupt(self, really: bool = True) -> None:
        """Raise KeyboardInterrupt on the first signal, also if it has already arrived.

        Later signals raise nothing; neither does the first after ``interrupt(False)``.
        """
        self._interrupts = really
        if really and self.asked:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Ignore signals while the process ends, when Python no longer runs handlers of its own."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _hear(self, *_: object) -> None:
        first = not self.asked
        self.asked = True
        if first and self._interrupts:
            raise KeyboardInterrupt

    def __enter__(self) -> Stop:
        return self.listen()

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
