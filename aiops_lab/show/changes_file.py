"""What does a file say was changed, and does it name services as the spans do?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

import pandas as pd

from aiops_lab.checks import shorten
from aiops_lab.explain.changes import Change, check_changes

MOST_SERVICES = 5  # that are told


def read_changes(path: str) -> list[Change]:
    """Return the changes of a CSV file with the columns time, service and what, all read as text.

    Raises
    ------
    ValueError
        As `check_changes`.
    """
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    return check_changes(frame)


def unknown_services(changes: Iterable[Change], spans: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence for each service of changes that the spans neither have nor call, by name,
    with those of similar names.
    """
    both = pd.concat([spans["service"], spans["peer"]])
    known = sorted(set(both.dropna()))
    changed = {change.service for change in changes}
    unknown = sorted(changed.difference(known))
    for service in unknown[:MOST_SERVICES]:
        others = f"they have {_listed(known)}"
        near = _similar(service, known)
        if near:
            others = f"perhaps {_listed(near)}"
        yield f"no span is of the service {shorten(service)}, {others}"
    more = len(unknown) - MOST_SERVICES
    if more > 0:
        yield f"no span is of {more} more of its services"


def _similar(name: str, known: list[str]) -> list[str]:
    """Return up to three of the known names that differ little from this one, case aside."""
    small = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), small, 3)
    return [small[each] for each in near]


def _listed(names: list[str]) -> str:
    told = [shorten(name) for name in names[:MOST_SERVICES]]
    if len(names) > MOST_SERVICES:
        told.append("...")
    return ", ".join(told)
