"""What was told already? The store knows, so that neither a restart nor a second process says it
again.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from typing import TYPE_CHECKING, Any

from aiops_lab.respond.notices import Told
from aiops_lab.shared_state import is_alive

if TYPE_CHECKING:
    from aiops_lab.record.store import Load, SpanStore

SENDER_S = 60.0
"""Seconds after which another process sends in place of one that is gone from another host. A
process that is alive renews it with each notice."""

SENDER, SENT = "notice_sender", "notice_sent"  # kinds of records


class ToldRecords:
    """What one target was told, and which process tells it.

    Parameters
    ----------
    store : SpanStore
    target : str
        Its name, which holds no secret.
    """

    def __init__(self, store: SpanStore, target: str) -> None:
        self._store = store
        self._target = target
        self._identity = [socket.gethostname(), os.getpid(), secrets.token_hex(4)]

    def load(self) -> dict[str, Told]:
        """Return what was told, by the incident's id."""
        records = self._store.load(SENT)
        start = f"{self._target}\n"
        mine = {key: told for key, told in records.items() if key.startswith(start)}
        return {key.removeprefix(start): Told(*told) for key, told in mine.items()}

    def of(self, id: str) -> Told | None:
        """Return what was told of one incident, by any process."""
        told = self._store.record(SENT, self._key(id))
        return None if told is None else Told(*told)

    def take_turn(self) -> bool:
        """Return whether this process tells the target now; another one may be at it."""
        return self._store.update(self._taken)

    def save(self, told: dict[str, Told]) -> None:
        """Note what was told, and stay the one who tells."""
        records: dict[str, object] = {self._key(id): [*each] for id, each in told.items()}
        self._store.update(lambda load: {SENT: records} | self._lease())

    def end_turn(self) -> None:
        """Let another process tell at once."""
        self._store.update(
            lambda load: {SENDER: {self._target: None}} if self._mine(load) else None
        )

    def _taken(self, load: Load) -> dict[str, dict[str, object]] | None:
        sender = load(SENDER, self._target)
        is_free = sender is None or self._mine(load) or _is_over(sender)
        return self._lease() if is_free else None

    def _mine(self, load: Load) -> bool:
        sender = load(SENDER, self._target)
        return sender is not None and sender["holder"] == self._identity

    def _lease(self) -> dict[str, dict[str, object]]:
        return {SENDER: {self._target: {"holder": self._identity, "since": time.time()}}}

    def _key(self, id: str) -> str:
        return f"{self._target}\n{id}"


def _is_over(sender: dict[str, Any]) -> bool:
    """Return whether a sender has ended, is late, or of a clock that ran ahead."""
    host, process, _ = sender["holder"]
    is_gone = host == socket.gethostname() and not is_alive(process)
    return is_gone or not 0 <= time.time() - sender["since"] < SENDER_S
