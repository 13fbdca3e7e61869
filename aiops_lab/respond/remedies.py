"""What may be done about an incident without a person? `Remedy`: a function, and its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiops_lab.checks import FieldError, check_number
from aiops_lab.detect.incidents import ACTIVE, Incident
from aiops_lab.numerics import unix_ns
from aiops_lab.results import INFO
from aiops_lab.user_functions import load_named

WOULD_ACT, ACTED, FAILED, HELD_BACK, BEGUN = (
    "would have acted",
    "acted",
    "failed",
    "held back",
    "begun",
)
"""What a remedy did. Begun: it was called, and the process ended before it returned."""

REAL_CALLS = ACTED, FAILED, BEGUN  # what counts for the limits, in a dry run beside would-haves

MOST_CALLS = 50
"""Rows that the log keeps of a remedy for an incident, the last ones; so many of calls, too."""


@dataclass(frozen=True)
class Remedy:
    """A function that mends one kind of incident, and when it may be called.

    It is called with the `Incident`. What it returns stands in the log, and what it raises.

    Parameters
    ----------
    name : str
        Of the remedy, in the log.
    act : function (Incident) -> object
    kinds : collection of str
        The types of anomaly at the cause, such as ``error_spike``; default: all.
    endpoint, service : str
        Of the cause, or where none was found of the worst anomaly; default: any.
    matches : function (Incident) -> bool
        A further condition.
    dry_run : bool
        Whether it is only told what would have been done. Default True.
    min_confidence : float
        The least confidence of the cause, 0 to 1. Default 0.8: of five such causes four are right.
    most, per_s
        It is called at most `most` times in `per_s` seconds, for all incidents together. Default 3
        in 3,600 s: what three calls have not mended needs a person. At most `MOST_CALLS`, as many
        as the log keeps.
    cooldown_s : float
        Seconds between two calls, default 300: what it did needs time to show. A second call for
        one incident needs a new anomaly after the first.
    timeout_s : float
        Seconds after which it counts as failed, default 30. Its process does not call it again
        before it has returned; another one may, some two minutes later, within the limits.

    Raises
    ------
    ValueError
        A parameter breaks its rule.
    """

    name: str
    act: Callable[[Incident], object]
    kinds: Sequence[str] = ()
    endpoint: str | None = None
    service: str | None = None
    matches: Callable[[Incident], bool] | None = None
    dry_run: bool = True
    min_confidence: float = 0.8
    most: int = 3
    per_s: float = 3600.0
    cooldown_s: float = 300.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        is_text = isinstance(self.name, str)
        if not is_text or not self.name or not self.name.isprintable():
            raise FieldError("name", "must be a text of printable characters", self.name)
        for field in ("act", "matches"):
            given = getattr(self, field)
            if not callable(given) and (field == "act" or given is not None):
                raise FieldError(field, "must be a function of an Incident", given)
        if isinstance(self.kinds, str):
            raise FieldError("kinds", "must be a list of types of anomaly", self.kinds)
        check_number("min_confidence", self.min_confidence, 0, 1)
        check_number("most", self.most, 1, MOST_CALLS, whole=True)
        check_number("per_s", self.per_s, 0, 1e9)
        check_number("cooldown_s", self.cooldown_s, 0, 1e9)
        check_number("timeout_s", self.timeout_s, 0.001, 86_400)


class RemedyCall(NamedTuple):
    """A row of the log of a remedy.

    ``as_of_ns`` is the last anomaly that the incident had then, ``ns`` when it was (both Unix ns).
    ``about`` is why it was held back, what it returned, or its error.
    """

    ns: int
    incident: str
    remedy: str
    outcome: str
    about: str
    as_of_ns: int


class Decision(NamedTuple):
    """Whether a remedy is to be called. If not, `about` says why; "" where nobody needs to know."""

    call: bool
    about: str = ""


def is_meant(remedy: Remedy, incident: Incident) -> bool:
    """Return whether an incident is of the kind that a remedy mends, without its own condition."""
    cause = incident.root_cause
    key = incident.main_anomaly.key if cause is None else cause.key
    kinds = {anomaly.type for anomaly in incident.anomalies if anomaly.key == key}
    if remedy.kinds and not kinds & set(remedy.kinds):
        return False
    service, endpoint = key
    if remedy.service not in (None, service):
        return False
    name = cause.name if cause else ""
    return remedy.endpoint in (None, endpoint, name)


def decide(remedy: Remedy, incident: Incident, log: Sequence[RemedyCall], now_ns: int) -> Decision:
    """Return whether a remedy is to be called for an incident of its kind.

    `log` holds the rows of this remedy, of all incidents, in the order of time.
    """
    if incident.status != ACTIVE:
        return Decision(False)  # over, or a person is at work
    if incident.severity == INFO:
        return Decision(False, "its level may be meant: it began at a noted change")
    counted = (*REAL_CALLS, WOULD_ACT) if remedy.dry_run else REAL_CALLS
    called = [row for row in log if row.outcome in counted]
    mine = [row for row in called if row.incident == incident.id]
    if any(row.as_of_ns >= unix_ns(incident.last_anomaly) for row in mine):
        return Decision(False)  # nothing has happened since
    if incident.root_cause is None:
        return Decision(False, "no cause was found")
    if incident.root_cause.confidence < remedy.min_confidence:
        return Decision(False, f"the confidence is below {remedy.min_confidence:.0%}")
    ages_ns = [now_ns - row.ns for row in called]
    if any(0 <= age_ns < remedy.cooldown_s * 1e9 for age_ns in ages_ns):
        return Decision(False)
    recent = sum(0 <= age_ns < remedy.per_s * 1e9 for age_ns in ages_ns)
    if recent >= remedy.most:
        return Decision(False, f"it was called {recent} times in {remedy.per_s:g} s")
    return Decision(True)


def is_new(held: RemedyCall, log: Sequence[RemedyCall]) -> bool:
    """Return whether a call is held back for another reason than last time for its incident."""
    mine = [row for row in log if row.incident == held.incident]
    if not mine:
        return True
    last = mine[-1]
    return (last.outcome, last.about) != (held.outcome, held.about)


def shown_call(call: RemedyCall, time: str | None) -> dict[str, Any]:
    """Return a row of the log as the HTTP interface shows it."""
    return {
        "time": time,
        "incident": call.incident,
        "remedy": call.remedy,
        "outcome": call.outcome,
        "about": call.about,
    }


def typed_remedies(values: Iterable[str]) -> list[Remedy]:
    """Return the remedies of a command line, each ``FILE.py:NAME`` of a `Remedy` or a list of them.

    Raises
    ------
    ValueError
        A value has another form, cannot be imported, or names something else.
    """
    found: list[Remedy] = []
    for value in values:
        where, named = load_named("remedy", value, "name")
        remedies = [named] if isinstance(named, Remedy) else named
        is_list = isinstance(remedies, list | tuple)
        if not is_list or not all(isinstance(each, Remedy) for each in remedies):
            raise FieldError("remedy", f"must name a Remedy of {where}, or a list of them", value)
        found += remedies
    return found
