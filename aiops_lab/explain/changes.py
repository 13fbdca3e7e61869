"""What was changed before it broke? Deployments and the like, beside the cause of an incident.

A change shortly before a fault is a reason to look at it, and no proof. How much it says depends on
how often the service is changed: changes that have nothing to do with the fault come so close to it
with the probability ``1 - exp(-rate * seconds)``, as arrivals of a Poisson process do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import expm1
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.detect.detectors import sustained_shift
from aiops_lab.detect.incidents import Incident
from aiops_lab.numerics import to_timestamp, to_utc, unix_ns
from aiops_lab.results import SEVERITIES, Anomaly, Step, TableRow, iso

LOOK_BACK_S = 1800.0
"""Seconds before the first anomaly in which a change is told, half an hour: what breaks later than
that after a change is rarely found by its time. Raising it tells more changes, most without a part
in it."""

RARE = 0.05
"""By chance a change comes so close at most this often, where it counts as a reason to look there
first: the usual level of a test. Raising it points at more innocent changes."""

MEANT_RATIO = 1.5
"""Up to this ratio a higher latency may be meant. Raising it offers more levels as the new normal,
with regressions among them."""

OFFER = (
    " If this small shift is meant, accept its level as the new normal: Monitor.accept(id, now), or"
    " POST /aiops/incidents/<id>/resolve?accept=true."
)
"""What a verdict offers where a small lasting shift began at a change."""

MOST_TEXT = 200
"""Characters of a service or of what was changed."""


class Change(NamedTuple):
    """Something was changed on purpose: a deployment, a flag, a setting, the number of instances.

    ``time`` is a Timestamp (UTC if it names no zone), ``service`` the name of the service in its
    spans, ``what`` a short text such as ``"deployment 2.4.1"``.
    """

    time: pd.Timestamp
    service: str
    what: str


def check_change(change: Any) -> Change:
    """Return a change with its time in UTC.

    Raises
    ------
    ValueError
        If it is no `Change`, its time is not one of the years 1990 to 2100, or a text is empty or
        longer than 200 characters.
    """
    if not isinstance(change, Change):
        raise FieldError("change", "must be a Change(time, service, what)", change)
    for name in ("service", "what"):
        text = getattr(change, name)
        if not isinstance(text, str) or not 0 < len(text) <= MOST_TEXT:
            raise FieldError(name, f"must be a text of 1 to {MOST_TEXT} characters", text)
        if _is_broken(text):
            raise FieldError(name, "must be a text that UTF-8 can write", text)
    return change._replace(time=to_timestamp(unix_ns(to_utc(change.time, "time"))))


def _is_broken(text: str) -> bool:
    """Return whether a text holds half of a pair of surrogates, which no file can hold."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def check_changes(changes: Any) -> list[Change]:
    """Return changes, also the rows of a frame with the columns time, service and what.

    Raises
    ------
    ValueError
        As `check_change`, or if the frame lacks a column.
    """
    if isinstance(changes, pd.DataFrame):
        missing = [name for name in Change._fields if name not in changes]
        if missing:
            rule = f"must have the columns time, service, what ({', '.join(missing)} is missing)"
            raise FieldError("changes", rule, list(changes))
        rows = changes.loc[:, list(Change._fields)].itertuples(index=False)
        changes = [Change(*row) for row in rows]
    if isinstance(changes, str) or not isinstance(changes, Iterable):
        raise FieldError("changes", "must be changes or a frame of them", changes)
    return [check_change(change) for change in changes]


def services_of(spans: pd.DataFrame) -> set[str]:
    """Return the services of spans, and those that they call."""
    both = pd.concat([spans["service"], spans["peer"]])
    return set(both.dropna())


def changes_before(
    changes: Sequence[Change], service: str, first_seen: pd.Timestamp, observed_since: pd.Timestamp
) -> Step:
    """Return what was changed in the half hour before an anomaly, newest first, in a step.

    Parameters
    ----------
    changes
        All that were noted, later ones too: they are left out.
    service
        Where the fault began.
    first_seen
        The end of the first window with an anomaly: the fault may have begun anywhere in it.
    observed_since
        Since when changes have been noted, or spans recorded.
    """
    past = [change for change in changes if change.time <= first_seen]
    since = min([observed_since, *(change.time for change in past)])
    observed_s = _seconds(since, first_seen)
    rows = []
    for change in sorted(past, key=_newest_first):
        before_s = _seconds(change.time, first_seen)
        if before_s <= LOOK_BACK_S:
            number = sum(other.service == change.service for other in past)
            rows.append(_row(change, before_s, _by_chance(number, before_s, observed_s)))
    own = [row for row in rows if row["service"] == service]
    others = [row for row in rows if row["service"] != service]
    return Step("What was changed before?", _in_words(own, others, service), [*own, *others])


def change_suspected(incident: Incident) -> TableRow | None:
    """Return the newest change of the cause's service, if one comes so close by chance in few cases
    (`RARE`); None otherwise.
    """
    cause = incident.root_cause
    if cause is None:
        return None
    rows = [row for step in incident.verdict.changes for row in step.rows]
    own = [row for row in rows if row["service"] == cause.service]
    if not own:
        return None
    newest = own[0]
    return newest if newest["by_chance"] <= RARE else None


def change_behind(incident: Incident) -> TableRow | None:
    """Return the change after which the level of an incident began, None where there is none.

    That is asked only where nothing but a small lasting rise of the latency was seen. It is then
    what `change_suspected` returns: a level that somebody may have meant, and may accept as the new
    normal.
    """
    is_meant = all(map(_may_be_meant, incident.anomalies))
    return change_suspected(incident) if is_meant else None


def _may_be_meant(anomaly: Anomaly) -> bool:
    """Return whether an anomaly is a small lasting rise of the latency, and not of the failures."""
    if anomaly.type != sustained_shift.name or anomaly.severity != SEVERITIES[0]:
        return False
    evidence = anomaly.evidence
    return "error_rate" not in evidence and evidence.get("deviation", 1.0) <= MEANT_RATIO


def _by_chance(number: int, before_s: float, observed_s: float) -> float:
    """Return how likely one of `number` changes in the time observed comes so shortly before."""
    if before_s >= observed_s:
        return 1.0
    return -expm1(-number * before_s / observed_s)


def _row(change: Change, before_s: float, by_chance: float) -> TableRow:
    about = {"time": iso(change.time), "service": change.service, "what": change.what}
    return about | {"before_s": round(before_s, 3), "by_chance": round(by_chance, 4)}


def _in_words(own: list[TableRow], others: list[TableRow], service: str) -> str:
    if own:
        newest = own[0]
        text = (
            f"{newest['what']} of {service} came at most {newest['before_s']:.0f} s before the "
            f"fault began. By chance alone one comes so close in {newest['by_chance']:.0%} of cases"
        )
        if newest["by_chance"] <= RARE:
            return f"{text}: look at it first. The order in time is no proof."
        return f"{text}: that says little."
    minutes = f"{LOOK_BACK_S / 60:.0f} minutes"
    if others:
        newest = others[0]
        elsewhere = f"{newest['what']} of {newest['service']} {newest['before_s']:.0f} s before"
        return f"Nothing was changed at {service} in the {minutes} before; elsewhere: {elsewhere}."
    return f"No change was noted in the {minutes} before."


def _newest_first(change: Change) -> tuple[float, str, str]:
    return -change.time.timestamp(), change.service, change.what


def _seconds(since: pd.Timestamp, until: pd.Timestamp) -> float:
    return (unix_ns(until) - unix_ns(since)) / 1e9
