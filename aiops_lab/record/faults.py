"""What breaks, on purpose? Faults, the injector that strikes requests with them, and the log of the
truth.

Only evaluation reads the log. Detectors and root-cause rules never import this module, and nothing
that a fault does to a request (its message, its stack trace) says that it was put there.
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
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab.checks import MESSAGES, BackendError, FieldError, check_number

if TYPE_CHECKING:
    import pandas as pd

HOLD_MAX_S = 60.0

"""No request is held longer, whatever the fault says: clients and threads are finite."""

DAY_S = 86_400.0

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
        Where it strikes; the endpoint is the route, such as ``"/payment"``.
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
            if not isinstance(getattr(self, name), str) or getattr(self, name) == "":
                raise FieldError(name, "must be text", getattr(self, name))
        if type(self).strike is Fault.strike and self.kind not in STRIKES:
            raise FieldError("kind", f"must be one of {', '.join(STRIKES)}", self.kind)
        check_number("duration_ms", self.duration_ms, 0, HOLD_MAX_S * 1e3)
        check_number("jitter_ms", self.jitter_ms, 0, HOLD_MAX_S * 1e3)
        check_number("rate", self.rate, 0, 1)
        check_number("start_s", self.start_s, 0, 365 * DAY_S)
        if self.end_s is not None:
            check_number("end_s", self.end_s, self.start_s, 365 * DAY_S)
        if self.ttl_s is not None:
            check_number("ttl_s", self.ttl_s, 0.001, DAY_S)
        if (
            not isinstance(self.status, int)
            or isinstance(self.status, bool)
            or not 400 <= self.status <= 599
        ):
            raise FieldError("status", "must be a whole number between 400 and 599", self.status)

    @property
    def place(self) -> tuple[str, str]:
        """Where it strikes: (service, endpoint)."""
        return self.service, self.endpoint

    @property
    def length_s(self) -> float | None:
        """Seconds from its start to its planned end; None = until it is cleared."""
        planned_s = None if self.end_s is None else self.end_s - self.start_s
        return min((s for s in (self.ttl_s, planned_s) if s is not None), default=None)

    def strike(self, rng: random.Random, wait: Wait) -> None:
        """Do the damage to one request, before its handler works: wait, raise, or both.

        Parameters
        ----------
        rng : random.Random
            Seeded; take every draw from it.
        wait : callable
            ``wait(seconds)`` sleeps and returns early, with True, when the fault is cleared. It
            never outlasts the fault, nor 60 s.
        """
        STRIKES[self.kind](self, rng, wait)


def _delay(fault: Fault, rng: random.Random, wait: Wait) -> None:
    wait(max(0.0, fault.duration_ms + rng.uniform(-fault.jitter_ms, fault.jitter_ms)) / 1e3)


def _error(fault: Fault, rng: random.Random, wait: Wait) -> None:
    raise BackendError(rng.choice(MESSAGES), fault.status)


def _hang(fault: Fault, rng: random.Random, wait: Wait) -> None:
    wait(HOLD_MAX_S)


STRIKES: dict[str, Callable[[Fault, random.Random, Wait], None]] = {
    "delay": _delay,
    "error": _error,
    "hang": _hang,
}


class Injected(NamedTuple):
    """A fault in force: its id in the log, and when (Unix ns) it starts and is planned to end."""

    id: int
    fault: Fault
    start_ns: int
    end_ns: int | None


@dataclass
class _Active:
    record: Injected
    rng: random.Random
    starts: float
    ends: float
    released: threading.Event = field(default_factory=threading.Event)

    def strike(self) -> None:
        now = time.monotonic()
        if self.starts <= now < self.ends and self.rng.random() < self.record.fault.rate:
            self.record.fault.strike(self.rng, self.wait)

    def wait(self, seconds: float) -> bool:
        left = self.ends - time.monotonic()
        return self.released.wait(max(0.0, min(seconds, HOLD_MAX_S, left)))


class FaultInjector:
    """Strikes requests with the faults in force.

    Parameters
    ----------
    log : FaultLog, optional
        Where the truth is kept; default nowhere.
    seed : int
        The same seed gives the same draws (which requests fail, how long a jittered delay takes).
    """

    def __init__(self, log: FaultLog | None = None, seed: int = 0) -> None:
        self._log, self._seed = log, seed
        self._ids = count(1)
        self._order = count()
        self._lock = threading.Lock()
        self._active: dict[int, _Active] = {}
        self._closed = False

    def inject(self, fault: Fault) -> int:
        """Put `fault` in force and return its id; one of the same kind at the same place is
        replaced.
        """
        start_ns = time.time_ns() + round(fault.start_s * 1e9)
        end_ns = None if fault.length_s is None else start_ns + round(fault.length_s * 1e9)
        with self._lock:
            for id, old in list(self._active.items()):
                if (old.record.fault.kind, old.record.fault.place) == (fault.kind, fault.place):
                    self._end(id)
            id = self._log.start(fault, start_ns, end_ns) if self._log else next(self._ids)
            starts = time.monotonic() + fault.start_s
            ends = float("inf") if fault.length_s is None else starts + fault.length_s
            rng = random.Random(f"{self._seed}/{next(self._order)}")
            self._active[id] = _Active(Injected(id, fault, start_ns, end_ns), rng, starts, ends)
        return id

    def clear(self, id: int | None = None) -> list[int]:
        """End the fault with this id, or all, release the requests that it holds, and return the
        ended ids.

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
            return [a.record for a in self._active.values() if now < a.ends]

    def strike(self, service: str, endpoint: str) -> None:
        """Let the faults at this endpoint strike the request that is being handled: may wait, may
        raise.

        `aiops_lab.show.api.attach` calls it before each request of a Flask app.
        """
        if not self._active:
            return
        with self._lock:
            here = [a for a in self._active.values() if a.record.fault.place == (service, endpoint)]
        for active in here:
            active.strike()
            if self._closed:
                raise BackendError("service is shutting down", 503)

    def close(self) -> None:
        """End all faults and let every held request go."""
        self._closed = True
        self.clear()

    def _end(self, id: int) -> None:
        active = self._active.pop(id)
        active.released.set()
        planned = active.record.end_ns
        if self._log and (planned is None or time.time_ns() < planned):
            self._log.end(id)


