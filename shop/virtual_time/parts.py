"""The objects of a virtual run: endpoints, worker pools, nodes of the call tree, and requests."""

from __future__ import annotations

import sys
from collections import deque
from functools import partial

from aiops_lab.record.faults import Fault
from shop.topology import Call, Endpoint
from shop.virtual_time.keyed_random import Column, microseconds, uniform
from shop.virtual_time.scenario import Scenario, VirtualFault

NETWORK_SIGMA = 0.3

"""Standard deviation of the logarithm of travelling times."""

TRAVELS = sys.maxsize

"""Start of a request that has not arrived yet: after any end of a run."""

Failure = tuple[int, str | None]  # status, error

Strike = tuple[int, int, Fault, str]  # start, end (µs), the fault, its name among the draws


class WorkerPool:
    """The free workers of a service, and the requests that wait for one."""

    __slots__ = ("free", "waiting")

    def __init__(self, n: int) -> None:
        self.free = n
        self.waiting: deque[Work] = deque()


class RunningEndpoint:
    """An endpoint during the run: its requests in progress, its workers and its faults."""

    __slots__ = ("busy", "call_faults", "endpoint", "faults", "pool", "stages")

    def __init__(self, endpoint: Endpoint, pool: WorkerPool | None) -> None:
        self.endpoint = endpoint
        self.pool = pool
        self.stages = endpoint.stages
        self.busy = 0
        self.faults: list[Strike] = []  # affect the requests that it handles
        self.call_faults: list[Strike] = []  # affect the calls to it


class Node:
    """A position in the tree of calls below an entry, with its own columns of draws."""

    __slots__ = (
        "back",
        "code",
        "columns",
        "made",
        "name",
        "own",
        "parent",
        "spot",
        "travel",
        "under",
    )

    def __init__(
        self,
        name: str,
        code: int,
        spot: RunningEndpoint,
        parent: Node | None,
        *,
        scenario: Scenario,
        seed: int,
    ) -> None:
        self.name = name
        self.code = code
        self.spot = spot
        self.parent = parent
        endpoint = spot.endpoint
        self.columns = partial(Column, uniform, seed, name)
        self.own = Column(microseconds(endpoint.median_ms, endpoint.sigma), seed, name, "own work")
        self.travel = Column(
            microseconds(scenario.network_ms, NETWORK_SIGMA), seed, name, "network"
        )
        self.back = Column(uniform, seed, name, "back-off")
        self.under: dict[tuple[int, int, int, int], Node] = {}
        self.made: dict[str, Column] = {}

    def draw(self, purpose: str, n: int) -> float:
        """Return the draw of request n for a purpose, in [0, 1)."""
        column = self.made.get(purpose)
        if column is None:
            column = self.made[purpose] = self.columns(purpose)
        return column[n]


class Work:
    """A request while an endpoint handles it: a server span."""

    __slots__ = (
        "call",
        "done",
        "failures",
        "n",
        "node",
        "pending",
        "repeated",
        "stage",
        "start",
        "turn",
    )

    def __init__(self, n: int, node: Node, call: PendingCall | None) -> None:
        self.n = n
        self.node = node
        self.call = call
        self.start = TRAVELS
        self.stage = self.pending = 0
        self.turn = 0  # how often the calls of this stage were made before
        self.repeated: VirtualFault | None = None  # makes some calls again
        self.done = False
        self.failures: list[tuple[int, Failure]] = []


Which = tuple[int, int, int]
"""A call of a stage: how often the stage was made before, position in the stage, attempt."""


class PendingCall:
    """A call while its caller waits: a client span."""

    __slots__ = (
        "answer",
        "attempt",
        "call",
        "index",
        "node",
        "over",
        "start",
        "travel",
        "turn",
        "work",
    )

    def __init__(self, work: Work, call: Call, which: Which, *, node: Node, start: int) -> None:
        self.work = work
        self.call = call
        self.turn, self.index, self.attempt = which
        self.node = node
        self.start = start
        self.travel = 0
        self.over = False
        self.answer = 200
