"""What would happen? The shop as a discrete-event run on a virtual clock: weeks in seconds, always
the same.

Time 0 is 2026-01-01T00:00:00Z, and all times are whole microseconds. A request is handled as
services.py does it: admitted (or 503), struck by faults, own work, then the calls, stage by stage.
Where a service has few workers, the request waits for one inside its server span. The run is a heap
of (time, request, ...) and one method for each thing that can happen.

(The module is not called "virtual": its import would hide the function of that name in the
package.)
"""

from __future__ import annotations

import heapq
import random
from array import array
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from aiops_lab.record.faults import HOLD_MAX_S, Fault
from shop.topology import Call
from shop.virtual_time.frames import Records, frame_of
from shop.virtual_time.keyed_random import BLOCK, generator
from shop.virtual_time.parts import (
    Failure,
    Node,
    PendingCall,
    RunningEndpoint,
    Strike,
    Work,
    WorkerPool,
    detour_us,
    hits,
    refuses,
    shed_error,
)
from shop.virtual_time.scenario import Place, Scenario, VirtualFault, end_of

PART = 200_000

"""Spans that are held back before they become a frame."""

LONG_RUN = 100_000

"""Requests from which on a progress bar is worth its line."""

REFUSED_US = 1000

SPAN_FIELDS = ("request", "code", "start", "end", "status", "error")


def virtual(scenario: Scenario, seed: int = 0, progress: bool | None = None) -> pd.DataFrame:
    """Run a scenario in virtual time and return the spans frame.

    Parameters
    ----------
    scenario : Scenario
        What happens.
    seed : int
        The same seed gives an equal frame, in any process.
    progress : bool, optional
        Show a bar on stderr; default for long runs.

    Returns
    -------
    DataFrame
        As the live shop records it, sorted by (start, span_id). Spans still open when the run ends
        have no duration.
    """
    return frame_of(Run(scenario, seed).spans(progress), scenario, seed)


