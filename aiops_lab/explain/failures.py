"""Where did a failure begin? From the failed request down the last failing calls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.explain.config import RcaConfig
from aiops_lab.numerics import compiled, compiled_part
from aiops_lab.traces.trees import TraceTrees


class Outcomes(NamedTuple):
    """How spans ended, one entry a span: what is needed to follow a failure to its origin."""

    bad: NDArray  # it failed, or is unanswered
    refusal: NDArray  # an unusual 4xx
    refused: NDArray  # a call without an answer, so fast that the called host refused it
    served: NDArray  # the server span that a client span reached, -1 = none
    usual_ns: NDArray  # the usual duration of its endpoint


def outcomes_of(
    trees: TraceTrees, is_open: NDArray, usual_of: pd.DataFrame, config: RcaConfig
) -> Outcomes:
    """Return how each span ended, compared with what is usual of its endpoint.

    ``usual_of`` has a row an endpoint: columns ns, failed, refused and long.
    """
    usual = usual_of.reindex(trees.node, fill_value=0.0)
    usual_ns = usual["ns"].to_numpy(copy=True)  # contiguous, so that `origins` is compiled once
    usually_fails = usual["failed"].to_numpy() > config.usual_failure_share
    usually_refuses = usual["refused"].to_numpy() > config.usual_failure_share
    held_open = usual["long"].to_numpy() > config.long_lived_share
    duration = trees.end - trees.start
    timeout_ns = config.timeout_s * 1e9
    age = np.maximum(timeout_ns, config.timeout_ratio * usual_ns)
    hangs = (duration > age) & ~held_open
    is_root = trees.parent < 0
    bad = np.where(is_open, hangs, trees.failed)
    bad &= ~usually_fails | is_root
    refused_ns = config.refused_ms * 1e6
    no_answer = trees.status == 0
    return Outcomes(
        bad=bad,
        refusal=is_refusal(trees) & ~usually_refuses,
        refused=no_answer & (duration < refused_ns),
        served=served_spans(trees),
        usual_ns=usual_ns,
    )


def served_spans(trees: TraceTrees) -> NDArray:
    """Return the server span that each client span reached, -1 for none."""
    has_parent = trees.parent >= 0
    below = np.flatnonzero(trees.server & has_parent)
    above = trees.parent[below]
    by_client = ~trees.server[above]
    served = np.full(trees.root.size, -1)
    served[above[by_client]] = below[by_client]
    return served


def is_refusal(trees: TraceTrees) -> NDArray:
    """Return which spans were answered with a status of 400 to 499."""
    return (trees.status >= 400) & (trees.status < 500)


def topmost_failures(trees: TraceTrees, bad: NDArray) -> NDArray:
    """Return the topmost span of each failure, given which spans are `bad`."""
    above = trees.parent
    has_parent = above >= 0
    by_failed_caller = has_parent & bad[above]  # the failure is counted there
    by_client = has_parent & ~trees.server[above]
    answered_well = by_client & trees.server  # the client span above saw a good answer after all
    counts = (trees.root >= 0) & ~trees.log
    return np.flatnonzero(bad & counts & ~by_failed_caller & ~answered_well)


@compiled
def origins(trees: TraceTrees, outcomes: Outcomes, failed: NDArray) -> tuple[NDArray, NDArray]:
    """Return the span where the failure of each of some spans began, and whether that is a call
    that was refused.
    """
    origin = np.empty(failed.size, dtype=np.int64)
    refused = np.empty(failed.size, dtype=np.bool_)
    for k in range(failed.size):
        origin[k], refused[k] = _origin(trees, outcomes, failed[k])
    return origin, refused


@compiled_part
def _origin(trees: TraceTrees, outcomes: Outcomes, top: int) -> tuple[int, bool]:
    """Return the span where a failure began, and whether that is a call that was refused.

    The walk goes down the last failing calls, and where a caller gave up, down the time. The
    failure of a caller that was answered with an unusual 4xx counts to who answered so.
    """
    i = top
    while True:
        if trees.server[i]:
            call = _last_call(trees, outcomes.bad, i)
            if call < 0 and not outcomes.refusal[i]:
                call = _last_call(trees, outcomes.refusal, i)
            if call < 0:  # it failed by itself, or it hangs
                hangs = trees.status[i] == 0
                return _slowest(trees, outcomes, i) if hangs else i, False
            i = call
            continue
        answer = outcomes.served[i]
        if answer < 0:
            return i, outcomes.refused[i]
        if trees.status[i] == 0 or not (outcomes.bad[answer] or outcomes.refusal[answer]):
            return _slowest(trees, outcomes, i), False
        i = answer


@compiled_part
def _last_call(trees: TraceTrees, which: NDArray, i: int) -> int:
    """Return the call of span i that ended last of those in a mask, -1 if there is none."""
    for k in range(trees.first[i], trees.first[i + 1]):  # the latest end comes first
        call = trees.child[k]
        if which[call] and not trees.log[call]:
            return call
    return -1


@compiled_part
def _slowest(trees: TraceTrees, outcomes: Outcomes, top: int) -> int:
    """Return the span that took most of a span's time beyond the usual.

    The walk goes down into the worst call, as long as its excess exceeds the span's own time.
    """
    i = top
    while True:
        t = trees.end[i]
        own = float(t - trees.start[i])
        worst = -1
        worst_excess = 0.0
        for k in range(trees.first[i], trees.first[i + 1]):
            c = trees.child[k]
            until = min(trees.end[c], t)
            since = trees.start[c]
            if trees.log[c] or until <= since:
                continue
            own -= until - since
            t = since
            answer = outcomes.served[c]
            callee = answer if answer >= 0 else c
            usual_ns = outcomes.usual_ns[callee] if trees.server[i] else 0.0
            excess = until - since - usual_ns
            if excess > worst_excess:
                worst = c
                worst_excess = excess
        if worst < 0 or own >= worst_excess:
            return i
        i = worst
