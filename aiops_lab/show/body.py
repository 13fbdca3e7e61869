"""How is the body of a request read? In seconds, and few at once: who drips one must not hold the
threads of an application that has other requests to answer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import IO, Any

from flask import g, request
from werkzeug.wsgi import get_input_stream

from aiops_lab.show.origin import RefusedError

BODY_MAX = 65_536  # bytes
DRAIN_MAX = 16_000_000  # bytes of a refused body that are still read: a client that is sending
# does not read the refusal

BODY_S = 2.0
"""Seconds in which a body must be here. Raising it lets slow clients hold a thread for longer."""

AT_ONCE = 2  # bodies that are read at once, in a process
PLACE_WAIT_S = 0.5  # for one of these places
REFUSED_S = 0.5  # in which a refused body is read and forgotten, so that its sender sees the answer

_places = threading.BoundedSemaphore(AT_ONCE)
_places_of_strangers = threading.BoundedSemaphore(AT_ONCE)
_STRANGER = "_aiops_lab_is_stranger"  # of flask.g


class LateError(RefusedError):
    """A body that was not here in time."""

    status = 408


class BusyError(RefusedError):
    """A body that is not read, as others are."""

    status = 503
    headers = MappingProxyType({"Retry-After": "1"})

    def __str__(self) -> str:
        return "The server is busy reading other requests. Send this one again in a second."


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
    if not _has_body():
        return
    length = request.content_length or 0
    with _place(), _in_time(BODY_S) as late:
        if length > BODY_MAX:
            _drain(request.environ["wsgi.input"], min(length, DRAIN_MAX))
            raise TooLargeError("body", f"must be at most {BODY_MAX} bytes", length)
        with suppress(AttributeError):  # Flask 3.0 knows only the limit of the whole app
            request.max_content_length = BODY_MAX  # of one in chunks, whose length is not told
        request.get_data()
    if late.is_set():
        raise LateError("body", f"must be sent within {BODY_S:g} s", "only a part of it")


def note_stranger() -> None:
    """Let the body of this request, which has no token where there is one, take no place of those
    that have it.
    """
    g.setdefault(_STRANGER, True)


@contextmanager
def dropping_refused() -> Iterator[None]:
    """Read what a request sends, for a moment, where the block refuses it."""
    try:
        yield
    except RefusedError:
        drop_body()
        raise


def drop_body() -> None:
    """Read the body of a refused request, of which nothing was read, for `REFUSED_S` at most.

    If more is to come then, the connection is read no longer, so that nobody waits for it.
    """
    connection = _socket()
    if not _has_body() or connection is None:
        return
    stream = get_input_stream(request.environ)
    with suppress(Exception), _in_time(REFUSED_S):  # the client may be gone
        if not _drain(stream, DRAIN_MAX):
            _stop_reading(connection)


def _has_body() -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


@contextmanager
def _place() -> Iterator[None]:
    """Wait for one of the places at which bodies are read; calls of an app itself need none."""
    if request.blueprint is None:
        yield
        return
    places = _places_of_strangers if g.get(_STRANGER) else _places
    if not places.acquire(timeout=PLACE_WAIT_S):
        drop_body()
        raise BusyError("body", f"must wait: {AT_ONCE} are read at once", None)
    try:
        yield
    finally:
        places.release()


def _drain(stream: IO[bytes], left: int) -> bool:
    """Return whether a body ended before so many bytes of it were read."""
    while left > 0 and (chunk := stream.read(min(left, BODY_MAX))):
        left -= len(chunk)
    return left > 0


@contextmanager
def _in_time(seconds: float) -> Iterator[threading.Event]:
    """End the reading in the block after some seconds, where the server shows its socket; the event
    says whether that was so.
    """
    late = threading.Event()
    connection = _socket()
    if connection is None:
        yield late
        return

    def end() -> None:
        late.set()
        _stop_reading(connection)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    except Exception:  # each server and framework has its own for a body that is cut off
        _stop_reading(connection)
        if not late.is_set():
            raise
    finally:
        timer.cancel()


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
