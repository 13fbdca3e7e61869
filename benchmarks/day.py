"""Is every fault of a whole day told of, once and with its cause? ``python -m benchmarks.day``.

Twenty faults of all kinds on a virtual day, some overlapping or flapping, with surges, quiet times
and deployments between them, in the seed's shop and in a random one. Deployments are noted as
changes. Three questions: which incident matches which fault (replay); what a step of a live monitor
costs on the way, with and without an open incident, early and late; and whether it found the same
incidents as the replay.
``--hours 4`` for a quick look.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

import aiops_lab as lab
import shop
from aiops_lab.detect.incidents import RESOLVED, Incident
from aiops_lab.evaluate.matching import Matching, match
from aiops_lab.numerics import to_timestamp, wilson
from aiops_lab.pipeline import Report
from shop.shops import MARKET, MARKET_MIX
from shop.topology import SEED_SHOP
from shop.virtual_time.random_day import Day, random_day
from shop.virtual_time.random_topology import entry_mix, layered
from shop.virtual_time.scenario import BEGIN_NS

SIZE = 12
"""Endpoints of the random shop."""

STEP_S = 30.0
"""Seconds between two steps: the default of `python -m shop serve`."""

OLDEST_OPEN_S = 300.0
"""No virtual request is open for longer."""

OPEN_FOR_S = 0.0, 300.0, 900.0, 1800.0, np.inf
"""Bounds of the groups of steps by the age of the oldest open incident."""


# ---- live, on a store


class Step(NamedTuple):
    """One step: virtual second, CPU ms, age in seconds of the oldest open incident (NaN: none)."""

    second: float
    cpu_ms: float
    open_s: float


class Live(NamedTuple):
    """What a live monitor found, until when it judged, its steps, and memory (MB) by hour."""

    incidents: list[Incident]
    until: pd.Timestamp | None
    steps: pd.DataFrame
    memory_mb: list[float]


def live(
    frame: pd.DataFrame,
    seconds: float,
    interval_s: float = STEP_S,
    changes: Sequence[lab.Change] = (),
) -> Live:
    """Hand the spans to a store as they end, note changes as they come, and step a monitor on the
    way.
    """
    feed = _Feed(frame)
    steps = []
    memory_mb = [_memory_mb()]
    later = sorted(changes)
    moments = np.arange(interval_s, seconds + interval_s, interval_s)
    with lab.SpanStore(":memory:") as store:
        monitor = lab.Monitor(store)
        for second in tqdm(moments, unit="step", desc="live", disable=None):
            now = BEGIN_NS + round(second * 1e9)
            feed.hand_over(store, now)
            while later and later[0].time <= to_timestamp(now):
                monitor.note(later.pop(0))
            age_s = _oldest_open_s(monitor, now)
            # of this thread: what the store's own thread writes is not the step's
            begin = time.thread_time()
            monitor.step(to_timestamp(now))
            cpu_ms = 1e3 * (time.thread_time() - begin)
            steps.append(Step(second, cpu_ms, age_s))
            if second // 3600 >= len(memory_mb):
                memory_mb.append(_memory_mb())
        incidents = monitor.incidents()
    return Live(incidents, monitor.judged_until, pd.DataFrame(steps), memory_mb)


class _Feed:
    """Spans in the order in which they end."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self.start = frame["start"].astype("int64").to_numpy()
        length_ns = np.round(frame["duration_ms"].to_numpy() * 1e6)
        never = np.iinfo("int64").max
        closed = ~np.isnan(length_ns)
        self.end = np.full(len(frame), never)
        # whole numbers: a float of such a size is 256 ns off
        self.end[closed] = self.start[closed] + length_ns[closed].astype("int64")
        self.order = np.argsort(self.end, kind="stable")
        self.sorted_end = self.end[self.order]
        self.done = 0

    def hand_over(self, store: lab.SpanStore, now: int) -> None:
        """Add what ended before `now`, and show what is open then."""
        oldest = now - int(OLDEST_OPEN_S * 1e9)
        low, high = np.searchsorted(self.start, [oldest, now], side="left")
        is_open = self.end[low:high] >= now
        rows = low + np.flatnonzero(is_open)
        store.opened.update({span.span_id: span for span in self._spans(rows, now)})
        until = int(np.searchsorted(self.sorted_end, now, side="left"))
        ended = self.order[self.done : until]
        for span in self._spans(ended, now):
            store.add(span)
        self.done = until
        store.flush()

    def _spans(self, rows: np.ndarray, now: int) -> Iterator[lab.Span]:
        part = self.frame.iloc[rows]
        texts = [part[name] for name in lab.Span._fields[:7]]
        times = self.start[rows], self.end[rows]
        columns = zip(*texts, *times, part["status"], part["error"], strict=True)
        for *names, start, end, status, error in columns:
            told: tuple[Any, ...] = (None, 0, None)
            if end < now:
                told = int(end - start), int(status), error
            yield lab.Span(*names, int(start), *told)


