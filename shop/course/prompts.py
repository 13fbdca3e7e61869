"""Ask the reader, store the guess, and say at once what it shows.

Where ipywidgets runs, a prompt is a small form; elsewhere it is text, and the guess is given as an
argument.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import EllipsisType
from typing import Any

from aiops_lab.checks import FieldError, check_number
from shop.course.guesses import Guess, guesses_file, read_guesses, write_guess
from shop.course.questions import Mark, Question, canonical, mark, question, questions
from shop.course.start import begin

try:
    import ipywidgets as widgets
except ImportError:  # the extra "lab"; without it a prompt is text
    widgets = None

_SURE = {
    "I do not say": None,
    "50 %": 0.5,
    "60 %": 0.6,
    "70 %": 0.7,
    "80 %": 0.8,
    "90 %": 0.9,
    "99 %": 0.99,
}
"""How sure a reader can be in the form, by what the form says."""

RIGHT = "Right."
WRONG = "No, it is something else. Run the next cell, and see where your picture of it differs."
WRONG_ANSWER = "No, it is something else. The hint of the exercise may help."


class Reply(str):
    """What the reader is told, as text that a notebook shows as it is."""

    right: bool | None = None

    def __repr__(self) -> str:
        return str(self)


def predict(name: str, guess: object = ..., sure: float | None = None) -> Any:
    """Ask for a guess, or store one and say what it shows.

    The first guess for a question is the one that counts; it is stored in `guesses_file`.

    Parameters
    ----------
    name : str
        The question, such as ``"00.1"``.
    guess : number, str or list, optional
        The guess; without one, or with ``...``, the question is shown: as a form where ipywidgets
        runs, as text elsewhere.
    sure : float, optional
        The probability that the guess is right, 0 to 1, in the reader's opinion; `my_guesses`
        compares it with the share that was right. Default: none is stored.

    Returns
    -------
    Reply or widget
        ``right`` is True, False, or None without a guess or with one of another kind than asked
        for, which is not stored; its text is what a notebook shows.

    Raises
    ------
    ValueError
        There is no such question, or `sure` is not a probability.

    Examples
    --------
    >>> predict("02.1", ...).right is None
    True
    """
    asked = question(name)
    if sure is not None:
        check_number("sure", sure, 0, 1)
    if not isinstance(guess, EllipsisType):
        return _told_or_refused(lambda: _stored(asked, guess, sure))
    before = read_guesses().get(name)
    if before is not None:
        return _reply(_again(asked, before), before.right)
    if widgets and _in_a_kernel():
        return Prompt(asked)
    return _reply(_as_text(asked))


def check_answer(name: str, answer: object = ...) -> Reply:
    """Say whether an answer is right, or which misconception it shows, with a hint.

    Parameters
    ----------
    name : str
        The question, such as ``"00.7"``.
    answer : number, str or list
        The answer; ``...`` stands for none yet: the question and its choices are shown.

    Returns
    -------
    Reply
        ``right`` is True, False, or None without an answer or with one of another kind than asked
        for; its text is what a notebook shows.

    Raises
    ------
    ValueError
        There is no such question.
    """
    asked = question(name)
    if isinstance(answer, EllipsisType):
        return _reply(_as_text(asked, "Answer in place of the dots", "check_answer"))
    return _told_or_refused(lambda: _told(mark(asked, answer), WRONG_ANSWER))


def my_guesses(lesson: str = "") -> Reply:
    """Return how good the reader's guesses were, and how sure the reader was.

    Parameters
    ----------
    lesson : str
        Its number, such as ``"00"``; default all lessons.
    """
    stored = read_guesses()
    asked = [name for name in questions() if name.startswith(lesson)]
    names = [name for name in asked if name in stored]
    if not names:
        return _reply("No guesses are stored yet: each `predict` cell takes one.")
    made = [stored[name] for name in names]
    right = sum(guess.right for guess in made)
    lines = [f"{right} of {len(made)} guesses were right ({guesses_file()})."]
    for name, guess in zip(names, made, strict=True):
        lines.append(f"{name}  {_line(guess)}")
    lines += _calibration(made)
    return _reply("\n".join(lines))


def _line(guess: Guess) -> str:
    if guess.right:
        return f"{guess.answer}: right"
    return f"{guess.answer}: {guess.misconception or 'not right'}"


def _calibration(made: list[Guess]) -> list[str]:
    """Return a line that compares how sure the reader was with how often that was right."""
    told = [guess for guess in made if guess.sure is not None]
    if not told:
        return []
    sure = sum(guess.sure or 0.0 for guess in told)
    right = sum(guess.right for guess in told)
    n = len(told)
    return [f"You were {sure / n:.0%} sure on average, and {right / n:.0%} of those were right."]


# ---- what is told


def _told_or_refused(told: Callable[[], Reply]) -> Reply:
    """Return what is told, or in one line why an answer cannot be marked."""
    try:
        return told()
    except FieldError as error:
        return _reply(str(error))


def _stored(asked: Question, guess: object, sure: float | None) -> Reply:
    found = mark(asked, guess)
    text = canonical(asked, guess)
    write_guess(asked.id, Guess(text, found.right, found.misconception, sure))
    return _told(found)


def _told(found: Mark, wrong: str = WRONG) -> Reply:
    if found.right:
        return _reply(RIGHT, True)
    if not found.misconception:
        return _reply(wrong, False)
    text = f"No. A common slip, “{found.misconception}”: {found.hint}"
    return _reply(text, False)


def _again(asked: Question, before: Guess) -> str:
    verdict = "right" if before.right else before.misconception or "not right"
    shown = asked.lettered.get(before.answer, before.answer)
    return f"{asked.id}: {asked.asks}\nYour guess was: {shown} ({verdict})."


def _as_text(
    asked: Question, how: str = "Guess before you go on", function: str = "predict"
) -> str:
    choices = [f"  {letter}) {choice}" for letter, choice in asked.lettered.items()]
    numbers = list(range(1, asked.length + 1)) or [1, 2]
    usual = str(numbers) if asked.several else "1"
    if choices:
        usual = '"a"'
    example = asked.example or usual
    sure = ", sure=0.7" if function == "predict" else ""
    lines = [
        f"{asked.id}: {asked.asks}",
        *choices,
        f'{how}, for example: {function}("{asked.id}", {example}{sure})',
    ]
    return "\n".join(lines)


def _reply(text: str, right: bool | None = None) -> Reply:
    reply = Reply(text)
    reply.right = right
    return reply


# ---- the form


def _in_a_kernel() -> bool:
    """Return whether a notebook runs this, which can show widgets."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


