"""How long does a learner wait, and with what sign? ``python -m benchmarks.lessons [NUMBER …]``.

Each lesson runs as JupyterLab runs it, in a kernel that may ask questions. Listed are the cells
that take more than 2 s of wall time, and whether they showed a bar (or a line) on stderr.
``--twice`` runs each lesson a first time unmeasured, so that files are cached and code is compiled.

Exit code 1 if a cell over 2 s shows nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

LESSONS = Path(__file__).resolve().parents[1] / "notebooks"
PATIENCE = 2.0
"""Seconds that a cell may take without a sign that work is on."""
BAR = re.compile(r"\d+%\||\d+ ?\w+ \[\d\d:\d\d|…")


class Cell(NamedTuple):
    """One cell that was run: its id, its seconds, and those until its first sign, if any."""

    lesson: str
    id: str
    seconds: float
    sign: float | None

    def is_silent(self) -> bool:
        return self.seconds > PATIENCE and self.sign is None


def timed(path: Path) -> Iterator[Cell]:
    """Run a lesson in a kernel of its own; yield its code cells as they end."""
    env = os.environ | {"AIOPS_LAB_GUESSES": os.devnull}
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(path.parent), env=env)
    try:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                yield Cell(path.name[:2], cell.id, *_run(client, cell.source))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run(client: BlockingKernelClient, code: str) -> tuple[float, float | None]:
    """Return how many seconds a cell takes, and how many until its first sign."""
    signs = []
    began = time.monotonic()

    def heard(message: dict) -> None:
        content = message["content"]
        if content.get("name") == "stderr" and BAR.search(content["text"]):
            signs.append(time.monotonic() - began)

    client.execute_interactive(code, allow_stdin=True, output_hook=heard, timeout=300)
    return time.monotonic() - began, min(signs, default=None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", nargs="*", help="such as 03; default: all")
    parser.add_argument("--twice", action="store_true", help="run each once before it is timed")
    arguments = parser.parse_args()
    paths = [path for path in sorted(LESSONS.glob("*.ipynb")) if _asked(path, arguments.lesson)]
    print("| lesson | cell | s | first sign after s |\n|---|---|---|---|")
    cells = [cell for path in paths for cell in _listed(path, arguments.twice)]
    slow = [cell for cell in cells if cell.seconds > PATIENCE]
    silent = sum(cell.is_silent() for cell in slow)
    print(
        f"\n{len(cells)} cells of {len(paths)} lessons, {len(slow)} over {PATIENCE:g} s, "
        f"{silent} of them without a bar"
    )
    return int(silent > 0)


def _asked(path: Path, numbers: list[str]) -> bool:
    return not numbers or path.name[:2] in numbers


def _listed(path: Path, twice: bool) -> list[Cell]:
    """Time a lesson and print a row for each of its slow cells."""
    if twice:
        list(timed(path))
    cells = []
    for cell in timed(path):
        cells.append(cell)
        if cell.seconds > PATIENCE:
            sign = "none" if cell.sign is None else f"{cell.sign:.1f}"
            print(f"| {cell.lesson} | {cell.id} | {cell.seconds:.1f} | {sign} |", flush=True)
    return cells


if __name__ == "__main__":
    sys.exit(main())
