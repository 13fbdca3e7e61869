"""Does the process that holds a turn still run, and on which host can that be asked?"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

_SPACES = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def process_host() -> str:
    """Return what the processes have in common that know each other by number.

    That is the host's name; on Linux also the start of the kernel and the namespace of processes,
    as two containers may have one host name.
    """
    return f"{socket.gethostname()} {_space()}".rstrip()


def _space() -> str:
    boot, namespace = _SPACES
    with suppress(OSError):
        return f"{boot.read_text().strip()} {namespace.readlink()}"
    return ""


def is_alive(process: int) -> bool:
    """Return whether a process of this host runs; where that cannot be told, True."""
    if os.name == "nt":  # signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
