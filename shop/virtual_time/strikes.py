"""How a fault strikes in virtual time: a request that is handled, or a call on its way."""

from __future__ import annotations

import random

from aiops_lab.record.faults import HOLD_MAX_S, Fault
from shop.topology import Call, Endpoint
from shop.virtual_time.parts import Failure, Node, Strike, Work
from shop.virtual_time.scenario import VirtualFault

ON_CALLS = ("network", "refuse")

"""Kinds of faults that affect calls, not the requests that an endpoint handles."""


def hits(fault: Fault, name: str, node: Node, n: int) -> bool:
    """Return whether a fault affects request n at a node, by its rate."""
    if fault.rate >= 1:
        return True
    draw = node.draw(f"{name} struck", n)
    return draw < fault.rate


def refuses(faults: list[tuple[Fault, str]]) -> bool:
    """Return whether one of the faults on a call refuses its connection."""
    kinds = [fault.kind for fault, _ in faults]
    return "refuse" in kinds


def detour_us(fault: Fault, name: str, node: Node, n: int) -> int:
    """Return the extra travelling time of a call, in µs."""
    if fault.kind != "network":
        return 0
    extra_ms = fault.duration_ms
    if fault.jitter_ms:
        around = 2 * node.draw(f"{name} jitter", n) - 1
        extra_ms += fault.jitter_ms * around
    return max(0, round(extra_ms * 1e3))


def struck(at: int, work: Work, strike: Strike, seed: int) -> tuple[int, Failure | None]:
    """Return when the fault releases a request, and the failure, if it is one.

    Both times are in µs; `at`: when the fault strikes.
    """
    _, end, fault, name = strike
    if isinstance(fault, VirtualFault):
        return _struck_virtually(at, work, strike)
    now = at

    def wait(seconds: float) -> bool:
        nonlocal now
        longest_s = min(seconds, HOLD_MAX_S)
        until = now + round(longest_s * 1e6)
        now = max(now, min(until, end))
        return now >= end

    rng = random.Random(f"{seed}/{work.node.name}/{name}/{work.n}")
    failure: Failure | None = None
    try:
        fault.strike(rng, wait)
    except Exception as error:
        status = getattr(error, "status", 500)
        kind = type(error).__name__
        failure = status, f"{kind}: {error}"
    return now, failure


def _struck_virtually(at: int, work: Work, strike: Strike) -> tuple[int, Failure | None]:
    start, end, fault, _ = strike
    assert isinstance(fault, VirtualFault)
    if fault.kind == "slow":
        usual = work.node.own[work.n]
        extra = (fault.factor - 1) * usual
        return at + round(extra), None
    if fault.kind == "leak":
        most_us = fault.duration_ms * 1e3
        passed = at - start
        delay = most_us * passed / (end - start)
        return at + round(delay), None
    if fault.kind == "repeat":
        if work.repeated is None or fault.times > work.repeated.times:
            work.repeated = fault
        return at, None
    if fault.kind == "shed":
        error = shed_error(work.node.spot.endpoint)
        return at, (503, error)
    return at, (fault.status, None)


def calls_to_make(work: Work) -> list[tuple[int, int, Call]]:
    """Return the calls of a stage that are to be made in this turn: turn, position, call.

    A fault may make some calls of a stage again: in further turns, or at once in the first.
    """
    stage = work.node.spot.stages[work.stage]
    fault = work.repeated
    turn = work.turn
    calls = []
    if turn == 0:
        calls += [(0, k, call) for k, call in enumerate(stage)]
    if fault is None:
        return calls
    for again in _further_turns(fault, turn):
        for k, call in enumerate(stage):
            if fault.callee in (None, call.place):
                calls.append((again, k, call))
    return calls


def _further_turns(fault: VirtualFault, turn: int) -> range:
    """Return which repetitions of a fault belong to this turn."""
    further = range(1, fault.times)
    if fault.at_once:
        return further if turn == 0 else range(0)
    return range(turn, turn + 1) if turn in further else range(0)


# ---- failures in the words of the live shop


def shed_error(endpoint: Endpoint) -> str:
    """Return the error of a request that an endpoint refuses, as the live shop words it."""
    return f"BackendError: {endpoint.route} is at its capacity, try again later"


def timed_out(call: Call) -> tuple[str, Failure]:
    """Return the error of a call without an answer in time, and the failure of its caller."""
    error = (
        f"ReadTimeout: HTTPConnectionPool(host='{call.service}', port=80): Read timed out. "
        f"(read timeout={float(call.timeout_s)})"
    )
    text = f"BackendError: {call.endpoint} did not answer within {call.timeout_s:g} s"
    return error, (504, text)


def refused(call: Call) -> tuple[str, Failure]:
    """Return the error of a call whose connection is refused, and the failure of its caller."""
    error = (
        f"ConnectionError: HTTPConnectionPool(host='{call.service}', port=80): Connection refused"
    )
    text = f"BackendError: {call.endpoint} could not be reached: ConnectionError"
    return error, (502, text)
