"""Measure beside the peers and print one table: ``python -m benchmarks.ratios [--large]``.

Each measurement runs in a process of its own, one after the other. That of a peer runs in the
environment ``.venv-PEER``, where ``make bench`` installed it beside this package; without it, in
this one. CPU time of both sides in turn, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.ratios import shown
from benchmarks.ratios.guard import worse
from benchmarks.ratios.measured import Measured, load, save

ROOT = Path(__file__).parents[2]


class Job(NamedTuple):
    """What a process measures: a module of this folder, its function, and the peer it needs."""

    module: str
    function: str = "measure"
    peer: str = ""
    large: bool = True  # whether it has a large form


JOBS = {
    "pandas": Job("dataframes"),
    "polars": Job("dataframes", "measure_polars", "polars"),
    "duckdb": Job("dataframes", "measure_duckdb", "duckdb"),
    "first": Job("first", large=False),
    "recording": Job("recording", peer="opentelemetry", large=False),
    "storing": Job("storing"),
    "monitor": Job("monitor"),
    "causes": Job("causes", large=False),
    "scale": Job("scale"),
    "processes": Job("processes", large=False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and draw it; return 1 where `--guard` finds a figure worse than before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("--large", action="store_true", help="10 and 20 million spans (long)")
    parser.add_argument("--only", action="append", choices=JOBS, help="measure this again alone")
    parser.add_argument("--last", action="store_true", help="measure nothing, show the last run")
    parser.add_argument("--guard", action="store_true", help="fail where a ratio became worse")
    parser.add_argument("--keep", action="store_true", help="write figures and picture into docs/")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.job:
        save(_rows(JOBS[asked.job], asked.large), asked.rows)
        return 0
    chosen = asked.only or [name for name, job in JOBS.items() if job.large or not asked.large]
    rows = run([] if asked.last else chosen, asked.large)
    print(shown.heading(_machine(), datetime.now(UTC).date().isoformat()))
    print(shown.table(rows))
    if asked.keep:
        shown.keep(rows, asked.large, _machine())
    return shown.tell(worse(rows)) if asked.guard else 0


def run(names: Sequence[str], large: bool) -> list[Measured]:
    """Measure, and return the rows by part, those of earlier runs where it was not asked for now.

    What fails is told, and its rows are left out.
    """
    for name in names:
        begin = time.monotonic()
        file = _file(name, large)
        file.unlink(missing_ok=True)
        code = _process(name, large, file)
        failed = f", FAILED with exit code {code}" if code else ""
        took = time.monotonic() - begin
        print(f"{name}: {len(load(file))} figures in {took:.0f} s{failed}", file=sys.stderr)
    rows = [row for name in JOBS for row in load(_file(name, large))]
    return sorted(rows, key=lambda row: row.part)


def _file(name: str, large: bool) -> Path:
    folder = ROOT / "build" / "ratios"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}{'_large' * large}.jsonl"


def _process(name: str, large: bool, file: Path) -> int:
    command = [_python(JOBS[name].peer), "-W", "ignore", "-m", "benchmarks.ratios"]
    command += ["--job", name, "--rows", str(file), *["--large"] * large]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr).returncode


def _python(peer: str) -> str:
    for folder, name in (("bin", "python"), ("Scripts", "python.exe")):
        found = ROOT / f".venv-{peer}" / folder / name
        if peer and found.exists():
            return str(found)
    return sys.executable


def _rows(job: Job, large: bool) -> Iterator[Measured]:
    module = importlib.import_module(f"benchmarks.ratios.{job.module}")
    work: Callable[[bool], Iterator[Measured]] = getattr(module, job.function)
    return work(large)


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
