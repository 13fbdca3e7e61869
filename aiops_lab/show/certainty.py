"""How sure is an answer? What its confidence means, and what limits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiops_lab.numerics import wilson
from aiops_lab.results import Suspect, Verdict
from aiops_lab.show.services import ServiceFault, in_a_row

MOST_NAMED = 4

FEW_REQUESTS = 20
"""Bad requests below which it is told that they are few: where all of 20 show the same, at least
84 % of all such requests do (Wilson), with fewer less."""


def meaning_of(cause: Suspect) -> str:
    """Return what the confidence of a cause means, in one sentence."""
    sure = f"{cause.confidence:.0%}"
    if cause.by == "deviations":
        clear = "how unusual the cause is; what customers lost says too little"
    else:
        clear = f"how much of the extra time and failures began there, here {cause.share:.0%}"
    among = "in simulated incidents, whose cause is known"
    return (
        f"A confidence of {sure} means: {among}, {sure} of the answers as clear as this one were "
        f"right. Clear is {clear}."
    )


def limits_of(verdict: Verdict, faults: Sequence[ServiceFault] = ()) -> list[str]:
    """Return what speaks against the cause of a verdict, and what is missing, a sentence each.

    `faults` are those of a whole service that this cause is probably a part of.
    """
    cause = verdict.cause
    if cause is None:
        return []
    limits = [
        *([cause.caution] if cause.caution else []),
        *_whole_service(cause, faults),
        *_other_suspects(verdict.suspects),
        *_weak_support(cause),
        *_not_recorded(cause, verdict.endpoints),
        *_not_explained(cause, verdict),
    ]
    if limits:
        return limits
    return [
        "Nothing that was recorded speaks against it. What remains is that some answers as clear "
        "as this one were wrong."
    ]


def _whole_service(cause: Suspect, faults: Sequence[ServiceFault]) -> list[str]:
    mine = cause.name or cause.endpoint
    told = []
    for fault in faults:
        others = in_a_row([name for name in fault.endpoints if name != mine])
        told.append(
            f"Against {mine} alone: {others} of the same service became abnormal at the same time, "
            f"so that the fault may be of {fault.service} as a whole."
        )
    return told


def _other_suspects(suspects: tuple[Suspect, ...]) -> list[str]:
    others = suspects[1:]
    if not others:
        return []
    names = [suspect.name or suspect.endpoint for suspect in others]
    named = ", ".join(names[:MOST_NAMED])
    share = sum(suspect.share for suspect in others)
    if round(share, 2) == 0.0:
        return []
    what = "extra time and failures" if suspects[0].by == "excess" else "scores"
    return [f"Against it: {share:.0%} of the {what} belongs to other suspects ({named})."]


def _weak_support(cause: Suspect) -> list[str]:
    """Return what the requests, one by one, say less clearly than their sum."""
    if cause.by == "deviations":
        return ["Missing: customers lost too little to tell by their requests where it began."]
    k, n = cause.support
    if k == 0:
        return [
            "Missing: no single request shows it. It follows from sums over all requests, such as "
            "the waiting for a busy worker."
        ]
    if k < n:
        return [f"Against it: in {n - k} of {n} slow or failed requests most of it was elsewhere."]
    if n < FEW_REQUESTS:
        low = wilson(k, n)[0]
        count = "the only one shows" if n == 1 else f"all {n} show"
        return [f"Few slow or failed requests: {count} it; of many, it may be {low:.0%} or more."]
    return []


def _not_recorded(cause: Suspect, endpoints: tuple[dict[str, Any], ...]) -> list[str]:
    for row in endpoints:
        was_called = row["n_now"] + row["unanswered"] > 0
        if was_called and _is(row, cause):
            return []
    return ["Missing: it recorded no spans of its own then; only the calls of it show it."]


def _not_explained(cause: Suspect, verdict: Verdict) -> list[str]:
    rest = [
        row["endpoint"]
        for row in verdict.endpoints
        if row["degraded"] and row["endpoint"] not in verdict.affected and not _is(row, cause)
    ]
    if not rest:
        return []
    named = ", ".join(rest[:MOST_NAMED])
    return [f"Not explained by it: {named}, which became worse too without waiting for it."]


def _is(row: dict[str, Any], cause: Suspect) -> bool:
    return (row["service"], row["route"]) == cause.key
