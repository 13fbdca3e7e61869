"""An app behind gunicorn and its worker processes, and a bounded load of HTTP requests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import requests

from tests.support.serving import wait_for

ROOT = Path(__file__).parents[2]
STARTED = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
WORKERS = 2
DEADLINE_S = 60.0  # to start, and to end


@contextmanager
def gunicorn(app: str, log: Path, environment: dict[str, str], *options: str) -> Iterator[str]:
    """Yield the base url of an app, a function in `tests.apps.served`, in two worker processes.

    At the end it gets SIGTERM, and no process and no port may be left.
    """
    command = [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", f"--workers={WORKERS}"]
    command += ["--no-control-socket", *options, f"tests.apps.served:{app}()"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment | {"PYTHONPATH": path},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        port = _port_in(log, process)
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, log.read_text()
        wait_for(lambda: not _has_members(process.pid), DEADLINE_S)
        _must_be_free(port)
    finally:
        if _has_members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)


def _port_in(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Return the port that gunicorn was given, when all workers have started."""

    def started() -> bool:
        text = log.read_text()
        assert process.poll() is None, text
        return bool(STARTED.search(text)) and text.count("Booting worker") == WORKERS

    wait_for(started, DEADLINE_S)
    found = STARTED.search(log.read_text())
    assert found is not None
    return int(found[1])


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _must_be_free(port: int) -> None:
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("127.0.0.1", port))


class Visit(NamedTuple):
    """A request of the load: its method and path, JSON to send, and whether it has the cookies."""

    method: str
    path: str
    json: Any = None
    data: Any = None
    signed_in: bool = True


class Load:
    """Requests to one base url, at a steady rate whatever the answers are.

    Attributes
    ----------
    sent : int
        How many requests reached the server; a redirect that is followed is two.
    failures : int
        How many of the answers were 500 or above.
    """

    def __init__(self, url: str, rate: float = 25.0, patience_s: float = 2.0) -> None:
        self.url = url
        self.cookies: Any = {}
        self.statuses: list[int] = []
        self._rate = rate
        self._patience_s = patience_s

    @property
    def sent(self) -> int:
        return len(self.statuses)

    @property
    def failures(self) -> int:
        return sum(status >= 500 for status in self.statuses)

    def send(self, visit: Visit) -> requests.Response | None:
        """Send one request, on a connection of its own; None without an answer in time."""
        try:
            response = requests.request(
                visit.method,
                self.url + visit.path,
                json=visit.json,
                data=visit.data,
                cookies=self.cookies if visit.signed_in else None,
                timeout=self._patience_s,
                allow_redirects=False,
            )
        except requests.ReadTimeout:
            self.statuses.append(0)
            return None
        self.statuses.append(response.status_code)
        return response

    def sign_in(self, visit: Visit) -> None:
        """Send a request and keep the cookies of the answer."""
        response = self.send(visit)
        assert response is not None
        self.cookies = response.cookies

    def run(self, visits: list[Visit], seconds: float) -> None:
        """Send the visits in turn, for so long; what a busy machine delays is not caught up on."""
        period = 1 / self._rate
        end = time.monotonic() + seconds
        turn = cycle(visits)
        with ThreadPoolExecutor(64) as pool:
            sent = []
            while time.monotonic() < end:
                sent.append(pool.submit(self.send, next(turn)))
                time.sleep(period)
        for each in sent:
            each.result()
