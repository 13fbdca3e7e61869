"""Whatever happens to incidents in whatever order, what a monitor and its store say fits together.

Windows that are normal or not, pauses, restarts, and people who acknowledge, resolve and accept.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import aiops_lab as lab
from aiops_lab.detect.grouping import MOVES, IllegalMoveError
from aiops_lab.detect.incidents import ACKNOWLEDGED, ACTIVE, RESOLVED
from tests.support.fuzzing import bounded
from tests.support.made import Shop
from tests.support.played import at

WINDOW_S = 10
WARM_S = 60
REQUESTS = 12  # of /checkout in a window, each of which calls the two others
KNOBS = lab.Sensitivity(correlation_s=40, resolve_after_s=60, relearn_after_s=120, min_count=10)

EFFECTS = {
    "normal": {},
    "slow payment": {"/payment": (400.0, 200)},
    "failing payment": {"/payment": (0.0, 500)},
    "slow inventory": {"/inventory": (300.0, 200)},
    "both": {"/payment": (400.0, 200), "/inventory": (300.0, 200)},
    "slow checkout": {"/checkout": (500.0, 200)},
}


def send(shop, begin, kind):
    """Let a window of requests happen; all of them end in it."""
    effects = EFFECTS[kind]
    shop.effect = lambda endpoint, second: effects.get(endpoint, (0.0, 200))
    for number in range(REQUESTS):
        shop.request("/checkout", begin + number * 0.7)


def add(store, shop):
    for span in shop.spans:
        store.add(span)
    shop.spans.clear()
    store.flush()


@cache
def warm():
    """The file of a store whose monitor knows what is normal."""
    folder = Path(tempfile.mkdtemp())
    with lab.SpanStore(folder / "s.sqlite") as store:
        shop = Shop(1)
        for begin in range(0, WARM_S, WINDOW_S):
            send(shop, begin, "normal")
        add(store, shop)
        lab.Monitor(store, KNOBS).step(at(WARM_S + 2))
    return folder / "s.sqlite"


class LifeCycle(RuleBasedStateMachine):
    """A shop, its monitor and the people who watch it."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "s.sqlite"
        shutil.copy(warm(), path)
        self.store = lab.SpanStore(path)
        self.monitor = lab.Monitor(self.store, KNOBS)
        self.shop = Shop(2, None)
        self.shop._ids = 1_000_000
        self.second = WARM_S
        self.seen = {}  # id of an incident: when it was detected

    def teardown(self):
        self.store.close()
        self.folder.cleanup()

    @rule(kind=st.sampled_from([*EFFECTS]))
    def a_window(self, kind):
        before = {each.id: each.status for each in self.monitor.incidents()}
        send(self.shop, self.second, kind)
        add(self.store, self.shop)
        self.second += WINDOW_S
        changed = self.monitor.step(at(self.second + 2))
        now = {each.id: each.status for each in self.monitor.incidents()}
        for known, status in before.items():
            if known in now and now[known] != status:
                moves = {(ACTIVE, RESOLVED), (ACKNOWLEDGED, RESOLVED), (RESOLVED, ACTIVE)}
                assert (status, now[known]) in moves
        new = now.keys() - before.keys()
        assert new <= {each.id for each in changed}
        if kind == "normal":
            assert new == set()

    @rule(windows=st.sampled_from([2, 5, 8]))
    def a_pause(self, windows):
        self.second += windows * WINDOW_S
        self.monitor.step(at(self.second + 2))

    @rule()
    def a_restart(self):
        self.monitor = lab.Monitor(self.store, KNOBS)

    @rule(which=st.integers(0, 9), how=st.sampled_from(["acknowledge", "resolve", "accept"]))
    def somebody(self, which, how):
        known = self.monitor.incidents()
        if not known:
            return
        one = known[which % len(known)]
        before = one.to_record()
        to = ACKNOWLEDGED if how == "acknowledge" else RESOLVED
        is_legal = (one.status, to) in MOVES
        try:
            moved = getattr(self.monitor, how)(one.id, at(self.second + 2))
        except IllegalMoveError:
            assert not is_legal
            assert self.monitor.incident(one.id).to_record() == before
        else:
            assert is_legal
            assert (moved.id, moved.status) == (one.id, to)

    @rule()
    def somebody_asks_for_what_is_not_there(self):
        for act in (self.monitor.acknowledge, self.monitor.resolve, self.monitor.accept):
            with pytest.raises(KeyError):
                act("INC-0-0", at(self.second))

    @invariant()
    def a_second_monitor_says_the_same(self):
        other = lab.Monitor(self.store, KNOBS)
        records = [[i.to_record() for i in m.incidents()] for m in (self.monitor, other)]
        assert records[0] == records[1]
        assert {each["id"] for each in records[0]} <= self.store.load("incident").keys()

    @invariant()
    def each_incident_has_one_id_one_beginning_and_one_state(self):
        incidents = self.monitor.incidents()
        ids = [each.id for each in incidents]
        assert len({*ids}) == len(ids)
        for each in incidents:
            assert re.fullmatch(r"INC-\d+-\d+", each.id)
            assert self.seen.setdefault(each.id, each.first_detected) == each.first_detected
            assert (each.resolved_at is not None) == (each.status == RESOLVED)
            assert each.keys
            assert each.first_detected <= each.last_anomaly
        for known in self.seen:
            assert self.monitor.incident(known).id in ids

    @invariant()
    def no_two_open_incidents_have_one_cause(self):
        opened = [each for each in self.monitor.incidents() if each.status != RESOLVED]
        causes = [each.root_cause.key for each in opened if each.root_cause is not None]
        assert len({*causes}) == len(causes)


def test_what_a_monitor_and_its_store_say_fits_together_whatever_happens():
    run_state_machine_as_test(LifeCycle, settings=bounded(3, stateful_step_count=10))
