"""A receiver of notices: a real HTTP server that works, fails, hangs or hangs up, as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """What has arrived, in its order, and how requests are answered.

    `mode` is one of works, fails (500), hangs (until it is released) and hangs_up.
    """

    def __init__(self, port: int) -> None:
        self.url = f"json://127.0.0.1:{port}/hook-S3CRET"
        self.mode = "works"
        self.arrived: list[dict[str, Any]] = []
        self.asked = 0
        self.released = threading.Event()

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.arrived]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Yield a receiver that listens on a free port while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.asked += 1
            if receiver.mode == "hangs":
                receiver.released.wait(60)
            if receiver.mode == "hangs_up":
                return
            if receiver.mode == "works":
                receiver.arrived.append(json.loads(body))
            self.send_response(200 if receiver.mode == "works" else 500)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
