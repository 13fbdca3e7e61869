"""Is a name misspelt? The known names that are like it, for errors and warnings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches

from aiops_lab.checks import shorten

MOST_NAMES = 5  # that are told

ALIKE = 0.6  # ratio of `difflib` from which a name is worth telling; its own default
MISSPELT = 0.84  # and from which nothing else can be meant: "crt" for "cart", but no "cart-2"


class UnknownNameWarning(UserWarning):
    """An argument names something that the data does not have: it may be misspelt."""


def similar(name: str, known: Iterable[str], ratio: float = ALIKE) -> list[str]:
    """Return up to three of the known names that differ little from this one, case aside.

    Examples
    --------
    >>> similar("Paymnt", ["front", "payment"])
    ['payment']
    """
    small = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), small, 3, ratio)
    return [small[each] for each in near]


def misspelt(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the unknown names that are `MISSPELT` for a known one which is not among the names.

    Examples
    --------
    >>> misspelt(["front", "crt", "queue"], ["cart", "front"])
    ['crt']
    """
    given, every = set(names), set(known)
    free = every - given
    return [name for name in sorted(given - every) if similar(name, free, MISSPELT)]


def shown_names(names: Iterable[str]) -> str:
    """Return some names as Python writes them, five at most, then dots."""
    told = list(names)
    shown = [shorten(name) for name in told[:MOST_NAMES]]
    if len(told) > MOST_NAMES:
        shown.append("...")
    return ", ".join(shown)


def known_instead(name: str, known: Iterable[str], have: str = "known are") -> str:
    """Return what may be meant by an unknown name: similar names, else all that are known.

    Examples
    --------
    >>> known_instead("frnt", ["cart", "front"])
    "perhaps 'front'"
    >>> known_instead("db", ["cart", "front"])
    "known are 'cart', 'front'"
    """
    every = sorted(known)
    near = similar(name, every)
    if near:
        return f"perhaps {shown_names(near)}"
    return f"{have} {shown_names(every)}" if every else f"{have} none"


def warn_of_unknown(told: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Warn of the names that are not known, in one sentence that begins with `told`.

    The warning points to the line outside this package that called into it.
    """
    every = sorted(set(known))
    unknown = sorted(set(names).difference(every))
    if not unknown:
        return
    guesses = [f"{shorten(name)} ({known_instead(name, every)})" for name in unknown[:MOST_NAMES]]
    more = len(unknown) - MOST_NAMES
    rest = f" and {more} more" if more > 0 else ""
    text = f"{told} {', '.join(guesses)}{rest}"
    warnings.warn(text, UnknownNameWarning, stacklevel=_calls_from_outside())


def _calls_from_outside() -> int:
    """Return how many calls in this package lead to the caller of this function."""
    package = __name__.partition(".")[0]
    calls = 1
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame = frame.f_back
        calls += 1
    return calls
