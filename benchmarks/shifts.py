"""How rare are false alarms of lasting shifts, and how soon are true ones found?
``python -m benchmarks.shifts [--weeks W] [--endpoints N] [--seeds N] [--delag FOLDER ...]``.

Windows are drawn as sums, without single requests, and given to the pipeline's own scoring: log
latencies normal around the mean of the window, or a mixture of two (cache hits and misses).

Steady: so many endpoints for so many weeks; each reported shift is a false alarm, once per episode.
Expected is at most one a week for 100 endpoints. Found: after a history of `HISTORY_S`, a rise by
20 % or 2 % of failures; counted is the share of seeds with a report within 3 minutes.

DeLag: of each recording the first `NORMAL` requests without a delay, in their order, then those
with one of its two delays, 20 to 75 % slower; end to end only, as spans of one endpoint, at several
rates. Found is an incident after the delay began, within its requests; false is one before it, or
in all the requests without a delay.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import aiops_lab as lab
from aiops_lab import datasets
from aiops_lab.datasets.delag import STREAM_BEGIN, DelayCase
from aiops_lab.detect import baselines
from aiops_lab.detect.detector_calls import DetectorCalls
from aiops_lab.detect.scoring import judge
from aiops_lab.detect.windows import Counts

WINDOW_S = 10.0
WEEK_S = 604_800.0
HISTORY_S = 1800.0
WITHIN_S = 180.0
PIECE = 1440  # windows that are drawn at once
RATES = 0.1, 0.5, 2.0, 10.0, 50.0
SIGMAS = 0.2, 0.3, 0.6, 1.2
ERROR_RATES = 0.0, 0.0002, 0.001, 0.01
MS = 45.0
NORMAL = 6000
DELAG_RATES = 2.0, 5.0, 10.0


class Traffic(NamedTuple):
    """What each endpoint is like, arrays of shape (endpoints,)."""

    rate: NDArray  # requests/s
    sigma: NDArray  # of log milliseconds
    hit_share: NDArray  # share of requests that take a tenth: cache hits
    error_rate: NDArray
    swing: NDArray  # how far log milliseconds and the log rate go up and down in a day
    wander: NDArray  # standard deviation of a level that wanders within minutes


Change = Callable[[NDArray], tuple[NDArray, NDArray]]
"""From the seconds of windows to the factor of the latency, and the failures added."""


def steady(seconds: NDArray) -> tuple[NDArray, NDArray]:
    """Return no change."""
    return np.ones(seconds.size), np.zeros(seconds.size)


def draw(
    traffic: Traffic, first: int, windows: int, change: Change, rng: np.random.Generator
) -> Counts:
    """Return what windows `first` and later hold, drawn from the distributions."""
    shape = windows, traffic.rate.size
    seconds = (first + np.arange(windows)) * WINDOW_S
    factor, more_errors = change(seconds)
    wave = np.sin(2 * np.pi * seconds / 86_400)
    day = wave[:, None] * traffic.swing
    requests = rng.poisson(traffic.rate * WINDOW_S * np.exp(day))
    error_rate = traffic.error_rate + more_errors[:, None]
    errors = rng.binomial(requests, np.minimum(error_rate, 1))
    hits = rng.binomial(requests, traffic.hit_share)
    log_ms = np.log(MS * factor)[:, None]
    level = log_ms + day + _wander(traffic.wander, shape, rng)
    n = requests.astype(float)
    some = np.maximum(n, 1)
    hit_share = hits / some
    mean = level + np.log(0.1) * hit_share
    mean += rng.normal(size=shape) * traffic.sigma / np.sqrt(some)
    spread = rng.chisquare(np.maximum(n - 1, 1))
    inside = traffic.sigma**2 * spread * (n > 1)
    inside += np.log(0.1) ** 2 * hits * (1 - hit_share)
    total = n * mean
    ok_n = n - errors
    nothing = np.zeros(shape)
    starts = (seconds * 1e9).astype(np.int64)
    return Counts(
        starts=starts,
        skipped=np.zeros(windows, np.int64),
        window_ns=int(WINDOW_S * 1e9),
        n=n,
        errors=errors.astype(float),
        total=total,
        squares=inside + n * mean**2,
        ok_n=ok_n,
        ok_total=ok_n * mean,
        long=nothing,
        aged=n,
        arrivals=n,
        given_up=nothing,
        stuck_ptr=np.zeros(windows + 1, np.int64),
        stuck_code=np.zeros(0, np.int64),
        stuck_age_s=np.zeros(0),
    )


def _wander(sd: NDArray, shape: tuple[int, int], rng: np.random.Generator) -> NDArray:
    """Return levels that wander around 0 and forget within five minutes, a column an endpoint."""
    keep = np.exp(-WINDOW_S / 300)
    level = np.empty(shape)
    now = rng.normal(size=sd.size)
    for w in range(shape[0]):
        now = keep * now + np.sqrt(1 - keep**2) * rng.normal(size=sd.size)
        level[w] = now
    return level * sd


class Watch:
    """The pipeline's baselines and decisions for drawn windows."""

    def __init__(self, endpoints: int, sensitivity: lab.Sensitivity) -> None:
        self.sensitivity = sensitivity
        self.keys = [("shop", f"/{number:05}") for number in range(endpoints)]
        self.state = baselines.fresh(endpoints)
        self.system = np.zeros(2)
        self._detectors = DetectorCalls()

    def judge(self, counts: Counts) -> Any:
        """Return the frame of judged windows."""
        return judge(
            counts,
            self.keys,
            self.state,
            self.system,
            self.sensitivity,
            decide=self._detectors.decide,
            jumps=self._detectors.jumps,
        )[0]


