"""What does a file say was changed, and does it name services as the spans do?"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from aiops_lab.checks import shorten
from aiops_lab.explain.changes import Change, check_changes, services_of
from aiops_lab.known_names import MOST_NAMES, known_instead

MOST_HEADER = 1_000_000  # characters of the line with the names of the columns that are looked at

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # by ending


def read_changes(path: str) -> list[Change]:
    """Return the changes of a CSV file with the columns time, service and what, all read as text.

    The file may be a pipe, and may be compressed, as the end of its name tells: .gz, .bz2 or .xz.

    Raises
    ------
    ValueError
        As `check_changes`, or the content is damaged.
    """
    opener = _OPENERS.get(Path(path).suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            text = _header(file) + file.read()
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"must be whole, got damaged content: {error}") from error
    lines = io.StringIO(text, newline="")
    frame = pd.read_csv(lines, dtype=str, keep_default_na=False, skipinitialspace=True)
    return check_changes(frame)


def _header(file: TextIO) -> str:
    """Return the first line that is not blank, or its beginning, once it has the columns."""
    # a JSON on one line would be a header of 100,000 columns, on which pandas spends minutes
    line = "\n"
    while line and not line.strip():
        line = file.readline(MOST_HEADER)
    names = [name.strip('" \r\n') for name in line.split(",")]
    check_changes(pd.DataFrame(columns=[*dict.fromkeys(names)]))
    return line


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
