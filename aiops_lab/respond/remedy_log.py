"""What have remedies done? The store keeps a log, by incident."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiops_lab.numerics import to_timestamp
from aiops_lab.respond.remedies import HELD_BACK, MOST_CALLS, RemedyCall, shown_call
from aiops_lab.respond.turns import Turn
from aiops_lab.results import iso

if TYPE_CHECKING:
    from aiops_lab.record.reader import SpanReader
    from aiops_lab.record.store import SpanStore

REMEDY_CALLS = "remedy_calls"  # kind of records


class RemedyLog:
    """The calls of one remedy; by `turn`, one process at a time makes them."""

    def __init__(self, store: SpanStore, remedy: str) -> None:
        self._store = store
        self._remedy = remedy
        self.turn = Turn(store, f"remedy {remedy}")

    def read(self) -> list[RemedyCall]:
        """Return the calls for all incidents, in the order of time."""
        records = self._store.load(REMEDY_CALLS)
        rows = [
            RemedyCall(*row) for key, rows in records.items() if self._is_mine(key) for row in rows
        ]
        return sorted(rows)

    def save(self, call: RemedyCall) -> None:
        """Store a call; the one with the same time is replaced."""
        key = f"{call.incident}\n{self._remedy}"
        known = self._store.record(REMEDY_CALLS, key) or []
        others = [row for row in known if row[0] != call.ns]
        rows = sorted([*others, [*call]])
        held = [row for row in rows if row[3] == HELD_BACK][-MOST_CALLS:]
        made = [row for row in rows if row[3] != HELD_BACK][-MOST_CALLS:]
        self.turn.save({REMEDY_CALLS: {key: sorted(held + made)}})

    def _is_mine(self, key: str) -> bool:
        return key.partition("\n")[2] == self._remedy


def calls_for(store: SpanReader, incident_id: str) -> list[dict[str, Any]]:
    """Return what remedies did about an incident, as the HTTP interface shows it."""
    found = []
    for key, rows in store.load(REMEDY_CALLS).items():
        if key.partition("\n")[0] == incident_id:
            found += [RemedyCall(*row) for row in rows]
    return [shown_call(call, iso(to_timestamp(call.ns))) for call in sorted(found)]
