"""Who watches? `Monitor`: step by step on a live store."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aiops_lab.acceptance import AcceptedLevels, RecordsByKind, accepted, taken_back
from aiops_lab.checks import FieldError
from aiops_lab.columns import give_memory_back
from aiops_lab.detect.baselines import from_rows, to_rows
from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.incidents import ACKNOWLEDGED, RESOLVED, Incident, last_anomalies, of_status
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.diagnosis import History, Rule
from aiops_lab.endpoints import display_names, split_method
from aiops_lab.explain.changes import Change, check_change
from aiops_lab.explain.config import RcaConfig
from aiops_lab.health import FORECAST_EVERY_S
from aiops_lab.learned import LEARNED_TABLES, learned_to_record, take_learned
from aiops_lab.logs import get_logger
from aiops_lab.numerics import to_timestamp, to_utc, unix_ns
from aiops_lab.past_traces import PastTraces
from aiops_lab.pipeline import Pipeline, floor_to
from aiops_lab.recent_traffic import RecentTraffic
from aiops_lab.results import ClockChange
from aiops_lab.shared_state import SharedState, wait_for_disk
from aiops_lab.spans import Key
from aiops_lab.user_code import UserCode
from aiops_lab.watched_spans import Unwritten, WatchedSpans

if TYPE_CHECKING:
    from aiops_lab.record.store import SpanStore

_log = get_logger(__name__)

_MOST_CLOCK_CHANGES = 20

_Move = Callable[[pd.Timestamp], Incident]

Forecasts = tuple[pd.Timestamp, dict[Key, dict[str, Any] | None]]  # as of a moment


class Monitor:
    """Watches a store: each `step` judges the windows that have ended, and keeps incidents and
    baselines in the store.

    Safe to use from several threads. After a restart it goes on where it stopped. Several monitors,
    in any process, may watch one store. They share the work: one at a time judges, holding a lease;
    a `step` of another one only reads then, and takes over when the lease is over (see
    `shared_state`). All say the same, as what they say is read from the store.

    Spans whose times, kind or status cannot be are passed over and counted. Where the clock goes
    back by more than a window, detection goes on from there.

    A detector or rule of a user's own that raises, or returns something else than a list, is left
    out until the next step, logged and counted in `failed_functions`; all others go on. Where the
    rule fails an incident keeps the cause that was known, or names none.

    Parameters
    ----------
    store : SpanStore
    sensitivity, detectors, rule, config
        As for `replay`.

    Attributes
    ----------
    clock_changes : list of ClockChange
        When the clock went back, the last 20 times.
    responders : list
        What acts on its incidents, such as a `Notifier`: each adds itself.
    """

    clock_changes: list[ClockChange]
    _pipeline: Pipeline
    _explained: dict[str, tuple[int, int, int]]  # by incident: since when, as of when, changes
    _known: dict[str, Any]  # what the store says of endpoints
    _merged: dict[str, str]  # ... and of incidents that were merged
    _serial: int  # of the state that the store has
    _judged_by: list[Any]  # the monitor that wrote it
    _spans: WatchedSpans
    _recent: RecentTraffic

    def __init__(
        self,
        store: SpanStore,
        sensitivity: Sensitivity | None = None,
        *,
        detectors: Sequence[AnyDetector] = DETECTORS,
        rule: Rule | None = None,
        config: RcaConfig | None = None,
    ) -> None:
        if not callable(getattr(store, "position", None)):
            raise FieldError("store", "must be a SpanStore", store)
        self.store = store
        self.responders: list[Any] = []
        self.sensitivity = Sensitivity() if sensitivity is None else sensitivity
        self._user_code = UserCode(isolate=True)
        self._new_pipeline = partial(
            Pipeline, self.sensitivity, detectors, rule, config, user_code=self._user_code
        )
        self._steps = threading.Lock()  # held during a step, which may wait for the disk
        self._lock = threading.RLock()  # held while the state is looked at, or changed
        self._unwritten = Unwritten(store)
        self._shared = SharedState(store)
        self._levels = AcceptedLevels(store)
        self._last_now: int | None = None
        self._forecasts: Forecasts = (to_timestamp(0), {})
        self._load()

    def step(self, now: pd.Timestamp) -> list[Incident]:
        """Judge the windows that ended before `now` less the grace period; return the incidents
        that changed, those among them that another monitor changed.

        `now` is a time of the years 1990 to 2100, UTC if it names no zone. Where it lies far behind
        the last span, the windows are judged up to the time at which all that is open has resolved.
        """
        now_ns = unix_ns(to_utc(now))
        with self._steps:
            with self._lock:
                changed = self._refresh()
                is_due = self._is_due(now_ns)
            if not is_due:
                return changed
            if not self._shared.take_turn(now_ns):
                _log.info("another monitor judges %s: this one reads", self.store.path)
                return changed
            try:
                self.store.flush()
                with self._lock:
                    touched = self._judge_in_turn(now_ns, changed)
            finally:
                self._shared.end_turn()
            own = {incident.id for incident in touched}
            return [each for each in changed if each.id not in own] + touched

    def _ready(self, now_ns: int) -> int:
        """Return up to when windows can be judged."""
        return floor_to(now_ns - int(self.sensitivity.grace_s * 1e9), self._pipeline.window_ns)

    def _is_due(self, now_ns: int) -> bool:
        """Return whether there is anything to judge at a moment, which is taken down."""
        until = self._ready(now_ns)
        is_back = self._is_back(until, now_ns)
        self._last_now = now_ns
        done = self._pipeline.done
        return done is None or until > done or is_back

    def _judge_in_turn(self, now_ns: int, changed: list[Incident]) -> list[Incident]:
        """Judge what is ready; add to `changed` what others have changed until now."""
        try:
            changed += [each for each in self._refresh() if each not in changed]
            return self._judge(self._ready(now_ns), now_ns)
        except BaseException:
            self._load()
            raise

    def _judge(self, until: int, now_ns: int) -> list[Incident]:
        """Judge the windows up to `until`, while it is this monitor's turn."""
        pipeline = self._pipeline
        if self._is_back(until, now_ns):
            self._go_back(until, now_ns)
        if pipeline.done is not None and until <= pipeline.done:
            self._save([])
            return []
        frame = self._spans.new(pipeline.needed_since, until, pipeline.done)
        if pipeline.done is None and frame.empty:
            return []
        until = self._believed(frame, until)
        recording = Recording(frame, pipeline.keys, pipeline.methods, pipeline.addresses)
        self._levels.apply(pipeline)
        pipeline.learn_calls(recording)  # at the next step its spans may not be looked at again
        history = PastTraces(self._spans, pipeline)
        _, _, touched = pipeline.advance(recording, until, history)
        for incident in touched:
            self._explain(incident, history)
        pipeline.diagnosis.forget()
        if history.reads:  # rarely: spans of many minutes
            del history
            give_memory_back()
        if not self._save(touched):
            return []
        for incident in touched:
            _log.info("%s is %s: %s", incident.id, incident.status, incident.title)
        return touched

    # ---- clocks

    def _is_back(self, until: int, now_ns: int) -> bool:
        """Return whether windows up to `until` were judged by a clock that was ahead.

        A monitor that is alive may just be faster: its windows are believed for some time.
        """
        done = self._pipeline.done
        window = self._pipeline.window_ns
        if done is None or done - until <= window:
            return False
        if self._last_now is not None and now_ns < self._last_now - window:
            return True
        patience = max(int(self.sensitivity.resolve_after_s * 1e9), 10 * window)
        return self._shared.is_gone(self._judged_by) or done - until > patience

    def _go_back(self, until: int, now_ns: int) -> None:
        """Go on from `until`; what was judged ahead of it is not learned a second time."""
        done = self._pipeline.done or until
        self._spans.leave_out_judged(done, until)
        self._pipeline.go_back(until)
        change = ClockChange(*map(to_timestamp, (now_ns, done, until)))
        self.clock_changes = [*self.clock_changes, change][-_MOST_CLOCK_CHANGES:]
        _log.warning(
            "the clock went back to %s after windows up to %s were judged: detection goes on from "
            "there, without the spans that were judged before",
            *change[:2],
        )

    def _believed(self, frame: pd.DataFrame, until: int) -> int:
        """Return up to where to judge: not so far that `now` alone moves what spans have not."""
        latest = self._pipeline.settled_at(self._spans.find_newest(frame, until))
        return min(until, max(latest, self._pipeline.done or 0))

    def _explain(self, incident: Incident, history: History) -> None:
        """Find the cause of an incident, unless it was looked at as of the same moment before."""
        changes = self.changes()
        as_of = *self._pipeline.diagnosis.bounds(incident), len(changes)
        if self._explained.get(incident.id) != as_of:
            verdict = self._pipeline.verdict(incident, history, changes)
            # else what was known of the cause stays
            if not self._user_code.is_left_out(self._pipeline.diagnosis.rule_name):
                incident.verdict = verdict
                self._explained[incident.id] = as_of

    def note(self, change: Change) -> None:
        """Take down what was changed on purpose; twice the same counts once.

        Verdicts of later steps tell which changes came before. Raises ValueError as `check_change`.
        """
        change = check_change(change)
        row = [unix_ns(change.time), change.service, change.what]
        self.store.save("change", {json.dumps(row): row})

    def changes(self) -> list[Change]:
        """Return all changes that were noted, by any process, in the order of their times."""
        rows = self.store.load("change").values()
        return sorted(Change(to_timestamp(ns), *about) for ns, *about in rows)

    @property
    def failed_functions(self) -> dict[str, dict[str, Any]]:
        """The detectors and the rule of a user that have failed since this monitor began, by name:
        ``steps`` (in how many steps) and ``error`` (the last one).
        """
        with self._lock:
            return {name: dict(about) for name, about in self._user_code.failed.items()}

    @property
    def unwritten(self) -> str:
        """Why the figures that were asked for last lack what was recorded shortly before: the disk
        did not take it. "" where they are whole.
        """
        return self._unwritten.problem

    @property
    def passed_over(self) -> int:
        """Spans in the store that no window takes in: they ended before 1990 or more than a day
        after the last step, lasted longer than 30 days, or have a kind or status that there is not.
        """
        return self._spans.passed_over

    @property
    def judged_until(self) -> pd.Timestamp | None:
        """The end of the last window that was judged, None before the first."""
        with self._lock:
            done = self._pipeline.done
        return None if done is None else to_timestamp(done)

    def incidents(self, status: str | None = None) -> list[Incident]:
        """Return the incidents in the order of their detection, all or those with one status."""
        with self._lock:
            self._refresh()
            return of_status(self._pipeline.incidents, status)

    def incident(self, incident_id: str) -> Incident:
        """Return one incident; KeyError if there is none with that id."""
        with self._lock:
            self._refresh()
            return self._pipeline.manager.find(incident_id)

    def acknowledge(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Say that somebody is at work on it. Raises KeyError, and IllegalMoveError if it is not
        active.
        """
        return self._move(incident_id, ACKNOWLEDGED, now)

    def resolve(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Say that it is over. Raises KeyError, and IllegalMoveError if it is resolved already."""
        return self._move(incident_id, RESOLVED, now)

    def accept(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Resolve an incident whose level is meant: what is abnormal there is the new normal.

        From the next step on, its endpoints are compared with what was seen since they became
        abnormal, as after ``relearn_after_s``; those that are as before by then stay as they are. A
        replay of the same spans knows nothing of it. Raises as `resolve`.
        """
        waiting = accepted(incident_id, self.incident(incident_id).keys)

        def move(moment: pd.Timestamp) -> Incident:
            manager = self._pipeline.manager
            return manager.move(incident_id, RESOLVED, moment, accepted=True)

        return self._by_hand(move, now, waiting)

    def undo_accept(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Take back what `accept` did: the incident is open again, and from the next step on its
        endpoints are compared with what was usual before.

        That can be done for ``correlation_s``. Raises KeyError, and IllegalMoveError if it was not
        accepted, or earlier.
        """

        def move(moment: pd.Timestamp) -> Incident:
            return self._pipeline.manager.undo_accept(incident_id, moment)

        return self._by_hand(move, now, taken_back(incident_id))

    def may_undo(self, incident: Incident, now: pd.Timestamp) -> bool:
        """Return whether `undo_accept` would do it."""
        return self._pipeline.manager.may_undo(incident, to_utc(now))

    def _move(self, incident_id: str, status: str, now: pd.Timestamp) -> Incident:
        def move(moment: pd.Timestamp) -> Incident:
            return self._pipeline.manager.move(incident_id, status, moment)

        return self._by_hand(move, now)

    def _by_hand(
        self, move: _Move, now: pd.Timestamp, others: RecordsByKind | None = None
    ) -> Incident:
        """Move an incident, and store it with other records; again, where others changed some.

        Where the disk takes nothing, the incident is as before.
        """
        moment = to_utc(now)
        while True:
            wait_for_disk(self.store)  # without the lock: who only reads does not wait
            with self._lock:
                self._refresh()
                incident = move(moment)
                try:
                    if self._shared.move(incident.to_record(), others):
                        return incident
                except OSError:
                    self._load()
                    raise
                self._load()

    def metrics(self, now: pd.Timestamp) -> dict[str, dict[str, Any]]:
        """Return count, latency, errors and health of each endpoint over the last five minutes, by
        name. The status of the health agrees with the open incidents: see `health.status_now`. The
        ``forecast`` is None where the latency does not rise: see `health.latency_forecast`.
        """
        found = self.metrics_by_key(now)
        names = display_names(found)
        metrics = {
            names[key]: shown | _told("method", self.method_of(key)) for key, shown in found.items()
        }
        return dict(sorted(metrics.items()))

    def metrics_by_key(self, now: pd.Timestamp) -> dict[Key, dict[str, Any]]:
        """Return the same by (service, endpoint), without the method."""
        self._unwritten.write()
        with self._lock:
            recent = self._recent
            moment = to_utc(now)
            served = recent.served(now)
            seen = last_anomalies(self.incidents())
            found = recent.metrics(served, seen, moment)
            self._forecasts = moment, {key: row["forecast"] for key, row in found.items()}
            return found

    def forecasts(self, incident: Incident, now: pd.Timestamp) -> dict[str, dict[str, Any]]:
        """Return when the endpoints of an incident will be slow, if their latency rises steadily,
        by name; as of at most ten seconds ago. See `health.latency_forecast`.
        """
        age = to_utc(now) - self._forecasts[0]
        if abs(age.total_seconds()) >= FORECAST_EVERY_S:
            self.metrics_by_key(now)
        names = display_names(latest := self._forecasts[1])
        mine = incident.keys & latest.keys()
        return {names[key]: found for key in sorted(mine) if (found := latest[key])}

    def timeline(self, now: pd.Timestamp, every_s: float = 10.0) -> dict[str, pd.DataFrame]:
        """Return what each endpoint answered over the last five minutes, by name: a row an interval
        of `every_s` seconds in which it answered, indexed by the interval's start (UTC), with the
        columns requests, mean_ms and failed (a share, 0 to 1).
        """
        self._unwritten.write()
        with self._lock:
            return self._recent.timeline(now, every_s)

    def method_of(self, key: Key) -> str | None:
        """Return the method of an endpoint (service, name), None where it is not known.

        The name of a route's first method is the route alone.
        """
        return split_method(key[1])[0] or self._pipeline.methods.get(key)

    def graph(self, now: pd.Timestamp) -> pd.DataFrame:
        """Return the service graph of the last five minutes."""
        self._unwritten.write()
        with self._lock:
            return self._recent.graph(now)

    # ---- what the store keeps

    def _save(self, touched: list[Incident]) -> bool:
        """Store what changed; if it was not this monitor's turn any more, read what the store says
        and return False.
        """
        p = self._pipeline
        state = {
            "done": p.done,
            "system": p.system.tolist(),
            "serial": self._serial + 1,
            "by": self._shared.identity,
            "clock_changes": [[*map(unix_ns, change)] for change in self.clock_changes],
            **self._spans.to_record(p.done),
        }
        monitor: dict[str, object] = {"state": state}
        known = learned_to_record(p)
        if known != self._known:
            monitor["known"] = known
        every = p.manager.merged
        merged: dict[str, object] = {a: b for a, b in every.items() if a not in self._merged}
        baseline: dict[str, object] = {"rows": to_rows(p.state)}
        records = {"baseline": baseline, "merged": merged, "monitor": monitor}
        records |= self._levels.records()
        incidents = {incident.id: incident.to_record() for incident in touched}
        moved = self._shared.save(incidents, records)
        if moved is None:
            self._load()
            return False
        self._serial += 1
        self._levels.forget()
        self._judged_by = self._shared.identity
        self._known = known
        self._merged = dict(every)
        for incident_id, what_was_done in moved.items():
            if incident_id in p.manager.incidents:  # else it was merged meanwhile
                p.manager.find(incident_id).take_life_cycle(what_was_done)
        return True

    def _refresh(self) -> list[Incident]:
        """Read what other monitors have changed; return the incidents among that."""
        if self.store.closed:
            return []
        state = self.store.record("monitor", "state")
        if state is not None and state.get("serial", 0) != self._serial:
            before = {i.id: i.to_record() for i in self._pipeline.incidents}
            self._load()
            every = self._pipeline.incidents
            return [i for i in every if before.get(i.id) != i.to_record()]
        news = self._shared.news()
        if news is None:
            self._load()
            return []
        manager = self._pipeline.manager
        for incident_id in news:
            record = self.store.record("incident", incident_id)
            manager.incidents[incident_id] = Incident.from_record(record)
        return [manager.incidents[incident_id] for incident_id in news]

    def _load(self) -> None:
        """Take everything from the store."""
        self._pipeline = p = self._new_pipeline()
        self._explained = {}
        self._levels.forget()
        self._shared.news()
        stored = self.store.load("monitor")
        state = stored.get("state") or {}
        known = stored.get("known") or {name: state.get(name, []) for name in LEARNED_TABLES}
        self._known = known
        self._merged = state.get("merged", {}) | self.store.load("merged")
        self._serial = state.get("serial", 0)
        self._judged_by = state.get("by", self._shared.identity)
        self._spans = WatchedSpans(self.store, state)
        self._recent = RecentTraffic(self._spans, p)
        changes = state.get("clock_changes", [])
        self.clock_changes = [ClockChange(*map(to_timestamp, change)) for change in changes]
        p.manager.merged |= self._merged
        records = self.store.load("incident")
        p.restore(Incident.from_record(r) for i, r in records.items() if i not in p.manager.merged)
        if not state:
            return
        if state["done"] is not None:
            p.done = floor_to(state["done"], p.window_ns)
        p.system = np.array(state["system"])
        take_learned(p, known)
        rows = self.store.load("baseline")["rows"]
        p.state = from_rows(rows, self.sensitivity.hours * len(p.keys))


def _told(name: str, value: object) -> dict[str, Any]:
    return {} if value is None else {name: value}
