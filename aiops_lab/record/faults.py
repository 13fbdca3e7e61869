"""What is broken on purpose? Faults, the injector that applies them, and the log of the truth.

Only the evaluation reads the log. Detectors and root-cause rules never import this module, and what
a fault leaves in a request (the message, the stack trace) does not show that it was injected.
"""

from __future__ import annotations

import json
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiops_lab.checks import MESSAGES, BackendError, FieldError, check_number
from aiops_lab.endpoints import join_method
from aiops_lab.record.database import make_private
from aiops_lab.record.forking import WAIT_S, FairLock, abandoned, survive_forks

if TYPE_CHECKING:
    import pandas as pd

# No request is held longer, whatever the fault says: the threads of a server are few.
HOLD_MAX_S = 60.0
DAY_S = 86_400.0

# For each number of a fault, the lowest and the highest value.
LIMITS = {
    "duration_ms": (0.0, HOLD_MAX_S * 1e3),
    "jitter_ms": (0.0, HOLD_MAX_S * 1e3),
    "rate": (0.0, 1.0),
    "start_s": (0.0, 365 * DAY_S),
    "end_s": (0.0, 365 * DAY_S),
    "ttl_s": (0.001, DAY_S),
    "status": (400.0, 599.0),
}

Wait = Callable[[float], bool]


@dataclass(frozen=True)
class Fault:
    """One thing that is broken on purpose.

    A fault of your own is a subclass that overrides `strike`; its ``kind`` is then any name you
    like.

    Parameters
    ----------
    kind : str
        ``"delay"``, ``"error"`` or ``"hang"``.
    service, endpoint : str
        Where it strikes; the endpoint is the route, such as ``"/payment"``, whatever the method,
        or method and route, such as ``"DELETE /users"``.
    start_s, end_s : float
        When it strikes, in seconds after it was injected; default at once, and until it is cleared.
    duration_ms, jitter_ms : float
        A delay lasts ``duration_ms``, give or take up to ``jitter_ms`` (uniform), at most 60 s.
    rate : float
        Share of the requests that are struck, 0 to 1; default all.
    status : int
        HTTP status of an error, 400 to 599; default 500.
    ttl_s : float
        Seconds after its start at which it clears itself; default never.

    Raises
    ------
    ValueError
        Names the field, the rule and the value.

    Examples
    --------
    >>> Fault("delay", "shop", "/payment", duration_ms=-1)
    Traceback (most recent call last):
    aiops_lab.checks.FieldError: duration_ms must be a number between 0 and 60000, got -1
    """

    kind: str
    service: str
    endpoint: str
    start_s: float = 0.0
    end_s: float | None = None
    duration_ms: float = 0.0
    jitter_ms: float = 0.0
    rate: float = 1.0
    status: int = 500
    ttl_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("kind", "service", "endpoint"):
            text = getattr(self, name)
            if not isinstance(text, str) or text == "":
                raise FieldError(name, "must be text", text)
        if type(self).strike is Fault.strike and self.kind not in STRIKES:
            raise FieldError("kind", f"must be one of {', '.join(STRIKES)}", self.kind)
        for name, (low, high) in LIMITS.items():
            if name == "end_s":
                low = self.start_s
            value = getattr(self, name)
            if value is not None or name not in ("end_s", "ttl_s"):
                check_number(name, value, low, high, whole=name == "status")

    @property
    def place(self) -> tuple[str, str]:
        """Where it strikes: (service, endpoint)."""
        return self.service, self.endpoint

    @property
    def length_s(self) -> float | None:
        """Seconds from its start to its planned end; None = until it is cleared."""
        if self.end_s is None:
            return self.ttl_s
        planned_s = self.end_s - self.start_s
        return planned_s if self.ttl_s is None else min(self.ttl_s, planned_s)

    def strike(self, rng: random.Random, wait: Wait) -> None:
        """Delay or fail one request before its handler works: wait, raise, or both.

        Parameters
        ----------
        rng : random.Random
            Seeded; the only source of random numbers.
        wait : callable
            ``wait(seconds)`` sleeps, and returns True as soon as the fault is cleared. It ends at
            the latest with the fault, and after 60 s.
        """
        STRIKES[self.kind](self, rng, wait)


