"""What is known as time passes? Baselines, known calls, incidents and their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.checks import FieldError, check_instance
from aiops_lab.detect import baselines as b
from aiops_lab.detect.detectors import DETECTORS, AnyDetector, Detector
from aiops_lab.detect.detectors.detector import WindowRequests
from aiops_lab.detect.grouping import Calls, IncidentManager
from aiops_lab.detect.incidents import Incident
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.scoring import Columns, judge
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.shifts import accept_levels
from aiops_lab.detect.windows import (
    Grid,
    check_walked,
    count_windows,
    windows_to_walk,
)
from aiops_lab.diagnosis import Diagnosis, History, Rule
from aiops_lab.endpoints import display_names
from aiops_lab.explain.changes import OFFER, Change, change_behind, changes_before
from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.results import Anomaly, Verdict
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER
from aiops_lab.user_code import UserCode, check_list, name_function

_MOST_TRACES, _MOST_MESSAGES = 50, 3  # that an anomaly carries

_MOST_IN_A_TRACE = 3  # requests of one anomaly, unless a client sends many under one trace

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
        self._detectors = _functions(detectors)
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
        self.manager = IncidentManager(sensitivity)
        self.diagnosis = Diagnosis(
            sensitivity, self.manager.incidents, rule, config, user_code=self._user_code
        )
        own = [detector for detector in self._detectors if isinstance(detector, Detector)]
        self._holding = tuple({d.name: d for d in (*DETECTORS, *own)}.values())
        self._own = _own_names(self._detectors)
        self._jumps = [d.column for d in self._holding if d.halts_shift_test]

    def _decide(
        self, windows: Columns, baselines: Columns, s: Sensitivity
    ) -> dict[str, np.ndarray]:
        """Return what each detector that holds learning still decides, by its column."""
        return {d.column: self._decided(d, windows, baselines, s) for d in self._holding}

    def _decided(
        self, detector: Detector, windows: Columns, baselines: Columns, s: Sensitivity
    ) -> np.ndarray:
        name = self._own.get(id(detector))
        if name is None:
            return detector.decide(windows, baselines, s)
        nowhere = np.zeros(np.shape(windows["arrivals"]), dtype=bool)

        def work() -> np.ndarray:
            decided = detector.decide(windows, baselines, s)
            if np.shape(decided) != nowhere.shape:
                raise ValueError(f"decide must return a bool a window, got {decided!r}")
            return decided

        return self._user_code.call(name, nowhere, work)

    def _anomalies(
        self, detector: AnyDetector, windows: pd.DataFrame, baselines: pd.DataFrame
    ) -> list[Anomaly]:
        """Return what a detector finds."""
        name = self._own.get(id(detector))
        if name is None:
            return detector(windows, baselines, self.sensitivity)

        def work() -> list[Anomaly]:
            found = detector(windows, baselines, self.sensitivity)
            return check_list(found, Anomaly)

        return self._user_code.call(name, [], work)

    def shows(
        self, detector: Detector, requests: WindowRequests, evidence: dict[str, Any]
    ) -> np.ndarray:
        """Return a mask of the requests that show an anomaly of a detector."""
        every = np.ones(requests.failed.size, dtype=bool)
        name = self._own.get(id(detector), detector.name)
        shows = partial(detector.shows, requests, evidence, self.sensitivity)
        return self._user_code.call(name, every, shows)

    def restore(self, incidents: Iterable[Incident]) -> None:
        """Take incidents that are known already in place of those so far."""
        self.manager.incidents.clear()
        self.manager.incidents |= {incident.id: incident for incident in incidents}

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
        codes = np.array([self.keys[key] for key in keys if key in self.keys], dtype=np.int64)
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
            until_ns = recording.spans.last_ns + self.window_ns
        history = (lambda since, until: recording.spans) if causes else None
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
        since = self._begin(recording, until_ns)
        until = self.done = max(until_ns, since)
        windows, baselines = self._judge(recording, since, until)
        by_detector = [
            (d, a) for d in self._detectors for a in self._anomalies(d, windows, baselines)
        ]
        found = [a for _, a in by_detector]
        if found:
            self.learn_calls(recording)
            evidence = _Evidence(recording, windows, self)
            found = evidence.attach_all(by_detector)
        return windows, found, self._group(found, until, history)

    def _begin(self, recording: Recording, until_ns: int) -> int:
        """Take in which endpoints there are; return from when on to judge (Unix ns)."""
        requests = recording.requests
        self.keys = recording.keys
        self.methods = recording.spans.methods
        self.addresses = recording.spans.addresses
        first = np.full(len(self.keys), NEVER)
        np.minimum.at(first, requests.node, requests.start)
        for key, ns in zip(self.keys, first.tolist(), strict=True):
            self.seen[key] = min(self.seen.get(key, NEVER), ns)
        new = len(self.keys) * self.sensitivity.hours - len(self.state)
        self.state = np.concatenate([self.state, b.fresh(new)])
        if self.done is not None:
            return self.done
        earliest = int(requests.start.min(initial=until_ns))
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
            piece, rest = todo[:_MOST_WINDOWS], todo[_MOST_WINDOWS:]
            until = grid.since_ns + int(rest[0]) * grid.window_ns if rest.size else grid.until_ns
            begin = self.state.copy(), self.system.copy()
            frames = self._judge_piece(recording, grid._replace(until_ns=until), piece)
            wrong = self._wrongly_skipped(frames[0], grid, todo[: piece.size + 1])
            if wrong.size:
                self.state, self.system = begin
                todo = _with_more(todo, wrong, more, grid.windows)
                check_walked(walked + todo.size, recording.requests.row.size, grid)
                more = min(2 * more, _MOST_WINDOWS)
                continue
            judged.append(frames)
            walked += piece.size
            todo = rest
        return [pd.concat(frames, ignore_index=True) for frames in zip(*judged, strict=True)]

    def _to_walk(self, recording: Recording, grid: Grid) -> NDArray:
        """Return the numbers of the windows that something happens in, and of those around them."""
        if grid.windows <= _FEW_WINDOWS:
            return np.arange(grid.windows)
        return windows_to_walk(
            recording.requests,
            recording.given_up,
            grid,
            stuck_ns=self._stuck_ns,
            lost_ns=self._lost_ns,
            hours=self.sensitivity.hours,
        )

    def _judge_piece(
        self, recording: Recording, grid: Grid, walked: NDArray
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        counts = count_windows(
            recording.requests,
            recording.given_up,
            len(self.keys),
            grid,
            stuck_ns=self._stuck_ns,
            lost_ns=self._lost_ns,
            walked=walked,
        )
        return judge(
            counts,
            list(self.keys),
            self.state,
            self.system,
            self.sensitivity,
            decide=self._decide,
            jumps=self._jumps,
        )

    def _wrongly_skipped(self, windows: pd.DataFrame, grid: Grid, walked: NDArray) -> NDArray:
        """Return after which of the walked windows others must be walked, too.

        They are those with a gap behind them in which an endpoint is still held to be abnormal:
        its silence lasts, until it has been relearned.
        """
        before_gap = walked[np.diff(walked, append=grid.windows) > 1]
        columns = [detector.column for detector in self._holding]
        abnormal = windows.loc[windows[columns].any(axis=1), "window"]
        starts = pd.DatetimeIndex(abnormal).as_unit("ns").asi8
        return np.intersect1d(before_gap, grid.number(starts))

    def names_at(self, moment_ns: int) -> dict[Key, str]:
        """Return how the endpoints are shown that were known at a moment (Unix ns).

        A later namesake must not rename them.
        """
        return display_names([key for key, first in self.seen.items() if first < moment_ns])

    def learn_calls(self, recording: Recording) -> None:
        """Learn who calls whom, and since when."""
        for edge, first in recording.calls.items():
            # else it never answered: it has no baseline, so it can have no anomaly
            if edge[1] in self.keys:
                self.edges[edge] = min(self.edges.get(edge, NEVER), first)

    def _group(
        self, found: list[Anomaly], until_ns: int, history: History | None
    ) -> list[Incident]:
        changed: list[Incident] = []
        causes = None if history is None else _Causes(self.diagnosis, history)
        # of one place and window: as the detectors stand
        in_order = sorted(found, key=attrgetter("end", "service", "endpoint"))
        for end, group in groupby(in_order, key=attrgetter("end")):
            calls = self._calls_before(unix_ns(end))
            changed += self.manager.window(end, list(group), calls, causes)
        changed += self.manager.tick(to_timestamp(until_ns))
        by_id = {i.id: i for i in changed if i.id in self.manager.incidents}
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
        return replace(told, changes=(replace(step, text=step.text + OFFER),))

    def _first_seen(self, incident: Incident) -> pd.Timestamp:
        """Return the end of the first window with an anomaly, of its present episode.

        When a lasting shift began is an estimate, and it may lie before the true beginning. So what
        was changed until the shift was first reported may have caused it.
        """
        if not incident.earlier:
            return incident.first_detected
        return to_timestamp(unix_ns(incident.started) + self.window_ns)


def _functions(detectors: Any) -> tuple[AnyDetector, ...]:
    """Return some detectors as a tuple, also of an iterator, which can be read once only."""
    rule = "must be functions or `Detector` values"
    if isinstance(detectors, str):
        raise FieldError("detectors", rule, detectors)
    try:
        functions = tuple(detectors)
    except TypeError:
        raise FieldError("detectors", rule, detectors) from None
    for number, detector in enumerate(functions):
        if not callable(detector):
            raise FieldError(f"detectors[{number}]", "must be a function", detector)
    return functions


def _own_names(detectors: Sequence[AnyDetector]) -> dict[int, str]:
    """Return how the detectors are named that are a user's own, by identity."""
    known = {id(detector) for detector in DETECTORS}
    return {
        id(detector): name_function(f"detectors[{number}]", detector)
        for number, detector in enumerate(detectors)
        if id(detector) not in known
    }