def _oldest_open_s(monitor: lab.Monitor, now: int) -> float:
    began = [i.started for i in monitor.incidents() if i.status != RESOLVED]
    if not began:
        return nan
    age = to_timestamp(now) - min(began)
    return age.total_seconds()


def _memory_mb() -> float:
    """Return the memory of the process now; where no /proc tells it, its peak."""
    status = Path("/proc/self/statm")
    if status.exists():
        pages = int(status.read_text().split()[1])
        return pages * resource.getpagesize() / 1e6
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# ---- tables


def fault_table(day: Day, matching: Matching, incidents: list[Incident]) -> pd.DataFrame:
    """Return a row a fault: what it is, and which incident tells of it."""
    by_id = {i.id: i for i in incidents}
    truth = day.truth()
    rows: list[dict[str, Any]] = []
    for found in matching.matches:
        first = truth.iloc[found.faults[0]]
        # of a whole service there is none
        endpoint = first["endpoint"] if isinstance(first["endpoint"], str) else "*"
        told = [found.incident] if found.incident else found.shown_in
        rows.append(
            {
                "faults": ",".join(map(str, found.faults)),
                "kind": first["kind"],
                "place": f"{first['service']} {endpoint}",
                "start": f"{first['start']:%H:%M:%S}",
                "minutes": _minutes(truth.iloc[list(found.faults)]),
                "incident": found.incident or "-",
                "suspects": " | ".join(_suspects(by_id[name]) for name in told),
                "detect_s": f"{found.detect_s:.0f}",
                "missed": found.missed,
            }
        )
    return pd.DataFrame(rows)


def _minutes(faults: pd.DataFrame) -> str:
    lengths = (faults["end"] - faults["start"]).dt.total_seconds() / 60
    return "+".join(f"{minutes:.0f}" for minutes in lengths)


def _suspects(incident: Incident) -> str:
    places = [" ".join(suspect.key) for suspect in incident.suspects[:3]]
    return ", ".join(places) or "none"


def print_matching(day: Day, report: Report) -> None:
    """Print the table of faults, the incidents without a match, and the totals."""
    matching = match(report, day.truth())
    by_id = {i.id: i for i in report.incidents}
    print(fault_table(day, matching, report.incidents).to_string(index=False))
    groups = {
        "without a fault": matching.false,
        "info, after a noted change": matching.info,
        "beside the match": matching.extra,
    }
    for title, ids in groups.items():
        for name in ids:
            print(f"incident {title}: {_told(by_id[name])}")
    matched = sum(m.incident is not None for m in matching.matches)
    print(f"faults matched: {_share(matched, len(matching.matches))} (goal >= 95 %)")
    calling = len(by_id) - len(matching.info)
    print(f"incidents without a fault: {_share(len(matching.false), calling)} (goal <= 5 %)")
    print(f"beside them, offers of a new normal after a noted change: {len(matching.info)}")
    delays = [m.detect_s for m in matching.matches if m.incident] or [np.nan]
    print(f"time to detect, of the matched: median {np.nanmedian(delays):.0f} s")
    print(f"events that are no fault: {_events(day)}")


def _told(incident: Incident) -> str:
    spells = [f"{low:%H:%M:%S}-{high:%H:%M:%S}" for low, high in incident.episodes]
    kinds = sorted({f"{a.type} {a.service} {a.endpoint}" for a in incident.anomalies})
    return f"{incident.id} {', '.join(spells)} {kinds} suspects: {_suspects(incident)}"


def _share(k: int, n: int) -> str:
    if n == 0:
        return "0 of 0"
    low, high = wilson(k, n)
    return f"{k} of {n} = {k / n:.0%} (95 %: {max(low, 0):.0%}-{high:.0%})"


def _events(day: Day) -> str:
    changes = [
        f"{change.kind} {change.service} {change.endpoint} at {_clock(change.start_s)}"
        for change in day.scenario.changes
    ]
    rates = [f"rate x {factor:g} at {_clock(second)}" for second, factor in day.scenario.profile]
    return "; ".join(changes + rates)


def _clock(second: float) -> str:
    return f"{to_timestamp(BEGIN_NS + int(second * 1e9)):%H:%M}"


