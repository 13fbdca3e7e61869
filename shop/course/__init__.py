"""What the lessons use beside the laboratory: prompts, checked exercises, incidents of one's own.

questions    the questions of the lessons, and what an answer shows
guesses      the file of the reader's guesses
prompts      predict(), check_answer(), my_guesses()
drawing      spans drawn by hand, and small tables and figures of the lessons
hidden       lesson 00: one step of an order is slowed, the seed says which
cases        root-cause cases: recorded or played, and whom rules name
averages     lesson 02: figures of averages and baselines
seasons      lesson 05: shops whose normal moves, and their figures
troubles     lesson 06: anomalies by hand, and a shop that is broken twice
outages      lesson 07: recorded outages, requests drawn by hand
figures      figures of the lessons on traces that lie, twins and confidence
verdicts     sixty incidents whose truth is known, and what rules say of them
own          the reader's own calibration
twinned      scenarios of the lesson on twins
order        which cell is missing where a name is, and a short word on what was stopped
waiting      a bar, or seconds that count up, for whoever waits for a cell
start        begin(): the lesson's first cell switches on the two before
assignment   assignment(): an incident for each student
grading      python -m shop grade: submissions against the twins
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "predict": "prompts",
    "check_answer": "prompts",
    "my_guesses": "prompts",
    "begin": "start",
    "assignment": "assignment",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'shop.course' has no attribute {name!r}")
    return getattr(import_module(f"shop.course.{_HOMES[name]}"), name)
