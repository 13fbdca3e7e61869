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
    known = sorted({*spans["service"].dropna(), *spans["peer"].dropna()})
    small = {name.lower(): name for name in known}
    unknown = sorted({change.service for change in changes}.difference(known))
    for service in unknown[:MOST_SERVICES]:
        near = [small[name] for name in get_close_matches(service.lower(), small, 3)]
        others = f"perhaps {_listed(near)}" if near else f"they have {_listed(known)}"
        yield f"no span is of the service {shorten(service)}, {others}"
    if len(unknown) > MOST_SERVICES:
        more = len(unknown) - MOST_SERVICES
        yield f"no span is of {more} more of its services"


def _listed(names: list[str]) -> str:
    told = [shorten(name) for name in names[:MOST_SERVICES]]
    return ", ".join([*told, "..."] if len(names) > MOST_SERVICES else told)
