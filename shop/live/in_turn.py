"""A shop without sockets and threads, as in a browser: each request is answered before the next.

    requests -> HTTPAdapter.send -> the app's test client -> the app -> requests -> …

An address leads to an app in this process, for whoever uses `requests`: a customer, a service, a
cell of a lesson. A request that waits lets nobody else go on, and no caller gives up: hanging
requests and timeouts cannot be shown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from http.client import HTTPResponse
from io import BytesIO
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from flask import Flask
from requests.adapters import HTTPAdapter
from werkzeug.test import TestResponse

from aiops_lab.show.ports import HOST

_APPS: dict[str, Flask] = {}
"""The apps that answer, by host and port."""

_NUMBERS = count(5000)


def can_start_threads() -> bool:
    """Return whether this Python has threads; one in a browser has none."""
    thread = threading.Thread(target=int, name="probe")
    try:
        thread.start()
    except RuntimeError:
        return False
    thread.join()
    return True


class ServerInTurn:
    """What answers at an address without listening anywhere; opened and closed as a server is."""

    def __init__(self, port: int = 0) -> None:
        self._place = f"{HOST}:{port or next(_NUMBERS)}"

    def open(self) -> str:
        """Return the URL."""
        _lead_to_apps()
        return f"http://{self._place}"

    def answer_with(self, app: Flask) -> None:
        """Answer requests with `app`."""
        _APPS[self._place] = app

    def close(self) -> None:
        """Answer no more."""
        _APPS.pop(self._place, None)


@cache
def _lead_to_apps() -> None:
    """Let `requests` find the apps of this process; once."""
    sent_by_network: Callable[..., requests.Response] = HTTPAdapter.send

    def send(
        adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **options: Any
    ) -> requests.Response:
        app = _APPS.get(urlsplit(str(request.url)).netloc)
        if app is None:
            return sent_by_network(adapter, request, *args, **options)
        return _answer(app, adapter, request)

    HTTPAdapter.send = send  # type: ignore[assignment, method-assign]


def _answer(
    app: Flask, adapter: HTTPAdapter, request: requests.PreparedRequest
) -> requests.Response:
    """Return the answer of an app: `requests` reads it as if from a socket, with its cookies."""
    url = urlsplit(str(request.url))
    given = app.test_client(use_cookies=False).open(
        url.path,
        query_string=url.query,
        base_url=f"{url.scheme}://{url.netloc}",
        method=request.method,
        headers=list(request.headers.items()),
        data=request.body,
    )
    source = _Socket(_written(given))
    read = HTTPResponse(source, method=request.method)  # type: ignore[arg-type]
    given.close()
    read.begin()
    raw = urllib3.HTTPResponse(
        body=read,
        headers=urllib3.HTTPHeaderDict(read.msg.items()),
        status=read.status,
        reason=read.reason,
        preload_content=False,
        original_response=read,
        request_method=request.method,
    )
    return adapter.build_response(request, raw)


def _written(answer: TestResponse) -> bytes:
    """Return the bytes that a server would send."""
    head = [f"HTTP/1.1 {answer.status}", *(f"{name}: {value}" for name, value in answer.headers)]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + answer.get_data()


class _Socket:
    """What `http.client` reads an answer from."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._answer)
