"""Sliders for the sensitivity over one recording, and the same picture as a grid.

The grid needs no widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from math import isnan
from typing import Any

import pandas as pd

from aiops_lab.checks import missing_extra
from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.evaluate.scoring import SLACK_S, score
from aiops_lab.pipeline import Pipeline, Report
from aiops_lab.show.plots.style import figure
from aiops_lab.show.plots.timeline import timeline
from aiops_lab.spans import check

try:
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise missing_extra(error) from error

try:
    import ipywidgets as widgets
except ImportError:  # the extra "lab"; without it the tuner is text
    widgets = None

# knob: smallest, largest, step, what it means
SLIDERS = {
    "z": (0.0, 10.0, 0.5, "z: standard errors"),
    "ratio": (1.0, 10.0, 0.25, "ratio: times slower"),
    "half_life_s": (10.0, 1800.0, 10.0, "half-life (s)"),
    "window_s": (1.0, 60.0, 1.0, "window (s)"),
    "min_count": (1, 200, 1, "minimum count"),
    "shift": (1.05, 3.0, 0.05, "shift: times slower, lasting"),
    "run_length_weeks": (1.0, 1000.0, 1.0, "weeks to a false shift"),
}


def tuner(
    frame: pd.DataFrame,
    faults: pd.DataFrame | None = None,
    endpoint: str | None = None,
    detectors: Sequence[AnyDetector] = DETECTORS,
    *,
    slack_s: float = SLACK_S,
    keep: str = "",
    **start: float,
) -> Any:
    """Show sliders for the sensitivity, the timeline of a recording and its score.

    Each move of a slider replays the recording, also while it is dragged.

    Parameters
    ----------
    frame : DataFrame
        The spans frame to replay.
    faults : DataFrame, optional
        The truth, shaded in the picture and held against the incidents: kind, service, endpoint,
        start, end.
    endpoint : str, optional
        Whose latency to show. Default: that of the first fault, else of the first anomaly, else the
        first one.
    detectors : functions, optional
        What looks for anomalies, as in `replay`; ``(latency_anomaly,)`` leaves what z and ratio
        govern.
    slack_s : float
        As for `aiops_lab.score`: how late an anomaly may still tell of a fault.
    keep : str
        A name: sliders that are made again under it, with the same `start`, stand as they were
        left. A cell may so be run again without losing what was found. Default: nothing is kept.
    **start : float
        Where the sliders begin, and other knobs of `Sensitivity`; default its defaults.

    Returns
    -------
    Tuner
        A widget with ``sliders`` by knob, ``image``, and ``figures`` by name; without ipywidgets
        the figures as text.

    Raises
    ------
    ValueError
        If `start` breaks a rule of `Sensitivity`, or `faults` lacks a column.
    """
    sensitivity = Sensitivity(**start)  # type: ignore[arg-type]
    bench = _Bench(Recording(check(frame), {}), faults, endpoint, detectors, slack_s)
    if widgets is None:
        return Text(_lines(bench.figures(bench.replay(sensitivity))))
    if not keep:
        return Tuner(bench, sensitivity)
    left = _LEFT.setdefault((keep, sensitivity), {})
    return Tuner(bench, sensitivity, left)


_LEFT: dict[tuple[str, Sensitivity], dict[str, float]] = {}
"""The values of sliders, by the name under which they are kept and where they began."""


def grid(
    frame: pd.DataFrame,
    faults: pd.DataFrame | None = None,
    z: Sequence[float] = (1, 3, 6),
    ratio: Sequence[float] = (1.5, 3, 6),
    endpoint: str | None = None,
    detectors: Sequence[AnyDetector] = DETECTORS,
    *,
    slack_s: float = SLACK_S,
    **others: float,
) -> Figure:
    """Draw the same recording at several sensitivities.

    z grows downwards, ratio to the right.
    """
    bench = _Bench(Recording(check(frame), {}), faults, endpoint, detectors, slack_s)
    rows, columns = len(z), len(ratio)
    height = 2.3 * rows + 0.3
    fig = figure((3.6 * columns, height), dpi=76)
    axes = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, (z_here, ratio_here) in zip(axes.flat, product(z, ratio), strict=True):
        sensitivity = Sensitivity(z=z_here, ratio=ratio_here, **others)  # type: ignore[arg-type]
        report = bench.replay(sensitivity)
        bench.draw(report, ax, legend=False)
        figures = bench.figures(report)
        known = [name for name in _IN_GRID if name in figures]
        shown = "; ".join(f"{name} {figures[name]}" for name in known)
        title = f"z {z_here:g}, ratio {ratio_here:g}"
        ax.set_title(title, fontsize=12, weight="bold", loc="left", pad=18)
        ax.text(0, 1.04, shown, fontsize=10, transform=ax.transAxes)
        ax.tick_params(axis="x", labelsize=9)
        ax.label_outer()
    return fig


_IN_GRID = ("anomalies", "recall", "false an hour")


@dataclass
class _Bench:
    """A recording with its truth, prepared once: replays it, draws it and counts."""

    recording: Recording
    faults: pd.DataFrame | None
    endpoint: str | None
    detectors: Sequence[AnyDetector]
    slack_s: float

    def replay(self, sensitivity: Sensitivity) -> Report:
        return Pipeline(sensitivity, self.detectors).replay(self.recording)

    def draw(self, report: Report, ax: Any, legend: bool = True) -> None:
        faults = self.faults
        if faults is None:
            faults = pd.DataFrame({"endpoint": []})
        places = [*faults["endpoint"]]
        places += [anomaly.endpoint for anomaly in report.anomalies]
        # the endpoint stays: a slider must not change which one is shown
        self.endpoint = self.endpoint or next(iter(places), None)
        timeline(report.windows, report.anomalies, faults, self.endpoint, ax, legend=legend)

    def figures(self, report: Report) -> dict[str, str]:
        """Return what to read beside the picture, by name, as text."""
        shown = {
            "anomalies": str(len(report.anomalies)),
            "incidents": str(len(report.incidents)),
        }
        if self.faults is None:
            return shown
        s = score(report, self.faults, slack_s=self.slack_s)
        return shown | {
            "precision": _known(s.precision, "{:.0%}"),
            "recall": _known(s.recall, "{:.0%}"),
            "delay": _known(s.median_detect_s, "{:.1f} s"),
            "false an hour": _known(s.false_incidents_per_hour, "{:.1f}"),
        }


def _known(value: float, text: str) -> str:
    return "none" if isnan(value) else text.format(value)


def _lines(figures: dict[str, str]) -> str:
    lines = [f"{name:14}{value:>7}" for name, value in figures.items()]
    return "\n".join(lines)


class Text(str):
    """Text that a notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self)


