"""Is a port free, and which one is?"""

from __future__ import annotations

import os
import socket

from aiops_lab.checks import FieldError

HOST = "127.0.0.1"

MOST_TRIED = 100  # ports after a taken one that are tried


def check_free(port: int, host: str = HOST) -> None:
    """Raise OSError if the port is in use."""
    if not is_free(port, host):
        raise OSError(f"port {port} on {host} is in use; choose another one")


def check_port(port: int, host: str = HOST) -> None:
    """Raise `FieldError`, which names the next free port, if this one is in use."""
    if is_free(port, host):
        return
    first = port + 1
    others = range(first, min(first + MOST_TRIED, 65_536))
    free = next((other for other in others if is_free(other, host)), None)
    hint = "" if free is None else f" (the next free one is {free})"
    raise FieldError("port", f"must be free on {host}{hint}", port)


def is_free(port: int, host: str = HOST) -> bool:
    """Return whether a server may take the port; 0, any port, is always free."""
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
