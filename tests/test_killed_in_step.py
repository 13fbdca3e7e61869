"""A monitor that is killed while it saves a step has saved all of it or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import aiops_lab as lab
from tests.support.made import Shop, fault
from tests.support.played import at, to_spans

ROOT = Path(__file__).parents[1]

# Kills itself as a record is made: the 7th is the incident, written after baselines and state.
CHILD = """
import json, os, signal, sys
import aiops_lab as lab
from aiops_lab.record import store as module
from tests.support.played import at

monitor = lab.Monitor(lab.SpanStore(sys.argv[1]))
monitor.step(at(60))
real, left = json.dumps, [int(sys.argv[2])]

def dumps(value, **options):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(value, **options)

module.json.dumps = dumps
monitor.step(at(85))
"""


def outcome(path: Path) -> tuple[list[str], dict[str, object]]:
    with lab.SpanStore(path) as store:
        monitor = lab.Monitor(store)
        monitor.step(at(85))
        return [i.id for i in monitor.incidents()], store.load("baseline")


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_the_next_start_has_learned_once_and_has_the_incident(tmp_path: Path) -> None:
    frame = Shop(1, fault("/payment", 60, 90, added_ms=3000.0)).run(90)
    spans = [lab.Span(*row) for row in to_spans(frame)]
    paths = tmp_path / "whole.sqlite", tmp_path / "killed.sqlite"
    for path in paths:
        with lab.SpanStore(path) as store:
            for span in spans:
                store.add(span)
    with lab.SpanStore(paths[0]) as store:
        lab.Monitor(store).step(at(60))
    arguments = [sys.executable, "-c", CHILD, str(paths[1]), "7"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.run(arguments, cwd=ROOT, env=environment, timeout=120, check=False)
    assert child.returncode == -signal.SIGKILL
    ids, baseline = outcome(paths[1])
    assert len(ids) == 1
    assert (ids, baseline) == outcome(paths[0])
