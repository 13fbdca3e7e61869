"""How are the figures shown? As a table on the screen and in docs/results.md, and as a picture."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.ratios.measured import Measured

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"
PICTURES = {False: "ratios.png", True: "ratios_large.png"}
MARKS = {
    False: ("<!-- made by make bench -->", "<!-- end of make bench -->"),
    True: ("<!-- made by make bench-large -->", "<!-- end of make bench-large -->"),
}


class Moment(NamedTuple):
    """A time, the CPU seconds of the processes until then, and how many processes there are."""

    at: datetime
    cpu_s: float
    load: float  # that run or wait, on average over a minute; NaN where the system does not say


def now() -> Moment:
    """Return this moment; CPU seconds are those of this process and of its children that ended."""
    times = os.times()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return Moment(datetime.now(UTC), sum(times[:4]), load)


def heading(begin: Moment, end: Moment, failed: Sequence[str] = ()) -> str:
    """Return what stands above the table of one run: when, where, beside what, and what failed."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    took_s = (end.at - begin.at).total_seconds()
    told = [
        f"One run, on {begin.at:%Y-%m-%d} from {begin.at:%H:%M} to {end.at:%H:%M} UTC: {machine};",
        f"{took_s:.0f} s, of which {end.cpu_s - begin.cpu_s:.0f} s of CPU.",
        f"Processes that ran or waited: {begin.load:.1f} at its begin, {end.load:.1f} at its end.",
        "Figures are CPU time where nothing else is said, both sides of a ratio in turn.",
    ]
    if failed:
        told.append(f"**Without the figures of what failed: {', '.join(failed)}.**")
    return "\n".join(told)


def table(rows: Sequence[Measured]) -> str:
    """Return rows as a table of markdown, and how many goals hold."""
    lines = ["| part | what | measured | goal | | |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        verdict = f"**{row.verdict}**" if row.verdict == "missed" else row.verdict
        cells = (str(row.part), row.what, _value(row), row.shown_goal, verdict, row.note)
        lines.append("| " + " | ".join(cells) + " |")
    held = sum(row.verdict == "holds" for row in rows)
    missed = sum(row.verdict == "missed" for row in rows)
    return "\n".join([*lines, "", f"{held} goals hold, {missed} are missed."])


def _value(row: Measured) -> str:
    digits = 3 if abs(row.value) < 10 else 4
    number = f"{row.value:.{digits}g}" if abs(row.value) < 1e4 else f"{row.value:,.0f}"
    return f"{number} {row.unit}".strip()


def between(page: str, marks: tuple[str, str], made: str) -> str:
    """Return a page with what stands between two marks replaced.

    Raises
    ------
    ValueError
        The page lacks a mark.
    """
    head, first, rest = page.partition(marks[0])
    _, second, tail = rest.partition(marks[1])
    if not first or not second:
        raise ValueError(f"the page must have the marks {marks[0]} and {marks[1]}")
    return f"{head}{marks[0]}\n\n{made}\n\n{marks[1]}{tail}"


def keep(rows: Sequence[Measured], large: bool, above: str, growth: Path) -> None:
    """Write the table of one run into docs/results.md, and its pictures beside that."""
    made = f"{above}\n\n{table(rows)}"
    PAGE.write_text(between(PAGE.read_text("utf-8"), MARKS[large], made), "utf-8")
    draw(rows, IMAGES / PICTURES[large])
    if growth.exists() and not large:
        shutil.copy(growth, IMAGES / growth.name)


def draw(rows: Sequence[Measured], file: Path) -> None:
    """Draw each figure by its goal: left of the line holds, right of it is missed."""
    from matplotlib.figure import Figure

    from aiops_lab.show import plots

    told = [(row, row.of_goal) for row in rows if row.goal]
    figure = Figure(figsize=(10, 0.6 + 0.27 * len(told)), layout="constrained")
    ax = figure.subplots()
    for place, (_, by) in enumerate(reversed(told)):
        least = max(by or 0.0, 0.004)
        colour, marker = (plots.BLUE, "o") if least <= 1 else (plots.VERMILLION, "s")
        ax.plot([1, least], [place, place], color=colour, linewidth=1.5)
        ax.plot([least], [place], color=colour, marker=marker)
    ax.axvline(1, color="0.3", linewidth=1)
    ax.set(xscale="log", xlabel="measured by goal: what is left of 1 holds")
    ax.set_yticks(range(len(told)), [f"{row.part}  {row.what}" for row, _ in reversed(told)])
    ax.tick_params(axis="y", labelsize=7)
    ax.grid(visible=True, axis="x", alpha=0.3)
    figure.savefig(file, dpi=110)


def tell(failed: Sequence[str], beyond: Sequence[str]) -> int:
    """Print which jobs failed and what is beyond its limit; return 1 where there is any."""
    if failed:
        print(f"failed, so without figures or without all of them: {', '.join(failed)}")
    for line in beyond:
        print(f"beyond its limit: {line}")
    return 1 if failed or beyond else 0
