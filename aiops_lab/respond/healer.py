"""Who calls the remedies? `Healer`: each in a thread of its own, within its limits."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from aiops_lab.checks import FieldError
from aiops_lab.detect.incidents import ACTIVE, Incident
from aiops_lab.logs import get_logger
from aiops_lab.numerics import unix_ns
from aiops_lab.respond import turns
from aiops_lab.respond.isolated import Isolated, shown_text
from aiops_lab.respond.looker import NOTICE_LOOK_S, Looker
from aiops_lab.respond.remedies import (
    ACTED,
    BEGUN,
    FAILED,
    HELD_BACK,
    WOULD_ACT,
    Decision,
    Remedy,
    RemedyCall,
    decide,
    is_meant,
    is_new,
)
from aiops_lab.respond.remedy_log import RemedyLog
from aiops_lab.respond.responders import Responder

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor

_log = get_logger(__name__)


class Healer(Responder):
    """Calls remedies for the incidents of a monitor, each in a thread of its own.

    A remedy is called for active incidents of its kind, whose cause is certain enough; what a
    person has acknowledged is left to that person. What it did, would have done (a dry run, as is
    the default), or why it was held back stands in a log in the store, with the incident. A call
    is noted before it is made: of several processes one makes it, and a restart does not repeat it.
    Where it cannot be noted, it is not made. A remedy that raises or hangs harms no other, nor the
    monitor. The threads end with `close`, or when the store is closed.

    A row of `status` has remedy, dry_run, how often it acted, would_have_acted, failed and was
    held_back since the start, is_busy and last_error.

    Parameters
    ----------
    monitor : Monitor
    remedies : iterable of Remedy
        With different names.

    Raises
    ------
    ValueError
        One is no `Remedy`, or two have the same name.
    """

    kind = "remedies"

    def __init__(self, monitor: Monitor, remedies: Iterable[Remedy]) -> None:
        carers = [_Carer(monitor, remedy) for remedy in check_remedies(remedies)]
        super().__init__(monitor, carers)


def check_remedies(remedies: Iterable[Remedy]) -> list[Remedy]:
    """Return remedies as a list; ValueError where one is none, or two have the same name."""
    given = list(remedies)
    for remedy in given:
        if not isinstance(remedy, Remedy):
            raise FieldError("remedies", "must be a list of Remedy", remedy)
    names = Counter(remedy.name for remedy in given)
    for name, n in names.items():
        if n > 1:
            raise FieldError("remedies", "must have different names", name)
    return given


class _Carer:
    """One remedy, and its thread."""

    def __init__(self, monitor: Monitor, remedy: Remedy) -> None:
        self._monitor = monitor
        self._remedy = remedy
        self.looker = Looker(f"remedy {remedy.name}", self._look, lambda: monitor.store.closed)
        self._isolated = Isolated(remedy.timeout_s, self.looker.ended)
        self._calls = RemedyLog(monitor.store, remedy.name)
        self._counts: Counter[str] = Counter()
        self._last_error: str | None = None

    def status(self) -> dict[str, Any]:
        return {
            "remedy": self._remedy.name,
            "dry_run": self._remedy.dry_run,
            "acted": self._counts[ACTED],
            "would_have_acted": self._counts[WOULD_ACT],
            "failed": self._counts[FAILED],
            "held_back": self._counts[HELD_BACK],
            "is_busy": self._isolated.is_busy,
            "last_error": self._last_error,
        }

    def end_turn(self) -> None:
        try:
            self._calls.turn.end()
        except (OSError, ValueError):
            return  # it is over after a minute

    def _look(self) -> float | None:
        """Call the remedy where it is to be called; return None where it is not."""
        if self._isolated.is_busy:
            self._keep_turn()
            return NOTICE_LOOK_S
        active = self._monitor.incidents(ACTIVE)
        meant = [each for each in active if is_meant(self._remedy, each)]
        if not meant:
            return None
        if not self._calls.turn.take():
            return NOTICE_LOOK_S
        has_acted = [self._care(each) for each in meant]
        return 0.0 if any(has_acted) else None

    def _keep_turn(self) -> None:
        """Keep the turn while a call that was given up may return soon, and then no more.

        A call that never returns is to stop the remedy in this process alone: another one finds
        the call in the log, and its limits.
        """
        if self._isolated.busy_s < self._remedy.timeout_s + turns.TURN_S:
            self._calls.turn.keep()

    def _care(self, incident: Incident) -> bool:
        """Return whether the remedy was called for an incident."""
        log = self._calls.read()
        decision = decide(self._remedy, incident, log, time.time_ns())
        if decision.call:
            decision = self._condition(incident)
            if decision.call and not self._calls.turn.take():
                return False  # it took so long that another process has its turn
            log = self._calls.read()
        if decision.call:
            decision = decide(self._remedy, incident, log, time.time_ns())
        if decision.call and not self._isolated.is_busy:
            self._call(incident)
            return True
        if decision.about:
            held = self._row(incident, HELD_BACK, decision.about)
            if is_new(held, log):
                self._note(held)
        return False

    def _condition(self, incident: Incident) -> Decision:
        """Return what the condition of the remedy's own says."""
        if self._remedy.matches is None:
            return Decision(True)
        matches = self._remedy.matches
        keep = self._calls.turn.keep
        matched, error = self._isolated.call(lambda: bool(matches(incident)), keep)
        if error:
            self._last_error = error
            return Decision(False, f"its condition failed: {error}")
        return Decision(matched)

    def _call(self, incident: Incident) -> None:
        if self._remedy.dry_run:
            self._note(self._row(incident, WOULD_ACT, ""))
            return
        begun = self._row(incident, BEGUN, "")
        self._calls.save(begun)  # or it is not called: the limits would not know
        keep = self._calls.turn.keep
        told, error = self._isolated.call(partial(_act, self._remedy, incident), keep)
        if error:
            self._last_error = error
            self._note(begun._replace(outcome=FAILED, about=error))
        else:
            self._note(begun._replace(outcome=ACTED, about=told))

    def _row(self, incident: Incident, outcome: str, about: str) -> RemedyCall:
        as_of_ns = unix_ns(incident.last_anomaly)
        return RemedyCall(time.time_ns(), incident.id, self._remedy.name, outcome, about, as_of_ns)

    def _note(self, call: RemedyCall) -> None:
        self._counts[call.outcome] += 1
        about = f": {call.about}" if call.about else ""
        _log.info("remedy %s %s for %s%s", call.remedy, call.outcome, call.incident, about)
        self._calls.save(call)


def _act(remedy: Remedy, incident: Incident) -> str:
    """Return what a remedy returned, as text."""
    value = remedy.act(incident)
    return "" if value is None else shown_text(str(value).strip())
