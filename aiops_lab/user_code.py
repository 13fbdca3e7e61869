"""What if a function of a user fails? A replay raises; a monitor leaves it out of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from aiops_lab.logs import get_logger

_log = get_logger(__name__)

_T = TypeVar("_T")


class UserCode:
    """The calls of the detectors and of the rule that a user gave.

    Parameters
    ----------
    isolate : bool
        Whether a function that fails is left out until the next step and counted, so that all
        others go on. Default False: its exception is raised, with a note that names the function.

    Attributes
    ----------
    failed : dict
        What failed, by name: ``steps`` (in how many steps) and ``error`` (of the last one).
    """

    def __init__(self, *, isolate: bool = False) -> None:
        self.failed: dict[str, dict[str, Any]] = {}
        self._isolate = isolate
        self._left_out: set[str] = set()

    def begin_step(self) -> None:
        """Call again what was left out of the step before."""
        self._left_out.clear()

    def is_left_out(self, name: str) -> bool:
        """Return whether a function has failed in this step."""
        return name in self._left_out

    def call(self, name: str, otherwise: _T, work: Callable[[], _T]) -> _T:
        """Return what `work` returns; `otherwise` where that fails, or failed in this step."""
        if name in self._left_out:
            return otherwise
        try:
            return work()
        except (Exception, SystemExit) as error:  # sys.exit() would end the monitor's thread unseen
            if not self._isolate:
                error.add_note(f"raised in {name}")
                raise
            self._leave_out(name, error)
            return otherwise

    def _leave_out(self, name: str, error: BaseException) -> None:
        self._left_out.add(name)
        text = f"{type(error).__name__}: {error}"
        known = self.failed.setdefault(name, {"steps": 0, "error": text})
        known["steps"] += 1
        is_new = known["steps"] == 1 or known["error"] != text
        known["error"] = text
        if is_new:
            message = "%s failed and is left out of this step, all else goes on: %s"
            _log.warning(message, name, text, exc_info=error)


def name_function(argument: str, function: object) -> str:
    """Return how a user's function is named: the argument that it was given as, and its name.

    >>> name_function("rule", len)
    'rule (len)'
    """
    kind = type(function).__name__
    known = getattr(function, "name", None) or getattr(function, "__name__", kind)
    return f"{argument} ({known})"


def check_list(returned: Any, kind: type[_T]) -> list[_T]:
    """Return what a function returned as a list; ValueError unless all of it is of one kind."""
    rule = f"must return a list of {kind.__name__}"
    if not isinstance(returned, Iterable):
        raise ValueError(f"{rule}, got {returned!r}")
    items = list(returned)
    for item in items:
        if not isinstance(item, kind):
            raise ValueError(f"{rule}, got {item!r} in it")
    return items
