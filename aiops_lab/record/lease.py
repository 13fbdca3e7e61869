"""Who may change what several processes share? One of them at a time: a lease on a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiops_lab.record.store import SpanStore

# After so long another one goes on: the process that had the lease was killed. A step of a monitor
# takes seconds where hours are to be judged.
LEASE_S = 30.0

_POLL_S = 0.02


@contextmanager
def lease(store: SpanStore, name: str, owner: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold the lease `name` of a store for a block; yield whether it was free within `wait_s`."""
    deadline = time.monotonic() + wait_s
    taken = store.claim(name, owner, LEASE_S)
    while not taken and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        taken = store.claim(name, owner, LEASE_S)
    try:
        yield taken
    finally:
        if taken:
            with suppress(OSError):  # then it ends by itself
                store.claim(name, owner, 0.0)
