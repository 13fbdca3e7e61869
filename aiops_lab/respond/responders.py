"""What do all have in common that act on the incidents of a monitor, and how do they fare?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from aiops_lab.respond.looker import Looker

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor


class Worker(Protocol):
    """A part of a responder: one target or one remedy, with a thread of its own."""

    looker: Looker

    def status(self) -> dict[str, Any]:
        """Return how it fares."""

    def end_turn(self) -> None:
        """Let another process work; called when the thread has ended."""


class Responder:
    """What acts on incidents, beside the analysis; `Monitor.responders` holds it until `close`."""

    kind: str
    """Such as ``notices``: how its rows are called where they are shown."""

    def __init__(self, monitor: Monitor, workers: Sequence[Worker]) -> None:
        self._monitor = monitor
        self._workers = workers
        monitor.responders.append(self)
        for worker in workers:
            worker.looker.start()

    def status(self) -> list[dict[str, Any]]:
        """Return how it fares, a row for each target or remedy."""
        return [worker.status() for worker in self._workers]

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Return whether all that is due by now was done, within `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        return all(worker.looker.flush(deadline) for worker in self._workers)

    def close(self) -> None:
        """End the threads; a call that has not returned is left alone.

        What was not told is told after the next start.
        """
        for worker in self._workers:
            worker.looker.stop()
        for worker in self._workers:
            worker.looker.join()
            worker.end_turn()
        if self in self._monitor.responders:
            self._monitor.responders.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def responses_of(monitor: Monitor) -> dict[str, list[dict[str, Any]]]:
    """Return how the responders of a monitor fare: the rows of all of a kind, by kind."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for responder in [*monitor.responders]:
        rows.setdefault(responder.kind, []).extend(responder.status())
    return rows
