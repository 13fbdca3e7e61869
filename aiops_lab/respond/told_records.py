"""What was told already? The store knows, so that neither a restart nor a second process says it
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiops_lab.respond.notices import Told
from aiops_lab.respond.turns import Turn

if TYPE_CHECKING:
    from aiops_lab.record.store import SpanStore

TOLD = "told"  # kind of records


class ToldRecords:
    """What one target was told.

    Parameters
    ----------
    store : SpanStore
    target : str
        Its name, which holds no secret.

    Attributes
    ----------
    turn : Turn
        Which process tells it.
    """

    def __init__(self, store: SpanStore, target: str) -> None:
        self._store = store
        self._target = target
        self.turn = Turn(store, f"notices to {target}")

    def load(self) -> dict[str, Told]:
        """Return what was told, by the incident's id."""
        start = self._key("")
        found = {}
        for key, told in self._store.load(TOLD).items():
            if key.startswith(start):
                found[key.removeprefix(start)] = Told(*told)
        return found

    def of(self, id: str) -> Told | None:
        """Return what was told of one incident, by any process."""
        told = self._store.record(TOLD, self._key(id))
        return None if told is None else Told(*told)

    def save(self, told: dict[str, Told]) -> None:
        """Note what was told."""
        records: dict[str, object] = {}
        for id, each in told.items():
            records[self._key(id)] = list(each)
        self.turn.save({TOLD: records})

    def _key(self, id: str) -> str:
        return f"{self._target}\n{id}"
