"""Which levels did people take as normal, and which of these did they take back?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiops_lab.detect.baselines import from_rows, to_rows
from aiops_lab.spans import Key

if TYPE_CHECKING:
    from aiops_lab.pipeline import Pipeline
    from aiops_lab.record.store import SpanStore

RecordsByKind = dict[str, dict[str, object]]  # of a store, by kind and key

_WAITING, _TAKEN_BACK, _BEFORE = "accepted", "taken_back", "level_before"  # kinds of such records


def accepted(incident_id: str, keys: Iterable[Key]) -> RecordsByKind:
    """Return what to store, so that the next step takes the levels of some endpoints as normal."""
    places = [list(key) for key in sorted(keys)]
    return {_WAITING: {incident_id: places}}


def taken_back(incident_id: str) -> RecordsByKind:
    """Return what to store, so that the next step puts back the levels of before."""
    return {_WAITING: {incident_id: None}, _TAKEN_BACK: {incident_id: True}}


class AcceptedLevels:
    """What waits in a store to be taken as normal, or to be put back, at the next step.

    Parameters
    ----------
    store : SpanStore
    """

    def __init__(self, store: SpanStore) -> None:
        self._store = store
        self._done: RecordsByKind = {}

    def apply(self, pipeline: Pipeline) -> None:
        """Change the baselines of a pipeline as it was asked for since the last step."""
        self._done = {}
        for incident_id, is_asked in self._store.load(_TAKEN_BACK).items():
            if is_asked:
                before = self._store.record(_BEFORE, incident_id)
                _put_back(pipeline, before or [])
                self._note(incident_id, {_TAKEN_BACK: None, _BEFORE: None})
        for incident_id, places in self._store.load(_WAITING).items():
            if places:
                keys: list[Key] = [(service, endpoint) for service, endpoint in places]
                before = _levels(pipeline, keys)
                self._note(incident_id, {_WAITING: None, _BEFORE: before})
                pipeline.accept_levels(keys)

    def records(self) -> RecordsByKind:
        """Return what to store with the baselines: what was done, and the levels of before."""
        return self._done

    def forget(self) -> None:
        """Begin anew: all was stored, or is read from the store again."""
        self._done = {}

    def _note(self, incident_id: str, about: dict[str, object]) -> None:
        for kind, record in about.items():
            self._done.setdefault(kind, {})[incident_id] = record


def _levels(pipeline: Pipeline, keys: Iterable[Key]) -> list[list[Any]]:
    """Return the baselines of some endpoints: service, endpoint and rows of each."""
    found = []
    for key in keys:
        place = _rows_of(pipeline, key)
        if place is not None:
            found.append([*key, to_rows(pipeline.state[place])])
    return found


def _put_back(pipeline: Pipeline, levels: Iterable[list[Any]]) -> None:
    hours = pipeline.sensitivity.hours
    for service, endpoint, rows in levels:
        place = _rows_of(pipeline, (service, endpoint))
        if place is not None and len(rows) == hours:  # else it was learned with other hours
            pipeline.state[place] = from_rows(rows, hours)


def _rows_of(pipeline: Pipeline, key: Key) -> slice | None:
    """Return where the baselines of an endpoint stand, an hour each; None where it has none."""
    code = pipeline.keys.get(key)
    if code is None:
        return None
    hours = pipeline.sensitivity.hours
    return slice(code * hours, (code + 1) * hours)
