"""Part 8: many files on two workers, one of which is killed, and each file beside pandas."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from benchmarks import scale
from benchmarks.ratios.measured import Measured


def measure(large: bool) -> Iterator[Measured]:
    """Yield what `benchmarks.scale` finds with 20 million spans, or with one."""
    number = 20_000_000 if large else 1_000_000
    scale.compile_kernels()
    with tempfile.TemporaryDirectory() as folder:
        shown = scale.run(folder, number, scale.FILES, workers=2, one_frame=not large)
    what = f"{number / 1e6:g} million spans in {shown.files} files"
    title = f"self time and graph, file by file, {what}: CPU time by that of pandas"
    yield Measured(8, title, shown.by_pandas, scale.GOAL_PANDAS)
    title = f"results of two workers, one killed, that differ from one process, {what}"
    yield Measured(8, title, len(shown.differing), 0, "parts")
    again = sum(count - 1 for count in shown.tasks.values())
    title = f"tasks that were done twice, {what}"
    yield Measured(8, title, again, 0, "tasks", note=f"of {len(shown.tasks)}")
    title = f"CPU time of replaying {what} in one process, a span"
    yield Measured(8, title, 1e6 * shown.cpu_s / number, None, "CPU us")