_Box: Any = widgets.VBox if widgets else object

READY, WORKING = "ready", "replaying …"
"""What stands below the sliders: whether work is going on."""


class Tuner(_Box):
    """The sliders, below them the picture and its figures.

    The repr names the knobs, so that it changes only with them.
    """

    def __init__(
        self, bench: _Bench, start: Sensitivity, left: dict[str, float] | None = None
    ) -> None:
        self._bench = bench
        self._start = start
        self._left = {} if left is None else left
        self.image = widgets.Image(format="png")
        self.label = widgets.HTML()
        self.work = widgets.Label(READY)
        begin = vars(start) | self._left
        self.sliders = {knob: _slider(knob, begin[knob]) for knob in SLIDERS}
        result = widgets.HBox([self.image, self.label])
        super().__init__([*self.sliders.values(), self.work, result])
        for slider in self.sliders.values():
            slider.observe(self.redraw, "value")
        self.redraw()

    def redraw(self, _change: object = None) -> None:
        """Replay the recording with the knobs as they stand."""
        self._left |= {knob: slider.value for knob, slider in self.sliders.items()}
        self.work.value = WORKING
        knobs = vars(self._start) | self._left
        report = self._bench.replay(Sensitivity(**knobs))
        self.figures = self._bench.figures(report)
        self.image.value = self._picture(report)
        self.label.value = f'<pre style="white-space: pre">{_lines(self.figures)}</pre>'
        self.work.value = READY

    def _picture(self, report: Report) -> bytes:
        fig = Figure(figsize=(7.8, 3.4), dpi=80)
        picture = BytesIO()
        # at fixed places: a layout or a title that fits itself draws the axes twice
        ax = fig.add_axes((0.09, 0.16, 0.59, 0.74))
        self._bench.draw(report, ax)
        ax.set_title(ax.get_title(loc="left"), loc="left", y=1.0)
        fig.savefig(picture, format="png")
        return picture.getvalue()

    def __repr__(self) -> str:
        settings = [f"{knob}={slider.value:g}" for knob, slider in self.sliders.items()]
        return f"Tuner({', '.join(settings)})"


def _slider(knob: str, value: float) -> Any:
    low, high, step, text = SLIDERS[knob]
    make = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    return make(
        value=value,
        min=min(low, value),  # a start value beyond the range widens the slider
        max=max(high, value),
        step=step,
        description=text,
        continuous_update=True,  # the browser waits for each picture before it asks for the next
        layout={"width": "500px"},
        style={"description_width": "180px"},
    )
