"""The columns of judged windows: what was seen, and the baseline before it.

What each column holds is told in `aiops_lab.detect.scoring.judge`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect import baselines as b
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.detect.windows import Counts
from aiops_lab.spans import Key

Arrays = dict[str, NDArray]
"""Arrays of shape (windows, endpoints) by the name of the column."""

COUNTED = ("n", "errors", "stuck", "given_up", "arrivals")  # whole numbers in the frame


def columns(scores: NDArray, before: NDArray, s: Sensitivity) -> tuple[Arrays, Arrays]:
    """Return the columns of windows and of baselines."""
    baselines = _baseline_columns(before, s)
    return _window_columns(scores, before, baselines, s.z), baselines


def _baseline_columns(before: NDArray, s: Sensitivity) -> Arrays:
    count = before["count"]
    is_learning = count < s.min_count
    is_warm = before["windows"] >= b.WARM_WINDOWS
    return {
        "learning": is_learning,
        "long_lived": before["long_share"] > b.LONG_LIVED,
        "known": ~is_learning & is_warm,
        "count": count,
        "latency_ms": _exp_where(count > 0, before["mean"]),
        "sd_log": np.maximum(np.sqrt(before["var"]), b.MIN_SD),
        "error_rate": before["error_rate"],
        "rate": before["rate"],
        "rate_var": before["rate_var"],
    }


def _window_columns(scores: NDArray, before: NDArray, baselines: Arrays, z: float) -> Arrays:
    n = before["pool_n"]
    at_least_one = np.maximum(n, 1)
    is_seen = before["count"] > 0
    usual_ms = baselines["latency_ms"]
    sd = baselines["sd_log"]
    spread = np.exp(-sd * z / np.sqrt(at_least_one))
    high_ms = scores["high_ms"]
    has_no_limit = baselines["learning"] | (high_ms == 0)
    return {
        "seconds": before["pool_s"],
        "n": n,
        "errors": before["pool_errors"],
        "error_rate": before["pool_errors"] / at_least_one,
        "baseline_error_rate": before["error_rate"],
        "latency_ms": _exp_where(n > 0, scores["mean"]),
        "baseline_ms": usual_ms,
        "low_ms": usual_ms * spread,
        "high_ms": np.where(has_no_limit, np.nan, high_ms),
        "ratio": np.where(is_seen, scores["ratio"], np.nan),
        "z": np.where(is_seen, scores["z"], np.nan),
        "ratio_ok": scores["ratio_ok"],
        "stuck": scores["stuck"],
        "given_up": scores["given_up"],
        "missed": before["silent"],
        "longest": before["longest"],
        "steady_ms": _exp_where(before["steady_n"] > 0, before["steady"]),
        "steady_error_rate": before["steady_error_rate"],
        "rise": scores["rise"],
        "risen": scores["rise_on"] > 0,
        "lasting_ms": np.exp(before["steady"] + scores["rise_gap"]),
        "surplus": scores["surplus"],
        "more_errors": scores["surplus_on"] > 0,
        "lasting_error_rate": scores["surplus_rate"],
        "lasts_s": _lasts_s(scores, before),
        "error_low": scores["error_low"],
        "error_chance": scores["error_chance"],
        "oldest_s": scores["oldest_s"],
    }


def _exp_where(is_known: NDArray, log_ms: NDArray) -> NDArray:
    """Return the milliseconds of which these are the logs, NaN where they are not known."""
    return np.where(is_known, np.exp(log_ms), np.nan)


def _lasts_s(scores: NDArray, before: NDArray) -> NDArray:
    """Return since when a shift lasts that is reported, in seconds at the end of the window."""
    has_risen = scores["rise_on"] > 0
    has_more_errors = scores["surplus_on"] > 0
    rise_s = np.where(has_risen, before["rise_s"], 0.0)
    surplus_s = np.where(has_more_errors, before["surplus_s"], 0.0)
    return np.maximum(rise_s, surplus_s) + before["pool_s"]


def frames(
    windows: Arrays, baselines: Arrays, shown: NDArray, keys: Sequence[Key], counts: Counts
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row for each window in the mask `shown`, by time and then endpoint."""
    in_order = sorted(range(len(keys)), key=keys.__getitem__)
    order = np.array(in_order, dtype=np.int64)
    w, place = np.nonzero(shown[:, order])
    code = order[place]
    at = w, code
    seen = {name: column[at] for name, column in windows.items()}
    usual = {name: column[at] for name, column in baselines.items()}
    names = np.array(keys, dtype=object).reshape(-1, 2)
    service, endpoint = names[code].T
    begin = pd.DatetimeIndex(counts.starts[w], tz="UTC")
    state = np.where(seen.pop("abnormal"), "anomalous", "normal")
    first = {
        "window": begin,
        "end": begin + pd.Timedelta(counts.window_ns, unit="ns"),
        "service": pd.array(service, dtype="str"),
        "endpoint": pd.array(endpoint, dtype="str"),
        "state": np.where(usual["learning"], "learning", state),
    }
    whole = {name: seen[name].astype(int) for name in COUNTED}
    usual["count"] = usual["count"].astype(int)
    return pd.DataFrame(first | seen | whole), pd.DataFrame(usual)
