"""A bar for whoever waits for a cell; none where lessons are run to be saved or compared."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from aiops_lab.progress import Bar

_Item = TypeVar("_Item")


def steps(items: Iterable[_Item], unit: str) -> Iterator[_Item]:
    """Yield the items, with a bar on stderr if somebody is watching.

    Parameters
    ----------
    items : iterable
        What is worked through; each is a step of the bar.
    unit : str
        What one of them is called.
    """
    return iter(Bar(items, unit=unit, leave=False, disable=not somebody_waits()))


def somebody_waits() -> bool:
    """Return whether a person runs this, in a notebook or a terminal.

    A notebook that a program runs allows no questions (`allow_stdin` of the request).
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython and ipython.get_ipython()
    if not hasattr(shell, "kernel"):
        return sys.stderr.isatty()
    request = shell.kernel.get_parent()
    return bool(request.get("content", {}).get("allow_stdin"))
