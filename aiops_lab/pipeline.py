"""What is known as time passes? Baselines, known calls, incidents and their verdicts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError, check_instance
from aiops_lab.detect import baselines as b
from aiops_lab.detect.detector_calls import DetectorCalls
from aiops_lab.detect.detectors import AnyDetector
from aiops_lab.detect.evidence import Evidence
from aiops_lab.detect.grouping import Calls, IncidentManager
from aiops_lab.detect.incidents import Incident
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.scoring import judge
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.shifts import accept_levels
from aiops_lab.detect.windows import (
    Grid,
    check_walked,
)
from aiops_lab.diagnosis import Diagnosis, History, Rule
from aiops_lab.endpoints import display_names
from aiops_lab.explain.changes import OFFER, Change, change_behind, changes_before
from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.results import Anomaly, Verdict
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, EncodedSpans, encode
from aiops_lab.user_code import UserCode

_MOST_WINDOWS = 10_000  # that are judged in one piece
_FEW_WINDOWS = 100  # up to which skipping does not pay
_FIRST_MORE = 128  # windows of a gap that are walked, at first, where an endpoint is abnormal


class Report(NamedTuple):
    """What a replay found: ``windows`` (a row a judged window and endpoint), ``anomalies``,
    ``incidents``.
    """

    windows: pd.DataFrame
    anomalies: list[Anomaly]
    incidents: list[Incident]


class Pipeline:
    """Everything that moves with time: baselines, known calls, open incidents. Pure: no clock, no
    files.
    """

    def __init__(
        self,
        sensitivity: Sensitivity,
        detectors: Sequence[AnyDetector],
        rule: Rule | None = None,
        config: RcaConfig | None = None,
        *,
        user_code: UserCode | None = None,
    ) -> None:
        self._user_code = UserCode() if user_code is None else user_code
        check_instance("sensitivity", sensitivity, Sensitivity)
        check_instance("config", config, RcaConfig)
        self._detectors = DetectorCalls(detectors, self._user_code)
        if rule is not None and not callable(rule):
            raise FieldError("rule", "must be a function", rule)
        self.sensitivity = sensitivity
        self.keys: dict[Key, int] = {}
        self.methods: dict[Key, str] = {}  # as in `EncodedSpans`
        self.addresses: dict[tuple[str, str], str] = {}  # as there
        self.seen: dict[Key, int] = {}  # Unix ns of the first request
        self.state = b.fresh(0)
        # windows with traffic, requests a window, of all endpoints together
        self.system = np.zeros(2)
        self.edges: dict[tuple[Key, Key], int] = {}  # (caller, called): Unix ns of the first call
        self.done: int | None = None  # Unix ns up to which windows have been judged
        # of each unresolved incident: what its causes depend on, and they
        self.known_causes: dict[str, tuple[Hashable, list[Key]]] = {}
        self.manager = IncidentManager(sensitivity)
        self.diagnosis = Diagnosis(
            sensitivity,
            self.manager.incidents,
            rule,
            config,
            edges=self.edges,
            user_code=self._user_code,
        )

    def restore(self, incidents: Iterable[Incident]) -> None:
        """Take incidents that are known already in place of those so far."""
        self.manager.incidents.clear()
        self.manager.incidents |= {incident.id: incident for incident in incidents}

    def encode(self, frame: pd.DataFrame, keys: Iterable[Key] = ()) -> EncodedSpans:
        """Return spans as integers, with the names that are known, and codes for some endpoints."""
        return encode(frame, list(keys), self.methods, self.addresses)

    @property
    def window_ns(self) -> int:
        return int(self.sensitivity.window_s * 1e9)

    @property
    def _stuck_ns(self) -> int:
        return int(self.sensitivity.timeout_s * 1e9)

    @property
    def _lost_ns(self) -> int:
        return int(self.sensitivity.resolve_after_s * 1e9)

    @property
    def needed_since(self) -> pd.Timestamp | None:
        """From when on the next `advance` needs the spans: small windows that still wait for
        company reach back.
        """
        if self.done is None:
            return None
        waits_s = self.state["pool_s"].max(initial=0.0)
        pooled_s = min(waits_s, self.sensitivity.correlation_s)
        return to_timestamp(self.done - int(pooled_s * 1e9))

    def settled_at(self, newest_ns: int) -> int:
        """Return the end of the window by which all is relearned and has resolved, if no span comes
        after a moment (Unix ns).
        """
        s = self.sensitivity
        settled_s = 2 * s.resolve_after_s + s.relearn_after_s
        last = floor_to(newest_ns + int(settled_s * 1e9), self.window_ns)
        return last + 2 * self.window_ns

    def go_back(self, until_ns: int) -> None:
        """Judge from `until_ns` on, as the clock went back to that time.

        Incidents whose anomalies lie ahead of it resolve with the next window.
        """
        self.done = until_ns
        since = self.state["abnormal_since"]
        self.state["abnormal_since"] = np.minimum(since, until_ns / 1e9)

    def accept_levels(self, keys: Iterable[Key]) -> None:
        """Take what is abnormal at some endpoints now as normal; all else stays as it is."""
        hours = self.sensitivity.hours
        known = [self.keys[key] for key in keys if key in self.keys]
        codes = np.array(known, dtype=np.int64)
        rows = codes[:, np.newaxis] * hours + np.arange(hours)
        accept_levels(self.state, rows.ravel())

    def usual_ms(self, key: Key, hour: int) -> float | None:
        """Return the usual latency of an endpoint (geometric mean), None while it is learned."""
        code = self.keys.get(key)
        if code is None:
            return None
        hours = self.sensitivity.hours
        row = self.state[code * hours + hour % hours]
        if row["count"] < self.sensitivity.min_count:
            return None
        return float(np.exp(row["mean"]))

    @property
    def incidents(self) -> list[Incident]:
        """All incidents in the order of their detection."""
        by_number = sorted(self.manager.incidents.values(), key=_number)
        return sorted(by_number, key=attrgetter("first_detected"))

    def replay(
        self, recording: Recording, until_ns: int | None = None, *, causes: bool = False
    ) -> Report:
        """Judge a whole recording: to the window in which it ended, or all windows up to
        `until_ns`. `causes` says whether causes decide what belongs together; there are no verdicts
        yet.
        """
        if until_ns is None:
            until_ns = recording.last_ns + self.window_ns
        history = (lambda since, until, keys: recording.spans) if causes else None
        until_ns = floor_to(until_ns, self.window_ns)
        windows, found, _ = self.advance(recording, until_ns, history)
        return Report(windows, found, self.incidents)

    def advance(
        self, recording: Recording, until_ns: int, history: History | None = None
    ) -> tuple[pd.DataFrame, list[Anomaly], list[Incident]]:
        """Judge the windows up to `until_ns`; return them, their anomalies, and the incidents that
        changed.

        The recording must hold all spans since `needed_since`. Until the first call, its keys may
        be of any pipeline. With the `history`, causes decide what belongs together; else links
        alone do.
        """
        self._user_code.begin_step()
        self.diagnosis.forget()
        since = self._begin(recording, until_ns)
        until = self.done = max(until_ns, since)
        windows, baselines = self._judge(recording, since, until)
        found: list[Anomaly] = []
        by_detector = self._detectors.anomalies(windows, baselines, self.sensitivity)
        if by_detector:
            self.learn_calls(recording)
            shown = recording.around(
                [anomaly for _, anomaly in by_detector], self._longest_ns(windows)
            )
            evidence = Evidence(shown, windows, self._detectors, self.sensitivity, self.names_at)
            found = evidence.attach_all(by_detector)
        return windows, found, self._group(found, until, history)

    def _longest_ns(self, windows: pd.DataFrame) -> int:
        """Return how long before its end the requests of an anomaly lie, at most."""
        s = self.sensitivity
        pooled_s = min(float(windows["seconds"].max()), s.correlation_s)
        return int(max(pooled_s, s.window_s) * 1e9)

    def _begin(self, recording: Recording, until_ns: int) -> int:
        """Take in which endpoints there are; return from when on to judge (Unix ns)."""
        self.keys = recording.keys
        self.methods = recording.methods
        self.addresses = recording.addresses
        first = recording.first_requests()
        for key, ns in zip(self.keys, first.tolist(), strict=True):
            self.seen[key] = min(self.seen.get(key, NEVER), ns)
        new = len(self.keys) * self.sensitivity.hours - len(self.state)
        self.state = np.concatenate([self.state, b.fresh(new)])
        if self.done is not None:
            return self.done
        earliest = int(first.min(initial=until_ns))
        return floor_to(earliest, self.window_ns)

    def _judge(self, recording: Recording, since: int, until: int) -> list[pd.DataFrame]:
        """Judge the windows in pieces, so that the grid after a month of traffic does not fill the
        memory, and without those in gaps that change nothing.
        """
        grid = Grid(since, max(until, since), self.window_ns)
        todo = self._to_walk(recording, grid)
        more = _FIRST_MORE
        judged: list[tuple[pd.DataFrame, pd.DataFrame]] = []
        walked = 0
        while todo.size or not judged:
            piece, rest = np.split(todo, [_MOST_WINDOWS])
            until = grid.until_ns
            if rest.size:
                until = grid.since_ns + int(rest[0]) * grid.window_ns
            state, system = self.state.copy(), self.system.copy()
            frames = self._judge_piece(recording, grid._replace(until_ns=until), piece)
            with_next = todo[: piece.size + 1]
            wrong = self._wrongly_skipped(frames[0], grid, with_next)
            if wrong.size:
                self.state, self.system = state, system
                todo = _with_more(todo, wrong, more, grid.windows)
                check_walked(walked + todo.size, recording.number, grid)
                more = min(2 * more, _MOST_WINDOWS)
                continue
            judged.append(frames)
            walked += piece.size
            todo = rest
        if len(judged) == 1:
            return [*judged[0]]
        return [pd.concat(frames, ignore_index=True) for frames in zip(*judged, strict=True)]

    def _to_walk(self, recording: Recording, grid: Grid) -> NDArray:
        """Return the numbers of the windows that something happens in, and of those around them."""
        if grid.windows <= _FEW_WINDOWS:
            return np.arange(grid.windows)
        return recording.windows_to_walk(
            grid, stuck_ns=self._stuck_ns, lost_ns=self._lost_ns, hours=self.sensitivity.hours
        )

    def _judge_piece(
        self, recording: Recording, grid: Grid, walked: NDArray
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        counts = recording.count(grid, walked, stuck_ns=self._stuck_ns, lost_ns=self._lost_ns)
        return judge(
            counts,
            list(self.keys),
            self.state,
            self.system,
            self.sensitivity,
            decide=self._detectors.decide,
            jumps=self._detectors.jumps,
        )

    def _wrongly_skipped(self, windows: pd.DataFrame, grid: Grid, walked: NDArray) -> NDArray:
        """Return after which of the walked windows others must be walked, too.

        They are those with a gap behind them in which an endpoint is still held to be abnormal:
        its silence lasts, until it has been relearned.
        """
        has_gap = np.diff(walked, append=grid.windows) > 1
        if not has_gap.any():
            return walked[has_gap]
        columns = [detector.column for detector in self._detectors.holding]
        is_abnormal = windows[columns].any(axis=1)
        abnormal = windows.loc[is_abnormal, "window"]
        starts = pd.DatetimeIndex(abnormal).as_unit("ns").asi8
        return np.intersect1d(walked[has_gap], grid.number(starts))

    def names_at(self, moment_ns: int) -> dict[Key, str]:
        """Return how the endpoints are shown that were known at a moment (Unix ns).

        A later namesake must not rename them.
        """
        return display_names([key for key, first in self.seen.items() if first < moment_ns])

    def learn_calls(self, recording: Recording) -> None:
        """Learn who calls whom, and since when."""
        for edge, first in recording.calls.items():
            self.edges[edge] = min(self.edges.get(edge, NEVER), first)

    def _group(
        self, found: list[Anomaly], until_ns: int, history: History | None
    ) -> list[Incident]:
        changed: list[Incident] = []
        causes = None if history is None else _Causes(self, history)
        # of one place and window: as the detectors stand
        in_order = sorted(found, key=attrgetter("end", "service", "endpoint"))
        for end, group in groupby(in_order, key=attrgetter("end")):
            calls = self._calls_before(unix_ns(end))
            changed += self.manager.window(end, list(group), calls, causes)
        changed += self.manager.tick(to_timestamp(until_ns))
        incidents = self.manager.incidents
        unresolved = {i.id for i in incidents.values() if i.resolved_at is None}
        self.known_causes = {k: v for k, v in self.known_causes.items() if k in unresolved}
        by_id = {i.id: i for i in changed if i.id in incidents}
        return list(by_id.values())

    def _calls_before(self, now: int) -> Calls:
        return lambda caller, called: self.edges.get((caller, called), NEVER) < now

    def verdict(
        self, incident: Incident, history: History, changes: Sequence[Change] = ()
    ) -> Verdict:
        """Return the verdict on an incident as of its last anomaly; with what was changed before,
        if any change came before.
        """
        names = self.names_at(unix_ns(incident.last_anomaly))
        verdict = self.diagnosis.verdict(incident, history, names)
        first_seen = self._first_seen(incident)
        # later ones are not known yet while it goes on, and a replay must say the same
        past = [change for change in changes if change.time <= first_seen]
        if verdict.cause is None or not past:
            return verdict
        observed_since = to_timestamp(min(self.seen.values()))
        step = changes_before(past, verdict.cause.service, first_seen, observed_since)
        told = replace(verdict, changes=(step,))
        if change_behind(replace(incident, verdict=told)) is None:
            return told
        offer = replace(step, text=step.text + OFFER)
        return replace(told, changes=(offer,), is_offered=True)

    def _first_seen(self, incident: Incident) -> pd.Timestamp:
        """Return the end of the first window with an anomaly, of its present episode.

        When a lasting shift began is an estimate, and it may lie before the true beginning. So what
        was changed until the shift was first reported may have caused it.
        """
        if not incident.earlier:
            return incident.first_detected
        return to_timestamp(unix_ns(incident.started) + self.window_ns)


class _Causes:
    """What is known of causes as of the window that is taken in, each computed once."""

    def __init__(self, pipeline: Pipeline, history: History) -> None:
        self._diagnosis = pipeline.diagnosis
        self._names_at = pipeline.names_at
        self._known = pipeline.known_causes
        self._history = history
        self._origins: dict[frozenset[tuple[Key, pd.Timestamp, pd.Timestamp]], list[Key]] = {}

    def causes(self, incident: Incident) -> list[Key]:
        """Return the suspects of an incident, best first."""
        state = self._diagnosis.state_of(incident)
        known = self._known.get(incident.id)
        if known is None or known[0] != state:
            names = self._names_at(unix_ns(incident.last_anomaly))
            known = state, self._diagnosis.causes(incident, self._history, names)
            self._known[incident.id] = known
        return known[1]

    def origins(self, anomalies: list[Anomaly]) -> list[Key]:
        """Return where the excess of some anomalies originates, best first."""
        where = frozenset((a.key, a.began, a.end) for a in anomalies)
        if where not in self._origins:
            self._origins[where] = self._diagnosis.origins(anomalies, self._history)
        return self._origins[where]


def _number(incident: Incident) -> int:
    """Return the number at the end of an incident's id."""
    _, _, number = incident.id.rpartition("-")
    return int(number)


def floor_to(ns: int, step: int) -> int:
    """Return the last multiple of `step` that is not above `ns`."""
    return ns // step * step


def _with_more(walked: NDArray, after: NDArray, more: int, windows: int) -> NDArray:
    """Return the windows that are walked, with `more` others after some of them."""
    steps = np.arange(1, more + 1)
    others = (after[:, None] + steps).ravel()
    return np.union1d(walked, others[others < windows])
