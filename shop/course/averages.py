"""Figures of lesson 02: averages after a jump, the shape of latencies, a baseline that learns an
outage.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aiops_lab.detect.baselines import ewma
from aiops_lab.show.plots.style import BLACK, BLUE, GREEN, GREY, SERIES, SKY, VERMILLION
from aiops_lab.show.plots.timeline import timeline
from shop.course.drawing import label_sizes, new_axes


def followed(values: NDArray, half_lives: Sequence[int]) -> None:
    """Draw values that jump from 0 to 1 and later once to 2, and their moving averages; dotted is
    where these are half-way to 1.
    """
    ax = new_axes(7, 3)
    since_jump = np.arange(len(values))
    ax.step(since_jump, values, color=BLACK, where="pre", label="value")
    for half_life, (colour, marker, style) in zip(half_lives, SERIES, strict=False):
        mean, _ = ewma(values, half_life)
        label = f"half-life {half_life}"
        ax.plot(mean, color=colour, marker=marker, ls=style, ms=3, label=label)
    ax.axhline(0.5, color=GREY, ls=":")
    ax.vlines(half_lives, 0, 0.5, color=GREY, ls=":")
    ax.set_xlabel("values since the jump")
    ax.set_ylabel("level")
    blip = int(values.argmax())
    ax.set_xticks([0, *half_lives, blip, len(values) - 1])
    ax.set_yticks([0, 0.5, 1, 2])
    ax.legend(loc="upper left")


def shapes(ms: pd.Series) -> None:
    """Draw the histograms of latencies and of their logarithms, each with the normal curve of the
    same mean and standard deviation.
    """
    _, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    both = {"ms": ms, "ln(ms)": np.log(ms)}
    for ax, (unit, values) in zip(axes, both.items(), strict=True):
        _, edges, _ = ax.hist(values, bins=25, color=SKY, edgecolor="white")
        x = np.linspace(edges[0], edges[-1], 100)
        width = edges[1] - edges[0]
        sd = values.std()
        z = (x - values.mean()) / sd
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        curve = len(values) * width / sd * density
        ax.plot(x, curve, color=VERMILLION, label="normal")
        ax.set_xlabel(f"duration of /payment, {unit}")
        ax.set_ylabel("requests")
        ax.legend()


def silenced(windows: pd.DataFrame, faults: pd.DataFrame, naive_ms: NDArray) -> None:
    """Draw an endpoint's windows with their faults, and a baseline that learns all of them.

    Parameters
    ----------
    windows : DataFrame
        Those of one endpoint, as in ``Report.windows``.
    faults : DataFrame
        The truth, with duration_ms.
    naive_ms : array, shape (windows,)
        What that baseline says before each window, in ms; three times as much is its limit.
    """
    ax = timeline(windows, (), faults)
    label_sizes(ax, faults)
    for size in ax.texts:
        size.set_text(f"+{size.get_text()}")
    ends = windows["end"]
    limit_ms = 3 * naive_ms
    ax.plot(ends, windows["high_ms"], color=BLUE, lw=1)
    high_ms = windows["high_ms"].iloc[2]
    place = (ends.iloc[2], 0.95 * high_ms)
    ax.text(*place, "frozen limit", color=BLUE, va="top")
    ax.plot(ends, naive_ms, color=GREEN, ls="-.", lw=1.2, label="naive baseline")
    ax.plot(ends, limit_ms, color=GREEN, ls=":", lw=2.5, zorder=8, label="naive limit")
    marked = windows[windows["state"] == "anomalous"]
    ax.plot(
        marked["end"],
        marked["latency_ms"],
        "o",
        color=VERMILLION,
        mfc="none",
        ms=7,
        label="marked by the package",
    )
    passed = marked[marked["latency_ms"] <= limit_ms[marked.index]]
    ax.plot(passed["end"], passed["latency_ms"], "o", color=BLACK, ms=3.5, zorder=9)
    first = passed.iloc[0]
    ax.annotate(
        "from here the\nnaive one is silent",
        (first["end"], first["latency_ms"]),
        xytext=(-190, -45),
        textcoords="offset points",
        va="center",
        arrowprops={
            "arrowstyle": "->",
            "color": BLUE,
            "shrinkB": 6,
            "connectionstyle": "angle3,angleA=0,angleB=90",  # from below
        },
        color=BLUE,
        zorder=9,
    )
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
