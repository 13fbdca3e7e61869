"""How is the body of a request read? In seconds, and few at once: who drips one must not hold the
threads of an application that has other requests to answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import request

from aiops_lab.show.origin import RefusedError

BODY_MAX = 65_536  # bytes
DRAIN_MAX = 16_000_000  # bytes of a refused body that are still read: a client that is sending
# does not read the refusal

BODY_S = 2.0
"""Seconds in which a body must be here. Raising it lets slow clients hold a thread for longer."""

AT_ONCE = 2  # bodies that are read at once, in a process
PLACE_WAIT_S = 0.5  # for one of these places

_places = threading.BoundedSemaphore(AT_ONCE)


class LateError(RefusedError):
    """A body that was not here in time."""

    status = 408


class BusyError(RefusedError):
    """A body that is not read, as others are."""

    status = 503


class TooLargeError(RefusedError):
    """A body that is larger than any call needs."""

    status = 413


def take_body() -> None:
    """Read the body of the request, which Flask keeps.

    Raises
    ------
    RefusedError
        It is too large, is not here in time, or others are being read.
    """
    length = request.content_length or 0
    if length == 0 and "Transfer-Encoding" not in request.headers:
        return
    with _place(), _in_time():
        if length > BODY_MAX:
            _drain(length)
            raise TooLargeError("body", f"must be at most {BODY_MAX} bytes", length)
        with suppress(AttributeError):  # Flask 3.0 knows only the limit of the whole app
            request.max_content_length = BODY_MAX  # of one in chunks, whose length is not told
        request.get_data()


@contextmanager
def _place() -> Iterator[None]:
    """Wait for one of the places at which bodies are read; calls of an app itself need none."""
    if request.blueprint is None:
        yield
        return
    if not _places.acquire(timeout=PLACE_WAIT_S):
        _stop_reading(_socket())
        raise BusyError("body", f"must be one of {AT_ONCE} that are read at once: try again", None)
    try:
        yield
    finally:
        _places.release()


def _drain(length: int) -> None:
    stream = request.environ["wsgi.input"]
    left = min(length, DRAIN_MAX)
    while left > 0 and (chunk := stream.read(min(left, BODY_MAX))):
        left -= len(chunk)


@contextmanager
def _in_time() -> Iterator[None]:
    """End the reading in the block after `BODY_S` seconds, where the server shows its socket."""
    connection = _socket()
    if connection is None:
        yield
        return
    late = threading.Event()

    def end() -> None:
        late.set()
        _stop_reading(connection)

    timer = threading.Timer(BODY_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:  # each server and framework has its own for a body that is cut off
        _stop_reading(connection)
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise LateError("body", f"must be sent within {BODY_S:g} s", None)


def _socket() -> socket.socket | None:
    """Return the socket of the request, None where the server does not show it."""
    environ = request.environ
    shown = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
    if shown is None:
        reader: Any = environ.get("wsgi.input")
        while hasattr(reader, "rfile"):  # cheroot's, around each other
            reader = reader.rfile
        shown = getattr(getattr(reader, "raw", None), "_sock", None)
    return shown if isinstance(shown, socket.socket) else None


def _stop_reading(connection: socket.socket | None) -> None:
    """Let nobody wait for what is still to come: neither this request nor the server after it."""
    if connection is not None:
        with suppress(OSError):
            # not the method of its own class: with TLS that would end the encryption, too
            socket.socket.shutdown(connection, socket.SHUT_RD)
