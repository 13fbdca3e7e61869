"""What has a user written? Functions, detectors and remedies, loaded from a file or module."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from aiops_lab.checks import FieldError


@cache
def load_function(argument: str, spec: str) -> Any:
    """Return what ``file.py:name`` or ``module:name`` names, something that can be called.

    Raises
    ------
    ValueError
        `spec` has another form, cannot be imported, or names nothing that can be called. The
        message begins with `argument`.
    """
    where, found = load_named(argument, spec, "function")
    if not callable(found):
        raise FieldError(argument, f"must name a function of {where}", spec)
    return found


def load_named(argument: str, spec: str, what: str) -> tuple[str, Any]:
    """Return the file or module of ``file.py:name`` or ``module:name``, and what has that name in
    it, None for nothing.

    `what` says in an error what the name is to be. Raises as `load_function`.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise FieldError(argument, f"must be file.py:{what} or module:{what}", spec)
    return where, getattr(_module(argument, where, spec), name, None)


def raised(what: str, error: Exception) -> ValueError:
    """Return the error that says what a user's function raised, in which file and line.

    That of the user's code: where a library raises, the line that called it.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in Path(frame.filename).parts]
    last = (own or frames)[-1]
    place = f"{Path(last.filename).name}, line {last.lineno}"
    message = f"{type(error).__name__}: {error} ({place})"
    return ValueError(f"{what} must not raise, got {message}")


def names_by_spec(specs: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """Return the name of each spec: that of its function, or where that is taken the whole spec.

    Examples
    --------
    >>> names_by_spec(["a.py:mine", "b.py:mine", "b.py:random"], {"random"})
    {'a.py:mine': 'mine', 'b.py:mine': 'b.py:mine', 'b.py:random': 'b.py:random'}
    """
    names: dict[str, str] = {}
    for spec in dict.fromkeys(specs):
        last = spec.rpartition(":")[2]
        is_taken = last in taken or last in names.values()
        names[spec] = spec if is_taken else last
    return names


def list_from(
    what: str, function: Callable[..., Any], given: Sequence[Any], kinds: tuple[type, ...]
) -> list[Any]:
    """Return the list that a user's function makes of what it is `given`.

    Raises
    ------
    ValueError
        It raises, or returns no list, or one that holds something of none of the `kinds`. The
        message begins with `what`.
    """
    try:
        found = function(*given)
    except Exception as error:
        raise raised(what, error) from error
    is_list = isinstance(found, list)
    if not is_list or not all(isinstance(each, kinds) for each in found):
        named = " or ".join(kind.__name__ for kind in kinds)
        raise FieldError(what, f"must return a list of {named}", found)
    return found


def _module(argument: str, where: str, spec: str) -> ModuleType:
    read = _module_of_file if where.endswith(".py") else importlib.import_module
    try:
        return read(where)
    except Exception as error:  # whatever its code raises
        reason = f"{type(error).__name__}: {error}"
        raise FieldError(argument, f"must be importable ({reason})", spec) from error


def _module_of_file(file: str) -> ModuleType:
    name = f"user_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module
