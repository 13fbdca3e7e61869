"""Several monitors of one store, as in the worker processes of a server: they say the same."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.detect.grouping import IllegalMoveError
from aiops_lab.shared_state import SharedState
from tests.support.made import Shop, fault
from tests.support.played import at, play, to_spans


@pytest.fixture(scope="module")
def recording() -> pd.DataFrame:
    return Shop(1, fault("/payment", 60, 90, status=500)).run(130)


@pytest.fixture
def stores(tmp_path, recording):
    """Yield two stores of one file, as two processes have them."""
    path = tmp_path / "spans.sqlite"
    with lab.SpanStore(path) as one, lab.SpanStore(path) as other:
        for row in to_spans(recording):
            one.add(lab.Span(*row))
        one.flush()
        yield one, other


class InTurns:
    """Monitors that step in turns, like workers that are asked by chance."""

    def __init__(self, *monitors: lab.Monitor) -> None:
        self._turn = cycle(monitors)

    def step(self, now: pd.Timestamp) -> list[lab.Incident]:
        return next(self._turn).step(now)


def test_what_one_has_found_the_other_says(stores):
    one, other = map(lab.Monitor, stores)
    found = one.step(at(140))
    assert found
    assert other.incidents() == found
    assert other.incident(found[0].id) == found[0]
    assert other.judged_until == one.judged_until
    assert other.step(at(140)) == []


def test_what_somebody_resolved_stays_resolved_when_another_monitor_steps(stores):
    one, other = map(lab.Monitor, stores)
    (incident,) = one.step(at(100))
    other.step(at(110))
    one.resolve(incident.id, at(115))
    other.step(at(140))
    for monitor in (one, other, lab.Monitor(stores[0])):
        assert [i.status for i in monitor.incidents()] == ["resolved"]
    with pytest.raises(IllegalMoveError):
        other.resolve(incident.id, at(141))


def test_monitors_in_turns_find_what_one_finds(tmp_path, recording):
    with lab.SpanStore(tmp_path / "spans.sqlite") as store:
        one, other = lab.Monitor(store), lab.Monitor(store)
        play(store, InTurns(one, other), recording, 7, 140)
        report = lab.replay(store.spans(), until=one.judged_until)
        for monitor in (one, other):
            live = [i.to_record() for i in monitor.incidents()]
            assert live == [i.to_record() for i in report.incidents]
    assert live


def test_while_one_is_at_work_a_step_of_another_does_nothing(stores):
    one, other = map(lab.Monitor, stores)
    somebody = SharedState(stores[0])
    assert somebody.take_turn(at(140).value)
    assert other.step(at(140)) == []
    assert other.judged_until is None
    somebody.end_turn()
    assert other.step(at(140))
    assert one.incidents() == other.incidents()
