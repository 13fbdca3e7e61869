"""The random tests for longer, and schemathesis against the published description."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import shop
from tests.support.fuzzing import VARIABLE
from tests.torture.table import Row

ROOT = Path(__file__).parents[2]
FACTOR = 2  # times as many examples as in an ordinary run of the tests; readers take minutes
CALLS = 20  # of an operation at most, in one phase

READERS = "tests/formats/test_mutated.py", "tests/show/test_otlp_mutated.py"
HEADERS = ("tests/record/test_trace_context.py",)
CYCLE = ("tests/test_life_cycle.py",)
CLOCKS = "tests/test_clocks.py", "tests/test_killed_in_step.py"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


def run_tests(thrown: str, files: tuple[str, ...], seen: str, factor: int) -> Row:
    """Run some tests; the row says how many of them passed."""
    options = "-q", "-x", "-p", "no:cacheprovider"
    command = [sys.executable, "-m", "pytest", *options, *files]
    environment = os.environ | {VARIABLE: str(factor), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    passed = re.search(r"(\d+) passed", run.stdout)
    if run.returncode != 0:
        print(run.stdout[-5_000:], file=sys.stderr)
        seen = "FAILED: see above"
    return Row(thrown, int(passed[1]) if passed else 0, seen)


def fuzzed_readers(_: Path) -> Row:
    """Change files and messages of all formats at random."""
    return run_tests(
        "kinds of damaged traces (OTLP, Jaeger, Zipkin, CSV)", READERS, "400; ValueError", 1
    )


def fuzzed_headers(_: Path) -> Row:
    """Send random headers of W3C Trace Context."""
    return run_tests("kinds of wrong trace context", HEADERS, "a new trace begins", FACTOR)


def fuzzed_life_cycle(_: Path) -> Row:
    """Let things happen to incidents in random order."""
    return run_tests("random lives of incidents", CYCLE, "a second monitor says the same", FACTOR)


def stepped_clocks(_: Path) -> Row:
    """Let clocks step by an hour back and forth, and kill a monitor in the middle of a step."""
    return run_tests("clocks that step, monitors killed in a step", CLOCKS, "log; clock_changes", 1)


def fuzzed_interface(folder: Path) -> Row:
    """Call all that the description promises, with what fits it and what does not."""
    thrown = "calls by schemathesis"
    program = shutil.which(
        "schemathesis", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    )
    if program is None:
        return Row(thrown, 0, "not run: schemathesis is not installed")
    with shop.running(path=folder / "s.sqlite") as running:
        address = f"{running.url}/aiops/openapi.json"
        options = ["--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing"]
        command = [program, "run", address, "--max-examples", str(CALLS), *options]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        running.clear()
    made = re.search(r"([\d,]+) generated", run.stdout)
    seen = "400 with field, rule and value"
    if run.returncode != 0:
        print(run.stdout[-5_000:], file=sys.stderr)
        seen = "FAILED: see above"
    return Row(thrown, int(made[1].replace(",", "")) if made else 0, seen)


ALL = (fuzzed_readers, fuzzed_headers, fuzzed_life_cycle, stepped_clocks, fuzzed_interface)
