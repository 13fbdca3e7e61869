"""What a figure shows, read off its axes, and windows to draw."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.dates import num2date

START = pd.Timestamp("2026-01-01T10:00:00Z")

Bar = tuple[float, float, float]  # row, left, right


def second(n: float) -> pd.Timestamp:
    return START + pd.Timedelta(seconds=n)


def windows(endpoints: tuple[str, ...] = ("/checkout", "/payment")) -> pd.DataFrame:
    """Six windows of 10 s an endpoint: learning, normal, normal, slow, unanswered, normal."""
    latency = [100.0, 100.0, 110.0, 900.0, np.nan, 100.0]
    state = ["learning", "normal", "normal", "anomalous", "anomalous", "normal"]
    made = {
        "latency_ms": latency,
        "error_rate": [0, 0, 0, 0.5, 0, 0],
        "state": state,
        "n": [9, 9, 9, 9, 0, 9],
        "baseline_ms": 100.0,
        "low_ms": 60.0,
        "high_ms": 160.0,
        "window": [second(10 * i) for i in range(6)],
    }
    return pd.concat([pd.DataFrame(made).assign(service="shop", endpoint=e) for e in endpoints])


def anomaly(kind: str, at: float, endpoint: str = "/payment") -> SimpleNamespace:
    return SimpleNamespace(type=kind, service="shop", endpoint=endpoint, window=second(at))


FAULT = {"kind": "delay", "endpoint": "/payment", "start": second(31), "end": second(50)}
FAULTS = pd.DataFrame([FAULT])


def texts(ax: plt.Axes) -> list[str]:
    """Return what is written into the axes."""
    return [text.get_text() for text in ax.texts]


def x_names(ax: plt.Axes) -> list[str]:
    """Return what stands at the ticks of x."""
    return [label.get_text() for label in ax.get_xticklabels()]


def y_names(ax: plt.Axes) -> list[str]:
    """Return what stands at the ticks of y."""
    return [label.get_text() for label in ax.get_yticklabels()]


def labels(ax: plt.Axes) -> list[str]:
    """Return the labels of the lines."""
    return [str(line.get_label()) for line in ax.lines]


def labelled(ax: plt.Axes, label: str) -> plt.Line2D:
    """Return the one line with this label."""
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def seconds_of(moments: Any) -> list[float]:
    """Return times in seconds since START."""
    since = [(moment - START).total_seconds() for moment in moments]
    return [round(each, 3) for each in since]


def line(ax: plt.Axes, label: str) -> tuple[list[float], list[float]]:
    """Return the seconds since START, and the heights, of the line with this label."""
    found = labelled(ax, label)
    days = ax.convert_xunits(found.get_xdata(orig=True))
    return seconds_of(num2date(days)), list(found.get_ydata())


def line_of(ax: plt.Axes, label: str) -> tuple[list[float], list[float]]:
    """Return x and y of the line with this label."""
    found = labelled(ax, label)
    return list(found.get_xdata()), list(found.get_ydata())


def extents(ax: plt.Axes) -> list[Bar]:
    """Return the bars in the order in which they were drawn."""
    return [_bar(bar.get_bbox()) for bar in ax.patches]


def light(ax: plt.Axes) -> list[Bar]:
    """Return the times that spans wait for their calls."""
    drawn = [part for part in ax.collections if part.get_alpha()]
    paths = [path for part in drawn for path in part.get_paths()]
    return [_bar(path.get_extents()) for path in paths]


def _bar(box: Any) -> Bar:
    middle = (box.ymin + box.ymax) / 2
    return round(middle), round(box.xmin, 6), round(box.xmax, 6)
