"""The clean stop of a command on SIGINT (Ctrl-C) or SIGTERM. Imports nothing slow."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Any


class Stop:
    """Listens for SIGINT and SIGTERM, from before the slow imports until after the clean-up.

    Attributes
    ----------
    asked : bool
        Whether one has come.
    """

    def __init__(self) -> None:
        self.asked = False
        self._interrupts = False
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> Stop:
        """Only note what comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # not the main thread, which alone gets signals
                self._before[number] = signal.signal(number, self._hear)
        return self

    def interrupt(self, really: bool = True) -> None:
        """Let the first signal raise KeyboardInterrupt, also one that has come already; no other
        one ever does.
        """
        self._interrupts = really
        if really and self.asked:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Let nothing disturb the process while it ends; Python itself would give its own handlers
        up before.
        """
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
