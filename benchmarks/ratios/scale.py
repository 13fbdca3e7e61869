"""Part 8: many files on two workers, one of which is killed, and each file beside pandas."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from benchmarks import scale
from benchmarks.ratios.measured import Measured


def titles(large: bool) -> tuple[str, str, str, str]:
    """Return the titles of the time by pandas, of results and tasks, and of the replay."""
    what = f"{_number(large) / 1e6:g} million spans in {scale.FILES} files"
    return (
        f"self time and graph, file by file, {what}: CPU time by that of pandas",
        f"results of two workers, one killed, that differ from one process, {what}",
        f"tasks that were done twice, {what}",
        f"CPU time of replaying {what} in one process, a span",
    )


def _number(large: bool) -> int:
    return 20_000_000 if large else 1_000_000


def measure(large: bool) -> Iterator[Measured]:
    """Yield what `benchmarks.scale` finds with 20 million spans, or with one."""
    by_pandas, differ, twice, replayed = titles(large)
    number = _number(large)
    scale.compile_kernels()
    with tempfile.TemporaryDirectory() as folder:
        shown = scale.run(folder, number, scale.FILES, workers=2, one_frame=not large)
    yield Measured(8, by_pandas, shown.by_pandas, scale.GOAL_PANDAS, note=f"{shown.files} files")
    yield Measured(8, differ, len(shown.differing), 0, "parts")
    again = sum(count - 1 for count in shown.tasks.values())
    yield Measured(8, twice, again, 0, "tasks", note=f"of {len(shown.tasks)}")
    yield Measured(8, replayed, 1e6 * shown.cpu_s / number, None, "CPU us")
