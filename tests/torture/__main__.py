"""``make torture``: faults, fuzz and a soak, and one table. Exit code 1: something was lost."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.torture import clients, code, files, fuzz, processes, respond, virtual
from tests.torture.soak import soak
from tests.torture.table import HEADER, Row, line_of, summary

Trouble = Callable[[Path], Row]

ALL: tuple[Trouble, ...] = (
    *processes.ALL,
    *files.ALL,
    *clients.ALL,
    *code.ALL,
    *respond.ALL,
    *virtual.ALL,
    *fuzz.ALL,
)
SOAK_MINUTES = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Do all, or what was chosen; return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=SOAK_MINUTES, help="of the soak; 0: none")
    parser.add_argument("--only", metavar="WORD", default="", help="kinds with this in their name")
    options = parser.parse_args(arguments)
    chosen = [each for each in ALL if options.only in each.__name__]
    if options.minutes > 0 and options.only in "soak":
        chosen.append(partial(soak, minutes=options.minutes))
    began = time.monotonic()
    rows = [_thrown(trouble) for trouble in chosen]
    print(f"\n{HEADER}\n{'|'.join(['', *['---'] * 6, ''])}")
    for row in rows:
        print(line_of(row))
    print(f"\n{summary(rows, time.monotonic() - began)}")
    return 1 if any(row.failed for row in rows) else 0


def _thrown(trouble: Trouble) -> Row:
    """Return the row of one kind of trouble, also where it ended with an error of its own."""
    name = getattr(trouble, "__name__", "soak")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        try:
            row = trouble(Path(folder))
        except Exception as error:
            traceback.print_exc()
            row = Row(name, 0, f"FAILED: {type(error).__name__}")
    print(f"{time.monotonic() - began:6.1f} s  {name}: {row.seen}", file=sys.stderr, flush=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
