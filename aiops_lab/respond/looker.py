"""Who looks at incidents beside the monitor? A thread that looks again and again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from aiops_lab.logs import get_logger

_log = get_logger(__name__)

NOTICE_LOOK_S = 1.0
"""Seconds between two looks at the incidents. Raising it acts later."""

CLOSE_S = 2.0
"""Seconds for which `Looker.join` waits for a thread, which is then left alone."""


class Looker:
    """A daemon thread that calls `look` until it is stopped.

    Parameters
    ----------
    name : str
        Of the thread.
    look : function () -> float or None
        Returns the seconds until the next look, None where nothing was to be done. What it raises
        is logged, once as long as it stays the same.
    is_over : function () -> bool
        Whether there is nothing left to look at.

    Attributes
    ----------
    ended : Event
        Set when it is to stop.
    """

    def __init__(
        self, name: str, look: Callable[[], float | None], is_over: Callable[[], bool]
    ) -> None:
        self.ended = threading.Event()
        self._look = look
        self._is_over = is_over
        self._wake = threading.Event()
        self._looks = threading.Condition()
        self._problem = ""  # why the last look failed
        self._begun = 0  # looks
        self._calm = 0  # the last of them that had nothing to do
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; `join` waits for that."""
        self.ended.set()
        self._wake.set()

    def join(self) -> None:
        """Wait for the thread to end, for a short time."""
        self._thread.join(CLOSE_S)

    def flush(self, deadline: float) -> bool:
        """Return whether a look that begins from now on has nothing to do, by `deadline`.

        That is a time of `time.monotonic`.
        """
        with self._looks:
            wanted = self._begun + 1
            while self._calm < wanted and self._thread.is_alive():
                self._wake.set()
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._looks.wait(min(left_s, NOTICE_LOOK_S))
            return self._calm >= wanted

    def _run(self) -> None:
        while not self._is_done():
            with self._looks:
                self._begun += 1
            pause_s = self._looked()
            if pause_s is None:
                with self._looks:
                    self._calm = self._begun
                    self._looks.notify_all()
            self._rest(NOTICE_LOOK_S if pause_s is None else pause_s)

    def _is_done(self) -> bool:
        return self.ended.is_set() or self._is_over()

    def _looked(self) -> float | None:
        try:
            pause_s = self._look()
        except Exception as error:
            if not self._is_done() and str(error) != self._problem:
                _log.warning("a look at incidents failed: %s", error, exc_info=error)
            self._problem = str(error)
            return NOTICE_LOOK_S
        self._problem = ""
        return pause_s

    def _rest(self, pause_s: float) -> None:
        if pause_s <= NOTICE_LOOK_S:
            self._wake.wait(pause_s)
            self._wake.clear()
            return
        until = time.monotonic() + pause_s  # after a failure nothing makes it earlier
        while not self._is_done() and (left_s := until - time.monotonic()) > 0:
            self.ended.wait(min(left_s, NOTICE_LOOK_S))