_Box: Any = widgets.VBox if widgets else object


class Prompt(_Box):
    """The form of a question: the answer, how sure the reader is, and what the answer shows.

    Its repr is the question as text, so that a page without widgets shows it too.
    """

    right: bool | None = None

    def __init__(self, asked: Question) -> None:
        self._asked = asked
        self.answer = _answer_field(asked)
        self.sure = widgets.Dropdown(options=list(_SURE), description="how sure?")
        self.button = widgets.Button(description="My guess")
        self.told = widgets.HTML()
        question_shown = widgets.HTML(f"<b>{asked.id}</b> {asked.asks}")
        last = widgets.HBox([self.sure, self.button])
        super().__init__([question_shown, self.answer, last, self.told])
        self.button.on_click(self.take)

    def take(self, _button: object = None) -> None:
        """Store the guess that the form holds, and say what it shows."""
        sure = _SURE[self.sure.value]
        try:
            reply = _stored(self._asked, self._guess(), sure)
        except FieldError as error:
            self.told.value = str(error)
            return
        self.right = reply.right
        self.told.value = str(reply)
        for part in (self.answer, self.sure, self.button):
            part.disabled = True

    def _guess(self) -> object:
        guess = self.answer.value
        if self._asked.choices and guess is None:
            raise FieldError("answer", "must be chosen first", None)
        if not self._asked.choices and not guess.strip():
            raise FieldError("answer", "must be typed first", guess)
        return guess

    def __repr__(self) -> str:
        return _as_text(self._asked)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Return the form and its whole text, which ipywidgets would cut."""
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": repr(self)}


def _answer_field(asked: Question) -> Any:
    if asked.choices:
        return widgets.RadioButtons(
            options=list(asked.choices),
            value=None,
            layout={"width": "max-content"},
        )
    hint = "a list: 1, 2, 3" if asked.several else "a number or a name"
    if asked.length:
        hint = f"{asked.length} numbers: 1, 2, …"
    return widgets.Text(placeholder=hint)


begin()  # for notebooks of one's own, whose first cell does not do so
