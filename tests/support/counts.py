"""Counts of windows, written down by name: what is not named is 0, or follows from what is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aiops_lab.detect.windows import Counts

OF_THE_GRID = ("starts", "skipped", "window_ns")
OF_STUCK = ("stuck_ptr", "stuck_code", "stuck_age_s")
TABLES = [name for name in Counts._fields if name not in (*OF_THE_GRID, *OF_STUCK)]


def made_counts(
    *,
    n: ArrayLike,
    ms: ArrayLike = 45.0,
    var: ArrayLike = 0.0,
    stuck: Sequence[tuple[int, int, float]] = (),
    start_ns: int = 0,
    window_ns: int = 10 * 10**9,
    **tables: ArrayLike,
) -> Counts:
    """Return counts of windows that follow each other; no test names a field that it does not need.

    Parameters
    ----------
    n : array-like, shape (windows, endpoints)
    ms, var : array-like
        Of the latency: geometric mean, and variance of log milliseconds.
    stuck : sequence of (window, code of the endpoint, age in s)
        By window.
    tables : array-like
        Other fields of `Counts`, by name. Default: `total`, `squares`, `ok_n`, `ok_total`, `aged`
        and `arrivals` follow from the arguments, all others are 0.
    """
    n = np.asarray(n, dtype=float)
    log_ms = np.log(np.broadcast_to(ms, n.shape))
    ok_n = n - np.asarray(tables.get("errors", 0.0))
    follows: dict[str, Any] = {
        "n": n,
        "total": n * log_ms,
        "squares": n * (log_ms**2 + var),
        "ok_n": ok_n,
        "ok_total": ok_n * log_ms,
        "aged": n,
        "arrivals": n,
    }
    given = {name: _table(tables[name], n.shape) for name in tables}
    zeros = {name: np.zeros(n.shape) for name in TABLES}
    starts = start_ns + window_ns * np.arange(len(n))
    window, code, age_s = np.array(stuck, dtype=float).reshape(-1, 3).T
    return Counts(
        starts=starts,
        skipped=np.zeros(len(n), dtype=np.int64),
        window_ns=window_ns,
        stuck_ptr=np.searchsorted(window, np.arange(len(n) + 1)),
        stuck_code=code.astype(np.int64),
        stuck_age_s=age_s.copy(),  # contiguous, as windows has them: compiled once for both
        **zeros | follows | given,
    )


def _table(values: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    return np.broadcast_to(np.asarray(values, dtype=float), shape).copy()
