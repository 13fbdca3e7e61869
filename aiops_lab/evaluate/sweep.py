"""Scores of one recording over a grid of sensitivities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pandas as pd

from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.recording import Recording
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.evaluate.scoring import SLACK_S, Score, score_truth, truth_of
from aiops_lab.known_names import known_instead
from aiops_lab.pipeline import Pipeline
from aiops_lab.progress import Bar
from aiops_lab.spans import check


def sweep(
    frame: pd.DataFrame,
    faults: pd.DataFrame,
    grid: Mapping[str, Sequence[float]],
    *,
    base: Sensitivity | None = None,
    detectors: Sequence[AnyDetector] = DETECTORS,
    slack_s: float = SLACK_S,
    progress: bool = True,
) -> pd.DataFrame:
    """Return the scores of one recording, replayed at each point of a grid of sensitivities without
    root causes.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    faults, slack_s
        As for `score`. The replays do not see them.
    grid : mapping from knob to values
        Knobs of `Sensitivity`, such as ``{"z": [2, 3, 4], "ratio": [2, 3]}``: every combination is
        tried.
    base : Sensitivity
        The other knobs. Default: those of `Sensitivity`.
    detectors : functions
        As for `aiops_lab.replay`.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    DataFrame
        One row for each combination, the last knob running fastest: the knobs, then the numbers of
        a `Score` except the ranks.

    Raises
    ------
    ValueError
        Names the knob that is unknown, or its rule and the value.
    """
    base = base or Sensitivity()
    truth = truth_of(faults)
    knobs = asdict(base)
    unknown = [knob for knob in grid if knob not in knobs]
    if unknown:
        first = unknown[0]
        rule = f"grid must name knobs of Sensitivity, got {first!r}"
        raise ValueError(f"{rule}; {known_instead(str(first), knobs)}")
    # plain numbers, also of numpy's
    axes = [np.asarray(values).tolist() for values in grid.values()]
    points = [dict(zip(grid, values, strict=True)) for values in product(*axes)]
    settings = [replace(base, **point) for point in points]
    recording = Recording(check(frame), {})
    rows = []
    bar = Bar(settings, disable=not progress, unit="replay")
    for point, sensitivity in zip(points, bar, strict=True):
        report = Pipeline(sensitivity, detectors).replay(recording)
        found = score_truth(report, truth, int(slack_s * 1e9))
        numbers = {name: getattr(found, name) for name in SCORE_NUMBERS}
        rows.append(point | numbers)
    return pd.DataFrame(rows, columns=[*grid, *SCORE_NUMBERS])


SCORE_NUMBERS = [name for name in Score.__dataclass_fields__ if name not in ("events", "ranks")]
