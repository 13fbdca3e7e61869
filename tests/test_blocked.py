"""Lessons run where a browser would run them: without numba, sockets and new threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.test_notebooks import LESSONS, ROOT

THREADS = ("01", "07")
"""Lessons that need threads: a request that hangs while others go on."""

QUICK = "02"
"""The one that also `make test` runs."""

RUNS = [path for path in LESSONS if path.name[:2] not in THREADS]


def run(lesson: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.blocked", str(lesson)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)


@pytest.mark.parametrize(
    "lesson",
    [
        pytest.param(path, marks=() if path.name[:2] == QUICK else pytest.mark.lite, id=path.stem)
        for path in RUNS
    ],
)
def test_a_lesson_runs_without_compiler_sockets_and_threads(lesson: Path) -> None:
    ran = run(lesson)
    assert ran.returncode == 0, ran.stderr


def test_at_least_eleven_lessons_do() -> None:
    assert len(RUNS) >= 11


BLOCKED = {
    "import numba": "import of numba halted",
    "import socket; socket.create_server(('127.0.0.1', 0))": "no sockets here",
    "import threading; threading.Thread(target=print).start()": "can't start new thread",
}

TRIED = """
try:
    {code}
except (ImportError, OSError, RuntimeError) as error:
    print(error)
"""


def test_what_is_blocked_raises_and_a_wrong_claim_ends_the_lesson(tmp_path: Path) -> None:
    cells = [new_code_cell(TRIED.format(code=code)) for code in BLOCKED]
    lesson = tmp_path / "lesson.ipynb"
    nbformat.write(new_notebook(cells=[*cells, new_code_cell("assert 1 + 1 == 3")]), lesson)
    ran = run(lesson)
    assert ran.returncode == 1
    assert ran.stderr.strip().endswith("AssertionError")
    for told, line in zip(BLOCKED.values(), ran.stdout.splitlines(), strict=True):
        assert told in line
