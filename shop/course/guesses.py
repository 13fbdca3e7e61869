"""The file of the reader's guesses: what was answered first, and how sure the reader was.

It is ``my_guesses.json`` in the folder of the lessons, or the file that the environment variable
AIOPS_LAB_GUESSES names. Deleting it starts the course anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiops_lab.checks import FieldError
from aiops_lab.formats.writing import replacing


class Guess(NamedTuple):
    """A guess as it was stored.

    ``sure``: the probability, 0 to 1, that the reader gave it; None if not asked.
    """

    answer: str
    right: bool
    misconception: str = ""
    sure: float | None = None


def guesses_file() -> Path:
    """Return the file of the guesses; it need not exist."""
    return Path(os.environ.get("AIOPS_LAB_GUESSES") or "my_guesses.json")


def read_guesses() -> dict[str, Guess]:
    """Return the guesses by the ids of their questions; none if there is no file.

    Raises
    ------
    ValueError
        The file does not hold guesses.
    """
    file = guesses_file()
    if not file.is_file():
        return {}
    try:
        stored = json.loads(file.read_text("utf-8"))
        return {name: Guess(**values) for name, values in stored.items()}
    except (ValueError, TypeError, AttributeError):
        rule = "must hold guesses; delete it to start anew"
        raise FieldError("my_guesses.json", rule, str(file)) from None


def write_guess(name: str, guess: Guess) -> None:
    """Store a guess, unless there is one for this question already: the first one counts."""
    every = read_guesses()
    if name not in every:
        _write({**every, name: guess})


def _write(guesses: Mapping[str, Guess]) -> None:
    stored: dict[str, dict[str, Any]] = {name: each._asdict() for name, each in guesses.items()}
    file = guesses_file()
    with replacing(file) as part:
        part.write_text(json.dumps(stored, indent=1), "utf-8")
