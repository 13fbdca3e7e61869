"""Is a fault on, and which? One file says so to all workers of an app."""

from __future__ import annotations

import os
from pathlib import Path


def fault() -> str:
    """Return the name of the fault that is on, "" for none."""
    try:
        return Path(os.environ["DATA"], "fault").read_text("utf-8")
    except FileNotFoundError:
        return ""
