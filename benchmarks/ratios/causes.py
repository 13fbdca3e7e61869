"""Part 6: explaining an incident with 100,000 traces, and how that grows with its size.

The growth is the slope of a line through logarithms: of CPU time by spans (more traces of the same
shop), by endpoints (more entries, each with as many traces), and by depth (longer chains of calls,
as many traces). Spans grow with all three, so a slope of 1 means that a span costs the same.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import aiops_lab as lab
import shop
from aiops_lab.record.faults import Fault
from benchmarks.ratios.measured import Measured, cpu_s
from shop.topology import Call, Endpoint, Topology
from shop.virtual_time.scenario import Scenario

GOAL_S, GOAL_EXPONENT = 1.0, 1.1
TRACES = 100_000
ROUNDS = 3
PART_S = 20.0  # of normal traffic, and then of the fault
PICTURE = Path(__file__).parents[2] / "build" / "ratios" / "growth.png"
SIZES = {
    "spans": [(4, 4, traces) for traces in (1_000, 2_000, 4_000, 8_000, 16_000)],
    "endpoints": [(chains, 4, 80 * chains) for chains in (12, 25, 50, 100, 200)],
    "depth": [(2, depth, 1_500) for depth in (3, 6, 12, 24, 48)],
}
"""Chains of calls, endpoints in each, and traces of the incident."""


class Growth(NamedTuple):
    """CPU seconds by a size."""

    sizes: list[int]
    seconds: list[float]

    @property
    def exponent(self) -> float:
        """The slope of the logarithms."""
        return slope(self.sizes, self.seconds)

    @property
    def last(self) -> float:
        """The same of the largest three sizes, where what is constant counts less."""
        return slope(self.sizes[-3:], self.seconds[-3:])


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def titles(large: bool) -> tuple[str, ...]:
    """Return the titles of one large incident and of the exponents."""
    exponents = (f"exponent of the time of an explanation in {name}" for name in SIZES)
    return f"explaining an incident of some {TRACES:,} traces", *exponents


def measure(large: bool) -> Iterator[Measured]:
    """Yield the time of one large incident and the three exponents; draw the picture."""
    one, *exponents = titles(large)
    busy = replace(
        shop.SCENARIOS["delay"],
        rate=TRACES / PART_S,
        seconds=2 * PART_S,
        faults=(Fault("delay", "payment", "/payment", PART_S, 2 * PART_S, duration_ms=300),),
    )
    usual, abnormal = _learned(busy)
    traces = abnormal["trace_id"].nunique()
    took = _explained_s(usual, abnormal, busy.causes[0])
    each_us = 1e6 * took / len(abnormal)
    size = f"{traces:,} traces, {len(abnormal):,} spans"
    note = f"{size}, {each_us:.1f} us each; as many were learned from before"
    yield Measured(6, one, took, GOAL_S, "CPU s", note=note)
    growths = {name: _growth(name, sizes) for name, sizes in SIZES.items()}
    for title, growth in zip(exponents, growths.values(), strict=True):
        note = (
            f"{growth.sizes[0]:,} to {growth.sizes[-1]:,}; of the largest three {growth.last:.2f}"
        )
        yield Measured(6, title, growth.exponent, GOAL_EXPONENT, note=note)
    draw(growths)


def _growth(name: str, sizes: Sequence[tuple[int, int, int]]) -> Growth:
    made = [_incident(*size) for size in sizes]
    learned = [_learned(scenario) for scenario in made]
    _explained_s(*learned[0], made[0].causes[0])
    rounds = [
        [_explained_s(*each, s.causes[0], 1) for each, s in zip(learned, made, strict=True)]
        for _ in range(ROUNDS)
    ]
    seconds = np.min(rounds, axis=0)
    spans = [len(abnormal) for _, abnormal in learned]
    by = {
        "spans": spans,
        "endpoints": [a * b for a, b, _ in sizes],
        "depth": [b for _, b, _ in sizes],
    }
    return Growth(by[name], seconds.tolist())


def _incident(chains: int, depth: int, traces: int) -> Scenario:
    """Return chains of calls, of which the last endpoint of the first one becomes slow."""
    endpoints = [_link(chain, place, depth) for chain in range(chains) for place in range(depth)]
    slow = f"s{depth - 1}", f"/c0/d{depth - 1}"
    fault = Fault("delay", *slow, PART_S, 2 * PART_S, duration_ms=200)
    return Scenario(
        "growth",
        causes=(slow,),
        faults=(fault,),
        topology=Topology(tuple(endpoints), front="s0"),
        rate=traces / PART_S,
        seconds=2 * PART_S,
        mix={f"/c{chain}/d0": 1 / chains for chain in range(chains)},
    )


def _link(chain: int, place: int, depth: int) -> Endpoint:
    below = Call(f"s{place + 1}", f"/c{chain}/d{place + 1}", timeout_s=60)
    calls = (below,) if place + 1 < depth else ()
    return Endpoint(f"s{place}", f"/c{chain}/d{place}", median_ms=5, calls=calls)


def _learned(scenario: Scenario) -> tuple[lab.Reference, pd.DataFrame]:
    """Return what is usual before the fault, and the traces that began during it."""
    frame = shop.virtual(scenario, 1, progress=False)
    trace, _ = pd.factorize(frame["trace_id"])
    begin = frame["start"].astype("int64").to_numpy()
    first = np.full(trace.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, trace, begin)
    late = first[trace] >= begin[0] + int(PART_S * 1e9)
    normal, abnormal = (frame[chosen].reset_index(drop=True) for chosen in (~late, late))
    return lab.learn(normal), abnormal


def _explained_s(
    usual: lab.Reference, abnormal: pd.DataFrame, cause: tuple[str, str], rounds: int = ROUNDS
) -> float:
    """Return the least CPU seconds of the rounds, each on a frame that is new."""
    took = []
    for _ in range(rounds):
        new = abnormal.copy()
        found: list[lab.Suspect] = []
        gc.collect()
        took.append(
            cpu_s(lambda new=new, found=found: found.extend(lab.rank_root_causes(usual, new)))
        )
        if found[0].key != cause:
            raise SystemExit(f"the cause is {cause}, {found[0].key} was named")
    return min(took)


def draw(growths: dict[str, Growth], file: Path = PICTURE) -> None:
    """Draw CPU time over each size, both logarithmic, with a line of slope 1."""
    from matplotlib.figure import Figure

    from aiops_lab.show import plots

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, len(growths), sharey=True)
    colours = (plots.BLUE, plots.VERMILLION, plots.GREEN)
    for ax, (name, growth), colour in zip(axes, growths.items(), colours, strict=True):
        x, y = np.array(growth.sizes), np.array(growth.seconds)
        ax.loglog(x, y[-1] * x / x[-1], color="0.6", linestyle="--", label="exponent 1")
        ax.loglog(x, y, color=colour, marker="o", label=f"exponent {growth.exponent:.2f}")
        ax.set_xticks(x, [f"{size:,}" for size in growth.sizes])
        ax.minorticks_off()
        ax.tick_params(axis="x", labelsize=8)
        ax.set(xlabel=name, title=f"by {name}")
        ax.legend(frameon=False)
        ax.grid(visible=True, which="major", alpha=0.3)
    axes[0].set_ylabel("CPU seconds of an explanation")
    figure.savefig(file, dpi=110)
