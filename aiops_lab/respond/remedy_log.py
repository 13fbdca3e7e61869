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
        calls: list[RemedyCall] = []
        for key, rows in self._store.load(REMEDY_CALLS).items():
            _, _, remedy = key.partition("\n")
            if remedy == self._remedy:
                calls += [RemedyCall(*row) for row in rows]
        return sorted(calls)

    def save(self, call: RemedyCall) -> None:
        """Store a call; the one with the same time is replaced."""
        key = f"{call.incident}\n{self._remedy}"
        known = self._store.record(REMEDY_CALLS, key) or []
        others = [row for row in known if row[0] != call.ns]
        calls = sorted(RemedyCall(*row) for row in [*others, call])
        held = [each for each in calls if each.outcome == HELD_BACK]
        made = [each for each in calls if each.outcome != HELD_BACK]
        kept = sorted(held[-MOST_CALLS:] + made[-MOST_CALLS:])
        self.turn.save({REMEDY_CALLS: {key: [list(each) for each in kept]}})


def calls_for(store: SpanReader, incident_id: str) -> list[dict[str, Any]]:
    """Return what remedies did about an incident, as the HTTP interface shows it."""
    calls: list[RemedyCall] = []
    for key, rows in store.load(REMEDY_CALLS).items():
        incident, _, _ = key.partition("\n")
        if incident == incident_id:
            calls += [RemedyCall(*row) for row in rows]
    shown = []
    for call in sorted(calls):
        time = iso(to_timestamp(call.ns))
        shown.append(shown_call(call, time))
    return shown
