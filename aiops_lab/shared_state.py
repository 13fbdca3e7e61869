"""What do the monitors of one store share? Whose turn it is, and what has changed."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from aiops_lab.detect.incidents import life_cycle
from aiops_lab.processes import is_alive, process_host

if TYPE_CHECKING:
    from aiops_lab.record.store import Load, SpanStore

SAVE_S = 2.0
"""Seconds for which the disk is tried while others wait for the state of the monitor. Raising it
delays answers where the disk is blocked in that moment."""

LEASE_S = 60.0
"""Seconds after which the turn of a monitor ends that crashed on another host in the middle of a
step; no step takes so long. Raising it delays the monitor that takes over."""

MOST_CHANGES = 200
"""How many of the last changes of incidents are listed; a monitor that missed more reads all."""

_Record = dict[str, Any]
_Records = dict[str, dict[str, Any]]
"""Records by kind and key."""

_here: WeakValueDictionary[str, SharedState] = WeakValueDictionary()


class SharedState:
    """The part of a store by which several monitors, in any process, share the work.

    A monitor judges windows only while it holds the lease, one record of the store. It has an end,
    so that a crash of its holder stops nobody. The other monitors read meanwhile.

    Parameters
    ----------
    store : SpanStore
    """

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._name = secrets.token_hex(8)
        self._revision = 0  # of the incidents as this monitor knows them
        _here[self._name] = self

    @property
    def identity(self) -> list[Any]:
        """Host, process and name: after a fork the child is another monitor."""
        return [
            process_host(),
            os.getpid(),
            self._name,
        ]

    def take_turn(self, now_ns: int) -> bool:
        """Return whether this monitor holds the lease now."""
        end_ns = now_ns + int(LEASE_S * 1e9)
        lease: _Record = {"holder": self.identity, "until": end_ns}

        def change(load: Load) -> _Records | None:
            known = load("monitor", "lease")
            is_free = known is None or _is_over(known, now_ns) or self.is_gone(known["holder"])
            return {"monitor": {"lease": lease}} if is_free else None

        return self._store.update(change)

    def end_turn(self) -> None:
        """Give the lease back, if this monitor still has it."""

        def change(load: Load) -> _Records | None:
            return {"monitor": {"lease": None}} if self._is_mine(load) else None

        self._store.update(change)

    def _is_mine(self, load: Load) -> bool:
        lease = load("monitor", "lease")
        return lease is not None and lease["holder"] == self.identity

    def is_gone(self, identity: list[Any]) -> bool:
        """Return whether a monitor is known to have ended; this one counts as ended, too."""
        host, process, name = identity
        if identity == self.identity:
            return True
        if host != process_host():
            return False
        if process == os.getpid():
            other = _here.get(name)
            return other is None or other._store.closed
        return not is_alive(process)

    def save(self, incidents: _Record, others: _Records) -> _Record | None:
        """Store records by kind and key, and end the turn, in one transaction.

        Returns what somebody did to the life cycle of incidents meanwhile, by id; that is kept.
        Returns None if the turn was over already: then nothing is stored.
        """
        moved: _Record = {}

        def change(load: Load) -> _Records | None:
            if not self._is_mine(load):
                return None
            changes = load("monitor", "changes") or []
            for revision, known in changes:
                if revision > self._revision:
                    record = load("incident", known)
                    moved[known] = life_cycle(record, incidents.get(known))
            kept = {known: record | moved.get(known, {}) for known, record in incidents.items()}
            monitor = others["monitor"] | {"lease": None}
            monitor["changes"] = self._listed(changes, incidents)
            return others | {"incident": kept, "monitor": monitor}

        return moved if self._store.update(change, SAVE_S) else None

    def move(self, record: _Record, others: _Records | None = None) -> bool:
        """Store one incident that was moved by hand, and other records by kind and key with it;
        False if others changed some incidents meanwhile.
        """

        def change(load: Load) -> _Records | None:
            changes = load("monitor", "changes") or []
            if _last(changes) > self._revision:
                return None
            by_id: _Record = {record["id"]: record}
            listed: _Record = {"changes": self._listed(changes, by_id)}
            mine: _Records = {"incident": by_id, "monitor": listed}
            return mine | (others or {})

        return self._store.update(change, SAVE_S)

    def _listed(self, changes: list[Any], incidents: _Record) -> list[Any]:
        """Return the changes with those of some incidents, which this monitor then knows."""
        last = _last(changes)
        if not incidents:
            self._revision = last
            return changes
        self._revision = last + 1
        new = [[self._revision, known] for known in incidents]
        most = max(MOST_CHANGES, len(new))
        return [*changes, *new][-most:]

    def news(self) -> list[str] | None:
        """Return which incidents others changed since this was asked last; None: perhaps all."""
        changes = self._store.record("monitor", "changes") or []
        known = self._revision
        self._revision = max(known, _last(changes))
        if not changes:
            return []
        first_listed, _ = changes[0]
        if first_listed > known + 1:
            return None
        names = [name for revision, name in changes if revision > known]
        return list(dict.fromkeys(names))


def wait_for_disk(store: SpanStore, timeout_s: float | None = None) -> None:
    """Return when something was written; OSError where the disk is blocked for that long, default
    5 s.
    """
    tried: _Records = {"monitor": {"disk": None}}  # an empty transaction fits on a full disk
    store.update(lambda load: tried, timeout_s)


def _last(changes: list[Any]) -> int:
    """Return the number of the last change, 0 before the first."""
    return changes[-1][0] if changes else 0


def _is_over(lease: _Record, now_ns: int) -> bool:
    """Return whether a lease is over, or of a clock that ran ahead."""
    left_ns = lease["until"] - now_ns
    return not 0 < left_ns <= LEASE_S * 1e9
