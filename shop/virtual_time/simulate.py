"""Discrete-event simulation of the shop: weeks in seconds, with the same result each time.

Time 0 is 2026-01-01T00:00:00Z, and all times are whole microseconds. A request is handled as in
`shop.live.services`: it is admitted (or answered 503), affected by faults, does its own work, then
makes its calls, stage by stage. If all workers of a service are busy, the request waits for one
inside its server span. The run is a heap of events (time, request, ...) with one method for each
kind of event.

(The module is not named "virtual": its import would hide the function of that name in the package.)
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.progress import Bar
from aiops_lab.record.faults import Fault
from shop.topology import Call
from shop.virtual_time.arrivals import arrivals
from shop.virtual_time.frames import Records, frame_of
from shop.virtual_time.parts import (
    Failure,
    Node,
    PendingCall,
    RunningEndpoint,
    Which,
    Work,
    WorkerPool,
)
from shop.virtual_time.scenario import Place, Scenario, check_scenario, end_of
from shop.virtual_time.strikes import (
    ON_CALLS,
    calls_to_make,
    detour_us,
    hits,
    refused,
    refuses,
    shed_error,
    struck,
    timed_out,
)

PART = 200_000

"""Number of spans after which the records are passed on as a part."""

LONG_RUN = 100_000

"""Number of requests from which on a progress bar is shown by default."""

REFUSED_US = 1000

"""Time after which a refused connection is noticed, in µs."""

SPAN_FIELDS = ("request", "code", "start", "end", "status", "error")

"""Columns of the records; start and end in µs, error as a number."""


def virtual(scenario: Scenario, seed: int = 0, progress: bool | None = None) -> pd.DataFrame:
    """Run a scenario in virtual time and return the spans frame.

    Parameters
    ----------
    scenario : Scenario
        The shop, its traffic and the faults.
    seed : int
        The same seed gives an equal frame, in any process.
    progress : bool, optional
        Whether to show a bar on stderr; default for long runs only.

    Returns
    -------
    DataFrame
        As the live shop records it, sorted by (start, span_id). Spans that are open when the run
        ends have no duration.
    """
    run = Run(scenario, seed)
    records = run.spans(progress)
    return frame_of(records, scenario, seed)


def stream(
    scenario: Scenario, seed: int = 0, progress: bool | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the spans of a run in frames of bounded size, for runs that do not fit into memory.

    The frames follow the order in which spans end; each is sorted by start. Together they are what
    `virtual` returns.
    """
    run = Run(scenario, seed)
    for rows in run.parts(progress):
        records = run.table(rows)
        yield frame_of(records, scenario, seed)


# ---- the run