def _delay(fault: Fault, rng: random.Random, wait: Wait) -> None:
    delay_ms = fault.duration_ms + rng.uniform(-fault.jitter_ms, fault.jitter_ms)
    wait(max(0.0, delay_ms) / 1e3)


def _error(fault: Fault, rng: random.Random, wait: Wait) -> None:
    raise BackendError(rng.choice(MESSAGES), fault.status)


def _hang(fault: Fault, rng: random.Random, wait: Wait) -> None:
    wait(HOLD_MAX_S)


STRIKES = {"delay": _delay, "error": _error, "hang": _hang}


class Injected(NamedTuple):
    """A fault in force: its id in the log, and when (Unix ns) it starts and is planned to end."""

    id: int
    fault: Fault
    start_ns: int
    end_ns: int | None


@dataclass
class _Active:
    """A fault in force, with its times on the monotonic clock, in seconds."""

    record: Injected
    rng: random.Random
    starts: float
    ends: float
    released: threading.Event = field(default_factory=threading.Event)

    def strike(self) -> None:
        fault = self.record.fault
        in_force = self.starts <= time.monotonic() < self.ends
        if in_force and self.rng.random() < fault.rate:
            fault.strike(self.rng, self.wait)

    def wait(self, seconds: float) -> bool:
        left = self.ends - time.monotonic()
        return self.released.wait(max(0.0, min(seconds, HOLD_MAX_S, left)))


class FaultInjector:
    """The faults in force, and their application to requests.

    Parameters
    ----------
    log : FaultLog, optional
        Where the truth is written; default nowhere.
    seed : int
        The same seed gives the same draws (which requests fail, how long a jittered delay takes).
    """

    def __init__(self, log: FaultLog | None = None, seed: int = 0) -> None:
        self._log = log
        self._seed = seed
        self._order = count()
        self._lock = threading.Lock()
        self._active: dict[int, _Active] = {}
        self._closed = False

    def inject(self, fault: Fault) -> int:
        """Put `fault` in force and return its id.

        A fault of the same kind at the same place is replaced.
        """
        start_ns = time.time_ns() + round(fault.start_s * 1e9)
        starts = time.monotonic() + fault.start_s
        end_ns = None
        ends = float("inf")
        if fault.length_s is not None:
            end_ns = start_ns + round(fault.length_s * 1e9)
            ends = starts + fault.length_s
        with self._lock:
            self._end_like(fault)
            order = next(self._order)
            id = self._log.start(fault, start_ns, end_ns) if self._log else order + 1
            rng = random.Random(f"{self._seed}/{order}")
            self._active[id] = _Active(Injected(id, fault, start_ns, end_ns), rng, starts, ends)
        return id

    def clear(self, id: int | None = None) -> list[int]:
        """End the fault with this id, or all of them, and return the ids of those that ended.

        The requests that they hold go on.

        Raises
        ------
        KeyError
            No fault in force has this id.
        """
        with self._lock:
            if id is not None and id not in self._active:
                raise KeyError(id)
            ended = list(self._active) if id is None else [id]
            for each in ended:
                self._end(each)
        return ended

    def active(self) -> list[Injected]:
        """Return the faults that are in force or still to start, oldest first."""
        now = time.monotonic()
        with self._lock:
            return [each.record for each in self._active.values() if now < each.ends]

    def strike(self, service: str, endpoint: str, method: str | None = None) -> None:
        """Apply the faults at this route to the current request: may wait, may raise.

        `aiops_lab.show.api.attach` calls it before each request of a Flask app.
        """
        if not self._active:
            return
        places = {(service, endpoint), (service, join_method(method, endpoint))}
        with self._lock:
            here = [each for each in self._active.values() if each.record.fault.place in places]
        for active in here:
            active.strike()
            if self._closed:
                raise BackendError("service is shutting down", 503)

    def close(self) -> None:
        """End all faults and release every held request."""
        self._closed = True
        self.clear()

    def _end_like(self, fault: Fault) -> None:
        for id, active in list(self._active.items()):
            old = active.record.fault
            if old.kind == fault.kind and old.place == fault.place:
                self._end(id)

    def _end(self, id: int) -> None:
        active = self._active.pop(id)
        active.released.set()
        planned_ns = active.record.end_ns
        if self._log and (planned_ns is None or time.time_ns() < planned_ns):
            self._log.end(id)


