"""Measure beside the peers and print one table: ``python -m benchmarks.ratios [--large]``.

Each measurement runs in a process of its own, one after the other. That of a peer runs in the
environment ``.venv-PEER``, where ``make bench`` installed it beside this package; without it, in
this one. CPU time of both sides in turn, so that a busy machine is busy for both.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from benchmarks.ratios import shown
from benchmarks.ratios.guard import limits, missing, worse
from benchmarks.ratios.measured import Measured, load, save

ROOT = Path(__file__).parents[2]
FILES = ROOT / "build" / "ratios"


class Job(NamedTuple):
    """What a process measures: a module of this folder, its function, and the peer it needs."""

    module: str
    function: str = "measure"
    titles: str = "titles"  # the function that returns the titles of the figures
    peer: str = ""
    large: bool = True  # whether it has a large form


JOBS = {
    "pandas": Job("dataframes"),
    "polars": Job("dataframes", "measure_polars", "titles_polars", "polars"),
    "duckdb": Job("dataframes", "measure_duckdb", "titles_duckdb", "duckdb"),
    "first": Job("first", large=False),
    "recording": Job("recording", peer="opentelemetry", large=False),
    "storing": Job("storing"),
    "monitor": Job("monitor"),
    "causes": Job("causes", large=False),
    "scale": Job("scale"),
    "processes": Job("processes", large=False),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and draw it.

    Return 1 where a measurement failed, or `--guard` finds a figure beyond its limit or missing.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ratios", description=__doc__)
    parser.add_argument("--large", action="store_true", help="10 and 20 million spans (long)")
    parser.add_argument("--only", action="append", choices=JOBS, help="measure this again alone")
    parser.add_argument("--last", action="store_true", help="measure nothing, show the last run")
    parser.add_argument(
        "--guard", action="store_true", help="fail where a ratio is beyond its limit"
    )
    parser.add_argument("--keep", action="store_true", help="write this run into docs/")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.job:
        save(_rows(JOBS[asked.job], asked.large), asked.rows)
        other = titles_of(JOBS[asked.job], asked.large) ^ {row.what for row in load(asked.rows)}
        if other:
            sys.exit(f"{asked.job} must yield what it names, got more or less: {sorted(other)}")
        return 0
    if asked.keep and (asked.only or asked.last):
        parser.error("--keep writes one whole run, so it goes with neither --only nor --last")
    chosen = asked.only or [name for name, job in JOBS.items() if job.large or not asked.large]
    growth = FILES / "growth.png"
    if not asked.last:
        growth.unlink(missing_ok=True)
    begin = shown.now()
    failed = [] if asked.last else run(chosen, asked.large)
    rows = rows_of(chosen, asked.large)
    above = shown.heading(begin, shown.now(), failed)
    print(f"{above}\n" * (not asked.last) + shown.table(rows))
    if asked.keep:
        shown.keep(rows, asked.large, above, growth)
    kept = limits(asked.large) if asked.guard else {}
    return shown.tell(failed, worse(rows, kept) + ([] if asked.only else missing(rows, kept)))


def run(names: Sequence[str], large: bool) -> list[str]:
    """Measure one after the other, and return which failed: their rows may be incomplete."""
    failed = []
    for name in names:
        begin = time.monotonic()
        file = _file(name, large)
        file.unlink(missing_ok=True)
        code = _process(name, large, file)
        told = f", FAILED with exit code {code}" if code else ""
        took = time.monotonic() - begin
        print(f"{name}: {len(load(file))} figures in {took:.0f} s{told}", file=sys.stderr)
        failed += [name] if code else []
    return failed


def rows_of(names: Sequence[str], large: bool) -> list[Measured]:
    """Return by part what was measured last."""
    rows = [row for name in names for row in load(_file(name, large))]
    return sorted(rows, key=lambda row: row.part)


def _file(name: str, large: bool) -> Path:
    FILES.mkdir(parents=True, exist_ok=True)
    return FILES / f"{name}{'_large' * large}.jsonl"


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


def titles_of(job: Job, large: bool) -> set[str]:
    """Return the titles of the figures that a job yields."""
    work: Callable[[bool], Sequence[str]] = getattr(_module(job), job.titles)
    return set(work(large))


def _rows(job: Job, large: bool) -> Iterator[Measured]:
    work: Callable[[bool], Iterator[Measured]] = getattr(_module(job), job.function)
    return work(large)


def _module(job: Job) -> ModuleType:
    return importlib.import_module(f"benchmarks.ratios.{job.module}")


if __name__ == "__main__":
    sys.exit(main())
