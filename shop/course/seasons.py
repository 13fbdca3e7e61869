"""What lesson 05 works with: shops whose normal moves, a ridge regression, and their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from aiops_lab.pipeline import Report
from aiops_lab.record.faults import DAY_S
from aiops_lab.show.plots.style import BLACK, BLUE, GREEN, GREY, SKY, YELLOW
from aiops_lab.show.plots.timeline import timeline
from aiops_lab.spans import to_frame
from shop.course.drawing import lone_span, new_axes
from shop.course.waiting import somebody_waits
from shop.shops import PAYMENT
from shop.topology import Endpoint, Topology
from shop.virtual_time.scenario import BEGIN, BEGIN_NS, Scenario, VirtualFault
from shop.virtual_time.simulate import stream, virtual

HOUR_S = 3600

AN_HOUR = 4
"""Windows of 15 minutes in an hour."""

A_DAY = 24 * AN_HOUR
"""Windows of 15 minutes in a day."""

DAYS = 35

LOWEST, HIGHEST = -6, 14
"""Residuals from which to which are drawn, in standard deviations."""


class Slow(NamedTuple):
    """A fault of the fifth week: own work takes `factor` times as long, from hour to hour."""

    day: int
    since: int
    until: int
    factor: float

    @property
    def windows(self) -> slice:
        """The windows of 15 minutes in which it is at work."""
        midnight = self.day * A_DAY
        first = midnight + self.since * AN_HOUR
        end = midnight + self.until * AN_HOUR
        return slice(first, end)

    @property
    def name(self) -> str:
        """When it begins, and how large it is."""
        return f"{self.since} h, x{self.factor}"


SLOWDOWNS = (
    Slow(28, 3, 5, 1.4),
    Slow(29, 14, 16, 1.4),
    Slow(30, 2, 4, 1.8),
    Slow(31, 10, 12, 1.25),
    Slow(32, 22, 24, 1.4),
    Slow(33, 4, 6, 1.25),
)


def hourly(ms: Sequence[float], an_hour: int = 20) -> pd.DataFrame:
    """Return spans of an endpoint whose requests take `ms[h]` ms in hour h, `an_hour` each hour."""
    took_ms = np.repeat(np.asarray(ms), an_hour)
    apart_ns = HOUR_S * 10**9 // an_hour
    spans = []
    for n, each_ms in enumerate(took_ms):
        start_ns = BEGIN_NS + n * apart_ns
        took_ns = int(each_ms * 1e6)
        spans.append(lone_span(n, "/a", start_ns, took_ns))
    return to_frame(spans)


def five_weeks() -> pd.DataFrame:
    """Return five weeks of /export, a row each 15 minutes: n, its requests, and log_ms, the mean of
    the logs of their latency.

    /export makes a report in 4 s, one at a time, and most customers come by day. In week 5 it is
    slower six times (`SLOWDOWNS`).
    """
    export = Endpoint("export", "/export", median_ms=4000, sigma=0.4)
    scenario = Scenario(
        "five weeks",
        (("export", "/export"),),
        tuple(map(_fault, SLOWDOWNS)),
        topology=Topology((export,), front="export"),
        rate=0.1,
        daily=0.7,
        seconds=DAYS * DAY_S,
        workers={"export": 1},
    )
    recorded = stream(scenario, seed=1, progress=somebody_waits())
    parts = [_sums(part) for part in recorded]
    rows = pd.concat(parts)
    sums = rows.groupby(level=0).sum()
    total = sums.reindex(_times())
    return total.assign(log_ms=total["log_ms"] / total["n"])


def _times() -> pd.DatetimeIndex:
    """Return when the windows of the five weeks begin."""
    return pd.date_range(BEGIN, periods=DAYS * A_DAY, freq="15min")


def _fault(slow: Slow) -> VirtualFault:
    midnight_s = slow.day * DAY_S
    return VirtualFault(
        "slow",
        "export",
        "/export",
        midnight_s + slow.since * HOUR_S,
        midnight_s + slow.until * HOUR_S,
        factor=slow.factor,
    )


def _sums(spans: pd.DataFrame) -> pd.DataFrame:
    """Return the number of requests and the sum of log ms by the window in which they ended."""
    ended = spans.dropna(subset="duration_ms")
    duration_ms = ended["duration_ms"]
    end = ended["start"] + pd.to_timedelta(duration_ms, unit="ms")
    window = end.dt.floor("15min")
    values = pd.DataFrame({"n": 1, "log_ms": np.log(duration_ms)})
    return values.groupby(window).sum()


def is_broken() -> NDArray[np.bool_]:
    """Return for each window of the five weeks whether a fault was at work."""
    broken = np.zeros(DAYS * A_DAY, dtype=bool)
    for slow in SLOWDOWNS:
        broken[slow.windows] = True
    return broken


def is_disturbed() -> NDArray[np.bool_]:
    """Return for each window whether a fault was at work, or had been in the hour before: its queue
    has to empty first.
    """
    broken = is_broken()
    disturbed = broken.copy()
    for windows in range(1, AN_HOUR + 1):
        disturbed |= np.roll(broken, windows)
    return disturbed


def ridge(x: NDArray, y: NDArray, fit: NDArray[np.bool_], penalty: float = 1.0) -> NDArray:
    """Return the forecast of a ridge regression of y on the columns of x, fitted to the rows `fit`.

    A linear regression that is charged for large weights: `penalty` times the sum of their squares,
    for columns in standard deviations.
    """
    level = y[fit].mean()
    mean = x[fit].mean(axis=0)
    deviation = x[fit].std(axis=0)
    scaled = (x - mean) / deviation
    known = scaled[fit]
    charge = penalty * np.eye(x.shape[1])
    products = known.T @ known + charge
    together = known.T @ (y[fit] - level)
    weights = np.linalg.solve(products, together)
    return level + scaled @ weights


def standardised(residual: NDArray, past: NDArray[np.bool_]) -> NDArray:
    """Return residuals divided by the standard deviation that the past ones of that hour had."""
    window = np.arange(len(residual))
    hour = window % A_DAY // AN_HOUR
    spreads = np.empty(24)
    for h in range(24):
        same_hour = past & (hour == h)
        spreads[h] = np.nanstd(residual[same_hour])
    return residual / spreads[hour]


def alarms_by_fault(z: NDArray, limit: float, judged: NDArray[np.bool_]) -> dict[str, int]:
    """Return in how many windows of each fault z exceeds its limit, how many faults were found, and
    how many alarms were false.

    An alarm up to an hour after a fault is not false (`is_disturbed`).
    """
    alarmed = judged & (z > limit)
    hits = {slow.name: int(alarmed[slow.windows].sum()) for slow in SLOWDOWNS}
    false = alarmed & ~is_disturbed()
    begun = false & ~np.roll(false, 1)
    found = sum(n > 0 for n in hits.values())
    return hits | {"found": found, "false": int(begun.sum())}


def payments(
    seconds: float, faults: Sequence[VirtualFault] = (), changes: Sequence[VirtualFault] = ()
) -> pd.DataFrame:
    """Return spans of /payment, a request each second, with faults or harmless changes."""
    causes = (PAYMENT,) if faults else ()
    scenario = Scenario(
        "moves",
        causes,
        tuple(faults),
        changes=tuple(changes),
        rate=1,
        seconds=seconds,
        mix={"/payment": 1},
    )
    return virtual(scenario, 1)


# ---- figures


def day_figure(days: NDArray, mean: NDArray) -> None:
    """Draw the latency of single days (a row a day, log ms) and their mean over the hours."""
    hours = np.arange(A_DAY) / AN_HOUR
    days_s = np.exp(days.T) / 1000
    mean_s = np.exp(mean) / 1000
    ax = new_axes(8, 3.6)
    ax.plot(hours, days_s, color=SKY, lw=0.7)
    ax.plot(hours, mean_s, color=BLACK, lw=2.5, label="mean, weeks 1 to 3")
    ax.plot([], [], color=SKY, lw=0.7, label="single days of week 1")
    ax.set(
        xlabel="hour of the day (UTC)",
        ylabel="latency (s)",
        title="A day at /export",
        xlim=(0, 24),
        xticks=range(0, 25, 4),
    )
    ax.legend()


def residual_figure(
    z: Mapping[str, NDArray], limits: Mapping[str, float], with_faults: bool = False
) -> None:
    """Draw the residuals of week 5 by each forecaster with its limit; the true faults if asked.

    All have one scale, so that small faults can be seen; an arrow tells how far the line goes on.
    """
    week = slice(28 * A_DAY, DAYS * A_DAY)
    times = _times()[week]
    _, axes = plt.subplots(len(z), 1, figsize=(9, 4.6), sharex=True, layout="constrained")
    for ax, colour, (name, values) in zip(axes, (BLUE, GREEN), z.items(), strict=False):
        ax.plot(times, values[week], color=colour, lw=0.9)
        ax.axhline(limits[name], color=GREY, ls="--")
        title = f"residuals by {name}; dashed: the limit from week 4"
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_ylabel("standard deviations")
        ax.set_ylim(LOWEST, HIGHEST)
        _tell_outside(ax, times, values[week])
        if with_faults:
            _shade(ax)
    axes[-1].set_xlabel("time (UTC)")


def _tell_outside(ax: Axes, times: pd.DatetimeIndex, values: NDArray) -> None:
    """Write to the left of the highest and the lowest value how far it lies outside the axes."""
    highest = int(values.argmax())
    lowest = int(values.argmin())
    for at, arrow, y in ((highest, "↑", HIGHEST - 4), (lowest, "↓", LOWEST + 0.5)):
        value = values[at]
        if LOWEST <= value <= HIGHEST:
            continue
        beside: Any = times[at] - pd.Timedelta("3h")
        told = f"{arrow} to {value:.0f}".replace("-", "−")
        ax.text(beside, y, told, ha="right", fontsize=8)


def _shade(ax: Axes) -> None:
    """Shade the slowdowns, each with its name beside it."""
    for slow in SLOWDOWNS:
        hours = slow.day * 24 + slow.since
        begin: Any = BEGIN + pd.Timedelta(hours, "h")
        end = begin + pd.Timedelta("2h")
        ax.axvspan(begin, end, color=YELLOW, alpha=0.5, zorder=0)
        is_late = slow.since >= 12  # the next one may begin soon
        beside, side = (begin, "right") if is_late else (end, "left")
        ax.text(beside, HIGHEST - 0.5, f" {slow.name} ", ha=side, va="top", fontsize=8)


def leak_figure(reports: Mapping[str, Report], since: pd.Timestamp, leak: str) -> None:
    """Draw the latency of /payment in each replay beside each other, from `since` on, a point each
    two minutes.
    """
    _, axes = plt.subplots(1, len(reports), figsize=(11, 3.4), sharey=True, layout="constrained")
    for ax, (name, report) in zip(axes, reports.items(), strict=True):
        is_shown = report.windows["window"] >= since
        rows = report.windows[is_shown]
        timeline(rows[::12], report.anomalies, ax=ax, endpoint="/payment", legend=False)
        ax.set_title(f"{leak}, {name}", loc="left")


def minutes_to_alarm(report: Report, begin_s: float) -> float:
    """Return how many minutes after `begin_s` the first alarm came, NaN where there was none."""
    if not report.anomalies:
        return float("nan")
    first_end = min(anomaly.end for anomaly in report.anomalies)
    first_s = (first_end - BEGIN).total_seconds()
    return (first_s - begin_s) / 60
