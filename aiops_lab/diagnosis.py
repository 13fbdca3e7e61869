"""Which requests does an incident consist of, and what is their cause?"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.incidents import Incident
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import Comparison, compare
from aiops_lab.explain.ranking import first_by_ledger, rank_suspects
from aiops_lab.explain.reference import Reference, learn
from aiops_lab.explain.shared_workers import take_longer, waits_for_others
from aiops_lab.explain.verdict import build_verdict
from aiops_lab.numerics import unix_ns
from aiops_lab.results import Anomaly, Suspect, Verdict
from aiops_lab.spans import Key
from aiops_lab.traces.encode import NEVER, EncodedSpans, subtrees_of
from aiops_lab.user_code import UserCode, check_list, name_function

Rule = Callable[[Reference, pd.DataFrame], list[Suspect]]

History = Callable[[int, int, frozenset[Key]], EncodedSpans]
"""From two moments (Unix ns) and endpoints to all traces with a request to one of these that were
there in between; more do no harm. All endpoints that are known have a code."""

ShownNames = dict[Key, str] | None
"""How endpoints are shown elsewhere; None: as they differ."""

LONGEST_REQUEST_NS = 60_000_000_000
"""Spans of one request end at most so long before it does: the longest hang."""

MOST_LOOKED_AT = 4
"""Incidents whose requests are kept for the next question: each may hold as much as its spans."""


class Diagnosis:
    """The causes of incidents, each as of a moment: nothing later is looked at.

    Parameters
    ----------
    sensitivity : Sensitivity
        ``half_life_s`` (twice that long is the reference), ``window_s`` and ``relearn_after_s``
        (what comes later than this in an episode is not looked at: by then it may be usual) are
        used.
    incidents : dict
        All incidents by id. The times of others are not taken as usual.
    rule : function (reference, abnormal) -> list of Suspect, optional
        What names the suspects. Default: the ledger.
    config : RcaConfig, optional
        ``timeout_s`` is taken from `sensitivity`.
    edges : dict of (caller, called) to int
        When a call was seen first (Unix ns).
    user_code : UserCode, optional
        What happens where the rule fails. Default: its exception is raised. Where it is left out,
        there are no suspects.
    """

    def __init__(
        self,
        sensitivity: Sensitivity,
        incidents: dict[str, Incident],
        rule: Rule | None = None,
        config: RcaConfig | None = None,
        *,
        edges: Mapping[tuple[Key, Key], int] = MappingProxyType({}),
        user_code: UserCode | None = None,
    ) -> None:
        self._edges = edges
        self._user_code = UserCode() if user_code is None else user_code
        self.incidents = incidents
        self._config = replace(config or RcaConfig(), timeout_s=sensitivity.timeout_s)
        self._rule = rule
        self._window_ns = int(sensitivity.window_s * 1e9)
        self._learned_ns = int(2e9 * sensitivity.half_life_s)
        self._longest_ns = int(sensitivity.relearn_after_s * 1e9)
        self._looked_at: dict[str, _LookedAt] = {}  # by incident, the last `MOST_LOOKED_AT`

    def forget(self) -> None:
        """Forget which requests were looked at: there are new ones, or they take memory."""
        self._looked_at.clear()

    def bounds(self, incident: Incident) -> tuple[int, int]:
        """Return from when to when (Unix ns) spans are needed for the verdict on an incident."""
        started = unix_ns(incident.started)
        return self._since(started), self._until(incident)

    def verdict(self, incident: Incident, history: History, names: ShownNames = None) -> Verdict:
        """Return the verdict on an incident as of its last anomaly.

        `names` holds how endpoints are shown elsewhere.
        """
        found = self._look_at(incident, history, names)
        if found.compared is None:
            return Verdict()
        return build_verdict(found.compared, found.suspects)

    def causes(
        self, incident: Incident, history: History, names: dict[Key, str] | None = None
    ) -> list[Key]:
        """Return the suspects of an incident as of its last anomaly, best first."""
        found = self._look_at(incident, history, names)
        return [suspect.key for suspect in found.suspects]

    def _look_at(
        self, incident: Incident, history: History, names: dict[Key, str] | None
    ) -> _LookedAt:
        """Return the requests of an incident and its suspects, found once for each state of it and
        each way to show endpoints, while few other incidents are looked at.
        """
        state = self.state_of(incident), names
        found = self._looked_at.pop(incident.id, None)
        if found is None or found.state != state:
            compared = self._compared(incident, history, names)
            suspects = [] if compared is None else self._ranked(compared)
            found = _LookedAt(state, compared, suspects)
        self._looked_at[incident.id] = found
        if len(self._looked_at) > MOST_LOOKED_AT:
            longest_ago = next(iter(self._looked_at))
            del self._looked_at[longest_ago]
        return found

    def origins(self, anomalies: list[Anomaly], history: History) -> list[Key]:
        """Return where the excess of some anomalies originates, best first.

        Only the requests to their own endpoints are looked at, and what hangs below these.
        """
        began = min(anomaly.began for anomaly in anomalies)
        ended = max(anomaly.end for anomaly in anomalies)
        started = unix_ns(began)
        until = unix_ns(ended)
        since = self._since(started)
        own = {anomaly.key for anomaly in anomalies}
        spans = _Past(history, since, until).traces_of(own)
        requests = _Requests(_cut(spans, own))
        compared = self._compare(requests, started, until)
        if compared is None:
            return []
        return [suspect.key for suspect in self._ranked(compared)]

    def state_of(self, incident: Incident) -> Hashable:
        """Return all that the causes of an incident depend on, beside the spans."""
        started = unix_ns(incident.started)
        earliest = started - self._learned_ns
        reached = set()
        for keys, since, until in self._other_episodes(incident):
            end = min(until, started)
            if since < started and end > earliest:
                reached.add((frozenset(keys), since, end))
        return (
            self.bounds(incident),
            frozenset(incident.last_seen),
            bool(incident.beside),
            frozenset(reached),
        )

    def _since(self, started_ns: int) -> int:
        """Return from when on spans are needed to explain what started at a moment (Unix ns)."""
        return started_ns - self._learned_ns - LONGEST_REQUEST_NS

    def _until(self, incident: Incident) -> int:
        """Return as of when an incident is looked at (Unix ns).

        That is its last anomaly; but what came after `relearn_after_s`, or when an incident with
        another cause began beside it, is left out.
        """
        started = unix_ns(incident.started)
        latest = started + self._longest_ns
        beside = [other for other in self.incidents.values() if incident.id in other.beside]
        others = [unix_ns(other.started) for other in beside]
        later = [moment for moment in others if moment > started]
        return min(unix_ns(incident.last_anomaly), latest, *later)

    def _ranked(self, compared: Comparison) -> list[Suspect]:
        if self._rule is None:
            return rank_suspects(compared)
        rule = self._rule

        def work() -> list[Suspect]:
            return check_list(rule(compared.reference, compared.frame), Suspect)

        return self._user_code.call(self.rule_name, [], work)

    @property
    def rule_name(self) -> str:
        """How the rule is named where it fails."""
        return name_function("rule", self._rule)

    def _compared(
        self, incident: Incident, history: History, names: ShownNames = None
    ) -> Comparison | None:
        """Return the requests of an incident beside those before it; where they wait for workers
        that others keep busy, all requests to that service.
        """
        since, until = self.bounds(incident)
        past = _Past(history, since, until)
        own = self._own(incident, past.traces_of(incident.keys), until, names)
        if own is None:
            return None
        shared = self._sharing(incident, own, past, names)
        return own if shared is None else shared

    def _own(
        self, incident: Incident, spans: EncodedSpans, until_ns: int, names: ShownNames
    ) -> Comparison | None:
        """Return the requests of an incident beside those before it.

        Both touch its endpoints. Requests that touch the endpoints of other incidents while these
        were at work are not taken as usual. Where none are left, the requests are those to its own
        endpoints. Where it stands beside another one with other causes, they are those to its
        origins: what is above these may suffer from the other one.
        """
        started = unix_ns(incident.started)
        episodes = [*self._other_episodes(incident)]
        if not incident.beside:
            requests = _Requests(spans)
            requests.keep(incident.keys)
            requests.leave_out(episodes)
            compared = self._compare(requests, started, until_ns, names)
            if compared is not None:
                return compared
        own = self._origin_keys(incident, until_ns) if incident.beside else incident.keys
        mine = _cut(spans, own)
        requests = _Requests(mine)
        requests.leave_out(episode for episode in episodes if episode.keys & own)
        compared = self._compare(requests, started, until_ns, names)
        if compared is None:
            compared = self._compare(_Requests(mine), started, until_ns, names)
        return compared

    def _sharing(
        self, incident: Incident, own: Comparison, past: _Past, names: ShownNames
    ) -> Comparison | None:
        """Return the requests of an incident with all others to the service at which its excess
        seems to originate, if it is a wait for what these others keep the workers busy with.
        """
        suspect = first_by_ledger(own)
        if suspect is None:
            return None
        service, _ = suspect
        started = unix_ns(incident.started)
        known = past.traces_of(incident.keys).keys
        there = {key for key in known if key[0] == service}
        spans = past.traces_of(incident.keys | there)
        mine = _Requests(spans)
        mine.keep(incident.keys)
        others = _serve(spans, there) & ~mine.kept
        before, after = mine.times(*self._usual_time(started), started)
        if not take_longer(spans, others & before, others & after, own.until_ns, self._config):
            return None
        every = _Requests(spans)
        every.keep(incident.keys | there)
        every.leave_out(self._other_episodes(incident))
        compared = self._compare(every, started, own.until_ns, names)
        if compared is None or not waits_for_others(own, suspect, compared):
            return None
        return compared

    def _origin_keys(self, incident: Incident, until_ns: int) -> set[Key]:
        """Return the endpoints of an incident that call no other one of it, as far as was known at
        a moment (Unix ns).

        Fewer requests are a consequence, unless there is nothing else.
        """
        kinds = [*incident.last_seen]
        others = {key for kind, key in kinds if kind != "traffic_drop"}
        keys = others or incident.keys
        pairs = permutations(keys, 2)
        calling = {pair[0] for pair in pairs if self._edges.get(pair, NEVER) < until_ns}
        return keys - calling or keys

    def _other_episodes(self, incident: Incident) -> Iterator[_Episode]:
        """Yield the episodes of other incidents, and the earlier ones of this one."""
        for other in self.incidents.values():
            episodes = other.earlier if other is incident else other.episodes
            for low, high in episodes:
                yield _Episode(other.keys, unix_ns(low), unix_ns(high))

    def _usual_time(self, started_ns: int) -> tuple[int, int]:
        """Return from when to when (Unix ns) requests are usual for what started at a moment.

        The last window before is left out, as the fault may have begun in it.
        """
        return started_ns - self._learned_ns, started_ns - self._window_ns

    def _compare(
        self,
        requests: _Requests,
        started_ns: int,
        until_ns: int,
        names: ShownNames = None,
    ) -> Comparison | None:
        """Return the requests since a moment beside those before it; None where either has none."""
        usual, now = requests.split(*self._usual_time(started_ns), started_ns)
        if usual.row.size == 0 or now.row.size == 0:
            return None
        reference = learn(usual, config=self._config)
        return compare(reference, now, until_ns=until_ns, names=names)


class _LookedAt(NamedTuple):
    """The requests of an incident in some state, None without any, and its suspects."""

    state: tuple[Hashable, ShownNames]
    compared: Comparison | None
    suspects: list[Suspect]


class _Past:
    """What was there between two moments (Unix ns), as it stood at the later one."""

    def __init__(self, history: History, since_ns: int, until_ns: int) -> None:
        self._history = history
        self._between = since_ns, until_ns
        self._read: EncodedSpans | None = None  # last, and as it stood
        self._stood: EncodedSpans | None = None

    def traces_of(self, keys: Iterable[Key]) -> EncodedSpans:
        """Return all traces with a request to one of some endpoints; more may be among them."""
        read = self._history(*self._between, frozenset(keys))
        if self._stood is None or read is not self._read:
            self._read = read
            self._stood = read.as_of(*self._between)
        return self._stood


class _Episode(NamedTuple):
    """When an incident was active (Unix ns), and the endpoints that it had."""

    keys: set[Key]
    since_ns: int
    until_ns: int


class _Requests:
    """The spans by request: those that hang together, below one that has no recorded parent.

    Not by trace: one ``traceparent`` with which a client sends everything is no request. Masks have
    an entry a span and hold for its whole request.
    """

    def __init__(self, spans: EncodedSpans) -> None:
        self._spans = spans
        self._top = spans.tops()
        self._end = spans.end[self._top]
        size = self._top.size
        self._mine = np.ones(size, dtype=bool)
        self._usual = np.ones(size, dtype=bool)

    def keep(self, keys: Iterable[Key]) -> None:
        """Keep only the requests that touch one of some endpoints."""
        self._mine &= self._touch(keys)

    def leave_out(self, episodes: Iterable[_Episode]) -> None:
        """Do not take as usual what touches the endpoints of some episodes and ended in them."""
        for keys, since_ns, until_ns in episodes:
            during = self._ends_between(since_ns, until_ns)
            self._usual &= ~(during & self._touch(keys))

    def _ends_between(self, since_ns: int, until_ns: int) -> NDArray:
        return (self._end >= since_ns) & (self._end < until_ns)

    def split(
        self, earliest_ns: int, latest_ns: int, started_ns: int
    ) -> tuple[EncodedSpans, EncodedSpans]:
        """Return the spans of usual requests that ended between two moments, and of all requests
        that ended after a third, or are open; with the same codes.
        """
        before, after = self.times(earliest_ns, latest_ns, started_ns)
        usual = self._mine & self._usual & before
        return self._spans.split(usual, self._mine & after)

    def times(self, earliest_ns: int, latest_ns: int, started_ns: int) -> tuple[NDArray, NDArray]:
        """Return which requests ended between two moments, and which after a third or are open."""
        return self._ends_between(earliest_ns, latest_ns), self._end >= started_ns

    @property
    def kept(self) -> NDArray:
        """Which requests are kept."""
        return self._mine

    def _touch(self, keys: Iterable[Key]) -> NDArray:
        """Return which requests touch one of some endpoints."""
        served = _serve(self._spans, keys)
        touched = np.zeros(self._top.size, dtype=bool)
        touched[self._top[served]] = True
        return touched[self._top]


def _cut(spans: EncodedSpans, keys: Iterable[Key]) -> EncodedSpans:
    """Return the requests to some endpoints as requests of their own, with what is below them."""
    below, _ = subtrees_of(spans, _serve(spans, keys))
    return below


def _serve(spans: EncodedSpans, keys: Iterable[Key]) -> NDArray:
    """Return which spans serve one of some endpoints."""
    wanted = set(keys)
    codes = [code for code, key in enumerate(spans.keys) if key in wanted]
    return spans.server & np.isin(spans.node, codes)
