"""Is an argument in its range? Errors that name the field, the rule and the value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from math import inf
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any


class FieldError(ValueError):
    """A value breaks the rule of its field: ``field rule, got value``."""

    def __init__(self, field: str, rule: str, value: object) -> None:
        self.field = field
        self.rule = rule
        self.value = value
        super().__init__(f"{field} {rule}, got {shorten(value)}")

    def __reduce__(self) -> tuple[type[FieldError], tuple[str, str, object]]:
        # so that it can come back from another process
        return type(self), (self.field, self.rule, self.value)


class BackendError(Exception):
    """A failure like one of an endpoint's own backend; `status` is the status of the answer."""

    # Stack traces show it; the name of this module would tell that the failure was injected.
    __module__ = "backend"

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


MESSAGES = (
    "connection to database lost: server closed the connection unexpectedly",
    "connection pool exhausted after 3 attempts",
    "deadlock detected while updating row, transaction rolled back",
    "unexpected end of stream from upstream gateway",
)


# Which extra of this package holds an optional package.
EXTRAS = {
    "numba": "fast",
    "pyarrow": "fast",
    "cheroot": "shop",
    "matplotlib": "plots",
    "networkx": "plots",
    "ipywidgets": "lab",
    "opentelemetry": "formats",
    "prometheus_client": "watch",
    "apprise": "notify",
    "distributed": "scale",
    "fsspec": "scale",
}


def missing_extra(error: ModuleNotFoundError, extra: str | None = None) -> ImportError:
    """Return the error that says how to install the missing package.

    The error itself comes back where the package belongs to no extra. `extra` names it where a
    package is in several, in parts.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    command = install_command(extra or EXTRAS[package])
    return ImportError(f"{package} is needed for this and not installed: {command}", name=package)


def install_command(extra: str) -> str:
    """Return the command that installs an extra of this package, for where the package lies."""
    is_clone = (Path(__file__).parents[1] / "pyproject.toml").is_file()
    if is_clone:
        return f'pip install -e ".[{extra}]" in the clone of AIOps Lab'
    return f'pip install "aiops-lab[{extra}]"'


def os_error_text(error: OSError) -> str:
    """Return an error of the operating system as ``file: what is wrong``, without its number."""
    if error.filename is None or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}"


def is_same_file(one: str | PathLike[str], other: str | PathLike[str]) -> bool:
    """Return whether two names are of one file that exists."""
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


def shorten(value: object, length: int = 80) -> str:
    """Return `value` as Python writes it, cut to `length` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of more than 4300 digits
        text = "a number of thousands of digits"
    return cut(text, length)


def cut(text: str, length: int) -> str:
    """Return a text of at most `length` characters, with "…" at its end where it was longer."""
    if len(text) <= length:
        return text
    return text[: length - 1] + "…"


MOST = 1e9
"""The largest value of a constant: a billion seconds are 31 years, and nanoseconds of more would
not fit into 64 bits. What is to be switched off needs no more."""


LEAST = 1e-9
"""The smallest value of a constant that must be above zero: one may be divided by it."""


def real_number(name: str, value: Any) -> float:
    """Return a number, also of numpy or a fraction, as Python's int or float.

    What is too large for a float is infinite. Raises `FieldError` unless it is real; booleans are
    refused.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise FieldError(name, "must be a number", value)
    if isinstance(value, Integral):
        return int(value)
    try:
        return float(value)
    except OverflowError:  # a fraction of huge numbers
        return inf if value > 0 else -inf


def plain_number(name: str, value: Any) -> float:
    """Return a number, also of numpy or a fraction, as Python's int or float.

    Raises `FieldError` unless it is finite, real and at most `MOST`; booleans are refused.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not -inf < value < inf:
        raise FieldError(name, "must be a finite number", value)
    number = real_number(name, value)
    if number > MOST:
        raise FieldError(name, f"must be <= {MOST:g}", value)
    # a negative one is refused by all callers, and may be too large for a float
    return max(number, -int(MOST))


def keep_numbers(
    constants: Any, *, at_least: Mapping[str, float], shares: Collection[str] = ()
) -> None:
    """Turn the numbers of a frozen dataclass into plain ones, in place, if they keep their rules.

    Parameters
    ----------
    constants : dataclass
        Fields of the type bool are left alone.
    at_least : mapping
        The least value of a field. All others must be above 0.
    shares : collection of str
        The fields that must not be above 1.

    Raises
    ------
    FieldError
        As `plain_number`; or a value that is too small or too large.
    """
    for field in fields(constants):
        if field.type == "bool":
            continue
        name = field.name
        value = getattr(constants, name)
        number = plain_number(name, value)
        if number < at_least.get(name, -inf):
            raise FieldError(name, f"must be >= {at_least[name]:g}", value)
        if number <= 0 and name not in at_least:
            raise FieldError(name, "must be > 0", value)
        if 0 < number < LEAST and name not in at_least:
            raise FieldError(name, f"must be >= {LEAST:g}", value)
        if number > 1 and name in shares:
            raise FieldError(name, "must be <= 1", value)
        object.__setattr__(constants, name, number)


def check_instance(name: str, value: object, wanted: type) -> None:
    """Raise `FieldError` unless `value` is one of the class `wanted`, or None."""
    if value is not None and not isinstance(value, wanted):
        raise FieldError(name, f"must be a {wanted.__name__}", value)


def check_number(name: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    """Raise `FieldError` unless `value` is a number in [low, high], with `whole` an integer.

    NaN and booleans are refused.
    """
    kind = "whole number" if whole else "number"
    kinds = int if whole else Real
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise FieldError(name, f"must be a {kind} between {low:g} and {high:g}", value)
