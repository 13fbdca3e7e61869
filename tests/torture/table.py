"""The table of ``make torture``: what was thrown, how often, and what was lost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

HEADER = "| thrown | times | requests meanwhile | without an answer | spans lost | seen |"


class Row(NamedTuple):
    """What became of one kind of trouble.

    Attributes
    ----------
    thrown : str
    times : int
    seen : str
        Where a person sees it; or, after "FAILED", what went wrong.
    requests, unanswered, lost : int, optional
        Requests that were sent meanwhile, those of them without an answer, and those with an answer
        whose span is missing; None where there are none.
    """

    thrown: str
    times: int
    seen: str
    requests: int | None = None
    unanswered: int | None = None
    lost: int | None = None

    @property
    def failed(self) -> bool:
        """Whether anything was lost, or went wrong otherwise."""
        is_wrong = self.seen.startswith("FAILED")
        return is_wrong or bool(self.unanswered) or bool(self.lost)


def line_of(row: Row) -> str:
    """Return a row as Markdown."""
    counts = (row.requests, row.unanswered, row.lost)
    told = ["–" if count is None else f"{count:,}" for count in counts]
    return f"| {' | '.join((row.thrown, f'{row.times:,}', *told, row.seen))} |"


def summary(rows: Iterable[Row], seconds: float) -> str:
    """Return the last line, a sentence about all rows."""
    every = [*rows]
    times = sum(row.times for row in every)
    requests = sum(row.requests or 0 for row in every)
    unanswered = sum(row.unanswered or 0 for row in every)
    lost = sum(row.lost or 0 for row in every)
    failed = sum(row.failed for row in every)
    return (
        f"{len(every)} kinds of trouble, thrown {times:,} times in {seconds / 60:.0f} min: of"
        f" {requests:,} requests {unanswered:,} had no answer, of their spans {lost:,} were lost,"
        f" and {failed} kinds did harm."
    )