def print_steps(found: Live) -> None:
    """Print what steps cost: by incident or none, in the first and the last hour, by age."""
    steps = found.steps
    second = steps["second"]
    with_one = steps["open_s"].notna()
    first = second <= 3600
    last = second > second.max() - 3600
    groups = {
        "no incident open": ~with_one,
        "an incident open": with_one,
        "first hour, none open": ~with_one & first,
        "last hour, none open": ~with_one & last,
        "last hour, one open": with_one & last,
    }
    for low, high in pairwise(OPEN_FOR_S):
        name = f"one open for {low / 60:.0f} to {high / 60:.0f} minutes"
        groups[name] = steps["open_s"].between(low, high, inclusive="left")
    for name, chosen in groups.items():
        cpu_ms = steps.loc[chosen, "cpu_ms"]
        if len(cpu_ms):
            quantiles = cpu_ms.quantile([0.5, 0.99]).round(1).tolist()
            print(f"step, {name}: {len(cpu_ms)} steps, median and p99 {quantiles} CPU ms")
    print(f"all steps: {steps['cpu_ms'].sum() / 1e3:.0f} CPU s")
    print(f"memory by hour: {[round(mb) for mb in found.memory_mb]} MB")


def differences(live: list[Incident], replayed: list[Incident]) -> list[str]:
    """Return what differs between two lists of incidents: ids, then suspects, then the rest."""
    ones = {incident.id: incident for incident in live}
    others = {incident.id: incident for incident in replayed}
    told = [f"only live: {_told(ones[name])}" for name in ones.keys() - others.keys()]
    told += [f"only replay: {_told(others[name])}" for name in others.keys() - ones.keys()]
    for name in ones.keys() & others.keys():
        told += _differing(name, ones[name], others[name])
    return told


def _differing(name: str, one: Incident, other: Incident) -> list[str]:
    live, replayed = _suspects(one), _suspects(other)
    if live != replayed:
        return [f"{name}: suspects live {live}; replay {replayed}"]
    record = one.to_record()
    other_record = other.to_record()
    fields = [field for field in record if record[field] != other_record[field]]
    if not fields:
        return []
    return [f"{name}: {', '.join(fields)} differ, suspects do not"]


def print_differences(found: Live, report: Report) -> None:
    """Print how many incidents differ between live and replay, and the first five."""
    told = sorted(differences(found.incidents, report.incidents))
    print(f"live against replay: {len(told)} differences in {len(report.incidents)} incidents")
    for line in told[:5]:
        print(f"  {line}")


# ---- the run


def a_day(name: str, arguments: argparse.Namespace) -> Day:
    """Return the day of a shop by name: seed, market or random."""
    seed = arguments.seed
    options = {key: getattr(arguments, key) for key in ("hours", "rate", "faults")}
    if name == "random":
        topology = layered(SIZE, seed)
        return random_day(topology, seed, mix=entry_mix(topology), **options)
    topology, mix = {"seed": (SEED_SHOP, None), "market": (MARKET, MARKET_MIX)}[name]
    return random_day(topology, seed, mix=mix, **options)


def run(name: str, arguments: argparse.Namespace) -> None:
    """Run one day and print all that was measured."""
    day = a_day(name, arguments)
    seconds = day.scenario.seconds
    frame = shop.virtual(day.scenario, arguments.seed)
    print(f"== {name} shop, seed {arguments.seed}, {arguments.hours:g} hours, {len(frame)} spans")
    noted = day.noted_changes()
    found = None
    until = None
    if arguments.live:
        found = live(frame, seconds, arguments.interval, noted)
        until = found.until
    begin = time.process_time()
    report = lab.replay(frame, until=until, changes=noted)
    cpu_s = time.process_time() - begin
    print(f"replay: {cpu_s:.0f} CPU s")
    print_matching(day, report)
    if found:
        print_steps(found)
        print_differences(found, report)


def main() -> None:
    """Run the days that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description=__doc__)
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of faults, times and traffic (default 0)")
    add("--hours", type=float, default=24.0, help="length of the day (default 24)")
    add("--rate", type=float, default=2.0, help="requests/s (default 2)")
    add("--faults", type=int, help="how many (default three in two hours, at most 20)")
    add("--interval", type=float, default=STEP_S, help="seconds between steps (default 30)")
    add("--shops", nargs="+", default=["seed", "random"], choices=["seed", "market", "random"])
    add("--no-live", dest="live", action="store_false", help="only the replay")
    arguments = parser.parse_args()
    for name in arguments.shops:
        run(name, arguments)


if __name__ == "__main__":
    main()