def reports(traffic: Traffic, weeks: float, seed: int) -> NDArray:
    """Return the number of episodes with a reported shift, by endpoint, in steady traffic."""
    rng = np.random.default_rng(seed)
    watch = Watch(traffic.rate.size, lab.Sensitivity())
    episodes = np.zeros(traffic.rate.size)
    last = np.full(traffic.rate.size, -np.inf)
    for first in range(0, int(weeks * WEEK_S / WINDOW_S), PIECE):
        windows = watch.judge(draw(traffic, first, PIECE, steady, rng))
        shifted = windows[windows["shifted"]]
        seconds = shifted["window"].astype("int64") / 1e9
        codes = shifted["endpoint"].str[1:].astype(int)
        for code, second in zip(codes, seconds, strict=True):
            episodes[code] += second - last[code] > 600
            last[code] = second
    return episodes


def delays(traffic: Traffic, change: Change, history_s: float, seed: int) -> NDArray:
    """Return after how many seconds the shift was reported, by endpoint (inf: not at all; negative:
    before it began).
    """
    rng = np.random.default_rng(seed)
    watch = Watch(traffic.rate.size, lab.Sensitivity())

    def later(seconds: NDArray) -> tuple[NDArray, NDArray]:
        factor, more = change(seconds)
        begun = seconds >= history_s
        return np.where(begun, factor, 1.0), np.where(begun, more, 0.0)

    count = int((history_s + 600) / WINDOW_S)
    windows = watch.judge(draw(traffic, 0, count, later, rng))
    is_told = windows["shifted"] | windows["slow"] | windows["failing"]
    first = windows[is_told].groupby("endpoint")["end"].min()
    end_s = first.astype("int64") / 1e9
    codes = first.index.str[1:].astype(int)
    delay = np.full(traffic.rate.size, np.inf)
    delay[codes] = end_s - history_s
    return delay


def mixed(endpoints: int, swing: float, wander: float, seed: int) -> Traffic:
    """Return endpoints of all rates, spreads and error rates, a quarter with cache hits."""
    rng = np.random.default_rng(seed)
    return Traffic(
        rng.choice(RATES, endpoints),
        rng.choice(SIGMAS, endpoints),
        rng.choice([0.0, 0.0, 0.0, 0.5], endpoints),
        rng.choice(ERROR_RATES, endpoints),
        np.full(endpoints, swing),
        np.full(endpoints, wander),
    )


def alike(endpoints: int, rate: float, sigma: float, error_rate: float) -> Traffic:
    """Return endpoints that are all alike, without swing."""
    row = (np.full(endpoints, value) for value in (rate, sigma, 0.0, error_rate, 0.0, 0.0))
    return Traffic(*row)


def print_steady(endpoints: int, weeks: float, seed: int) -> None:
    """Print the false alarms of steady traffic, of a daily swing, and of wandering levels."""
    for name, swing, wander in (
        ("steady", 0.0, 0.0),
        ("daily swing of 20 %", 0.18, 0.0),
        ("levels that wander by 5 %", 0.0, 0.05),
    ):
        begin = time.process_time()
        traffic = mixed(endpoints, swing, wander, seed)
        episodes = reports(traffic, weeks, seed)
        a_week = episodes.sum() / weeks * 100 / endpoints
        print(
            f"{name}: {episodes.sum():.0f} false alarms of {endpoints} endpoints in {weeks:g} "
            f"weeks, {a_week:.2f} a week for 100 ({time.process_time() - begin:.0f} CPU s)"
        )
        for rate in np.unique(traffic.rate[episodes > 0]):
            there = traffic.rate == rate
            print(f"  at {rate:g} requests/s: {episodes[there].sum():.0f} of {there.sum()}")