class FaultLog:
    """The ground truth: which fault was in force where, from when to when.

    Its table may live in the file of a `SpanStore`; no detector reads it.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS fault_log (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " start_ns INTEGER NOT NULL, end_ns INTEGER, fault TEXT NOT NULL)"
        )

    def start(self, fault: Fault, start_ns: int | None = None, end_ns: int | None = None) -> int:
        """Write down a fault that starts now (or at `start_ns`, Unix ns) and return its id."""
        start_ns = time.time_ns() if start_ns is None else start_ns
        row = (start_ns, end_ns, json.dumps(asdict(fault), default=str))
        with self._lock:
            cursor = self._db.execute(
                "INSERT INTO fault_log (start_ns, end_ns, fault) VALUES (?, ?, ?)", row
            )
            return int(cursor.lastrowid or 0)

    def end(self, id: int, end_ns: int | None = None) -> None:
        """Write down that a fault ended now, or at `end_ns`."""
        end_ns = time.time_ns() if end_ns is None else end_ns
        with self._lock:
            self._db.execute(
                "UPDATE fault_log SET end_ns = max(?, start_ns) WHERE id = ?", (end_ns, id)
            )

    def faults(self) -> pd.DataFrame:
        """Return one row a fault: id, start and end (UTC; NaT = not ended), then the fields of
        `Fault`.
        """
        import pandas as pd

        query = "SELECT id, start_ns, end_ns, fault FROM fault_log ORDER BY id"
        with self._lock:
            rows = self._db.execute(query).fetchall()
        made: dict[str, Any] = {"id": pd.Series([row[0] for row in rows], dtype="int64")}
        for place, name in ((1, "start"), (2, "end")):
            ns = pd.Series([row[place] for row in rows], dtype="Int64")
            made[name] = pd.to_datetime(ns, unit="ns", utc=True)
        faults = pd.DataFrame(
            [json.loads(row[3]) for row in rows], columns=list(Fault.__dataclass_fields__)
        )
        return pd.DataFrame(made).join(faults.drop(columns=["start_s", "end_s"]))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> FaultLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
