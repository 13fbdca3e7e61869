"""Run a lesson as a browser's Python would: ``python -m tests.support.blocked LESSON.ipynb``.

There is no compiler (numba), no socket and no new thread there. The cells run from top to bottom,
so that the claims that a lesson asserts are checked; what they print is not compared.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any


class NoSocket(socket.socket):
    """A socket that cannot be made."""

    def __init__(self, *_: object, **__: object) -> None:
        raise OSError("no sockets here")


def no_start(thread: threading.Thread) -> None:
    """Refuse to start a thread, as Python does where there are none."""
    raise RuntimeError(f"can't start new thread {thread.name}")


def block() -> None:
    """Take the compiler, sockets and new threads away from this process."""
    sys.modules["numba"] = None  # type: ignore[assignment]
    socket.socket = NoSocket  # type: ignore[misc]
    threading.Thread.start = no_start  # type: ignore[assignment, method-assign]


def run(lesson: Path) -> None:
    """Run the code cells of a lesson; the first that raises without being meant to ends it."""
    cells = json.loads(lesson.read_text("utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    os.chdir(lesson.parent)
    for cell in cells:
        if cell["cell_type"] != "code":
            continue
        try:
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), names)
        except Exception:
            if "raises-exception" not in cell["metadata"].get("tags", []):
                raise


if __name__ == "__main__":
    os.environ |= {"AIOPS_LAB_GUESSES": os.devnull, "MPLBACKEND": "agg"}
    block()
    run(Path(sys.argv[1]).resolve())
