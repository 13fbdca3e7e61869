"""Processes of other people's making: services with OpenTelemetry's SDK, PostgreSQL, a carrier."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.support.serving import wait_for

ROOT = Path(__file__).parents[2]
NODE_APP = ROOT / "tests" / "apps" / "parcels_node"
PYTHON_PACKAGES = ROOT / "tests" / "apps" / "parcels_python.txt"
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
ADDRESS = re.compile(r"[Rr]unning on http://127\.0\.0\.1:(\d+)")
DEADLINE_S = 90.0  # to start, and to end
INSTALL_S = 600.0
NOBODY = 65_534  # PostgreSQL refuses to run as root
TABLE = """
CREATE TABLE parcels (id INTEGER, town TEXT);
INSERT INTO parcels SELECT n, 'Ghent' FROM generate_series(1, 20) n;
"""

# Spans are sent soon, so that the monitor has them before it judges their window.
SENDING = {
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_BSP_SCHEDULE_DELAY": "300",
}


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process that writes into a file; at the end it is gone."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=file, stderr=file, **options
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE_S)


@contextmanager
def service(
    name: str, command: list[str], folder: Path, receiver: str, **environment: str
) -> Iterator[str]:
    """Yield the url of a service that sends its traces to a receiver of OTLP."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    known = SENDING | {
        "DATA": str(folder),
        "OTEL_SERVICE_NAME": name,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "PYTHONPATH": path,
    }
    log = folder / f"{name}.log"
    with running(command, log, known | environment, cwd=folder) as process:

        def has_started() -> bool:
            assert process.poll() is None, log.read_text("utf-8")
            return ADDRESS.search(log.read_text("utf-8")) is not None

        wait_for(has_started, DEADLINE_S)
        found = ADDRESS.search(log.read_text("utf-8"))
        assert found is not None
        yield f"http://127.0.0.1:{found[1]}"


# ---- Python


def installed_python(folder: Path) -> Path:
    """Install what the apps of Python need, without this package; return where the programs are."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    programs = folder / "bin"
    _install([str(programs / "python"), *PIP, "-r", str(PYTHON_PACKAGES)], folder, "pip")
    return programs


def instrumented(programs: Path, *words: str) -> list[str]:
    """Return the command that runs a module with all of OpenTelemetry's instrumentations.

    The module itself is not changed.
    """
    return [str(programs / "opentelemetry-instrument"), str(programs / "python"), "-m", *words]


# ---- Node


def installed_node_app(folder: Path) -> list[str]:
    """Install what the app of Node needs; return the command that runs it, traced."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node and npm must be installed")
    shutil.copytree(NODE_APP, folder, dirs_exist_ok=True)
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error"]
    _install(command, folder, "npm")
    agent = folder / "node_modules" / "@opentelemetry" / "auto-instrumentations-node"
    return [node, "--require", str(agent / "build/src/register.js"), str(folder / "app.js")]


def _install(command: list[str], folder: Path, what: str) -> None:
    """Run a package manager; skip the test where it reaches no registry."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode != 0:
        pytest.skip(f"{what} cannot install what is needed: {done.stderr.strip()[-300:]}")


# ---- PostgreSQL


@contextmanager
def postgres() -> Iterator[str]:
    """Yield the url of a PostgreSQL of its own, with the binaries that pgserver brings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = _programs(folder)
        owner = _owner(folder)
        data = f"--pgdata={folder / 'data'}"
        initdb = [str(programs / "initdb"), data, "--username=lab", "--auth=trust", "--no-sync"]
        _run(initdb, cwd=folder, **owner)
        port = str(_free_port())
        command = [
            str(programs / "postgres"),
            "-D",
            str(folder / "data"),
            "-p",
            port,
            "-k",
            "",
            "-F",
        ]
        log = folder / "postgres.log"
        with running(command, log, {}, cwd=folder, **owner) as process:

            def is_ready() -> bool:
                assert process.poll() is None, log.read_text("utf-8")
                return "ready to accept connections" in log.read_text("utf-8")

            wait_for(is_ready, DEADLINE_S)
            url = f"postgresql://lab@127.0.0.1:{port}/postgres"
            _run([str(programs / "psql"), url, "-c", TABLE])
            yield url


def _programs(folder: Path) -> Path:
    """Install the wheel; return where its programs are."""
    packages = folder / "packages"
    only = ["--no-deps", "--only-binary=:all:", f"--target={packages}", "pgserver>=0.1.4"]
    _install([sys.executable, *PIP, *only], folder, "pip")
    return packages / "pgserver" / "pginstall" / "bin"


def _owner(folder: Path) -> dict[str, Any]:
    """Return how PostgreSQL is run by somebody who may, and give the folder to them."""
    if os.geteuid() != 0:
        return {}
    os.chown(folder, NOBODY, NOBODY)
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def _run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


# ---- a third party


class Carrier:
    """An HTTP server that nobody traces; `fails` makes it answer 500, `leave` no longer answer."""

    def __init__(self) -> None:
        self.fails = Event()
        fails = self.fails

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"place": "at sea"}).encode()
                self.send_response(500 if fails.is_set() else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Carrier:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Close the port: calls are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
