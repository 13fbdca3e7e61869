"""What-if sweeps: one recording at many sensitivities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pandas as pd
from tqdm import tqdm

from aiops_lab.detect.detectors import DETECTORS, AnyDetector
from aiops_lab.detect.sensitivity import Sensitivity
from aiops_lab.evaluate.scoring import SLACK_S, Score, score_truth, truth_of
from aiops_lab.pipeline import Pipeline, Recording
from aiops_lab.spans import check

# ---- what if it were more sensitive?


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
    """Replay one recording at each point of a grid of sensitivities, without root causes, and score
    it.

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
        What the other knobs are. Default: its defaults.
    detectors : functions
        As for `aiops_lab.replay`.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    DataFrame
        A row a combination, the last knob running fastest: the knobs, then the numbers of a `Score`
        but the ranks.

    Raises
    ------
    ValueError
        Names the knob that is unknown, or its rule and the value.
    """
    base, truth = base or Sensitivity(), truth_of(faults)
    unknown = [knob for knob in grid if knob not in asdict(base)]
    if unknown:
        raise ValueError(f"grid must name knobs of Sensitivity, got {unknown[0]!r}")
    # plain numbers, also of numpy's
    axes = [np.asarray(values).tolist() for values in grid.values()]
    points = [dict(zip(grid, values, strict=True)) for values in product(*axes)]
    settings = [replace(base, **point) for point in points]
    recording, rows = Recording(check(frame), {}), []
    for point, sensitivity in zip(
        points, _Bar(settings, disable=not progress, unit="replay"), strict=True
    ):
        found = score_truth(
            Pipeline(sensitivity, detectors).replay(recording), truth, int(slack_s * 1e9)
        )
        rows.append(point | {name: getattr(found, name) for name in SCORE_NUMBERS})
    return pd.DataFrame(rows, columns=[*grid, *SCORE_NUMBERS])


SCORE_NUMBERS = [name for name in Score.__dataclass_fields__ if name not in ("events", "ranks")]


class _Bar(tqdm):
    monitor_interval = 0  # no extra thread, which would outlive the bar
