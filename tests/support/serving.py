"""A WSGI application behind a real server, for as long as a test needs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import cheroot.server
from cheroot import wsgi

# cheroot keeps the last of several equal headers, unless it is told that they form a list.
LISTS = [*cheroot.server.comma_separated_headers, b"Traceparent", b"Tracestate"]


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Yield the base url under which `app` answers."""
    server = wsgi.Server(("127.0.0.1", 0), app, numthreads=4)
    # the tests break applications on purpose
    server.error_log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    server.prepare()
    thread = threading.Thread(target=server.serve)
    with mock.patch.object(cheroot.server, "comma_separated_headers", LISTS):
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.bind_addr[1]}"
        finally:
            server.stop()
            thread.join()


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Return when `condition` holds; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)
