"""The questions of the lessons: what is asked, and what an answer shows.

They stand in questions.toml with digests in place of the answers, so that neither a lesson nor that
file gives an answer away. ``python -m shop.course.questions 02.1 175`` prints the digest of an
answer, for whoever writes a question.
"""

from __future__ import annotations

import hashlib
import string
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from aiops_lab.checks import FieldError

QUESTIONS_FILE = Path(__file__).with_name("questions.toml")

DIGITS = 16

"""Length of a digest in hex digits: enough that no two answers share one."""


class Misconception(NamedTuple):
    """What a wrong answer shows: a name, and a hint that goes with it."""

    name: str
    hint: str
    digests: tuple[str, ...]


class Question(NamedTuple):
    """One thing that a lesson asks.

    ``choices``: the possible answers, lettered a, b, c, …; empty: a number or a name. ``decimals``:
    to how many a number is rounded. ``several``: whether the answer is a list. ``length``: of how
    many numbers; 0: of any number of numbers or names. ``right``: the digests of what is right.
    ``example``: an answer as it is written in Python; empty: a letter, a number or a list of
    numbers.
    """

    id: str
    asks: str
    right: tuple[str, ...]
    choices: tuple[str, ...] = ()
    decimals: int = 0
    several: bool = False
    wrong: tuple[Misconception, ...] = ()
    example: str = ""
    length: int = 0

    @property
    def lettered(self) -> dict[str, str]:
        """The choices by their letters."""
        return dict(zip(string.ascii_lowercase, self.choices, strict=False))


class Mark(NamedTuple):
    """What an answer shows: whether it is right, and which misconception it is, if it is one."""

    right: bool
    misconception: str = ""
    hint: str = ""


@cache
def questions() -> dict[str, Question]:
    """Return all questions by id, in the order of the lessons."""
    tables = tomllib.loads(QUESTIONS_FILE.read_text("utf-8"))
    return {name: _question(name, table) for name, table in tables.items()}


def _question(name: str, table: dict[str, Any]) -> Question:
    wrong = [
        Misconception(each["name"], each["hint"], tuple(each["digests"]))
        for each in table.get("wrong", [])
    ]
    return Question(
        name,
        table["asks"],
        tuple(table["right"]),
        tuple(table.get("choices", ())),
        table.get("decimals", 0),
        table.get("several", False),
        tuple(wrong),
        table.get("example", ""),
        table.get("length", 0),
    )


def question(name: str) -> Question:
    """Return the question with this id, such as "00.1".

    Raises
    ------
    ValueError
        There is none.
    """
    every = questions()
    if name not in every:
        raise FieldError("question", f"must be one of {', '.join(every)}", name)
    return every[name]


def mark(asked: Question, answer: object) -> Mark:
    """Return what an answer shows.

    Raises
    ------
    ValueError
        The answer is not of the kind that is asked for.
    """
    found = digest(asked.id, canonical(asked, answer))
    if found in asked.right:
        return Mark(True)
    for misconception in asked.wrong:
        if found in misconception.digests:
            return Mark(False, misconception.name, misconception.hint)
    return Mark(False)


def digest(name: str, text: str) -> str:
    """Return the digest of an answer in its canonical form."""
    named = f"{name}={text}"
    found = hashlib.sha256(named.encode())
    return found.hexdigest()[:DIGITS]


def canonical(asked: Question, answer: object) -> str:
    """Return an answer as text: what means the same is equal.

    The letter of a choice; a number rounded; a name without capitals and outer spaces; of several
    answers all, those of a set sorted.

    Raises
    ------
    ValueError
        The answer is not of the kind that is asked for.
    """
    if asked.choices:
        return _choice(asked, answer)
    if not asked.several:
        return _single(asked, answer)
    parts = [_single(asked, part) for part in _parts(answer)]
    if asked.length and (len(parts) != asked.length or not all(map(_is_number, parts))):
        raise FieldError("answer", f"must be a list of {asked.length} numbers", answer)
    ordered = sorted(parts) if isinstance(answer, (set, frozenset)) else parts
    return ", ".join(ordered)


def _parts(answer: object) -> list[Any]:
    if isinstance(answer, str):
        text = answer.strip("[](){} ")
        words = text.replace(",", " ").split()
        parts = words if all(map(_is_number, words)) else text.split(",")
        return [part for part in parts if part.strip()]
    if not isinstance(answer, Iterable):
        raise FieldError("answer", "must be a list", answer)
    return list(answer)


def _choice(asked: Question, answer: object) -> str:
    said = _plain(str(answer)).strip("()")
    for letter, choice in asked.lettered.items():
        if said in (letter, _plain(choice)):
            return letter
    letters = ", ".join(asked.lettered)
    raise FieldError("answer", f"must be one of {letters}", answer)


def _single(asked: Question, answer: object) -> str:
    number = _number(answer)
    if number is not None:
        rounded = round(number, asked.decimals) + 0.0  # + 0.0: there is no -0
        return f"{rounded:.{asked.decimals}f}"
    if not isinstance(answer, str):
        raise FieldError("answer", "must be a number or text", answer)
    return _plain(answer)


def _number(answer: object) -> float | None:
    if isinstance(answer, Real):
        return float(answer)
    try:
        return float(answer)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _is_number(text: str) -> bool:
    return _number(text) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("`", "").split())


if __name__ == "__main__":
    _, name, *texts = sys.argv
    for text in texts:
        in_short = canonical(question(name), text)
        print(digest(name, in_short), text)
