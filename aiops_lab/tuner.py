"""How sensitive should it be? Sliders over one recording, and the same picture as a grid that needs no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from aiops_lab.detectors import DETECTORS, Detector
from aiops_lab.monitor import replay
from aiops_lab.plots import figure, timeline
from aiops_lab.sensitivity import Sensitivity

try:
    import ipywidgets as widgets
except ImportError:  # the extra "lab"; without it the tuner is a line of text
    widgets = None

# knob: smallest, largest, step, what it means
SLIDERS = {
    "z": (0.0, 10.0, 0.5, "z: standard errors"),
    "ratio": (1.0, 10.0, 0.25, "ratio: times slower"),
    "half_life_s": (10.0, 1800.0, 10.0, "half-life (s)"),
    "window_s": (1.0, 60.0, 1.0, "window (s)"),
    "min_count": (1, 200, 1, "minimum count"),
}


def tuner(
    frame: pd.DataFrame,
    faults: Any = None,
    endpoint: str | None = None,
    detectors: Sequence[Detector] = DETECTORS,
    **start: float,
) -> Any:
    """Show sliders for the sensitivity above the timeline of a recording; each move replays the recording.

    Parameters
    ----------
    frame : DataFrame
        The spans frame to replay.
    faults : DataFrame or iterable, optional
        The truth, shaded in the picture: kind, endpoint, start, end.
    endpoint : str, optional
        Whose latency to show. Default: that of the first fault, else of the first anomaly, else the first one.
    detectors : functions, optional
        What looks for anomalies, as in `replay`; ``(latency_anomaly,)`` leaves what z and ratio govern.
    **start : float
        Where the sliders begin, and other knobs of `Sensitivity`; default its defaults.

    Returns
    -------
    Tuner
        A widget with ``sliders`` by knob, ``image`` and ``label``; without ipywidgets the label as text.

    Raises
    ------
    ValueError
        If `start` breaks a rule of `Sensitivity`.
    """
    sensitivity = Sensitivity(**start)  # type: ignore[arg-type]
    if widgets is None:
        return Text(_verdict(replay(frame, sensitivity, detectors=detectors)))
    return Tuner(frame, faults, endpoint, sensitivity, detectors)


def grid(
    frame: pd.DataFrame,
    faults: Any = None,
    z: Sequence[float] = (1, 3, 6),
    ratio: Sequence[float] = (1.5, 3, 6),
    endpoint: str | None = None,
    detectors: Sequence[Detector] = DETECTORS,
) -> Figure:
    """Draw the same recording at several sensitivities, small: z grows downwards, ratio to the right."""
    faults = () if faults is None else faults
    fig = figure((3.4 * len(ratio), 2.1 * len(z) + 0.3), dpi=72)
    axes = fig.subplots(len(z), len(ratio), sharex=True, sharey=True, squeeze=False)
    for row, z_here in zip(axes, z, strict=True):
        for ax, ratio_here in zip(row, ratio, strict=True):
            report = replay(frame, Sensitivity(z=z_here, ratio=ratio_here), detectors=detectors, causes=False)
            endpoint = endpoint or _subject(report, faults)
            timeline(report.windows, report.anomalies, faults, endpoint, ax, legend=False)
            ax.set_title(f"z {z_here:g}, ratio {ratio_here:g}: {_count(report)}", fontsize=9, loc="left")
            ax.tick_params(axis="x", labelsize=7)
            ax.label_outer()
    return fig


class Text(str):
    """Text that a notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self)


_Box: Any = widgets.VBox if widgets else object


class Tuner(_Box):
    """The sliders, the picture and the verdict. Its repr names the knobs only, so that it never changes by itself."""

    def __init__(
        self,
        frame: pd.DataFrame,
        faults: Any,
        endpoint: str | None,
        start: Sensitivity,
        detectors: Sequence[Detector],
    ) -> None:
        self.frame, self.endpoint, self.start, self.detectors = frame, endpoint, start, detectors
        self.faults = () if faults is None else faults
        self.image, self.label = widgets.Image(format="png"), widgets.Label()
        self.sliders = {knob: _slider(knob, getattr(start, knob)) for knob in SLIDERS}
        super().__init__([*self.sliders.values(), self.image, self.label])
        for slider in self.sliders.values():
            slider.observe(self.redraw, "value")
        self.redraw()

    def redraw(self, _change: object = None) -> None:
        """Replay the recording with the knobs as they stand."""
        knobs = vars(self.start) | {knob: slider.value for knob, slider in self.sliders.items()}
        report = replay(self.frame, Sensitivity(**knobs), detectors=self.detectors)
        self.endpoint = self.endpoint or _subject(report, self.faults)
        fig = Figure(figsize=(9, 3.4), dpi=80, layout="constrained")
        timeline(report.windows, report.anomalies, self.faults, self.endpoint, fig.add_subplot())
        picture = BytesIO()
        fig.savefig(picture, format="png")
        self.image.value, self.label.value = picture.getvalue(), _verdict(report)

    def __repr__(self) -> str:
        return f"Tuner({', '.join(f'{knob}={slider.value:g}' for knob, slider in self.sliders.items())})"


def _slider(knob: str, value: float) -> Any:
    low, high, step, text = SLIDERS[knob]
    make = widgets.IntSlider if isinstance(step, int) else widgets.FloatSlider
    look = {"layout": {"width": "500px"}, "style": {"description_width": "150px"}}
    # a start value beyond the slider's range widens the slider
    low, high = min(low, value), max(high, value)
    return make(value=value, min=low, max=high, step=step, description=text, continuous_update=False, **look)


def _subject(report: Any, faults: Any) -> str | None:
    rows = faults.itertuples() if isinstance(faults, pd.DataFrame) else faults
    return next((row.endpoint for row in [*rows, *report.anomalies]), None)


def _count(report: Any) -> str:
    n = len(report.anomalies)
    return f"{n} anomal{'y' if n == 1 else 'ies'}"


def _verdict(report: Any) -> str:
    causes = [i.root_cause.endpoint if i.root_cause else "no cause found" for i in report.incidents]
    n = len(causes)
    return f"{_count(report)}, {n} incident{'s' * (n != 1)}" + (f": {', '.join(causes)}" if causes else "")