class _Causes:
    """What is known of causes as of the window that is taken in, each computed once."""

    def __init__(self, diagnosis: Diagnosis, history: History) -> None:
        self._diagnosis = diagnosis
        self._history = history
        self._known: dict[tuple[str, pd.Timestamp, int], list[Key]] = {}
        self._origins: dict[frozenset[tuple[Key, pd.Timestamp, pd.Timestamp]], list[Key]] = {}

    def causes(self, incident: Incident) -> list[Key]:
        """Return the suspects of an incident, best first."""
        state = incident.id, incident.last_anomaly, len(incident.anomalies)
        if state not in self._known:
            self._known[state] = self._diagnosis.causes(incident, self._history)
        return self._known[state]

    def origins(self, anomalies: list[Anomaly]) -> list[Key]:
        """Return where the excess of some anomalies originates, best first."""
        where = frozenset((a.key, a.began, a.end) for a in anomalies)
        if where not in self._origins:
            self._origins[where] = self._diagnosis.origins(anomalies, self._history)
        return self._origins[where]


def _number(incident: Incident) -> int:
    """Return the number at the end of an incident's id."""
    return int(incident.id.rpartition("-")[2])


def floor_to(ns: int, step: int) -> int:
    """Return the last multiple of `step` that is not above `ns`."""
    return ns // step * step


