"""What does the analysis cost? Against pandas, and per step: ``python -m benchmarks.analysis
[--spans N]``.

CPU time of this process, after a warm-up that compiles the kernels. Both sides of a ratio run in
turn, in one run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import aiops_lab as lab
import shop
from aiops_lab.columns import digits_column, text_column
from aiops_lab.spans import TEXT_COLUMNS
from benchmarks._pandas import self_time_and_graph

ROUNDS = 3
BEGIN = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
GOAL_MS, GOAL_SWEEP_S = {"without": 20, "with": 300}, 5
GOAL_PANDAS, GOAL_REPLAY_S, GOAL_STEP_MS = 3.0, 1.0, 20.0


def recording(requests: int, endpoints: int, rate: float, seed: int = 0) -> pd.DataFrame:
    """Return a frame of requests, four spans each: server, client, server, and a second server
    below.
    """
    table = _requests(requests, endpoints, rate, seed)
    span = 4 * table["trace"] + table["depth"] + 1
    parent = [
        f"{number - 1:016x}" if depth else None
        for number, depth in zip(span, table["depth"], strict=True)
    ]
    kind = np.array(KINDS, dtype=object)[table["depth"]]
    return pd.DataFrame(
        {
            "trace_id": [f"{t:032x}" for t in table["trace"]],
            "span_id": [f"{number:016x}" for number in span],
            "parent_id": pd.Series(parent, dtype=object),
            "service": "shop",
            "endpoint": [f"/r{route:03d}" for route in table["route"]],
            "kind": kind,
            "peer": np.where(kind == "client", "shop", None),
            "start": pd.to_datetime(table["ns"], utc=True),
            "duration_ms": table["duration_ms"],
            "status": 200,
            "error": pd.Series([None] * len(table), dtype=object),
        }
    )


KINDS = ("server", "client", "server", "server")  # by depth


def _requests(requests: int, endpoints: int, rate: float, seed: int) -> pd.DataFrame:
    """Return the spans of `recording` as numbers: trace, depth, route, ns, duration_ms."""
    rng = np.random.default_rng(seed)
    start = BEGIN + np.sort(rng.uniform(0, requests / rate, requests) * 1e9).astype(np.int64)
    duration = np.exp(rng.normal(3.5, 0.3, requests))
    first = rng.integers(0, endpoints, requests)
    parts = []
    for depth, (shift, share) in enumerate([(0.0, 1.0), (0.1, 0.8), (0.12, 0.75), (0.2, 0.3)]):
        columns = {
            "trace": np.arange(requests),
            "depth": depth,
            "route": (first + (depth + 1) // 2) % endpoints,
            "ns": start + (shift * duration * 1e6).astype(np.int64),
            "duration_ms": share * duration,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts).sort_values(["ns", "trace", "depth"], ignore_index=True)


def drawn(requests: int, endpoints: int, rate: float, seed: int = 0) -> pd.DataFrame:
    """Return a recording with random ids as `to_frame` makes it, without an object for each span:
    so ten million of them are made in seconds.
    """
    table = _requests(requests, endpoints, rate, seed)
    rng = np.random.default_rng(seed)
    trace, span = (_digits(rng, number, size) for number, size in ((requests, 16), (len(table), 8)))
    depth = table["depth"].to_numpy()
    of = table["trace"].to_numpy()
    number = 4 * of + depth
    kind = np.array(KINDS, dtype=object)[depth]
    routes = np.array([f"/r{route:03d}" for route in range(endpoints)], dtype=object)
    names = {
        "service": np.full(len(table), "shop", dtype=object),
        "endpoint": routes[table["route"]],
        "kind": kind,
        "peer": np.where(kind == "client", "shop", None),
    }
    rows = table.index
    return pd.DataFrame(
        {
            "trace_id": digits_column(trace[of], rows),
            "span_id": digits_column(span[number], rows),
            "parent_id": digits_column(span[number - 1], rows, depth > 0),
            **{name: text_column(texts.tolist(), rows) for name, texts in names.items()},
            "start": pd.to_datetime(table["ns"], utc=True),
            "duration_ms": table["duration_ms"],
            "status": 200,
            "error": text_column([None] * len(table), rows),
        }
    )


def _digits(rng: np.random.Generator, number: int, size: int) -> NDArray:
    """Return random ids of so many bytes as hexadecimal digits, a row an id."""
    digits = rng.bytes(number * size).hex().encode()
    return np.frombuffer(digits, dtype=np.uint8).reshape(number, 2 * size)


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds of one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def with_random_ids(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return a recording whose ids are drawn as those of a tracer are, its texts objects."""
    rng = np.random.default_rng(seed)
    ids = {}
    for column, width in (("trace_id", 32), ("span_id", 16)):
        code, known = pd.factorize(frame[column])
        drawn = rng.bytes(len(known) * width // 2).hex()
        texts = [drawn[at : at + width] for at in range(0, len(drawn), width)]
        ids[column] = dict(zip(known, texts, strict=True))
    made = {column: frame[column].map(ids[column]) for column in ids}
    made["parent_id"] = frame["parent_id"].map(ids["span_id"])
    drawn_frame = frame.assign(**made)
    for name in drawn_frame.columns.intersection([*TEXT_COLUMNS]):
        texts = drawn_frame[name].astype(object)
        drawn_frame[name] = texts.where(texts.notna(), None)
    return drawn_frame


def as_made(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of objects as `to_frame` makes it."""
    texts = frame.columns.intersection([*TEXT_COLUMNS])
    made = {name: text_column(frame[name].tolist()) for name in texts}
    return frame.assign(**made)


def traces(spans: int) -> None:
    """Compare self time and service graph with pandas, on a frame that is new to both and on one
    that has been looked at before.
    """
    plain = with_random_ids(recording(spans // 4, 200, 1000.0))
    for what, made in (("objects", plain), ("to_frame", as_made(plain))):
        theirs = self_time_and_graph(made)
        np.testing.assert_allclose(lab.self_time(made), theirs[0], atol=1e-6)
        graph = lab.service_graph(made)
        pd.testing.assert_frame_equal(graph, theirs[1], check_dtype=False)
        ratios: dict[str, list[float]] = {"new": [], "known": []}
        for _ in range(ROUNDS):
            frame = made.copy()
            other = cpu_s(lambda frame=frame: self_time_and_graph(frame))
            for state in ratios:
                own = cpu_s(lambda frame=frame: (lab.self_time(frame), lab.service_graph(frame)))
                ratios[state].append(other / own)
        told = {state: statistics.median(several) for state, several in ratios.items()}
        print(
            f"self time + service graph, {len(plain):,} spans of {what}, {other:.2f} CPU s by "
            f"pandas: pandas / ours = {told['new']:.1f} on a new frame, {told['known']:.1f} on one "
            f"that was looked at before (goal >= {GOAL_PANDAS})"
        )


def replay() -> None:
    """Time a replay of 100,000 spans."""
    frame = recording(25_000, 8, 20.0)
    slow = frame["start"].between(frame["start"].iloc[60_000], frame["start"].iloc[64_000])
    frame.loc[slow & (frame["endpoint"] == "/r003"), "duration_ms"] += 2000.0
    lab.replay(frame.iloc[:20_000])
    for causes in (False, True):
        times = [
            cpu_s(lambda causes=causes: lab.replay(frame, causes=causes)) for _ in range(ROUNDS)
        ]
        found = len(lab.replay(frame, causes=False).incidents)
        what = "with root causes" if causes else "without root causes"
        print(
            f"replay, {len(frame):,} spans, {found} incidents, {what}: "
            f"{statistics.median(times):.2f} CPU s",
            end="",
        )
        print(f" (goal <= {GOAL_REPLAY_S})")


def what_if() -> None:
    """Time what stands behind a slider: a replay of a run with a fault in it, and a sweep of 20 x
    20 sensitivities.
    """
    busy = replace(shop.SCENARIOS["delay"], rate=38.0)
    frame, grid = (
        shop.virtual(busy, 1, progress=False),
        {"z": np.linspace(2, 6, 20), "ratio": np.linspace(1.5, 5, 20)},
    )
    faults = pd.DataFrame(
        {"service": ["payment"], "endpoint": ["/payment"]}
        | {
            name: [frame["start"].iloc[0] + pd.Timedelta(seconds=s)]
            for name, s in (("start", 120), ("end", 180))
        }
    )
    for what, causes in (("without", False), ("with", True)):
        lab.replay(frame, causes=causes)
        ms = 1e3 * statistics.median(
            cpu_s(lambda c=causes: lab.replay(frame, causes=c)) for _ in range(5)
        )
        print(
            f"replay, {len(frame):,} spans with a fault, {what} root causes: {ms:.0f} CPU ms "
            f"(goal <= {GOAL_MS[what]})"
        )
    spent = cpu_s(lambda: lab.sweep(frame, faults, grid, progress=False))
    print(f"sweep, 20 x 20 sensitivities: {spent:.1f} CPU s (goal <= {GOAL_SWEEP_S})")


def step() -> None:
    """Time Monitor.step on a store with 200 endpoints, window after window."""
    frame = recording(6_000, 200, 20.0)
    with tempfile.TemporaryDirectory() as folder, lab.SpanStore(Path(folder) / "s.sqlite") as store:
        spans = [
            lab.Span(
                r.trace_id,
                r.span_id,
                r.parent_id,
                r.service,
                r.endpoint,
                r.kind,
                r.peer,
                r.start.value,
                int(r.duration_ms * 1e6),
                r.status,
                r.error,
            )
            for r in frame.itertuples()
        ]
        monitor, times, done = lab.Monitor(store), [], 0
        for second in range(11, 300, 10):
            now = BEGIN + second * 10**9
            while done < len(spans) and spans[done].start_ns < now:
                store.add(spans[done])
                done += 1
            store.flush()
            times.append(
                1e3 * cpu_s(lambda now=now: monitor.step(pd.Timestamp(now, unit="ns", tz="UTC")))
            )
    middle, worst = statistics.median(times[3:]), max(times[3:])
    print(
        f"Monitor.step, 200 endpoints, one window of 800 spans: median {middle:.1f}, worst "
        f"{worst:.1f} CPU ms",
        end="",
    )
    print(f" (goal <= {GOAL_STEP_MS:.0f})")


def main() -> None:
    """Run all four."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis", description=__doc__)
    parser.add_argument(
        "--spans", type=int, default=400_000, help="spans for the comparison with pandas"
    )
    arguments = parser.parse_args()
    traces(arguments.spans)
    replay()
    what_if()
    step()


if __name__ == "__main__":
    main()