class FaultLog:
    """The ground truth: which faults were in force, where, and from when to when.

    Its table may live in the file of a `SpanStore`; no detector reads it.
    """

    _is_held = False  # the lock, by the thread that forks

    def __init__(self, path: str | Path) -> None:
        # a fork may be followed by a change of directory
        self._path = path if path == ":memory:" else Path(path).absolute()
        self._closed = False
        self._lock = FairLock()
        if path != ":memory:":
            make_private(Path(self._path))
        self._db = self._connect()
        if path != ":memory:":  # that would be gone with its connection
            survive_forks(self)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS fault_log (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " start_ns INTEGER NOT NULL, end_ns INTEGER, fault TEXT NOT NULL)"
        )

    def start(self, fault: Fault, start_ns: int | None = None, end_ns: int | None = None) -> int:
        """Write down a fault that starts now (or at `start_ns`, Unix ns) and return its id."""
        start_ns = time.time_ns() if start_ns is None else start_ns
        row = start_ns, end_ns, json.dumps(asdict(fault), default=str)
        insert = "INSERT INTO fault_log (start_ns, end_ns, fault) VALUES (?, ?, ?)"
        with self._lock:
            return self._db.execute(insert, row).lastrowid or 0

    def end(self, id: int, end_ns: int | None = None) -> None:
        """Write down that a fault ended now, or at `end_ns` (Unix ns)."""
        end_ns = time.time_ns() if end_ns is None else end_ns
        update = "UPDATE fault_log SET end_ns = max(?, start_ns) WHERE id = ?"
        with self._lock:
            self._db.execute(update, (end_ns, id))

    def faults(self) -> pd.DataFrame:
        """Return one row a fault: id, start and end (UTC; NaT = not ended), fields of `Fault`."""
        import pandas as pd

        query = "SELECT id, start_ns, end_ns, fault FROM fault_log ORDER BY id"
        with self._lock:
            rows = self._db.execute(query).fetchall()
        log = pd.DataFrame(rows, columns=["id", "start", "end", "fault"], dtype=object)
        log["id"] = log["id"].astype("int64")
        for name in ("start", "end"):
            log[name] = pd.to_datetime(log[name].astype("Int64"), unit="ns", utc=True)
        faults = pd.DataFrame(
            map(json.loads, log.pop("fault")), columns=list(Fault.__annotations__)
        )
        return log.join(faults.drop(columns=["start_s", "end_s"]))

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        with self._lock:
            self._db.close()

    def before_fork(self) -> None:
        """Wait until nothing is being written, and close the file."""
        self._is_held = self._lock.acquire(timeout=WAIT_S)
        if self._is_held:
            self._db.close()

    def after_fork_in_parent(self) -> None:
        """Open the file again and go on."""
        if not self._is_held:
            return
        if not self._closed:
            self._db = self._connect()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Open the file for this process."""
        self._lock = FairLock()
        abandoned.append(self._db)
        if not self._closed:
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.Connection(
            self._path, check_same_thread=False, timeout=30, isolation_level=None
        )

    def __enter__(self) -> FaultLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
