"""What is known as time passes? Baselines, known calls, incidents and their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd

from aiops_lab.detect import baselines as b
from aiops_lab.detect.detectors import Detector, judge
from aiops_lab.detect.incidents import Calls, Incident, IncidentManager
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.windows import count_windows, given_up_of, requests_of
from aiops_lab.explain.ledger import compare
from aiops_lab.explain.ranking import rank_suspects
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.verdict import build_verdict
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.results import Anomaly, Suspect, Verdict
from aiops_lab.spans import Key
from aiops_lab.traces.encode import (
    NEVER,
    called_endpoints,
    display_names,
    end_ns,
    endpoint_codes,
    is_kind,
    last_ns,
    start_ns,
)
from aiops_lab.traces.graph import calls_of

Rule = Callable[[Reference, pd.DataFrame], list[Suspect]]

# spans of one request end at most so long before it does: the longest hang
_MARGIN_NS = 60_000_000_000

_MOST_TRACES, _MOST_MESSAGES = 50, 3  # that an anomaly carries

_MOST_WINDOWS = 10_000  # that are judged in one piece


class Report(NamedTuple):
    """What a replay found: ``windows`` (a row a judged window and endpoint), ``anomalies``,
    ``incidents``.
    """

    windows: pd.DataFrame
    anomalies: list[Anomaly]
    incidents: list[Incident]


class Recording:
    """A spans frame, prepared once: what it says at any sensitivity, so that many pipelines may
    advance over it.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    keys : dict
        Codes of the endpoints; grows by those that are new.
    """

    def __init__(self, frame: pd.DataFrame, keys: dict[Key, int]) -> None:
        self.frame, self.keys, self.requests = frame, keys, requests_of(frame, keys)
        self.given_up = given_up_of(frame, keys, called_endpoints(frame, keys))
        self.trace_id, self.error = (
            frame["trace_id"].to_numpy(dtype=object),
            frame["error"].to_numpy(dtype=object),
        )
        self.status = frame["status"].to_numpy()

    @cached_property
    def last_ns(self) -> int:
        """When it ended (Unix ns)."""
        return last_ns(self.frame)

    @cached_property
    def by_end(self) -> np.ndarray:
        """The requests in the order in which they ended."""
        return np.argsort(self.requests.end, kind="stable")

    @cached_property
    def calls(self) -> dict[tuple[Key, Key], int]:
        """Unix ns of the first call of each pair (caller, called)."""
        calls = calls_of(self.frame)
        keys, width = calls.keys, len(calls.keys)
        first = pd.Series(calls.start).groupby(calls.caller * width + calls.callee).min()
        pairs = zip(first.index.tolist(), first.tolist(), strict=True)
        return {(keys[pair // width], keys[pair % width]): ns for pair, ns in pairs}


class Pipeline:
    """Everything that moves with time: baselines, known calls, open incidents. Pure: no clock, no
    files.
    """

    def __init__(
        self, sensitivity: Sensitivity, detectors: Sequence[Detector], rule: Rule | None = None
    ) -> None:
        self.sensitivity = sensitivity
        self.keys: dict[Key, int] = {}
        self.seen: dict[Key, int] = {}  # Unix ns of the first request
        self.state = b.fresh(0)
        # windows with traffic, requests a window, of all endpoints together
        self.system = np.zeros(2)
        self.edges: dict[tuple[Key, Key], int] = {}  # (caller, called): Unix ns of the first call
        self.done: int | None = None  # Unix ns up to which windows have been judged
        self.manager = IncidentManager(sensitivity)
        self._detectors, self._rule = tuple(detectors), rule

    @property
    def window_ns(self) -> int:
        return int(self.sensitivity.window_s * 1e9)

    @property
    def needed_since(self) -> pd.Timestamp | None:
        """From when on the next `advance` needs the spans: small windows that still wait for
        company reach back.
        """
        if self.done is None:
            return None
        pooled_s = min(self.state[:, b.POOL_S].max(initial=0.0), self.sensitivity.correlation_s)
        return to_timestamp(self.done - int(pooled_s * 1e9))

    @property
    def incidents(self) -> list[Incident]:
        """All incidents in the order of their detection."""
        return sorted(
            self.manager.incidents.values(),
            key=lambda i: (i.first_detected, int(i.id.rsplit("-", 1)[1])),
        )

    def replay(self, recording: Recording, until_ns: int | None = None) -> Report:
        """Judge a whole recording, without causes: to the window in which it ended, or all windows
        up to `until_ns`.
        """
        until_ns = recording.last_ns + self.window_ns if until_ns is None else until_ns
        windows, found, _ = self.advance(recording, floor_to(until_ns, self.window_ns))
        return Report(windows, found, self.incidents)

    def advance(
        self, recording: Recording, until_ns: int
    ) -> tuple[pd.DataFrame, list[Anomaly], list[Incident]]:
        """Judge the windows up to `until_ns`; return them, their anomalies, and the incidents that
        changed.

        The recording must hold all spans since `needed_since`. Until the first call, its keys may
        be of any pipeline.
        """
        s, requests = self.sensitivity, recording.requests
        self.keys = recording.keys
        first = np.full(len(self.keys), NEVER)
        np.minimum.at(first, requests.code, requests.start)
        self.seen = {
            key: min(self.seen.get(key, NEVER), int(first[code])) for key, code in self.keys.items()
        }
        if self.done is None:
            self.done = floor_to(
                int(np.minimum(requests.end, requests.start).min(initial=until_ns)), self.window_ns
            )
        since, self.done = self.done, max(until_ns, self.done)
        self.state = np.vstack([self.state, b.fresh(len(self.keys) * s.hours - len(self.state))])
        windows, usual = self._judge(recording, since, self.done)
        found = [a for detector in self._detectors for a in detector(windows, usual, s)]
        if found:
            self.learn_calls(recording)
            evidence = _Evidence(recording, windows, self)
            found = [evidence.attach(a) for a in found]
        return windows, found, self._group(found, self.done)

    def _judge(self, recording: Recording, since: int, until: int) -> list[pd.DataFrame]:
        """Judge the windows in pieces, so that the grid after a month of silence does not fill the
        memory.
        """
        s, piece = self.sensitivity, _MOST_WINDOWS * self.window_ns
        judged = []
        for low in range(since, max(until, since + 1), piece):
            counts = count_windows(
                recording.requests,
                recording.given_up,
                len(self.keys),
                low,
                min(low + piece, until),
                self.window_ns,
                int(s.timeout_s * 1e9),
                int(s.resolve_after_s * 1e9),
            )
            judged.append(judge(counts, list(self.keys), self.state, self.system, s))
        return [pd.concat(frames, ignore_index=True) for frames in zip(*judged, strict=True)]

    def names_at(self, moment: pd.Timestamp) -> dict[Key, str]:
        """Return how the endpoints are shown that were known by then: a later namesake must not
        rename them.
        """
        ns = unix_ns(moment)
        return display_names([key for key, first in self.seen.items() if first < ns])

    def learn_calls(self, recording: Recording) -> None:
        """Learn who calls whom, and since when."""
        for edge, first in recording.calls.items():
            # else it never answered: it has no baseline, so it can have no anomaly
            if edge[1] in self.keys:
                self.edges[edge] = min(self.edges.get(edge, NEVER), first)

    def _group(self, found: list[Anomaly], until_ns: int) -> list[Incident]:
        touched: dict[str, Incident] = {}
        # of one place and window: as the detectors stand
        in_order = sorted(found, key=lambda a: (a.end, a.key))
        for end, group in groupby(in_order, key=lambda a: a.end):
            changed = self.manager.window(end, list(group), self._calls_before(unix_ns(end)))
            touched |= {incident.id: incident for incident in changed}
        touched |= {incident.id: incident for incident in self.manager.tick(to_timestamp(until_ns))}
        return list(touched.values())

    def _calls_before(self, now: int) -> Calls:
        return lambda caller, called: self.edges.get((caller, called), NEVER) < now

    def reference(self, incident: Incident) -> int:
        """Return from when on the spans are needed for the verdict on `incident`, in Unix ns."""
        return unix_ns(incident.started) - int(2e9 * self.sensitivity.half_life_s) - _MARGIN_NS

    def verdict(self, incident: Incident, frame: pd.DataFrame) -> Verdict:
        """Return the verdict on an incident as of its last anomaly: nothing later is looked at."""
        until = unix_ns(incident.last_anomaly)
        normal, abnormal = self._split(incident, as_of(frame, self.reference(incident), until))
        if normal.empty or abnormal.empty:
            return Verdict()
        usual = learn(normal)
        stuck_ns = int(self.sensitivity.timeout_s * 1e9)
        case = compare(usual, abnormal, until, self.names_at(incident.last_anomaly), stuck_ns)
        return build_verdict(
            case, rank_suspects(case) if self._rule is None else self._rule(usual, abnormal)
        )

    def _split(self, incident: Incident, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the traces before the incident and those of it, among the traces that touch its
        endpoints.

        The window before the first anomaly is left out of the usual: the fault may have begun in
        it. So are the times of other incidents.
        """
        trace = pd.factorize(frame["trace_id"])[0]
        end = _trace_ends(frame, trace)
        keys: dict[Key, int] = {}
        code = endpoint_codes(frame["service"], frame["endpoint"], keys)
        mine = np.isin(code, [keys[k] for k in incident.keys if k in keys]) & is_kind(
            frame, "server"
        )
        touched = np.zeros(end.size, dtype=bool)
        touched[trace[mine]] = True
        started = unix_ns(incident.started)
        normal = (
            touched
            & (end < started - self.window_ns)
            & (end >= self.reference(incident) + _MARGIN_NS)
        )
        for other in self.manager.incidents.values():
            for low, high in other.earlier if other is incident else other.episodes:
                normal &= (end < unix_ns(low)) | (end >= unix_ns(high))
        abnormal = touched & (end >= started)
        return frame[normal[trace]], frame[abnormal[trace]]


