"""Which of several processes acts? One at a time, holding a record of the store."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiops_lab import processes

if TYPE_CHECKING:
    from aiops_lab.record.store import Load, SpanStore

TURN_S = 60.0
"""Seconds after which another process acts in place of one that is gone from another host. A
process that is alive renews it with what it does."""

RENEW_SHARE = 1 / 3
"""Of `TURN_S`, after which `Turn.keep` renews a turn."""

TURN = "turn"  # kind of records

TurnRecords = dict[str, dict[str, object]]  # by kind and key


class Turn:
    """The right to do something for a store.

    Parameters
    ----------
    store : SpanStore
    name : str
        What is done.
    """

    def __init__(self, store: SpanStore, name: str) -> None:
        self._store = store
        self._name = name
        self._identity = [processes.process_host(), os.getpid(), secrets.token_hex(4)]
        self._renewed_s = time.monotonic()

    def take(self) -> bool:
        """Return whether this process may act now: it may not while another one does."""
        return self._store.update(self._taken)

    def keep(self) -> bool:
        """Renew the turn in good time, while something takes long: to be called again and again.

        Return False where this call found that another process has the turn. Where the store
        cannot be used, it is tried again after `RENEW_SHARE` of `TURN_S`.
        """
        now_s = time.monotonic()
        if now_s - self._renewed_s < RENEW_SHARE * TURN_S:
            return True
        self._renewed_s = now_s  # also where it fails: not each call is to write
        with suppress(OSError, ValueError):
            return self.take()
        return True

    def save(self, records: TurnRecords) -> None:
        """Store records and renew the turn, unless another process has taken it meanwhile."""
        self._store.update(lambda load: records | (self._taken(load) or {}))

    def end(self) -> None:
        """Let another process act at once."""
        nobody: TurnRecords = {TURN: {self._name: None}}
        self._store.update(lambda load: nobody if self._is_mine(load) else None)

    def _taken(self, load: Load) -> TurnRecords | None:
        holder = load(TURN, self._name)
        is_free = holder is None or self._is_mine(load) or _is_over(holder)
        return self._lease() if is_free else None

    def _is_mine(self, load: Load) -> bool:
        holder = load(TURN, self._name)
        return holder is not None and holder["holder"] == self._identity

    def _lease(self) -> TurnRecords:
        self._renewed_s = time.monotonic()
        return {TURN: {self._name: {"holder": self._identity, "since": time.time()}}}


def _is_over(turn: dict[str, Any]) -> bool:
    """Return whether a holder has ended, is late with renewing its turn, or had a clock ahead."""
    host, process, _ = turn["holder"]
    is_gone = host == processes.process_host() and not processes.is_alive(process)
    return is_gone or not 0 <= time.time() - turn["since"] < TURN_S