def _with_more(walked: NDArray, after: NDArray, more: int, windows: int) -> NDArray:
    """Return the windows that are walked, with `more` others after some of them."""
    others = (after[:, None] + np.arange(1, more + 1)).ravel()
    return np.union1d(walked, others[others < windows])


class _Evidence:
    """Finds, for each anomaly, the requests of its window that show it."""

    def __init__(self, recording: Recording, windows: pd.DataFrame, pipeline: Pipeline) -> None:
        self._recording = recording
        self._frame = recording.spans.source.frame
        self._sensitivity = pipeline.sensitivity
        self._asked = pipeline.shows
        self._names_at = cache(pipeline.names_at)
        self._ends = recording.requests.end[recording.by_end]
        # Of pooled windows only: all others are as long as the knob says.
        pooled = windows[windows["seconds"] != pipeline.sensitivity.window_s]
        by_place = pooled.set_index(["window", "service", "endpoint"])
        self._seconds = by_place["seconds"].to_dict()

    def attach_all(self, by_detector: list[tuple[AnyDetector, Anomaly]]) -> list[Anomaly]:
        """Return the anomalies with their names, their traces and, for failures, some messages."""
        ends = pd.DatetimeIndex([a.end for _, a in by_detector])
        ends_ns = ends.as_unit("ns").asi8.tolist()
        pairs = zip(by_detector, ends_ns, strict=True)
        return [self._attach(detector, a, until) for (detector, a), until in pairs]

    def _attach(self, detector: AnyDetector, a: Anomaly, until: int) -> Anomaly:
        row = np.sort(self._recording.requests.row[self._shows(detector, a, until)])
        number = Counter(self._frame["trace_id"].iloc[row[:_MOST_TRACES]].tolist())
        traces = a.traces or tuple(number)
        crowded = tuple(sorted(x for x, n in number.items() if n > _MOST_IN_A_TRACE))
        evidence = a.evidence
        if isinstance(detector, Detector) and detector.with_messages:
            requests = self._frame[["status", "error"]].iloc[row]
            evidence = evidence | {"sample_errors": _messages(requests)}
        names = self._names_at(until)
        name = names.get((a.service, a.endpoint), a.endpoint)
        return replace(a, evidence=evidence, name=name, traces=traces, crowded=crowded)

    def _shows(self, detector: AnyDetector, a: Anomaly, until: int) -> np.ndarray:
        """Return the requests that show an anomaly; for a plain function, all of its window."""
        requests = self._recording.requests
        node = self._recording.keys.get((a.service, a.endpoint), -1)
        if not isinstance(detector, Detector):
            return self._ended(a, node, until)
        if detector.looks_at_open:
            mine = np.flatnonzero((requests.node == node) & (requests.end >= until))
        else:
            mine = self._ended(a, node, until)
        age_s = (until - requests.start[mine]) / 1e9
        seen = WindowRequests(requests.failed[mine], self._recording.log_ms[mine], age_s)
        return mine[self._asked(detector, seen, a.evidence)]

    def _ended(self, a: Anomaly, node: int, until: int) -> np.ndarray:
        """Return the requests of an endpoint that ended in the window of an anomaly."""
        s = self._sensitivity
        place = a.window, a.service, a.endpoint
        seconds = min(self._seconds.get(place, s.window_s), s.correlation_s)
        since = until - int(seconds * 1e9)
        low, high = np.searchsorted(self._ends, [since, until])
        mine = self._recording.by_end[low:high]
        return mine[self._recording.requests.node[mine] == node]


def _messages(requests: pd.DataFrame) -> list[str]:
    """Return the first different errors of some requests; "HTTP 503" where no text was recorded."""
    status = "HTTP " + requests["status"].astype(str)
    messages = requests["error"].astype(object).fillna(status)
    return list(messages.unique()[:_MOST_MESSAGES])
