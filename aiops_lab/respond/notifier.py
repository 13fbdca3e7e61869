"""Who is told of an incident, and when? `Notifier`: each target in a thread of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from aiops_lab.checks import check_number
from aiops_lab.detect.incidents import RESOLVED, Incident
from aiops_lab.logs import get_logger
from aiops_lab.respond.isolated import Isolated
from aiops_lab.respond.limits import Backoff, RateLimit
from aiops_lab.respond.looker import NOTICE_LOOK_S, Looker
from aiops_lab.respond.notices import (
    Notice,
    Told,
    event_of,
    merged_notice,
    notice_of,
    rank,
    summary_of,
    told_of,
)
from aiops_lab.respond.responders import Responder
from aiops_lab.respond.targets import NoticeTarget, TakeNotice, targets_of
from aiops_lab.respond.told_records import ToldRecords
from aiops_lab.results import iso

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

_log = get_logger(__name__)

MOST_WAITING = 1_000
"""Notices that wait for a target at most; further ones are made when there is room."""


@dataclass(frozen=True)
class NoticeLimits:
    """How often a target is told.

    Parameters
    ----------
    quiet_s : float
        Of an incident that comes back again and again: seconds between two notices of its return.
        Default 900: whoever was paged is at work on it. Raising it pages less.
    most, per_s
        At most `most` notices in `per_s` seconds; default 10 in 300 s. The last of them sums up
        what waits then, the worst are told one by one.
    first_retry_s, last_retry_s : float
        The pause after a failure; it doubles up to the last one. Default 1 s and 300 s. A target
        that fails is never given up, as only the present state of an incident waits for it.
    timeout_s : float
        Seconds after which a target that does not return has failed, default 30.
    """

    quiet_s: float = 900.0
    most: int = 10
    per_s: float = 300.0
    first_retry_s: float = 1.0
    last_retry_s: float = 300.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        check_number("quiet_s", self.quiet_s, 0, 1e9)
        check_number("most", self.most, 1, 1_000_000, whole=True)
        check_number("per_s", self.per_s, 0.001, 1e9)
        check_number("first_retry_s", self.first_retry_s, 0.001, 86_400)
        check_number("last_retry_s", self.last_retry_s, self.first_retry_s, 86_400)
        check_number("timeout_s", self.timeout_s, 0.001, 86_400)


class Notifier(Responder):
    """Tells people of a monitor's incidents: opened, reopened, changed (more severe, or its first
    cause), acknowledged, resolved, merged.

    It looks at the state of incidents, in threads of its own, and never delays a step of the
    monitor. What was told stands in the store: a restart does not tell it again, and of several
    processes one tells. An incident that was resolved before a target was looked at first is not
    told. The threads end with `close`, or when the store is closed.

    A row of `status` has to, sent, failures, waiting, summarized, last_sent and last_error.

    Parameters
    ----------
    monitor : Monitor
    receivers : iterable of str or function
        URLs of Apprise (https://github.com/caronc/apprise/wiki), such as ``slack://…``, or
        functions that take a `Notice`. One that raises or hangs harms no other.
    server : str
        The address of the live page, such as ``http://localhost:5050``; notices then name the
        page of the incident.
    limits : NoticeLimits, optional

    Raises
    ------
    ValueError
        A receiver is no URL that Apprise knows, and no function.
    ImportError
        A receiver is a URL, and Apprise is not installed (extra ``notify``).
    """

    kind = "notices"

    def __init__(
        self,
        monitor: Monitor,
        receivers: Iterable[str | TakeNotice | NoticeTarget],
        *,
        server: str = "",
        limits: NoticeLimits | None = None,
    ) -> None:
        targets = targets_of(receivers)
        make = partial(_Channel, monitor, limits or NoticeLimits(), server.rstrip("/"))
        super().__init__(monitor, [make(target) for target in targets])


class _Due(NamedTuple):
    """A notice, and what was told of its incident, or incidents, once it has arrived."""

    notice: Notice
    told: dict[str, Told]


class _Channel:
    """One target, and its thread."""

    def __init__(
        self, monitor: Monitor, limits: NoticeLimits, server: str, target: NoticeTarget
    ) -> None:
        self._monitor = monitor
        self._limits = limits
        self._server = server
        self._target = target
        self.looker = Looker(f"to {target.name}", self._look, lambda: monitor.store.closed)
        self._isolated = Isolated(limits.timeout_s, self.looker.ended)
        self._rate = RateLimit(limits.most, limits.per_s)
        self._backoff = Backoff(limits.first_retry_s, limits.last_retry_s)
        self._records = ToldRecords(monitor.store, target.name)
        self._told: dict[str, Told] | None = None  # None: not looked yet
        self._tries: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._last_sent: str | None = None
        self._last_error: str | None = None
        self._is_failing = False

    def status(self) -> dict[str, Any]:
        return {
            "to": self._target.name,
            "sent": self._counts["sent"],
            "failures": self._counts["failures"],
            "waiting": self._counts["waiting"],
            "summarized": self._counts["summarized"],
            "last_sent": self._last_sent,
            "last_error": self._last_error,
        }

    def _look(self) -> float | None:
        """Tell what is due; return the seconds until the next look, None where nothing is due."""
        due = self._quietly(self._due)
        if due is None:
            return NOTICE_LOOK_S
        self._counts["waiting"] = len(due)
        if not due:
            return None
        if self._isolated.is_busy:
            return self._backoff.fail()
        if self._rate.room() == 0:
            return NOTICE_LOOK_S
        if self._quietly(self._records.turn.take) is False:
            return NOTICE_LOOK_S  # or another process tells
        due = [each for each in due if not self._is_told_elsewhere(each)]
        for each in self._within_limits(due):
            if self.looker.ended.is_set():
                return NOTICE_LOOK_S
            if not self._send(each):
                return self._backoff.fail()
            self._backoff.succeed()
        return 0.0 if self._rate.room() else NOTICE_LOOK_S

    def end_turn(self) -> None:
        self._quietly(self._records.turn.end)

    def _quietly(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns; None where the store cannot be used at present."""
        try:
            return work()
        except (OSError, ValueError) as error:
            if not self._monitor.store.closed:
                _log.warning("notices to %s wait: %s", self._target.name, error)
            return None

    # ---- what is due

    def _due(self) -> list[_Due]:
        incidents = self._monitor.incidents()
        if self._told is None:
            self._told = self._records.load()
            for incident in incidents:
                if incident.status == RESOLVED:
                    state = told_of(incident, RESOLVED, None, 0)
                    self._told.setdefault(incident.id, state)
        due = [*self._gone(incidents), *self._news(incidents)]
        return sorted(due[:MOST_WAITING], key=lambda each: self._tries[each.notice.incident_id])

    def _news(self, incidents: list[Incident]) -> list[_Due]:
        now_ns = time.time_ns()
        known = self._told or {}
        quiet_ns = int(self._limits.quiet_s * 1e9)
        due = []
        for incident in incidents:
            told = known.get(incident.id)
            event = event_of(incident, told, now_ns, quiet_ns)
            if event is not None:
                state = told_of(incident, event, told, now_ns)
                notice = notice_of(incident, event, self._server, told)
                due.append(_Due(notice, {incident.id: state}))
        return due

    def _gone(self, incidents: list[Incident]) -> list[_Due]:
        """Return the notices of incidents that became part of another one."""
        there = {incident.id for incident in incidents}
        due = []
        for id, told in (self._told or {}).items():
            if id in there or told.status == RESOLVED:
                continue
            try:
                other = self._monitor.incident(id)
            except KeyError:
                continue
            notice = merged_notice(id, other, self._server)
            due.append(_Due(notice, {id: told._replace(status=RESOLVED)}))
        return due

    def _is_told_elsewhere(self, due: _Due) -> bool:
        """Return whether another process has told it since this one began."""
        for id, told in due.told.items():
            stored = self._quietly(partial(self._records.of, id))
            if stored is not None and stored[:3] == told[:3]:
                self._remember({id: stored})
                return True
        return False

    def _within_limits(self, due: list[_Due]) -> list[_Due]:
        """Return what may be told now: where that is not all, the last one sums up the rest."""
        room = self._rate.room()
        if len(due) <= room or room == 0:
            return due[:room]
        worst = sorted(due, key=lambda each: -rank(each.notice.severity))
        alone = worst[: room - 1]
        rest = worst[room - 1 :]
        summary = summary_of([each.notice for each in rest], self._server)
        told = {id: state for each in rest for id, state in each.told.items()}
        return [*alone, _Due(summary, told)]

    # ---- how it is told

    def _send(self, due: _Due) -> bool:
        self._tries[due.notice.incident_id] += 1
        outcome = self._isolated.call(partial(self._deliver, due), self._records.turn.keep)
        if not outcome.error:
            return True
        if not self.looker.ended.is_set():
            self._fail(outcome.error)
        return False

    def _deliver(self, due: _Due) -> None:
        """Send a notice, and note it in the same thread: a target that is late was told, too."""
        self._target.send(due.notice)
        self._counts["sent"] += 1
        if not due.notice.incident_id:
            self._counts["summarized"] += len(due.told)
        self._last_sent = iso(pd.Timestamp.now("UTC"))
        self._is_failing = False
        self._rate.take()
        self._remember(due.told)
        for id in ("", *due.told):
            self._tries.pop(id, None)
        self._quietly(partial(self._records.save, due.told))

    def _remember(self, told: dict[str, Told]) -> None:
        self._told = (self._told or {}) | told

    def _fail(self, error: str) -> None:
        self._counts["failures"] += 1
        is_new = not self._is_failing or error != self._last_error
        self._is_failing, self._last_error = True, error
        if is_new:
            _log.warning("a notice to %s failed and is tried again: %s", self._target.name, error)