class Run:
    """One run: the heap of events, and a method for each kind of event."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        check_scenario(scenario)
        self.scenario = scenario
        self.seed = seed
        self.end = round(scenario.seconds * 1e6)
        self.overhead = round(scenario.overhead_ms * 1e3)
        pools = {service: WorkerPool(n) for service, n in scenario.workers.items()}
        self.spots: dict[Place, RunningEndpoint] = {}
        for endpoint in scenario.topology.endpoints:
            pool = pools.get(endpoint.service)
            self.spots[endpoint.place] = RunningEndpoint(endpoint, pool)
        for k, fault in enumerate(scenario.faults):
            self._place_fault(fault, f"fault {k}")
        for k, change in enumerate(scenario.changes):
            self._place_fault(change, f"change {k}")
        self.nodes: list[Node] = []
        self.heap: list[tuple[int, int, int, Callable[[int, Any], None], Any]] = []
        self.order = count()
        self.out = array("q")
        self.errors: dict[str | None, int] = {None: 0}
        self.arrivals = arrivals(scenario, seed)
        self.entries = [self._node("", scenario.entries[name], None) for name in scenario.shares]
        self.requests = 0

    def _place_fault(self, fault: Fault, name: str) -> None:
        """Add a fault to the endpoints that it affects."""
        start = round(fault.start_s * 1e6)
        end = round(end_of(fault, self.scenario.seconds) * 1e6)
        for place in self.scenario.places_of(fault):
            spot = self.spots[place]
            faults = spot.call_faults if fault.kind in ON_CALLS else spot.faults
            faults.append((start, end, fault, name))

    def _node(self, path: str, place: Place, parent: Node | None) -> Node:
        name = f"{path} > {place[0]} {place[1]}"
        node = Node(
            name,
            2 * len(self.nodes),
            self.spots[place],
            parent,
            scenario=self.scenario,
            seed=self.seed,
        )
        self.nodes.append(node)
        return node

    def spans(self, progress: bool | None = None) -> Records:
        """Run to the end and return all that was recorded."""
        parts = list(self.parts(progress))
        return self.table(np.concatenate(parts))

    def table(self, rows: NDArray) -> Records:
        """Return the records, with the nodes and errors that their codes stand for until now."""
        return Records(rows, self.nodes, list(self.errors))

    def parts(self, progress: bool | None = None) -> Iterator[NDArray]:
        """Run to the end and yield the records in parts."""
        seconds = self.scenario.seconds
        if progress is None:
            progress = self.scenario.rate * seconds >= LONG_RUN
        heap = self.heap
        end = self.end
        full = PART * len(SPAN_FIELDS)
        self._expect()
        with Bar(total=round(seconds), unit="virtual s", disable=not progress) as bar:
            while heap and heap[0][0] < end:
                at, _, _, do, what = heapq.heappop(heap)
                do(at, what)
                if len(self.out) > full:
                    bar.update(at // 1_000_000 - bar.n)
                    yield self._taken()
            self._leave_open()
            bar.update(bar.total - bar.n)
        yield self._taken()

    def _taken(self) -> NDArray:
        numbers = np.array(self.out, dtype=np.int64)
        self.out = array("q")
        return numbers.reshape(-1, len(SPAN_FIELDS))

    def _push(self, at: int, n: int, do: Callable[[int, Any], None], what: object) -> None:
        # Events of the same microsecond are ordered by request, so that their order does not
        # depend on other requests.
        heapq.heappush(self.heap, (at, n, next(self.order), do, what))

    def _write(
        self,
        n: int,
        code: int,
        start: int,
        end: int,
        *,
        status: int,
        error: str | None,
    ) -> None:
        number = self.errors.setdefault(error, len(self.errors))
        self.out.extend((n, code, start, end, status, number))

    # ---- the events

    def _expect(self) -> None:
        """Put the arrival of the next request on the heap."""
        at, entry = next(self.arrivals, (self.end, 0))
        if at < self.end:
            self._push(at, self.requests, self._come, entry)

    def _come(self, at: int, entry: int) -> None:
        n = self.requests
        node = self.entries[entry]
        self.requests += 1
        self._expect()
        if node.spot.call_faults:
            faults = self._call_faults(at, node, n, None)
            if refuses(faults):
                return
        self._arrive(at, Work(n, node, None))

    def _arrive(self, at: int, work: Work) -> None:
        """Admit a request, or answer 503 beyond the capacity."""
        spot = work.node.spot
        work.start = at
        if spot.busy >= spot.endpoint.capacity:
            error = shed_error(spot.endpoint)
            return self._answer(at + self.overhead, work, (503, error))
        spot.busy += 1
        pool = spot.pool
        if pool is None:
            return self._begin(at, work)
        if pool.free == 0:
            pool.waiting.append(work)
            return None
        pool.free -= 1
        return self._begin(at, work)

    def _begin(self, at: int, work: Work) -> None:
        """Apply the faults, then do the endpoint's own work."""
        node = work.node
        n = work.n
        at += self.overhead
        for strike in node.spot.faults:
            start, end, fault, name = strike
            if start <= at < end and hits(fault, name, node, n):
                at, failure = struck(at, work, strike, self.seed)
                if failure is not None:
                    self._push(at, n, self._fail, (work, failure))
                    return
        done = at + int(node.own[n])
        then = self._go_on if node.spot.stages else self._succeed
        self._push(done, n, then, work)

    def _go_on(self, at: int, work: Work) -> None:
        """Make the calls of the next stage, or succeed after the last."""
        stages = work.node.spot.stages
        if work.stage == len(stages):
            return self._succeed(at, work)
        calls = calls_to_make(work)
        if not calls:
            work.stage += 1
            work.turn = 0
            return self._go_on(at, work)
        work.pending = len(calls)
        for turn, index, call in calls:
            self._ask(at, work, call, (turn, index, 0))
        return None

    def _ask(self, at: int, work: Work, call: Call, which: Which) -> None:
        """Send a call; give up after its timeout."""
        node = work.node
        n = work.n
        repeat, index, attempt = which
        position = work.stage, index, attempt, repeat
        child = node.under.get(position)
        if child is None:
            turn = f".{repeat}" if repeat else ""
            path = f"{node.name} {work.stage}.{index}.{attempt}{turn}"
            child = self._node(path, call.place, node)
            node.under[position] = child
        asked = PendingCall(work, call, which, node=child, start=at)
        travel = int(child.travel[n])
        if child.spot.call_faults:
            caller = node.spot.endpoint.place
            faults = self._call_faults(at, child, n, caller)
            for fault, name in faults:
                travel += detour_us(fault, name, child, n)
            if refuses(faults):
                self._push(at + REFUSED_US, n, self._refused, asked)
                return
        there = travel // 2
        asked.travel = travel - there
        timeout = round(call.timeout_s * 1e6)
        self._push(at + there, n, self._arrive, Work(n, child, asked))
        self._push(at + timeout, n, self._give_up, asked)

    def _call_faults(
        self,
        at: int,
        node: Node,
        n: int,
        caller: Place | None,
    ) -> list[tuple[Fault, str]]:
        """Return the faults on a call of `node` by `caller`, with their names in the draws."""
        found = []
        for start, end, fault, name in node.spot.call_faults:
            struck_caller = getattr(fault, "caller", None)
            if not start <= at < end or struck_caller not in (None, caller):
                continue
            if hits(fault, name, node, n):
                found.append((fault, name))
        return found

    def _succeed(self, at: int, work: Work) -> None:
        self._leave(at, work, (200, None))

    def _fail(self, at: int, what: tuple[Work, Failure]) -> None:
        self._leave(at, *what)

    def _leave(self, at: int, work: Work, outcome: Failure) -> None:
        """Answer, and start the next request that waits for a worker."""
        spot = work.node.spot
        pool = work.node.spot.pool
        spot.busy -= 1
        self._answer(at, work, outcome)
        if pool is None:
            return
        if pool.waiting:
            self._begin(at, pool.waiting.popleft())
        else:
            pool.free += 1

    def _answer(self, at: int, work: Work, outcome: Failure) -> None:
        if at >= self.end:  # only a request that is refused just before the end
            return self._push(at, work.n, self._succeed, work)
        status, error = outcome
        self._write(work.n, work.node.code, work.start, at, status=status, error=error)
        work.done = True
        asked = work.call
        if asked is not None and not asked.over:
            asked.answer = status
            self._push(at + asked.travel, work.n, self._receive, asked)
        return None

    def _receive(self, at: int, asked: PendingCall) -> None:
        """Receive the answer, unless the caller has given up."""
        if asked.over:
            return
        status = asked.answer
        failure = None
        if status >= 400:
            failure = 502, f"BackendError: {asked.call.endpoint} answered {status}"
        self._end_call(at, asked, status, None, failure)

    def _give_up(self, at: int, asked: PendingCall) -> None:
        if asked.over:
            return
        error, failure = timed_out(asked.call)
        self._end_call(at, asked, 0, error, failure)

    def _refused(self, at: int, asked: PendingCall) -> None:
        error, failure = refused(asked.call)
        self._end_call(at, asked, 0, error, failure)

    def _end_call(
        self,
        at: int,
        asked: PendingCall,
        status: int,
        error: str | None,
        failure: Failure | None,
    ) -> None:
        """Write the client span; try again, or go on when all calls of the stage have ended."""
        work = asked.work
        asked.over = True
        self._write(work.n, asked.node.code + 1, asked.start, at, status=status, error=error)
        if failure is not None:
            if asked.attempt < asked.call.retries:
                pause = self._pause(asked)
                self._push(at + pause, work.n, self._again, asked)
                return
            work.failures.append((asked.index, failure))
        work.pending -= 1
        if work.pending:
            return
        if work.failures:
            _, first = min(work.failures)  # in the order of the calls, as live
            self._leave(at, work, first)
            return
        work.turn += 1
        self._go_on(at, work)

    def _pause(self, asked: PendingCall) -> int:
        if self.scenario.backoff_ms == 0:
            return 0
        backoff_us = self.scenario.backoff_ms * 1e3 * 2**asked.attempt
        around = 0.5 + asked.node.back[asked.work.n]
        return round(backoff_us * around)

    def _again(self, at: int, asked: PendingCall) -> None:
        attempt = asked.attempt + 1
        which = asked.turn, asked.index, attempt
        self._ask(at, asked.work, asked.call, which)

    def _leave_open(self) -> None:
        """Write the spans that are open at the end: those with an event to come, or waiting."""
        seen: set[int] = set()
        for *_, what in sorted(self.heap, key=lambda event: event[:3]):
            if isinstance(what, tuple):  # a request that is to fail, and how
                what, _ = what
            self._leave_open_from(what, seen)
        for spot in self.spots.values():
            waiting = spot.pool.waiting if spot.pool else ()
            for work in waiting:
                self._leave_open_from(work, seen)

    def _leave_open_from(self, what: object, seen: set[int]) -> None:
        while isinstance(what, (Work, PendingCall)) and id(what) not in seen:
            seen.add(id(what))
            code = what.node.code
            if isinstance(what, Work):
                self._write_open(what.n, code, what.start, what.done)
                what = what.call
            else:
                self._write_open(what.work.n, code + 1, what.start, what.over)
                what = what.work

    def _write_open(self, n: int, code: int, start: int, over: bool) -> None:
        if not over and start < self.end:
            self._write(n, code, start, -1, status=0, error=None)
