"""Which causes are probably one fault? Those at endpoints of one service at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from aiops_lab.results import Suspect

if TYPE_CHECKING:
    import pandas as pd

    from aiops_lab.show.findings import Finding

Cause = tuple["Finding", Suspect]


class ServiceFault(NamedTuple):
    """Causes at several ``endpoints`` (as shown) of one ``service`` at the same time.

    ``cases``: the positions of the incidents, from 0. ``as_usual``: the other endpoints of the
    service that these incidents' requests reached, and that are as usual: they speak against it.
    """

    service: str
    endpoints: tuple[str, ...]
    cases: tuple[int, ...]
    as_usual: tuple[str, ...]

    def __str__(self) -> str:
        named = in_a_row(self.endpoints)
        n = len(self.cases)
        role = f"the causes of {n} incidents at one time"
        if n == 1:
            role = "suspects of one incident"
        likely = "perhaps" if self.as_usual else "probably"
        told = f"These are {likely} one fault of the service {self.service}: {named}, {role}, "
        if not self.as_usual:
            return told + "are endpoints of it."
        others = in_a_row(self.as_usual)
        verb = "is" if len(self.as_usual) == 1 else "are"
        return told + f"are endpoints of it; but {others} of it {verb} as usual."


def service_faults(cases: list[Finding]) -> list[ServiceFault]:
    """Return the faults that several causes share: a service at a time, where two or more of its
    endpoints are causes of incidents that overlap in time.

    Of one incident, all suspects count that are of the service of its cause.
    """

    def service_of(place: int) -> str:
        return cases[place].verdict.suspects[0].service

    places = [place for place, case in enumerate(cases) if case.verdict.cause]
    places.sort(key=lambda place: (service_of(place), cases[place].since))
    found = []
    for service, of_service in groupby(places, service_of):
        for together in _overlapping(list(of_service), cases):
            fault = _fault(service, together, cases)
            if len(fault.endpoints) > 1:
                found.append(fault)
    return found


def _service(case: Finding) -> str:
    return case.verdict.suspects[0].service


def _overlapping(places: list[int], cases: list[Finding]) -> Iterator[list[int]]:
    """Yield the places, sorted by when their cases begin, in groups that overlap in time."""
    group: list[int] = []
    until: pd.Timestamp | None = None
    for place in places:
        case = cases[place]
        if until is not None and case.since > until:
            yield group
            group, until = [], None
        group.append(place)
        until = case.until if until is None else max(until, case.until)
    yield group


def _fault(service: str, places: list[int], cases: list[Finding]) -> ServiceFault:
    verdicts = [cases[place].verdict for place in places]
    suspects = [suspect for verdict in verdicts for suspect in verdict.suspects]
    mine = [suspect for suspect in suspects if suspect.service == service]
    names = dict.fromkeys(suspect.name or suspect.endpoint for suspect in mine)
    rows = [row for verdict in verdicts for row in verdict.endpoints]
    own = [row for row in rows if row["service"] == service]
    reached = [row for row in own if row["n_now"]]
    worse = {row["endpoint"] for row in reached if row["degraded"]}
    others = dict.fromkeys(row["endpoint"] for row in reached)
    as_usual = [name for name in others if name not in worse and name not in names]
    return ServiceFault(
        service=service,
        endpoints=tuple(names),
        cases=tuple(sorted(places)),
        as_usual=tuple(as_usual),
    )


def in_a_row(names: Sequence[str]) -> str:
    """Return names as they stand in a sentence."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
