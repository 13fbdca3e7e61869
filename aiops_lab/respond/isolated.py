"""What if a function of a user hangs? It has a thread of its own, and its caller goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from aiops_lab.endpoints import printable
from aiops_lab.record.redaction import redact_secrets

OUTCOME_POLL_S = 0.05
"""Seconds between two looks at whether to give up. Raising it delays the end of a program."""

MOST_OUTCOME = 300  # characters of an error or a result


class Outcome(NamedTuple):
    """What became of a call: `error` is empty where it returned."""

    value: Any
    error: str


class Isolated:
    """Calls functions in threads of their own, one at a time.

    Parameters
    ----------
    timeout_s : float
        Seconds after which a call is given up. Its thread goes on; until it has ended nothing else
        is called.
    stop : Event
        A call is given up at once when it is set.
    """

    def __init__(self, timeout_s: float, stop: threading.Event) -> None:
        self._timeout_s = timeout_s
        self._stop = stop
        self._thread: threading.Thread | None = None
        self._began_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a call has not returned yet, such as one that was given up."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """Seconds since the call began that has not returned yet; 0 where there is none."""
        return time.monotonic() - self._began_s if self.is_busy else 0.0

    def call(
        self, work: Callable[[], object], meanwhile: Callable[[], object] = lambda: None
    ) -> Outcome:
        """Return what became of ``work()``: its value, or its error as text without secrets.

        `meanwhile` is called again and again while it works, default nothing.
        """
        if self.is_busy:
            return Outcome(None, "not called, as the call before has not returned")
        outcomes: list[Outcome] = []
        self._thread = thread = threading.Thread(
            target=lambda: outcomes.append(_outcome(work)), name="user code", daemon=True
        )
        self._began_s = time.monotonic()
        thread.start()
        deadline = self._began_s + self._timeout_s
        while thread.is_alive() and not self._stop.is_set():
            if time.monotonic() >= deadline:
                break
            meanwhile()
            thread.join(min(OUTCOME_POLL_S, self._timeout_s))
        if outcomes:
            return outcomes[0]
        if self._stop.is_set():
            return Outcome(None, "given up, as the program ends")
        return Outcome(None, f"has not returned after {self._timeout_s:g} s")


def _outcome(work: Callable[[], object]) -> Outcome:
    try:
        return Outcome(work(), "")
    except BaseException as error:  # also SystemExit: it would end the thread in silence
        return Outcome(None, error_text(error))


def error_text(error: BaseException) -> str:
    """Return an error as one line without secrets."""
    return shown_text(f"{type(error).__name__}: {error}")


def shown_text(text: str) -> str:
    """Return a text of a user's function as it may be stored and shown: one line, no secrets."""
    return printable(redact_secrets(text), MOST_OUTCOME)