def as_of(frame: pd.DataFrame, since_ns: int, until_ns: int) -> pd.DataFrame:
    """Return the spans as they stood at `until_ns`: what ended later is open, what started later is
    not there.
    """
    start, end = start_ns(frame), end_ns(frame)
    seen = frame[(start < until_ns) & (end >= since_ns)].copy()
    later = end_ns(seen) >= until_ns
    if later.any():
        seen.loc[later, ["duration_ms", "status"]] = [np.nan, 0]
        seen.loc[later, "error"] = None
    return seen.reset_index(drop=True)


def _trace_ends(frame: pd.DataFrame, trace: np.ndarray) -> np.ndarray:
    """Return when the root of each trace ended (Unix ns, NEVER while open); without a root, its
    last span.
    """
    end = end_ns(frame)
    root = frame["parent_id"].isna().to_numpy()
    size = int(trace.max(initial=-1)) + 1
    ends, any_end = np.full(size, -1), np.full(size, -1)
    np.maximum.at(ends, trace[root], end[root])
    np.maximum.at(any_end, trace, end)
    return np.where(ends >= 0, ends, any_end)


def floor_to(ns: int, step: int) -> int:
    return ns // step * step


class _Evidence:
    """Finds, for each anomaly, the requests of its window that show it."""

    def __init__(self, recording: Recording, windows: pd.DataFrame, pipeline: Pipeline) -> None:
        self._recording, self._keys, self._sensitivity = (
            recording,
            pipeline.keys,
            pipeline.sensitivity,
        )
        self._names_at, self._ends = (
            cache(pipeline.names_at),
            recording.requests.end[recording.by_end],
        )
        # Of pooled windows only: all others are as long as the knob says.
        pooled = np.flatnonzero(windows["seconds"] != pipeline.sensitivity.window_s)
        columns = (
            windows[column].iloc[pooled] for column in ("window", "service", "endpoint", "seconds")
        )
        self._seconds = {tuple(place): seconds for *place, seconds in zip(*columns, strict=True)}

    def attach(self, a: Anomaly) -> Anomaly:
        rows = np.sort(self._recording.requests.row[self._shows(a)])
        traces = a.traces or tuple(dict.fromkeys(self._recording.trace_id[rows[:_MOST_TRACES]]))
        messages = {"sample_errors": self._messages(rows)} if a.type == "error_spike" else {}
        name = self._names_at(a.end).get(a.key, a.endpoint)
        return replace(a, evidence=a.evidence | messages, name=name, traces=traces)

    def _shows(self, a: Anomaly) -> np.ndarray:
        r, s, until = self._recording.requests, self._sensitivity, unix_ns(a.end)
        code = self._keys.get(a.key, -1)
        if a.type == "timeout":
            return np.flatnonzero(
                (r.code == code) & (r.end >= until) & (r.start <= until - int(s.timeout_s * 1e9))
            )
        seconds = min(self._seconds.get((a.window, *a.key), s.window_s), s.correlation_s)
        low, high = np.searchsorted(self._ends, [until - int(seconds * 1e9), until])
        mine = self._recording.by_end[low:high]
        mine = mine[r.code[mine] == code]
        if a.type == "error_spike":
            return mine[r.failed[mine]]
        if "baseline_ms" in a.evidence:
            least = s.ratio if a.type == "latency_anomaly" else s.drift
            return mine[r.log_ms[mine] > np.log(least * a.evidence["baseline_ms"])]
        return mine

    def _messages(self, rows: np.ndarray) -> list[str]:
        pairs = zip(self._recording.error[rows], self._recording.status[rows], strict=True)
        said = [error if isinstance(error, str) else f"HTTP {status}" for error, status in pairs]
        return list(dict.fromkeys(said))[:_MOST_MESSAGES]
