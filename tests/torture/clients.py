"""Clients that behave badly, while others go on."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from aiops_lab.record.faults import Fault
from tests.torture.load import Load, count_lost, shop_under_load
from tests.torture.table import Row

URLS = 10_000
HEADER_BYTES = 10_000_000
HEADERS = 5
SLOW = 30  # clients that send a byte a second
SLOW_S = 8
HUNG = 200

MOST_ENDPOINTS = 50


def connect(url: str) -> socket.socket:
    """Return a connection to a server."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=20)


def distinct_urls(folder: Path) -> Row:
    """Ask for ten thousand paths that there are not."""
    path = folder / "s.sqlite"
    with shop_under_load(path) as (shop, clients):
        with requests.Session() as session:
            session.trust_env = False
            statuses = {
                session.get(f"{shop.url}/no/{number}/x{number}", timeout=20).status_code
                for number in range(URLS)
            }
        shop.step()
        metrics = requests.get(f"{shop.url}/aiops/metrics", timeout=30).json()["metrics"]
    is_fine = statuses == {404} and len(metrics) < MOST_ENDPOINTS
    seen = f"404; {len(metrics)} endpoints" if is_fine else f"FAILED: {statuses}, {len(metrics)}"
    return _row("distinct URLs", URLS, clients, seen, count_lost(clients.sent, path))


def large_headers(folder: Path) -> Row:
    """Send headers of ten megabytes."""
    path = folder / "s.sqlite"
    with shop_under_load(path) as (shop, clients):
        answered = [_send_header(shop.url) for _ in range(HEADERS)]
    is_fine = all(answer in (b"", b"413", b"431", b"400") for answer in answered)
    seen = "413, or the connection is closed" if is_fine else f"FAILED: {answered}"
    return _row("headers of 10 MB", HEADERS, clients, seen, count_lost(clients.sent, path))


def _send_header(url: str) -> bytes:
    """Return the status of the answer, b"" where the connection is closed without one."""
    with connect(url) as connection:
        try:
            connection.sendall(b"GET /inventory HTTP/1.1\r\nHost: localhost\r\nX-Large: ")
            connection.sendall(b"x" * HEADER_BYTES + b"\r\n\r\n")
            return connection.recv(100).split(b" ")[1]
        except (OSError, IndexError):
            return b""


def slow_clients(folder: Path) -> Row:
    """Send one byte a second, on many connections."""
    path = folder / "s.sqlite"
    request = b"POST /payment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with shop_under_load(path) as (shop, clients):
        slow = [connect(shop.url) for _ in range(SLOW)]
        for second in range(SLOW_S):
            for connection in slow:
                connection.sendall(request[second : second + 1])
            time.sleep(1.0)
        is_answering = requests.get(f"{shop.url}/aiops/incidents", timeout=20).ok
        for connection in slow:
            connection.close()
    seen = "closed after 30 s without a request" if is_answering else "FAILED: no answer"
    return _row("clients that send a byte a second", SLOW, clients, seen, _lost(clients, path))


def exhausted_pool(folder: Path) -> Row:
    """Let more requests hang than an endpoint has threads."""
    path = folder / "s.sqlite"
    with shop_under_load(path) as (shop, clients):
        shop.inject(Fault("hang", "shop", "/payment"))
        statuses: list[int] = []
        hung = [
            threading.Thread(target=lambda: statuses.append(_pay(shop.url))) for _ in range(HUNG)
        ]
        for thread in hung:
            thread.start()
        time.sleep(3.0)
        is_answering = requests.get(f"{shop.url}/aiops/metrics", timeout=20).ok
        shop.clear()
        for thread in hung:
            thread.join()
    is_fine = is_answering and set(statuses) <= {200, 503}
    seen = f"503 for {statuses.count(503)} of them" if is_fine else f"FAILED: {set(statuses)}"
    return _row("requests that hang", HUNG, clients, seen, _lost(clients, path))


def _pay(url: str) -> int:
    return requests.post(f"{url}/payment", timeout=60).status_code


def _lost(clients: Load, path: Path) -> int:
    return count_lost(clients.sent, path)


def _row(thrown: str, times: int, clients: Load, seen: str, lost: int) -> Row:
    return Row(thrown, times, seen, len(clients.sent), clients.unanswered, lost)


ALL = (distinct_urls, large_headers, slow_clients, exhausted_pool)
