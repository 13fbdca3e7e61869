"""What does a file say was changed, and does it name services as the spans do?"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from aiops_lab.checks import shorten
from aiops_lab.explain.changes import Change, check_changes, services_of
from aiops_lab.known_names import MOST_NAMES, known_instead

MOST_HEADER = 2_000  # bytes of the line with the names of the columns


def read_changes(path: str) -> list[Change]:
    """Return the changes of a CSV file with the columns time, service and what, all read as text.

    The file may be compressed by gzip, if its name ends in .gz.

    Raises
    ------
    ValueError
        As `check_changes`.
    """
    # a JSON on one line would be a header of 100,000 columns, on which pandas spends minutes
    check_changes(pd.DataFrame(columns=_columns(path)))
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    return check_changes(frame)


def _columns(path: str) -> list[str]:
    """Return the names of the columns of a CSV file, each once, at most those of the beginning."""
    opener: Any = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as file:
        begin = file.read(MOST_HEADER)
    lines = begin.decode("utf-8-sig", "replace").lstrip().splitlines()
    header = next(csv.reader(lines, skipinitialspace=True), [])
    return [*dict.fromkeys(header)]


def unknown_services(changes: Iterable[Change], spans: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence for each service of changes that the spans neither have nor call, by name,
    with those of similar names.
    """
    known = services_of(spans)
    changed = {change.service for change in changes}
    unknown = sorted(changed.difference(known))
    for service in unknown[:MOST_NAMES]:
        others = known_instead(service, known, "they have")
        yield f"no span is of the service {shorten(service)}, {others}"
    more = len(unknown) - MOST_NAMES
    if more > 0:
        yield f"no span is of {more} more of its services"
