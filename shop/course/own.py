"""How good is the reader's own confidence? From all guesses of all lessons that gave one."""

from __future__ import annotations

import pandas as pd

from aiops_lab.evaluate.calibration import Calibration, calibration
from shop.course.guesses import read_guesses
from shop.course.prompts import Reply

LEAST_SURE = 5
"""Guesses with a probability, below which nothing can be said."""


def sure_guesses() -> pd.DataFrame:
    """Return the guesses for which the reader said how sure he or she was: said and right, by id.

    No rows where there are none.
    """
    rows = {}
    for name, guess in read_guesses().items():
        if guess.sure is not None:
            rows[name] = guess.sure, guess.right
    return pd.DataFrame(rows.values(), index=list(rows), columns=["said", "right"])


def own_calibration() -> Reply:
    """Draw the reader's reliability diagram and return what it says in words.

    Below `LEAST_SURE` guesses with a probability there is only the text.
    """
    mine = sure_guesses()
    if len(mine) < LEAST_SURE:
        return Reply(
            f"{len(mine)} of your guesses say how sure you were; from {LEAST_SURE} on there is a "
            "picture here. Choose a probability with your guess, or write predict(…, sure=0.7)."
        )
    found = calibration(mine["said"], mine["right"], bins=5)
    _draw(found)
    said = mine["said"].mean()
    share = float(mine["right"].astype(float).mean())
    lean = "too sure" if said > share else "too modest, or just right"
    always = share * (1 - share)
    return Reply(
        f"{found.n} guesses: {said:.0%} sure on average, {share:.0%} right ({lean}).\n"
        f"Calibration error {found.ece:.2f}; a perfect reader would show {found.ece_perfect:.2f}, "
        f"and in one case of twenty more than {found.ece_perfect_high:.2f}.\n"
        f"Brier score {found.brier:.2f}; always saying {share:.0%}: {always:.2f}."
    )


def _draw(found: Calibration) -> None:
    from shop.course.drawing import show  # needs the extra "plots", the text does not
    from shop.course.reliability import diagrams

    diagrams({"Your guesses": {"all lessons": found}}, "you said you were")
    show("Your guesses: how often they were right, over how sure you were.")
