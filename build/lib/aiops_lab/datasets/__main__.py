"""The command ``python -m aiops_lab.datasets``: converts clones of public repositories."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from aiops_lab.datasets import nezha_clone
from aiops_lab.datasets.sources import SOURCES


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert a clone of a public repository to the layout that `load` reads."""
    parser = argparse.ArgumentParser(prog="python -m aiops_lab.datasets", description=main.__doc__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="nezha")
    command = commands.add_parser("nezha", help="make the compact layout of Nezha's data")
    command.add_argument("source", type=Path, help=f"a clone of {SOURCES['nezha'].source}")
    command.add_argument(
        "out", type=Path, help="the folder to make; it must not exist, or be empty"
    )
    asked = parser.parse_args(arguments)
    try:
        nezha_clone.convert(asked.source, asked.out)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