def print_found(seeds: int, seed: int) -> None:
    """Print the share of shifts found within `WITHIN_S`."""
    slower = 1.2, 0.0
    failing = 1.0, 0.02
    for history_s in (300.0, HISTORY_S):
        for rate in (10.0, 2.0):
            for sigma in SIGMAS:
                _print_delay("+20 %", slower, (rate, sigma, 0.0), history_s, (seeds, seed))
            for error_rate in (0.0, 0.001):
                about = rate, 0.3, error_rate
                _print_delay("2 % errors", failing, about, history_s, (seeds, seed))


def _print_delay(
    name: str,
    change: tuple[float, float],
    about: tuple[float, float, float],
    history_s: float,
    seeds: tuple[int, int],
) -> None:
    rate, sigma, error_rate = about

    def changed(seconds: NDArray) -> tuple[NDArray, NDArray]:
        return np.full(seconds.size, change[0]), np.full(seconds.size, change[1])

    delay = delays(alike(seeds[0], *about), changed, history_s, seeds[1])
    early = np.mean(delay <= 0)
    found = np.mean((delay > 0) & (delay <= WITHIN_S))
    print(
        f"{name} at {rate:g}/s after {history_s / 60:.0f} min, sigma {sigma:g}, usual errors "
        f"{error_rate:.1%}: {found:.1%} within {WITHIN_S:.0f} s, median {np.median(delay):.0f} s, "
        f"before it {early:.1%}"
    )


class Stream(NamedTuple):
    """What a replay says of a recording: seconds from the delay to an incident, those before it."""

    waited_s: float
    early: int


def stream(case: DelayCase, rate: float) -> Stream:
    """Replay the normal requests of a recording, then those of its delay."""
    rows = case.recording.rows_of(0)[:NORMAL]
    delayed = case.recording.rows_of(case.number)
    spans = _entries(case, np.concatenate([rows, delayed]), rate)
    usual = pd.Timedelta(rows.size / rate, unit="s")
    begun = pd.Timestamp(STREAM_BEGIN, tz="UTC") + usual
    report = lab.replay(spans, causes=False)
    found = [incident.first_detected for incident in report.incidents]
    waited = [(moment - begun).total_seconds() for moment in found if moment > begun]
    return Stream(min(waited, default=np.inf), len(found) - len(waited))


def false_alarm(case: DelayCase, rate: float = 5.0) -> bool:
    """Return whether a replay of the requests without a delay has an incident."""
    spans = _entries(case, case.recording.rows_of(0), rate)
    return bool(lab.replay(spans, causes=False).incidents)


def _entries(case: DelayCase, rows: NDArray, rate: float) -> pd.DataFrame:
    """Return the root spans of some requests."""
    spans = case.recording.spans(rows, rate=rate)
    is_root = spans["parent_id"].isna()
    return lab.check(spans[is_root].reset_index(drop=True))


def print_delag(folder: str, every: int) -> None:
    """Print the share of delays that a replay finds."""
    cases: list[Any] = list(datasets.load("delag", folder))[::every]
    for rate in DELAG_RATES:
        streams = [stream(case, rate) for case in cases]
        waited = np.array([each.waited_s for each in streams])
        early = sum(each.early > 0 for each in streams)
        print(
            f"{cases[0].group} at {rate:g}/s: {np.isfinite(waited).sum()} of {len(cases)} delays "
            f"found, median {np.median(waited):.0f} s; {early} with an incident before"
        )
    calm = {case.recording: case for case in cases}.values()
    false = [false_alarm(case) for case in calm]
    print(f"{cases[0].group} without a delay: {sum(false)} of {len(false)} with an incident")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shifts", description=__doc__)
    add = parser.add_argument
    add("--weeks", type=float, default=1.0, help="weeks of steady traffic (default 1)")
    add("--endpoints", type=int, default=100, help="endpoints of steady traffic (default 100)")
    add("--seeds", type=int, default=200, help="seeds of each shift (default 200)")
    add("--seed", type=int, default=0, help="of all draws (default 0)")
    add("--delag", nargs="+", default=[], help="folders with recordings of DeLag")
    add("--every", type=int, default=1, help="only each so many-th delay of them (default 1)")
    arguments = parser.parse_args()
    for folder in arguments.delag:
        print_delag(folder, arguments.every)
    print_found(arguments.seeds, arguments.seed)
    print_steady(arguments.endpoints, arguments.weeks, arguments.seed)


if __name__ == "__main__":
    main()