def stream(
    scenario: Scenario, seed: int = 0, progress: bool | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the spans of a run in frames of bounded size, in the order in which they end; each
    frame is sorted.

    Together they are what `virtual` returns. For runs that do not fit into memory.
    """
    run = Run(scenario, seed)
    for records in run.parts(progress):
        yield frame_of(run.table(records), scenario, seed)


# ---- the run


class Run:
    """One run: the heap, and what can happen."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.end = round(scenario.seconds * 1e6)
        self.overhead = round(scenario.overhead_ms * 1e3)
        pools = {service: WorkerPool(n) for service, n in scenario.workers.items()}
        self.spots = {
            e.place: RunningEndpoint(e, pools.get(e.service)) for e in scenario.topology.endpoints
        }
        for name, faults in (("fault", scenario.faults), ("change", scenario.changes)):
            for k, fault in enumerate(faults):
                self._set_trap(fault, f"{name} {k}")
        self.nodes: list[Node] = []
        self.heap: list[tuple[int, int, int, Callable[[int, Any], None], Any]] = []
        self.order = count()
        self.out = array("q")
        self.errors: dict[str | None, int] = {None: 0}
        self.arrivals = _arrivals(scenario, seed)
        self.entries = [self._node("", scenario.entries[name], None) for name in scenario.shares]
        self.requests = 0

    def _set_trap(self, fault: Fault, name: str) -> None:
        start = round(fault.start_s * 1e6)
        end = round(end_of(fault, self.scenario.seconds) * 1e6)
        for place in self.scenario.places_of(fault):
            spot = self.spots[place]
            (spot.hooks if fault.kind in ON_CALLS else spot.faults).append(
                (start, end, fault, name)
            )

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
        return self.table(np.concatenate(list(self.parts(progress))))

    def table(self, rows: NDArray) -> Records:
        """Return records with their legend, as far as it is known by now."""
        return Records(rows, self.nodes, list(self.errors))

    def parts(self, progress: bool | None = None) -> Iterator[NDArray]:
        """Run to the end and yield the records as they come."""
        if progress is None:
            progress = self.scenario.rate * self.scenario.seconds >= LONG_RUN
        heap = self.heap
        end = self.end
        self._expect()
        with _Bar(
            total=round(self.scenario.seconds), unit="virtual s", disable=not progress
        ) as bar:
            while heap and heap[0][0] < end:
                at, _, _, do, what = heapq.heappop(heap)
                do(at, what)
                if len(self.out) > PART * len(SPAN_FIELDS):
                    bar.update(at // 1_000_000 - bar.n)
                    yield self._taken()
            self._leave_open()
            bar.update(bar.total - bar.n)
        yield self._taken()

    def _taken(self) -> NDArray:
        rows = np.array(self.out, dtype=np.int64).reshape(-1, len(SPAN_FIELDS))
        self.out = array("q")
        return rows

    def _push(self, at: int, n: int, do: Callable[[int, Any], None], what: object) -> None:
        # What happens at the same microsecond is ordered by request: no other request can change
        # the order.
        heapq.heappush(self.heap, (at, n, next(self.order), do, what))

    def _write(
        self, n: int, code: int, start: int, end: int, *, status: int, error: str | None
    ) -> None:
        errors = self.errors
        self.out.extend(
            (n, code, start, end, status, errors.setdefault(error, len(errors)) if error else 0)
        )

    # ---- what can happen

    def _expect(self) -> None:
        """Let the next request come."""
        at, entry = next(self.arrivals, (self.end, 0))
        if at < self.end:
            self._push(at, self.requests, self._come, entry)

    def _come(self, at: int, entry: int) -> None:
        n = self.requests
        node = self.entries[entry]
        self.requests += 1
        self._expect()
        if not node.spot.hooks or not refuses(self._hooks(at, node, n, None)):
            self._arrive(at, Work(n, node, None))

    def _arrive(self, at: int, work: Work) -> None:
        """Admit a request, or answer 503 beyond the capacity."""
        spot = work.node.spot
        work.start = at
        if spot.busy >= spot.endpoint.capacity:
            return self._answer(at + self.overhead, work, (503, shed_error(spot.endpoint)))
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
        """Be struck by faults, then do the own work."""
        node = work.node
        n = work.n
        at += self.overhead
        for start, end, fault, name in node.spot.faults:
            if start <= at < end and hits(fault, name, node, n):
                at, failure = self._struck(at, work, (start, end, fault, name))
                if failure is not None:
                    self._push(at, n, self._fail, (work, failure))
                    return
        self._push(
            at + int(node.own[n]), n, self._go_on if node.spot.stages else self._succeed, work
        )

    def _struck(self, at: int, work: Work, strike: Strike) -> tuple[int, Failure | None]:
        """Return when the fault lets go of a request, and the failure, if it is one."""
        start, end, fault, name = strike
        if isinstance(fault, VirtualFault):
            return self._struck_virtually(at, work, strike)
        waited = 0

        def wait(seconds: float) -> bool:
            nonlocal waited
            left = end - at - waited
            waited += max(0, min(round(min(seconds, HOLD_MAX_S) * 1e6), left))
            return at + waited >= end

        try:
            fault.strike(random.Random(f"{self.seed}/{work.node.name}/{name}/{work.n}"), wait)
        except Exception as error:
            return at + waited, (getattr(error, "status", 500), f"{type(error).__name__}: {error}")
        return at + waited, None

    def _struck_virtually(self, at: int, work: Work, strike: Strike) -> tuple[int, Failure | None]:
        start, end, fault, _ = strike
        assert isinstance(fault, VirtualFault)
        if fault.kind == "slow":
            return at + round((fault.factor - 1) * work.node.own[work.n]), None
        if fault.kind == "leak":
            return at + round(fault.duration_ms * 1e3 * (at - start) / (end - start)), None
        if fault.kind == "shed":
            return at, (503, shed_error(work.node.spot.endpoint))
        return at, (fault.status, None)

    def _go_on(self, at: int, work: Work) -> None:
        """Make the calls of the next stage, or succeed after the last."""
        stages = work.node.spot.stages
        if work.stage == len(stages):
            return self._succeed(at, work)
        stage = stages[work.stage]
        work.pending = len(stage)
        for index, call in enumerate(stage):
            self._ask(at, work, call, index, 0)
        return None

    def _ask(self, at: int, work: Work, call: Call, index: int, attempt: int) -> None:
        """Send a call; give up after its timeout."""
        node = work.node
        n = work.n
        child = node.under.get((work.stage, index, attempt))
        if child is None:
            path = f"{node.name} {work.stage}.{index}.{attempt}"
            child = self._node(path, (call.service, call.endpoint), node)
            node.under[work.stage, index, attempt] = child
        asked = PendingCall(work, call, index, attempt, node=child, start=at)
        travel = int(child.travel[n])
        if child.spot.hooks:
            hooks = self._hooks(at, child, n, node.spot.endpoint.place)
            travel += sum(detour_us(fault, name, child, n) for fault, name in hooks)
            if refuses(hooks):
                self._push(at + REFUSED_US, n, self._refused, asked)
                return
        asked.travel = travel - travel // 2
        self._push(at + travel // 2, n, self._arrive, Work(n, child, asked))
        self._push(at + round(call.timeout_s * 1e6), n, self._give_up, asked)

    def _hooks(self, at: int, node: Node, n: int, caller: Place | None) -> list[tuple[Fault, str]]:
        """Return the faults that strike a call of `node` by `caller`, with their names among the
        draws.
        """
        return [
            (fault, name)
            for start, end, fault, name in node.spot.hooks
            if start <= at < end
            and getattr(fault, "caller", None) in (None, caller)
            and hits(fault, name, node, n)
        ]

    def _succeed(self, at: int, work: Work) -> None:
        self._leave(at, work, (200, None))

    def _fail(self, at: int, what: tuple[Work, Failure]) -> None:
        self._leave(at, *what)

    def _leave(self, at: int, work: Work, outcome: Failure) -> None:
        """Answer, and let the next one in."""
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
        if at >= self.end:  # only of a request that is turned away at the last moment
            return self._push(at, work.n, self._succeed, work)
        status, error = outcome
        self._write(work.n, work.node.code, work.start, at, status=status, error=error)
        work.done = True
        asked = work.call
        if asked is not None and not asked.over:
            asked.answer = status
            self._push(at + asked.travel, work.n, self._hear, asked)
        return None

    def _hear(self, at: int, asked: PendingCall) -> None:
        """Hear the answer, unless the caller gave up."""
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
        call = asked.call
        error = (
            f"ReadTimeout: HTTPConnectionPool(host='{call.service}', port=80): Read timed out. "
            f"(read timeout={float(call.timeout_s)})"
        )
        failure = 504, f"BackendError: {call.endpoint} did not answer within {call.timeout_s:g} s"
        self._end_call(at, asked, 0, error, failure)

    def _refused(self, at: int, asked: PendingCall) -> None:
        call = asked.call
        error = (
            f"ConnectionError: HTTPConnectionPool(host='{call.service}', port=80): Connection "
            "refused"
        )
        failure = 502, f"BackendError: {call.endpoint} could not be reached: ConnectionError"
        self._end_call(at, asked, 0, error, failure)

    def _end_call(
        self, at: int, asked: PendingCall, status: int, error: str | None, failure: Failure | None
    ) -> None:
        """Write the client span; try again, or note the outcome and go on when the stage is
        complete.
        """
        work = asked.work
        asked.over = True
        self._write(work.n, asked.node.code + 1, asked.start, at, status=status, error=error)
        if failure is not None:
            if asked.attempt < asked.call.retries:
                self._push(at + self._pause(asked), work.n, self._again, asked)
                return
            work.failures.append((asked.index, failure))
        work.pending -= 1
        if work.pending:
            return
        if work.failures:
            # the first in the order of the calls, as live
            self._leave(at, work, min(work.failures)[1])
            return
        work.stage += 1
        self._go_on(at, work)

    def _pause(self, asked: PendingCall) -> int:
        if self.scenario.backoff_ms == 0:
            return 0
        around = 0.5 + asked.node.back[asked.work.n]
        return round(self.scenario.backoff_ms * 1e3 * 2**asked.attempt * around)

    def _again(self, at: int, asked: PendingCall) -> None:
        self._ask(at, asked.work, asked.call, asked.index, asked.attempt + 1)

    def _leave_open(self) -> None:
        """Write down the spans that are open at the end: whatever something was still to happen to,
        or waits.
        """
        seen: set[int] = set()
        for *_, what in sorted(self.heap, key=lambda event: event[:3]):
            self._leave_open_from(what[0] if isinstance(what, tuple) else what, seen)
        for spot in self.spots.values():
            for work in spot.pool.waiting if spot.pool else ():
                self._leave_open_from(work, seen)

    def _leave_open_from(self, what: object, seen: set[int]) -> None:
        while isinstance(what, (Work, PendingCall)) and id(what) not in seen:
            seen.add(id(what))
            work = what if isinstance(what, Work) else what.work
            over = what.done if isinstance(what, Work) else what.over
            code = what.node.code + isinstance(what, PendingCall)
            if not over and what.start < self.end:
                self._write(work.n, code, what.start, -1, status=0, error=None)
            what = what.call if isinstance(what, Work) else work


class _Bar(tqdm):
    monitor_interval = 0  # no extra thread, which would outlive the bar


ON_CALLS = ("network", "refuse")


def _arrivals(scenario: Scenario, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (µs, entry) of each request: a Poisson stream, by the inverse of the integral of its
    rate.
    """
    whole = np.append(np.arange(0.0, scenario.seconds), scenario.seconds)
    due = np.append(0.0, np.cumsum(_rate(scenario, (whole[:-1] + whole[1:]) / 2) * np.diff(whole)))
    shares = np.cumsum(list(scenario.shares.values()))
    passed = 0.0
    for block in count():
        rng = generator(seed, "arrivals", block)
        come = passed + np.cumsum(rng.standard_exponential(BLOCK))
        passed = float(come[-1])
        entries = np.searchsorted(shares / shares[-1], rng.random(BLOCK), side="right")
        at = np.rint(np.interp(come, due, whole, right=np.inf) * 1e6)
        for when, entry in zip(at.tolist(), entries.tolist(), strict=True):
            if when == np.inf:
                return
            yield int(when), entry


def _rate(scenario: Scenario, at: NDArray) -> NDArray:
    """Return requests a second at each second."""
    day = 1.0 - scenario.daily * np.cos(2 * np.pi * (at / 86_400 - 3 / 24))
    since = np.array([0.0, *(second for second, _ in scenario.profile)])
    factor = np.array([1.0, *(factor for _, factor in scenario.profile)])
    return scenario.rate * day * factor[np.searchsorted(since, at, side="right") - 1]
