"""Small numeric helpers: the optional compiler, Wilson bounds, times as integers."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import cache, wraps
from math import erfc, log, pi, sqrt
from numbers import Real
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from aiops_lab.checks import install_command
from aiops_lab.logs import get_logger
from aiops_lab.spans import FIRST_YEAR, LAST_YEAR

_log = get_logger(__name__)

LARGEST = 1e300
"""Larger values could not be subtracted from each other."""

ROUNDING = 2.0**-22
"""Differences up to this share of the values are rounding: four times what single precision loses.
Higher: small real changes of a large value are missed."""


def to_timestamp(ns: int) -> pd.Timestamp:
    """Return Unix nanoseconds as a Timestamp in UTC."""
    return pd.Timestamp(ns, unit="ns", tz="UTC")


def unix_ns(moment: pd.Timestamp) -> int:
    """Return a Timestamp as Unix nanoseconds."""
    return int(moment.as_unit("ns").value)


SOON = 1_500_000
"""Values that a function takes as plain Python, all its calls together, before it is compiled: one
or two seconds of work, if each takes a microsecond. Compiling all that a replay needs takes ten.
Higher: long recordings take longer."""

SOONER = 5
"""What lies compiled on disk is used after so much less work: loading it takes a second.
Higher: small recordings load what would not have saved that second."""

_parts: list[Callable[..., Any]] = []  # not yet known to the compiler
_modules: set[Path] = set()  # files with functions that are compiled


def compiled_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let compiled functions call `function`, which stays plain Python for all others."""
    _parts.append(function)
    _modules.add(_file_of(function))
    return function


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` with numba once it is worth it, and keep the result on disk.

    A little work is done sooner as plain Python, with the very same results; without numba, all.
    """
    return compiled_after(SOON)(function)


def compiled_after(
    values: int, plainly: Callable[..., Any] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function as `compiled` does, once it has taken so many values; what an earlier run
    has compiled is used sooner.

    `plainly` does the same faster as long as the function is not compiled. Default: the function
    itself.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        taken = 0
        _modules.add(_file_of(function))

        @wraps(function)
        def run(*arguments: Any) -> Any:
            nonlocal taken
            if taken < values:
                taken += _values_in(arguments)
            is_worth_it = taken >= values
            if not is_worth_it:
                is_worth_it = taken >= values / SOONER and _is_on_disk(function)
            chosen = _njit(function) if is_worth_it else plainly or function
            return chosen(*arguments)

        return run

    return decorate


@cache
def _is_on_disk(function: Callable[..., Any]) -> bool:
    """Return whether an earlier run has compiled a function as it is now, and kept it."""
    _forget_older(function)
    return any(_kept(function))


def _kept(function: Callable[..., Any]) -> Iterator[Path]:
    """Yield the files beside its module that say where a compiled function is kept."""
    path = _file_of(function)
    line = function.__code__.co_firstlineno
    name = glob.escape(f"{path.stem}.{function.__qualname__}-{line}")
    folder = path.parent / "__pycache__"
    yield from folder.glob(f"{name}.*.nbi")


def _forget_older(function: Callable[..., Any]) -> None:
    """Remove what was compiled before any module with compiled functions changed.

    numba looks at the module of the function alone, not at those of the functions that it calls.
    """
    times = [path.stat().st_mtime for path in _modules if path.exists()]
    changed = max(times, default=0.0)
    for index in _kept(function):
        with suppress(OSError):  # another process was sooner, or nothing can be written there
            if index.stat().st_mtime < changed:
                index.unlink()


def _file_of(function: Callable[..., Any]) -> Path:
    return Path(function.__code__.co_filename)


def _values_in(arguments: Any) -> int:
    """Return how many values the arrays among some arguments have."""
    number = 0
    for value in arguments:
        if isinstance(value, tuple):
            number += _values_in(value)
        elif isinstance(value, np.ndarray):
            number += value.size
    return number


@cache
def _njit(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        from numba import njit
        from numba.extending import register_jitable
    except ImportError:  # it cannot be installed everywhere, for example in a browser
        _tell_once()
        return function
    _forget_older(function)
    while _parts:
        register_jitable(_parts.pop())
    options: dict[str, Any] = {"no_cfunc_wrapper": True}  # nothing calls it from C
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # no folder can be written to, as in a container: for this process alone
        return njit(**options)(function)


def log_gamma(x: float) -> float:
    """Return the logarithm of the gamma function of x > 0, to 14 digits.

    By Stirling's series from 20 on, and below by the recurrence. That of the standard library says
    something else in its last digits than the compiler's.

    Examples
    --------
    >>> from math import exp
    >>> round(exp(log_gamma(6)), 9)
    120.0
    """
    product = 1.0
    while x < 20.0:
        product *= x
        x += 1.0
    inverse = 1.0 / (x * x)
    third = 1.0 / 1260.0 - inverse / 1680.0
    second = 1.0 / 360.0 - inverse * third
    series = 1.0 / 12.0 - inverse * second
    half_log_two_pi = 0.5 * log(2.0 * pi)
    first_terms = (x - 0.5) * log(x) - x + half_log_two_pi
    return first_terms + series / x - log(product)


def normal_tail(z: float) -> float:
    """Return the chance that a normal variable exceeds its mean by `z` standard deviations.

    Examples
    --------
    >>> round(1 / normal_tail(3))
    741
    """
    return erfc(z / sqrt(2)) / 2


def student_quantile(share: float, freedom: NDArray) -> NDArray:
    """Return the quantile of Student's t by the Cornish-Fisher expansion, within 1 % from four
    degrees of freedom on, and too low below.

    Parameters
    ----------
    share : float, 0 to 1
        Taken to be at most 0.9999: there is no quantile for 1.

    References
    ----------
    Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.5.

    Examples
    --------
    >>> student_quantile(0.99, np.array([5, 30])).round(2)
    array([3.35, 2.46])
    """
    inside = min(max(share, 1e-4), 1 - 1e-4)
    z = NormalDist().inv_cdf(inside)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    n = np.asarray(freedom, dtype=float)
    return z + first / n + second / n**2 + third / n**3


@cache
def _tell_once() -> None:
    command = install_command("fast")
    _log.warning("numba is not installed: the results are the same, but slower (%s)", command)


def wilson(k: Any, n: Any, z: float = 1.96) -> tuple[Any, Any]:
    """Return the bounds of a share k/n at `z` standard errors (Wilson 1927, doi
    10.1080/01621459.1927.10502953); the default 1.96 gives 95 % bounds.

    Examples
    --------
    Three failures in three requests prove less than thirty in thirty:

    >>> [round(float(wilson(n, n, 3)[0]), 2) for n in (3, 30)]
    [0.25, 0.77]
    """
    share = k / n
    square = z * z
    scale = 1 + square / n
    middle = (share + square / (2 * n)) / scale
    variance = share * (1 - share) / n + square / (4 * n * n)
    half = z / scale * np.sqrt(variance)
    return middle - half, middle + half


def real_numbers(values: ArrayLike) -> NDArray:
    """Return one-dimensional `values` as floats, NaN for those that are missing."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError("values must be one-dimensional, got rows of unlike lengths") from None
    if array.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got shape {array.shape}")
    kind = array.dtype.kind
    if kind == "O":
        wrong = next((value for value in array if not _is_real(value)), None)
        if wrong is not None:
            raise ValueError(f"values must be real numbers, got {wrong!r}")
        array = np.where(pd.isna(array), np.nan, array)
    elif kind not in "biuf":
        first = pd.Series(array[:1]).tolist()
        raise ValueError(f"values must be real numbers, got {array.dtype.name}: {first}")
    try:
        return np.array(array, dtype=np.float64)  # a copy: kernels take what can be written
    except OverflowError:
        raise ValueError(f"values must be within ±{LARGEST:g}, got a larger integer") from None


def _is_real(value: object) -> bool:
    """Return whether `value` is a real number, or missing."""
    return value is None or value is pd.NA or isinstance(value, (Real, Decimal))


def to_utc(moment: pd.Timestamp, name: str = "now and until") -> pd.Timestamp:
    """Return a time, the argument `name`, in UTC, which it is in if it names no zone.

    Raises
    ------
    ValueError
        If it is no time, or outside the years that spans may have.
    """
    rule = f"{name} must be a time"
    is_time = isinstance(moment, (datetime, np.datetime64))
    is_text = isinstance(moment, str) and moment.strip().lower() not in ("now", "today")
    if not is_time and not is_text:
        raise ValueError(f"{rule}, such as pd.Timestamp('2026-01-01'), got {moment!r}")
    try:
        utc = pd.to_datetime(moment, utc=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{rule}, got {moment!r}") from error
    if utc is pd.NaT or not FIRST_YEAR <= utc.year <= LAST_YEAR:
        raise ValueError(f"{rule} in the years {FIRST_YEAR} to {LAST_YEAR}, got {moment!r}")
    return utc


def mixed(numbers: NDArray) -> NDArray:
    """Return each number spread over 64 bits; numbers are of dtype uint64, their shape stays.

    splitmix64: Steele et al. 2014, doi 10.1145/2660193.2660195.
    """
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
