"""The monitor: step by step on a live store, or at once on a recording."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aiops_lab.detect.baselines import from_rows, to_rows
from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.incidents import ACKNOWLEDGED, RESOLVED, Incident
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.diagnosis import LONGEST_REQUEST_NS, History, Rule
from aiops_lab.explain.config import RcaConfig
from aiops_lab.logs import get_logger
from aiops_lab.numerics import to_timestamp, unix_ns
from aiops_lab.pipeline import Pipeline, Recording, Report, floor_to
from aiops_lab.record.lease import lease
from aiops_lab.spans import Key, check
from aiops_lab.traces.encode import EncodedSpans, display_names, encode, is_failed
from aiops_lab.traces.graph import service_graph

if TYPE_CHECKING:
    from aiops_lab.record.store import SpanStore

_log = get_logger(__name__)

_METRICS_S = 300.0  # what /aiops/metrics looks back on

_LEASE = "monitor"  # of the store: one monitor changes its incidents at a time
_MOVE_WAIT_S = 30.0  # somebody who acknowledges an incident waits so long for a step of another

# ---- on a recording


def replay(
    frame: pd.DataFrame,
    sensitivity: Sensitivity | None = None,
    *,
    detectors: Sequence[AnyDetector] = DETECTORS,
    rule: Rule | None = None,
    config: RcaConfig | None = None,
    causes: bool = True,
    until: pd.Timestamp | None = None,
) -> Report:
    """Run a recording through the pipeline and return what a monitor would have found, step by
    step, without a clock.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    sensitivity : Sensitivity
    detectors : functions (windows, baselines, sensitivity) -> list of Anomaly, or `Detector` values
        Which anomalies are reported. Default: those of the package. A baseline does not learn from
        windows that a `Detector` among them, or one of the package, decides to be abnormal.
    rule : function (reference, abnormal) -> list of Suspect
        What names the root cause. Default: the ledger.
    config : RcaConfig, optional
        The constants of root cause analysis; ``timeout_s`` is taken from `sensitivity`.
    causes : bool
        Whether to look for root causes at all; without, a replay is several times faster, and
        links alone decide which anomalies are one incident.
    until : Timestamp, optional
        When the recording ended. Default: with its last span.

    Returns
    -------
    Report
        Equal to that of a live monitor that began with the same spans and stopped at `until`.
    """
    pipeline = Pipeline(sensitivity or Sensitivity(), detectors, rule, config)
    recording = Recording(check(frame), {})
    until_ns = None if until is None else unix_ns(_utc(until))
    report = pipeline.replay(recording, until_ns, causes=causes)
    if causes:
        for incident in report.incidents:
            incident.verdict = pipeline.verdict(incident, lambda since, until: recording.spans)
    return report


# ---- live


class Monitor:
    """Watches a store: each `step` judges the windows that have ended, and keeps incidents and
    baselines in the store.

    Safe to use from several threads. After a restart it goes on where it stopped. Several monitors
    of one store, such as those of the worker processes of a server, share the work and say the
    same: each goes on from what the others have saved, and one steps at a time.

    Parameters
    ----------
    store : SpanStore
    sensitivity, detectors, rule, config
        As for `replay`.
    """

    def __init__(
        self,
        store: SpanStore,
        sensitivity: Sensitivity | None = None,
        *,
        detectors: Sequence[AnyDetector] = DETECTORS,
        rule: Rule | None = None,
        config: RcaConfig | None = None,
    ) -> None:
        self.store = store
        self.sensitivity = sensitivity or Sensitivity()
        self._new_pipeline = partial(Pipeline, self.sensitivity, detectors, rule, config)
        self._lock = threading.RLock()
        self._explained: dict[str, tuple[int, int]] = {}  # by incident: as of when, since when
        self._owner = str(id(self))
        self._turn = -1  # how often the state of the store had been saved when it was last read
        self._catch_up()

    def step(self, now: pd.Timestamp) -> list[Incident]:
        """Judge the windows that ended before `now` less the grace period; return the incidents
        that changed.

        While another monitor of the store is at work there is nothing to do, so none.
        """
        ready = unix_ns(_utc(now)) - int(self.sensitivity.grace_s * 1e9)
        with self._lock:
            until = floor_to(ready, self._pipeline.window_ns)
            if self._is_judged(until):
                return []
            with lease(self.store, _LEASE, self._owner) as is_mine:
                if not is_mine:
                    return []
                self._catch_up()
                return [] if self._is_judged(until) else self._step(until)

    def _is_judged(self, until_ns: int) -> bool:
        done = self._pipeline.done
        return done is not None and until_ns <= done

    def _step(self, until_ns: int) -> list[Incident]:
        pipeline = self._pipeline
        self.store.flush()
        frame = self.store.spans(since=pipeline.needed_since)
        if pipeline.done is None and frame.empty:
            return []
        recording = Recording(frame, pipeline.keys, pipeline.methods)
        pipeline.learn_calls(recording)  # at the next step its spans may not be looked at again
        history = cache(self._history)
        _, _, touched = pipeline.advance(recording, until_ns, history)
        for incident in touched:
            self._explain(incident, history)
        self._save(touched)
        for incident in touched:
            _log.info("%s is %s: %s", incident.id, incident.status, incident.title)
        return touched

    def _catch_up(self) -> None:
        """Go on from what another monitor of the store has saved."""
        if self.store.closed:
            return
        turn = self._saved_turn()
        if turn != self._turn:
            self._pipeline = self._new_pipeline()
            self._load()
            self._turn = turn

    def _saved_turn(self) -> int:
        return self.store.load("turn").get(_LEASE, 0)

    def _history(self, since_ns: int, until_ns: int) -> EncodedSpans:
        """Return the spans of some time as integers, those still open at its end among them."""
        until = to_timestamp(until_ns + LONGEST_REQUEST_NS)
        frame = self.store.spans(since=to_timestamp(since_ns), until=until)
        return encode(frame, methods=self._pipeline.methods)

    def _explain(self, incident: Incident, history: History) -> None:
        """Find the cause of an incident, unless it was looked at as of the same moment before."""
        bounds = self._pipeline.diagnosis.bounds(incident)
        if self._explained.get(incident.id) != bounds:
            incident.verdict = self._pipeline.verdict(incident, history)
            self._explained[incident.id] = bounds

    @property
    def judged_until(self) -> pd.Timestamp | None:
        """The end of the last window that was judged, None before the first."""
        with self._lock:
            self._catch_up()
            done = self._pipeline.done
        return None if done is None else to_timestamp(done)

    def incidents(self, status: str | None = None) -> list[Incident]:
        """Return the incidents in the order of their detection, all or those with one status."""
        with self._lock:
            self._catch_up()
            every = self._pipeline.incidents
        return [i for i in every if status in (None, i.status)]

    def incident(self, incident_id: str) -> Incident:
        """Return one incident; KeyError if there is none with that id."""
        with self._lock:
            self._catch_up()
            return self._pipeline.manager.find(incident_id)

    def acknowledge(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Say that somebody is at work on it. Raises KeyError, and IllegalMoveError if it is not
        active.
        """
        return self._move(incident_id, ACKNOWLEDGED, now)

    def resolve(self, incident_id: str, now: pd.Timestamp) -> Incident:
        """Say that it is over. Raises KeyError, and IllegalMoveError if it is resolved already."""
        return self._move(incident_id, RESOLVED, now)

    def _move(self, incident_id: str, status: str, now: pd.Timestamp) -> Incident:
        held = lease(self.store, _LEASE, self._owner, _MOVE_WAIT_S)
        with self._lock, held as is_mine:
            if not is_mine:
                raise OSError(f"{self.store.path} must be free, another monitor is at work on it")
            self._catch_up()
            incident = self._pipeline.manager.move(incident_id, status, _utc(now))
            self._save([incident])
            return incident

    def metrics(self, now: pd.Timestamp) -> dict[str, dict[str, Any]]:
        """Return count, latency, errors and health of each endpoint over the last five minutes, by
        name.
        """
        with self._lock:
            self._catch_up()
            recent = self._recent(now)
            spans = encode(recent, methods=self._pipeline.methods)
            endpoints = [spans.keys[node][1] for node in spans.node[spans.server]]
            served = recent.iloc[spans.row[spans.server]].assign(endpoint=endpoints)
            groups: Any = served.groupby(["service", "endpoint"], observed=True)
            names = display_names(groups.groups)
            metrics = {names[key]: self._metrics_of(key, rows, _utc(now)) for key, rows in groups}
            return dict(sorted(metrics.items()))

    def _recent(self, now: pd.Timestamp) -> pd.DataFrame:
        self.store.flush()
        since = _utc(now) - pd.Timedelta(_METRICS_S, unit="s")
        return self.store.spans(since=since)

    def _metrics_of(self, key: Key, requests: pd.DataFrame, now: pd.Timestamp) -> dict[str, Any]:
        closed = requests[requests["duration_ms"].notna()]
        average = None
        error_rate = 0.0
        if len(closed):
            average = float(closed["duration_ms"].mean())
            error_rate = float(is_failed(closed).mean())
        usual = self._baseline_ms(key, now)
        statuses = closed["status"].value_counts().sort_index()
        return {
            "request_count": len(closed),
            "open_requests": len(requests) - len(closed),
            "avg_latency_ms": average,
            "error_rate": error_rate,
            "baseline_latency_ms": usual,
            "status_distribution": {str(k): int(v) for k, v in statuses.items()},
            "health": health(average, usual, error_rate),
        }

    def _baseline_ms(self, key: Key, now: pd.Timestamp) -> float | None:
        """Return the usual latency of an endpoint (geometric mean), None while it is learned."""
        code = self._pipeline.keys.get(key)
        if code is None:
            return None
        hours = self.sensitivity.hours
        row = self._pipeline.state[code * hours + now.hour % hours]
        if row["count"] < self.sensitivity.min_count:
            return None
        return float(np.exp(row["mean"]))

    def graph(self, now: pd.Timestamp) -> pd.DataFrame:
        """Return the service graph of the last five minutes."""
        with self._lock:
            return service_graph(self._recent(now))

    def _save(self, touched: list[Incident]) -> None:
        p = self._pipeline
        if touched:
            self.store.save("incident", {i.id: i.to_record() for i in touched})
        self.store.save("baseline", {"rows": to_rows(p.state)})
        edges = [[*pair, first] for pair, first in p.edges.items()]
        keys = [[*key, p.seen[key]] for key in p.keys]
        state = {
            "done": p.done,
            "system": p.system.tolist(),
            "edges": edges,
            "keys": keys,
            "methods": [[*route, method] for route, method in p.methods.items()],
            "merged": p.manager.merged,
        }
        self.store.save("monitor", {"state": state})
        self._turn += 1
        self.store.save("turn", {_LEASE: self._turn})  # last: whoever reads it reads the rest

    def _load(self) -> None:
        p = self._pipeline
        known = self.store.load("monitor").get("state")
        p.manager.merged |= {} if known is None else known.get("merged", {})
        records = self.store.load("incident")
        p.restore(Incident.from_record(r) for i, r in records.items() if i not in p.manager.merged)
        if known is None:
            return
        if known["done"] is not None:
            p.done = floor_to(known["done"], p.window_ns)
        p.system = np.array(known["system"])
        for caller, called, first in known["edges"]:
            p.edges[tuple(caller), tuple(called)] = first
        for service, route, method in known.get("methods", ()):
            p.methods[service, route] = method
        for service, endpoint, first in known["keys"]:
            p.keys[service, endpoint] = len(p.keys)
            p.seen[service, endpoint] = first
        rows = self.store.load("baseline")["rows"]
        p.state = from_rows(rows, self.sensitivity.hours * len(p.keys))


def _utc(moment: pd.Timestamp) -> pd.Timestamp:
    if not isinstance(moment, (datetime, np.datetime64, str)):
        raise ValueError(
            f"now and until must be a time, such as pd.Timestamp.now('UTC'), got {moment!r}"
        )
    return pd.to_datetime(moment, utc=True)


def health(average_ms: float | None, usual_ms: float | None, error_rate: float) -> dict[str, Any]:
    """Return the health of an endpoint: a score from 0 to 100 and its band.

    score = 100 (1 - error_rate) - 25 log2(average / usual), the second part only where the average
    is above the usual: each doubling costs 25 points. From 90 on it is healthy, from 60 on
    degraded, below unhealthy; without a baseline the band is "learning".
    """
    slower = 0.0
    if average_ms and usual_ms:
        slower = max(0.0, float(np.log2(average_ms / usual_ms)))
    loss = 100.0 * error_rate + 25.0 * slower
    score = round(min(100.0, max(0.0, 100.0 - loss)), 1)
    band = "healthy" if score >= 90 else "degraded" if score >= 60 else "unhealthy"
    return {"health_score": score, "status": "learning" if usual_ms is None else band}
