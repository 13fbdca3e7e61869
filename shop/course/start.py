"""What a lesson's first cell switches on."""

from __future__ import annotations

import sys
from typing import Any

from shop.course.order import tell_in
from shop.course.waiting import count_in


def begin() -> None:
    """Let this notebook show that a cell still works, and say which cell makes a missing name.

    Outside of a notebook it does nothing.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if hasattr(shell, "kernel"):
        tell_in(shell)
        count_in(shell)
