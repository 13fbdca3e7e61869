"""Part 2: the first second. A fresh interpreter with an empty cache, with numba and without it."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.ratios.measured import Measured

ROOT = Path(__file__).parents[2]
GOAL_REPLAY_S, GOAL_IMPORT = 3.0, 1.3
RUNS = 5
REPLAY = """
import sys, time
if {without}: sys.modules["numba"] = None
import aiops_lab as lab
begin = time.process_time()
found = lab.replay(lab.read_spans("data/cause_latency.csv.gz")).incidents
print(time.process_time() - begin, "numba" in sys.modules and sys.modules["numba"] is not None,
      len(found))
"""


def titles(large: bool) -> tuple[str, ...]:
    """Return the titles of the four replays and of the three figures behind them."""
    replays = [
        f"first replay in an interpreter, {state} cache, {numba}"
        for numba in ("with numba", "without numba")
        for state in ("cold", "warm")
    ]
    return (
        *replays,
        "first replay, cold cache with numba, by the same when warm",
        "first replays that loaded a compiler, of 4",
        "import aiops_lab and the names for recording, by import flask",
    )


def measure(large: bool) -> Iterator[Measured]:
    """Yield what first replays take, cold and warm, and what an import takes by that of Flask."""
    *replays, by_warm, loaded, imported = titles(large)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "package"
        for name in ("aiops_lab", "data"):
            ignored = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
            shutil.copytree(ROOT / name, place / name, ignore=ignored)
        took: list[float] = []
        compilers = 0
        for without in (False, True):
            _forget(place)
            for _ in ("cold", "warm"):
                seconds, compiler, incidents = _replay(place, without)
                note = f"{incidents} incident"
                title = replays[len(took)]
                yield Measured(2, title, seconds, GOAL_REPLAY_S, "CPU s", note=note)
                took.append(seconds)
                compilers += compiler
    yield Measured(2, by_warm, took[0] / took[1])
    yield Measured(2, loaded, compilers, 0, "replays")
    ratios = [_import_ratio() for _ in range(RUNS)]
    yield Measured(2, imported, statistics.median(ratios), GOAL_IMPORT)


def _forget(place: Path) -> None:
    for pattern in ("__pycache__", "*.nb[ic]"):
        for found in [*place.rglob(pattern)]:
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def _replay(place: Path, without: bool) -> tuple[float, bool, int]:
    environment = os.environ | {"PYTHONPATH": str(place)}
    for name in ("PYTHONDONTWRITEBYTECODE", "NUMBA_CACHE_DIR"):
        environment.pop(name, None)
    command = [sys.executable, "-c", REPLAY.format(without=without)]
    run = subprocess.run(
        command, cwd=place, env=environment, check=True, capture_output=True, text=True
    )
    seconds, compiler, incidents = run.stdout.split()
    return float(seconds), compiler == "True", int(incidents)


def _import_ratio() -> float:
    lines = ("pass", "import flask", "from aiops_lab import instrument, Session, SpanStore")
    empty, flask, own = (_cpu_s(line) for line in lines)
    return (own - empty) / (flask - empty)


def _cpu_s(line: str) -> float:
    code = f"{line}\nimport time; print(time.process_time())"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return float(run.stdout)
