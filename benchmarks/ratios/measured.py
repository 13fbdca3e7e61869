"""What was measured, as a row: its value, its goal, and whether the goal holds."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

Work = Callable[[], Any]


class Measured(NamedTuple):
    """One figure. ``unit`` is "" for a ratio; a goal of None: only told."""

    part: int
    what: str
    value: float
    goal: float | None = None
    unit: str = ""
    at_least: bool = False  # the goal is a least value, not a most
    note: str = ""

    @property
    def of_goal(self) -> float | None:
        """The value by the goal, at most 1 where the goal holds; None without a goal."""
        if self.goal is None:
            return None
        if self.goal == 0:
            return 2.0 if self.value > 0 else 1.0
        by = self.value / self.goal
        return (1 / by if by > 0 else float("inf")) if self.at_least else by

    @property
    def verdict(self) -> str:
        """ "holds", "missed", or "" where there is no goal."""
        by = self.of_goal
        if by is None:
            return ""
        return "holds" if by <= 1 else "missed"

    @property
    def shown_goal(self) -> str:
        """The goal as the table shows it."""
        if self.goal is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {self.goal:g}{self.unit and ' ' + self.unit}"


def cpu_s(work: Work) -> float:
    """Return the CPU seconds of one call, of all threads."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def paired(ours: Callable[[], Work], theirs: Callable[[], Work], rounds: int) -> list[float]:
    """Return the CPU time of theirs by that of ours, a ratio a round.

    Each function prepares a round and returns the work that is timed.
    """
    ratios = []
    for turn in range(rounds):
        sides = [ours, theirs] if turn % 2 else [theirs, ours]
        took = {}
        for side in sides:
            work = side()
            gc.collect()
            took[side] = cpu_s(work)
        ratios.append(took[theirs] / took[ours])
    return ratios


def middle(ratios: Iterable[float]) -> float:
    """Return the median: half of the rounds may be disturbed."""
    return statistics.median(ratios)


def spread(ratios: list[float]) -> str:
    """Return the least and the largest ratio as text."""
    return f"rounds {min(ratios):.2f} to {max(ratios):.2f}"


def save(rows: Iterable[Measured], file: Path) -> None:
    """Append rows to a file, each as soon as it is measured."""
    for row in rows:
        with file.open("a") as opened:
            opened.write(json.dumps(row._asdict()) + "\n")


def load(file: Path) -> list[Measured]:
    """Return the rows of a file that `save` wrote."""
    if not file.exists():
        return []
    return [Measured(**json.loads(line)) for line in file.read_text().splitlines()]
