"""Processes are told apart across hosts and containers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aiops_lab import processes
from aiops_lab.processes import is_alive, process_host


def test_a_process_is_alive_until_it_has_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(process.pid)
        process.communicate(b"\n")
    assert is_alive(process.pid) is (os.name == "nt")


def test_processes_of_one_host_and_namespace_know_each_other():
    code = "from aiops_lab.processes import process_host as host; print(host())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == process_host()
    assert process_host().startswith(socket.gethostname())


@pytest.mark.skipif(not Path("/proc/self/ns/pid").is_symlink(), reason="Linux has namespaces")
def test_the_namespace_of_processes_is_a_part_of_it():
    assert os.readlink("/proc/self/ns/pid") in process_host()


def test_where_there_are_no_namespaces_the_name_is_all(monkeypatch):
    monkeypatch.setattr(processes, "_SPACES", (Path("/no/boot"), Path("/no/pid")))
    assert process_host() == socket.gethostname()
